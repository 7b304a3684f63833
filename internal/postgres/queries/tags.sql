-- name: ListTags :many
-- No row: there is no tag, or no such collection for this user. What the trash has is counted once and taken off: to look at each item of each tag
-- would cost far more.
WITH trashed AS MATERIALIZED (
    SELECT it.tag_id, count(*) AS items
    FROM items i
    JOIN item_tags it ON it.item_id = i.id
    WHERE i.collection_id = @collection_id AND i.deleted_at IS NOT NULL
    GROUP BY it.tag_id
)
SELECT t.id, t.name, counted.item_count::bigint AS item_count
FROM memberships m
JOIN collections c ON c.id = m.collection_id AND c.deleted_at IS NULL
CROSS JOIN LATERAL (
    SELECT tags.id, tags.name FROM tags
    WHERE tags.collection_id = m.collection_id AND tags.name COLLATE "C" > @after::text
    ORDER BY tags.name COLLATE "C"
    LIMIT @page_size
) AS t
LEFT JOIN trashed ON trashed.tag_id = t.id
CROSS JOIN LATERAL (
    SELECT count(*) - coalesce(trashed.items, 0) AS item_count
    FROM (SELECT 1 FROM item_tags it WHERE it.tag_id = t.id LIMIT 10000 + coalesce(trashed.items, 0)) AS linked
) AS counted
WHERE m.user_id = @user_id AND m.collection_id = @collection_id
ORDER BY t.name COLLATE "C";

-- name: ListTagsByPrefix :many
-- As ListTags, for names that begin with a text in any case: nothing that begins with it is greater than it and as many of the last character as a
-- name can have.
WITH trashed AS MATERIALIZED (
    SELECT it.tag_id, count(*) AS items
    FROM items i
    JOIN item_tags it ON it.item_id = i.id
    WHERE i.collection_id = @collection_id AND i.deleted_at IS NOT NULL
    GROUP BY it.tag_id
)
SELECT t.id, t.name, counted.item_count::bigint AS item_count
FROM memberships m
JOIN collections c ON c.id = m.collection_id AND c.deleted_at IS NULL
CROSS JOIN LATERAL (
    SELECT tags.id, tags.name FROM tags
    WHERE tags.collection_id = m.collection_id AND tags.name COLLATE "C" > @after::text
      AND lower(tags.name) COLLATE "C" >= lower(@prefix::text)
      AND lower(tags.name) COLLATE "C" <= lower(@prefix::text) || repeat(chr(1114111), 100)
    ORDER BY tags.name COLLATE "C"
    LIMIT @page_size
) AS t
LEFT JOIN trashed ON trashed.tag_id = t.id
CROSS JOIN LATERAL (
    SELECT count(*) - coalesce(trashed.items, 0) AS item_count
    FROM (SELECT 1 FROM item_tags it WHERE it.tag_id = t.id LIMIT 10000 + coalesce(trashed.items, 0)) AS linked
) AS counted
WHERE m.user_id = @user_id AND m.collection_id = @collection_id
ORDER BY t.name COLLATE "C";

-- name: GetTag :one
SELECT t.id, t.name, (
    SELECT count(*) FROM (
        SELECT 1 FROM item_tags it
        JOIN items i ON i.id = it.item_id AND i.collection_id = @collection_id AND i.deleted_at IS NULL
        WHERE it.tag_id = t.id LIMIT 10000
    ) AS live
) AS item_count
FROM tags t WHERE t.id = @id AND t.collection_id = @collection_id;

-- name: GetTagByName :one
SELECT id FROM tags WHERE collection_id = @collection_id AND name = @name;

-- name: FindTags :many
SELECT id FROM tags WHERE collection_id = @collection_id AND id = ANY (@ids::uuid[]);

-- name: LockTagChanges :exec
-- One change of a collection's tags at a time; items are written on. Neither this lock nor any after it is waited for longer than ten seconds.
SELECT set_config('lock_timeout', '10s', true), pg_advisory_xact_lock(hashtextextended('tags of ' || @collection::text, 0));

-- name: TaggedItems :many
-- A page of the items that have one of the tags, the trash included, by keyset.
SELECT DISTINCT top.item_id
FROM unnest(@tag_ids::uuid[]) AS tag (id)
CROSS JOIN LATERAL (
    SELECT it.item_id FROM item_tags it WHERE it.tag_id = tag.id AND it.item_id > @after ORDER BY it.item_id LIMIT @page_size
) AS top
ORDER BY top.item_id
LIMIT @page_size;

-- name: LockItems :exec
SELECT i.id FROM items i WHERE i.id = ANY (@ids::uuid[]) ORDER BY i.id FOR NO KEY UPDATE;

-- name: RetagItems :many
-- After LockItems, as a statement of its own: it must see what the items are now. Those that still have one of the tags get a version and a
-- revision. unlink takes the tags from them, target is what they get instead. Who deleted an item and when stays as it is.
WITH tagged AS (
    SELECT DISTINCT it.item_id AS id FROM item_tags it WHERE it.item_id = ANY (@ids::uuid[]) AND it.tag_id = ANY (@tag_ids::uuid[])
), former AS (
    SELECT tagged.id, jsonb_build_object('tags', ARRAY(
        SELECT t.name FROM item_tags it JOIN tags t ON t.id = it.tag_id WHERE it.item_id = tagged.id ORDER BY t.name COLLATE "C"
    )) AS before
    FROM tagged
), changed AS (
    UPDATE items SET version = items.version + 1,
        updated_by = CASE WHEN items.deleted_at IS NULL THEN @changed_by::uuid ELSE items.updated_by END,
        updated_at = CASE WHEN items.deleted_at IS NULL THEN @changed_at::timestamptz ELSE items.updated_at END
    FROM tagged WHERE items.id = tagged.id
    RETURNING items.id, items.version, items.source_url
), revised AS (
    INSERT INTO item_revisions (item_id, version, changed_by, changed_at, changed_fields, before)
    SELECT changed.id, changed.version, @changed_by::uuid, @changed_at::timestamptz, '{tags}', former.before FROM changed JOIN former ON former.id = changed.id
), unlinked AS (
    DELETE FROM item_tags it USING tagged WHERE @unlink::boolean AND it.item_id = tagged.id AND it.tag_id = ANY (@tag_ids::uuid[])
), linked AS (
    INSERT INTO item_tags (item_id, tag_id)
    SELECT tagged.id, sqlc.narg(target)::uuid FROM tagged WHERE sqlc.narg(target)::uuid IS NOT NULL
    ON CONFLICT DO NOTHING
)
SELECT changed.id, changed.version, changed.source_url FROM changed ORDER BY changed.id;

-- name: LockTags :exec
-- From here on no item gets one of the tags; whoever is giving one to an item is waited for.
SELECT t.id FROM tags t WHERE t.id = ANY (@ids::uuid[]) ORDER BY t.id FOR UPDATE;

-- name: RenameTag :exec
UPDATE tags SET name = @name WHERE id = @id;

-- name: DeleteTags :exec
DELETE FROM tags WHERE id = ANY (@ids::uuid[]);
