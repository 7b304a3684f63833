-- name: ExportSizes :many
-- The next items of an export by keyset, and how large each is, which PostgreSQL knows without unpacking it; start after the nil UUID.
SELECT i.id, octet_length(i.content)::integer AS bytes
FROM items i
WHERE i.collection_id = @collection_id AND i.deleted_at IS NULL AND i.id > @after_id
ORDER BY i.id
LIMIT @page_size;

-- name: ExportItems :many
-- Items that are still there, for a user who still may see them, or for Atlas itself, which is no user.
SELECT i.id, i.title, i.content, i.source_url, i.metadata, i.created_at, i.updated_at,
       ARRAY(SELECT t.name FROM item_tags it JOIN tags t ON t.id = it.tag_id WHERE it.item_id = i.id ORDER BY t.name COLLATE "C")::text[] AS tags
FROM items i
JOIN collections c ON c.id = i.collection_id AND c.deleted_at IS NULL
WHERE i.id = ANY (@ids::uuid[]) AND i.collection_id = @collection_id AND i.deleted_at IS NULL
  AND (sqlc.narg(user_id)::uuid IS NULL
       OR EXISTS (SELECT 1 FROM memberships m JOIN users u ON u.id = m.user_id AND u.disabled_at IS NULL
                  WHERE m.collection_id = @collection_id AND m.user_id = sqlc.narg(user_id)::uuid))
ORDER BY i.id;

-- name: GetTransferRights :one
-- What whoever queued a job may do to a collection now; nobody means Atlas itself. No row: the collection is not there, or not any more.
SELECT c.name, (sqlc.narg(user_id)::uuid IS NULL OR coalesce(u.is_admin AND u.disabled_at IS NULL, false))::boolean AS is_admin,
       coalesce(m.role IN ('owner', 'editor') AND u.disabled_at IS NULL, false)::boolean AS is_editor,
       coalesce((SELECT o.user_id FROM memberships o WHERE o.collection_id = c.id AND o.role = 'owner' ORDER BY o.id LIMIT 1),
                '00000000-0000-0000-0000-000000000000'::uuid)::uuid AS owner_id
FROM collections c
LEFT JOIN users u ON u.id = sqlc.narg(user_id)::uuid
LEFT JOIN memberships m ON m.collection_id = c.id AND m.user_id = u.id
WHERE c.id = @id AND c.deleted_at IS NULL;

-- name: GetPortableCollection :one
-- The collection that items leave or come into, as the user sees it now. No row: it is not there for this user, or not any more.
SELECT c.name, m.role
FROM collections c
JOIN memberships m ON m.collection_id = c.id AND m.user_id = @user_id
JOIN users u ON u.id = m.user_id AND u.disabled_at IS NULL
WHERE c.id = @id AND c.deleted_at IS NULL;

-- name: LockCollectionForImport :exec
-- First statement of a batch: holds off a deletion of the collection, and changes to its members, until the commit. Other writers of items go on. The
-- rights are read by a statement of their own: a joined row would still be as it was before the wait for the lock.
SELECT id FROM collections WHERE id = @id FOR SHARE;

-- name: TakenIDs :many
-- Which ids are items, whosever they are, and whether they are to be seen in this collection.
SELECT i.id, (i.collection_id = @collection_id AND i.deleted_at IS NULL)::boolean AS here FROM items i WHERE i.id = ANY (@ids::uuid[]);

-- name: ImportItems :many
-- In one order, by source and then by id, so that two imports of the same items wait for each other instead of deadlocking. What is there already, by
-- id or by source, is left out; the ids that come back are new.
INSERT INTO items (id, collection_id, title, content, source_url, source_key, metadata, created_by, updated_by, created_at, updated_at, imported_at)
SELECT n.id, @collection_id, n.title, n.content, CASE WHEN n.source_key IS NOT NULL THEN n.source_url END, n.source_key, n.metadata::jsonb,
       @user_id, @user_id, n.created_at, n.updated_at, now()
FROM ROWS FROM (
    unnest(@ids::uuid[]), unnest(@titles::text[]), unnest(@contents::text[]), unnest(@source_urls::text[]), unnest(@source_keys::bytea[]),
    unnest(@metadatas::text[]), unnest(@created_ats::timestamptz[]), unnest(@updated_ats::timestamptz[])
) AS n (id, title, content, source_url, source_key, metadata, created_at, updated_at)
ORDER BY n.source_key, n.id
ON CONFLICT DO NOTHING
RETURNING id;

-- name: ImportItemTags :exec
-- For items that this transaction has made: each of the pairs. Tags that are there are locked: one that is being renamed, merged or deleted is waited
-- for and does not count any more. The others are made, in the order of their names; one that somebody else made meanwhile is taken.
WITH known AS (
    SELECT t.id, t.name FROM tags t
    WHERE t.collection_id = @collection_id AND t.name = ANY (@tags::text[])
    ORDER BY t.id FOR KEY SHARE
), made AS (
    INSERT INTO tags (id, collection_id, name)
    SELECT w.id, @collection_id, w.name
    FROM ROWS FROM (unnest(@tag_ids::uuid[]), unnest(@tags::text[])) AS w (id, name)
    WHERE w.name NOT IN (SELECT known.name FROM known)
    ORDER BY w.name
    ON CONFLICT (collection_id, name) DO UPDATE SET name = excluded.name
    RETURNING id, name
)
INSERT INTO item_tags (item_id, tag_id)
SELECT n.item_id, t.id
FROM ROWS FROM (unnest(@item_ids::uuid[]), unnest(@item_tags::text[])) AS n (item_id, name)
JOIN (SELECT known.id, known.name FROM known UNION ALL SELECT made.id, made.name FROM made) AS t ON t.name = n.name
ON CONFLICT DO NOTHING;
