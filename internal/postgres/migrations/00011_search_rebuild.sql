-- +goose Up

-- The rebuild of the search index that is under way, at most one for each alias. Whoever writes items to the index looks here after it has read them:
-- while the state is building or swapping, the items go to the target as well. So whatever is read after the row appeared reaches the new index, and
-- the rebuild, which begins later, reads everything that was written before.
CREATE TABLE search_rebuilds (
    alias       text PRIMARY KEY,
    job_id      uuid NOT NULL,
    index_name  text NOT NULL, -- the new index
    target      text NOT NULL, -- an alias of its own: writing to one that is gone makes no index
    -- creating: not written yet; building, swapping: written besides the alias; swapped: behind the alias, the old one is about to go;
    -- lost: given up, about to go.
    state       text NOT NULL DEFAULT 'creating' CHECK (state IN ('creating', 'building', 'swapping', 'swapped', 'lost')),
    old_index   text NOT NULL DEFAULT '', -- what the alias led to before; empty: nothing
    created_at  timestamptz NOT NULL DEFAULT now(),
    changed_at  timestamptz NOT NULL DEFAULT now()
);

-- No change of this database that is not visible yet began earlier.
-- +goose StatementBegin
CREATE FUNCTION oldest_change() RETURNS timestamptz LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN least(clock_timestamp(), (
        SELECT min(a.xact_start) FROM pg_stat_activity a WHERE a.datname = current_database() AND a.backend_xid IS NOT NULL
    ));
END
$$;
-- +goose StatementEnd

-- +goose Down
DROP FUNCTION oldest_change;
DROP TABLE search_rebuilds;
