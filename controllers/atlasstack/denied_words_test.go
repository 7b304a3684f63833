package atlasstack

import (
	"errors"
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/atlas-platform/atlas/controllers/apply"
)

// TestWhoCanHelpIsTold, and what is nobody's mistake in the spec is tried again.
func TestWhoCanHelpIsTold(t *testing.T) {
	t.Parallel()
	forbidden := func(text string) *apierrors.StatusError {
		return apierrors.NewForbidden(schema.GroupResource{Resource: "services"}, "demo-api", errors.New(text))
	}
	policy := forbidden("ValidatingAdmissionPolicy 'no-lb' with binding 'all' denied request: no load balancers")
	policy.ErrStatus.Reason, policy.ErrStatus.Code = metav1.StatusReasonInvalid, http.StatusUnprocessableEntity
	policy.ErrStatus.Details.Causes = []metav1.StatusCause{{Message: "no load balancers"}}
	webhook := &apierrors.StatusError{ErrStatus: metav1.Status{
		Reason: metav1.StatusReasonInvalid, Code: http.StatusUnprocessableEntity, Message: `admission webhook "v.example.com" denied the request: no`,
		Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{Field: "spec.type", Message: "no"}}},
	}}
	for want, err := range map[string]error{
		"the cluster does not admit services of the stack: ValidatingAdmissionPolicy 'no-lb' with binding 'all' denied request: no load balancers: change what it objects to, where the spec sets that, " +
			"or have who manages it let the stack's objects pass; it is tried again": policy,
		`the cluster does not admit objects of the stack: admission webhook "v.example.com" denied the request: no: change what it objects to, where the spec sets that, ` +
			"or have who manages it let the stack's objects pass; it is tried again": webhook,
		`the cluster does not admit objects of the stack: Internal error occurred: failed calling webhook "v.example.com": gone: have who manages the webhook bring it back; it is tried again`: apierrors.NewInternalError(errors.New(`failed calling webhook "v.example.com": gone`)),
		"the cluster does not admit services of the stack: exceeded quota: small, requested: services=1, used: services=5, limited: services=5: " +
			"have who manages the namespace raise the quota, or make room; it is tried again": forbidden("exceeded quota: small, requested: services=1, used: services=5, limited: services=5"),
		`the cluster does not admit services of the stack: User "system:serviceaccount:a:b" cannot patch resource "services": give the operator the rights of its chart; it is tried again`: forbidden(`User "system:serviceaccount:a:b" cannot patch resource "services"`),
		"the cluster does not admit services of the stack: because: ask who manages the cluster; it is tried again":                                                                         forbidden("because"),
	} {
		got := refused(fmt.Errorf("apply Service/ns/demo-api: %w", err), "networking.service")
		require.EqualError(t, got, want)
		require.ErrorIs(t, got, err)
		_, stalled := apply.AsStalled(got)
		require.False(t, stalled, want)
		require.Equal(t, got, refused(got, "api"), "it is wrapped once")
	}

	invalid := apierrors.NewInvalid(schema.GroupKind{Kind: "Service"}, "demo-api", field.ErrorList{field.Invalid(field.NewPath("spec", "type"), corev1.ServiceType("x"), "no type")})
	_, stalled := apply.AsStalled(refused(invalid, "networking.service"))
	require.True(t, stalled)
	rule := apierrors.NewInvalid(schema.GroupKind{Kind: "HTTPRoute"}, "demo-api", field.ErrorList{field.Invalid(nil, "x", "a rule of the whole")})
	_, stalled = apply.AsStalled(refused(rule, "networking.httpRoute"))
	require.True(t, stalled)
	require.NoError(t, refused(nil, "api"))
	boom := errors.New("boom")
	require.Equal(t, boom, refused(boom, "api"))
}

// TestTheSameDenialIsToldOnce although the objects of every role meet it.
func TestTheSameDenialIsToldOnce(t *testing.T) {
	t.Parallel()
	one := func(name string) error {
		return refused(apierrors.NewForbidden(schema.GroupResource{Resource: "services"}, name, errors.New("because")), "api")
	}
	require.EqualError(t, gravest([]error{one("a"), one("b")}), one("c").Error())
}
