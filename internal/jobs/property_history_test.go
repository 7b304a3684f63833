package jobs

import (
	"context"
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/event"
	"github.com/atlas-platform/atlas/internal/postgres/db"
)

// recorder writes down every change of a job.
const recorder = `
	CREATE TABLE job_record (n bigserial PRIMARY KEY, id uuid NOT NULL, old jsonb, new jsonb NOT NULL);
	CREATE FUNCTION record_job() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO job_record (id, old, new) VALUES (NEW.id, CASE WHEN TG_OP = 'UPDATE' THEN to_jsonb(OLD) END, to_jsonb(NEW));
		RETURN NULL;
	END $$;
	CREATE TRIGGER record_job AFTER INSERT OR UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION record_job()`

// row is a job as it was recorded.
type row struct {
	State       string     `json:"state"`
	Held        bool       `json:"held"`
	Version     int64      `json:"version"`
	Attempt     int        `json:"attempt"`
	MaxAttempts int        `json:"max_attempts"`
	UniqueKey   *string    `json:"unique_key"`
	Owner       *string    `json:"lease_owner"`
	Expires     *time.Time `json:"lease_expires_at"`
	Cancel      *time.Time `json:"cancel_requested_at"`
	RunAt       time.Time  `json:"run_at"`
	Updated     time.Time  `json:"updated_at"`
	Created     time.Time  `json:"created_at"`
	Error       *string    `json:"error"`
	Code        *string    `json:"error_code"`
	Result      *struct {
		By string `json:"by"`
	} `json:"result"`
	Checkpoint *struct {
		By string `json:"by"`
	} `json:"checkpoint"`
	Done    int `json:"progress_done"`
	History []struct {
		Outcome string `json:"outcome"`
		Attempt int    `json:"attempt"`
	} `json:"history"`
}

type change struct{ old, new *row }

// history is what was recorded.
type history struct {
	order   []uuid.UUID // of each change
	changes []change
	events  map[uuid.UUID][]event.JobData
	created map[uuid.UUID]int // JobCreated events
}

func (w *world) read() *history {
	w.t.Helper()
	h := &history{events: map[uuid.UUID][]event.JobData{}, created: map[uuid.UUID]int{}}
	rows, err := w.pool.Query(context.Background(), "SELECT id, old, new FROM job_record ORDER BY n")
	require.NoError(w.t, err)
	for rows.Next() {
		var id uuid.UUID
		var c change
		require.NoError(w.t, rows.Scan(&id, &c.old, &c.new))
		h.order, h.changes = append(h.order, id), append(h.changes, c)
	}
	require.NoError(w.t, rows.Err())
	rows, err = w.pool.Query(context.Background(), "SELECT payload FROM outbox ORDER BY id")
	require.NoError(w.t, err)
	for rows.Next() {
		var payload []byte
		require.NoError(w.t, rows.Scan(&payload))
		e, err := event.Decode(payload)
		require.NoError(w.t, err)
		var data event.JobData
		require.NoError(w.t, json.Unmarshal(e.Data, &data))
		h.events[data.JobID] = append(h.events[data.JobID], data)
		if e.EventType == event.JobCreated {
			h.created[data.JobID]++
		}
	}
	require.NoError(w.t, rows.Err())
	return h
}

// allowed are the changes of state that there are; docs/jobs.md draws them.
var allowed = map[string][]string{
	stateQueued:    {stateRunning, stateCancelled},
	stateRunning:   {stateSucceeded, stateFailed, stateCancelled, stateQueued},
	stateFailed:    {stateQueued},
	stateCancelled: {stateQueued},
}

func (h *history) check(t *testing.T, w *world) {
	t.Helper()
	announced := map[uuid.UUID][]event.JobData{}
	unfinished := map[string]uuid.UUID{}
	counted := map[uuid.UUID]int{} // attempts since the job was queued or retried, but for those that were handed back
	leases := map[string]bool{}
	for i, c := range h.changes {
		id := h.order[i]
		if c.old == nil || c.old.State != c.new.State || c.old.Held != c.new.Held {
			announced[id] = append(announced[id], event.JobData{JobID: id, EntityVersion: c.new.Version, State: c.new.State, Held: c.new.Held})
		}
		require.LessOrEqual(t, c.new.Attempt, c.new.MaxAttempts, "attempts of job %s", id)
		require.Equal(t, c.new.State == stateRunning, c.new.Owner != nil, "only running jobs are leased: %s", id)
		require.True(t, !c.new.Held || c.new.State == stateQueued || c.new.State == stateRunning, "finished job %s is held", id)
		if c.new.Held && c.new.Owner != nil {
			w.stopped[*c.new.Owner+id.String()] = true
		}
		h.checkKey(t, unfinished, id, c.new)
		if c.old == nil {
			require.Equal(t, stateQueued, c.new.State)
			continue
		}
		h.checkChange(t, w, id, c)
		switch {
		case c.old.State == stateQueued && c.new.State == stateRunning:
			counted[id]++
			require.Equal(t, c.old.Attempt+1, c.new.Attempt)
			require.False(t, leases[*c.new.Owner+id.String()], "a lease is given once")
			leases[*c.new.Owner+id.String()] = true
			require.False(t, c.old.RunAt.After(c.new.Updated), "claimed before its time")
			require.False(t, c.old.Held, "job %s was claimed though it is held", id)
		case c.old.State == stateRunning && c.new.State == stateQueued && c.new.Attempt < c.old.Attempt: // handed back
			counted[id]--
		case c.old.State == stateFailed || c.old.State == stateCancelled: // retried
			counted[id] = 0
			require.Zero(t, c.new.Attempt)
		}
		require.LessOrEqual(t, counted[id], c.new.MaxAttempts, "attempts of job %s", id)
	}
	for _, id := range w.jobs {
		require.Contains(t, announced, id, "a job was lost")
	}
	for id, want := range announced {
		require.Equal(t, 1, h.created[id])
		got := h.events[id]
		require.Len(t, got, len(want), "events of job %s", id)
		for i := range want {
			require.Equal(t, want[i].EntityVersion, got[i].EntityVersion, "versions that events of job %s announce", id)
			require.Equal(t, want[i].State, got[i].State, "states that events of job %s announce", id)
			require.Equal(t, want[i].Held, got[i].Held, "what events of job %s say about its being held", id)
		}
	}
	h.checkSchedules(t, w)
	t.Log("attempts by how they ended:", h.outcomes())
}

// outcomes counts how attempts ended: what a history has none of, it does not test.
func (h *history) outcomes() map[string]int {
	counts := map[string]int{}
	for _, c := range h.changes {
		if n := len(c.new.History); c.old != nil && n > len(c.old.History) {
			counts[c.new.History[n-1].Outcome]++
		}
	}
	return counts
}

// checkKey holds that no two unfinished jobs have the same unique key.
func (h *history) checkKey(t *testing.T, unfinished map[string]uuid.UUID, id uuid.UUID, now *row) {
	t.Helper()
	if now.UniqueKey == nil {
		return
	}
	holder, held := unfinished[*now.UniqueKey]
	if now.State != stateQueued && now.State != stateRunning {
		if holder == id {
			delete(unfinished, *now.UniqueKey)
		}
		return
	}
	require.True(t, !held || holder == id, "two unfinished jobs have the key %q", *now.UniqueKey)
	unfinished[*now.UniqueKey] = id
}

func (h *history) checkChange(t *testing.T, w *world, id uuid.UUID, c change) {
	t.Helper()
	require.GreaterOrEqual(t, c.new.Version, c.old.Version)
	if c.old.State == c.new.State {
		require.Equal(t, c.old.Owner, c.new.Owner, "a lease changed hands in job %s", id)
		require.Equal(t, c.old.Attempt, c.new.Attempt)
		if c.old.Done != c.new.Done {
			require.Equal(t, *c.new.Owner, c.new.Checkpoint.By, "progress of job %s was saved by a worker without the lease", id)
		}
		return
	}
	require.Contains(t, allowed[c.old.State], c.new.State, "from %s", c.old.State)
	require.Equal(t, c.old.Version+1, c.new.Version)
	if c.old.State != stateRunning {
		return
	}
	if c.old.Cancel != nil {
		require.Contains(t, []string{stateSucceeded, stateCancelled}, c.new.State, "job %s was cancelled", id)
	}
	require.NotEqual(t, stateCancelled, map[bool]string{true: c.new.State}[c.old.Cancel == nil], "nobody cancelled job %s", id)
	last := c.new.History[len(c.new.History)-1]
	require.Equal(t, c.old.Attempt, last.Attempt)
	switch {
	case last.Outcome == outcomeLeaseLost:
		require.True(t, c.old.Expires.Before(c.new.Updated), "job %s was taken from a worker that had its lease", id)
	case last.Outcome == outcomeHandedBack:
		require.True(t, w.drained[*c.old.Owner] || w.stopped[*c.old.Owner+id.String()], "job %s was handed back by a worker that goes on", id)
	case c.new.State == stateSucceeded:
		require.Equal(t, *c.old.Owner, c.new.Result.By, "job %s was completed by a worker without the lease", id)
	case last.Outcome == outcomeFailed || last.Outcome == outcomeRetried:
		require.Contains(t, *c.new.Error, "by "+*c.old.Owner, "job %s failed by the word of a worker without the lease", id)
	}
	if c.new.State == stateFailed && last.Outcome == outcomeLeaseLost {
		require.Equal(t, c.new.MaxAttempts, c.new.Attempt, "job %s had attempts left", id)
	}
}

// checkSchedules holds that each tick was fired once, in its order, and that those which were missed are the only ones left out.
func (h *history) checkSchedules(t *testing.T, w *world) {
	t.Helper()
	rows, err := w.pool.Query(context.Background(), "SELECT * FROM job_schedules")
	require.NoError(t, err)
	schedules, err := pgx.CollectRows(rows, pgx.RowToStructByPos[db.JobSchedule])
	require.NoError(t, err)
	require.Len(t, schedules, 2)
	for _, s := range schedules {
		tick, err := Next(s.Cron, s.TimeZone, time.Date(2026, 3, 28, 22, 0, 0, 0, time.UTC))
		require.NoError(t, err)
		var keys []string
		for _, c := range h.changes {
			if c.old != nil || c.new.UniqueKey == nil || *c.new.UniqueKey != scheduleKey(s.ID, tick) {
				continue
			}
			require.False(t, c.new.Created.Before(tick), "a tick was fired before its time")
			keys = append(keys, *c.new.UniqueKey)
			tick, err = Next(s.Cron, s.TimeZone, c.new.Created)
			require.NoError(t, err)
		}
		fired := slices.Clone(keys)
		slices.Sort(fired)
		require.Len(t, slices.Compact(fired), len(keys))
		require.Equal(t, len(keys), w.count("SELECT count(*) FROM jobs WHERE unique_key LIKE 'schedule/' || $1::text || '/%'", s.ID), "ticks of %q", s.Name)
		require.NotEmpty(t, keys)
		require.True(t, tick.Equal(*s.NextRunAt))
	}
}
