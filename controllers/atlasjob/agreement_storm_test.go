package atlasjob

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	platformv1alpha1 "github.com/atlas-platform/atlas/api/v1alpha1"
)

const (
	// hurry is the pace of the operators in a storm: a second is 100 ms, and a late request still arrives before submitGrace is over.
	hurry = 0.1
	// stormSteps is how much happens when nothing else is asked for.
	stormSteps = 100
	// agreementTimeout is for a machine that does much else.
	agreementTimeout = 3 * time.Minute
)

// TestAtlasJobsAndTheirJobsAgreeAfterAStorm does to operators as they are, with their caches, watches and queues, what
// TestAtlasJobsAndTheirJobsAgreeInTheEnd does step by step: while AtlasJobs come, go and are suspended, and their jobs are cancelled, paused and resumed,
// operators are killed at any of their calls and the API goes away. Moments are not repeated by PROPERTY_SEED=n, what is done is; PROPERTY_STEPS=n does more.
func TestAtlasJobsAndTheirJobsAgreeAfterAStorm(t *testing.T) {
	t.Parallel()
	seed, given := number("PROPERTY_SEED")
	if !given {
		seed = uint64(rand.Uint32())
	}
	steps, given := number("PROPERTY_STEPS")
	if !given {
		steps = stormSteps
	}
	t.Logf("PROPERTY_SEED=%d", seed)
	w := newWorld(t)
	w.work()
	var delayed sync.WaitGroup
	defer delayed.Wait()
	w.postpone = func(_ string, arrive func()) {
		delayed.Go(func() {
			moment(context.Background(), 100*time.Millisecond)
			arrive()
		})
	}
	s := &storm{world: w, random: rand.New(rand.NewPCG(seed, 1)), known: born{}}

	ctx, calm := context.WithCancel(t.Context())
	end, stop := context.WithCancel(t.Context())
	defer stop()
	wait := s.operators(ctx, end, rand.New(rand.NewPCG(seed, 2)))
	defer wait()
	defer stop()
	for range steps {
		s.step(t.Context())
	}
	w.down.Store(false)
	w.late.Store(0)
	w.deaf.Store(0)
	calm()
	s.agree()

	// And each comes to its end.
	for i, job := range w.list(t) {
		if i%2 == 0 {
			require.NoError(t, client.IgnoreNotFound(w.client.Delete(t.Context(), &job)))
		} else if row, found := w.rows(t)[string(job.UID)]; found {
			w.call(row.ID, "cancel")
		}
	}
	s.agree()
	t.Logf("%d AtlasJobs, %d jobs, %d operators", len(s.known), len(w.rows(t)), s.lives.Load()+1)
}

type storm struct {
	*world
	random *rand.Rand
	known  born
	lives  atomic.Int64 // operators that were killed
}

// step does one thing and waits for a moment.
func (s *storm) step(ctx context.Context) {
	name := fmt.Sprintf("job-%d", s.random.IntN(6))
	job := &platformv1alpha1.AtlasJob{}
	err := s.client.Get(ctx, client.ObjectKey{Namespace: s.namespace, Name: name}, job)
	require.NoError(s.t, client.IgnoreNotFound(err))
	exists := err == nil
	switch dice := s.random.IntN(20); {
	case !exists:
		job = newJob(s.namespace)
		job.Name, job.Spec.Suspend = name, s.random.IntN(4) == 0
		job.Spec.MaxAttempts = new(int32(min(goesOn, 1+s.random.IntN(6))))
		require.NoError(s.t, s.client.Create(ctx, job))
		s.known[string(job.UID)] = &birth{name, !job.Spec.Suspend}
	case dice < 4:
		for range 1 + s.random.IntN(2) {
			require.NoError(s.t, client.IgnoreNotFound(s.client.Delete(ctx, job)))
		}
	case dice < 9:
		job.Spec.Suspend = !job.Spec.Suspend
		known := s.known[string(job.UID)]
		known.wanted = known.wanted || !job.Spec.Suspend
		if err := s.client.Update(ctx, job); !apierrors.IsConflict(err) {
			require.NoError(s.t, client.IgnoreNotFound(err))
		}
	case dice < 12:
		if row, found := s.rows(s.t)[string(job.UID)]; found {
			s.call(row.ID, []string{"cancel", "pause", "resume"}[dice-9])
		}
	case dice < 13:
		s.down.Store(true)
	case dice < 14:
		s.late.Store(1)
	case dice < 15:
		s.deaf.Store(1)
	default:
		s.down.Store(false)
	}
	moment(ctx, time.Duration(s.random.IntN(80))*time.Millisecond)
}

func (s *storm) agree() {
	s.t.Helper()
	require.EventuallyWithT(s.t, func(c *assert.CollectT) { s.requireAgreement(c, s.known) }, agreementTimeout, 50*time.Millisecond)
}

// operators runs one operator after another, each until it is killed at a random call, until storm is done; and then one that lives until end is. The
// returned function waits for that one's end.
func (s *storm) operators(storm, end context.Context, random *rand.Rand) (wait func()) {
	var running sync.WaitGroup
	running.Go(func() {
		for storm.Err() == nil {
			s.lives.Add(1)
			s.operator(storm, hurry, &life{left: int64(3 + random.IntN(80)), after: random.IntN(2) == 0})
		}
		s.operator(end, hurry, &life{left: math.MaxInt64})
	})
	return running.Wait
}

// operator is one life of the operator.
func (w *world) operator(ctx context.Context, pace float64, l *life) {
	ctx, l.die = context.WithCancel(ctx)
	defer l.die()
	grace := 5 * time.Second
	mgr, err := ctrl.NewManager(operatorConfig, ctrl.Options{
		Scheme: testScheme, Metrics: metricsserver.Options{BindAddress: "0"}, Cache: cacheOf(w.namespace), Controller: controllerOptions,
		GracefulShutdownTimeout: &grace, Logger: logr.Discard(),
	})
	if err != nil {
		w.t.Error(err)
		return
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	r := &Reconciler{
		Client: mortal{mgr.GetClient(), l}, Reader: mortalReader{mgr.GetAPIReader(), l}, Recorder: mgr.GetEventRecorder("atlasjob"),
		BaseURL: func(*platformv1alpha1.AtlasStack) string { return w.gated },
		HTTP:    &http.Client{Transport: mortalTransport{transport, l}},
		pace:    pace,
	}
	if err := errors.Join(r.SetupWithManager(mgr), mgr.Start(ctx)); err != nil {
		w.t.Error(err)
	}
}
