-- name: CreateAPIToken :one
-- Returns no row when the user has too many already.
INSERT INTO api_tokens (id, user_id, name, scopes, hash, expires_at)
SELECT @id::uuid, @user_id::uuid, @name::text, @scopes::text[], @hash::bytea, @expires_at::timestamptz
WHERE (SELECT count(*) FROM api_tokens WHERE api_tokens.user_id = @user_id::uuid) < @max_tokens::bigint
RETURNING *;

-- name: ListAPITokens :many
SELECT * FROM api_tokens WHERE user_id = @user_id AND id < @before ORDER BY id DESC LIMIT @page_size;

-- name: DeleteAPIToken :execrows
DELETE FROM api_tokens WHERE id = @id AND user_id = @user_id;

-- name: GetUserOfAPIToken :one
SELECT sqlc.embed(u), t.id AS token_id, t.scopes,
    (t.last_used_at IS NULL OR t.last_used_at < now() - interval '1 minute')::boolean AS untouched
FROM api_tokens t JOIN users u ON u.id = t.user_id
WHERE t.hash = @hash AND t.expires_at > now();

-- name: TouchAPIToken :exec
-- At most once a minute, whoever else is about to do it too.
UPDATE api_tokens SET last_used_at = now() WHERE id = @id AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute');
