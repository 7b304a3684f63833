package consistency

import (
	"slices"
	"time"
)

// Kind is what kind of difference was found.
type Kind string

// The differences between PostgreSQL and the index.
const (
	IndexMissing    Kind = "index_missing"
	IndexStale      Kind = "index_stale"
	IndexDifferent  Kind = "index_different"
	IndexExtra      Kind = "index_extra"
	IndexAhead      Kind = "index_ahead"
	IndexRefused    Kind = "index_refused"
	IndexUnrecorded Kind = "index_unrecorded"
)

// The differences between PostgreSQL and the audit trail.
const (
	AuditMissing Kind = "audit_missing"
	AuditGap     Kind = "audit_gap"
	AuditStale   Kind = "audit_stale"
	AuditExtra   Kind = "audit_extra"
	AuditRepeat  Kind = "audit_repeat"
)

// kinds are all of them in the order of reports, with what each means.
var kinds = []struct {
	kind    Kind
	meaning string
}{
	{IndexMissing, "the item is not in the index"},
	{IndexStale, "the index has an older version of the item"},
	{IndexDifferent, "the index has the item's version with other contents"},
	{IndexExtra, "the index has a document that it should not have"},
	{IndexAhead, "the index has a newer version than the item: was PostgreSQL restored from a backup?"},
	{IndexRefused, "Elasticsearch refuses the item for good; its search_state is failed"},
	{IndexUnrecorded, "the index has the item, and item_index_state does not say so"},
	{AuditMissing, "the event was published and has no audit row"},
	{AuditGap, "a version of the entity has no audit row, later ones do"},
	{AuditStale, "the newest versions of the entity have no audit row"},
	{AuditExtra, "the trail tells of a state that the entity never had, or of an entity that is not there"},
	{AuditRepeat, "two audit rows claim the same version of the entity"},
}

// Report is what a check found.
type Report struct {
	StartedAt time.Time `json:"started_at"`
	Seconds   float64   `json:"seconds"`
	Checked   Checked   `json:"checked"`
	// Differences has one entry for each kind that was found.
	Differences []Difference `json:"differences"`
	// Undecided is how much was still on its way when patience ended: events that are not published, or changes on top of changes.
	Undecided int64 `json:"undecided"`
}

// Checked counts what was compared.
type Checked struct {
	Items     int64 `json:"items"`
	Documents int64 `json:"documents"`
	// Entities are items, collections, memberships and jobs, and what the trail tells of beside them.
	Entities int64 `json:"entities"`
	// Events are those of the outbox that are published and not pruned yet.
	Events int64 `json:"events"`
}

// Difference is one kind of difference.
type Difference struct {
	Kind    Kind   `json:"kind"`
	Meaning string `json:"meaning"`
	Count   int64  `json:"count"`
	// Mended is how many of them are right now.
	Mended   int64     `json:"mended"`
	Examples []Example `json:"examples"`
}

// Example is one case of a difference.
type Example struct {
	ID     string `json:"id"`
	Detail string `json:"detail"`
}

// Join makes one report of the parts of a check.
func Join(parts ...*Report) *Report {
	whole := *parts[0]
	for _, part := range parts[1:] {
		whole.Seconds += part.Seconds
		whole.Checked.Items += part.Checked.Items
		whole.Checked.Documents += part.Checked.Documents
		whole.Checked.Entities += part.Checked.Entities
		whole.Checked.Events += part.Checked.Events
		whole.Differences = slices.Concat(whole.Differences, part.Differences)
		whole.Undecided += part.Undecided
	}
	return &whole
}

// Remaining counts the differences that are not mended.
func (r *Report) Remaining() int64 {
	var n int64
	for _, d := range r.Differences {
		n += d.Count - d.Mended
	}
	return n
}

// Clean tells whether nothing differs and everything could be decided.
func (r *Report) Clean() bool { return r.Remaining() == 0 && r.Undecided == 0 }

// finding is one difference of one key.
type finding struct {
	kind   Kind
	detail string
}

// findings collects differences by kind, with a few examples each.
type findings struct {
	limit  int
	byKind map[Kind]*Difference
}

func newFindings(limit int) *findings { return &findings{limit: limit, byKind: map[Kind]*Difference{}} }

func (f *findings) add(id string, found finding) {
	d := f.of(found.kind)
	d.Count++
	if len(d.Examples) < f.limit {
		d.Examples = append(d.Examples, Example{ID: id, Detail: found.detail})
	}
}

func (f *findings) mended(kind Kind) { f.of(kind).Mended++ }

func (f *findings) of(kind Kind) *Difference {
	d := f.byKind[kind]
	if d == nil {
		d = &Difference{Kind: kind, Examples: []Example{}}
		f.byKind[kind] = d
	}
	return d
}

// list returns what was found, in the order of kinds.
func (f *findings) list() []Difference {
	out := []Difference{}
	for _, k := range kinds {
		if d := f.byKind[k.kind]; d != nil {
			d.Meaning = k.meaning
			out = append(out, *d)
		}
	}
	return out
}
