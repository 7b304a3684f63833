-- +goose NO TRANSACTION
-- Each index is dropped first: one whose concurrent creation was interrupted stays behind, invalid.

-- +goose Up

-- Lists of jobs, newest first, where walking through all jobs would take long: those that went wrong, which are few, and those of a type. A job gets into
-- one of them when it is finished and stays there, so that what is claimed, saved and settled meanwhile costs nothing more.
DROP INDEX CONCURRENTLY IF EXISTS jobs_failed_idx;
CREATE INDEX CONCURRENTLY jobs_failed_idx ON jobs (id DESC) WHERE state IN ('FAILED', 'CANCELLED');
DROP INDEX CONCURRENTLY IF EXISTS jobs_succeeded_idx;
CREATE INDEX CONCURRENTLY jobs_succeeded_idx ON jobs (type, id DESC) WHERE state = 'SUCCEEDED';

-- +goose Down
DROP INDEX CONCURRENTLY IF EXISTS jobs_succeeded_idx;
DROP INDEX CONCURRENTLY IF EXISTS jobs_failed_idx;
