-- Newest first, by keyset on (occurred_at, event_id). One query for each index, so that a plan made for any values walks the right one. The indexes
-- have the type before the time: where none is asked for, each type's page is read, and they are merged. Types are few; those that are there are
-- found by a loose scan of the same index. Rows are fetched for the page alone: all before is in the index.
-- There is one upper bound, before: given two, PostgreSQL may begin at the wrong one and read all that lies between.

-- name: ListAuditEvents :many
WITH RECURSIVE types AS (
    SELECT coalesce(sqlc.narg(event_type)::text,
        (SELECT a.event_type FROM audit_events a ORDER BY a.event_type LIMIT 1)) AS event_type
    UNION ALL
    SELECT (SELECT b.event_type FROM audit_events b WHERE b.event_type > t.event_type
        ORDER BY b.event_type LIMIT 1)
    FROM types t WHERE t.event_type IS NOT NULL AND sqlc.narg(event_type)::text IS NULL
), page AS (
    SELECT k.occurred_at, k.event_id FROM types CROSS JOIN LATERAL (
        SELECT e.occurred_at, e.event_id FROM audit_events e
        WHERE e.event_type = types.event_type
          AND e.occurred_at >= @from_time AND (e.occurred_at, e.event_id) < (@before_time::timestamptz, @before_id::uuid)
        ORDER BY e.occurred_at DESC, e.event_id DESC
        LIMIT @page_size
    ) AS k
    ORDER BY k.occurred_at DESC, k.event_id DESC
    LIMIT @page_size
)
SELECT r.event_id, r.event_type, r.version, r.occurred_at, r.actor_user_id, r.trace_id, r.traceparent, r.entity_type, r.entity_id, r.collection_id,
    r.data, r.recorded_at
FROM page CROSS JOIN LATERAL (SELECT f.* FROM audit_events f WHERE f.event_id = page.event_id OFFSET 0) AS r
ORDER BY r.occurred_at DESC, r.event_id DESC;

-- name: ListAuditEventsByCollection :many
WITH RECURSIVE types AS (
    SELECT coalesce(sqlc.narg(event_type)::text,
        (SELECT a.event_type FROM audit_events a WHERE a.collection_id = @collection_id::uuid ORDER BY a.event_type LIMIT 1)) AS event_type
    UNION ALL
    SELECT (SELECT b.event_type FROM audit_events b WHERE b.collection_id = @collection_id::uuid AND b.event_type > t.event_type
        ORDER BY b.event_type LIMIT 1)
    FROM types t WHERE t.event_type IS NOT NULL AND sqlc.narg(event_type)::text IS NULL
), page AS (
    SELECT k.occurred_at, k.event_id FROM types CROSS JOIN LATERAL (
        SELECT e.occurred_at, e.event_id FROM audit_events e
        WHERE e.collection_id = @collection_id::uuid AND e.event_type = types.event_type
          AND e.occurred_at >= @from_time AND (e.occurred_at, e.event_id) < (@before_time::timestamptz, @before_id::uuid)
        ORDER BY e.occurred_at DESC, e.event_id DESC
        LIMIT @page_size
    ) AS k
    ORDER BY k.occurred_at DESC, k.event_id DESC
    LIMIT @page_size
)
SELECT r.event_id, r.event_type, r.version, r.occurred_at, r.actor_user_id, r.trace_id, r.traceparent, r.entity_type, r.entity_id, r.collection_id,
    r.data, r.recorded_at
FROM page CROSS JOIN LATERAL (SELECT f.* FROM audit_events f WHERE f.event_id = page.event_id OFFSET 0) AS r
ORDER BY r.occurred_at DESC, r.event_id DESC;

-- name: ListAuditEventsByActor :many
WITH RECURSIVE types AS (
    SELECT coalesce(sqlc.narg(event_type)::text,
        (SELECT a.event_type FROM audit_events a WHERE a.actor_user_id = @actor_user_id::uuid ORDER BY a.event_type LIMIT 1)) AS event_type
    UNION ALL
    SELECT (SELECT b.event_type FROM audit_events b WHERE b.actor_user_id = @actor_user_id::uuid AND b.event_type > t.event_type
        ORDER BY b.event_type LIMIT 1)
    FROM types t WHERE t.event_type IS NOT NULL AND sqlc.narg(event_type)::text IS NULL
), page AS (
    SELECT k.occurred_at, k.event_id FROM types CROSS JOIN LATERAL (
        SELECT e.occurred_at, e.event_id FROM audit_events e
        WHERE e.actor_user_id = @actor_user_id::uuid AND e.event_type = types.event_type
          AND e.occurred_at >= @from_time AND (e.occurred_at, e.event_id) < (@before_time::timestamptz, @before_id::uuid)
        ORDER BY e.occurred_at DESC, e.event_id DESC
        LIMIT @page_size
    ) AS k
    ORDER BY k.occurred_at DESC, k.event_id DESC
    LIMIT @page_size
)
SELECT r.event_id, r.event_type, r.version, r.occurred_at, r.actor_user_id, r.trace_id, r.traceparent, r.entity_type, r.entity_id, r.collection_id,
    r.data, r.recorded_at
FROM page CROSS JOIN LATERAL (SELECT f.* FROM audit_events f WHERE f.event_id = page.event_id OFFSET 0) AS r
ORDER BY r.occurred_at DESC, r.event_id DESC;

-- name: ListAuditEventsByCollectionAndActor :many
WITH RECURSIVE types AS (
    SELECT coalesce(sqlc.narg(event_type)::text,
        (SELECT a.event_type FROM audit_events a WHERE a.collection_id = @collection_id::uuid AND a.actor_user_id = @actor_user_id::uuid ORDER BY a.event_type LIMIT 1)) AS event_type
    UNION ALL
    SELECT (SELECT b.event_type FROM audit_events b WHERE b.collection_id = @collection_id::uuid AND b.actor_user_id = @actor_user_id::uuid AND b.event_type > t.event_type
        ORDER BY b.event_type LIMIT 1)
    FROM types t WHERE t.event_type IS NOT NULL AND sqlc.narg(event_type)::text IS NULL
), page AS (
    SELECT k.occurred_at, k.event_id FROM types CROSS JOIN LATERAL (
        SELECT e.occurred_at, e.event_id FROM audit_events e
        WHERE e.collection_id = @collection_id::uuid AND e.actor_user_id = @actor_user_id::uuid AND e.event_type = types.event_type
          AND e.occurred_at >= @from_time AND (e.occurred_at, e.event_id) < (@before_time::timestamptz, @before_id::uuid)
        ORDER BY e.occurred_at DESC, e.event_id DESC
        LIMIT @page_size
    ) AS k
    ORDER BY k.occurred_at DESC, k.event_id DESC
    LIMIT @page_size
)
SELECT r.event_id, r.event_type, r.version, r.occurred_at, r.actor_user_id, r.trace_id, r.traceparent, r.entity_type, r.entity_id, r.collection_id,
    r.data, r.recorded_at
FROM page CROSS JOIN LATERAL (SELECT f.* FROM audit_events f WHERE f.event_id = page.event_id OFFSET 0) AS r
ORDER BY r.occurred_at DESC, r.event_id DESC;

-- name: ListAuditEventsByEntity :many
WITH RECURSIVE types AS (
    SELECT coalesce(sqlc.narg(event_type)::text,
        (SELECT a.event_type FROM audit_events a WHERE a.entity_id = @entity_id ORDER BY a.event_type LIMIT 1)) AS event_type
    UNION ALL
    SELECT (SELECT b.event_type FROM audit_events b WHERE b.entity_id = @entity_id AND b.event_type > t.event_type
        ORDER BY b.event_type LIMIT 1)
    FROM types t WHERE t.event_type IS NOT NULL AND sqlc.narg(event_type)::text IS NULL
), page AS (
    SELECT k.occurred_at, k.event_id FROM types CROSS JOIN LATERAL (
        SELECT e.occurred_at, e.event_id FROM audit_events e
        WHERE e.entity_id = @entity_id AND e.event_type = types.event_type
          AND e.occurred_at >= @from_time AND (e.occurred_at, e.event_id) < (@before_time::timestamptz, @before_id::uuid)
          AND (sqlc.narg(collection_id)::uuid IS NULL OR e.collection_id = sqlc.narg(collection_id))
          AND (sqlc.narg(actor_user_id)::uuid IS NULL OR e.actor_user_id = sqlc.narg(actor_user_id))
        ORDER BY e.occurred_at DESC, e.event_id DESC
        LIMIT @page_size
    ) AS k
    ORDER BY k.occurred_at DESC, k.event_id DESC
    LIMIT @page_size
)
SELECT r.event_id, r.event_type, r.version, r.occurred_at, r.actor_user_id, r.trace_id, r.traceparent, r.entity_type, r.entity_id, r.collection_id,
    r.data, r.recorded_at
FROM page CROSS JOIN LATERAL (SELECT f.* FROM audit_events f WHERE f.event_id = page.event_id OFFSET 0) AS r
ORDER BY r.occurred_at DESC, r.event_id DESC;
