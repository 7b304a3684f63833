package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// source is what one kept-alive connection sends: prepared requests, all to be answered with one status.
type source struct {
	address string
	want    int
	next    func() []byte
}

// exchange has one request under way on each connection for a while, as wrk does: a thread per processor, each waiting for its share of the
// connections. net/http's client, or a goroutine per connection, would take as much of the processors as the server that is measured.
func exchange(ctx context.Context, length time.Duration, sources []source) (result, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	threads := min(runtime.NumCPU(), len(sources))
	latencies := make([][]time.Duration, threads)
	var group sync.WaitGroup
	begin := time.Now()
	for i := range threads {
		group.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			var share []source
			for n := i; n < len(sources); n += threads {
				share = append(share, sources[n])
			}
			t := &httpThread{}
			defer t.close()
			if err := t.run(ctx, begin.Add(length), share); err != nil {
				cancel(err)
			}
			latencies[i] = t.latencies
		})
	}
	group.Wait()
	if err := context.Cause(ctx); err != nil {
		return result{}, err
	}
	return summarize(latencies, time.Since(begin))
}

// httpThread serves its connections one after the other, whenever an answer has come.
type httpThread struct {
	poll      int
	conns     map[int32]*httpConn
	latencies []time.Duration
}

func (t *httpThread) run(ctx context.Context, until time.Time, sources []source) (err error) {
	if t.poll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("make an epoll: %w", err)
	}
	t.conns = make(map[int32]*httpConn, len(sources))
	for _, s := range sources {
		c, err := dial(s)
		if err != nil {
			return err
		}
		t.conns[int32(c.fd)] = c                                        //nolint:gosec // file descriptors are small
		event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(c.fd)} //nolint:gosec // file descriptors are small
		if err := unix.EpollCtl(t.poll, unix.EPOLL_CTL_ADD, c.fd, &event); err != nil {
			return fmt.Errorf("watch a connection: %w", err)
		}
		if err := c.send(); err != nil {
			return err
		}
	}
	events := make([]unix.EpollEvent, len(sources))
	for ctx.Err() == nil {
		n, err := unix.EpollWait(t.poll, events, 100)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for answers: %w", err)
		}
		for _, event := range events[:max(n, 0)] {
			c := t.conns[event.Fd]
			whole, err := c.receive()
			if err != nil {
				return err
			}
			if !whole {
				continue
			}
			now := time.Now()
			t.latencies = append(t.latencies, now.Sub(c.sent))
			if now.After(until) {
				return nil
			}
			if err := c.send(); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

func (t *httpThread) close() {
	for _, c := range t.conns {
		_ = unix.Close(c.fd)
	}
	if t.poll > 0 {
		_ = unix.Close(t.poll)
	}
}

// httpConn is one kept-alive HTTP/1.1 connection. It reads the status and the length of an answer, and no more.
type httpConn struct {
	source
	fd     int
	sent   time.Time
	buffer []byte
	filled int
}

func dial(s source) (*httpConn, error) {
	address, err := net.ResolveTCPAddr("tcp4", s.address)
	if err != nil {
		return nil, fmt.Errorf("resolve %s: %w", s.address, err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make a socket: %w", err)
	}
	if err := errors.Join(
		unix.Connect(fd, &unix.SockaddrInet4{Port: address.Port, Addr: [4]byte(address.IP.To4())}),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
	); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("connect to %s: %w", s.address, err)
	}
	return &httpConn{source: s, fd: fd, buffer: make([]byte, 16<<10)}, nil
}

func (c *httpConn) send() error {
	c.sent, c.filled = time.Now(), 0
	for request := c.next(); len(request) > 0; {
		n, err := unix.Write(c.fd, request)
		if err != nil {
			return fmt.Errorf("send: %w", err)
		}
		request = request[n:]
	}
	return nil
}

// receive reads what has come, and tells whether that is the whole answer.
func (c *httpConn) receive() (whole bool, err error) {
	if c.filled == len(c.buffer) {
		c.buffer = append(c.buffer, make([]byte, len(c.buffer))...)
	}
	n, err := unix.Read(c.fd, c.buffer[c.filled:])
	if err != nil || n == 0 {
		return false, fmt.Errorf("the connection broke: %w", errors.Join(err, net.ErrClosed))
	}
	c.filled += n
	header, body, found := bytes.Cut(c.buffer[:c.filled], []byte("\r\n\r\n"))
	if !found || !complete(header, body) {
		return false, nil
	}
	if len(header) < 12 || string(header[9:12]) != strconv.Itoa(c.want) {
		return false, fmt.Errorf("want status %d: %s\n%s", c.want, header, body)
	}
	return true, nil
}

var contentLength = []byte("\r\nContent-Length: ")

// complete tells whether a body is all there. One in chunks is JSON, which can't have a line feed that looks like the last chunk.
func complete(header, body []byte) bool {
	at := bytes.Index(header, contentLength)
	if at < 0 {
		at = bytes.Index(header, bytes.ToLower(contentLength))
	}
	if at < 0 {
		return bytes.HasSuffix(body, []byte("0\r\n\r\n"))
	}
	digits, _, _ := bytes.Cut(header[at+len(contentLength):], []byte("\r\n"))
	length, err := strconv.Atoi(string(digits))
	return err == nil && len(body) >= length
}

// get is a prepared GET request.
func get(path, token string) []byte {
	return []byte("GET " + path + " HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer " + token + "\r\n\r\n")
}

// post is a prepared POST request with a JSON body.
func post(path, token string, body []byte) []byte {
	head := "POST " + path + " HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer " + token +
		"\r\nContent-Type: application/json\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n"
	return append([]byte(head), body...)
}
