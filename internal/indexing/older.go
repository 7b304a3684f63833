package indexing

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/atlas-platform/atlas/internal/elastic"
)

// newField is the field that the index of the version before has not; its mapping takes no others. Until such an index is rebuilt, items go there
// without it: search finds them by the rest.
const newField = "extract"

// writeAll writes, and again without the field what an index refused because of it.
func writeAll(ctx context.Context, bulk *elastic.BulkWriter, actions []elastic.BulkAction) ([]elastic.BulkResult, error) {
	results, err := bulk.Write(ctx, actions)
	if err != nil {
		return nil, err
	}
	var places []int
	var again []elastic.BulkAction
	for i, result := range results {
		if result.Outcome != elastic.BulkRejected || !strings.Contains(result.Reason, "dynamic introduction of ["+newField+"]") {
			continue
		}
		document, err := without(actions[i].Document, newField)
		if err != nil {
			return nil, err
		}
		action := actions[i]
		action.Document = document
		places, again = append(places, i), append(again, action)
	}
	if len(again) == 0 {
		return results, nil
	}
	second, err := bulk.Write(ctx, again)
	if err != nil {
		return nil, fmt.Errorf("write to an index of the version before: %w", err)
	}
	for i, place := range places {
		results[place] = second[i]
	}
	return results, nil
}

func without(document json.RawMessage, field string) (json.RawMessage, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(document, &fields); err != nil {
		return nil, fmt.Errorf("decode item: %w", err)
	}
	delete(fields, field)
	out, err := json.Marshal(fields)
	if err != nil {
		return nil, fmt.Errorf("encode item: %w", err)
	}
	return out, nil
}
