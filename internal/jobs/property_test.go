package jobs

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	propertySeeds = 6
	propertySteps = 500
)

// TestTheEngineKeepsItsPromises drives several workers through random histories under a clock of the test's own: workers vanish, stall past their
// lease and come back, miss heartbeats, drain and settle late, while jobs are queued, cancelled, retried, held and resumed and schedules fire. A trigger records every
// change of every job; what has to hold of that record is in (*history).check. PROPERTY_SEED=n repeats one history, PROPERTY_SEEDS=n runs so many new ones.
func TestTheEngineKeepsItsPromises(t *testing.T) {
	t.Parallel()
	var seeds []uint64
	if one, err := strconv.ParseUint(os.Getenv("PROPERTY_SEED"), 10, 64); err == nil {
		seeds = []uint64{one}
	} else if n, err := strconv.Atoi(os.Getenv("PROPERTY_SEEDS")); err == nil {
		for range n {
			seeds = append(seeds, uint64(rand.Uint32()))
		}
	} else {
		for i := range uint64(propertySeeds) {
			seeds = append(seeds, i+1)
		}
		seeds = append(seeds, uint64(rand.Uint32())) // the test's name says it
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, seed)
			for range propertySteps {
				w.step()
			}
			w.settleDown()
			w.read().check(t, w)
		})
	}
}

// step does one thing, or several at the same time.
func (w *world) step() {
	switch n := w.rng.IntN(100); {
	case n < 12:
		w.enqueue()
	case n < 30:
		w.at(w.someWorkers(), (*simWorker).look)
	case n < 48:
		w.act()
	case n < 59:
		w.at(w.someWorkers(), (*simWorker).settle)
	case n < 68: // the others' heartbeats are late
		w.at(w.someWorkers(), (*simWorker).beat)
	case n < 71:
		w.at(w.someWorkers(), (*simWorker).hear)
	case n < 79:
		w.advance(time.Duration(w.rng.IntN(15_000)) * time.Millisecond)
	case n < 81: // a stall: nobody's heart beats
		w.advance(simLease + time.Duration(w.rng.IntN(60_000))*time.Millisecond)
	case n < 82:
		w.crash(w.rng.IntN(len(w.workers)))
	case n < 84:
		w.drain(w.rng.IntN(len(w.workers)))
	case n < 90:
		w.cancel()
	case n < 94:
		w.retry()
	case n < 96:
		w.hold()
	case n < 98:
		w.resume()
	default: // everything at once
		w.at(w.workers, (*simWorker).look)
	}
	w.collect()
	w.requireLimit()
}

// settleDown lets good workers finish everything: what they can't finish is lost.
func (w *world) settleDown() {
	for i := range w.workers {
		w.crash(i)
	}
	w.exec("UPDATE job_schedules SET suspended = true")
	for w.resume() {
	}
	for range 600 {
		if w.count("SELECT count(*) FROM jobs WHERE state IN ('QUEUED', 'RUNNING')") == 0 {
			return
		}
		w.advance(10 * time.Second)
		for _, worker := range w.workers {
			worker.look()
			w.collect()
			for _, r := range worker.runs() {
				r.tell(order{result: true})
			}
			worker.settle()
		}
	}
	w.t.Fatal("jobs are left over: ", w.count("SELECT count(*) FROM jobs WHERE state IN ('QUEUED', 'RUNNING')"))
}

// requireLimit looks at a promise that no record of single rows shows.
func (w *world) requireLimit() {
	require.LessOrEqual(w.t, w.count("SELECT count(*) FROM jobs WHERE state = 'RUNNING' AND type = 'limited'"), simLimit, "running jobs of a limited kind")
}
