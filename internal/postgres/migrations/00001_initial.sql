-- +goose Up

CREATE TABLE users (
    id            uuid PRIMARY KEY,
    email         text NOT NULL,
    display_name  text NOT NULL DEFAULT '',
    password_hash text NOT NULL,
    is_admin      boolean NOT NULL DEFAULT false,
    disabled_at   timestamptz,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX users_email_key ON users (lower(email));

-- Every mutable aggregate has a version. A write bumps it before it inserts its outbox row: the update takes the row lock, so the order
-- of outbox ids agrees with the order of versions.
CREATE TABLE collections (
    id          uuid PRIMARY KEY,
    name        text NOT NULL,
    description text NOT NULL DEFAULT '',
    version     bigint NOT NULL DEFAULT 1,
    created_by  uuid NOT NULL REFERENCES users (id),
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    deleted_at  timestamptz
);

CREATE TABLE memberships (
    id            uuid PRIMARY KEY,
    collection_id uuid NOT NULL REFERENCES collections (id),
    user_id       uuid NOT NULL REFERENCES users (id),
    role          text NOT NULL CHECK (role IN ('owner', 'editor', 'viewer')),
    version       bigint NOT NULL DEFAULT 1,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    UNIQUE (collection_id, user_id)
);
CREATE INDEX memberships_user_id_idx ON memberships (user_id, collection_id);

-- Items are deleted softly, so that the indexer can send a versioned delete and a restore stays possible.
-- The search vector serves full-text search where there is no Elasticsearch. It covers the first 100,000 characters: a tsvector may not
-- exceed 1 MB. Runs of characters without a space are cut at 255: the parser takes time quadratic in the length of words that '-' or '_' joins.
CREATE TABLE items (
    id            uuid PRIMARY KEY,
    collection_id uuid NOT NULL REFERENCES collections (id),
    title         text NOT NULL,
    content       text NOT NULL DEFAULT '',
    source_url    text,
    version       bigint NOT NULL DEFAULT 1,
    created_by    uuid NOT NULL REFERENCES users (id),
    updated_by    uuid NOT NULL REFERENCES users (id),
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    deleted_at    timestamptz,
    search_vector tsvector NOT NULL GENERATED ALWAYS AS (
        setweight(to_tsvector('english', title), 'A') || setweight(to_tsvector('english', regexp_replace(left(content, 100000), '(\S{255})', '\1 ', 'g')), 'B')
    ) STORED
);
-- List pages: newest first within a collection, by keyset on id (UUIDv7 is ordered by creation time).
CREATE INDEX items_collection_idx ON items (collection_id, id DESC) WHERE deleted_at IS NULL;
-- Backfill of one collection, deleted items included.
CREATE INDEX items_collection_all_idx ON items (collection_id, id);
CREATE INDEX items_search_idx ON items USING gin (search_vector) WHERE deleted_at IS NULL;

CREATE TABLE tags (
    id            uuid PRIMARY KEY,
    collection_id uuid NOT NULL REFERENCES collections (id),
    name          text NOT NULL,
    UNIQUE (collection_id, name)
);

CREATE TABLE item_tags (
    item_id uuid NOT NULL REFERENCES items (id),
    tag_id  uuid NOT NULL REFERENCES tags (id),
    PRIMARY KEY (item_id, tag_id)
);
CREATE INDEX item_tags_tag_id_idx ON item_tags (tag_id, item_id);

-- The version of each item that search has. Narrow and separate, so that the indexer never rewrites items.
CREATE TABLE item_index_state (
    item_id         uuid PRIMARY KEY,
    indexed_version bigint NOT NULL,
    indexed_at      timestamptz NOT NULL DEFAULT now()
);

-- Transactional outbox: written in the transaction of the change, published by the one leading relay in id order.
CREATE TABLE outbox (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id     uuid NOT NULL,
    aggregate_id uuid NOT NULL,
    payload      json NOT NULL,
    traceparent  text,
    created_at   timestamptz NOT NULL DEFAULT now(),
    published_at timestamptz
);
CREATE INDEX outbox_unpublished_idx ON outbox (id) WHERE published_at IS NULL;
CREATE INDEX outbox_published_idx ON outbox (published_at) WHERE published_at IS NOT NULL;

-- Immutable trail of every domain event. Each row's hash covers the row and the hash of the row before it in its Kafka partition.
CREATE TABLE audit_events (
    event_id        uuid PRIMARY KEY,
    event_type      text NOT NULL,
    version         integer NOT NULL,
    occurred_at     timestamptz NOT NULL,
    actor_user_id   uuid,
    trace_id        text,
    entity_type     text NOT NULL,
    entity_id       uuid NOT NULL,
    collection_id   uuid,
    data            jsonb NOT NULL,
    kafka_partition integer NOT NULL,
    kafka_offset    bigint NOT NULL,
    chain_position  bigint NOT NULL,
    previous_hash   bytea NOT NULL,
    hash            bytea NOT NULL,
    recorded_at     timestamptz NOT NULL DEFAULT now(),
    UNIQUE (kafka_partition, chain_position)
);
CREATE INDEX audit_events_time_idx ON audit_events (occurred_at DESC, event_id DESC);
CREATE INDEX audit_events_collection_idx ON audit_events (collection_id, occurred_at DESC, event_id DESC);
CREATE INDEX audit_events_entity_idx ON audit_events (entity_id, occurred_at DESC, event_id DESC);
CREATE INDEX audit_events_actor_idx ON audit_events (actor_user_id, occurred_at DESC, event_id DESC);

-- +goose StatementBegin
CREATE FUNCTION audit_events_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'audit_events is immutable: % is refused', TG_OP USING ERRCODE = 'insufficient_privilege';
END
$$;
-- +goose StatementEnd
CREATE TRIGGER audit_events_immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_events
    FOR EACH STATEMENT EXECUTE FUNCTION audit_events_refuse_change();

CREATE TABLE jobs (
    id               uuid PRIMARY KEY,
    type             text NOT NULL,
    parameters       jsonb NOT NULL DEFAULT '{}',
    collection_id    uuid REFERENCES collections (id),
    state            text NOT NULL DEFAULT 'QUEUED' CHECK (state IN ('QUEUED', 'RUNNING', 'SUCCEEDED', 'FAILED', 'CANCELLED')),
    version          bigint NOT NULL DEFAULT 1,
    attempt          integer NOT NULL DEFAULT 0,
    max_attempts     integer NOT NULL DEFAULT 5,
    run_at           timestamptz NOT NULL DEFAULT now(),
    lease_owner      text,
    lease_expires_at timestamptz,
    progress_done    bigint NOT NULL DEFAULT 0,
    progress_total   bigint NOT NULL DEFAULT 0,
    checkpoint       jsonb,
    result           jsonb,
    error            text,
    idempotency_key  text,
    created_by       uuid REFERENCES users (id), -- NULL: the platform itself
    created_at       timestamptz NOT NULL DEFAULT now(),
    started_at       timestamptz,
    finished_at      timestamptz,
    updated_at       timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX jobs_queued_idx ON jobs (run_at, id) WHERE state = 'QUEUED';
CREATE INDEX jobs_running_idx ON jobs (lease_expires_at) WHERE state = 'RUNNING';
CREATE INDEX jobs_collection_idx ON jobs (collection_id, id DESC);
CREATE UNIQUE INDEX jobs_idempotency_key ON jobs (coalesce(created_by, '00000000-0000-0000-0000-000000000000'::uuid), idempotency_key)
    WHERE idempotency_key IS NOT NULL;

-- +goose Down
DROP TABLE jobs, audit_events, outbox, item_index_state, item_tags, tags, items, memberships, collections, users;
DROP FUNCTION audit_events_refuse_change;
