-- name: CheckItems :many
-- The Check queries read in key order, page by page, so that a check needs the same memory for a thousand rows and for a billion. deleted: the index
-- may not have it.
SELECT i.id, i.version, (i.deleted_at IS NOT NULL OR c.deleted_at IS NOT NULL)::boolean AS deleted,
    coalesce(s.indexed_version, 0)::bigint AS indexed_version,
    coalesce(CASE WHEN s.failed_version >= i.version AND s.indexed_version < i.version THEN s.failed_reason END, '')::text AS refused
FROM items i
JOIN collections c ON c.id = i.collection_id
LEFT JOIN item_index_state s ON s.item_id = i.id
WHERE i.id > @after_id ORDER BY i.id LIMIT @page_size;

-- name: CheckItemsByID :many
SELECT i.id, i.version, (i.deleted_at IS NOT NULL OR c.deleted_at IS NOT NULL)::boolean AS deleted,
    coalesce(s.indexed_version, 0)::bigint AS indexed_version,
    coalesce(CASE WHEN s.failed_version >= i.version AND s.indexed_version < i.version THEN s.failed_reason END, '')::text AS refused
FROM items i
JOIN collections c ON c.id = i.collection_id
LEFT JOIN item_index_state s ON s.item_id = i.id
WHERE i.id = ANY (@ids::uuid[]);

-- name: CheckUnpublished :many
-- Which of these aggregates have an event that the relay has not published.
SELECT DISTINCT o.aggregate_id FROM outbox o WHERE o.published_at IS NULL AND o.aggregate_id = ANY (@ids::uuid[]);

-- name: CheckEntities :many
-- What events tell of. first_version is the first one that has an event: the membership that comes with a collection is part of CollectionCreated.
-- Each table is read in its own order, so that its index serves. An imported item tells its own times: what counts is when it came.
SELECT u.entity_type::text AS entity_type, u.id::uuid AS id, u.version::bigint AS version, u.first_version::bigint AS first_version,
    u.state::text AS state, u.attempt::integer AS attempt,
    u.created_at::timestamptz AS created_at, u.updated_at::timestamptz AS updated_at
FROM (
    (SELECT 'Item' AS entity_type, i.id, i.version, 1 AS first_version, '' AS state, 0 AS attempt,
        coalesce(i.imported_at, i.created_at) AS created_at,
        CASE WHEN i.version = 1 THEN coalesce(i.imported_at, i.updated_at) ELSE i.updated_at END AS updated_at
     FROM items i WHERE i.id > @after_id ORDER BY i.id LIMIT @page_size)
    UNION ALL
    (SELECT 'Collection', c.id, c.version, 1, '', 0, c.created_at, c.updated_at
     FROM collections c WHERE c.id > @after_id ORDER BY c.id LIMIT @page_size)
    UNION ALL
    (SELECT 'Membership', m.id, m.version, CASE WHEN m.user_id = c.created_by AND m.created_at = c.created_at THEN 2 ELSE 1 END, '', 0,
        m.created_at, m.updated_at
     FROM memberships m JOIN collections c ON c.id = m.collection_id WHERE m.id > @after_id ORDER BY m.id LIMIT @page_size)
    UNION ALL
    (SELECT 'Job', j.id, j.version, 1, j.state, j.attempt, j.created_at, j.updated_at
     FROM jobs j WHERE j.id > @after_id ORDER BY j.id LIMIT @page_size)
) AS u
ORDER BY u.id LIMIT @page_size;

-- name: CheckEntitiesByID :many
SELECT u.entity_type::text AS entity_type, u.id::uuid AS id, u.version::bigint AS version, u.first_version::bigint AS first_version,
    u.state::text AS state, u.attempt::integer AS attempt,
    u.created_at::timestamptz AS created_at, u.updated_at::timestamptz AS updated_at
FROM (
    SELECT 'Item' AS entity_type, i.id, i.version, 1 AS first_version, '' AS state, 0 AS attempt,
        coalesce(i.imported_at, i.created_at) AS created_at,
        CASE WHEN i.version = 1 THEN coalesce(i.imported_at, i.updated_at) ELSE i.updated_at END AS updated_at
    FROM items i WHERE i.id = ANY (@ids::uuid[])
    UNION ALL
    SELECT 'Collection', c.id, c.version, 1, '', 0, c.created_at, c.updated_at FROM collections c WHERE c.id = ANY (@ids::uuid[])
    UNION ALL
    SELECT 'Membership', m.id, m.version, CASE WHEN m.user_id = c.created_by AND m.created_at = c.created_at THEN 2 ELSE 1 END, '', 0,
        m.created_at, m.updated_at
    FROM memberships m JOIN collections c ON c.id = m.collection_id WHERE m.id = ANY (@ids::uuid[])
    UNION ALL
    SELECT 'Job', j.id, j.version, 1, j.state, j.attempt, j.created_at, j.updated_at FROM jobs j WHERE j.id = ANY (@ids::uuid[])
) AS u;

-- name: CheckTrailEntities :many
-- The entities of the trail, by keyset: an index alone answers.
SELECT DISTINCT a.entity_id FROM audit_events a WHERE a.entity_id > @after_id ORDER BY a.entity_id LIMIT @page_size;

-- name: CheckTrail :many
-- What the trail tells of each entity, in one row: the first, the last and the missing versions, those that two events claim,
-- a job's attempts that were told of, and events that should have a version and have none.
WITH told AS (
    SELECT a.entity_id, a.entity_type, a.event_type, a.collection_id, v.version, a.data ->> 'state' AS state, a.data ->> 'attempt' AS attempt,
        lag(v.version) OVER w AS before,
        lead(v.version) OVER w IS NULL AS newest
    FROM audit_events a
    CROSS JOIN LATERAL (
        SELECT CASE WHEN a.data ->> 'entity_version' ~ '^[0-9]{1,18}$' THEN (a.data ->> 'entity_version')::bigint END AS version
    ) AS v
    WHERE a.entity_id = ANY (@ids::uuid[]) AND v.version IS NOT NULL
    WINDOW w AS (PARTITION BY a.entity_id ORDER BY v.version, a.event_id)
)
SELECT t.entity_id, min(t.entity_type)::text AS entity_type, min(t.version)::bigint AS first_version, max(t.version)::bigint AS last_version,
    (count(*) FILTER (WHERE t.version > t.before + 1))::bigint AS gaps,
    coalesce(min(t.before + 1) FILTER (WHERE t.version > t.before + 1), 0)::bigint AS first_gap,
    (count(*) FILTER (WHERE t.version = t.before))::bigint AS repeats,
    coalesce(min(t.version) FILTER (WHERE t.version = t.before), 0)::bigint AS first_repeat,
    coalesce(max(t.event_type) FILTER (WHERE t.newest), '')::text AS last_type,
    coalesce(max(t.state) FILTER (WHERE t.newest), '')::text AS last_state,
    coalesce(max(t.attempt) FILTER (WHERE t.newest), '')::text AS last_attempt,
    (count(DISTINCT t.attempt) FILTER (WHERE t.state = 'RUNNING'))::bigint AS attempts,
    (SELECT count(*) FROM audit_events u
     WHERE u.entity_id = t.entity_id AND u.event_type = ANY (@versioned::text[]) AND coalesce(u.data ->> 'entity_version', '') !~ '^[0-9]{1,18}$') AS unversioned,
    EXISTS (
        SELECT 1 FROM collections c WHERE c.id = (array_agg(t.collection_id) FILTER (WHERE t.newest))[1] AND c.deleted_at IS NULL
    )::boolean AS collection_lives
FROM told t GROUP BY t.entity_id;

-- name: CheckOutbox :many
-- Published events, by keyset: those that a version before left there; this one removes them as it publishes them.
SELECT o.id, o.event_id FROM outbox o WHERE o.id > @after_id AND o.published_at IS NOT NULL ORDER BY o.id LIMIT @page_size;

-- name: CheckAuditEvents :many
SELECT a.event_id FROM audit_events a WHERE a.event_id = ANY (@event_ids::uuid[]);

-- name: CheckOutboxEvents :many
-- What the events are that the trail lacks. Read by the place in the outbox, which has an index; event_id has none.
SELECT o.id, o.event_id, o.aggregate_id, (o.payload ->> 'event_type')::text AS event_type FROM outbox o WHERE o.id = ANY (@ids::bigint[]);

-- name: CheckTrailStart :one
-- What was recorded until then may have left the trail: it was exported and pruned.
SELECT coalesce(max(last_recorded_at), 'epoch')::timestamptz FROM audit_segments WHERE pruned_at IS NOT NULL;

-- name: CheckDeadLetters :many
-- Which of these aggregates have an event that Kafka refused.
SELECT DISTINCT d.aggregate_id FROM outbox_dead_letters d WHERE d.aggregate_id = ANY (@ids::uuid[]);
