-- +goose Up

-- Whoever queues jobs waits behind this migration while it waits for them: not for long, then it is tried again.
SET LOCAL lock_timeout = '3s';

ALTER TABLE jobs
    ADD COLUMN priority            smallint NOT NULL DEFAULT 0 CHECK (priority BETWEEN -9 AND 9), -- higher first
    ADD COLUMN unique_key          text,
    ADD COLUMN cancel_requested_at timestamptz,
    ADD COLUMN attempt_started_at  timestamptz, -- of the attempt at hand; started_at is the first one's
    ADD COLUMN progress_message    text,
    ADD COLUMN error_code          text,
    ADD COLUMN history             jsonb NOT NULL DEFAULT '[]'; -- the last attempts that ended, oldest first; see internal/jobs/history.go

-- One unfinished job a key.
CREATE UNIQUE INDEX jobs_unique_key ON jobs (unique_key) WHERE unique_key IS NOT NULL AND state IN ('QUEUED', 'RUNNING');

-- What is claimed next is at the front of a type and a priority: jobs that are finished, wait for their time, or are of a type that nobody may or can
-- run now, are not in the way. The version before claims with it as well.
CREATE INDEX jobs_claim_idx ON jobs (type, priority DESC, run_at, id) WHERE state = 'QUEUED';
DROP INDEX jobs_queued_idx;

-- Running jobs are few: those of a type are counted in it, and those whose lease ran out are found.
CREATE INDEX jobs_lease_idx ON jobs (type, lease_expires_at) WHERE state = 'RUNNING';
DROP INDEX jobs_running_idx;
CREATE INDEX jobs_cancel_idx ON jobs (id) WHERE state = 'RUNNING' AND cancel_requested_at IS NOT NULL;

-- A job leaves three dead rows behind, in front of those that wait.
ALTER TABLE jobs SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);

CREATE TABLE job_schedules (
    id            uuid PRIMARY KEY,
    name          text NOT NULL UNIQUE,
    type          text NOT NULL,
    parameters    jsonb NOT NULL DEFAULT '{}',
    collection_id uuid REFERENCES collections (id) ON DELETE CASCADE,
    priority      smallint NOT NULL DEFAULT 0 CHECK (priority BETWEEN -9 AND 9),
    cron          text NOT NULL,
    time_zone     text NOT NULL DEFAULT 'UTC',
    suspended     boolean NOT NULL DEFAULT false,
    next_run_at   timestamptz, -- NULL: never, because of error
    last_run_at   timestamptz, -- the tick, not the moment
    last_job_id   uuid,        -- which may be gone
    error         text,
    created_by    uuid REFERENCES users (id), -- NULL: the platform itself
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX job_schedules_next_idx ON job_schedules (next_run_at) WHERE NOT suspended;

-- +goose Down
DROP TABLE job_schedules;
ALTER TABLE jobs RESET (autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold, autovacuum_vacuum_cost_delay);
CREATE INDEX jobs_queued_idx ON jobs (run_at, id) WHERE state = 'QUEUED';
CREATE INDEX jobs_running_idx ON jobs (lease_expires_at) WHERE state = 'RUNNING';
DROP INDEX jobs_claim_idx, jobs_lease_idx, jobs_cancel_idx, jobs_unique_key;
ALTER TABLE jobs DROP COLUMN priority, DROP COLUMN unique_key, DROP COLUMN cancel_requested_at, DROP COLUMN attempt_started_at,
    DROP COLUMN progress_message, DROP COLUMN error_code, DROP COLUMN history;
