package api

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
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
		select {
		case <-ctx.Done():
			return out, fmt.Errorf("wait for another attempt: %w", ctx.Err())
		case <-time.After(rand.N(raceWait)): //nolint:gosec // it only keeps two losers apart
		}
	}
	return out, fmt.Errorf("%w: %w", unavailable("others are changing the same things: try again"), err)
}

func raced(err error) bool {
	var postgresError *pgconn.PgError
	if !errors.As(err, &postgresError) {
		return false
	}
	switch postgresError.Code {
	case "40001", "40P01", "23503": // serialization failure, deadlock, foreign key
		return true
	case "23505": // unique
		return postgresError.ConstraintName == "items_source_key" || postgresError.ConstraintName == "tags_collection_id_name_key"
	default:
		return false
	}
}
