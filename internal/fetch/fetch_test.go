package fetch_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/atlas-platform/atlas/internal/fetch"
)

// world is a web server that may be reached, at 127.0.0.2, and a canary that must not be: it listens at 127.0.0.1 and ::1, on the same port, and
// counts connections, whatever is said on them.
type world struct {
	server  *httptest.Server
	port    string
	canary  *atomic.Int64
	fetcher *fetch.Fetcher
	// names is what the resolver answers; a name that it doesn't have is 127.0.0.1 and ::1. asked counts the questions for each name's IPv4 addresses.
	names map[string]func(n int) []string
	mu    sync.Mutex
	asked map[string]int
}

func newWorld(t *testing.T, handler http.Handler, change ...func(*fetch.Config)) *world {
	t.Helper()
	w := &world{canary: new(atomic.Int64), names: map[string]func(int) []string{}, asked: map[string]int{}}
	w.listen(t, handler)
	cfg := fetch.Config{
		Policy: fetch.Policy{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}}, Pause: time.Nanosecond, MaxPause: time.Nanosecond,
		Resolver: w.resolver(t),
	}
	for _, f := range change {
		f(&cfg)
	}
	w.fetcher = fetch.New(cfg)
	t.Cleanup(w.fetcher.Close)
	return w
}

// listen finds a port that is free at all three addresses.
func (w *world) listen(t *testing.T, handler http.Handler) {
	t.Helper()
	require.Eventually(t, func() bool {
		web, err := net.Listen("tcp", "127.0.0.2:0")
		if err != nil {
			return false
		}
		_, port, _ := net.SplitHostPort(web.Addr().String())
		four, err4 := net.Listen("tcp", "127.0.0.1:"+port)
		six, err6 := net.Listen("tcp", "[::1]:"+port)
		if err4 != nil || err6 != nil {
			for _, l := range []net.Listener{web, four, six} {
				if l != nil {
					_ = l.Close()
				}
			}
			return false
		}
		w.port = port
		w.server = httptest.NewUnstartedServer(handler)
		_ = w.server.Listener.Close()
		w.server.Listener = web
		for _, l := range []net.Listener{four, six} {
			go w.count(l)
			t.Cleanup(func() { _ = l.Close() })
		}
		return true
	}, time.Minute, time.Millisecond)
	w.server.Start()
	t.Cleanup(w.server.Close)
}

func (w *world) count(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		w.canary.Add(1)
		_, _ = conn.Write([]byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 6\r\n\r\nsecret"))
		_ = conn.Close()
	}
}

// resolver answers from a DNS server of the test's own.
func (w *world) resolver(t *testing.T) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	var serving sync.WaitGroup
	t.Cleanup(func() {
		_ = conn.Close()
		serving.Wait()
	})
	serving.Go(func() {
		buffer := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			if answer, err := w.answer(buffer[:n]); err == nil {
				_, _ = conn.WriteTo(answer, from)
			}
		}
	})
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

func (w *world) answer(question []byte) ([]byte, error) {
	var m dnsmessage.Message
	if err := m.Unpack(question); err != nil {
		return nil, err
	}
	asked := m.Questions[0]
	addresses := []string{"127.0.0.1", "::1"}
	w.mu.Lock()
	if name, known := w.names[strings.TrimSuffix(asked.Name.String(), ".")]; known {
		// Both kinds are asked for at a time: the n-th of each belong together.
		key := asked.Name.String() + asked.Type.String()
		w.asked[key]++
		addresses = name(w.asked[key])
	}
	w.mu.Unlock()
	m.Response, m.Authoritative, m.RecursionAvailable, m.Additionals = true, true, true, nil
	for _, text := range addresses {
		address := netip.MustParseAddr(text)
		header := dnsmessage.ResourceHeader{Name: asked.Name, Type: asked.Type, Class: dnsmessage.ClassINET}
		switch {
		case asked.Type == dnsmessage.TypeA && address.Is4():
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AResource{A: address.As4()}})
		case asked.Type == dnsmessage.TypeAAAA && address.Is6():
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AAAAResource{AAAA: address.As16()}})
		}
	}
	return m.Pack()
}

// name sets what the resolver answers the n-th time.
func (w *world) name(name string, addresses func(n int) []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.names[name] = addresses
}

// questions is how often a name and type was asked for.
func (w *world) questions(key string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.asked[key]
}

func (w *world) url(path string) string { return "http://127.0.0.2:" + w.port + path }

// refused fetches what must not be had.
func (w *world) refused(t *testing.T, url string) *fetch.Error {
	t.Helper()
	page, err := w.fetcher.Fetch(t.Context(), fetch.Request{URL: url})
	require.Nil(t, page, url)
	var known *fetch.Error
	require.ErrorAs(t, err, &known, url)
	require.Zero(t, w.canary.Load(), "%s reached the canary", url)
	return known
}

// html serves a page; there is no robots.txt.
func html(body string) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/robots.txt", http.NotFoundHandler())
	mux.HandleFunc("/", func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = rw.Write([]byte(body))
	})
	return mux
}
