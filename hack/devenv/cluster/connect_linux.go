package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/atlas-platform/atlas/hack/devenv/images"
	"github.com/atlas-platform/atlas/hack/devenv/process"
)

// connect opens the two ways: pods to the servers of the host, the host to the API server. It writes the host's kubeconfig.
func (n *node) connect(ctx context.Context, proc *process.Process, servers map[string]int) error {
	if err := n.openServers(ctx, proc, servers); err != nil {
		return err
	}
	addr, err := n.forward(ctx, proc, apiForward, nodeIP+":"+apiPort)
	if err != nil {
		return err
	}
	return writeKubeconfig(n.kubeconfig(), "https://"+addr, filepath.Join(n.dir(), "pki"), "admin")
}

// openServers lets pods reach each server at the node's address and the server's own port. The listeners belong to the node's network,
// the forwarder and its connections to the host's.
func (n *node) openServers(ctx context.Context, proc *process.Process, servers map[string]int) error {
	ns, err := openNetns(proc.PID)
	if err != nil {
		return err
	}
	defer ns.close()
	return openServers(ctx, n.state, proc.PID, nodeIP, servers, func(addr string) (net.Listener, error) {
		// The node's own address appears only when its PID 1 has made the link.
		var l net.Listener
		var last error
		err := n.whileAlive(ctx, proc, 10*time.Millisecond, func() bool {
			l, last = ns.listen(ctx, addr)
			return last == nil || !errors.Is(last, syscall.EADDRNOTAVAIL)
		})
		return l, errors.Join(err, last)
	})
}

// Forward implements Cluster.
func (n *node) Forward(ctx context.Context, name, target string) (string, error) {
	proc, ok := n.state.Find(nodeProcess)
	if !ok {
		return "", errors.New("the cluster is not running")
	}
	return n.forward(ctx, proc, name, target)
}

func (n *node) forward(ctx context.Context, proc *process.Process, name, target string) (string, error) {
	host, _, err := net.SplitHostPort(target)
	if err != nil || net.ParseIP(host) == nil {
		return "", fmt.Errorf("forward %s: the target %q is not IP:PORT", name, target)
	}
	full := forwardPrefix + name
	if p, ok := n.state.Find(full); ok {
		if addr, to, _ := strings.Cut(p.Address, " -> "); to == target {
			return addr, nil
		}
		if err := p.Stop(ctx); err != nil {
			return "", err
		}
	}
	port, err := n.state.Port(full)
	if err != nil {
		return "", err
	}
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp4", addr)
	if err != nil {
		return "", fmt.Errorf("forward %s: %w", name, err)
	}
	defer func() { _ = l.Close() }()
	return addr, startForwarder(ctx, n.state, full, addr+" -> "+target, []net.Listener{l}, "--node", strconv.Itoa(proc.PID), "--inside", target)
}

// waitReady waits until the API server answers through its forward.
func (n *node) waitReady(ctx context.Context, proc *process.Process) error {
	var last error
	err := n.whileAlive(ctx, proc, 50*time.Millisecond, func() bool {
		last = n.ask(ctx, proc)
		return last == nil
	})
	if err != nil {
		return n.state.WithLog(nodeProcess, fmt.Errorf("wait for the API server: %w\n%s", errors.Join(err, last), n.tails()))
	}
	return nil
}

// ask asks the API server, as a client on the host, whether it is ready.
func (n *node) ask(ctx context.Context, _ *process.Process) error {
	p, ok := n.state.Find(forwardPrefix + apiForward)
	if !ok {
		return errors.New("the forward to the API server is not running")
	}
	ca, err := os.ReadFile(filepath.Join(n.dir(), "pki", "ca.crt"))
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	client := &http.Client{
		Timeout:   5 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}},
	}
	defer client.CloseIdleConnections()
	addr, _, _ := strings.Cut(p.Address, " -> ")
	return ready(ctx, client, "https://"+addr)
}

// whileAlive polls, and gives up as soon as the node has ended.
func (n *node) whileAlive(ctx context.Context, proc *process.Process, every time.Duration, done func() bool) error {
	return poll(ctx, every, func() (bool, error) {
		if done() {
			return true, nil
		}
		if !proc.Alive() {
			return false, errors.New("the node has ended")
		}
		return false, nil
	})
}

// LoadImages implements Cluster.
func (n *node) LoadImages(ctx context.Context, imgs ...images.Image) error {
	proc, ok := n.state.Find(nodeProcess)
	if !ok {
		return errors.New("the cluster is not running")
	}
	var have string
	var last error
	err := n.whileAlive(ctx, proc, 50*time.Millisecond, func() bool { // containerd starts with the node
		have, last = ctr(ctx, proc.PID, "images", "ls", "-q")
		return last == nil
	})
	if err != nil {
		return fmt.Errorf("list the node's images: %w", errors.Join(err, last))
	}
	for _, img := range imgs {
		if slices.Contains(strings.Fields(have), img.Ref) {
			continue
		}
		if _, err := ctr(ctx, proc.PID, "images", "import", img.Tar); err != nil {
			return fmt.Errorf("import %s: %w", img.Ref, err)
		}
	}
	return nil
}

// ctr talks to the node's containerd from the host: a socket can be reached through the file system of a process in the node.
func ctr(ctx context.Context, pid int, args ...string) (string, error) {
	socket := filepath.Join("/proc", strconv.Itoa(pid), "root/run/containerd/containerd.sock")
	cmd := exec.CommandContext(ctx, "ctr", append([]string{"--address", socket, "--connect-timeout", "2s", "--namespace", "k8s.io"}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("ctr %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}
