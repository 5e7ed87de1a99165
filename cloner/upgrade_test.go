package cloner

import (
	"fmt"
	"os"
	"testing"

	"calco/db/dbtest"
)

// An upgrade in the middle of a clone: marks that the last release has made are gone on with. What it had copied stays.
func TestMarksOfLastRelease(t *testing.T) {
	t.Parallel()
	last, err := os.ReadFile("testdata/marks_1.sql")
	if err != nil {
		t.Fatal(err)
	}
	server := dbtest.Cluster(t, nil) // on which nobody else's transactions are as old as what is kept
	source, target := newDatabase(t, server, "source", ""), newDatabase(t, server, "target", "")
	dbtest.Exec(t, source, `CREATE TABLE kept (id int PRIMARY KEY, s text); INSERT INTO kept SELECT n, repeat('x', 100) FROM generate_series(1, 5000) n;
		CREATE TABLE changed (id int PRIMARY KEY); INSERT INTO changed SELECT generate_series(1, 1000); CREATE UNLOGGED TABLE light AS SELECT 1 AS n`)
	spec := stopped(t, source, target, nil)
	dbtest.Exec(t, source, "UPDATE changed SET id = -id WHERE id = 7")
	move := "ALTER SCHEMA _calco RENAME TO _calco_now;\n" + string(last)
	for table, columns := range map[string]string{
		"job":           "id, term, nonce, started_at, status, schemas, system, database, timeline, definitions",
		"epoch":         "number, nonce, snapshot_at, oldest_xid, durable, kept, redone, redone_tables",
		"kept":          "kind, namespace, name",
		"mark":          "relation, part, parts, stride, oid, filenode, through, epoch, born, rows, bytes, checksum, xid, marked_at",
		"unlogged_mark": "relation, part, parts, stride, oid, filenode, through, epoch, born, rows, bytes, checksum, xid, marked_at",
		"large_object":  "oid",
	} {
		move += fmt.Sprintf("INSERT INTO _calco.%s (%s) SELECT %[2]s FROM _calco_now.%[1]s;\n", table, columns)
	}
	dbtest.Exec(t, target, move+"INSERT INTO _calco.stage (name, epoch, large_objects) SELECT name, epoch, large_objects FROM _calco_now.stage; DROP SCHEMA _calco_now CASCADE")
	result := mustComplete(t, spec)
	if len(result.Epochs) != 2 || result.Epochs[1].Kept < 1 || result.Epochs[1].Redone < 1 {
		t.Errorf("epochs %+v, want parts that were kept and parts that were copied again in the second of two", result.Epochs)
	}
}
