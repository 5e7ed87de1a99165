package marks

import (
	"context"
	"fmt"

	"calco/cloner/internal/schema"
	"calco/cloner/internal/session"
)

// Mark says that a part is on the target. It is committed with the part, so it alone says what is there.
type Mark struct {
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
	Durable  bool   // a crash of the source takes back nothing that the snapshot of its epoch saw
	Oldest   int64  // transaction that was running at the snapshot of its epoch
}

// Split is how the table was divided.
func (m Mark) Split() schema.Split { return schema.Split{Parts: m.Parts, Stride: m.Stride} }

// LargeObjects is what marks of large objects have in place of a table. No table has a name like that.
const LargeObjects = "large objects"

// Read reads all marks of a target.
func Read(ctx context.Context, s *session.Session) ([]Mark, error) {
	marks, err := session.Query[Mark](ctx, s, `
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

// InsertSQL inserts the mark of a part, in the transaction that writes it: of what the mark says of the part, and, for a part
// of a table, of the table. The fields XID, Durable and Oldest are not used.
func InsertSQL(m Mark, unlogged bool) string {
	return fmt.Sprintf("INSERT INTO _calco.%s (relation, part, parts, stride, oid, filenode, through, epoch, born, rows, bytes, checksum) VALUES (%s, %d, %d, %d, %d, %d, %t, %[9]d, %[9]d, %[10]d, %[11]d, nullif(%[12]s, ''))",
		table(unlogged), session.QuoteLiteral(m.Relation), m.Part, m.Parts, m.Stride, m.OID, m.Filenode, m.Through, m.Epoch, m.Rows, m.Bytes, session.QuoteLiteral(m.Checksum))
}

// table is the table of _calco that has the marks of a table.
func table(unlogged bool) string {
	if unlogged {
		return "unlogged_mark"
	}
	return "mark"
}

// DeleteSQL deletes the marks of parts of a relation, listed with commas.
func DeleteSQL(relation string, unlogged bool, parts string) string {
	return fmt.Sprintf("DELETE FROM _calco.%s WHERE relation = %s AND part IN (%s)", table(unlogged), session.QuoteLiteral(relation), parts)
}

// PartsOf lists the numbers of the parts of each relation, with commas.
func PartsOf(marks []Mark) map[string]string {
	parts := map[string]string{}
	for _, m := range marks {
		if parts[m.Relation] != "" {
			parts[m.Relation] += ", "
		}
		parts[m.Relation] += fmt.Sprint(m.Part)
	}
	return parts
}

// RowsOf finds out whether a part is on the target as of an epoch, and how many rows it has.
func RowsOf(ctx context.Context, s *session.Session, relation string, part, epoch int) (rows int64, there bool, err error) {
	found, err := session.Query[struct{ Rows int64 }](ctx, s, `
		SELECT rows FROM _calco.mark WHERE relation = $1 AND part = $2 AND epoch = $3
		UNION ALL
		SELECT rows FROM _calco.unlogged_mark WHERE relation = $1 AND part = $2 AND epoch = $3`, relation, part, epoch)
	if err != nil || len(found) == 0 {
		return 0, false, err
	}
	return found[0].Rows, true, nil
}

// CompleteTables are the logged relations all of whose parts are on the target of a run, with their rows.
func CompleteTables(ctx context.Context, s *session.Session, nonce string) (map[string]int64, error) {
	found, err := session.Query[struct {
		Relation string
		Rows     int64
	}](ctx, s, `
		SELECT relation, sum(rows)::bigint AS rows
		FROM _calco.mark
		WHERE EXISTS (SELECT FROM _calco.job WHERE nonce = $1)
		GROUP BY relation
		HAVING count(*) = max(parts)`, nonce)
	if err != nil {
		return nil, fmt.Errorf("read the marks: %w", err)
	}
	rows := map[string]int64{}
	for _, f := range found {
		rows[f.Relation] = f.Rows
	}
	return rows, nil
}

// CreateLargeObjects makes the large objects of a part, whose pieces are in pg_temp.calco_large_object. Of several parts of one object the first makes it; the others wait for that.
const CreateLargeObjects = `
	WITH made AS (INSERT INTO _calco.large_object SELECT DISTINCT oid FROM pg_temp.calco_large_object ON CONFLICT DO NOTHING RETURNING oid)
	SELECT count(lo_create(oid)) FROM made; `
