package atlasstack_test

import (
	"testing"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/workloads"
)

const (
	stackName   = "demo"
	image       = "registry.example.com/atlas:1.0.0"
	databaseURL = "postgres://atlas:pa55word@db:5432/atlas"
	patience    = 2 * time.Minute
	tick        = 50 * time.Millisecond
)

func (b *bundle) stack(changes ...func(*v1alpha1.AtlasStackSpec)) *v1alpha1.AtlasStack {
	stack := &v1alpha1.AtlasStack{
		ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: stackName},
		Spec: v1alpha1.AtlasStackSpec{
			Image: image,
			Postgres: v1alpha1.PostgresSpec{URLSecretRef: corev1.SecretKeySelector{
				LocalObjectReference: corev1.LocalObjectReference{Name: "postgres"}, Key: "url",
			}},
			Kafka:         v1alpha1.KafkaSpec{Brokers: []string{b.kafka.address}},
			Elasticsearch: v1alpha1.ElasticsearchSpec{Addresses: []string{b.elastic.address}},
		},
	}
	for _, change := range changes {
		change(&stack.Spec)
	}
	return stack
}

func (b *bundle) createSecret(name string, data map[string]string) {
	b.t.Helper()
	require.NoError(b.t, b.client.Create(b.t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: name}, StringData: data,
	}))
}

// create creates the database's Secret and the stack.
func (b *bundle) create(changes ...func(*v1alpha1.AtlasStackSpec)) {
	b.t.Helper()
	b.createSecret("postgres", map[string]string{"url": databaseURL})
	require.NoError(b.t, b.client.Create(b.t.Context(), b.stack(changes...)))
}

// bringUp creates a stack and plays the Job and Deployment controllers until it is Ready.
func (b *bundle) bringUp(changes ...func(*v1alpha1.AtlasStackSpec)) *v1alpha1.AtlasStack {
	b.t.Helper()
	b.create(changes...)
	b.finishMigration(true)
	return b.untilReady()
}

// untilReady plays the Deployment controller until the stack is Ready for its present generation.
func (b *bundle) untilReady() *v1alpha1.AtlasStack {
	b.t.Helper()
	return b.eventually(func(c *assert.CollectT, stack *v1alpha1.AtlasStack) {
		b.rollOut()
		ready := meta.FindStatusCondition(stack.Status.Conditions, v1alpha1.ConditionReady)
		require.NotNil(c, ready)
		require.Equal(c, metav1.ConditionTrue, ready.Status, ready.Message)
		require.Equal(c, stack.Generation, ready.ObservedGeneration)
	})
}

// eventually repeats the check with the present stack until it passes.
func (b *bundle) eventually(check func(c *assert.CollectT, stack *v1alpha1.AtlasStack)) *v1alpha1.AtlasStack {
	b.t.Helper()
	stack := &v1alpha1.AtlasStack{}
	require.EventuallyWithT(b.t, func(c *assert.CollectT) {
		require.NoError(c, b.client.Get(b.t.Context(), client.ObjectKey{Namespace: b.namespace, Name: stackName}, stack))
		check(c, stack)
	}, patience, tick)
	return stack
}

// condition waits for a condition of the present generation.
func (b *bundle) condition(kind string, want metav1.ConditionStatus, reason, message string) *v1alpha1.AtlasStack {
	b.t.Helper()
	return b.eventually(func(c *assert.CollectT, stack *v1alpha1.AtlasStack) {
		got := meta.FindStatusCondition(stack.Status.Conditions, kind)
		require.NotNil(c, got)
		require.Equal(c, want, got.Status, got.Message)
		require.Equal(c, reason, got.Reason)
		require.Contains(c, got.Message, message)
		require.Equal(c, stack.Generation, got.ObservedGeneration)
	})
}

func (b *bundle) update(change func(*v1alpha1.AtlasStackSpec)) {
	b.t.Helper()
	stack := &v1alpha1.AtlasStack{}
	require.NoError(b.t, b.client.Get(b.t.Context(), client.ObjectKey{Namespace: b.namespace, Name: stackName}, stack))
	before := stack.DeepCopy()
	change(&stack.Spec)
	require.NoError(b.t, b.client.Patch(b.t.Context(), stack, client.MergeFrom(before)))
}

// touch makes the operator reconcile the stack by an edit of its Secret that changes no content.
func (b *bundle) touch() {
	b.t.Helper()
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: "postgres"}}
	patch := []byte(`{"metadata":{"annotations":{"touched":"` + time.Now().Format(time.RFC3339Nano) + `"}}}`)
	before := b.kafka.reconciliations()
	require.NoError(b.t, b.client.Patch(b.t.Context(), secret, client.RawPatch("application/merge-patch+json", patch)))
	require.Eventually(b.t, func() bool { return b.kafka.reconciliations() > before }, patience, tick)
}

// migration waits for a migration Job that has not finished.
func (b *bundle) migration() *batchv1.Job {
	b.t.Helper()
	var found *batchv1.Job
	require.EventuallyWithT(b.t, func(c *assert.CollectT) {
		jobs := &batchv1.JobList{}
		require.NoError(c, b.client.List(b.t.Context(), jobs, client.InNamespace(b.namespace)))
		found = nil
		for i := range jobs.Items {
			if len(jobs.Items[i].Status.Conditions) == 0 {
				found = &jobs.Items[i]
			}
		}
		require.NotNil(c, found, "no unfinished migration Job")
	}, patience, tick)
	return found
}

// finishMigration plays the Job controller.
func (b *bundle) finishMigration(succeeds bool) *batchv1.Job {
	b.t.Helper()
	return b.endMigration(succeeds, "Test")
}

func (b *bundle) endMigration(succeeds bool, reason string) *batchv1.Job {
	b.t.Helper()
	job := b.migration()
	now := metav1.Now()
	job.Status.StartTime = &now
	kinds := []batchv1.JobConditionType{batchv1.JobFailureTarget, batchv1.JobFailed}
	if succeeds {
		kinds = []batchv1.JobConditionType{batchv1.JobSuccessCriteriaMet, batchv1.JobComplete}
		job.Status.CompletionTime = &now
		job.Status.Succeeded = 1
	} else {
		job.Status.Failed = 1
	}
	for _, kind := range kinds {
		job.Status.Conditions = append(job.Status.Conditions, batchv1.JobCondition{
			Type: kind, Status: corev1.ConditionTrue, LastTransitionTime: now, LastProbeTime: now, Reason: reason, Message: "the test says so",
		})
	}
	require.NoError(b.t, b.client.Status().Update(b.t.Context(), job))
	return job
}

// rollOut plays the Deployment controller: every Deployment becomes ready at its present generation.
func (b *bundle) rollOut() {
	b.t.Helper()
	for _, d := range b.deployments() {
		want := appsv1.DeploymentStatus{
			ObservedGeneration: d.Generation, Replicas: *d.Spec.Replicas, UpdatedReplicas: *d.Spec.Replicas,
			ReadyReplicas: *d.Spec.Replicas, AvailableReplicas: *d.Spec.Replicas,
		}
		if apiEqual(d.Status, want) {
			continue
		}
		d.Status = want
		b.served.add(&d)
		if err := b.client.Status().Update(b.t.Context(), &d); !apierrors.IsConflict(err) {
			require.NoError(b.t, err)
		}
	}
}

func apiEqual(a, b appsv1.DeploymentStatus) bool {
	return a.ObservedGeneration == b.ObservedGeneration && a.Replicas == b.Replicas && a.UpdatedReplicas == b.UpdatedReplicas && a.AvailableReplicas == b.AvailableReplicas
}

func (b *bundle) deployments() []appsv1.Deployment {
	b.t.Helper()
	list := &appsv1.DeploymentList{}
	require.NoError(b.t, b.client.List(b.t.Context(), list, client.InNamespace(b.namespace)))
	return list.Items
}

func (b *bundle) deployment(role workloads.Role) *appsv1.Deployment {
	b.t.Helper()
	d := &appsv1.Deployment{}
	require.NoError(b.t, b.client.Get(b.t.Context(), client.ObjectKey{Namespace: b.namespace, Name: stackName + "-" + string(role)}, d))
	return d
}

// addPod creates a pod of a role in the state that the kubelet would report.
func (b *bundle) addPod(role workloads.Role, labels map[string]string, state corev1.ContainerStatus) {
	b.t.Helper()
	all := workloads.Labels(b.stack(), role)
	for key, value := range labels {
		all[key] = value
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, GenerateName: string(role) + "-", Labels: all},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "atlas", Image: image}}},
	}
	require.NoError(b.t, b.client.Create(b.t.Context(), pod))
	state.Name, state.Image = "atlas", image
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{state}
	require.NoError(b.t, b.client.Status().Update(b.t.Context(), pod))
}

// kstatusOf is what kubectl wait, Helm and GitOps tools make of the stack.
func (b *bundle) kstatusOf(stack *v1alpha1.AtlasStack) status.Status {
	b.t.Helper()
	return kstatusOf(b.t, stack)
}

func kstatusOf(t *testing.T, stack *v1alpha1.AtlasStack) status.Status {
	t.Helper()
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(stack)
	require.NoError(t, err)
	result, err := status.Compute(&unstructured.Unstructured{Object: object})
	require.NoError(t, err)
	return result.Status
}
