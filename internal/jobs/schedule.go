package jobs

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/atlas-platform/atlas/internal/crontab"
	"github.com/atlas-platform/atlas/internal/postgres"
	"github.com/atlas-platform/atlas/internal/postgres/db"
)

// scheduleBatch is how many schedules are fired at a time.
const scheduleBatch = 20

// Schedule is a job that is queued again and again.
type Schedule struct {
	// Name is the schedule's; there is one of a name.
	Name string
	// Cron has five fields, or is a word such as @daily. TimeZone is an IANA name; empty means UTC.
	Cron      string
	TimeZone  string
	Suspended bool
	// Job is what is queued. Its keys and RunAt are the schedule's business.
	Job NewJob
}

// Next returns the first tick after a moment, as package crontab understands the expression.
func Next(expression, timeZone string, after time.Time) (time.Time, error) {
	schedule, err := crontab.Parse(expression, timeZone)
	if err != nil {
		return time.Time{}, err
	}
	next, ok := schedule.Next(after)
	if !ok {
		return time.Time{}, errors.New("the cron expression names no moment of the next years")
	}
	return next, nil
}

// PutSchedule makes a schedule, or changes the one of its name. Its next tick is after now; one that it had keeps its place unless the time changed.
func PutSchedule(ctx context.Context, q *db.Queries, s Schedule) (db.JobSchedule, error) {
	return putSchedule(ctx, q, s, nil)
}

func putSchedule(ctx context.Context, q *db.Queries, s Schedule, at *time.Time) (db.JobSchedule, error) {
	now, err := q.DatabaseTime(ctx, at)
	if err != nil {
		return db.JobSchedule{}, fmt.Errorf("ask for the time: %w", err)
	}
	next, err := Next(s.Cron, s.TimeZone, now)
	if err != nil {
		return db.JobSchedule{}, err
	}
	job, err := s.Job.row(ctx, nil)
	if err != nil {
		return db.JobSchedule{}, err
	}
	row, err := q.PutJobSchedule(ctx, db.PutJobScheduleParams{
		ID: job.ID, Name: s.Name, Type: job.Type, Parameters: job.Parameters, CollectionID: job.CollectionID, Priority: job.Priority, Cron: s.Cron,
		TimeZone: s.TimeZone, Suspended: s.Suspended, NextRunAt: &next, CreatedBy: job.CreatedBy,
	})
	if err != nil {
		return row, fmt.Errorf("write the schedule: %w", err)
	}
	return row, nil
}

// fire queues the jobs of the schedules that are due: each once a tick, over any number of workers. Of ticks that were missed, because nothing ran
// or because the one before came so late, only the first is fired.
func (e *Engine) fire(ctx context.Context) error {
	err := postgres.InTx(ctx, e.deps.Pool, func(tx pgx.Tx) error {
		q := db.New(tx)
		now, err := q.DatabaseTime(ctx, e.clock.at())
		if err != nil {
			return fmt.Errorf("ask for the time: %w", err)
		}
		due, err := q.DueJobSchedules(ctx, e.clock.at(), scheduleBatch)
		if err != nil {
			return fmt.Errorf("look for schedules: %w", err)
		}
		for i := range due {
			if err := e.fireOne(ctx, q, &due[i], now); err != nil {
				return fmt.Errorf("fire the schedule %q: %w", due[i].Name, err)
			}
		}
		return nil
	})
	if err == nil {
		e.waker.Nudge() // this worker may be busy
	}
	return err
}

func (e *Engine) fireOne(ctx context.Context, q *db.Queries, s *db.JobSchedule, now time.Time) error {
	next, err := Next(s.Cron, s.TimeZone, now)
	if err != nil {
		e.deps.Logger.ErrorContext(ctx, "a schedule can't be understood and is stopped", "schedule", s.Name, "error", err)
		return q.StopJobSchedule(ctx, err.Error(), s.ID)
	}
	job, _, err := enqueue(ctx, q, NewJob{
		Type: s.Type, Parameters: s.Parameters, CollectionID: s.CollectionID, CreatedBy: s.CreatedBy, Priority: s.Priority,
		MaxAttempts: e.kinds[s.Type].MaxAttempts, UniqueKey: scheduleKey(s.ID, *s.NextRunAt),
	}, e.clock.at())
	if err != nil {
		return err
	}
	return q.AdvanceJobSchedule(ctx, job.ID, next, s.ID)
}

// scheduleKey names a tick.
func scheduleKey(schedule uuid.UUID, tick time.Time) string {
	return "schedule/" + schedule.String() + "/" + strconv.FormatInt(tick.Unix(), 10)
}
