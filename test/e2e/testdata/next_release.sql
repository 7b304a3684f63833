-- What a next release could do to a table that is being written to. Only a test has it.
-- +goose Up
ALTER TABLE items ADD COLUMN next_release text NOT NULL DEFAULT 'yes';

-- +goose Down
ALTER TABLE items DROP COLUMN next_release;
