-- name: ClaimJobs :many
-- This and the transitions below are guarded by state, attempt and lease owner: a worker that lost its lease changes nothing
-- and learns it from the missing row.
WITH claimable AS (
    SELECT id FROM jobs
    WHERE state = 'QUEUED' AND run_at <= now() AND type = ANY (@types::text[])
    ORDER BY run_at, id LIMIT @batch_size FOR UPDATE SKIP LOCKED
)
UPDATE jobs j SET state = 'RUNNING', attempt = j.attempt + 1, version = j.version + 1, lease_owner = @owner::text,
    lease_expires_at = now() + make_interval(secs => @lease_seconds::float8), started_at = coalesce(j.started_at, now()), updated_at = now()
FROM claimable c WHERE j.id = c.id
RETURNING j.*;

-- name: RenewJobLease :execrows
UPDATE jobs SET lease_expires_at = now() + make_interval(secs => @lease_seconds::float8)
WHERE id = @id AND state = 'RUNNING' AND attempt = @attempt AND lease_owner = @owner::text;

-- name: SaveJobProgress :execrows
UPDATE jobs SET progress_done = @progress_done, progress_total = @progress_total, checkpoint = @checkpoint::jsonb, version = version + 1,
    updated_at = now(), lease_expires_at = now() + make_interval(secs => @lease_seconds::float8)
WHERE id = @id AND state = 'RUNNING' AND attempt = @attempt AND lease_owner = @owner::text;

-- name: CompleteJob :one
UPDATE jobs SET state = 'SUCCEEDED', result = @result::jsonb, error = NULL, version = version + 1, lease_owner = NULL, lease_expires_at = NULL,
    finished_at = now(), updated_at = now()
WHERE id = @id AND state = 'RUNNING' AND attempt = @attempt AND lease_owner = @owner::text
RETURNING *;

-- name: FailJob :one
UPDATE jobs SET state = 'FAILED', error = @error::text, version = version + 1, lease_owner = NULL, lease_expires_at = NULL,
    finished_at = now(), updated_at = now()
WHERE id = @id AND state = 'RUNNING' AND attempt = @attempt AND lease_owner = @owner::text
RETURNING *;

-- name: RetryJob :one
UPDATE jobs SET state = 'QUEUED', error = @error::text, run_at = now() + make_interval(secs => @wait_seconds::float8), version = version + 1,
    lease_owner = NULL, lease_expires_at = NULL, updated_at = now()
WHERE id = @id AND state = 'RUNNING' AND attempt = @attempt AND lease_owner = @owner::text
RETURNING *;

-- name: HandBackJob :one
-- A draining worker gives a job back. The attempt did not fail, so it is not counted.
UPDATE jobs SET state = 'QUEUED', attempt = attempt - 1, run_at = now(), version = version + 1, lease_owner = NULL, lease_expires_at = NULL,
    updated_at = now()
WHERE id = @id AND state = 'RUNNING' AND attempt = @attempt AND lease_owner = @owner::text
RETURNING *;

-- name: RescueJobs :many
-- Jobs whose worker died: back into the queue while attempts are left, else failed.
WITH expired AS (
    SELECT id FROM jobs WHERE state = 'RUNNING' AND lease_expires_at < now() ORDER BY lease_expires_at LIMIT @batch_size FOR UPDATE SKIP LOCKED
)
UPDATE jobs j SET
    state = CASE WHEN j.attempt < j.max_attempts THEN 'QUEUED' ELSE 'FAILED' END,
    finished_at = CASE WHEN j.attempt < j.max_attempts THEN NULL ELSE now() END,
    error = 'the worker that ran the job stopped renewing its lease', run_at = now(), version = j.version + 1,
    lease_owner = NULL, lease_expires_at = NULL, updated_at = now()
FROM expired e WHERE j.id = e.id
RETURNING j.*;
