package servers

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestGivenAddressesReachPodsOrSayWhyNot(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		address, node, unreachable string
		ports                      []int
	}{
		"a database here":        {address: "postgres://u:secret@127.0.0.1:5432/d", node: "postgres://u:secret@" + NodeAddress + ":5432/d", ports: []int{5432}},
		"a search engine here":   {address: "http://localhost:9200", node: "http://" + NodeAddress + ":9200", ports: []int{9200}},
		"a database elsewhere":   {address: "postgres://u:secret@db.example:5432/d", node: "postgres://u:secret@db.example:5432/d", unreachable: "db.example:5432"},
		"an address, no port":    {address: "http://localhost", node: "http://localhost", unreachable: "no way out"},
		"a broker":               {address: "127.0.0.1:9092", node: "127.0.0.1:9092", unreachable: "advertises"},
		"brokers by their names": {address: "a.example:9092,b.example:9092", node: "a.example:9092,b.example:9092", unreachable: "advertises"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := givenEndpoint("VARIABLE", c.address)
			require.Equal(t, c.node, e.node)
			require.Equal(t, c.ports, e.ports)
			require.Contains(t, e.unreachable, c.unreachable)
			require.Equal(t, c.unreachable == "", e.unreachable == "")
			require.NotContains(t, e.unreachable, "secret")
		})
	}
}
