package cloner

import (
	"context"
	"fmt"
	"reflect"
	"testing"
	"time"

	"calco/cloner/dsn"
	"calco/cloner/internal/ledger"
	"calco/cloner/internal/marks"
	"calco/cloner/internal/patience"
	"calco/cloner/internal/progress"
	"calco/cloner/internal/session"
	"calco/cloner/report"
	"calco/db/dbtest"
)

// Large objects go in parts of bytes, however few they are: one of several gigabytes was one transaction, which needed twice
// its size on the target's disk, and began anew with each lost connection. Small ones share a part.
func TestLargeObjectParts(t *testing.T) {
	t.Parallel()
	source, target := dbtest.Database(t), dbtest.Database(t)
	owner := "role_" + NewJob()[:12]
	dbtest.Exec(t, source, fmt.Sprintf(`CREATE ROLE %s;
		SELECT lo_create(20000 + n) FROM generate_series(1, 1200) n WHERE n <> 601;
		SELECT lo_from_bytea(20601, convert_to(repeat('0123456789abcdef', 200000), 'UTF8')); -- 3.2 MB
		SELECT lo_from_bytea(4294967295, 'the last OID');
		SELECT lo_from_bytea(30000 + n, convert_to(repeat('x', 300000), 'UTF8')) FROM generate_series(1, 10) n;
		ALTER LARGE OBJECT 20601 OWNER TO %[1]s; GRANT SELECT ON LARGE OBJECT 20601 TO PUBLIC; COMMENT ON LARGE OBJECT 20601 IS 'large'`, owner))
	const size = 1 << 20
	s, err := session.Open(t.Context(), report.Source, dsn.URL(source), nil, "test")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Exec(t.Context(), "BEGIN"); err != nil {
		t.Fatal(err)
	}
	r := &run{spec: Spec{PartSize: size}, meter: &progress.Meter{}, ledger: ledger.New(&progress.Meter{}), patience: patience.New(time.Minute)}
	parts, err := r.largeObjectParts(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	var pieces, bytes int64
	for _, p := range parts {
		bytes += p.large.Bytes
		if p.large.First == 20601 && p.large.Last == 20601 {
			pieces++
		}
		if p.large.Bytes > 2*size || p.large.Last-p.large.First > 2*largeObjectsAPart && p.large.Bytes == 0 {
			t.Errorf("a part of %+v", p.large)
		}
	}
	if pieces != 4 || bytes != 3_200_000+12+3_000_000 || len(parts) < 10 || len(parts) > 16 {
		t.Errorf("%d parts, %d pieces, %d bytes", len(parts), pieces, bytes)
	}
	mustComplete(t, Spec{Source: dsn.URL(source), Target: dsn.URL(target), PartSize: size, Lanes: 4})
	mustEqual(t, source, target, `SELECT m.oid, lomowner::regrole, lomacl::text, md5(lo_get(m.oid)), length(lo_get(m.oid)), obj_description(m.oid, 'pg_largeobject') FROM pg_largeobject_metadata m ORDER BY 1`)
}

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

// The large objects that a part makes belong to nobody but their owner, whatever default privileges give (which they do
// since version 18; here they are granted in the transaction).
func TestLargeObjectsAreClosed(t *testing.T) {
	t.Parallel()
	target := dbtest.Database(t)
	anon := freshRole(t, target)
	r := &run{defaultGrants: []defaultGrant{{Kind: "r", Grantees: "PUBLIC"}, {Kind: largeObjectKind, Grantees: "PUBLIC, " + anon}}}
	dbtest.Exec(t, target, marks.CreateSQL())
	part := func(oid int) {
		dbtest.Exec(t, target, fmt.Sprintf(`BEGIN; CREATE TEMP TABLE calco_large_object (oid oid); INSERT INTO calco_large_object VALUES (%d), (%[1]d), (4711); %s
			GRANT SELECT ON LARGE OBJECT %[1]d TO PUBLIC, %[3]s; %[4]s COMMIT`, oid, createLargeObjects, anon, r.closingLargeObjects()))
	}
	part(4711)
	dbtest.Exec(t, target, "GRANT SELECT ON LARGE OBJECT 4711 TO "+anon) // as on the source
	part(4712)
	got := dbtest.Query(t, target, fmt.Sprintf("SELECT oid, coalesce(lomacl::text, '') ~ '(%s|[{,])=' FROM pg_largeobject_metadata ORDER BY 1", anon))
	if fmt.Sprint(got) != "[[4711 t] [4712 f]]" {
		t.Errorf("others may read: %v", got)
	}
	if sql := (&run{}).closingLargeObjects(); sql != "" {
		t.Errorf("without default privileges: %s", sql)
	}
}
