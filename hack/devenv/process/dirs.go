package process

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"sync"
)

const (
	// CacheEnv overrides the folder of Cache.
	CacheEnv = "ATLAS_CACHE_DIR"
	// StateEnv overrides the folder that holds the states of all instances (by default Cache()/state).
	StateEnv = "ATLAS_STATE_DIR"
	// DefaultInstance is the instance that `devenv up` uses when none is named.
	DefaultInstance = "dev"
	// TestInstance is the instance that tests use.
	TestInstance = "test"
)

// Cache returns the folder for downloads and builds, outside any checkout. Root gets a folder that unprivileged
// users can traverse, because PostgreSQL and Elasticsearch refuse to run as root.
func Cache() string {
	if dir := os.Getenv(CacheEnv); dir != "" {
		if abs, err := filepath.Abs(dir); err == nil {
			return abs
		}
		return dir
	}
	if os.Geteuid() == 0 {
		return "/var/cache/atlas"
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return filepath.Join(os.TempDir(), fmt.Sprintf("atlas-%d", os.Geteuid()))
	}
	return filepath.Join(dir, "atlas")
}

// CacheDir returns the folder name under Cache and creates it.
func CacheDir(name string) (string, error) {
	dir := filepath.Join(Cache(), name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("create cache folder: %w", err)
	}
	return dir, nil
}

// Checkout returns the root of the checkout that the working directory is in: the nearest folder with a go.mod and
// a hack/devenv. Tests run in their package's folder, commands anywhere; both find the same root.
func Checkout() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find checkout: %w", err)
	}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	for {
		if isFile(filepath.Join(dir, "go.mod")) && isDir(filepath.Join(dir, "hack", "devenv")) {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("not inside a checkout of Atlas: run this in its folder")
		}
		dir = parent
	}
}

// State is what one instance of one checkout owns: processes, their logs, ports and data.
type State struct {
	// Dir is the folder of this instance. Unprivileged users can traverse it.
	Dir string
	// Instance is the name of the instance, as given.
	Instance string
	// Checkout is the folder that the instance belongs to.
	Checkout string

	ports sync.Mutex // several servers may be started at the same time
}

var instanceName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)

// Open returns the state of an instance of the checkout that the working directory is in. Nothing is created yet.
func Open(instance string) (*State, error) {
	checkout, err := Checkout()
	if err != nil {
		return nil, err
	}
	if !instanceName.MatchString(instance) {
		return nil, fmt.Errorf("instance %q: use up to 32 lower-case letters, digits and dashes", instance)
	}
	root := os.Getenv(StateEnv)
	if root == "" {
		root = filepath.Join(Cache(), "state")
	}
	if root, err = filepath.Abs(root); err != nil {
		return nil, fmt.Errorf("state folder: %w", err)
	}
	sum := sha256.Sum256([]byte(checkout))
	dir := filepath.Join(root, hex.EncodeToString(sum[:4])+"-"+instance)
	return &State{Dir: dir, Instance: instance, Checkout: checkout}, nil
}

// Create makes the state's folder. It is safe to call again.
func (s *State) Create() error {
	if err := os.MkdirAll(filepath.Join(s.Dir, "log"), 0o755); err != nil {
		return fmt.Errorf("create state folder: %w", err)
	}
	return nil
}

// Path returns a path inside the state's folder.
func (s *State) Path(elem ...string) string {
	return filepath.Join(append([]string{s.Dir}, elem...)...)
}

// ID names the state in other systems, for example in a container's label.
func (s *State) ID() string { return filepath.Base(s.Dir) }

// Remove deletes the state's folder. Refused while a process of it is alive.
func (s *State) Remove() error {
	procs, err := s.List()
	if err != nil {
		return err
	}
	for _, p := range procs {
		if p.Alive() {
			return fmt.Errorf("remove state: %s is still running (pid %d)", p.Name, p.PID)
		}
	}
	if err := os.RemoveAll(s.Dir); err != nil {
		return fmt.Errorf("remove state: %w", err)
	}
	return nil
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
