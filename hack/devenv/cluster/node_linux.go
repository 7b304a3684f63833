package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/atlas-platform/atlas/hack/devenv/images"
	"github.com/atlas-platform/atlas/hack/devenv/process"
)

const (
	nodeProcess = "node"
	// startTimeout bounds a start without its builds: seconds on a free machine, a minute on one that compiles meanwhile.
	startTimeout = 4 * time.Minute
)

// node is a Cluster in namespaces of its own on this machine.
type node struct {
	state   *process.State
	console *process.Console
}

func newNode(state *process.State, console *process.Console) (Cluster, error) {
	return &node{state: state, console: console}, nil
}

func (n *node) dir() string        { return nodeDir(n.state) }
func (n *node) cgroup() string     { return "atlas-" + n.state.ID() }
func (n *node) kubeconfig() string { return n.state.Path("kubeconfig") }

// Up implements Cluster.
func (n *node) Up(ctx context.Context, servers map[string]int) (*Info, error) {
	if err := n.Check(); err != nil {
		return nil, err
	}
	b, err := newBuilder(ctx, n.state.Checkout, process.Cache(), n.console)
	if err != nil {
		return nil, err
	}
	if err := n.install(ctx); err != nil {
		return nil, err
	}
	if err := b.build(ctx, nodePrograms()); err != nil {
		return nil, err
	}
	info := &Info{Kubeconfig: n.kubeconfig(), Kubectl: b.path("kubectl"), NodeIP: nodeIP}
	err = n.console.Step(ctx, "Kubernetes node", func(ctx context.Context, p *process.Progress) error {
		ctx, cancel := context.WithTimeout(ctx, startTimeout)
		defer cancel()
		return n.up(ctx, p, b, info, servers)
	})
	if err != nil {
		return nil, err
	}
	return info, nil
}

// Check implements Cluster.
func (n *node) Check() error {
	if os.Geteuid() != 0 {
		return errors.New("a Kubernetes node needs root; run this as root, or start Docker and type: " + installKind + "; without either, `make dev` runs Atlas in one process")
	}
	// The node has its own of these, and would hide its own state.
	for _, hidden := range []string{"/run", "/var/run", "/var/lib", "/var/log", "/proc"} {
		for _, dir := range []string{n.state.Dir, process.Cache()} {
			if dir == hidden || strings.HasPrefix(dir, hidden+"/") {
				return fmt.Errorf("%s can't lie below %s: set %s and %s to other folders", dir, hidden, process.StateEnv, process.CacheEnv)
			}
		}
	}
	return nil
}

func (n *node) install(ctx context.Context) error {
	needed := map[string]string{
		"containerd": "containerd", "ctr": "containerd", "runc": "runc", "iptables": "iptables", "ip": "iproute2",
		"/usr/lib/cni/bridge": "containernetworking-plugins",
	}
	var missing bool
	for program := range needed {
		if _, err := process.LookPath(program); err != nil {
			missing = true
		}
	}
	if !missing {
		return nil
	}
	return n.console.Step(ctx, "System packages", func(ctx context.Context, p *process.Progress) error {
		return process.EnsurePackages(ctx, p, needed)
	})
}

func (n *node) up(ctx context.Context, p *process.Progress, b *builder, info *Info, servers map[string]int) error {
	proc, running := n.state.Find(nodeProcess)
	have, err := n.saved()
	fresh := err != nil || !running || have.Programs != b.dir || have.Fingerprint != fingerprint()
	if fresh {
		p.Set("preparing")
		if proc, have, err = n.start(ctx, b); err != nil {
			return err
		}
	}
	p.Set("opening the way in and out")
	if err := n.connect(ctx, proc, servers); err != nil {
		return err
	}
	p.Set("waiting for the API server")
	if err := n.waitReady(ctx, proc); err != nil {
		return err
	}
	if !have.Complete {
		p.Set("starting cluster DNS")
		if err := n.finish(ctx, info, have); err != nil {
			return err
		}
	} else if !fresh {
		p.Outcome("already running")
	}
	return nil
}

// start makes the node's folder and control groups anew and starts PID 1. What an earlier node left is removed first: its data is worth
// nothing without the processes that wrote it.
func (n *node) start(ctx context.Context, b *builder) (*process.Process, settings, error) {
	if err := n.Down(ctx); err != nil {
		return nil, settings{}, err
	}
	if err := n.state.Create(); err != nil {
		return nil, settings{}, err
	}
	s := settings{Dir: n.dir(), Programs: b.dir, Cgroup: n.cgroup(), Fingerprint: fingerprint(), Snapshotter: "overlayfs"}
	for program, ref := range map[string]*string{"pause": &s.PauseRef, "coredns": &s.CoreDNSRef} {
		img, err := images.Pack(program, b.path(program), b.dir)
		if err != nil {
			return nil, s, err
		}
		*ref = img.Ref
		s.Archives = append(s.Archives, img)
	}
	if err := s.write(); err != nil {
		return nil, s, fmt.Errorf("prepare the node's folder: %w", err)
	}
	if !overlayWorks(n.dir()) {
		s.Snapshotter = "native"
		if err := s.write(); err != nil {
			return nil, s, err
		}
	}
	if err := n.save(s); err != nil {
		return nil, s, err
	}
	if err := createCgroups(s.Cgroup); err != nil {
		return nil, s, err
	}
	self, err := executable(ctx, n.state)
	if err != nil {
		return nil, s, err
	}
	proc, err := n.state.Start(process.Spec{
		Name: nodeProcess, Path: self, Args: []string{"node-init", s.Dir, s.Programs}, Address: nodeIP,
		SysProcAttr: &syscall.SysProcAttr{
			Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		},
		StopSignal: syscall.SIGKILL, // nothing in it is kept
	})
	return proc, s, err
}

// finish brings a node whose API server is ready to the point where pods run and resolve names, and remembers that.
func (n *node) finish(ctx context.Context, info *Info, s settings) error {
	if err := n.LoadImages(ctx, s.Archives...); err != nil {
		return err
	}
	manifest, err := s.render("coredns.yaml")
	if err != nil {
		return err
	}
	for _, args := range [][]string{
		{"apply", "--server-side", "-f", "-"},
		{"wait", "--for=condition=Ready", "node/" + nodeName, "--timeout=120s"},
		{"-n", "kube-system", "rollout", "status", "deploy/coredns", "--timeout=120s"},
	} {
		var last error
		err := poll(ctx, 200*time.Millisecond, func() (bool, error) { // the first moments lack roles, namespaces and the node itself
			_, last = kubectl(ctx, info, manifest, args...)
			return last == nil, nil
		})
		if err != nil {
			return fmt.Errorf("%w\n%s", errors.Join(err, last), n.tails())
		}
	}
	s.Complete = true
	return n.save(s)
}

// Metrics implements Cluster.
func (n *node) Metrics(ctx context.Context) error {
	s, err := n.saved()
	if err != nil {
		return fmt.Errorf("the cluster is not running: %w", err)
	}
	info := &Info{Kubeconfig: n.kubeconfig(), Kubectl: filepath.Join(s.Programs, "kubectl")}
	return installMetrics(ctx, n, info, n.state, n.console, filepath.Join(n.dir(), "pki"), false)
}

// Down implements Cluster.
func (n *node) Down(ctx context.Context) error {
	if err := stopForwards(ctx, n.state); err != nil {
		return err
	}
	if err := n.state.Stop(ctx, nodeProcess); err != nil {
		return err
	}
	if err := removeCgroups(ctx, n.cgroup()); err != nil {
		return err
	}
	// Mounts ended with the node's namespace. One that had leaked to the host would let RemoveAll follow it out of the folder.
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	if strings.Contains(string(mounts), " "+n.dir()+"/") {
		return fmt.Errorf("something is mounted below %s; unmount it first", n.dir())
	}
	if err := os.RemoveAll(n.dir()); err != nil {
		return err
	}
	if err := os.Remove(n.kubeconfig()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// Status implements Cluster.
func (n *node) Status(ctx context.Context) (*Status, error) {
	st := &Status{Kind: "node"}
	proc, ok := n.state.Find(nodeProcess)
	if !ok {
		st.Detail = "not running"
		return st, nil
	}
	st.Running = true
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := n.ask(ctx, proc); err != nil {
		st.Detail = err.Error()
		return st, nil
	}
	s, err := n.saved()
	if err != nil {
		return nil, err
	}
	if st.Ready = s.Complete; !st.Ready {
		st.Detail = "its start was interrupted; run up again"
	}
	return st, nil
}

func (n *node) settingsPath() string { return filepath.Join(n.dir(), "settings.json") }

func (n *node) save(s settings) error {
	content, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return process.WriteFile(n.settingsPath(), content, 0o600)
}

func (n *node) saved() (settings, error) {
	var s settings
	content, err := os.ReadFile(n.settingsPath())
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal(content, &s)
}

// tails is the end of each component's log, for the error of a start that failed.
func (n *node) tails() string {
	var out strings.Builder
	for _, name := range LogNames(n.state) {
		fmt.Fprintf(&out, "--- %s\n%s\n", name, process.Tail(LogPath(n.state, name), 4))
	}
	return out.String()
}

// fingerprint changes whenever this package would set up a node differently.
func fingerprint() string {
	sum := sha256.New()
	_, _ = fmt.Fprintln(sum, components(), certificates(), nodeNet, serviceCIDR)
	entries, _ := templates.ReadDir("templates")
	for _, e := range entries {
		content, _ := templates.ReadFile("templates/" + e.Name())
		_, _ = fmt.Fprintln(sum, e.Name(), string(content))
	}
	return hex.EncodeToString(sum.Sum(nil))[:12]
}

// overlayWorks tells whether the state's file system can carry overlay mounts: one that is an overlay itself, as in a container, can't.
func overlayWorks(dir string) bool {
	probe, err := os.MkdirTemp(dir, ".overlay-")
	if err != nil {
		return false
	}
	defer func() { _ = os.RemoveAll(probe) }()
	for _, d := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(probe, d), 0o700); err != nil {
			return false
		}
	}
	return tryOverlay(probe) == nil
}
