-- name: SearchItemsByRank :many
-- Matches, best first, by keyset on (score, id). The snippet is cut from the page's rows only: that is the dear part.
-- Long runs without a space are cut as the search vector's are.
-- chr(2) and chr(3) mark a match; the caller escapes the text and then turns them into tags, so nothing of an item's own markup survives.
WITH page AS (
    SELECT i.id, i.collection_id, i.title, i.content, i.version, i.updated_at, ts_rank_cd(i.search_vector, q.query)::float8 AS score, q.query
    FROM items i CROSS JOIN websearch_to_tsquery('english', @query::text) AS q (query)
    WHERE i.search_vector @@ q.query AND i.deleted_at IS NULL AND i.collection_id = ANY (@collection_ids::uuid[])
        AND NOT EXISTS (
            SELECT 1 FROM unnest(@tags::text[]) AS wanted (name) WHERE NOT EXISTS (
                SELECT 1 FROM item_tags it JOIN tags t ON t.id = it.tag_id WHERE it.item_id = i.id AND t.name = wanted.name
            )
        )
        AND (NOT @has_after::boolean OR (ts_rank_cd(i.search_vector, q.query)::float8, i.id) < (@after_score::float8, @after_id::uuid))
    ORDER BY score DESC, i.id DESC LIMIT @page_size
)
SELECT p.id, p.collection_id, p.title, p.version, p.updated_at, p.score,
    ts_headline('english', translate(regexp_replace(left(p.content, 50000), '(\S{255})', '\1 ', 'g'), chr(2) || chr(3), ''), p.query,
        'StartSel=' || chr(2) || ', StopSel=' || chr(3) || ', MaxWords=35, MinWords=15, MaxFragments=2, FragmentDelimiter=" … "')::text AS snippet,
    coalesce((SELECT array_agg(t.name ORDER BY t.name) FROM item_tags it JOIN tags t ON t.id = it.tag_id WHERE it.item_id = p.id), '{}')::text[] AS tags
FROM page p ORDER BY p.score DESC, p.id DESC;

-- name: SearchItemsNewest :many
-- Without a text: newest first, by keyset on id (UUIDv7 is ordered by creation time).
SELECT i.id, i.collection_id, i.title, i.version, i.updated_at, left(i.content, 200) AS snippet,
    coalesce((SELECT array_agg(t.name ORDER BY t.name) FROM item_tags it JOIN tags t ON t.id = it.tag_id WHERE it.item_id = i.id), '{}')::text[] AS tags
FROM items i
WHERE i.deleted_at IS NULL AND i.collection_id = ANY (@collection_ids::uuid[])
    AND NOT EXISTS (
        SELECT 1 FROM unnest(@tags::text[]) AS wanted (name) WHERE NOT EXISTS (
            SELECT 1 FROM item_tags it JOIN tags t ON t.id = it.tag_id WHERE it.item_id = i.id AND t.name = wanted.name
        )
    )
    AND (NOT @has_after::boolean OR i.id < @after_id::uuid)
ORDER BY i.id DESC LIMIT @page_size;

-- name: CountSearchMatches :one
-- Counted up to a limit: an exact count of everything would cost more than the page.
SELECT count(*) FROM (
    SELECT 1 FROM items i
    WHERE i.deleted_at IS NULL AND i.collection_id = ANY (@collection_ids::uuid[])
        AND (@query::text = '' OR i.search_vector @@ websearch_to_tsquery('english', @query::text))
        AND NOT EXISTS (
            SELECT 1 FROM unnest(@tags::text[]) AS wanted (name) WHERE NOT EXISTS (
                SELECT 1 FROM item_tags it JOIN tags t ON t.id = it.tag_id WHERE it.item_id = i.id AND t.name = wanted.name
            )
        )
    LIMIT @at_most
) AS matches;
