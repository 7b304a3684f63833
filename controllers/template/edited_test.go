package template_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/elastic"
)

// TestAnAliasThatWasEdited by hand is as Atlas made it afterwards: what is written to it is taken, and found. An index that lacks what was written
// meanwhile is replaced by a new one, which the indexer fills.
func TestAnAliasThatWasEdited(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		// edit are actions on the alias %[1]s, its index %[2]s, an index %[3]s that is somebody else's, and an older one of its own names, %[4]s.
		edit  string
		after int // which of those it leads to then; 0 for a new one
	}{
		"what is written goes to another": {`{"add":{"index":%[2]q,"alias":%[1]q,"is_write_index":false}},{"add":{"index":%[3]q,"alias":%[1]q,"is_write_index":true}}`, 0},
		"nothing can be written":          {`{"add":{"index":%[2]q,"alias":%[1]q,"is_write_index":false}}`, 2},
		"it has a filter":                 {`{"add":{"index":%[2]q,"alias":%[1]q,"filter":{"term":{"tags":"others"}}}}`, 2},
		"it has a filter and is written": {
			`{"add":{"index":%[2]q,"alias":%[1]q,"is_write_index":true,"filter":{"term":{"tags":"others"}}}}`, 2,
		},
		"it is searched in one shard":     {`{"add":{"index":%[2]q,"alias":%[1]q,"is_write_index":true,"search_routing":"1"}}`, 2},
		"it is written to one shard":      {`{"add":{"index":%[2]q,"alias":%[1]q,"is_write_index":true,"routing":"1"}}`, 0},
		"a second index of its own names": {`{"add":{"index":%[4]q,"alias":%[1]q}}`, 2},
		"a second one, which is written": {
			`{"add":{"index":%[2]q,"alias":%[1]q,"is_write_index":false}},{"add":{"index":%[4]q,"alias":%[1]q,"is_write_index":true}}`, 4,
		},
		"two, neither of which is written": {`{"add":{"index":%[2]q,"alias":%[1]q}},{"add":{"index":%[4]q,"alias":%[1]q}}`, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			admin, es, alias := connect(t)
			params := elastic.Params{Shards: 2, RefreshInterval: time.Second}
			settle(t, admin, alias, params)
			before := only(t, admin, es, alias)
			own := before.Name
			theirs, second := "theirs-"+alias, alias+"-01234567-20250102030405"
			t.Cleanup(func() { _, _ = es.Indices.Delete([]string{own}) })
			there := []func() map[string]any{foreign(t, es, theirs), foreign(t, es, second)}
			write := func(alias, id string) error {
				_, err := elastic.NewBulkWriter(es, alias, 0).Write(t.Context(), []elastic.BulkAction{
					{ID: id, Version: 1, VersionType: elastic.VersionExternal, Document: json.RawMessage(`{"title":"an item"}`)},
				})
				return err
			}
			require.NoError(t, write(alias, "before"))

			move(t, es, fmt.Sprintf(tt.edit, alias, own, theirs, second))
			_ = write(alias, "meanwhile")
			settle(t, admin, alias, params)
			now := only(t, admin, es, alias)
			if tt.after == 0 {
				require.NotEqual(t, before, now)
				require.NotContains(t, []string{theirs, second}, now.Name)
			} else {
				require.Equal(t, []string{own, theirs, second}[tt.after-2], now.Name)
			}
			as := send(t, es, http.MethodGet, "/_alias/"+alias, "")
			require.JSONEq(t, fmt.Sprintf(`{%q:{"aliases":{%q:{"is_write_index":true}}}}`, now.Name, alias), as, "as it is made")

			for _, look := range there {
				look()
			}
			require.NoError(t, write(alias, "after"))
			require.NoError(t, elastic.Refresh(t.Context(), es, alias))
			found := send(t, es, http.MethodGet, "/"+alias+"/_search?filter_path=hits.hits._id,hits.hits._index", "")
			require.Contains(t, found, fmt.Sprintf(`{"_index":%q,"_id":"after"}`, now.Name))
			if now == before {
				require.Contains(t, found, `"_id":"before"`)
			}
		})
	}
}
