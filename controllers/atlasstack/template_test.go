package atlasstack_test

import (
	"strings"
	"testing"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/workloads"
	"github.com/atlas-platform/atlas/internal/testenv"
)

func overridden(text string) func(*v1alpha1.AtlasStackSpec) {
	return func(s *v1alpha1.AtlasStackSpec) {
		s.Worker.PodTemplate = nil
		if text != "" {
			s.Worker.PodTemplate = &runtime.RawExtension{Raw: []byte(text)}
		}
	}
}

func TestPodTemplateComesAndGoes(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	b.bringUp()
	before := b.deployment(workloads.RoleWorker).Spec.Template
	stack := b.untilReady()
	overridden(`{
		"metadata": {"labels": {"team": "search"}, "annotations": {"a": "b"}},
		"spec": {
			"nodeSelector": {"disk": "fast"}, "tolerations": [{"key": "batch", "operator": "Exists"}], "securityContext": {"runAsUser": 1000},
			"affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "podAffinityTerm": {"topologyKey": "zone"}}]}},
			"containers": [
				{"name": "atlas", "env": [{"name": "HTTPS_PROXY", "value": "p"}, {"name": "LOG_LEVEL", "value": "warn"}], "volumeMounts": [{"name": "x", "mountPath": "/x"}], "livenessProbe": null},
				{"name": "sidecar", "image": "example.com/sidecar:1"}
			],
			"volumes": [{"name": "x", "emptyDir": {}}]
		}}`)(&stack.Spec)
	require.NoError(t, b.client.Update(t.Context(), stack), "a merge patch would drop the null")
	b.eventually(func(c *assert.CollectT, _ *v1alpha1.AtlasStack) {
		pod := b.deployment(workloads.RoleWorker).Spec.Template
		require.Equal(c, "search", pod.Labels["team"])
		require.Equal(c, before.Annotations[workloads.ConfigHashAnnotation], pod.Annotations[workloads.ConfigHashAnnotation])
		require.Len(c, pod.Spec.Containers, 2)
		require.Equal(c, "atlas", pod.Spec.Containers[0].Name)
		require.Len(c, pod.Spec.Containers[0].Env, len(before.Spec.Containers[0].Env)+1)
		require.Nil(c, pod.Spec.Containers[0].LivenessProbe)
		require.Equal(c, "fast", pod.Spec.NodeSelector["disk"])
	})
	b.untilReady()
	b.update(overridden(""))
	b.eventually(func(c *assert.CollectT, _ *v1alpha1.AtlasStack) {
		require.Equal(c, before, b.deployment(workloads.RoleWorker).Spec.Template, "what was merged in has to go again, all of it")
	})
	b.untilReady()
}

// TestWhatNeedsAPersonHidesNothingThatIsTriedAgain: of two roles one has a template that can't be used, and a call fails for the other.
func TestWhatNeedsAPersonHidesNothingThatIsTriedAgain(t *testing.T) {
	t.Parallel()
	testenv.Require(t, testenv.EnvtestAssets)
	w, err := newWorld(t.Context(), theSuite)
	require.NoError(t, err)
	require.NoError(t, w.create())
	require.NoError(t, w.settle())
	require.NoError(t, w.update(func(s *v1alpha1.AtlasStackSpec) {
		s.API.PodTemplate = &runtime.RawExtension{Raw: []byte(`{"spec": {"nodeSelectr": {"disk": "fast"}}}`)}
	}))
	for n := 1; ; n++ {
		w.start(fault{call: n})
		err = w.turn()
		if err != nil && strings.Contains(err.Error(), "apply Deployment/"+w.namespace+"/demo-worker: ") {
			break
		}
		require.GreaterOrEqual(t, len(w.life.writes), n, "no fault of that call was told")
	}
	stack, err := w.stack()
	require.NoError(t, err)
	c := meta.FindStatusCondition(stack.Status.Conditions, v1alpha1.ConditionWorkloadsReady)
	require.Equal(t, v1alpha1.ReasonError, c.Reason)
	require.Contains(t, c.Message, errFault.Error()+"; ")
	require.Contains(t, c.Message, `unknown field "spec.nodeSelectr"`)
	require.NoError(t, w.turn())
	stack, err = w.stack()
	require.NoError(t, err)
	require.Equal(t, v1alpha1.ReasonPodTemplate, meta.FindStatusCondition(stack.Status.Conditions, v1alpha1.ConditionStalled).Reason)
}

func TestPodTemplateThatCantBeUsedIsStalled(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	b.bringUp()
	before := b.deployment(workloads.RoleWorker)
	for text, message := range map[string]string{
		`{"spec": {"nodeSelectr": {"disk": "fast"}}}`:                       `unknown field "spec.nodeSelectr"`,
		`{"metadata": {"labels": {"app.kubernetes.io/component": "mine"}}}`: "changes the label app.kubernetes.io/component",
		`{"spec": {"restartPolicy": "Never"}}`:                              "restartPolicy",
		`{"spec": {"containers": [{"name": "sidecar"}]}}`:                   "image",
	} {
		b.update(func(s *v1alpha1.AtlasStackSpec) {
			overridden(text)(s)
			s.Audit.Replicas = ptr.To(int32(2))
		})
		stack := b.condition(v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonPodTemplate, message)
		require.Equal(t, status.FailedStatus, b.kstatusOf(stack))
		require.Equal(t, before.Spec, b.deployment(workloads.RoleWorker).Spec, "the pods stay as they are")
		require.Equal(t, int32(2), *b.deployment(workloads.RoleAudit).Spec.Replicas, "the other roles go on")
	}
	b.update(overridden(""))
	b.untilReady()
}
