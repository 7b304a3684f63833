package api_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/jobs"
	"github.com/atlas-platform/atlas/internal/jobs/jobstest"
	"github.com/atlas-platform/atlas/internal/kafka/kafkatest"
	"github.com/atlas-platform/atlas/internal/objects"
	"github.com/atlas-platform/atlas/internal/tasks"
	"github.com/atlas-platform/atlas/internal/transfer"
	"github.com/atlas-platform/atlas/services/api"
)

const fileType = "application/octet-stream"

// exported makes a job that has made a file.
func (b *testBundle) exported(user *account, collection, format, content string) (job string) {
	b.t.Helper()
	job = b.call(user, "POST", "/v1/jobs", object{"type": "export", "parameters": object{"collection_id": collection, "format": format}}).is(202).id()
	path := transfer.ExportFolder(uuidOf(b.t, collection)) + job
	info, err := b.objects.Create(b.t.Context(), path, strings.NewReader(content), objects.AnyVersion)
	require.NoError(b.t, err)
	sum := sha256.Sum256([]byte(content))
	result, err := json.Marshal(tasks.ExportResult{Path: path, Format: format, Bytes: info.Size, SHA256: hex.EncodeToString(sum[:]), ETag: info.ETag})
	require.NoError(b.t, err)
	_, err = b.pool.Exec(b.t.Context(), "UPDATE jobs SET state = 'SUCCEEDED', finished_at = now(), result = $2 WHERE id = $1", job, result)
	require.NoError(b.t, err)
	return job
}

func (b *testBundle) upload(user *account, collection, query, content string) answer {
	b.t.Helper()
	return b.call(user, "POST", "/v1/collections/"+collection+"/files"+query, content, header("Content-Type", fileType))
}

// finishes waits for the end of a job.
func (b *testBundle) finishes(user *account, job string) map[string]any {
	b.t.Helper()
	var body map[string]any
	require.Eventually(b.t, func() bool {
		body = b.call(user, "GET", "/v1/jobs/"+job, nil).is(200).body
		return body["finished_at"] != nil
	}, jobstest.Patience, 10*time.Millisecond)
	return body
}

// TestFilesGoInAndOut uploads a file, has it imported, exports the collection and downloads that, in both forms.
func TestFilesGoInAndOut(t *testing.T) {
	t.Parallel()
	b := setup(t)
	kafkatest.Start(t, jobs.New(jobstest.Fast(), jobs.Deps{
		Logger: kafkatest.Logger(t), Pool: b.pool, Tasks: tasks.All(tasks.Deps{Logger: kafkatest.Logger(t), Pool: b.pool, Objects: b.objects}),
	}).Run)
	ada := b.account("ada")
	from := b.collection(ada, "Ada's notes")
	b.importNDJSON(ada, from, titles(300)).counts(300, 0, 0)
	for format, mediaType := range map[string]string{"ndjson": "application/x-ndjson", "markdown": "application/zip"} {
		job := b.call(ada, "POST", "/v1/jobs", object{"type": "export", "parameters": object{"collection_id": from, "format": format}}).is(202).id()
		done := b.finishes(ada, job)
		require.Equal(t, "SUCCEEDED", done["state"], done["error"])
		require.Equal(t, "/v1/jobs/"+job+"/file", done["links"].(map[string]any)["file"])
		file := b.call(ada, "GET", "/v1/jobs/"+job+"/file", nil).is(200)
		result := done["result"].(map[string]any)
		sum := sha256.Sum256(file.raw)
		require.Equal(t, result["sha256"], hex.EncodeToString(sum[:]))
		require.InDelta(t, len(file.raw), result["bytes"], 0)
		require.Equal(t, mediaType, file.header.Get("Content-Type"))
		require.Contains(t, file.header.Get("Content-Disposition"), `filename="ada-s-notes`+transfer.Extension(format))

		to := b.collection(ada, "copy of "+format)
		sent := b.upload(ada, to, "?format="+format, string(file.raw)).is(201)
		require.InDelta(t, len(file.raw), sent.body["bytes"], 0)
		require.True(t, strings.HasPrefix(sent.body["path"].(string), "imports/"+to+"/"), sent.body["path"])
		job = b.call(ada, "POST", "/v1/jobs", object{"type": "import", "parameters": object{"collection_id": to, "path": sent.body["path"]}}).is(202).id()
		done = b.finishes(ada, job)
		require.Equal(t, "SUCCEEDED", done["state"], done["error"])
		require.InDelta(t, 300, done["result"].(map[string]any)["created"], 0)
		require.Equal(t, format, done["result"].(map[string]any)["format"], "as the path says")
		require.Nil(t, done["links"].(map[string]any)["file"])
		require.Equal(t, withoutIDs(fromNDJSON(t, b.exportNDJSON(ada, from).raw)), withoutIDs(fromNDJSON(t, b.exportNDJSON(ada, to).raw)))
	}
}

func TestPartsOfAFile(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	c := b.collection(ada, "c")
	content := make([]byte, 3*transfer.Bytes/2) // looks at the rights on the way
	random := rand.NewChaCha8([32]byte{})
	_, _ = random.Read(content)
	path := "/v1/jobs/" + b.exported(ada, c, transfer.Markdown, string(content)) + "/file"
	whole := b.call(ada, "GET", path, nil).is(200)
	require.True(t, bytes.Equal(content, whole.raw))
	tag, size := whole.header.Get("ETag"), len(content)
	require.Equal(t, "bytes", whole.header.Get("Accept-Ranges"))
	require.Empty(t, b.call(ada, "HEAD", path, nil).is(200).raw)
	require.EqualValues(t, size, b.call(ada, "HEAD", path, nil).is(200).length())

	for asked, want := range map[string][2]int{
		"bytes=0-0": {0, 1}, "bytes=0-": {0, size}, "bytes=100-199": {100, 200}, "bytes=-5": {size - 5, size}, "Bytes=7-99999999999999999999": {7, size},
		"bytes=-99999999999999999999": {0, size},
	} {
		part := b.call(ada, "GET", path, nil, header("Range", asked)).is(206)
		require.True(t, bytes.Equal(content[want[0]:want[1]], part.raw), asked)
		require.Equal(t, tag, part.header.Get("ETag"))
		require.Regexp(t, `^bytes \d+-\d+/\d+$`, part.header.Get("Content-Range"))
	}
	for _, asked := range []string{"bytes=0-1,5-6", "items=0-1", "bytes", "bytes=-", "bytes=5-2", "bytes=x-2", "bytes=+1-2", "bytes=1-0x"} {
		require.Len(t, b.call(ada, "GET", path, nil, header("Range", asked)).is(200).raw, size, asked)
	}
	for _, asked := range []string{"bytes=99999999-", "bytes=-0"} {
		none := b.call(ada, "GET", path, nil, header("Range", asked)).problem(416, "range-not-satisfiable")
		require.Regexp(t, `^bytes \*/\d+$`, none.header.Get("Content-Range"))
	}
	b.call(ada, "GET", path, nil, header("Range", "bytes=0-0"), header("If-Range", tag)).is(206)
	b.call(ada, "GET", path, nil, header("Range", "bytes=0-0"), header("If-Range", `"other"`)).is(200)
	require.Equal(t, tag, b.call(ada, "GET", path, nil, header("If-None-Match", `"other", W/`+tag)).is(304).header.Get("ETag"))

	empty := "/v1/jobs/" + b.exported(ada, c, transfer.NDJSON, "") + "/file"
	require.Empty(t, b.call(ada, "GET", empty, nil).is(200).raw)
	b.call(ada, "GET", empty, nil, header("Range", "bytes=0-")).problem(416, "range-not-satisfiable")

	lines := strings.Repeat("{\"title\":\"x\"}\n", 10_000)
	path = "/v1/jobs/" + b.exported(ada, c, transfer.NDJSON, lines) + "/file"
	response, raw := b.rawCall(ada, "GET", path, "gzip")
	require.Equal(t, "gzip", response.Header.Get("Content-Encoding"))
	require.Less(t, len(raw), len(lines)/10)
}

// length is that of a whole answer, which HEAD has without it.
func (a answer) length() int64 {
	n := json.Number(a.header.Get("Content-Length"))
	length, _ := n.Int64()
	return length
}

func TestFilesThatAreNotThere(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada, admin := b.account("ada"), b.admin("admin")
	c := b.collection(ada, "c")
	b.call(ada, "GET", "/v1/jobs/"+b.job(ada, c, "SUCCEEDED")+"/file", nil).problem(404, "not-found")
	b.call(ada, "GET", "/v1/jobs/"+uuid.NewString()+"/file", nil).problem(404, "not-found")
	for state, want := range map[string]int{"QUEUED": 409, "RUNNING": 409, "FAILED": 404, "CANCELLED": 404} {
		job := b.exported(ada, c, transfer.NDJSON, "x")
		b.changeJob(job, "state = '"+state+"'")
		a := b.call(ada, "GET", "/v1/jobs/"+job+"/file", nil).is(want)
		require.Contains(t, a.body["detail"], state)
	}
	job := b.exported(ada, c, transfer.NDJSON, "mine")
	path := transfer.ExportFolder(uuidOf(t, c)) + job
	_, err := b.objects.Create(t.Context(), path, strings.NewReader("evil"), objects.AnyVersion)
	require.NoError(t, err)
	a := b.call(ada, "GET", "/v1/jobs/"+job+"/file", nil).problem(410, "gone")
	require.Contains(t, a.body["detail"], "replaced")
	require.NoError(t, b.objects.Delete(t.Context(), path))
	a = b.call(ada, "GET", "/v1/jobs/"+job+"/file", nil).problem(410, "gone")
	require.Contains(t, a.body["detail"], "removed")

	job = b.exported(ada, c, transfer.NDJSON, "mine")
	b.call(ada, "DELETE", "/v1/collections/"+c, nil).is(204)
	b.call(ada, "GET", "/v1/jobs/"+job+"/file", nil).problem(404, "not-found")
	file := b.call(admin, "GET", "/v1/jobs/"+job+"/file", nil).is(200)
	require.Contains(t, file.header.Get("Content-Disposition"), `filename="collection.ndjson"`)
}

// TestADownloadEndsWithTheRights takes them while the caller reads.
func TestADownloadEndsWithTheRights(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada, eve := b.account("ada"), b.account("eve")
	c := b.collection(ada, "c")
	b.member(ada, c, eve, "editor")
	content := make([]byte, 64<<20) // more than connections hold
	job := b.exported(ada, c, transfer.Markdown, string(content))
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.server.URL+"/v1/jobs/"+job+"/file", nil)
	require.NoError(t, err)
	request.Header.Set("Authorization", "Bearer "+eve.token)
	response, err := b.server.Client().Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	require.Equal(t, 200, response.StatusCode)
	_, err = b.pool.Exec(t.Context(), "UPDATE memberships SET role = 'viewer' WHERE user_id = $1", eve.id)
	require.NoError(t, err)
	n, err := io.Copy(io.Discard, response.Body)
	require.Error(t, err)
	require.Less(t, n, int64(len(content)))
}

func TestWithoutAnObjectStoreFilesAreRefused(t *testing.T) {
	t.Parallel()
	b := setupDeps(t, nil, nil, func(d *api.Deps) { d.Objects = nil })
	ada := b.account("ada")
	c := b.collection(ada, "c")
	for kind, parameters := range map[string]object{"export": {}, "import": {"path": "imports/" + c + "/x"}} {
		parameters["collection_id"] = c
		template := object{"type": kind, "parameters": parameters}
		a := b.call(ada, "POST", "/v1/jobs", template).problem(422, "no-object-store")
		require.Contains(t, a.body["detail"], "OBJECT_STORE_URL")
		b.call(ada, "POST", "/v1/schedules", object{"name": kind, "cron": "@daily", "job": template}).problem(422, "no-object-store")
	}
	b.upload(ada, c, "", "x").problem(422, "no-object-store")
	require.Zero(t, b.number("SELECT count(*) FROM jobs"))
	job := b.job(ada, c, "SUCCEEDED")
	b.changeJob(job, "type = 'export', result = '{}'")
	b.call(ada, "GET", "/v1/jobs/"+job+"/file", nil).problem(410, "gone")
}

// failing is a store that takes nothing.
type failing struct{ objects.Store }

func (failing) Create(_ context.Context, _ string, content io.Reader, _ objects.Version) (objects.Info, error) {
	_, _ = io.CopyN(io.Discard, content, 3)
	return objects.Info{}, errors.New("the disk is full")
}

func TestUploadsThatFail(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	c := b.collection(ada, "c")
	path := "/v1/collections/" + c + "/files"
	b.call(ada, "POST", path, "x", header("Content-Type", "text/plain")).problem(415, "unsupported-media-type")
	b.upload(ada, c, "?format=csv", "x").problem(400, "invalid-request", "format")
	b.upload(ada, c, "?path=../x", "x").problem(400, "invalid-request", "path")

	large, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.server.URL+path, http.NoBody)
	require.NoError(t, err)
	large.Header = http.Header{"Authorization": {"Bearer " + ada.token}, "Content-Type": {fileType}, "Expect": {"100-continue"}}
	large.ContentLength, large.Body = 5<<30, io.NopCloser(zeros{})
	patient := b.server.Client().Transport.(*http.Transport).Clone()
	patient.ExpectContinueTimeout = time.Minute // sends no body before the answer
	response, err := patient.RoundTrip(large)
	require.NoError(t, err)
	response.Body.Close()
	require.Equal(t, 413, response.StatusCode)

	// A body that ends before it should leaves nothing.
	body, sent := b.brokenUpload(ada, path)
	_, err = io.WriteString(body, strings.Repeat("x", 1<<20))
	require.NoError(t, err)
	_ = body.CloseWithError(errors.New("the client dies"))
	require.Error(t, <-sent)
	require.Empty(t, b.files(c))

	// Nor does one of somebody who is no editor any more when it ends.
	eve := b.account("eve")
	b.member(ada, c, eve, "editor")
	body, sent = b.brokenUpload(eve, path)
	_, err = io.WriteString(body, strings.Repeat("x", 1<<20))
	require.NoError(t, err)
	_, err = b.pool.Exec(t.Context(), "UPDATE memberships SET role = 'viewer' WHERE user_id = $1", eve.id)
	require.NoError(t, err)
	require.NoError(t, body.Close())
	require.ErrorContains(t, <-sent, "403")
	require.Empty(t, b.files(c))

	full := setupDeps(t, b.pool, nil, func(d *api.Deps) { d.Objects = failing{d.Objects} })
	token, err := full.issuer.Mint(uuidOf(t, ada.id))
	require.NoError(t, err)
	a := full.upload(&account{id: ada.id, token: token}, c, "", "x").problem(503, "unavailable")
	require.NotContains(t, string(a.raw), "disk")
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

// files are those that were uploaded for a collection.
func (b *testBundle) files(collection string) (names []string) {
	b.t.Helper()
	for info, err := range b.objects.List(b.t.Context(), transfer.ImportFolder(uuidOf(b.t, collection))) {
		require.NoError(b.t, err)
		names = append(names, info.Name)
	}
	return names
}

// brokenUpload begins an upload whose body the test writes. What comes of it is an error, of the connection or with the status.
func (b *testBundle) brokenUpload(user *account, path string) (*io.PipeWriter, <-chan error) {
	b.t.Helper()
	in, out := io.Pipe()
	request, err := http.NewRequestWithContext(b.t.Context(), http.MethodPost, b.server.URL+path, in)
	require.NoError(b.t, err)
	request.Header = http.Header{"Authorization": {"Bearer " + user.token}, "Content-Type": {fileType}}
	sent := make(chan error, 1)
	go func() {
		response, err := b.server.Client().Do(request)
		if err == nil {
			err = errors.New(response.Status)
			_ = response.Body.Close()
		}
		sent <- err
	}()
	return out, sent
}

// TestAPathOfSomebodyElse is refused before there is a job.
func TestAPathOfSomebodyElse(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada, admin := b.account("ada"), b.admin("admin")
	c, other := b.collection(ada, "c"), b.collection(ada, "other")
	for kind, folder := range map[string]string{"import": "imports/", "export": "exports/"} {
		job := func(path string) object {
			return object{"type": kind, "parameters": object{"collection_id": c, "path": path}}
		}
		schedule := func(path string) object {
			return object{"name": kind, "cron": "@daily", "job": job(path)}
		}
		for _, path := range []string{"x.ndjson", folder + other + "/x.ndjson", folder + c + "x/y"} {
			refused := b.call(ada, "POST", "/v1/jobs", job(path))
			refused.problem(422, "validation", "/parameters/path")
			require.Contains(t, string(refused.raw), "has to begin with "+folder+c+"/")
			b.call(ada, "POST", "/v1/schedules", schedule(path)).problem(422, "validation", "/job/parameters/path")
		}
		b.call(ada, "POST", "/v1/jobs", job(folder+c+"/x.ndjson")).is(202)
		b.call(ada, "POST", "/v1/schedules", schedule(folder+c+"/x.ndjson")).is(201)
		b.call(admin, "POST", "/v1/jobs", job("x.ndjson")).is(202)
		b.call(admin, "POST", "/v1/schedules", object{"name": "any-" + kind, "cron": "@daily", "job": job("x.ndjson")}).is(201)
	}
}

// TestAnArchiveSentAsLines would be thousands of wrong lines.
func TestAnArchiveSentAsLines(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	c := b.collection(ada, "c")
	refused := b.importNDJSON(ada, c, "PK\x03\x04\x14\x00\nand so on\n")
	refused.problem(400, "invalid-request")
	require.Contains(t, string(refused.raw), "application/zip")
	b.importNDJSON(ada, c, "PK\n").counts(0, 0, 1)
}
