package api

import (
	"cmp"
	"encoding/json"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/atlas-platform/atlas/internal/jobs"
	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/internal/tasks"
	"github.com/atlas-platform/atlas/services/api/gen"
)

// hiddenError is what others than platform admins read instead of an error that nobody wrote for them.
const hiddenError = "something went wrong; platform admins see what"

func jobPath(id uuid.UUID) string { return "/v1/jobs/" + id.String() }

// finished tells whether a job in this state stays as it is, unless somebody queues it again.
func finished(state string) bool {
	return slices.Contains([]gen.JobState{gen.Succeeded, gen.Failed, gen.Cancelled}, gen.JobState(state))
}

// jobBody is a job as an admin, or another who handles it, sees it; whole with its history.
func jobBody(job db.Job, admin, whole bool) gen.Job {
	body := gen.Job{
		ID: job.ID, Type: gen.JobType(job.Type), CollectionID: job.CollectionID, Parameters: job.Parameters, State: gen.JobState(job.State),
		Version: job.Version, Attempts: int(job.Attempt), MaxAttempts: int(job.MaxAttempts), Priority: int(job.Priority),
		Progress:        gen.JobProgress{Done: job.ProgressDone, Total: job.ProgressTotal, Message: job.ProgressMessage},
		CancelRequested: job.CancelRequestedAt != nil, Paused: job.Held, CreatedBy: job.CreatedBy, RunAt: job.RunAt.UTC(), CreatedAt: job.CreatedAt.UTC(),
		UpdatedAt: job.UpdatedAt.UTC(), StartedAt: utc(job.StartedAt), FinishedAt: utc(job.FinishedAt), Links: jobLinks(job),
	}
	if job.Result != nil {
		body.Result = &job.Result
	}
	if job.Error != nil {
		body.Error = jobError(job.ErrorCode, *job.Error, admin)
	}
	if whole {
		history := jobHistory(job.History, admin)
		body.History = &history
	}
	return body
}

func jobLinks(job db.Job) gen.JobLinks {
	self := jobPath(job.ID)
	links := gen.JobLinks{Self: self}
	action := func(name string) *string {
		path := self + "/" + name
		return &path
	}
	switch state := gen.JobState(job.State); {
	case !finished(job.State):
		links.Events, links.Cancel = action("events"), action("cancel")
		if job.Held {
			links.Resume = action("resume")
		} else {
			links.Pause = action("pause")
		}
	case state == gen.Failed, state == gen.Cancelled:
		links.Retry = action("retry")
	case job.Type == tasks.TypeExport:
		links.File = action("file")
	}
	return links
}

// jobError leaves what is meant for whoever runs Atlas, such as addresses and the words of databases, to platform admins: all but what a kind of job, or
// the engine, says with a code of its own.
func jobError(code *string, message string, admin bool) *gen.JobError {
	body := gen.JobError{Code: jobs.CodeFailed, Message: message}
	if code != nil {
		body.Code = *code
	}
	if !admin && slices.Contains([]string{jobs.CodeFailed, jobs.CodePanic, jobs.CodeInvalidResult}, body.Code) {
		body.Message = hiddenError
	}
	return &body
}

// jobHistory is the history as the engine writes it, in the API's words. What can't be read is left out: it is told for people.
func jobHistory(raw json.RawMessage, admin bool) []gen.JobAttempt {
	var attempts []struct {
		Attempt    int        `json:"attempt"`
		Worker     string     `json:"worker"`
		StartedAt  *time.Time `json:"started_at"`
		FinishedAt *time.Time `json:"finished_at"`
		Outcome    string     `json:"outcome"`
		ErrorCode  *string    `json:"error_code"`
		Error      string     `json:"error"`
	}
	if json.Unmarshal(raw, &attempts) != nil {
		return []gen.JobAttempt{}
	}
	out := make([]gen.JobAttempt, len(attempts))
	for i, a := range attempts {
		out[i] = gen.JobAttempt{Attempt: a.Attempt, Outcome: a.Outcome, StartedAt: utc(a.StartedAt), FinishedAt: utc(a.FinishedAt)}
		if admin && a.Worker != "" {
			out[i].Worker = &a.Worker
		}
		if message := cmp.Or(a.Error, value(a.ErrorCode)); message != "" {
			out[i].Error = jobError(a.ErrorCode, message, admin)
		}
	}
	return out
}

func value(text *string) string {
	if text == nil {
		return ""
	}
	return *text
}

func utc(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	u := t.UTC()
	return &u
}
