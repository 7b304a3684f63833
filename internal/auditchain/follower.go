package auditchain

import (
	"bytes"
	"fmt"
	"slices"
)

// joint is what is known of the place where two neighbours meet.
type joint int

const (
	unknown joint = iota // rows between them are missing
	holds                // the later one names the hash of the earlier one
	broken
)

// lookAhead is how many rows the follower has in memory: it judges one when it knows the three after it.
const lookAhead = 4

// step is a row on its way through the follower.
type step struct {
	position  int64
	row       Link
	intact    bool
	left      joint
	confirmed bool    // its hash is known from elsewhere
	misplaced *Anchor // another hash is known from elsewhere
	gap       *Finding
	blame     string // why the row is said to have been changed
	onlyNames bool   // but for the hash that it names as the one before, it is as it was
	suspected bool
}

// follower goes along one chain in the order of positions. A single changed row shows in up to three places: its own
// hash, the joint before it and the joint after it; which of them are broken tells which row it was.
type follower struct {
	report  func(Finding)
	start   Anchor   // what the first row has to follow
	anchors []Anchor // in order of position; the last one is where the chain has to end
	end     int64    // 0: unknown
	rows    int64
	last    Anchor // of what was seen
	window  []*step
}

// newFollower begins after start, a row that is not there itself: position 0 with Genesis, or the end of the last segment that was pruned.
func newFollower(start Anchor, anchors []Anchor, report func(Finding)) *follower {
	f := &follower{report: report, start: start, last: start}
	for _, a := range anchors {
		if a.Position > start.Position {
			f.anchors = append(f.anchors, a)
			f.end = max(f.end, a.Position)
		}
	}
	slices.SortStableFunc(f.anchors, func(a, b Anchor) int { return int(a.Position - b.Position) })
	return f
}

// next takes the next row. Positions don't descend.
func (f *follower) next(row *Link) {
	f.rows++
	if row.Position <= f.start.Position {
		f.report(one(Inserted, row, fmt.Sprintf("the chain begins after position %d", f.start.Position)))
		return
	}
	s := &step{position: row.Position, row: *row, intact: row.Intact()}
	if y := f.newest(); y != nil && y.position == s.position {
		f.double(y, s)
		return
	}
	f.place(s)
	f.window = append(f.window, s)
	f.last = Anchor{Position: s.position, Hash: s.row.Hash}
	if len(f.window) == lookAhead {
		f.judge()
		f.leave()
	}
}

// place finds out how a row joins what came before it.
func (f *follower) place(s *step) {
	y := f.newest()
	previous := f.start
	if y != nil {
		previous = Anchor{Position: y.position, Hash: y.row.Hash}
	}
	switch {
	case s.position > previous.Position+1:
		s.left = unknown
		s.gap = &Finding{
			Kind: Removed, First: previous.Position + 1, Last: s.position - 1,
			Detail: fmt.Sprintf("row %d names %x as the hash of the row before it, which is not there", s.position, s.row.PreviousHash),
		}
	case bytes.Equal(s.row.PreviousHash, previous.Hash):
		s.left = holds
	default:
		s.left = broken
	}
	f.compare(s)
	switch {
	case !s.intact && s.left == broken && bytes.Equal(s.row.Row.Hash(previous.Hash), s.row.Hash):
		s.blame, s.onlyNames = "it names another hash than that of the row before it (previous_hash)", true
	case !s.intact:
		s.blame = "its hash does not cover its content"
	case s.left == broken && y == nil:
		s.blame = fmt.Sprintf("it does not follow row %d, which is known to have the hash %x: it, or a run of rows that begins with it, was written anew",
			previous.Position, previous.Hash)
	}
}

// compare holds the row's hash against those that are known from elsewhere.
func (f *follower) compare(s *step) {
	for len(f.anchors) > 0 && f.anchors[0].Position <= s.position {
		switch a := f.anchors[0]; {
		case a.Position < s.position: // its row is missing
		case bytes.Equal(a.Hash, s.row.Hash):
			s.confirmed = true
		default:
			s.misplaced = &a
		}
		f.anchors = f.anchors[1:]
	}
}

// double decides which of two rows at one position is the false one. Such a pair takes the unique constraint away first.
func (f *follower) double(y, s *step) {
	s.left = y.left
	if before := len(f.window) - 2; before >= 0 && y.left != unknown {
		s.left = broken
		if bytes.Equal(s.row.PreviousHash, f.window[before].row.Hash) {
			s.left = holds
		}
	}
	if (!y.intact || y.left == broken || y.misplaced != nil) && s.intact && s.left != broken {
		s.gap = y.gap
		f.window[len(f.window)-1] = s
		f.last.Hash = s.row.Hash
		s = y
	}
	f.report(one(Inserted, &s.row, "another row has this position, and the chain goes through that one"))
}

// judge looks at the joint of the two oldest rows, x and y. What comes after them tells whether y is as the chain has it.
func (f *follower) judge() {
	x, y := f.window[0], f.window[1]
	if y.left != broken || (x.blame != "" && !x.suspected) || y.onlyNames {
		return // x or y explains it
	}
	const (
		before = "its hash is not the one that row %d names, but that row may have been changed itself"
		after  = "it names another hash than that of row %d, but that row may have been changed itself"
	)
	z := f.at(2)
	switch {
	case !y.intact:
		x.suspect(fmt.Sprintf(before, y.position))
	case y.misplaced != nil, z != nil && z.contradicts() && z.intact && f.vouched(2):
		y.blame, y.suspected = "it joins neither the row before it nor what comes after it: it was written anew", false
		x.suspect(fmt.Sprintf(before, y.position))
	case x.confirmed:
		y.blame = fmt.Sprintf("it does not follow row %d, whose hash is recorded: it, or a run of rows that begins with it, was written anew", x.position)
		y.suspected = false
	case f.vouched(1):
		x.blame = fmt.Sprintf("its hash is not the one that row %d names: it, or a run of rows that ends with it, was written anew", y.position)
		x.suspected = false
	default:
		x.suspect(fmt.Sprintf(before, y.position))
		y.suspect(fmt.Sprintf(after, x.position))
	}
}

// contradicts tells whether the row before it is not the one that it was written after.
func (s *step) contradicts() bool { return s.left == broken && !s.onlyNames }

// vouched tells whether the hash of the i-th row in the window is known to be the one that the chain has for it.
func (f *follower) vouched(i int) bool {
	if s := f.window[i]; s.confirmed || s.misplaced != nil {
		return s.confirmed
	}
	next := f.at(i + 1)
	return next != nil && (next.left == holds || next.onlyNames)
}

func (f *follower) at(i int) *step {
	if i < len(f.window) {
		return f.window[i]
	}
	return nil
}

func (s *step) suspect(why string) {
	if s.blame == "" && !s.confirmed {
		s.blame, s.suspected = why, true
	}
}

// leave lets the oldest row go: nothing more will be known of it.
func (f *follower) leave() {
	s := f.window[0]
	f.window = f.window[1:]
	if s.gap != nil {
		f.report(*s.gap)
	}
	if s.misplaced != nil && (s.blame == "" || s.suspected) {
		s.suspected = false
		s.blame = fmt.Sprintf("%s has another hash for it, %x: it, or a run of rows that ends with it, was written anew", s.misplaced.Source, s.misplaced.Hash)
	}
	if s.blame != "" {
		finding := one(Changed, &s.row, s.blame)
		finding.Suspected = s.suspected
		f.report(finding)
	}
}

// finish judges the last rows, and misses those that were cut off.
func (f *follower) finish() {
	for ; len(f.window) > 0; f.leave() {
		if len(f.window) > 1 {
			f.judge()
		}
	}
	if f.end > f.last.Position {
		a := f.anchors[len(f.anchors)-1] // none of those after the last row was compared
		f.report(Finding{
			Kind: Removed, First: f.last.Position + 1, Last: f.end,
			Detail: fmt.Sprintf("cut off at the end: %s says that the chain goes on to row %d with the hash %x", a.Source, a.Position, a.Hash),
		})
	}
}

func (f *follower) newest() *step {
	if len(f.window) == 0 {
		return nil
	}
	return f.window[len(f.window)-1]
}

func one(kind Kind, row *Link, detail string) Finding {
	id := row.EventID
	return Finding{Kind: kind, First: row.Position, Last: row.Position, EventID: &id, Detail: detail}
}
