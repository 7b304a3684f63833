package apply_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/apply"
)

func TestStepResults(t *testing.T) {
	t.Parallel()
	lost := &apply.Waiting{Reason: v1alpha1.ReasonUnreachable, Message: "gone", Lost: true}
	for _, tc := range []struct {
		name   string
		before []error // results of earlier passes; nil is success
		err    error
		status metav1.ConditionStatus
		reason string
	}{
		{name: "done", status: metav1.ConditionTrue, reason: v1alpha1.ReasonReady},
		{name: "not done yet", err: &apply.Waiting{Reason: "Soon", Message: "m"}, status: metav1.ConditionFalse, reason: "Soon"},
		{name: "never reached", err: lost, status: metav1.ConditionFalse, reason: v1alpha1.ReasonUnreachable},
		{name: "lost", before: []error{nil}, err: lost, status: metav1.ConditionUnknown, reason: v1alpha1.ReasonUnreachable},
		{name: "still lost", before: []error{nil, lost}, err: lost, status: metav1.ConditionUnknown, reason: v1alpha1.ReasonUnreachable},
		{name: "needs a person", before: []error{nil}, err: &apply.Stalled{Reason: "No", Message: "m"}, status: metav1.ConditionFalse, reason: "No"},
		{name: "wrapped", err: fmt.Errorf("step: %w", &apply.Stalled{Reason: "No", Message: "m"}), status: metav1.ConditionFalse, reason: "No"},
		{name: "error", err: errors.New("boom"), status: metav1.ConditionFalse, reason: v1alpha1.ReasonError},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var conditions []metav1.Condition
			for _, err := range append(tc.before, tc.err) {
				apply.SetStepResult(&conditions, 7, "Kind", "done", err)
			}
			require.Len(t, conditions, 1)
			require.Equal(t, tc.status, conditions[0].Status)
			require.Equal(t, tc.reason, conditions[0].Reason)
			require.Equal(t, int64(7), conditions[0].ObservedGeneration)
		})
	}
}

func TestLostConnectionOfANewGenerationIsNotReady(t *testing.T) {
	t.Parallel()
	var conditions []metav1.Condition
	apply.SetStepResult(&conditions, 7, "Kind", "done", nil)
	apply.SetStepResult(&conditions, 8, "Kind", "", &apply.Waiting{Reason: v1alpha1.ReasonUnreachable, Message: "gone", Lost: true})
	require.Equal(t, metav1.ConditionFalse, conditions[0].Status, "the new address may be wrong")
}

func TestMessageIsOneShortLine(t *testing.T) {
	t.Parallel()
	require.Equal(t, "a b", apply.Message("a\n\tb\n"))
	long := apply.Message(strings.Repeat("é", 2000))
	require.LessOrEqual(t, len(v1alpha1.ConditionReferencesResolved+": "+long), 1024, "an Event takes no more")
	require.LessOrEqual(t, len(long), 1100)
	require.True(t, utf8.ValidString(long))
}
