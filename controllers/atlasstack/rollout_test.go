package atlasstack_test

import (
	"fmt"
	"testing"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/workloads"
	"github.com/atlas-platform/atlas/internal/testenv"
)

// stage is what the Deployment controller reports at one moment of a roll-out.
type stage struct {
	name                           string
	all, updated, ready, available int32
}

// newPods are the stages of a roll-out of n new pods for as many old ones. At each one but the last something is missing, and at three of them one thing only.
func newPods(n int32) []stage {
	return []stage{
		{"no new pod is there", n, 0, n, n},
		{"the new pods start beside the old ones", 2 * n, n, n, n},
		{"the new pods are ready", 2 * n, n, 2 * n, n},
		{"the new pods are available", 2 * n, n, 2 * n, 2 * n},
		{"an old pod is left", n + 1, n, n + 1, n + 1},
		{"no old pod is left, and a new one is not available any more", n, n, n, n - 1},
		{"done", n, n, n, n},
	}
}

// moreOrLess are the stages of a change from so many pods to as many others.
func moreOrLess(from, to int32) []stage {
	return []stage{
		{"no pod has come or gone", from, from, from, from},
		{"pods have come or gone", to, to, min(from, to), max(min(from, to)-1, 0)},
		{"one is not available", to, to, to, to - 1},
		{"done", to, to, to, to},
	}
}

// TestReadyAtTheLastStageOfARollout plays a roll-out of one role, when the others have done theirs, for everything that brings about one.
func TestReadyAtTheLastStageOfARollout(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]struct {
		do     func(*world, int, *v1alpha1.ComponentSpec, *v1alpha1.AtlasStackSpec) error
		stages []stage
	}{
		"image": {func(_ *world, n int, _ *v1alpha1.ComponentSpec, s *v1alpha1.AtlasStackSpec) error {
			s.Image = fmt.Sprintf("registry.example.com/atlas:%d.0.0", n)
			return nil
		}, newPods(2)},
		"resources": {func(_ *world, n int, c *v1alpha1.ComponentSpec, _ *v1alpha1.AtlasStackSpec) error {
			c.Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: *resource.NewMilliQuantity(int64(100+n), resource.DecimalSI)}
			return nil
		}, newPods(2)},
		"content of a Secret": {func(w *world, n int, _ *v1alpha1.ComponentSpec, _ *v1alpha1.AtlasStackSpec) error {
			secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "postgres"}}
			patch := fmt.Sprintf(`{"stringData": {"url": "postgres://atlas:pa55word%d@db:5432/atlas"}}`, n)
			return w.client.Patch(w.ctx, secret, client.RawPatch("application/merge-patch+json", []byte(patch)))
		}, newPods(2)},
		"more replicas": {func(_ *world, _ int, c *v1alpha1.ComponentSpec, _ *v1alpha1.AtlasStackSpec) error {
			c.Replicas = ptr.To(int32(4))
			return nil
		}, moreOrLess(2, 4)},
		"fewer replicas": {func(_ *world, _ int, c *v1alpha1.ComponentSpec, _ *v1alpha1.AtlasStackSpec) error {
			c.Replicas = ptr.To(int32(1))
			return nil
		}, moreOrLess(2, 1)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := twoOfEach(t)
			for n, role := range workloads.Roles() {
				before := w.deployment(t, role)
				stack, err := w.stack()
				require.NoError(t, err)
				base := stack.DeepCopy()
				require.NoError(t, change.do(w, n+2, component(&stack.Spec, role), &stack.Spec))
				require.NoError(t, w.client.Patch(w.ctx, stack, client.MergeFrom(base)))
				w.awaitRollout(t, before)
				w.goThrough(t, role, change.stages)
			}
		})
	}
}

func component(s *v1alpha1.AtlasStackSpec, role workloads.Role) *v1alpha1.ComponentSpec {
	return map[workloads.Role]*v1alpha1.ComponentSpec{
		workloads.RoleAPI: &s.API, workloads.RoleIndexer: &s.Indexer, workloads.RoleAudit: &s.Audit, workloads.RoleWorker: &s.Worker,
	}[role]
}

// twoOfEach is a world whose stack is Ready, with two pods a role.
func twoOfEach(t *testing.T) *world {
	t.Helper()
	testenv.Require(t, testenv.EnvtestAssets)
	w, err := newWorld(t.Context(), theSuite)
	require.NoError(t, err)
	require.NoError(t, w.create())
	require.NoError(t, w.update(func(s *v1alpha1.AtlasStackSpec) {
		for _, role := range workloads.Roles() {
			*component(s, role) = v1alpha1.ComponentSpec{Replicas: ptr.To(int32(2))}
		}
	}))
	require.NoError(t, w.settle())
	require.Equal(t, status.CurrentStatus, w.kstatus(t))
	return w
}

func (w *world) kstatus(t *testing.T) status.Status {
	t.Helper()
	stack, err := w.stack()
	require.NoError(t, err)
	return kstatusOf(t, stack)
}

// awaitRollout gives the operator turns, and the migration an end, until it has changed a Deployment.
func (w *world) awaitRollout(t *testing.T, before *appsv1.Deployment) {
	t.Helper()
	for range 10 {
		require.NoError(t, w.turn())
		require.Equal(t, status.InProgressStatus, w.kstatus(t), "nothing has rolled out")
		now := &appsv1.Deployment{}
		require.NoError(t, w.client.Get(w.ctx, client.ObjectKeyFromObject(before), now))
		if now.Generation > before.Generation {
			return
		}
		jobs := &batchv1.JobList{}
		require.NoError(t, w.client.List(w.ctx, jobs, client.InNamespace(w.namespace)))
		_, err := w.playJobs(jobs.Items)
		require.NoError(t, err)
	}
	require.Fail(t, "the Deployment stays as it was")
}

// goThrough plays the stages of one role's roll-out, after those of the others.
func (w *world) goThrough(t *testing.T, role workloads.Role, stages []stage) {
	t.Helper()
	for _, other := range workloads.Roles() {
		if d := w.deployment(t, other); other != role {
			n := *d.Spec.Replicas
			w.report(t, d, stage{"done", n, n, n, n})
		}
	}
	w.look(t)
	require.Equal(t, status.InProgressStatus, w.kstatus(t), "the Deployment controller has not seen the change")
	for i, now := range stages {
		w.report(t, w.deployment(t, role), now)
		ready, _ := w.look(t)
		if i < len(stages)-1 {
			require.Equal(t, metav1.ConditionFalse, ready.Status, now.name)
			require.Equal(t, v1alpha1.ReasonProgressing, ready.Reason, now.name)
			require.Contains(t, ready.Message, "WorkloadsReady: Deployment "+stackName+"-"+string(role)+" ", now.name)
			require.Equal(t, status.InProgressStatus, w.kstatus(t), now.name)
			continue
		}
		require.Equal(t, v1alpha1.ReasonReady, ready.Reason, ready.Message)
		require.Equal(t, status.CurrentStatus, w.kstatus(t), now.name)
	}
}

func (w *world) report(t *testing.T, d *appsv1.Deployment, now stage) {
	t.Helper()
	d.Status = appsv1.DeploymentStatus{
		ObservedGeneration: d.Generation, Replicas: now.all, UpdatedReplicas: now.updated, ReadyReplicas: now.ready, AvailableReplicas: now.available,
	}
	require.NoError(t, w.client.Status().Update(w.ctx, d), now.name)
}
