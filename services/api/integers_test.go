package api_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestIntegersMayBeWrittenAsFractions: 1.0 and 1e0 are the integer 1 to JSON. What is too large for 64 bits is refused in the API's words.
func TestIntegersMayBeWrittenAsFractions(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	c := b.collection(ada, "c")
	remove := func(version string) answer {
		item := b.item(ada, c, "t")
		return b.call(ada, "POST", "/v1/items/bulk", `{"operations":[{"op":"delete","id":"`+item+`","version":`+version+`}]}`)
	}
	for _, one := range []string{"1", "1.0", "1e0", "10E-1"} {
		require.InDelta(t, 1, remove(one).is(200).body["succeeded"], 0, one)
	}
	for _, wrong := range []string{"1.5", "0", "-1", "1e30", "99999999999999999999", "1e400", `"1"`, "null"} {
		a := remove(wrong).is(422)
		require.Contains(t, a.places()[0], "/operations/0", wrong)
		require.False(t, strings.Contains(string(a.raw), "struct"), "%s: %s", wrong, a.raw)
	}
}
