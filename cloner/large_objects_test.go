package cloner

import (
	"context"
	"fmt"
	"reflect"
	"testing"

	"calco/cloner/dsn"
	"calco/cloner/report"
	"calco/db/dbtest"
)

// When large objects have to be copied again, those that somebody else has made meanwhile stay, though they make a difference.
func TestRedoLeavesLargeObjectsOfOthers(t *testing.T) {
	t.Parallel()
	source, target := dbtest.Database(t), dbtest.Database(t)
	dbtest.Exec(t, source, stageSQL)
	spec := Spec{Source: dsn.URL(source), Target: dsn.URL(target), Lanes: 2, Job: NewJob()}
	st := stages[4] // nearly all has arrived
	result, err := st.play(t, spec, func(cancel context.CancelCauseFunc, _ func()) {
		dbtest.Await(t, target, "SELECT count(*) = 3 FROM _calco.large_object")
		cancel(report.ErrCancelled)
	})
	isCancelled(t, spec, result, err)
	other := dbtest.Query(t, target, "SELECT lo_from_bytea(0, 'of somebody')")[0][0]
	dbtest.Exec(t, source, "SELECT lo_put(min(oid), 0, 'changed') FROM pg_largeobject_metadata")
	result = mustEnd(t, resumed(spec), Options{}, report.StatusDifferences)
	if d := result.Differences; len(d) != 1 || d[0].Object != "LARGE OBJECTS" || d[0].Target != "4" {
		t.Errorf("differences %+v", d)
	}
	ours := dbtest.Query(t, source, "SELECT oid, lo_get(oid) FROM pg_largeobject_metadata ORDER BY 1")
	if got := dbtest.Query(t, target, "SELECT oid, lo_get(oid) FROM pg_largeobject_metadata WHERE oid <> "+other+" ORDER BY 1"); !reflect.DeepEqual(got, ours) {
		t.Errorf("large objects %q, want %q", got, ours)
	}
	if got := dbtest.Query(t, target, "SELECT convert_from(lo_get("+other+"), 'UTF8')"); got[0][0] != "of somebody" {
		t.Errorf("the other one: %q", got)
	}
}

// Large objects come with their owners, grants and comments, in parts and in pieces.
func TestLargeObjects(t *testing.T) {
	t.Parallel()
	source, target := dbtest.Database(t), dbtest.Database(t)
	owner := dbtest.Role(t, source)
	dbtest.Exec(t, source, fmt.Sprintf(`SELECT lo_create(20000 + n) FROM generate_series(1, 1200) n WHERE n <> 601;
		SELECT lo_from_bytea(20601, convert_to(repeat('0123456789abcdef', 200000), 'UTF8')); -- 3.2 MB
		SELECT lo_from_bytea(4294967295, 'the last OID');
		SELECT lo_from_bytea(30000 + n, convert_to(repeat('x', 300000), 'UTF8')) FROM generate_series(1, 10) n;
		ALTER LARGE OBJECT 20601 OWNER TO %[1]s; GRANT SELECT ON LARGE OBJECT 20601 TO PUBLIC; COMMENT ON LARGE OBJECT 20601 IS 'large'`, owner))
	mustComplete(t, Spec{Source: dsn.URL(source), Target: dsn.URL(target), PartSize: 1 << 20, Lanes: 4})
	dbtest.Equal(t, source, target, `SELECT m.oid, lomowner::regrole, lomacl::text, md5(lo_get(m.oid)), length(lo_get(m.oid)), obj_description(m.oid, 'pg_largeobject') FROM pg_largeobject_metadata m ORDER BY 1`)
}
