-- +goose Up
SET LOCAL lock_timeout = '3s';
-- A held job is not claimed; one that runs is handed back. The version before knows nothing of it and claims it all the same.
ALTER TABLE jobs ADD COLUMN held boolean NOT NULL DEFAULT false;

DROP INDEX jobs_cancel_idx;
CREATE INDEX jobs_stop_idx ON jobs (id) WHERE state = 'RUNNING' AND (cancel_requested_at IS NOT NULL OR held);

-- +goose Down
DROP INDEX jobs_stop_idx;
CREATE INDEX jobs_cancel_idx ON jobs (id) WHERE state = 'RUNNING' AND cancel_requested_at IS NOT NULL;
ALTER TABLE jobs DROP COLUMN held;
