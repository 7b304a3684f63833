-- +goose NO TRANSACTION
-- Each index is dropped first: one whose concurrent creation was interrupted stays behind, invalid.

-- +goose Up

-- The pages of a job, those that are no job's, and those that went with a job's cancel.
DROP INDEX CONCURRENTLY IF EXISTS item_extracts_job_idx;
CREATE INDEX CONCURRENTLY item_extracts_job_idx ON item_extracts (job_id, due_at) WHERE wanted_in IS NOT NULL AND job_id IS NOT NULL;
DROP INDEX CONCURRENTLY IF EXISTS item_extracts_free_idx;
CREATE INDEX CONCURRENTLY item_extracts_free_idx ON item_extracts (wanted_in, due_at) WHERE wanted_in IS NOT NULL AND job_id IS NULL;
DROP INDEX CONCURRENTLY IF EXISTS item_extracts_dropped_idx;
CREATE INDEX CONCURRENTLY item_extracts_dropped_idx ON item_extracts (job_id) WHERE wanted_in IS NULL AND job_id IS NOT NULL;

-- +goose Down
DROP INDEX CONCURRENTLY IF EXISTS item_extracts_dropped_idx;
DROP INDEX CONCURRENTLY IF EXISTS item_extracts_free_idx;
DROP INDEX CONCURRENTLY IF EXISTS item_extracts_job_idx;
