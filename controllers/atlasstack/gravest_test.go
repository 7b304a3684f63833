package atlasstack

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/controllers/apply"
)

func TestGravest(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	waiting, other := &apply.Waiting{Message: "soon"}, &apply.Waiting{Message: "later"}
	person, another := &apply.Stalled{Reason: "A", Message: "mend a"}, &apply.Stalled{Reason: "B", Message: "mend b"}

	require.NoError(t, gravest([]error{nil, nil}))
	require.Equal(t, waiting, gravest([]error{nil, waiting, other}))

	err := gravest([]error{waiting, fmt.Errorf("role: %w", person), another})
	require.Equal(t, &apply.Stalled{Reason: "A", Message: "mend a; mend b"}, err)
	require.Equal(t, "mend a", person.Message, "it is somebody else's")

	err = gravest([]error{waiting, person, boom})
	require.ErrorIs(t, err, boom)
	require.EqualError(t, err, "boom; mend a")
	_, stalled := apply.AsStalled(err)
	require.False(t, stalled, "it would not be tried again")
	_, waits := apply.AsWaiting(err)
	require.False(t, waits)
}
