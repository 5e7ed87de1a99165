package data

import (
	"context"
	"errors"
	"fmt"

	"calco/cloner/internal/marks"
	"calco/cloner/internal/safely"
	"calco/cloner/internal/schema"
	"calco/cloner/internal/session"
	"calco/cloner/report"
)

// Copy copies all parts of q to the target. Ready is told of each table when its rows are there or will not come. It returns when
// every part has been dealt with, or with an error that ends the attempt.
func (c *Copier) Copy(ctx context.Context, q *Queue, ready func(table int64)) error {
	c.Meter.Expect(report.PhaseCopy, len(q.waiting))
	first, err := c.openLane(ctx)
	if err != nil {
		return err
	}
	eg, ctx := safely.NewGroup(ctx)
	eg.Go(func() error { return c.runLane(ctx, first, q, ready) })
	for range min(c.Lanes, len(q.waiting)) - 1 {
		eg.Go(func() error {
			l, err := c.openLane(ctx)
			if session.SQLState(err) == session.TooManyConnections { // the others carry on
				c.Ledger.Warn(report.Said("A lane less: " + session.LossReason(err)))
				return nil
			}
			if err != nil {
				return err
			}
			return c.runLane(ctx, l, q, ready)
		})
	}
	stop := context.AfterFunc(ctx, q.wake)
	defer stop()
	if err := eg.Wait(); err != nil {
		return err
	}
	for _, f := range q.putOff {
		c.giveUp(f.part, f.err, ready)
	}
	return nil
}

// Queue lists what there is to copy, largest first. Ready is told of the tables of which nothing is to come.
func (c *Copier) Queue(ctx context.Context, ready func(table int64)) (*Queue, error) {
	q := newQueue()
	if c.Whole && c.Snapshot != nil {
		parts, err := c.snapshotLargeObjects(ctx, q)
		if err != nil {
			return nil, err
		}
		for _, p := range parts {
			if !c.Tables.blobParts[p.number] {
				q.addLarge(p)
			}
		}
		for _, p := range parts {
			if !c.Tables.blobParts[p.number] || q.pieces[p.large.First] > 0 {
				continue
			}
			// They may have arrived without what is not in their rows.
			if err := c.largeObjectProperties(ctx, &lane{source: c.Source.Control, target: c.Owner.Control}, p); err != nil {
				return nil, err
			}
		}
	}
	made := map[schema.Object]bool{}
	for _, e := range c.Plan.Pre {
		made[schema.ObjectOf(e.CatalogOID, e.OID)] = !c.Ledger.Skips(e.ID)
	}
	for _, t := range c.Tables.list {
		maker := schema.ObjectOf(schema.PgClass, uint32(t.OID))
		if t.Extension != 0 {
			maker = schema.ObjectOf(schema.PgExtension, uint32(t.Extension))
		}
		if c.Ledger.Keeps(t.OID) {
			t.aborted = true
			ready(t.OID)
			continue
		}
		if !made[maker] {
			c.Meter.TableFailed(t.OID)
			t.aborted = true
			ready(t.OID) // it is in the ledger already, or not ours to fill
			continue
		}
		for n := range t.split.Parts {
			p := c.tablePart(t, n)
			if m, here := t.here[n]; here {
				c.Meter.PartKept(p.progress, m.Rows, m.Bytes)
			} else {
				q.waiting = append(q.waiting, p)
			}
		}
		if t.pending == 0 {
			c.Meter.TableCopied(t.OID)
		}
	}
	return q, nil
}

func (c *Copier) snapshotLargeObjects(ctx context.Context, q *Queue) ([]*part, error) {
	if err := c.Snapshot.Begin(ctx, c.Source.Control); err != nil {
		return nil, err
	}
	parts, err := c.largeObjectParts(ctx, c.Source.Control)
	if err != nil {
		return nil, err
	}
	if q.LargeObjects, err = session.QueryValue[int64](ctx, c.Source.Control, `SELECT count(*) FROM pg_largeobject_metadata`); err != nil {
		return nil, fmt.Errorf("count large objects: %w", err)
	}
	for _, p := range parts {
		c.Meter.AddWork(p.progress.Work)
	}
	return parts, c.Source.Control.Exec(ctx, "COMMIT")
}

// openLane connects both ends of a lane.
func (c *Copier) openLane(ctx context.Context) (*lane, error) {
	source, err := openSource(ctx, c.Source)
	if err != nil {
		return nil, err
	}
	target, err := c.openLaneTarget(ctx)
	if err != nil {
		source.Close()
		return nil, err
	}
	return &lane{source: source, target: target}, nil
}

func (c *Copier) openLaneTarget(ctx context.Context) (*marks.Writer, error) {
	s, err := c.Owner.Writer(ctx)
	if err != nil {
		return nil, err
	}
	// CHECK constraints, defaults and generated columns call functions that may name
	// objects without their schema.
	if err := s.Exec(ctx, fmt.Sprintf("SET client_encoding = %s; SET search_path = %s", session.QuoteLiteral(copyEncoding(c.Source)), c.Source.SearchPath)); err != nil {
		s.Close()
		return nil, fmt.Errorf("set up a lane: %w", err)
	}
	return s, nil
}

func openSource(ctx context.Context, source *session.Server) (*session.Session, error) {
	s, err := source.Open(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.Exec(ctx, "SET client_encoding = "+session.QuoteLiteral(copyEncoding(source))); err != nil {
		s.Close()
		return nil, fmt.Errorf("set up a lane: %w", err)
	}
	return s, nil
}

// copyEncoding is the client encoding of both ends of a lane. Where the databases do not know what their bytes mean, bytes
// are just bytes. With SQL_ASCII a target that does know would store invalid ones without a word; see checkEncodings.
func copyEncoding(source *session.Server) string {
	if source.Encoding == "SQL_ASCII" {
		return "SQL_ASCII"
	}
	return "UTF8"
}

// runLane carries parts until none is left, and closes its connections.
func (c *Copier) runLane(ctx context.Context, l *lane, q *Queue, ready func(table int64)) error {
	defer c.Meter.Enter(report.PhaseCopy)()
	defer func() { session.CloseAll(l.source, l.target.Session) }()
	for {
		p := q.next(ctx)
		if p == nil {
			return context.Cause(ctx)
		}
		if c.Tables.isAborted(p.table) {
			c.settlePart(p, 0, true, ready)
			q.dropped(p)
			continue
		}
		if err := c.copyPart(ctx, l, p, q, ready); err != nil {
			return err
		}
	}
}

// copyPart takes one part to the target, or back into the queue, or into the ledger.
func (c *Copier) copyPart(ctx context.Context, l *lane, p *part, q *Queue, ready func(table int64)) error {
	c.Meter.PartStarted(p.progress)
	var rows int64
	err := c.Snapshot.Importing(ctx, func(snapshot string) (err error) {
		rows, err = l.copy(ctx, p, snapshot, func(rows int64, checksum string) string {
			return marks.InsertSQL(p.mark(c.Epoch, rows, checksum), p.unlogged())
		})
		return err
	})
	if err == nil {
		return c.arrive(ctx, l, p, rows, q, ready)
	}
	var lost *session.LostError
	if errors.As(err, &lost) && ctx.Err() == nil {
		return c.recover(ctx, l, p, err, q, ready)
	}
	c.Meter.PartAborted(p.progress)
	if session.Classify(err).Ends() && !errors.Is(err, errRewritten) {
		if ctx.Err() == nil {
			c.Meter.TableFailed(p.progress.Table)
		}
		return &report.Error{Phase: report.PhaseCopy, Relation: p.name(), Hint: session.HintFor(err), Err: err}
	}
	var f *failure
	if errors.As(err, &f) && f.side == report.Target {
		// The source was told to cancel; the request may still be on its way.
		l.source.Close()
		if l.source, err = openSource(ctx, c.Source); err != nil {
			return err
		}
		err = f
	}
	p.progress = p.progress.Again()
	if errors.Is(err, errNoChecksum) {
		p.checksum = ""
		q.again(p)
		return nil
	}
	if t := p.table; t != nil && session.SQLState(err) == session.CheckViolation && t.RootOID != t.OID && !p.through && !c.Plan.Catalog.Foreign[t.RootOID] {
		// The target sorts these rows into another partition: another collation, say. Not where that may be a foreign
		// table, which leads to somebody's server.
		q.again(c.throughRoot(t, p.number))
		return nil
	}
	if session.Classify(err).MayPass() {
		q.later(p, err)
		return nil
	}
	c.giveUp(p, err, ready)
	q.dropped(p)
	return nil
}

// arrive counts a part that is on the target. Large objects get what is not in their rows first, with their last part: two
// lanes cannot do that at a time, and a new owner need not let this role write to them.
func (c *Copier) arrive(ctx context.Context, l *lane, p *part, rows int64, q *Queue, ready func(table int64)) error {
	if p.table == nil && q.lastPiece(p) {
		if err := c.largeObjectProperties(ctx, l, p); err != nil {
			return err
		}
	}
	c.Achieve(1)
	c.Meter.PartDone(p.progress, c.settlePart(p, rows, false, ready))
	q.arrived(p)
	return nil
}

// laneTries is how often in a row a lane replaces a connection for one part before the whole clone waits.
const laneTries = 3

// recover replaces the connections that a lane has lost, and has the part carried again unless it is on the target: the
// answer to its COMMIT may be all that was lost. It does not wait; if a connection cannot be had now, the clone does.
func (c *Copier) recover(ctx context.Context, l *lane, p *part, lost error, q *Queue, ready func(table int64)) error {
	p.tries++
	if p.tries > laneTries {
		c.Meter.PartAborted(p.progress)
		return session.InPhase(report.PhaseCopy, lost)
	}
	c.Meter.Retried(report.PhaseCopy, p.name(), session.WaitText(lost))
	if err := c.replaceSource(ctx, l); err != nil {
		c.Meter.PartAborted(p.progress)
		return err
	}
	rows, here, err := c.replaceTarget(ctx, l, p)
	if err != nil {
		c.Meter.PartAborted(p.progress)
		return err
	}
	if here {
		return c.arrive(ctx, l, p, rows, q, ready)
	}
	c.Meter.PartAborted(p.progress)
	p.progress = p.progress.Again()
	q.again(p)
	return nil
}

// replaceSource opens the source's end of a lane anew, if somebody still holds the snapshot.
func (c *Copier) replaceSource(ctx context.Context, l *lane) error {
	l.source.Close()
	if err := c.Snapshot.Refresh(ctx); err != nil {
		return err
	}
	s, err := openSource(ctx, c.Source)
	if err != nil {
		return err
	}
	l.source = s
	return nil
}

// replaceTarget opens the target's end of a lane anew and waits until its old backend is gone, whose transaction could
// still commit. Then the mark tells whether it has. Parts that arrived before may be lost too, if the server crashed: but
// then so is the session that the whole attempt depends on, and the next one reads all marks again.
func (c *Copier) replaceTarget(ctx context.Context, l *lane, p *part) (rows int64, here bool, err error) {
	pid := l.target.PID
	l.target.Close()
	s, err := c.openLaneTarget(ctx)
	if err != nil {
		return 0, false, err
	}
	l.target = s
	if err := marks.EndBackend(ctx, s.Session, pid); err != nil {
		return 0, false, fmt.Errorf("end the backend that was lost: %w", err)
	}
	return marks.RowsOf(ctx, s.Session, p.relation, p.number, c.Epoch)
}

// giveUp enters a part that cannot be copied into the ledger.
func (c *Copier) giveUp(p *part, err error, ready func(table int64)) {
	switch {
	case p.table == nil:
		c.Ledger.Record(report.PhaseCopy, "LARGE OBJECTS", err)
	case !c.Tables.isAborted(p.table):
		if session.SQLState(err) == session.CheckViolation && c.Plan.Catalog.Foreign[p.table.RootOID] {
			err = fmt.Errorf("%w: %w", errForeignPartition, err)
		}
		c.Ledger.Record(report.PhaseCopy, "ROWS OF "+p.table.String(), err)
		c.Meter.TableFailed(p.table.OID)
	}
	c.settlePart(p, 0, true, ready)
}

// errForeignPartition is why rows that the target would sort into another partition are not sent to the root of their tree.
var errForeignPartition = report.WithHint(errors.New("a partition of this tree is a foreign table, which leads to another server"),
	report.Said("The target sorts these rows into other partitions, and one of the tree is a foreign table, into which Calco writes nothing. Copy this table yourself, or detach the foreign partition on the source."))

// settlePart counts a part that has arrived, or will not come any more. The last one of a table opens its gate.
func (c *Copier) settlePart(p *part, rows int64, aborted bool, ready func(table int64)) (last bool) {
	if last = c.Tables.finish(p, rows, aborted); last {
		ready(p.table.OID)
	}
	return last
}

// throughRoot is a part of a table whose rows are sorted by the target from now on.
func (c *Copier) throughRoot(t *tableState, number int) *part {
	c.Tables.mu.Lock()
	defer c.Tables.mu.Unlock()
	t.throughRoot = true
	return c.tablePart(t, number)
}

func (p *part) name() string {
	if p.table == nil {
		return "large objects"
	}
	return p.table.String()
}
