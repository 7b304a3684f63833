-- +goose Up

-- Whoever queues jobs waits behind this migration while it waits for them: not for long, then it is tried again.
SET LOCAL lock_timeout = '3s';

-- Who asked for the cancel of a job, for the event that tells of its end, and what was asked for with an idempotency key. No foreign key: whoever
-- asked may be gone. The version before leaves both empty.
ALTER TABLE jobs ADD COLUMN cancel_requested_by uuid, ADD COLUMN request_hash bytea;

-- +goose Down
ALTER TABLE jobs DROP COLUMN cancel_requested_by, DROP COLUMN request_hash;
