-- name: AuditPartitions :many
-- Every partition that has or had rows, by a loose scan of the index.
WITH RECURSIVE p AS (
    (SELECT e.kafka_partition FROM audit_events e ORDER BY e.kafka_partition LIMIT 1)
    UNION ALL
    SELECT (SELECT e.kafka_partition FROM audit_events e WHERE e.kafka_partition > p.kafka_partition ORDER BY e.kafka_partition LIMIT 1)
    FROM p WHERE p.kafka_partition IS NOT NULL
)
SELECT q.kafka_partition::integer AS kafka_partition FROM p q WHERE q.kafka_partition IS NOT NULL
UNION SELECT h.kafka_partition FROM audit_heads h
UNION SELECT s.kafka_partition FROM audit_segments s
ORDER BY 1;

-- name: EmptiedAuditPartitions :many
-- Those whose recorded head tells of rows that were not pruned, of which none is there.
SELECT h.kafka_partition FROM audit_heads h
WHERE NOT EXISTS (SELECT FROM audit_events e WHERE e.kafka_partition = h.kafka_partition)
  AND NOT EXISTS (SELECT FROM audit_segments s
    WHERE s.kafka_partition = h.kafka_partition AND s.pruned_at IS NOT NULL AND s.last_position >= h.chain_position)
ORDER BY h.kafka_partition;

-- name: ListAuditHeads :many
-- None or one.
SELECT chain_position, hash FROM audit_heads WHERE kafka_partition = $1;

-- name: ListAuditSegments :many
SELECT first_position, last_position, first_previous_hash, last_hash, first_recorded_at, last_recorded_at, file, file_bytes, file_sha256,
    exported_at, pruned_at
FROM audit_segments WHERE kafka_partition = $1 ORDER BY first_position;

-- name: LastAuditSegment :one
SELECT last_position, last_hash FROM audit_segments WHERE kafka_partition = $1 ORDER BY first_position DESC LIMIT 1;

-- name: InsertAuditSegment :exec
INSERT INTO audit_segments (kafka_partition, first_position, last_position, first_previous_hash, last_hash, first_recorded_at, last_recorded_at,
    file, file_bytes, file_sha256)
VALUES (@kafka_partition, @first_position, @last_position, @first_previous_hash, @last_hash, @first_recorded_at, @last_recorded_at,
    @file, @file_bytes, @file_sha256);

-- name: PruneAuditSegment :one
SELECT audit_prune_segment(@kafka_partition::integer, @first_position::bigint)::bigint AS removed;

-- name: TryLockAuditRetention :one
-- Of two exports or prunings one gives up. Held until the connection closes or unlocks.
SELECT pg_try_advisory_lock(@namespace::integer, -1);

-- name: UnlockAuditRetention :exec
SELECT pg_advisory_unlock(@namespace::integer, -1);
