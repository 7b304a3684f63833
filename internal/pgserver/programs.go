package pgserver

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// oldest is the oldest major version that Atlas works with.
const oldest = 14

// programs is a folder with server programs of one major version.
type programs struct {
	dir   string
	major int
}

func (p programs) path(name string) string { return filepath.Join(p.dir, name) }

// findPrograms returns server programs for a data folder of the given major version (0: a new one, any version will do),
// the newest first choice. Without suitable installed ones the bundle is fetched into cache.
func findPrograms(ctx context.Context, account *Account, cache string, major int, progress func(string)) (programs, error) {
	found := installed(ctx, account)
	for _, p := range found {
		if major == 0 || p.major == major {
			return p, nil
		}
	}
	if major != 0 && major != bundleMajor {
		return programs{}, fmt.Errorf("the data folder is of PostgreSQL %d, and no server programs of that version are installed", major)
	}
	dir, err := bundle(ctx, cache, progress)
	if err != nil {
		return programs{}, err
	}
	return inspect(ctx, account, dir)
}

// installed looks where distributions put server programs, then where PATH leads, and tries each: a folder may hold
// leftovers, wrappers, or the client programs only.
func installed(ctx context.Context, account *Account) []programs {
	var dirs []string
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/lib64/pgsql*/bin",
		"/opt/homebrew/opt/postgresql*/bin", "/usr/local/opt/postgresql*/bin", "/Applications/Postgres.app/Contents/Versions/*/bin",
	} {
		matches, _ := filepath.Glob(pattern)
		dirs = append(dirs, matches...)
	}
	if out, err := exec.CommandContext(ctx, "pg_config", "--bindir").Output(); err == nil {
		dirs = append(dirs, strings.TrimSpace(string(out)))
	}
	if path, err := exec.LookPath("postgres"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			dirs = append(dirs, filepath.Dir(path))
		}
	}
	var found []programs
	seen := map[string]bool{}
	for _, dir := range dirs {
		real, err := filepath.EvalSymlinks(dir)
		if err != nil || seen[real] {
			continue
		}
		seen[real] = true
		if p, err := inspect(ctx, account, real); err == nil && p.major >= oldest {
			found = append(found, p)
		}
	}
	slices.SortStableFunc(found, func(a, b programs) int { return b.major - a.major })
	return found
}

var versionLine = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

// inspect runs both programs, as the user that will run them.
func inspect(ctx context.Context, account *Account, dir string) (programs, error) {
	p := programs{dir: dir}
	for _, name := range []string{"initdb", "postgres"} {
		cmd := exec.CommandContext(ctx, p.path(name), "--version")
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: account.Credential()}
		out, err := cmd.CombinedOutput()
		if err != nil {
			return programs{}, fmt.Errorf("try %s: %w: %s", p.path(name), err, strings.TrimSpace(string(out)))
		}
		match := versionLine.FindSubmatch(out)
		if match == nil {
			return programs{}, fmt.Errorf("try %s: it isn't PostgreSQL's: %s", p.path(name), strings.TrimSpace(string(out)))
		}
		if p.major, err = strconv.Atoi(string(match[1])); err != nil {
			return programs{}, fmt.Errorf("try %s: %w", p.path(name), err)
		}
	}
	return p, nil
}

// dataMajor returns the major version of a data folder, 0 when there is none.
func dataMajor(data string) (int, error) {
	content, err := os.ReadFile(filepath.Join(data, "PG_VERSION"))
	if os.IsNotExist(err) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read version of data folder: %w", err)
	}
	major, err := strconv.Atoi(strings.TrimSpace(string(content)))
	if err != nil {
		return 0, fmt.Errorf("read version of data folder: %w", err)
	}
	return major, nil
}
