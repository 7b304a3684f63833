package transfer

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
	"github.com/atlas-platform/atlas/internal/postgres"
	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/internal/sourceurl"
)

// turns is how many items a collection may have had, one after the other, that came from the same record.
const turns = 8

// Importer stores items in a collection.
type Importer struct {
	Collection uuid.UUID
	// Author is the items' author, Actor that of their events.
	Author uuid.UUID
	Actor  *uuid.UUID
	// Trace is the id of the request's trace; nil when there is none.
	Trace *string
	// File, when set, identifies the file that the records come from, and Uploaded is when it was. An item that says nothing of itself gets an id that
	// follows from these and the number of its record, so that it too is imported once, however often its file is.
	File     string
	Uploaded time.Time
}

// Write stores a batch in the transaction of q, whose first statement locked the collection, and returns how many items are new. What is there already,
// by its id or its source, stays as it is.
func (x *Importer) Write(ctx context.Context, q *db.Queries, batch []Item, now time.Time) (created int, err error) {
	inserted, err := x.write(ctx, q, batch, now)
	if err != nil || len(inserted) == 0 {
		return 0, err
	}
	if err := x.tag(ctx, q, inserted); err != nil {
		return 0, err
	}
	return len(inserted), x.announce(ctx, q, batch, inserted, now)
}

// Try is Write without tags and events, for a transaction that is rolled back.
func (x *Importer) Try(ctx context.Context, q *db.Queries, batch []Item, now time.Time) (created int, err error) {
	inserted, err := x.write(ctx, q, batch, now)
	return len(inserted), err
}

func (x *Importer) write(ctx context.Context, q *db.Queries, batch []Item, now time.Time) (map[uuid.UUID]*Item, error) {
	if x.Author == uuid.Nil {
		return nil, errNoActor
	}
	if err := x.identify(ctx, q, batch, now); err != nil {
		return nil, err
	}
	return x.insert(ctx, q, batch, now)
}

// identity is what the ids follow from that an item may get.
type identity struct {
	seed    [sha256.Size]byte
	created time.Time
	number  int64 // keeps items in order that have the same time; 0 for none
}

// identify chooses the ids. One that comes with an id and a time of creation always gets the same, so that it is imported once, however often it is
// sent. While that id is in the trash or in another collection, it is the next one of a series.
func (x *Importer) identify(ctx context.Context, q *db.Queries, batch []Item, now time.Time) error {
	var open []int
	known := make(map[int]identity)
	for i := range batch {
		item := &batch[i]
		item.stored = uuid.Nil
		switch {
		case item.ID != uuid.Nil && !item.CreatedAt.IsZero():
			of := identity{created: item.CreatedAt}
			copy(of.seed[copy(of.seed[:], x.Collection[:]):], item.ID[:])
			known[i] = of
		case x.File != "":
			known[i] = x.placed(item)
		case item.ID != uuid.Nil: // to be seen whether it is here
		case item.CreatedAt.IsZero() && item.UpdatedAt.IsZero():
			var err error
			if item.stored, err = uuid.NewV7(); err != nil { // in the order in which they come
				return fmt.Errorf("make an id: %w", err)
			}
			continue
		default:
			item.stored = randomID(x.creation(item, now))
			continue
		}
		open = append(open, i)
	}
	candidates := make(map[int]uuid.UUID)
	for turn := 0; len(open) > 0 && turn < turns; turn++ {
		ids := make([]uuid.UUID, 0, 2*len(open))
		for _, i := range open {
			if turn == 0 && batch[i].ID != uuid.Nil {
				ids = append(ids, batch[i].ID)
			}
			if of, found := known[i]; found {
				candidates[i] = of.id(turn)
				ids = append(ids, candidates[i])
			}
		}
		taken, err := q.TakenIDs(ctx, x.Collection, ids)
		if err != nil {
			return fmt.Errorf("look for items that are there already: %w", err)
		}
		here := make(map[uuid.UUID]bool, len(taken)) // present and false: taken elsewhere
		for _, row := range taken {
			here[row.ID] = row.Here
		}
		open = slices.DeleteFunc(open, func(i int) bool { return x.decide(&batch[i], candidates[i], here, now) })
	}
	for _, i := range open {
		batch[i].stored = randomID(x.creation(&batch[i], now))
	}
	return nil
}

// placed is the identity of an item by the place in its file.
func (x *Importer) placed(item *Item) identity {
	of := identity{created: item.CreatedAt, number: item.Number}
	if of.created.IsZero() {
		of.created = item.UpdatedAt
	}
	if of.created.IsZero() {
		of.created = x.Uploaded
	}
	hash := sha256.New()
	fmt.Fprintf(hash, "%s\n%s\n%d\n", x.Collection, x.File, item.Number)
	hash.Sum(of.seed[:0])
	return of
}

// decide returns whether the item needs no further look.
func (x *Importer) decide(item *Item, candidate uuid.UUID, here map[uuid.UUID]bool, now time.Time) bool {
	isHere, taken := here[candidate]
	switch {
	case item.ID != uuid.Nil && here[item.ID], isHere:
	case candidate == uuid.Nil:
		item.stored = randomID(x.creation(item, now))
	case taken:
		return false
	default:
		item.stored = candidate
	}
	return true
}

// creation is when the item was made: when it says nothing else, when it changed, or when its file came, or now.
func (x *Importer) creation(item *Item, now time.Time) time.Time {
	switch {
	case !item.CreatedAt.IsZero():
		return item.CreatedAt
	case !item.UpdatedAt.IsZero():
		return item.UpdatedAt
	case !x.Uploaded.IsZero():
		return x.Uploaded
	default:
		return now
	}
}

func (x *Importer) insert(ctx context.Context, q *db.Queries, batch []Item, now time.Time) (map[uuid.UUID]*Item, error) {
	rows := db.ImportItemsParams{CollectionID: x.Collection, UserID: x.Author}
	items := make(map[uuid.UUID]*Item, len(batch))
	for i := range batch {
		item := &batch[i]
		if _, twice := items[item.stored]; twice || item.stored == uuid.Nil {
			continue
		}
		items[item.stored] = item
		created, updated, source, key := x.creation(item, now), item.UpdatedAt, "", []byte(nil)
		if updated.IsZero() {
			updated = created
		}
		if item.SourceURL != nil {
			source, key = *item.SourceURL, sourceurl.Key(*item.SourceURL)
		}
		rows.Ids, rows.Titles, rows.Contents = append(rows.Ids, item.stored), append(rows.Titles, item.Title), append(rows.Contents, item.Content)
		rows.SourceUrls, rows.SourceKeys = append(rows.SourceUrls, source), append(rows.SourceKeys, key)
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
	inserted := make(map[uuid.UUID]*Item, len(ids))
	for _, id := range ids {
		inserted[id] = items[id]
	}
	return inserted, nil
}

func (x *Importer) tag(ctx context.Context, q *db.Queries, inserted map[uuid.UUID]*Item) error {
	pairs := db.ImportItemTagsParams{CollectionID: x.Collection}
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
	pairs.TagIds = make([]uuid.UUID, len(pairs.Tags))
	for i := range pairs.TagIds {
		var err error
		if pairs.TagIds[i], err = uuid.NewV7(); err != nil {
			return fmt.Errorf("make an id: %w", err)
		}
	}
	if err := q.ImportItemTags(ctx, pairs); err != nil {
		return fmt.Errorf("tag the imported items: %w", err)
	}
	return nil
}

// announce emits an event for each new item, in the order of the batch.
func (x *Importer) announce(ctx context.Context, q *db.Queries, batch []Item, inserted map[uuid.UUID]*Item, at time.Time) error {
	events := make([]event.Envelope, 0, len(inserted))
	origin := event.Origin{ActorUserID: x.Actor, TraceID: x.Trace}
	for i := range batch {
		item := &batch[i]
		if inserted[item.stored] != item {
			continue
		}
		e, err := event.New(event.ItemCreated, event.Entity{Type: event.EntityItem, ID: item.stored, CollectionID: &x.Collection}, origin, at, event.ItemData{
			ItemID: item.stored, CollectionID: x.Collection, EntityVersion: 1,
			ChangedFields: []string{"title", "content", "source_url", "tags", "metadata"}, SourceURL: item.SourceURL,
		})
		if err != nil {
			return err
		}
		events = append(events, e)
	}
	return postgres.WriteEvents(ctx, q, events)
}

// id is the UUIDv7 of a turn, always the same.
func (of identity) id(turn int) uuid.UUID {
	hash := sha256.New()
	hash.Write(of.seed[:])
	hash.Write([]byte{byte(turn)}) //nolint:gosec // below turns
	id := idOf(of.created, hash.Sum(nil))
	if of.number > 0 { // in the 34 bits behind the time, around the variant
		n := uint64(of.number)
		id[6], id[7] = 0x70|byte(n>>30&0x0f), byte(n>>22&0xff)
		id[8], id[9], id[10] = 0x80|byte(n>>16&0x3f), byte(n>>8&0xff), byte(n&0xff)
	}
	return id
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
