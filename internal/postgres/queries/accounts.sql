-- name: CreateUser :one
-- Returns no row when the e-mail is taken.
INSERT INTO users (id, email, display_name, password_hash, is_admin)
VALUES (@id, @email, @display_name, @password_hash, @is_admin)
ON CONFLICT (lower(email)) DO NOTHING
RETURNING *;

-- name: GetUser :one
SELECT * FROM users WHERE id = @id;

-- name: GetUserByEmail :one
SELECT * FROM users WHERE lower(email) = lower(@email);

-- name: ReplacePasswordHash :exec
-- Only when nobody changed the password in the meantime.
UPDATE users SET password_hash = @new_hash, updated_at = now() WHERE id = @id AND password_hash = @old_hash;

-- name: EnsureAdmin :exec
UPDATE users SET is_admin = true, disabled_at = NULL, password_hash = @password_hash, updated_at = now() WHERE id = @id;

-- name: TakeAttempts :many
-- Counts an attempt under each key before it is made, so that many at once, on any replica, can't slip through. Keys come in the same order
-- from everybody, so that no two callers wait for each other. Counters whose time is over are swept up along the way.
WITH swept AS (
    DELETE FROM login_attempts WHERE key IN (
        SELECT a.key FROM login_attempts a WHERE a.resets_at < now() - interval '1 minute' ORDER BY a.resets_at LIMIT 10 FOR UPDATE SKIP LOCKED
    ) AND key <> ALL (@keys::bytea[])
)
INSERT INTO login_attempts AS l (key, attempts, resets_at)
SELECT k.key, 1, now() + make_interval(secs => @window_seconds::float8) FROM unnest(@keys::bytea[]) WITH ORDINALITY AS k (key, n) ORDER BY k.n
ON CONFLICT (key) DO UPDATE SET
    attempts = CASE WHEN l.resets_at <= now() THEN 1 ELSE least(l.attempts, 1000000) + 1 END,
    resets_at = CASE WHEN l.resets_at <= now() THEN excluded.resets_at ELSE l.resets_at END
RETURNING l.key, l.attempts, (extract(epoch FROM l.resets_at - now()))::float8 AS seconds_left;

-- name: ReturnAttempts :exec
-- An attempt that succeeded or was refused unseen does not count. The locks are taken in the order of TakeAttempts.
WITH locked AS (
    SELECT a.key FROM login_attempts a WHERE a.key = ANY (@keys::bytea[]) ORDER BY array_position(@keys::bytea[], a.key) FOR UPDATE
)
UPDATE login_attempts SET attempts = attempts - 1 WHERE key IN (SELECT locked.key FROM locked) AND attempts > 0;

-- name: ListUsers :many
SELECT * FROM users WHERE id < @before ORDER BY id DESC LIMIT @page_size;

-- name: SetUserDisabled :one
UPDATE users SET disabled_at = CASE WHEN @disabled::boolean THEN coalesce(disabled_at, now()) END, updated_at = now() WHERE id = @id RETURNING *;

-- name: RevokeSessions :exec
UPDATE sessions SET revoked_at = now() WHERE user_id = @user_id AND revoked_at IS NULL;

-- name: GrantAdmin :execrows
UPDATE users SET is_admin = true, updated_at = now() WHERE lower(email) = lower(@email) AND disabled_at IS NULL;
