-- name: ListRevisions :many
-- Newest first, without what was replaced. One row with version 0 when there is none; no row: as GetItem.
SELECT i.version AS current_version, i.created_by, i.created_at, coalesce(r.version, 0)::bigint AS version,
       coalesce(r.changed_by, i.created_by)::uuid AS changed_by, coalesce(r.changed_at, i.created_at)::timestamptz AS changed_at,
       coalesce(r.changed_fields, '{}')::text[] AS changed_fields
FROM items i
JOIN collections c ON c.id = i.collection_id AND c.deleted_at IS NULL
JOIN memberships m ON m.collection_id = i.collection_id AND m.user_id = @user_id
LEFT JOIN LATERAL (
    SELECT v.version, v.changed_by, v.changed_at, v.changed_fields FROM item_revisions v
    WHERE v.item_id = i.id AND v.version < @before
    ORDER BY v.version DESC
    LIMIT @page_size
) AS r ON true
WHERE i.id = @id AND i.deleted_at IS NULL
ORDER BY r.version DESC;

-- name: GetRevision :one
-- An item as it was at a version: each field as the first later change of it found it, or as it is now. Only the rows that hold such a value are
-- read in full. known counts the rows from that version on: the state is certain when none is missing.
SELECT i.version AS current_version, i.created_by, i.created_at,
       coalesce(r.changed_by, i.created_by)::uuid AS changed_by, coalesce(r.changed_at, i.created_at)::timestamptz AS changed_at,
       coalesce(r.changed_fields, '{}')::text[] AS changed_fields,
       (SELECT count(*) FROM item_revisions v WHERE v.item_id = i.id AND v.version >= @version)::bigint AS known,
       coalesce((
           SELECT v.before ->> 'title' FROM item_revisions v
           WHERE v.item_id = i.id AND v.version > @version AND 'title' = ANY (v.changed_fields) ORDER BY v.version LIMIT 1
       ), i.title)::text AS title,
       coalesce((
           SELECT v.before ->> 'content' FROM item_revisions v
           WHERE v.item_id = i.id AND v.version > @version AND 'content' = ANY (v.changed_fields) ORDER BY v.version LIMIT 1
       ), i.content)::text AS content,
       coalesce((
           SELECT v.before -> 'source_url' FROM item_revisions v
           WHERE v.item_id = i.id AND v.version > @version AND 'source_url' = ANY (v.changed_fields) ORDER BY v.version LIMIT 1
       ), to_jsonb(i.source_url), 'null')::jsonb AS source_url,
       coalesce((
           SELECT v.before -> 'tags' FROM item_revisions v
           WHERE v.item_id = i.id AND v.version > @version AND 'tags' = ANY (v.changed_fields) ORDER BY v.version LIMIT 1
       ), to_jsonb(ARRAY(
           SELECT t.name FROM item_tags it JOIN tags t ON t.id = it.tag_id WHERE it.item_id = i.id ORDER BY t.name COLLATE "C"
       )))::jsonb AS tags,
       coalesce((
           SELECT v.before -> 'metadata' FROM item_revisions v
           WHERE v.item_id = i.id AND v.version > @version AND 'metadata' = ANY (v.changed_fields) ORDER BY v.version LIMIT 1
       ), i.metadata)::jsonb AS metadata
FROM items i
JOIN collections c ON c.id = i.collection_id AND c.deleted_at IS NULL
JOIN memberships m ON m.collection_id = i.collection_id AND m.user_id = @user_id
LEFT JOIN item_revisions r ON r.item_id = i.id AND r.version = @version
WHERE i.id = @id AND i.deleted_at IS NULL;

-- name: ListTrash :many
-- Newest deletion first over all collections that the user may write to, or one of them: as ListItems.
SELECT top.id, top.collection_id, top.title, top.version, m.role, top.updated_by AS deleted_by, top.deleted_at::timestamptz AS deleted_at
FROM memberships m
JOIN collections c ON c.id = m.collection_id AND c.deleted_at IS NULL
CROSS JOIN LATERAL (
    SELECT i.id, i.collection_id, i.title, i.version, i.updated_by, i.deleted_at
    FROM items i
    WHERE i.collection_id = m.collection_id AND i.deleted_at IS NOT NULL AND (i.deleted_at, i.id) < (@before_time::timestamptz, @before_id::uuid)
    ORDER BY i.deleted_at DESC, i.id DESC
    LIMIT @page_size
) AS top
WHERE m.user_id = @user_id AND m.role IN ('owner', 'editor')
  AND (sqlc.narg(collection_id)::uuid IS NULL OR m.collection_id = sqlc.narg(collection_id))
ORDER BY top.deleted_at DESC, top.id DESC
LIMIT @page_size;
