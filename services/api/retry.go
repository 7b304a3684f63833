package api

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/atlas-platform/atlas/internal/pause"
	"github.com/atlas-platform/atlas/internal/postgres"
)

// How often a write that lost a race is made again, and how long it waits at most before.
const (
	raceAttempts = 4
	raceWait     = 20 * time.Millisecond
)

// retried makes a write again that lost a race: a deadlock, a row that somebody else deleted while it was referred to, a source that somebody
// else's item got, a name that somebody else's tag got. work must start from scratch each time; inside a transaction, that means with a new transaction.
func retried[T any](ctx context.Context, work func() (T, error)) (out T, err error) {
	for attempt := range raceAttempts {
		if out, err = work(); !raced(err) {
			return out, err
		}
		if attempt == raceAttempts-1 {
			break
		}
		if err := pause.For(ctx, rand.N(raceWait)); err != nil { //nolint:gosec // it only keeps two losers apart
			return out, fmt.Errorf("wait for another attempt: %w", err)
		}
	}
	return out, fmt.Errorf("%w: %w", unavailable("others are changing the same things: try again"), err)
}

func raced(err error) bool {
	if postgres.LostRace(err) {
		return true
	}
	var refused *pgconn.PgError
	return errors.As(err, &refused) && refused.Code == "23505" && // unique
		(refused.ConstraintName == "items_source_key" || refused.ConstraintName == "tags_collection_id_name_key")
}
