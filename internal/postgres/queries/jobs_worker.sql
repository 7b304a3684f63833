-- What workers do to jobs. A lease is known by its lease_owner, which names the worker and the claim: no two claims have the same. Every change is
-- guarded by state, attempt and owner: a worker that lost its lease changes nothing and learns it from the missing row. "at" is the moment for tests
-- with a clock of their own; NULL means the database's, so that the clocks of workers don't matter.

-- name: PeekJobs :one
-- The first job of each type and priority that waits, by one step in the index each; whether a lease ran out; when the next schedule is due.
WITH RECURSIVE heads AS (
    SELECT h.type, h.priority, h.run_at
    FROM unnest(@types::text[]) AS w (type)
    CROSS JOIN LATERAL (
        SELECT j.type, j.priority, j.run_at FROM jobs j WHERE j.state = 'QUEUED' AND NOT j.held AND j.type = w.type
        ORDER BY j.priority DESC, j.run_at, j.id LIMIT 1
    ) AS h
    UNION ALL
    SELECT n.type, n.priority, n.run_at
    FROM heads
    CROSS JOIN LATERAL (
        SELECT j.type, j.priority, j.run_at FROM jobs j WHERE j.state = 'QUEUED' AND NOT j.held AND j.type = heads.type AND j.priority < heads.priority
        ORDER BY j.priority DESC, j.run_at, j.id LIMIT 1
    ) AS n
)
SELECT coalesce(array_agg(type ORDER BY priority DESC, run_at), '{}')::text[] AS types,
    coalesce(array_agg(priority ORDER BY priority DESC, run_at), '{}')::smallint[] AS priorities,
    coalesce(array_agg(extract(epoch FROM run_at - coalesce(sqlc.narg(at)::timestamptz, now()))::float8 ORDER BY priority DESC, run_at), '{}')::float8[] AS waits,
    EXISTS (SELECT 1 FROM jobs WHERE state = 'RUNNING' AND lease_expires_at < coalesce(sqlc.narg(at)::timestamptz, now())) AS expired,
    coalesce((SELECT extract(epoch FROM min(next_run_at) - coalesce(sqlc.narg(at)::timestamptz, now())) FROM job_schedules WHERE NOT suspended),
        'Infinity')::float8 AS schedule_wait
FROM heads;

-- name: ClaimJobs :many
-- Types and priorities are those of PeekJobs, in its order. No more rows are locked than are claimed.
WITH picked AS MATERIALIZED (
    SELECT c.id
    FROM (SELECT unnest(@types::text[]) AS type, unnest(@priorities::smallint[]) AS priority) AS h
    CROSS JOIN LATERAL (
        SELECT j.id FROM jobs j
        WHERE j.state = 'QUEUED' AND NOT j.held AND j.type = h.type AND j.priority = h.priority AND j.run_at <= coalesce(sqlc.narg(at)::timestamptz, now())
        ORDER BY j.run_at, j.id LIMIT @batch_size FOR UPDATE SKIP LOCKED
    ) AS c
    LIMIT @batch_size
)
UPDATE jobs j SET state = 'RUNNING', attempt = j.attempt + 1, version = j.version + 1, lease_owner = @owner::text,
    lease_expires_at = t.at + make_interval(secs => @lease_seconds::float8),
    started_at = coalesce(j.started_at, t.at), attempt_started_at = t.at, updated_at = t.at
FROM (SELECT coalesce(sqlc.narg(at)::timestamptz, now()) AS at) AS t
WHERE j.id = ANY (ARRAY(SELECT id FROM picked)) -- by the primary key, however large the table is
RETURNING j.*;

-- name: TryLockJobKind :one
-- Held until the transaction ends: who claims jobs of a kind with a limit does so alone. Nobody waits for it, with other kinds in tow.
SELECT pg_try_advisory_xact_lock(@space::integer, hashtext(@type::text))::boolean;

-- name: CountRunningJobs :one
SELECT count(*) FROM jobs WHERE state = 'RUNNING' AND type = @type;

-- name: RenewJobLeases :many
-- A row for each lease that still stands. One whose row somebody changes just now is not waited for: renewed is false.
WITH mine AS (
    SELECT j.id, j.lease_owner, j.cancel_requested_at IS NOT NULL AS cancelled
    FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@owners::text[]) AS owner) AS m
    JOIN jobs j ON j.id = m.id AND j.lease_owner = m.owner AND j.state = 'RUNNING'
), free AS (
    SELECT j.id, j.lease_owner FROM jobs j
    WHERE j.id = ANY (ARRAY(SELECT mine.id FROM mine)) AND j.state = 'RUNNING' AND j.lease_owner = ANY (@owners::text[])
    FOR UPDATE SKIP LOCKED
), renewed AS (
    UPDATE jobs j SET lease_expires_at = coalesce(sqlc.narg(at)::timestamptz, now()) + make_interval(secs => @lease_seconds::float8)
    FROM free WHERE j.id = free.id
    RETURNING j.id, j.lease_owner
)
SELECT mine.id, mine.lease_owner::text AS owner, mine.cancelled::boolean AS cancelled, (renewed.id IS NOT NULL)::boolean AS renewed
FROM mine LEFT JOIN renewed ON renewed.id = mine.id AND renewed.lease_owner = mine.lease_owner;

-- name: StoppedJobs :many
-- Which of these somebody wants to end, for good or for now.
SELECT id, lease_owner::text AS owner, (cancel_requested_at IS NOT NULL)::boolean AS cancelled FROM jobs
WHERE state = 'RUNNING' AND (cancel_requested_at IS NOT NULL OR held) AND id = ANY (@ids::uuid[]);

-- name: SaveJobProgress :one
UPDATE jobs SET progress_done = @progress_done, progress_total = @progress_total, progress_message = coalesce(sqlc.narg(message), progress_message),
    checkpoint = @checkpoint::jsonb, version = version + 1, updated_at = coalesce(sqlc.narg(at)::timestamptz, now()),
    lease_expires_at = coalesce(sqlc.narg(at)::timestamptz, now()) + make_interval(secs => @lease_seconds::float8)
WHERE id = @id AND state = 'RUNNING' AND attempt = @attempt AND lease_owner = @owner::text
RETURNING (cancel_requested_at IS NOT NULL)::boolean AS cancelled, held;

-- name: SettleJobs :many
-- Outcomes are succeeded, retried, failed and handed_back. What is not a success becomes CANCELLED where somebody wanted that. A job that is handed
-- back by a draining worker, or has to wait, did not fail: that attempt is not counted. What it waits for is its error meanwhile. The history has 20
-- entries: a wait after a wait is one with it, and what was handed back is left out before what was tried.
UPDATE jobs j SET
    state = CASE WHEN s.outcome = 'succeeded' THEN 'SUCCEEDED' WHEN j.cancel_requested_at IS NOT NULL THEN 'CANCELLED'
        WHEN s.outcome = 'failed' THEN 'FAILED' ELSE 'QUEUED' END,
    attempt = CASE WHEN s.outcome = 'handed_back' AND j.cancel_requested_at IS NULL THEN j.attempt - 1 ELSE j.attempt END,
    run_at = CASE WHEN s.outcome IN ('retried', 'handed_back') AND j.cancel_requested_at IS NULL
        THEN s.at + make_interval(secs => s.wait_seconds) ELSE j.run_at END,
    result = nullif(s.result, '')::jsonb,
    error = CASE WHEN s.outcome = 'succeeded' OR j.cancel_requested_at IS NOT NULL THEN NULL
        WHEN s.outcome = 'handed_back' AND s.error = '' THEN j.error ELSE s.error END,
    error_code = CASE WHEN s.outcome = 'succeeded' OR j.cancel_requested_at IS NOT NULL THEN NULL
        WHEN s.outcome = 'handed_back' AND s.error = '' THEN j.error_code ELSE s.error_code END,
    finished_at = CASE WHEN s.outcome IN ('succeeded', 'failed') OR j.cancel_requested_at IS NOT NULL THEN s.at END,
    history = (SELECT CASE WHEN w.again THEN j.history - -1
            WHEN jsonb_array_length(j.history) < 20 THEN j.history
            ELSE j.history - coalesce((SELECT min(h.n) - 1 FROM jsonb_array_elements(j.history) WITH ORDINALITY AS h (entry, n)
                WHERE h.entry ->> 'outcome' = 'handed_back'), 0)::integer END || jsonb_strip_nulls(jsonb_build_object(
            'attempt', j.attempt, 'worker', split_part(j.lease_owner, '#', 1), 'finished_at', s.at,
            'started_at', CASE WHEN w.again THEN j.history -> -1 -> 'started_at' ELSE to_jsonb(j.attempt_started_at) END,
            'outcome', CASE WHEN s.outcome <> 'succeeded' AND j.cancel_requested_at IS NOT NULL THEN 'cancelled' ELSE s.outcome END,
            'error_code', nullif(s.error_code, ''), 'error', nullif(left(s.error, 1000), '')))
        FROM (SELECT s.outcome = 'handed_back' AND s.error_code <> '' AND j.cancel_requested_at IS NULL
            AND j.history @? '$[last] ? (@.outcome == "handed_back" && exists(@.error_code))' AS again) AS w),
    held = j.held AND s.outcome IN ('retried', 'handed_back') AND j.cancel_requested_at IS NULL,
    version = j.version + 1, lease_owner = NULL, lease_expires_at = NULL, updated_at = s.at
FROM (
    SELECT unnest(@ids::uuid[]) AS id, unnest(@attempts::integer[]) AS attempt, unnest(@owners::text[]) AS owner, unnest(@outcomes::text[]) AS outcome,
        unnest(@results::text[]) AS result, unnest(@errors::text[]) AS error, unnest(@error_codes::text[]) AS error_code,
        unnest(@wait_seconds::float8[]) AS wait_seconds, coalesce(sqlc.narg(at)::timestamptz, now()) AS at
) AS s
WHERE j.id = s.id AND j.state = 'RUNNING' AND j.attempt = s.attempt AND j.lease_owner = s.owner
RETURNING j.id, s.owner::text AS owner, j.state, j.held, j.version, j.attempt, j.error, j.updated_at, j.cancel_requested_by;

-- name: TryRescueLock :one
-- One worker at a time looks for the jobs of dead ones.
SELECT pg_try_advisory_xact_lock(@key::bigint)::boolean;

-- name: RescueJobs :many
-- Jobs whose worker died: back into the queue while attempts are left, else failed; cancelled where somebody wanted that.
WITH expired AS MATERIALIZED (
    SELECT id FROM jobs WHERE state = 'RUNNING' AND lease_expires_at < coalesce(sqlc.narg(at)::timestamptz, now())
    LIMIT @batch_size FOR UPDATE SKIP LOCKED
)
UPDATE jobs j SET
    state = CASE WHEN j.cancel_requested_at IS NOT NULL THEN 'CANCELLED' WHEN j.attempt < j.max_attempts THEN 'QUEUED' ELSE 'FAILED' END,
    finished_at = CASE WHEN j.cancel_requested_at IS NOT NULL OR j.attempt >= j.max_attempts THEN t.at END,
    error = CASE WHEN j.cancel_requested_at IS NULL THEN @error::text END,
    error_code = CASE WHEN j.cancel_requested_at IS NULL THEN @error_code::text END,
    history = CASE WHEN jsonb_array_length(j.history) < 20 THEN j.history
        ELSE j.history - coalesce((SELECT min(h.n) - 1 FROM jsonb_array_elements(j.history) WITH ORDINALITY AS h (entry, n)
            WHERE h.entry ->> 'outcome' = 'handed_back'), 0)::integer END || jsonb_strip_nulls(jsonb_build_object(
        'attempt', j.attempt, 'worker', split_part(j.lease_owner, '#', 1), 'started_at', j.attempt_started_at, 'finished_at', t.at,
        'outcome', 'lease_lost', 'error_code', @error_code::text, 'error', @error::text)),
    held = j.held AND j.cancel_requested_at IS NULL AND j.attempt < j.max_attempts,
    run_at = t.at, version = j.version + 1, lease_owner = NULL, lease_expires_at = NULL, updated_at = t.at
FROM (SELECT coalesce(sqlc.narg(at)::timestamptz, now()) AS at) AS t
WHERE j.id = ANY (ARRAY(SELECT id FROM expired))
RETURNING j.*;

-- name: JobBacklog :many
-- Depth and age by type and state, over at most 100,000 jobs of each type.
SELECT w.type::text AS type, q.state::text AS state, q.jobs, q.oldest_seconds
FROM unnest(@types::text[]) AS w (type)
CROSS JOIN LATERAL (
    SELECT CASE WHEN top.held THEN 'held' WHEN top.run_at <= now() THEN 'due' ELSE 'later' END AS state, count(*) AS jobs,
        greatest(extract(epoch FROM now() - min(top.run_at)), 0)::float8 AS oldest_seconds
    FROM (SELECT j.run_at, j.held FROM jobs j WHERE j.state = 'QUEUED' AND j.type = w.type LIMIT 100000) AS top
    GROUP BY 1
    UNION ALL
    SELECT 'running', count(*), coalesce(extract(epoch FROM now() - min(r.attempt_started_at)), 0)::float8
    FROM jobs r WHERE r.state = 'RUNNING' AND r.type = w.type
) AS q;
