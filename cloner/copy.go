package cloner

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"
)

// copyRows carries all parts of q to the target and opens the gate of each table in g
// when its rows are there or will not come. It returns when every part has been dealt
// with, or with an error that ends the clone.
func (r *run) copyRows(ctx context.Context, q *partQueue, g *graph) error {
	r.meter.expect(PhaseCopy, len(q.waiting))
	eg, ctx := errgroup.WithContext(ctx)
	for range min(r.spec.Lanes, max(len(q.waiting), 1)) {
		eg.Go(func() error { return r.runLane(ctx, q, g) })
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
		q.waiting = parts
	}
	made := map[object]bool{}
	for _, e := range r.plan.pre {
		made[object{e.CatalogOID, e.OID}] = !r.hasFailed(e.ID)
	}
	for _, t := range r.plan.tables {
		maker := object{pgClass, uint32(t.OID)}
		if t.Extension != 0 {
			maker = object{pgExtension, uint32(t.Extension)}
		}
		if !made[maker] {
			r.meter.spoil(t.OID)
			g.open(t.OID) // it is in the ledger already, or not ours to fill
			continue
		}
		q.waiting = append(q.waiting, r.tablePart(t))
	}
	return q, nil
}

func (r *run) snapshotLargeObjects(ctx context.Context) ([]*part, error) {
	err := r.snap.importing(ctx, func(name string) error {
		return errors.Join(r.source.exec(ctx, "ROLLBACK"), r.source.exec(ctx, beginAt(name)))
	})
	if err != nil {
		return nil, fmt.Errorf("import snapshot: %w", err)
	}
	parts, err := r.largeObjectParts(ctx, r.source)
	if err != nil {
		return nil, err
	}
	if r.largeObjectCount, err = one[int64](ctx, r.source, `SELECT count(*) FROM pg_largeobject_metadata`); err != nil {
		return nil, fmt.Errorf("count large objects: %w", err)
	}
	size, err := one[int64](ctx, r.source, `SELECT pg_table_size('pg_catalog.pg_largeobject')`)
	if err != nil {
		return nil, fmt.Errorf("read the size of large objects: %w", err)
	}
	for _, p := range parts {
		p.flight.size = size / int64(len(parts))
		r.meter.add(p.flight.work())
	}
	return parts, r.source.exec(ctx, "COMMIT")
}

// openLane connects both ends of a lane.
func (r *run) openLane(ctx context.Context) (*lane, error) {
	source, err := r.openLaneSource(ctx)
	if err != nil {
		return nil, err
	}
	target, err := open(ctx, Target, r.spec.Target, r.spec.applicationName())
	if err != nil {
		source.close()
		return nil, err
	}
	target.fence = r.fence
	_, encoding := copyEncodings(r.sourceFacts.Encoding, r.targetFacts.Encoding)
	// CHECK constraints, defaults and generated columns call functions that may name
	// objects without their schema.
	if err := target.exec(ctx, fmt.Sprintf("SET client_encoding = %s; SET search_path = %s", quoteLiteral(encoding), r.searchPath)); err != nil {
		closeAll(source, target)
		return nil, fmt.Errorf("set up a lane: %w", err)
	}
	return &lane{source: source, target: target}, nil
}

func (r *run) openLaneSource(ctx context.Context) (*session, error) {
	s, err := open(ctx, Source, r.spec.Source, r.spec.applicationName())
	if err != nil {
		return nil, err
	}
	encoding, _ := copyEncodings(r.sourceFacts.Encoding, r.targetFacts.Encoding)
	if err := s.exec(ctx, "SET client_encoding = "+quoteLiteral(encoding)); err != nil {
		s.close()
		return nil, fmt.Errorf("set up a lane: %w", err)
	}
	return s, nil
}

// copyEncodings are the client encodings of the two ends of a lane. A source that does
// not know its own encoding sends bytes, which the target must check: with SQL_ASCII as
// client encoding, COPY FROM stores invalid ones without a word. Only where neither
// side knows are bytes just bytes.
func copyEncodings(source, target string) (from, to string) {
	const unknown = "SQL_ASCII"
	switch {
	case source == unknown && target == unknown:
		return unknown, unknown
	case source == unknown:
		return unknown, "UTF8"
	}
	return "UTF8", "UTF8"
}

// runLane carries parts until none is left.
func (r *run) runLane(ctx context.Context, q *partQueue, g *graph) error {
	defer r.meter.enter(PhaseCopy)()
	l, err := r.openLane(ctx)
	if err != nil {
		return err
	}
	defer func() { closeAll(l.source, l.target) }()
	for {
		p := q.next(ctx)
		if p == nil {
			return context.Cause(ctx)
		}
		if err := r.carry(ctx, l, p, q, g); err != nil {
			return err
		}
	}
}

// carry takes one part to the target, or back into the queue, or into the ledger.
func (r *run) carry(ctx context.Context, l *lane, p *part, q *partQueue, g *graph) error {
	r.meter.takeOff(p.flight)
	var rows int64
	err := r.snap.importing(ctx, func(snapshot string) (err error) {
		rows, err = l.carry(ctx, p, snapshot, r.fence)
		return err
	})
	if err == nil {
		r.meter.land(p.flight)
		if p.table == nil {
			if err := r.largeObjectProperties(ctx, l, p); err != nil {
				return err
			}
		} else {
			p.table.copied, p.table.rows = true, rows
			g.open(p.table.OID)
		}
		q.arrived()
		return nil
	}
	r.meter.ditch(p.flight)
	if endsClone(err) && !errors.Is(err, errRewritten) {
		if ctx.Err() == nil {
			r.meter.spoil(p.flight.table)
		}
		return &Error{Phase: PhaseCopy, Relation: p.name(), Hint: hintFor(err), Err: err}
	}
	var f *failure
	if errors.As(err, &f) && f.side == Target {
		// The source was told to cancel; the request may still be on its way.
		l.source.close()
		if l.source, err = r.openLaneSource(ctx); err != nil {
			return err
		}
		err = f
	}
	p.flight = &flight{relation: p.flight.relation, size: p.flight.size, table: p.flight.table}
	if t := p.table; t != nil && sqlState(err) == "23514" && t.RootOID != t.OID && !t.ThroughRoot {
		// The target sorts these rows into another partition: another collation, say.
		t.ThroughRoot = true
		q.again(r.tablePart(t))
		return nil
	}
	if mayPass(err) {
		q.later(p, err)
		return nil
	}
	r.giveUp(p, err, g)
	q.dropped()
	return nil
}

// giveUp enters a part that cannot be copied into the ledger.
func (r *run) giveUp(p *part, err error, g *graph) {
	object := "LARGE OBJECTS"
	if p.table != nil {
		object = "ROWS OF " + p.table.String()
	}
	r.meter.blame(PhaseCopy, object, err)
	if p.table != nil {
		r.meter.spoil(p.table.OID)
		g.open(p.table.OID)
	}
}

func (p *part) name() string {
	if p.table == nil {
		return "large objects"
	}
	return p.table.String()
}

// mayPass tells whether a part that failed may succeed once other tables are there: a
// CHECK or a generated column can read them, through a function.
func mayPass(err error) bool {
	switch sqlState(err) {
	case "23514", "23502", "P0001", "P0002", "P0003", "P0004", "21000", "40P01", "55P03":
		return true
	}
	return isNameError(err)
}
