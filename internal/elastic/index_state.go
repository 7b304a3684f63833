package elastic

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/elastic/elastic-transport-go/v8/elastictransport"
)

// ErrAliasIsIndex means that an index has the name that the alias needs, usually because something wrote to that name
// before the alias was there.
var ErrAliasIsIndex = errors.New("an index has the alias's name")

// IndexAPIError is an answer of Elasticsearch that is not a success.
type IndexAPIError struct {
	Status int    // HTTP status
	Type   string // Elasticsearch's name of the error
	Reason string // Elasticsearch's words
}

func (e *IndexAPIError) Error() string {
	if e.Type == "" {
		return fmt.Sprintf("elasticsearch answered %d", e.Status)
	}
	return fmt.Sprintf("elasticsearch answered %d %s: %s", e.Status, e.Type, e.Reason)
}

// IndexState is what Elasticsearch has for one alias.
type IndexState struct {
	// Template is the index template, in the shape of IndexDefinition.Template; nil when there is none.
	Template map[string]any
	// Indices are the flat settings of the indices behind the alias that IndexName named for it, by name.
	Indices map[string]map[string]any
	// DefinitionHashes are the definition hashes of those indices, by name; empty for an index that has none.
	DefinitionHashes map[string]string
	// Leads says how the alias leads to those indices, by name.
	Leads map[string]Lead
	// AliasIsIndex is true when an index has the alias's name.
	AliasIsIndex bool
	// Detached are the indices named for the alias that it does not lead to: those without documents first, then
	// oldest first. They are looked for only when it leads to none that is.
	Detached []string
	// Foreign are the other indices behind the alias, which somebody led it to, in order. The alias is taken away from
	// them; what was written through it until then stays in them.
	Foreign []string
}

// IndexChange is one step from a state to a definition.
type IndexChange struct {
	// Description says what the step does.
	Description string
	method      string
	path        string
	body        map[string]any
}

// PlanIndex returns the steps from the state to the definition, none when they agree. Existing indices keep their
// mapping and shards; only their replicas, refresh interval and delete retention are put right.
func PlanIndex(alias string, def IndexDefinition, state IndexState, now time.Time) ([]IndexChange, error) {
	if state.AliasIsIndex {
		return nil, fmt.Errorf("%w: %s", ErrAliasIsIndex, alias)
	}
	var changes []IndexChange
	want := def.Template(alias)
	if same, err := sameJSON(want, state.Template); err != nil {
		return nil, err
	} else if !same {
		changes = append(changes, IndexChange{
			Description: "put index template " + TemplateName(alias),
			method:      http.MethodPut, path: "/_index_template/" + TemplateName(alias), body: want,
		})
	}
	if mend := straighten(alias, def, state, now); len(mend) > 0 {
		return append(changes, mend...), nil
	}
	if n := len(state.Detached); n > 0 {
		// Somebody removed the alias. The items are still there, and a new index would hide them.
		name := state.Detached[n-1]
		return append(changes, IndexChange{
			Description: "lead alias " + alias + " to index " + name + " again",
			method:      http.MethodPost, path: "/_aliases",
			body: map[string]any{"actions": []any{leadTo(alias, name)}},
		}), nil
	}
	if len(state.Indices) == 0 {
		return append(changes, createIndex(alias, def, now)), nil
	}
	for _, name := range slices.Sorted(maps.Keys(state.Indices)) {
		drift := map[string]any{}
		for _, key := range []string{settingReplicas, settingRefresh, settingDeletes} {
			if !reflect.DeepEqual(state.Indices[name][key], def.Settings[key]) {
				drift[key] = def.Settings[key]
			}
		}
		if len(drift) > 0 {
			changes = append(changes, IndexChange{
				Description: "update settings of index " + name,
				method:      http.MethodPut, path: "/" + name + "/_settings", body: drift,
			})
		}
	}
	return changes, nil
}

// createIndex makes an index behind the alias.
func createIndex(alias string, def IndexDefinition, now time.Time) IndexChange {
	name := def.IndexName(alias, now)
	return IndexChange{
		Description: "create index " + name + " behind alias " + alias,
		method:      http.MethodPut, path: "/" + name,
		// The body repeats the template, so that the index is right even if another template matches its name.
		// Alias and index appear in one step, and Elasticsearch refuses a second write index: of two callers
		// that race, one fails and then finds the other's index.
		body: map[string]any{
			"settings": def.Settings, "mappings": def.Mappings,
			"aliases": map[string]any{alias: map[string]any{"is_write_index": true}},
		},
	}
}

// byCreation has the oldest of the indices that IndexName named first.
func byCreation(a, b string) int {
	created := func(name string) string { return name[strings.LastIndexByte(name, '-')+1:] }
	return cmp.Or(cmp.Compare(created(a), created(b)), cmp.Compare(a, b))
}

// sameJSON compares by encoded form, in which numbers have one type.
func sameJSON(a, b any) (bool, error) {
	x, err := json.Marshal(a)
	if err != nil {
		return false, fmt.Errorf("encode the wanted template: %w", err)
	}
	y, err := json.Marshal(b)
	if err != nil {
		return false, fmt.Errorf("encode the present template: %w", err)
	}
	return bytes.Equal(x, y), nil
}

// ObserveIndex reads what Elasticsearch has for the alias.
func ObserveIndex(ctx context.Context, es elastictransport.Interface, alias string) (IndexState, error) {
	state := IndexState{Indices: map[string]map[string]any{}, DefinitionHashes: map[string]string{}, Leads: map[string]Lead{}}

	var err error
	if state.Template, err = observeTemplate(ctx, es, alias); err != nil {
		return IndexState{}, err
	}

	var indices map[string]struct {
		Aliases  map[string]Lead `json:"aliases"`
		Settings map[string]any  `json:"settings"`
		Mappings struct {
			Meta struct {
				Hash string `json:"definition_hash"`
			} `json:"_meta"`
		} `json:"mappings"`
	}
	err = indexCall(ctx, es, http.MethodGet, "/"+alias+"?flat_settings=true", nil, &indices)
	if err != nil && !isNotFound(err) {
		return IndexState{}, fmt.Errorf("read the indices behind the alias: %w", err)
	}
	for name, index := range indices {
		if name == alias {
			state.AliasIsIndex = true
			continue
		}
		if !isIndexOf(alias, name) {
			state.Foreign = append(state.Foreign, name)
			continue
		}
		state.Indices[name] = index.Settings
		state.DefinitionHashes[name] = index.Mappings.Meta.Hash
		state.Leads[name] = index.Aliases[alias]
	}
	slices.Sort(state.Foreign)
	if len(state.Indices) == 0 && !state.AliasIsIndex {
		if state.Detached, err = detachedIndices(ctx, es, alias); err != nil {
			return IndexState{}, err
		}
	}
	return state, nil
}

// observeTemplate reads the alias's index template; nil when there is none.
func observeTemplate(ctx context.Context, es elastictransport.Interface, alias string) (map[string]any, error) {
	var templates struct {
		List []struct {
			Template map[string]any `json:"index_template"`
		} `json:"index_templates"`
	}
	err := indexCall(ctx, es, http.MethodGet, "/_index_template/"+TemplateName(alias)+"?flat_settings=true", nil, &templates)
	if err != nil && !isNotFound(err) {
		return nil, fmt.Errorf("read the index template: %w", err)
	}
	if len(templates.List) != 1 {
		return nil, nil
	}
	template := templates.List[0].Template
	// Elasticsearch adds this empty list by itself.
	if list, ok := template["composed_of"].([]any); ok && len(list) == 0 {
		delete(template, "composed_of")
	}
	return template, nil
}

// detachedIndices returns the indices that IndexName named for the alias, without one that is being built: most of the items are not there yet. Last
// comes the newest that has documents: one without any may have been left behind.
func detachedIndices(ctx context.Context, es elastictransport.Interface, alias string) ([]string, error) {
	found, err := namedIndices(ctx, es, alias)
	if err != nil {
		return nil, err
	}
	var names []string
	for name, aliases := range found {
		if !isBuilding(name, aliases) {
			names = append(names, name)
		}
	}
	filled := map[string]int{}
	if len(names) > 1 {
		var err error
		if filled, err = filledIndices(ctx, es, alias); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(filled[a], filled[b]), byCreation(a, b))
	})
	return names, nil
}

// namedIndices returns the indices that IndexName named for the alias, with the aliases that lead to them.
func namedIndices(ctx context.Context, es elastictransport.Interface, alias string) (map[string]map[string]struct{}, error) {
	var found map[string]struct {
		Aliases map[string]struct{} `json:"aliases"`
	}
	path := "/" + IndexPattern(alias) + "?filter_path=*.settings.index.uuid,*.aliases"
	if err := indexCall(ctx, es, http.MethodGet, path, nil, &found); err != nil && !isNotFound(err) {
		return nil, fmt.Errorf("look for indices of the alias: %w", err)
	}
	named := make(map[string]map[string]struct{})
	for name, index := range found {
		if isIndexOf(alias, name) {
			named[name] = index.Aliases
		}
	}
	return named, nil
}

// filledIndices has a 1 for each index of the alias's pattern with documents.
func filledIndices(ctx context.Context, es elastictransport.Interface, alias string) (map[string]int, error) {
	var stats struct {
		Indices map[string]struct {
			Primaries struct {
				Docs struct {
					Count int64 `json:"count"`
				} `json:"docs"`
			} `json:"primaries"`
		} `json:"indices"`
	}
	path := "/" + IndexPattern(alias) + "/_stats/docs?filter_path=indices.*.primaries.docs.count"
	if err := indexCall(ctx, es, http.MethodGet, path, nil, &stats); err != nil && !isNotFound(err) {
		return nil, fmt.Errorf("look which indices of the alias have documents: %w", err)
	}
	filled := make(map[string]int, len(stats.Indices))
	for name, index := range stats.Indices {
		filled[name] = int(min(index.Primaries.Docs.Count, 1))
	}
	return filled, nil
}

// ApplyIndex makes one change.
func ApplyIndex(ctx context.Context, es elastictransport.Interface, change IndexChange) error {
	if err := indexCall(ctx, es, change.method, change.path, change.body, nil); err != nil {
		return fmt.Errorf("%s: %w", change.Description, err)
	}
	return nil
}

func isNotFound(err error) bool {
	var api *IndexAPIError
	return errors.As(err, &api) && api.Status == http.StatusNotFound
}

func indexCall(ctx context.Context, es elastictransport.Interface, method, path string, body, out any) error {
	var payload io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("encode the request: %w", err)
		}
		payload = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, path, payload)
	if err != nil {
		return fmt.Errorf("make the request: %w", err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := es.Perform(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode >= http.StatusBadRequest {
		return decodeIndexError(res)
	}
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(res.Body).Decode(out); err != nil {
		return fmt.Errorf("decode elasticsearch's answer: %w", err)
	}
	return nil
}

func decodeIndexError(res *http.Response) error {
	failure := &IndexAPIError{Status: res.StatusCode}
	raw, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if err != nil {
		return failure
	}
	var doc struct {
		Error struct {
			Type   string `json:"type"`
			Reason string `json:"reason"`
		} `json:"error"`
	}
	// An answer without this document (a proxy's page, HEAD) leaves the status alone to speak.
	if json.Unmarshal(raw, &doc) == nil {
		failure.Type = doc.Error.Type
		failure.Reason = strings.TrimSpace(doc.Error.Reason)
	}
	return failure
}
