package atlasstack

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/atlas-platform/atlas/controllers/apply"
)

func TestRefused(t *testing.T) {
	t.Parallel()
	at := field.NewPath("spec", "port")
	invalid := func(list ...*field.Error) error {
		return fmt.Errorf("apply Service/ns/demo: %w", apierrors.NewInvalid(schema.GroupKind{Kind: "Service"}, "demo", list))
	}
	for _, tc := range []struct {
		err  error
		want string
	}{
		{invalid(field.Invalid(at, 99999, "too large")), `the API server refuses what spec.f asks for, correct it: Service: spec.port: Invalid value: 99999: too large`},
		{
			invalid(field.Invalid(at, 99999, "too large"), field.Invalid(at, 99999, "too large"), field.Required(at.Child("name"), "needed")),
			`the API server refuses what spec.f asks for, correct it: Service: (1) spec.port: Invalid value: 99999: too large; (2) spec.port.name: Required value: needed`,
		},
		{invalid(), `the API server refuses what spec.f asks for, correct it: apply Service/ns/demo: Service "demo" is invalid`},
	} {
		err := refused(tc.err, "f")
		require.EqualError(t, err, tc.want)
		_, stalled := apply.AsStalled(err)
		require.True(t, stalled)
	}
	other := errors.New("refused by a webhook")
	require.Equal(t, other, refused(other, "f"))
	require.NoError(t, refused(nil, "f"))
}

func TestGravestTellsOnceAndLooksAgainInTime(t *testing.T) {
	t.Parallel()
	person := &apply.Stalled{Reason: "A", Message: "mend a"}
	soon := &apply.Waiting{Message: "soon", After: time.Second}
	err := gravest([]error{person, &apply.Waiting{After: time.Minute}, soon, &apply.Waiting{}, &apply.Stalled{Reason: "A", Message: "mend a"}})
	require.Equal(t, &apply.Stalled{Reason: "A", Message: "mend a", After: time.Second}, err)
	require.Equal(t, err, gravest([]error{err, nil}), "by two steps")
}
