package auditchain

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/google/uuid"
)

// maxCandidate bounds the content of a row that is kept until the end because it may belong elsewhere.
const maxCandidate = 64 << 10

// found is a finding, kept until all are there: a row that is odd in one place may be missing in another.
type found struct {
	Finding
	row   *Link // may belong elsewhere
	place *hole // where rows are missing, or one was changed
	run   run   // of renumbered rows
	void  bool
}

// hole is a stretch of the chain whose rows are not there.
type hole struct {
	first, last   int64
	before, after []byte // the hashes of the row before, and of the last row; nil: unknown
}

// candidate keeps the row in mind.
func (e *found) candidate(s *step) {
	if len(s.row.Data) <= maxCandidate {
		row := s.row
		e.row = &row
	}
}

func (f *follower) add(e *found) {
	f.found = append(f.found, e)
	if len(f.found) >= maxFindings {
		f.flush()
	}
}

// odd tells of a row that has no place in the chain.
func (f *follower) odd(s *step, why string) {
	if why == "" {
		why = fmt.Sprintf("the chain goes from row %d to the next one without it", f.base.p)
		if f.end > 0 && s.row.Position > f.end && f.base.p == f.end {
			why = fmt.Sprintf("the chain ends with row %d", f.end)
		}
	}
	e := &found{Finding: one(Inserted, &s.row, why)}
	e.candidate(s)
	f.add(e)
}

// gap tells of rows that are missing.
func (f *follower) gap(p *hole, detail string) {
	f.add(&found{Finding: Finding{Kind: Removed, First: p.first, Last: p.last, Detail: detail}, place: p})
}

// run is a stretch of rows whose positions are shifted by the same.
type run struct {
	from, to    int // which of the runs it is; several that were brought together
	shift       int64
	before      int64 // the shift of the run before
	first, last int64 // as stored
	p           int64 // of the first one in the chain
	event       uuid.UUID
}

// reach takes a row of the chain into the run, or begins another one.
func (r *run) reach(f *follower, n *node) {
	row := &n.step.row
	if n.shift != r.shift {
		r.close(f)
		*r = run{from: r.to + 1, to: r.to + 1, shift: n.shift, before: r.shift, first: row.Position, p: n.p, event: row.EventID}
	}
	r.last = row.Position
}

// close tells of the run.
func (r *run) close(f *follower) {
	switch {
	case r.shift != 0:
		f.add(&found{Finding: r.finding(), run: *r})
	case r.before != 0 && r.first == r.last: // the only one that is not shifted may be so because it was moved
		f.add(&found{Finding: r.finding(), run: *r, void: true})
	}
}

func (r *run) finding() Finding {
	out := Finding{
		Kind: Renumbered, First: r.first, Last: r.last, ShiftedBy: r.shift,
		Detail: fmt.Sprintf("in the chain they are rows %d to %d: their positions are shifted by %+d", r.first-r.shift, r.last-r.shift, r.shift),
	}
	if r.first == r.last {
		id := r.event
		out.EventID, out.Detail = &id, fmt.Sprintf("in the chain it is row %d: its position is shifted by %+d", r.p, r.shift)
	}
	return out
}

// flush tells what was found, once rows that are odd in one place and missing in another were brought together.
func (f *follower) flush() {
	for again := true; again; {
		again = false
		for _, e := range f.found {
			if e.place != nil && e.place.first <= e.place.last && f.fill(e.place) {
				again = true
			}
		}
	}
	for _, e := range f.found {
		f.conclude(e)
	}
	f.found = slices.DeleteFunc(f.found, func(e *found) bool { return e.void })
	slices.SortStableFunc(f.found, func(a, b *found) int { return int(a.First - b.First) })
	for _, e := range f.found {
		f.report(e.Finding)
	}
	f.found = nil
}

// fill looks for a row that belongs at one end of a place, and makes the place smaller.
func (f *follower) fill(p *hole) bool {
	for _, e := range f.found {
		if e.row == nil || e.Kind == Moved {
			continue
		}
		var at int64
		switch {
		case p.first == p.last && (!fits(p.before, e.row.PreviousHash) || !fits(p.after, e.row.Hash)):
			continue
		case p.before != nil && bytes.Equal(e.row.PreviousHash, p.before) && f.covers(e.row, p.first):
			at, p.before = p.first, e.row.Hash
			p.first++
		case p.after != nil && bytes.Equal(e.row.Hash, p.after) && f.covers(e.row, p.last):
			at, p.after = p.last, e.row.PreviousHash
			p.last--
		default:
			continue
		}
		e.Kind, e.BelongsAt, e.Suspected, e.Detail = Moved, at, false, fmt.Sprintf("in the chain it is row %d", at)
		f.swapped(e)
		return true
	}
	return false
}

// fits tells whether a hash may be the one that is known.
func fits(known, hash []byte) bool { return known == nil || bytes.Equal(known, hash) }

// swapped finds the row that has changed places with a moved one, where its neighbours made it look shifted all by itself.
func (f *follower) swapped(moved *found) {
	for i, e := range f.found {
		if e.Kind != Renumbered || e.First != e.Last || e.First-e.run.before != moved.BelongsAt || moved.First-e.run.before != e.run.p {
			continue
		}
		e.void = false
		e.Kind, e.BelongsAt, e.ShiftedBy, e.Detail = Moved, e.run.p, 0, fmt.Sprintf("in the chain it is row %d", e.run.p)
		var before, after *found // were one run but for this row
		for _, other := range slices.Concat(f.found[:i], f.found[i+1:]) {
			switch {
			case other.Kind != Renumbered || other.ShiftedBy != e.run.before:
			case other.run.to == e.run.from-1:
				before = other
			case other.run.from == e.run.to+1:
				after = other
			}
		}
		if before != nil && after != nil {
			after.run.first, after.run.p, after.run.from, after.run.before = before.run.first, before.run.p, before.run.from, before.run.before
			after.Finding = after.run.finding()
			before.Kind, before.void = "", true
		}
		return
	}
}

// conclude makes the finding of a place say what is left of it.
func (f *follower) conclude(e *found) {
	p := e.place
	if p == nil {
		return
	}
	filled := p.first > p.last
	switch {
	case e.Kind == Removed:
		e.First, e.Last, e.void = p.first, p.last, filled
	case e.Kind == Changed && filled:
		e.Kind, e.Suspected, e.Detail = Inserted, false, "the row that belongs here is elsewhere"
	case e.Kind == Moved && !filled:
		f.found = append(f.found, &found{Finding: Finding{Kind: Removed, First: p.first, Last: p.last, Detail: "another row stands here"}})
	}
}
