-- The pages of items' sources: which are wanted, and what they say. Locks are taken in one order: the item's row, then the extract's.

-- name: WantExtracts :many
-- Asks for the pages of a collection's items, a batch by keyset; start after the nil UUID. Without refresh, only for those that were never fetched. ids
-- narrows it; empty means all. Each item that was looked at comes back, with whether its page is wanted now.
WITH seen AS (
    SELECT i.id, (@refresh::boolean OR x.fetched_at IS NULL)::boolean AS wanted
    FROM items i
    JOIN collections c ON c.id = i.collection_id AND c.deleted_at IS NULL
    LEFT JOIN item_extracts x ON x.item_id = i.id
    WHERE i.collection_id = @collection_id AND i.deleted_at IS NULL AND i.source_url IS NOT NULL AND i.id > @after_id
      AND (cardinality(@ids::uuid[]) = 0 OR i.id = ANY (@ids::uuid[]))
    ORDER BY i.id LIMIT @batch_size
), asked AS (
    INSERT INTO item_extracts AS e (item_id, wanted_in, wanted_by, due_at, job_id)
    SELECT seen.id, @collection_id, sqlc.narg(wanted_by)::uuid, now(), @job_id::uuid FROM seen WHERE seen.wanted ORDER BY seen.id
    ON CONFLICT (item_id) DO UPDATE SET wanted_in = excluded.wanted_in, wanted_by = coalesce(excluded.wanted_by, e.wanted_by), due_at = excluded.due_at, tries = 0,
        job_id = excluded.job_id, answered = false
)
SELECT seen.id, seen.wanted FROM seen ORDER BY seen.id;

-- name: AdoptExtracts :execrows
-- Pages that are due and no job's become the job's.
WITH free AS (
    SELECT e.item_id FROM item_extracts e
    WHERE e.wanted_in = @collection_id::uuid AND e.job_id IS NULL AND e.due_at <= now()
    ORDER BY e.due_at LIMIT @batch_size
    FOR UPDATE SKIP LOCKED
)
UPDATE item_extracts e SET job_id = @job_id::uuid, answered = false FROM free WHERE e.item_id = free.item_id;

-- name: ResumeExtracts :exec
-- What an attempt before this one left unfinished is due at once, and what its cancel dropped is wanted again.
UPDATE item_extracts e SET wanted_in = i.collection_id, due_at = now(), tries = CASE WHEN e.due_at > now() THEN greatest(e.tries - 1, 0) ELSE e.tries END
FROM items i
WHERE i.id = e.item_id AND i.collection_id = @collection_id::uuid AND e.job_id = @job_id::uuid AND NOT e.answered
  AND (e.wanted_in IS NULL OR e.due_at > now());

-- name: ClaimExtracts :many
-- Pages of a job that are due; none without the job's lease. live says that the item is still there to be enriched.
WITH due AS (
    SELECT e.item_id FROM item_extracts e
    WHERE e.job_id = @job_id::uuid AND e.wanted_in IS NOT NULL AND NOT e.answered AND e.due_at <= now()
      AND EXISTS (SELECT 1 FROM jobs j WHERE j.id = @job_id::uuid AND j.state = 'RUNNING' AND j.lease_owner = @lease_owner::text)
    ORDER BY e.due_at, e.item_id LIMIT @batch_size
    FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE item_extracts e SET due_at = now() + make_interval(secs => @claim_seconds), tries = e.tries + 1
    FROM due WHERE e.item_id = due.item_id
    RETURNING e.item_id, e.due_at, e.tries, e.etag, e.last_modified, e.content_hash
)
SELECT claimed.item_id, claimed.due_at::timestamptz AS claimed_until, claimed.tries, coalesce(claimed.etag, '')::text AS etag,
    coalesce(claimed.last_modified, '')::text AS last_modified, coalesce(i.source_url, '')::text AS source_url,
    (i.source_url IS NOT NULL AND i.deleted_at IS NULL AND c.deleted_at IS NULL)::boolean AS live
FROM claimed JOIN items i ON i.id = claimed.item_id JOIN collections c ON c.id = i.collection_id
ORDER BY claimed.item_id;

-- name: CountDueExtracts :one
SELECT count(*) FROM item_extracts e WHERE e.job_id = @job_id::uuid AND e.wanted_in IS NOT NULL AND NOT e.answered AND e.due_at <= now();

-- name: DropCancelledExtracts :execrows
-- A batch of the pages of cancelled jobs: nobody wants them any more. One step in the index for each job that has any. A job that is retried just now
-- waits, and finds them.
WITH RECURSIVE owners AS (
    (SELECT e.job_id FROM item_extracts e WHERE e.wanted_in IS NOT NULL AND e.job_id IS NOT NULL ORDER BY e.job_id LIMIT 1)
    UNION ALL
    SELECT further.job_id FROM owners o CROSS JOIN LATERAL (
        SELECT e.job_id FROM item_extracts e WHERE e.wanted_in IS NOT NULL AND e.job_id > o.job_id ORDER BY e.job_id LIMIT 1
    ) AS further
), cancelled AS MATERIALIZED (
    SELECT c.id FROM owners o CROSS JOIN LATERAL (SELECT j.id FROM jobs j WHERE j.id = o.job_id AND j.state = 'CANCELLED' FOR SHARE SKIP LOCKED) AS c
), doomed AS (
    SELECT page.item_id FROM cancelled n CROSS JOIN LATERAL (
        SELECT e.item_id FROM item_extracts e WHERE e.job_id = n.id AND e.wanted_in IS NOT NULL ORDER BY e.due_at LIMIT @batch_size FOR UPDATE SKIP LOCKED
    ) AS page
    LIMIT @batch_size
)
UPDATE item_extracts e SET wanted_in = NULL, due_at = NULL, tries = 0, job_id = CASE WHEN NOT e.answered THEN e.job_id END, answered = false
FROM doomed WHERE e.item_id = doomed.item_id;

-- name: ReleaseExtracts :execrows
-- A batch of the pages of jobs that ended otherwise, or are gone: any job's again. What these had in hand is due at once.
WITH RECURSIVE owners AS (
    (SELECT e.job_id FROM item_extracts e WHERE e.wanted_in IS NOT NULL AND e.job_id IS NOT NULL ORDER BY e.job_id LIMIT 1)
    UNION ALL
    SELECT further.job_id FROM owners o CROSS JOIN LATERAL (
        SELECT e.job_id FROM item_extracts e WHERE e.wanted_in IS NOT NULL AND e.job_id > o.job_id ORDER BY e.job_id LIMIT 1
    ) AS further
), ended AS MATERIALIZED (
    SELECT o.job_id FROM owners o WHERE NOT EXISTS (SELECT 1 FROM jobs j WHERE j.id = o.job_id AND j.state IN ('QUEUED', 'RUNNING', 'CANCELLED'))
), freed AS (
    SELECT page.item_id FROM ended n CROSS JOIN LATERAL (
        SELECT e.item_id FROM item_extracts e WHERE e.job_id = n.job_id AND e.wanted_in IS NOT NULL ORDER BY e.due_at LIMIT @batch_size FOR UPDATE SKIP LOCKED
    ) AS page
    LIMIT @batch_size
)
UPDATE item_extracts e SET job_id = NULL, answered = false, due_at = CASE WHEN e.answered THEN e.due_at ELSE least(e.due_at, now()) END
FROM freed WHERE e.item_id = freed.item_id;

-- name: UnclaimExtracts :exec
-- What was claimed and not worked on is due again at once.
UPDATE item_extracts e SET due_at = now(), tries = e.tries - 1
FROM ROWS FROM (unnest(@item_ids::uuid[]), unnest(@claims::timestamptz[])) AS n (item_id, claimed_until)
WHERE e.item_id = n.item_id AND e.due_at = n.claimed_until;

-- name: DropExtractWants :exec
-- Of items that are gone.
UPDATE item_extracts SET wanted_in = NULL, wanted_by = NULL, due_at = NULL, tries = 0, job_id = NULL WHERE item_id = ANY (@item_ids::uuid[]);

-- name: LockItemForExtract :one
-- What the item is now, until the transaction ends. No row: it is gone.
SELECT i.id, i.collection_id, i.title, i.source_url, i.version FROM items i
JOIN collections c ON c.id = i.collection_id AND c.deleted_at IS NULL
WHERE i.id = @id AND i.deleted_at IS NULL FOR NO KEY UPDATE OF i;

-- name: LockExtract :one
-- After LockItemForExtract. No row: the claim is over.
SELECT e.wanted_by, e.content_hash, e.tries FROM item_extracts e
WHERE e.item_id = @item_id AND e.due_at = @claimed_until::timestamptz AND e.wanted_in IS NOT NULL FOR UPDATE;

-- name: SaveExtract :exec
-- A page. The search vector is cut as the content's is.
UPDATE item_extracts SET wanted_in = NULL, wanted_by = NULL, due_at = NULL, tries = 0, job_id = NULL,
    source_url = @source_url, fetched_at = @fetched_at, error_code = NULL, error_message = NULL, etag = @etag, last_modified = @last_modified,
    canonical_url = @canonical_url, site_name = @site_name, title = @title, language = @language, word_count = @word_count, excerpt = @excerpt,
    text = @text::text, content_hash = @content_hash,
    search_vector = setweight(to_tsvector('english', regexp_replace(left(@text::text, 100000), '(\S{255})', '\1 ', 'g')), 'C')
WHERE item_id = @item_id;

-- name: TouchExtract :exec
-- The page is what it was.
UPDATE item_extracts SET wanted_in = NULL, wanted_by = NULL, due_at = NULL, tries = 0, job_id = NULL, source_url = @source_url,
    fetched_at = @fetched_at, error_code = NULL, error_message = NULL, etag = @etag, last_modified = @last_modified
WHERE item_id = @item_id;

-- name: FailExtract :exec
-- What was there stays. due_at, if any, is when it is tried again, by another job.
UPDATE item_extracts SET source_url = @source_url, fetched_at = @fetched_at, error_code = @error_code, error_message = @error_message,
    wanted_in = CASE WHEN sqlc.narg(due_at)::timestamptz IS NOT NULL THEN wanted_in END,
    wanted_by = CASE WHEN sqlc.narg(due_at)::timestamptz IS NOT NULL THEN wanted_by END,
    due_at = sqlc.narg(due_at), tries = CASE WHEN sqlc.narg(due_at)::timestamptz IS NOT NULL THEN tries ELSE 0 END,
    job_id = CASE WHEN sqlc.narg(due_at)::timestamptz IS NOT NULL THEN job_id END, answered = sqlc.narg(due_at)::timestamptz IS NOT NULL
WHERE item_id = @item_id;

-- name: EnrichItem :one
-- After SaveExtract: the item's new version, with its revision. That the title is written makes the search vector anew, whether it changed or not.
WITH changed AS (
    UPDATE items i SET title = @title, version = i.version + 1, updated_by = coalesce(sqlc.narg(changed_by), i.updated_by), updated_at = @changed_at
    WHERE i.id = @id AND i.version = @version
    RETURNING i.id, i.version, i.updated_by
), revision AS (
    INSERT INTO item_revisions (item_id, version, changed_by, changed_at, changed_fields, before)
    SELECT changed.id, changed.version, changed.updated_by, @changed_at, @changed_fields, @before FROM changed
)
SELECT changed.version FROM changed;

-- name: AnyExtractsWanted :one
-- Whether the three that tidy up and queue could find anything: one step in each of their indexes.
SELECT (EXISTS (SELECT 1 FROM item_extracts e WHERE e.wanted_in IS NOT NULL AND e.job_id IS NULL)
    OR EXISTS (SELECT 1 FROM item_extracts e WHERE e.wanted_in IS NOT NULL AND e.job_id IS NOT NULL))::boolean;

-- name: WantedCollections :many
-- Collections with pages that are due and no job's, and no job of the platform to take them. One step in the index for each collection that waits for any.
WITH RECURSIVE wanted AS (
    (SELECT e.wanted_in, e.due_at FROM item_extracts e WHERE e.wanted_in IS NOT NULL AND e.job_id IS NULL ORDER BY e.wanted_in, e.due_at LIMIT 1)
    UNION ALL
    SELECT further.wanted_in, further.due_at FROM wanted w CROSS JOIN LATERAL (
        SELECT e.wanted_in, e.due_at FROM item_extracts e WHERE e.wanted_in > w.wanted_in AND e.job_id IS NULL ORDER BY e.wanted_in, e.due_at LIMIT 1
    ) AS further
)
SELECT w.wanted_in::uuid AS collection_id FROM wanted w
WHERE w.due_at <= now() AND NOT EXISTS (
    SELECT 1 FROM jobs j WHERE j.unique_key = @key_prefix::text || w.wanted_in AND j.state IN ('QUEUED', 'RUNNING')
)
LIMIT 100;

-- name: GetExtract :one
-- No row: as GetItem. The rest is empty while nothing was fetched.
SELECT i.id, i.version, e.item_id AS extract_id, e.fetched_at, e.error_code, e.error_message, e.canonical_url, e.site_name, e.title, e.language, e.word_count,
    e.excerpt, e.text, (e.wanted_in IS NOT NULL)::boolean AS pending
FROM items i
JOIN collections c ON c.id = i.collection_id AND c.deleted_at IS NULL
JOIN memberships m ON m.collection_id = i.collection_id AND m.user_id = @user_id
LEFT JOIN item_extracts e ON e.item_id = i.id
WHERE i.id = @id AND i.deleted_at IS NULL;
