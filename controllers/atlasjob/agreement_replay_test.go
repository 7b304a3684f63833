package atlasjob

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/controller-runtime/pkg/client"

	platformv1alpha1 "github.com/atlas-platform/atlas/api/v1alpha1"
)

const (
	historySteps = 120
	historyNames = 3
	// settleRounds of settleRound are longer than anything that the operator waits for.
	settleRounds, settleRound = 5, 15 * time.Second
)

// TestAtlasJobsAndTheirJobsAgreeInTheEnd drives AtlasJobs through random histories, one thing after another, with a real Kubernetes API, REST API, database
// and worker. AtlasJobs are created, deleted, created again, suspended and resumed; their jobs are cancelled, paused and resumed over REST; the operator is
// killed before or after any of its calls; its cache is behind; the API is away, answers to nobody, or gets requests long after their sender gave up.
// What holds after each step is in requireSafe, what holds in the end in requireAgreement. PROPERTY_SEED=n repeats one history, PROPERTY_SEEDS=n runs so
// many new ones, and -v tells them.
//
// Each of these, taken out, was found by some of 8 to 20 seeds: the UID as the key, the finalizer, the optimistic locks of status and of finalizers, the
// wait for a late request and the look for a job by its key before a deletion is over, suspend before the submission and its passing on, the look for a job
// that status doesn't name when it is suspended, observedGeneration, of a finished one too, and the one Event of a cancellation. Too rare or too short for
// it, and in tests of their own: the last look at the API server before the submission, the wait for a running job's end, and the next look after a stale one.
func TestAtlasJobsAndTheirJobsAgreeInTheEnd(t *testing.T) {
	t.Parallel()
	var seeds []uint64
	if one, given := number("PROPERTY_SEED"); given {
		seeds = []uint64{one}
	} else if n, given := number("PROPERTY_SEEDS"); given {
		for range n {
			seeds = append(seeds, uint64(rand.Uint32()))
		}
	} else {
		// The last one is new each time; the test's name says it.
		seeds = append(seeds, 1, 2, 2132663643, 2342522522, uint64(rand.Uint32()))
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			h := newHistory(t, seed)
			for range historySteps {
				h.step()
				h.requireSafe(t, h.known)
				h.quiet()
				h.requireSafe(t, h.known)
			}
			for i := 1; i < historyNames; i++ { // what goes wrong now, nobody mends before it is looked at
				h.doom(fmt.Sprintf("job-%d", i))
				h.see(fmt.Sprintf("job-%d", i))
			}
			h.settle()
			h.end()
			h.settle()
			h.requireTold()
		})
	}
}

// step does one thing.
func (h *history) step() {
	name := fmt.Sprintf("job-%d", h.random.IntN(historyNames))
	job := h.live(name)
	switch n := h.random.IntN(100); {
	case n < 40:
		if queue := h.queued(); len(queue) > 0 {
			h.turn(queue[h.random.IntN(len(queue))], h.random.IntN(2) == 0)
		}
	case n < 54:
		h.doom(name)
	case job == nil && n < 80:
		h.make(name)
	case n < 62:
		h.remove(job)
	case n < 72:
		h.suspend(job)
	case n < 80:
		if row, found := h.rows(h.t)[string(job.UID)]; found {
			what := []string{"cancel", "pause", "resume"}[h.random.IntN(3)]
			h.tell("%s the job of %s", what, name)
			h.call(row.ID, what)
		}
	default:
		h.weather(n - 80)
	}
	h.see(name)
}

// weather changes what surrounds the operator.
func (h *history) weather(n int) {
	switch {
	case n < 2:
		h.tell("the API goes away")
		h.down.Store(true)
	case n < 6:
		h.tell("the API is there")
		h.down.Store(false)
	case n < 10:
		h.tell("the next POST will be late")
		h.late.Store(1)
	case n < 12:
		h.tell("the next answer will be lost")
		h.deaf.Store(1)
	case n < 13:
		h.arrive(time.Hour)
	case n < 15:
		isReady := h.random.IntN(3) != 0
		h.tell("the stack is ready: %t", isReady)
		h.stack(isReady)
	case n < 17 && h.stop == nil:
		h.tell("a worker comes")
		h.work()
	case n < 17:
		h.tell("the worker goes")
		h.rest()
	default:
		h.advance(time.Duration(5+h.random.IntN(15)) * time.Second)
	}
}

// make creates an AtlasJob. Some are suspended at first, some go when they are done, and what the job does is in the number of attempts.
func (h *history) make(name string) {
	job := newJob(h.namespace)
	job.Name, job.Spec.Suspend = name, h.random.IntN(4) == 0
	job.Spec.MaxAttempts = new(int32(min(goesOn, 1+h.random.IntN(6))))
	if h.random.IntN(4) == 0 {
		job.Spec.TTLSecondsAfterFinished = new(int32(10))
	}
	h.tell("create %s, suspended %t, outcome %d", name, job.Spec.Suspend, *job.Spec.MaxAttempts)
	require.NoError(h.t, h.client.Create(h.t.Context(), job))
	h.known[string(job.UID)] = &birth{name, !job.Spec.Suspend}
}

// doom has the operator die with one of the next calls that it makes for an AtlasJob, and changes that before anybody looks at it again.
func (h *history) doom(name string) {
	if h.live(name) == nil {
		h.make(name)
		h.see(name)
	}
	if h.due[name] {
		h.life.left = int64(1 + h.random.IntN(6))
		h.turn(name, false)
	}
	switch job := h.live(name); {
	case job == nil:
	case !job.Spec.Suspend && h.random.IntN(3) > 0:
		h.suspend(job)
	case h.random.IntN(2) == 0:
		h.remove(job)
	}
}

// remove deletes an AtlasJob, some of them twice.
func (h *history) remove(job *platformv1alpha1.AtlasJob) {
	h.tell("delete %s", job.Name)
	for range 1 + h.random.IntN(2) {
		require.NoError(h.t, client.IgnoreNotFound(h.client.Delete(h.t.Context(), job)))
	}
}

func (h *history) suspend(job *platformv1alpha1.AtlasJob) {
	h.tell("suspend %s: %t", job.Name, !job.Spec.Suspend)
	job.Spec.Suspend = !job.Spec.Suspend
	known := h.known[string(job.UID)]
	known.wanted = known.wanted || !job.Spec.Suspend
	require.NoError(h.t, h.client.Update(h.t.Context(), job))
}

// advance lets time pass. A request that is on its way arrives before the API would have given it up.
func (h *history) advance(by time.Duration) {
	h.arrive(h.passed + by)
	h.tell("%s pass", by)
	h.passed += by
}

// settle calms the weather, and gives an operator that isn't killed any more the time that it needs. It is only woken as it would be.
func (h *history) settle() {
	h.tell("the weather is calm")
	h.down.Store(false)
	h.late.Store(0)
	h.deaf.Store(0)
	h.stack(true)
	if h.stop == nil {
		h.work()
	}
	h.restart()
	h.immortal()
	for range settleRounds {
		h.advance(settleRound)
		for _, name := range h.queued() {
			h.turn(name, false)
		}
		h.quiet()
	}
	h.requireAgreement(h.t, h.known)
}

// end brings each job to its end.
func (h *history) end() {
	for _, job := range h.list(h.t) {
		if row, found := h.rows(h.t)[string(job.UID)]; found && h.random.IntN(2) == 0 {
			h.tell("in the end, cancel the job of %s", job.Name)
			h.call(row.ID, "cancel")
		} else {
			h.tell("in the end, delete %s", job.Name)
			require.NoError(h.t, h.client.Delete(h.t.Context(), &job))
		}
		h.see(job.Name)
	}
}

// requireTold checks the Kubernetes Events. One may be missing, since the operator may die before it writes it; that of an outcome is the last one, and a
// cancellation is told of once.
func (h *history) requireTold() {
	for uid, reasons := range h.said {
		cancelled := 0
		for i, reason := range reasons {
			switch reason {
			case reasonSucceeded, reasonCancelled, platformv1alpha1.ReasonFailed:
				require.Equal(h.t, len(reasons)-1, i, "%s: %v", h.known[uid].name, reasons)
			case reasonCancelling:
				cancelled++
			}
		}
		require.LessOrEqual(h.t, cancelled, 1, "%s: %v", h.known[uid].name, reasons)
	}
}
