-- +goose Up

-- Whoever reads or writes extracts waits behind this migration while it waits for them: not for long, then it is tried again.
SET LOCAL lock_timeout = '3s';

-- job_id is the job that fetches the page: the one that asked for it last, or, of what is wanted by itself, the platform's. NULL: none yet. One whose job
-- was cancelled is not wanted and keeps it, for the job that is retried. answered: the job had its answer; what is tried again is another job's.
ALTER TABLE item_extracts ADD COLUMN job_id uuid, ADD COLUMN answered boolean NOT NULL DEFAULT false;

-- As in 00012; what an item's change asks for is no job's yet.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION items_want_extract() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF NEW.source_url IS DISTINCT FROM OLD.source_url THEN
            DELETE FROM item_extracts WHERE item_id = NEW.id;
        ELSIF NEW.collection_id <> OLD.collection_id THEN
            UPDATE item_extracts SET wanted_in = NEW.collection_id, job_id = NULL, answered = false WHERE item_id = NEW.id AND wanted_in IS NOT NULL;
        END IF;
    END IF;
    IF NEW.source_url IS NOT NULL AND NEW.deleted_at IS NULL AND EXISTS (SELECT 1 FROM collections c WHERE c.id = NEW.collection_id AND c.enrich) THEN
        INSERT INTO item_extracts AS e (item_id, wanted_in, wanted_by, due_at) VALUES (NEW.id, NEW.collection_id, NEW.updated_by, now())
        ON CONFLICT (item_id) DO UPDATE SET wanted_in = excluded.wanted_in, wanted_by = excluded.wanted_by, due_at = excluded.due_at, tries = 0,
            job_id = NULL, answered = false
        WHERE e.fetched_at IS NULL;
    END IF;
    RETURN NULL;
END
$$;
-- +goose StatementEnd

-- +goose Down
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION items_want_extract() RETURNS trigger LANGUAGE plpgsql AS $$
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
ALTER TABLE item_extracts DROP COLUMN answered, DROP COLUMN job_id;
