package auditchain

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// newChain makes n intact rows.
func newChain(n int) []Link {
	out := make([]Link, n)
	previous := Genesis()
	for i := range out {
		trace := fmt.Sprint("trace ", i)
		out[i] = Link{PreviousHash: previous, Row: Row{
			EventID: uuid.New(), EventType: "ItemCreated", Version: 1, OccurredAt: time.UnixMicro(int64(i)).UTC(), TraceID: &trace,
			EntityType: "Item", EntityID: uuid.New(), Data: `{"n": 1}`, Offset: int64(i), Position: int64(i + 1), RecordedAt: time.UnixMicro(int64(2 * i)).UTC(),
		}}
		if i%2 == 0 {
			out[i].Traceparent = &trace
		}
		out[i].Hash = out[i].Row.Hash(previous)
		previous = out[i].Hash
	}
	return out
}

func headOf(chain []Link) []Anchor {
	last := chain[len(chain)-1]
	return []Anchor{{Position: last.Position, Hash: last.Hash, Source: "the head"}}
}

func follow(chain []Link, anchors []Anchor) (findings []Finding) {
	f := newFollower(Anchor{Hash: Genesis()}, anchors, func(finding Finding) { findings = append(findings, finding) })
	for i := range chain {
		f.next(&chain[i])
	}
	f.finish()
	return findings
}

// ways to change one row. Whoever changes it may hide it by a fresh hash.
var changes = []struct {
	name   string
	change func(*Link)
}{
	{"the content", func(l *Link) { l.Data = `{"n": 2}` }},
	{"the content, with a fresh hash", func(l *Link) { l.EventType = "ItemDeleted"; l.Hash = l.Row.Hash(l.PreviousHash) }},
	{"the previous hash", func(l *Link) { l.PreviousHash = []byte("other") }},
	{"the previous hash, with a fresh hash", func(l *Link) { l.PreviousHash = []byte("other"); l.Hash = l.Row.Hash(l.PreviousHash) }},
	{"the hash", func(l *Link) { l.Hash = []byte("other") }},
	{"all", func(l *Link) { l.Version, l.PreviousHash, l.Hash = 2, []byte("a"), []byte("b") }},
}

func TestFollowerIsContentWithAnIntactChain(t *testing.T) {
	t.Parallel()
	for n := 1; n < 6; n++ {
		chain := newChain(n)
		require.Empty(t, follow(chain, headOf(chain)))
		require.Empty(t, follow(chain, nil))
	}
	require.Empty(t, follow(nil, nil))
}

// A single changed row is named wherever it lies, and no other row is said for certain to have been changed.
func TestFollowerNamesTheChangedRow(t *testing.T) {
	t.Parallel()
	for _, c := range changes {
		for n := 1; n < 7; n++ {
			for i := range n {
				chain := newChain(n)
				head := headOf(chain)
				c.change(&chain[i])
				certain, suspected := named(follow(chain, head))
				require.Equal(t, []int64{int64(i + 1)}, certain, "%s of row %d of %d", c.name, i+1, n)
				require.Empty(t, suspected)
			}
		}
	}
}

func named(findings []Finding) (certain, suspected []int64) {
	for _, f := range findings {
		switch {
		case f.Kind != Changed:
		case f.Suspected:
			suspected = append(suspected, f.First)
		default:
			certain = append(certain, f.First)
		}
	}
	return certain, suspected
}

func TestFollowerNamesRemovedRows(t *testing.T) {
	t.Parallel()
	for n := 1; n < 7; n++ {
		for from := range n {
			for to := from + 1; to <= n; to++ {
				chain := newChain(n)
				head := headOf(chain)
				got := follow(slices.Delete(chain, from, to), head)
				require.Len(t, got, 1, "rows %d to %d of %d", from+1, to, n)
				require.Equal(t, Removed, got[0].Kind)
				require.Equal(t, [2]int64{int64(from + 1), int64(to)}, [2]int64{got[0].First, got[0].Last})
			}
		}
	}
}

func TestFollowerNamesInsertedRows(t *testing.T) {
	t.Parallel()
	for i := range 5 {
		chain := newChain(5)
		head := headOf(chain)
		extra := chain[i]
		extra.EventID, extra.Data = uuid.New(), `{"false":"row"}`
		extra.Hash = extra.Row.Hash(extra.PreviousHash)
		for _, before := range []int{i, i + 1} { // whichever is read first
			got := follow(slices.Insert(slices.Clone(chain), before, extra), head)
			inserted := slices.ContainsFunc(got, func(f Finding) bool { return f.Kind == Inserted && f.First == int64(i+1) })
			require.True(t, inserted, "row %d: %v", i, got)
		}
	}
	chain := newChain(3)
	early := chain[0]
	early.Position = 0
	got := follow(append([]Link{early}, chain...), headOf(chain))
	require.Len(t, got, 1)
	require.Equal(t, Inserted, got[0].Kind)
}

func TestFollowerMissesNoRewrittenRun(t *testing.T) {
	t.Parallel()
	for from := range 6 {
		for to := from; to < 6; to++ {
			chain := newChain(6)
			head := headOf(chain)
			chain[from].Data = `{"forged": true}`
			for i := from; i <= to; i++ {
				if i > from {
					chain[i].PreviousHash = chain[i-1].Hash
				}
				chain[i].Hash = chain[i].Row.Hash(chain[i].PreviousHash)
			}
			certain, _ := named(follow(chain, head))
			require.Equal(t, []int64{int64(to + 1)}, certain, "rows %d to %d", from+1, to+1)
		}
	}
}

// However a chain is tampered with at random, each row that was touched is named, and what is said for certain is so.
func TestFollowerNamesWhatWasTouched(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for range 5000 {
		original := newChain(3 + random.IntN(12))
		chain, head := slices.Clone(original), headOf(original)
		touched := map[int64]string{}
		for range 1 + random.IntN(4) {
			i := random.IntN(len(chain))
			if touched[chain[i].Position] != "" {
				continue
			}
			c := changes[random.IntN(len(changes))]
			touched[chain[i].Position] = c.name
			c.change(&chain[i])
		}
		removed := map[int64]bool{}
		for range random.IntN(3) {
			i := random.IntN(len(chain))
			// Its neighbour before it is vouched for by this row alone.
			if touched[chain[i].Position-1] != "" || touched[chain[i].Position] != "" || len(chain) < 3 {
				continue
			}
			removed[chain[i].Position] = true
			chain = slices.Delete(chain, i, i+1)
		}
		findings := follow(chain, head)
		said := map[int64]bool{}
		for _, f := range findings {
			for p := f.First; p <= f.Last; p++ {
				said[p] = true
				switch {
				case f.Kind == Removed:
					require.True(t, removed[p], "row %d is not missing: %v; %v", p, touched, findings)
				case !f.Suspected:
					require.NotEmpty(t, touched[p], "row %d was not touched: %v; %v", p, touched, findings)
				}
			}
		}
		for p := range touched {
			// A row that was given a fresh hash shows by the next one alone: where that was written anew too, the finding about it says so.
			vouched := !slices.ContainsFunc(findings, func(f Finding) bool {
				return f.First == p+1 && f.Kind == Changed && strings.Contains(f.Detail, fmt.Sprintf("nothing vouches for row %d of", p))
			})
			require.True(t, said[p] || !vouched, "row %d: %s: %v", p, touched[p], findings)
		}
		for p := range removed {
			require.True(t, said[p], "row %d was removed: %v", p, findings)
		}
	}
}
