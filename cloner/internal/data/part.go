package data

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"math"
	"strings"

	"calco/cloner/internal/marks"
	"calco/cloner/internal/progress"
	"calco/cloner/internal/session"
	"calco/cloner/internal/snapshot"
	"calco/cloner/report"
)

// part is what a lane carries at a time, in one transaction on each side.
type part struct {
	table    *tableState // nil for large objects
	relation string      // what the mark calls it
	number   int
	progress *progress.Part
	through  bool // its rows go to the root of the table's partition tree
	tries    int  // that ended with a lost connection

	lock     string // on the source, before the rows are read
	checksum string // the query for their checksum, or "" where their contents are not compared
	read     string // COPY … TO STDOUT, on the source
	write    string // COPY … FROM STDIN, on the target; statements may go before it
	then     string // on the target, after the rows and before the mark

	large largeObjects // the range, where table is nil
}

// mark is that of a part whose rows have arrived.
func (p *part) mark(epoch int, rows int64, checksum string) marks.Mark {
	m := marks.Mark{Relation: p.relation, Part: p.number, Parts: 1, Epoch: epoch, Rows: rows, Bytes: p.progress.Bytes.Load(), Checksum: checksum}
	if p.table != nil {
		m.Parts, m.Stride, m.Through = p.table.split.Parts, p.table.split.Stride, p.through
		m.OID, m.Filenode = p.table.OID, p.table.Filenode
	}
	return m
}

func (p *part) unlogged() bool { return p.table != nil && p.table.Unlogged }

// beforeSum is how many statements the source answers before the checksum: BEGIN, SET TRANSACTION, and the two of lock.
func (p *part) beforeSum() int {
	if p.lock == "" {
		return 2
	}
	return 4
}

// tablePart is a part of a table, or all of it.
func (c *Copier) tablePart(t *tableState, number int) *part {
	share := t.split.Share(number, t.Pages)
	size := int64(float64(t.Size) * share)
	p := &part{
		table: t, relation: t.Relation(), number: number, through: t.throughRoot,
		progress: &progress.Part{Relation: t.String(), Size: size, Work: progress.TableWork*share + float64(size), Table: t.OID},
	}
	// A table that was truncated or rewritten since the snapshot looks empty to it, without
	// an error. So does another table that has taken over the name, and a column that was
	// dropped and made again is NULL. Under the lock this can no longer happen, and the
	// division raises if it has: the rows of catalogs are seen through the snapshot, and
	// what the functions say is of this moment. Parts are of the file that was divided.
	// https://www.postgresql.org/docs/current/mvcc-caveats.html
	p.lock = fmt.Sprintf(`LOCK TABLE ONLY %s IN ACCESS SHARE MODE; SELECT 1 / count(*) FROM pg_class c
		WHERE oid = %d AND oid = to_regclass(%s) AND relfilenode = pg_relation_filenode(oid)
		  AND NOT EXISTS (SELECT FROM pg_attribute a WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped
			AND (pg_identify_object_as_address('pg_class'::regclass, attrelid, attnum)).object_names[3] IS DISTINCT FROM attname)`,
		t.Relation(), t.OID, session.QuoteLiteral(t.Relation()))
	if t.Hashes(number) {
		p.checksum = c.Plan.ChecksumSQL(t.ContentList(), t.From()+t.split.Where(number))
	}
	columns := t.ColumnList()
	switch bare := strings.TrimSuffix(strings.TrimPrefix(columns, "("), ")"); {
	case t.Condition != "":
		// The condition is the extension's own SQL, written for SELECT * FROM t <condition>.
		p.read = fmt.Sprintf("COPY (SELECT %s FROM %s %s) TO STDOUT", bare, t.Relation(), t.Condition)
		p.write = fmt.Sprintf("COPY %s %s FROM STDIN", t.Relation(), columns)
	case t.split.Parts > 1:
		p.lock += fmt.Sprintf(" AND relfilenode = %d", t.Filenode)
		p.read = fmt.Sprintf("COPY (SELECT %s FROM ONLY %s%s) TO STDOUT", bare, t.Relation(), t.split.Where(number))
		p.write = fmt.Sprintf("COPY %s %s FROM STDIN", t.destination(), columns)
	default:
		p.read = fmt.Sprintf("COPY %s %s TO STDOUT", t.Relation(), columns)
		p.write = fmt.Sprintf("COPY %s %s FROM STDIN", t.destination(), columns)
	}
	return p
}

// largeObjects is a range of them by OID, both ends included, or a range of the bytes of one.
type largeObjects struct {
	First, Last             int64
	FromByte, ToByte, Bytes int64
}

const (
	largeObjectsAPart = 500     // at most, about, in one transaction
	largeObjectPiece  = 1 << 20 // bytes that are read at a time; see large_objects.sql
)

//go:embed sql/large_object_parts.sql
var largeObjectPartsSQL string

//go:embed sql/large_objects.sql
var largeObjectsSQL string

//go:embed sql/large_object_properties.sql
var largeObjectPropertiesSQL string

// largeObjectParts divides the large objects of the source. They belong to no schema,
// so only a clone of the whole database has them.
func (c *Copier) largeObjectParts(ctx context.Context, s *session.Session) ([]*part, error) {
	size := max(c.PartSize/largeObjectPiece, 1) * largeObjectPiece
	ranges, err := session.Query[largeObjects](ctx, s, largeObjectPartsSQL, size, largeObjectsAPart)
	if err != nil {
		return nil, fmt.Errorf("list large objects: %w", err)
	}
	parts := make([]*part, len(ranges))
	for i, lo := range ranges {
		parts[i] = &part{
			relation: marks.LargeObjects, number: i, large: lo,
			progress: &progress.Part{Relation: marks.LargeObjects, Size: lo.Bytes, Work: progress.TableWork + float64(lo.Bytes)},
			read:     fmt.Sprintf("COPY (%s) TO STDOUT", lo.Pieces()),
			write: "CREATE TEMP TABLE IF NOT EXISTS calco_large_object (oid oid, pos bigint, data bytea) ON COMMIT DELETE ROWS; " +
				"COPY pg_temp.calco_large_object FROM STDIN",
			then: marks.CreateLargeObjects + c.CloseLargeObjects + "SELECT count(*) FROM (SELECT lo_put(oid, pos, data) FROM pg_temp.calco_large_object OFFSET 0) p; ",
		}
		if c.EveryRow {
			parts[i].checksum = c.Plan.ChecksumSQL("l.*", "("+lo.Pieces()+") l")
		}
	}
	return parts, nil
}

// AllLargeObjects are those of a whole database.
var AllLargeObjects = largeObjects{Last: math.MaxUint32, ToByte: math.MaxInt64}

// Pieces is a query for them, in pieces that begin at the same bytes however they are divided into parts.
func (lo largeObjects) Pieces() string {
	return fmt.Sprintf(largeObjectsSQL, lo.First, lo.Last, lo.FromByte, lo.ToByte)
}

// largeObjectProperties gives the objects of a part that has arrived their owner, grants
// and comment.
func (c *Copier) largeObjectProperties(ctx context.Context, l *lane, p *part) error {
	var rows [][]string
	err := c.Snapshot.Importing(ctx, func(name string) (err error) {
		rows, err = l.source.SimpleQuery(ctx, "ROLLBACK; "+snapshot.BeginAt(name)+"; "+fmt.Sprintf(largeObjectPropertiesSQL, p.large.First, p.large.Last)+"; COMMIT")
		return err
	})
	if err != nil {
		return fmt.Errorf("read owners of large objects: %w", err)
	}
	things := make([][2]string, 0, len(rows))
	for _, row := range rows {
		if len(row) == 2 {
			things = append(things, [2]string{row[0], row[1]})
		}
	}
	return c.MakeLargeObjects(ctx, l.target, things)
}

// errNoChecksum is for a row that is too long to be compared as text.
var errNoChecksum = errors.New("the source cannot compute the checksum of its rows")

// errRewritten is the guard of tablePart speaking.
var errRewritten = report.WithHint(errors.New("the table was truncated, rewritten or changed on the source after the snapshot was taken"),
	report.Said("Clone again when what truncates or rewrites it is over."))
