package elastic

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/elastic/elastic-transport-go/v8/elastictransport"
)

// ErrNotSetUp means that there is no index template for the alias: whoever sets Atlas up has not been here yet.
var ErrNotSetUp = errors.New("the search index was never set up")

// IndexID is an index behind an alias. UUID is Elasticsearch's own: an index of the same name that is made again has another.
type IndexID struct {
	Name string
	UUID string
}

// BehindAlias returns the one index that the alias leads to; false when there is none. Two are an error.
func BehindAlias(ctx context.Context, es elastictransport.Interface, alias string) (IndexID, bool, error) {
	var found map[string]struct {
		Settings struct {
			Index struct {
				UUID string `json:"uuid"`
			} `json:"index"`
		} `json:"settings"`
	}
	err := indexCall(ctx, es, http.MethodGet, "/"+alias+"/_settings?filter_path=*.settings.index.uuid", nil, &found)
	switch {
	case isNotFound(err) || (err == nil && len(found) == 0):
		return IndexID{}, false, nil
	case err != nil:
		return IndexID{}, false, fmt.Errorf("look for the index behind %s: %w", alias, err)
	case len(found) > 1:
		return IndexID{}, false, fmt.Errorf("the alias %s leads to %d indices: %v", alias, len(found), slices.Sorted(maps.Keys(found)))
	}
	for name, index := range found {
		if name == alias {
			return IndexID{}, false, fmt.Errorf("%w: %s", ErrAliasIsIndex, alias)
		}
		return IndexID{Name: name, UUID: index.Settings.Index.UUID}, true, nil
	}
	return IndexID{}, false, nil // not reached
}

// RenewIndex puts a new, empty index behind the alias, as the alias's template says, in place of the one that it leads to, if any, which is
// deleted. An index that only lost its alias gets it back instead. Of callers that race, all but one fail.
func RenewIndex(ctx context.Context, es elastictransport.Interface, alias string, old *IndexID) error {
	state, err := ObserveIndex(ctx, es, alias)
	if err != nil {
		return err
	}
	hash := templateHash(state.Template)
	switch {
	case state.AliasIsIndex:
		return fmt.Errorf("%w: %s", ErrAliasIsIndex, alias)
	case len(hash) < 8:
		return fmt.Errorf("%w: no template %s", ErrNotSetUp, TemplateName(alias))
	case len(state.Detached) > 0:
		// Somebody removed the alias alone, as PlanIndex sees it too.
		return attach(ctx, es, alias, state.Detached[len(state.Detached)-1], nil)
	}
	name := IndexDefinition{Hash: hash}.IndexName(alias, time.Now())
	behind := map[string]any{"is_write_index": true}
	if old == nil {
		err := indexCall(ctx, es, http.MethodPut, "/"+name, map[string]any{"aliases": map[string]any{alias: behind}}, nil)
		if err != nil {
			return fmt.Errorf("create the index %s: %w", name, err)
		}
		return nil
	}
	if err := indexCall(ctx, es, http.MethodPut, "/"+name, nil, nil); err != nil {
		return fmt.Errorf("create the index %s: %w", name, err)
	}
	return attach(ctx, es, alias, name, old)
}

// attach leads the alias to an index and deletes the old one, in one step.
func attach(ctx context.Context, es elastictransport.Interface, alias, name string, old *IndexID) error {
	actions := []any{map[string]any{"add": map[string]any{"index": name, "alias": alias, "is_write_index": true}}}
	if old != nil {
		actions = append(actions, map[string]any{"remove_index": map[string]any{"index": old.Name}})
	}
	if err := indexCall(ctx, es, http.MethodPost, "/_aliases", map[string]any{"actions": actions}, nil); err != nil {
		return fmt.Errorf("lead %s to the index %s: %w", alias, name, err)
	}
	return nil
}

func templateHash(template map[string]any) string {
	meta, _ := template["_meta"].(map[string]any)
	hash, _ := meta["definition_hash"].(string)
	return hash
}

// Refresh makes everything that was written to the alias visible to search.
func Refresh(ctx context.Context, es elastictransport.Interface, alias string) error {
	if err := indexCall(ctx, es, http.MethodPost, "/"+alias+"/_refresh", nil, nil); err != nil {
		return fmt.Errorf("refresh the index: %w", err)
	}
	return nil
}

// Missing returns which of the ids have no document behind the alias, refreshed or not.
func Missing(ctx context.Context, es elastictransport.Interface, alias string, ids []string) ([]string, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	var answer struct {
		Docs []struct {
			ID    string `json:"_id"`
			Found bool   `json:"found"`
			Error any    `json:"error"`
		} `json:"docs"`
	}
	if err := indexCall(ctx, es, http.MethodPost, "/"+alias+"/_mget?_source=false", map[string]any{"ids": ids}, &answer); err != nil {
		return nil, fmt.Errorf("look for documents: %w", err)
	}
	var missing []string
	for _, doc := range answer.Docs {
		if doc.Error != nil {
			return nil, fmt.Errorf("look for documents: %v", doc.Error)
		}
		if !doc.Found {
			missing = append(missing, doc.ID)
		}
	}
	return missing, nil
}
