package sourceurl_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/sourceurl"
)

func TestCanonical(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ raw, want string }{
		{"http://example.com", "http://example.com/"},
		{"HTTPS://EXAMPLE.com:443/", "https://example.com/"},
		{"http://example.com:0080/a", "http://example.com/a"},
		{"http://example.com:/a", "http://example.com/a"},
		{"https://example.com:80/a", "https://example.com:80/a"},
		{"http://example.com./a", "http://example.com/a"},
		{"http://my_host.example/", "http://my_host.example/"},
		{"http://Bücher.example/ü", "http://xn--bcher-kva.example/%C3%BC"},
		{"http://xn--bcher-kva.example/%c3%bc", "http://xn--bcher-kva.example/%C3%BC"},
		{"http://faß.example", "http://xn--fa-hia.example/"},
		{"http://ｅｘａｍｐｌｅ。com/", "http://example.com/"},
		{"http://[2001:DB8:0:0::1]:80/", "http://[2001:db8::1]/"},
		{"http://192.0.2.1:8080/", "http://192.0.2.1:8080/"},
		{"http://a.b/a/./b/../c/", "http://a.b/a/c/"},
		{"http://a.b/../../x", "http://a.b/x"},
		{"http://a.b/a/..", "http://a.b/"},
		{"http://a.b/a/b/.", "http://a.b/a/b/"},
		{"http://a.b/%2e%2E/x", "http://a.b/x"},
		{"http://a.b//a//b", "http://a.b//a//b"},
		{"http://a.b/%7Euser/%41%2f%2F", "http://a.b/~user/A%2F%2F"},
		{"http://a.b/a b|c\\d", "http://a.b/a%20b%7Cc%5Cd"},
		{"http://a.b/?", "http://a.b/"},
		{"http://a.b/#top", "http://a.b/"},
		{"http://a.b/#!/page", "http://a.b/"},
		{"http://a.b?b=2&a=1&b=1", "http://a.b/?b=2&a=1&b=1"},
		{"http://a.b/?a=1&utm_source=x&b=%e4&fbclid=y&UTM_Medium&utm%5Fterm=1", "http://a.b/?a=1&b=%E4"},
		{"http://a.b/?gclid=1", "http://a.b/"},
		{"http://a.b/?q=a+b%20c/?[1]", "http://a.b/?q=a+b%20c/?%5B1%5D"},
		{"http://a.b/?100%", "http://a.b/?100%25"},
		{"http://a.b/?a&&b&", "http://a.b/?a&&b&"},
		{"http://a.b/?utms=1&_gat=2", "http://a.b/?utms=1&_gat=2"},
	} {
		got, err := sourceurl.Canonical(tt.raw)
		require.NoError(t, err, tt.raw)
		require.Equal(t, tt.want, got)
		again, err := sourceurl.Canonical(got)
		require.NoError(t, err, got)
		require.Equal(t, got, again)
	}
}

func TestNotCanonical(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		raw  string
		want error
	}{
		{"", sourceurl.ErrNotHTTP},
		{"example.com", sourceurl.ErrNotHTTP},
		{"//example.com", sourceurl.ErrNotHTTP},
		{"ftp://example.com", sourceurl.ErrNotHTTP},
		{"http:example.com", sourceurl.ErrNotHTTP},
		{"javascript:alert(1)", sourceurl.ErrNotHTTP},
		{"http://a.b/%zz", sourceurl.ErrNotHTTP},
		{"http://a.b/\x00", sourceurl.ErrNotHTTP},
		{"http://a.b:port/", sourceurl.ErrNotHTTP},
		{"http://", sourceurl.ErrHost},
		{"http:///path", sourceurl.ErrHost},
		{"http://:80", sourceurl.ErrHost},
		{"http://.", sourceurl.ErrHost},
		{"http://a..b", sourceurl.ErrHost},
		{"http://a.b..", sourceurl.ErrHost},
		{"http://a*b/", sourceurl.ErrHost},
		{"http://" + strings.Repeat("a", 64) + ".b", sourceurl.ErrHost},
		{"http://xn--a/", sourceurl.ErrHost},
		{"http://a.b:0/", sourceurl.ErrHost},
		{"http://a.b:65536/", sourceurl.ErrHost},
		{"http://[::1%25eth0]/", sourceurl.ErrHost},
		{"http://[v1.a]/", sourceurl.ErrNotHTTP},
		{"http://user:password@a.b/", sourceurl.ErrCredentials},
		{"http://user@a.b/", sourceurl.ErrCredentials},
		{"http://@a.b/", sourceurl.ErrCredentials},
		{"http://a.b/" + strings.Repeat("a", sourceurl.MaxLength), sourceurl.ErrTooLong},
		{"http://a.b/" + strings.Repeat("ü", 1000), sourceurl.ErrTooLong},
	} {
		_, err := sourceurl.Canonical(tt.raw)
		require.ErrorIs(t, err, tt.want, tt.raw)
	}
	longest, err := sourceurl.Canonical("http://a.b/" + strings.Repeat("a", sourceurl.MaxLength-len("http://a.b/")))
	require.NoError(t, err)
	require.Len(t, longest, sourceurl.MaxLength)
}

func TestKey(t *testing.T) {
	t.Parallel()
	require.Len(t, sourceurl.Key("http://a.b/"), 32)
	require.NotEqual(t, sourceurl.Key("http://a.b/"), sourceurl.Key("http://a.b/?"))
}

func FuzzCanonical(f *testing.F) {
	for _, seed := range []string{
		"http://example.com", "HTTPS://Bücher.example:443/%7Ea/../b/./%2e%2E?utm_source=x&a=%e4#top", "http://[::FFFF:192.0.2.1]:8080//..//?", "http://user:p@h/",
		"http://xn--ls8h.la/", "http://a.b/%25%32%35?%25zz=100%&&", "http://ａ。b./\\|", "http://a.b:00443/;a=1:@!$&'()*+,?/?",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		canonical, err := sourceurl.Canonical(raw)
		if err != nil {
			return
		}
		if len(canonical) > sourceurl.MaxLength || strings.Contains(strings.Split(canonical, "/")[2], "@") {
			t.Fatalf("Canonical(%q) = %q", raw, canonical)
		}
		for _, c := range []byte(canonical) {
			if c <= ' ' || c >= 0x7f || strings.IndexByte("#\"<>\\^`{|}", c) >= 0 {
				t.Fatalf("Canonical(%q) = %q, which has %q", raw, canonical, c)
			}
		}
		again, err := sourceurl.Canonical(canonical)
		if err != nil || again != canonical {
			t.Fatalf("Canonical(%q) = %q, whose own form is %q (%v)", raw, canonical, again, err)
		}
	})
}
