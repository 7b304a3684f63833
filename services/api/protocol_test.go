package api_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/uuid"
	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/services/api"
)

// described is an operation of the specification and a path at which it can be asked for.
type described struct {
	id, method, template, path string
	methods                    []string // every method at this path
	answers                    []string // the media types of success
	public                     bool
}

// operations are all of the specification, so that a new one is tested as soon as it is there. ids are what to write for {id} in paths that
// start so.
func operations(t *testing.T, ids map[string]string) []described {
	t.Helper()
	document, err := openapi3.NewLoader().LoadFromFile("openapi.yaml")
	require.NoError(t, err)
	var out []described
	for template, item := range document.Paths.Map() {
		path := strings.NewReplacer("{version}", "1", "{tag_id}", uuid.Nil.String(), "{user_id}", uuid.Nil.String()).Replace(template)
		for prefix, id := range ids {
			if strings.HasPrefix(path, prefix) {
				path = strings.ReplaceAll(path, "{id}", id)
			}
		}
		path = strings.ReplaceAll(path, "{id}", uuid.Nil.String())
		methods := []string{"OPTIONS"}
		for method := range item.Operations() {
			methods = append(methods, method)
			if method == "GET" {
				methods = append(methods, "HEAD")
			}
		}
		for method, value := range item.Operations() {
			op := described{id: value.OperationID, method: method, template: template, path: path, methods: methods}
			op.public = value.Security != nil && len(*value.Security) == 0
			for status, response := range value.Responses.Map() {
				for mediaType := range response.Value.Content {
					if strings.HasPrefix(status, "2") && !slices.Contains(op.answers, mediaType) {
						op.answers = append(op.answers, mediaType)
					}
				}
			}
			out = append(out, op)
		}
	}
	require.Greater(t, len(out), 40)
	return out
}

func allowed(a answer) []string { return strings.Split(a.header.Get("Allow"), ", ") }

func TestMethodsOfEveryPath(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	c := b.collection(ada, "c")
	item := b.item(ada, c, "one", "tag")
	search := map[string]string{"/v1/search/suggest": "?q=x"}
	for _, op := range operations(t, map[string]string{"/v1/collections/": c, "/v1/items/": item}) {
		a := b.call(nil, "OPTIONS", op.path, nil).is(204)
		require.ElementsMatch(t, op.methods, allowed(a), op.template)
		require.Empty(t, a.raw)
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "BREW"} {
			if slices.Contains(op.methods, method) {
				continue
			}
			a := b.call(ada, method, op.path, nil)
			require.Equal(t, 405, a.status, "%s %s", method, op.path)
			require.ElementsMatch(t, op.methods, allowed(a), "%s %s", method, op.path)
			if method != "HEAD" {
				a.problem(405, "method-not-allowed")
			}
		}
		if op.method != "GET" {
			continue
		}
		get, head := b.call(ada, "GET", op.path+search[op.path], nil), b.call(ada, "HEAD", op.path+search[op.path], nil)
		require.Equal(t, get.status, head.status, op.id)
		require.Empty(t, head.raw, op.id)
		if length := head.header.Get("Content-Length"); length != "" {
			require.Equal(t, fmt.Sprint(len(get.raw)), length, op.id)
		}
		for name := range get.header {
			if !slices.Contains([]string{"Date", "Traceparent", "X-Request-Id", "Content-Length"}, name) {
				require.Equal(t, get.header.Values(name), head.header.Values(name), "%s: %s", op.id, name)
			}
		}
		require.Equal(t, b.call(nil, "GET", op.path, nil).status, b.call(nil, "HEAD", op.path, nil).status, op.id)
	}
	for _, path := range []string{"/v1", "/v1/nothing", "/", "/v1/items/" + item + "/"} {
		for _, method := range []string{"GET", "POST", "OPTIONS", "BREW"} {
			b.call(nil, method, path, nil).problem(404, "not-found")
		}
		require.Equal(t, 404, b.call(nil, "HEAD", path, nil).status)
	}
	require.NotEmpty(t, b.call(nil, "HEAD", "/livez", nil).header.Get("Content-Length"))
	require.Equal(t, 200, b.call(nil, "HEAD", "/openapi.json", nil).status)
	require.Equal(t, 200, b.call(nil, "HEAD", "/docs", nil).status)
}

func TestAcceptOfEveryOperation(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	for _, op := range operations(t, nil) {
		if op.id == "watchJob" { // no application/*; TestAStreamTellsOfAJobUntilItIsFinished
			continue
		}
		refused := map[string]bool{
			"text/html": true, "text/*, image/png;q=0.9": true, "*/*;q=0": true, "application/*;q=0, text/html": true, "application/problem+json": true,
			"*/*": false, "application/*": false, "text/html, *;q=.2": false, "application/*;q=0.1, text/*": false, "garbage": false, "": false,
			"APPLICATION/*": false, ";;;,,,": false, "text/html;q=x": false,
		}
		for _, answer := range op.answers {
			refused[answer+";q=0, "+strings.Join(op.answers, ";q=0, ")+";q=0, */*"] = true
			refused[answer+"; charset=utf-8"] = false
			refused[answer+";q=0.001, */*;q=0"] = false
			refused["application/*;q=0, "+answer] = false
		}
		for accept, want := range refused {
			a := b.call(ada, op.method, op.path, nil, header("Accept", accept))
			if !want || len(op.answers) == 0 {
				require.NotEqual(t, 406, a.status, "%s %q", op.id, accept)
				continue
			}
			a.problem(406, "not-acceptable")
			for _, offer := range op.answers {
				require.Contains(t, a.body["detail"], offer)
			}
		}
	}
	two := func(r *http.Request) { r.Header["Accept"] = []string{"text/html", "application/json"} }
	b.call(ada, "GET", "/v1/me", nil, two).is(200)
}

// TestEveryAnswerCanBeTraced also asks for what is not there.
func TestEveryAnswerCanBeTraced(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	for _, op := range append(operations(t, nil), described{method: "GET", path: "/nothing"}, described{method: "OPTIONS", path: "/v1/items"}) {
		for _, user := range []*account{nil, ada} {
			a := b.call(user, op.method, op.path, nil, header("traceparent", "00-"+trace+"-00f067aa0ba902b7-01"))
			require.Regexp(t, "^00-"+trace+"-[0-9a-f]{16}-01$", a.header.Get("traceparent"), op.id)
			require.NotContains(t, a.header.Get("traceparent"), "00f067aa0ba902b7", "a span of its own")
			require.Equal(t, trace, a.header.Get("X-Request-Id"), op.id)
			a = b.call(user, op.method, op.path, nil, header("traceparent", "garbage"))
			require.Regexp(t, "^00-[0-9a-f]{32}-[0-9a-f]{16}-00$", a.header.Get("traceparent"), op.id)
		}
	}
}

func TestCORS(t *testing.T) {
	t.Parallel()
	b := setup(t)
	app := header("Origin", "https://app.example.com")
	preflight := header("Access-Control-Request-Method", "PATCH")
	a := b.call(nil, "OPTIONS", "/v1/items/"+uuid.NewString(), nil, app, preflight).is(204)
	require.Empty(t, a.header.Get("Access-Control-Allow-Origin"), "off unless it is asked for")
	require.NotContains(t, a.header.Values("Vary"), "Origin")

	some := setupWith(t, b.pool, nil, func(c *api.Config) { c.CORSOrigins = []string{"https://app.example.com", "http://localhost:3000"} })
	every := setupWith(t, b.pool, nil, func(c *api.Config) { c.CORSOrigins = []string{"*"} })
	for _, op := range operations(t, nil) {
		for _, tt := range []struct {
			b             *testBundle
			origin, allow string
		}{
			{some, "https://app.example.com", "https://app.example.com"},
			{some, "http://localhost:3000", "http://localhost:3000"},
			{some, "https://evil.example.com", ""},
			{some, "https://app.example.com.evil.example", ""},
			{some, "null", ""},
			{every, "https://anything.example", "*"},
			{every, "null", "*"},
		} {
			a := tt.b.call(nil, "OPTIONS", op.path, nil, header("Origin", tt.origin), header("Access-Control-Request-Method", op.method)).is(204)
			require.Equal(t, tt.allow, a.header.Get("Access-Control-Allow-Origin"), op.id)
			require.Equal(t, tt.b == some, slices.Contains(a.header.Values("Vary"), "Origin"))
			if tt.allow != "" {
				require.Contains(t, a.header.Get("Access-Control-Allow-Methods"), op.method)
				for _, name := range []string{"Authorization", "Content-Type", "If-Match", "Idempotency-Key"} {
					require.Contains(t, a.header.Get("Access-Control-Allow-Headers"), name)
				}
			}
			require.Empty(t, a.header.Get("Access-Control-Allow-Credentials"))
			a = tt.b.call(nil, op.method, op.path, nil, header("Origin", tt.origin)) // refused answers can be read as well
			require.Equal(t, tt.allow, a.header.Get("Access-Control-Allow-Origin"), op.id)
			require.Equal(t, tt.allow != "", strings.Contains(a.header.Get("Access-Control-Expose-Headers"), "RateLimit"), op.id)
		}
	}
	some.call(nil, "OPTIONS", "/v1/nothing", nil, app, preflight).problem(404, "not-found")
	require.Empty(t, some.call(nil, "GET", "/v1/me", nil).header.Get("Access-Control-Allow-Origin"), "no page asks")
}

// raw is call without Go's own decompression.
func (b *testBundle) rawCall(user *account, method, path, acceptEncoding string) (*http.Response, []byte) {
	b.t.Helper()
	request, err := http.NewRequestWithContext(b.t.Context(), method, b.server.URL+path, nil)
	require.NoError(b.t, err)
	if acceptEncoding != "" {
		request.Header.Set("Accept-Encoding", acceptEncoding)
	}
	if user != nil {
		request.Header.Set("Authorization", "Bearer "+user.token)
	}
	response, err := (&http.Transport{DisableCompression: true}).RoundTrip(request)
	require.NoError(b.t, err)
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	require.NoError(b.t, err)
	return response, content
}

func TestCompression(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	c := b.collection(ada, "c")
	long := b.call(ada, "POST", "/v1/items", map[string]any{"collection_id": c, "title": "t", "content": strings.Repeat("Atlas. ", 3000)}).is(201).id()
	short := b.item(ada, c, "short")
	_, plain := b.rawCall(ada, "GET", "/v1/items/"+long, "")
	for _, tt := range []struct{ accept, want string }{
		{"gzip", "gzip"},
		{"zstd", "zstd"},
		{"gzip, zstd", "zstd"},
		{"gzip;q=1, zstd;q=0.5", "gzip"},
		{"gzip;q=0, zstd;q=0", ""},
		{"br", ""},
		{"identity", ""},
		{"", ""},
		{"GZIP", "gzip"},
		{"zstd;q=0, gzip;q=0.1", "gzip"},
		{";;;,,,\"", ""},
	} {
		response, content := b.rawCall(ada, "GET", "/v1/items/"+long, tt.accept)
		require.Equal(t, 200, response.StatusCode)
		require.Equal(t, tt.want, response.Header.Get("Content-Encoding"), tt.accept)
		require.Contains(t, response.Header.Values("Vary"), "Accept-Encoding")
		tag := `"1"`
		if tt.want != "" {
			tag = `"1-` + tt.want + `"`
		}
		require.Equal(t, tag, response.Header.Get("ETag"), "each representation has its own")
		b.call(ada, "GET", "/v1/items/"+long, nil, header("If-None-Match", tag)).is(304)
		b.call(ada, "PATCH", "/v1/items/"+long, map[string]any{"title": "t"}, header("If-Match", tag)).is(200)
		switch tt.want {
		case "gzip":
			reader, err := gzip.NewReader(bytes.NewReader(content))
			require.NoError(t, err)
			content, err = io.ReadAll(reader)
			require.NoError(t, err)
		case "zstd":
			reader, err := zstd.NewReader(nil)
			require.NoError(t, err)
			content, err = reader.DecodeAll(content, nil)
			require.NoError(t, err)
			reader.Close()
		}
		require.Equal(t, string(plain), string(content))
	}
	response, _ := b.rawCall(ada, "GET", "/v1/items/"+short, "gzip")
	require.Empty(t, response.Header.Get("Content-Encoding"), "not worth it")
	require.Contains(t, response.Header.Values("Vary"), "Accept-Encoding")
	response, _ = b.rawCall(ada, "GET", "/v1/"+strings.Repeat("x", 2000), "gzip")
	require.Equal(t, "gzip", response.Header.Get("Content-Encoding"), "a problem")
	response, content := b.rawCall(ada, "HEAD", "/v1/items/"+long, "gzip")
	require.Empty(t, content)
	require.Equal(t, 200, response.StatusCode)
	a := b.call(ada, "GET", "/v1/items/"+long, nil, header("If-None-Match", `"1"`), header("Accept-Encoding", "gzip")).is(304)
	require.Empty(t, a.raw)
	require.Empty(t, a.header.Get("Content-Encoding"))
	a = b.call(ada, "DELETE", "/v1/items/"+short, nil, header("Accept-Encoding", "gzip")).is(204)
	require.Empty(t, a.header.Get("Content-Encoding"))

	for range 9 {
		b.apiToken(ada, "read")
	}
	for _, path := range []string{"/v1/tokens"} {
		response, content := b.rawCall(ada, "GET", path, "gzip, zstd")
		require.Equal(t, 200, response.StatusCode)
		require.Greater(t, len(content), 1024)
		require.Empty(t, response.Header.Get("Content-Encoding"), "no answer with a secret is compressed")
		require.Empty(t, response.Header.Get("No-Gzip-Compression"))
		require.Contains(t, response.Header.Values("Vary"), "Accept-Encoding")
	}
}

// slowly serves the API with short time limits, as run.go does with long ones.
func slowly(t *testing.T, b *testBundle) string {
	t.Helper()
	server := httptest.NewUnstartedServer(b.server.Config.Handler)
	server.Config.ReadHeaderTimeout, server.Config.ReadTimeout, server.Config.MaxHeaderBytes = 100*time.Millisecond, 300*time.Millisecond, 64<<10
	server.Start()
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// TestSlowAndLongRequests are how a server is kept busy for nothing.
func TestSlowAndLongRequests(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	address := slowly(t, b)
	auth := "Host: x\r\nAuthorization: Bearer " + ada.token + "\r\n"
	for name, tt := range map[string]struct{ request, want string }{
		"a body that does not come":  {"POST /v1/items HTTP/1.1\r\n" + auth + "Content-Type: application/json\r\nContent-Length: 50\r\n\r\n{", "HTTP/1.1 408 "},
		"chunks that do not come":    {"POST /v1/items HTTP/1.1\r\n" + auth + "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n", "HTTP/1.1 408 "},
		"broken chunks":              {"POST /v1/items HTTP/1.1\r\n" + auth + "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "HTTP/1.1 400 "},
		"a header that does not end": {"GET /v1/me HTTP/1.1\r\nHost: x\r\nX-Slow: ", ""},
		"a long header":              {"GET /v1/me HTTP/1.1\r\n" + auth + "X-Long: " + strings.Repeat("x", 80<<10) + "\r\n\r\n", "HTTP/1.1 431 "},
		"many headers":               {"GET /v1/me HTTP/1.1\r\n" + auth + strings.Repeat("X-Many: x\r\n", 8<<10) + "\r\n", "HTTP/1.1 431 "},
		"a long path":                {"GET /v1/" + strings.Repeat("x", 80<<10) + " HTTP/1.1\r\n" + auth + "\r\n", "HTTP/1.1 431 "},
		"a body that GET ignores":    {"GET /v1/me HTTP/1.1\r\n" + auth + "Connection: close\r\nContent-Type: a/b/c\r\nContent-Encoding: br\r\nContent-Length: 3\r\n\r\nabc", "HTTP/1.1 200 "},
		"two tokens":                 {"GET /v1/me HTTP/1.1\r\n" + auth + "Authorization: Bearer x\r\nConnection: close\r\n\r\n", "HTTP/1.1 401 "},
		"two media types":            {"POST /v1/collections HTTP/1.1\r\n" + auth + "Connection: close\r\nContent-Type: application/json\r\nContent-Type: a/b\r\nContent-Length: 12\r\n\r\n{\"name\":\"c\"}", "HTTP/1.1 415 "},
		"two keys":                   {"POST /v1/collections HTTP/1.1\r\n" + auth + "Connection: close\r\nContent-Type: application/json\r\nIdempotency-Key: a\r\nIdempotency-Key: b\r\nContent-Length: 12\r\n\r\n{\"name\":\"c\"}", "HTTP/1.1 400 "},
		"two versions":               {"DELETE /v1/collections/" + uuid.NewString() + " HTTP/1.1\r\n" + auth + "Connection: close\r\nIf-Match: \"1\"\r\nIf-Match: \"2\"\r\n\r\n", "HTTP/1.1 400 "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
			require.NoError(t, err)
			defer conn.Close()
			require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
			_, _ = io.WriteString(conn, tt.request) // the server may hang up before it has read it all
			answer, err := io.ReadAll(conn)
			if len(answer) == 0 || tt.want == "" {
				require.NotErrorIs(t, err, context.DeadlineExceeded)
			}
			require.True(t, strings.HasPrefix(string(answer), tt.want), "%.200s", answer)
		})
	}
}

func TestContentEncodingOfRequests(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	for _, coding := range []string{"gzip", "br", "zstd", "identity, gzip", "x"} {
		a := b.call(ada, "POST", "/v1/collections", map[string]any{"name": "c"}, header("Content-Encoding", coding)).problem(415, "unsupported-media-type")
		require.Contains(t, a.body["detail"], "without Content-Encoding")
		require.Equal(t, "identity", a.header.Get("Accept-Encoding"), "RFC 9110, 12.5.3")
	}
	b.call(ada, "POST", "/v1/collections", map[string]any{"name": "c"}, header("Content-Encoding", "identity")).is(201)
	a := b.call(ada, "POST", "/v1/collections", map[string]any{"name": "c"}, header("Content-Type", "application/json; charset=latin1"))
	require.Contains(t, a.problem(415, "unsupported-media-type").body["detail"], "UTF-8")
	// What an operation without a body is sent is ignored.
	b.call(ada, "GET", "/v1/me", "}{", header("Content-Type", "application/json; charset=latin1"), header("Content-Encoding", "gzip")).is(200)
	b.call(ada, "DELETE", "/v1/tokens/"+uuid.NewString(), "}{", header("Content-Type", "text/plain")).problem(404, "not-found")
}
