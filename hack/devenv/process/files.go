package process

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/atlas-platform/atlas/internal/envfile"
)

// WriteFile writes a file atomically: a reader, or a start after a crash, sees the old content or the new, never half of it.
func WriteFile(path string, data []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-"+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // fails after the rename
	defer f.Close()
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func writeJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return WriteFile(path, append(data, '\n'), 0o600)
}

// Var is one environment variable.
type Var = envfile.Var

// WriteEnv writes variables as shell assignments to path, readable by the owner only.
func WriteEnv(path string, vars []Var) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write environment: %w", err)
	}
	if err := WriteFile(path, []byte(envfile.Format(vars)), 0o600); err != nil {
		return fmt.Errorf("write environment: %w", err)
	}
	return nil
}
