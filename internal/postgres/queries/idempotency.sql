-- name: ClaimIdempotencyKey :execrows
-- No row: the key was used, and its answer is there. Waits for a transaction that is using it just now. An old key can be used anew.
INSERT INTO idempotency_keys AS k (principal, key, request_hash, status, header, body, collections)
VALUES (@principal, @key, @request_hash, 0, '{}', '', '{}')
ON CONFLICT (principal, key) DO UPDATE SET request_hash = excluded.request_hash, created_at = now()
WHERE k.created_at < @expired_before::timestamptz;

-- name: StoreIdempotentAnswer :exec
UPDATE idempotency_keys SET status = @status, header = @header, body = @body, collections = @collections::uuid[]
WHERE principal = @principal AND key = @key;

-- name: GetIdempotentAnswer :one
-- visible: the caller is still a member of every collection that the answer tells about.
SELECT k.request_hash, k.status, k.header, k.body, NOT EXISTS (
    SELECT FROM unnest(k.collections) AS told (id)
    WHERE NOT EXISTS (
        SELECT FROM memberships m JOIN collections c ON c.id = m.collection_id AND c.deleted_at IS NULL
        WHERE m.collection_id = told.id AND m.user_id = k.principal
    )
) AS visible
FROM idempotency_keys k WHERE k.principal = @principal AND k.key = @key;

-- name: PruneIdempotencyKeys :execrows
-- The rows are locked where they are chosen: one that is used anew meanwhile stays.
WITH old AS (
    SELECT k.principal, k.key FROM idempotency_keys k WHERE k.created_at < @expired_before::timestamptz
    ORDER BY k.created_at LIMIT @batch_size FOR UPDATE SKIP LOCKED
)
DELETE FROM idempotency_keys k USING old WHERE k.principal = old.principal AND k.key = old.key;
