package itempage_test

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/postgres/itempage"
	"github.com/atlas-platform/atlas/internal/postgres/pgtest"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// world is random data and what is needed to list it without a database.
type world struct {
	random      *rand.Rand
	users       []uuid.UUID // the first is a member of every collection but the last
	collections []uuid.UUID
	tags        []string
	items       []item
}

type item struct {
	itempage.Row
	deleted bool
}

func newWorld(seed uint64, items int) *world {
	w := &world{random: rand.New(rand.NewPCG(seed, 0)), tags: []string{"common", "half", "rare", "Rare", "ü"}}
	for range 3 {
		w.users = append(w.users, uuid.New())
	}
	for range 5 {
		w.collections = append(w.collections, uuid.New())
	}
	for i := range items {
		created := epoch.Add(time.Duration(w.random.IntN(items/2)) * time.Second) // often the same moment
		if w.random.IntN(30) == 0 {                                               // as an import may say; a UUIDv7 can't
			created = created.AddDate(-80, 0, 0)
		}
		it := item{deleted: w.random.IntN(10) == 0, Row: itempage.Row{
			ID: w.id(created), CollectionID: pick(w, w.collections), Title: w.title(), Version: 1, CreatedBy: pick(w, w.users), UpdatedBy: pick(w, w.users),
			CreatedAt: created.Add(time.Duration(w.random.IntN(2000)) * time.Microsecond), Role: "viewer", Tags: []string{},
		}}
		it.UpdatedAt = it.CreatedAt.Add(time.Duration(w.random.IntN(3)) * time.Duration(w.random.IntN(items)) * time.Second)
		if w.random.IntN(20) == 0 {
			url := fmt.Sprintf("https://example.com/%d", i)
			it.SourceURL = &url
		}
		for n, tag := range w.tags {
			if w.random.IntN([]int{1, 2, 40, 40, 3}[n]) == 0 {
				it.Tags = append(it.Tags, tag)
			}
		}
		slices.Sort(it.Tags)
		w.items = append(w.items, it)
	}
	return w
}

func pick[T any](w *world, from []T) T { return from[w.random.IntN(len(from))] }

// id is a UUIDv7 of about this moment.
func (w *world) id(at time.Time) uuid.UUID {
	id := uuid.Must(uuid.NewV7())
	ms := max(at.Add(time.Duration(w.random.IntN(3000)-1500)*time.Millisecond).UnixMilli(), 0)
	for i := range 6 {
		id[i] = byte(ms >> (8 * (5 - i)))
	}
	w.random.Uint64()
	return id
}

// title is often the same, in any case, and sometimes long: a cursor has to carry it.
func (w *world) title() string {
	switch w.random.IntN(10) {
	case 0:
		return strings.Repeat(pick(w, []string{"<&>", "𝄞é ", "\x01\u2028"}), 100) + pick(w, []string{"a", "B"})
	case 1:
		return pick(w, []string{"𝄞", "ﬁ", "~", "!", "Z", "z", "_", " "})
	default:
		return pick(w, []string{"a", "A", "b", "B"}) + pick(w, []string{"", "a", "A", "1"})
	}
}

func (w *world) store(ctx context.Context, t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	batch := &pgx.Batch{}
	for _, id := range w.users {
		batch.Queue("INSERT INTO users (id, email, password_hash) VALUES ($1, $2, '')", id, id.String())
	}
	for i, id := range w.collections {
		batch.Queue("INSERT INTO collections (id, name, created_by) VALUES ($1, '', $2)", id, w.users[0])
		if i < len(w.collections)-1 {
			batch.Queue("INSERT INTO memberships (id, collection_id, user_id, role) VALUES ($1, $2, $3, 'viewer')", uuid.New(), id, w.users[0])
		}
		for _, tag := range w.tags {
			batch.Queue("INSERT INTO tags (id, collection_id, name) VALUES ($1, $2, $3)", uuid.New(), id, tag)
		}
	}
	for _, it := range w.items {
		var deleted *time.Time
		if it.deleted {
			deleted = &epoch
		}
		batch.Queue(`INSERT INTO items (id, collection_id, title, source_url, created_by, updated_by, created_at, updated_at, deleted_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
			it.ID, it.CollectionID, it.Title, it.SourceURL, it.CreatedBy, it.UpdatedBy, it.CreatedAt, it.UpdatedAt, deleted)
		batch.Queue("INSERT INTO item_tags SELECT $1, id FROM tags WHERE collection_id = $2 AND name = ANY($3)", it.ID, it.CollectionID, it.Tags)
	}
	require.NoError(t, pool.SendBatch(ctx, batch).Close())
	_, err := pool.Exec(ctx, "ANALYZE")
	require.NoError(t, err)
}

func (w *world) filter() (f itempage.Filter) {
	maybe := func(n int) bool { return w.random.IntN(n) == 0 }
	moment := func() *time.Time {
		at := epoch.Add(time.Duration(w.random.IntN(len(w.items)*1000)) * time.Millisecond)
		if maybe(3) {
			at = pick(w, w.items).CreatedAt
		}
		if maybe(5) && at.Year() > 2000 {
			at = at.AddDate(-80, 0, 0)
		}
		return &at
	}
	if maybe(3) {
		id := pick(w, w.collections)
		f.Collection = &id
	}
	for _, tag := range append([]string{"unknown"}, w.tags...) {
		if maybe(6) {
			f.Tags = append(f.Tags, tag)
		}
	}
	if maybe(4) {
		id := pick(w, append([]uuid.UUID{uuid.New()}, w.users...))
		f.Author = &id
	}
	if maybe(4) {
		has := maybe(2)
		f.HasSource = &has
	}
	for _, bound := range []**time.Time{&f.CreatedAfter, &f.CreatedBefore, &f.UpdatedAfter, &f.UpdatedBefore} {
		if maybe(7) {
			*bound = moment()
		}
	}
	return f
}

// list is what the whole list must be.
func (w *world) list(f itempage.Filter, sort itempage.Sort) []uuid.UUID {
	var found []item
	for _, it := range w.items {
		if !it.deleted && it.CollectionID != w.collections[len(w.collections)-1] && fits(it, f) {
			found = append(found, it)
		}
	}
	slices.SortFunc(found, func(a, b item) int {
		byID := bytes.Compare(a.ID[:], b.ID[:])
		switch sort {
		case itempage.Oldest:
			return byID
		case itempage.Updated:
			return cmp.Or(b.UpdatedAt.Compare(a.UpdatedAt), -byID)
		case itempage.Title:
			return cmp.Or(strings.Compare(strings.ToLower(a.Title), strings.ToLower(b.Title)), byID)
		default:
			return -byID
		}
	})
	ids := []uuid.UUID{}
	for _, it := range found {
		ids = append(ids, it.ID)
	}
	return ids
}

func fits(it item, f itempage.Filter) bool {
	for _, tag := range f.Tags {
		if !slices.Contains(it.Tags, tag) {
			return false
		}
	}
	return (f.Collection == nil || it.CollectionID == *f.Collection) &&
		(f.Author == nil || it.CreatedBy == *f.Author) &&
		(f.HasSource == nil || (it.SourceURL != nil) == *f.HasSource) &&
		(f.CreatedAfter == nil || !it.CreatedAt.Before(*f.CreatedAfter)) &&
		(f.CreatedBefore == nil || it.CreatedAt.Before(*f.CreatedBefore)) &&
		(f.UpdatedAfter == nil || !it.UpdatedAt.Before(*f.UpdatedAfter)) &&
		(f.UpdatedBefore == nil || it.UpdatedAt.Before(*f.UpdatedBefore))
}

// TestPagesAreTheList walks the pages of random lists and compares them with the list that a program without a database makes. The second
// world is large enough for filters that are not gathered.
func TestPagesAreTheList(t *testing.T) {
	t.Parallel()
	for name, size := range map[string]struct{ items, lists, longest int }{"small": {300, 400, 40}, "large": {6000, 40, 3000}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			seed := rand.Uint64()
			t.Log("seed", seed)
			w, pool := newWorld(seed, size.items), pgtest.New(t)
			w.store(t.Context(), t, pool)
			rows := make(map[uuid.UUID]itempage.Row, len(w.items))
			for _, it := range w.items {
				rows[it.ID] = it.Row
			}
			for range size.lists {
				sort := pick(w, []itempage.Sort{itempage.Newest, itempage.Oldest, itempage.Updated, itempage.Title})
				q := itempage.Query{User: w.users[0], Filter: w.filter(), Sort: sort}
				got := []uuid.UUID{}
				for {
					q.Size = int32(1 + w.random.IntN(size.longest))
					page, err := itempage.Read(t.Context(), pool, q)
					require.NoError(t, err)
					for _, row := range page {
						row.SortTitle = ""
						row.CreatedAt, row.UpdatedAt = row.CreatedAt.UTC(), row.UpdatedAt.UTC()
						require.Equal(t, rows[row.ID], row)
						got = append(got, row.ID)
					}
					if len(page) < int(q.Size) {
						break
					}
					end := page[len(page)-1].Position()
					q.After = &end
				}
				require.Equal(t, w.list(q.Filter, sort), got, "%s %+v", sort, q.Filter)
			}
		})
	}
}
