package cloner

import (
	"context"
	"errors"
	"fmt"

	"calco/cloner/internal/marks"
	"calco/cloner/internal/safely"
	"calco/cloner/internal/schema"
	"calco/cloner/internal/session"
	"calco/cloner/internal/snapshot"
	"calco/cloner/report"
)

// copyRows carries all parts of q to the target and opens the gate of each table in g
// when its rows are there or will not come. It returns when every part has been dealt
// with, or with an error that ends the clone.
func (r *run) copyRows(ctx context.Context, q *partQueue, g *graph) error {
	r.meter.Expect(report.PhaseCopy, len(q.waiting))
	first, err := r.openLane(ctx)
	if err != nil {
		return err
	}
	eg, ctx := safely.NewGroup(ctx)
	eg.Go(func() error { return r.runLane(ctx, first, q, g) })
	for range min(r.lanes, len(q.waiting)) - 1 {
		eg.Go(func() error {
			l, err := r.openLane(ctx)
			if session.SQLState(err) == session.TooManyConnections { // the others carry on
				r.ledger.Warn("A lane less: " + session.LossReason(err))
				return nil
			}
			if err != nil {
				return err
			}
			return r.runLane(ctx, l, q, g)
		})
	}
	stop := context.AfterFunc(ctx, q.wake)
	defer stop()
	if err := eg.Wait(); err != nil {
		return err
	}
	for _, f := range q.putOff {
		r.giveUp(f.part, f.err, g)
	}
	return nil
}

// queueParts lists what there is to carry, largest first.
func (r *run) queueParts(ctx context.Context, g *graph) (*partQueue, error) {
	q := newPartQueue()
	if r.spec.whole() {
		parts, err := r.snapshotLargeObjects(ctx)
		if err != nil {
			return nil, err
		}
		for _, p := range parts {
			if !r.tables.blobParts[p.number] {
				q.addLarge(p)
			}
		}
		for _, p := range parts {
			if !r.tables.blobParts[p.number] || q.pieces[p.large.First] > 0 {
				continue
			}
			// They may have arrived without what is not in their rows.
			if err := r.largeObjectProperties(ctx, &lane{source: r.source.Control, target: r.owner.Control}, p); err != nil {
				return nil, err
			}
		}
	}
	made := map[schema.Object]bool{}
	for _, e := range r.plan.Pre {
		made[schema.ObjectOf(e.CatalogOID, e.OID)] = !r.ledger.Skips(e.ID)
	}
	for _, t := range r.tables.list {
		maker := schema.ObjectOf(schema.PgClass, uint32(t.OID))
		if t.Extension != 0 {
			maker = schema.ObjectOf(schema.PgExtension, uint32(t.Extension))
		}
		if r.ledger.Keeps(t.OID) {
			t.aborted = true
			g.open(t.OID)
			continue
		}
		if !made[maker] {
			r.meter.TableFailed(t.OID)
			t.aborted = true
			g.open(t.OID) // it is in the ledger already, or not ours to fill
			continue
		}
		for n := range t.split.Parts {
			p := r.tablePart(t, n)
			if m, here := t.here[n]; here {
				r.meter.PartKept(p.flight, m.Rows, m.Bytes)
			} else {
				q.waiting = append(q.waiting, p)
			}
		}
		if t.pending == 0 {
			r.meter.TableCopied(t.OID)
		}
	}
	return q, nil
}

// readSnapshot begins a transaction of r.source.control in the snapshot, whatever was left of another one.
func (r *run) readSnapshot(ctx context.Context) error {
	err := r.snap.Importing(ctx, func(name string) error {
		return errors.Join(r.source.Control.Exec(ctx, "ROLLBACK"), r.source.Control.Exec(ctx, snapshot.BeginAt(name)))
	})
	if err != nil {
		return fmt.Errorf("import snapshot: %w", err)
	}
	return nil
}

func (r *run) snapshotLargeObjects(ctx context.Context) ([]*part, error) {
	if r.filled {
		return nil, nil
	}
	if err := r.readSnapshot(ctx); err != nil {
		return nil, err
	}
	parts, err := r.largeObjectParts(ctx, r.source.Control)
	if err != nil {
		return nil, err
	}
	if r.largeObjectCount, err = session.QueryValue[int64](ctx, r.source.Control, `SELECT count(*) FROM pg_largeobject_metadata`); err != nil {
		return nil, fmt.Errorf("count large objects: %w", err)
	}
	for _, p := range parts {
		r.meter.AddWork(p.flight.Work)
	}
	return parts, r.source.Control.Exec(ctx, "COMMIT")
}

// openLane connects both ends of a lane.
func (r *run) openLane(ctx context.Context) (*lane, error) {
	source, err := r.openLaneSource(ctx)
	if err != nil {
		return nil, err
	}
	target, err := r.openLaneTarget(ctx)
	if err != nil {
		source.Close()
		return nil, err
	}
	return &lane{source: source, target: target}, nil
}

func (r *run) openLaneTarget(ctx context.Context) (*marks.Writer, error) {
	s, err := r.owner.Writer(ctx)
	if err != nil {
		return nil, err
	}
	// CHECK constraints, defaults and generated columns call functions that may name
	// objects without their schema.
	if err := s.Exec(ctx, fmt.Sprintf("SET client_encoding = %s; SET search_path = %s", session.QuoteLiteral(r.copyEncoding()), r.source.SearchPath)); err != nil {
		s.Close()
		return nil, fmt.Errorf("set up a lane: %w", err)
	}
	return s, nil
}

func (r *run) openLaneSource(ctx context.Context) (*session.Session, error) {
	s, err := r.source.Open(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.Exec(ctx, "SET client_encoding = "+session.QuoteLiteral(r.copyEncoding())); err != nil {
		s.Close()
		return nil, fmt.Errorf("set up a lane: %w", err)
	}
	return s, nil
}

// copyEncoding is the client encoding of both ends of a lane. Where the databases do not know what their bytes mean, bytes
// are just bytes. With SQL_ASCII a target that does know would store invalid ones without a word; see checkEncodings.
func (r *run) copyEncoding() string {
	if r.source.Encoding == "SQL_ASCII" {
		return "SQL_ASCII"
	}
	return "UTF8"
}

// runLane carries parts until none is left, and closes its connections.
func (r *run) runLane(ctx context.Context, l *lane, q *partQueue, g *graph) error {
	defer r.meter.Enter(report.PhaseCopy)()
	defer func() { session.CloseAll(l.source, l.target.Session) }()
	for {
		p := q.next(ctx)
		if p == nil {
			return context.Cause(ctx)
		}
		if r.tables.isAborted(p.table) {
			r.settlePart(p, 0, true, g)
			q.dropped(p)
			continue
		}
		if err := r.carry(ctx, l, p, q, g); err != nil {
			return err
		}
	}
}

// carry takes one part to the target, or back into the queue, or into the ledger.
func (r *run) carry(ctx context.Context, l *lane, p *part, q *partQueue, g *graph) error {
	r.meter.PartStarted(p.flight)
	var rows int64
	err := r.snap.Importing(ctx, func(snapshot string) (err error) {
		rows, err = l.carry(ctx, p, snapshot, func(rows int64, checksum string) string {
			return marks.InsertSQL(p.mark(r.epoch, rows, checksum), p.unlogged())
		})
		return err
	})
	if err == nil {
		return r.arrive(ctx, l, p, rows, q, g)
	}
	var lost *session.LostError
	if errors.As(err, &lost) && ctx.Err() == nil {
		return r.recover(ctx, l, p, err, q, g)
	}
	r.meter.PartAborted(p.flight)
	if session.Classify(err).Ends() && !errors.Is(err, errRewritten) {
		if ctx.Err() == nil {
			r.meter.TableFailed(p.flight.Table)
		}
		return &report.Error{Phase: report.PhaseCopy, Relation: p.name(), Hint: session.HintFor(err), Err: err}
	}
	var f *failure
	if errors.As(err, &f) && f.side == report.Target {
		// The source was told to cancel; the request may still be on its way.
		l.source.Close()
		if l.source, err = r.openLaneSource(ctx); err != nil {
			return err
		}
		err = f
	}
	p.flight = p.flight.Again()
	if errors.Is(err, errNoChecksum) {
		p.sum = ""
		q.again(p)
		return nil
	}
	if t := p.table; t != nil && session.SQLState(err) == session.CheckViolation && t.RootOID != t.OID && !p.through && !r.plan.Catalog.Foreign[t.RootOID] {
		// The target sorts these rows into another partition: another collation, say. Not where that may be a foreign
		// table, which leads to somebody's server.
		q.again(r.throughRoot(t, p.number))
		return nil
	}
	if session.Classify(err).MayPass() {
		q.later(p, err)
		return nil
	}
	r.giveUp(p, err, g)
	q.dropped(p)
	return nil
}

// arrive counts a part that is on the target. Large objects get what is not in their rows first, with their last part: two
// lanes cannot do that at a time, and a new owner need not let this role write to them.
func (r *run) arrive(ctx context.Context, l *lane, p *part, rows int64, q *partQueue, g *graph) error {
	if p.table == nil && q.lastPiece(p) {
		if err := r.largeObjectProperties(ctx, l, p); err != nil {
			return err
		}
	}
	r.patience.Achieve(1)
	r.meter.PartDone(p.flight, r.settlePart(p, rows, false, g))
	q.arrived(p)
	return nil
}

// laneTries is how often in a row a lane replaces a connection for one part before the whole clone waits.
const laneTries = 3

// recover replaces the connections that a lane has lost, and has the part carried again unless it is on the target: the
// answer to its COMMIT may be all that was lost. It does not wait; if a connection cannot be had now, the clone does.
func (r *run) recover(ctx context.Context, l *lane, p *part, lost error, q *partQueue, g *graph) error {
	p.tries++
	if p.tries > laneTries {
		r.meter.PartAborted(p.flight)
		return session.InPhase(report.PhaseCopy, lost)
	}
	r.meter.Retried(report.PhaseCopy, p.name(), session.TroubleText(lost))
	if err := r.replaceSource(ctx, l); err != nil {
		r.meter.PartAborted(p.flight)
		return err
	}
	rows, here, err := r.replaceTarget(ctx, l, p)
	if err != nil {
		r.meter.PartAborted(p.flight)
		return err
	}
	if here {
		return r.arrive(ctx, l, p, rows, q, g)
	}
	r.meter.PartAborted(p.flight)
	p.flight = p.flight.Again()
	q.again(p)
	return nil
}

// replaceSource opens the source's end of a lane anew, if somebody still holds the snapshot.
func (r *run) replaceSource(ctx context.Context, l *lane) error {
	l.source.Close()
	if err := r.snap.Refresh(ctx); err != nil {
		return err
	}
	s, err := r.openLaneSource(ctx)
	if err != nil {
		return err
	}
	l.source = s
	return nil
}

// replaceTarget opens the target's end of a lane anew and waits until its old backend is gone, whose transaction could
// still commit. Then the mark tells whether it has. Parts that arrived before may be lost too, if the server crashed: but
// then so is the session that the whole attempt depends on, and the next one reads all marks again.
func (r *run) replaceTarget(ctx context.Context, l *lane, p *part) (rows int64, here bool, err error) {
	pid := l.target.PID
	l.target.Close()
	s, err := r.openLaneTarget(ctx)
	if err != nil {
		return 0, false, err
	}
	l.target = s
	if err := marks.EndBackend(ctx, s.Session, pid); err != nil {
		return 0, false, fmt.Errorf("end the backend that was lost: %w", err)
	}
	return marks.RowsOf(ctx, s.Session, p.relation, p.number, r.epoch)
}

// giveUp enters a part that cannot be copied into the ledger.
func (r *run) giveUp(p *part, err error, g *graph) {
	switch {
	case p.table == nil:
		r.ledger.Record(report.PhaseCopy, "LARGE OBJECTS", err)
	case !r.tables.isAborted(p.table):
		if session.SQLState(err) == session.CheckViolation && r.plan.Catalog.Foreign[p.table.RootOID] {
			err = fmt.Errorf("%w: %w", errForeignPartition, err)
		}
		r.ledger.Record(report.PhaseCopy, "ROWS OF "+p.table.String(), err)
		r.meter.TableFailed(p.table.OID)
	}
	r.settlePart(p, 0, true, g)
}

// errForeignPartition is why rows that the target would sort into another partition are not sent to the root of their tree.
var errForeignPartition = report.WithHint(errors.New("a partition of this tree is a foreign table, which leads to another server"),
	"The target sorts these rows into other partitions, and one of the tree is a foreign table, into which Calco writes nothing. Copy this table yourself, or detach the foreign partition on the source.")

// settlePart counts a part that has arrived, or will not come any more. The last one of a table opens its gate.
func (r *run) settlePart(p *part, rows int64, aborted bool, g *graph) (last bool) {
	if last = r.tables.finish(p, rows, aborted); last {
		g.open(p.table.OID)
	}
	return last
}

// throughRoot is a part of a table whose rows are sorted by the target from now on.
func (r *run) throughRoot(t *tableState, number int) *part {
	r.tables.mu.Lock()
	defer r.tables.mu.Unlock()
	t.throughRoot = true
	return r.tablePart(t, number)
}

func (p *part) name() string {
	if p.table == nil {
		return "large objects"
	}
	return p.table.String()
}
