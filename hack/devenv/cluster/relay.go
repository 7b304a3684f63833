package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"
)

// dialer opens the other half of a forwarded connection.
type dialer func(ctx context.Context) (net.Conn, error)

// relay passes each connection that the listener accepts on to a new one from dial, until ctx ends; then it closes them all and returns.
func relay(ctx context.Context, l net.Listener, dial dialer) error {
	ctx, cancel := context.WithCancel(ctx)
	var open sync.WaitGroup
	defer open.Wait()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	for {
		conn, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("listener closed by another hand: %w", err)
			}
			// Out of descriptors, or the peer gave up at once: no reason to end all the other connections.
			slog.WarnContext(ctx, "accept failed", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		open.Go(func() { pass(ctx, conn, dial) })
	}
}

// pass joins one accepted connection to a dialled one. Each direction ends on its own: a peer that has sent everything may still read.
func pass(ctx context.Context, a net.Conn, dial dialer) {
	defer a.Close()
	dialCtx, cancel := context.WithTimeout(ctx, 10*time.Second)
	b, err := dial(dialCtx)
	cancel()
	if err != nil {
		slog.WarnContext(ctx, "can't reach the other side", "error", err)
		return
	}
	defer b.Close()
	stop := context.AfterFunc(ctx, func() { a.Close(); b.Close() })
	defer stop()
	var both sync.WaitGroup
	both.Go(func() { transfer(b, a) })
	both.Go(func() { transfer(a, b) })
	both.Wait()
}

// transfer copies until from ends, then ends the writing half of to. After an error nothing more can come right, so both are closed.
func transfer(to, from net.Conn) {
	_, err := io.Copy(to, from)
	if half, ok := to.(interface{ CloseWrite() error }); ok && err == nil {
		err = half.CloseWrite()
	} else if err == nil {
		err = net.ErrClosed
	}
	if err != nil {
		to.Close()
		from.Close()
	}
}
