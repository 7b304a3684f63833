package api_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// TestBadInputGetsAClearAnswer sends what no well-behaved client would.
func TestBadInputGetsAClearAnswer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	c := b.collection(ada, "c")
	item := b.item(ada, c, "t")
	in := func(fields string) string { return `{"collection_id":"` + c + `",` + fields + `}` }
	long := strings.Repeat("x", 501)
	manyTags, err := json.Marshal(strings.Split(strings.Repeat("t,", 50)+"t", ","))
	require.NoError(t, err)

	for _, tt := range []struct {
		name, method, path, body string
		status                   int
		places                   []string
	}{
		{"empty body", "POST", "/v1/items", " ", 400, nil},
		{"not JSON", "POST", "/v1/items", "}{", 400, nil},
		{"half JSON", "POST", "/v1/items", `{"title":`, 400, nil},
		{"two values", "POST", "/v1/items", `{} {}`, 400, nil},
		{"invalid UTF-8", "POST", "/v1/items", in("\"title\":\"\xff\",\"content\":\"\""), 400, nil},
		{"deep", "POST", "/v1/items", strings.Repeat("[", 100_000), 400, nil},
		{"crowded array", "POST", "/v1/auth/login", "[" + strings.Repeat(`"\u0000",`, 20_000) + "1]", 400, nil},
		{"crowded object", "POST", "/v1/auth/login", "{" + strings.Repeat(`"a":1,`, 20_000) + `"a":1}`, 400, nil},
		{"deep and wide", "POST", "/v1/auth/login", strings.Repeat("[", 900) + strings.Repeat("1,", 100_000) + "1" + strings.Repeat("]", 900), 400, nil},
		{"commas and brackets in a string", "POST", "/v1/items", in(`"title":"t","content":"` + strings.Repeat(`,[{\"`, 5000) + `"`), 201, nil},
		{"null", "POST", "/v1/items", "null", 422, []string{""}},
		{"array", "POST", "/v1/items", "[]", 422, []string{""}},
		{"string", "POST", "/v1/items", `"x"`, 422, []string{""}},
		{"nothing in it", "POST", "/v1/items", "{}", 422, []string{"/collection_id", "/title", "/content"}},
		{"wrong types", "POST", "/v1/items", `{"collection_id":1,"title":[],"content":null,"tags":"x"}`, 422, []string{"/collection_id", "/title", "/content", "/tags"}},
		{"unknown field", "POST", "/v1/items", in(`"title":"t","content":"","titel":"t"`), 422, []string{"/titel"}},
		{"blank title", "POST", "/v1/items", in(`"title":" ","content":""`), 422, []string{"/title"}},
		{"long title", "POST", "/v1/items", in(`"title":"` + long + `","content":""`), 422, []string{"/title"}},
		{"bad uuid", "POST", "/v1/items", `{"collection_id":"x","title":"t","content":""}`, 422, []string{"/collection_id"}},
		{"urn uuid", "POST", "/v1/items", `{"collection_id":"urn:uuid:` + c + `","title":"t","content":""}`, 422, []string{"/collection_id"}},
		{"unknown collection", "POST", "/v1/items", `{"collection_id":"` + uuid.NewString() + `","title":"t","content":""}`, 404, nil},
		{"ftp", "POST", "/v1/items", in(`"title":"t","content":"","source_url":"ftp://a.b"`), 422, []string{"/source_url"}},
		{"no host", "POST", "/v1/items", in(`"title":"t","content":"","source_url":"http://:80"`), 422, []string{"/source_url"}},
		{"bad url", "POST", "/v1/items", in(`"title":"t","content":"","source_url":"http://a.b/%zz"`), 422, []string{"/source_url"}},
		{"too many tags", "POST", "/v1/items", in(`"title":"t","content":"","tags":` + string(manyTags)), 422, []string{"/tags"}},
		{"bad tags", "POST", "/v1/items", in(`"title":"t","content":"","tags":["", " ", 1, "ok", "` + strings.Repeat("x", 101) + `"]`), 422, []string{"/tags/0", "/tags/1", "/tags/2", "/tags/4"}},
		{"tags blank to Unicode", "POST", "/v1/items", in(`"title":"t","content":"","tags":["a","\u00a0","\u3000"]`), 422, []string{"/tags/1", "/tags/2"}},
		{"blank tag in the patch", "PATCH", "/v1/items/" + item, `{"tags":["\u00a0"]}`, 422, []string{"/tags/0"}},
		{"NUL in the title", "POST", "/v1/items", in(`"title":"a\u0000b","content":""`), 422, []string{"/title"}},
		{"NUL in the content", "POST", "/v1/items", in(`"title":"t","content":"\u0000"`), 422, []string{"/content"}},
		{"NUL in a tag", "POST", "/v1/items", in(`"title":"t","content":"","tags":["a","\u0000"]`), 422, []string{"/tags/1"}},
		{"NUL in the patch", "PATCH", "/v1/items/" + item, `{"title":"\u0000"}`, 422, []string{"/title"}},
		{"lone surrogate", "POST", "/v1/items", in(`"title":"\ud800","content":"\udc00\ud800"`), 400, nil},
		{"null patch", "PATCH", "/v1/items/" + item, `{"title":null,"content":null,"tags":null}`, 422, []string{"/title", "/content", "/tags"}},
		{"empty patch", "PATCH", "/v1/items/" + item, `{}`, 422, []string{""}},
		{"patch of a read-only field", "PATCH", "/v1/items/" + item, `{"version":7}`, 422, []string{"/version"}},
		{"bad id", "GET", "/v1/items/1", "", 400, []string{"id"}},
		{"bad id, bad body", "PATCH", "/v1/items/1", `{"title":""}`, 400, []string{"id", "/title"}},
		{"id with NUL", "GET", "/v1/items/%00", "", 400, []string{"id"}},
		{"id with slash", "GET", "/v1/items/a%2Fb", "", 404, nil},
		{"limit 0", "GET", "/v1/items?limit=0", "", 400, []string{"limit"}},
		{"limit 101", "GET", "/v1/items?limit=101", "", 400, []string{"limit"}},
		{"limit x", "GET", "/v1/items?limit=x", "", 400, []string{"limit"}},
		{"limit empty", "GET", "/v1/items?limit=", "", 400, []string{"limit"}},
		{"limit huge", "GET", "/v1/items?limit=99999999999999999999", "", 400, []string{"limit"}},
		{"limit float", "GET", "/v1/items?limit=1.5", "", 400, []string{"limit"}},
		{"two limits", "GET", "/v1/items?limit=1&limit=2", "", 400, nil},
		{"unknown parameter", "GET", "/v1/items?colection_id=" + c, "", 400, []string{"colection_id"}},
		{"three wrong", "GET", "/v1/items?collection_id=x&limit=x&tag=", "", 400, []string{"collection_id", "limit", "tag"}},
		{"NUL in the query", "GET", "/v1/search?q=%00", "", 400, []string{"q"}},
		{"invalid UTF-8 in the query", "GET", "/v1/items?tag=%ff", "", 400, []string{"tag"}},
		{"broken escape", "GET", "/v1/items?tag=%zz", "", 400, nil},
		{"semicolon", "GET", "/v1/items?tag=a;b", "", 400, nil},
		{"long q", "GET", "/v1/search?q=" + strings.Repeat("x", 1001), "", 400, []string{"q"}},
		{"bad time", "GET", "/v1/audit-events?from=yesterday&collection_id=" + c, "", 400, []string{"from"}},
		{"30 February", "GET", "/v1/audit-events?from=2026-02-30T00:00:00Z&collection_id=" + c, "", 400, []string{"from"}},
		{"offset of a day", "GET", "/v1/audit-events?from=2026-01-01T00:00:00%2B24:00&collection_id=" + c, "", 400, []string{"from"}},
		{"far time", "GET", "/v1/audit-events?from=0000-01-01T00:00:00Z&to=9999-12-31T23:59:59Z&collection_id=" + c, "", 200, nil},
		{"bad e-mail", "POST", "/v1/auth/register", `{"email":"x","password":"12345678"}`, 422, []string{"/email"}},
		{"e-mail of Unicode spaces", "POST", "/v1/auth/register", `{"email":"\u00a0@\u2003","password":"12345678"}`, 422, []string{"/email"}},
		{"e-mail with a disguised @", "POST", "/v1/auth/register", `{"email":"a\uff20b@c","password":"12345678"}`, 422, []string{"/email"}},
		{"e-mail that grows", "POST", "/v1/auth/register", `{"email":"` + strings.Repeat("㌀", 200) + `@b","password":"12345678"}`, 422, []string{"/email"}},
		{"dashes", "GET", "/v1/search?q=" + strings.Repeat("-", 1000), "", 200, nil},
		{"tag without a name", "GET", "/v1/search?q=tag:", "", 400, []string{"q"}},
		{"bad date in q", "GET", "/v1/search?q=a+before:yesterday", "", 400, []string{"q"}},
		{"many words", "GET", "/v1/search?q=" + strings.Repeat("a+", 65), "", 400, []string{"q"}},
		{"short password", "POST", "/v1/auth/register", `{"email":"a@b","password":"1234567"}`, 422, []string{"/password"}},
		{"long password", "POST", "/v1/auth/register", `{"email":"a@b","password":"` + strings.Repeat("x", 129) + `"}`, 422, []string{"/password"}},
		{"NUL in the e-mail", "POST", "/v1/auth/register", `{"email":"a\u0000@b","password":"12345678"}`, 422, []string{"/email"}},
		{"NUL in the login", "POST", "/v1/auth/login", `{"email":"a\u0000@b","password":"12345678"}`, 422, []string{"/email"}},
		{"unknown role", "POST", "/v1/collections/" + c + "/members", `{"email":"a@b","role":"king"}`, 422, []string{"/role"}},
		{"no such path", "GET", "/v1/nothing", "", 404, nil},
		{"trailing slash", "GET", "/v1/items/", "", 404, nil},
		{"outside", "GET", "/../../etc/passwd", "", 404, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var body any
			if tt.body != "" {
				body = tt.body
			}
			a := b.call(ada, tt.method, tt.path, body)
			a.t = t
			a.is(tt.status)
			if tt.places != nil {
				require.ElementsMatch(t, tt.places, a.places(), string(a.raw))
			}
			require.NotContains(t, string(a.raw), "12345678", "no answer repeats a password")
		})
	}
}

// TestWhatIsWrongIsSaid: each message goes on after the name of the place and says what would be right.
func TestWhatIsWrongIsSaid(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	c := b.collection(ada, "c")
	item := "/v1/items/" + b.item(ada, c, "t")
	many := "{" + strings.TrimSuffix(strings.Repeat(`"a0":1,`, 101), ",") + "}"
	for i := range 101 {
		many = strings.Replace(many, `"a0"`, fmt.Sprintf(`"b%d"`, i), 1)
	}
	enrich := func(parameters string) string {
		return `{"type":"enrich","parameters":{"collection_id":"` + c + `",` + parameters + `}}`
	}
	for _, tt := range []struct{ method, path, body, detail string }{
		{"PATCH", item, `{}`, "the body must have at least 1 field"},
		{"PATCH", item, `[]`, "the body must be an object"},
		{"PATCH", item, `{} {}`, "the body has more than one JSON value"},
		{"PATCH", item, `{"title":""}`, "/title must have at least 1 character"},
		{"PATCH", item, `{"title":"  "}`, "/title must not be blank"},
		{"PATCH", item, `{"title":null}`, "/title must not be null"},
		{"PATCH", item, `{"source_url":3}`, "/source_url must be a string or null"},
		{"PATCH", item, `{"tags":{"a":1}}`, "/tags must be an array"},
		{"PATCH", item, `{"content":"` + strings.Repeat("x", 1<<20+1) + `"}`, "/content must have at most 1048576 bytes of UTF-8"},
		{"PATCH", item, `{"title":"\ud800"}`, "the body has half a surrogate pair, which is no character: \\ud800"},
		{"PATCH", item, `{"tags":["` + strings.Repeat("x", 101) + `"]}`, "/tags/0 must have at most 100 characters"},
		{"PATCH", item, `{"tags":["` + strings.Repeat(`x","`, 50) + `x"]}`, "/tags must have at most 50 elements"},
		{"PATCH", item, `{"metadata":` + many + `}`, "/metadata must have at most 100 fields"},
		{"PATCH", item, `{"name":"x"}`, "/name is not a field of this request"},
		{"POST", "/v1/items/bulk", `{"operations":[]}`, "/operations must have at least 1 element"},
		{"POST", "/v1/items/bulk", `{"operations":[{"op":"delete","id":"x"}],"atomic":1}`, "/atomic must be true or false; /operations/0/id must be a UUID"},
		{"POST", "/v1/jobs", enrich(`"item_ids":[]`), "/parameters/item_ids must have at least 1 element"},
		{"POST", "/v1/jobs", enrich(`"pending":true,"refresh":true`), "/parameters must not have pending together with item_ids or refresh, which would have no effect"},
		{"POST", "/v1/jobs", enrich(`"pending":true,"item_ids":["` + c + `"]`), "/parameters must not have pending together with item_ids or refresh, which would have no effect"},
		{"POST", "/v1/jobs", `{"type":"purge","parameters":{}}`, "/type must be one of audit_verify, consistency_check, enrich, export, import, reindex"},
		{"POST", "/v1/collections/" + c + "/members", `{"email":"a@b","role":"king"}`, "/role must be one of owner, editor, viewer"},
		{"GET", "/v1/items?limit=0", "", "limit must be at least 1"},
		{"GET", "/v1/items?limit=101", "", "limit must be at most 100"},
		{"GET", "/v1/items?limit=x", "", "limit must be an integer"},
		{"GET", "/v1/items?has_source=maybe", "", "has_source must be true or false"},
		{"GET", "/v1/items?sort=best", "", "sort must be one of newest, oldest, updated, title"},
		{"GET", "/v1/items?tag=", "", "tag must not be empty"},
		{"GET", "/v1/search?facets=tags,tags", "", "facets must not have an element twice"},
		{"GET", "/v1/search/suggest", "", "q is required"},
		{"GET", item + "/revisions/x", "", "version must be an integer"},
	} {
		t.Run(tt.method+" "+tt.path+" "+tt.body[:min(40, len(tt.body))], func(t *testing.T) {
			var body any
			if tt.body != "" {
				body = tt.body
			}
			a := b.call(ada, tt.method, tt.path, body)
			require.Equal(t, tt.detail, a.body["detail"], string(a.raw))
		})
	}
	for _, taken := range []string{`"pending":false,"refresh":true`, `"pending":true,"refresh":false`, `"pending":true`, `"item_ids":["` + c + `"],"refresh":true`} {
		b.call(ada, "POST", "/v1/jobs", enrich(taken)).is(202)
	}
}

// TestHardTextsAreStoredAndFound: PostgreSQL's parser takes time quadratic in the length of the first two, and of the last one every four-byte
// letter counts twice in the search vector, which may not exceed 1 MB.
func TestHardTextsAreStoredAndFound(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	c := b.collection(ada, "c")
	var compound strings.Builder
	for i := range 60_000 {
		compound.WriteString(string([]rune{rune(0x20000 + i%40_000), rune(0x20000 + i/2), rune(0x20000 + i), '-'}))
	}
	for _, run := range []string{strings.Repeat("~/", 75_000), strings.Repeat("ab-cd_", 25_000), compound.String()} {
		b.call(ada, "POST", "/v1/items", map[string]any{"collection_id": c, "title": "Needle", "content": run}).is(201)
	}
	a := b.call(ada, "GET", "/v1/search?q=needle", nil).is(200)
	require.Len(t, a.body["items"], 3)
}

func TestMediaTypesMethodsAndSizes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	c := b.collection(ada, "c")
	item := `{"collection_id":"` + c + `","title":"t","content":""}`
	for _, contentType := range []string{"text/plain", "", "application/xml", "application/merge-patch+json", "application/json; charset=latin1", "a/b/c"} {
		a := b.call(ada, "POST", "/v1/items", item, header("Content-Type", contentType)).problem(415, "unsupported-media-type")
		require.Contains(t, a.body["detail"], "application/json")
		require.Equal(t, "application/json", a.header.Get("Accept"))
		require.Empty(t, a.header.Get("Accept-Encoding"))
	}
	a := b.call(ada, "PATCH", "/v1/collections/"+c, `{"name":"n"}`, header("Content-Type", "text/plain")).problem(415, "unsupported-media-type")
	require.Equal(t, "application/json, application/merge-patch+json", a.header.Get("Accept-Patch"))
	b.call(ada, "POST", "/v1/items", item, header("Content-Encoding", "gzip")).problem(415, "unsupported-media-type")
	b.call(ada, "POST", "/v1/items", item, header("Content-Type", "application/json; charset=UTF-8")).is(201)
	b.call(ada, "POST", "/v1/items", strings.Repeat(" ", 8<<20)+item).problem(413, "payload-too-large")
	b.call(ada, "POST", "/v1/items", strings.Repeat(" ", 8<<20-1000)+item).is(201)
	for path, who := range map[string]*account{"/v1/auth/login": nil, "/v1/auth/register": nil, "/v1/auth/refresh": nil, "/v1/auth/logout": nil, "/v1/collections": ada} {
		b.call(who, "POST", path, `{"x":"`+strings.Repeat("a", 256<<10)+`"}`).problem(413, "payload-too-large") // a large body takes much memory
		chunked := func(r *http.Request) { r.ContentLength = -1 }
		b.call(who, "POST", path, `{"x":"`+strings.Repeat("a", 256<<10)+`"}`, chunked).problem(413, "payload-too-large")
		require.NotEqual(t, 413, b.call(who, "POST", path, `{"x":"`+strings.Repeat("a", 255<<10)+`"}`).status)
	}
	b.call(ada, "POST", "/v1/collections", map[string]any{"name": strings.Repeat("\U0001F600", 200), "description": strings.Repeat("\U0001F600", 10000)}).is(201)

	a = b.call(ada, "PUT", "/v1/items", item).problem(405, "method-not-allowed")
	require.ElementsMatch(t, []string{"GET", "HEAD", "OPTIONS", "POST"}, strings.Split(strings.ReplaceAll(a.header.Get("Allow"), " ", ""), ","))
	b.call(ada, "POST", "/livez", item).problem(405, "method-not-allowed")
}

// TestRawHTTP sends what Go's client refuses to send.
func TestRawHTTP(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	for name, request := range map[string]string{
		"a header with a control character": "GET /v1/me HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + ada.token + "\r\nX-Request-Id: a\x01b\r\nConnection: close\r\n\r\n",
		"a length that is a lie":            "POST /v1/items HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + ada.token + "\r\nContent-Type: application/json\r\nContent-Length: 5\r\n\r\n{",
		"a space in the path":               "GET /v1/me me HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
		"raw bytes in the path":             "GET /v1/items/\xff\xfe HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + ada.token + "\r\nConnection: close\r\n\r\n",
		"an unknown method":                 "BREW /v1/items HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(b.server.URL, "http://"))
			require.NoError(t, err)
			defer conn.Close()
			_, err = io.WriteString(conn, request)
			require.NoError(t, err)
			if name == "a length that is a lie" {
				require.NoError(t, conn.(*net.TCPConn).CloseWrite())
			}
			answer, err := io.ReadAll(conn)
			require.NoError(t, err)
			require.NotContains(t, string(answer), "HTTP/1.1 5")
		})
	}
	require.Equal(t, http.StatusOK, b.call(ada, "GET", "/v1/me", nil).status)
}
