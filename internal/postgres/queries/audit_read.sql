-- One query for each index, so that a plan made for any values walks the right one. Newest first, by keyset on (occurred_at, event_id).

-- name: ListAuditEvents :many
SELECT event_id, event_type, version, occurred_at, actor_user_id, trace_id, entity_type, entity_id, collection_id, data, recorded_at
FROM audit_events
WHERE occurred_at >= @from_time AND occurred_at < @to_time
  AND (occurred_at, event_id) < (@before_time::timestamptz, @before_id::uuid)
  AND (sqlc.narg(event_type)::text IS NULL OR event_type = sqlc.narg(event_type))
ORDER BY occurred_at DESC, event_id DESC
LIMIT @page_size;

-- name: ListAuditEventsByCollection :many
SELECT event_id, event_type, version, occurred_at, actor_user_id, trace_id, entity_type, entity_id, collection_id, data, recorded_at
FROM audit_events
WHERE collection_id = @collection_id
  AND occurred_at >= @from_time AND occurred_at < @to_time
  AND (occurred_at, event_id) < (@before_time::timestamptz, @before_id::uuid)
  AND (sqlc.narg(event_type)::text IS NULL OR event_type = sqlc.narg(event_type))
ORDER BY occurred_at DESC, event_id DESC
LIMIT @page_size;

-- name: ListAuditEventsByActor :many
SELECT event_id, event_type, version, occurred_at, actor_user_id, trace_id, entity_type, entity_id, collection_id, data, recorded_at
FROM audit_events
WHERE actor_user_id = @actor_user_id::uuid
  AND occurred_at >= @from_time AND occurred_at < @to_time
  AND (occurred_at, event_id) < (@before_time::timestamptz, @before_id::uuid)
  AND (sqlc.narg(collection_id)::uuid IS NULL OR collection_id = sqlc.narg(collection_id))
  AND (sqlc.narg(event_type)::text IS NULL OR event_type = sqlc.narg(event_type))
ORDER BY occurred_at DESC, event_id DESC
LIMIT @page_size;

-- name: ListAuditEventsByEntity :many
SELECT event_id, event_type, version, occurred_at, actor_user_id, trace_id, entity_type, entity_id, collection_id, data, recorded_at
FROM audit_events
WHERE entity_id = @entity_id
  AND occurred_at >= @from_time AND occurred_at < @to_time
  AND (occurred_at, event_id) < (@before_time::timestamptz, @before_id::uuid)
  AND (sqlc.narg(collection_id)::uuid IS NULL OR collection_id = sqlc.narg(collection_id))
  AND (sqlc.narg(actor_user_id)::uuid IS NULL OR actor_user_id = sqlc.narg(actor_user_id))
  AND (sqlc.narg(event_type)::text IS NULL OR event_type = sqlc.narg(event_type))
ORDER BY occurred_at DESC, event_id DESC
LIMIT @page_size;
