package cloner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"calco/cloner/archive"
	"calco/cloner/internal/ledger"
	"calco/cloner/internal/marks"
	"calco/cloner/internal/patience"
	"calco/cloner/internal/progress"
	"calco/cloner/internal/safely"
	"calco/cloner/internal/schema"
	"calco/cloner/internal/session"
	"calco/cloner/internal/snapshot"
	"calco/cloner/report"
)

// Meter keeps the progress of one clone: Clone writes to it, and any number of readers sample it. The zero value is ready.
type Meter = progress.Meter

// Changes are the tables and events that are new since some moment: see Meter.Since.
type Changes = progress.Changes

// Options are what a caller wants to see of a clone. The zero value is ready.
type Options struct {
	// Meter is written to while the clone runs, for others to sample.
	Meter *progress.Meter

	// Past is the report of an earlier clone of the same pair, to reckon the time left with; nil where there is none.
	Past *report.Report

	// Begin, if set, is called before the clone writes to the target for the first time, and before it goes on with one
	// that turns out to be another. If it returns an error the clone ends without having written; a *RefusedError refuses
	// it. See Spec.Touched.
	Begin func(ctx context.Context, source, target report.Identity) error

	// Record, if set, is called once with the verdict of a clone that came to its end
	// (completed or differences), before the marks on the target are dropped: a crash in
	// between must not leave a full target that nobody knows to be true. If it returns an
	// error the marks stay.
	Record func(context.Context, report.Report) error

	// Patience is how long a clone waits, since it last got anything done, for trouble to pass that waiting may cure: a
	// server that restarts, a network that hangs. 0 means DefaultPatience.
	Patience time.Duration

	// notify, set by tests, is told of each phase as it begins, before anything is done in it.
	notify func(report.Phase)

	// silence, set by tests, is instead of preflightPatience.
	silence time.Duration
}

// DefaultPatience is long enough for a server to come back from a crash.
const DefaultPatience = 10 * time.Minute

// Clone copies spec.Source into spec.Target and compares them. It blocks until the
// outcome is known and leaves nothing running, here or on the servers. It ends early
// with ctx, whose cause tells whether that is a cancel. Trouble that waiting may cure, such
// as a server that restarts, it waits out, and goes on from what is on the target.
//
// Report.Status is always set. The error is nil for completed and differences; it is a
// *RefusedError for refused, in which case nothing was dropped or copied, and mostly an
// *Error for failed.
func Clone(ctx context.Context, spec Spec, o Options) (report.Report, error) {
	if o.Meter == nil {
		o.Meter = &progress.Meter{}
	}
	o.Meter.Notify = o.notify
	o.Meter.Start(o.Past)
	spec, err := spec.normalize()
	r := &run{spec: spec, options: o, meter: o.Meter, job: marks.Job{ID: spec.Job, Term: spec.Term, Nonce: NewJob()}, ledger: ledger.New(o.Meter), patience: patience.New(cmp.Or(o.Patience, DefaultPatience)), report: report.Report{Schemas: spec.Schemas, Differences: []report.Difference{}}}
	if err == nil {
		err = safely.Do(func() error { return r.do(ctx) })
	}
	return r.conclude(ctx, err)
}

// run is one clone under way. It may take several attempts.
type run struct {
	spec            Spec
	options         Options
	meter           *progress.Meter
	patience        *patience.Patience
	waiting         patience.Wait
	connectPatience time.Duration  // with the first connection to a side; 0 leaves it to the URL
	ledger          *ledger.Ledger // of the attempt

	// What holds over the attempts, as long as the snapshot does.
	snap    *snapshot.Snapshot // nil once all rows are there, or when it is lost
	plan    *schema.Plan
	dumper  schema.Dumper
	epoch   int // of the snapshot, on the target; 0 for none yet
	held    atomic.Pointer[held]
	filled  bool // all rows are there
	claimed bool // this run has its row on the target, or had
	job     marks.Job
	begunOn *report.Identity // the target that Options.Begin was told of
	dropped int              // how many times clean has dropped something
	staying bool             // clean has left something that an extension needs

	// What an attempt finds out and does.
	lanes             int             // that both servers have connections for
	source, target    *session.Server // whose control sessions hold the locks of the clone
	lock              *marks.Lock
	owner             *marks.Owner
	there             schema.Inventory // what was on the target when the attempt began
	tables            *tables
	letGo             func() // of the snapshot
	targetTablespaces map[string]bool
	accessMethods     map[string]bool
	sequenceState     []schema.Sequence
	viewRows          map[string]viewRows // of materialized views, in the snapshot
	filledViews       map[int64]bool      // materialized views of the source, by OID
	largeObjectCount  int64

	report          report.Report
	defaultGrants   []defaultGrant
	closedExtension closedExtension
	kept            schema.Preexisting // what was on the target before and stays
}

// conclude turns what happened into a report, and leaves both servers tidy.
func (r *run) conclude(ctx context.Context, err error) (report.Report, error) {
	defer r.closeSessions()
	if err == nil {
		err = safely.Do(func() error { return r.finish(ctx) })
	}
	r.meter.Stop(err == nil)
	if err == nil { // the report stays as it was recorded
		r.sweep(ctx)
		r.report.Warnings = r.ledger.Warnings()
		return r.report, nil
	}
	r.fillReport()
	var refused *report.RefusedError
	switch {
	case errors.As(err, &refused):
		r.report.Status, r.report.Reasons = report.StatusRefused, refused.Reasons
	case ctx.Err() != nil && (errors.Is(context.Cause(ctx), report.ErrCancelled) || errors.Is(context.Cause(ctx), context.Canceled)):
		r.report.Status = report.StatusCancelled
		err = context.Cause(ctx)
	case ctx.Err() != nil:
		r.report.Status = report.StatusFailed
		err = context.Cause(ctx)
	default:
		r.report.Status = report.StatusFailed
		r.report.Hint = session.HintFor(err)
	}
	if e, ok := errors.AsType[*report.Error](err); ok {
		r.report.Hint, r.report.Phase, r.report.Relation = e.Hint, e.Phase, e.Relation
	}
	if refused == nil {
		r.report.Error = err.Error()
		r.report.Resumable = r.begun() && !errors.Is(err, marks.ErrChanged) && !errors.Is(err, session.ErrTermLost)
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		r.report.SQLState = pg.Code
	}
	r.sweep(ctx)
	r.fillReport() // the time it took to end counts too
	return r.report, err
}

// fillReport puts what the attempt has done and found out into the report.
func (r *run) fillReport() {
	r.meter.Fill(&r.report)
	r.report.Ledger, r.report.Warnings = r.ledger.Entries(), r.ledger.Warnings()
}

// decide makes the verdict, and puts it beside the marks, with all that was committed before on the disk.
func (r *run) decide(ctx context.Context) error {
	r.fillReport()
	r.report.Decide()
	epochs, err := r.owner.Epochs(ctx)
	if err != nil {
		return err
	}
	r.report.Epochs = epochs
	if err := r.owner.RecordStatus(ctx, r.report.Status); err != nil {
		return fmt.Errorf("record the outcome on the target: %w", err)
	}
	return nil
}

// finish has the verdict recorded, and then drops the marks. If they cannot be dropped the copy is true nevertheless.
func (r *run) finish(ctx context.Context) error {
	if r.options.Record != nil {
		if err := r.options.Record(ctx, r.report); err != nil {
			return session.InPhase(report.PhaseVerify, fmt.Errorf("record the outcome: %w", err))
		}
	}
	err := r.owner.Drop(ctx)
	if errors.Is(err, session.ErrTermLost) || err != nil && ctx.Err() != nil {
		return session.InPhase(report.PhaseVerify, err)
	}
	if err != nil {
		r.ledger.Warn(fmt.Sprintf("Calco's marks are still on the target, in the schema _calco, which can be dropped: %v.", err))
	}
	return nil
}

// How long a clone that has ended waits for a server to let it in once more, and then for its backends there to be gone.
// A server that is away must not hold up a cancel; one that answers but is busy may take longer to end what it was told to.
const (
	sweepReach    = time.Second
	sweepPatience = 5 * time.Second
)

// sweep ends what may still run on either server, however the clone ended: closing a connection does not stop a backend
// that has more to do, and one of pg_dump may not have noticed yet that pg_dump is done. What could not be ended is in the
// report.
func (r *run) sweep(ctx context.Context) {
	r.closeSessions()
	ctx = context.WithoutCancel(ctx)
	var both sync.WaitGroup
	for _, side := range []*session.Server{r.source, r.target} {
		if side == nil {
			continue // never got in, so nothing runs there
		}
		both.Go(func() {
			if err := safely.Do(func() error { return r.sweepSide(ctx, side) }); err != nil {
				r.ledger.Warn(fmt.Sprintf("Something may still be running on the %s for a while: look for %s in pg_stat_activity (%v).",
					side.Side, side.Name, err))
			}
		})
	}
	both.Wait()
}

func (r *run) sweepSide(ctx context.Context, side *session.Server) error {
	s, err := sweeper(ctx, side.Way)
	if err != nil {
		return err
	}
	defer s.Close()
	ctx, cancel := context.WithTimeout(ctx, sweepPatience)
	defer cancel()
	err = marks.EndBackends(ctx, s, side.Name)
	if err == nil && side == r.target && r.claimed {
		r.countMarks(ctx, s)
	}
	return err
}

// countMarks makes the meter count what is on the target of a clone that ended early: a part may have been committed while the
// answer did not come any more. What cannot be read stays as the answers told it.
func (r *run) countMarks(ctx context.Context, s *session.Session) {
	if r.plan == nil {
		return
	}
	rows, err := marks.CompleteTables(ctx, s, r.job.Nonce)
	if err != nil {
		return
	}
	for relation, t := range r.plan.ByRelation() {
		if n, complete := rows[relation]; complete {
			r.meter.TableArrived(t.OID, n)
		}
	}
}

func sweeper(ctx context.Context, w session.Way) (*session.Session, error) {
	ctx, cancel := context.WithTimeout(ctx, sweepReach)
	defer cancel()
	u, hosts := w.Anew()
	return session.Dial(ctx, w.Side, u, hosts, "calco sweep")
}

func (r *run) closeSessions() {
	if r.snap != nil {
		r.snap.Release()
	}
	r.closeSides()
}

// closeSides ends the sessions of an attempt. Those that hold the snapshot stay.
func (r *run) closeSides() {
	var sessions []*session.Session
	for _, s := range []*session.Server{r.source, r.target} {
		if s != nil {
			sessions = append(sessions, s.Control)
			s.Control = nil
		}
	}
	session.CloseAll(sessions...)
}

// achieve counts things that were made and will stay.
func (r *run) achieve(n int) {
	r.patience.Achieve(n)
	r.meter.Achieve(n)
}

// markKept: the entry's object was there before, and stays as it is.
func (r *run) markKept(e *archive.Entry) {
	r.ledger.Skip(e.ID)
	if e.CatalogOID == schema.PgClass {
		r.ledger.Keep(int64(e.OID))
	}
	for _, t := range r.plan.Tables {
		if e.CatalogOID == schema.PgExtension && t.Extension == int64(e.OID) {
			r.ledger.Keep(t.OID)
		}
	}
}
