-- name: InsertOutbox :exec
-- Called last in a write's transaction, after the aggregate's version was bumped.
INSERT INTO outbox (event_id, aggregate_id, payload, traceparent)
VALUES ($1, $2, $3, sqlc.narg(traceparent));
