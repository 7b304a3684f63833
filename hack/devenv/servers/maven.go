package servers

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/atlas-platform/atlas/hack/devenv/process"
)

//go:embed kafka/pom.xml elasticsearch/pom.xml
var poms embed.FS

// distribution returns the folder with a server's files as its pom.xml describes them, downloading them when the cache
// doesn't have them. finish may complete the download. It is made beside its place and renamed into it, so that a
// killed download is never taken for a whole one.
func distribution(ctx context.Context, p *process.Progress, name, size string, finish func(dir string) error) (string, error) {
	pom, err := poms.ReadFile(name + "/pom.xml")
	if err != nil {
		return "", fmt.Errorf("download %s: %w", name, err)
	}
	sum := sha256.Sum256(pom)
	home := filepath.Join(process.Cache(), name+"-"+hex.EncodeToString(sum[:6]))
	if isDir(home) {
		return home, nil
	}
	unlock, err := process.LockFile(ctx, home+".lock") // other instances share the cache
	if err != nil {
		return "", err
	}
	defer unlock()
	if isDir(home) {
		return home, nil
	}
	if err := process.EnsurePackages(ctx, p, map[string]string{"mvn": "maven"}); err != nil {
		return "", err
	}
	p.Set("downloading (%s)", size)
	tmp := home + ".part" // the lock makes it ours; what is in it was left by a killed download
	if err := os.RemoveAll(tmp); err != nil {
		return "", fmt.Errorf("download %s: %w", name, err)
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	if err := os.MkdirAll(tmp, 0o755); err != nil {
		return "", fmt.Errorf("download %s: %w", name, err)
	}
	if err := os.WriteFile(filepath.Join(tmp, "pom.xml"), pom, 0o644); err != nil {
		return "", fmt.Errorf("download %s: %w", name, err)
	}
	out := filepath.Join(tmp, "out")
	if err := maven(ctx, tmp, out); err != nil {
		return "", fmt.Errorf("download %s: %w", name, err)
	}
	if err := openToAll(out); err != nil {
		return "", fmt.Errorf("download %s: %w", name, err)
	}
	if finish != nil {
		if err := finish(out); err != nil {
			return "", fmt.Errorf("download %s: %w", name, err)
		}
	}
	if err := os.Rename(out, home); err != nil {
		return "", fmt.Errorf("download %s: %w", name, err)
	}
	return home, nil
}

func maven(ctx context.Context, dir, out string) error {
	cmd := exec.CommandContext(ctx, "mvn", "-B", "-ntp", "-q", "-f", filepath.Join(dir, "pom.xml"), "-Dout="+out, "process-resources")
	cmd.Dir = dir
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := process.Run(cmd); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		lines := strings.Split(strings.TrimSpace(output.String()), "\n")
		return fmt.Errorf("mvn: %w:\n%s", err, strings.Join(lines[max(0, len(lines)-12):], "\n"))
	}
	return nil
}

// openToAll lets the unprivileged user that runs the server read the files, whatever the umask was.
func openToAll(dir string) error {
	return filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.Type()&os.ModeSymlink != 0 {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		mode := info.Mode().Perm() | 0o444
		if entry.IsDir() || mode&0o100 != 0 {
			mode |= 0o111
		}
		return os.Chmod(path, mode)
	})
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
