// Package template keeps the index template, the first index and the alias of an AtlasStack in Elasticsearch: it observes
// them, plans the difference with the shared definition in internal/elastic, and applies it. An index is deleted by Drop, and one that the alias led to
// before somebody led it elsewhere: a new one takes its place.
package template

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/apply"
	"github.com/atlas-platform/atlas/internal/elastic"
)

// Admin is the part of Elasticsearch's administration that this package uses. Its errors are *apply.Waiting or
// *apply.Stalled where the caller can name the cause.
type Admin interface {
	Observe(ctx context.Context, alias string) (elastic.IndexState, error)
	Apply(ctx context.Context, change elastic.IndexChange) error
	// ClusterUUID is the identity that the Elasticsearch gives itself; empty for one that does not tell this user.
	ClusterUUID(ctx context.Context) (string, error)
	// Drop deletes every index of the alias, and its index template. What is gone already is no error.
	Drop(ctx context.Context, alias string) error
	Close()
}

// Target says where Elasticsearch is and who asks.
type Target struct {
	Addresses []string
	// CloudID is a deployment on Elastic Cloud, instead of addresses.
	CloudID string
	// CA are the certificates that the nodes' are checked with, in PEM; without them, the system's are.
	CA                 []byte
	Username, Password string
	// APIKey wins over the user.
	APIKey string
}

// Connect opens an Admin.
type Connect func(ctx context.Context, target Target) (Admin, error)

// settleAfter is when to look again after a change.
const settleAfter = 500 * time.Millisecond

// Ensure brings template, index and alias to the definition. The text says what is there when nothing is left to do.
func Ensure(ctx context.Context, admin Admin, alias string, params elastic.Params) (string, error) {
	def, err := elastic.Definition(params)
	if err != nil {
		return "", err
	}
	state, err := admin.Observe(ctx, alias)
	if err != nil {
		return "", err
	}
	changes, err := elastic.PlanIndex(alias, def, state, time.Now())
	if errors.Is(err, elastic.ErrAliasIsIndex) {
		return "", &apply.Stalled{Reason: v1alpha1.ReasonForbiddenChange, Message: fmt.Sprintf(
			"an index is named %s, which must be an alias: delete that index (its contents can be indexed again), or choose another elasticsearch.index.alias in a new AtlasStack", alias)}
	}
	if err != nil {
		return "", err
	}
	for _, change := range changes {
		if err := admin.Apply(ctx, change); err != nil {
			return "", err
		}
	}
	if len(changes) > 0 {
		return "", &apply.Waiting{
			Reason: v1alpha1.ReasonProgressing, After: settleAfter,
			Message: changes[len(changes)-1].Description + ": done; checking",
		}
	}
	return describe(alias, def, state)
}

// describe says what is behind the alias. Neither a mapping nor the ranking of an index that has items can be changed: an index that has others is
// rebuilt by a job, and serves until then.
func describe(alias string, def elastic.IndexDefinition, state elastic.IndexState) (string, error) {
	names := slices.Sorted(maps.Keys(state.Indices))
	text := fmt.Sprintf("alias %s leads to %s", alias, strings.Join(names, ", "))
	for _, name := range names {
		if state.DefinitionHashes[name] != def.Hash {
			return "", &apply.Outdated{
				Reason: v1alpha1.ReasonReindexRequired, Index: name, Hash: def.Hash,
				Message: fmt.Sprintf("%s, which has another mapping, ranking or number of shards than asked for; search works. ", text) +
					"Create an AtlasJob with type: reindex and reindex: {}, or set elasticsearch.reindexPolicy to Automatic",
			}
		}
	}
	return text, nil
}
