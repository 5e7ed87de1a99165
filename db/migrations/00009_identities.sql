-- +goose Up

-- What a saved database really is, whatever leads there: known once somebody has tested it or a job has used it, and until
-- it leads elsewhere.
ALTER TABLE connections
	ADD system_identifier text,   -- pg_control_system()
	ADD database_oid      bigint, -- pg_database.oid
	ADD CHECK ((system_identifier IS NULL) = (database_oid IS NULL));

ALTER TABLE background_tasks
	ADD fork boolean NOT NULL DEFAULT false; -- its user has said that the target is a fork of a protected database
