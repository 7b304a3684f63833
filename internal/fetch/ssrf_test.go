package fetch_test

import (
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/fetch"
)

// inside are hosts that are, or a careless resolver takes for, loopback, private or otherwise special addresses.
var inside = []string{
	// Loopback as browsers, resolvers and libraries write it.
	"127.0.0.1", "127.0.0.53", "127.255.255.254", "127.1", "127.0.1", "2130706433", "017700000001", "0x7f000001", "0x7f.1", "0x7f.0x0.0x0.0x1",
	"0177.0.0.1", "0177.0.0.01", "0177.1", "127.0.0.1.", "127.1.", "2130706433.", "0", "0.0.0.0", "00000000.0.0.0", "127.000.000.001", "%31%32%37.0.0.1",
	"127%2e0%2e0%2e1", "１２７.０.０.１", "①②⑦.⓪.⓪.①", "127。0。0。1", "127．0．0．1", "127｡0｡0｡1", "１２７。１", "0X7F.1", "4294967297", "340282366920938463463374607431768211457",
	// Names of it.
	"localhost", "LOCALHOST", "localhost.", "ｌｏｃａｌｈｏｓｔ", "ip6-localhost", "localhost.localdomain", "foo.localhost", "inside.example.com",
	"kubernetes.default.svc.cluster.local", "metadata.google.internal", "127.0.0.1.nip.io", "postgres",
	// IPv6.
	"[::1]", "[0:0:0:0:0:0:0:1]", "[0000::0001]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:ffff:127.0.0.1]", "[::127.0.0.1]", "[::7f00:1]",
	"[64:ff9b::127.0.0.1]", "[64:ff9b::7f00:1]", "[64:ff9b:1::127.0.0.1]", "[2002:7f00:1::]", "[2002:7f00:0001::1]", "[2001:0:7f00:1::]",
	"[2001:0:4136:e378:8000:63bf:80ff:fffe]", "[::ffff:0:127.0.0.1]", "[fe80::1]", "[fe80::1%25lo]", "[::1%25lo]", "[::1%251]", "[fec0::1]", "[fc00::1]", "[fd00:ec2::254]", "[ff02::1]", "[100::1]",
	"[2001:db8::1]", "[3fff::1]", "[2001:2::1]", "[::ffff:169.254.169.254]", "[64:ff9b::a9fe:a9fe]", "[2002:a9fe:a9fe::1]",
	// Private, link-local with the clouds' metadata, shared, special.
	"10.0.0.1", "10.1", "167772161", "012.0.0.1", "0xa.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.0.1", "192.168.1", "3232235521", "0300.0250.0.1",
	"169.254.169.254", "2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "169.254.43518", "100.100.100.200", "100.64.0.1", "168.63.129.16", "192.0.0.192",
	"192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "192.88.99.1",
}

func TestNoSpellingOfAnInsideHostIsReached(t *testing.T) {
	t.Parallel()
	w := newWorld(t, html("outside"))
	for _, host := range inside {
		for _, scheme := range []string{"http", "https"} {
			known := w.refused(t, scheme+"://"+host+":"+w.port+"/")
			require.Contains(t, []string{fetch.CodeBlockedAddress, fetch.CodeInvalidURL}, known.Code, host)
			require.False(t, known.Retry)
		}
	}
	// The server that is allowed shows that it is the address that is refused.
	page, err := w.fetcher.Fetch(t.Context(), fetch.Request{URL: w.url("/")})
	require.NoError(t, err)
	require.Equal(t, "outside", string(page.Body))
}

func TestNoRedirectLeadsInside(t *testing.T) {
	t.Parallel()
	w := newWorld(t, redirects())
	for i, host := range inside {
		status := []string{"301", "302", "303", "307", "308"}[i%5]
		to := "http://" + host + ":" + w.port + "/"
		_ = w.refused(t, w.url("/to?status="+status+"&url="+url.QueryEscape(to)))
		// By way of another redirect.
		_ = w.refused(t, w.url("/to?status=302&url="+url.QueryEscape("/to?status="+status+"&url="+url.QueryEscape(to))))
	}
	for _, to := range []string{
		"//127.0.0.1:" + w.port + "/", "//[::1]:" + w.port, "file:///etc/passwd", "gopher://127.0.0.1:" + w.port + "/", "ftp://127.0.0.1:" + w.port,
		"http:127.0.0.1:" + w.port, "http://user:password@127.0.0.1:" + w.port + "/", "http://outside@127.0.0.1:" + w.port + "/",
		"http://127.0.0.2:" + w.port + "@127.0.0.1:" + w.port + "/", "http://127.0.0.1:" + w.port + "\\@127.0.0.2/", "\\\\127.0.0.1:" + w.port + "\\", "data:text/html,x", "javascript:1",
	} {
		_ = w.refused(t, w.url("/to?status=302&url="+url.QueryEscape(to)))
	}
}

// redirects sends on to where the query says.
func redirects() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/robots.txt", http.NotFoundHandler())
	mux.HandleFunc("/to", func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Location", r.URL.Query().Get("url"))
		status, _ := strconv.Atoi(r.URL.Query().Get("status"))
		rw.WriteHeader(status)
	})
	return mux
}

func TestARedirectFromTLSToPlainLeadsNotInsideEither(t *testing.T) {
	t.Parallel()
	secure := httptest.NewUnstartedServer(redirects())
	roots := x509.NewCertPool()
	w := newWorld(t, html("outside"), func(cfg *fetch.Config) {
		cfg.RootCAs = roots
		cfg.Policy.Allow = append(cfg.Policy.Allow, netip.MustParsePrefix("127.0.0.3/32"))
	})
	listener, err := listenAt("127.0.0.3")
	require.NoError(t, err)
	_ = secure.Listener.Close()
	secure.Listener = listener
	secure.StartTLS()
	t.Cleanup(secure.Close)
	roots.AddCert(secure.Certificate())
	_, port, _ := strings.Cut(secure.Listener.Addr().String(), ":")
	w.name("example.com", func(int) []string { return []string{"127.0.0.3"} }) // what the certificate is for
	base := "https://example.com:" + port + "/to?status=302&url="
	page, err := w.fetcher.Fetch(t.Context(), fetch.Request{URL: base + url.QueryEscape(w.url("/"))})
	require.NoError(t, err)
	require.Equal(t, "outside", string(page.Body))
	for _, host := range []string{"127.0.0.1", "[::1]", "inside.example.com", "127.1"} {
		_ = w.refused(t, base+url.QueryEscape("http://"+host+":"+w.port+"/"))
	}
	// A certificate of another name is none.
	w.name("other.test", func(int) []string { return []string{"127.0.0.3"} })
	require.Equal(t, fetch.CodeTLS, w.refused(t, "https://other.test:"+port+"/").Code)
}

func TestARobotsTxtLeadsNotInside(t *testing.T) {
	t.Parallel()
	for to, code := range map[string]string{
		"http://127.0.0.1:PORT/": fetch.CodeBlockedAddress, "http://[::1]:PORT/": fetch.CodeBlockedAddress, "http://inside.test:PORT/": fetch.CodeBlockedAddress,
		"http://user@127.0.0.2:PORT/": fetch.CodeInvalidURL, "file:///etc/passwd": fetch.CodeInvalidURL,
	} {
		w := newWorld(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			_, port, _ := strings.Cut(r.Host, ":")
			http.Redirect(rw, r, strings.ReplaceAll(to, "PORT", port), http.StatusFound)
		}))
		require.Equal(t, code, w.refused(t, w.url("/")).Code, to)
	}
}

// TestAResolverThatChangesItsAnswer rebinds a name: it is public when it is looked up first, and inside from then on.
func TestAResolverThatChangesItsAnswer(t *testing.T) {
	t.Parallel()
	for _, then := range [][]string{{"127.0.0.1"}, {"::1"}, {"127.0.0.1", "::1"}, {"::ffff:127.0.0.1"}} {
		for good := 1; good <= 2; good++ {
			// The server ends each connection, so that each request looks the name up again: for robots.txt, and for the page.
			w := newWorld(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				rw.Header().Set("Connection", "close")
				if r.URL.Path == "/robots.txt" {
					rw.WriteHeader(http.StatusNotFound)
					return
				}
				http.Redirect(rw, r, "/again", http.StatusFound)
			}))
			w.name("rebind.test", func(n int) []string {
				if n <= good {
					return []string{"127.0.0.2"}
				}
				return then
			})
			known := w.refused(t, "http://rebind.test:"+w.port+"/")
			require.Equal(t, fetch.CodeBlockedAddress, known.Code)
			require.NotContains(t, known.Message, "127.0.0.1", "an address inside is nobody's business")
			require.Greater(t, w.questions("rebind.test.TypeA"), good, "the name was looked up again")
		}
	}
}

// TestAMixedAnswer has a name with addresses outside and inside: only the former are dialled, in whatever order they come, and even if nobody is there.
func TestAMixedAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, html("outside"), func(cfg *fetch.Config) {
		cfg.Policy.Allow = append(cfg.Policy.Allow, netip.MustParsePrefix("127.0.0.9/32"))
	})
	for name, addresses := range map[string][]string{
		"a.test": {"127.0.0.1", "127.0.0.2"}, "b.test": {"127.0.0.2", "127.0.0.1"}, "c.test": {"::1", "127.0.0.2"}, "d.test": {"127.0.0.1", "::1", "127.0.0.2"},
	} {
		w.name(name, func(int) []string { return addresses })
		page, err := w.fetcher.Fetch(t.Context(), fetch.Request{URL: "http://" + name + ":" + w.port + "/"})
		require.NoError(t, err, name)
		require.Equal(t, "outside", string(page.Body))
		require.Zero(t, w.canary.Load())
	}
	w.name("gone.test", func(int) []string { return []string{"127.0.0.9", "127.0.0.1", "::1"} })
	_ = w.refused(t, "http://gone.test:"+w.port+"/")
}

func TestCredentialsAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, html("outside"))
	for _, user := range []string{"user:password@", "user@", ":@", "127.0.0.2:80@", "%31@"} {
		require.Equal(t, fetch.CodeInvalidURL, w.refused(t, "http://"+user+"127.0.0.1:"+w.port+"/").Code)
		require.Equal(t, fetch.CodeInvalidURL, w.refused(t, "http://"+user+"127.0.0.2:"+w.port+"/").Code)
	}
}

func TestNoProxyOfTheEnvironmentIsUsed(t *testing.T) {
	w := newWorld(t, html("outside"))
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"} {
		t.Setenv(name, "http://127.0.0.1:"+w.port)
	}
	w.name("page.test", func(int) []string { return []string{"127.0.0.2"} })
	page, err := w.fetcher.Fetch(t.Context(), fetch.Request{URL: "http://page.test:" + w.port + "/"})
	require.NoError(t, err)
	require.Equal(t, "outside", string(page.Body))
	require.Zero(t, w.canary.Load())
}

func TestOnlyPortsOfWebServers(t *testing.T) {
	t.Parallel()
	// A policy that takes the server's address for a public one: nothing here is on the Internet.
	policy := fetch.Policy{}
	for port, reachable := range map[uint16]bool{80: true, 443: true, 8080: true, 8443: true, 22: false, 25: false, 6379: false, 9200: false, 10250: false} {
		err := fetch.Check(policy, netip.AddrPortFrom(netip.MustParseAddr("9.9.9.9"), port))
		require.Equal(t, reachable, err == nil, port)
	}
	require.NoError(t, fetch.Check(fetch.Policy{Allow: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}}, netip.MustParseAddrPort("10.1.2.3:9000")))
	require.Equal(t, "9.9.9.9:22", fetch.Absolute("9.9.9.9:22"))
	require.Equal(t, "[2001:db8::1]:22", fetch.Absolute("[2001:db8::1]:22"))
	require.Equal(t, "example.com.:22", fetch.Absolute("example.com:22"), "no search domain is tried")
	w := newWorld(t, html("outside"))
	require.Equal(t, fetch.CodeBlockedPort, w.refused(t, "http://9.9.9.9:22/").Code)
}

func TestPolicy(t *testing.T) {
	t.Parallel()
	allow := func(deny string, allow ...string) fetch.Policy {
		p := fetch.Policy{}
		for _, network := range allow {
			p.Allow = append(p.Allow, netip.MustParsePrefix(network))
		}
		if deny != "" {
			p.Deny = []netip.Prefix{netip.MustParsePrefix(deny)}
		}
		return p
	}
	for _, test := range []struct {
		policy    fetch.Policy
		address   string
		reachable bool
	}{
		{allow(""), "93.184.216.34", true},
		{allow(""), "2606:4700::6810:84e5", true},
		{allow(""), "::ffff:93.184.216.34", true},
		{allow(""), "::ffff:10.0.0.1", false},
		{allow(""), "64:ff9b::5db8:d822", false}, // public within, but where the gateway leads is the operator's to say
		{allow("", "64:ff9b::/96"), "64:ff9b::5db8:d822", true},
		{allow("", "64:ff9b::/96"), "64:ff9b::7f00:1", false},
		{allow("", "64:ff9b::/96", "10.0.0.0/8"), "64:ff9b::a00:1", true},
		{allow("", "10.0.0.0/8"), "10.9.9.9", true},
		{allow("", "10.0.0.0/8"), "::ffff:10.9.9.9", true},
		{allow("10.9.0.0/16", "10.0.0.0/8"), "10.9.9.9", false},
		{allow("93.184.0.0/16"), "93.184.216.34", false},
		{allow("93.184.0.0/16"), "::ffff:93.184.216.34", false},
		{allow("93.184.0.0/16", "64:ff9b::/96"), "64:ff9b::5db8:d822", false},
		{allow("", "::/0", "0.0.0.0/0"), "fe80::1%eth0", false},
	} {
		err := fetch.Check(test.policy, netip.AddrPortFrom(netip.MustParseAddr(test.address), 443))
		require.Equal(t, test.reachable, err == nil, test.address)
	}
}

func TestTheWholeTimeIsBounded(t *testing.T) {
	t.Parallel()
	stop := make(chan struct{})
	w := newWorld(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/robots.txt" {
			rw.WriteHeader(http.StatusNotFound)
			return
		}
		rw.Header().Set("Content-Type", "text/html")
		for { // a byte now and then, for ever
			if _, err := rw.Write([]byte("x")); err != nil {
				return
			}
			_ = http.NewResponseController(rw).Flush()
			select {
			case <-stop:
				return
			case <-r.Context().Done():
				return
			case <-time.After(time.Millisecond):
			}
		}
	}), func(cfg *fetch.Config) { cfg.Timeout = 50 * time.Millisecond })
	t.Cleanup(func() { close(stop) })
	known := w.refused(t, w.url("/"))
	require.Equal(t, fetch.CodeTimeout, known.Code)
	require.True(t, known.Retry)
}
