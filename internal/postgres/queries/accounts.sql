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
