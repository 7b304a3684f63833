-- name: LockAuditChain :exec
-- Held until the transaction ends: of two consumers that believe to own a partition, one waits and then sees the other's rows.
SELECT pg_advisory_xact_lock(@namespace::integer, @kafka_partition::integer);

-- name: KnownAuditEvents :many
-- Those that are in the trail, and those that were but left it in an exported segment. The ids are sorted.
SELECT event_id FROM audit_events WHERE event_id = ANY (@event_ids::uuid[])
UNION ALL
SELECT p.id FROM audit_segments s CROSS JOIN LATERAL unnest(s.event_ids) AS p (id)
WHERE s.pruned_at IS NOT NULL AND s.last_event_id >= (@event_ids::uuid[])[1]
  AND s.first_event_id <= (@event_ids::uuid[])[cardinality(@event_ids::uuid[])] AND p.id = ANY (@event_ids::uuid[]);

-- name: PrepareAuditEvents :many
-- PostgreSQL's own text of each value as jsonb: what a later reader of the row gets, so what the hash has to cover. And, with each, where the chain
-- goes on: after the recorded head, unless a version that does not record it went on from there. Where rows were cut off, it is after the gap.
SELECT (t.data::jsonb)::text AS data, coalesce(head.chain_position, 0)::bigint AS chain_position,
    coalesce(head.hash, decode(repeat('00', 32), 'hex'))::bytea AS hash
FROM unnest(@data::text[]) WITH ORDINALITY AS t (data, n)
LEFT JOIN (
    SELECT b.chain_position, b.hash FROM (
        (SELECT h.chain_position, h.hash, 1 AS preference FROM audit_heads h WHERE h.kafka_partition = @kafka_partition)
        UNION ALL
        (SELECT e.chain_position, e.hash, 2 FROM audit_events e WHERE e.kafka_partition = @kafka_partition ORDER BY e.chain_position DESC LIMIT 1)
    ) AS b
    ORDER BY b.chain_position DESC, b.preference LIMIT 1
) AS head ON true
ORDER BY t.n;

-- name: InsertAuditEvents :exec
-- Fails with unique_violation where one of the events was recorded before. An empty string stands for NULL: the arrays can't hold one.
INSERT INTO audit_events (
    event_id, event_type, version, occurred_at, actor_user_id, trace_id, traceparent, entity_type, entity_id, collection_id, data,
    kafka_partition, kafka_offset, chain_position, previous_hash, hash, recorded_at
)
SELECT r.event_id, r.event_type, r.version, r.occurred_at, nullif(r.actor_user_id, '')::uuid, nullif(r.trace_id, ''), nullif(r.traceparent, ''),
    r.entity_type, r.entity_id, nullif(r.collection_id, '')::uuid,
    r.data::jsonb, @kafka_partition::integer, r.kafka_offset, r.chain_position, r.previous_hash, r.hash, @recorded_at::timestamptz
FROM ROWS FROM (
    unnest(@event_ids::uuid[]), unnest(@event_types::text[]), unnest(@versions::integer[]), unnest(@occurred_ats::timestamptz[]),
    unnest(@actor_user_ids::text[]), unnest(@trace_ids::text[]), unnest(@traceparents::text[]), unnest(@entity_types::text[]),
    unnest(@entity_ids::uuid[]), unnest(@collection_ids::text[]), unnest(@data::text[]), unnest(@kafka_offsets::bigint[]),
    unnest(@chain_positions::bigint[]), unnest(@previous_hashes::bytea[]), unnest(@hashes::bytea[])
) AS r (event_id, event_type, version, occurred_at, actor_user_id, trace_id, traceparent, entity_type, entity_id, collection_id, data,
    kafka_offset, chain_position, previous_hash, hash);

-- name: MoveAuditHead :exec
INSERT INTO audit_heads (kafka_partition, chain_position, hash, kafka_offset)
VALUES (@kafka_partition, @chain_position, @hash, @kafka_offset)
ON CONFLICT (kafka_partition) DO UPDATE
SET chain_position = excluded.chain_position, hash = excluded.hash, kafka_offset = excluded.kafka_offset, updated_at = now();
