-- Each change of an item is one statement, so that it costs one round trip, with or without a transaction around it. What it writes was worked
-- out from a version of the item that was read before: when the item has another version by now, nothing is written and no row comes back.
-- In every statement the item's row is written first, which takes its lock, and the outbox row is made from what that returned.

-- name: CreateItem :one
-- No row: no such collection for this user, or the account or its session has ended: no caller who was not confirmed writes anything. created is false for a viewer, and when another item of the collection has the source. The share lock lets other
-- writers in and holds off a deletion of the collection until this transaction ends. Tags that are there are locked: one that is being renamed, merged or
-- deleted is waited for and does not count any more. The others are made, in the order of their names, so that two writers of the same tags can't
-- deadlock; one that somebody else made meanwhile is taken.
WITH target AS (
    SELECT c.id, m.role
    FROM collections c
    JOIN memberships m ON m.collection_id = c.id AND m.user_id = @user_id
    WHERE c.id = @collection_id AND c.deleted_at IS NULL AND EXISTS (SELECT 1 FROM users u WHERE u.id = @user_id AND u.disabled_at IS NULL)
      AND (sqlc.narg(session_id)::uuid IS NULL OR EXISTS (
          SELECT 1 FROM sessions s WHERE s.id = sqlc.narg(session_id) AND s.user_id = @user_id AND s.revoked_at IS NULL AND s.expires_at > now()
      ))
    FOR SHARE OF c
), created AS (
    INSERT INTO items (id, collection_id, title, content, source_url, source_key, metadata, created_by, updated_by, created_at, updated_at)
    SELECT @id, target.id, @title, @content, sqlc.narg(source_url), sqlc.narg(source_key), @metadata, @user_id, @user_id, @created_at, @created_at
    FROM target WHERE target.role IN ('owner', 'editor')
    ON CONFLICT (collection_id, source_key) WHERE deleted_at IS NULL AND source_key IS NOT NULL DO NOTHING
    RETURNING id, collection_id
), wanted AS (
    SELECT w.id, created.collection_id, w.name
    FROM created, ROWS FROM (unnest(@tag_ids::uuid[]), unnest(@tags::text[])) AS w (id, name)
), known AS (
    SELECT t.id, t.name FROM tags t
    WHERE t.collection_id = (SELECT created.collection_id FROM created) AND t.name = ANY (@tags::text[])
    ORDER BY t.id FOR KEY SHARE
), made AS (
    INSERT INTO tags (id, collection_id, name)
    SELECT wanted.id, wanted.collection_id, wanted.name FROM wanted
    WHERE wanted.name NOT IN (SELECT known.name FROM known)
    ORDER BY wanted.name
    ON CONFLICT (collection_id, name) DO UPDATE SET name = excluded.name
    RETURNING id
), linked AS (
    INSERT INTO item_tags (item_id, tag_id)
    SELECT created.id, t.id FROM created, (SELECT known.id FROM known UNION ALL SELECT made.id FROM made) AS t
), announced AS (
    INSERT INTO outbox (event_id, aggregate_id, payload, traceparent)
    SELECT @event_id, created.id, @event, sqlc.narg(traceparent) FROM created
)
SELECT target.role, EXISTS (SELECT 1 FROM created)::boolean AS created FROM target;

-- name: GetItemBySource :one
SELECT i.id FROM items i WHERE i.collection_id = @collection_id AND i.source_key = @source_key AND i.deleted_at IS NULL;

-- name: UpdateItem :one
-- Also moves the item, for which the caller locks the target collection first. before holds the former values of changed_fields. Tags as CreateItem,
-- but those that the item has are not locked: whoever changes them needs the lock on the item.
WITH changed AS (
    UPDATE items i SET
        collection_id = @collection_id, title = @title, content = @content, source_url = sqlc.narg(source_url),
        source_key = CASE WHEN @set_source::boolean THEN sqlc.narg(source_key) ELSE i.source_key END, metadata = @metadata, version = i.version + 1, updated_by = @updated_by, updated_at = @updated_at
    WHERE i.id = @id AND i.version = @version AND i.deleted_at IS NULL AND EXISTS (
        SELECT 1 FROM memberships m JOIN collections c ON c.id = m.collection_id AND c.deleted_at IS NULL
        WHERE m.collection_id = i.collection_id AND m.user_id = @updated_by AND m.role IN ('owner', 'editor')
    )
    RETURNING i.id, i.collection_id, i.version
), revision AS (
    INSERT INTO item_revisions (item_id, version, changed_by, changed_at, changed_fields, before)
    SELECT changed.id, changed.version, @updated_by, @updated_at, @changed_fields, @before FROM changed
), wanted AS (
    SELECT w.id, changed.collection_id, w.name
    FROM changed, ROWS FROM (unnest(@tag_ids::uuid[]), unnest(@tags::text[])) AS w (id, name)
    WHERE @set_tags::boolean
), kept AS (
    SELECT t.id, t.name FROM changed
    JOIN item_tags it ON it.item_id = changed.id
    JOIN tags t ON t.id = it.tag_id AND t.collection_id = changed.collection_id AND t.name = ANY (@tags::text[])
), known AS (
    SELECT t.id, t.name FROM tags t
    WHERE t.collection_id = (SELECT wanted.collection_id FROM wanted LIMIT 1) AND t.name = ANY (@tags::text[]) AND t.id NOT IN (SELECT kept.id FROM kept)
    ORDER BY t.id FOR KEY SHARE
), made AS (
    INSERT INTO tags (id, collection_id, name)
    SELECT wanted.id, wanted.collection_id, wanted.name FROM wanted
    WHERE wanted.name NOT IN (SELECT kept.name FROM kept UNION ALL SELECT known.name FROM known)
    ORDER BY wanted.name
    ON CONFLICT (collection_id, name) DO UPDATE SET name = excluded.name
    RETURNING id
), unlinked AS (
    DELETE FROM item_tags it USING changed
    WHERE @set_tags::boolean AND it.item_id = changed.id AND it.tag_id NOT IN (SELECT kept.id FROM kept)
), linked AS (
    INSERT INTO item_tags (item_id, tag_id)
    SELECT changed.id, t.id FROM changed, (SELECT known.id FROM known UNION ALL SELECT made.id FROM made) AS t
), announced AS (
    INSERT INTO outbox (event_id, aggregate_id, payload, traceparent)
    SELECT @event_id, changed.id, @event, sqlc.narg(traceparent) FROM changed
)
SELECT changed.version FROM changed;

-- name: TouchItem :one
-- UpdateItem when neither title nor content changed: the text and what full-text search made of it are not written again.
WITH changed AS (
    UPDATE items i SET
        collection_id = @collection_id, source_url = sqlc.narg(source_url),
        source_key = CASE WHEN @set_source::boolean THEN sqlc.narg(source_key) ELSE i.source_key END, metadata = @metadata,
        version = i.version + 1, updated_by = @updated_by, updated_at = @updated_at
    WHERE i.id = @id AND i.version = @version AND i.deleted_at IS NULL AND EXISTS (
        SELECT 1 FROM memberships m JOIN collections c ON c.id = m.collection_id AND c.deleted_at IS NULL
        WHERE m.collection_id = i.collection_id AND m.user_id = @updated_by AND m.role IN ('owner', 'editor')
    )
    RETURNING i.id, i.collection_id, i.version
), revision AS (
    INSERT INTO item_revisions (item_id, version, changed_by, changed_at, changed_fields, before)
    SELECT changed.id, changed.version, @updated_by, @updated_at, @changed_fields, @before FROM changed
), wanted AS (
    SELECT w.id, changed.collection_id, w.name
    FROM changed, ROWS FROM (unnest(@tag_ids::uuid[]), unnest(@tags::text[])) AS w (id, name)
    WHERE @set_tags::boolean
), kept AS (
    SELECT t.id, t.name FROM changed
    JOIN item_tags it ON it.item_id = changed.id
    JOIN tags t ON t.id = it.tag_id AND t.collection_id = changed.collection_id AND t.name = ANY (@tags::text[])
), known AS (
    SELECT t.id, t.name FROM tags t
    WHERE t.collection_id = (SELECT wanted.collection_id FROM wanted LIMIT 1) AND t.name = ANY (@tags::text[]) AND t.id NOT IN (SELECT kept.id FROM kept)
    ORDER BY t.id FOR KEY SHARE
), made AS (
    INSERT INTO tags (id, collection_id, name)
    SELECT wanted.id, wanted.collection_id, wanted.name FROM wanted
    WHERE wanted.name NOT IN (SELECT kept.name FROM kept UNION ALL SELECT known.name FROM known)
    ORDER BY wanted.name
    ON CONFLICT (collection_id, name) DO UPDATE SET name = excluded.name
    RETURNING id
), unlinked AS (
    DELETE FROM item_tags it USING changed
    WHERE @set_tags::boolean AND it.item_id = changed.id AND it.tag_id NOT IN (SELECT kept.id FROM kept)
), linked AS (
    INSERT INTO item_tags (item_id, tag_id)
    SELECT changed.id, t.id FROM changed, (SELECT known.id FROM known UNION ALL SELECT made.id FROM made) AS t
), announced AS (
    INSERT INTO outbox (event_id, aggregate_id, payload, traceparent)
    SELECT @event_id, changed.id, @event, sqlc.narg(traceparent) FROM changed
)
SELECT changed.version FROM changed;

-- name: LockCollectionForItems :one
-- Before items come into a collection: holds off its deletion, and nothing else, until this transaction ends.
SELECT m.role
FROM collections c
JOIN memberships m ON m.collection_id = c.id AND m.user_id = @user_id
WHERE c.id = @id AND c.deleted_at IS NULL
FOR SHARE OF c;

-- name: LockItem :exec
-- For a writer that others outran: whoever waits here has the next turn.
SELECT i.id FROM items i WHERE i.id = @id FOR NO KEY UPDATE;

-- name: GetItemHead :one
-- What a deletion or restoration needs to know of an item, in the trash or not. No row: as GetItem.
SELECT i.id, i.collection_id, i.source_url, i.source_key, i.version, i.deleted_at, m.role
FROM items i
JOIN collections c ON c.id = i.collection_id AND c.deleted_at IS NULL
JOIN memberships m ON m.collection_id = i.collection_id AND m.user_id = @user_id
WHERE i.id = @id;

-- name: DeleteItem :one
-- Into the trash: the row stays, with a new version that says that it is deleted.
WITH changed AS (
    UPDATE items i SET deleted_at = @deleted_at, version = i.version + 1, updated_by = @updated_by, updated_at = @deleted_at
    WHERE i.id = @id AND i.version = @version AND i.deleted_at IS NULL AND EXISTS (
        SELECT 1 FROM memberships m JOIN collections c ON c.id = m.collection_id AND c.deleted_at IS NULL
        WHERE m.collection_id = i.collection_id AND m.user_id = @updated_by AND m.role IN ('owner', 'editor')
    )
    RETURNING i.id, i.version
), revision AS (
    INSERT INTO item_revisions (item_id, version, changed_by, changed_at, changed_fields, before)
    SELECT changed.id, changed.version, @updated_by, @deleted_at, '{deleted_at}', '{}' FROM changed
), announced AS (
    INSERT INTO outbox (event_id, aggregate_id, payload, traceparent)
    SELECT @event_id, changed.id, @event, sqlc.narg(traceparent) FROM changed
)
SELECT changed.version FROM changed;

-- name: RestoreItem :one
-- Out of the trash. The collection is locked first, as for a new item.
WITH target AS (
    SELECT c.id
    FROM collections c
    JOIN memberships m ON m.collection_id = c.id AND m.user_id = @updated_by AND m.role IN ('owner', 'editor')
    WHERE c.id = @collection_id AND c.deleted_at IS NULL
    FOR SHARE OF c
), changed AS (
    UPDATE items i SET deleted_at = NULL, version = i.version + 1, updated_by = @updated_by, updated_at = @updated_at
    FROM target
    WHERE i.id = @id AND i.version = @version AND i.deleted_at IS NOT NULL AND i.collection_id = target.id
    RETURNING i.id, i.version
), revision AS (
    INSERT INTO item_revisions (item_id, version, changed_by, changed_at, changed_fields, before)
    SELECT changed.id, changed.version, @updated_by, @updated_at, '{deleted_at}', '{}' FROM changed
), announced AS (
    INSERT INTO outbox (event_id, aggregate_id, payload, traceparent)
    SELECT @event_id, changed.id, @event, sqlc.narg(traceparent) FROM changed
)
SELECT changed.version FROM changed;

-- name: LockEditableItems :exec
-- In one order, so that two transactions that change many of the same items can't deadlock. Only items that the user may change: nobody else can be
-- kept from them.
SELECT i.id FROM items i
JOIN memberships m ON m.collection_id = i.collection_id AND m.user_id = @user_id AND m.role IN ('owner', 'editor')
WHERE i.id = ANY (@ids::uuid[])
ORDER BY i.id FOR NO KEY UPDATE OF i;
