package auditchain

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math"
	"slices"
)

// What an explanation of the pending rows costs. The cheapest one is told: the fewest rows that were tampered with.
const (
	costRow = 100 // a row that was changed
	// A row that was inserted. A few rows are rather said to have been changed, as are those that stand where others are missing.
	costOdd    = 99
	costFirst  = 2
	costInHole = 101
	costGap    = 100 // rows that were removed between two others
	costShift  = 5   // positions that are shifted from here on
	costLink   = -10 // a row names the hash of the one before it
	// A row that was written anew has another hash, which the row after it, as it was written, does not name.
	costRun = 2 * costRow
	// An explanation that blames one row more is not the cheapest, but can't be ruled out.
	costDoubt = costRow
)

// node is one way to understand a pending row: as the chain's row at a position, as it was written or changed. A row that has none was inserted.
type node struct {
	row   int // of the pending ones; -1: what they are held against
	step  *step
	p     int64
	good  bool
	hash  []byte
	shift int64
	fresh bool // changed, and its hash covers that

	cost int // of the cheapest way to it
	rest int // of the cheapest way on
	from int
}

// trusted is the row's hash where the chain goes through it.
func (n *node) trusted() []byte {
	if n.good {
		return n.hash
	}
	return nil
}

// named is what the row says that the hash before it is, where that can be believed.
func (n *node) named() []byte {
	if n.good {
		return n.step.row.PreviousHash
	}
	return nil
}

// align explains the pending rows, and lets those before keep go.
func (f *follower) align(keep int) {
	whole := keep == len(f.pending)
	nodes := f.nodes()
	best := f.ways(nodes, whole)
	var path []*node
	for i := best; i > 0; i = nodes[i].from {
		path = append(path, &nodes[i])
	}
	slices.Reverse(path)
	least := nodes[best].cost + nodes[best].rest
	at := 0
	for i, s := range f.pending[:keep] {
		if at == len(path) || path[at].row != i {
			f.odd(s, "")
			continue
		}
		var next *node
		if at+1 < len(path) {
			next = path[at+1]
		}
		f.settle(path[at], next, doubt(nodes, i, least, path[at].good))
		at++
	}
	kept := append([]*step(nil), f.pending[keep:]...)
	f.pending, f.held, f.trouble = kept, 0, false
	for _, s := range kept {
		f.held += len(s.row.Data)
	}
	if len(kept) > 0 {
		f.trouble = len(kept) > 1 || at == len(path) || !path[at].good || !path[at].joins(&f.base)
	}
	if !f.trouble {
		f.shifts, f.held = nil, 0
	}
}

// joins tells whether a row follows another with nothing wrong between them.
func (n *node) joins(before *node) bool {
	return before.good && n.p == before.p+1 && n.shift == before.shift && bytes.Equal(n.step.row.PreviousHash, before.hash)
}

// doubt tells whether another explanation that is as cheap blames a row which this one doesn't, or one that is almost as cheap acquits a row which
// this one blames.
func doubt(nodes []node, row, least int, good bool) bool {
	if !good {
		least += costDoubt
	}
	return slices.ContainsFunc(nodes, func(n node) bool { return n.row == row && n.good != good && n.cost+n.rest <= least })
}

// nodes lists the ways to understand each pending row, after the row that they are held against.
func (f *follower) nodes() []node {
	shifts, alone := append([]int64{f.base.shift}, f.shifts...), map[int64]bool{}
	for _, s := range f.pending {
		shift := s.row.Position - s.at
		switch {
		case s.at == 0:
		case slices.Contains(shifts, shift):
			alone[shift] = false
		case len(shifts) < 8:
			shifts, alone[shift] = append(shifts, shift), true
		}
	}
	base := f.base
	base.row, base.cost, base.from = -1, 0, -1
	nodes := []node{base}
	for i, s := range f.pending {
		if s.at > f.base.p && f.recorded(s.at, s.row.Hash) >= 0 {
			nodes = append(nodes, node{row: i, step: s, p: s.at, good: true, hash: s.row.Hash, shift: s.row.Position - s.at})
		}
		for _, shift := range shifts {
			p := s.row.Position - shift
			if p <= f.base.p || (f.end > 0 && p > f.end) || (s.at == p && (f.recorded(p, s.row.Hash) > 0 || alone[shift])) {
				continue
			}
			nodes = append(nodes, node{row: i, step: s, p: p, hash: s.row.Hash, shift: shift, fresh: s.at == p})
		}
	}
	return nodes
}

// recorded tells whether a hash is the one that is known from elsewhere for a position: 1, another: -1, or nothing is known: 0.
func (f *follower) recorded(p int64, hash []byte) (known int) {
	for _, a := range f.anchors {
		if a.Position == p {
			if !bytes.Equal(a.Hash, hash) {
				return -1
			}
			known = 1
		}
	}
	return known
}

// ways finds the cheapest way to each node and on from it, and returns the last one of the cheapest of all.
func (f *follower) ways(nodes []node, whole bool) (best int) {
	const never = math.MaxInt / 4
	n := len(f.pending)
	left := func(a *node) int { // of the rows after the last one that is understood
		if whole && f.end > a.p {
			return inserted(n-1-a.row, f.end-a.p) + costGap
		}
		return inserted(n-1-a.row, 0)
	}
	type edge struct{ from, to, cost int }
	var edges []edge
	for i := range nodes {
		b := &nodes[i]
		b.rest = left(b)
		if i == 0 {
			continue
		}
		b.cost = never
		for j := range nodes[:i] {
			a := &nodes[j]
			if a.row >= b.row || a.cost >= never {
				continue
			}
			cost, possible := f.between(a, b)
			if !possible {
				continue
			}
			edges = append(edges, edge{j, i, cost})
			// Of ways as cheap, the one through rows that are as they were written.
			if c := a.cost + cost; c < b.cost || (c == b.cost && a.good && !nodes[b.from].good) {
				b.cost, b.from = c, j
			}
		}
	}
	for _, e := range slices.Backward(edges) { // in the order of their ends, so that each way on is known
		nodes[e.from].rest = min(nodes[e.from].rest, e.cost+nodes[e.to].rest)
	}
	for i := range nodes {
		a, b := &nodes[i], &nodes[best]
		if c, least := a.cost+left(a), b.cost+left(b); c < least || (c == least && a.good && !b.good) {
			best = i
		}
	}
	return best
}

// inserted is what so many rows cost that have no place, where so many others are missing.
func inserted(rows int, missing int64) int {
	inHole := min(rows, int(min(missing, maxPending)))
	cost := inHole*costInHole + (rows-inHole)*costOdd
	if rows > inHole {
		cost += costFirst
	}
	return cost
}

// between is what it costs that of two rows the one comes after the other in the chain, and the pending ones between them don't belong there.
func (f *follower) between(a, b *node) (cost int, possible bool) {
	gap := b.p - a.p - 1
	if gap < 0 {
		return 0, false
	}
	cost = inserted(b.row-a.row-1, gap)
	if !b.good {
		cost += costRow
	}
	if a.shift != b.shift {
		cost += costShift
	}
	names := bytes.Equal(b.step.row.PreviousHash, a.hash)
	if f.end > 0 && b.p > f.end && (gap > 0 || !b.good || !a.good || !names) {
		return 0, false // nothing is known of what comes there
	}
	if gap > 0 {
		return cost + costGap, !names
	}
	switch {
	case names, f.renamed(a, b), f.rehashed(a, b):
		cost += costLink
		if a.fresh {
			cost += costRun
		}
	case a.good && b.good:
		return 0, false
	}
	return cost, true
}

// renamed tells whether the later row is as it was written after the earlier one, but for the hash that it names.
func (f *follower) renamed(a, b *node) bool {
	if b.good || b.fresh {
		return false
	}
	sum := sha256.Sum256(b.step.encoded(b.p, a.hash))
	return bytes.Equal(sum[:], b.hash)
}

// rehashed tells whether the earlier row is as it was written before the later one, but for its hash.
func (f *follower) rehashed(a, b *node) bool {
	if a.good || a.fresh || a.step == nil {
		return false
	}
	sum := sha256.Sum256(a.step.encoded(a.p, a.step.row.PreviousHash))
	return bytes.Equal(sum[:], b.step.row.PreviousHash)
}

// encoded is what the row's hash at a position, after a hash, is made of.
func (s *step) encoded(p int64, previous []byte) []byte {
	e := s.row.encode(nil, previous)
	reposition(e, previous, p)
	return e
}

// settle tells what is known of a row that has its place in the chain.
func (f *follower) settle(n, next *node, doubtful bool) {
	row := &n.step.row
	if n.p > f.base.p+1 {
		f.gap(&hole{first: f.base.p + 1, last: n.p - 1, before: f.base.trusted(), after: n.named()},
			fmt.Sprintf("row %d names %x as the hash of the row before it, which is not there", row.Position, row.PreviousHash))
	}
	switch {
	case !n.good:
		f.changed(n, next, doubtful)
	case doubtful:
		finding := one(Changed, row, "its hash is not the one that its neighbour names, but that row may have been changed itself")
		finding.Suspected = true
		f.add(&found{Finding: finding})
	}
	f.run.reach(f, n)
	f.base = *n
	f.base.row = -1
	if n.good {
		f.last.Position, f.last.Hash = n.p, n.hash
	}
	f.forget(n.p)
}

// changed tells of a row that is not as it was written.
func (f *follower) changed(n, next *node, doubtful bool) {
	names := bytes.Equal(n.step.row.PreviousHash, f.base.hash)
	joined := f.base.p+1 == n.p && (names || f.renamed(&f.base, n)) ||
		next != nil && next.p == n.p+1 && (bytes.Equal(next.step.row.PreviousHash, n.hash) || f.rehashed(n, next))
	var why string
	switch {
	case !n.fresh && f.base.p+1 == n.p && !names && f.renamed(&f.base, n):
		why = "it names another hash than that of the row before it (previous_hash)"
	case !n.fresh && next != nil && next.p == n.p+1 && f.rehashed(n, next):
		why = "its hash is another than the next row names, and does not cover its content, which is as it was (hash)"
	case !n.fresh:
		why = "its hash does not cover its content"
	case f.recorded(n.p, n.hash) < 0:
		a := f.anchors[slices.IndexFunc(f.anchors, func(a Anchor) bool { return a.Position == n.p && !bytes.Equal(a.Hash, n.hash) })]
		why = fmt.Sprintf("%s has another hash for it, %x: it, or a run of rows that ends with it, was written anew", a.Source, a.Hash)
	case names:
		why = "its hash is not the one that the next row names: it, or a run of rows that ends with it, was written anew"
	default:
		why = fmt.Sprintf("it does not follow the row before it, which has the hash %x: it, or a run of rows that begins with it, was written anew", f.base.hash)
	}
	if n.p != n.step.row.Position {
		why += fmt.Sprintf("; in the chain it was row %d", n.p)
	}
	if f.base.good && f.base.p+1 == n.p && !names && !f.renamed(&f.base, n) && f.base.p > f.start.Position && f.recorded(f.base.p, f.base.hash) == 0 {
		why += fmt.Sprintf("; so nothing vouches for row %d of the chain, before it", f.base.p)
	}
	finding := one(Changed, &n.step.row, why)
	finding.Suspected = doubtful
	here := &hole{first: n.p, last: n.p}
	if f.base.p+1 == n.p {
		here.before = f.base.trusted()
	}
	if next != nil && next.p == n.p+1 {
		here.after = next.named()
	}
	if i := slices.IndexFunc(f.anchors, func(a Anchor) bool { return a.Position == n.p }); i >= 0 {
		here.after = f.anchors[i].Hash
	}
	entry := &found{Finding: finding, place: here}
	if !joined && !n.fresh {
		entry.candidate(n.step)
	}
	f.add(entry)
}
