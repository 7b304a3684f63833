package cluster

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

func TestSettingsWrite(t *testing.T) {
	t.Parallel()
	s := settings{Dir: filepath.Join(t.TempDir(), "node"), Cgroup: "atlas-x", Snapshotter: "overlayfs", PauseRef: "localhost/pause:1", CoreDNSRef: "localhost/coredns:1"}
	require.NoError(t, s.write())
	read := func(name string) []byte {
		content, err := os.ReadFile(filepath.Join(s.Dir, name))
		require.NoError(t, err)
		require.NotContains(t, string(content), "{{")
		return content
	}
	var kubelet struct {
		CgroupRoot string
		ClusterDNS []string
	}
	require.NoError(t, yaml.Unmarshal(read("kubelet.yaml"), &kubelet))
	require.Equal(t, "/atlas-x", kubelet.CgroupRoot)
	require.Equal(t, []string{dnsClusterIP}, kubelet.ClusterDNS)
	require.True(t, json.Valid(read("cni/10-bridge.conflist")))
	require.Contains(t, string(read("containerd.toml")), `sandbox_image = "localhost/pause:1"`)

	manifest, err := s.render("coredns.yaml")
	require.NoError(t, err)
	for doc := range bytes.SplitSeq(manifest, []byte("\n---\n")) {
		var object struct{ Kind string }
		require.NoError(t, yaml.Unmarshal(doc, &object), "%s", doc)
		require.NotEmpty(t, object.Kind)
	}
}
