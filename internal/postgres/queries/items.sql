-- name: CreateItem :one
-- Checks the role and inserts in one statement. No row: no such collection for this user; a viewer's role comes back without an insert. The
-- share lock lets other writers in and holds off a deletion of the collection until this transaction ends.
WITH target AS (
    SELECT c.id, m.role
    FROM collections c
    JOIN memberships m ON m.collection_id = c.id AND m.user_id = @user_id
    WHERE c.id = @collection_id AND c.deleted_at IS NULL
    FOR SHARE OF c
), created AS (
    INSERT INTO items (id, collection_id, title, content, source_url, metadata, created_by, updated_by, created_at, updated_at)
    SELECT @id, target.id, @title, @content, sqlc.narg(source_url), @metadata, @user_id, @user_id, @created_at, @created_at
    FROM target WHERE target.role IN ('owner', 'editor')
)
SELECT target.role FROM target;

-- name: GetItem :one
-- No row: it does not exist, or the user is no member of its collection.
SELECT i.id, i.collection_id, i.title, i.content, i.source_url, i.metadata, i.version, i.created_by, i.updated_by, i.created_at, i.updated_at,
       m.role,
       ARRAY(SELECT t.name FROM item_tags it JOIN tags t ON t.id = it.tag_id WHERE it.item_id = i.id ORDER BY t.name COLLATE "C")::text[] AS tags,
       coalesce(s.indexed_version, 0)::bigint AS indexed_version
FROM items i
JOIN collections c ON c.id = i.collection_id AND c.deleted_at IS NULL
JOIN memberships m ON m.collection_id = i.collection_id AND m.user_id = @user_id
LEFT JOIN item_index_state s ON s.item_id = i.id
WHERE i.id = @id AND i.deleted_at IS NULL;

-- name: LockItem :one
-- First statement of every change to an item; GetItem after it then reads what nobody else can change until the commit.
SELECT i.id FROM items i
WHERE i.id = @id AND i.deleted_at IS NULL
  AND EXISTS (SELECT 1 FROM memberships m WHERE m.collection_id = i.collection_id AND m.user_id = @user_id)
FOR NO KEY UPDATE OF i;

-- name: UpdateItem :one
UPDATE items SET title = @title, content = @content, source_url = sqlc.narg(source_url), metadata = @metadata,
       version = version + 1, updated_by = @updated_by, updated_at = @updated_at
WHERE id = @id
RETURNING version;

-- name: TouchItem :one
-- Only tags changed: the text is not written again.
UPDATE items SET version = version + 1, updated_by = @updated_by, updated_at = @updated_at
WHERE id = @id
RETURNING version;

-- name: DeleteItem :one
UPDATE items SET deleted_at = @deleted_at, version = version + 1, updated_by = @updated_by, updated_at = @deleted_at
WHERE id = @id
RETURNING version;

-- name: InsertOutboxMany :copyfrom
-- For writes that change many aggregates. Rows get ascending ids in the order given.
INSERT INTO outbox (event_id, aggregate_id, payload, traceparent) VALUES (@event_id, @aggregate_id, @payload, @traceparent);

-- name: ListItemStates :many
-- The truth about a page of search hits: what exists, where it is, and which version search has.
SELECT i.id, i.collection_id, i.version, coalesce(s.indexed_version, 0)::bigint AS indexed_version
FROM items i
LEFT JOIN item_index_state s ON s.item_id = i.id
WHERE i.id = ANY(@ids::uuid[]) AND i.deleted_at IS NULL;
