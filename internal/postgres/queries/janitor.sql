-- Batches of what has been kept long enough. Rows are locked where they are chosen and those in use are skipped: they wait for the next pass. Tags and
-- memberships are chosen by their collection alone, whose end is final: of them nobody makes something that has to stay.

-- name: TryJanitorLock :one
-- Session-level, as TryLeadership.
SELECT pg_try_advisory_lock(@key::bigint)::boolean;

-- name: ReleaseJanitorLock :one
SELECT pg_advisory_unlock(@key::bigint)::boolean;

-- name: ItemsToErase :many
-- Not before search has seen the deletion: afterwards nobody could tell search about it. After unseen_before, search is not waited for any more.
-- Many ids at a time, for many batches: after a mass deletion the planner knows too little to walk the index in order.
SELECT i.id FROM items i
LEFT JOIN item_index_state s ON s.item_id = i.id
WHERE i.deleted_at < @deleted_before::timestamptz
  AND (s.indexed_version >= i.version OR i.deleted_at < @unseen_before::timestamptz)
LIMIT @at_most;

-- name: EraseItems :execrows
-- The ids are ItemsToErase's: one that was restored meanwhile stays.
WITH doomed AS (
    SELECT i.id FROM items i
    WHERE i.id = ANY (@ids::uuid[]) AND i.deleted_at < @deleted_before::timestamptz
    FOR UPDATE SKIP LOCKED
), untagged AS (
    DELETE FROM item_tags it USING doomed WHERE it.item_id = doomed.id
), forgotten AS (
    DELETE FROM item_index_state s USING doomed WHERE s.item_id = doomed.id
    RETURNING s.item_id, s.indexed_version
), settled AS (
    DELETE FROM item_moves m USING forgotten WHERE m.item_id = forgotten.item_id AND m.version <= forgotten.indexed_version
)
DELETE FROM items USING doomed WHERE items.id = doomed.id;

-- name: CollectionsToErase :many
SELECT c.id FROM collections c
WHERE c.deleted_at < @deleted_before::timestamptz
  AND NOT EXISTS (SELECT 1 FROM items i WHERE i.collection_id = c.id)
  AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.collection_id = c.id AND j.state IN ('QUEUED', 'RUNNING'))
ORDER BY c.deleted_at LIMIT @batch_size;

-- name: EraseTags :execrows
DELETE FROM tags WHERE id IN (SELECT t.id FROM tags t WHERE t.collection_id = @collection_id LIMIT @batch_size);

-- name: EraseMemberships :execrows
DELETE FROM memberships WHERE id IN (SELECT m.id FROM memberships m WHERE m.collection_id = @collection_id LIMIT @batch_size);

-- name: EraseJobs :execrows
WITH ended AS (
    SELECT j.id FROM jobs j WHERE j.collection_id = @collection_id AND j.state IN ('SUCCEEDED', 'FAILED', 'CANCELLED')
    LIMIT @batch_size FOR UPDATE SKIP LOCKED
)
DELETE FROM jobs USING ended WHERE jobs.id = ended.id;

-- name: EraseFinishedJobs :execrows
WITH old AS (
    SELECT j.id FROM jobs j WHERE j.finished_at < @finished_before::timestamptz ORDER BY j.finished_at LIMIT @batch_size FOR UPDATE SKIP LOCKED
)
DELETE FROM jobs USING old WHERE jobs.id = old.id;

-- name: EraseCollection :execrows
-- Its jobs would go along: not while there is one, which somebody may be retrying.
DELETE FROM collections c WHERE c.id = @id AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.collection_id = c.id);

-- name: EraseItemMoves :execrows
-- Not before the index has had the move for some time.
WITH known AS (
    SELECT m.from_collection, m.item_id FROM item_moves m
    JOIN item_index_state s ON s.item_id = m.item_id AND s.indexed_version >= m.version AND s.indexed_at < @indexed_before::timestamptz
    LIMIT @batch_size FOR UPDATE OF m SKIP LOCKED
)
DELETE FROM item_moves m USING known WHERE m.from_collection = known.from_collection AND m.item_id = known.item_id;

-- name: EraseSessions :execrows
-- What a login does for its own account, for those who never come back. The refresh tokens go along.
WITH ended AS (
    SELECT s.id FROM sessions s WHERE least(s.expires_at, s.revoked_at) < @ended_before::timestamptz LIMIT @batch_size FOR UPDATE SKIP LOCKED
)
DELETE FROM sessions USING ended WHERE sessions.id = ended.id;

-- name: EraseLoginAttempts :execrows
WITH over AS (
    SELECT l.key FROM login_attempts l WHERE l.resets_at < @over_before::timestamptz ORDER BY l.resets_at LIMIT @batch_size FOR UPDATE SKIP LOCKED
)
DELETE FROM login_attempts USING over WHERE login_attempts.key = over.key;

-- name: EraseAPITokens :execrows
WITH expired AS (
    SELECT t.id FROM api_tokens t WHERE t.expires_at < @expired_before::timestamptz LIMIT @batch_size FOR UPDATE SKIP LOCKED
)
DELETE FROM api_tokens USING expired WHERE api_tokens.id = expired.id;
