-- +goose Up

-- Whoever reads or writes items waits behind this migration while it waits for them: not for long, then it is tried again.
SET LOCAL lock_timeout = '3s';

-- metadata is the caller's own JSON object. source_key is the SHA-256 of the canonical source_url: what makes it unique within a collection.
-- Rows that the version before writes have none, and are not compared with others.
ALTER TABLE items
    ADD COLUMN metadata   jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN source_key bytea;

-- The version before changes source_url and knows nothing of its key: the item must not be found by a source that it does not have any more.
-- +goose StatementBegin
CREATE FUNCTION items_forget_source_key() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE items SET source_key = NULL WHERE id = NEW.id;
    RETURN NULL;
END
$$;
-- +goose StatementEnd
CREATE TRIGGER items_source_without_key AFTER UPDATE OF source_url ON items FOR EACH ROW
    WHEN (NEW.source_key = OLD.source_key AND NEW.source_url IS DISTINCT FROM OLD.source_url)
    EXECUTE FUNCTION items_forget_source_key();

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
DROP TRIGGER items_source_without_key ON items;
DROP FUNCTION items_forget_source_key;
ALTER TABLE items DROP COLUMN source_key, DROP COLUMN metadata;
