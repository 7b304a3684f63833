-- name: PutJobSchedule :one
-- A schedule that has another cron or time zone than before, or was suspended, forgets when it was due.
INSERT INTO job_schedules AS s (id, name, type, parameters, collection_id, priority, cron, time_zone, suspended, next_run_at, created_by)
VALUES (@id, @name, @type, @parameters, sqlc.narg(collection_id), @priority, @cron, @time_zone, @suspended, @next_run_at, sqlc.narg(created_by))
ON CONFLICT (name) DO UPDATE SET type = excluded.type, parameters = excluded.parameters, collection_id = excluded.collection_id,
    priority = excluded.priority, cron = excluded.cron, time_zone = excluded.time_zone, suspended = excluded.suspended, error = NULL, updated_at = now(),
    next_run_at = CASE WHEN s.cron = excluded.cron AND s.time_zone = excluded.time_zone AND NOT s.suspended AND s.next_run_at IS NOT NULL
        THEN s.next_run_at ELSE excluded.next_run_at END
RETURNING *;

-- name: ListJobSchedules :many
SELECT * FROM job_schedules ORDER BY name;

-- name: DeleteJobSchedule :execrows
DELETE FROM job_schedules WHERE name = @name;

-- name: DatabaseTime :one
SELECT coalesce(sqlc.narg(at)::timestamptz, now())::timestamptz;

-- name: DueJobSchedules :many
-- Whoever holds a schedule's row fires it.
SELECT * FROM job_schedules
WHERE NOT suspended AND next_run_at <= coalesce(sqlc.narg(at)::timestamptz, now())
ORDER BY next_run_at LIMIT @batch_size FOR UPDATE SKIP LOCKED;

-- name: AdvanceJobSchedule :exec
UPDATE job_schedules SET last_run_at = next_run_at, last_job_id = @job_id::uuid, next_run_at = @next_run_at::timestamptz WHERE id = @id;

-- name: StopJobSchedule :exec
-- It can't be told when it is due: somebody has to mend it.
UPDATE job_schedules SET next_run_at = NULL, error = @error::text WHERE id = @id;
