-- name: CreateJobSchedule :one
-- No row when the name is taken.
INSERT INTO job_schedules (id, name, type, parameters, collection_id, priority, cron, time_zone, suspended, next_run_at, created_by, created_at, updated_at)
VALUES (@id, @name, @type, @parameters, sqlc.narg(collection_id), @priority, @cron, @time_zone, @suspended, @next_run_at::timestamptz,
        sqlc.narg(created_by), @created_at, @created_at)
ON CONFLICT (name) DO NOTHING
RETURNING *;

-- name: GetJobScheduleFor :one
-- Role is NULL when the user is no member of the schedule's collection, or it is deleted.
SELECT sqlc.embed(s), m.role
FROM job_schedules s
LEFT JOIN collections c ON c.id = s.collection_id AND c.deleted_at IS NULL
LEFT JOIN memberships m ON m.collection_id = c.id AND m.user_id = @user_id
WHERE s.id = @id;

-- name: LockJobSchedule :one
SELECT * FROM job_schedules WHERE id = @id FOR UPDATE;

-- name: UpdateJobSchedule :one
-- When it is due is worked out anew.
UPDATE job_schedules SET name = @name, cron = @cron, time_zone = @time_zone, suspended = @suspended, next_run_at = @next_run_at::timestamptz, error = NULL,
    updated_at = @updated_at
WHERE id = @id
RETURNING *;

-- name: EraseJobSchedule :exec
DELETE FROM job_schedules WHERE id = @id;

-- name: ListJobSchedulesOf :many
-- Those of a collection, or of what a member owns or edits; with neither, all of them.
SELECT s.* FROM job_schedules s
WHERE s.name > @after
  AND (sqlc.narg(collection_id)::uuid IS NULL OR s.collection_id = sqlc.narg(collection_id)::uuid)
  AND (sqlc.narg(member)::uuid IS NULL OR EXISTS (
      SELECT 1 FROM memberships m JOIN collections c ON c.id = m.collection_id AND c.deleted_at IS NULL
      WHERE m.collection_id = s.collection_id AND m.user_id = sqlc.narg(member)::uuid AND m.role IN ('owner', 'editor')))
ORDER BY s.name
LIMIT @page_size;

-- name: EraseJobSchedulesOf :exec
DELETE FROM job_schedules WHERE collection_id = @collection_id::uuid;
