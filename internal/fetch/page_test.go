package fetch_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/fetch"
)

// serve answers for a page; there is no robots.txt.
func serve(handler http.HandlerFunc) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/robots.txt", http.NotFoundHandler())
	mux.HandleFunc("/", handler)
	return mux
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	var bomb bytes.Buffer
	packed := gzip.NewWriter(&bomb)
	_, err := packed.Write(make([]byte, 64<<20))
	require.NoError(t, err)
	require.NoError(t, packed.Close())
	require.Less(t, bomb.Len(), 100_000)
	header := func(rw http.ResponseWriter, name, value string) { rw.Header().Set(name, value) }
	for name, test := range map[string]struct {
		handler http.HandlerFunc
		code    string
		retry   bool
	}{
		"bomb": {func(rw http.ResponseWriter, _ *http.Request) {
			header(rw, "Content-Type", "text/html")
			header(rw, "Content-Encoding", "gzip")
			_, _ = rw.Write(bomb.Bytes())
		}, fetch.CodeTooLarge, false},
		"large": {func(rw http.ResponseWriter, _ *http.Request) {
			header(rw, "Content-Type", "text/html")
			for range 2000 {
				_, _ = rw.Write(make([]byte, 1024))
			}
		}, fetch.CodeTooLarge, false},
		"announced as large": {func(rw http.ResponseWriter, _ *http.Request) {
			header(rw, "Content-Type", "text/html")
			header(rw, "Content-Length", "99999999999")
		}, fetch.CodeTooLarge, false},
		"other encoding": {func(rw http.ResponseWriter, _ *http.Request) {
			header(rw, "Content-Type", "text/html")
			header(rw, "Content-Encoding", "br")
			_, _ = rw.Write([]byte("x"))
		}, fetch.CodeBadResponse, false},
		"pdf":       {func(rw http.ResponseWriter, _ *http.Request) { header(rw, "Content-Type", "application/pdf") }, fetch.CodeUnsupportedType, false},
		"no type":   {func(rw http.ResponseWriter, _ *http.Request) { rw.Header()["Content-Type"] = nil }, fetch.CodeUnsupportedType, false},
		"not found": {func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(404) }, "http_404", false},
		"gone":      {func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(410) }, "http_410", false},
		"forbidden": {func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(403) }, "http_403", false},
		"busy": {func(rw http.ResponseWriter, _ *http.Request) {
			header(rw, "Retry-After", "7")
			rw.WriteHeader(503)
		}, "http_503", true},
		"unasked 304": {func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(304) }, "http_304", false},
		"no location": {func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(302) }, fetch.CodeBadResponse, false},
		"for ever": {func(rw http.ResponseWriter, r *http.Request) {
			http.Redirect(rw, r, r.URL.Path+"x", http.StatusFound)
		}, fetch.CodeTooManyRedirects, false},
		"large head": {func(rw http.ResponseWriter, _ *http.Request) {
			header(rw, "X-Large", strings.Repeat("x", 1<<20))
		}, fetch.CodeTooLarge, false},
		"large head of many": {func(rw http.ResponseWriter, _ *http.Request) {
			for i := range 1 << 10 {
				header(rw, "X-"+strconv.Itoa(i), strings.Repeat("x", 1<<10))
			}
		}, fetch.CodeTooLarge, false},
		"broken off": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, fetch.CodeUnreachable, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, serve(test.handler), func(cfg *fetch.Config) { cfg.MaxBytes = 1 << 20 })
			known := w.refused(t, w.url("/"))
			require.Equal(t, test.code, known.Code, known.Message)
			require.Equal(t, test.retry, known.Retry)
			if name == "busy" {
				require.Equal(t, 7*time.Second, known.RetryAfter)
			}
		})
	}
}

// TestALargeHeadOverHTTP2 is the server's fault there too, whichever way the connection notices.
func TestALargeHeadOverHTTP2(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		values, length int
		code           string
	}{
		"a little too large": {66, 1 << 10, fetch.CodeTooLarge}, "of many": {1 << 10, 1 << 10, fetch.CodeBadResponse}, "of one": {1, 1 << 20, fetch.CodeBadResponse},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			roots := x509.NewCertPool()
			w := newWorld(t, http.NotFoundHandler(), func(cfg *fetch.Config) {
				cfg.RootCAs = roots
				cfg.Policy.Allow = append(cfg.Policy.Allow, netip.MustParsePrefix("127.0.0.3/32"))
			})
			secure := httptest.NewUnstartedServer(serve(func(rw http.ResponseWriter, r *http.Request) {
				assert.Equal(t, 2, r.ProtoMajor)
				for i := range test.values {
					rw.Header().Set("X-"+strconv.Itoa(i), strings.Repeat("x", test.length))
				}
			}))
			listener, err := listenAt("127.0.0.3")
			require.NoError(t, err)
			_ = secure.Listener.Close()
			secure.Listener, secure.EnableHTTP2 = listener, true
			secure.StartTLS()
			t.Cleanup(secure.Close)
			roots.AddCert(secure.Certificate())
			_, port, _ := strings.Cut(secure.Listener.Addr().String(), ":")
			w.name("example.com", func(int) []string { return []string{"127.0.0.3"} })
			known := w.refused(t, "https://example.com:"+port+"/")
			require.Equal(t, test.code, known.Code, "%s: %v", known.Message, known.Unwrap())
			require.False(t, known.Retry)
		})
	}
}

func TestAPageThatIsStillTheSame(t *testing.T) {
	t.Parallel()
	w := newWorld(t, serve(func(rw http.ResponseWriter, r *http.Request) {
		require.Empty(t, r.Cookies())
		require.Contains(t, r.UserAgent(), "AtlasBot/1.0 (+https://example.com/bot)")
		rw.Header().Set("ETag", `"one"`)
		rw.Header().Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
		rw.Header().Set("Set-Cookie", "a=b")
		if r.Header.Get("If-None-Match") == `"one"` && r.Header.Get("If-Modified-Since") != "" {
			rw.WriteHeader(http.StatusNotModified)
			return
		}
		rw.Header().Set("Content-Type", "text/plain")
		_, _ = rw.Write([]byte("text"))
	}), func(cfg *fetch.Config) { cfg.Contact = "https://example.com/bot" })
	page, err := w.fetcher.Fetch(t.Context(), fetch.Request{URL: w.url("/a#b")})
	require.NoError(t, err)
	require.Equal(t, fetch.Page{
		URL: w.url("/a"), ContentType: "text/plain", Body: []byte("text"), ETag: `"one"`, LastModified: "Mon, 02 Jan 2006 15:04:05 GMT",
	}, *page)
	page, err = w.fetcher.Fetch(t.Context(), fetch.Request{URL: w.url("/a"), ETag: page.ETag, LastModified: page.LastModified})
	require.NoError(t, err)
	require.True(t, page.NotModified)
	require.Nil(t, page.Body)
}

func TestRobotsAreObeyed(t *testing.T) {
	t.Parallel()
	var asked, status atomic.Int64
	status.Store(200)
	handler := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/robots.txt" {
			rw.Header().Set("Content-Type", "text/html")
			return
		}
		asked.Add(1)
		rw.WriteHeader(int(status.Load()))
		_, _ = rw.Write([]byte("User-agent: *\nDisallow: /private\n"))
	})
	w := newWorld(t, handler)
	require.Equal(t, fetch.CodeRobots, w.refused(t, w.url("/private/x")).Code)
	for range 3 {
		_, err := w.fetcher.Fetch(t.Context(), fetch.Request{URL: w.url("/public")})
		require.NoError(t, err)
	}
	require.EqualValues(t, 1, asked.Load(), "it is remembered")

	status.Store(500)
	w = newWorld(t, handler)
	known := w.refused(t, w.url("/public"))
	require.Equal(t, fetch.CodeRobotsUnknown, known.Code)
	require.True(t, known.Retry)

	status.Store(403)
	w = newWorld(t, handler)
	_, err := w.fetcher.Fetch(t.Context(), fetch.Request{URL: w.url("/private")})
	require.NoError(t, err)
}

// TestRememberedRobotsTxtAreBounded asks many hosts with as large a robots.txt as there can be, each byte of which takes three in memory.
func TestRememberedRobotsTxtAreBounded(t *testing.T) {
	t.Parallel()
	const budget, names = 32 << 20, 30
	for name, rest := range map[string]string{
		"in one line":   "Disallow: /" + strings.Repeat("\xff", 499<<10),
		"in many lines": strings.Repeat("Disallow: /"+strings.Repeat("\xff", 2000)+"\n", 253),
		"of stars":      "Disallow: /x" + strings.Repeat("*", 499<<10) + "x",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			robots := []byte("User-agent: *\nDisallow: /private\n" + rest)
			w := newWorld(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				rw.Header().Set("Content-Type", "text/plain")
				if r.URL.Path == "/robots.txt" {
					_, _ = rw.Write(robots)
				}
			}))
			at := func(i int, path string) string {
				name := "host" + strconv.Itoa(i) + ".test"
				w.name(name, func(int) []string { return []string{"127.0.0.2"} })
				return "http://" + name + ":" + w.port + path
			}
			for i := range names {
				_, err := w.fetcher.Fetch(t.Context(), fetch.Request{URL: at(i, "/")})
				require.NoError(t, err)
				require.LessOrEqual(t, fetch.RobotsBytes(w.fetcher), budget)
			}
			for i := range 4 { // whether it was forgotten or not
				require.Equal(t, fetch.CodeRobots, w.refused(t, at(10*i, "/private")).Code)
			}
		})
	}
}

// TestAHostIsNotBlamedForTheTimeThatAnotherTook: the time is over while a redirect's host is asked for its robots.txt. Whoever asks that host next finds
// it as it is.
func TestAHostIsNotBlamedForTheTimeThatAnotherTook(t *testing.T) {
	t.Parallel()
	var over atomic.Bool
	w := newWorld(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		name, port, _ := strings.Cut(r.Host, ":")
		switch {
		case r.URL.Path == "/robots.txt" && name == "other.test" && !over.Load():
			<-r.Context().Done()
		case r.URL.Path == "/robots.txt":
			http.NotFound(rw, r)
		case name == "slow.test":
			http.Redirect(rw, r, "http://other.test:"+port+"/", http.StatusFound)
		default:
			rw.Header().Set("Content-Type", "text/plain")
		}
	}))
	for _, name := range []string{"slow.test", "other.test"} {
		w.name(name, func(int) []string { return []string{"127.0.0.2"} })
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := w.fetcher.Fetch(ctx, fetch.Request{URL: "http://slow.test:" + w.port + "/"})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	over.Store(true)
	_, err = w.fetcher.Fetch(t.Context(), fetch.Request{URL: "http://other.test:" + w.port + "/"})
	require.NoError(t, err)
}

func TestRobotsTxt(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		robots  string
		path    string
		allowed bool
	}{
		{"", "/", true},
		{"User-agent: *\nDisallow: /", "/a", false},
		{"User-agent: *\nDisallow: /", "/robots.txt", true},
		{"User-agent: *\nDisallow:", "/a", true},
		{"Disallow: /", "/a", true}, // of nobody
		{"User-agent: AtlasBot\nAllow: /\n\nUser-agent: *\nDisallow: /", "/a", true},
		{"User-agent: *\nDisallow: /\n\nuser-AGENT: atlasbot/2.0\nDisallow: /b", "/a", true},
		{"User-agent: atlasbot\nDisallow: /b\nUser-agent: x\nDisallow: /\nUser-agent: AtlasBot\nDisallow: /c", "/c", false},
		{"User-agent: atlasbot\nDisallow: /b\nUser-agent: x\nDisallow: /\nUser-agent: AtlasBot\nDisallow: /c", "/b", false},
		{"User-agent: atlasbot\nDisallow: /b\nUser-agent: x\nDisallow: /\nUser-agent: AtlasBot\nDisallow: /c", "/d", true},
		{"User-agent: x\nUser-agent: *\nSitemap: https://example.com\nDisallow: /a", "/a", false},
		{"User-agent: atlasbotter\nDisallow: /", "/a", true},
		{"User-agent: *\nDisallow: /a\nAllow: /a/b", "/a/b/c", true},
		{"User-agent: *\nAllow: /a\nDisallow: /a", "/a", true}, // of equal ones the one that allows
		{"User-agent: *\nDisallow: /*.gif$", "/a/b.gif", false},
		{"User-agent: *\nDisallow: /*.gif$", "/a/b.gif?c", true},
		{"User-agent: *\nDisallow: /a*b*c", "/axxbxxcxx", false},
		{"User-agent: *\nDisallow: /a*b*c", "/acb", true},
		{"User-agent: *\nDisallow: /*?q=", "/search?q=1", false},
		{"User-agent: *\nDisallow: /%7Eada", "/~ada", false},
		{"User-agent: *\nDisallow: /~ada", "/%7eada", false},
		{"User-agent: *\nDisallow: /ü", "/%C3%BC", false},
		{"User-agent: *\nDisallow: /a # comment", "/a", false},
		{"\xef\xbb\xbfUser-agent: *\rDisallow: /a\r\nDisallow: /b", "/b", false},
		{"User-agent : *\nDisallow : /a", "/a", false},
		// An encoded star or dollar is that character and nothing else (RFC 9309, 2.2.3).
		{"User-agent: *\nDisallow: /a-%2A.html", "/a-*.html", false},
		{"User-agent: *\nDisallow: /a-%2a.html", "/a-%2A.html", false},
		{"User-agent: *\nDisallow: /a-%2A.html", "/a-b.html", true},
		{"User-agent: *\nDisallow: /a%24", "/a$", false},
		{"User-agent: *\nDisallow: /a%24", "/a%24b", false},
		{"User-agent: *\nDisallow: /a%24", "/a", true},
		{"User-agent: *\nDisallow: /a$b", "/a$b", false}, // only at the end it is the end
		{"User-agent: *\nDisallow: /a$b", "/a%24b", false},
		{"User-agent: *\nDisallow: /a%24$", "/a$", false},
		{"User-agent: *\nDisallow: /a%24$", "/a$b", true},
		{"User-agent: *\nDisallow: /a$$", "/a$", false},
		{"User-agent: *\nDisallow: /a*", "/a*", false},
		{"User-agent: *\nDisallow: /a*$", "/a?b=$*", false},
		// Stars in a row are one, and a pattern counts as long as a URL can match it.
		{"User-agent: *\nDisallow: **/a***b**$", "/x/a-b-", false},
		{"User-agent: *\nDisallow: /a***b", "/a-c", true},
		{"User-agent: *\nDisallow: /" + strings.Repeat("*", 50_000), "/a", false},
		{"User-agent: *\nDisallow: /" + strings.Repeat("a", 2000), "/" + strings.Repeat("a", 2000), false},
		{"User-agent: *\nDisallow: /" + strings.Repeat("\xff", 600), "/" + strings.Repeat("%ff", 600), false},
		{"User-agent: *\nDisallow: /" + strings.Repeat("%2A", 2000) + "$", "/" + strings.Repeat("*", 2000), false},
		{"User-agent: *\nDisallow: /" + strings.Repeat("%2A*", 2000) + "$", "/" + strings.Repeat("*", 2000), false},
	} {
		u, err := url.Parse("https://example.com" + test.path)
		require.NoError(t, err)
		require.Equal(t, test.allowed, fetch.RobotsAllow(test.robots, "atlasbot", u), "%q %s", test.robots, test.path)
	}
}

// TestAHostIsAskedOneThingAtATime sends many at once to two hosts.
func TestAHostIsAskedOneThingAtATime(t *testing.T) {
	t.Parallel()
	var running, most atomic.Int64
	w := newWorld(t, serve(func(rw http.ResponseWriter, _ *http.Request) {
		most.Store(max(most.Load(), running.Add(1)))
		rw.Header().Set("Content-Type", "text/html")
		_ = http.NewResponseController(rw).Flush()
		running.Add(-1)
	}))
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			_, err := w.fetcher.Fetch(t.Context(), fetch.Request{URL: w.url("/")})
			require.NoError(t, err) //nolint:testifylint // the others go on
		})
	}
	all.Wait()
	require.EqualValues(t, 1, most.Load())
}

// TestAHostRestsBetween has a pause that never ends, so whoever comes second waits until it gives up.
func TestAHostRestsBetween(t *testing.T) {
	t.Parallel()
	robots := "User-agent: *\nCrawl-delay: 5000"
	w := newWorld(t, http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "text/plain")
		_, _ = rw.Write([]byte(robots))
	}), func(cfg *fetch.Config) { cfg.MaxPause = time.Hour })
	_, err := w.fetcher.Fetch(t.Context(), fetch.Request{URL: w.url("/")})
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = w.fetcher.Fetch(ctx, fetch.Request{URL: w.url("/")})
	require.ErrorIs(t, err, context.DeadlineExceeded)
}
