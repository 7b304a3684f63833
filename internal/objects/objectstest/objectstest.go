// Package objectstest gives tests object stores of their own: a folder, and a bucket of a real S3 server, which is built from its source and started
// on loopback.
package objectstest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/objects"
	"github.com/atlas-platform/atlas/internal/testenv"
)

// The server's keys.
const (
	AccessKey = "atlas-test"
	SecretKey = "atlas-test-secret" //nolint:gosec // of a server on loopback with nothing in it
)

// Region is the server's.
const Region = "us-east-1"

// Folder returns the URL of a store in an empty folder.
func Folder(t testing.TB) string {
	t.Helper()
	return (&url.URL{Scheme: "file", Path: filepath.ToSlash(t.TempDir())}).String()
}

// Open opens the store at a URL of this package.
func Open(t testing.TB, at string) objects.Store {
	t.Helper()
	store, err := objects.OpenWithKeys(at, AccessKey, SecretKey)
	require.NoError(t, err)
	return store
}

// S3 returns the URL of a store in an empty bucket. The test is skipped with -short, and where the server can't be built.
func S3(t testing.TB) string {
	t.Helper()
	if testing.Short() {
		t.Skip("needs an S3 server, which takes a while to build")
	}
	s, err := start()
	if errors.Is(err, errNotBuilt) {
		t.Skipf("there is no S3 server to test with: %v", err)
	}
	require.NoError(t, err)
	bucket := uuid.NewString()
	require.NoError(t, os.Mkdir(filepath.Join(s.folder, bucket), 0o750)) // which is what a bucket is there
	return "s3://" + bucket + "/some/prefix?path_style=true&region=" + Region + "&endpoint=" + url.QueryEscape("http://"+s.address)
}

// server holds the input: whatever nobody holds is closed some day.
type server struct {
	folder, address string
	input           io.Closer
}

var errNotBuilt = errors.New("`go tool -modfile=hack/tools/s3/go.mod -n versitygw` failed")

const (
	startTries   = 5
	startTimeout = 2 * time.Minute
)

// start builds and starts the server, once a process.
var start = sync.OnceValues(func() (s server, err error) {
	program, err := build()
	if err != nil {
		return s, err
	}
	for range startTries { // somebody may take the port first
		if s, err = run(program); err == nil {
			return s, nil
		}
	}
	return s, err
})

// build returns the program, which the go command keeps in its cache.
func build() (string, error) {
	folder, err := testenv.Tools("s3")
	if err != nil {
		return "", err
	}
	var output, problems bytes.Buffer
	cmd := exec.CommandContext(context.Background(), "go", "tool", "-modfile="+filepath.Join(folder, "go.mod"), "-n", "versitygw") //nolint:gosec // a file of the checkout
	cmd.Stdout, cmd.Stderr = &output, &problems
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%w: %w: %s", errNotBuilt, err, problems.Bytes())
	}
	return strings.TrimSpace(output.String()), nil
}

// script runs a server for as long as its standard input is open: until this process ends, however it does.
const script = `"$@" & server=$!; cat > /dev/null; kill $server; wait $server; rm -rf "$ATLAS_TEST_FOLDER"`

func run(program string) (s server, err error) {
	if s.folder, err = os.MkdirTemp("", "atlas-s3-"); err != nil {
		return s, err
	}
	buckets, meta := filepath.Join(s.folder, "buckets"), filepath.Join(s.folder, "meta")
	for _, folder := range []string{buckets, meta} {
		if err := os.Mkdir(folder, 0o750); err != nil {
			return s, err
		}
	}
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return s, err
	}
	s.address = listener.Addr().String()
	_ = listener.Close()
	var output bytes.Buffer
	cmd := exec.CommandContext(context.Background(), "sh", "-c", script, "sh", program, //nolint:gosec // a test's
		"--quiet", "--port", s.address, "--region", Region, "posix", "--sidecar", meta, buckets)
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+AccessKey, "ROOT_SECRET_KEY="+SecretKey, "ATLAS_TEST_FOLDER="+s.folder)
	cmd.Stdout, cmd.Stderr = &output, &output
	input, err := cmd.StdinPipe()
	if err != nil {
		return s, err
	}
	if err := cmd.Start(); err != nil {
		return s, err
	}
	s.folder, s.input = buckets, input
	if err := listening(s.address); err != nil {
		_ = input.Close()
		_ = cmd.Wait()
		return s, fmt.Errorf("the S3 server did not start: %w: %s", err, output.Bytes())
	}
	return s, nil
}

// listening waits until the server answers.
func listening(address string) error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/", nil)
		if err != nil {
			return err
		}
		answer, err := http.DefaultClient.Do(request)
		if err == nil {
			_ = answer.Body.Close()
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}
