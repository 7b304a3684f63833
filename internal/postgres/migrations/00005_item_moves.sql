-- +goose Up

-- Whoever writes items waits behind this migration while it waits for them: not for long, then it is tried again.
SET LOCAL lock_timeout = '3s';

-- Items that were moved out of a collection, where the search index may still have them: nobody who can't see where they are now may have them
-- counted. A row goes some time after the index has the move.
CREATE TABLE item_moves (
    from_collection uuid NOT NULL,
    item_id         uuid NOT NULL, -- which may have been erased, unseen by search
    version         bigint NOT NULL, -- that the move made
    PRIMARY KEY (from_collection, item_id)
);
CREATE INDEX item_moves_item_idx ON item_moves (item_id);

-- A trigger, so that moves by the version before are seen too.
-- +goose StatementBegin
CREATE FUNCTION items_remember_move() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO item_moves AS m (from_collection, item_id, version) VALUES (OLD.collection_id, NEW.id, NEW.version)
    ON CONFLICT (from_collection, item_id) DO UPDATE SET version = greatest(m.version, excluded.version);
    RETURN NULL;
END
$$;
-- +goose StatementEnd
CREATE TRIGGER items_moved AFTER UPDATE OF collection_id ON items FOR EACH ROW
    WHEN (NEW.collection_id <> OLD.collection_id)
    EXECUTE FUNCTION items_remember_move();

-- +goose Down
DROP TRIGGER items_moved ON items;
DROP FUNCTION items_remember_move;
DROP TABLE item_moves;
