-- The schema _calco as the release before this one makes it, with marks of version 1.
CREATE SCHEMA _calco;
CREATE TABLE _calco.version AS SELECT 1 AS number;
CREATE TABLE _calco.job (
	id          text PRIMARY KEY,
	term        bigint NOT NULL,
	nonce       text NOT NULL,
	started_at  timestamptz NOT NULL DEFAULT now(),
	status      text,
	schemas     text[] NOT NULL,
	system      text NOT NULL,   -- of the source
	database    bigint NOT NULL, -- its OID
	timeline    int NOT NULL,
	definitions text NOT NULL
);
CREATE TABLE _calco.epoch (
	number        int PRIMARY KEY,
	nonce         text NOT NULL UNIQUE,
	snapshot_at   timestamptz NOT NULL,
	oldest_xid    xid8 NOT NULL, -- pg_snapshot_xmin
	durable       boolean NOT NULL DEFAULT false, -- a crash of the source takes back nothing that the snapshot saw
	kept          int NOT NULL DEFAULT 0,
	redone        int NOT NULL DEFAULT 0,
	redone_tables text[] NOT NULL DEFAULT '{}'
);
CREATE TABLE _calco.stage (
	name  text NOT NULL CHECK (name IN ('filling', 'filled')),
	epoch int NOT NULL REFERENCES _calco.epoch,
	large_objects bigint, -- when filled
	PRIMARY KEY (name, epoch)
);
CREATE TABLE _calco.kept (
	kind      text NOT NULL,
	namespace text NOT NULL,
	name      text NOT NULL,
	PRIMARY KEY (kind, namespace, name)
);
CREATE TABLE _calco.mark (
	relation  text NOT NULL,
	part      int NOT NULL,
	parts     int NOT NULL,
	stride    bigint NOT NULL,
	oid       bigint NOT NULL,   -- of the table on the source
	filenode  bigint NOT NULL,
	through   boolean NOT NULL,  -- the root of the table's partition tree
	epoch     int NOT NULL,      -- in which it is true
	born      int NOT NULL,      -- in which it was copied
	rows      bigint NOT NULL,
	bytes     bigint NOT NULL,
	checksum  text,              -- of the rows on the source, where it was taken
	xid       xid8 NOT NULL DEFAULT pg_current_xact_id(),
	marked_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (relation, part)
);
-- Those of unlogged tables: a crash empties both.
CREATE UNLOGGED TABLE _calco.unlogged_mark (LIKE _calco.mark INCLUDING ALL);
-- The large objects that the job has made: when they have to go again, those of others stay.
CREATE TABLE _calco.large_object (oid oid PRIMARY KEY);
REVOKE ALL ON SCHEMA _calco FROM PUBLIC;
