-- +goose Up

-- The truth about jobs. River's row only carries (id, term) to a worker, which drops it if the term is another by then.
CREATE TABLE background_tasks (
	id          text        PRIMARY KEY CHECK (id ~ '^[a-z2-7]{10}$'),
	user_id     bigint      REFERENCES users ON DELETE SET NULL,
	owner       text        NOT NULL, -- the user's e-mail address, which outlives the user
	type        text        NOT NULL DEFAULT 'clone_database' CHECK (type = 'clone_database'),
	status      text        NOT NULL DEFAULT 'queued'
	            CHECK (status IN ('queued', 'running', 'completed', 'differences', 'failed', 'cancelled', 'refused')),
	source_id   bigint      REFERENCES connections ON DELETE SET NULL,
	target_id   bigint      REFERENCES connections ON DELETE SET NULL,
	source      jsonb       NOT NULL CHECK (source ?& '{name,environment,address,database}'),
	target      jsonb       NOT NULL CHECK (target ?& '{name,environment,address,database}'),
	schemas     text[]      NOT NULL DEFAULT '{}', -- none: the whole database
	clean       boolean     NOT NULL,
	retry_of    text        UNIQUE REFERENCES background_tasks CHECK (retry_of <> id),
	progress    float8      NOT NULL DEFAULT 0 CHECK (progress BETWEEN 0 AND 1),
	metadata    jsonb       NOT NULL DEFAULT '{"clone": {}}' CHECK (jsonb_typeof(metadata -> 'clone') = 'object'), -- clone.progress, clone.speeds
	report      jsonb,
	error       text        NOT NULL DEFAULT '',
	interrupted boolean     NOT NULL DEFAULT false,
	worker      text,
	term        bigint      NOT NULL DEFAULT 1 CHECK (term > 0), -- the number of its worker: a takeover raises it
	revision    bigint      NOT NULL DEFAULT 1,                  -- grows with every change that can be seen
	created_at  timestamptz NOT NULL DEFAULT now(),
	updated_at  timestamptz NOT NULL DEFAULT now(),              -- the heartbeat
	started_at  timestamptz,
	finished_at timestamptz,
	cancel_requested_at timestamptz,

	CHECK ((status IN ('queued', 'running')) = (finished_at IS NULL)),
	CHECK (status NOT IN ('running', 'completed', 'differences', 'refused') OR (started_at IS NOT NULL AND worker IS NOT NULL)),
	CHECK (report IS NULL OR (finished_at IS NOT NULL AND report ->> 'status' = status)),
	CHECK (status NOT IN ('completed', 'differences', 'refused') OR report IS NOT NULL),
	CHECK (error = '' OR status IN ('failed', 'cancelled')),
	CHECK (error <> '' OR status NOT IN ('failed', 'cancelled')),
	CHECK (NOT interrupted OR status = 'failed')
);
-- One job a target, even of two people who start at once.
CREATE UNIQUE INDEX background_tasks_target_key ON background_tasks (target_id) WHERE status IN ('queued', 'running');
CREATE INDEX background_tasks_active_idx ON background_tasks (created_at DESC, id DESC) WHERE status IN ('queued', 'running');
CREATE INDEX background_tasks_created_at_idx ON background_tasks (created_at DESC, id DESC);
CREATE INDEX background_tasks_user_id_idx ON background_tasks (user_id, created_at DESC, id DESC);
CREATE INDEX background_tasks_source_id_idx ON background_tasks (source_id, created_at DESC, id DESC);
CREATE INDEX background_tasks_target_id_idx ON background_tasks (target_id, created_at DESC, id DESC);

-- The tables of a job, written when they change.
CREATE TABLE task_tables (
	task_id  text     NOT NULL REFERENCES background_tasks ON DELETE CASCADE,
	relation text     NOT NULL,
	status   text     NOT NULL CHECK (status IN ('waiting', 'copying', 'indexing', 'done', 'failed')),
	rows     bigint   NOT NULL CHECK (rows >= 0),
	bytes    bigint   NOT NULL CHECK (bytes >= 0),
	size     bigint   NOT NULL CHECK (size >= 0), -- on the source's disk
	built    int      NOT NULL CHECK (built >= 0), -- of its indexes and constraints
	to_build int      NOT NULL CHECK (to_build >= 0),
	-- What people look for first: what is going on, then what went wrong.
	place    smallint NOT NULL GENERATED ALWAYS AS (CASE status WHEN 'copying' THEN 1 WHEN 'indexing' THEN 1 WHEN 'failed' THEN 2 ELSE 3 END) STORED,
	PRIMARY KEY (task_id, relation)
);
CREATE INDEX task_tables_list_idx ON task_tables (task_id, place, size DESC, relation);

-- The log of a job. Numbers make writing one again harmless.
CREATE TABLE task_events (
	task_id text        NOT NULL REFERENCES background_tasks ON DELETE CASCADE,
	number  bigint      NOT NULL CHECK (number > 0),
	at      timestamptz NOT NULL,
	kind    text        NOT NULL CHECK (kind IN ('phase_begun', 'phase_ended', 'trouble', 'warning')),
	phase   text        NOT NULL,
	object  text        NOT NULL,
	text    text        NOT NULL,
	PRIMARY KEY (task_id, number)
);
