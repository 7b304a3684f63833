-- name: LockAuditChain :exec
-- Held until the transaction ends: of two consumers that believe to own a partition, one waits and then sees the other's rows.
SELECT pg_advisory_xact_lock(@namespace::integer, @kafka_partition::integer);

-- name: AuditChainHead :one
SELECT chain_position, hash FROM audit_events WHERE kafka_partition = $1 ORDER BY chain_position DESC LIMIT 1;

-- name: KnownAuditEvents :many
SELECT event_id FROM audit_events WHERE event_id = ANY (@event_ids::uuid[]);

-- name: CanonicalJSON :many
-- PostgreSQL's own text of each value as jsonb: what a later reader of the row gets, so what the hash has to cover.
SELECT (t.data::jsonb)::text AS data FROM unnest(@data::text[]) WITH ORDINALITY AS t (data, n) ORDER BY t.n;

-- name: InsertAuditEvents :execrows
-- An empty string stands for NULL: the arrays can't hold one.
INSERT INTO audit_events (
    event_id, event_type, version, occurred_at, actor_user_id, trace_id, entity_type, entity_id, collection_id, data,
    kafka_partition, kafka_offset, chain_position, previous_hash, hash, recorded_at
)
SELECT r.event_id, r.event_type, r.version, r.occurred_at, nullif(r.actor_user_id, '')::uuid, nullif(r.trace_id, ''), r.entity_type, r.entity_id,
    nullif(r.collection_id, '')::uuid,
    r.data::jsonb, @kafka_partition::integer, r.kafka_offset, r.chain_position, r.previous_hash, r.hash, @recorded_at::timestamptz
FROM ROWS FROM (
    unnest(@event_ids::uuid[]), unnest(@event_types::text[]), unnest(@versions::integer[]), unnest(@occurred_ats::timestamptz[]),
    unnest(@actor_user_ids::text[]), unnest(@trace_ids::text[]), unnest(@entity_types::text[]), unnest(@entity_ids::uuid[]),
    unnest(@collection_ids::text[]), unnest(@data::text[]), unnest(@kafka_offsets::bigint[]), unnest(@chain_positions::bigint[]),
    unnest(@previous_hashes::bytea[]), unnest(@hashes::bytea[])
) AS r (event_id, event_type, version, occurred_at, actor_user_id, trace_id, entity_type, entity_id, collection_id, data,
    kafka_offset, chain_position, previous_hash, hash)
ON CONFLICT (event_id) DO NOTHING;
