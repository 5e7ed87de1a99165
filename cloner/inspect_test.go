package cloner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"

	"calco/cloner/dsn"
	"calco/cloner/report"
	"calco/db/dbtest"
)

// mustInspect inspects and wants the same reasons that a clone would give, one way and the other.
func mustInspect(t *testing.T, u string) report.Inspection {
	t.Helper()
	var i report.Inspection
	var err error
	before := dbtest.Query(t, u, everything)
	noGoroutines(t, func() { i, err = Inspect(t.Context(), dsn.URL(u), nil) })
	if err != nil {
		t.Fatal(err)
	}
	if after := dbtest.Query(t, u, everything); !reflect.DeepEqual(after, before) {
		t.Errorf("the database went from %v to %v", before, after)
	}
	empty := dbtest.Database(t)
	for _, way := range []struct {
		spec Spec
		side report.Side
		got  []report.Reason
	}{
		{Spec{Source: dsn.URL(u), Target: dsn.URL(empty)}, report.Source, i.AsSource},
		{Spec{Source: dsn.URL(empty), Target: dsn.URL(u)}, report.Target, i.AsTarget},
	} {
		if way.got == nil {
			t.Errorf("as %s: null where a list belongs", way.side)
		}
		if len(way.got) == 0 {
			continue
		}
		result, err := Clone(t.Context(), way.spec, Options{})
		if result.Status != report.StatusRefused || !reflect.DeepEqual(result.Reasons, way.got) {
			t.Errorf("as %s: got %+v, a clone says %+v, %v", way.side, way.got, result.Reasons, err)
		}
	}
	return i
}

// codes are those of reasons, in order.
func codes(reasons []report.Reason) []report.ReasonCode {
	list := []report.ReasonCode{}
	for _, r := range reasons {
		list = append(list, r.Code)
	}
	return list
}

func TestInspect(t *testing.T) {
	t.Parallel()
	none := []report.ReasonCode{}
	t.Run("full", func(t *testing.T) {
		t.Parallel()
		u := dbtest.Database(t)
		dbtest.Exec(t, u, `CREATE SCHEMA app; CREATE SCHEMA nothing;
			CREATE TABLE app.t WITH (autovacuum_enabled = off) AS SELECT generate_series(1, 10000) n; CREATE INDEX ON app.t (n); CREATE TABLE app.parts (k int) PARTITION BY LIST (k);
			CREATE TABLE app.part PARTITION OF app.parts FOR VALUES IN (1); CREATE VIEW app.v AS SELECT 1 AS n;
			CREATE MATERIALIZED VIEW public.m WITH (autovacuum_enabled = off) AS SELECT generate_series(1, 1000) n`)
		i := mustInspect(t, u)
		if !slices.Equal(codes(i.AsSource), none) || !slices.Equal(codes(i.AsTarget), []report.ReasonCode{report.ReasonNotEmpty}) {
			t.Errorf("as source %+v, as target %+v", i.AsSource, i.AsTarget)
		}
		sizes := dbtest.Query(t, u, "SELECT pg_total_relation_size('app.t') + pg_total_relation_size('app.part'), pg_total_relation_size('m'), current_user, current_setting('server_version')")[0]
		var app, public int64
		if _, err := fmt.Sscan(sizes[0], &app); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Sscan(sizes[1], &public); err != nil {
			t.Fatal(err)
		}
		want := []report.SchemaInfo{{Name: "app", Tables: 2, Bytes: app}, {Name: "nothing", Tables: 0, Bytes: 0}, {Name: "public", Tables: 0, Bytes: public}}
		if !slices.Equal(i.Schemas, want) {
			t.Errorf("schemas %+v, want %+v", i.Schemas, want)
		}
		info, err := dsn.Parse(u)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := i.Endpoint, (report.Endpoint{Address: info.Address(), Database: info["dbname"], User: sizes[2], Version: sizes[3]}); got != want {
			t.Errorf("endpoint %+v, want %+v", got, want)
		}
		if i.Size < app+public || i.Provider != "" {
			t.Errorf("size %d, provider %q", i.Size, i.Provider)
		}
	})
	t.Run("with a schema _calco of somebody else", func(t *testing.T) {
		t.Parallel()
		u := dbtest.Database(t)
		dbtest.Exec(t, u, "CREATE SCHEMA _calco; CREATE TABLE t ()")
		if i := mustInspect(t, u); !slices.Equal(codes(i.AsSource), none) || !slices.Equal(codes(i.AsTarget), []report.ReasonCode{report.ReasonForeignMarks}) {
			t.Errorf("as source %+v, as target %+v", i.AsSource, i.AsTarget)
		}
	})
	t.Run("empty", func(t *testing.T) {
		t.Parallel()
		i := mustInspect(t, dbtest.Database(t))
		if !slices.Equal(codes(i.AsSource), none) || !slices.Equal(codes(i.AsTarget), none) {
			t.Errorf("as source %+v, as target %+v", i.AsSource, i.AsTarget)
		}
		text, err := json.Marshal(i)
		if err != nil || strings.Contains(string(text), "null") {
			t.Errorf("JSON %s, %v", text, err)
		}
	})
	t.Run("a role that reads", func(t *testing.T) {
		t.Parallel()
		u := dbtest.Database(t)
		name, reader := role(t, u, "LOGIN")
		dbtest.Exec(t, u, "CREATE TABLE open (n int); GRANT SELECT ON open TO "+name)
		i := mustInspect(t, reader)
		if !slices.Equal(codes(i.AsSource), none) || !slices.Equal(codes(i.AsTarget), []report.ReasonCode{report.ReasonPermission, report.ReasonNotEmpty}) {
			t.Errorf("as source %+v, as target %+v", i.AsSource, i.AsTarget)
		}
		dbtest.Exec(t, u, "CREATE TABLE closed (n int)")
		if i = mustInspect(t, reader); !slices.Equal(codes(i.AsSource), []report.ReasonCode{report.ReasonUnreadable}) {
			t.Errorf("as source %+v", i.AsSource)
		}
	})
	t.Run("busy", func(t *testing.T) {
		t.Parallel()
		source, target := dbtest.Database(t), dbtest.Database(t)
		dbtest.Exec(t, source, stageSQL)
		spec := Spec{Source: dsn.URL(source), Target: dsn.URL(target), Job: NewJob()}
		st := stages[slices.IndexFunc(stages, func(st stage) bool { return st.name == "a slow index" })]
		_, err := st.play(t, spec, func(cancel context.CancelCauseFunc, _ func()) {
			if i := mustInspect(t, source); !slices.Equal(codes(i.AsSource), none) || !slices.Equal(codes(i.AsTarget), []report.ReasonCode{report.ReasonBusy}) {
				t.Errorf("the source: as source %+v, as target %+v", i.AsSource, i.AsTarget)
			}
			busy := []report.ReasonCode{report.ReasonBusy}
			if i := mustInspect(t, target); !slices.Equal(codes(i.AsSource), busy) || !slices.Equal(codes(i.AsTarget), busy) {
				t.Errorf("the target: as source %+v, as target %+v", i.AsSource, i.AsTarget)
			}
			cancel(report.ErrCancelled)
		})
		if !errors.Is(err, report.ErrCancelled) {
			t.Error(err)
		}
	})
	t.Run("standby", func(t *testing.T) {
		t.Parallel()
		standby := baseBackup(t, dbtest.Cluster(t, nil))
		i := mustInspect(t, standby.URL(""))
		if !slices.Equal(codes(i.AsTarget), []report.ReasonCode{report.ReasonReadOnly}) || len(i.AsSource) > 0 && i.AsSource[0].Code != report.ReasonStandby {
			t.Errorf("as source %+v, as target %+v", i.AsSource, i.AsTarget)
		}
	})
}

// TestInspectUnreachable wants a sentence that does not call the database a source or a target.
func TestInspectUnreachable(t *testing.T) {
	t.Parallel()
	good := dbtest.Database(t)
	info, err := dsn.Parse(good)
	if err != nil {
		t.Fatal(err)
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	s := dbtest.Cluster(t, nil)
	pooled := newDatabase(t, s, "pooled", "")
	at := func(base, host string) string { return changed(t, base, func(u *url.URL) { u.Host = host }) }
	type unreachable struct {
		name, url string
		code      report.ReasonCode
		text      string
	}
	tests := []unreachable{
		{"no URL", "", report.ReasonURL, "The URL of the database cannot be used: it names no host."},
		{"unknown host", at(good, "calco.invalid"), report.ReasonHost, "The host of the database, calco.invalid, is not known."},
		// Each of its attempts, with TLS and without, had 15 seconds.
		{"silence", at(good, silent.Addr().String()), report.ReasonHost, "The database at " + silent.Addr().String() + " did not answer in time."},
		{"wrong password", as(t, good, info["user"], "sesame"), report.ReasonCredentials, fmt.Sprintf("The database refused the password of %s.", dsn.URL(good))},
		{
			"no database", changed(t, good, func(u *url.URL) { u.Path = "/nothing" }), report.ReasonNoDatabase,
			"The server at " + info.Address() + " has no database nothing.",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			isUnreachable(t, tt.url, tt.code, tt.text)
		})
	}
	t.Run("pooler", func(t *testing.T) {
		t.Parallel()
		port, _ := bouncer(t, s, "pooled", "transaction")
		u := at(pooled, "127.0.0.1:"+port)
		isUnreachable(t, u, report.ReasonPooler, "The database at "+dsn.URL(u).String()+" is reached through a pooler in transaction mode, which cannot hold a snapshot or a lock.")
	})
}

func isUnreachable(t *testing.T, u string, code report.ReasonCode, text string) {
	t.Helper()
	var err error
	noGoroutines(t, func() { _, err = Inspect(t.Context(), dsn.URL(u), nil) })
	var refused *report.RefusedError
	if !errors.As(err, &refused) || len(refused.Reasons) != 1 {
		t.Fatalf("error %v, want a refusal", err)
	}
	if r := refused.Reasons[0]; r.Code != code || r.Side != "" || r.Text.String() != text || r.Hint.IsZero() {
		t.Errorf("got %+v, want %s: %s", r, code, text)
	}
	if strings.Contains(fmt.Sprint(err), "sesame") {
		t.Errorf("a password is in %v", err)
	}
}
