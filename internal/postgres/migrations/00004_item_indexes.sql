-- +goose NO TRANSACTION
-- Each index is dropped first: one whose concurrent creation was interrupted stays behind, invalid.

-- +goose Up

-- One item per source and collection.
DROP INDEX CONCURRENTLY IF EXISTS items_source_key;
CREATE UNIQUE INDEX CONCURRENTLY items_source_key ON items (collection_id, source_key) WHERE deleted_at IS NULL AND source_key IS NOT NULL;

-- List pages in other orders and with filters, as items_collection_idx.
DROP INDEX CONCURRENTLY IF EXISTS items_updated_idx;
CREATE INDEX CONCURRENTLY items_updated_idx ON items (collection_id, updated_at DESC, id DESC) WHERE deleted_at IS NULL;
DROP INDEX CONCURRENTLY IF EXISTS items_title_idx;
CREATE INDEX CONCURRENTLY items_title_idx ON items (collection_id, (lower(title)) COLLATE "C", id) WHERE deleted_at IS NULL;
DROP INDEX CONCURRENTLY IF EXISTS items_author_idx;
CREATE INDEX CONCURRENTLY items_author_idx ON items (collection_id, created_by, id DESC) WHERE deleted_at IS NULL;
DROP INDEX CONCURRENTLY IF EXISTS items_sourced_idx;
CREATE INDEX CONCURRENTLY items_sourced_idx ON items (collection_id, id DESC) WHERE deleted_at IS NULL AND source_url IS NOT NULL;
DROP INDEX CONCURRENTLY IF EXISTS items_unsourced_idx;
CREATE INDEX CONCURRENTLY items_unsourced_idx ON items (collection_id, id DESC) WHERE deleted_at IS NULL AND source_url IS NULL;

-- Tags by name, and those that begin with a text in any case.
DROP INDEX CONCURRENTLY IF EXISTS tags_name_idx;
CREATE INDEX CONCURRENTLY tags_name_idx ON tags (collection_id, name COLLATE "C");
DROP INDEX CONCURRENTLY IF EXISTS tags_prefix_idx;
CREATE INDEX CONCURRENTLY tags_prefix_idx ON tags (collection_id, (lower(name)) COLLATE "C");

-- The trash, newest deletion first, and what has been there long enough.
DROP INDEX CONCURRENTLY IF EXISTS items_trash_idx;
CREATE INDEX CONCURRENTLY items_trash_idx ON items (collection_id, deleted_at DESC, id DESC) WHERE deleted_at IS NOT NULL;
DROP INDEX CONCURRENTLY IF EXISTS items_deleted_at_idx;
CREATE INDEX CONCURRENTLY items_deleted_at_idx ON items (deleted_at) WHERE deleted_at IS NOT NULL;

-- Deleted collections that wait for their end.
DROP INDEX CONCURRENTLY IF EXISTS collections_deleted_at_idx;
CREATE INDEX CONCURRENTLY collections_deleted_at_idx ON collections (deleted_at) WHERE deleted_at IS NOT NULL;

-- +goose Down
DROP INDEX CONCURRENTLY IF EXISTS collections_deleted_at_idx;
DROP INDEX CONCURRENTLY IF EXISTS items_deleted_at_idx;
DROP INDEX CONCURRENTLY IF EXISTS items_trash_idx;
DROP INDEX CONCURRENTLY IF EXISTS tags_prefix_idx;
DROP INDEX CONCURRENTLY IF EXISTS tags_name_idx;
DROP INDEX CONCURRENTLY IF EXISTS items_unsourced_idx;
DROP INDEX CONCURRENTLY IF EXISTS items_sourced_idx;
DROP INDEX CONCURRENTLY IF EXISTS items_author_idx;
DROP INDEX CONCURRENTLY IF EXISTS items_title_idx;
DROP INDEX CONCURRENTLY IF EXISTS items_updated_idx;
DROP INDEX CONCURRENTLY IF EXISTS items_source_key;
