package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/atlas-platform/atlas/hack/devenv/images"
	"github.com/atlas-platform/atlas/hack/devenv/process"
)

// kindMarker is the file in the state that says that its cluster is kind's.
const kindMarker = "kind.json"

// kind is a Cluster that the program kind runs in Docker. It does by command lines what the node does by itself.
type kind struct {
	state   *process.State
	console *process.Console
}

func newKind(state *process.State, console *process.Console) *kind {
	return &kind{state: state, console: console}
}

var _ Cluster = (*kind)(nil)

func (k *kind) name() string         { return "atlas-" + k.state.ID() }
func (k *kind) controlPlane() string { return k.name() + "-control-plane" } // kind's name for the container
func (k *kind) kubeconfig() string   { return k.state.Path("kubeconfig") }

// Check implements Cluster.
func (*kind) Check() error { return nil }

// Up implements Cluster.
func (k *kind) Up(ctx context.Context, servers map[string]int) (*Info, error) {
	if len(servers) > 0 { // those in containers are on kind's network, where pods reach them by name
		return nil, fmt.Errorf("pods in kind can't reach servers at 127.0.0.1 (%s): give addresses that containers can reach",
			strings.Join(slices.Sorted(maps.Keys(servers)), ", "))
	}
	if err := k.state.Create(); err != nil {
		return nil, err
	}
	info := &Info{Kubeconfig: k.kubeconfig()}
	if err := k.findKubectl(ctx, info); err != nil {
		return nil, err
	}
	err := k.console.Step(ctx, "Kubernetes (kind)", func(ctx context.Context, p *process.Progress) error {
		// The marker comes first: Down must find a cluster whose creation was interrupted.
		if err := process.WriteFile(k.state.Path(kindMarker), []byte("{}\n"), 0o600); err != nil {
			return err
		}
		st, err := k.Status(ctx)
		if err != nil {
			return err
		}
		if st.Ready {
			p.Outcome("already running")
			return nil
		}
		return k.create(ctx, p)
	})
	if err != nil {
		return nil, err
	}
	return info, nil
}

// create replaces what is left of an earlier cluster: after a reboot its API server may have another port.
func (k *kind) create(ctx context.Context, p *process.Progress) error {
	p.Set("creating the cluster")
	if err := k.delete(ctx); err != nil {
		return err
	}
	if _, err := output(ctx, "kind", "create", "cluster", "--name", k.name(), "--kubeconfig", k.kubeconfig(), "--wait", "180s"); err != nil {
		return err
	}
	return os.Chmod(k.kubeconfig(), 0o600)
}

func (k *kind) delete(ctx context.Context) error {
	_, err := output(ctx, "kind", "delete", "cluster", "--name", k.name(), "--kubeconfig", k.kubeconfig())
	return err
}

func (k *kind) findKubectl(ctx context.Context, info *Info) error {
	if path, err := exec.LookPath("kubectl"); err == nil {
		info.Kubectl = path
		return nil
	}
	b, err := newBuilder(ctx, k.state.Checkout, process.Cache(), k.console)
	if err != nil {
		return err
	}
	info.Kubectl = b.path("kubectl")
	i := slices.IndexFunc(envtestPrograms(), func(p program) bool { return p.name == "kubectl" })
	return b.build(ctx, envtestPrograms()[i:i+1])
}

// Down implements Cluster.
func (k *kind) Down(ctx context.Context) error {
	if err := stopForwards(ctx, k.state); err != nil {
		return err
	}
	if err := k.delete(ctx); err != nil {
		return err
	}
	for _, f := range []string{k.kubeconfig(), k.state.Path(kindMarker)} {
		if err := os.Remove(f); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Status implements Cluster.
func (k *kind) Status(ctx context.Context) (*Status, error) {
	st := &Status{Kind: "kind"}
	clusters, err := output(ctx, "kind", "get", "clusters")
	if err != nil {
		return nil, err
	}
	if !slices.Contains(strings.Fields(clusters), k.name()) {
		st.Detail = "not running"
		return st, nil
	}
	st.Running = true
	info := &Info{Kubeconfig: k.kubeconfig()}
	if err := k.findKubectl(ctx, info); err != nil {
		return nil, err
	}
	_, err = kubectl(ctx, info, nil, "--request-timeout=5s", "get", "--raw", "/readyz")
	if st.Ready = err == nil; !st.Ready {
		st.Detail = err.Error()
	}
	return st, nil
}

// LoadImages implements Cluster.
func (k *kind) LoadImages(ctx context.Context, imgs ...images.Image) error {
	have, err := output(ctx, "docker", "exec", k.controlPlane(), "ctr", "--namespace", "k8s.io", "images", "ls", "-q")
	if err != nil {
		return err
	}
	for _, img := range imgs {
		if slices.Contains(strings.Fields(have), img.Ref) {
			continue
		}
		if _, err := output(ctx, "kind", "load", "image-archive", img.Tar, "--name", k.name()); err != nil {
			return err
		}
	}
	return nil
}

// Metrics implements Cluster. The cluster's own authority is out of reach in its container, so metrics-server gets one for itself.
func (k *kind) Metrics(ctx context.Context) error {
	info := &Info{Kubeconfig: k.kubeconfig()}
	if err := k.findKubectl(ctx, info); err != nil {
		return err
	}
	pki := k.state.Path("metrics-pki")
	if err := os.MkdirAll(pki, 0o700); err != nil {
		return err
	}
	ca, err := newAuthority(pki)
	if err != nil {
		return err
	}
	if err := ca.issue(pki, metricsCertificate()); err != nil {
		return err
	}
	return installMetrics(ctx, k, info, k.state, k.console, pki, true)
}

// Forward implements Cluster with kubectl port-forward, which wants a Service where the node wants its address.
func (k *kind) Forward(ctx context.Context, name, target string) (string, error) {
	info := &Info{Kubeconfig: k.kubeconfig()}
	if err := k.findKubectl(ctx, info); err != nil {
		return "", err
	}
	host, port, err := net.SplitHostPort(target)
	if err != nil {
		return "", fmt.Errorf("forward %s: %w", name, err)
	}
	full := forwardPrefix + name
	if p, ok := k.state.Find(full); ok {
		if addr, to, _ := strings.Cut(p.Address, " -> "); to == target {
			return addr, nil
		}
		if err := p.Stop(ctx); err != nil {
			return "", err
		}
	}
	namespace, service, err := k.service(ctx, info, host)
	if err != nil {
		return "", fmt.Errorf("forward %s: %w", name, err)
	}
	local, err := k.state.Port(full)
	if err != nil {
		return "", err
	}
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(local))
	proc, err := k.state.Start(process.Spec{
		Name: full, Path: info.Kubectl, Address: addr + " -> " + target, StopGrace: 2 * time.Second,
		Args: []string{"--kubeconfig", k.kubeconfig(), "-n", namespace, "port-forward", "service/" + service, strconv.Itoa(local) + ":" + port},
	})
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	err = poll(ctx, 50*time.Millisecond, func() (bool, error) {
		c, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp4", addr)
		if err != nil {
			if !proc.Alive() {
				return false, errors.New("kubectl port-forward ended")
			}
			return false, nil
		}
		return true, c.Close()
	})
	return addr, k.state.WithLog(full, err)
}

// service finds the Service with this cluster address.
func (k *kind) service(ctx context.Context, info *Info, ip string) (namespace, name string, err error) {
	all, err := kubectl(ctx, info, nil, "get", "services", "--all-namespaces", "-o",
		`jsonpath={range .items[*]}{.spec.clusterIP} {.metadata.namespace} {.metadata.name}{"\n"}{end}`)
	if err != nil {
		return "", "", err
	}
	for line := range strings.Lines(all) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == ip {
			return f[1], f[2], nil
		}
	}
	return "", "", fmt.Errorf("no Service has the address %s", ip)
}

// output runs a program and returns what it printed; its complaints are in the error.
func output(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
		}
		return "", fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return string(out), nil
}
