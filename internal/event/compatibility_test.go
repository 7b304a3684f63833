package event_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/event"
)

// TestSchemasStayCompatible compares the schemas with testdata/baseline, the contract as it was published. New optional fields are fine: copy the schema
// to the baseline once they are. Everything else breaks somebody: a reader of a field that is gone, or events that lie in the topic and lack a field
// that is required now. It calls for a new event type or a new envelope version.
func TestSchemasStayCompatible(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/baseline/*.json")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		baseline, err := os.ReadFile(file)
		require.NoError(t, err)
		now, err := event.Schemas.ReadFile("schema/" + filepath.Base(file))
		require.NoError(t, err, "a schema is gone")
		require.Empty(t, breaks(t, baseline, now), file)
	}
}

func breaks(t *testing.T, baseline, now []byte) []string {
	t.Helper()
	var before, after map[string]any
	require.NoError(t, json.Unmarshal(baseline, &before))
	require.NoError(t, json.Unmarshal(now, &after))
	return compare("", before, after)
}

// compare lists what breaks somebody in an object's schema.
func compare(path string, before, after map[string]any) (out []string) {
	required := func(schema map[string]any) (names []string) {
		list, _ := schema["required"].([]any)
		for _, name := range list {
			names = append(names, name.(string))
		}
		return names
	}
	for _, name := range required(before) {
		if !slices.Contains(required(after), name) {
			out = append(out, path+name+" may be missing now")
		}
	}
	for _, name := range required(after) {
		if !slices.Contains(required(before), name) {
			out = append(out, path+name+" is required now")
		}
	}
	was, _ := before["properties"].(map[string]any)
	is, _ := after["properties"].(map[string]any)
	for name, field := range was {
		if _, there := is[name]; !there {
			out = append(out, path+name+" is gone")
			continue
		}
		out = append(out, compare(path+name+".", field.(map[string]any), is[name].(map[string]any))...)
	}
	for keyword := range merged(before, after) {
		switch keyword {
		case "required", "properties", "title", "description", "$id", "$schema":
		default:
			if !reflect.DeepEqual(before[keyword], after[keyword]) {
				out = append(out, fmt.Sprintf("%s: %s was %v, is %v", strings.TrimSuffix(path, "."), keyword, before[keyword], after[keyword]))
			}
		}
	}
	return out
}

func merged(a, b map[string]any) map[string]bool {
	out := map[string]bool{}
	for k := range a {
		out[k] = true
	}
	for k := range b {
		out[k] = true
	}
	return out
}

func TestTheGuardFindsWhatBreaks(t *testing.T) {
	t.Parallel()
	baseline, err := event.Schemas.ReadFile("schema/envelope.json")
	require.NoError(t, err)
	for name, c := range map[string]struct {
		change func(schema, properties, entity map[string]any)
		want   string
	}{
		"a lost field":       {func(_, p, _ map[string]any) { delete(p, "trace_id") }, "trace_id is gone"},
		"a lost inner field": {func(_, _, e map[string]any) { delete(e["properties"].(map[string]any), "id") }, "entity.id is gone"},
		"a new required field": {func(s, p, _ map[string]any) {
			p["new"] = map[string]any{"type": "string"}
			s["required"] = append(s["required"].([]any), "new")
		}, "new is required now"},
		"a guarantee less":  {func(s, _, _ map[string]any) { s["required"] = s["required"].([]any)[1:] }, "event_id may be missing now"},
		"another type":      {func(_, p, _ map[string]any) { p["event_type"].(map[string]any)["type"] = "integer" }, "event_type: type was"},
		"a new restriction": {func(_, p, _ map[string]any) { p["event_type"].(map[string]any)["enum"] = []any{"ItemCreated"} }, "event_type: enum was"},
		"no unknown fields": {func(s, _, _ map[string]any) { s["additionalProperties"] = false }, ": additionalProperties was"},
		"a new optional field": {func(_, p, _ map[string]any) {
			p["new"] = map[string]any{"type": "string"}
			p["event_id"].(map[string]any)["description"] = "new words"
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var schema map[string]any
			require.NoError(t, json.Unmarshal(baseline, &schema))
			properties := schema["properties"].(map[string]any)
			c.change(schema, properties, properties["entity"].(map[string]any))
			now, err := json.Marshal(schema)
			require.NoError(t, err)
			found := breaks(t, baseline, now)
			if c.want == "" {
				require.Empty(t, found)
				return
			}
			require.Len(t, found, 1)
			require.Contains(t, found[0], c.want)
		})
	}
}

// TestTheSeedsTypesAreAllHere names the contract's types once more: none may go.
func TestTheSeedsTypesAreAllHere(t *testing.T) {
	t.Parallel()
	require.Subset(t, event.Types(), []event.Type{
		"CollectionCreated", "CollectionUpdated", "CollectionDeleted", "MembershipAdded", "MembershipRoleChanged", "MembershipRemoved",
		"ItemCreated", "ItemUpdated", "ItemDeleted", "JobCreated", "JobUpdated",
	})
}

// TestDocumentedExamplesAreTheGoldenOnes keeps docs/events.md true.
func TestDocumentedExamplesAreTheGoldenOnes(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../../docs/events.md")
	require.NoError(t, err)
	shown := map[event.Type]bool{}
	for i, block := range strings.Split(string(doc), "```") {
		content, isJSON := strings.CutPrefix(block, "json\n")
		if i%2 == 0 || !isJSON {
			continue
		}
		e, err := event.Decode([]byte(content))
		require.NoError(t, err)
		require.JSONEq(t, string(golden(t, e.EventType)), content)
		shown[e.EventType] = true
	}
	require.Subset(t, shown, map[event.Type]bool{event.ItemUpdated: true, event.CollectionUpdated: true, event.MembershipRoleChanged: true, event.JobUpdated: true})
	for _, eventType := range event.Types() {
		require.Contains(t, string(doc), "`"+string(eventType)+"`")
	}
}
