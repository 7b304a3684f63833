package auditchain

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"
)

// Where the chain is not as it should be, the follower gathers rows until some of them follow each other again, or so many.
const (
	maxPending      = 256
	maxPendingBytes = 16 << 20
	solid           = 3 // rows that follow each other end the trouble
)

// A row whose position was shifted proves its own: at the right one its hash covers its content. It is looked for nearby, and, for rows that follow
// each other, farther on. Destroying a whole trail must not make the look at it endless.
const (
	nearby      = 64
	farOn       = 2_000_000
	enoughTries = 64_000_000 // of a follower
)

// step is a row on its way through the follower.
type step struct {
	row Link
	at  int64 // the position at which its hash covers its content; 0: none that was tried
}

// follower goes along one chain in the order of stored positions, and holds them against the chain's own order, which the hashes tell. As long as
// each row follows the one before, it has one row in memory: nothing vouches for a row but the next one, which names its hash.
type follower struct {
	report  func(Finding)
	start   Anchor   // what the first row has to follow
	anchors []Anchor // in order of position; the last one is where the chain has to end
	end     int64    // 0: unknown
	head    *int64   // where the database has recorded that the chain ends; nil: there is none to ask
	rows    int64
	last    Anchor // the last row of the chain that was seen

	base    node    // what the first pending row is held against
	pending []*step // in order of stored positions
	held    int     // bytes of their contents
	free    *step
	trouble bool
	shifts  []int64 // more of them to try, from the look farther on
	tries   int
	scratch []byte
	run     run
	found   []*found
}

// newFollower begins after start, a row that is not there itself: position 0 with Genesis, or the end of the last segment that was pruned.
func newFollower(start Anchor, anchors []Anchor, report func(Finding)) *follower {
	f := &follower{report: report, start: start, last: start, base: node{row: -1, p: start.Position, good: true, hash: start.Hash}}
	for _, a := range anchors {
		if a.Position > start.Position {
			f.anchors = append(f.anchors, a)
			f.end = max(f.end, a.Position)
		}
	}
	slices.SortStableFunc(f.anchors, func(a, b Anchor) int { return int(a.Position - b.Position) })
	return f
}

// next takes the next row. Stored positions don't descend.
func (f *follower) next(row *Link) {
	f.rows++
	s := f.free
	if f.free = nil; s == nil {
		s = &step{}
	}
	s.row, s.at = *row, 0
	if row.Position <= f.start.Position {
		f.odd(s, fmt.Sprintf("the chain begins after position %d", f.start.Position))
		return
	}
	if f.follows(s) {
		f.pass(s)
		return
	}
	if !f.trouble {
		f.trouble = true
		for _, p := range f.pending {
			f.held += len(p.row.Data)
		}
	}
	f.locate(s)
	f.pending = append(f.pending, s)
	f.held += len(s.row.Data)
	switch {
	case f.settled():
		f.align(len(f.pending) - 1)
	case len(f.pending) >= maxPending || f.held > maxPendingBytes:
		f.align((len(f.pending) + 1) / 2)
	}
}

// follows tells whether all is as it should be: the row follows the one before it at the next position.
func (f *follower) follows(s *step) bool {
	if f.trouble {
		return false
	}
	previous, p := f.base.hash, f.base.p+1
	if len(f.pending) > 0 {
		previous, p = f.pending[0].row.Hash, p+1
	}
	if s.row.Position-p != f.base.shift || (f.end > 0 && p > f.end) || !bytes.Equal(s.row.PreviousHash, previous) || !f.covers(&s.row, p) {
		return false
	}
	for _, a := range f.anchors {
		if a.Position > p {
			break
		}
		if a.Position == p && !bytes.Equal(a.Hash, s.row.Hash) {
			return false
		}
	}
	s.at = p
	return true
}

// pass lets the row before go: this one names its hash.
func (f *follower) pass(s *step) {
	if len(f.pending) == 0 {
		f.pending = append(f.pending, s)
		return
	}
	before := f.pending[0]
	f.pending[0], f.free = s, before
	f.base = node{row: -1, p: before.at, good: true, hash: before.row.Hash, shift: f.base.shift}
	f.last.Position, f.last.Hash = before.at, before.row.Hash
	f.run.last = before.row.Position
	f.forget(before.at)
}

// forget drops the anchors up to a position: they were compared, or their rows are missing.
func (f *follower) forget(through int64) {
	for len(f.anchors) > 1 && f.anchors[0].Position <= through { // the last one says where the chain ends
		f.anchors = f.anchors[1:]
	}
}

// covers tells whether the row's hash covers its content at a position.
func (f *follower) covers(row *Link, p int64) bool {
	f.scratch = row.encode(f.scratch[:0], row.PreviousHash)
	return f.coversAt(row, p)
}

// coversAt is covers for the row that was encoded last.
func (f *follower) coversAt(row *Link, p int64) bool {
	reposition(f.scratch, row.PreviousHash, p)
	sum := sha256.Sum256(f.scratch)
	return bytes.Equal(sum[:], row.Hash)
}

// locate looks for the row's own position.
func (f *follower) locate(s *step) {
	f.scratch = s.row.encode(f.scratch[:0], s.row.PreviousHash)
	try := func(p int64) bool {
		if p > f.base.p && f.coversAt(&s.row, p) {
			s.at = p
		}
		return s.at != 0
	}
	stored := s.row.Position
	if try(stored-f.base.shift) || try(stored) {
		return
	}
	for _, shift := range f.shifts {
		if try(stored - shift) {
			return
		}
	}
	if f.tries > enoughTries {
		return
	}
	f.tries += 4 * nearby
	for d := int64(1); d <= nearby; d++ {
		if try(stored+d) || try(stored-d) || try(f.base.p+d) || try(stored-f.base.shift+d) {
			return
		}
	}
}

// settled tells whether the last pending rows follow each other.
func (f *follower) settled() bool {
	n := len(f.pending) - solid
	if n < 0 {
		return false
	}
	last := f.pending[n:]
	for i := 1; i < solid; i++ {
		if !bytes.Equal(last[i].row.PreviousHash, last[i-1].row.Hash) || last[i].row.Position != last[i-1].row.Position+1 {
			return false
		}
	}
	if last[0].at == 0 && last[1].at == 0 && last[2].at == 0 && f.farther(last[0]) {
		for _, s := range f.pending {
			if s.at == 0 {
				f.locate(s)
			}
		}
	}
	for i, s := range last {
		if s.at == 0 || s.at != last[0].at+int64(i) {
			return false
		}
	}
	return true
}

// farther looks farther on for the position of a row that others follow: many may have been removed, and the rest renumbered.
func (f *follower) farther(s *step) bool {
	if f.tries > enoughTries {
		return false
	}
	limit := f.base.p + farOn
	if f.end > 0 {
		limit = min(limit, f.end)
	}
	f.scratch = s.row.encode(f.scratch[:0], s.row.PreviousHash)
	for p := f.base.p + 1; p <= limit; p++ {
		f.tries++
		if f.coversAt(&s.row, p) {
			f.shifts = append(f.shifts, s.row.Position-p)
			return true
		}
	}
	return false
}

// finish judges the last rows, and misses those that were cut off.
func (f *follower) finish() {
	if f.trouble {
		f.align(len(f.pending))
	} else if len(f.pending) > 0 {
		f.align(1)
	}
	f.run.close(f)
	if f.head != nil && f.last.Position > max(*f.head, f.start.Position) {
		f.add(&found{Finding: Finding{
			Kind: Inserted, First: max(*f.head, f.start.Position) + 1, Last: f.last.Position, Suspected: true,
			Detail: fmt.Sprintf("the recorded head of the chain is row %d: inserted, or written by a version that did not record it", *f.head),
		}})
	}
	if f.end > f.base.p {
		a := f.anchors[len(f.anchors)-1]
		f.gap(&hole{first: f.base.p + 1, last: f.end, before: f.base.trusted(), after: a.Hash},
			fmt.Sprintf("cut off at the end: %s says that the chain goes on to row %d with the hash %x", a.Source, a.Position, a.Hash))
	}
	f.flush()
}

func one(kind Kind, row *Link, detail string) Finding {
	id := row.EventID
	return Finding{Kind: kind, First: row.Position, Last: row.Position, EventID: &id, Detail: detail}
}
