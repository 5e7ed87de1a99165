-- +goose Up

CREATE TABLE users (
	id            bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	email         text        NOT NULL CHECK (email ~ '^[^[:space:]@]+@[^[:space:]@]+$' AND octet_length(email) <= 254),
	password_hash text        CHECK (password_hash LIKE '$argon2id$%'), -- none: signs in by one-time links only
	role          text        NOT NULL CHECK (role IN ('admin', 'member')),
	created_at    timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX users_email_key ON users (lower(email));

-- Sessions and links are kept by the SHA-256 of their tokens: whoever reads this table can use none of them.
CREATE TABLE sessions (
	id           bigint      GENERATED ALWAYS AS IDENTITY UNIQUE,
	token_hash   bytea       PRIMARY KEY CHECK (octet_length(token_hash) = 32),
	user_id      bigint      NOT NULL REFERENCES users ON DELETE CASCADE,
	created_at   timestamptz NOT NULL DEFAULT now(),
	last_seen_at timestamptz NOT NULL DEFAULT now(), -- written at most once a minute
	expires_at   timestamptz NOT NULL CHECK (expires_at > created_at),
	address      text        NOT NULL,
	agent        text        NOT NULL CHECK (length(agent) <= 400)
);
CREATE INDEX sessions_user_id_idx ON sessions (user_id);

CREATE TABLE links (
	id         bigint      GENERATED ALWAYS AS IDENTITY UNIQUE,
	token_hash bytea       PRIMARY KEY CHECK (octet_length(token_hash) = 32),
	kind       text        NOT NULL CHECK (kind IN ('setup', 'invite', 'signin', 'reset')),
	email      text        CHECK (email ~ '^[^[:space:]@]+@[^[:space:]@]+$' AND octet_length(email) <= 254),
	role       text        CHECK (role IN ('admin', 'member')),
	user_id    bigint      REFERENCES users ON DELETE CASCADE,
	created_at timestamptz NOT NULL DEFAULT now(),
	expires_at timestamptz NOT NULL CHECK (expires_at > created_at),
	used_at    timestamptz,
	-- An invitation is for someone who is no user yet, the others for a user, and set-up for whoever comes first.
	CHECK ((kind = 'invite') = (email IS NOT NULL)),
	CHECK ((kind IN ('setup', 'invite')) = (role IS NOT NULL)),
	CHECK ((kind IN ('signin', 'reset')) = (user_id IS NOT NULL))
);
CREATE INDEX links_user_id_idx ON links (user_id);

-- Attempts to sign in, by the SHA-256 of the e-mail address: what is typed there may be a password.
-- Addresses of nobody are counted as well, so that the counter does not tell who is a user.
CREATE TABLE signin_attempts (
	account    bytea       PRIMARY KEY CHECK (octet_length(account) = 32),
	attempts   int         NOT NULL CHECK (attempts > 0),
	last_at    timestamptz NOT NULL DEFAULT now(),
	next_at    timestamptz NOT NULL
);
