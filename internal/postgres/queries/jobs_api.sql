-- name: CreateJob :one
-- No row when the caller has used the idempotency key before.
INSERT INTO jobs (id, type, parameters, collection_id, idempotency_key, created_by, created_at, run_at, updated_at, trace_id, traceparent)
VALUES (@id, @type, @parameters, @collection_id, sqlc.narg(idempotency_key), sqlc.narg(created_by), @created_at, @created_at, @created_at,
        sqlc.narg(trace_id), sqlc.narg(traceparent))
ON CONFLICT (coalesce(created_by, '00000000-0000-0000-0000-000000000000'::uuid), idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
RETURNING id, type, parameters, collection_id, state, version, attempt, max_attempts, progress_done, progress_total, error, created_at, started_at,
          finished_at;

-- name: GetJobByKey :one
SELECT id, type, parameters, collection_id, state, version, attempt, max_attempts, progress_done, progress_total, error, created_at, started_at,
       finished_at
FROM jobs
WHERE coalesce(created_by, '00000000-0000-0000-0000-000000000000'::uuid) = @principal::uuid AND idempotency_key = @idempotency_key::text;

-- name: GetJobFor :one
-- Role is NULL when the user is no member of the job's collection, or it is deleted.
SELECT j.id, j.type, j.parameters, j.collection_id, j.state, j.version, j.attempt, j.max_attempts, j.progress_done, j.progress_total, j.error,
       j.created_at, j.started_at, j.finished_at, m.role
FROM jobs j
LEFT JOIN collections c ON c.id = j.collection_id AND c.deleted_at IS NULL
LEFT JOIN memberships m ON m.collection_id = c.id AND m.user_id = @user_id
WHERE j.id = @id;

-- name: ListJobs :many
SELECT id, type, parameters, collection_id, state, version, attempt, max_attempts, progress_done, progress_total, error, created_at, started_at,
       finished_at
FROM jobs
WHERE id < @before
ORDER BY id DESC
LIMIT @page_size;

-- name: ListJobsOfCollection :many
SELECT id, type, parameters, collection_id, state, version, attempt, max_attempts, progress_done, progress_total, error, created_at, started_at,
       finished_at
FROM jobs
WHERE collection_id = @collection_id::uuid AND id < @before
ORDER BY id DESC
LIMIT @page_size;

-- name: ListJobsOfUser :many
-- The top of each collection that the user owns or edits, merged.
SELECT top.*
FROM memberships m
JOIN collections c ON c.id = m.collection_id AND c.deleted_at IS NULL
CROSS JOIN LATERAL (
    SELECT j.id, j.type, j.parameters, j.collection_id, j.state, j.version, j.attempt, j.max_attempts, j.progress_done, j.progress_total, j.error,
           j.created_at, j.started_at, j.finished_at
    FROM jobs j
    WHERE j.collection_id = m.collection_id AND j.id < @before
    ORDER BY j.id DESC
    LIMIT @page_size
) AS top
WHERE m.user_id = @user_id AND m.role IN ('owner', 'editor')
ORDER BY top.id DESC
LIMIT @page_size;
