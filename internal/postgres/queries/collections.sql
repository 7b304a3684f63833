-- name: CreateCollection :exec
-- The creator becomes the first owner in the same statement.
WITH created AS (
    INSERT INTO collections (id, name, description, created_by, created_at, updated_at)
    VALUES (@id, @name, @description, @created_by, @created_at, @created_at)
    RETURNING id, created_by, created_at
)
INSERT INTO memberships (id, collection_id, user_id, role, created_at, updated_at)
SELECT @membership_id, created.id, created.created_by, 'owner', created.created_at, created.created_at FROM created;

-- name: LockCollection :one
-- First statement of every change to a collection or its members: what is read after it cannot change until the commit. It reads nothing
-- that counts, because a joined row would still be as it was before the wait for the lock; but nobody who is no member can hold anybody up, or tell
-- by a wait that there is such a collection.
SELECT c.id FROM collections c
WHERE c.id = @id AND c.deleted_at IS NULL
  AND EXISTS (SELECT 1 FROM memberships m WHERE m.collection_id = c.id AND m.user_id = @user_id)
FOR NO KEY UPDATE OF c;

-- name: GetCollection :one
-- No row: it does not exist, or the user is no member.
SELECT c.id, c.name, c.description, c.enrich, c.version, c.created_by, c.created_at, c.updated_at, m.role
FROM collections c
JOIN memberships m ON m.collection_id = c.id AND m.user_id = @user_id
WHERE c.id = @id AND c.deleted_at IS NULL;

-- name: GetCollectionRole :one
-- Role is NULL when the user is no member: platform admins may still go on.
SELECT c.id, m.role
FROM collections c
LEFT JOIN memberships m ON m.collection_id = c.id AND m.user_id = @user_id
WHERE c.id = @id AND c.deleted_at IS NULL;

-- name: GetCountedCollection :one
-- As GetCollection, with the numbers of items and members.
SELECT c.id, c.name, c.description, c.enrich, c.version, c.created_by, c.created_at, c.updated_at, m.role, live.items, joined.members
FROM collections c
JOIN memberships m ON m.collection_id = c.id AND m.user_id = @user_id
CROSS JOIN LATERAL (
    SELECT count(*) AS items FROM (SELECT 1 FROM items i WHERE i.collection_id = c.id AND i.deleted_at IS NULL LIMIT 10000) AS counted
) AS live
CROSS JOIN LATERAL (
    SELECT count(*) AS members FROM (SELECT 1 FROM memberships o WHERE o.collection_id = c.id LIMIT 10000) AS counted
) AS joined
WHERE c.id = @id AND c.deleted_at IS NULL;

-- name: ListCollections :many
-- Walks memberships_user_id_idx backwards. Counts only for the page, up to a limit, from the indexes alone: an exact count of a big collection
-- would cost more than everything else.
WITH page AS (
    SELECT c.id, c.name, c.description, c.enrich, c.version, c.created_by, c.created_at, c.updated_at, m.role
    FROM memberships m
    JOIN collections c ON c.id = m.collection_id
    WHERE m.user_id = @user_id AND c.deleted_at IS NULL AND m.collection_id < @before
    ORDER BY m.collection_id DESC
    LIMIT @page_size
)
SELECT page.*, live.items, joined.members
FROM page
CROSS JOIN LATERAL (
    SELECT count(*) AS items FROM (SELECT 1 FROM items i WHERE i.collection_id = page.id AND i.deleted_at IS NULL LIMIT 10000) AS counted
) AS live
CROSS JOIN LATERAL (
    SELECT count(*) AS members FROM (SELECT 1 FROM memberships o WHERE o.collection_id = page.id LIMIT 10000) AS counted
) AS joined
ORDER BY page.id DESC;

-- name: ListCollectionRoles :many
-- Every collection that the user may search.
SELECT m.collection_id, m.role
FROM memberships m
JOIN collections c ON c.id = m.collection_id
WHERE m.user_id = @user_id AND c.deleted_at IS NULL
  AND (sqlc.narg(collection_id)::uuid IS NULL OR m.collection_id = sqlc.narg(collection_id));

-- name: UpdateCollection :one
UPDATE collections SET name = @name, description = @description, enrich = @enrich, version = version + 1, updated_at = @updated_at
WHERE id = @id
RETURNING version;

-- name: DeleteCollection :one
UPDATE collections SET deleted_at = @deleted_at, version = version + 1, updated_at = @deleted_at
WHERE id = @id
RETURNING version;

-- name: ListMembers :many
SELECT m.id, m.collection_id, m.user_id, m.role, m.version, m.created_at, m.updated_at, u.email, u.display_name
FROM memberships m
JOIN users u ON u.id = m.user_id
WHERE m.collection_id = @collection_id AND m.user_id > @after
ORDER BY m.user_id
LIMIT @page_size;

-- name: GetMember :one
SELECT m.id, m.collection_id, m.user_id, m.role, m.version, m.created_at, m.updated_at, u.email, u.display_name
FROM memberships m
JOIN users u ON u.id = m.user_id
WHERE m.collection_id = @collection_id AND m.user_id = @user_id;

-- name: CountOtherOwners :one
-- Owners who can still log in, besides one user. Only after LockCollection.
SELECT count(*)
FROM memberships m
JOIN users u ON u.id = m.user_id
WHERE m.collection_id = @collection_id AND m.role = 'owner' AND m.user_id <> @user_id AND u.disabled_at IS NULL;

-- name: AddMember :execrows
-- No row when the user is a member already.
INSERT INTO memberships (id, collection_id, user_id, role, created_at, updated_at)
VALUES (@id, @collection_id, @user_id, @role, @created_at, @created_at)
ON CONFLICT (collection_id, user_id) DO NOTHING;

-- name: UpdateMemberRole :one
UPDATE memberships SET role = @role, version = version + 1, updated_at = @updated_at
WHERE id = @id
RETURNING version;

-- name: RemoveMember :one
-- The removal is the membership's last version.
DELETE FROM memberships WHERE id = @id RETURNING (version + 1)::bigint AS version;
