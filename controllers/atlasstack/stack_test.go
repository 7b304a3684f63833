package atlasstack_test

import (
	"fmt"
	"testing"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/topic"
	"github.com/atlas-platform/atlas/controllers/workloads"
)

func TestStackBecomesReady(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	b.create(func(s *v1alpha1.AtlasStackSpec) {
		s.Kafka.Topic.Config = map[string]string{"compression.type": "zstd"}
	})
	stack := b.condition(v1alpha1.ConditionMigrationsApplied, metav1.ConditionFalse, v1alpha1.ReasonProgressing, "migration Job")
	require.Equal(t, status.InProgressStatus, b.kstatusOf(stack))
	b.condition(v1alpha1.ConditionWorkloadsReady, metav1.ConditionFalse, v1alpha1.ReasonWaiting, v1alpha1.ConditionMigrationsApplied)
	require.Empty(t, b.deployments(), "no pod may start before the migration")

	b.finishMigration(true)
	stack = b.condition(v1alpha1.ConditionWorkloadsReady, metav1.ConditionFalse, v1alpha1.ReasonProgressing, "Deployment demo-api has 0 of 1 pods ready")
	require.Empty(t, stack.Status.Version, "not rolled out yet")
	stack = b.untilReady()

	require.Equal(t, status.CurrentStatus, b.kstatusOf(stack))
	require.Equal(t, "1.0.0", stack.Status.Version)
	require.Equal(t, fmt.Sprintf("http://demo-api.%s.svc", b.namespace), stack.Status.Endpoint)
	require.Equal(t, []v1alpha1.ComponentStatus{
		{Name: "api", Desired: 1, Ready: 1},
		{Name: "indexer", Desired: 1, Ready: 1},
		{Name: "audit", Desired: 1, Ready: 1},
		{Name: "worker", Desired: 1, Ready: 1},
	}, stack.Status.Components)
	require.Nil(t, meta.FindStatusCondition(stack.Status.Conditions, v1alpha1.ConditionReconciling))
	require.Nil(t, meta.FindStatusCondition(stack.Status.Conditions, v1alpha1.ConditionStalled))

	require.Equal(t, map[string]topic.State{
		"atlas.domain-events.v1":     {Partitions: 6, ReplicationFactor: 1, Config: map[string]string{"compression.type": "zstd"}},
		"atlas.domain-events.v1.dlq": {Partitions: 1, ReplicationFactor: 1, Config: map[string]string{"compression.type": "zstd", "retention.ms": "-1"}},
	}, b.kafka.topics)
	for _, d := range b.deployments() {
		require.True(t, metav1.IsControlledBy(&d, stack), "deleting the stack must remove %s", d.Name)
	}
	for _, name := range []string{"demo-auth", "demo-admin"} {
		secret := &corev1.Secret{}
		require.NoError(t, b.client.Get(t.Context(), client.ObjectKey{Namespace: b.namespace, Name: name}, secret))
		require.Empty(t, secret.OwnerReferences, "%s must outlive the stack", name)
	}
}

func TestMissingSecretIsNamedAndRecovers(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	require.NoError(t, b.client.Create(t.Context(), b.stack(func(s *v1alpha1.AtlasStackSpec) {
		s.Elasticsearch.CredentialsSecretRef = &corev1.LocalObjectReference{Name: "elastic"}
		s.ObjectStore = &v1alpha1.ObjectStoreSpec{URL: "s3://files", CredentialsSecretRef: &corev1.LocalObjectReference{Name: "s3"}}
	})))
	const kind = v1alpha1.ConditionReferencesResolved
	b.condition(kind, metav1.ConditionFalse, v1alpha1.ReasonSecretNotFound, "Secret postgres does not exist")
	stack := b.condition(kind, metav1.ConditionFalse, v1alpha1.ReasonSecretNotFound, "Secret elastic does not exist")
	require.Equal(t, status.InProgressStatus, b.kstatusOf(stack))
	b.condition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonSecretNotFound, "Secret postgres does not exist")

	b.condition(kind, metav1.ConditionFalse, v1alpha1.ReasonSecretNotFound, "Secret s3 does not exist")
	b.createSecret("s3", map[string]string{"accessKeyID": "id"})
	b.condition(kind, metav1.ConditionFalse, v1alpha1.ReasonSecretNotFound, "Secret s3 has no key secretAccessKey")

	b.createSecret("elastic", map[string]string{"username": "u"})
	b.createSecret("postgres", map[string]string{"wrong": databaseURL})
	b.condition(kind, metav1.ConditionFalse, v1alpha1.ReasonSecretKeyMissing, "Secret postgres has no key url")
	b.condition(kind, metav1.ConditionFalse, v1alpha1.ReasonSecretKeyMissing, "neither the key apiKey nor both username and password")

	edit := func(name string, data map[string]string) {
		require.NoError(t, b.client.Update(t.Context(), &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: name}, StringData: data,
		}))
	}
	edit("elastic", map[string]string{"username": "u", "password": "p4ssw0rd"})
	edit("s3", map[string]string{"accessKeyID": "id", "secretAccessKey": "sk"})
	edit("postgres", map[string]string{"url": "mysql://atlas:pa55word@db"})
	stack = b.condition(kind, metav1.ConditionFalse, v1alpha1.ReasonSecretInvalid, "key url of Secret postgres is not a PostgreSQL URI")
	require.NotContains(t, fmt.Sprint(stack.Status), "pa55word")

	edit("postgres", map[string]string{"url": databaseURL})
	b.finishMigration(true)
	b.untilReady()
	require.Equal(t, "p4ssw0rd", b.elastic.credentials().Password)
}

func TestLostBrokerIsUnknownAndWorkloadsGoOn(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	b.kafka.setDown(true)
	b.create()
	b.finishMigration(true)
	stack := b.condition(v1alpha1.ConditionTopicReady, metav1.ConditionFalse, v1alpha1.ReasonUnreachable, b.kafka.address+" (connection refused)")
	require.Equal(t, status.InProgressStatus, b.kstatusOf(stack))
	b.condition(v1alpha1.ConditionSearchIndexReady, metav1.ConditionTrue, v1alpha1.ReasonReady, "alias atlas-items")
	require.Empty(t, b.deployments())
	b.kafka.setDown(false)
	b.untilReady()

	b.kafka.setDown(true)
	b.elastic.setDown(true)
	b.touch()
	b.condition(v1alpha1.ConditionTopicReady, metav1.ConditionUnknown, v1alpha1.ReasonUnreachable, b.kafka.address)
	b.condition(v1alpha1.ConditionSearchIndexReady, metav1.ConditionUnknown, v1alpha1.ReasonUnreachable, b.elastic.address)
	b.condition(v1alpha1.ConditionReady, metav1.ConditionUnknown, v1alpha1.ReasonUnreachable, b.kafka.address)
	b.condition(v1alpha1.ConditionWorkloadsReady, metav1.ConditionTrue, v1alpha1.ReasonReady, "")
	require.Len(t, b.deployments(), 4)

	// An outage is no reason to leave the cluster as somebody broke it.
	require.NoError(t, b.client.Delete(t.Context(), b.deployment(workloads.RoleAudit)))
	b.eventually(func(c *assert.CollectT, _ *v1alpha1.AtlasStack) { require.Len(c, b.deployments(), 4) })
	// An address that was never reached is not rolled out.
	b.update(func(s *v1alpha1.AtlasStackSpec) { s.LogLevel = "debug" })
	b.condition(v1alpha1.ConditionTopicReady, metav1.ConditionFalse, v1alpha1.ReasonUnreachable, b.kafka.address)
	b.condition(v1alpha1.ConditionWorkloadsReady, metav1.ConditionFalse, v1alpha1.ReasonWaiting, v1alpha1.ConditionTopicReady)
	require.Equal(t, "info", b.deployment(workloads.RoleAPI).Spec.Template.Spec.Containers[0].Env[0].Value)

	b.kafka.setDown(false)
	b.elastic.setDown(false)
	b.untilReady()
	require.Equal(t, "debug", b.deployment(workloads.RoleAPI).Spec.Template.Spec.Containers[0].Env[0].Value)
}

func TestFailedMigrationKeepsTheRunningVersion(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	b.bringUp()
	before := b.deployment(workloads.RoleAPI)

	b.update(func(s *v1alpha1.AtlasStackSpec) { s.Image = "registry.example.com/atlas:2.0.0" })
	job := b.migration()
	b.addPod(workloads.RoleMigrate, map[string]string{batchv1.ControllerUidLabel: string(job.UID)}, corev1.ContainerStatus{
		State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
			ExitCode: 1, Reason: "Error",
			Message: "starting\n" + `{"level":"ERROR","msg":"migrate","error":"connect to ` + databaseURL + `: connection refused"}` + "\n",
		}},
	})
	b.touch()
	b.condition(v1alpha1.ConditionMigrationsApplied, metav1.ConditionFalse, v1alpha1.ReasonFailed, "is being retried")
	b.finishMigration(false)
	stack := b.condition(v1alpha1.ConditionMigrationsApplied, metav1.ConditionFalse, v1alpha1.ReasonFailed, "migrate: connect to [redacted]: connection refused")
	require.NotContains(t, fmt.Sprint(stack.Status), "pa55word")
	require.Equal(t, "1.0.0", stack.Status.Version)
	require.Equal(t, status.InProgressStatus, b.kstatusOf(stack))
	b.condition(v1alpha1.ConditionWorkloadsReady, metav1.ConditionFalse, v1alpha1.ReasonWaiting, v1alpha1.ConditionMigrationsApplied)
	after := b.deployment(workloads.RoleAPI)
	require.Equal(t, before.ResourceVersion, after.ResourceVersion)

	// The same inputs are tried again after a back-off, without help.
	b.eventually(func(c *assert.CollectT, _ *v1alpha1.AtlasStack) {
		retry := b.migration()
		require.Equal(c, job.Name, retry.Name)
		require.NotEqual(c, job.UID, retry.UID)
		require.Equal(c, "2", retry.Annotations[workloads.AttemptAnnotation])
	})
	b.finishMigration(true)
	stack = b.untilReady()
	require.Equal(t, "2.0.0", stack.Status.Version)
	require.Equal(t, "registry.example.com/atlas:2.0.0", stack.Status.Migration.Image)
}

func TestMigrationIsNotRepeatedWhenItsJobIsGone(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	b.create()
	job := b.finishMigration(true)
	b.untilReady()
	require.NoError(t, b.client.Delete(t.Context(), job, client.PropagationPolicy(metav1.DeletePropagationBackground)))
	b.touch()
	b.update(func(s *v1alpha1.AtlasStackSpec) { s.LogLevel = "debug" })
	b.untilReady()
	err := b.client.Get(t.Context(), client.ObjectKeyFromObject(job), job)
	require.Error(t, err, "a finished migration ran again")
}

func TestMigrationOfEarlierInputsDoesNotCount(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	b.bringUp()
	jobs := func() []string {
		list := &batchv1.JobList{}
		require.NoError(t, b.client.List(t.Context(), list, client.InNamespace(b.namespace)))
		var images []string
		for _, job := range list.Items {
			images = append(images, job.Spec.Template.Spec.Containers[0].Image)
		}
		return images
	}
	const next, broken = "registry.example.com/atlas:2.0.0", "registry.example.com/atlas:missing"
	b.update(func(s *v1alpha1.AtlasStackSpec) { s.Image = next })
	b.finishMigration(true)
	b.untilReady()
	require.Equal(t, []string{next}, jobs())

	// Back to the first image, whose migration ran before the second one's.
	b.update(func(s *v1alpha1.AtlasStackSpec) { s.Image = image })
	b.finishMigration(true)
	b.untilReady()
	require.Equal(t, []string{image}, jobs())

	// A Job that never got its image must not start when somebody pushes it later.
	b.update(func(s *v1alpha1.AtlasStackSpec) { s.Image = broken })
	b.migration()
	b.update(func(s *v1alpha1.AtlasStackSpec) { s.Image = image })
	b.eventually(func(c *assert.CollectT, _ *v1alpha1.AtlasStack) { require.Equal(c, []string{image}, jobs()) })
	b.finishMigration(true)
	b.untilReady()
}

func TestSteadyStateWritesNothing(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	b.bringUp()
	// Reconciliations that were under way when the stack became Ready may still confirm what they applied.
	for range 3 {
		b.touch()
	}
	stack := b.untilReady()
	before := b.writes.in(b.namespace)
	versions := b.versions()
	for range 5 {
		b.touch()
	}
	require.Empty(t, b.writes.in(b.namespace)[len(before):])
	require.Equal(t, versions, b.versions())
	require.Equal(t, stack.ResourceVersion, b.eventually(func(*assert.CollectT, *v1alpha1.AtlasStack) {}).ResourceVersion)
}

// versions are the resource versions of what the operator keeps.
func (b *bundle) versions() map[string]string {
	b.t.Helper()
	versions := map[string]string{}
	for _, list := range []client.ObjectList{&appsv1.DeploymentList{}, &corev1.ServiceList{}, &corev1.ServiceAccountList{}} {
		require.NoError(b.t, b.client.List(b.t.Context(), list, client.InNamespace(b.namespace)))
		require.NoError(b.t, meta.EachListItem(list, func(o runtime.Object) error {
			object := o.(client.Object)
			versions[fmt.Sprintf("%T/%s", object, object.GetName())] = object.GetResourceVersion()
			return nil
		}))
	}
	return versions
}

func TestDriftIsCorrected(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	b.bringUp()

	d := b.deployment(workloads.RoleWorker)
	before := d.DeepCopy()
	d.Spec.Template.Spec.Containers[0].Image = "someone/else:1.0"
	d.Spec.Replicas = ptr.To(int32(3))
	require.NoError(t, b.client.Patch(t.Context(), d, client.MergeFrom(before)))
	b.eventually(func(c *assert.CollectT, _ *v1alpha1.AtlasStack) {
		d := b.deployment(workloads.RoleWorker)
		require.Equal(c, image, d.Spec.Template.Spec.Containers[0].Image)
		require.Equal(c, int32(1), *d.Spec.Replicas)
	})

	require.NoError(t, b.client.Delete(t.Context(), b.deployment(workloads.RoleAudit)))
	b.eventually(func(c *assert.CollectT, _ *v1alpha1.AtlasStack) { require.Len(c, b.deployments(), 4) })

	// Lists are merged by server-side apply, and the sum of these is invalid.
	service := &corev1.Service{}
	key := client.ObjectKey{Namespace: b.namespace, Name: "demo-api"}
	require.NoError(t, b.client.Get(t.Context(), key, service))
	address := service.Spec.ClusterIP
	service.Spec.Ports[0].Port = 81
	require.NoError(t, b.client.Update(t.Context(), service))
	d = b.deployment(workloads.RoleAPI)
	d.Spec.Template.Spec.Containers[0].Ports[0].ContainerPort = 81
	d.Spec.Template.Spec.Volumes[0].VolumeSource = corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}
	require.NoError(t, b.client.Update(t.Context(), d))
	b.eventually(func(c *assert.CollectT, _ *v1alpha1.AtlasStack) {
		require.NoError(c, b.client.Get(t.Context(), key, service))
		require.Len(c, service.Spec.Ports, 2)
		require.Equal(c, int32(80), service.Spec.Ports[0].Port)
		require.Equal(c, address, service.Spec.ClusterIP)
		pod := b.deployment(workloads.RoleAPI).Spec.Template.Spec
		require.Len(c, pod.Containers[0].Ports, 2)
		require.NotContains(c, []int32{pod.Containers[0].Ports[0].ContainerPort, pod.Containers[0].Ports[1].ContainerPort}, int32(81))
		require.NotNil(c, pod.Volumes[0].Secret)
	})

	b.kafka.mu.Lock()
	delete(b.kafka.topics, "atlas.domain-events.v1")
	b.kafka.mu.Unlock()
	b.touch()
	b.eventually(func(c *assert.CollectT, _ *v1alpha1.AtlasStack) {
		state, err := b.kafka.Describe(t.Context(), "atlas.domain-events.v1")
		require.NoError(c, err)
		require.NotNil(c, state)
	})
	b.untilReady()
}

func TestRoleThatCannotBeAppliedHoldsNoOtherUp(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	b.bringUp()
	b.update(func(s *v1alpha1.AtlasStackSpec) {
		s.API.Resources.Requests = corev1.ResourceList{corev1.ResourceEphemeralStorage: resource.MustParse("2Gi")}
		s.API.Resources.Limits = corev1.ResourceList{corev1.ResourceEphemeralStorage: resource.MustParse("1Gi")}
		s.Worker.Replicas = ptr.To(int32(2))
	})
	b.condition(v1alpha1.ConditionWorkloadsReady, metav1.ConditionFalse, v1alpha1.ReasonRefused, "must be less than or equal to ephemeral-storage limit")
	require.Equal(t, int32(2), *b.deployment(workloads.RoleWorker).Spec.Replicas)
	b.update(func(s *v1alpha1.AtlasStackSpec) { s.API.Resources = corev1.ResourceRequirements{} })
	b.untilReady()
}

func TestSecretChangeRollsPods(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	b.bringUp()
	hash := func(role workloads.Role) string {
		return b.deployment(role).Spec.Template.Annotations[workloads.ConfigHashAnnotation]
	}
	worker := hash(workloads.RoleWorker)
	require.NoError(t, b.client.Update(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: "postgres"}, StringData: map[string]string{"url": databaseURL + "2"},
	}))
	b.finishMigration(true)
	b.eventually(func(c *assert.CollectT, _ *v1alpha1.AtlasStack) {
		require.NotEqual(c, worker, hash(workloads.RoleWorker))
	})
	b.untilReady()
}

func TestForbiddenTopicChangeIsStalled(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	require.NoError(t, b.kafka.Create(t.Context(), topic.Spec{Name: "atlas.domain-events.v1", Partitions: 12, ReplicationFactor: 1}))
	b.create()
	b.finishMigration(true)
	stack := b.condition(v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonForbiddenChange, "set partitions to 12")
	require.Equal(t, status.FailedStatus, b.kstatusOf(stack))
	b.update(func(s *v1alpha1.AtlasStackSpec) { s.Kafka.Topic.Partitions = 12 })
	require.Equal(t, status.CurrentStatus, b.kstatusOf(b.untilReady()))
}

func TestFailingPodIsExplained(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	b.create()
	b.finishMigration(true)
	b.addPod(workloads.RoleIndexer, nil, corev1.ContainerStatus{
		State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff", Message: "back-off 10s"}},
		LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
			ExitCode: 2, Reason: "Error", Message: "KAFKA_BROKERS: wrong",
		}},
	})
	b.eventually(func(c *assert.CollectT, _ *v1alpha1.AtlasStack) { require.Len(c, b.deployments(), 4) })
	api := b.deployment(workloads.RoleAPI)
	api.Status = appsv1.DeploymentStatus{ObservedGeneration: api.Generation, Replicas: 1, UpdatedReplicas: 1, ReadyReplicas: 1, AvailableReplicas: 1}
	require.NoError(t, b.client.Status().Update(t.Context(), api))
	b.condition(v1alpha1.ConditionWorkloadsReady, metav1.ConditionFalse, v1alpha1.ReasonProgressing,
		"Deployment demo-indexer has 0 of 1 pods ready: pod indexer-")
	b.condition(v1alpha1.ConditionWorkloadsReady, metav1.ConditionFalse, v1alpha1.ReasonProgressing, "CrashLoopBackOff: KAFKA_BROKERS: wrong")
}

func TestPausedStackIsLeftAlone(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	b.bringUp()
	b.update(func(s *v1alpha1.AtlasStackSpec) { s.Paused = true; s.LogLevel = "debug" })
	b.condition(v1alpha1.ConditionReady, metav1.ConditionUnknown, v1alpha1.ReasonPaused, "paused")
	require.Equal(t, "info", b.deployment(workloads.RoleAPI).Spec.Template.Spec.Containers[0].Env[0].Value)
	b.update(func(s *v1alpha1.AtlasStackSpec) { s.Paused = false })
	b.untilReady()
	require.Equal(t, "debug", b.deployment(workloads.RoleAPI).Spec.Template.Spec.Containers[0].Env[0].Value)
}

func TestForeignObjectIsNotTakenOver(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	foreign := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: "demo-api"},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 1234}}},
	}
	require.NoError(t, b.client.Create(t.Context(), foreign))
	b.create()
	b.finishMigration(true)
	b.condition(v1alpha1.ConditionStalled, metav1.ConditionTrue, "NameTaken", "Service demo-api exists and does not belong to AtlasStack demo")
	require.NoError(t, b.client.Delete(t.Context(), foreign))
	b.touch()
	b.untilReady()
}
