package elastic

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Lead is how an alias leads to an index.
type Lead struct {
	// Write is true when the index gets what is written to the alias, whatever else is behind it.
	Write bool `json:"is_write_index"`
	// Filter hides documents that do not match.
	Filter map[string]any `json:"filter"`
	// IndexRouting puts what is written into one shard, and SearchRouting looks for it in some only.
	IndexRouting  string `json:"index_routing"`
	SearchRouting string `json:"search_routing"`
}

// whole reports whether the alias leads to all of the index, and what is written to it too: as Atlas makes it.
func (l Lead) whole() bool {
	return l.Write && l.Filter == nil && l.IndexRouting == "" && l.SearchRouting == ""
}

// leadTo is the action that makes an alias lead to an index so.
func leadTo(alias, index string) any {
	return map[string]any{"add": map[string]any{"index": index, "alias": alias, "is_write_index": true}}
}

// straighten has the alias lead to one index of its own, as a whole; none when it does, or leads to no index at all. Where none of its own has what
// was written, a new one takes their place, which is filled from the truth. No index is made before its alias can lead to it: whoever loses a race
// would leave one without items behind. For a moment the alias leads nowhere, and search does without it.
func straighten(alias string, def IndexDefinition, state IndexState, now time.Time) []IndexChange {
	kept := state.kept()
	own := slices.Sorted(maps.Keys(state.Indices))
	actions := state.abandon(alias)
	for _, name := range own {
		remove := map[string]any{"remove": map[string]any{"index": name, "alias": alias, "must_exist": true}}
		switch {
		case kept == "":
			actions = append(actions, map[string]any{"remove_index": map[string]any{"index": name}})
		case name != kept:
			actions = append(actions, remove) // it may be somebody's copy, and stays
		case !state.Leads[name].whole():
			// A rebuild may have led the alias on by now: then this fails, and does not lead it back.
			actions = append(actions, remove, leadTo(alias, name))
		}
	}
	if len(actions) == 0 {
		return nil
	}
	change := IndexChange{method: http.MethodPost, path: "/_aliases", body: map[string]any{"actions": actions}}
	if kept != "" {
		change.Description = "lead alias " + alias + " to all of index " + kept + ", and to no other"
		return []IndexChange{change}
	}
	change.Description = "lead alias " + alias + " away from index " + strings.Join(slices.Concat(state.Foreign, own), ", ")
	return []IndexChange{change, createIndex(alias, def, now)}
}

// kept is the one of its own indices that the alias goes on leading to: the one that gets what is written to it, or the newest while nothing can be
// written. There is none when what was written went to a foreign index meanwhile, or by a routing into a shard where nobody looks for it: each would
// lack it.
func (s IndexState) kept() string {
	newest, lacking := "", len(s.Foreign) > 0
	for _, name := range slices.SortedFunc(maps.Keys(s.Indices), byCreation) {
		lead := s.Leads[name]
		if lead.Write && lead.IndexRouting == "" {
			return name
		}
		newest, lacking = name, lacking || lead.IndexRouting != ""
	}
	if lacking {
		return ""
	}
	return newest
}

// abandon takes the alias away from the foreign indices, and removes those that it led to before. Without a foreign one there are none of either.
// All of it fails when somebody else was faster.
func (s IndexState) abandon(alias string) (actions []any) {
	if len(s.Foreign) == 0 {
		return nil
	}
	for _, name := range s.Foreign {
		actions = append(actions, map[string]any{"remove": map[string]any{"index": name, "alias": alias, "must_exist": true}})
	}
	for _, name := range s.Detached {
		actions = append(actions, map[string]any{"remove_index": map[string]any{"index": name}})
	}
	return actions
}
