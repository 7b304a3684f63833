-- name: GetJobFor :one
-- Role is NULL when the user is no member of the job's collection, or it is deleted.
SELECT sqlc.embed(j), m.role
FROM jobs j
LEFT JOIN collections c ON c.id = j.collection_id AND c.deleted_at IS NULL
LEFT JOIN memberships m ON m.collection_id = c.id AND m.user_id = @user_id
WHERE j.id = @id;

-- name: WatchedJobs :many
-- For many who watch jobs: the version of each job that its watcher may see, and whether they may see all of it. Trusted is a part of Atlas itself.
SELECT w.place::bigint AS place, j.version, (w.trusted OR coalesce(u.is_admin, false))::boolean AS admin
FROM (
    SELECT unnest(@user_ids::uuid[]) AS user_id, unnest(@job_ids::uuid[]) AS job_id, unnest(@trusted::boolean[]) AS trusted,
        generate_subscripts(@job_ids::uuid[], 1) AS place
) AS w
JOIN jobs j ON j.id = w.job_id
LEFT JOIN users u ON u.id = w.user_id AND u.disabled_at IS NULL
LEFT JOIN collections c ON c.id = j.collection_id AND c.deleted_at IS NULL
LEFT JOIN memberships m ON m.collection_id = c.id AND m.user_id = u.id AND m.role IN ('owner', 'editor')
WHERE w.trusted OR u.is_admin OR m.user_id IS NOT NULL;

-- name: GetJobs :many
SELECT * FROM jobs WHERE id = ANY (@ids::uuid[]);
