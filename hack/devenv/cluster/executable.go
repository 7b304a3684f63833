package cluster

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"

	"github.com/atlas-platform/atlas/hack/devenv/process"
)

// devenvPackage is the program that has Commands: the node's PID 1 and the forwarders are this program, started again.
const devenvPackage = "github.com/atlas-platform/atlas/hack/devenv"

// executable returns the devenv program: this very process, or, in a test, one built from the checkout for this instance.
func executable(ctx context.Context, state *process.State) (string, error) {
	if info, ok := debug.ReadBuildInfo(); ok && strings.HasPrefix(info.Path, devenvPackage) && !strings.HasSuffix(info.Path, ".test") {
		return os.Executable()
	}
	if err := state.Create(); err != nil {
		return "", err
	}
	out := state.Path("devenv")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", out, devenvPackage)
	cmd.Dir = state.Checkout
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if msg, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build devenv: %w\n%s", err, strings.TrimSpace(string(msg)))
	}
	return out, nil
}
