package tasks_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/jobs"
	"github.com/atlas-platform/atlas/internal/jobs/jobstest"
	"github.com/atlas-platform/atlas/internal/objects"
	"github.com/atlas-platform/atlas/internal/objects/objectstest"
	"github.com/atlas-platform/atlas/internal/tasks"
)

// The environment of a worker in a process of its own, which is this program.
const (
	envDatabase = "ATLAS_TEST_WORKER_DATABASE"
	envStore    = "ATLAS_TEST_WORKER_STORE"
	envStop     = "ATLAS_TEST_WORKER_STOPS_AT"
)

func TestMain(m *testing.M) {
	if os.Getenv(envDatabase) == "" {
		os.Exit(m.Run())
	}
	if err := work(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// work is a worker until it is killed. Where it is to stop it says so, and waits for that.
func work() error {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, os.Getenv(envDatabase))
	if err != nil {
		return err
	}
	store, err := objects.OpenWithKeys(os.Getenv(envStore), objectstest.AccessKey, objectstest.SecretKey)
	if err != nil {
		return err
	}
	if stop, err := strconv.ParseInt(os.Getenv(envStop), 10, 64); err == nil {
		store = stopping{Store: store, after: stop, stopped: func() {
			fmt.Println("stopped")
			<-ctx.Done()
		}}
	}
	cfg := jobstest.Fast()
	cfg.Lease = time.Second // that of a worker that was killed
	logger := slog.New(slog.DiscardHandler)
	return jobs.New(cfg, jobs.Deps{Logger: logger, Pool: pool, Tasks: tasks.All(tasks.Deps{Logger: logger, Pool: pool, Objects: store})}).Run(ctx)
}

// stopping is a store that stops after so many bytes of a file.
type stopping struct {
	objects.Store
	after   int64
	stopped func()
}

func (s stopping) Open(ctx context.Context, name string, r objects.Range) (io.ReadCloser, objects.Info, error) {
	in, info, err := s.Store.Open(ctx, name, r)
	if err != nil {
		return nil, info, err
	}
	return struct {
		io.Reader
		io.Closer
	}{&stoppingReader{in: in, left: s.after - r.Offset, stopped: s.stopped}, in}, info, nil
}

func (s stopping) Create(ctx context.Context, name string, content io.Reader, over objects.Version) (objects.Info, error) {
	return s.Store.Create(ctx, name, &stoppingReader{in: content, left: s.after, stopped: s.stopped}, over)
}

type stoppingReader struct {
	in      io.Reader
	left    int64
	stopped func()
}

func (r *stoppingReader) Read(b []byte) (int, error) {
	if r.left <= 0 {
		r.stopped()
		return 0, errors.New("nobody comes here")
	}
	n, err := r.in.Read(b[:min(int64(len(b)), r.left)])
	r.left -= int64(n)
	return n, err
}

// process starts a worker of its own, which stops after so many bytes of a file; negative means never. The end of the test kills it too.
func (w *world) process(t *testing.T, stopAfter int64) (stopped <-chan struct{}, kill func()) {
	t.Helper()
	program, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), program, "-test.run=^$")
	cmd.Env = append(os.Environ(), envDatabase+"="+w.uri, envStore+"="+w.at)
	if stopAfter >= 0 {
		cmd.Env = append(cmd.Env, envStop+"="+strconv.FormatInt(stopAfter, 10))
	}
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	said := make(chan struct{})
	go func() {
		defer close(said)
		_, _ = bufio.NewReader(out).ReadString('\n')
	}()
	return said, func() {
		_ = cmd.Process.Kill() // it can't catch that
		<-said
		_ = cmd.Wait()
	}
}
