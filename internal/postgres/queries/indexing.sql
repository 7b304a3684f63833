-- name: ItemsForIndexing :many
-- Everything that the search document needs, in one statement and so from one snapshot. An item whose collection is deleted counts as
-- deleted. Ids without a row are left out.
SELECT i.id, i.collection_id, i.title, i.content, i.source_url, i.version, i.created_by, i.created_at, i.updated_at,
    (i.deleted_at IS NOT NULL OR c.deleted_at IS NOT NULL)::boolean AS deleted,
    coalesce((
        SELECT array_agg(t.name ORDER BY t.name) FROM item_tags it JOIN tags t ON t.id = it.tag_id WHERE it.item_id = i.id
    ), '{}')::text[] AS tags,
    e.text AS extract
FROM items i JOIN collections c ON c.id = i.collection_id
LEFT JOIN item_extracts e ON e.item_id = i.id
WHERE i.id = ANY (@ids::uuid[]);

-- name: ItemContentBytes :many
-- The size of each content with its page's text, which PostgreSQL knows without unpacking them.
SELECT i.id, (octet_length(i.content) + coalesce(octet_length(e.text), 0))::integer AS bytes
FROM items i LEFT JOIN item_extracts e ON e.item_id = i.id
WHERE i.id = ANY (@ids::uuid[]);

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
ON CONFLICT (item_id) DO UPDATE SET indexed_version = excluded.indexed_version, indexed_at = now(),
    failed_version = CASE WHEN s.failed_version > excluded.indexed_version THEN s.failed_version END,
    failed_reason = CASE WHEN s.failed_version > excluded.indexed_version THEN s.failed_reason END
WHERE s.indexed_version < excluded.indexed_version;

-- name: RecordRefused :exec
-- As RecordIndexed, of versions that Elasticsearch refused for good.
INSERT INTO item_index_state AS s (item_id, indexed_version, failed_version, failed_reason)
SELECT n.item_id, 0, n.version, n.reason
FROM ROWS FROM (unnest(@item_ids::uuid[]), unnest(@versions::bigint[]), unnest(@reasons::text[])) AS n (item_id, version, reason)
WHERE EXISTS (SELECT 1 FROM items i WHERE i.id = n.item_id) ORDER BY n.item_id
ON CONFLICT (item_id) DO UPDATE SET failed_version = excluded.failed_version, failed_reason = excluded.failed_reason
WHERE s.indexed_version < excluded.failed_version AND coalesce(s.failed_version, 0) <= excluded.failed_version;

-- name: ItemIDs :many
-- A page of all items that the index should have, by keyset; start after the nil UUID.
SELECT i.id, i.version FROM items i WHERE i.id > @after_id AND i.deleted_at IS NULL ORDER BY i.id LIMIT @page_size;

-- name: SearchIndex :one
SELECT * FROM search_indices WHERE alias = @alias AND index_uuid = @index_uuid;

-- name: SeeSearchIndex :exec
-- One index is behind the alias; what was seen before is history.
WITH gone AS (
    DELETE FROM search_indices WHERE search_indices.alias = @alias AND search_indices.index_uuid <> @index_uuid
)
INSERT INTO search_indices (alias, index_uuid, name, incomplete) VALUES (@alias, @index_uuid, @name, @incomplete)
ON CONFLICT (alias, index_uuid) DO NOTHING;

-- name: SaveSearchIndexProgress :exec
UPDATE search_indices SET filled_to = @filled_to, filled_items = filled_items + @items::bigint WHERE alias = @alias AND index_uuid = @index_uuid;

-- name: SearchIndexFilled :exec
UPDATE search_indices SET filled_at = now(), incomplete = false WHERE alias = @alias AND index_uuid = @index_uuid;

-- name: SearchIndices :many
-- What is known of the indices behind the alias: search relies on one that is not incomplete.
SELECT name, index_uuid, incomplete FROM search_indices WHERE alias = @alias;

-- name: AnyItems :one
SELECT EXISTS (SELECT 1 FROM items)::boolean;

-- name: ItemIDRange :one
SELECT coalesce((SELECT i.id FROM items i ORDER BY i.id LIMIT 1), '00000000-0000-0000-0000-000000000000')::uuid AS first,
    coalesce((SELECT i.id FROM items i ORDER BY i.id DESC LIMIT 1), '00000000-0000-0000-0000-000000000000')::uuid AS last;

-- name: SampleIndexedItems :many
-- Live items, a few from each of these places on; recorded: those that the index was given.
SELECT DISTINCT near.id FROM unnest(@places::uuid[]) AS place (id)
CROSS JOIN LATERAL (
    SELECT i.id, i.version, i.deleted_at, i.collection_id FROM items i WHERE i.id >= place.id ORDER BY i.id LIMIT 20
) AS near
JOIN collections c ON c.id = near.collection_id AND c.deleted_at IS NULL
WHERE near.deleted_at IS NULL AND (NOT @recorded::boolean OR EXISTS (
    SELECT 1 FROM item_index_state s WHERE s.item_id = near.id AND s.indexed_version >= near.version
));
