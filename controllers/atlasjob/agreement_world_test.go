package atlasjob

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	atlas "github.com/atlas-platform/atlas/client"
	"github.com/atlas-platform/atlas/internal/config"
	"github.com/atlas-platform/atlas/internal/jobs"
	"github.com/atlas-platform/atlas/internal/jobs/jobstest"
	"github.com/atlas-platform/atlas/internal/kafka/kafkatest"
	"github.com/atlas-platform/atlas/internal/postgres/pgtest"
	"github.com/atlas-platform/atlas/internal/search"
	"github.com/atlas-platform/atlas/internal/telemetry"
	"github.com/atlas-platform/atlas/internal/token"
	"github.com/atlas-platform/atlas/services/api"
)

// world is a namespace with a stack whose API, database and worker are real.
type world struct {
	*testBundle
	pool    *pgxpool.Pool
	admin   *atlas.ClientWithResponses // an admin who knows nothing of Kubernetes, and to whom the API is always there
	gated   string                     // the API as the operator reaches it
	down    atomic.Bool                // no request arrives
	refused atomic.Int64               // so many didn't
	deaf    atomic.Int64               // so many of the next requests are done without their sender hearing of it
	late    atomic.Int64               // so many of the next POSTs arrive long after their sender has given up
	// postpone takes a request that is late.
	postpone func(what string, arrive func())
	stop     func() // the worker; nil when there is none
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{testBundle: setup(t), pool: pgtest.New(t)}
	key, err := token.ParseSigningKey(w.api.keyPEM)
	require.NoError(t, err)
	handler, err := api.NewHandler(api.Config{
		Issuer: issuer, Audience: audience, AccessTokenTTL: time.Minute, RefreshTTL: time.Hour, Trash: config.Trash{Retention: time.Hour},
	}, api.Deps{
		Logger: slog.New(slog.DiscardHandler), Pool: w.pool, Searcher: search.NewPostgres(w.pool), Registry: prometheus.NewRegistry(),
		Health: telemetry.NewHealth(nil), SigningKey: key,
	})
	require.NoError(t, err)
	always := httptest.NewServer(handler)
	t.Cleanup(always.Close)
	gate := httptest.NewServer(http.HandlerFunc(func(writer http.ResponseWriter, r *http.Request) { w.gate(handler, writer, r) }))
	t.Cleanup(gate.Close)
	w.gated = gate.URL
	bearer, err := token.NewIssuer(key, issuer, audience, time.Hour, nil).MintService("system:admin", time.Hour)
	require.NoError(t, err)
	w.admin, err = atlas.New(always.URL, atlas.StaticToken(bearer))
	require.NoError(t, err)
	for _, statement := range []string{
		"INSERT INTO users (id, email, password_hash) VALUES ($1, 'a@example.com', 'x')", "INSERT INTO collections (id, name, created_by) VALUES ($1, 'c', $1)",
	} {
		_, err = w.pool.Exec(t.Context(), statement, testCollection)
		require.NoError(t, err)
	}
	return w
}

// gate is the network between the operator and the API.
func (w *world) gate(next http.Handler, writer http.ResponseWriter, r *http.Request) {
	switch {
	case w.down.Load():
		w.refused.Add(1)
		panic(http.ErrAbortHandler)
	case r.Method == http.MethodPost && w.late.Add(-1) >= 0:
		body, err := io.ReadAll(r.Body)
		request := r.Clone(context.WithoutCancel(r.Context()))
		request.Body = io.NopCloser(bytes.NewReader(body))
		if err == nil {
			w.postpone(r.URL.Path+" "+r.Header.Get("Idempotency-Key"), func() { next.ServeHTTP(httptest.NewRecorder(), request) })
		}
		panic(http.ErrAbortHandler)
	case w.deaf.Add(-1) >= 0:
		next.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	}
	next.ServeHTTP(writer, r)
}

// What a job does is in its number of attempts.
const (
	failsForGood = 1 + iota
	failsAtFirst
	succeeds
	goesOn // until somebody ends it
)

// work starts a worker; rest ends it.
func (w *world) work() {
	engine := jobstest.Fast()
	engine.Concurrency, engine.CancelInterval = 8, 10*time.Millisecond
	w.stop = kafkatest.Start(w.t, jobs.New(engine, jobs.Deps{
		Logger: slog.New(slog.DiscardHandler), Pool: w.pool, Tasks: []jobs.Task{jobs.Func(jobs.Kind{Name: "reindex"}, reindexing)},
	}).Run)
}

func (w *world) rest() {
	w.stop()
	w.stop = nil
}

func reindexing(ctx context.Context, x *jobs.Execution) (any, error) {
	for done := int64(1); ; done++ {
		moment(ctx, 2*time.Millisecond)
		if err := x.Save(ctx, done, 10, done); err != nil {
			return nil, err
		}
		switch goal := x.Job.MaxAttempts; {
		case goal == failsForGood, goal == failsAtFirst && x.Job.Attempt == 1:
			return nil, errors.New("not this time")
		case goal != goesOn && done == 3:
			return map[string]int64{"done": done}, nil
		}
	}
}

// moment waits for a while or for the end of ctx.
func moment(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// row is a job as the database has it.
type row struct {
	ID              uuid.UUID
	Key             *string
	State           string
	Version         int64
	Held            bool
	CancelRequested bool
	Attempt         int32
	MaxAttempts     int32
	Error           *string
	FinishedAt      *time.Time
}

func (r row) final() bool {
	return r.State == "SUCCEEDED" || r.State == "FAILED" || r.State == "CANCELLED"
}

// rows are all jobs by the UID that is their key. There is none without one, and none twice.
func (w *world) rows(t require.TestingT) map[string]row {
	found, err := w.pool.Query(context.Background(), `SELECT id, idempotency_key AS key, state, version, held, cancel_requested_at IS NOT NULL AS cancel_requested, attempt, max_attempts,
		error, finished_at FROM jobs`)
	require.NoError(t, err)
	all, err := pgx.CollectRows(found, pgx.RowToStructByName[row])
	require.NoError(t, err)
	out := make(map[string]row, len(all))
	for _, r := range all {
		require.NotNil(t, r.Key, "a job without a key")
		require.NotContains(t, out, *r.Key, "two jobs of one AtlasJob")
		out[*r.Key] = r
	}
	return out
}

// call does something to a job over REST.
func (w *world) call(id uuid.UUID, what string) {
	w.t.Helper()
	do := w.admin.ResumeJob
	switch what {
	case "cancel":
		do = w.admin.CancelJob
	case "pause":
		do = w.admin.PauseJob
	}
	answer, err := do(w.t.Context(), id)
	require.NoError(w.t, err)
	require.NoError(w.t, answer.Body.Close())
	require.Less(w.t, answer.StatusCode, 300, what)
}
