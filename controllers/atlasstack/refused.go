package atlasstack

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/apply"
)

// refused makes an answer of the API server that a field is invalid a matter for a person. field is the part of the spec that the object is made from. That the
// cluster does not admit the object is none for who wrote the spec alone, and may pass: it stays an error, which is tried again, and says who can help.
func refused(err error, field string) error {
	if d := denial(err); d != nil {
		return d
	}
	if !apierrors.IsInvalid(err) {
		return err
	}
	return &apply.Stalled{Reason: v1alpha1.ReasonRefused, Message: fmt.Sprintf("the API server refuses what spec.%s asks for, correct it: %s", field, causes(err))}
}

// causes are what the API server has against an object. Its name is left out, because the same mistake in the objects of several roles is told once.
func causes(err error) string {
	var status apierrors.APIStatus
	if !errors.As(err, &status) || status.Status().Details == nil || len(status.Status().Details.Causes) == 0 {
		return err.Error()
	}
	details := status.Status().Details
	var list []string
	for _, c := range details.Causes {
		if text := cause(c); !slices.Contains(list, text) { // the same is said several times where several validations find it
			list = append(list, text)
		}
	}
	kind := cmp.Or(details.Kind, "object") + ": "
	if len(list) == 1 {
		return kind + list[0]
	}
	for i := range list {
		list[i] = fmt.Sprintf("(%d) %s", i+1, list[i])
	}
	return kind + strings.Join(list, "; ")
}

func cause(c metav1.StatusCause) string {
	if c.Field == "" || c.Field == "<nil>" {
		return c.Message
	}
	return c.Field + ": " + c.Message
}
