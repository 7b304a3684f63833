-- name: ItemsForIndexing :many
-- Everything that the search document needs, in one statement and so from one snapshot. An item whose collection is deleted counts as
-- deleted. Ids without a row are left out.
SELECT i.id, i.collection_id, i.title, i.content, i.source_url, i.version, i.created_by, i.created_at, i.updated_at,
    (i.deleted_at IS NOT NULL OR c.deleted_at IS NOT NULL)::boolean AS deleted,
    coalesce((
        SELECT array_agg(t.name ORDER BY t.name) FROM item_tags it JOIN tags t ON t.id = it.tag_id WHERE it.item_id = i.id
    ), '{}')::text[] AS tags
FROM items i JOIN collections c ON c.id = i.collection_id
WHERE i.id = ANY (@ids::uuid[]);

-- name: ItemContentBytes :many
-- The size of each content, which PostgreSQL knows without unpacking it.
SELECT id, octet_length(content)::integer AS bytes FROM items WHERE id = ANY (@ids::uuid[]);

-- name: CollectionItemIDs :many
-- A page of a collection's items, deleted ones included, by keyset; start after the nil UUID.
SELECT id, version FROM items WHERE collection_id = @collection_id AND id > @after_id ORDER BY id LIMIT @page_size;

-- name: CountCollectionItems :one
SELECT count(*) FROM items WHERE collection_id = @collection_id;

-- name: CollectionExists :one
SELECT EXISTS (SELECT 1 FROM collections WHERE id = @id AND deleted_at IS NULL);

-- name: RecordIndexed :exec
-- Only forward: a late batch never takes an item's state back. In id order, so that two batches can't deadlock. Not of an item that was erased:
-- nobody would ever remove its state.
INSERT INTO item_index_state AS s (item_id, indexed_version)
SELECT n.item_id, n.version FROM ROWS FROM (unnest(@item_ids::uuid[]), unnest(@versions::bigint[])) AS n (item_id, version)
WHERE EXISTS (SELECT 1 FROM items i WHERE i.id = n.item_id) ORDER BY n.item_id
ON CONFLICT (item_id) DO UPDATE SET indexed_version = greatest(s.indexed_version, excluded.indexed_version), indexed_at = now()
WHERE s.indexed_version < excluded.indexed_version;
