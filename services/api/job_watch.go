package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
	"github.com/klauspost/compress/gzhttp"

	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/services/api/gen"
)

const (
	// watchTimeout is how long a stream goes on at most. Then the caller connects again, with a token that is still good.
	watchTimeout = 15 * time.Minute
	// watchStep is how often the jobs that are watched are looked at, all with one question; watchGather is for those who ask a moment later.
	watchStep   = 250 * time.Millisecond
	watchGather = 20 * time.Millisecond
	// watchBeat is how often a silent stream shows that it is alive, and its caller is looked up again.
	watchBeat = 10 * time.Second
	// watchPause is how long a caller may take for an event.
	watchPause = 30 * time.Second
	// watchRetry is how long a caller should wait before connecting again, in milliseconds.
	watchRetry = 1000
	// maxWatchers is how many streams one API has at the same time, and maxOwnWatchers how many of them are one user's.
	maxWatchers    = 1000
	maxOwnWatchers = 50
)

// isWatch tells the requests that go on until something ends.
func isWatch(c *gin.Context) bool {
	return strings.HasSuffix(c.FullPath(), "/events") && strings.HasPrefix(c.FullPath(), "/v1/jobs/")
}

type watchQuestion struct {
	user, job uuid.UUID
	trusted   bool // a part of Atlas itself
	version   int64
}

// watched is what is known about a job that somebody watches and may see.
type watched struct {
	admin bool
	// job is nil unless it has another version than the one asked about.
	job *db.Job
}

// lookAtJobs answers for many: one statement for the rights and versions, and one for the jobs that have changed, if any.
func (s *server) lookAtJobs(ctx context.Context, questions []watchQuestion) (map[int]watched, error) {
	users, ids, trusted := make([]uuid.UUID, len(questions)), make([]uuid.UUID, len(questions)), make([]bool, len(questions))
	for i, q := range questions {
		users[i], ids[i], trusted[i] = q.user, q.job, q.trusted
	}
	rows, err := s.queries.WatchedJobs(ctx, users, ids, trusted)
	if err != nil {
		return nil, fmt.Errorf("read the versions of watched jobs: %w", err)
	}
	answers, changed := make(map[int]watched, len(rows)), make(map[uuid.UUID]*db.Job)
	for _, row := range rows {
		place := int(row.Place) - 1
		answers[place] = watched{admin: row.Admin}
		if row.Version != questions[place].version {
			changed[ids[place]] = nil
		}
	}
	if len(changed) == 0 {
		return answers, nil
	}
	wanted := make([]uuid.UUID, 0, len(changed))
	for id := range changed {
		wanted = append(wanted, id)
	}
	jobs, err := s.queries.GetJobs(ctx, wanted)
	if err != nil {
		return nil, fmt.Errorf("read watched jobs: %w", err)
	}
	for i := range jobs {
		changed[jobs[i].ID] = &jobs[i]
	}
	for place, answer := range answers {
		if job := changed[ids[place]]; job != nil && job.Version != questions[place].version {
			answer.job = job
			answers[place] = answer
		}
	}
	return answers, nil
}

// jobStream sends a job's events.
type jobStream func(w http.ResponseWriter) error

// VisitWatchJobResponse implements gen.WatchJobResponseObject.
func (a jobStream) VisitWatchJobResponse(w http.ResponseWriter) error { return a(w) }

// WatchJob implements gen.StrictServerInterface.
func (s *server) WatchJob(ctx context.Context, request gen.WatchJobRequestObject) (gen.WatchJobResponseObject, error) {
	job, err := jobFor(ctx, s.queries, request.ID)
	if err != nil {
		return nil, err
	}
	var seen int64
	if request.Params.LastEventID != nil {
		if seen, err = strconv.ParseInt(*request.Params.LastEventID, 10, 64); err != nil {
			return nil, badRequest("Last-Event-ID must be the id of an event", parameter("Last-Event-ID", "must be the id of an event"))
		}
	}
	if finished(job.State) && seen >= job.Version {
		return gen.WatchJob204Response{}, nil // which also keeps a browser from connecting again
	}
	p := caller(ctx)
	switch own, all := s.watchers.try(p.id()); {
	case own && !p.service:
		return nil, tooManyWatchers()
	case own, all:
		return nil, unavailable("too many jobs are being watched: try again later")
	}
	return jobStream(func(w http.ResponseWriter) error {
		defer s.watchers.leave(p.id())
		header := w.Header()
		header.Set("Content-Type", "text/event-stream")
		header.Set("X-Accel-Buffering", "no") // proxies that gather answers should not
		header.Set(gzhttp.HeaderNoCompression, "stream")
		w.WriteHeader(http.StatusOK)
		if isHead(ctx) {
			return nil
		}
		out := &eventWriter{answer: w, control: http.NewResponseController(w), seen: seen}
		_ = out.control.SetReadDeadline(time.Now().Add(watchTimeout + watchPause)) // what is read is whether the caller hangs up
		if err := s.watch(ctx, out, job, p); err != nil {
			s.logger.DebugContext(ctx, "a stream of events ended early", slog.Any("error", err))
		}
		return nil
	}), nil
}

// watch sends what happens to a job until it is finished, or the caller, their rights, the server or the time has gone.
func (s *server) watch(ctx context.Context, out *eventWriter, job db.Job, p principal) error {
	if err := out.send(fmt.Sprintf("retry: %d\n\n", watchRetry)); err != nil {
		return err
	}
	admin, beat := p.admin, time.Now()
	if job.Version == out.seen {
		out.last = &job
	} else if err := out.event(job, admin); err != nil || finished(job.State) {
		return err
	}
	for s.watchStep(ctx) {
		answer, known, err := s.watches.ask(ctx, watchQuestion{user: p.id(), trusted: p.service, job: job.ID, version: out.last.Version})
		switch {
		case err != nil: // the database is away: the caller comes back
			return err
		case !known:
			return errors.New("the caller may not see the job any more")
		}
		if answer.job != nil {
			beat = time.Now()
			if err := out.event(*answer.job, answer.admin); err != nil || finished(answer.job.State) {
				return err
			}
		}
		if time.Since(beat) >= watchBeat {
			beat = time.Now()
			if err := out.send(": still there\n\n"); err != nil {
				return err
			}
			if err := stillCounts(ctx, s.queries); err != nil {
				return err
			}
		}
	}
	return nil
}

// watchStep waits for the next look. It returns false when the stream is to end.
func (s *server) watchStep(ctx context.Context) bool {
	now := time.Now()
	timer := time.NewTimer(now.Truncate(watchStep).Add(watchStep).Sub(now))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.draining:
		return false
	case <-ctx.Done():
		return false
	}
}

// eventWriter writes server-sent events and knows the last one.
type eventWriter struct {
	answer  http.ResponseWriter
	control *http.ResponseController
	// seen is the version that the caller has had, and last the job as it was sent last, or as they have it.
	seen int64
	last *db.Job
}

// event sends the job as it is now.
func (w *eventWriter) event(job db.Job, admin bool) error {
	name := "state"
	switch {
	case finished(job.State):
		name = "end"
	case w.last != nil && w.last.State == job.State && w.last.Attempt == job.Attempt && w.last.Held == job.Held &&
		(w.last.CancelRequestedAt == nil) == (job.CancelRequestedAt == nil):
		name = "progress"
	}
	w.last = &job
	data, err := json.Marshal(jobBody(job, admin, true))
	if err != nil {
		return fmt.Errorf("encode the job: %w", err)
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "id: %d\nevent: %s\ndata: %s\n\n", job.Version, name, data)
	return w.send(out.String())
}

func (w *eventWriter) send(text string) error {
	_ = w.control.SetWriteDeadline(time.Now().Add(watchPause)) // not every connection has deadlines
	if _, err := w.answer.Write([]byte(text)); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	if err := w.control.Flush(); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	return nil
}
