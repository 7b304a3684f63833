package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/atlas-platform/atlas/hack/devenv/images"
	"github.com/atlas-platform/atlas/hack/devenv/process"
)

// Cluster is the Kubernetes of one instance. Its methods that change something want the state's lock held; none is for concurrent use.
type Cluster interface {
	// Check says whether this user on this machine can bring the cluster up at all, before minutes are spent on what goes first.
	Check() error
	// Up starts the cluster or finds it running, and lets pods reach the servers, given as ports of 127.0.0.1 by name.
	Up(ctx context.Context, servers map[string]int) (*Info, error)
	// Down ends the cluster and removes everything of it. A cluster that isn't there is no error.
	Down(ctx context.Context) error
	// Status says how the cluster is.
	Status(ctx context.Context) (*Status, error)
	// LoadImages brings images into a running cluster; those that are there already cost nothing.
	LoadImages(ctx context.Context, imgs ...images.Image) error
	// Metrics installs metrics-server on a running cluster, and waits until it tells what pods use.
	Metrics(ctx context.Context) error
	// Forward makes target, an IP:PORT in the cluster such as a Service's, reachable from the host, and returns the address there.
	// A name keeps its address while the state lasts; a new target replaces the old one.
	Forward(ctx context.Context, name, target string) (hostAddr string, err error)
}

// Info is how to reach a running cluster, and how it reaches the host.
type Info struct {
	Kubeconfig string // administrator's, for use on the host
	Kubectl    string // a kubectl of the cluster's version
	NodeIP     string // where pods reach each server, at the port it has on 127.0.0.1; empty with kind
}

// Status is what `devenv status` shows.
type Status struct {
	Kind    string // "node" or "kind"
	Running bool
	Ready   bool   // the API server says so
	Detail  string // why it isn't
}

// installKind is what a user has to type.
const installKind = "go install sigs.k8s.io/kind@v0.33.0"

// Open returns the cluster of an instance: the one it has, else kind when a Docker engine answers, else a node of its own. Nothing is
// started yet. The servers decide in the same way: those in containers are reached on kind's network only.
func Open(ctx context.Context, state *process.State, console *process.Console) (Cluster, error) {
	if _, err := os.Stat(state.Path(kindMarker)); err == nil {
		return newKind(state, console), nil
	}
	if _, err := os.Stat(nodeDir(state)); err == nil {
		return newNode(state, console)
	}
	if dockerAnswers(ctx) {
		if _, err := exec.LookPath("kind"); err != nil {
			return nil, errors.New("a Docker engine answers, but kind is not installed; type: " + installKind)
		}
		return newKind(state, console), nil
	}
	return newNode(state, console)
}

func dockerAnswers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return exec.CommandContext(ctx, "docker", "version", "--format", "{{.Server.Version}}").Run() == nil
}

// BuildEnvtest builds what controller-runtime's envtest needs (etcd, kube-apiserver, kubectl) unless it is there, and returns its folder
// for KUBEBUILDER_ASSETS. It reports to standard error: the first time takes minutes.
func BuildEnvtest(ctx context.Context) (assetsDir string, err error) {
	checkout, err := process.Checkout()
	if err != nil {
		return "", err
	}
	b, err := newBuilder(ctx, checkout, process.Cache(), process.NewConsole(os.Stderr))
	if err != nil {
		return "", err
	}
	return b.dir, b.build(ctx, envtestPrograms())
}

// LogNames lists the components of the instance's node that have a log.
func LogNames(state *process.State) []string {
	files, _ := filepath.Glob(filepath.Join(nodeDir(state), "log", "*.log"))
	names := make([]string, 0, len(files))
	for _, f := range files {
		names = append(names, strings.TrimSuffix(filepath.Base(f), ".log"))
	}
	return names
}

// LogPath returns the log of a component, such as kube-apiserver.
func LogPath(state *process.State, name string) string {
	return filepath.Join(nodeDir(state), "log", filepath.Base(name)+".log")
}

func nodeDir(state *process.State) string { return state.Path("node") }

// kubectl runs a command with an administrator's rights. Standard input is optional.
func kubectl(ctx context.Context, info *Info, stdin []byte, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, info.Kubectl, append([]string{"--kubeconfig", info.Kubeconfig}, args...)...)
	if stdin != nil {
		cmd.Stdin = strings.NewReader(string(stdin))
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}
