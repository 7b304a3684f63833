package metadata_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/metadata"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		`{}`:                            `{}`,
		`{"b":1,"a":[null,{"c":true}]}`: `{"a":[null,{"c":true}],"b":1}`,
		`{"<>&":"é"}`:                   `{"<>&":"é"}`,
		`{"a":null}`:                    `{"a":null}`,
		`{"a":"\ud800"}`:                `{"a":"�"}`,
		`{"n":[1e2,1.50,1.50e1,15e-1,1.5e-3,-0,0.00,0e999999999,-12.5E+1,12345678901234567890,100e-2,1e-1]}`: `{"n":[100,1.5,15,1.5,0.0015,0,0,0,-125,12345678901234567890,1,0.1]}`,
		`{"n":1e-300}`: `{"n":0.` + strings.Repeat("0", 299) + `1}`,
		`{"n":` + strings.Repeat("1", 300) + `e-300}`: `{"n":0.` + strings.Repeat("1", 300) + `}`,
	} {
		object, err := metadata.Parse([]byte(raw))
		require.NoError(t, err, raw)
		require.Equal(t, want, string(object.Encode()))
	}
	require.Equal(t, "{}", string(metadata.Object(nil).Encode()))
}

func TestLimits(t *testing.T) {
	t.Parallel()
	nested := func(levels int) string {
		return `{"a":` + strings.Repeat("[", levels-1) + strings.Repeat("]", levels-1) + `}`
	}
	fields := func(n int) string {
		names := make([]string, n)
		for i := range names {
			names[i] = fmt.Sprintf(`"%d":0`, i)
		}
		return "{" + strings.Join(names, ",") + "}"
	}
	text := func(n int) string { return `{"a":"` + strings.Repeat("x", n-len(`{"a":""}`)) + `"}` }
	for _, raw := range []string{nested(10), fields(100), text(16 << 10), `{"a":1.7976931348623157e308}`, `{"a":5e-324}`} {
		_, err := metadata.Parse([]byte(raw))
		require.NoError(t, err)
	}
	for raw, pointer := range map[string]string{
		nested(11):                      "",
		fields(101):                     "",
		text(16<<10 + 1):                "",
		``:                              "",
		`{`:                             "",
		`{} {}`:                         "",
		`[]`:                            "",
		`null`:                          "",
		`{"a":[0,{"b/c~":1e309}]}`:      "/a/1/b~1c~0",
		`{"a":-1e309}`:                  "/a",
		`{"a":1e131073}`:                "/a",
		`{"a":1e99999999999999999999}`:  "/a",
		`{"a":1e-400}`:                  "/a",
		`{"a":1e-99999999999999999999}`: "/a",
		`{"a":[` + strings.Repeat("1e300,", 60) + `0]}`:    "",
		`{"a":1` + strings.Repeat("0", 20000) + `e-20000}`: "",
		`{"a":"\u0000"}`: "/a",
		`{"\u0000":1}`:   "/\x00",
	} {
		_, err := metadata.Parse([]byte(raw))
		var wrong *metadata.Error
		require.ErrorAs(t, err, &wrong, raw)
		require.Equal(t, pointer, wrong.Pointer, raw)
		require.NotEmpty(t, wrong.Message)
	}
}

// TestMerge has the examples of RFC 7396, appendix A.
func TestMerge(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ target, patch, want string }{
		{`{"a":"b"}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"b"}`, `{"b":"c"}`, `{"a":"b","b":"c"}`},
		{`{"a":"b"}`, `{"a":null}`, `{}`},
		{`{"a":"b","b":"c"}`, `{"a":null}`, `{"b":"c"}`},
		{`{"a":["b"]}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"c"}`, `{"a":["b"]}`, `{"a":["b"]}`},
		{`{"a":{"b":"c"}}`, `{"a":{"b":"d","c":null}}`, `{"a":{"b":"d"}}`},
		{`{"a":[{"b":"c"}]}`, `{"a":[1]}`, `{"a":[1]}`},
		{`["a","b"]`, `["c","d"]`, `["c","d"]`},
		{`{"a":"b"}`, `["c"]`, `["c"]`},
		{`{"a":"foo"}`, `null`, `null`},
		{`{"a":"foo"}`, `"bar"`, `"bar"`},
		{`{"e":null}`, `{"a":1}`, `{"e":null,"a":1}`},
		{`[1,2]`, `{"a":"b","c":null}`, `{"a":"b"}`},
		{`{}`, `{"a":{"bb":{"ccc":null}}}`, `{"a":{"bb":{}}}`},
	} {
		var target, patch any
		require.NoError(t, json.Unmarshal([]byte(tt.target), &target))
		require.NoError(t, json.Unmarshal([]byte(tt.patch), &patch))
		merged, err := json.Marshal(metadata.Merge(target, patch))
		require.NoError(t, err)
		require.JSONEq(t, tt.want, string(merged), "%s + %s", tt.target, tt.patch)
		unchanged, err := json.Marshal(target)
		require.NoError(t, err)
		require.JSONEq(t, tt.target, string(unchanged))
	}
}

func TestApply(t *testing.T) {
	t.Parallel()
	object, err := metadata.Parse([]byte(`{"a":{"b":1,"c":null},"d":2}`))
	require.NoError(t, err)
	for patch, want := range map[string]string{
		`null`:                     `{}`,
		`{}`:                       `{"a":{"b":1,"c":null},"d":2}`,
		`{"a":{"b":null},"e":1e2}`: `{"a":{"c":null},"d":2,"e":100}`,
		`{"a":null,"d":null}`:      `{}`,
	} {
		merged, err := object.Apply([]byte(patch))
		require.NoError(t, err)
		require.Equal(t, want, string(merged.Encode()))
	}
	for _, patch := range []string{`[]`, `1`, `{"a":{"b":1e999}}`, `{"x":"` + strings.Repeat("x", 16<<10) + `"}`, `{`} {
		_, err := object.Apply([]byte(patch))
		require.Error(t, err, patch)
	}
	full := metadata.Object{}
	for i := range metadata.MaxFields {
		full[fmt.Sprint(i)] = true
	}
	_, err = full.Apply([]byte(`{"x":1}`))
	require.ErrorContains(t, err, "at most 100")
	_, err = full.Apply([]byte(`{"x":1,"0":null}`))
	require.NoError(t, err)
}

// FuzzMerge checks what holds for any patch: merging twice is merging once, what the patch removes is gone, what it does not name stays, a patch
// that is no object replaces everything, and whatever passes the limits is read back as it was written.
func FuzzMerge(f *testing.F) {
	for _, seed := range [][2]string{
		{`{"a":{"b":"c","d":null},"x":[1,null]}`, `{"a":{"b":null,"e":{"f":null}},"x":null}`},
		{`[1]`, `{"a":1}`},
		{`{"a":1}`, `[null]`},
		{`{}`, `null`},
		{`{"a":{"b":{"c":1.50e3}}}`, `{"a":{"b":{"c":{"d":-0.0e-5}}}}`},
		{`{"":0}`, `{"":{"":null}}`},
	} {
		f.Add([]byte(seed[0]), []byte(seed[1]))
	}
	f.Fuzz(func(t *testing.T, rawTarget, rawPatch []byte) {
		var target, patch any
		if json.Unmarshal(rawTarget, &target) != nil || json.Unmarshal(rawPatch, &patch) != nil {
			return
		}
		merged := metadata.Merge(target, patch)
		if again := metadata.Merge(merged, patch); !reflect.DeepEqual(again, merged) {
			t.Fatalf("%s + %s: %v, and again: %v", rawTarget, rawPatch, merged, again)
		}
		follows(t, target, patch, merged)
		object, err := metadata.Parse(rawTarget)
		if err != nil {
			return
		}
		readBack(t, object)
		applied, err := object.Apply(rawPatch)
		var wrong *metadata.Error
		if err != nil && !errors.As(err, &wrong) {
			t.Fatal(err)
		}
		if err == nil {
			readBack(t, applied)
		}
	})
}

func follows(t *testing.T, target, patch, merged any) {
	t.Helper()
	changes, ok := patch.(map[string]any)
	if !ok {
		if !reflect.DeepEqual(merged, patch) {
			t.Fatalf("%v instead of %v", merged, patch)
		}
		return
	}
	before, _ := target.(map[string]any)
	after, ok := merged.(map[string]any)
	if !ok {
		t.Fatalf("%v is no object", merged)
	}
	for name, change := range changes {
		value, there := after[name]
		switch {
		case change == nil && there:
			t.Fatalf("%q was removed and is %v", name, value)
		case change != nil && !there:
			t.Fatalf("%q is missing", name)
		case change != nil:
			follows(t, before[name], change, value)
		}
	}
	for name, value := range before {
		if _, named := changes[name]; !named && !reflect.DeepEqual(after[name], value) {
			t.Fatalf("%q was %v and is %v", name, value, after[name])
		}
	}
	for name := range after {
		_, old := before[name]
		if _, named := changes[name]; !old && !named {
			t.Fatalf("%q came from nowhere", name)
		}
	}
}

func readBack(t *testing.T, object metadata.Object) {
	t.Helper()
	content := object.Encode()
	again, err := metadata.Parse(content)
	if err != nil || string(again.Encode()) != string(content) || len(content) > metadata.MaxBytes {
		t.Fatalf("%s is read back as %s (%v)", content, again.Encode(), err)
	}
}
