package atlasstack_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/internal/testenv"
)

// phase is something that happens in the life of a stack.
type phase struct {
	name string
	do   func(*world) error
	// spared has no faults.
	spared bool
}

// wholeLife ends with a deletion that deletes topic and index too.
func wholeLife() []phase {
	return []phase{
		{name: "create", do: (*world).create},
		{name: "update", do: (*world).change},
		{name: "upgrade", do: (*world).upgrade},
		{name: "rollback", do: (*world).rollBack},
		{name: "delete", do: (*world).remove},
	}
}

// shortLife ends with a deletion that keeps them, and cancels a job.
func shortLife() []phase {
	return []phase{{name: "create", do: (*world).create, spared: true}, {name: "job", do: (*world).submit}, {name: "delete", do: (*world).deleteStack}}
}

func (w *world) create() error {
	stack := &v1alpha1.AtlasStack{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: stackName, Labels: map[string]string{directLabel: "true"}}}
	full(&stack.Spec)
	stack.Spec.Kafka.Brokers, stack.Spec.Elasticsearch.Addresses = []string{w.kafka.address}, []string{w.elastic.address}
	stack.Spec.Kafka.DeletionPolicy, stack.Spec.Elasticsearch.DeletionPolicy = v1alpha1.DeletionRetain, v1alpha1.DeletionRetain
	return w.client.Create(w.ctx, stack)
}

func (w *world) change() error {
	return w.update(func(s *v1alpha1.AtlasStackSpec) {
		full(s)
		s.LogLevel, s.Kafka.Topic.Partitions, s.Observability.Monitor, s.API.PodDisruptionBudget = "debug", 12, nil, nil
	})
}

func (w *world) upgrade() error {
	return w.update(func(s *v1alpha1.AtlasStackSpec) { s.Image = "registry.example.com/atlas:2.0.0" })
}

// rollBack has a newer release begin to migrate, and returns to the one before.
func (w *world) rollBack() error {
	var newer, before string
	err := w.update(func(s *v1alpha1.AtlasStackSpec) {
		before, s.Image = s.Image, "registry.example.com/atlas:3.0.0"
		newer = s.Image
	})
	for begun, turns := false, 0; err == nil && !begun && turns < 10; turns++ {
		_ = w.turn() // the fault may be in this one
		jobs := &batchv1.JobList{}
		err = w.client.List(w.ctx, jobs, client.InNamespace(w.namespace))
		begun = slices.ContainsFunc(jobs.Items, func(job batchv1.Job) bool { return job.Spec.Template.Spec.Containers[0].Image == newer })
	}
	return errors.Join(err, w.update(func(s *v1alpha1.AtlasStackSpec) { s.Image = before }))
}

// submit makes a job that was submitted and runs.
func (w *world) submit() error {
	job := &v1alpha1.AtlasJob{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "running", Finalizers: []string{v1alpha1.CancelJobFinalizer}}}
	job.Spec.StackRef.Name, job.Spec.Type, job.Spec.Reindex = stackName, v1alpha1.AtlasJobTypeReindex, &v1alpha1.ReindexJob{}
	return w.client.Create(w.ctx, job)
}

func (w *world) deleteStack() error {
	stack, err := w.stack()
	return errors.Join(err, w.client.Delete(w.ctx, stack))
}

// remove deletes the stack before the operator may have seen that there is a job.
func (w *world) remove() error { return errors.Join(w.submit(), w.deleteStack()) }

func (w *world) update(change func(*v1alpha1.AtlasStackSpec)) error {
	stack, err := w.stack()
	if err != nil {
		return err
	}
	before := stack.DeepCopy()
	change(&stack.Spec)
	return w.client.Patch(w.ctx, stack, client.MergeFrom(before))
}

// faultsOf are the faults of each call that an operator makes when all goes well: a read fails, or the operator dies with it; a write does so before it
// takes effect, or after.
func faultsOf(writes []bool) (faults []fault) {
	for i, write := range writes {
		for _, dies := range []bool{false, true} {
			faults = append(faults, fault{call: i + 1, dies: dies})
			if write {
				faults = append(faults, fault{call: i + 1, dies: dies, after: true})
			}
		}
	}
	return faults
}

// TestEveryFaultEndsInTheSameState: whatever one call of the operator comes to, while a stack is made, changed, upgraded, rolled back and deleted, everything is as if it
// had not happened, in the cluster, in Kafka and in Elasticsearch. FAULTS=all tries every fault of every call, which takes long; otherwise
// one call in fifteen has one, other ones each time.
func TestEveryFaultEndsInTheSameState(t *testing.T) {
	t.Parallel()
	last := tryFaults(t, wholeLife())
	require.NotContains(t, last, "kind: Deployment")
	require.NotContains(t, last, "atlas.domain-events")
	require.Contains(t, last, "elasticsearch template false edited false index false alias false")
}

// TestEveryFaultOfADeletionThatKeepsTopicAndIndex is the same for the policy Retain.
func TestEveryFaultOfADeletionThatKeepsTopicAndIndex(t *testing.T) {
	t.Parallel()
	last := tryFaults(t, shortLife())
	require.NotContains(t, last, "kind: Deployment")
	require.Contains(t, last, "atlas.domain-events")
	require.Contains(t, last, "elasticsearch template true edited false index true alias true")
}

// tryFaults leads lives with faults, compares them with one without, and returns what that one left.
func tryFaults(t *testing.T, phases []phase) (last string) {
	t.Helper()
	testenv.Require(t, testenv.EnvtestAssets)
	clean := lead(t.Context(), theSuite, phases, nil)
	require.NoError(t, clean.err)
	exhaustive := os.Getenv("FAULTS") == "all"
	var faults [][]fault
	lives := 0
	for i, phase := range phases {
		all := faultsOf(clean.writes[i])
		if !exhaustive {
			all = every(stride, oneEach(all))
		}
		if phase.spared {
			all = nil
		}
		// A run that is cut short has tried some of each kind.
		rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		t.Logf("%s: %d calls, %d faults", phase.name, len(clean.writes[i]), len(all))
		faults = append(faults, all)
		lives = max(lives, len(all))
	}

	queue := make(chan int)
	var group sync.WaitGroup
	for range 6 {
		group.Go(func() {
			for n := range queue {
				var plan []fault // a life ends with the phase of its last fault
				for i := range faults {
					if n < len(faults[i]) {
						plan = append(plan, make([]fault, i+1-len(plan))...)
						plan[i] = faults[i][n]
					}
				}
				life := lead(t.Context(), theSuite, phases[:len(plan)], plan)
				for i, state := range life.states {
					if life.err == nil && state != clean.states[i] {
						life.err = fmt.Errorf("after %s with %+v: %s", phases[i].name, plan[i], difference(clean.states[i], state))
					}
				}
				assert.NoError(t, life.err)
			}
		})
	}
	for n := range lives {
		if n%50 == 0 && n > 0 {
			t.Logf("%d of %d lives", n, lives)
		}
		queue <- n
	}
	close(queue)
	group.Wait()
	return clean.states[len(phases)-1]
}

// oneEach keeps one fault of each call, of another sort from call to call.
func oneEach(all []fault) (some []fault) {
	for i := 0; i < len(all); {
		n := 1
		for i+n < len(all) && all[i+n].call == all[i].call {
			n++
		}
		some = append(some, all[i+all[i].call%n])
		i += n
	}
	return some
}

// stride is how many calls there are for one fault.
const stride = 15

// every keeps one of n, from a random one on.
func every(n int, all []fault) (some []fault) {
	for i := rand.IntN(n); i < len(all); i += n {
		some = append(some, all[i])
	}
	return some
}

// difference are the lines that only one of two states has.
func difference(want, got string) string {
	var out strings.Builder
	for sign, texts := range map[string][2]string{"-": {want, got}, "+": {got, want}} {
		for line := range strings.Lines(texts[0]) {
			if !strings.Contains(texts[1], line) {
				out.WriteString("\n" + sign + line)
			}
		}
	}
	if out.Len() == 0 {
		return got + "\ninstead of\n" + want
	}
	return out.String()
}

// led is what came of the life of a stack.
type led struct {
	writes [][]bool // the calls in each phase
	states []string // what there was after each
	err    error
}

// lead goes through the phases with a new operator in each. plan has a fault for each phase; nil has none.
func lead(ctx context.Context, s *suite, phases []phase, plan []fault) (out led) {
	w, err := newWorld(ctx, s)
	if err != nil {
		return led{err: err}
	}
	var early error
	w.kafka.deleting = func() {
		if deployments := w.count(); deployments > 0 {
			early = errors.New("a topic was deleted while pods could make it again")
		}
	}
	for i, phase := range phases {
		f := fault{}
		if plan != nil {
			f = plan[i]
		}
		w.start(f)
		life := w.life
		err := errors.Join(phase.do(w), w.settle(), early)
		if err != nil {
			out.err = fmt.Errorf("%s with %+v: %w", phase.name, f, err)
			return out
		}
		state, err := w.state()
		if err != nil {
			out.err = err
			return out
		}
		out.writes, out.states = append(out.writes, life.writes), append(out.states, state)
	}
	return out
}
