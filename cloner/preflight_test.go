package cloner

import (
	"fmt"
	"net/url"
	"slices"
	"testing"

	"calco/cloner/dsn"
	"calco/cloner/report"
	"calco/db/dbtest"
)

// Whoever thinks of a clone can ask what is in its way with roles that may only read, and nothing comes of having asked: no
// transaction was given a number, on either side.
func TestPreflightOnlyReads(t *testing.T) {
	t.Parallel()
	s := dbtest.Cluster(t, nil)
	source, target := newDatabase(t, s, "source", ""), newDatabase(t, s, "target", "")
	dbtest.Exec(t, source, `
		CREATE TABLE book (id int PRIMARY KEY, title text); INSERT INTO book SELECT n, 'b' FROM generate_series(1, 100) n;
		CREATE ROLE reader LOGIN PASSWORD 'x'; ALTER ROLE reader SET default_transaction_read_only = on; GRANT SELECT ON book TO reader;
		REVOKE CREATE, TEMPORARY ON DATABASE source, target FROM PUBLIC`)
	reader := func(database string) dsn.URL { return dsn.URL(as(t, database, "reader", "x")) }
	before := dbtest.Query(t, source, "SELECT pg_snapshot_xmax(pg_current_snapshot())")[0][0]
	for _, tt := range []struct {
		name string
		spec Spec
		want []report.ReasonCode
	}{
		{"nothing", Spec{Source: dsn.URL(source), Target: dsn.URL(target)}, nil},
		{"a role that may only read", Spec{Source: reader(source), Target: reader(target)}, []report.ReasonCode{report.ReasonPermission, report.ReasonPermission}},
		{"the same database", Spec{Source: dsn.URL(source), Target: dsn.URL(source)}, []report.ReasonCode{report.ReasonSameDatabase}},
		{"a target that is not empty", Spec{Source: dsn.URL(target), Target: dsn.URL(source)}, []report.ReasonCode{report.ReasonNotEmpty}},
		{"what is to be cleaned", Spec{Source: dsn.URL(target), Target: dsn.URL(source), Clean: true}, nil},
		{"a schema that is not there", Spec{Source: dsn.URL(source), Target: dsn.URL(target), Schemas: []string{"none"}}, []report.ReasonCode{report.ReasonUnknownSchema}},
		{"both sides unreachable", Spec{Source: nowhere(t, source), Target: nowhere(t, target)}, []report.ReasonCode{report.ReasonHost, report.ReasonHost}},
	} {
		got, err := Preflight(t.Context(), tt.spec)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		var codes []report.ReasonCode
		for _, r := range got.Reasons {
			codes = append(codes, r.Code)
		}
		if !slices.Equal(codes, tt.want) {
			t.Errorf("%s: %v, want %v: %+v", tt.name, codes, tt.want, got.Reasons)
		}
	}
	if after := dbtest.Query(t, source, "SELECT pg_snapshot_xmax(pg_current_snapshot())")[0][0]; after != before {
		t.Errorf("transactions %s to %s were given numbers", before, after)
	}
	if locks := dbtest.Query(t, source, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")[0][0]; locks != "0" {
		t.Errorf("%s locks are held", locks)
	}
}

// nowhere is a URL to a port on which nobody answers.
func nowhere(t *testing.T, database string) dsn.URL {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	u.Host = fmt.Sprintf("%s:1", u.Hostname())
	return dsn.URL(u.String())
}
