package tasks

import (
	"context"
	"time"

	"github.com/atlas-platform/atlas/internal/jobs"
)

// teller saves the progress of work that tells it by a function without an error. When it can't, the work's context ends.
type teller struct {
	x      *jobs.Execution
	ctx    context.Context //nolint:containedctx // the function has no other way to get one
	cancel context.CancelCauseFunc
	saved  time.Time
}

// tell returns the context to work with. Stop it in any case.
func tell(ctx context.Context, x *jobs.Execution) (*teller, context.Context) {
	ctx, cancel := context.WithCancelCause(ctx)
	return &teller{x: x, ctx: ctx, cancel: cancel, saved: time.Now()}, ctx
}

// save stores progress; a total of 0 is one that isn't known.
func (t *teller) save(message string, done, total int64, checkpoint any) {
	if time.Since(t.saved) < saveInterval {
		return
	}
	t.saved = time.Now()
	t.x.Report(message)
	if total > 0 { // else it isn't known
		total = max(total, done)
	}
	if err := t.x.Save(t.ctx, done, total, checkpoint); err != nil {
		t.cancel(err)
	}
}

// stop ends the work's context and returns what went wrong: rather what kept the progress from being saved than what followed from that.
func (t *teller) stop(err error) error {
	if cause := context.Cause(t.ctx); err != nil && cause != nil {
		err = cause
	}
	t.cancel(nil)
	return err
}
