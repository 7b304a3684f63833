package jobs

import (
	"github.com/atlas-platform/atlas/internal/event"
	"github.com/atlas-platform/atlas/internal/postgres/db"
)

// The states of a job; docs/jobs.md draws them.
const (
	stateQueued    = "QUEUED"
	stateRunning   = "RUNNING"
	stateSucceeded = "SUCCEEDED"
	stateFailed    = "FAILED"
	stateCancelled = "CANCELLED"
)

// Ended tells whether a job in this state changes no more, but for a retry.
func Ended(state string) bool {
	return state == stateSucceeded || state == stateFailed || state == stateCancelled
}

// data is what a job's events say about it.
func data(job *db.Job) event.JobData {
	return event.JobData{
		JobID: job.ID, EntityVersion: job.Version, JobType: job.Type, State: job.State, Held: job.Held, Attempt: int(job.Attempt), Error: job.Error,
	}
}
