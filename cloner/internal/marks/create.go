package marks

import (
	"context"
	_ "embed"
	"fmt"

	"calco/cloner/internal/session"
	"calco/cloner/report"
)

// version is that of the schema _calco, which goes up with each release that changes it. The first releases wrote none: theirs
// is version 0.
const version = 1

// A mark is committed with the part it stands for, so it alone says what is there. Every writing
// transaction holds the job's row, so what changes while others write stands elsewhere.
//
// The nonces are chosen before anything is written: that of the job's row by the run that writes it, that of an epoch with
// its snapshot. When the answer to a write is lost they tell whether it arrived, and that of the job tells the row from one
// in a physical copy of the target.
var createSQL = fmt.Sprintf(`
	CREATE SCHEMA _calco;
	CREATE TABLE _calco.version AS SELECT %d AS number;
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
	REVOKE ALL ON SCHEMA _calco FROM PUBLIC`, version)

// CreateSQL makes the schema _calco. It is for tests, which put things there that no clone would.
func CreateSQL() string { return createSQL }

// dropSQL drops what createSQL makes, and what other versions of Calco have made, but nobody else's.
const dropSQL = `DROP TABLE IF EXISTS _calco.mark, _calco.unlogged_mark, _calco.large_object, _calco.kept, _calco.stage, _calco.epoch, _calco.job, _calco.version;
	DROP SCHEMA IF EXISTS _calco`

// readVersion is found = false where no job has left anything.
func readVersion(ctx context.Context, s *session.Session) (number int, found bool, err error) {
	found, err = session.QueryValue[bool](ctx, s, `SELECT to_regclass('_calco.job') IS NOT NULL OR to_regclass('_calco.version') IS NOT NULL`)
	if err != nil || !found {
		return 0, false, err
	}
	number, err = session.QueryValue[int](ctx, s, `SELECT number FROM _calco.version`)
	if session.SQLState(err) == session.NoTable {
		return 0, true, nil
	}
	return number, true, err
}

//go:embed sql/foreign_marks.sql
var foreignSQL string

// CheckForeign refuses a target whose schema _calco somebody else has made, or uses: dropping it would take what is theirs. It
// reads only.
func CheckForeign(ctx context.Context, target *session.Server) ([]report.Reason, error) {
	number, _, err := readVersion(ctx, target.Control)
	switch {
	case err != nil && session.SQLState(err) == "":
		return nil, fmt.Errorf("read the schema _calco of the target: %w", err)
	case err == nil && number > version:
		return nil, nil // of a newer Calco: Look refuses that
	}
	found, err := session.Query[struct{ Name string }](ctx, target.Control, foreignSQL)
	if err != nil {
		return nil, fmt.Errorf("read the schema _calco of the target: %w", err)
	}
	if len(found) == 0 {
		return nil, nil
	}
	names := make([]string, len(found))
	for i, f := range found {
		names[i] = f.Name
	}
	return []report.Reason{{
		Code: report.ReasonForeignMarks, Side: report.Target, Objects: report.AtMost(names),
		Text: report.Said(fmt.Sprintf("The target %s has a schema _calco with something that is not Calco's: %s.", target.URL, report.Listed(names))),
		Hint: report.Said("Calco keeps its marks in a schema of that name. Rename that schema, or move what is yours out of it."),
	}}, nil
}
