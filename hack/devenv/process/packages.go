package process

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// EnsurePackages makes sure that system programs are there. needed maps each program, or an absolute path for what
// isn't in PATH, to the Debian package that brings it. Missing ones are installed when running as root on such a
// system; otherwise the error holds the exact command to type.
func EnsurePackages(ctx context.Context, p *Progress, needed map[string]string) error {
	return ensure(ctx, p, func() (programs, packages []string) { return missing(needed) })
}

// EnsurePackage is EnsurePackages for something that is no program: there tells whether it is there, and what names it in errors.
func EnsurePackage(ctx context.Context, p *Progress, what, pkg string, there func() bool) error {
	return ensure(ctx, p, func() (programs, packages []string) {
		if there() {
			return nil, nil
		}
		return []string{what}, []string{pkg}
	})
}

func ensure(ctx context.Context, p *Progress, missing func() (programs, packages []string)) error {
	programs, packages := missing()
	if len(packages) == 0 {
		return nil
	}
	install := append([]string{"install", "-y", "--no-install-recommends"}, packages...)
	apt, err := exec.LookPath("apt-get")
	if err != nil {
		return fmt.Errorf("missing programs: %s; install what brings them (Debian: apt-get %s)",
			strings.Join(programs, ", "), strings.Join(install, " "))
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("missing programs: %s; type: sudo apt-get update && sudo apt-get %s",
			strings.Join(programs, ", "), strings.Join(install, " "))
	}
	// Steps run at the same time, apt-get doesn't like to.
	unlock, err := LockFile(ctx, filepath.Join(Cache(), "packages.lock"))
	if err != nil {
		return err
	}
	defer unlock()
	if _, packages = missing(); len(packages) == 0 {
		return nil
	}
	p.Set("installing %s", strings.Join(packages, ", "))
	if stamp := filepath.Join(Cache(), "packages.updated"); !recent(stamp) {
		if err := runApt(ctx, apt, "update"); err != nil {
			return err
		}
		if err := os.WriteFile(stamp, nil, 0o600); err != nil {
			return fmt.Errorf("install packages: %w", err)
		}
	}
	install = append([]string{"install", "-y", "--no-install-recommends"}, packages...)
	if err := runApt(ctx, apt, install...); err != nil {
		return err
	}
	if programs, _ := missing(); len(programs) > 0 {
		return fmt.Errorf("still missing after apt-get %s: %s", strings.Join(install, " "), strings.Join(programs, ", "))
	}
	return nil
}

// LookPath finds a program in PATH or in the folders of system programs, which are not in every user's PATH.
func LookPath(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil || strings.Contains(name, "/") {
		return path, err
	}
	for _, dir := range []string{"/usr/local/sbin", "/usr/sbin", "/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", err
}

func missing(needed map[string]string) (programs, packages []string) {
	for program, pkg := range needed {
		if filepath.IsAbs(program) {
			if _, err := os.Stat(program); err == nil {
				continue
			}
		} else if _, err := LookPath(program); err == nil {
			continue
		}
		programs = append(programs, program)
		packages = append(packages, pkg)
	}
	slices.Sort(programs)
	slices.Sort(packages)
	return programs, slices.Compact(packages)
}

func recent(path string) bool {
	info, err := os.Stat(path)
	return err == nil && time.Since(info.ModTime()) < time.Hour
}

func runApt(ctx context.Context, apt string, args ...string) error {
	cmd := exec.CommandContext(ctx, apt, append([]string{"-q", "-o", "DPkg::Lock::Timeout=120"}, args...)...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if err != nil {
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		return fmt.Errorf("apt-get %s: %w:\n%s", strings.Join(args, " "), err, strings.Join(lines[max(0, len(lines)-10):], "\n"))
	}
	return nil
}
