-- name: SuggestItems :many
-- Candidates for completing a title, newest first of each kind: titles that begin with the text, by their index; and a bounded number of titles
-- that the words may be in. Where what begins with the text ends is asked outside the limit: with both ends, the planner thinks that few are
-- between them, and sorts what can be the whole collection. The caller looks at each again: the search vector has stems, and no beginnings of words. An empty query is none.
(
    SELECT top.id, top.collection_id, top.title, true AS begins
    FROM unnest(@collection_ids::uuid[]) AS c (id)
    CROSS JOIN LATERAL (
        SELECT i.id, i.collection_id, i.title FROM items i
        WHERE i.collection_id = c.id AND i.deleted_at IS NULL AND lower(i.title) COLLATE "C" >= lower(@prefix::text) COLLATE "C"
        ORDER BY lower(i.title) COLLATE "C" LIMIT @of_each
    ) AS top
    WHERE lower(top.title) COLLATE "C" < (lower(@prefix::text) || chr(1114111)) COLLATE "C"
    ORDER BY top.id DESC LIMIT @at_most
) UNION ALL (
    SELECT word.id, word.collection_id, word.title, false AS begins
    FROM (
        SELECT i.id, i.collection_id, i.title FROM items i
        WHERE @query::text <> '' AND i.search_vector @@ (@query::text)::tsquery AND i.deleted_at IS NULL
            AND i.collection_id = ANY (@collection_ids::uuid[])
        LIMIT @at_most
    ) AS word
    ORDER BY word.id DESC
);

-- name: StemWords :many
-- The lexeme of each word; empty where there is none.
SELECT coalesce((SELECT v.lexeme FROM unnest(to_tsvector('english', w.word)) AS v LIMIT 1), '')::text AS lexeme
FROM unnest(@words::text[]) WITH ORDINALITY AS w (word, place)
ORDER BY w.place;

-- name: SuggestTags :many
-- Tags that begin with the text, in any case, and are on a live item; those first that the most items have. Bounded in everything: how many tags
-- are looked at, in the order of their names, and how many items of each are counted.
SELECT t.name::text AS name
FROM (
    SELECT top.id, top.name
    FROM unnest(@collection_ids::uuid[]) AS c (id)
    CROSS JOIN LATERAL (
        SELECT g.id, g.name FROM tags g
        WHERE g.collection_id = c.id AND lower(g.name) COLLATE "C" >= lower(@prefix::text) COLLATE "C"
        ORDER BY lower(g.name) COLLATE "C" LIMIT @scanned
    ) AS top
    WHERE lower(top.name) COLLATE "C" < (lower(@prefix::text) || chr(1114111)) COLLATE "C"
    LIMIT @scanned
) AS t
CROSS JOIN LATERAL (
    SELECT count(*) AS items FROM (
        SELECT 1 FROM item_tags it JOIN items i ON i.id = it.item_id AND i.deleted_at IS NULL WHERE it.tag_id = t.id LIMIT @counted
    ) AS used
) AS uses
WHERE uses.items > 0
GROUP BY t.name
ORDER BY sum(uses.items) DESC, t.name COLLATE "C"
LIMIT @at_most;

-- name: ReadFreshness :many
-- What the database says about items that users wait for, trashed ones included. No row: no such item for this user.
SELECT w.place::bigint AS place, i.version, coalesce(s.indexed_version, 0)::bigint AS indexed_version,
    coalesce(s.failed_version, 0)::bigint AS failed_version, (i.deleted_at IS NOT NULL)::boolean AS deleted
FROM ROWS FROM (unnest(@user_ids::uuid[]), unnest(@item_ids::uuid[])) WITH ORDINALITY AS w (user_id, item_id, place)
JOIN items i ON i.id = w.item_id
JOIN collections c ON c.id = i.collection_id AND c.deleted_at IS NULL
JOIN memberships m ON m.collection_id = i.collection_id AND m.user_id = w.user_id
LEFT JOIN item_index_state s ON s.item_id = i.id;
