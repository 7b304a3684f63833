package e2e

import (
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	ctrlclient "sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atlas-platform/atlas/hack/devenv/cluster"
	"github.com/atlas-platform/atlas/hack/devenv/images"
	"github.com/atlas-platform/atlas/hack/devenv/process"
	"github.com/atlas-platform/atlas/internal/testenv"
)

// node is the cluster that the stack runs on, for what can't be had from its API server.
type node struct {
	cluster cluster.Cluster
	state   *process.State
}

func openNode(t *testing.T) node {
	t.Helper()
	state, err := process.Open(testenv.Require(t, testenv.Instance))
	require.NoError(t, err)
	c, err := cluster.Open(t.Context(), state, nil)
	require.NoError(t, err)
	status, err := c.Status(t.Context())
	require.NoError(t, err)
	if status.Kind == "kind" {
		t.Skip("the host reaches kind's Services by kubectl port-forward, which leads to one pod and ends with it")
	}
	return node{cluster: c, state: state}
}

// forward makes a Service's port reachable from the test. Each connection is one connection from the node's own network to the Service's cluster address, so that
// kube-proxy chooses the pod, as it does for clients in pods.
func (n node) forward(t *testing.T, e *env, service ctrlclient.ObjectKey, port int) string {
	t.Helper()
	found := &corev1.Service{}
	require.NoError(t, e.cluster.Get(t.Context(), service, found))
	unlock, err := n.state.Lock(t.Context())
	require.NoError(t, err)
	defer unlock()
	address, err := n.cluster.Forward(t.Context(), service.Namespace, net.JoinHostPort(found.Spec.ClusterIP, strconv.Itoa(port)))
	require.NoError(t, err)
	return "http://" + address
}

func (n node) load(t *testing.T, image images.Image) {
	t.Helper()
	unlock, err := n.state.Lock(t.Context())
	require.NoError(t, err)
	defer unlock()
	require.NoError(t, n.cluster.LoadImages(t.Context(), image))
}

// nextRelease is an image of the same sources with one more migration.
func (n node) nextRelease(t *testing.T) images.Image {
	t.Helper()
	dir := t.TempDir()
	migration, err := filepath.Abs("testdata/next_release.sql")
	require.NoError(t, err)
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{
		filepath.Join(n.state.Checkout, "internal", "postgres", "migrations", "99999_next_release.sql"): migration,
	}})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o600))
	program := filepath.Join(dir, "atlas")
	build := exec.CommandContext(t.Context(), "go", "build", "-overlay", filepath.Join(dir, "overlay.json"),
		"-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", program, "./services")
	build.Dir = n.state.Checkout
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	out, err := build.CombinedOutput()
	require.NoError(t, err, string(out))
	image, err := images.Pack("atlas", program, dir)
	require.NoError(t, err)
	return image
}
