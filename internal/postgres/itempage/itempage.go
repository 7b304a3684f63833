// Package itempage reads pages of the items that a user can see: in four orders, with any filters, by keyset. Its statements are built from the
// filters that are there, so that each has the plan that fits them; values are always parameters.
package itempage

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Sort is the order of a list.
type Sort string

// The orders. Newest and Oldest go by id, which is made from the time of creation.
const (
	Newest  Sort = "newest"
	Oldest  Sort = "oldest"
	Updated Sort = "updated"
	Title   Sort = "title"
)

// Filter says which items a list has. What is absent does not matter.
type Filter struct {
	Collection *uuid.UUID
	// Tags that an item must have, all of them; each once.
	Tags      []string
	Author    *uuid.UUID
	HasSource *bool
	// The After bounds are inclusive, the Before bounds are not.
	CreatedAfter, CreatedBefore, UpdatedAfter, UpdatedBefore *time.Time
}

// Position is where a page ended. Which of Time and Title counts depends on the order.
type Position struct {
	ID uuid.UUID
	// Time is the last item's time of change, for Updated.
	Time time.Time
	// Title is the last item's Row.SortTitle, for Title.
	Title string
}

// Query asks for one page.
type Query struct {
	User uuid.UUID
	Filter
	Sort Sort
	// After is nil for the first page.
	After *Position
	Size  int32
}

// Row is an item of a page, without its text.
type Row struct {
	ID             uuid.UUID
	CollectionID   uuid.UUID
	Title          string
	SourceURL      *string
	Version        int64
	CreatedBy      uuid.UUID
	UpdatedBy      uuid.UUID
	CreatedAt      time.Time
	UpdatedAt      time.Time
	Role           string
	Tags           []string
	IndexedVersion int64
	// FailedVersion is the newest version that the index refused; 0 when there is none.
	FailedVersion int64
	// SortTitle is what Title sorts by; empty in other orders.
	SortTitle string
}

// Position is where a page ends that ends with this row.
func (r Row) Position() Position {
	return Position{ID: r.ID, Time: r.UpdatedAt, Title: r.SortTitle}
}

// Conn is a pool, a connection or a transaction.
type Conn interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// Read returns a page. Its cost depends on the number of the user's collections and the size of the page, not on the number of items, where an
// index has the order and the filter. For what no index has, see choose.
func Read(ctx context.Context, conn Conn, q Query) ([]Row, error) {
	way, err := choose(ctx, conn, q)
	if err != nil {
		return nil, err
	}
	sql, args := pageStatement(q, way)
	rows, err := conn.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("read a page of items: %w", err)
	}
	page, err := pgx.CollectRows(rows, scan)
	if err != nil {
		return nil, fmt.Errorf("read a page of items: %w", err)
	}
	return page, nil
}

func scan(row pgx.CollectableRow) (r Row, err error) {
	err = row.Scan(&r.ID, &r.CollectionID, &r.Title, &r.SourceURL, &r.Version, &r.CreatedBy, &r.UpdatedBy, &r.CreatedAt, &r.UpdatedAt, &r.Role,
		&r.Tags, &r.IndexedVersion, &r.FailedVersion, &r.SortTitle)
	return r, err
}
