package marks

import (
	"context"
	"errors"
	"fmt"
	"time"

	"calco/cloner/internal/schema"
	"calco/cloner/internal/session"
	"calco/cloner/report"
)

// Owner is who may write to a target. It lives as long as the locks.
type Owner struct {
	Job     Job
	Control *Writer // on the session that holds the lock of the target
	Resumed bool    // it goes on from what an earlier run has left

	lock  *Lock
	fence string
}

// FenceStatements is how many statements a fence has.
const FenceStatements = 2

// owner is the owner of a target that has the job's row.
func (l *Lock) owner() *Owner {
	o := &Owner{
		Job: l.Job, Resumed: l.Previous != nil, lock: l,
		// It divides by zero when the job has another owner by now. A transaction takes its snapshot after it may write.
		fence: fmt.Sprintf(`SET TRANSACTION READ WRITE; SELECT 1 / (SELECT count(*)::int FROM (SELECT FROM _calco.job WHERE id = %s AND term = %d AND nonce = %s FOR SHARE) own)`,
			session.QuoteLiteral(l.Job.ID), l.Job.Term, session.QuoteLiteral(l.Job.Nonce)),
	}
	o.Control = &Writer{l.target.Control, o.fence}
	return o
}

// Writer is a session on the target that writes in the name of an owner. Sessions of a target are read-only: what is sent to
// one without the fence PostgreSQL refuses to write.
type Writer struct {
	*session.Session
	fence string
}

// Writer opens another session that writes.
func (o *Owner) Writer(ctx context.Context) (*Writer, error) {
	s, err := o.lock.target.Open(ctx)
	if err != nil {
		return nil, err
	}
	return &Writer{s, o.fence}, nil
}

// Fence goes before each query, in its transaction and before anything else but BEGIN. It has FenceStatements statements;
// session.FenceError tells what their errors mean.
func (w *Writer) Fence() string { return w.fence }

// Write runs one query of the owner.
func (w *Writer) Write(ctx context.Context, sql string) error {
	errs, err := w.Pipeline(ctx, []string{sql})
	return errors.Join(err, errs[0])
}

// Pipeline is session.Session.Pipeline, each query behind the fence.
func (w *Writer) Pipeline(ctx context.Context, queries []string) (errs []error, err error) {
	return w.Session.Pipeline(ctx, session.Fence{SQL: w.fence, Statements: FenceStatements}, queries)
}

// Epoch is the life of one snapshot, as the target knows it.
type Epoch struct {
	Number     int    // from 1
	Nonce      string // chosen before it is written
	SnapshotAt time.Time
	Xmin       int64 // the oldest transaction that was running at the snapshot
}

func (e Epoch) sql() string {
	return fmt.Sprintf("INSERT INTO _calco.epoch (number, nonce, snapshot_at, oldest_xid) VALUES (%d, %s, %s, '%d')",
		e.Number, session.QuoteLiteral(e.Nonce), session.QuoteLiteral(e.SnapshotAt.Format(time.RFC3339Nano)), e.Xmin)
}

// StartCopy notes that the target holds nothing that this job is to drop, and what is there that it does not own, and opens
// the first epoch.
func (o *Owner) StartCopy(ctx context.Context, e Epoch, preexisting []schema.PreexistingEntry) error {
	statements := []string{e.sql()}
	for _, p := range preexisting {
		statements = append(statements, fmt.Sprintf("INSERT INTO _calco.kept VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
			session.QuoteLiteral(p.Kind), session.QuoteLiteral(p.Namespace), session.QuoteLiteral(p.Name)))
	}
	statements = append(statements, fmt.Sprintf("INSERT INTO _calco.stage (name, epoch) VALUES ('filling', %d)", e.Number))
	if err := o.Control.Write(ctx, session.Join(statements...)); err != nil {
		return fmt.Errorf("write the epoch to the target: %w", err)
	}
	return nil
}

// OpenEpoch opens another one, if it is new, with what is true in it: the marks of valid parts stand for its snapshot from now
// on, and those that are stale will be copied again.
func (o *Owner) OpenEpoch(ctx context.Context, e Epoch, valid, stale []Mark, unlogged func(relation string) bool) error {
	statements := []string{
		e.sql() + " ON CONFLICT DO NOTHING",
		fmt.Sprintf("UPDATE _calco.epoch SET kept = kept + %d, redone = greatest(redone, %d), redone_tables = %s WHERE number = %d",
			len(valid), len(stale), quoteArray(report.AtMost(relationsOf(stale))), e.Number),
	}
	parts := PartsOf(valid)
	for _, relation := range relationsOf(valid) {
		statements = append(statements, fmt.Sprintf("UPDATE _calco.%s SET epoch = %d WHERE relation = %s AND part IN (%s)",
			table(unlogged(relation)), e.Number, session.QuoteLiteral(relation), parts[relation]))
	}
	if err := o.Control.Write(ctx, session.Join(statements...)); err != nil {
		return fmt.Errorf("write the epoch to the target: %w", err)
	}
	return nil
}

// RecordCopied notes that all rows are there, and waits for the disk: with that all that was committed before is safe too,
// and the snapshot is needed no more.
func (o *Owner) RecordCopied(ctx context.Context, epoch int, largeObjects int64) error {
	err := o.Control.Write(ctx, fmt.Sprintf("SET LOCAL synchronous_commit = on; INSERT INTO _calco.stage (name, epoch, large_objects) VALUES ('filled', %d, %d) ON CONFLICT DO NOTHING",
		epoch, largeObjects))
	if err != nil {
		return fmt.Errorf("note that all rows are on the target: %w", err)
	}
	return nil
}

// RecordDurable notes, on a session of the target that nobody else uses, that a crash of the source takes back nothing that the
// snapshot of an epoch saw.
func (o *Owner) RecordDurable(ctx context.Context, s *session.Session, epoch int) error {
	w := &Writer{s, o.fence}
	return w.Write(ctx, fmt.Sprintf("UPDATE _calco.epoch SET durable = true WHERE number = %d", epoch))
}

// relationsOf are the relations of marks, each once, in their order.
func relationsOf(marks []Mark) []string {
	var names []string
	seen := map[string]bool{}
	for _, m := range marks {
		if !seen[m.Relation] {
			names = append(names, m.Relation)
		}
		seen[m.Relation] = true
	}
	return names
}

// Preexisting reads what StartCopy has noted.
func (o *Owner) Preexisting(ctx context.Context) ([]schema.PreexistingEntry, error) {
	found, err := session.Query[schema.PreexistingEntry](ctx, o.Control.Session, `SELECT kind, namespace, name FROM _calco.kept`)
	if err != nil {
		return nil, fmt.Errorf("read what was on the target before: %w", err)
	}
	return found, nil
}

// Epochs reads the epochs of the job, if there was more than one.
func (o *Owner) Epochs(ctx context.Context) ([]report.Epoch, error) {
	epochs, err := session.Query[report.Epoch](ctx, o.Control.Session, `
		SELECT number, snapshot_at, kept, redone, redone_tables,
		       (SELECT count(*) FROM _calco.mark WHERE born = number) + (SELECT count(*) FROM _calco.unlogged_mark WHERE born = number) AS copied
		FROM _calco.epoch
		ORDER BY number`)
	if err != nil {
		return nil, fmt.Errorf("read the epochs of the target: %w", err)
	}
	if len(epochs) < 2 {
		return nil, nil
	}
	return epochs, nil
}

// RecordStatus writes the outcome beside the marks, and waits for the disk: with it all that was committed before is safe too.
func (o *Owner) RecordStatus(ctx context.Context, status report.Status) error {
	return o.Control.Write(ctx, fmt.Sprintf("SET LOCAL synchronous_commit = on; UPDATE _calco.job SET status = %s WHERE id = %s",
		session.QuoteLiteral(string(status)), session.QuoteLiteral(o.Job.ID)))
}

// Drop drops the job's schema once its outcome is known, but no other job's. A connection that is lost meanwhile is replaced
// once.
func (o *Owner) Drop(ctx context.Context) error {
	err := drop(ctx, o.Control)
	if !session.CuredByWaiting(err) {
		return err
	}
	w, err := o.Writer(ctx)
	if err != nil {
		return err
	}
	defer w.Close()
	if err := drop(ctx, w); !errors.Is(err, session.ErrTermLost) {
		return err
	}
	return nil // it was dropped, and the answer was lost
}

func drop(ctx context.Context, w *Writer) error {
	if err := w.Write(ctx, "SET LOCAL synchronous_commit = on; "+dropSQL); err != nil {
		return fmt.Errorf("drop the job's schema on the target: %w", err)
	}
	return nil
}

// Abandon leaves nothing of this job on a target that it has not changed otherwise.
func (o *Owner) Abandon(ctx context.Context) error { return o.lock.Abandon(ctx) }
