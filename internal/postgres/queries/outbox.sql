-- name: InsertOutbox :exec
-- Called last in a write's transaction, after the aggregate's version was bumped.
INSERT INTO outbox (event_id, aggregate_id, payload, traceparent)
VALUES ($1, $2, $3, sqlc.narg(traceparent));

-- name: DetectDeadClient :exec
-- Makes the server end this session within half a minute when the client's machine or the network to it is gone, and a transaction that a
-- client left open within a minute. By default it would keep both, and their locks (rows, the relay's leadership, an audit chain), for hours.
SELECT set_config('idle_in_transaction_session_timeout', '60000', false),
    set_config('tcp_keepalives_idle', '15', false), set_config('tcp_keepalives_interval', '5', false),
    set_config('tcp_keepalives_count', '3', false), set_config('tcp_user_timeout', '30000', false);

-- name: TryLeadership :one
-- Session-level: the lock lives as long as the connection. Only one relay holds it per database.
SELECT pg_try_advisory_lock(@key::bigint)::boolean;

-- name: HoldLeadership :exec
-- For the relay's connection. The server ends the session, and with it the leadership, when it has heard nothing for the lease: whatever became of
-- the client. A commit that is lost in a crash of the server is published again, or notified by the next poll, so none waits for the disk.
SELECT set_config('idle_session_timeout', @lease_milliseconds::text, false), set_config('synchronous_commit', 'off', false);

-- name: KeepPlans :exec
-- For the relay's connections: the plans are the same for every batch, so they are made once; and the outbox is never read whole.
SELECT set_config('plan_cache_mode', 'force_generic_plan', false), set_config('enable_seqscan', 'off', false);

-- name: Ping :exec
SELECT 1;

-- name: RemoveOutbox :exec
DELETE FROM outbox WHERE id = ANY (@ids::bigint[]);

-- name: MarkOutbox :exec
UPDATE outbox SET published_at = now() WHERE id = ANY (@ids::bigint[]);

-- name: NotifyOutbox :exec
-- Wakes the leading relay. Never in a write's transaction: notifying transactions commit one after the other.
SELECT pg_notify('atlas_outbox', '');

-- name: ListenOutbox :exec
LISTEN atlas_outbox;

-- name: PruneOutbox :execrows
DELETE FROM outbox WHERE id IN (
    SELECT id FROM outbox WHERE published_at < @published_before::timestamptz ORDER BY published_at LIMIT @batch_size
);

-- name: OutboxBacklog :one
-- The depth is counted up to 100,000: a count of a long backlog would slow down the relay that has to work it off.
SELECT (SELECT count(*) FROM (SELECT 1 FROM outbox WHERE published_at IS NULL LIMIT 100000) AS waiting)::bigint AS depth,
    coalesce((SELECT extract(epoch FROM now() - created_at) FROM outbox WHERE published_at IS NULL ORDER BY id LIMIT 1), 0)::float8 AS oldest_age_seconds,
    (SELECT count(*) FROM (SELECT 1 FROM outbox_dead_letters LIMIT 100000) AS letters)::bigint AS dead_letters;
