package elastic

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/elastic/go-elasticsearch/v8"
)

// ensureAttempts bounds how often EnsureIndex looks again after it lost a race.
const ensureAttempts = 3

// EnsureIndex makes sure that the index template, at least one index, and the alias exist and are as Params ask. It changes
// nothing when they are, and callers may race: they end with one index. It fails with ErrAliasIsIndex or an *IndexAPIError.
func EnsureIndex(ctx context.Context, es *elasticsearch.Client, alias string, p Params) error {
	def, err := Definition(p)
	if err != nil {
		return err
	}
	var lost error
	for range ensureAttempts {
		state, err := ObserveIndex(ctx, es, alias)
		if err != nil {
			return err
		}
		changes, err := PlanIndex(alias, def, state, time.Now())
		if err != nil {
			return err
		}
		if lost = applyIndexChanges(ctx, es, changes); lost == nil {
			return nil
		}
		var refused *IndexAPIError
		if !errors.As(lost, &refused) {
			return lost
		}
	}
	return fmt.Errorf("ensure index %s: %w", alias, lost)
}

func applyIndexChanges(ctx context.Context, es *elasticsearch.Client, changes []IndexChange) error {
	for _, change := range changes {
		if err := ApplyIndex(ctx, es, change); err != nil {
			return err
		}
	}
	return nil
}
