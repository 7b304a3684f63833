-- +goose NO TRANSACTION
-- Every statement may run again: one that was interrupted is begun anew.

-- +goose Up

-- Whoever writes waits behind a statement that waits for them: not for long, then it is tried again.
SET lock_timeout = '3s';

-- The W3C traceparent of the event's Kafka record. The hash of a row that has one covers it.
ALTER TABLE audit_events ADD COLUMN IF NOT EXISTS traceparent text;
-- Pages are found in the indexes alone, as far as vacuum has been there.
ALTER TABLE audit_events SET (autovacuum_vacuum_insert_scale_factor = 0.02);

-- Where each partition's chain ends. The writer moves it in the transaction of its rows, so rows that were cut off at the end are missed.
-- The versions before don't write it: the chain may be ahead.
CREATE TABLE IF NOT EXISTS audit_heads (
    kafka_partition integer PRIMARY KEY,
    chain_position  bigint NOT NULL,
    hash            bytea NOT NULL,
    kafka_offset    bigint NOT NULL,
    updated_at      timestamptz NOT NULL DEFAULT now()
);
WITH RECURSIVE chain AS (
    (SELECT kafka_partition, chain_position, hash, kafka_offset FROM audit_events ORDER BY kafka_partition DESC, chain_position DESC LIMIT 1)
    UNION ALL
    SELECT b.kafka_partition, b.chain_position, b.hash, b.kafka_offset FROM chain c CROSS JOIN LATERAL (
        SELECT e.kafka_partition, e.chain_position, e.hash, e.kafka_offset FROM audit_events e WHERE e.kafka_partition < c.kafka_partition
        ORDER BY e.kafka_partition DESC, e.chain_position DESC LIMIT 1) b
)
INSERT INTO audit_heads (kafka_partition, chain_position, hash, kafka_offset) SELECT * FROM chain ON CONFLICT DO NOTHING;

-- Stretches of the chain that were exported. Only whole segments leave audit_events, oldest first; their row stays for ever, so that the chain
-- goes on from its last hash. It keeps the ids too, 16 bytes each, sorted: an event that was pruned is still known when the topic is replayed.
CREATE TABLE IF NOT EXISTS audit_segments (
    kafka_partition     integer NOT NULL,
    first_position      bigint NOT NULL,
    last_position       bigint NOT NULL CHECK (last_position >= first_position),
    first_previous_hash bytea NOT NULL,
    last_hash           bytea NOT NULL,
    first_recorded_at   timestamptz NOT NULL,
    last_recorded_at    timestamptz NOT NULL,
    file                text NOT NULL, -- its name, without folder
    file_bytes          bigint NOT NULL,
    file_sha256         bytea NOT NULL,
    exported_at         timestamptz NOT NULL DEFAULT now(),
    pruned_at           timestamptz,
    first_event_id      uuid, -- the least, once it is pruned
    last_event_id       uuid,
    event_ids           uuid[],
    PRIMARY KEY (kafka_partition, first_position),
    CHECK ((pruned_at IS NULL) = (event_ids IS NULL)),
    CHECK ((pruned_at IS NULL) = (first_event_id IS NULL)),
    CHECK ((pruned_at IS NULL) = (last_event_id IS NULL))
);
ALTER TABLE audit_segments ALTER COLUMN event_ids SET STORAGE EXTERNAL; -- random bits: compression finds nothing
CREATE INDEX IF NOT EXISTS audit_segments_pruned_idx ON audit_segments (last_event_id) WHERE pruned_at IS NOT NULL;

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION audit_events_keep() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF EXISTS (SELECT FROM audit_segments s WHERE s.kafka_partition = OLD.kafka_partition AND s.first_position <= OLD.chain_position
        AND s.last_position >= OLD.chain_position AND s.pruned_at IS NOT NULL) THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'audit_events is immutable: DELETE is refused, except of segments that were exported and are pruned'
        USING ERRCODE = 'insufficient_privilege';
END
$$;
-- +goose StatementEnd
CREATE OR REPLACE TRIGGER audit_events_keep BEFORE DELETE ON audit_events FOR EACH ROW EXECUTE FUNCTION audit_events_keep();
CREATE OR REPLACE TRIGGER audit_events_immutable BEFORE UPDATE OR TRUNCATE ON audit_events
    FOR EACH STATEMENT EXECUTE FUNCTION audit_events_refuse_change();

-- An event that was pruned does not come back: a statement that inserts one fails as if its row were still there. It looks after the insert, so
-- it sees a pruning that ended while the insert waited for it.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION audit_events_refuse_pruned() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    least uuid := (SELECT i.event_id FROM inserted i ORDER BY i.event_id LIMIT 1);
    most  uuid := (SELECT i.event_id FROM inserted i ORDER BY i.event_id DESC LIMIT 1);
BEGIN
    IF EXISTS (SELECT FROM audit_segments s WHERE s.pruned_at IS NOT NULL AND s.last_event_id >= least AND s.first_event_id <= most
        AND EXISTS (SELECT FROM unnest(s.event_ids) AS p (id) JOIN inserted i ON i.event_id = p.id)) THEN
        RAISE EXCEPTION 'an event was recorded before, and pruned' USING ERRCODE = 'unique_violation';
    END IF;
    RETURN NULL;
END
$$;
-- +goose StatementEnd
CREATE OR REPLACE TRIGGER audit_events_refuse_pruned AFTER INSERT ON audit_events REFERENCING NEW TABLE AS inserted
    FOR EACH STATEMENT EXECUTE FUNCTION audit_events_refuse_pruned();

-- A head only moves on. A segment is written once, joins the one before, and changes once: when it is pruned.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION audit_heads_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF NEW.kafka_partition = OLD.kafka_partition AND NEW.chain_position > OLD.chain_position THEN
            RETURN NEW;
        END IF;
    END IF;
    RAISE EXCEPTION 'audit_heads only moves on: % is refused', TG_OP USING ERRCODE = 'insufficient_privilege';
END
$$;
-- +goose StatementEnd
CREATE OR REPLACE TRIGGER audit_heads_guard BEFORE UPDATE OR DELETE ON audit_heads FOR EACH ROW EXECUTE FUNCTION audit_heads_guard();
CREATE OR REPLACE TRIGGER audit_heads_truncate BEFORE TRUNCATE ON audit_heads FOR EACH STATEMENT EXECUTE FUNCTION audit_heads_guard();

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION audit_segments_guard() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    before audit_segments;
BEGIN
    IF TG_OP = 'INSERT' THEN
        SELECT * INTO before FROM audit_segments s WHERE s.kafka_partition = NEW.kafka_partition ORDER BY s.first_position DESC LIMIT 1;
        IF NEW.pruned_at IS NULL AND NEW.first_position = coalesce(before.last_position, 0) + 1
            AND (before.last_hash IS NULL OR before.last_hash = NEW.first_previous_hash) THEN
            RETURN NEW;
        END IF;
        RAISE EXCEPTION 'the segment does not follow the one before' USING ERRCODE = 'insufficient_privilege';
    ELSIF TG_OP = 'UPDATE' THEN
        IF OLD.pruned_at IS NULL AND NEW.pruned_at IS NOT NULL AND cardinality(NEW.event_ids) = OLD.last_position - OLD.first_position + 1
            AND (NEW.kafka_partition, NEW.first_position, NEW.last_position, NEW.first_previous_hash, NEW.last_hash, NEW.first_recorded_at,
                NEW.last_recorded_at, NEW.file, NEW.file_bytes, NEW.file_sha256, NEW.exported_at)
            IS NOT DISTINCT FROM (OLD.kafka_partition, OLD.first_position, OLD.last_position, OLD.first_previous_hash, OLD.last_hash,
                OLD.first_recorded_at, OLD.last_recorded_at, OLD.file, OLD.file_bytes, OLD.file_sha256, OLD.exported_at) THEN
            RETURN NEW;
        END IF;
    END IF;
    RAISE EXCEPTION 'audit_segments is immutable: % is refused', TG_OP USING ERRCODE = 'insufficient_privilege';
END
$$;
-- +goose StatementEnd
CREATE OR REPLACE TRIGGER audit_segments_guard BEFORE INSERT OR UPDATE OR DELETE ON audit_segments
    FOR EACH ROW EXECUTE FUNCTION audit_segments_guard();
CREATE OR REPLACE TRIGGER audit_segments_truncate BEFORE TRUNCATE ON audit_segments FOR EACH STATEMENT EXECUTE FUNCTION audit_segments_guard();

-- Removes the rows of an exported segment in one transaction, and returns how many. It runs with the rights of the schema's owner, so a role
-- that may call it needs no right to delete.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION audit_prune_segment(of_partition integer, from_position bigint) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    segment audit_segments;
    ids     uuid[];
    head    bytea;
    removed bigint;
BEGIN
    SELECT * INTO segment FROM audit_segments s WHERE s.kafka_partition = of_partition AND s.first_position = from_position FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no segment of partition % begins at position %', of_partition, from_position USING ERRCODE = 'no_data_found';
    END IF;
    IF segment.pruned_at IS NOT NULL THEN
        RETURN 0;
    END IF;
    IF EXISTS (SELECT FROM audit_segments s WHERE s.kafka_partition = of_partition AND s.first_position < from_position AND s.pruned_at IS NULL) THEN
        RAISE EXCEPTION 'an older segment of partition % is not pruned yet', of_partition USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    SELECT array_agg(e.event_id ORDER BY e.event_id), (array_agg(e.hash ORDER BY e.chain_position DESC))[1] INTO ids, head FROM audit_events e
    WHERE e.kafka_partition = of_partition AND e.chain_position BETWEEN segment.first_position AND segment.last_position;
    IF coalesce(cardinality(ids), 0) <> segment.last_position - segment.first_position + 1 OR head <> segment.last_hash THEN
        RAISE EXCEPTION 'the rows of the segment are not those that were exported: verify the chain'
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    UPDATE audit_segments s SET pruned_at = now(), event_ids = ids, first_event_id = ids[1], last_event_id = ids[cardinality(ids)]
    WHERE s.kafka_partition = of_partition AND s.first_position = from_position;
    DELETE FROM audit_events e
    WHERE e.kafka_partition = of_partition AND e.chain_position BETWEEN segment.first_position AND segment.last_position;
    GET DIAGNOSTICS removed = ROW_COUNT;
    RETURN removed;
END
$$;
-- +goose StatementEnd
REVOKE EXECUTE ON FUNCTION audit_prune_segment FROM PUBLIC;

RESET lock_timeout;

-- Pages by type. Where no type is asked for, the pages of all types, which are few, are merged: these indexes serve both, and those without a type
-- are not needed any more; the version before lists more slowly without them. An entity may have many events by others and in other collections:
-- they are passed over within the index.
DROP INDEX CONCURRENTLY IF EXISTS audit_events_type_time_idx;
CREATE INDEX CONCURRENTLY audit_events_type_time_idx ON audit_events (event_type, occurred_at DESC, event_id DESC);
DROP INDEX CONCURRENTLY IF EXISTS audit_events_collection_type_idx;
CREATE INDEX CONCURRENTLY audit_events_collection_type_idx ON audit_events (collection_id, event_type, occurred_at DESC, event_id DESC);
DROP INDEX CONCURRENTLY IF EXISTS audit_events_actor_type_idx;
CREATE INDEX CONCURRENTLY audit_events_actor_type_idx ON audit_events (actor_user_id, event_type, occurred_at DESC, event_id DESC);
DROP INDEX CONCURRENTLY IF EXISTS audit_events_collection_actor_idx;
CREATE INDEX CONCURRENTLY audit_events_collection_actor_idx
    ON audit_events (collection_id, actor_user_id, event_type, occurred_at DESC, event_id DESC);
DROP INDEX CONCURRENTLY IF EXISTS audit_events_entity_type_idx;
CREATE INDEX CONCURRENTLY audit_events_entity_type_idx
    ON audit_events (entity_id, event_type, occurred_at DESC, event_id DESC) INCLUDE (actor_user_id, collection_id);
DROP INDEX CONCURRENTLY IF EXISTS audit_events_time_idx;
DROP INDEX CONCURRENTLY IF EXISTS audit_events_collection_idx;
DROP INDEX CONCURRENTLY IF EXISTS audit_events_actor_idx;
DROP INDEX CONCURRENTLY IF EXISTS audit_events_entity_idx;

-- +goose Down
CREATE INDEX IF NOT EXISTS audit_events_time_idx ON audit_events (occurred_at DESC, event_id DESC);
CREATE INDEX IF NOT EXISTS audit_events_collection_idx ON audit_events (collection_id, occurred_at DESC, event_id DESC);
CREATE INDEX IF NOT EXISTS audit_events_actor_idx ON audit_events (actor_user_id, occurred_at DESC, event_id DESC);
CREATE INDEX IF NOT EXISTS audit_events_entity_idx ON audit_events (entity_id, occurred_at DESC, event_id DESC);
DROP INDEX IF EXISTS audit_events_entity_type_idx;
DROP INDEX IF EXISTS audit_events_type_time_idx;
DROP INDEX IF EXISTS audit_events_collection_type_idx;
DROP INDEX IF EXISTS audit_events_actor_type_idx;
DROP INDEX IF EXISTS audit_events_collection_actor_idx;
CREATE OR REPLACE TRIGGER audit_events_immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_events
    FOR EACH STATEMENT EXECUTE FUNCTION audit_events_refuse_change();
DROP TRIGGER IF EXISTS audit_events_keep ON audit_events;
DROP TRIGGER IF EXISTS audit_events_refuse_pruned ON audit_events;
DROP FUNCTION IF EXISTS audit_events_keep;
DROP FUNCTION IF EXISTS audit_events_refuse_pruned;
DROP FUNCTION IF EXISTS audit_prune_segment;
DROP TABLE IF EXISTS audit_segments, audit_heads;
DROP FUNCTION IF EXISTS audit_segments_guard;
DROP FUNCTION IF EXISTS audit_heads_guard;
ALTER TABLE audit_events DROP COLUMN IF EXISTS traceparent;
