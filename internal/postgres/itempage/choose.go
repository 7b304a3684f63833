package itempage

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// gatherLimit is how many items a filter may have at most for them to be read one and all and sorted.
const gatherLimit = 2000

// driver is a filter that has an index of its own.
type driver int

// The drivers. One of the tags is tagDriver plus its place in Filter.Tags.
const (
	noDriver driver = iota
	authorDriver
	sourceDriver
	createdDriver
	updatedDriver
	tagDriver
)

// way is how a page is read: along an index that has the order, or by gathering the items of a filter that has few.
type way struct {
	driver driver
	gather bool
}

// choose finds the way to read a page. Where an index has the order and the filter, or there is no filter, the page is read along it. For other
// combinations it looks which filter has the fewest items. Are they few, they are gathered; else an index is walked and what does not fit is
// skipped, which is rarely much, as every filter then lets many items through.
func choose(ctx context.Context, conn Conn, q Query) (way, error) {
	byID := q.Sort == Newest || q.Sort == Oldest
	drivers := q.drivers()
	var apart []driver // from the bounds of the order's own index
	for _, d := range drivers {
		if (d == createdDriver && byID) || (d == updatedDriver && q.Sort == Updated) {
			continue
		}
		apart = append(apart, d)
	}
	if len(apart) == 0 {
		return way{}, nil
	}
	if byID && len(apart) == 1 && apart[0] != updatedDriver {
		return way{driver: apart[0]}, nil
	}
	counts, err := countUpTo(ctx, conn, q, drivers)
	if err != nil {
		return way{}, err
	}
	best, fewest := noDriver, int64(gatherLimit+1)
	walkable, fewestWalkable := noDriver, int64(gatherLimit+2)
	for i, d := range drivers {
		if counts[i] < fewest {
			best, fewest = d, counts[i]
		}
		if d != createdDriver && d != updatedDriver && counts[i] < fewestWalkable {
			walkable, fewestWalkable = d, counts[i]
		}
	}
	switch {
	case best != noDriver:
		return way{driver: best, gather: true}, nil
	case byID:
		return way{driver: walkable}, nil
	default:
		return way{}, nil
	}
}

func (q Query) drivers() []driver {
	var drivers []driver
	for i := range q.Tags {
		drivers = append(drivers, tagDriver+driver(i))
	}
	if q.Author != nil {
		drivers = append(drivers, authorDriver)
	}
	if q.HasSource != nil {
		drivers = append(drivers, sourceDriver)
	}
	if q.CreatedAfter != nil || q.CreatedBefore != nil {
		drivers = append(drivers, createdDriver)
	}
	if q.UpdatedAfter != nil || q.UpdatedBefore != nil {
		drivers = append(drivers, updatedDriver)
	}
	return drivers
}

// countUpTo counts what each driver finds, to just above gatherLimit.
func countUpTo(ctx context.Context, conn Conn, q Query, drivers []driver) ([]int64, error) {
	s := &statement{query: q}
	user := s.bind(q.User)
	parts := make([]string, len(drivers))
	for i, d := range drivers {
		parts[i] = fmt.Sprintf("SELECT %d AS place, count(*) FROM (SELECT 1 FROM %s CROSS JOIN LATERAL (%s LIMIT %d) AS found%s LIMIT %[4]d) AS capped",
			i, s.scope(d), s.found(d), gatherLimit+1, s.scopeWhere(user))
	}
	rows, err := conn.Query(ctx, strings.Join(parts, " UNION ALL ")+" ORDER BY place", s.args...)
	if err != nil {
		return nil, fmt.Errorf("count what the filters find: %w", err)
	}
	counts, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (n int64, err error) {
		var place int
		err = row.Scan(&place, &n)
		return n, err
	})
	if err != nil {
		return nil, fmt.Errorf("count what the filters find: %w", err)
	}
	return counts, nil
}
