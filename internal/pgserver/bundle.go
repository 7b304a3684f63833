package pgserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"
)

const (
	bundleVersion = embeddedpostgres.V17
	bundleMajor   = 17
)

// bundle returns the folder with the programs of the downloaded bundle and fetches it when it isn't in the cache. It is
// unpacked beside its place and renamed into it, so that a killed download is never taken for a whole one.
func bundle(ctx context.Context, cache string, progress func(string)) (string, error) {
	home := filepath.Join(cache, "postgres-"+string(bundleVersion))
	programs := filepath.Join(home, "bin")
	if _, err := os.Stat(programs); err == nil {
		return programs, nil
	}
	if err := ctx.Err(); err != nil {
		return "", err
	}
	progress("downloading PostgreSQL " + string(bundleVersion))
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", fmt.Errorf("fetch PostgreSQL: %w", err)
	}
	tmp, err := os.MkdirTemp(cache, ".postgres-*")
	if err != nil {
		return "", fmt.Errorf("fetch PostgreSQL: %w", err)
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	if err := fetch(ctx, tmp); err != nil {
		return "", err
	}
	unpacked := filepath.Join(tmp, "programs")
	if err := os.Chmod(unpacked, 0o755); err != nil {
		return "", fmt.Errorf("fetch PostgreSQL: %w", err)
	}
	if err := os.Rename(unpacked, home); err != nil {
		if _, there := os.Stat(programs); there != nil {
			return "", fmt.Errorf("fetch PostgreSQL: %w", err)
		}
	}
	return programs, nil
}

// fetch downloads and unpacks the bundle into tmp/programs. The library can't fetch without starting a server, and a
// server doesn't start as root; it creates its runtime folder once everything is unpacked, and that is what is asked for.
func fetch(ctx context.Context, tmp string) error {
	port, err := probePort(ctx, 0)
	if err != nil {
		return err
	}
	runtime := filepath.Join(tmp, "runtime")
	var log bytes.Buffer
	server := embeddedpostgres.NewDatabase(embeddedpostgres.DefaultConfig().
		Version(bundleVersion).Port(uint32(port)).Logger(&log).
		CachePath(filepath.Join(tmp, "download")).BinariesPath(filepath.Join(tmp, "programs")).
		RuntimePath(runtime).DataPath(filepath.Join(tmp, "data")))
	started := server.Start()
	if started == nil {
		if err := server.Stop(); err != nil {
			return fmt.Errorf("fetch PostgreSQL: %w", err)
		}
		return nil
	}
	if _, err := os.Stat(runtime); err != nil {
		return errors.Join(fmt.Errorf("fetch PostgreSQL: %w", started),
			errors.New("install a PostgreSQL server (Debian: apt-get install postgresql) to do without the download"))
	}
	return nil
}
