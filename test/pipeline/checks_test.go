package pipeline

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestChecksOfALivePlatform: the jobs that check Atlas find nothing, themselves and the work that goes on included.
func TestChecksOfALivePlatform(t *testing.T) {
	t.Parallel()
	p := start(t)
	ada := p.person("ada")
	_, err := p.pool.Exec(t.Context(), "UPDATE users SET is_admin = true WHERE id = $1", ada.id)
	require.NoError(t, err)
	_, collection := p.call(ada, "POST", "/v1/collections", object{"name": "c"})
	for i := range 50 {
		status, _ := p.call(ada, "POST", "/v1/items", object{"collection_id": collection["id"], "title": fmt.Sprint("item ", i), "content": ""})
		require.Equal(t, 201, status)
	}
	for _, kind := range []string{"consistency_check", "audit_verify"} {
		status, job := p.call(ada, "POST", "/v1/jobs", object{"type": kind, "parameters": object{}})
		require.Equal(t, 202, status, job)
		path := "/v1/jobs/" + job["id"].(string)
		require.Eventually(t, func() bool {
			_, job = p.call(ada, "GET", path, nil)
			return job["finished_at"] != nil
		}, patience, 50*time.Millisecond, kind)
		require.Equal(t, "SUCCEEDED", job["state"], job["error"])
		result := job["result"].(map[string]any)
		if kind == "audit_verify" {
			require.Greater(t, result["rows"], 50.0)
			continue
		}
		require.Empty(t, result["differences"])
		require.InDelta(t, 50, result["checked"].(map[string]any)["documents"], 0)
	}
}
