package cluster

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const testTimeout = 10 * time.Second

func listen(t *testing.T) *net.TCPListener {
	t.Helper()
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// shouter answers each connection, when it has all of the request, with the request in capitals.
func shouter(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			if all, err := io.ReadAll(c); err == nil {
				_, _ = io.WriteString(c, strings.ToUpper(string(all)))
			}
		}()
	}
}

func startRelay(t *testing.T, dial dialer) (addr string, stop func() error) {
	t.Helper()
	l := listen(t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- relay(ctx, l, dial) }()
	t.Cleanup(cancel)
	return l.Addr().String(), func() error {
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(testTimeout):
			return errors.New("relay doesn't end")
		}
	}
}

func to(addr string) dialer {
	return func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp4", addr)
	}
}

// ask sends a request, ends its half of the connection, and reads the answer to its end.
func ask(t *testing.T, addr, request string) string {
	t.Helper()
	c, err := net.Dial("tcp4", addr)
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.SetDeadline(time.Now().Add(testTimeout)))
	_, err = io.WriteString(c, request)
	require.NoError(t, err)
	require.NoError(t, c.(*net.TCPConn).CloseWrite())
	answer, err := io.ReadAll(c)
	require.NoError(t, err)
	return string(answer)
}

func TestRelayPassesHalfClosedConnections(t *testing.T) {
	t.Parallel()
	server := listen(t)
	go shouter(server)
	addr, stop := startRelay(t, to(server.Addr().String()))
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() { require.Equal(t, "HELLO", ask(t, addr, "hello")) })
	}
	all.Wait()
	large := strings.Repeat("x", 4<<20)
	require.Equal(t, strings.ToUpper(large), ask(t, addr, large))
	require.NoError(t, stop())
}

func TestRelayClosesWhatItCanNotPassOn(t *testing.T) {
	t.Parallel()
	addr, stop := startRelay(t, func(context.Context) (net.Conn, error) { return nil, errors.New("no server") })
	c, err := net.Dial("tcp4", addr)
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.SetDeadline(time.Now().Add(testTimeout)))
	_, err = c.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	require.NoError(t, stop())
}

func TestRelayEndsOpenConnectionsWithItself(t *testing.T) {
	t.Parallel()
	server := listen(t)
	addr, stop := startRelay(t, to(server.Addr().String()))
	client, err := net.Dial("tcp4", addr)
	require.NoError(t, err)
	defer client.Close()
	accepted, err := server.Accept()
	require.NoError(t, err)
	defer accepted.Close()
	require.NoError(t, stop())
	for _, c := range []net.Conn{client, accepted} {
		require.NoError(t, c.SetDeadline(time.Now().Add(testTimeout)))
		_, err := c.Read(make([]byte, 1))
		var timeout net.Error
		require.False(t, errors.As(err, &timeout) && timeout.Timeout(), "still open")
	}
}
