-- name: CreateSession :one
-- Returns no row when the account was disabled or its password changed since the caller looked: the share lock makes a change of the
-- password wait for this session and then revoke it too.
WITH account AS (
    SELECT users.id FROM users WHERE users.id = @user_id AND users.password_hash = @password_hash AND users.disabled_at IS NULL FOR SHARE
), session AS (
    INSERT INTO sessions (id, user_id, user_agent, address, expires_at)
    SELECT @id::uuid, account.id, @user_agent::text, @address::text, now() + make_interval(secs => @ttl_seconds::float8) FROM account
    RETURNING sessions.id
)
INSERT INTO refresh_tokens (hash, session_id) SELECT @token_hash::bytea, session.id FROM session
RETURNING session_id;

-- name: LockRefreshToken :one
-- The lock decides between two uses of one token: the second sees what the first has done.
SELECT s.id AS session_id, s.user_id, (t.used_at IS NOT NULL)::boolean AS used,
    (s.revoked_at IS NULL AND s.expires_at > now() AND u.disabled_at IS NULL)::boolean AS live
FROM refresh_tokens t JOIN sessions s ON s.id = t.session_id JOIN users u ON u.id = s.user_id
WHERE t.hash = @hash
FOR UPDATE OF s, t;

-- name: RotateRefreshToken :exec
-- What was used so long ago that it would have expired is forgotten, so that a long session stays small.
WITH used AS (
    UPDATE refresh_tokens SET used_at = now() WHERE refresh_tokens.hash = @old_hash
), session AS (
    UPDATE sessions SET last_used_at = now(), expires_at = now() + make_interval(secs => @ttl_seconds::float8),
        user_agent = @user_agent, address = @address
    WHERE sessions.id = @session_id
), forgotten AS (
    DELETE FROM refresh_tokens o WHERE o.session_id = @session_id AND o.used_at < now() - make_interval(secs => @ttl_seconds::float8)
)
INSERT INTO refresh_tokens (hash, session_id) VALUES (@new_hash, @session_id);

-- name: RevokeSession :execrows
UPDATE sessions SET revoked_at = now() WHERE id = @id AND user_id = @user_id AND revoked_at IS NULL AND expires_at > now();

-- name: RevokeSessionOfToken :exec
UPDATE sessions s SET revoked_at = now() FROM refresh_tokens t WHERE t.hash = @hash AND s.id = t.session_id AND s.revoked_at IS NULL;

-- name: RevokeOtherSessions :exec
UPDATE sessions SET revoked_at = now() WHERE user_id = @user_id AND id <> @keep AND revoked_at IS NULL;

-- name: ListSessions :many
SELECT * FROM sessions
WHERE user_id = @user_id AND id < @before AND revoked_at IS NULL AND expires_at > now()
ORDER BY id DESC
LIMIT @page_size;

-- name: PruneSessions :exec
-- At each login: what ended more than a day ago.
DELETE FROM sessions WHERE user_id = @user_id AND least(expires_at, revoked_at) < now() - interval '1 day';

-- name: GetUserOfSession :one
-- Returns no row when the session has ended.
SELECT u.* FROM users u JOIN sessions s ON s.user_id = u.id
WHERE u.id = @user_id AND s.id = @session_id AND s.revoked_at IS NULL AND s.expires_at > now();

-- name: ChangePassword :execrows
-- Only when nobody changed the password in the meantime.
UPDATE users SET password_hash = @new_hash, updated_at = now() WHERE id = @id AND password_hash = @old_hash AND disabled_at IS NULL;
