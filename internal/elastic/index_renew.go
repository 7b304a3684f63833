package elastic

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
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

// OwnBehindAlias is BehindAlias for what IndexName named for the alias. Any other index behind it is somebody else's, who led the alias there: it is
// never deleted, and filled no further, but until that is noticed it gets what is written to the alias.
func OwnBehindAlias(ctx context.Context, es elastictransport.Interface, alias string) (IndexID, bool, error) {
	return behindAlias(ctx, es, alias, func(name string) bool { return name == alias || isIndexOf(alias, name) })
}

// BehindAlias returns the one index that the alias leads to; false when there is none. Two are an error.
func BehindAlias(ctx context.Context, es elastictransport.Interface, alias string) (IndexID, bool, error) {
	return behindAlias(ctx, es, alias, func(string) bool { return true })
}

func behindAlias(ctx context.Context, es elastictransport.Interface, alias string, counts func(name string) bool) (IndexID, bool, error) {
	var found map[string]struct {
		Settings struct {
			Index struct {
				UUID string `json:"uuid"`
			} `json:"index"`
		} `json:"settings"`
	}
	err := indexCall(ctx, es, http.MethodGet, "/"+alias+"/_settings?filter_path=*.settings.index.uuid", nil, &found)
	for name := range found {
		if !counts(name) {
			delete(found, name)
		}
	}
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
// deleted. An index that only lost its alias gets it back instead, unless the alias leads to a foreign one. Of callers that race, all but one fail,
// and leave no index: as in straighten, the alias leads nowhere for a moment.
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
	case len(state.Detached) > 0 && len(state.Foreign) == 0:
		// Somebody removed the alias alone, as PlanIndex sees it too.
		return attach(ctx, es, alias, state.Detached[len(state.Detached)-1])
	}
	actions := state.abandon(alias)
	if old != nil {
		if _, behind := state.Indices[old.Name]; !behind {
			return fmt.Errorf("the alias %s leads to the index %s no more", alias, old.Name)
		}
		actions = append(actions, map[string]any{"remove_index": map[string]any{"index": old.Name}})
	}
	if len(actions) > 0 {
		if err := indexCall(ctx, es, http.MethodPost, "/_aliases", map[string]any{"actions": actions}, nil); err != nil {
			return fmt.Errorf("make way for a new index behind %s: %w", alias, err)
		}
	}
	if old == nil && len(state.Indices) > 0 {
		return nil // somebody else was faster
	}
	name := IndexDefinition{Hash: hash}.IndexName(alias, time.Now())
	behind := map[string]any{"aliases": map[string]any{alias: map[string]any{"is_write_index": true}}}
	if err := indexCall(ctx, es, http.MethodPut, "/"+name, behind, nil); err != nil {
		return fmt.Errorf("create the index %s: %w", name, err)
	}
	return nil
}

// attach leads the alias to an index that is there.
func attach(ctx context.Context, es elastictransport.Interface, alias, name string) error {
	actions := []any{leadTo(alias, name)}
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

// ForgetDeletes has the indices behind an alias forget at once which versions were deleted, or, by keep, remember it as long as they are meant to.
func ForgetDeletes(ctx context.Context, es elastictransport.Interface, alias string, keep bool) error {
	lifetime := "0s"
	if keep {
		lifetime = deletesLifetime
	}
	if err := indexCall(ctx, es, http.MethodPut, "/"+alias+"/_settings", map[string]any{settingDeletes: lifetime}, nil); err != nil {
		return fmt.Errorf("set how long deletes are remembered: %w", err)
	}
	return nil
}

// Missing returns which of the ids have no document behind the alias, refreshed or not.
func Missing(ctx context.Context, es elastictransport.Interface, alias string, ids []string) ([]string, error) {
	docs, err := look(ctx, es, alias, ids, true)
	if err != nil {
		return nil, err
	}
	var missing []string
	for _, doc := range docs {
		if !doc.Found {
			missing = append(missing, doc.ID)
		}
	}
	return missing, nil
}

// Versions returns the versions of those of the documents that a search finds behind the alias.
func Versions(ctx context.Context, es elastictransport.Interface, alias string, ids []string) (map[string]int64, error) {
	docs, err := look(ctx, es, alias, ids, false)
	if err != nil {
		return nil, err
	}
	versions := make(map[string]int64, len(ids))
	for _, doc := range docs {
		if doc.Found {
			versions[doc.ID] = doc.Version
		}
	}
	return versions, nil
}

type lookedUp struct {
	ID      string `json:"_id"`
	Version int64  `json:"_version"`
	Found   bool   `json:"found"`
	Error   any    `json:"error"`
}

// look asks for documents without their contents: as they were written last, or as a search finds them.
func look(ctx context.Context, es elastictransport.Interface, alias string, ids []string, written bool) ([]lookedUp, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	var answer struct {
		Docs []lookedUp `json:"docs"`
	}
	path := "/" + alias + "/_mget?_source=false&realtime=" + strconv.FormatBool(written) + "&filter_path=docs._id,docs._version,docs.found,docs.error"
	if err := indexCall(ctx, es, http.MethodPost, path, map[string]any{"ids": ids}, &answer); err != nil {
		return nil, fmt.Errorf("look for documents: %w", err)
	}
	for _, doc := range answer.Docs {
		if doc.Error != nil {
			return nil, fmt.Errorf("look for documents: %v", doc.Error)
		}
	}
	return answer.Docs, nil
}
