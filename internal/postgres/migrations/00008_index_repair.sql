-- +goose Up

-- Whoever records what is indexed waits behind this migration while it waits for them: not for long, then it is tried again.
SET LOCAL lock_timeout = '3s';

-- The newest version of the item that Elasticsearch refused for good, and why. It counts while no such version is indexed.
ALTER TABLE item_index_state
    ADD COLUMN failed_version bigint,
    ADD COLUMN failed_reason  text;

-- The indices that were seen behind an alias. One that is not filled is being filled with all items, in the order of their ids.
CREATE TABLE search_indices (
    alias         text NOT NULL,
    index_uuid    text NOT NULL, -- Elasticsearch's own: an index of the same name that is made again has another
    name          text NOT NULL,
    seen_at       timestamptz NOT NULL DEFAULT now(),
    -- Search must not rely on the index until it is filled: too much is missing.
    incomplete    boolean NOT NULL,
    filled_to     uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    filled_items  bigint NOT NULL DEFAULT 0,
    filled_at     timestamptz,
    PRIMARY KEY (alias, index_uuid)
);

-- +goose Down
DROP TABLE search_indices;
ALTER TABLE item_index_state DROP COLUMN failed_reason, DROP COLUMN failed_version;
