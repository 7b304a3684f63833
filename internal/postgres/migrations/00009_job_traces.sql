-- +goose Up

-- Whoever queues jobs waits behind this migration while it waits for them: not for long, then it is tried again.
SET LOCAL lock_timeout = '3s';

-- The trace of the request that queued a job, for what the worker logs and publishes about it. The version before leaves both empty.
ALTER TABLE jobs ADD COLUMN trace_id text, ADD COLUMN traceparent text;

-- +goose Down
ALTER TABLE jobs DROP COLUMN trace_id, DROP COLUMN traceparent;
