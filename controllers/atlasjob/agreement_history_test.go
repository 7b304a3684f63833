package atlasjob

import (
	"context"
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	platformv1alpha1 "github.com/atlas-platform/atlas/api/v1alpha1"
)

// history is a world in which one thing happens after another. Its operator is a Reconciler without a manager: what its cache shows and what its queue
// holds is the history's.
type history struct {
	*world
	random *rand.Rand
	known  born
	passed time.Duration // how much later it is than in reality
	life   *life

	deleted map[types.UID]time.Duration             // by then, so much time had passed
	shown   map[string][]*platformv1alpha1.AtlasJob // each name's states, oldest first; nil where there was none
	floor   map[string]int                          // the state of each name that the cache shows: it doesn't go back
	due     map[string]bool                         // the operator's queue
	said    map[string][]string                     // the reasons of the Kubernetes Events, by UID

	mu      sync.Mutex
	delayed []delayed
}

// delayed is a request that arrives later: at a moment of its own, or when the API would be about to give it up.
type delayed struct {
	what   string
	arrive func()
	until  time.Duration
}

func newHistory(t *testing.T, seed uint64) *history {
	t.Helper()
	h := &history{
		world: newWorld(t), random: rand.New(rand.NewPCG(seed, 1)), known: born{},
		deleted: map[types.UID]time.Duration{}, shown: map[string][]*platformv1alpha1.AtlasJob{}, said: map[string][]string{},
	}
	h.postpone = func(what string, arrive func()) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.delayed = append(h.delayed, delayed{what, arrive, h.passed + submitGrace - 10*time.Second})
	}
	h.r.Client, h.r.Reader = watched{h.asOperator, h}, mortalReader{h.asOperator, &life{}}
	h.r.Recorder = recorder(func(uid, reason string) { h.said[uid] = append(h.said[uid], reason) })
	h.r.BaseURL = func(*platformv1alpha1.AtlasStack) string { return h.gated }
	h.r.Clock = func() time.Time { return time.Now().Add(h.passed) }
	h.restart()
	h.work()
	return h
}

func (h *history) tell(format string, arguments ...any) {
	if testing.Verbose() {
		h.t.Logf(format, arguments...)
	}
}

// live is an AtlasJob as it is; nil when there is none.
func (h *history) live(name string) *platformv1alpha1.AtlasJob {
	h.t.Helper()
	job := newJob(h.namespace)
	job.Name = name
	return h.read(job)
}

// see notes a state that a cache may show from now on. A change of the spec, a deletion and its end wake the operator, as its watch would.
func (h *history) see(name string) {
	h.t.Helper()
	job, states := h.live(name), h.shown[name]
	if len(states) == 0 && job == nil || len(states) > 0 && version(states[len(states)-1]) == version(job) {
		return
	}
	if len(states) == 0 || wakes(states[len(states)-1], job) {
		h.due[name] = true
	}
	if job != nil && job.DeletionTimestamp != nil { // Kubernetes knows nothing of the time that passed here
		if _, known := h.deleted[job.UID]; !known {
			h.deleted[job.UID] = h.passed
		}
		job.DeletionTimestamp.Time = job.DeletionTimestamp.Add(h.deleted[job.UID])
	}
	h.shown[name] = append(states, job)
}

func version(job *platformv1alpha1.AtlasJob) string {
	if job == nil {
		return ""
	}
	return job.ResourceVersion
}

func wakes(before, after *platformv1alpha1.AtlasJob) bool {
	return before == nil || after == nil || before.UID != after.UID || before.Generation != after.Generation
}

// restart starts an operator: it looks at everything, in a cache that may begin in the past, and dies with one of its next calls.
func (h *history) restart() {
	h.life = &life{left: int64(1 + h.random.IntN(16)), after: h.random.IntN(2) == 0, die: func() {}}
	h.floor, h.due = map[string]int{}, map[string]bool{}
	for name, states := range h.shown {
		h.floor[name] = max(0, len(states)-1-h.random.IntN(6))
		h.due[name] = true
	}
	transport := &http.Transport{DisableKeepAlives: true} // nor does it send anything twice by itself
	h.r.Client, h.r.Reader = watched{mortal{h.asOperator, h.life}, h}, mortalReader{h.asOperator, h.life}
	h.r.HTTP = withoutRedirects(&http.Client{Transport: mortalTransport{transport, h.life}})
}

func (h *history) immortal() { h.life.left = math.MaxInt64 }

// queued are the names in the operator's queue.
func (h *history) queued() []string { return slices.Sorted(maps.Keys(h.due)) }

// turn has the operator reconcile an AtlasJob of its queue. With behind, the cache may show a former state.
func (h *history) turn(name string, behind bool) {
	h.t.Helper()
	delete(h.due, name)
	states := h.shown[name]
	last := len(states) - 1
	if behind {
		last = h.floor[name] + h.random.IntN(len(states)-h.floor[name])
	}
	h.floor[name] = last
	result, err := h.r.Reconcile(h.t.Context(), ctrl.Request{NamespacedName: client.ObjectKey{Namespace: h.namespace, Name: name}})
	h.tell("the operator looks at %s, behind by %d: %v %v", name, len(states)-1-last, result, err)
	if h.life.left <= 0 {
		h.tell("the operator is killed")
		h.restart()
		return
	}
	if err != nil || result.RequeueAfter > 0 {
		h.due[name] = true
	}
	for i := last + 1; i < len(h.shown[name]); i++ { // what the cache has yet to show
		if wakes(h.shown[name][i-1], h.shown[name][i]) {
			h.due[name] = true
		}
	}
}

// arrive lets delayed requests arrive that can't be later than a moment.
func (h *history) arrive(by time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.delayed = slices.DeleteFunc(h.delayed, func(d delayed) bool {
		if d.until > by {
			return false
		}
		h.tell("POST %s arrives late", d.what)
		d.arrive()
		return true
	})
}

// quiet waits until the worker has nothing left to do: so a history's moments are the same each time.
func (h *history) quiet() {
	h.t.Helper()
	h.await(func(r row) bool {
		switch r.State {
		case "QUEUED":
			return h.stop == nil || r.Held
		case "RUNNING":
			return h.stop != nil && !r.Held && !r.CancelRequested && r.MaxAttempts == goesOn
		default:
			return true
		}
	})
}

func (h *history) await(calm func(row) bool) {
	h.t.Helper()
	require.Eventually(h.t, func() bool {
		for _, r := range h.rows(h.t) {
			if !calm(r) {
				return false
			}
		}
		return true
	}, time.Minute, time.Millisecond)
}

// watched is the client of an operator whose cache shows what the history says. What it writes, a cache may show.
type watched struct {
	client.Client
	h *history
}

func (w watched) Get(ctx context.Context, key client.ObjectKey, o client.Object, options ...client.GetOption) error {
	job, ok := o.(*platformv1alpha1.AtlasJob)
	if !ok {
		return w.Client.Get(ctx, key, o, options...)
	}
	if shown := w.h.shown[key.Name][w.h.floor[key.Name]]; shown != nil {
		shown.DeepCopyInto(job)
		return nil
	}
	return apierrors.NewNotFound(schema.GroupResource{Resource: "atlasjobs"}, key.Name)
}

func (w watched) Patch(ctx context.Context, o client.Object, p client.Patch, options ...client.PatchOption) error {
	defer w.h.see(o.GetName())
	return w.Client.Patch(ctx, o, p, options...)
}

func (w watched) Delete(ctx context.Context, o client.Object, options ...client.DeleteOption) error {
	defer w.h.see(o.GetName())
	return w.Client.Delete(ctx, o, options...)
}

func (w watched) Status() client.SubResourceWriter { return watchedStatus{w.Client.Status(), w.h} }

type watchedStatus struct {
	client.SubResourceWriter
	h *history
}

func (w watchedStatus) Patch(ctx context.Context, o client.Object, p client.Patch, options ...client.SubResourcePatchOption) error {
	defer w.h.see(o.GetName())
	return w.SubResourceWriter.Patch(ctx, o, p, options...)
}

// recorder takes the Kubernetes Events.
type recorder func(uid, reason string)

func (r recorder) Eventf(regarding, _ runtime.Object, _, reason, _, _ string, _ ...any) {
	r(string(regarding.(client.Object).GetUID()), reason)
}
