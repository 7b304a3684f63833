package api_test

import (
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/event"
)

// job queues a job and puts it into a state.
func (b *testBundle) job(user *account, collection, state string) string {
	b.t.Helper()
	id := b.call(user, "POST", "/v1/jobs", reindex(collection)).is(202).id()
	b.changeJob(id, "state = '"+state+"'")
	return id
}

// changeJob does what a worker would.
func (b *testBundle) changeJob(id, changes string) {
	b.t.Helper()
	tag, err := b.pool.Exec(b.t.Context(), "UPDATE jobs SET version = version + 1, updated_at = now(), "+changes+" WHERE id = $1", id)
	require.NoError(b.t, err)
	require.EqualValues(b.t, 1, tag.RowsAffected())
}

func TestCancelAJob(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	c := b.collection(ada, "c")

	waiting := b.job(ada, c, "QUEUED")
	before := len(b.envelopes())
	a := b.call(ada, "POST", "/v1/jobs/"+waiting+"/cancel", nil).is(200)
	require.Equal(t, "CANCELLED", a.body["state"])
	events := b.envelopes()
	require.Len(t, events, before+1)
	require.Equal(t, event.JobUpdated, events[before].EventType)
	require.Equal(t, ada.id, events[before].ActorUserID.String())
	again := b.call(ada, "POST", "/v1/jobs/"+waiting+"/cancel", nil).is(200)
	require.Equal(t, a.body, again.body)

	running := b.job(ada, c, "RUNNING")
	a = b.call(ada, "POST", "/v1/jobs/"+running+"/cancel", nil).is(202)
	require.Equal(t, "RUNNING", a.body["state"])
	require.Equal(t, true, a.body["cancel_requested"])
	require.Equal(t, a.body, b.call(ada, "POST", "/v1/jobs/"+running+"/cancel", nil).is(202).body)
	require.Equal(t, 1, b.number("SELECT count(*) FROM jobs WHERE id = $1 AND cancel_requested_by = $2", running, ada.id), "for the event of its end")

	done := b.job(ada, c, "SUCCEEDED")
	a = b.call(ada, "POST", "/v1/jobs/"+done+"/cancel", nil).is(200)
	require.Equal(t, "SUCCEEDED", a.body["state"], "what is done is not undone")
	require.Equal(t, false, a.body["cancel_requested"])
	b.call(ada, "POST", "/v1/jobs/"+uuid.NewString()+"/cancel", nil).problem(404, "not-found")
}

func TestRetryAJob(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	c := b.collection(ada, "c")
	for _, state := range []string{"FAILED", "CANCELLED"} {
		id := b.job(ada, c, state)
		b.changeJob(id, `attempt = 5, error = 'e', error_code = 'failed', history = '[{"attempt": 5, "outcome": "failed"}]', finished_at = now()`)
		key := header("Idempotency-Key", id)
		a := b.call(ada, "POST", "/v1/jobs/"+id+"/retry", nil, key).is(202)
		require.Equal(t, "QUEUED", a.body["state"])
		require.InDelta(t, 0, a.body["attempts"], 0)
		require.Nil(t, a.body["error"])
		require.Len(t, a.body["history"], 1)
		require.Equal(t, a.body, b.call(ada, "POST", "/v1/jobs/"+id+"/retry", nil, key).is(202).body, "the same request")
		b.call(ada, "POST", "/v1/jobs/"+id+"/retry", nil).problem(409, "job-not-finished")
	}
	b.call(ada, "POST", "/v1/jobs/"+b.job(ada, c, "SUCCEEDED")+"/retry", nil).problem(409, "job-not-finished")
	b.call(ada, "POST", "/v1/jobs/"+b.job(ada, c, "RUNNING")+"/retry", nil).problem(409, "job-not-finished")
}

func TestOnlyAdminsReadWhatNobodyWroteForUsers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada, admin := b.account("ada"), b.admin("admin")
	id := b.job(ada, b.collection(ada, "c"), "FAILED")
	for _, code := range []string{"NULL", "'failed'", "'panic'", "'invalid_result'"} {
		b.changeJob(id, `error = 'dial tcp 10.1.2.3:9200', error_code = `+code+`,
			history = '[{"attempt": 1, "worker": "worker-7", "outcome": "failed", "error": "dial tcp 10.1.2.3:9200"}]'`)
		for _, path := range []string{"/v1/jobs/" + id, "/v1/jobs", "/v1/jobs/" + id + "/events"} {
			mine := string(b.call(ada, "GET", path, nil).is(200).raw)
			require.NotContains(t, mine, "10.1.2.3", "%s %s", code, path)
			require.NotContains(t, mine, "worker-7", "%s %s", code, path)
			require.Contains(t, mine, "platform admins see what", "%s %s", code, path)
			require.Contains(t, string(b.call(admin, "GET", path, nil).is(200).raw), "10.1.2.3", "%s %s", code, path)
		}
	}
}

func TestWhoeverQueuedAJobSeesItAsLongAsTheyAreInTheCollection(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada, eve := b.account("ada"), b.account("eve")
	c := b.collection(ada, "c")
	b.member(ada, c, eve, "editor")
	key := header("Idempotency-Key", "k")
	id := b.call(eve, "POST", "/v1/jobs", reindex(c), key).is(202).id()
	paths := []struct{ method, path string }{
		{"GET", ""}, {"POST", "/cancel"}, {"POST", "/retry"}, {"GET", "/events"},
	}
	b.call(ada, "PATCH", "/v1/collections/"+c+"/members/"+eve.id, map[string]any{"role": "viewer"}).is(200)
	for _, r := range paths {
		b.call(eve, r.method, "/v1/jobs/"+id+r.path, nil).problem(403, "forbidden")
	}
	require.Empty(t, b.call(eve, "GET", "/v1/jobs", nil).is(200).items())
	b.call(ada, "DELETE", "/v1/collections/"+c+"/members/"+eve.id, nil).is(204)
	for _, r := range paths {
		b.call(eve, r.method, "/v1/jobs/"+id+r.path, nil).problem(404, "not-found")
	}
	b.call(eve, "POST", "/v1/jobs", reindex(c), key).problem(404, "not-found")
	require.Equal(t, id, b.call(ada, "GET", "/v1/jobs/"+id, nil).is(200).id())
}

func TestWhatAJobIsQueuedWith(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada, admin := b.account("ada"), b.admin("admin")
	c := b.collection(ada, "c")
	with := func(more map[string]any) map[string]any {
		body := map[string]any{"type": "reindex", "parameters": map[string]any{"collection_id": c}}
		for name, value := range more {
			body[name] = value
		}
		return body
	}
	later := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	a := b.call(ada, "POST", "/v1/jobs", with(map[string]any{"run_at": later, "max_attempts": 2})).is(202)
	require.Equal(t, later.Format(time.RFC3339), a.body["run_at"])
	require.InDelta(t, 2, a.body["max_attempts"], 0)
	a = b.call(ada, "POST", "/v1/jobs", with(map[string]any{"run_at": "2020-01-01T00:00:00Z"})).is(202)
	require.Equal(t, a.body["created_at"], a.body["run_at"])
	require.InDelta(t, -3, b.call(admin, "POST", "/v1/jobs", with(map[string]any{"priority": -3})).is(202).body["priority"], 0)
	b.call(ada, "POST", "/v1/jobs", with(map[string]any{"priority": 1})).problem(403, "forbidden")
	for field, value := range map[string]any{
		"/priority": 10, "/max_attempts": 26, "/run_at": time.Now().Add(367 * 24 * time.Hour).UTC(), "/parameters/what": 1, "/more": 1,
	} {
		body := with(nil)
		if field == "/parameters/what" {
			body["parameters"].(map[string]any)["what"] = value
		} else {
			body[field[1:]] = value
		}
		b.call(ada, "POST", "/v1/jobs", body).problem(422, "validation", field)
	}
	for pointer, body := range map[string]any{
		"/type": map[string]any{"parameters": map[string]any{}}, "/parameters": map[string]any{"type": "reindex"},
		"/parameters/collection_id": map[string]any{"type": "reindex", "parameters": map[string]any{"collection_id": "everything"}},
	} {
		b.call(ada, "POST", "/v1/jobs", body).problem(422, "validation", pointer)
	}
	b.call(ada, "POST", "/v1/jobs", map[string]any{"type": "purge", "parameters": map[string]any{"collection_id": c}}).problem(422, "validation", "/type")
}

// TestFiltersOfJobs compares every combination of filters, for everybody, with a walk through all jobs.
func TestFiltersOfJobs(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada, eve, admin := b.account("ada"), b.account("eve"), b.admin("admin")
	first, second, other := b.collection(ada, "1"), b.collection(ada, "2"), b.collection(eve, "3")
	type job struct {
		id, kind, state, collection string
		at                          time.Time
	}
	start := time.Now().Add(-100 * time.Hour).UTC().Truncate(time.Second)
	var all []job
	states, kinds := []string{"QUEUED", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED"}, []string{"reindex", "purge"}
	for i := range 90 {
		at := start.Add(time.Duration(i) * time.Hour)
		id := uuid.Must(uuid.NewV7())
		for place := range 6 {
			id[place] = byte(at.UnixMilli() >> (40 - 8*place))
		}
		j := job{id.String(), kinds[i%2], states[i%5], []string{first, second, other}[i%3], at}
		all = append(all, j)
		_, err := b.pool.Exec(t.Context(), "INSERT INTO jobs (id, type, state, collection_id, created_at) VALUES ($1, $2, $3, $4, $5)",
			j.id, j.kind, j.state, j.collection, j.at)
		require.NoError(t, err)
	}
	slices.Reverse(all)
	for _, who := range []struct {
		user        *account
		collections []string
	}{{ada, []string{first, second}}, {admin, []string{first, second, other}}} {
		for _, query := range []url.Values{
			{},
			{"state": {"FAILED"}},
			{"state": {"QUEUED", "RUNNING"}},
			{"state": {"SUCCEEDED"}},
			{"state": {"SUCCEEDED", "CANCELLED"}, "type": {"reindex"}},
			{"type": {"purge"}},
			{"type": {"purge", "reindex"}},
			{"type": {"purge"}, "state": {"FAILED", "RUNNING"}},
			{"collection_id": {second}},
			{"collection_id": {second}, "state": {"SUCCEEDED", "QUEUED"}, "type": {"purge"}},
			{"created_after": {start.Add(10 * time.Hour).Format(time.RFC3339)}, "created_before": {start.Add(50 * time.Hour).Format(time.RFC3339)}},
			{"created_after": {start.Add(10 * time.Hour).Format(time.RFC3339)}, "state": {"CANCELLED"}, "type": {"reindex"}},
		} {
			var want, got []string
			for _, j := range all {
				after, _ := time.Parse(time.RFC3339, query.Get("created_after"))
				before, err := time.Parse(time.RFC3339, query.Get("created_before"))
				if slices.Contains(who.collections, j.collection) && (query.Get("collection_id") == "" || query.Get("collection_id") == j.collection) &&
					(query["state"] == nil || slices.Contains(query["state"], j.state)) && (query["type"] == nil || slices.Contains(query["type"], j.kind)) &&
					!j.at.Before(after) && (err != nil || j.at.Before(before)) {
					want = append(want, j.id)
				}
			}
			for cursor := ""; ; {
				a := b.call(who.user, "GET", "/v1/jobs?limit=7&"+query.Encode()+cursor, nil).is(200)
				for _, item := range a.items() {
					got = append(got, item["id"].(string))
				}
				next, more := a.body["next_cursor"].(string)
				if !more {
					break
				}
				cursor = "&cursor=" + next
			}
			require.Equal(t, want, got, "%s %v", who.user.email, query)
		}
	}
	b.call(ada, "GET", "/v1/jobs?state=ASLEEP", nil).problem(400, "invalid-request", "state")
	b.call(ada, "GET", "/v1/jobs?created_after=yesterday", nil).problem(400, "invalid-request", "created_after")
	page := b.call(ada, "GET", "/v1/jobs?limit=1&state=FAILED", nil).is(200)
	b.call(ada, "GET", "/v1/jobs?limit=1&cursor="+page.body["next_cursor"].(string), nil).problem(400, "invalid-request", "cursor")
}

func TestPauseAndResumeAJob(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	c := b.collection(ada, "c")

	waiting := b.job(ada, c, "QUEUED")
	before := len(b.envelopes())
	a := b.call(ada, "POST", "/v1/jobs/"+waiting+"/pause", nil).is(200)
	require.Equal(t, true, a.body["paused"])
	require.Equal(t, "QUEUED", a.body["state"])
	links := a.body["links"].(map[string]any)
	require.Nil(t, links["pause"])
	require.Equal(t, "/v1/jobs/"+waiting+"/resume", links["resume"])
	require.Equal(t, a.body, b.call(ada, "POST", "/v1/jobs/"+waiting+"/pause", nil).is(200).body, "again")
	require.Equal(t, true, b.call(ada, "GET", "/v1/jobs", nil).is(200).items()[0]["paused"])
	events := b.envelopes()
	require.Len(t, events, before+1)
	require.Equal(t, ada.id, events[before].ActorUserID.String())
	require.Contains(t, string(events[before].Data), `"held":true`)
	a = b.call(ada, "POST", "/v1/jobs/"+waiting+"/resume", nil).is(200)
	require.Equal(t, false, a.body["paused"])
	require.Equal(t, "/v1/jobs/"+waiting+"/pause", a.body["links"].(map[string]any)["pause"])

	running := b.job(ada, c, "RUNNING")
	a = b.call(ada, "POST", "/v1/jobs/"+running+"/pause", nil).is(202)
	require.Equal(t, "RUNNING", a.body["state"])
	require.Equal(t, true, a.body["paused"])
	require.Equal(t, true, b.call(ada, "POST", "/v1/jobs/"+running+"/cancel", nil).is(202).body["cancel_requested"])

	done := b.job(ada, c, "SUCCEEDED")
	for _, what := range []string{"pause", "resume"} {
		a = b.call(ada, "POST", "/v1/jobs/"+done+"/"+what, nil).is(200)
		require.Equal(t, "SUCCEEDED", a.body["state"])
		require.Equal(t, false, a.body["paused"])
		b.call(ada, "POST", "/v1/jobs/"+uuid.NewString()+"/"+what, nil).problem(404, "not-found")
	}
}

func TestTheJobOfAKeyIsFoundByWhoeverQueuedIt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada, admin := b.account("ada"), b.admin("admin")
	c := b.collection(ada, "c")
	key := header("Idempotency-Key", "k")
	mine := b.call(ada, "POST", "/v1/jobs", reindex(c), key).is(202).id()
	b.call(ada, "POST", "/v1/jobs", reindex(c)).is(202)
	theirs := b.call(admin, "POST", "/v1/jobs", reindex(c), key).is(202).id()
	found := func(user *account, query string) (ids []string) {
		for _, job := range b.call(user, "GET", "/v1/jobs?idempotency_key="+query, nil).is(200).items() {
			ids = append(ids, job["id"].(string))
		}
		return ids
	}
	require.Equal(t, []string{mine}, found(ada, "k"))
	require.Equal(t, []string{theirs}, found(admin, "k"))
	require.Empty(t, found(ada, "other"))
	require.Empty(t, found(ada, "k&state=FAILED"))
	require.Equal(t, []string{mine}, found(ada, "k&collection_id="+c))
	b.call(ada, "GET", "/v1/jobs?idempotency_key=", nil).problem(400, "invalid-request")
}
