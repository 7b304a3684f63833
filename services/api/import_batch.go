package api

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/atlas-platform/atlas/internal/event"
	"github.com/atlas-platform/atlas/internal/postgres/db"
)

// importTurns is how many items a collection may have had, one after the other, that came from the same line.
const importTurns = 8

// write stores the batch in one transaction and returns how many items are new.
func (x *importer) write(ctx context.Context) (int, error) {
	ctx, cancel := within(ctx)
	defer cancel()
	return retried(ctx, func() (created int, err error) {
		err = x.server.write(ctx, func(q *db.Queries) error {
			created, err = x.writeIn(ctx, q)
			return err
		})
		return created, err
	})
}

func (x *importer) writeIn(ctx context.Context, q *db.Queries) (int, error) {
	if err := q.LockCollectionForImport(ctx, x.collection); err != nil {
		return 0, fmt.Errorf("lock the collection: %w", err)
	}
	if err := stillCounts(ctx, q); err != nil {
		return 0, err
	}
	if err := x.mayImport(ctx, q, x.collection); err != nil {
		return 0, err
	}
	if err := x.identify(ctx, q); err != nil {
		return 0, err
	}
	inserted, err := x.insert(ctx, q)
	if err != nil || len(inserted) == 0 {
		return 0, err
	}
	if err := x.tag(ctx, q, inserted); err != nil {
		return 0, err
	}
	return len(inserted), x.announce(ctx, q, inserted)
}

// identify chooses the ids. One that comes with an id and a time of creation always gets the same, so that it is imported once, however often it is
// sent. While that id is in the trash or in another collection, it is the next one of a series.
func (x *importer) identify(ctx context.Context, q *db.Queries) error {
	var open []int
	candidates := make(map[int]uuid.UUID)
	for i := range x.batch {
		item := &x.batch[i]
		item.stored = uuid.Nil
		switch {
		case item.ID != uuid.Nil:
			open = append(open, i)
		case item.CreatedAt.IsZero() && item.UpdatedAt.IsZero():
			var err error
			if item.stored, err = newID(); err != nil { // in the order in which they come
				return err
			}
		default:
			item.stored = randomID(x.creation(item))
		}
	}
	for turn := 0; len(open) > 0 && turn < importTurns; turn++ {
		ids := make([]uuid.UUID, 0, 2*len(open))
		for _, i := range open {
			item := &x.batch[i]
			if turn == 0 {
				ids = append(ids, item.ID)
			}
			if !item.CreatedAt.IsZero() {
				candidates[i] = derivedID(x.collection, item.ID, item.CreatedAt, turn)
				ids = append(ids, candidates[i])
			}
		}
		taken, err := q.TakenIDs(ctx, x.collection, ids)
		if err != nil {
			return fmt.Errorf("look for items that are there already: %w", err)
		}
		here := make(map[uuid.UUID]bool, len(taken)) // present and false: taken elsewhere
		for _, row := range taken {
			here[row.ID] = row.Here
		}
		open = slices.DeleteFunc(open, func(i int) bool { return x.decide(&x.batch[i], candidates[i], here) })
	}
	for _, i := range open {
		x.batch[i].stored = randomID(x.creation(&x.batch[i]))
	}
	return nil
}

// decide returns whether the item needs no further look.
func (x *importer) decide(item *importedItem, candidate uuid.UUID, here map[uuid.UUID]bool) bool {
	isHere, taken := here[candidate]
	switch {
	case here[item.ID], isHere:
	case candidate == uuid.Nil:
		item.stored = randomID(x.creation(item))
	case taken:
		return false
	default:
		item.stored = candidate
	}
	return true
}

// creation is when the item was made: when it says nothing else, when it changed, or now.
func (x *importer) creation(item *importedItem) time.Time {
	switch {
	case !item.CreatedAt.IsZero():
		return item.CreatedAt
	case !item.UpdatedAt.IsZero():
		return item.UpdatedAt
	default:
		return x.now()
	}
}

func (x *importer) insert(ctx context.Context, q *db.Queries) (map[uuid.UUID]*importedItem, error) {
	rows := db.ImportItemsParams{CollectionID: x.collection, UserID: caller(ctx).id()}
	items := make(map[uuid.UUID]*importedItem, len(x.batch))
	for i := range x.batch {
		item := &x.batch[i]
		if _, twice := items[item.stored]; twice || item.stored == uuid.Nil {
			continue
		}
		items[item.stored] = item
		created, updated, source := x.creation(item), item.UpdatedAt, ""
		if updated.IsZero() {
			updated = created
		}
		if item.SourceURL != nil {
			source = *item.SourceURL
		}
		rows.Ids, rows.Titles, rows.Contents = append(rows.Ids, item.stored), append(rows.Titles, item.Title), append(rows.Contents, item.Content)
		rows.SourceUrls, rows.SourceKeys = append(rows.SourceUrls, source), append(rows.SourceKeys, sourceKeyOf(item.SourceURL))
		rows.Metadatas = append(rows.Metadatas, string(item.metadata))
		rows.CreatedAts, rows.UpdatedAts = append(rows.CreatedAts, created), append(rows.UpdatedAts, updated)
	}
	if len(items) == 0 {
		return nil, nil
	}
	ids, err := q.ImportItems(ctx, rows)
	if err != nil {
		return nil, fmt.Errorf("import items: %w", err)
	}
	inserted := make(map[uuid.UUID]*importedItem, len(ids))
	for _, id := range ids {
		inserted[id] = items[id]
	}
	return inserted, nil
}

func (x *importer) tag(ctx context.Context, q *db.Queries, inserted map[uuid.UUID]*importedItem) error {
	pairs := db.ImportItemTagsParams{CollectionID: x.collection}
	names := make(map[string]bool)
	for id, item := range inserted {
		for _, tag := range item.Tags {
			pairs.ItemIds, pairs.ItemTags = append(pairs.ItemIds, id), append(pairs.ItemTags, tag)
			names[tag] = true
		}
	}
	if len(names) == 0 {
		return nil
	}
	pairs.Tags = slices.Sorted(maps.Keys(names))
	var err error
	if pairs.TagIds, err = newIDs(len(pairs.Tags)); err != nil {
		return err
	}
	if err := q.ImportItemTags(ctx, pairs); err != nil {
		return fmt.Errorf("tag the imported items: %w", err)
	}
	return nil
}

// announce emits an event for each new item, in the order of the batch.
func (x *importer) announce(ctx context.Context, q *db.Queries, inserted map[uuid.UUID]*importedItem) error {
	at := x.now()
	rows := make([]db.InsertOutboxManyParams, 0, len(inserted))
	for i := range x.batch {
		item := &x.batch[i]
		if inserted[item.stored] != item {
			continue
		}
		head := db.GetItemHeadRow{ID: item.stored, CollectionID: x.collection, SourceUrl: item.SourceURL, Version: 1}
		row, err := headEvent(ctx, event.ItemCreated, head, at, everyField())
		if err != nil {
			return err
		}
		rows = append(rows, row)
	}
	if _, err := q.InsertOutboxMany(ctx, rows); err != nil {
		return fmt.Errorf("write the events of an import: %w", err)
	}
	return nil
}

// derivedID is the UUIDv7 that an item of this id and time always gets in this collection.
func derivedID(collection, id uuid.UUID, created time.Time, turn int) uuid.UUID {
	hash := sha256.New()
	hash.Write(collection[:])
	hash.Write(id[:])
	hash.Write([]byte{byte(turn)}) //nolint:gosec // below importTurns
	return idOf(created, hash.Sum(nil))
}

func randomID(created time.Time) uuid.UUID {
	var noise [16]byte
	_, _ = rand.Read(noise[:]) // never fails: it ends the program instead
	return idOf(created, noise[:])
}

// idOf makes a UUIDv7 (RFC 9562) of a time, in which 1970 is the first year, and 16 bytes of anything.
func idOf(created time.Time, noise []byte) (id uuid.UUID) {
	copy(id[:], noise)
	ms := max(created.UnixMilli(), 0)
	for i := 5; i >= 0; i-- {
		id[i] = byte(ms)
		ms >>= 8
	}
	id[6], id[8] = 0x70|id[6]&0x0f, 0x80|id[8]&0x3f
	return id
}
