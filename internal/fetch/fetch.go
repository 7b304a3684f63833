package fetch

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Config are a fetcher's limits. Zero values mean the defaults.
type Config struct {
	Policy Policy
	// Contact is where the owner of a server learns who asks; it is added to the User-Agent.
	Contact string

	Timeout      time.Duration // of a page with its redirects, without the waiting for turns; default 30 s
	DialTimeout  time.Duration // default 5 s, for the TLS handshake as well
	HeadTimeout  time.Duration // from the request to the answer's head; default 10 s
	MaxBytes     int64         // of a page, unpacked; default 4 MiB
	MaxRedirects int           // default 5
	Pause        time.Duration // between two requests to a host; default 1 s
	MaxPause     time.Duration // the longest that a robots.txt can ask for; default 10 s
	RobotsTTL    time.Duration // how long a robots.txt counts; default 1 h

	// Resolver and RootCAs are the system's where nil.
	Resolver *net.Resolver
	RootCAs  *x509.CertPool
}

// maxHead bounds the head of an answer.
const maxHead = 64 << 10

// Product is what a robots.txt calls the crawler.
const Product = "AtlasBot"

func (c Config) withDefaults() Config {
	c.Timeout = cmp.Or(c.Timeout, 30*time.Second)
	c.DialTimeout = cmp.Or(c.DialTimeout, 5*time.Second)
	c.HeadTimeout = cmp.Or(c.HeadTimeout, 10*time.Second)
	c.MaxBytes = cmp.Or(c.MaxBytes, 4<<20)
	c.MaxRedirects = cmp.Or(c.MaxRedirects, 5)
	c.Pause = cmp.Or(c.Pause, time.Second)
	c.MaxPause = cmp.Or(c.MaxPause, 10*time.Second)
	c.RobotsTTL = cmp.Or(c.RobotsTTL, time.Hour)
	return c
}

// Request is a page to get. With the ETag or LastModified of an earlier answer the server may say that the page is still the same.
type Request struct {
	URL          string
	ETag         string
	LastModified string
}

// Page is an answer.
type Page struct {
	// URL is where it was found, after redirects.
	URL string
	// NotModified tells that the page is the one that the request knows; then there is no body.
	NotModified bool
	ContentType string
	Body        []byte
	// ETag and LastModified are the server's, for the next request; empty when it has none, or they are too long to keep.
	ETag, LastModified string
}

// Fetcher gets pages. It may be used by many goroutines.
type Fetcher struct {
	cfg       Config
	agent     string
	transport *http.Transport
	hosts     hosts
}

// New makes a fetcher; Close lets its connections go.
func New(cfg Config) *Fetcher {
	f := &Fetcher{cfg: cfg.withDefaults(), agent: Product + "/1.0"}
	if f.cfg.Contact != "" {
		f.agent += " (+" + f.cfg.Contact + ")"
	}
	dialer := &net.Dialer{Timeout: f.cfg.DialTimeout, Resolver: f.cfg.Resolver, KeepAlive: -1, ControlContext: f.control}
	f.transport = &http.Transport{
		// No Proxy: it would be the one who connects, and check nothing.
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, absolute(address))
		},
		TLSClientConfig: &tls.Config{RootCAs: f.cfg.RootCAs, MinVersion: tls.VersionTLS12}, TLSHandshakeTimeout: f.cfg.DialTimeout,
		ResponseHeaderTimeout: f.cfg.HeadTimeout, MaxResponseHeaderBytes: maxHead, ForceAttemptHTTP2: true,
		MaxIdleConns: 50, MaxIdleConnsPerHost: 1, IdleConnTimeout: 15 * time.Second,
	}
	return f
}

// Close lets idle connections go.
func (f *Fetcher) Close() { f.transport.CloseIdleConnections() }

// control is called with the address that a connection is about to be made to, whatever it was resolved from: the one place that nothing gets past.
func (f *Fetcher) control(_ context.Context, network, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil || !strings.HasPrefix(network, "tcp") {
		return permanent(CodeBlockedAddress, "the host is not on the public Internet")
	}
	return f.cfg.Policy.check(to)
}

// absolute ends a name with the root's dot: a resolver must not try it within the search domains of the cluster.
func absolute(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	if _, err := netip.ParseAddr(host); err == nil || strings.HasSuffix(host, ".") {
		return address
	}
	return net.JoinHostPort(host+".", port)
}

// Fetch gets a page. What is wrong with it, or with the way to it, is an *Error; other errors are ctx's.
func (f *Fetcher) Fetch(ctx context.Context, r Request) (*Page, error) {
	left := f.cfg.Timeout
	raw := r.URL
	for hop := 0; ; hop++ {
		if hop > f.cfg.MaxRedirects {
			return nil, permanent(CodeTooManyRedirects, "more than %d redirects", f.cfg.MaxRedirects)
		}
		u, err := f.cfg.Policy.target(raw)
		if err != nil {
			return nil, err
		}
		page, next, err := f.hop(ctx, u, r, &left)
		switch {
		case err != nil && ctx.Err() != nil:
			return nil, ctx.Err()
		case err != nil:
			return nil, failed(err)
		case page != nil:
			return page, nil
		}
		raw = next
	}
}

// hop asks one host for a page, when its robots.txt lets it. It returns the page, or where the host says that it is.
func (f *Fetcher) hop(ctx context.Context, u *url.URL, r Request, left *time.Duration) (_ *Page, next string, err error) {
	one, err := f.hosts.acquire(ctx, u.Scheme+"://"+u.Host)
	if err != nil {
		return nil, "", err
	}
	asked := false
	defer func() {
		pause := time.Duration(0)
		if asked {
			pause = max(f.cfg.Pause, min(one.robots.delay, f.cfg.MaxPause))
		}
		f.hosts.release(one, pause)
	}()
	started := time.Now()
	ctx, cancel := context.WithTimeout(ctx, *left)
	defer cancel()
	defer func() { *left -= time.Since(started) }()
	if err := f.mayAsk(ctx, one, u); err != nil {
		return nil, "", err
	}
	asked = true
	header := http.Header{"Accept": {"text/html,application/xhtml+xml,text/plain;q=0.5"}}
	if r.ETag != "" {
		header.Set("If-None-Match", r.ETag)
	}
	if r.LastModified != "" {
		header.Set("If-Modified-Since", r.LastModified)
	}
	res, err := f.get(ctx, u, header)
	if err != nil {
		return nil, "", err
	}
	defer func() { _ = res.Body.Close() }()
	if next, redirected, err := redirect(u, res); redirected || err != nil {
		return nil, next, err
	}
	page := &Page{URL: u.String(), ETag: validator(res, "ETag"), LastModified: validator(res, "Last-Modified")}
	if res.StatusCode == http.StatusNotModified && (r.ETag != "" || r.LastModified != "") {
		page.NotModified = true
		return page, "", nil
	}
	if res.StatusCode != http.StatusOK {
		return nil, "", statusError(res)
	}
	if page.ContentType, err = contentType(res); err != nil {
		return nil, "", err
	}
	page.Body, err = read(res, f.cfg.MaxBytes)
	return page, "", err
}

func (f *Fetcher) get(ctx context.Context, u *url.URL, header http.Header) (*http.Response, error) {
	header.Set("User-Agent", f.agent)
	req := (&http.Request{Method: http.MethodGet, URL: u, Host: u.Host, Header: header, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}).WithContext(ctx)
	return f.transport.RoundTrip(req) // not a client's Do: no cookies, and redirects are followed here
}

// redirect is where an answer says that the page is.
func redirect(u *url.URL, res *http.Response) (next string, redirected bool, err error) {
	switch res.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
	default:
		return "", false, nil
	}
	to, err := u.Parse(res.Header.Get("Location"))
	if err != nil || res.Header.Get("Location") == "" {
		return "", false, permanent(CodeBadResponse, "the server redirects to no URL")
	}
	return to.String(), true, nil
}

// validator is an ETag or a time of change, as the server wrote it.
func validator(res *http.Response, name string) string {
	value := res.Header.Get(name)
	if len(value) > 500 || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }) {
		return ""
	}
	return value
}

var types = []string{"text/html", "application/xhtml+xml", "text/plain"}

// contentType refuses what is no text. Without a word from the server the first bytes tell, when they are read.
func contentType(res *http.Response) (string, error) {
	given := res.Header.Get("Content-Type")
	media, _, err := mime.ParseMediaType(given)
	if given == "" || (err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter)) || !slices.Contains(types, media) {
		return "", permanent(CodeUnsupportedType, "the server answered with %s; possible are %s", cmp.Or(shortened(media), "no known type"), strings.Join(types, ", "))
	}
	return given, nil
}

func shortened(text string) string { return text[:min(len(text), 100)] }

// read reads a body that has at most limit bytes, unpacked: what is packed is bounded with it.
func read(res *http.Response, limit int64) ([]byte, error) {
	if encoding := res.Header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return nil, permanent(CodeBadResponse, "the server answered in an encoding that was not asked for")
	}
	if res.ContentLength > limit {
		return nil, tooLarge(limit)
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read the body: %w", err)
	}
	if int64(len(body)) > limit {
		return nil, tooLarge(limit)
	}
	return body, nil
}

func tooLarge(limit int64) error {
	return permanent(CodeTooLarge, "the page has more than %d bytes", limit)
}
