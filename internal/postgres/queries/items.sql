-- name: GetItem :one
-- No row: it does not exist, or the user is no member of its collection. caller_counts says that the account is not disabled and the session, if
-- there is one, goes on.
SELECT i.id, i.collection_id, i.title, i.content, i.source_url, i.metadata, i.version, i.created_by, i.updated_by, i.created_at, i.updated_at,
       m.role,
       ARRAY(SELECT t.name FROM item_tags it JOIN tags t ON t.id = it.tag_id WHERE it.item_id = i.id ORDER BY t.name COLLATE "C")::text[] AS tags,
       coalesce(s.indexed_version, 0)::bigint AS indexed_version,
       coalesce(CASE WHEN s.failed_version >= i.version AND s.indexed_version < i.version THEN s.failed_reason END, '')::text AS search_error,
       (EXISTS (SELECT 1 FROM users u WHERE u.id = @user_id AND u.disabled_at IS NULL) AND (sqlc.narg(session_id)::uuid IS NULL OR EXISTS (
           SELECT 1 FROM sessions ss
           WHERE ss.id = sqlc.narg(session_id) AND ss.user_id = @user_id AND ss.revoked_at IS NULL AND ss.expires_at > now()
       )))::boolean AS caller_counts,
       (SELECT jsonb_build_object('language', e.language, 'word_count', e.word_count, 'excerpt', e.excerpt, 'canonical_url', e.canonical_url,
            'fetched_at', e.fetched_at, 'error', e.error_code, 'pending', e.wanted_in IS NOT NULL)
        FROM item_extracts e WHERE e.item_id = i.id) AS extract
FROM items i
JOIN collections c ON c.id = i.collection_id AND c.deleted_at IS NULL
JOIN memberships m ON m.collection_id = i.collection_id AND m.user_id = @user_id
LEFT JOIN item_index_state s ON s.item_id = i.id
WHERE i.id = @id AND i.deleted_at IS NULL;


-- name: InsertOutboxMany :copyfrom
-- For writes that change many aggregates. Rows get ascending ids in the order given.
INSERT INTO outbox (event_id, aggregate_id, payload, traceparent) VALUES (@event_id, @aggregate_id, @payload, @traceparent);

-- name: ListItemStates :many
-- The truth about a page of search hits: what exists, where it is, and which version search has.
SELECT i.id, i.collection_id, i.version, coalesce(s.indexed_version, 0)::bigint AS indexed_version,
    coalesce(s.failed_version, 0)::bigint AS failed_version
FROM items i
LEFT JOIN item_index_state s ON s.item_id = i.id
WHERE i.id = ANY(@ids::uuid[]) AND i.deleted_at IS NULL;
