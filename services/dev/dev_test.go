package dev_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/services/dev"
)

// out tells when Atlas has announced itself.
type out struct{ announced chan struct{} }

func (o out) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte("Atlas is ready")) {
		close(o.announced)
	}
	return len(p), nil
}

// start runs Atlas over folder; what Run returns comes on the channel.
func start(ctx context.Context, t *testing.T, folder string) (map[string]string, <-chan error) {
	t.Helper()
	o := dev.Options{
		Folder: filepath.Join(folder, "data"), Listen: "127.0.0.1:0", EnvFile: filepath.Join(folder, "run", "env"),
		Out: out{announced: make(chan struct{})}, Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
	ended := make(chan error, 1)
	go func() { ended <- dev.Run(ctx, o) }()
	select {
	case <-o.Out.(out).announced:
	case err := <-ended:
		require.FailNow(t, "Atlas did not start", "%v", err)
	}
	content, err := os.ReadFile(o.EnvFile)
	require.NoError(t, err)
	vars := map[string]string{}
	for line := range strings.Lines(string(content)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			vars[name] = strings.Trim(value, "'")
		}
	}
	require.Contains(t, string(content), "\nexport ATLAS_URL ")
	return vars, ended
}

// folder can be entered by PostgreSQL's unprivileged user, as t.TempDir can't everywhere.
func folder(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("starts PostgreSQL")
	}
	dir, err := os.MkdirTemp("", "atlas-dev-*")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o755))
	return dir
}

func post(t *testing.T, url, body string) (int, map[string]any) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	require.NoError(t, err)
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	var answer map[string]any
	require.NoError(t, json.Unmarshal(content, &answer))
	return response.StatusCode, answer
}

func TestDataSurvivesARestart(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	const login = `{"email":"ada@example.com","password":"correct horse battery"}`
	ctx, stop := context.WithCancel(t.Context())
	vars, ended := start(ctx, t, dir)
	status, _ := post(t, vars["ATLAS_URL"]+"/v1/auth/register", login)
	require.Equal(t, http.StatusCreated, status)

	err := dev.Run(t.Context(), dev.Options{Folder: filepath.Join(dir, "data"), Listen: "127.0.0.1:0", Out: io.Discard, Logger: slog.Default()})
	require.ErrorContains(t, err, "is in use by another")
	stop()
	require.NoError(t, <-ended)

	ctx, stop = context.WithCancel(t.Context())
	again, ended := start(ctx, t, dir)
	status, _ = post(t, again["ATLAS_URL"]+"/v1/auth/login", login)
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, vars["ATLAS_ADMIN_PASSWORD"], again["ATLAS_ADMIN_PASSWORD"])
	stop()
	require.NoError(t, <-ended)
}

// TestItEndsWithItsDatabase: without PostgreSQL nothing works any more, so the user has to hear of it.
func TestItEndsWithItsDatabase(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	_, ended := start(t.Context(), t, dir)
	files, err := filepath.Glob(filepath.Join(dir, "data", "postgres", "*", "postmaster.pid"))
	require.NoError(t, err)
	require.Len(t, files, 1)
	content, err := os.ReadFile(files[0])
	require.NoError(t, err)
	first, _, _ := strings.Cut(string(content), "\n")
	pid, err := strconv.Atoi(first)
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	select {
	case err := <-ended:
		require.ErrorContains(t, err, "PostgreSQL has ended by itself")
	case <-time.After(time.Minute):
		require.FailNow(t, "Atlas runs on")
	}
}

func TestWrongAddressesAreNamed(t *testing.T) {
	t.Parallel()
	for _, listen := range []string{"", "foo", "127.0.0.1", "127.0.0.1:99999"} {
		err := dev.Run(t.Context(), dev.Options{Folder: filepath.Join(t.TempDir(), "data"), Listen: listen, Out: io.Discard, Logger: slog.Default()})
		require.ErrorContains(t, err, "--listen=")
	}
}
