package api_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

func TestSchedules(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada, eve, admin := b.account("ada"), b.account("eve"), b.admin("admin")
	c := b.collection(ada, "c")
	nightly := map[string]any{"name": "nightly", "cron": "30 3 * * *", "time_zone": "Europe/Zurich", "job": reindex(c)}
	a := b.call(ada, "POST", "/v1/schedules", nightly, header("Idempotency-Key", "k")).is(201)
	self := "/v1/schedules/" + a.id()
	require.Equal(t, self, a.header.Get("Location"))
	require.Equal(t, map[string]any{"type": "reindex", "parameters": map[string]any{"collection_id": c}, "priority": 0.0}, a.body["job"])
	require.Equal(t, c, a.body["collection_id"])
	require.Equal(t, ada.id, a.body["created_by"])
	next, err := time.Parse(time.RFC3339, a.body["next_run_at"].(string))
	require.NoError(t, err)
	zone, err := time.LoadLocation("Europe/Zurich")
	require.NoError(t, err)
	require.Equal(t, "03:30", next.In(zone).Format("15:04"))
	require.True(t, next.After(time.Now()))
	require.Equal(t, a.body, b.call(ada, "POST", "/v1/schedules", nightly, header("Idempotency-Key", "k")).is(201).body)
	b.call(admin, "POST", "/v1/schedules", nightly).problem(409, "name-taken")
	b.call(eve, "POST", "/v1/schedules", nightly).problem(404, "not-found")

	tag := a.header.Get("ETag")
	a = b.call(ada, "PATCH", self, map[string]any{"suspended": true}, header("If-Match", tag)).is(200)
	require.Nil(t, a.body["next_run_at"])
	require.NotEqual(t, tag, a.header.Get("ETag"))
	b.call(ada, "PATCH", self, map[string]any{"suspended": false}, header("If-Match", tag)).problem(412, "precondition-failed")
	a = b.call(ada, "PATCH", self, map[string]any{"suspended": false, "cron": "@hourly", "name": "hourly"}).is(200)
	require.NotNil(t, a.body["next_run_at"])
	require.Equal(t, a.body, b.call(ada, "GET", self, nil).is(200).body)
	require.Equal(t, a.header.Get("ETag"), b.call(ada, "PATCH", self, map[string]any{"name": "hourly"}).is(200).header.Get("ETag"), "nothing was changed")
	b.call(ada, "POST", "/v1/schedules", nightly).is(201)
	b.call(ada, "PATCH", self, map[string]any{"name": "nightly"}).problem(409, "name-taken")
	b.call(ada, "DELETE", self, nil, header("If-Match", tag)).problem(412, "precondition-failed")
	b.call(ada, "DELETE", self, nil).is(204)
	b.call(ada, "GET", self, nil).problem(404, "not-found")

	b.call(ada, "DELETE", "/v1/collections/"+c, nil).is(204)
	require.Zero(t, b.number("SELECT count(*) FROM job_schedules"), "they go with their collection")
}

func TestWhatAScheduleMayBe(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	c := b.collection(ada, "c")
	for pointer, change := range map[string]map[string]any{
		"/name": {"name": "Every Night"}, "/cron": {"cron": "@every 1s"}, "/time_zone": {"time_zone": "Mars/Olympus"}, "/job/type": {"job": map[string]any{"type": "dance"}},
		"/job/parameters/collection_id": {"job": map[string]any{"type": "reindex", "parameters": map[string]any{"collection_id": 1}}},
		"/job/run_at":                   {"job": map[string]any{"type": "reindex", "parameters": map[string]any{"collection_id": c}, "run_at": time.Now().UTC()}},
	} {
		body := map[string]any{"name": "s", "cron": "@daily", "job": reindex(c)}
		for name, value := range change {
			body[name] = value
		}
		b.call(ada, "POST", "/v1/schedules", body).problem(422, "validation", pointer)
	}
	for _, cron := range []string{"61 * * * *", "0 0 31 2 *", "x x x x x", "TZ=UTC * * * *", "* * * * * *"} {
		b.call(ada, "POST", "/v1/schedules", map[string]any{"name": "s", "cron": cron, "job": reindex(c)}).problem(422, "validation", "/cron")
	}
	body := map[string]any{"name": "s", "cron": "@daily", "job": map[string]any{"type": "reindex", "parameters": map[string]any{"collection_id": c}, "priority": 1}}
	b.call(ada, "POST", "/v1/schedules", body).problem(403, "forbidden")
	b.call(b.admin("admin"), "POST", "/v1/schedules", body).is(201)
}

func TestPagesOfSchedules(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada, eve, admin := b.account("ada"), b.account("eve"), b.admin("admin")
	c, other := b.collection(ada, "c"), b.collection(eve, "d")
	for i := range 5 {
		b.call(ada, "POST", "/v1/schedules", map[string]any{"name": fmt.Sprintf("a-%d", i), "cron": "@daily", "job": reindex(c)}).is(201)
	}
	b.call(eve, "POST", "/v1/schedules", map[string]any{"name": "a-2b", "cron": "@daily", "job": reindex(other)}).is(201)
	names := func(who *account, query string) (out []string) {
		for cursor := ""; ; {
			a := b.call(who, "GET", "/v1/schedules?limit=2"+query+cursor, nil).is(200)
			for _, item := range a.items() {
				out = append(out, item["name"].(string))
			}
			next, more := a.body["next_cursor"].(string)
			if !more {
				return out
			}
			cursor = "&cursor=" + next
		}
	}
	require.Equal(t, []string{"a-0", "a-1", "a-2", "a-3", "a-4"}, names(ada, ""))
	require.Equal(t, []string{"a-0", "a-1", "a-2", "a-2b", "a-3", "a-4"}, names(admin, ""))
	require.Equal(t, []string{"a-2b"}, names(admin, "&collection_id="+other))
	b.call(ada, "GET", "/v1/schedules?collection_id="+other, nil).problem(404, "not-found")
	b.call(ada, "GET", "/v1/schedules/"+uuid.NewString(), nil).problem(404, "not-found")
}
