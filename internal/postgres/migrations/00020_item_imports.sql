-- +goose Up

-- Whoever writes items waits behind this migration while it waits for them: not for long, then it is tried again.
SET LOCAL lock_timeout = '3s';

-- When an item was imported, which may say that it is much older; NULL: it was made here, or imported by a version before, which leaves it empty.
ALTER TABLE items ADD COLUMN imported_at timestamptz;

-- +goose Down
ALTER TABLE items DROP COLUMN imported_at;
