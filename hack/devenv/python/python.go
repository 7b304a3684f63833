// Package python installs programs that are written in Python, each in an environment of its own that is kept in the cache.
package python

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/atlas-platform/atlas/hack/devenv/process"
)

// minimum is the oldest Python that the programs run on, as people and as Python write it.
const minimum, minimumTuple = "3.11", "3, 11"

// Install makes an environment with what a requirements file pins, by version and hash, and returns the path of a program in it. It is made once for
// each content of the file and each Python.
func Install(ctx context.Context, p *process.Progress, requirements, program string) (string, error) {
	content, err := os.ReadFile(requirements)
	if err != nil {
		return "", fmt.Errorf("read the requirements: %w", err)
	}
	interpreter, version, err := find(ctx, p)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(fmt.Appendf(content, "%s %s", interpreter, version))
	cache, err := process.CacheDir("python")
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, program+"-"+hex.EncodeToString(sum[:6]))
	unlock, err := process.LockFile(ctx, dir+".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	installed, complete := filepath.Join(dir, "bin", program), filepath.Join(dir, "complete")
	if _, err := os.Stat(complete); err == nil {
		p.Outcome("ready (cached)")
		return installed, nil
	}
	// An environment can't be moved: its programs name their interpreter. So it is made in place, and complete once it says so.
	if err := os.RemoveAll(dir); err != nil {
		return "", fmt.Errorf("remove an unfinished installation: %w", err)
	}
	p.Set("installing")
	if err := run(ctx, interpreter, "-m", "venv", dir); err != nil {
		return "", err
	}
	if err := run(ctx, filepath.Join(dir, "bin", "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:",
		"--require-hashes", "--requirement", requirements); err != nil {
		return "", err
	}
	if _, err := os.Stat(installed); err != nil {
		return "", fmt.Errorf("%s brings no %s: %w", requirements, program, err)
	}
	return installed, os.WriteFile(complete, nil, 0o600)
}

// find returns a Python that is new enough and can make environments, which Debian has in a package of its own.
func find(ctx context.Context, p *process.Progress) (interpreter, version string, err error) {
	if err := process.EnsurePackages(ctx, p, map[string]string{"python3": "python3"}); err != nil {
		return "", "", err
	}
	if interpreter, err = process.LookPath("python3"); err != nil {
		return "", "", fmt.Errorf("find Python: %w", err)
	}
	const tell = "import sys; print('.'.join(map(str, sys.version_info[:3])), sys.version_info >= (" + minimumTuple + "))"
	out, err := exec.CommandContext(ctx, interpreter, "-c", tell).Output()
	if err != nil {
		return "", "", fmt.Errorf("ask %s for its version: %w", interpreter, err)
	}
	version, enough, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
	if enough != "True" {
		return "", "", fmt.Errorf("%s is Python %s, too old: put %s or newer first in PATH", interpreter, version, minimum)
	}
	there := func() bool { return exec.CommandContext(ctx, interpreter, "-c", "import ensurepip, venv").Run() == nil }
	return interpreter, version, process.EnsurePackage(ctx, p, "Python's venv", "python3-venv", there)
}

func run(ctx context.Context, program string, args ...string) error {
	out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	if err != nil {
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		return fmt.Errorf("%s %s: %w\n%s", program, strings.Join(args, " "), err, strings.Join(lines[max(0, len(lines)-10):], "\n"))
	}
	return nil
}
