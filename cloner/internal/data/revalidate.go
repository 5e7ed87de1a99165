package data

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
)

// Reader reads a source under a snapshot.
type Reader struct {
	Source   *session.Server
	Snapshot *snapshot.Snapshot // nil where no row is to be read any more
	Plan     *schema.Plan
	Lanes    int
}

// Verdicts are marks by what they are worth.
type Verdicts struct {
	Left   []marks.Mark // all of them
	Copied bool         // all rows are there, as the last epoch had them
	Valid  []marks.Mark // the part is there, as the snapshot has it
	Proven []marks.Mark // of these: those that an earlier snapshot had
	Stale  []marks.Mark // it is there no more, or nothing proves it

	unverified []marks.Mark // it is there, as an earlier snapshot had it
}

// judge sorts the marks of a target by what they say themselves. Once all rows had arrived no snapshot is needed any more.
func (r *Reader) judge(all []marks.Mark, previous *marks.Previous, epoch int, keeps func(table int64) bool) Verdicts {
	plan := r.Plan
	// A crash since may have emptied unlogged tables.
	if previous.Copied && !unloggedLost(all, plan, keeps) {
		return Verdicts{Copied: true, Valid: all}
	}
	tables := plan.ByRelation()
	var v Verdicts
	for _, m := range all {
		t := tables[m.Relation]
		switch {
		case m.Epoch == epoch:
			v.Valid = append(v.Valid, m)
		case t == nil || t.Extension != 0 || !t.Heap || m.OID != t.OID || m.Parts > 1 && m.Filenode != t.Filenode:
			// Rows that a condition picks, or that have no xmin to be read, as large objects.
			v.Stale = append(v.Stale, m)
		default:
			v.unverified = append(v.unverified, m)
		}
	}
	return v
}

// unloggedLost tells whether an unlogged table that is to be copied has not all of its marks.
func unloggedLost(all []marks.Mark, plan *schema.Plan, keeps func(table int64) bool) bool {
	here, parts := map[string]int{}, map[string]int{}
	for _, m := range all {
		here[m.Relation]++
		parts[m.Relation] = m.Parts
	}
	return slices.ContainsFunc(plan.Tables, func(t *schema.Table) bool {
		name := t.Relation()
		return t.Unlogged && !keeps(t.OID) && (here[name] == 0 || here[name] < parts[name])
	})
}

// xidsComparable is how many transactions may lie between two that are compared: half of the numbers there are, with a margin.
// https://www.postgresql.org/docs/current/routine-vacuuming.html#VACUUM-FOR-WRAPAROUND
const xidsComparable = 1<<31 - 1<<24

// partsABatch is how many parts one query looks at.
const partsABatch = 20

// Revalidate reads the marks on a target and decides what they are worth, of an earlier run of the job: those are valid that are of the epoch of
// the snapshot, 0 while it is still to be opened, and those whose parts are as they were when they were copied; all others are
// stale. It asks the source, in as many sessions as there are lanes. Keeps tells of tables whose rows are not the job's. Where all
// rows were there once and some are lost since, and no snapshot is held, the error is session.ErrSnapshotLost.
//
// Let a part P have been copied under the snapshot S, and let T be the snapshot of now. R(S) are the rows of P that S saw, and
// n is their number, which the mark has. The part is unchanged, R(T) = R(S), if
//
//  1. T sees n rows in the pages of P, and
//  2. for all rows in R(T), the transaction that wrote the row is older than the oldest one that was running at S.
//
// For by 2 each row in R(T) was written by a transaction that had ended when S was taken, so S saw it: R(T) is a subset of
// R(S). By 1 both have n rows. A subset with as many elements is the whole.
//
// It needs that
//
//  3. transactions are told apart by their numbers: S was durable and the timeline is the same, since a crash or a failover may
//     give out a number twice; and less than half of all numbers lie between S and T, so that they can be compared;
//  4. the pages of P are those of then: the file of the table is the same, or P is the whole table, and nobody puts another file
//     in its place meanwhile, for which there is a lock.
//
// A mark for which 3 does not hold is stale.
func (r *Reader) Revalidate(ctx context.Context, target *session.Session, previous *marks.Previous, epoch int, keeps func(table int64) bool) (Verdicts, error) {
	all, err := marks.Read(ctx, target)
	if err != nil {
		return Verdicts{}, err
	}
	v := r.judge(all, previous, epoch, keeps)
	v.Left = all
	if v.Copied {
		return v, nil
	}
	if r.Snapshot == nil {
		return Verdicts{}, session.ErrSnapshotLost
	}
	sameTimeline := r.Source.Timeline != 0 && r.Source.Timeline == previous.Timeline
	todo, unprovable := Divide(v.unverified, func(m marks.Mark) bool {
		return sameTimeline && m.Durable && m.Oldest <= r.Snapshot.Xmax && r.Snapshot.Xmax-m.Oldest < xidsComparable
	})
	proven, changed, err := r.revalidateAll(ctx, todo)
	if err != nil {
		return Verdicts{}, err
	}
	return Verdicts{Left: all, Valid: slices.Concat(v.Valid, proven), Proven: proven, Stale: slices.Concat(v.Stale, unprovable, changed)}, nil
}

// Divide divides a list.
func Divide[T any](list []T, which func(T) bool) (yes, no []T) {
	for _, x := range list {
		if which(x) {
			yes = append(yes, x)
		} else {
			no = append(no, x)
		}
	}
	return yes, no
}

// revalidateAll asks the source about parts, in as many sessions as there are lanes.
func (r *Reader) revalidateAll(ctx context.Context, all []marks.Mark) (kept, changed []marks.Mark, err error) {
	tables := r.Plan.ByRelation()
	batches := slices.Collect(slices.Chunk(all, partsABatch))
	proven := make([][]bool, len(batches))
	todo := make(chan int, len(batches))
	for i := range batches {
		todo <- i
	}
	close(todo)
	eg, ctx := safely.NewGroup(ctx)
	for range min(r.Lanes, len(batches)) {
		eg.Go(func() error {
			s, err := openSource(ctx, r.Source)
			if err != nil {
				return err
			}
			defer s.Close()
			for i := range todo {
				if proven[i], err = r.revalidateBatch(ctx, s, batches[i], tables); err != nil {
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

// revalidateBatch decides some parts in one round trip. One that cannot be looked at is not proven, and alone tells why when it
// is copied.
func (r *Reader) revalidateBatch(ctx context.Context, s *session.Session, batch []marks.Mark, tables map[string]*schema.Table) ([]bool, error) {
	var rows [][]string
	err := r.Snapshot.Importing(ctx, func(name string) (err error) {
		var b strings.Builder
		b.WriteString("ROLLBACK; " + snapshot.BeginAt(name))
		for _, m := range batch {
			b.WriteString("; " + unchangedSQL(tables[m.Relation], m))
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
			one, err := r.revalidateBatch(ctx, s, batch[i:i+1], tables)
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

// unchangedSQL asks whether a part is as it was copied. Under the lock nobody can put another file in its place, which the
// snapshot would see as empty.
func unchangedSQL(t *schema.Table, m marks.Mark) string {
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
