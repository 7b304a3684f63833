package dev

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/atlas-platform/atlas/internal/token"
)

// DefaultFolder is where `atlas dev` keeps its data: /var/lib/atlas/dev for root, whose home PostgreSQL's unprivileged user can't enter,
// else the user's data folder.
func DefaultFolder() (string, error) {
	if os.Geteuid() == 0 {
		return "/var/lib/atlas/dev", nil
	}
	if dir := os.Getenv("XDG_DATA_HOME"); dir != "" {
		return filepath.Join(dir, "atlas", "dev"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find a folder for the data: %w; name one with --data", err)
	}
	return filepath.Join(home, ".local", "share", "atlas", "dev"), nil
}

// folder is one data folder, in use by at most one process.
type folder struct {
	path string
	lock *os.File
}

// openFolder makes the folder and locks it until Close.
func openFolder(path string) (*folder, error) {
	if err := os.MkdirAll(path, 0o755); err != nil { //nolint:gosec // PostgreSQL's unprivileged user must be able to enter
		return nil, fmt.Errorf("make the data folder: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(path, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the data folder's lock: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("the data folder %s is in use by another `atlas dev`: stop that one, or name another folder with --data", path)
		}
		return nil, fmt.Errorf("lock the data folder %s: %w", path, err)
	}
	return &folder{path: path, lock: lock}, nil
}

func (f *folder) Close() { f.lock.Close() }

func (f *folder) join(elem ...string) string {
	return filepath.Join(append([]string{f.path}, elem...)...)
}

// signingKey returns the path of the API's signing key, which is made on the first start.
func (f *folder) signingKey() (string, error) {
	path := f.join("signing-key.pem")
	err := createOnce(path, func() ([]byte, error) { return token.GenerateSigningKey() })
	return path, err
}

// adminPassword returns the bootstrap admin's password and the file that holds it, which is made on the first start.
func (f *folder) adminPassword() (password, path string, err error) {
	path = f.join("admin-password")
	err = createOnce(path, func() ([]byte, error) {
		random := make([]byte, 16)
		_, _ = rand.Read(random) // crypto/rand never fails
		return []byte(hex.EncodeToString(random) + "\n"), nil
	})
	if err != nil {
		return "", "", err
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return "", "", fmt.Errorf("read the admin's password: %w", err)
	}
	return strings.TrimSpace(string(content)), path, nil
}

// createOnce writes a secret that does not exist yet. The rename makes it whole or absent.
func createOnce(path string, content func() ([]byte, error)) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	data, err := content()
	if err != nil {
		return fmt.Errorf("make %s: %w", filepath.Base(path), err)
	}
	if err := writeSecret(path, data); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	return nil
}

func writeSecret(path string, data []byte) error {
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// files makes the folder of the object store.
func (f *folder) files() (string, error) {
	path, err := filepath.Abs(f.join("objects"))
	if err == nil {
		err = os.MkdirAll(path, 0o700)
	}
	if err != nil {
		return "", fmt.Errorf("make the folder of the object store: %w", err)
	}
	return path, nil
}
