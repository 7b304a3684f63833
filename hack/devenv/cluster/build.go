package cluster

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/atlas-platform/atlas/hack/devenv/process"
)

// kubernetesVersion is what the programs report about themselves; k8s/go.mod pins the source that they are built from.
const kubernetesVersion = "1.36.3"

// program is one executable of the node: where its Go module is, below this package's folder, and the package to build there.
type program struct {
	name, module, pkg string
}

// envtestPrograms are what controller-runtime's envtest starts.
func envtestPrograms() []program {
	return []program{
		{"etcd", "k8s", "go.etcd.io/etcd/server/v3"},
		{"kube-apiserver", "k8s", "k8s.io/kubernetes/cmd/kube-apiserver"},
		{"kubectl", "k8s", "k8s.io/kubernetes/cmd/kubectl"},
	}
}

func nodePrograms() []program {
	return append(envtestPrograms(),
		program{"kube-controller-manager", "k8s", "k8s.io/kubernetes/cmd/kube-controller-manager"},
		program{"kube-scheduler", "k8s", "k8s.io/kubernetes/cmd/kube-scheduler"},
		program{"kubelet", "k8s", "k8s.io/kubernetes/cmd/kubelet"},
		program{"kube-proxy", "k8s", "k8s.io/kubernetes/cmd/kube-proxy"},
		program{"coredns", "coredns", "."},
		program{"pause", "pause", "."},
	)
}

func ldflags() string {
	const version = "k8s.io/component-base/version"
	major, rest, _ := strings.Cut(kubernetesVersion, ".")
	minor, _, _ := strings.Cut(rest, ".")
	return fmt.Sprintf("-s -w -X %[1]s.gitVersion=v%[2]s -X %[1]s.gitMajor=%[3]s -X %[1]s.gitMinor=%[4]s -X %[1]s.gitTreeState=clean",
		version, kubernetesVersion, major, minor)
}

// builder builds programs into one folder for each set of sources. Checkouts and instances share it.
type builder struct {
	modules string // this package's folder in the checkout
	dir     string // where the programs go
	console *process.Console
}

// sources are the files that the programs of Kubernetes are made from.
func sources() []string {
	return []string{"k8s/go.mod", "k8s/go.sum", "coredns/go.mod", "coredns/go.sum", "coredns/main.go", "pause/go.mod", "pause/main.go"}
}

func newBuilder(ctx context.Context, root, cache string, console *process.Console) (*builder, error) {
	return newBuilderOf(ctx, sources(), root, cache, console)
}

// newBuilderOf builds programs that are made from other files: theirs don't have the programs of Kubernetes built again.
func newBuilderOf(ctx context.Context, sources []string, root, cache string, console *process.Console) (*builder, error) {
	goVersion, err := exec.CommandContext(ctx, "go", "env", "GOVERSION").Output()
	if err != nil {
		return nil, fmt.Errorf("ask go for its version (is Go on the PATH?): %w", err)
	}
	modules := filepath.Join(root, "hack", "devenv", "cluster")
	sum := sha256.New()
	_, _ = fmt.Fprintln(sum, strings.TrimSpace(string(goVersion)), runtime.GOOS, runtime.GOARCH, ldflags())
	for _, f := range sources {
		content, err := os.ReadFile(filepath.Join(modules, filepath.FromSlash(f)))
		if err != nil {
			return nil, fmt.Errorf("read the sources of the cluster's programs: %w", err)
		}
		_, _ = fmt.Fprintln(sum, f, len(content))
		sum.Write(content)
	}
	dir := filepath.Join(cache, "kubernetes", hex.EncodeToString(sum.Sum(nil))[:12])
	return &builder{modules: modules, dir: dir, console: console}, os.MkdirAll(dir, 0o755)
}

func (b *builder) path(program string) string { return filepath.Join(b.dir, program) }

// build builds those of the programs that are not there yet, one after the other: the go command uses every core by itself.
func (b *builder) build(ctx context.Context, programs []program) error {
	for _, p := range programs {
		if err := b.one(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) one(ctx context.Context, p program) error {
	out := b.path(p.name)
	if _, err := os.Stat(out); err == nil {
		return nil
	}
	unlock, err := process.LockFile(ctx, filepath.Join(b.dir, "."+p.name+".lock"))
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := os.Stat(out); err == nil {
		return nil // built by another run, while this one waited
	}
	return b.console.Step(ctx, "Build "+p.name, func(ctx context.Context, progress *process.Progress) error {
		progress.Set("compiling (only the first time)")
		progress.Outcome("built")
		return b.compile(ctx, p, out)
	})
}

// compile builds aside and renames, so that a program under its final name is always whole.
func (b *builder) compile(ctx context.Context, p program, out string) error {
	tmp := filepath.Join(b.dir, "."+p.name+".new")
	defer func() { _ = os.Remove(tmp) }()
	cmd := exec.CommandContext(ctx, "go", "build", "-ldflags", ldflags(), "-o", tmp, p.pkg)
	cmd.Dir = filepath.Join(b.modules, p.module)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=-mod=readonly -trimpath -buildvcs=false")
	var msg bytes.Buffer
	cmd.Stdout, cmd.Stderr = &msg, &msg
	if err := process.Run(cmd); err != nil {
		return fmt.Errorf("go build %s: %w\n%s", p.pkg, err, strings.TrimSpace(msg.String()))
	}
	return os.Rename(tmp, out)
}
