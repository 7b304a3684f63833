package auditchain

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// tampered is a trail on its way to be tampered with: its rows in the order of their stored positions.
type tampered struct {
	rows  []tamperedRow
	wants []want
	end   int64
}

// tamperedRow is a row with what is to be said of it.
type tamperedRow struct {
	Link
	true  int64 // its position in the chain; 0: it has none
	kind  Kind
	shift int64
}

// want is a finding, but for its words.
type want struct {
	kind        Kind
	first, last int64
	event       uuid.UUID
	to          int64 // where it belongs, or by how much it is shifted
}

// seeded is a source of chance that can be repeated.
func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	if s := os.Getenv("ATLAS_TEST_SEED"); s != "" {
		var err error
		seed, err = strconv.ParseUint(s, 10, 64)
		require.NoError(t, err)
	}
	t.Logf("ATLAS_TEST_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func newTampered(chain []Link) *tampered {
	s := &tampered{end: int64(len(chain))}
	for _, l := range chain {
		s.rows = append(s.rows, tamperedRow{Link: l, true: l.Position})
	}
	return s
}

// renumber shifts the rows from the i-th on.
func (s *tampered) renumber(i int, by int64) {
	for ; i < len(s.rows); i++ {
		s.rows[i].Position += by
		s.rows[i].shift += by
	}
}

func (s *tampered) remove(i, n int, renumber bool) {
	s.wants = append(s.wants, want{kind: Removed, first: s.rows[i].true, last: s.rows[i+n-1].true})
	s.rows = slices.Delete(s.rows, i, i+n)
	if renumber {
		s.renumber(i, -int64(n))
	}
}

// insert puts a row before the i-th one.
func (s *tampered) insert(random *rand.Rand, i int, chain []Link) {
	before := Genesis()
	if i > 0 {
		before = s.rows[i-1].Hash
	}
	l := forged(random, chain, before, s.rows[i].Position)
	s.renumber(i, 1)
	s.rows = slices.Insert(s.rows, i, tamperedRow{Link: *l, kind: Inserted})
}

func (s *tampered) swap(i, j int) {
	a, b := &s.rows[i], &s.rows[j]
	a.Position, b.Position = b.Position, a.Position
	a.kind, b.kind = Moved, Moved
	s.rows[i], s.rows[j] = s.rows[j], s.rows[i]
}

// wanted is everything that has to be said, and nothing else.
func (s *tampered) wanted() []want {
	out := slices.Clone(s.wants)
	var run *want
	for _, r := range s.rows {
		if r.kind != "" {
			w := want{kind: r.kind, first: r.Position, last: r.Position, event: r.EventID}
			if r.kind == Moved {
				w.to = r.true
			}
			out = append(out, w)
		}
		if r.kind == Moved || r.kind == Inserted {
			continue
		}
		if run != nil && run.to != r.shift {
			out = append(out, *run)
			run = nil
		}
		switch {
		case run != nil:
			run.last, run.event = r.Position, uuid.Nil
		case r.shift != 0:
			run = &want{kind: Renumbered, first: r.Position, last: r.Position, event: r.EventID, to: r.shift}
		}
	}
	if run != nil {
		out = append(out, *run)
	}
	return out
}

// String is one line for people.
func (w want) String() string {
	return fmt.Sprintf("%s %d-%d %s %+d", w.kind, w.first, w.last, w.event, w.to)
}

// lines are findings that compare well.
func lines(wants []want) []string {
	var out []string
	for _, w := range wants {
		out = append(out, w.String())
	}
	slices.Sort(out)
	return out
}

func (s *tampered) follow(head []Anchor) []Finding {
	chain := make([]Link, len(s.rows))
	for i := range s.rows {
		chain[i] = s.rows[i].Link
	}
	return follow(chain, head)
}

func toldOf(findings []Finding) (out []want) {
	for _, f := range findings {
		w := want{kind: f.Kind, first: f.First, last: f.Last, to: f.BelongsAt + f.ShiftedBy}
		if f.EventID != nil {
			w.event = *f.EventID
		}
		if f.Suspected {
			w.kind = "perhaps " + f.Kind
		}
		out = append(out, w)
	}
	return out
}

// forged is a row to be inserted: a copy of one of the chain's, or one that was made up, even with hashes that fit what comes before it.
func forged(random *rand.Rand, chain []Link, before []byte, position int64) *Link {
	l := chain[random.IntN(len(chain))]
	l.EventID, l.Position = uuid.New(), position
	switch random.IntN(4) {
	case 0: // a copy
	case 1:
		l.PreviousHash, l.Hash = []byte("made"), []byte("up")
	case 2:
		l.PreviousHash, l.Data = before, `{"forged": true}`
		l.Hash = l.Row.Hash(before)
	default:
		l.PreviousHash, l.Data = before, `{"forged": true}`
	}
	return &l
}

// tamperAt does something at random to the rows about the i-th one.
func (s *tampered) tamperAt(random *rand.Rand, i int, original []Link) string {
	switch random.IntN(5) {
	case 0:
		c := changes[random.IntN(len(changes))]
		c.change(&s.rows[i].Link)
		s.rows[i].kind = Changed
		return fmt.Sprint("change of ", c.name)
	case 1:
		n, renumber := 1+random.IntN(3), random.IntN(2) == 0
		n = min(n, len(s.rows)-i)
		s.remove(i, n, renumber)
		return fmt.Sprint("removal of ", n, ", renumbering ", renumber)
	case 2:
		n := 1 + random.IntN(3)
		for range n {
			s.insert(random, i, original)
		}
		return fmt.Sprint("insertion of ", n)
	default:
		j := i + 1 + random.IntN(3)
		if i < 1 || j+1 >= len(s.rows) {
			return "nothing"
		}
		s.swap(i, j)
		return fmt.Sprint("swap with the row ", j-i, " on")
	}
}

// However a trail is tampered with, the findings name exactly what was done.
func TestFollowerSaysExactlyWhatWasDone(t *testing.T) {
	t.Parallel()
	random := seeded(t)
	for range 3000 {
		original := newChain(10 + random.IntN(60))
		s, head := newTampered(original), headOf(original)
		require.Empty(t, s.follow(head))
		var done []string
		for i := len(s.rows) - 1 - random.IntN(8); i >= 0 && i < len(s.rows); i -= 8 + random.IntN(20) {
			at := s.rows[i].true
			done = append(done, fmt.Sprintf("row %d: %s", at, s.tamperAt(random, i, original)))
		}
		if random.IntN(3) == 0 { // after the head
			l := forged(random, original, s.rows[len(s.rows)-1].PreviousHash, s.end+20+random.Int64N(100))
			s.rows = append(s.rows, tamperedRow{Link: *l, kind: Inserted})
			done = append(done, fmt.Sprint("row after the head at ", l.Position))
		}
		if random.IntN(3) == 0 { // before the beginning
			l := forged(random, original, Genesis(), -random.Int64N(5))
			s.rows = slices.Insert(s.rows, 0, tamperedRow{Link: *l, kind: Inserted})
			done = append(done, fmt.Sprint("row before the beginning at ", l.Position))
		}
		findings := s.follow(head)
		require.Equal(t, lines(s.wanted()), lines(toldOf(findings)), "%d rows: %v", len(original), done)
	}
}

// What was done over long distances is told as well.
func TestFollowerSaysWhatWasDoneFarApart(t *testing.T) {
	t.Parallel()
	random := seeded(t)
	original := newChain(3000)
	for name, tamper := range map[string]func(s *tampered){
		"swap":                     func(s *tampered) { s.swap(10, 2500) },
		"swap of neighbours":       func(s *tampered) { s.swap(4, 5) },
		"removal, renumbered":      func(s *tampered) { s.remove(100, 1500, true) },
		"removal":                  func(s *tampered) { s.remove(100, 1500, false) },
		"removal of the beginning": func(s *tampered) { s.remove(0, 700, true) },
		"removal of the end":       func(s *tampered) { s.remove(2000, 1000, false) },
		"insertion of many": func(s *tampered) {
			for range 200 {
				s.insert(random, 1000, original)
			}
		},
		"one of each": func(s *tampered) {
			s.swap(2100, 2900)
			s.remove(1700, 5, true)
			s.insert(random, 1200, original)
			s.rows[600].Data, s.rows[600].kind = "{}", Changed
			s.remove(300, 1, false)
			s.insert(random, 5, original)
		},
	} {
		s := newTampered(original)
		tamper(s)
		require.Equal(t, lines(s.wanted()), lines(toldOf(s.follow(headOf(original)))), name)
	}
}

// The memory that the follower needs does not grow with what was tampered with.
func TestFollowerHasFewRowsInMemory(t *testing.T) {
	t.Parallel()
	original := newChain(3000)
	f := newFollower(Anchor{Hash: Genesis()}, headOf(original), func(Finding) {})
	for i := range original {
		original[i].Data = "{}"
		original[i].Hash = []byte(strconv.Itoa(i))
		f.next(&original[i])
		require.LessOrEqual(t, len(f.pending), maxPending)
		require.LessOrEqual(t, len(f.found), maxFindings)
	}
}
