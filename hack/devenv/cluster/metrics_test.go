package cluster

import (
	"bytes"
	"encoding/base64"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

func TestMetricsManifest(t *testing.T) {
	t.Parallel()
	pki := t.TempDir()
	require.NoError(t, writePKI(pki))
	for _, trust := range []bool{false, true} {
		manifest, err := renderMetrics("localhost/metrics-server:1", pki, trust)
		require.NoError(t, err)
		objects := map[string]map[string]any{}
		for doc := range bytes.SplitSeq(manifest, []byte("\n---\n")) {
			var object map[string]any
			require.NoError(t, yaml.Unmarshal(doc, &object), "%s", doc)
			objects[object["kind"].(string)] = object
		}
		ca, err := os.ReadFile(filepath.Join(pki, "ca.crt"))
		require.NoError(t, err)
		require.Equal(t, base64.StdEncoding.EncodeToString(ca), objects["APIService"]["spec"].(map[string]any)["caBundle"])
		require.Len(t, objects["Secret"]["data"], 2)
		require.Equal(t, trust, bytes.Contains(manifest, []byte("--kubelet-insecure-tls")))
	}
	_, err := renderMetrics("localhost/metrics-server:1", t.TempDir(), false)
	require.ErrorIs(t, err, os.ErrNotExist, "a node from before this command")
}
