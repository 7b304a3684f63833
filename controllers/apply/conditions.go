package apply

import (
	"strings"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/atlas-platform/atlas/api/v1alpha1"
)

// maxMessage keeps a condition readable in a terminal, far below the API server's limit. With the condition's name before it, it fits into an Event, for which
// Kubernetes takes 1,024 bytes.
const maxMessage = 960

// SetCondition sets one condition for a generation and reports whether its status or reason changed.
func SetCondition(conditions *[]metav1.Condition, generation int64, kind string, status metav1.ConditionStatus, reason, message string) bool {
	before := meta.FindStatusCondition(*conditions, kind)
	transition := before == nil || before.Status != status || before.Reason != reason
	meta.SetStatusCondition(conditions, metav1.Condition{
		Type: kind, Status: status, ObservedGeneration: generation, Reason: reason, Message: Message(message),
	})
	return transition
}

// SetStepResult turns what a step returned into its condition: nil is True, Waiting is False or, when the other side was
// lost after it had been ready for this generation, Unknown, and everything else is False. It reports whether status or
// reason changed.
func SetStepResult(conditions *[]metav1.Condition, generation int64, kind, ready string, err error) bool {
	if err == nil {
		return SetCondition(conditions, generation, kind, metav1.ConditionTrue, v1alpha1.ReasonReady, ready)
	}
	if stalled, ok := AsStalled(err); ok {
		return SetCondition(conditions, generation, kind, metav1.ConditionFalse, stalled.Reason, stalled.Message)
	}
	if outdated, ok := AsOutdated(err); ok {
		return SetCondition(conditions, generation, kind, metav1.ConditionFalse, outdated.Reason, outdated.Message)
	}
	if waiting, ok := AsWaiting(err); ok {
		status := metav1.ConditionFalse
		if waiting.Lost && wasReady(*conditions, generation, kind) {
			status = metav1.ConditionUnknown
		}
		return SetCondition(conditions, generation, kind, status, waiting.Reason, waiting.Message)
	}
	return SetCondition(conditions, generation, kind, metav1.ConditionFalse, v1alpha1.ReasonError, err.Error())
}

// wasReady is true for a condition that is True for the generation, or that was until the connection was lost.
func wasReady(conditions []metav1.Condition, generation int64, kind string) bool {
	c := meta.FindStatusCondition(conditions, kind)
	if c == nil || c.ObservedGeneration != generation {
		return false
	}
	return c.Status == metav1.ConditionTrue || (c.Status == metav1.ConditionUnknown && c.Reason == v1alpha1.ReasonUnreachable) || v1alpha1.Serves(c.Reason)
}

// Message makes text fit for a condition: one line of bounded length.
func Message(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) <= maxMessage {
		return text
	}
	cut := maxMessage
	for !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + "…"
}
