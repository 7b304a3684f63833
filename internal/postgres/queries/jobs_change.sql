-- What others than the worker do to a job. Each is guarded by the state that it begins from. "at" is the moment for tests with a clock of their own;
-- NULL means the database's.

-- name: EnqueueJob :one
-- No row when there is a job with the caller's idempotency key, or an unfinished one with the unique key.
INSERT INTO jobs (id, type, parameters, collection_id, priority, max_attempts, unique_key, idempotency_key, created_by, created_at, run_at, updated_at,
                  trace_id, traceparent, request_hash)
SELECT @id, @type, @parameters, sqlc.narg(collection_id), @priority, @max_attempts, sqlc.narg(unique_key), sqlc.narg(idempotency_key),
       sqlc.narg(created_by), t.at, coalesce(sqlc.narg(run_at)::timestamptz, t.at), t.at, sqlc.narg(trace_id), sqlc.narg(traceparent),
       sqlc.narg(request_hash)
FROM (SELECT coalesce(sqlc.narg(at)::timestamptz, now()) AS at) AS t
ON CONFLICT DO NOTHING
RETURNING *;

-- name: FindJobByKeys :one
-- The job that kept EnqueueJob from making one.
SELECT * FROM jobs
WHERE (idempotency_key = sqlc.narg(idempotency_key)::text
       AND coalesce(created_by, '00000000-0000-0000-0000-000000000000'::uuid) = coalesce(sqlc.narg(created_by)::uuid, '00000000-0000-0000-0000-000000000000'::uuid))
   OR (unique_key = sqlc.narg(unique_key)::text AND state IN ('QUEUED', 'RUNNING'))
ORDER BY (unique_key = sqlc.narg(unique_key)::text AND state IN ('QUEUED', 'RUNNING')) IS TRUE, id
LIMIT 1;

-- name: GetJob :one
SELECT * FROM jobs WHERE id = @id;

-- name: LockJob :one
SELECT * FROM jobs WHERE id = @id FOR UPDATE;

-- name: CancelQueuedJob :one
UPDATE jobs SET state = 'CANCELLED', held = false, cancel_requested_at = coalesce(sqlc.narg(at)::timestamptz, now()),
    cancel_requested_by = sqlc.narg(actor), version = version + 1,
    finished_at = coalesce(sqlc.narg(at)::timestamptz, now()), updated_at = coalesce(sqlc.narg(at)::timestamptz, now())
WHERE id = @id AND state = 'QUEUED'
RETURNING *;

-- name: RequestJobCancel :one
-- The worker, or the rescue after it, does the rest.
UPDATE jobs SET cancel_requested_at = coalesce(sqlc.narg(at)::timestamptz, now()), cancel_requested_by = sqlc.narg(actor), version = version + 1,
    updated_at = coalesce(sqlc.narg(at)::timestamptz, now())
WHERE id = @id AND state = 'RUNNING' AND cancel_requested_at IS NULL
RETURNING *;

-- name: HoldJob :one
-- The worker of one that runs hands it back.
UPDATE jobs SET held = @held, version = version + 1, updated_at = coalesce(sqlc.narg(at)::timestamptz, now())
WHERE id = @id AND state IN ('QUEUED', 'RUNNING')
RETURNING *;

-- name: RequeueJob :one
-- A finished job gets all its attempts anew. Checkpoint, progress and history stay: it goes on where it was.
UPDATE jobs SET state = 'QUEUED', attempt = 0, run_at = coalesce(sqlc.narg(at)::timestamptz, now()), cancel_requested_at = NULL,
    cancel_requested_by = NULL, error = NULL, error_code = NULL, result = NULL, started_at = NULL, attempt_started_at = NULL, finished_at = NULL, version = version + 1,
    updated_at = coalesce(sqlc.narg(at)::timestamptz, now())
WHERE id = @id AND state IN ('FAILED', 'CANCELLED')
RETURNING *;

-- name: NotifyJobs :exec
-- Wakes workers. Never in a write's transaction: notifying transactions commit one after the other.
SELECT pg_notify('atlas_jobs', @payload::text);

-- name: ListenJobs :exec
LISTEN atlas_jobs;
