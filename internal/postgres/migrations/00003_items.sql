-- +goose Up

-- Whoever reads or writes items waits behind this migration while it waits for them: not for long, then it is tried again.
SET LOCAL lock_timeout = '3s';

-- metadata is the caller's own JSON object. source_key is the SHA-256 of the canonical source_url: what makes it unique within a collection.
-- Rows that the version before writes have none, and are not compared with others.
ALTER TABLE items
    ADD COLUMN metadata   jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN source_key bytea;

-- What each change of an item replaced: `before` holds the former value of every field in changed_fields. So a new item costs nothing, and a
-- change costs what it changed. The state at a version follows from the current one; it is known while the rows since then are complete.
CREATE TABLE item_revisions (
    item_id        uuid NOT NULL REFERENCES items (id) ON DELETE CASCADE,
    version        bigint NOT NULL, -- that the change made
    changed_by     uuid NOT NULL REFERENCES users (id),
    changed_at     timestamptz NOT NULL,
    changed_fields text[] NOT NULL,
    before         jsonb NOT NULL,
    PRIMARY KEY (item_id, version)
);

-- The answers to writes that carried an Idempotency-Key, written in the transaction of the write: either both are there or none.
CREATE TABLE idempotency_keys (
    principal    uuid NOT NULL, -- the nil UUID: a part of Atlas itself
    key          text NOT NULL,
    request_hash bytea NOT NULL, -- SHA-256 of the operation and the body
    status       integer NOT NULL,
    header       jsonb NOT NULL,
    body         bytea NOT NULL,
    collections  uuid[] NOT NULL, -- what the answer tells about; it is repeated to members of all of them only
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (principal, key)
);
CREATE INDEX idempotency_keys_created_at_idx ON idempotency_keys (created_at);

-- +goose Down
DROP TABLE idempotency_keys, item_revisions;
ALTER TABLE items DROP COLUMN source_key, DROP COLUMN metadata;
