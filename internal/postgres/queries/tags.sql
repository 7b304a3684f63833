-- name: CreateTags :exec
-- In the order of their names, so that two writers that make the same tags cannot deadlock.
INSERT INTO tags (id, collection_id, name)
SELECT wanted.id, @collection_id, wanted.name
FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@names::text[]) AS name) AS wanted
WHERE NOT EXISTS (SELECT 1 FROM tags t WHERE t.collection_id = @collection_id AND t.name = wanted.name)
ORDER BY wanted.name
ON CONFLICT (collection_id, name) DO NOTHING;

-- name: SetItemTags :one
-- After CreateTags, as a statement of its own: it must see tags that another transaction committed meanwhile. Tags that the item gets are locked
-- first: one that is being renamed, merged or deleted is waited for and does not count any more. Returns how many names are then without a tag.
-- Tags that the item has already are not locked: whoever changes them needs the lock on the item, which the caller holds.
WITH wanted AS (
    SELECT t.id, EXISTS (SELECT 1 FROM item_tags it WHERE it.item_id = @item_id AND it.tag_id = t.id) AS kept
    FROM tags t WHERE t.collection_id = @collection_id AND t.name = ANY(@names::text[])
), removed AS (
    DELETE FROM item_tags it WHERE it.item_id = @item_id AND it.tag_id NOT IN (SELECT wanted.id FROM wanted)
), locked AS (
    SELECT t.id FROM tags t
    WHERE t.id IN (SELECT wanted.id FROM wanted WHERE NOT wanted.kept) AND t.name = ANY(@names::text[])
    ORDER BY t.id FOR KEY SHARE
), added AS (
    INSERT INTO item_tags (item_id, tag_id)
    SELECT @item_id, locked.id FROM locked
    ON CONFLICT DO NOTHING
)
SELECT (cardinality(@names::text[]) - (SELECT count(*) FROM wanted WHERE wanted.kept) - (SELECT count(*) FROM locked))::bigint AS missing;
