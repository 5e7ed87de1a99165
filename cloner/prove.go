package cloner

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"calco/cloner/internal/marks"
	"calco/cloner/internal/safely"
	"calco/cloner/internal/schema"
	"calco/cloner/internal/session"
	"calco/cloner/internal/snapshot"
	"calco/cloner/report"
)

// findings are marks by what they are worth.
type findings struct {
	filled bool         // all rows are there, as the last snapshot had them
	good   []marks.Mark // the part is there, as this run's snapshot has it
	doubt  []marks.Mark // it is there, as an earlier snapshot had it
	stale  []marks.Mark // it is there no more, or nothing proves it
}

// judge sorts the marks by what they say themselves. Once all rows had arrived no snapshot is needed any more.
func (r *run) judge(marks []marks.Mark) findings {
	tables := r.plan.ByRelation()
	// A crash since may have emptied unlogged tables.
	f := findings{filled: r.lock.Previous.Copied > 0 && !r.unloggedLost(marks)}
	if f.filled {
		f.good = marks
		return f
	}
	for _, m := range marks {
		t := tables[m.Relation]
		switch {
		case m.Epoch == r.epoch:
			f.good = append(f.good, m)
		case t == nil || t.Extension != 0 || !t.Heap || m.OID != t.OID || m.Parts > 1 && m.Filenode != t.Filenode:
			// Rows that a condition picks, or that have no xmin to be read, as large objects.
			f.stale = append(f.stale, m)
		default:
			f.doubt = append(f.doubt, m)
		}
	}
	return f
}

// unloggedLost tells whether an unlogged table that is to be filled has not all of its marks.
func (r *run) unloggedLost(marks []marks.Mark) bool {
	here, parts := map[string]int{}, map[string]int{}
	for _, m := range marks {
		here[m.Relation]++
		parts[m.Relation] = m.Parts
	}
	return slices.ContainsFunc(r.plan.Tables, func(t *schema.Table) bool {
		name := t.Relation()
		return t.Unlogged && !r.ledger.Keeps(t.OID) && (here[name] == 0 || here[name] < parts[name])
	})
}

// xidsComparable is how many transactions may lie between two that are compared: half of the numbers there are, with a margin.
// https://www.postgresql.org/docs/current/routine-vacuuming.html#VACUUM-FOR-WRAPAROUND
const xidsComparable = 1<<31 - 1<<24

// proofsABatch is how many parts one query looks at.
const proofsABatch = 20

// prove opens an epoch for this run's snapshot, if it has none yet, and decides the marks in doubt.
//
// A part is as it was if the snapshot sees as many rows in its pages as were copied, and none of a transaction as new as
// the oldest that was running when the earlier snapshot was taken. For then each row that is seen now was seen then, so
// those are a subset of the rows that were copied; and of as many, all. It needs a snapshot that was durable and the same
// timeline, since a crash or a failover may give a number out twice, transactions that can be compared, and for pages the
// same file.
func (r *run) prove(ctx context.Context, f *findings) error {
	if r.snap == nil {
		// All rows were there, and an unlogged table has lost its own since.
		r.plan, r.filled, r.epoch = nil, false, 0
		return session.ErrSnapshotLost
	}
	opened := r.epoch == 0
	if opened {
		next := r.lock.Previous.Epoch + 1
		if err := r.owner.OpenEpoch(ctx, r.epochOf(next)); err != nil {
			return err
		}
		r.epoch = next
	}
	r.held.Store(&held{r.snap, r.epoch, r.owner})
	if !opened && len(f.doubt)+len(f.stale) == 0 {
		return nil
	}
	sameTimeline := r.source.Timeline != 0 && r.source.Timeline == r.lock.Previous.Timeline
	todo, unproven := cut(f.doubt, func(m marks.Mark) bool {
		return sameTimeline && m.Durable && m.Oldest <= r.snap.Xmax && r.snap.Xmax-m.Oldest < xidsComparable
	})
	f.doubt = nil
	kept, changed, err := r.proveAll(ctx, todo)
	if err != nil {
		return err
	}
	f.good = append(f.good, kept...)
	f.stale = slices.Concat(f.stale, unproven, changed)
	return r.recordProof(ctx, kept, f.stale)
}

// cut divides a list.
func cut[T any](list []T, which func(T) bool) (yes, no []T) {
	for _, x := range list {
		if which(x) {
			yes = append(yes, x)
		} else {
			no = append(no, x)
		}
	}
	return yes, no
}

// proveAll asks the source about parts, in as many sessions as there are lanes.
func (r *run) proveAll(ctx context.Context, marks []marks.Mark) (kept, changed []marks.Mark, err error) {
	tables := r.plan.ByRelation()
	batches := slices.Collect(slices.Chunk(marks, proofsABatch))
	proven := make([][]bool, len(batches))
	todo := make(chan int, len(batches))
	for i := range batches {
		todo <- i
	}
	close(todo)
	eg, ctx := safely.NewGroup(ctx)
	for range min(r.lanes, len(batches)) {
		eg.Go(func() error {
			s, err := r.openLaneSource(ctx)
			if err != nil {
				return err
			}
			defer s.Close()
			for i := range todo {
				if proven[i], err = r.proveBatch(ctx, s, batches[i], tables); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := eg.Wait(); err != nil {
		return nil, nil, fmt.Errorf("compare with the source: %w", err)
	}
	for i, batch := range batches {
		for j, m := range batch {
			if proven[i][j] {
				kept = append(kept, m)
			} else {
				changed = append(changed, m)
			}
		}
	}
	return kept, changed, nil
}

// proveBatch proves some parts in one round trip. One that cannot be looked at is not proven, and alone tells why when it
// is copied.
func (r *run) proveBatch(ctx context.Context, s *session.Session, batch []marks.Mark, tables map[string]*schema.Table) ([]bool, error) {
	var rows [][]string
	err := r.snap.Importing(ctx, func(name string) (err error) {
		var b strings.Builder
		b.WriteString("ROLLBACK; " + snapshot.BeginAt(name))
		for _, m := range batch {
			b.WriteString("; " + proofSQL(tables[m.Relation], m))
		}
		rows, err = s.SimpleQuery(ctx, b.String()+"; COMMIT")
		return err
	})
	proven := make([]bool, len(batch))
	switch {
	case err != nil && session.Classify(err).Ends():
		return nil, err
	case err != nil && len(batch) > 1:
		for i := range batch {
			one, err := r.proveBatch(ctx, s, batch[i:i+1], tables)
			if err != nil {
				return nil, err
			}
			proven[i] = one[0]
		}
		return proven, nil
	case err != nil:
		return proven, nil
	case len(rows) != len(batch):
		return nil, fmt.Errorf("%d answers about %d parts", len(rows), len(batch))
	}
	for i, row := range rows {
		proven[i] = row[0] == "t"
	}
	return proven, nil
}

// proofSQL asks whether a part is as it was copied. Under the lock nobody can put another file in its place, which the
// snapshot would see as empty.
func proofSQL(t *schema.Table, m marks.Mark) string {
	same := fmt.Sprintf("oid = to_regclass(%s) AND relfilenode = pg_relation_filenode(oid)", session.QuoteLiteral(t.Relation()))
	if m.Parts > 1 {
		same += fmt.Sprintf(" AND relfilenode = %d", m.Filenode)
	}
	return fmt.Sprintf(`LOCK TABLE ONLY %[1]s IN ACCESS SHARE MODE;
		SELECT count(*) = %[2]d AND count(*) FILTER (WHERE age(xmin) <= age('%[3]d'::xid)) = 0
		   AND (SELECT count(*) = 1 FROM pg_class WHERE oid = %[4]d AND %[5]s)
		FROM ONLY %[1]s%[6]s`,
		t.Relation(), m.Rows, m.Oldest%(1<<32), t.OID, same, m.Split().Where(m.Part))
}

// recordProof notes on the target what is true in this epoch. A mark that was proven stands for this snapshot from now on.
func (r *run) recordProof(ctx context.Context, kept, stale []marks.Mark) error {
	tables := r.plan.ByRelation()
	redone := map[string]bool{}
	var names []string
	for _, m := range stale {
		if !redone[m.Relation] && len(names) < report.ListedObjects {
			names = append(names, m.Relation)
		}
		redone[m.Relation] = true
	}
	err := r.owner.Revalidated(ctx, r.epoch, kept, len(stale), names, func(relation string) bool { return tables[relation].Unlogged })
	if err != nil {
		return err
	}
	r.achieve(-len(stale)) // it counted once, and will again
	r.meter.Resumed(r.report.SnapshotAt, len(kept), len(stale))
	return nil
}
