package jobs

import "time"

// Attempt is an entry of a job's history, as it lies in the row: how one attempt ended. The last twenty are kept. Waits in a row
// (see Later) are one entry, from the start of the first to the end of the last; where there are more than twenty, what was handed back goes first.
type Attempt struct {
	Attempt    int       `json:"attempt"`
	Worker     string    `json:"worker"`
	StartedAt  time.Time `json:"started_at"`
	FinishedAt time.Time `json:"finished_at"`
	// Outcome is succeeded, retried, failed, cancelled, handed_back or lease_lost.
	Outcome   string `json:"outcome"`
	ErrorCode string `json:"error_code,omitempty"`
	Error     string `json:"error,omitempty"`
}
