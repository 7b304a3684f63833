-- name: BuryOutbox :execrows
-- Moves an event that Kafka refused out of the outbox, in one statement.
WITH refused AS (
    DELETE FROM outbox WHERE id = @id RETURNING event_id, aggregate_id, payload, traceparent, created_at
)
INSERT INTO outbox_dead_letters (event_id, aggregate_id, payload, traceparent, created_at, reason)
SELECT event_id, aggregate_id, payload, traceparent, created_at, @reason FROM refused
ON CONFLICT (event_id) DO UPDATE SET reason = excluded.reason, failed_at = excluded.failed_at;

-- name: ListOutboxDeadLetters :many
-- By the time of the failure, newest first, without the payloads. The page after one that ended with (failed_at, event_id).
SELECT event_id, aggregate_id, coalesce(payload ->> 'event_type', '')::text AS event_type, octet_length(payload::text) AS payload_bytes,
    traceparent, created_at, reason, failed_at
FROM outbox_dead_letters
WHERE sqlc.narg(before)::timestamptz IS NULL OR (failed_at, event_id) < (sqlc.narg(before)::timestamptz, sqlc.narg(before_event)::uuid)
ORDER BY failed_at DESC, event_id DESC LIMIT @page_size;

-- name: GetOutboxDeadLetter :one
SELECT * FROM outbox_dead_letters WHERE event_id = $1;

-- name: RequeueOutboxDeadLetters :execrows
-- Back into the outbox, oldest first: the relay tries again. They come after later events of their aggregates, which consumers bear, because
-- they read the state from the database.
WITH letter AS (
    DELETE FROM outbox_dead_letters WHERE event_id = ANY (@event_ids::uuid[])
    RETURNING event_id, aggregate_id, payload, traceparent, created_at
)
INSERT INTO outbox (event_id, aggregate_id, payload, traceparent, created_at)
SELECT event_id, aggregate_id, payload, traceparent, created_at FROM letter ORDER BY created_at, event_id;

-- name: CountOutboxDeadLetters :one
SELECT count(*) FROM outbox_dead_letters;
