package api_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMetadata(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	collection := b.collection(ada, "c")
	post := func(metadata string) answer {
		return b.call(ada, "POST", "/v1/items", `{"collection_id":"`+collection+`","title":"t","content":"","metadata":`+metadata+`}`)
	}
	require.Equal(t, object{}, b.call(ada, "GET", "/v1/items/"+b.item(ada, collection, "none"), nil).is(200).body["metadata"])

	a := post(`{"b":{"x":1,"y":[1,null,"é"]},"a":null,"n":12345678901234567890,"e":1.5e2,"<":true}`).is(201)
	require.Contains(t, string(a.raw), "12345678901234567890")
	path := "/v1/items/" + a.id()
	require.Equal(t, a.body, b.call(ada, "GET", path, nil).is(200).body)
	patch := func(metadata string) answer { return b.call(ada, "PATCH", path, `{"metadata":`+metadata+`}`) }

	require.Equal(t, `"1"`, patch(`{"b":{"x":1.0e0,"z":null},"n":12345678901234567890}`).is(200).header.Get("ETag"), "nothing changed")
	a = patch(`{"b":{"x":null,"z":{"deep":null}},"a":2,"<":null}`).is(200)
	require.Equal(t, `"2"`, a.header.Get("ETag"))
	require.Equal(t, object{"b": object{"y": []any{1.0, nil, "é"}, "z": object{}}, "a": 2.0, "n": 12345678901234567890.0, "e": 150.0}, a.body["metadata"])
	require.Equal(t, a.body, b.call(ada, "GET", path, nil).is(200).body)
	events := b.envelopes()
	require.JSONEq(t, `["metadata"]`, field(t, events[len(events)-1].Data, "changed_fields"))
	require.Equal(t, object{}, patch(`null`).is(200).body["metadata"])
	require.Equal(t, `"3"`, patch(`null`).is(200).header.Get("ETag"))

	deep := func(levels int) string { return strings.Repeat(`{"a":`, levels) + "1" + strings.Repeat("}", levels) }
	post(deep(10)).is(201)
	for metadata, place := range map[string]string{
		`[]`:                       "/metadata",
		`1`:                        "/metadata",
		deep(11):                   "/metadata",
		`{"a":[{"b/c":1e131073}]}`: "/metadata/a/0/b~1c",
		`{"a":-1e309}`:             "/metadata/a",
		`{"a":1e-400}`:             "/metadata/a",
		`{"a":1e-2147483649}`:      "/metadata/a",
		`{"a":"\u0000"}`:           "/metadata/a",
		`{"\u0000":1}`:             "/metadata/\x00",
		`{"a":"` + strings.Repeat("x", 16<<10) + `"}`:   "/metadata",
		`{"a":[` + strings.Repeat("1e300,", 90) + `1]}`: "/metadata",
	} {
		post(metadata).problem(422, "validation", place)
		patch(metadata).problem(422, "validation", place)
	}
	post(`null`).problem(422, "validation", "/metadata")
	post(`{"a":0e99999999999,"b":1.7976931348623157e308,"c":5e-324}`).is(201)

	half := `"` + strings.Repeat("x", 9<<10) + `"`
	patch(`{"a":` + half + `}`).is(200)
	patch(`{"b":`+half+`}`).problem(422, "validation", "/metadata")
	patch(`{"b":` + half + `,"a":null}`).is(200)
}
