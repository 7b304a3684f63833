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

-- name: UnpublishedOutbox :many
-- In id order and never after a cursor: ids are given before the commit, so a smaller id may appear later than a bigger one.
SELECT id, event_id, aggregate_id, payload, traceparent FROM outbox WHERE published_at IS NULL ORDER BY id LIMIT @batch_size;

-- name: MarkPublished :exec
UPDATE outbox SET published_at = now() WHERE id = ANY (@ids::bigint[]);

-- name: PruneOutbox :execrows
DELETE FROM outbox WHERE id IN (
    SELECT id FROM outbox WHERE published_at < @published_before::timestamptz ORDER BY published_at LIMIT @batch_size
);

-- name: OutboxBacklog :one
-- The depth is counted up to 100,000: a count of a long backlog would slow down the relay that has to work it off.
SELECT (SELECT count(*) FROM (SELECT 1 FROM outbox WHERE published_at IS NULL LIMIT 100000) AS waiting)::bigint AS depth,
    coalesce((SELECT extract(epoch FROM now() - created_at) FROM outbox WHERE published_at IS NULL ORDER BY id LIMIT 1), 0)::float8 AS oldest_age_seconds;
