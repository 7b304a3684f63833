-- name: CollectionDeleted :one
SELECT (deleted_at IS NOT NULL)::boolean FROM collections WHERE id = @id;

-- name: CountLiveItems :one
SELECT count(*) FROM items WHERE collection_id = @collection_id AND deleted_at IS NULL;

-- name: DeleteItemsOfCollection :many
-- One step of a purge. The rows are locked where they are chosen, so that one whose own deletion is waited for is left out instead of deleted
-- twice; in id order, as everybody locks items.
WITH batch AS (
    SELECT i.id FROM items i
    WHERE i.collection_id = @collection_id AND i.deleted_at IS NULL AND i.id > @after_id
    ORDER BY i.id LIMIT @batch_size FOR NO KEY UPDATE
)
UPDATE items SET deleted_at = @deleted_at, version = version + 1, updated_by = coalesce(sqlc.narg(deleted_by), updated_by), updated_at = @deleted_at
FROM batch WHERE items.id = batch.id
RETURNING items.id, items.version, items.source_url;

-- name: StrandedCollections :many
-- Deleted collections with live items and no purge on its way: the last one failed, or an item came in by a door that should have been shut.
SELECT c.id, last.created_by
FROM collections c
LEFT JOIN LATERAL (SELECT j.created_by FROM jobs j WHERE j.collection_id = c.id AND j.type = 'purge' ORDER BY j.id DESC LIMIT 1) AS last ON true
WHERE c.deleted_at IS NOT NULL
  AND EXISTS (SELECT 1 FROM items i WHERE i.collection_id = c.id AND i.deleted_at IS NULL)
  AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.collection_id = c.id AND j.type = 'purge' AND j.state IN ('QUEUED', 'RUNNING'))
ORDER BY c.id
LIMIT @batch_size;
