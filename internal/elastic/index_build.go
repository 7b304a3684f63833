package elastic

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/elastic/elastic-transport-go/v8/elastictransport"
)

// buildDeletes is how long an index that is being built remembers the versions of deletions: longer than anybody who writes to it can be late.
const buildDeletes = "7d"

// buildingSuffix ends the name of the alias under which an index is written while it is built. The alias's index template matches it too, so
// that Elasticsearch never makes an index of this name by itself.
const buildingSuffix = "-building"

// BuildTarget is the alias of its own under which an index is written while it is being built.
func BuildTarget(index string) string { return index + buildingSuffix }

// Blueprint is what the alias's index template says of a new index.
type Blueprint struct {
	// Hash names the definition.
	Hash string
	// settled are the settings that an index gets back once it is built.
	settled map[string]any
}

// ReadBlueprint reads the alias's index template. It fails with ErrNotSetUp when there is none.
func ReadBlueprint(ctx context.Context, es elastictransport.Interface, alias string) (Blueprint, error) {
	template, err := observeTemplate(ctx, es, alias)
	if err != nil {
		return Blueprint{}, err
	}
	b := Blueprint{Hash: templateHash(template), settled: map[string]any{settingReplicas: "0", settingRefresh: "1000ms", settingDeletes: deletesLifetime}}
	if len(b.Hash) < 8 {
		return Blueprint{}, fmt.Errorf("%w: no template %s", ErrNotSetUp, TemplateName(alias))
	}
	body, _ := template["template"].(map[string]any)
	settings, _ := body["settings"].(map[string]any)
	for name := range b.settled {
		if value, ok := settings[name]; ok {
			b.settled[name] = value
		}
	}
	return b, nil
}

// IndexName is the name of an index of this definition created at now.
func (b Blueprint) IndexName(alias string, now time.Time) string {
	return IndexDefinition{Hash: b.Hash}.IndexName(alias, now)
}

// BuildIndex creates an index as its alias's template says, behind BuildTarget and not behind the alias, with what makes filling it quick: no
// refreshes and no replicas. One that is there already with this target is left as it is. It returns false when another index has the name.
func BuildIndex(ctx context.Context, es elastictransport.Interface, name string) (bool, error) {
	target := BuildTarget(name)
	body := map[string]any{
		"settings": map[string]any{settingReplicas: "0", settingRefresh: "-1", settingDeletes: buildDeletes},
		"aliases":  map[string]any{target: map[string]any{}},
	}
	err := indexCall(ctx, es, http.MethodPut, "/"+name, body, nil)
	var api *IndexAPIError
	if errors.As(err, &api) && api.Type == "resource_already_exists_exception" {
		_, there, err := BehindAlias(ctx, es, target)
		return there, err
	}
	if err != nil {
		return false, fmt.Errorf("create the index %s: %w", name, err)
	}
	return true, nil
}

// SettleIndex gives an index that was built the refreshes and replicas of its blueprint, waits a while for the replicas, and makes everything
// visible.
func SettleIndex(ctx context.Context, es elastictransport.Interface, b Blueprint, name string) error {
	settings := map[string]any{settingReplicas: b.settled[settingReplicas], settingRefresh: b.settled[settingRefresh]}
	if err := indexCall(ctx, es, http.MethodPut, "/"+name+"/_settings", settings, nil); err != nil {
		return fmt.Errorf("put the settings of the index %s right: %w", name, err)
	}
	// Replicas that can't be placed at all are not waited for: they were not there before either.
	path := "/_cluster/health/" + name + "?wait_for_no_initializing_shards=true&timeout=50s"
	var health struct {
		TimedOut bool `json:"timed_out"`
	}
	err := indexCall(ctx, es, http.MethodGet, path, nil, &health)
	var api *IndexAPIError
	if health.TimedOut || errors.As(err, &api) && api.Status == http.StatusRequestTimeout {
		return fmt.Errorf("the replicas of the index %s are not ready yet", name)
	}
	if err != nil {
		return fmt.Errorf("wait for the replicas of the index %s: %w", name, err)
	}
	return Refresh(ctx, es, name)
}

// Warm loads what the first search of an index would wait for. It may fail without harm.
func Warm(ctx context.Context, es elastictransport.Interface, name string) {
	body := map[string]any{
		"size": 1, "sort": []any{map[string]any{"created_at": "desc"}},
		"aggs": map[string]any{
			"tags":        map[string]any{"terms": map[string]any{"field": "tags", "size": 1}},
			"collections": map[string]any{"terms": map[string]any{"field": "collection_id", "size": 1}},
		},
	}
	_ = indexCall(ctx, es, http.MethodPost, "/"+name+"/_search?allow_partial_search_results=true", body, nil)
}

// SwapAlias leads the alias to another index, in one step; from is what it leads to now, empty for nothing. It fails when that is not so any more.
func SwapAlias(ctx context.Context, es elastictransport.Interface, alias, from, to string) error {
	actions := []any{leadTo(alias, to)}
	if from != "" {
		actions = append(actions, map[string]any{"remove": map[string]any{"index": from, "alias": alias, "must_exist": true}})
	}
	if err := indexCall(ctx, es, http.MethodPost, "/_aliases", map[string]any{"actions": actions}, nil); err != nil {
		return fmt.Errorf("lead %s to the index %s: %w", alias, to, err)
	}
	return nil
}

// FinishIndex ends the building of an index: it is written under the alias only, and remembers deletions as long as any.
func FinishIndex(ctx context.Context, es elastictransport.Interface, b Blueprint, name string) error {
	actions := []any{map[string]any{"remove": map[string]any{"index": name, "alias": BuildTarget(name), "must_exist": false}}}
	err := indexCall(ctx, es, http.MethodPost, "/_aliases", map[string]any{"actions": actions}, nil)
	if err != nil && !isNotFound(err) {
		return fmt.Errorf("remove the alias %s: %w", BuildTarget(name), err)
	}
	err = indexCall(ctx, es, http.MethodPut, "/"+name+"/_settings", map[string]any{settingDeletes: b.settled[settingDeletes]}, nil)
	if err != nil && !isNotFound(err) {
		return fmt.Errorf("put the settings of the index %s right: %w", name, err)
	}
	return nil
}

// DropIndex deletes an index that the alias does not lead to; it may be gone already.
func DropIndex(ctx context.Context, es elastictransport.Interface, alias, name string) error {
	behind, there, err := OwnBehindAlias(ctx, es, alias)
	switch {
	case err != nil:
		return err
	case there && behind.Name == name:
		return fmt.Errorf("the index %s is the one that is searched: it stays", name)
	}
	if err := indexCall(ctx, es, http.MethodDelete, "/"+name, nil, nil); err != nil && !isNotFound(err) {
		return fmt.Errorf("delete the index %s: %w", name, err)
	}
	return nil
}

// Readers is how many searches and points in time hold the index open; none when it is gone.
func Readers(ctx context.Context, es elastictransport.Interface, name string) (int64, error) {
	var answer struct {
		All struct {
			Total struct {
				Search struct {
					Open int64 `json:"open_contexts"`
				} `json:"search"`
			} `json:"total"`
		} `json:"_all"`
	}
	err := indexCall(ctx, es, http.MethodGet, "/"+name+"/_stats/search?filter_path=_all.total.search.open_contexts", nil, &answer)
	if err != nil && !isNotFound(err) {
		return 0, fmt.Errorf("look for readers of the index %s: %w", name, err)
	}
	return answer.All.Total.Search.Open, nil
}

// Count is how many documents of an index, or of what an alias leads to, are visible.
func Count(ctx context.Context, es elastictransport.Interface, name string) (int64, error) {
	var answer struct {
		Count  int64 `json:"count"`
		Shards struct {
			Failed int `json:"failed"`
		} `json:"_shards"`
	}
	if err := indexCall(ctx, es, http.MethodGet, "/"+url.PathEscape(name)+"/_count", nil, &answer); err != nil {
		return 0, fmt.Errorf("count documents: %w", err)
	}
	if answer.Shards.Failed > 0 {
		return 0, fmt.Errorf("count documents: %d shards did not answer", answer.Shards.Failed)
	}
	return answer.Count, nil
}

// Building are the indices that BuildIndex made for the alias and that it does not lead to.
func Building(ctx context.Context, es elastictransport.Interface, alias string) ([]string, error) {
	found, err := namedIndices(ctx, es, alias)
	if err != nil {
		return nil, err
	}
	var names []string
	for name, aliases := range found {
		if _, searched := aliases[alias]; isBuilding(name, aliases) && !searched {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// isBuilding tells from an index's aliases whether it is being built.
func isBuilding(name string, aliases map[string]struct{}) bool {
	_, there := aliases[BuildTarget(name)]
	return there
}
