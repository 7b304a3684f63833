-- +goose Up

-- A session starts with a login and is the family of the refresh tokens that follow from it.
CREATE TABLE sessions (
    id           uuid PRIMARY KEY,
    user_id      uuid NOT NULL REFERENCES users (id),
    user_agent   text NOT NULL,
    address      text NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    last_used_at timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz NOT NULL,
    revoked_at   timestamptz
);
CREATE INDEX sessions_user_id_idx ON sessions (user_id, id DESC);

-- Used tokens stay, so that a second use of one is noticed. Only SHA-256 hashes: the tokens are random, so they need no slow hash.
CREATE TABLE refresh_tokens (
    hash       bytea PRIMARY KEY,
    session_id uuid NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    used_at    timestamptz
);
CREATE INDEX refresh_tokens_session_id_idx ON refresh_tokens (session_id);

-- How often a login failed, by a hash of the account's e-mail or of the caller's address. In the database, so that it holds over all replicas.
CREATE TABLE login_attempts (
    key       bytea PRIMARY KEY,
    attempts  integer NOT NULL,
    resets_at timestamptz NOT NULL
);
CREATE INDEX login_attempts_resets_at_idx ON login_attempts (resets_at);

-- Personal tokens for scripts. Only SHA-256 hashes: the tokens are random.
CREATE TABLE api_tokens (
    id           uuid PRIMARY KEY,
    user_id      uuid NOT NULL REFERENCES users (id),
    name         text NOT NULL,
    scopes       text[] NOT NULL,
    hash         bytea NOT NULL UNIQUE,
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz NOT NULL,
    last_used_at timestamptz
);
CREATE INDEX api_tokens_user_id_idx ON api_tokens (user_id, id DESC);

-- +goose Down
DROP TABLE api_tokens, login_attempts, refresh_tokens, sessions;
