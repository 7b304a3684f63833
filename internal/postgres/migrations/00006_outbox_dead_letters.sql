-- +goose Up

-- Whoever writes events waits behind this migration while it waits for them: not for long, then it is tried again.
SET LOCAL lock_timeout = '3s';

-- Events that Kafka refuses for good, because they are too large or not valid to it: with the reason, until an operator requeues or removes them.
CREATE TABLE outbox_dead_letters (
    event_id     uuid PRIMARY KEY,
    aggregate_id uuid NOT NULL,
    payload      json NOT NULL,
    traceparent  text,
    created_at   timestamptz NOT NULL, -- of the outbox row
    reason       text NOT NULL,
    failed_at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX outbox_dead_letters_failed_idx ON outbox_dead_letters (failed_at, event_id);

-- Published events are removed at once, so the table has few rows and many dead ones: a share of the rows says nothing about when to clean up.
ALTER TABLE outbox SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0);

-- Large payloads are not compressed: they go soon, and their size can be told without reading them.
ALTER TABLE outbox ALTER COLUMN payload SET STORAGE EXTERNAL;

-- +goose Down
ALTER TABLE outbox ALTER COLUMN payload SET STORAGE EXTENDED;
ALTER TABLE outbox RESET (autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold, autovacuum_vacuum_cost_delay);
DROP TABLE outbox_dead_letters;
