package atlasjob

import (
	"testing"

	"github.com/stretchr/testify/require"

	atlas "github.com/atlas-platform/atlas/client"
)

func TestSummaryOfAProgress(t *testing.T) {
	t.Parallel()
	for want, p := range map[string]atlas.JobProgress{"0/0": {}, "40/100": {Done: 40, Total: 100}, "0/100": {Total: 100}, "191000": {Done: 191_000}} {
		require.Equal(t, want, summary(p))
	}
}
