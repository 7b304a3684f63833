-- name: SearchTarget :one
-- What else than the alias is written; empty: nothing. It is asked after the items were read, never before: of a target that appeared since, the
-- rebuild reads the items as they were or newer.
SELECT coalesce((SELECT target FROM search_rebuilds WHERE alias = @alias AND state IN ('building', 'swapping')), '')::text AS target;

-- name: SearchRebuild :one
SELECT r.alias, r.job_id, r.index_name, r.target, r.state, r.old_index, r.created_at,
    extract(epoch FROM clock_timestamp() - r.changed_at)::float8 AS seconds,
    EXISTS (SELECT 1 FROM jobs j WHERE j.id = r.job_id AND j.state NOT IN ('SUCCEEDED', 'FAILED', 'CANCELLED'))::boolean AS live
FROM search_rebuilds r WHERE r.alias = @alias;

-- name: BeginSearchRebuild :execrows
INSERT INTO search_rebuilds (alias, job_id, index_name, target) VALUES (@alias, @job_id, @index_name, @target) ON CONFLICT (alias) DO NOTHING;

-- name: MoveSearchRebuild :execrows
-- From one state to the next: of those who try, one does. Whoever came too late to see the old index does not make it forgotten.
UPDATE search_rebuilds SET state = @state, old_index = coalesce(nullif(@old_index::text, ''), old_index), changed_at = CASE WHEN state = @state THEN changed_at ELSE clock_timestamp() END
WHERE alias = @alias AND index_name = @index_name AND state = ANY (@from_states::text[]);

-- name: LoseSearchTarget :execrows
-- A writer gives up a target that it can't write, which has to be before anybody decides to search it.
UPDATE search_rebuilds SET state = 'lost', changed_at = clock_timestamp() WHERE alias = @alias AND target = @target AND state = 'building';

-- name: EndSearchRebuild :exec
DELETE FROM search_rebuilds WHERE alias = @alias AND index_name = @index_name;

-- name: AdoptSearchIndex :exec
-- The keeper is told that an index is filled before it can see it behind the alias.
INSERT INTO search_indices (alias, index_uuid, name, incomplete, filled_items, filled_at)
VALUES (@alias, @index_uuid, @name, false, @items, now())
ON CONFLICT (alias, index_uuid) DO UPDATE SET filled_at = now(), incomplete = false;

-- name: ForgetOtherSearchIndices :exec
DELETE FROM search_indices WHERE alias = @alias AND index_uuid <> @index_uuid;

-- name: CountItems :one
-- live: what the index should have. doomed: what it may have until the purge of the collection has sent its deletions.
SELECT count(*) FILTER (WHERE c.deleted_at IS NULL) AS live, count(*) FILTER (WHERE c.deleted_at IS NOT NULL) AS doomed
FROM items i JOIN collections c ON c.id = i.collection_id WHERE i.deleted_at IS NULL;

-- name: ChangesBegan :one
-- No change that is not visible yet has an earlier time, unless the clocks of those who write differ by more than the margin.
SELECT (oldest_change() - make_interval(secs => @margin_seconds::float8))::timestamptz AS since, clock_timestamp()::timestamptz AS now;

-- name: ItemsChangedBetween :many
-- Live items by their time of change, each collection's from its index.
SELECT i.id, i.version FROM collections c
CROSS JOIN LATERAL (
    SELECT x.id, x.version FROM items x
    WHERE x.collection_id = c.id AND x.deleted_at IS NULL AND x.updated_at >= @since::timestamptz AND x.updated_at < @until::timestamptz
) AS i;

-- name: ItemsDeletedSince :many
-- A page of what was deleted, oldest first.
SELECT i.id, i.version, i.deleted_at::timestamptz AS deleted_at FROM items i
WHERE i.deleted_at >= @since::timestamptz AND (i.deleted_at, i.id) > (@since::timestamptz, @after_id::uuid)
ORDER BY i.deleted_at, i.id LIMIT @page_size;

-- name: RefusedItems :many
-- A page of the items of which the index refused a version.
SELECT s.item_id FROM item_index_state s WHERE s.failed_version IS NOT NULL AND s.item_id > @after_id ORDER BY s.item_id LIMIT @page_size;

-- name: ItemsThatSearchHas :many
-- Which of these items are found, in the version that they have.
SELECT i.id FROM items i JOIN item_index_state s ON s.item_id = i.id AND s.indexed_version >= i.version
WHERE i.id = ANY (@ids::uuid[]) AND i.deleted_at IS NULL;
