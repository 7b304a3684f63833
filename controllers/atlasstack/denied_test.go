package atlasstack_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atlas-platform/atlas/api/v1alpha1"
)

// TestWhatAPolicyDeniesIsTriedAgain, and is no mistake of the spec: the stack is not Stalled, and goes on by itself when the policy is gone.
func TestWhatAPolicyDeniesIsTriedAgain(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		group, resource, condition string
		change                     func(*v1alpha1.AtlasStackSpec)
	}{
		"Services": {"", "services", v1alpha1.ConditionExposureReady, func(s *v1alpha1.AtlasStackSpec) {
			s.Networking.Service.Annotations = map[string]string{"example.com/a": "b"}
		}},
		"Deployments": {"apps", "deployments", v1alpha1.ConditionWorkloadsReady, func(s *v1alpha1.AtlasStackSpec) {
			s.LogLevel = "debug"
			overridden(`{"spec": {"nodeSelector": {"disk": "fast"}}}`)(s)
		}},
		"Jobs": {"batch", "jobs", v1alpha1.ConditionMigrationsApplied, func(s *v1alpha1.AtlasStackSpec) { s.Image = nextImage }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBundle(t)
			b.bringUp()
			lift := b.deny(tc.group, tc.resource)
			b.update(tc.change)
			says := "ValidatingAdmissionPolicy '" + b.namespace + "' with binding '" + b.namespace + "' denied request: not today: "
			stack := b.condition(tc.condition, metav1.ConditionFalse, v1alpha1.ReasonError, says)
			t.Log(meta.FindStatusCondition(stack.Status.Conditions, tc.condition).Message)
			require.Nil(t, meta.FindStatusCondition(stack.Status.Conditions, v1alpha1.ConditionStalled))
			require.True(t, meta.IsStatusConditionTrue(stack.Status.Conditions, v1alpha1.ConditionReconciling))
			lift()
			if name == "Jobs" {
				b.finishMigration(true)
			}
			b.untilReady()
		})
	}
}

// deny has a policy refuse every object of a kind in the test's namespace.
func (b *bundle) deny(group, resource string) (lift func()) {
	b.t.Helper()
	policy := &admissionv1.ValidatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: b.namespace}, Spec: admissionv1.ValidatingAdmissionPolicySpec{
		MatchConstraints: &admissionv1.MatchResources{
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: b.namespace}},
			ResourceRules: []admissionv1.NamedRuleWithOperations{{RuleWithOperations: admissionv1.RuleWithOperations{
				Operations: []admissionv1.OperationType{admissionv1.Create, admissionv1.Update},
				Rule:       admissionv1.Rule{APIGroups: []string{group}, APIVersions: []string{"v1"}, Resources: []string{resource}, Scope: ptr.To(admissionv1.NamespacedScope)},
			}}},
		},
		Validations: []admissionv1.Validation{{Expression: "false", Message: "not today"}},
	}}
	binding := &admissionv1.ValidatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: b.namespace}, Spec: admissionv1.ValidatingAdmissionPolicyBindingSpec{
		PolicyName: b.namespace, ValidationActions: []admissionv1.ValidationAction{admissionv1.Deny},
	}}
	require.NoError(b.t, b.client.Create(b.t.Context(), policy))
	require.NoError(b.t, b.client.Create(b.t.Context(), binding))
	remove := func() {
		ctx := context.WithoutCancel(b.t.Context())
		require.NoError(b.t, client.IgnoreNotFound(b.client.Delete(ctx, binding)))
		require.NoError(b.t, client.IgnoreNotFound(b.client.Delete(ctx, policy)))
	}
	b.t.Cleanup(remove)
	// The API server takes a while to notice. Any object of the kind shows it; the name is none's.
	probe := &metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{APIVersion: "v1"}, ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace}}
	if group != "" {
		probe.APIVersion = group + "/v1"
	}
	probe.Kind = map[string]string{"services": "Service", "deployments": "Deployment", "jobs": "Job"}[resource]
	list := &metav1.PartialObjectMetadataList{TypeMeta: metav1.TypeMeta{APIVersion: probe.APIVersion, Kind: probe.Kind + "List"}}
	require.NoError(b.t, b.client.List(b.t.Context(), list, client.InNamespace(b.namespace)))
	require.NotEmpty(b.t, list.Items)
	probe.Name = list.Items[0].Name
	patch := client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"annotations":{"probe":"x"}}}`))
	require.Eventually(b.t, func() bool {
		return apierrors.IsInvalid(b.client.Patch(b.t.Context(), probe.DeepCopy(), patch, client.DryRunAll))
	}, patience, tick)
	return remove
}
