package pgserver

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// dataDir returns a folder that the unprivileged user can enter too; those of t.TempDir are closed to others.
func dataDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pgserver-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o755))
	return filepath.Join(dir, "pg")
}

func startServer(t *testing.T, dir string) *Server {
	t.Helper()
	s, err := Start(t.Context(), Config{DataDir: dir, FastUnsafe: true, Settings: map[string]string{"shared_buffers": "16MB"}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Stop(context.Background())) })
	return s
}

func query(t *testing.T, url, sql string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer func() { _ = conn.Close(t.Context()) }()
	var out string
	require.NoError(t, conn.QueryRow(t.Context(), sql).Scan(&out))
	return out
}

func TestServerKeepsDataPortAndPassword(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	first := startServer(t, dir)
	require.Equal(t, "atlas atlas", query(t, first.URL(), "SELECT current_user || ' ' || current_database()"))
	require.Equal(t, "äöü", query(t, first.URL(), "SELECT lower('ÄÖÜ')"), "letters beyond ASCII are known")
	conn, err := pgx.Connect(t.Context(), first.URL())
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "CREATE TABLE kept AS SELECT 'still here' AS value")
	require.NoError(t, err)

	_, err = Start(t.Context(), Config{DataDir: dir})
	require.ErrorContains(t, err, "in use by another process")

	require.NoError(t, first.Stop(t.Context()), "an open connection doesn't hold it up")
	<-first.Done()
	second := startServer(t, dir)
	require.Equal(t, first.URL(), second.URL())
	require.Equal(t, "still here", query(t, second.URL(), "SELECT value FROM kept"))

	info, err := os.Stat(filepath.Join(dir, "password"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	wrong := strings.Replace(second.URL(), "atlas:", "atlas:x", 1)
	_, err = pgx.Connect(t.Context(), wrong)
	require.ErrorContains(t, err, "password authentication failed")
}

func TestServerStartsAfterKill(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	first := startServer(t, dir)
	require.NoError(t, first.cmd.Process.Kill())
	<-first.Done()
	require.NoError(t, first.Stop(t.Context()))
	pidFile := filepath.Join(dir, "pgdata", "postmaster.pid")
	content, err := os.ReadFile(pidFile)
	require.NoError(t, err, "a killed server leaves its pid file")

	// As after a reboot, the pid belongs to something else now: a child of the user that PostgreSQL runs as.
	account, err := Unprivileged("postgres", "nobody")
	require.NoError(t, err)
	stranger := exec.Command("sleep", "600")
	stranger.SysProcAttr = &syscall.SysProcAttr{Credential: account.Credential()}
	require.NoError(t, stranger.Start())
	t.Cleanup(func() { _ = stranger.Process.Kill(); _ = stranger.Wait() })
	_, rest, _ := strings.Cut(string(content), "\n")
	require.NoError(t, os.WriteFile(pidFile, []byte(strconv.Itoa(stranger.Process.Pid)+"\n"+rest), 0o600))

	second := startServer(t, dir)
	require.Equal(t, "1", query(t, second.URL(), "SELECT '1'"))
	require.NoError(t, stranger.Process.Signal(syscall.Signal(0)), "the stranger was left alone")
}

func TestServerEndsWithItsOwner(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	owner := exec.Command(os.Args[0], "-test.run=^TestOwner$")
	owner.Env = append(os.Environ(), "PGSERVER_TEST_OWNER="+dir)
	out, err := owner.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, owner.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	url := strings.TrimSpace(line)
	require.Equal(t, "1", query(t, url, "SELECT '1'"))
	require.NoError(t, owner.Process.Kill())
	_ = owner.Wait()

	// Whether it is still shutting down or already gone, the next owner gets the folder.
	next := startServer(t, dir)
	require.Equal(t, url, next.URL())
	require.Equal(t, "1", query(t, next.URL(), "SELECT '1'"))
}

// TestOwner is the program of the owner that TestServerEndsWithItsOwner kills.
func TestOwner(t *testing.T) {
	t.Parallel()
	dir := os.Getenv("PGSERVER_TEST_OWNER")
	if dir == "" {
		t.Skip("run by TestServerEndsWithItsOwner")
	}
	s, err := Start(t.Context(), Config{DataDir: dir, FastUnsafe: true})
	require.NoError(t, err)
	fmt.Println(s.URL())
	select {
	case <-s.Done():
	case <-time.After(time.Minute):
	}
}

func TestStartNamesTheFolderThatIsClosed(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root runs the server as another user")
	}
	closed := t.TempDir()
	require.NoError(t, os.Chmod(closed, 0o700))
	_, err := Start(t.Context(), Config{DataDir: filepath.Join(closed, "pg")})
	require.ErrorContains(t, err, "can't enter "+closed)
}

func TestStartShowsTheServersOwnWords(t *testing.T) {
	t.Parallel()
	_, err := Start(t.Context(), Config{DataDir: dataDir(t), FastUnsafe: true, Settings: map[string]string{"shared_buffers": "nonsense"}})
	require.ErrorIs(t, err, ErrExited)
	require.ErrorContains(t, err, `invalid value for parameter "shared_buffers"`)
}
