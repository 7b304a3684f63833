package api_test

import (
	"archive/zip"
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/event"
	"github.com/atlas-platform/atlas/internal/portable"
	"github.com/atlas-platform/atlas/internal/portable/portabletest"
)

const (
	ndjsonType = "application/x-ndjson"
	zipType    = "application/zip"
)

func (b *testBundle) importNDJSON(user *account, collection, body string) answer {
	b.t.Helper()
	return b.call(user, "POST", "/v1/collections/"+collection+"/items.ndjson", body, header("Content-Type", ndjsonType))
}

func (b *testBundle) importZip(user *account, collection, body string) answer {
	b.t.Helper()
	return b.call(user, "POST", "/v1/collections/"+collection+"/items.zip", body, header("Content-Type", zipType))
}

func (b *testBundle) exportNDJSON(user *account, collection string) answer {
	b.t.Helper()
	return b.call(user, "GET", "/v1/collections/"+collection+"/items.ndjson", nil).is(200)
}

func (b *testBundle) exportZip(user *account, collection string) answer {
	b.t.Helper()
	return b.call(user, "GET", "/v1/collections/"+collection+"/items.zip", nil).is(200)
}

func (a answer) counts(created, existing, failed int) answer {
	a.t.Helper()
	a.is(200)
	require.Equal(a.t, []float64{float64(created), float64(existing), float64(failed)}, []float64{
		a.body["created"].(float64), a.body["existing"].(float64), a.body["failed"].(float64),
	}, string(a.raw))
	return a
}

// importErrors are "source pointer: message".
func (a answer) importErrors() []string {
	var out []string
	for _, e := range a.body["errors"].([]any) {
		e := e.(map[string]any)
		pointer, _ := e["pointer"].(string)
		out = append(out, fmt.Sprintf("%s %s: %s", e["source"], pointer, e["message"]))
	}
	return out
}

func readAll(t *testing.T, reader portable.Reader) []portable.Item {
	t.Helper()
	var items []portable.Item
	for {
		record, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return items
		}
		require.NoError(t, err)
		require.Empty(t, record.Wrong)
		items = append(items, record.Item)
	}
}

func fromNDJSON(t *testing.T, content []byte) []portable.Item {
	t.Helper()
	return readAll(t, portable.NewNDJSONReader(bytes.NewReader(content)))
}

func fromZip(t *testing.T, content []byte) []portable.Item {
	t.Helper()
	reader, err := portable.NewMarkdownReader(bytes.NewReader(content), int64(len(content)))
	require.NoError(t, err)
	return readAll(t, reader)
}

func toNDJSON(t *testing.T, items ...portable.Item) string {
	t.Helper()
	var out strings.Builder
	writer := portable.NewNDJSONWriter(&out)
	for _, item := range items {
		require.NoError(t, writer.Write(item))
	}
	return out.String()
}

// withoutIDs brings the items into an order that does not depend on their ids.
func withoutIDs(items []portable.Item) []portable.Item {
	out := slices.Clone(items)
	for i := range out {
		out[i].ID = uuid.Nil
	}
	key := func(item portable.Item) string { return item.CreatedAt.String() + item.Title }
	slices.SortFunc(out, func(a, b portable.Item) int { return strings.Compare(key(a), key(b)) })
	return out
}

// storable brings a random item within the limits of a stored one.
func storable(r *rand.Rand, i int) portable.Item {
	item := portabletest.Item(r)
	item.Title = fmt.Sprintf("%.400s %d", item.Title, i)
	if !utf8.ValidString(item.Title) {
		item.Title = strings.ToValidUTF8(item.Title, "")
	}
	item.SourceURL = nil
	if r.IntN(2) == 0 {
		source := fmt.Sprintf("https://example.com/%d?q=%d", i, r.IntN(10))
		item.SourceURL = &source
	}
	item.Tags = slices.DeleteFunc(item.Tags, func(tag string) bool { return strings.TrimSpace(tag) == "" || utf8.RuneCountInString(tag) > 100 })
	if i%500 == 0 {
		item.Content = strings.Repeat("ÿ", portable.MaxContent/2)
	}
	if _, long := item.Metadata[strings.Repeat("x", 600)]; long && len(item.Metadata) > 3 {
		item.Metadata = nil
	}
	return item
}

// TestTransferRoundTrip sends 3,000 items of every kind through both forms.
func TestTransferRoundTrip(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	r := rand.New(rand.NewPCG(3, 4))
	items := make([]portable.Item, 3000)
	for i := range items {
		items[i] = storable(r, i)
	}
	first, second, third := b.collection(ada, "first"), b.collection(ada, "second"), b.collection(ada, "third")
	b.importNDJSON(ada, first, toNDJSON(t, items...)).counts(3000, 0, 0)
	b.importNDJSON(ada, first, toNDJSON(t, items...)).counts(0, 3000, 0)

	exported := b.exportNDJSON(ada, first)
	stored := fromNDJSON(t, exported.raw)
	require.Len(t, stored, 3000)
	got, want := withoutIDs(stored), withoutIDs(items)
	for i := range want {
		require.Equal(t, want[i].Title, got[i].Title)
		require.Equal(t, want[i].Content, got[i].Content)
		require.Equal(t, want[i].SourceURL, got[i].SourceURL)
		require.True(t, want[i].CreatedAt.Equal(got[i].CreatedAt) && want[i].UpdatedAt.Equal(got[i].UpdatedAt), "to the microsecond")
		require.Len(t, got[i].Metadata, len(want[i].Metadata))
	}

	b.importNDJSON(ada, second, string(exported.raw)).counts(3000, 0, 0)
	require.Equal(t, withoutIDs(stored), withoutIDs(fromNDJSON(t, b.exportNDJSON(ada, second).raw)))
	b.importNDJSON(ada, second, string(exported.raw)).counts(0, 3000, 0)

	archive := b.exportZip(ada, first)
	require.Equal(t, stored, fromZip(t, archive.raw), "both forms say the same, in the same order")
	b.importZip(ada, third, string(archive.raw)).counts(3000, 0, 0)
	require.Equal(t, withoutIDs(stored), withoutIDs(fromNDJSON(t, b.exportNDJSON(ada, third).raw)))
	b.importZip(ada, third, string(archive.raw)).counts(0, 3000, 0)
	b.importNDJSON(ada, third, string(exported.raw)).counts(0, 3000, 0)

	// Into the collection that they come from: they are there.
	b.importZip(ada, first, string(archive.raw)).counts(0, 3000, 0)
}

func TestExportAnswers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada, eve := b.account("ada"), b.account("eve")
	c := b.collection(ada, "Ada's größte Engines")
	require.Empty(t, b.exportNDJSON(ada, c).raw)
	require.Empty(t, fromZip(t, b.exportZip(ada, c).raw))
	item := b.item(ada, c, "Note G", "history")
	deleted := b.item(ada, c, "gone")
	b.call(ada, "DELETE", "/v1/items/"+deleted, nil).is(204)

	a := b.exportNDJSON(ada, c)
	require.Equal(t, `attachment; filename="ada-s-gr-te-engines.ndjson"; filename*=UTF-8''ada-s-gr%C3%B6%C3%9Fte-engines.ndjson`,
		strings.ReplaceAll(a.header.Get("Content-Disposition"), "ada-s-grte", "ada-s-gr-te"))
	require.Equal(t, ndjsonType, a.header.Get("Content-Type"))
	items := fromNDJSON(t, a.raw)
	require.Len(t, items, 1)
	require.Equal(t, item, items[0].ID.String())
	require.Equal(t, []string{"history"}, items[0].Tags)
	require.Contains(t, string(a.raw), `"metadata":{}`)

	for _, form := range []string{"ndjson", "zip"} {
		b.call(eve, "GET", "/v1/collections/"+c+"/items."+form, nil).problem(404, "not-found")
		b.call(ada, "GET", "/v1/collections/"+c+"/items."+form+"?x=1", nil).problem(400, "invalid-request", "x")
	}
	japanese := b.collection(ada, "日本語")
	require.Equal(t, `attachment; filename="collection.zip"; filename*=UTF-8''%E6%97%A5%E6%9C%AC%E8%AA%9E.zip`, b.exportZip(ada, japanese).header.Get("Content-Disposition"))
}

func TestImportReports(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada, vic := b.account("ada"), b.account("vic")
	c := b.collection(ada, "c")
	b.member(ada, c, vic, "viewer")
	future := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	lines := []string{
		`{"title":"fine","content":"x","tags":[" b ","a","b"],"metadata":{"n":1e2},"source_url":"HTTPS://Example.com:443/a#b","created_at":"1969-12-31T23:59:59.123456+01:00"}`,
		`{"title":" "}`,
		`{"title":"` + strings.Repeat("x", 501) + `"}`,
		`{"title":"a","content":"` + strings.Repeat("é", 600_000) + `"}`,
		`{"title":"a\u0000"}`,
		`{"title":"a","tags":["` + strings.Repeat("x", 101) + `","\u2003"]}`,
		`{"title":"a","source_url":"ftp://example.com"}`,
		`{"title":"a","source_url":"http://"}`,
		`{"title":"a","metadata":{"a":{"b":1e999}}}`,
		`{"title":"a","metadata":{"a":"\u0000"}}`,
		`{"title":"a","created_at":"` + future + `"}`,
		`{"title":"a","created_at":"2026-01-02T00:00:00Z","updated_at":"2026-01-01T00:00:00Z"}`,
		`nonsense`,
		`{"title":"a","color":"red"}`,
		`{"title":"again","source_url":"https://example.com/a"}`,
	}
	a := b.importNDJSON(ada, c, strings.Join(lines, "\r\n")).counts(1, 1, 13)
	require.Len(t, b.envelopes(), 3, "the collection, its member and one item")
	for _, want := range []string{
		"line 2 /title: must not be blank", "line 4 /content: ", "line 5 /title: has a NUL", "line 6 /tags/0: ", "line 7 /source_url: must be an http or https URL",
		"line 8 /source_url: must be an http or https URL", "line 9 /metadata/a/b: ", "line 10 /metadata/a: has a NUL", "line 11 /created_at: must not be in the future",
		"line 12 /updated_at: must not be before created_at", "line 13 : is not JSON: ", "line 14 /color: is not a field of an item",
	} {
		require.True(t, slices.ContainsFunc(a.importErrors(), func(got string) bool { return strings.HasPrefix(got, want) }), "%s: %q", want, a.importErrors())
	}
	items := fromNDJSON(t, b.exportNDJSON(vic, c).raw)
	require.Len(t, items, 1)
	require.Equal(t, []string{"a", "b"}, items[0].Tags)
	require.Equal(t, "https://example.com/a", *items[0].SourceURL)
	require.Equal(t, json.Number("100"), items[0].Metadata["n"])
	require.Equal(t, time.Date(1969, 12, 31, 22, 59, 59, 123456000, time.UTC), items[0].CreatedAt)
	require.Equal(t, items[0].CreatedAt, items[0].UpdatedAt)

	many := b.importNDJSON(ada, c, strings.Repeat("nonsense\n", 1500)).counts(0, 0, 1500)
	require.Len(t, many.importErrors(), 1000)
	b.importNDJSON(ada, c, "").counts(0, 0, 0)
	b.importNDJSON(vic, c, lines[0]).problem(403, "forbidden")
	b.importNDJSON(ada, uuid.NewString(), lines[0]).problem(404, "not-found")
	b.call(ada, "POST", "/v1/collections/"+c+"/items.ndjson", lines[0]).problem(415, "unsupported-media-type")
	b.call(ada, "POST", "/v1/collections/"+c+"/items.ndjson", lines[0], header("Content-Type", ndjsonType), header("Content-Encoding", "gzip")).
		problem(415, "unsupported-media-type")
	b.importZip(ada, c, "").problem(400, "invalid-request")
	b.importZip(ada, c, "no zip").problem(400, "invalid-request")
}

func TestImportMarkdownOfOtherTools(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	c := b.collection(ada, "c")
	a := b.importZip(ada, c, zipOf(t, map[string]string{
		"vault/One.md": "---\ntags: [x]\nauthor: Ada\n---\n# First\n", "vault/two.md": "text", "vault/image.png": "x", ".obsidian/app.md": "", "vault/": "", "../../etc/passwd.md": "x",
		`..\..\win.md`: "x", "bad.md": "---\ntitle: [\n---\n",
		"blank.md": "---\ntitle: ' '\n---\n",
	})).counts(2, 0, 2)
	require.InDelta(t, 5, a.body["skipped"], 0)
	require.Len(t, a.importErrors(), 6)
	got := withoutIDs(fromNDJSON(t, b.exportNDJSON(ada, c).raw))
	require.Equal(t, []string{"First", "two"}, []string{got[0].Title, got[1].Title})
	require.Equal(t, map[string]any{"author": "Ada"}, got[0].Metadata)
}

// TestImportAgain sends what was imported, then thrown away or moved.
func TestImportAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	c := b.collection(ada, "c")
	line := `{"id":"01975e5a-0000-7000-8000-000000000001","title":"a","created_at":"2025-06-01T10:00:00Z"}` + "\n"
	b.importNDJSON(ada, c, line+line).counts(1, 1, 0)
	id := fromNDJSON(t, b.exportNDJSON(ada, c).raw)[0].ID
	sec, nsec := id.Time().UnixTime()
	require.Equal(t, time.Date(2025, 6, 1, 10, 0, 0, 0, time.UTC), time.Unix(sec, nsec).UTC(), "listed where it belongs")
	for range 3 {
		b.call(ada, "DELETE", "/v1/items/"+fromNDJSON(t, b.exportNDJSON(ada, c).raw)[0].ID.String(), nil).is(204)
		b.importNDJSON(ada, c, line).counts(1, 0, 0)
		b.importNDJSON(ada, c, line).counts(0, 1, 0)
	}
	other := b.collection(ada, "other")
	ordered := b.collection(ada, "ordered")
	b.importNDJSON(ada, ordered, `{"title":"1"}`+"\n"+`{"title":"2"}`+"\n"+`{"title":"3"}`).counts(3, 0, 0)
	for i, item := range fromNDJSON(t, b.exportNDJSON(ada, ordered).raw) {
		require.Equal(t, fmt.Sprint(i+1), item.Title, "in the order of the lines")
	}
	b.importNDJSON(ada, other, line).counts(1, 0, 0)
	b.importNDJSON(ada, other, line).counts(0, 1, 0)

	// An id without a time, and neither.
	b.importNDJSON(ada, other, `{"id":"01975e5a-0000-7000-8000-000000000002","title":"a"}`+"\n"+`{"title":"a"}`).counts(2, 0, 0)
	for _, e := range b.envelopes() {
		if e.EventType == event.ItemCreated {
			require.Equal(t, ada.id, e.ActorUserID.String())
		}
	}
}

// TestImportsAtTheSameTime sends the same items twice at once, in different orders.
func TestImportsAtTheSameTime(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	c := b.collection(ada, "c")
	r := rand.New(rand.NewPCG(5, 6))
	items := make([]portable.Item, 600)
	for i := range items {
		items[i] = storable(r, i+1)
	}
	var wg sync.WaitGroup
	var answers [2]answer
	for i := range answers {
		body := toNDJSON(t, items...)
		slices.Reverse(items)
		wg.Go(func() { answers[i] = b.importNDJSON(ada, c, body) })
	}
	wg.Wait()
	created := 0.0
	for _, a := range answers {
		a.is(200)
		require.InDelta(t, 0, a.body["failed"], 0)
		created += a.body["created"].(float64)
	}
	require.InDelta(t, 600, created, 0)
	require.Len(t, fromNDJSON(t, b.exportNDJSON(ada, c).raw), 600)
}

// stream starts an import whose body is still to be written.
func (b *testBundle) stream(user *account, collection string) (io.WriteCloser, <-chan answer) {
	b.t.Helper()
	reader, writer := io.Pipe()
	request, err := http.NewRequestWithContext(b.t.Context(), "POST", b.server.URL+"/v1/collections/"+collection+"/items.ndjson", reader)
	require.NoError(b.t, err)
	request.Header.Set("Content-Type", ndjsonType)
	request.Header.Set("Authorization", "Bearer "+user.token)
	out := make(chan answer, 1)
	go func() {
		response, err := b.server.Client().Do(request)
		if err != nil {
			out <- answer{t: b.t, raw: []byte(err.Error())}
			return
		}
		defer response.Body.Close()
		a := answer{t: b.t, status: response.StatusCode, header: response.Header}
		a.raw, _ = io.ReadAll(response.Body)
		_ = json.Unmarshal(a.raw, &a.body)
		out <- a
	}()
	b.t.Cleanup(func() { _ = writer.Close() })
	return writer, out
}

func (b *testBundle) awaitItems(collection string, n int) {
	b.t.Helper()
	require.Eventually(b.t, func() bool {
		var got int
		err := b.pool.QueryRow(b.t.Context(), "SELECT count(*) FROM items WHERE collection_id = $1", collection).Scan(&got)
		return err == nil && got == n
	}, time.Minute, 5*time.Millisecond)
}

func titles(n int) string { return strings.Repeat(`{"title":"a"}`+"\n", n) }

// TestImportAfterTheRightsEnd removes the importer in the middle.
func TestImportAfterTheRightsEnd(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada, ed := b.account("ada"), b.account("ed")
	c := b.collection(ada, "c")
	b.member(ada, c, ed, "editor")
	body, answers := b.stream(ed, c)
	_, err := io.WriteString(body, titles(250))
	require.NoError(t, err)
	b.awaitItems(c, 200)
	b.call(ada, "PATCH", "/v1/collections/"+c+"/members/"+ed.id, map[string]any{"role": "viewer"}).is(200)
	_, _ = io.WriteString(body, titles(250))
	body.Close()
	a := (<-answers).problem(403, "forbidden")
	require.Contains(t, a.body["detail"], "200 items were imported")
	b.awaitItems(c, 200)
}

// TestImportThatBreaksOff keeps what was committed, and says so.
func TestImportThatBreaksOff(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	c := b.collection(ada, "c")
	send := func(form, mediaType string, length int64, body string) answer {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", b.server.Listener.Addr().String())
		require.NoError(t, err)
		defer conn.Close()
		_, err = fmt.Fprintf(conn, "POST /v1/collections/%s/items.%s HTTP/1.1\r\nHost: a\r\nContent-Type: %s\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s",
			c, form, mediaType, ada.token, length, body)
		require.NoError(t, err)
		require.NoError(t, conn.(*net.TCPConn).CloseWrite())
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err)
		defer response.Body.Close()
		a := answer{t: t, status: response.StatusCode, header: response.Header}
		a.raw, err = io.ReadAll(response.Body)
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(a.raw, &a.body))
		return a
	}
	a := send("ndjson", ndjsonType, 1_000_000, titles(250)+`{"title":"half`).problem(400, "invalid-request")
	require.Contains(t, a.body["detail"], "200 items were imported")
	b.awaitItems(c, 200)
	send("zip", zipType, 1_000_000, "PK").problem(400, "invalid-request")
	send("zip", zipType, 300<<20, "").problem(413, "payload-too-large")
	send("ndjson", ndjsonType, 2<<30, "").problem(413, "payload-too-large")
	b.awaitItems(c, 200)
}

// TestExportAfterTheRightsEnd removes a reader in the middle: what they get is broken, not whole.
func TestExportAfterTheRightsEnd(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada, vic := b.account("ada"), b.account("vic")
	c := b.collection(ada, "c")
	big := portable.Item{Title: "a", Content: strings.Repeat("\n", portable.MaxContent)} // more than any buffer on the way holds
	b.importNDJSON(ada, c, strings.Repeat(toNDJSON(t, big), 24)).counts(24, 0, 0)
	for _, end := range []func(){
		func() { b.call(ada, "DELETE", "/v1/collections/"+c+"/members/"+vic.id, nil).is(204) },
		func() { b.call(ada, "DELETE", "/v1/collections/"+c, nil).is(204) },
	} {
		b.call(ada, "POST", "/v1/collections/"+c+"/members", map[string]any{"email": vic.email, "role": "viewer"})
		request, err := http.NewRequestWithContext(t.Context(), "GET", b.server.URL+"/v1/collections/"+c+"/items.ndjson", nil)
		require.NoError(t, err)
		request.Header.Set("Accept-Encoding", "identity") // compressed, all of it fits into a connection
		request.Header.Set("Authorization", "Bearer "+vic.token)
		response, err := b.server.Client().Do(request)
		require.NoError(t, err)
		defer response.Body.Close()
		require.Equal(t, 200, response.StatusCode)
		_, err = io.ReadFull(response.Body, make([]byte, 1000))
		require.NoError(t, err)
		end()
		rest, err := io.Copy(io.Discard, response.Body)
		require.Error(t, err)
		require.Less(t, rest, int64(24*2*portable.MaxContent), "less than the whole: JSON writes a line feed in two bytes")
	}
}

// TestTransferAfterTheTokenEnds: whoever has a stolen token must not go on with what they have begun.
func TestTransferAfterTheTokenEnds(t *testing.T) {
	t.Parallel()
	b := setup(t)
	user := b.withPassword("ada")
	ada := b.login(user)
	ada.id = user.id
	c := b.collection(&ada.account, "c")
	id, script := b.apiToken(&ada.account, "read", "write")
	big := portable.Item{Title: "a", Content: strings.Repeat("\n", portable.MaxContent)} // more than any buffer on the way holds
	b.importNDJSON(&ada.account, c, strings.Repeat(toNDJSON(t, big), 24)).counts(24, 0, 0)
	have := 24
	for _, tt := range []struct {
		user *account
		end  func()
	}{
		{script, func() { b.call(&ada.account, "DELETE", "/v1/tokens/"+id, nil).is(204) }},
		{&ada.account, func() { b.call(nil, "POST", "/v1/auth/logout", map[string]any{"refresh_token": ada.refresh}).is(204) }},
	} {
		body, imported := b.stream(tt.user, c)
		_, err := io.WriteString(body, titles(250))
		require.NoError(t, err)
		have += 200
		b.awaitItems(c, have)
		request, err := http.NewRequestWithContext(t.Context(), "GET", b.server.URL+"/v1/collections/"+c+"/items.ndjson", nil)
		require.NoError(t, err)
		request.Header.Set("Authorization", "Bearer "+tt.user.token)
		exported, err := b.server.Client().Do(request)
		require.NoError(t, err)
		defer exported.Body.Close()
		require.Equal(t, 200, exported.StatusCode)

		tt.end()

		_, _ = io.WriteString(body, titles(250))
		body.Close()
		a := (<-imported).problem(401, "unauthenticated")
		require.Contains(t, a.body["detail"], "200 items were imported")
		b.awaitItems(c, have)
		_, err = io.Copy(io.Discard, exported.Body)
		require.Error(t, err)
	}
}

// TestTransfersAreLimited keeps one user from taking all the memory.
func TestTransfersAreLimited(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada, ed := b.account("ada"), b.account("ed")
	c := b.collection(ada, "c")
	b.member(ada, c, ed, "editor")
	var bodies []io.WriteCloser
	var answers []<-chan answer
	for i := range 2 {
		body, answer := b.stream(ada, c)
		_, err := io.WriteString(body, titles(200))
		require.NoError(t, err)
		b.awaitItems(c, 200*(i+1))
		bodies, answers = append(bodies, body), append(answers, answer)
	}
	a := b.importNDJSON(ada, c, titles(1)).problem(429, "too-many-transfers")
	require.NotEmpty(t, a.header.Get("Retry-After"))
	b.call(ada, "GET", "/v1/collections/"+c+"/items.zip", nil).problem(429, "too-many-transfers")
	b.importNDJSON(ed, c, titles(1)).counts(1, 0, 0)
	for i := range bodies {
		bodies[i].Close()
		(<-answers[i]).counts(200, 0, 0)
	}
	require.Eventually(t, func() bool {
		return b.call(ada, "GET", "/v1/collections/"+c+"/items.zip", nil).status == 200
	}, time.Minute, 5*time.Millisecond)
}

func zipOf(t *testing.T, files map[string]string) string {
	t.Helper()
	var out bytes.Buffer
	writer := zip.NewWriter(&out)
	for _, name := range slices.Sorted(maps.Keys(files)) { // the order of the files is that of the items
		file, err := writer.Create(name)
		require.NoError(t, err)
		_, err = io.WriteString(file, files[name])
		require.NoError(t, err)
	}
	require.NoError(t, writer.Close())
	return out.String()
}

// TestTransfersOutliveTheServersTimeouts has timeouts that any other request exceeds.
func TestTransfersOutliveTheServersTimeouts(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	c := b.collection(ada, "c")
	start := func(read, write time.Duration) {
		server := httptest.NewUnstartedServer(b.server.Config.Handler)
		server.Config.ReadHeaderTimeout, server.Config.ReadTimeout, server.Config.WriteTimeout = time.Minute, read, write
		server.Start()
		t.Cleanup(server.Close)
		b.server = server
	}
	start(time.Nanosecond, time.Nanosecond)
	body, answers := b.stream(ada, c)
	_, err := io.WriteString(body, titles(200))
	require.NoError(t, err)
	b.awaitItems(c, 200)
	_, err = io.WriteString(body, titles(100))
	require.NoError(t, err)
	body.Close()
	(<-answers).counts(300, 0, 0)

	start(0, time.Nanosecond) // a deadline for reading would end a request without a body at once
	require.Len(t, fromNDJSON(t, b.exportNDJSON(ada, c).raw), 300)
}
