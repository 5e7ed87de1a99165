package cloner

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"calco/cloner/internal/schema"
	"calco/cloner/internal/session"
	"calco/cloner/report"
)

// marksVersion is the version of the schema _calco, which goes up with each release that changes it. The first releases
// wrote none: theirs is version 0.
const marksVersion = 1

// A mark is committed with the part it stands for, so it alone says what is there. Every writing
// transaction holds the job's row, so what changes while others write stands elsewhere.
//
// The nonces are chosen before anything is written: that of the job's row by the run that writes it, that of an epoch with
// its snapshot. When the answer to a write is lost they tell whether it arrived, and that of the job tells the row from one
// in a physical copy of the target.
var createMarks = fmt.Sprintf(`
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
	REVOKE ALL ON SCHEMA _calco FROM PUBLIC`, marksVersion)

// readMarksVersion is found = false where no job has left anything.
func readMarksVersion(ctx context.Context, s *session.Session) (version int, found bool, err error) {
	found, err = session.QueryValue[bool](ctx, s, `SELECT to_regclass('_calco.job') IS NOT NULL OR to_regclass('_calco.version') IS NOT NULL`)
	if err != nil || !found {
		return 0, false, err
	}
	version, err = session.QueryValue[int](ctx, s, `SELECT number FROM _calco.version`)
	if session.SQLState(err) == session.NoTable {
		return 0, true, nil
	}
	return version, true, err
}

// mark is a row of _calco.mark: a part that is on the target.
type mark struct {
	Relation string
	Part     int
	Parts    int
	Stride   int64
	OID      int64 // of the table on the source
	Filenode int64
	Through  bool // its rows went through the root of the table's partition tree
	Epoch    int
	Rows     int64
	Bytes    int64
	Checksum string // of the rows on the source, or ""
	XID      int64  // of the transaction that wrote the part
	Durable  bool   // see _calco.epoch
	Oldest   int64  // transaction that was running at the snapshot of its epoch
}

func (m mark) split() schema.Split { return schema.Split{Parts: m.Parts, Stride: m.Stride} }

func readMarks(ctx context.Context, s *session.Session) ([]mark, error) {
	marks, err := session.Query[mark](ctx, s, `
		SELECT m.relation, m.part, m.parts, m.stride, m.oid, m.filenode, m.through, m.epoch, m.rows, m.bytes, coalesce(m.checksum, '') AS checksum, m.xid::text::bigint AS xid,
		       e.durable, e.oldest_xid::text::bigint AS oldest
		FROM (SELECT * FROM _calco.mark UNION ALL SELECT * FROM _calco.unlogged_mark) m
		JOIN _calco.epoch e ON e.number = m.epoch
		ORDER BY m.relation, m.part`)
	if err != nil {
		return nil, fmt.Errorf("read the marks: %w", err)
	}
	return marks, nil
}

// markSQL inserts the mark of a part, in the transaction that writes it.
func (r *run) markSQL(p *part, rows int64, checksum string) string {
	m, into := mark{Parts: 1}, "mark"
	if p.table != nil {
		into = marksOf(p.table.Table)
		m.Parts, m.Stride, m.Through = p.table.split.Parts, p.table.split.Stride, p.through
		m.OID, m.Filenode = p.table.OID, p.table.Filenode
	}
	return fmt.Sprintf("INSERT INTO _calco.%s (relation, part, parts, stride, oid, filenode, through, epoch, born, rows, bytes, checksum) VALUES (%s, %d, %d, %d, %d, %d, %t, %[9]d, %[9]d, %[10]d, %[11]d, nullif(%[12]s, ''))",
		into, session.QuoteLiteral(p.relation), p.number, m.Parts, m.Stride, m.OID, m.Filenode, m.Through, r.epoch, rows, p.flight.Bytes.Load(), session.QuoteLiteral(checksum))
}

// marksOf is the table of _calco that has the marks of t.
func marksOf(t *schema.Table) string {
	if t.Unlogged {
		return "unlogged_mark"
	}
	return "mark"
}

// claim makes the target this job's: it goes on with what the job has left there, or ends
// what is left of another one, writes the job's row, and makes sure that the source does
// not show it too. The source has been read by now, and its schema dumped.
func (r *run) claim(ctx context.Context) error {
	if r.left != nil {
		return r.takeOver(ctx)
	}
	reasons, err := r.checkContents(ctx) // time has passed since preflight
	if err != nil || len(reasons) > 0 {
		return errors.Join(err, report.Refuse(reasons...))
	}
	if err := r.endInterrupted(ctx); err != nil {
		return err
	}
	if err := r.announce(ctx); err != nil {
		return err
	}
	if err := r.dropAnyMarks(ctx); err != nil {
		return err
	}
	insert := fmt.Sprintf(`INSERT INTO _calco.job (id, term, nonce, schemas, system, database, timeline, definitions)
		VALUES (%s, %d, %s, %s, %s, %d, %d, %s)`,
		session.QuoteLiteral(r.spec.Job), r.spec.Term, session.QuoteLiteral(r.nonce), quoteArray(r.spec.Schemas), session.QuoteLiteral(r.source.SystemIdentifier),
		r.source.DatabaseOID, r.source.Timeline, session.QuoteLiteral(r.plan.Definitions(r.dumper.Version)))
	if err := r.target.Control.Exec(ctx, "BEGIN; SET LOCAL synchronous_commit = on; "+createMarks+"; "+insert+"; COMMIT"); err != nil {
		return fmt.Errorf("write the job to the target: %w", err)
	}
	return r.holdTarget(ctx)
}

// announce tells the caller that the target is about to change.
func (r *run) announce(ctx context.Context) error {
	target := r.target.Identity()
	if r.options.Begin == nil || r.begunOn != nil && *r.begunOn == target {
		return nil
	}
	err := r.options.Begin(ctx, r.source.Identity(), target)
	if refused, ok := errors.AsType[*report.RefusedError](err); ok {
		return &standingRefusal{refused}
	}
	if err != nil {
		return fmt.Errorf("note that the target is about to change: %w", err)
	}
	r.begunOn = &target
	return nil
}

// holdTarget: the job's row is on the target. It must not be visible on the source too.
func (r *run) holdTarget(ctx context.Context) error {
	r.claimed = true
	same, err := r.findsMarker(ctx)
	if err != nil {
		return err
	}
	if same {
		if err := r.dropAnyMarks(ctx); err != nil {
			return err
		}
		return report.Refuse(report.Reason{
			Code: report.ReasonSameDatabase, Side: report.Target,
			Text: fmt.Sprintf("Source and target are the same database, %s.", r.spec.Target), Hint: "Choose another target.",
		})
	}
	r.fence = fmt.Sprintf(`SELECT 1 / (SELECT count(*)::int FROM (SELECT FROM _calco.job WHERE id = %s AND term = %d AND nonce = %s FOR SHARE) own)`,
		session.QuoteLiteral(r.spec.Job), r.spec.Term, session.QuoteLiteral(r.nonce))
	r.target.Control.Fence = r.fence
	return nil
}

// endInterrupted ends the backends of a job that left its schema behind, and waits until
// they are gone, since a dead client's transaction may still commit. That job is dead:
// this one has its lock.
func (r *run) endInterrupted(ctx context.Context) error {
	left, err := session.QueryValue[bool](ctx, r.target.Control, `SELECT to_regnamespace('_calco') IS NOT NULL`)
	if err != nil || !left {
		return err
	}
	jobs, err := session.Query[struct{ ID string }](ctx, r.target.Control, `SELECT id FROM _calco.job`)
	if err != nil && session.SQLState(err) != session.NoTable {
		return fmt.Errorf("read the interrupted job: %w", err)
	}
	for _, j := range jobs {
		if err := endBackends(ctx, r.target.Control, backendsOf(j.ID)); err != nil {
			return fmt.Errorf("end the interrupted job: %w", err)
		}
	}
	return nil
}

// backendsOf is what the application_name of all backends of a job begins with.
func backendsOf(job string) string { return fmt.Sprintf("calco/%s/", job) }

// endBackends ends all other backends in this database that have this application_name,
// or one that begins with it if it ends in a slash, and returns when they are gone.
func endBackends(ctx context.Context, s *session.Session, name string) error {
	return endWhere(ctx, s, "(application_name = $1 OR right($1, 1) = '/' AND starts_with(application_name, $1))", name)
}

// endOthers ends the backends of a job but those of one run of it.
func endOthers(ctx context.Context, s *session.Session, spec Spec) error {
	return endWhere(ctx, s, "starts_with(application_name, $1) AND application_name <> "+session.QuoteLiteral(spec.applicationName()), backendsOf(spec.Job))
}

// endBackend ends one backend of ours, and returns when it is gone. Until then its transaction may still commit.
func endBackend(ctx context.Context, s *session.Session, pid int) error {
	return endWhere(ctx, s, "pid = $1 AND starts_with(application_name, 'calco/')", pid)
}

// endPatience is how long a backend may take to end. One that is stuck in the kernel does not hear of it.
const endPatience = 30 * time.Second

func endWhere(ctx context.Context, s *session.Session, which string, arg any) error {
	for begun := time.Now(); ; {
		left, err := session.QueryValue[int](ctx, s, `
			SELECT count(pg_terminate_backend(pid))
			FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid() AND `+which, arg)
		if err != nil || left == 0 {
			return err
		}
		if time.Since(begun) > endPatience {
			return &session.LostError{Side: s.Side, Err: errStuck, Text: fmt.Sprintf("An earlier backend of this clone on the %s does not end.", s.Side)}
		}
		if err := session.Pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

var errStuck = errors.New("a backend does not end")

// countMarks makes the meter count what is on the target of a clone that ended early: a part may have been committed
// while the answer did not come any more.
func (r *run) countMarks(ctx context.Context, s *session.Session) error {
	if r.plan == nil {
		return nil
	}
	marks, err := session.Query[struct {
		Relation string
		Parts    int
		Here     int
		Rows     int64
	}](ctx, s, `
		SELECT relation, max(parts) AS parts, count(*) AS here, sum(rows)::bigint AS rows
		FROM _calco.mark
		WHERE EXISTS (SELECT FROM _calco.job WHERE nonce = $1)
		GROUP BY relation`, r.nonce)
	if err != nil {
		return fmt.Errorf("read the marks: %w", err)
	}
	byRelation := map[string]int64{}
	for _, t := range r.plan.Tables {
		byRelation[t.Relation()] = t.OID
	}
	for _, m := range marks {
		if m.Here == m.Parts {
			r.meter.TableArrived(byRelation[m.Relation], m.Rows)
		}
	}
	return nil
}

// recordStatus writes the outcome beside the marks, and waits for the disk: with it all
// that was committed before is safe too.
func (r *run) recordStatus(ctx context.Context, s *session.Session, status report.Status) error {
	return s.Write(ctx, fmt.Sprintf("SET LOCAL synchronous_commit = on; UPDATE _calco.job SET status = %s WHERE id = %s",
		session.QuoteLiteral(string(status)), session.QuoteLiteral(r.spec.Job)))
}

// dropMarks drops the job's schema once its outcome is known, but no other job's.
func (r *run) dropMarks(ctx context.Context) error {
	if err := r.target.Control.Write(ctx, "SET LOCAL synchronous_commit = on; "+dropMarksSQL); err != nil {
		return fmt.Errorf("drop the job's schema on the target: %w", err)
	}
	r.claimed = false
	return nil
}

// dropMarksSQL drops what createMarks makes, and what other versions of Calco have made, but nobody else's.
const dropMarksSQL = `DROP TABLE IF EXISTS _calco.mark, _calco.unlogged_mark, _calco.large_object, _calco.kept, _calco.stage, _calco.epoch, _calco.job, _calco.version;
	DROP SCHEMA IF EXISTS _calco`

//go:embed sql/foreign_marks.sql
var foreignMarksSQL string

// checkMarks refuses a target whose schema _calco somebody else has made, or uses: dropping it would take what is theirs.
func (r *run) checkMarks(ctx context.Context) ([]report.Reason, error) {
	version, _, err := readMarksVersion(ctx, r.target.Control)
	switch {
	case err != nil && session.SQLState(err) == "":
		return nil, fmt.Errorf("read the schema _calco of the target: %w", err)
	case err == nil && version > marksVersion:
		return nil, nil // of a newer Calco: readLeftover refuses that
	}
	found, err := session.Query[struct{ Name string }](ctx, r.target.Control, foreignMarksSQL)
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
		Text: fmt.Sprintf("The target %s has a schema _calco with something that is not Calco's: %s.", r.spec.Target, report.Listed(names)),
		Hint: "Calco keeps its marks in a schema of that name. Rename that schema, or move what is yours out of it.",
	}}, nil
}

// dropAnyMarks drops the schema of whatever job is over. This one has the lock of the target.
func (r *run) dropAnyMarks(ctx context.Context) error {
	r.target.Control.Fence = ""
	if reasons, err := r.checkMarks(ctx); err != nil || len(reasons) > 0 {
		return errors.Join(err, report.Refuse(reasons...))
	}
	if err := r.target.Control.Exec(ctx, "BEGIN; SET LOCAL synchronous_commit = on; "+dropMarksSQL+"; COMMIT"); err != nil {
		return fmt.Errorf("drop the job's schema on the target: %w", err)
	}
	r.claimed = false
	return nil
}

// quoteArray writes a list of names as an SQL array.
func quoteArray(names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = session.QuoteLiteral(n)
	}
	return "ARRAY[" + strings.Join(quoted, ", ") + "]::text[]"
}

// sorted is a copy in order.
func sorted(names []string) []string { return slices.Sorted(slices.Values(names)) }
