package cloner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"calco/cloner/archive"
	"calco/cloner/internal/schema"
	"calco/cloner/internal/session"
	"calco/cloner/report"
)

// errChanged is for a target or a source on which an interrupted clone cannot go on.
var errChanged = errors.New("the clone cannot go on from what is on the target")

// cannotGoOn says why, and that there is another way.
func cannotGoOn(format string, args ...any) error {
	return &report.Error{
		Phase: report.PhaseSnapshot, Err: fmt.Errorf("%w: "+format, append([]any{errChanged}, args...)...),
		Hint: "Clean the target and start the clone again.",
	}
}

// leftover is what an interrupted job has left in the target's _calco.
type leftover struct {
	ID          string
	Term        int64
	Nonce       string
	Schemas     []string
	System      string
	Database    int64
	Timeline    int
	Definitions string
	Filling     bool // the target held nothing else when this job began to fill it
	Epoch       int  // the last one, or 0
	Filled      int  // the last epoch, if all rows had arrived in it, or 0
}

const leftoverSQL = `
	SELECT j.id, j.term, j.nonce, j.schemas, j.system, j.database, j.timeline, j.definitions,
	       EXISTS (SELECT FROM _calco.stage WHERE name = 'filling')                           AS filling,
	       coalesce((SELECT max(number) FROM _calco.epoch), 0)                                AS epoch,
	       coalesce((SELECT max(number) FROM _calco.epoch e WHERE number = (SELECT max(number) FROM _calco.epoch)
	                 AND EXISTS (SELECT FROM _calco.stage WHERE name = 'filled' AND epoch = e.number)), 0) AS filled
	FROM _calco.job j`

// findLeftover looks for what this job has left on the target, and ends what may still run of it there and on the source:
// its locks would be waited for, and a dead client's transaction may still commit. With a spec that says so, this clone
// becomes the job that it finds.
func (r *run) findLeftover(ctx context.Context) error {
	r.left = nil
	if r.waiting.Tries > 0 { // what an earlier attempt of this run has sent may still be committed
		if err := endBackends(ctx, r.target.Control, r.spec.applicationName()); err != nil {
			return fmt.Errorf("end the earlier attempt: %w", err)
		}
	}
	left, err := r.readLeftover(ctx)
	if err != nil {
		return err
	}
	switch {
	case left == nil && r.claimed:
		return cannotGoOn("somebody has dropped Calco's marks from the target")
	case left == nil:
		return r.endUnmarked(ctx)
	case left.Nonce == r.nonce:
		r.claimed = true // perhaps the answer to the claim was lost
	case r.claimed:
		return session.ErrTermLost // another job's, or a later run's
	case r.spec.adopt:
		if ours, err := r.adopt(ctx, left); err != nil || !ours {
			return err
		}
	case left.ID != r.spec.Job || !r.spec.Resume:
		return nil
	case left.Term >= r.spec.Term:
		return session.ErrTermLost
	}
	if err := r.endEarlier(ctx, left); err != nil {
		return err
	}
	// What they committed last counts too.
	if left, err = r.readLeftover(ctx); err != nil {
		return err
	}
	if left == nil || left.Nonce != r.nonce {
		return session.ErrTermLost
	}
	r.left = left
	return nil
}

// readLeftover reads what a job has left on the target: nil where there is nothing, or nothing of this job that could be
// read.
func (r *run) readLeftover(ctx context.Context) (*leftover, error) {
	version, marked, err := readMarksVersion(ctx, r.target.Control)
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the interrupted job: %w", err)
	case !marked:
		return nil, nil //nolint:nilnil // there is nothing
	case version > marksVersion:
		return nil, report.Refuse(report.Reason{
			Code: report.ReasonMarks, Side: report.Target,
			Text: fmt.Sprintf("The target %s holds the marks of a clone by a newer version of Calco, which this one cannot read.", r.spec.Target),
			Hint: "Use that version. If the clone is given up, drop the schema _calco there first.",
		})
	case version < marksVersion:
		return nil, r.checkOlder(ctx)
	}
	found, err := session.Query[leftover](ctx, r.target.Control, leftoverSQL)
	if err != nil {
		return nil, fmt.Errorf("read the interrupted job: %w", err)
	}
	if len(found) != 1 {
		return nil, nil //nolint:nilnil // there is nothing
	}
	return &found[0], nil
}

// checkOlder: a clone that is to go on cannot do so from the marks of an older version. Any other clone drops them.
func (r *run) checkOlder(ctx context.Context) error {
	ours, err := session.QueryValue[bool](ctx, r.target.Control, `SELECT EXISTS (SELECT FROM _calco.job WHERE id = $1)`, r.spec.Job)
	if err != nil {
		return fmt.Errorf("read the interrupted job: %w", err)
	}
	if r.spec.Resume && (ours || r.spec.adopt) {
		return cannotGoOn("an earlier version of Calco has begun it, whose marks this one cannot read")
	}
	return nil
}

// endUnmarked ends what may be left of a run that had not yet come to write its marks: it still has the lock.
func (r *run) endUnmarked(ctx context.Context) error {
	if !r.spec.Resume || r.spec.adopt || r.spec.Term < 2 {
		return nil
	}
	for _, s := range []*session.Session{r.target.Control, r.source.Control} {
		if err := endOthers(ctx, s, r.spec); err != nil {
			return fmt.Errorf("end the interrupted run on the %s: %w", s.Side, err)
		}
	}
	return nil
}

// adopt becomes the interrupted job, if that was a clone like this one. One that still has its lock is not interrupted:
// checkBusy refuses it.
func (r *run) adopt(ctx context.Context, left *leftover) (ours bool, err error) {
	if u, err := readUse(ctx, r.target.Control); err != nil || u.Filled {
		return false, err
	}
	if left.System != r.source.SystemIdentifier || left.Database != r.source.DatabaseOID ||
		!slices.Equal(sorted(left.Schemas), sorted(r.spec.Schemas)) {
		return false, report.Refuse(report.Reason{
			Code: report.ReasonNotEmpty, Side: report.Target,
			Text: fmt.Sprintf("The target %s holds what an interrupted clone of another source, or of other schemas, has left.", r.spec.Target),
			Hint: "Give the source and the schemas of that clone, or clean the target first.",
		})
	}
	// Of a clone that was still cleaning, the rest is for a person to confirm again.
	if !left.Filling {
		return false, nil
	}
	r.spec.Job, r.spec.Term = left.ID, left.Term+1
	return true, errors.Join(r.source.Rename(ctx, r.spec.applicationName()), r.target.Rename(ctx, r.spec.applicationName()))
}

// endEarlier makes sure that nobody else writes for this job: it ends the backends of its earlier runs, and of earlier
// attempts of this one, and raises the term, after which those that still come write nothing. The sessions that hold the
// snapshot of this run stay.
func (r *run) endEarlier(ctx context.Context, left *leftover) error {
	if err := endBackends(ctx, r.target.Control, backendsOf(r.spec.Job)); err != nil {
		return fmt.Errorf("end the interrupted run: %w", err)
	}
	if !r.claimed {
		if err := r.announce(ctx); err != nil {
			return err
		}
		if err := r.raiseTerm(ctx, left); err != nil {
			return err
		}
	}
	if err := endOthers(ctx, r.source.Control, r.spec); err != nil {
		return fmt.Errorf("end the interrupted run on the source: %w", err)
	}
	return nil
}

// raiseTerm waits for writers of the old term that came since they were last looked for, and ends them again. With the new
// nonce nobody else has the same fence, whatever terms are given out elsewhere.
func (r *run) raiseTerm(ctx context.Context, left *leftover) error {
	for {
		raised, err := r.target.Control.SimpleValue(ctx, fmt.Sprintf(`BEGIN; SET LOCAL lock_timeout = '1s'; SET LOCAL synchronous_commit = on;
			WITH raised AS (UPDATE _calco.job SET term = %[1]d, nonce = %[4]s, status = NULL WHERE id = %[2]s AND nonce = %[3]s AND term < %[1]d RETURNING 1)
			SELECT count(*) FROM raised; COMMIT`, r.spec.Term, session.QuoteLiteral(left.ID), session.QuoteLiteral(left.Nonce), session.QuoteLiteral(r.nonce)))
		switch {
		case session.SQLState(err) == session.LockNotAvailable:
			if err := r.target.Control.Exec(ctx, "ROLLBACK"); err != nil {
				return fmt.Errorf("take over the target: %w", err)
			}
		case err != nil:
			return fmt.Errorf("take over the target: %w", err)
		case raised != "1":
			return session.ErrTermLost
		}
		if ended := endOthers(ctx, r.target.Control, r.spec); ended != nil {
			return fmt.Errorf("end the interrupted run: %w", ended)
		}
		if err == nil {
			return nil
		}
	}
}

// takeOver makes what the job has left this run's. Nobody else writes any more, and the marks say what is there.
func (r *run) takeOver(ctx context.Context) error {
	if err := r.holdTarget(ctx); err != nil {
		return err
	}
	if r.left.Filling {
		return r.checkSource()
	}
	err := r.target.Control.Write(ctx, fmt.Sprintf("UPDATE _calco.job SET system = %s, database = %d, timeline = %d, definitions = %s",
		session.QuoteLiteral(r.source.SystemIdentifier), r.source.DatabaseOID, r.source.Timeline, session.QuoteLiteral(r.plan.Definitions(r.dumper.Version))))
	if err != nil {
		return fmt.Errorf("write the job to the target: %w", err)
	}
	return nil
}

// checkSource: the source is the one that was read before, and has the same definitions.
func (r *run) checkSource() error {
	left := r.left
	before, sumBefore, _ := strings.Cut(left.Definitions, " ")
	now, sumNow, _ := strings.Cut(r.plan.Definitions(r.dumper.Version), " ")
	switch {
	case left.System != r.source.SystemIdentifier || left.Database != r.source.DatabaseOID:
		return cannotGoOn("the source is another server or database than the one that was copied")
	case left.Timeline != r.source.Timeline && left.Timeline != 0 && r.source.Timeline != 0:
		return cannotGoOn("the source has failed over to another server since (timeline %d, then %d), which may have taken back what was copied", left.Timeline, r.source.Timeline)
	case sumBefore == sumNow:
	case before != now: // even a minor one may write a definition in other words
		return cannotGoOn("it was begun with pg_dump %s, and this is pg_dump %s: either the schema of the source has changed since, or they write it differently", before, now)
	default:
		return cannotGoOn("the schema of the source has changed since")
	}
	return nil
}

// beginFilling notes that the target holds nothing that this job is to drop, and what is there that it does not own:
// objects outside the chosen schemas, event triggers, and what was set on members of extensions or on what PostgreSQL itself
// has, that were there before.
func (r *run) beginFilling(ctx context.Context) error {
	const first = 1
	statements := []string{r.epochSQL(first)}
	kept, err := r.keep(ctx)
	if err != nil {
		return err
	}
	if len(r.plan.Pulled)+len(r.plan.Last) > 0 || r.staying || slices.ContainsFunc(r.plan.Entries, r.plan.OnOthers) {
		there, err := r.dumper.Inventory(ctx, r.target, r.spec.Schemas)
		if err != nil {
			return err
		}
		for _, e := range r.plan.Entries {
			others := r.plan.Pulled[e.ID] || e.Desc == "EVENT TRIGGER" || r.plan.OnOthers(e)
			if others && there.Has(e) || r.staying && mayStay(e) && there.HasSame(e) {
				kept = append(kept, schema.PreexistingEntry{Kind: e.Desc, Namespace: e.Namespace, Name: e.Tag})
			}
		}
	}
	r.leaveKept(kept)
	for _, k := range kept {
		statements = append(statements, fmt.Sprintf("INSERT INTO _calco.kept VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
			session.QuoteLiteral(k.Kind), session.QuoteLiteral(k.Namespace), session.QuoteLiteral(k.Name)))
	}
	statements = append(statements, "INSERT INTO _calco.stage (name, epoch) VALUES ('filling', 1)")
	if err := r.target.Control.Write(ctx, session.Join(statements...)); err != nil {
		return fmt.Errorf("write the epoch to the target: %w", err)
	}
	r.epoch = first
	r.held.Store(&held{r.snap, r.epoch})
	return nil
}

func (r *run) epochSQL(number int) string {
	return fmt.Sprintf("INSERT INTO _calco.epoch (number, nonce, snapshot_at, oldest_xid) VALUES (%d, %s, %s, '%d')",
		number, session.QuoteLiteral(r.snap.Nonce), session.QuoteLiteral(r.snap.At.Format(time.RFC3339Nano)), r.snap.Xmin)
}

// goOn finds out what is on the target, and clears away what has to be done again: under the snapshot that it was copied
// under nothing, under a new one what the source does not prove to be unchanged.
func (r *run) goOn(ctx context.Context) error {
	if err := r.readThere(ctx); err != nil {
		return err
	}
	marks, err := readMarks(ctx, r.target.Control)
	if err != nil {
		return err
	}
	if err := r.checkTarget(marks); err != nil {
		return err
	}
	if err := r.dropEventTriggers(ctx); err != nil {
		return err
	}
	if err := r.findEpoch(ctx); err != nil {
		return err
	}
	f := r.judge(marks)
	if f.filled {
		err = r.keepEpoch(ctx)
	} else {
		err = r.prove(ctx, &f)
	}
	if err != nil {
		return err
	}
	return r.redo(ctx, f)
}

// findEpoch finds out whether the epoch of this run's snapshot was opened: the answer may have been lost.
func (r *run) findEpoch(ctx context.Context) (err error) {
	if r.snap == nil {
		return nil
	}
	r.epoch, err = session.QueryValue[int](ctx, r.target.Control, `SELECT coalesce(max(number), 0) FROM _calco.epoch WHERE nonce = $1`, r.snap.Nonce)
	if err != nil {
		return fmt.Errorf("read the epoch of the target: %w", err)
	}
	return nil
}

// readThere reads what the target holds, and what of it was there before this job.
func (r *run) readThere(ctx context.Context) (err error) {
	if r.there, err = r.dumper.Inventory(ctx, r.target, r.spec.Schemas); err != nil {
		return err
	}
	kept, err := session.Query[schema.PreexistingEntry](ctx, r.target.Control, `SELECT kind, namespace, name FROM _calco.kept`)
	if err != nil {
		return fmt.Errorf("read what was on the target before: %w", err)
	}
	r.leaveKept(kept)
	return nil
}

// mayStay tells whether an entry is of a kind that clean leaves where an extension needs it.
func mayStay(e *archive.Entry) bool {
	switch e.Desc {
	case "SCHEMA", "EXTENSION", "COMMENT", "ACL", "DEFAULT ACL", "SECURITY LABEL":
		return false
	}
	return true
}

// leave leaves an object as it is that was on the target before. Unless clean has left one for being what the source has,
// that is said.
func (r *run) leave(e *archive.Entry) {
	r.markKept(e)
	if !r.plan.Pulled[e.ID] && e.Desc != "EVENT TRIGGER" {
		return
	}
	if e.Desc != "SCHEMA" && e.Desc != "EXTENSION" && e.Desc != "COMMENT" && e.Desc != "ACL" {
		r.ledger.Warn(schema.Title(e) + " was on the target already and was left as it is.")
	}
}

// checkTarget wants the tables that have marks, and nothing that this job has not made.
func (r *run) checkTarget(marks []mark) error {
	planned := map[schema.EntryKey]bool{}
	tables := map[string]*archive.Entry{}
	for _, e := range r.plan.Entries {
		planned[schema.KeyOf(e)] = true
		if e.Desc == "TABLE" {
			tables[session.QuoteName(e.Namespace, e.Tag)] = e
		}
		// The index of a constraint is first made without it.
		if x := r.plan.Catalog.Indexes[schema.ObjectOf(e.CatalogOID, e.OID)]; x != nil && e.Desc == "CONSTRAINT" {
			planned[schema.EntryKey{Desc: "INDEX", Namespace: e.Namespace, Tag: x.Name}] = true
		}
	}
	for _, m := range marks {
		if e := tables[m.Relation]; e != nil && !r.there.Has(e) {
			return cannotGoOn("somebody has dropped the table %s on the target", m.Relation)
		}
	}
	for _, e := range r.there.Chosen {
		switch e.Desc {
		case "TABLE", "VIEW", "MATERIALIZED VIEW", "SEQUENCE", "INDEX", "TRIGGER":
			if !planned[schema.KeyOf(e)] {
				return cannotGoOn("somebody has made %s on the target", schema.Title(e))
			}
		}
	}
	return nil
}

// dropEventTriggers drops those that are there already: they would fire at what is still to be made.
func (r *run) dropEventTriggers(ctx context.Context) error {
	for _, e := range r.plan.Last {
		if e.Desc == "EVENT TRIGGER" && r.there.Has(e) && !r.ledger.Skips(e.ID) {
			if err := r.target.Control.Write(ctx, e.DropStmt); err != nil {
				return fmt.Errorf("drop %s: %w", schema.Title(e), err)
			}
			r.there.Forget(e)
		}
	}
	return nil
}

// keepEpoch goes on without a snapshot: all rows are there, as the last one had them.
func (r *run) keepEpoch(ctx context.Context) error {
	r.epoch = r.left.Filled
	found, err := session.QueryRow[struct {
		At    time.Time
		Large int64
	}](ctx, r.target.Control, `
		SELECT e.snapshot_at AS at, coalesce(s.large_objects, 0) AS large
		FROM _calco.epoch e JOIN _calco.stage s ON s.epoch = e.number AND s.name = 'filled'
		WHERE e.number = $1`, r.epoch)
	if err != nil {
		return fmt.Errorf("read the epoch of the target: %w", err)
	}
	r.filled, r.largeObjectCount = true, found.Large
	r.report.SnapshotAt = found.At.UTC().Truncate(time.Second)
	r.letGo()
	return nil
}

// noteFilled notes that all rows are there, and waits for the disk: with that all that was committed before is safe too,
// and the snapshot is needed no more.
func (r *run) noteFilled(ctx context.Context) error {
	err := r.target.Control.Write(ctx, fmt.Sprintf("SET LOCAL synchronous_commit = on; INSERT INTO _calco.stage (name, epoch, large_objects) VALUES ('filled', %d, %d) ON CONFLICT DO NOTHING",
		r.epoch, r.largeObjectCount))
	if err != nil {
		return fmt.Errorf("note that all rows are on the target: %w", err)
	}
	r.filled = true
	return nil
}

// readEpochs puts the epochs into the report if there was more than one.
func (r *run) readEpochs(ctx context.Context) error {
	epochs, err := session.Query[report.Epoch](ctx, r.target.Control, `
		SELECT number, snapshot_at, kept, redone, redone_tables,
		       (SELECT count(*) FROM _calco.mark WHERE born = number) + (SELECT count(*) FROM _calco.unlogged_mark WHERE born = number) AS copied
		FROM _calco.epoch
		ORDER BY number`)
	if err != nil {
		return fmt.Errorf("read the epochs of the target: %w", err)
	}
	if len(epochs) > 1 {
		r.report.Epochs = epochs
	}
	return nil
}
