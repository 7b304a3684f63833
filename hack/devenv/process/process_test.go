package process

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func newState(t *testing.T) *State {
	t.Helper()
	s := &State{Dir: filepath.Join(t.TempDir(), "0123abcd-test"), Instance: "test"}
	require.NoError(t, s.Create())
	t.Cleanup(func() { require.NoError(t, s.StopAll(context.Background())) })
	return s
}

func TestStartRunsDetachedAndStopEndsTheGroup(t *testing.T) {
	t.Parallel()
	s := newState(t)
	p, err := s.Start(Spec{Name: "sleeper", Path: "sh", Args: []string{"-c", "echo hello; sleep 600 & wait"}})
	require.NoError(t, err)
	require.True(t, p.Alive())

	_, err = s.Start(Spec{Name: "sleeper", Path: "true"})
	require.ErrorContains(t, err, "already running")
	pgid, err := syscall.Getpgid(p.PID)
	require.NoError(t, err)
	require.Equal(t, p.PID, pgid, "leads its own group")
	require.Eventually(t, func() bool { return len(marked(p.Token)) == 2 }, time.Minute, 10*time.Millisecond)
	require.Contains(t, Tail(p.Log(), 5), "hello")

	found, ok := s.Find("sleeper")
	require.True(t, ok)
	require.Equal(t, p.PID, found.PID)
	require.NoError(t, found.Stop(t.Context()))
	require.False(t, p.Alive())
	require.Empty(t, marked(p.Token))
	require.NoFileExists(t, s.Path("sleeper.pid.json"))
	require.NoError(t, s.Stop(t.Context(), "sleeper"), "a second stop is no error")
}

func TestStopKillsWhatIgnoresTheSignal(t *testing.T) {
	t.Parallel()
	s := newState(t)
	p, err := s.Start(Spec{
		Name: "stubborn", Path: "sh", Args: []string{"-c", "trap '' TERM; echo ready; while :; do sleep 1; done"},
		StopGrace: 100 * time.Millisecond,
	})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return Tail(p.Log(), 1) == "ready" }, time.Minute, 10*time.Millisecond)
	require.NoError(t, p.Stop(t.Context()))
	require.False(t, p.Alive())
}

func TestStopEndsChildrenThatOutlivedTheirParent(t *testing.T) {
	t.Parallel()
	s := newState(t)
	p, err := s.Start(Spec{Name: "parent", Path: "sh", Args: []string{"-c", "sleep 600 & wait"}})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return len(marked(p.Token)) == 2 }, time.Minute, 10*time.Millisecond)
	require.NoError(t, syscall.Kill(p.PID, syscall.SIGKILL))
	<-p.Exited()
	require.Len(t, marked(p.Token), 1)
	_, ok := s.Find("parent")
	require.False(t, ok)
	require.Eventually(t, func() bool { return len(marked(p.Token)) == 0 }, time.Minute, 10*time.Millisecond)
}

func TestAPidThatBelongsToSomethingElseIsLeftAlone(t *testing.T) {
	t.Parallel()
	s := newState(t)
	stranger := exec.Command("sleep", "600")
	require.NoError(t, stranger.Start())
	t.Cleanup(func() { _ = stranger.Process.Kill(); _ = stranger.Wait() })
	identity, err := identify(stranger.Process.Pid)
	require.NoError(t, err)

	for name, recorded := range map[string]string{
		"another start time": identity + "0",
		"another boot":       "00000000-0000-0000-0000-000000000000/" + identity[strings.LastIndex(identity, "/")+1:],
	} {
		p := &Process{state: s, Name: "reused", PID: stranger.Process.Pid, Identity: recorded, Token: "none"}
		require.NoError(t, writeJSON(p.path(), p))
		require.False(t, p.Alive(), name)
		require.NoError(t, s.Stop(t.Context(), "reused"), name)
		require.NoFileExists(t, p.path(), name)
		_, err := identify(stranger.Process.Pid)
		require.NoError(t, err, "%s: the stranger still runs", name)
	}
}

func TestAStalePidFileDoesNotBlockAStart(t *testing.T) {
	t.Parallel()
	s := newState(t)
	first, err := s.Start(Spec{Name: "server", Path: "sleep", Args: []string{"600"}})
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(first.PID, syscall.SIGKILL))
	<-first.Exited()
	second, err := s.Start(Spec{Name: "server", Path: "sleep", Args: []string{"600"}})
	require.NoError(t, err)
	require.NotEqual(t, first.PID, second.PID)
}

func TestExtraFilesAndEnvironmentArriveInTheProgram(t *testing.T) {
	t.Parallel()
	s := newState(t)
	in, out, err := os.Pipe()
	require.NoError(t, err)
	defer in.Close()
	p, err := s.Start(Spec{
		Name: "writer", Path: "sh", Args: []string{"-c", `echo "$GREETING" >&3; test ! -e /proc/self/fd/4 && echo closed >&3`},
		Env: []string{"PATH=/usr/bin:/bin", "GREETING=hello"}, ExtraFiles: []*os.File{out},
	})
	require.NoError(t, err)
	require.NoError(t, out.Close())
	var got bytes.Buffer
	_, err = got.ReadFrom(in)
	require.NoError(t, err)
	require.Equal(t, "hello\nclosed\n", got.String())
	<-p.Exited()
	require.False(t, p.Alive())
}

func TestAdoptTakesOnlyDescendants(t *testing.T) {
	t.Parallel()
	s := newState(t)
	// The daemon itself says its pid: a process that is just becoming another program shows no environment to look for the token in.
	launcher, err := s.Start(Spec{Name: "daemon", Path: "sh", Args: []string{"-c", "setsid sh -c 'echo $$; while :; do sleep 600; done' &"}})
	require.NoError(t, err)
	<-launcher.Exited()
	var pid int
	require.Eventually(t, func() bool {
		pid, err = strconv.Atoi(Tail(launcher.Log(), 1))
		return err == nil
	}, time.Minute, 10*time.Millisecond)
	_, err = s.Adopt("daemon", os.Getpid())
	require.ErrorContains(t, err, "was not started by it")
	p, err := s.Adopt("daemon", pid)
	require.NoError(t, err)
	require.True(t, p.Alive())
	require.NoError(t, s.Stop(t.Context(), "daemon"))
	require.False(t, p.Alive())
}

func TestPortIsRememberedWhileItIsFree(t *testing.T) {
	t.Parallel()
	s := newState(t)
	first, err := s.Port("kafka")
	require.NoError(t, err)
	again, err := s.Port("kafka")
	require.NoError(t, err)
	require.Equal(t, first, again)
	l, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(first)))
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	other, err := s.Port("kafka")
	require.NoError(t, err)
	require.NotEqual(t, first, other)
}

func TestLockExcludesAndIsReleased(t *testing.T) {
	t.Parallel()
	s := newState(t)
	unlock, err := s.Lock(t.Context())
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err = s.Lock(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	unlock()
	unlock, err = s.Lock(t.Context())
	require.NoError(t, err)
	unlock()
	require.NoFileExists(t, s.Dir+".lock")
}

func TestWriteEnvIsReadByAShell(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), ".run", "env")
	value := `it's "$HOME" \ and a` + "\nnew line"
	require.NoError(t, WriteEnv(path, []Var{{Name: "ATLAS_URL", Value: value}}))
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	out, err := exec.Command("sh", "-c", `. "$0"; printf %s "$ATLAS_URL"`, path).Output()
	require.NoError(t, err)
	require.Equal(t, value, string(out))
}

func TestStepReportsProgressAndOutcome(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	c := NewConsole(&out)
	c.every = 5 * time.Millisecond
	require.NoError(t, c.Step(t.Context(), "Kafka", func(_ context.Context, p *Progress) error {
		p.Set("downloading")
		require.Eventually(t, func() bool {
			c.mu.Lock()
			defer c.mu.Unlock()
			return strings.Contains(out.String(), "Kafka: downloading")
		}, time.Minute, time.Millisecond)
		return nil
	}))
	require.Regexp(t, `==> Kafka ready  \d+\.\ds\n$`, out.String())
	err := c.Step(t.Context(), "Kafka", func(context.Context, *Progress) error { return errors.New("no disk") })
	require.EqualError(t, err, "Kafka: no disk")
	require.Contains(t, out.String(), "==> Kafka failed")
	var silent *Console
	require.NoError(t, silent.Step(t.Context(), "x", func(_ context.Context, p *Progress) error { p.Set("y"); return nil }))
}

func TestEnsurePackagesAcceptsWhatIsThere(t *testing.T) {
	t.Parallel()
	require.NoError(t, EnsurePackages(t.Context(), nil, map[string]string{"sh": "dash", "/bin/sh": "dash"}))
}

func TestRunKillsTheGroupWithTheContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, "sh", "-c", "sleep 600 & echo started; wait")
	out := writerFunc(func(b []byte) (int, error) { cancel(); return len(b), nil })
	cmd.Stdout = out // held open by sleep: Run returns only when the whole group is gone
	require.Error(t, Run(cmd))
	require.ErrorIs(t, ctx.Err(), context.Canceled)
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

func TestPortsChosenAtTheSameTimeDiffer(t *testing.T) {
	t.Parallel()
	s := newState(t)
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			_, err := s.Port(strconv.Itoa(i))
			assert.NoError(t, err)
		})
	}
	wg.Wait()
	seen := map[int]bool{}
	for i := range 20 {
		port, err := s.KnownPort(strconv.Itoa(i))
		require.NoError(t, err)
		require.False(t, seen[port])
		seen[port] = true
	}
}
