-- name: InsertOutbox :exec
-- Called last in a write's transaction, after the aggregate's version was bumped.
INSERT INTO outbox (event_id, aggregate_id, payload, traceparent)
VALUES ($1, $2, $3, sqlc.narg(traceparent));

-- name: TryLeadership :one
-- Session-level: the lock lives as long as the connection. Only one relay holds it per database.
SELECT pg_try_advisory_lock(@key::bigint)::boolean;

-- name: ReleaseLeadership :exec
SELECT pg_advisory_unlock(@key::bigint);

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
