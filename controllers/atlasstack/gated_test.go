package atlasstack_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/workloads"
	"github.com/atlas-platform/atlas/internal/testenv"
)

const nextImage = "registry.example.com/atlas:2.0.0"

// TestWhatRunsIsKeptWhileItMayNotBeReplaced edits and deletes every child while something keeps the spec from being applied. Each is put right, as it was
// before the spec changed, and is as the spec asks once nothing is in the way.
func TestWhatRunsIsKeptWhileItMayNotBeReplaced(t *testing.T) {
	t.Parallel()
	for name, gate := range map[string]struct {
		close, open func(*bundle)
		message     string // of WorkloadsReady
		pods        int32  // of the API, meanwhile
	}{
		"the migration is refused": {
			close: func(b *bundle) {
				b.refuseMigration()
				b.condition(v1alpha1.ConditionMigrationsApplied, metav1.ConditionFalse, v1alpha1.ReasonDowngradeRefused, "")
			},
			open: func(b *bundle) {
				b.annotate(v1alpha1.ReconcileRequestAnnotation, "now")
				b.finishMigration(true)
			},
			message: "waiting for MigrationsApplied; until then every role is kept as it was", pods: 2,
		},
		"a Secret is missing": {
			close:   (*bundle).dropDatabaseSecret,
			open:    (*bundle).restoreDatabaseSecret,
			message: "waiting for ReferencesResolved; until then every role is kept as it was", pods: 2,
		},
		"a Secret is missing, and the stack hibernates": {
			close: func(b *bundle) {
				b.dropDatabaseSecret()
				b.update(func(s *v1alpha1.AtlasStackSpec) { s.Hibernate = true })
			},
			open: func(b *bundle) {
				b.update(func(s *v1alpha1.AtlasStackSpec) { s.Hibernate = false })
				b.restoreDatabaseSecret()
			},
			message: "the pods are stopped; waiting for ReferencesResolved; until then every role is kept as it was", pods: 0,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBundle(t)
			b.bringUp(full, func(s *v1alpha1.AtlasStackSpec) {
				s.Kafka.Brokers, s.Elasticsearch.Addresses = []string{b.kafka.address}, []string{b.elastic.address}
			})
			b.update(func(s *v1alpha1.AtlasStackSpec) {
				s.Image, s.LogLevel, s.API.Replicas = nextImage, "debug", ptr.To(int32(3))
				s.Audit.Autoscaling.MaxReplicas, s.Worker.Replicas = 5, ptr.To(int32(4))
			})
			gate.close(b)
			b.condition(v1alpha1.ConditionWorkloadsReady, metav1.ConditionFalse, v1alpha1.ReasonWaiting, gate.message)
			b.breakAndMend(8)
			for _, d := range b.deployments() {
				require.Equal(t, image, d.Spec.Template.Spec.Containers[0].Image, d.Name)
			}
			require.Equal(t, gate.pods, *b.deployment(workloads.RoleAPI).Spec.Replicas)

			gate.open(b)
			b.untilReady()
			for _, d := range b.deployments() {
				require.Equal(t, nextImage, d.Spec.Template.Spec.Containers[0].Image, d.Name)
			}
			require.Equal(t, int32(3), *b.deployment(workloads.RoleAPI).Spec.Replicas)
			require.Equal(t, int32(4), *b.deployment(workloads.RoleWorker).Spec.Replicas)
		})
	}
}

func (b *bundle) dropDatabaseSecret() {
	b.t.Helper()
	require.NoError(b.t, b.client.Delete(b.t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: "postgres"}}))
	b.condition(v1alpha1.ConditionReferencesResolved, metav1.ConditionFalse, v1alpha1.ReasonSecretNotFound, "")
}

// restoreDatabaseSecret and play the migration that was waiting for it.
func (b *bundle) restoreDatabaseSecret() {
	b.t.Helper()
	b.createSecret("postgres", map[string]string{"url": databaseURL})
	b.finishMigration(true)
}

// TestDeploymentThatCantBeWhatTheSpecAsksForIsKept as it was, while the other roles go on.
func TestDeploymentThatCantBeWhatTheSpecAsksForIsKept(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	b.bringUp()
	before := b.deployment(workloads.RoleWorker)
	for text, reason := range map[string]string{
		`{"spec": {"nodeSelectr": {"disk": "fast"}}}`: "unknown field",                         // the operator sees it
		`{"spec": {"restartPolicy": "Never"}}`:        "the API server refuses the Deployment", // the API server does
	} {
		b.update(func(s *v1alpha1.AtlasStackSpec) {
			overridden(text)(s)
			s.Worker.Replicas = ptr.To(int32(3))
		})
		b.condition(v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonPodTemplate, reason)
		edited := b.deployment(workloads.RoleWorker)
		edited.Spec.Template.Spec.Containers[0].Image = "someone/else:1.0"
		require.NoError(t, b.client.Update(t.Context(), edited))
		b.eventually(func(c *assert.CollectT, _ *v1alpha1.AtlasStack) {
			require.Equal(c, before.Spec, b.deployment(workloads.RoleWorker).Spec)
		})
		require.NoError(t, b.client.Delete(t.Context(), edited))
		b.eventually(func(c *assert.CollectT, _ *v1alpha1.AtlasStack) {
			require.Len(c, b.deployments(), 4)
			require.Equal(c, before.Spec, b.deployment(workloads.RoleWorker).Spec)
		})
		again := b.deployment(workloads.RoleWorker).ResourceVersion
		b.touch()
		b.touch()
		require.Equal(t, again, b.deployment(workloads.RoleWorker).ResourceVersion, "it goes to and fro")
	}
	b.update(overridden(""))
	b.untilReady()
	require.Equal(t, int32(3), *b.deployment(workloads.RoleWorker).Spec.Replicas)
}

// TestRestartedOperatorKeepsWhatItFinds: it knows no more of what it had applied than the cluster does.
func TestRestartedOperatorKeepsWhatItFinds(t *testing.T) {
	t.Parallel()
	testenv.Require(t, testenv.EnvtestAssets)
	w, err := newWorld(t.Context(), theSuite)
	require.NoError(t, err)
	require.NoError(t, w.create())
	require.NoError(t, w.settle())
	before := w.deployments(t)
	require.NoError(t, w.client.Delete(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "postgres"}}))
	require.NoError(t, w.update(func(s *v1alpha1.AtlasStackSpec) { s.Image = nextImage }))
	says := func() string {
		for range 3 {
			require.NoError(t, w.turn())
		}
		stack, err := w.stack()
		require.NoError(t, err)
		return meta.FindStatusCondition(stack.Status.Conditions, v1alpha1.ConditionWorkloadsReady).Message
	}
	w.start(fault{})
	require.Equal(t, "waiting for ReferencesResolved; until then every role is kept as it was", says())
	require.Equal(t, before, w.deployments(t))

	// What it has seen it puts right.
	edited := w.deployment(t, workloads.RoleWorker)
	edited.Spec.Template.Spec.Containers[0].Image = "someone/else:1.0"
	require.NoError(t, w.client.Update(t.Context(), edited))
	name := metav1.ObjectMeta{Namespace: w.namespace, Name: stackName + "-audit"}
	for _, object := range []client.Object{
		&appsv1.Deployment{ObjectMeta: name}, &corev1.ServiceAccount{ObjectMeta: name},
		&policyv1.PodDisruptionBudget{ObjectMeta: name}, &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: name},
	} {
		require.NoError(t, w.client.Delete(t.Context(), object))
	}
	require.Equal(t, "waiting for ReferencesResolved; until then every role is kept as it was", says())
	require.Equal(t, before, w.deployments(t))
	for _, object := range []client.Object{&corev1.ServiceAccount{}, &policyv1.PodDisruptionBudget{}, &autoscalingv2.HorizontalPodAutoscaler{}} {
		require.NoError(t, w.client.Get(t.Context(), client.ObjectKey{Namespace: name.Namespace, Name: name.Name}, object))
	}

	// What was deleted before it saw it, it can't make again.
	require.NoError(t, w.client.Delete(t.Context(), w.deployment(t, workloads.RoleWorker)))
	w.start(fault{})
	require.Equal(t, "waiting for ReferencesResolved; until then there is no Deployment demo-worker: the operator has restarted since and can't make what it was", says())
	require.Len(t, w.deployments(t), 3)

	// Without pods nothing is missing.
	require.NoError(t, w.update(func(s *v1alpha1.AtlasStackSpec) { s.Hibernate = true }))
	w.start(fault{})
	require.Equal(t, "the pods are stopped; waiting for ReferencesResolved; until then every role is kept as it was", says())
	require.Zero(t, *w.deployment(t, workloads.RoleAPI).Spec.Replicas)

	require.NoError(t, w.client.Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "postgres"}, StringData: map[string]string{"url": databaseURL},
	}))
	require.NoError(t, w.update(func(s *v1alpha1.AtlasStackSpec) { s.Hibernate = false }))
	require.NoError(t, w.settle())
	for _, role := range workloads.Roles() {
		require.Equal(t, nextImage, w.deployment(t, role).Spec.Template.Spec.Containers[0].Image)
	}
}

// deployments are the specs of the Deployments, by name.
func (w *world) deployments(t *testing.T) map[string]appsv1.DeploymentSpec {
	t.Helper()
	list, specs := &appsv1.DeploymentList{}, map[string]appsv1.DeploymentSpec{}
	require.NoError(t, w.client.List(t.Context(), list, client.InNamespace(w.namespace)))
	for _, d := range list.Items {
		specs[d.Name] = d.Spec
	}
	return specs
}

func (w *world) deployment(t *testing.T, role workloads.Role) *appsv1.Deployment {
	t.Helper()
	d := &appsv1.Deployment{}
	require.NoError(t, w.client.Get(t.Context(), client.ObjectKey{Namespace: w.namespace, Name: stackName + "-" + string(role)}, d))
	return d
}
