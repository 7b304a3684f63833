package jobs_test

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/indexing/indexingtest"
	"github.com/atlas-platform/atlas/internal/jobs"
	"github.com/atlas-platform/atlas/internal/jobs/jobstest"
	"github.com/atlas-platform/atlas/internal/kafka/kafkatest"
	"github.com/atlas-platform/atlas/internal/postgres"
	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/internal/postgres/pgtest"
)

// untilDone waits for the end of ctx and says why it came.
func untilDone(started chan<- struct{}) run {
	return func(ctx context.Context, _ *jobs.Execution) (any, error) {
		started <- struct{}{}
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
}

func TestARunningJobIsCancelled(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	id := jobstest.Enqueue(t, indexingtest.NewSeed(t, pool), "test", nil, 5)
	started, causes := make(chan struct{}, 1), make(chan error, 1)
	kafkatest.Start(t, newEngine(t, pool, jobs.Config{}, func(ctx context.Context, x *jobs.Execution) (any, error) {
		_, err := untilDone(started)(ctx, x)
		causes <- err
		return nil, err
	}).Run)
	<-started
	row, err := cancel(t, pool, id)
	require.NoError(t, err)
	require.Equal(t, "RUNNING", row.State)
	_, err = cancel(t, pool, id)
	require.NoError(t, err, "asking twice is fine")
	require.ErrorIs(t, <-causes, jobs.ErrCancelled)
	job := jobstest.Becomes(t, pool, id, "CANCELLED")
	require.Nil(t, job.Error)
	require.NotNil(t, job.Finished)
	require.Equal(t, []string{"RUNNING", "CANCELLED"}, jobstest.States(t, pool, id))
	require.Equal(t, []string{"cancelled"}, outcomes(t, pool, id))
}

func TestSaveTellsOfACancel(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	id := jobstest.Enqueue(t, indexingtest.NewSeed(t, pool), "test", nil, 5)
	cfg := jobs.Config{CancelInterval: time.Hour} // only Save hears it
	kafkatest.Start(t, newEngine(t, pool, cfg, func(ctx context.Context, x *jobs.Execution) (any, error) {
		x.Report("at\x00work")
		require.NoError(t, x.Save(ctx, 1, 2, nil))
		_, err := cancel(t, pool, id)
		require.NoError(t, err)
		return nil, x.Save(ctx, 2, 2, []string{"a\x00b", `\u0000`, "\\\x00"})
	}).Run)
	job := jobstest.Becomes(t, pool, id, "CANCELLED")
	require.EqualValues(t, 2, job.Done)
	var message string
	var checkpoint []string
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT progress_message, checkpoint FROM jobs WHERE id = $1", id).Scan(&message, &checkpoint))
	require.Equal(t, "at\uFFFDwork", message)
	require.Equal(t, []string{"a\uFFFDb", `\u0000`, "\\\uFFFD"}, checkpoint)
}

func TestTheCancelOfAJobWhoseWorkerDiedIsDoneByTheRescue(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	seed := indexingtest.NewSeed(t, pool)
	id := jobstest.Enqueue(t, seed, "test", nil, 5)
	seed.Exec(t, "UPDATE jobs SET state = 'RUNNING', attempt = 1, lease_owner = 'dead', lease_expires_at = now() - interval '1 second'")
	_, err := cancel(t, pool, id)
	require.NoError(t, err)
	kafkatest.Start(t, newEngine(t, pool, jobstest.Fast(), func(context.Context, *jobs.Execution) (any, error) { return nil, nil }).Run)
	jobstest.Becomes(t, pool, id, "CANCELLED")
	require.Equal(t, []string{"CANCELLED"}, jobstest.States(t, pool, id))
}

func TestErrorsHaveCodesAndAttemptsAHistory(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	id := jobstest.Enqueue(t, indexingtest.NewSeed(t, pool), "test", nil, 25)
	kafkatest.Start(t, newEngine(t, pool, jobstest.Fast(), func(_ context.Context, x *jobs.Execution) (any, error) {
		if x.Job.Attempt == 25 {
			return nil, jobs.Permanent(jobs.Errorf("no_page", "the page is \xff gone: %w", errors.New("404")))
		}
		return nil, errors.New("away")
	}).Run)
	job := jobstest.Becomes(t, pool, id, "FAILED")
	require.Equal(t, "the page is \uFFFD gone: 404", *job.Error)
	var code string
	var history []jobs.Attempt
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT error_code, history FROM jobs WHERE id = $1", id).Scan(&code, &history))
	require.Equal(t, "no_page", code)
	require.Len(t, history, 20, "the last ones")
	require.Equal(t, 6, history[0].Attempt)
	require.Equal(t, "retried", history[0].Outcome)
	require.Equal(t, "failed", history[0].ErrorCode)
	last := history[19]
	require.Equal(t, "failed", last.Outcome)
	require.Equal(t, "no_page", last.ErrorCode)
	require.Equal(t, *job.Error, last.Error)
	require.NotContains(t, last.Worker, "#")
	require.False(t, last.FinishedAt.Before(last.StartedAt))

	_, err := retry(t, pool, id)
	require.NoError(t, err)
	require.Equal(t, 25, jobstest.Becomes(t, pool, id, "FAILED").Attempt, "all attempts anew")
}

// TestWaitsPushNoAttemptsOut: a job that waits for another one asks again every few seconds, maybe for hours.
func TestWaitsPushNoAttemptsOut(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	id := jobstest.Enqueue(t, indexingtest.NewSeed(t, pool), "test", nil, 30)
	var waits, runs int // one worker, one job: never at the same time
	looked := make(chan struct{})
	kafkatest.Start(t, newEngine(t, pool, jobstest.Fast(), func(ctx context.Context, x *jobs.Execution) (any, error) {
		if x.Job.Attempt == 4 {
			select {
			case <-looked:
			case <-ctx.Done():
			}
		}
		if runs++; x.Job.Attempt > 2 && waits < 25 || x.Job.Attempt > 3 && runs%2 == 0 { // many in the third attempt, then one in each
			waits++
			return nil, jobs.Later(jobs.Errorf("busy", "job %d is running", waits))
		}
		if x.Job.Attempt == 21 {
			return nil, jobs.Permanent(errors.New("broken"))
		}
		return nil, errors.New("away")
	}).Run)
	look := func() (history []jobs.Attempt) {
		require.NoError(t, pool.QueryRow(t.Context(), "SELECT history FROM jobs WHERE id = $1", id).Scan(&history))
		return history
	}
	require.Eventually(t, func() bool {
		history := look()
		return len(history) > 0 && history[len(history)-1].Attempt == 3 && history[len(history)-1].Outcome == "retried"
	}, jobstest.Patience, 5*time.Millisecond)
	history := look()
	require.Len(t, history, 4)
	require.Equal(t, []int{1, 2, 3, 3}, []int{history[0].Attempt, history[1].Attempt, history[2].Attempt, history[3].Attempt})
	wait := history[2]
	require.Equal(t, []string{"handed_back", "busy", "job 25 is running"}, []string{wait.Outcome, wait.ErrorCode, wait.Error}, "the last of them")
	require.True(t, wait.StartedAt.After(history[1].FinishedAt))
	require.Greater(t, wait.FinishedAt.Sub(wait.StartedAt), 20*time.Millisecond, "since the first of them")

	close(looked)
	jobstest.Becomes(t, pool, id, "FAILED")
	require.Greater(t, waits, 30)
	history = look()
	require.Len(t, history, 20)
	for i, a := range history {
		require.Equal(t, i+2, a.Attempt, "%+v", history)
	}
}

func TestAResultThatCannotBeStoredFailsItsJobOnly(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	seed := indexingtest.NewSeed(t, pool)
	bad, odd, good := jobstest.Enqueue(t, seed, "bad", nil, 3), jobstest.Enqueue(t, seed, "odd", nil, 3), jobstest.Enqueue(t, seed, "good", nil, 3)
	ready := make(chan struct{}, 3)
	all := make(chan struct{})
	result := func(value any) run {
		return func(context.Context, *jobs.Execution) (any, error) {
			if ready <- struct{}{}; len(ready) == cap(ready) {
				close(all) // so that they are settled together
			}
			<-all
			return value, nil
		}
	}
	kafkatest.Start(t, jobs.New(jobstest.Fast(), jobs.Deps{Logger: kafkatest.Logger(t), Pool: pool, Tasks: []jobs.Task{
		jobs.Func(jobs.Kind{Name: "bad"}, result(json.RawMessage(`"\ud800"`))), jobs.Func(jobs.Kind{Name: "odd"}, result(math.Inf(1))), jobs.Func(jobs.Kind{Name: "good"}, result(1)),
	}}).Run)
	require.Contains(t, *jobstest.Becomes(t, pool, bad, "FAILED").Error, "can't be stored")
	require.Contains(t, *jobstest.Becomes(t, pool, odd, "FAILED").Error, "unsupported value")
	jobstest.Becomes(t, pool, good, "SUCCEEDED")
}

// TestJobsAreClaimedByPriorityAndTime: those of a kind that is full, of later times and of unknown kinds are not in the way.
func TestJobsAreClaimedByPriorityAndTime(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	var want []uuid.UUID
	for _, priority := range []int16{-1, 0, 5} {
		for range 2 {
			job, _ := enqueue(t, pool, jobs.NewJob{Type: "test", Priority: priority})
			want = append(want, job.ID)
		}
	}
	want = slices.Concat(want[4:], want[2:4], want[:2])
	enqueue(t, pool, jobs.NewJob{Type: "test", Priority: 9, RunAt: time.Now().Add(time.Hour)})
	enqueue(t, pool, jobs.NewJob{Type: "unknown", Priority: 9})
	got := make(chan uuid.UUID, len(want))
	cfg := jobstest.Fast()
	cfg.Concurrency = 1
	kafkatest.Start(t, newEngine(t, pool, cfg, func(_ context.Context, x *jobs.Execution) (any, error) {
		got <- x.Job.ID
		return nil, nil
	}).Run)
	for _, id := range want {
		require.Equal(t, id, <-got)
	}
}

func TestAKindRunsNoMoreThanItsLimitOverAllWorkers(t *testing.T) {
	t.Parallel()
	const queued, limit = 40, 2
	pool := pgtest.New(t)
	for range queued {
		enqueue(t, pool, jobs.NewJob{Type: "limited"})
		enqueue(t, pool, jobs.NewJob{Type: "free", Priority: -1})
	}
	var running, most, free atomic.Int32
	for range 3 {
		cfg := jobs.Config{Concurrency: 4, PollInterval: time.Minute} // who waits for the limit is told when it may go on
		kafkatest.Start(t, jobs.New(cfg, jobs.Deps{Logger: kafkatest.Logger(t), Pool: pool, Tasks: []jobs.Task{
			jobs.Func(jobs.Kind{Name: "limited", Concurrency: limit}, func(context.Context, *jobs.Execution) (any, error) {
				now := running.Add(1)
				for seen := most.Load(); now > seen && !most.CompareAndSwap(seen, now); seen = most.Load() {
				}
				defer running.Add(-1)
				return nil, nil
			}),
			jobs.Func(jobs.Kind{Name: "free"}, func(context.Context, *jobs.Execution) (any, error) { return free.Add(1), nil }),
		}}).Run)
	}
	require.Eventually(t, func() bool { return count(t, pool, "SELECT count(*) FROM jobs WHERE state = 'SUCCEEDED'") == 2*queued }, jobstest.Patience, 5*time.Millisecond)
	require.LessOrEqual(t, most.Load(), int32(limit))
	require.EqualValues(t, queued, free.Load())
}

// TestAQueuedJobIsPickedUpWithoutAPoll: the one that queues it says so, to workers in other processes too.
func TestAQueuedJobIsPickedUpWithoutAPoll(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	ran := make(chan struct{})
	kafkatest.Start(t, newEngine(t, pool, jobs.Config{PollInterval: time.Hour}, func(context.Context, *jobs.Execution) (any, error) {
		ran <- struct{}{}
		return nil, nil
	}).Run)
	require.Eventually(t, func() bool {
		return count(t, pool, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query = 'LISTEN atlas_jobs'") == 1 ||
			count(t, pool, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%LISTEN atlas_jobs%' AND pid <> pg_backend_pid()") == 1
	}, jobstest.Patience, 5*time.Millisecond)
	waker := jobs.NewWaker(kafkatest.Logger(t), pool)
	kafkatest.Start(t, waker.Run)
	for range 3 {
		enqueue(t, pool, jobs.NewJob{Type: "test"})
		waker.Nudge()
		<-ran
	}
	enqueue(t, pool, jobs.NewJob{Type: "test", RunAt: time.Now().Add(50 * time.Millisecond)})
	waker.Nudge()
	<-ran // at its time, which was known
}

func TestASchedule(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	put := func(s jobs.Schedule) (row db.JobSchedule, err error) {
		err = postgres.InTx(t.Context(), pool, func(tx pgx.Tx) (err error) {
			row, err = jobs.PutSchedule(t.Context(), db.New(tx), s)
			return err
		})
		return row, err
	}
	schedule := jobs.Schedule{Name: "nightly", Cron: "0 3 * * *", TimeZone: "Europe/Berlin", Job: jobs.NewJob{Type: "test", Parameters: map[string]int{"n": 1}, Priority: 2}}
	row, err := put(schedule)
	require.NoError(t, err)
	require.True(t, row.NextRunAt.After(time.Now()))
	_, err = put(jobs.Schedule{Name: "bad", Cron: "61 * * * *", Job: schedule.Job})
	require.ErrorContains(t, err, "cron expression")
	_, err = put(jobs.Schedule{Name: "bad", Cron: "@daily", TimeZone: "Mars/Olympus", Job: schedule.Job})
	require.ErrorContains(t, err, "time zone")

	// Everything was down for three days.
	_, err = pool.Exec(t.Context(), "UPDATE job_schedules SET next_run_at = next_run_at - interval '3 days'")
	require.NoError(t, err)
	again, err := put(schedule)
	require.NoError(t, err)
	require.Equal(t, row.ID, again.ID)
	require.True(t, again.NextRunAt.Before(time.Now()), "a change that isn't one does not skip a tick")
	_, err = pool.Exec(t.Context(), `INSERT INTO job_schedules (id, name, type, cron, time_zone, next_run_at)
		VALUES (gen_random_uuid(), 'of a newer version', 'test', '@fortnightly', 'UTC', now())`)
	require.NoError(t, err)
	for range 3 {
		kafkatest.Start(t, newEngine(t, pool, jobstest.Fast(), func(_ context.Context, x *jobs.Execution) (any, error) { return x.Job.Parameters, nil }).Run)
	}
	require.Eventually(t, func() bool { return count(t, pool, "SELECT count(*) FROM jobs WHERE state = 'SUCCEEDED'") == 1 }, jobstest.Patience, 5*time.Millisecond)
	require.Equal(t, 1, count(t, pool, "SELECT count(*) FROM jobs WHERE result = '{\"n\": 1}' AND priority = 2"))
	require.Equal(t, 1, count(t, pool, "SELECT count(*) FROM job_schedules WHERE last_job_id IN (SELECT id FROM jobs) AND next_run_at > now()"))
	require.Equal(t, 1, count(t, pool, "SELECT count(*) FROM job_schedules WHERE next_run_at IS NULL AND error LIKE '%fortnightly%'"))
}

func TestNextTick(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ cron, zone, after, next string }{
		"UTC":                       {"30 4 * * *", "", "2026-01-01T04:30:00Z", "2026-01-02T04:30:00Z"},
		"a zone":                    {"30 4 * * *", "Europe/Berlin", "2026-01-01T04:00:00Z", "2026-01-02T03:30:00Z"},
		"clocks are set forward":    {"0 12 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-29T10:00:00Z"},
		"a time that does not come": {"30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-29T01:30:00Z"},
		"a time that comes twice":   {"30 2 * * *", "Europe/Berlin", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"},
		"the 29th of February":      {"0 0 29 2 *", "UTC", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"},
		"the hour that comes twice": {"0 * * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			after, err := time.Parse(time.RFC3339, c.after)
			require.NoError(t, err)
			next, err := jobs.Next(c.cron, c.zone, after)
			require.NoError(t, err)
			require.Equal(t, c.next, next.Format(time.RFC3339))
		})
	}
	for _, bad := range []string{"", "* * * *", "* * * * * *", "TZ=UTC * * * * *", "0 0 30 2 *"} {
		_, err := jobs.Next(bad, "UTC", time.Now())
		require.Error(t, err, bad)
	}
}

// outcomes are how a job's attempts ended.
func outcomes(t *testing.T, pool *pgxpool.Pool, id uuid.UUID) (out []string) {
	t.Helper()
	var raw json.RawMessage
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT history FROM jobs WHERE id = $1", id).Scan(&raw))
	var history []jobs.Attempt
	require.NoError(t, json.Unmarshal(raw, &history))
	for _, a := range history {
		out = append(out, a.Outcome)
	}
	return out
}

// TestAReportBesideAnError: what a task says beside the error that ends its job is stored, not what it says beside others, and a retry forgets it.
func TestAReportBesideAnError(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	for name, c := range map[string]struct {
		report any
		err    error
		want   string
	}{
		"at once":                 {map[string]int{"n": 1}, jobs.Permanent(errors.New("broken")), `{"n":1}`},
		"with the last attempt":   {map[string]int{"n": 2}, errors.New("broken"), `{"n":2}`},
		"nothing":                 {nil, jobs.Permanent(errors.New("broken")), ""},
		"a NUL":                   {"\x00", jobs.Permanent(errors.New("broken")), `"\ufffd"`},
		"what can't be stored":    {json.RawMessage(`"\ud800"`), jobs.Permanent(errors.New("broken")), ""},
		"what JSON has no way of": {math.Inf(1), jobs.Permanent(errors.New("broken")), ""},
	} {
		job, _ := enqueue(t, pool, jobs.NewJob{Type: "test", MaxAttempts: 2})
		stop := kafkatest.Start(t, newEngine(t, pool, jobstest.Fast(), func(context.Context, *jobs.Execution) (any, error) { return c.report, c.err }).Run)
		row := jobstest.Becomes(t, pool, job.ID, "FAILED")
		stop()
		require.Equal(t, "broken", *row.Error, name)
		if c.want == "" {
			require.Empty(t, row.Result, name)
			continue
		}
		require.JSONEq(t, c.want, string(row.Result), name)
		require.NoError(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
			again, err := jobs.Retry(t.Context(), db.New(tx), job.ID, nil)
			require.Nil(t, again.Result)
			return err
		}))
		_, err := pool.Exec(t.Context(), "DELETE FROM jobs")
		require.NoError(t, err)
	}
}
