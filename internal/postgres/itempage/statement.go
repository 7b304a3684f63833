package itempage

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// idSlack is how far an item's created_at may be from the time in its id.
const idSlack = time.Minute

const columns = "i.id, i.collection_id, i.title, i.source_url, i.version, i.created_by, i.updated_by, i.created_at, i.updated_at"

// statement collects the parameters of a statement while its text is written.
type statement struct {
	query Query
	args  []any
}

// bind adds a parameter and returns its name.
func (s *statement) bind(value any) string {
	s.args = append(s.args, value)
	return fmt.Sprintf("$%d", len(s.args))
}

// pageStatement joins tags and search state for the page only. The size is part of the text: PostgreSQL plans for it.
func pageStatement(q Query, w way) (sql string, args []any) {
	s := &statement{query: q}
	user := s.bind(q.User)
	by, sortTitle := order(q.Sort), "''"
	if q.Sort == Title {
		sortTitle = "lower(page.title)"
	}
	read := s.walk
	if w.gather {
		read = s.gather
	}
	top := read(w.driver)
	return fmt.Sprintf(`
WITH page AS (
    SELECT top.*, m.role
    FROM %s
    CROSS JOIN LATERAL (%s) AS top%s
    ORDER BY %s
    LIMIT %d
), page_tags AS (
    SELECT it.item_id, array_agg(t.name ORDER BY t.name COLLATE "C") AS tags
    FROM item_tags it
    JOIN tags t ON t.id = it.tag_id
    WHERE it.item_id IN (SELECT page.id FROM page)
    GROUP BY it.item_id
)
SELECT page.id, page.collection_id, page.title, page.source_url, page.version, page.created_by, page.updated_by, page.created_at, page.updated_at,
       page.role, coalesce(page_tags.tags, '{}')::text[], coalesce(s.indexed_version, 0)::bigint, coalesce(s.failed_version, 0)::bigint, %s
FROM page
LEFT JOIN page_tags ON page_tags.item_id = page.id
LEFT JOIN item_index_state s ON s.item_id = page.id
ORDER BY %s`,
		s.scope(noDriver), top, s.scopeWhere(user), by("top"), q.Size, sortTitle, by("page")), s.args
}

// scope is the user's collections; of them, those that have every tag of the filter, or the driver's. m is the membership, tag0 the first tag.
func (s *statement) scope(d driver) string {
	var from strings.Builder
	from.WriteString("memberships m JOIN collections c ON c.id = m.collection_id AND c.deleted_at IS NULL")
	for i, name := range s.query.Tags {
		if d == noDriver || d == tagDriver+driver(i) {
			fmt.Fprintf(&from, " JOIN tags tag%d ON tag%[1]d.collection_id = m.collection_id AND tag%[1]d.name = %s", i, s.bind(name))
		}
	}
	return from.String()
}

func (s *statement) scopeWhere(user string) string {
	where := " WHERE m.user_id = " + user
	if s.query.Collection != nil {
		where += " AND m.collection_id = " + s.bind(*s.query.Collection)
	}
	return where
}

// walk reads the top of one collection along an index.
func (s *statement) walk(d driver) string {
	if d >= tagDriver {
		return s.walkTag(d)
	}
	where := slices.Concat(s.conditions(noDriver, "i.id"), s.idBounds("i.id"), s.after())
	return fmt.Sprintf("SELECT %s FROM items i WHERE i.collection_id = m.collection_id AND %s ORDER BY %s LIMIT %d",
		columns, strings.Join(where, " AND "), order(s.query.Sort)("i"), s.query.Size)
}

// walkTag reads the newest or the oldest items with a tag. The bounds are on item_tags: its index has the order.
func (s *statement) walkTag(d driver) string {
	direction, compare := "", ">"
	if s.query.Sort == Newest {
		direction, compare = " DESC", "<"
	}
	where := slices.Concat([]string{fmt.Sprintf("walked.tag_id = tag%d.id", d-tagDriver)}, s.idBounds("walked.item_id"), s.conditions(d, "walked.item_id"))
	if s.query.After != nil {
		where = append(where, fmt.Sprintf("walked.item_id %s %s", compare, s.bind(s.query.After.ID)))
	}
	return fmt.Sprintf("SELECT %s FROM item_tags walked JOIN items i ON i.id = walked.item_id WHERE %s ORDER BY walked.item_id%s LIMIT %d",
		columns, strings.Join(where, " AND "), direction, s.query.Size)
}

// gather reads all items of one collection that the driver finds. OFFSET 0 keeps PostgreSQL from taking another way.
func (s *statement) gather(d driver) string {
	where := slices.Concat(s.conditions(d, "found.id"), s.after())
	return fmt.Sprintf("SELECT i.* FROM (%s OFFSET 0) AS found CROSS JOIN LATERAL (SELECT %s FROM items i WHERE i.id = found.id AND %s OFFSET 0) AS i",
		s.found(d), columns, strings.Join(where, " AND "))
}

// found is the ids of the items of one collection that a driver finds.
func (s *statement) found(d driver) string {
	if d >= tagDriver {
		return fmt.Sprintf("SELECT it.item_id AS id FROM item_tags it WHERE it.tag_id = tag%d.id", d-tagDriver)
	}
	where := []string{"i.collection_id = m.collection_id", "i.deleted_at IS NULL"}
	switch d {
	case authorDriver:
		where = append(where, s.author())
	case sourceDriver:
		where = append(where, s.source())
	case createdDriver:
		where = append(where, s.idBounds("i.id")...)
	case updatedDriver:
		where = append(where, s.updated()...)
	case noDriver, tagDriver:
	}
	return "SELECT i.id FROM items i WHERE " + strings.Join(where, " AND ")
}

// conditions are what an item must meet, but for the tag that led to it. OFFSET 0 has PostgreSQL look for a tag item by item, where it would
// collect all items of the tag for a join. id is the item's id, by the name that lets it look before it reads the item.
func (s *statement) conditions(met driver, id string) []string {
	q := s.query
	out := []string{"i.deleted_at IS NULL"}
	for i := range q.Tags {
		if met != tagDriver+driver(i) {
			out = append(out, fmt.Sprintf("EXISTS (SELECT 1 FROM item_tags it WHERE it.item_id = %s AND it.tag_id = tag%d.id OFFSET 0)", id, i))
		}
	}
	if q.Author != nil {
		out = append(out, s.author())
	}
	if q.HasSource != nil {
		out = append(out, s.source())
	}
	if q.CreatedAfter != nil {
		out = append(out, "i.created_at >= "+s.bind(*q.CreatedAfter))
	}
	if q.CreatedBefore != nil {
		out = append(out, "i.created_at < "+s.bind(*q.CreatedBefore))
	}
	return append(out, s.updated()...)
}

func (s *statement) author() string { return "i.created_by = " + s.bind(*s.query.Author) }

func (s *statement) source() string {
	if *s.query.HasSource {
		return "i.source_url IS NOT NULL"
	}
	return "i.source_url IS NULL"
}

func (s *statement) updated() (out []string) {
	if s.query.UpdatedAfter != nil {
		out = append(out, "i.updated_at >= "+s.bind(*s.query.UpdatedAfter))
	}
	if s.query.UpdatedBefore != nil {
		out = append(out, "i.updated_at < "+s.bind(*s.query.UpdatedBefore))
	}
	return out
}

// idBounds are a little wider than the bounds of created_at: an index has the ids.
func (s *statement) idBounds(column string) (out []string) {
	if s.query.CreatedAfter != nil {
		out = append(out, column+" >= "+s.bind(firstID(s.query.CreatedAfter.Add(-idSlack))))
	}
	if s.query.CreatedBefore != nil {
		until := s.query.CreatedBefore.Add(idSlack)
		if first := time.UnixMilli(0).Add(idSlack); until.Before(first) {
			until = first // what was created before 1970 has an id of that moment
		}
		out = append(out, column+" < "+s.bind(firstID(until)))
	}
	return out
}

// after is the keyset: what follows the page before.
func (s *statement) after() []string {
	after := s.query.After
	if after == nil {
		return nil
	}
	switch s.query.Sort {
	case Oldest:
		return []string{"i.id > " + s.bind(after.ID)}
	case Updated:
		return []string{fmt.Sprintf("(i.updated_at, i.id) < (%s, %s)", s.bind(after.Time), s.bind(after.ID))}
	case Title:
		return []string{fmt.Sprintf(`(lower(i.title) COLLATE "C", i.id) > (%s, %s)`, s.bind(after.Title), s.bind(after.ID))}
	case Newest:
	}
	return []string{"i.id < " + s.bind(after.ID)}
}

// order returns what writes ORDER BY for a table.
func order(sort Sort) func(table string) string {
	return func(table string) string {
		switch sort {
		case Oldest:
			return table + ".id"
		case Updated:
			return fmt.Sprintf("%s.updated_at DESC, %[1]s.id DESC", table)
		case Title:
			return fmt.Sprintf(`lower(%s.title) COLLATE "C", %[1]s.id`, table)
		case Newest:
		}
		return table + ".id DESC"
	}
}

// firstID is before every UUIDv7 of this moment and later.
func firstID(at time.Time) uuid.UUID {
	const last = 1<<48 - 1
	ms := min(max(at.UnixMilli(), 0), last)
	var id uuid.UUID
	for i := range 6 {
		id[i] = byte(ms >> (8 * (5 - i))) //nolint:gosec // the lowest byte is meant
	}
	return id
}
