package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestCallersWhoHangUpAreNoFailures keeps what happens to an answer that nobody waits for out of the log of failures.
func TestCallersWhoHangUpAreNoFailures(t *testing.T) {
	t.Parallel()
	broken := &net.OpError{Op: "write", Net: "tcp", Err: syscall.EPIPE}
	for _, tt := range []struct {
		err    error
		status int
		known  bool
	}{
		{fmt.Errorf("list items: %w", context.Canceled), 499, true},
		{errors.Join(unavailable("search is not available"), context.Canceled), 499, true},
		{fmt.Errorf("%w: %w", errAnswer, broken), 499, true},
		{fmt.Errorf("read the item: %w", broken), 503, false},
		{errors.Join(unavailable("search is not available"), context.DeadlineExceeded), 503, false},
		{notFound("it"), 404, true},
		{errors.New("a surprise"), 500, false},
	} {
		p, known := toProblem(tt.err)
		require.Equal(t, tt.status, p.status, "%v", tt.err)
		require.Equal(t, tt.known, known, "%v", tt.err)
	}
}
