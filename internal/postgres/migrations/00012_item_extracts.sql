-- +goose Up

-- Whoever reads or writes items waits behind this migration while it waits for them: not for long, then it is tried again.
SET LOCAL lock_timeout = '3s';

-- Whether the pages of new items are fetched.
ALTER TABLE collections ADD COLUMN enrich boolean NOT NULL DEFAULT false;

-- What the page at an item's source_url says, as it was fetched last, and whether it is to be fetched. A failure leaves what was there. The row goes
-- when the item has another source.
CREATE TABLE item_extracts (
    item_id       uuid PRIMARY KEY REFERENCES items (id) ON DELETE CASCADE,
    -- Both are set while somebody wants the page to be fetched: the item's collection, and who is its cause. due_at is when; whoever fetches it sets
    -- it to when another may. tries counts the attempts since it was asked for.
    wanted_in     uuid,
    wanted_by     uuid,
    due_at        timestamptz,
    tries         integer NOT NULL DEFAULT 0,
    -- The last answer.
    source_url    text, -- of which the rest is; NULL: none was fetched yet
    fetched_at    timestamptz,
    error_code    text,
    error_message text,
    etag          text,
    last_modified text,
    -- The last page.
    canonical_url text,
    site_name     text,
    title         text,
    language      text,
    word_count    integer,
    excerpt       text,
    text          text,
    content_hash  bytea, -- SHA-256 of what the page says: a page that says the same changes nothing
    search_vector tsvector
);
CREATE INDEX item_extracts_wanted_idx ON item_extracts (wanted_in, due_at) WHERE wanted_in IS NOT NULL;

-- From here on a trigger makes the search vector, because an expression can't look at another table. Rows keep the one they have.
ALTER TABLE items ALTER COLUMN search_vector DROP EXPRESSION;

-- As in 00001, with the page's text behind title and content.
-- +goose StatementBegin
CREATE FUNCTION items_make_search_vector() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    page tsvector;
BEGIN
    NEW.search_vector := setweight(to_tsvector('english', NEW.title), 'A')
        || setweight(to_tsvector('english', regexp_replace(left(NEW.content, 100000), '(\S{255})', '\1 ', 'g')), 'B');
    IF TG_OP = 'UPDATE' AND NEW.source_url IS NOT NULL THEN
        SELECT e.search_vector INTO page FROM item_extracts e WHERE e.item_id = NEW.id AND e.source_url = NEW.source_url;
        IF page IS NOT NULL THEN
            NEW.search_vector := NEW.search_vector || page;
        END IF;
    END IF;
    RETURN NEW;
END
$$;
-- +goose StatementEnd
CREATE TRIGGER items_search_vector BEFORE INSERT OR UPDATE OF title, content ON items FOR EACH ROW
    EXECUTE FUNCTION items_make_search_vector();
CREATE TRIGGER items_search_vector_source BEFORE UPDATE OF source_url ON items FOR EACH ROW
    WHEN (NEW.source_url IS DISTINCT FROM OLD.source_url)
    EXECUTE FUNCTION items_make_search_vector();

-- A trigger, so that whatever gives an item a source asks for its page in the same transaction: a new item, a change, an import, a move into the
-- collection, and the version before.
-- +goose StatementBegin
CREATE FUNCTION items_want_extract() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF NEW.source_url IS DISTINCT FROM OLD.source_url THEN
            DELETE FROM item_extracts WHERE item_id = NEW.id;
        ELSIF NEW.collection_id <> OLD.collection_id THEN
            UPDATE item_extracts SET wanted_in = NEW.collection_id WHERE item_id = NEW.id AND wanted_in IS NOT NULL;
        END IF;
    END IF;
    IF NEW.source_url IS NOT NULL AND NEW.deleted_at IS NULL AND EXISTS (SELECT 1 FROM collections c WHERE c.id = NEW.collection_id AND c.enrich) THEN
        INSERT INTO item_extracts AS e (item_id, wanted_in, wanted_by, due_at) VALUES (NEW.id, NEW.collection_id, NEW.updated_by, now())
        ON CONFLICT (item_id) DO UPDATE SET wanted_in = excluded.wanted_in, wanted_by = excluded.wanted_by, due_at = excluded.due_at, tries = 0
        WHERE e.fetched_at IS NULL;
    END IF;
    RETURN NULL;
END
$$;
-- +goose StatementEnd
CREATE TRIGGER items_want_extract_new AFTER INSERT ON items FOR EACH ROW
    WHEN (NEW.source_url IS NOT NULL)
    EXECUTE FUNCTION items_want_extract();
CREATE TRIGGER items_want_extract_changed AFTER UPDATE OF source_url, collection_id, deleted_at ON items FOR EACH ROW
    WHEN (NEW.source_url IS DISTINCT FROM OLD.source_url OR NEW.collection_id <> OLD.collection_id OR NEW.deleted_at IS NULL AND OLD.deleted_at IS NOT NULL)
    EXECUTE FUNCTION items_want_extract();

-- +goose Down
DROP TRIGGER items_want_extract_changed ON items;
DROP TRIGGER items_want_extract_new ON items;
DROP FUNCTION items_want_extract;
DROP TRIGGER items_search_vector_source ON items;
DROP TRIGGER items_search_vector ON items;
DROP FUNCTION items_make_search_vector;
ALTER TABLE items DROP COLUMN search_vector;
ALTER TABLE items ADD COLUMN search_vector tsvector NOT NULL GENERATED ALWAYS AS (
    setweight(to_tsvector('english', title), 'A') || setweight(to_tsvector('english', regexp_replace(left(content, 100000), '(\S{255})', '\1 ', 'g')), 'B')
) STORED;
CREATE INDEX items_search_idx ON items USING gin (search_vector) WHERE deleted_at IS NULL;
DROP TABLE item_extracts;
ALTER TABLE collections DROP COLUMN enrich;
