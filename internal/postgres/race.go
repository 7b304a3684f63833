package postgres

import (
	"errors"

	"github.com/jackc/pgx/v5/pgconn"
)

// LostRace tells of an error that a transaction lost to somebody else's, so that the same work may succeed in a new one: a serialization failure, a
// deadlock, or a row that was deleted while it was referred to.
func LostRace(err error) bool {
	var refused *pgconn.PgError
	if !errors.As(err, &refused) {
		return false
	}
	return refused.Code == "40001" || refused.Code == "40P01" || refused.Code == "23503"
}
