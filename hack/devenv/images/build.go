// Package images builds the container images of Atlas without a container engine: each is one static program in one reproducible layer.
// The tag is a short hash of the content, so that an unchanged program never causes a rebuild, an import or a rollout.
package images

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/atlas-platform/atlas/hack/devenv/process"
)

// Target names an image: "atlas" or "operator".
type Target struct {
	Name string
}

// Options says where to build.
type Options struct {
	Root  string // the checkout
	Cache string // programs and archives are kept below Cache/images
}

// Build compiles the target's program for Linux and packs it. The entry point is /NAME.
func Build(ctx context.Context, t Target, o Options) (Image, error) {
	pkg, err := t.source()
	if err != nil {
		return Image{}, err
	}
	dir := filepath.Join(o.Cache, "images")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return Image{}, err
	}
	// The program keeps one path for each name: the go command then sees that it is up to date and skips even the link.
	program := filepath.Join(dir, t.Name)
	// Keeps two runs, of two checkouts for example, from writing the program at once.
	unlock, err := process.LockFile(ctx, program+".lock")
	if err != nil {
		return Image{}, err
	}
	defer unlock()
	if err := compile(ctx, o.Root, program, pkg); err != nil {
		return Image{}, err
	}
	return Pack(t.Name, program, dir)
}

func (t Target) source() (string, error) {
	switch t.Name {
	case "atlas":
		return "./services", nil
	case "operator":
		return ".", nil
	}
	return "", fmt.Errorf("no image is called %q: want atlas or operator", t.Name)
}

func compile(ctx context.Context, root, out, pkg string) error {
	// Without -buildvcs=false every commit would change the program, its tag and so the pods.
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", out, pkg)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	var msg bytes.Buffer
	cmd.Stdout, cmd.Stderr = &msg, &msg
	if err := process.Run(cmd); err != nil {
		return fmt.Errorf("go build %s: %w\n%s", pkg, err, strings.TrimSpace(msg.String()))
	}
	return nil
}
