package atlasstack_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/yaml"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/atlasstack"
	"github.com/atlas-platform/atlas/controllers/template"
	"github.com/atlas-platform/atlas/controllers/topic"
	"github.com/atlas-platform/atlas/controllers/workloads"
)

// directLabel is on the stacks that the suite's manager leaves alone.
const directLabel = "test.platform.atlas.dev/direct"

// world is a namespace whose operator the test calls turn by turn, so that it knows each of its calls. The test plays the other controllers.
type world struct {
	*suite
	ctx       context.Context
	namespace string
	kafka     *kafkaServer
	elastic   *elasticServer
	life      *life
	operator  *atlasstack.Reconciler
	clock     time.Duration // how far the operator's clock is ahead
	began     time.Time     // from when on that clock stands still, but for clock; zero while it runs
	told      *told
	kinds     []schema.GroupVersionKind
}

func newWorld(ctx context.Context, s *suite) (*world, error) {
	w := &world{suite: s, ctx: ctx, namespace: "w-" + uuid.NewString()[:8], told: &told{}}
	w.kafka, w.elastic = s.servers.add(w.namespace)
	err := errors.Join(
		w.client.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: w.namespace}}),
		w.client.Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "postgres"}, StringData: map[string]string{"url": databaseURL}}),
	)
	if err == nil {
		w.kinds, err = operatorKinds(w.client.RESTMapper())
	}
	w.start(fault{})
	return w, err
}

// start begins the life of an operator, which remembers nothing.
func (w *world) start(f fault) {
	w.life = &life{fault: f}
	mortal := w.life.mortal(w.direct, w.namespace)
	w.operator = (&atlasstack.Reconciler{
		Client: mortal, Reader: mortal, Recorder: w.told, Namespace: operatorNamespace,
		Clock: w.now,
		ConnectTopic: func(ctx context.Context, target topic.Target) (topic.Admin, error) {
			admin, err := w.servers.connectTopic(ctx, target)
			return mortalTopics{admin, w.life}, err
		},
		ConnectIndex: func(ctx context.Context, target template.Target) (template.Admin, error) {
			admin, err := w.servers.connectIndex(ctx, target)
			return mortalIndices{admin, w.life}, err
		},
	}).Direct()
}

func (w *world) now() time.Time {
	if w.began.IsZero() {
		return time.Now().Add(w.clock)
	}
	return w.began.Add(w.clock)
}

// told are the Events of the operators, in one world.
type told struct {
	mu    sync.Mutex
	notes []string
}

func (r *told) Eventf(_, _ runtime.Object, kind, reason, _, note string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.notes = append(r.notes, kind+" "+reason+" "+fmt.Sprintf(note, args...))
}

// turn is one reconciliation, of a new operator if the last one died.
func (w *world) turn() error {
	if w.life.isDead() {
		w.start(fault{})
	}
	_, err := w.operator.Reconcile(w.ctx, reconcile.Request{NamespacedName: client.ObjectKey{Namespace: w.namespace, Name: stackName}})
	return err
}

// settle gives the operator turns until it writes nothing and the stack is ready, or gone.
func (w *world) settle() error {
	var last error
	for range 60 {
		before := len(w.writes.in(w.namespace))
		last = w.turn()
		played, err := w.play()
		if err != nil {
			return err
		}
		if last != nil || played || w.life.isDead() || len(w.writes.in(w.namespace)) > before {
			continue
		}
		stack, err := w.stack()
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return err
		}
		ready := meta.FindStatusCondition(stack.Status.Conditions, v1alpha1.ConditionReady)
		if ready != nil && ready.Status == metav1.ConditionTrue && ready.ObservedGeneration == stack.Generation {
			return nil
		}
		last = fmt.Errorf("%v", stack.Status.Conditions)
	}
	writes := w.writes.in(w.namespace)
	return fmt.Errorf("it did not settle: %w; the last requests: %v", last, writes[max(0, len(writes)-6):])
}

func (w *world) stack() (*v1alpha1.AtlasStack, error) {
	stack := &v1alpha1.AtlasStack{}
	return stack, w.client.Get(w.ctx, client.ObjectKey{Namespace: w.namespace, Name: stackName}, stack)
}

// play is a turn of the controllers of Jobs and Deployments and of the garbage collector. It reports whether it did something.
func (w *world) play() (played bool, err error) {
	_, err = w.stack()
	gone := apierrors.IsNotFound(err)
	if client.IgnoreNotFound(err) != nil {
		return false, err
	}
	deployments, jobs := &appsv1.DeploymentList{}, &batchv1.JobList{}
	if err := errors.Join(w.client.List(w.ctx, deployments, client.InNamespace(w.namespace)), w.client.List(w.ctx, jobs, client.InNamespace(w.namespace))); err != nil {
		return false, err
	}
	atlasJobs := &v1alpha1.AtlasJobList{}
	err = w.client.List(w.ctx, atlasJobs, client.InNamespace(w.namespace))
	for i := range atlasJobs.Items {
		if job := &atlasJobs.Items[i]; !job.DeletionTimestamp.IsZero() {
			before := job.DeepCopy()
			controllerutil.RemoveFinalizer(job, v1alpha1.CancelJobFinalizer)
			err, played = errors.Join(err, w.client.Patch(w.ctx, job, client.MergeFrom(before))), true
		}
	}
	if gone {
		objects, err := w.objects()
		for _, object := range objects {
			if len(object.GetOwnerReferences()) > 0 {
				err = errors.Join(err, client.IgnoreNotFound(w.client.Delete(w.ctx, &object, client.PropagationPolicy(metav1.DeletePropagationBackground))))
				played = true
			}
		}
		return played, err
	}
	for i := range deployments.Items {
		d := &deployments.Items[i]
		n := int32(1)
		if d.Spec.Replicas != nil {
			n = *d.Spec.Replicas
		}
		want := appsv1.DeploymentStatus{ObservedGeneration: d.Generation, Replicas: n, UpdatedReplicas: n, ReadyReplicas: n, AvailableReplicas: n}
		if apiEqual(d.Status, want) {
			continue
		}
		d.Status, played = want, true
		err = errors.Join(err, w.client.Status().Update(w.ctx, d))
	}
	ended, endErr := w.playJobs(jobs.Items)
	return played || ended, errors.Join(err, endErr)
}

// playJobs has the Jobs that have not ended succeed.
func (w *world) playJobs(jobs []batchv1.Job) (played bool, err error) {
	for i := range jobs {
		job := &jobs[i]
		if len(job.Status.Conditions) > 0 {
			continue
		}
		now := metav1.Now()
		job.Status.StartTime, job.Status.CompletionTime, job.Status.Succeeded, played = &now, &now, 1, true
		for _, kind := range []batchv1.JobConditionType{batchv1.JobSuccessCriteriaMet, batchv1.JobComplete} {
			job.Status.Conditions = append(job.Status.Conditions, batchv1.JobCondition{Type: kind, Status: corev1.ConditionTrue, LastTransitionTime: now, LastProbeTime: now})
		}
		err = errors.Join(err, w.client.Status().Update(w.ctx, job))
	}
	return played, err
}

// objects are all that the stack has in the cluster.
func (w *world) objects() ([]unstructured.Unstructured, error) {
	var all []unstructured.Unstructured
	for _, kind := range w.kinds {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(kind)
		err := w.direct.List(w.ctx, list, client.InNamespace(w.namespace), client.HasLabels{workloads.StackLabel})
		if apierrors.IsNotFound(err) || meta.IsNoMatchError(err) {
			continue // the CRD of another test has gone
		}
		if err != nil {
			return nil, err
		}
		all = append(all, list.Items...)
	}
	return all, nil
}

// operatorKinds are the kinds that the operator may create: a new child is among them by its permission.
func operatorKinds(mapper meta.RESTMapper) (kinds []schema.GroupVersionKind, err error) {
	manifest, err := os.ReadFile(filepath.Join("..", "..", "config", "rbac", "role.yaml"))
	if err != nil {
		return nil, err
	}
	role := &rbacv1.ClusterRole{}
	if err := yaml.UnmarshalStrict(manifest, role); err != nil {
		return nil, err
	}
	for _, rule := range role.Rules {
		if !slices.Contains(rule.Verbs, "create") || rule.APIGroups[0] == "events.k8s.io" {
			continue
		}
		for _, resource := range rule.Resources {
			kind, err := mapper.KindFor(schema.GroupVersionResource{Group: rule.APIGroups[0], Resource: resource})
			if meta.IsNoMatchError(err) {
				continue // its CRD is not in these tests
			}
			if err != nil {
				return nil, err
			}
			kinds = append(kinds, kind)
		}
	}
	return kinds, nil
}

var (
	uuids  = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	hashes = regexp.MustCompile(`[0-9a-f]{64}`)
	jobIDs = regexp.MustCompile(stackName + `-migrate-[0-9a-f]{10}`)
)

// state is everything that there is, in the cluster and outside, without what differs between two stacks that are the same.
func (w *world) state() (string, error) {
	objects, err := w.objects()
	if err != nil {
		return "", err
	}
	var out []string
	for _, o := range objects {
		for _, field := range []string{"uid", "resourceVersion", "creationTimestamp", "managedFields", "generation"} {
			unstructured.RemoveNestedField(o.Object, "metadata", field)
		}
		unstructured.RemoveNestedField(o.Object, "status")
		for _, field := range []string{"clusterIP", "clusterIPs"} {
			unstructured.RemoveNestedField(o.Object, "spec", field)
		}
		if o.GetKind() == "Secret" {
			unstructured.RemoveNestedField(o.Object, "data") // keys and passwords are random
		}
		text, err := yaml.Marshal(o.Object)
		if err != nil {
			return "", err
		}
		clean := strings.ReplaceAll(string(text), w.namespace, "NAMESPACE")
		clean = hashes.ReplaceAllString(uuids.ReplaceAllString(clean, "UUID"), "HASH")
		out = append(out, jobIDs.ReplaceAllString(clean, "JOB"))
	}
	slices.Sort(out)
	stack, err := w.stack()
	if client.IgnoreNotFound(err) != nil {
		return "", err
	}
	outside := fmt.Sprintf("kafka %v %v\nelasticsearch %v\nversion %s finalizers %v topic %v index %v\n", w.kafka.has(), w.kafka.topics, w.elastic.has(),
		stack.Status.Version, stack.Finalizers, stack.Status.Topic != nil, stack.Status.SearchIndex != nil)
	var conditions []string
	for _, c := range stack.Status.Conditions {
		conditions = append(conditions, c.Type+" "+string(c.Status)+" "+c.Reason+"\n")
	}
	slices.Sort(conditions)
	return strings.Join(out, "---\n") + outside + strings.Join(conditions, ""), nil
}

// count is how many Deployments there are.
func (w *world) count() int {
	list := &appsv1.DeploymentList{}
	if err := w.client.List(w.ctx, list, client.InNamespace(w.namespace)); err != nil {
		return -1
	}
	return len(list.Items)
}
