package cluster

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/hack/devenv/images"
	"github.com/atlas-platform/atlas/hack/devenv/process"
)

// e2eEnv turns the test of a whole node on. It needs root, and minutes on a machine that has not built the programs yet.
const e2eEnv = "ATLAS_E2E"

type bench struct {
	*testing.T
	state   *process.State
	cluster Cluster
	info    *Info
	server  string // port of a server on the host
}

func TestNode(t *testing.T) { //nolint:paralleltest // it has the machine's time for itself
	if os.Getenv(e2eEnv) == "" {
		t.Skip(e2eEnv + " is not set")
	}
	b := setup(t)
	before := hostNetwork(t)
	b.up()
	t.Run("pods", func(t *testing.T) { b.with(t).pods() })
	t.Run("a second up is quick", func(t *testing.T) {
		start := time.Now()
		b.with(t).up()
		require.Less(t, time.Since(start), 2*time.Second)
	})
	t.Run("the host's network is as before", func(t *testing.T) { require.Equal(t, before, hostNetwork(t)) })
	t.Run("comes back after a kill", func(t *testing.T) {
		b := b.with(t)
		proc, ok := b.state.Find(nodeProcess)
		require.True(t, ok)
		require.NoError(t, syscall.Kill(proc.PID, syscall.SIGKILL))
		require.NoError(t, poll(t.Context(), 20*time.Millisecond, func() (bool, error) { return !proc.Alive(), nil }))
		b.up()
		b.kubectl(nil, "get", "node", nodeName)
	})
	t.Run("down leaves nothing", func(t *testing.T) {
		require.NoError(t, b.cluster.Down(t.Context()))
		procs, err := b.state.List()
		require.NoError(t, err)
		require.Empty(t, procs)
		require.NoDirExists(t, nodeDir(b.state))
		for _, dir := range cgroupDirs(cgroupRoot, "atlas-"+b.state.ID()) {
			require.NoDirExists(t, dir)
		}
		require.Equal(t, before, hostNetwork(t))
		st, err := b.cluster.Status(t.Context())
		require.NoError(t, err)
		require.False(t, st.Running)
	})
}

func setup(t *testing.T) *bench {
	t.Helper()
	state, err := process.Open("test-node")
	require.NoError(t, err)
	unlock, err := state.Lock(t.Context())
	require.NoError(t, err)
	t.Cleanup(unlock)
	c, err := newNode(state, process.NewConsole(t.Output()))
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		require.NoError(t, c.Down(ctx))
		require.NoError(t, state.Remove())
	})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "from the host") }))
	t.Cleanup(server.Close)
	return &bench{T: t, state: state, cluster: c, server: server.Listener.Addr().String()}
}

// with is the same bench for a subtest.
func (b *bench) with(t *testing.T) *bench {
	c := *b
	c.T = t
	return &c
}

func (b *bench) up() {
	b.Helper()
	addr, err := net.ResolveTCPAddr("tcp4", b.server)
	require.NoError(b, err)
	b.info, err = b.cluster.Up(b.Context(), map[string]int{"web": addr.Port})
	require.NoError(b, err)
}

func (b *bench) kubectl(stdin []byte, args ...string) string {
	b.Helper()
	out, err := kubectl(b.Context(), b.info, stdin, args...)
	require.NoError(b, err)
	return out
}

// inPod runs the probe in its pod; what it printed matters more than its exit status.
func (b *bench) inPod(args ...string) string {
	b.Helper()
	out, _ := kubectl(b.Context(), b.info, nil, append([]string{"-n", "probe", "exec", "deploy/probe", "--", "/probe"}, args...)...)
	return out
}

func (b *bench) pods() {
	b.Helper()
	program := filepath.Join(b.TempDir(), "probe")
	build := exec.CommandContext(b.Context(), "go", "build", "-o", program, "./testdata/probe")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(b, err, "%s", out)
	image, err := images.Pack("probe", program, b.TempDir())
	require.NoError(b, err)
	for range 2 {
		require.NoError(b, b.cluster.LoadImages(b.Context(), image))
	}
	manifest, err := os.ReadFile("testdata/probe.yaml")
	require.NoError(b, err)
	b.kubectl(bytes.ReplaceAll(manifest, []byte("IMAGE"), []byte(image.Ref)), "apply", "-f", "-")
	b.kubectl(nil, "-n", "probe", "rollout", "status", "deploy/probe", "--timeout=120s")

	_, err = kubectl(b.Context(), b.info, nil, "-n", "probe", "run", "refused", "--image="+image.Ref, "--privileged")
	require.ErrorContains(b, err, `violates PodSecurity "restricted`)
	require.Contains(b, b.kubectl(nil, "-n", "probe", "logs", "deploy/probe"), "serving")

	ip := b.kubectl(nil, "-n", "probe", "get", "service", "probe", "-o", "jsonpath={.spec.clusterIP}")
	require.Contains(b, b.inPod("resolve", "probe.probe.svc.cluster.local"), "["+ip+"]")
	require.Contains(b, b.inPod("resolve", "kubernetes.default"), "["+apiClusterIP+"]")
	require.Contains(b, b.inPod("resolve", "example.com"), "no such host")
	require.Contains(b, b.inPod("get", "http://probe/"), "from the pod")
	require.Contains(b, b.inPod("get", "http://192.0.2.1/"), "unreachable", "there is no way out")

	_, port, err := net.SplitHostPort(b.server)
	require.NoError(b, err)
	require.Contains(b, b.inPod("get", "http://"+net.JoinHostPort(b.info.NodeIP, port)+"/"), "from the host")

	addr, err := b.cluster.Forward(b.Context(), "probe", ip+":80")
	require.NoError(b, err)
	again, err := b.cluster.Forward(b.Context(), "probe", ip+":80")
	require.NoError(b, err)
	require.Equal(b, addr, again)
	resp, err := http.Get("http://" + addr)
	require.NoError(b, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(b, err)
	require.Equal(b, "from the pod", string(body))
}

// hostNetwork is what must not change: the host's links, routes and firewall.
func hostNetwork(t *testing.T) string {
	t.Helper()
	var all bytes.Buffer
	for _, args := range [][]string{{"ip", "-brief", "link"}, {"ip", "-brief", "address"}, {"ip", "route", "show", "table", "all"}, {"iptables-save", "-t", "nat"}} {
		path, err := process.LookPath(args[0])
		require.NoError(t, err)
		out, err := exec.CommandContext(t.Context(), path, args[1:]...).Output()
		require.NoError(t, err)
		for line := range bytes.Lines(out) {
			if !bytes.HasPrefix(line, []byte("#")) { // iptables-save prints the time
				all.Write(line)
			}
		}
	}
	return all.String()
}
