-- name: ListMovedAway :many
-- What the index may have in these collections although it is in none of them any more, but for what it was given before a time.
SELECT m.item_id FROM item_moves m
WHERE m.from_collection = ANY (@collection_ids::uuid[])
  AND NOT EXISTS (SELECT 1 FROM item_index_state s WHERE s.item_id = m.item_id AND s.indexed_version >= m.version AND s.indexed_at < @shown_before::timestamptz)
  AND NOT EXISTS (SELECT 1 FROM items i WHERE i.id = m.item_id AND i.collection_id = ANY (@collection_ids::uuid[]))
LIMIT @at_most;

-- name: ParseSearchPhrases :many
-- The phrases' lexemes, as the text of a tsquery each: empty where a phrase has none.
SELECT phraseto_tsquery('english', p.phrase)::text AS query
FROM unnest(@phrases::text[]) WITH ORDINALITY AS p (phrase, place)
ORDER BY p.place;

-- name: SearchItemsByRank :many
-- Matches, best first, by keyset on (score, id). The snippet is cut from the page's rows only: that is the dear part.
-- Long runs without a space are cut as the search vector's are.
-- chr(2) and chr(3) mark a match; the caller escapes the text and then turns them into tags, so nothing of an item's own markup survives.
WITH page AS (
    SELECT i.id, i.collection_id, i.title, i.content, i.version, i.updated_at, ts_rank_cd(i.search_vector, q.query)::float8 AS score, q.query
    FROM items i CROSS JOIN (SELECT (@query::text)::tsquery AS query) AS q
    WHERE i.search_vector @@ q.query AND i.deleted_at IS NULL AND i.collection_id = ANY (@collection_ids::uuid[])
        AND NOT EXISTS (
            SELECT 1 FROM unnest(@tags::text[]) AS wanted (name) WHERE NOT EXISTS (
                SELECT 1 FROM item_tags it JOIN tags t ON t.id = it.tag_id WHERE it.item_id = i.id AND t.name = wanted.name
            )
        )
        AND NOT EXISTS (
            SELECT 1 FROM item_tags it JOIN tags t ON t.id = it.tag_id WHERE it.item_id = i.id AND t.name = ANY (@not_tags::text[])
        )
        AND (cardinality(@authors::uuid[]) = 0 OR i.created_by = ANY (@authors::uuid[]))
        AND i.created_by <> ALL (@not_authors::uuid[])
        AND (sqlc.narg(created_after)::timestamptz IS NULL OR i.created_at >= sqlc.narg(created_after))
        AND (sqlc.narg(created_before)::timestamptz IS NULL OR i.created_at < sqlc.narg(created_before))
        AND (NOT @has_after::boolean OR (ts_rank_cd(i.search_vector, q.query)::float8, i.id) < (@after_score::float8, @after_id::uuid))
    ORDER BY score DESC, i.id DESC LIMIT @page_size
)
SELECT p.id, p.collection_id, p.title, p.version, p.updated_at, p.score,
    ts_headline('english', translate(regexp_replace(left(p.content, 50000), '(\S{255})', '\1 ', 'g'), chr(2) || chr(3), ''), p.query,
        'StartSel=' || chr(2) || ', StopSel=' || chr(3) || ', MaxWords=35, MinWords=15, MaxFragments=2, FragmentDelimiter=" … "')::text AS snippet,
    coalesce((SELECT array_agg(t.name ORDER BY t.name) FROM item_tags it JOIN tags t ON t.id = it.tag_id WHERE it.item_id = p.id), '{}')::text[] AS tags,
    coalesce((
        SELECT ts_headline('english', translate(regexp_replace(left(e.text, 50000), '(\S{255})', '\1 ', 'g'), chr(2) || chr(3), ''), p.query,
            'StartSel=' || chr(2) || ', StopSel=' || chr(3) || ', MaxWords=35, MinWords=15, MaxFragments=2, FragmentDelimiter=" … "')
        FROM item_extracts e WHERE e.item_id = p.id AND e.text <> ''
    ), '')::text AS extract_snippet
FROM page p ORDER BY p.score DESC, p.id DESC;

-- name: SearchItemsNewest :many
-- Newest first, by keyset on id (UUIDv7 is ordered by creation time). The words need not rank anything to find or exclude items.
WITH page AS (
    SELECT i.id, i.collection_id, i.title, i.content, i.version, i.updated_at FROM items i
    WHERE i.deleted_at IS NULL AND i.collection_id = ANY (@collection_ids::uuid[])
        AND (@query::text = '' OR i.search_vector @@ (@query::text)::tsquery)
        AND NOT EXISTS (
            SELECT 1 FROM unnest(@tags::text[]) AS wanted (name) WHERE NOT EXISTS (
                SELECT 1 FROM item_tags it JOIN tags t ON t.id = it.tag_id WHERE it.item_id = i.id AND t.name = wanted.name
            )
        )
        AND NOT EXISTS (
            SELECT 1 FROM item_tags it JOIN tags t ON t.id = it.tag_id WHERE it.item_id = i.id AND t.name = ANY (@not_tags::text[])
        )
        AND (cardinality(@authors::uuid[]) = 0 OR i.created_by = ANY (@authors::uuid[]))
        AND i.created_by <> ALL (@not_authors::uuid[])
        AND (sqlc.narg(created_after)::timestamptz IS NULL OR i.created_at >= sqlc.narg(created_after))
        AND (sqlc.narg(created_before)::timestamptz IS NULL OR i.created_at < sqlc.narg(created_before))
        AND (NOT @has_after::boolean OR i.id < @after_id::uuid)
    ORDER BY i.id DESC LIMIT @page_size
)
SELECT p.id, p.collection_id, p.title, p.version, p.updated_at, CASE WHEN @query::text = '' THEN left(p.content, 200) ELSE
    ts_headline('english', translate(regexp_replace(left(p.content, 50000), '(\S{255})', '\1 ', 'g'), chr(2) || chr(3), ''), (@query::text)::tsquery,
        'StartSel=' || chr(2) || ', StopSel=' || chr(3) || ', MaxWords=35, MinWords=15, MaxFragments=2, FragmentDelimiter=" … "') END::text AS snippet,
    coalesce((SELECT array_agg(t.name ORDER BY t.name) FROM item_tags it JOIN tags t ON t.id = it.tag_id WHERE it.item_id = p.id), '{}')::text[] AS tags,
    coalesce((
        SELECT ts_headline('english', translate(regexp_replace(left(e.text, 50000), '(\S{255})', '\1 ', 'g'), chr(2) || chr(3), ''), (@query::text)::tsquery,
            'StartSel=' || chr(2) || ', StopSel=' || chr(3) || ', MaxWords=35, MinWords=15, MaxFragments=2, FragmentDelimiter=" … "')
        FROM item_extracts e WHERE e.item_id = p.id AND e.text <> '' AND @query::text <> ''
    ), '')::text AS extract_snippet
FROM page p ORDER BY p.id DESC;

-- name: SearchItemsOldest :many
-- SearchItemsNewest the other way round.
WITH page AS (
    SELECT i.id, i.collection_id, i.title, i.content, i.version, i.updated_at FROM items i
    WHERE i.deleted_at IS NULL AND i.collection_id = ANY (@collection_ids::uuid[])
        AND (@query::text = '' OR i.search_vector @@ (@query::text)::tsquery)
        AND NOT EXISTS (
            SELECT 1 FROM unnest(@tags::text[]) AS wanted (name) WHERE NOT EXISTS (
                SELECT 1 FROM item_tags it JOIN tags t ON t.id = it.tag_id WHERE it.item_id = i.id AND t.name = wanted.name
            )
        )
        AND NOT EXISTS (
            SELECT 1 FROM item_tags it JOIN tags t ON t.id = it.tag_id WHERE it.item_id = i.id AND t.name = ANY (@not_tags::text[])
        )
        AND (cardinality(@authors::uuid[]) = 0 OR i.created_by = ANY (@authors::uuid[]))
        AND i.created_by <> ALL (@not_authors::uuid[])
        AND (sqlc.narg(created_after)::timestamptz IS NULL OR i.created_at >= sqlc.narg(created_after))
        AND (sqlc.narg(created_before)::timestamptz IS NULL OR i.created_at < sqlc.narg(created_before))
        AND (NOT @has_after::boolean OR i.id > @after_id::uuid)
    ORDER BY i.id LIMIT @page_size
)
SELECT p.id, p.collection_id, p.title, p.version, p.updated_at, CASE WHEN @query::text = '' THEN left(p.content, 200) ELSE
    ts_headline('english', translate(regexp_replace(left(p.content, 50000), '(\S{255})', '\1 ', 'g'), chr(2) || chr(3), ''), (@query::text)::tsquery,
        'StartSel=' || chr(2) || ', StopSel=' || chr(3) || ', MaxWords=35, MinWords=15, MaxFragments=2, FragmentDelimiter=" … "') END::text AS snippet,
    coalesce((SELECT array_agg(t.name ORDER BY t.name) FROM item_tags it JOIN tags t ON t.id = it.tag_id WHERE it.item_id = p.id), '{}')::text[] AS tags,
    coalesce((
        SELECT ts_headline('english', translate(regexp_replace(left(e.text, 50000), '(\S{255})', '\1 ', 'g'), chr(2) || chr(3), ''), (@query::text)::tsquery,
            'StartSel=' || chr(2) || ', StopSel=' || chr(3) || ', MaxWords=35, MinWords=15, MaxFragments=2, FragmentDelimiter=" … "')
        FROM item_extracts e WHERE e.item_id = p.id AND e.text <> '' AND @query::text <> ''
    ), '')::text AS extract_snippet
FROM page p ORDER BY p.id;

-- name: SearchItemsUpdated :many
-- Last updated first, by keyset on (updated_at, id), in the milliseconds that every engine keeps.
WITH page AS (
    SELECT i.id, i.collection_id, i.title, i.content, i.version, i.updated_at FROM items i
    WHERE i.deleted_at IS NULL AND i.collection_id = ANY (@collection_ids::uuid[])
        AND (@query::text = '' OR i.search_vector @@ (@query::text)::tsquery)
        AND NOT EXISTS (
            SELECT 1 FROM unnest(@tags::text[]) AS wanted (name) WHERE NOT EXISTS (
                SELECT 1 FROM item_tags it JOIN tags t ON t.id = it.tag_id WHERE it.item_id = i.id AND t.name = wanted.name
            )
        )
        AND NOT EXISTS (
            SELECT 1 FROM item_tags it JOIN tags t ON t.id = it.tag_id WHERE it.item_id = i.id AND t.name = ANY (@not_tags::text[])
        )
        AND (cardinality(@authors::uuid[]) = 0 OR i.created_by = ANY (@authors::uuid[]))
        AND i.created_by <> ALL (@not_authors::uuid[])
        AND (sqlc.narg(created_after)::timestamptz IS NULL OR i.created_at >= sqlc.narg(created_after))
        AND (sqlc.narg(created_before)::timestamptz IS NULL OR i.created_at < sqlc.narg(created_before))
        AND (NOT @has_after::boolean OR (date_trunc('milliseconds', i.updated_at), i.id) < (@after_time::timestamptz, @after_id::uuid))
    ORDER BY date_trunc('milliseconds', i.updated_at) DESC, i.id DESC LIMIT @page_size
)
SELECT p.id, p.collection_id, p.title, p.version, p.updated_at, CASE WHEN @query::text = '' THEN left(p.content, 200) ELSE
    ts_headline('english', translate(regexp_replace(left(p.content, 50000), '(\S{255})', '\1 ', 'g'), chr(2) || chr(3), ''), (@query::text)::tsquery,
        'StartSel=' || chr(2) || ', StopSel=' || chr(3) || ', MaxWords=35, MinWords=15, MaxFragments=2, FragmentDelimiter=" … "') END::text AS snippet,
    coalesce((SELECT array_agg(t.name ORDER BY t.name) FROM item_tags it JOIN tags t ON t.id = it.tag_id WHERE it.item_id = p.id), '{}')::text[] AS tags,
    coalesce((
        SELECT ts_headline('english', translate(regexp_replace(left(e.text, 50000), '(\S{255})', '\1 ', 'g'), chr(2) || chr(3), ''), (@query::text)::tsquery,
            'StartSel=' || chr(2) || ', StopSel=' || chr(3) || ', MaxWords=35, MinWords=15, MaxFragments=2, FragmentDelimiter=" … "')
        FROM item_extracts e WHERE e.item_id = p.id AND e.text <> '' AND @query::text <> ''
    ), '')::text AS extract_snippet
FROM page p ORDER BY date_trunc('milliseconds', p.updated_at) DESC, p.id DESC;

-- name: CountSearchMatches :one
-- Counted up to a limit: an exact count of everything would cost more than the page.
SELECT count(*) FROM (
    SELECT 1 FROM items i
    WHERE i.deleted_at IS NULL AND i.collection_id = ANY (@collection_ids::uuid[])
        AND (@query::text = '' OR i.search_vector @@ (@query::text)::tsquery)
        AND NOT EXISTS (
            SELECT 1 FROM unnest(@tags::text[]) AS wanted (name) WHERE NOT EXISTS (
                SELECT 1 FROM item_tags it JOIN tags t ON t.id = it.tag_id WHERE it.item_id = i.id AND t.name = wanted.name
            )
        )
        AND NOT EXISTS (
            SELECT 1 FROM item_tags it JOIN tags t ON t.id = it.tag_id WHERE it.item_id = i.id AND t.name = ANY (@not_tags::text[])
        )
        AND (cardinality(@authors::uuid[]) = 0 OR i.created_by = ANY (@authors::uuid[]))
        AND i.created_by <> ALL (@not_authors::uuid[])
        AND (sqlc.narg(created_after)::timestamptz IS NULL OR i.created_at >= sqlc.narg(created_after))
        AND (sqlc.narg(created_before)::timestamptz IS NULL OR i.created_at < sqlc.narg(created_before))
    LIMIT @at_most
) AS matches;

-- name: CountSearchFacets :many
-- How many of the matches each tag and each collection has: the most frequent ones, in one order everywhere.
WITH matches AS MATERIALIZED (
    SELECT i.id, i.collection_id FROM items i
    WHERE i.deleted_at IS NULL AND i.collection_id = ANY (@collection_ids::uuid[])
        AND (@query::text = '' OR i.search_vector @@ (@query::text)::tsquery)
        AND NOT EXISTS (
            SELECT 1 FROM unnest(@tags::text[]) AS wanted (name) WHERE NOT EXISTS (
                SELECT 1 FROM item_tags it JOIN tags t ON t.id = it.tag_id WHERE it.item_id = i.id AND t.name = wanted.name
            )
        )
        AND NOT EXISTS (
            SELECT 1 FROM item_tags it JOIN tags t ON t.id = it.tag_id WHERE it.item_id = i.id AND t.name = ANY (@not_tags::text[])
        )
        AND (cardinality(@authors::uuid[]) = 0 OR i.created_by = ANY (@authors::uuid[]))
        AND i.created_by <> ALL (@not_authors::uuid[])
        AND (sqlc.narg(created_after)::timestamptz IS NULL OR i.created_at >= sqlc.narg(created_after))
        AND (sqlc.narg(created_before)::timestamptz IS NULL OR i.created_at < sqlc.narg(created_before))
)
(
    SELECT t.name::text AS tag, NULL::uuid AS collection_id, count(*) AS items
    FROM matches m JOIN item_tags it ON it.item_id = m.id JOIN tags t ON t.id = it.tag_id
    WHERE @of_tags::boolean
    GROUP BY t.name ORDER BY items DESC, t.name COLLATE "C" LIMIT @at_most
) UNION ALL (
    SELECT '', m.collection_id, count(*) AS items FROM matches m
    WHERE @of_collections::boolean
    GROUP BY m.collection_id ORDER BY items DESC, m.collection_id LIMIT @at_most
);

-- name: ResolveSearchCollections :many
-- Which of the given collections, all of them the caller's, have one of the names.
SELECT n.name::text AS wanted, c.id
FROM unnest(@names::text[]) AS n (name) JOIN collections c ON lower(c.name) = lower(n.name)
WHERE c.id = ANY (@collection_ids::uuid[]);

-- name: ResolveSearchAuthors :many
-- Which members of the given collections, all of them the caller's, have one of the e-mails. Nobody else's account can be learned.
SELECT DISTINCT n.email::text AS wanted, u.id
FROM unnest(@emails::text[]) AS n (email) JOIN users u ON lower(u.email) = lower(n.email) JOIN memberships m ON m.user_id = u.id
WHERE m.collection_id = ANY (@collection_ids::uuid[]);
