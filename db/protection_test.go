package db_test

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"testing"

	"calco/cloner/dsn"
	"calco/cloner/jobs"
	"calco/cloner/report"
	"calco/cloner/runner"
	"calco/db"
	"calco/db/dbtest"
)

// Whoever saves a protected database again, under whatever name, gets no target.
func TestProtectedUnderAnotherName(t *testing.T) {
	t.Parallel()
	store := open(t)
	ana, bob := addUser(t, store, jobs.RoleAdmin), addUser(t, store, jobs.RoleMember)
	prod := saveURL(t, store, ana, "prod", "postgres://u:pw@db.example.org/prod", protected)
	loop := saveURL(t, store, ana, "loop", "postgres://u:pw@127.0.0.1/loop", protected)
	source := save(t, store, bob, "source")
	cases := []struct {
		name, url string
		want      error
	}{
		{"the same URL", "postgres://u:pw@db.example.org/prod", jobs.ErrProtected},
		{"another role, and spelled otherwise", "postgres://app:pw@DB.example.org.:5432/prod", jobs.ErrProtected},
		{"one of several hosts", "postgres://u:pw@db.example.org,db2.example.org/prod", jobs.ErrProtected},
		{"this machine", "postgres://u:pw@localhost/loop", jobs.ErrProtected},
		{"another database", "postgres://u:pw@db.example.org/dev", nil},
		{"another port", "postgres://u:pw@db.example.org:5433/prod", nil},
	}
	for i, c := range cases {
		target := saveURL(t, store, bob, "target "+strconv.Itoa(i), dsn.URL(c.url))
		_, err := people(store).Start(t.Context(), bob, jobs.NewTask{SourceID: source.ID, TargetID: target.ID})
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}

	other := saveURL(t, store, bob, "by another address", "postgres://u:pw@192.0.2.1/prod")
	for _, c := range []jobs.Connection{prod, other, loop} {
		keep(t, store, c, "7", int64(len(c.Database)))
	}
	again := jobs.NewTask{SourceID: source.ID, TargetID: other.ID}
	if _, err := people(store).Start(t.Context(), bob, again); !errors.Is(err, jobs.ErrFork) {
		t.Errorf("it has the identity of the protected database: %v", err)
	}
	forked := again
	forked.Fork = true
	id, err := people(store).Start(t.Context(), bob, forked)
	if err != nil {
		t.Fatalf("confirmed to be a fork: %v", err)
	}
	resumableAs(t, store, id, report.StatusFailed)
	if err := people(store).Resume(t.Context(), bob, id); err != nil {
		t.Errorf("a resume forgets what was confirmed: %v", err)
	}
	if err := people(store).Cancel(t.Context(), jobs.Operator(), id); err != nil {
		t.Fatal(err)
	}
	if err := change(t, store, other, "postgres://u:pw@192.0.2.2/prod"); err != nil {
		t.Fatal(err)
	}
	keep(t, store, other, "7", 4) // found before it led elsewhere
	if _, err := people(store).Start(t.Context(), bob, again); err != nil {
		t.Errorf("it leads elsewhere by now: %v", err)
	}
}

func keep(t *testing.T, store *db.Store, c jobs.Connection, system string, database int64) {
	t.Helper()
	is := report.Identity{System: system, Database: database, Address: c.Address + "/" + c.Database}
	if err := store.KeepIdentity(t.Context(), c.ID, is); err != nil {
		t.Fatal(err)
	}
}

// identity asks a database what it is.
func identity(t *testing.T, at string) report.Identity {
	t.Helper()
	found := dbtest.Query(t, at, `SELECT system_identifier, oid FROM pg_control_system(), pg_database WHERE datname = current_database()`)
	oid, err := strconv.ParseInt(found[0][1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	e := dsn.URL(at).Endpoint()
	return report.Identity{System: found[0][0], Database: oid, Address: e.Address + "/" + e.Database}
}

// unreachable is a URL to where nothing answers, with the same database.
func unreachable(t *testing.T, at string) string {
	t.Helper()
	u, err := url.Parse(at)
	if err != nil {
		t.Fatal(err)
	}
	u.Host = "127.0.0.1:1"
	return u.String()
}

func TestAdmit(t *testing.T) {
	t.Parallel()
	store, at := openAt(t)
	ana, bob := addUser(t, store, jobs.RoleAdmin), addUser(t, store, jobs.RoleMember)
	source := save(t, store, bob, "source")
	plain, guarded, away, forked := dbtest.Database(t), dbtest.Database(t), dbtest.Database(t), dbtest.Database(t)
	cut := func(string) dbtest.Cut { return dbtest.Pass }
	own, known, gone, fork := identity(t, at), identity(t, guarded), identity(t, away), identity(t, forked)
	for name, p := range map[string]struct {
		url string
		is  report.Identity
	}{"guarded": {guarded, known}, "gone": {unreachable(t, away), gone}, "fork": {plain, fork}} {
		c := saveURL(t, store, ana, name, dsn.URL(p.url), protected)
		keep(t, store, c, p.is.System, p.is.Database)
	}
	untested := dbtest.Database(t)
	saveURL(t, store, ana, "untested", dsn.URL(untested), protected)
	saveURL(t, store, ana, "untested and away", dsn.URL(unreachable(t, untested)), protected)
	other := dbtest.Database(t)
	cases := []struct {
		name, url string
		is        report.Identity
		want      runner.Admission
		confirmed runner.Admission // where the user says that it is a fork
	}{
		{"another database", other, identity(t, other), runner.Admitted, runner.Admitted},
		{"the state database", at, own, runner.IsState, runner.IsState},
		{"the identity of the state database, and no answer", unreachable(t, at), own, runner.MayBeState, runner.MayBeState},
		{"a fork of the state database", dbtest.Tap(t, other, cut), own, runner.Admitted, runner.Admitted},
		{"a protected database by another address", dbtest.Tap(t, guarded, cut), known, runner.IsProtected, runner.IsProtected},
		{"a protected database that nobody has tested", dbtest.Tap(t, untested, cut), identity(t, untested), runner.IsProtected, runner.IsProtected},
		{"a protected database that does not answer", dbtest.Tap(t, away, cut), gone, runner.MayBeProtected, runner.MayBeProtected},
		{"a fork of a protected database", dbtest.Tap(t, forked, cut), fork, runner.IsFork, runner.Admitted},
	}
	for i, c := range cases {
		target := saveURL(t, store, bob, "target "+strconv.Itoa(i), dsn.URL(c.url))
		c.is.Address = target.Address + "/" + target.Database
		for fork, want := range map[bool]runner.Admission{false: c.want, true: c.confirmed} {
			// By now it may be known what the target is.
			dbtest.Exec(t, at, "UPDATE connections SET system_identifier = NULL, database_oid = NULL WHERE name LIKE 'target %'")
			id := create(t, store, bob, source, target, func(n *jobs.NewTask) { n.Fork = fork })
			claim(t, store, id)
			run := runner.Run{Task: id, Term: 1}
			got, err := store.Admit(t.Context(), run, report.Identity{System: "1", Database: 1, Address: source.Address + "/" + source.Database}, c.is)
			if err != nil || got != want {
				t.Errorf("%s, fork %t: %d, %v, want %d", c.name, fork, got, err, want)
			}
			if err := store.Finish(t.Context(), runner.Beat{Run: run}, report.Report{Status: report.StatusRefused}); err != nil {
				t.Fatal(err)
			}
			if _, err := store.Admit(t.Context(), run, report.Identity{}, c.is); !errors.Is(err, runner.ErrLost) {
				t.Errorf("%s: admitted after its end: %v", c.name, err)
			}
		}
		if kept := dbtest.Query(t, at, fmt.Sprintf("SELECT system_identifier, database_oid FROM connections WHERE id = %d", target.ID)); kept[0][0] != c.is.System {
			t.Errorf("%s: kept %v, want %+v", c.name, kept, c.is)
		}
	}
	kept := dbtest.Query(t, at, `SELECT name FROM connections WHERE system_identifier IS NULL AND name NOT LIKE 'target %'`)
	if fmt.Sprint(kept) != "[[untested and away]]" {
		t.Errorf("the identities of %v were not kept", kept)
	}
}

// An address alone, that a member has saved for himself and could never sign in at, takes a database from nobody: everybody's
// clones into it were refused, and not even an admin saw why. What an admin or the team has saved does.
func TestProtectionByAddressAlone(t *testing.T) {
	t.Parallel()
	store, at := openAt(t)
	ana, bob, mallory := addUser(t, store, jobs.RoleAdmin), addUser(t, store, jobs.RoleMember), addUser(t, store, jobs.RoleMember)
	database := dbtest.Database(t)
	wrong, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	wrong.User = url.UserPassword("nobody", "wrong")
	source, target := save(t, store, bob, "source"), saveURL(t, store, bob, "target", dsn.URL(database))
	for i, c := range []struct {
		name   string
		owner  jobs.User
		shared bool
		url    string
		refuse error            // when the clone is made
		admit  runner.Admission // when it is not
	}{
		{"a member's, wrong password", mallory, false, wrong.String(), nil, runner.Admitted},
		{"an admin's, wrong password", ana, false, wrong.String(), jobs.ErrProtected, 0},
		{"the team's, wrong password", mallory, true, wrong.String(), jobs.ErrProtected, 0},
		{"a member's", mallory, false, database, nil, runner.IsProtected},
		{"a member's that has answered", mallory, false, database, jobs.ErrProtected, 0},
	} {
		guard := saveURL(t, store, c.owner, "guard "+strconv.Itoa(i), dsn.URL(c.url), protected, func(s *jobs.Connection) { s.Shared = c.shared })
		if c.name == "a member's that has answered" {
			if err := store.Learn(t.Context(), guard.ID); err != nil {
				t.Fatal(err)
			}
		}
		id, err := people(store).Start(t.Context(), bob, jobs.NewTask{SourceID: source.ID, TargetID: target.ID})
		if !errors.Is(err, c.refuse) {
			t.Errorf("%s: %v, want %v", c.name, err, c.refuse)
		}
		if err == nil {
			claim(t, store, id)
			run := runner.Run{Task: id, Term: 1}
			got, err := store.Admit(t.Context(), run, report.Identity{}, identity(t, database))
			if err != nil || got != c.admit {
				t.Errorf("%s: %d, %v, want %d", c.name, got, err, c.admit)
			}
			if err := store.Finish(t.Context(), runner.Beat{Run: run}, report.Report{Status: report.StatusRefused}); err != nil {
				t.Fatal(err)
			}
		}
		dbtest.Exec(t, at, fmt.Sprintf("DELETE FROM connections WHERE id = %d", guard.ID))
	}
}

// What a member has saved is not dialed on this machine, also where a job or a page asks what it is.
func TestMembersDatabasesAreNotDialed(t *testing.T) {
	t.Parallel()
	store, at := openAt(t)
	store.Limit(dsn.HostPolicy{})
	ana, bob := addUser(t, store, jobs.RoleAdmin), addUser(t, store, jobs.RoleMember)
	for _, c := range []struct {
		owner jobs.User
		want  bool
	}{{ana, true}, {bob, false}} {
		saved := saveURL(t, store, c.owner, "own", dsn.URL(at))
		own, hosts, err := store.ConnectionURL(t.Context(), saved.ID)
		if err != nil {
			t.Fatal(err)
		}
		if owns, err := store.OwnsDatabase(t.Context(), own, hosts); err != nil || owns != c.want {
			t.Errorf("%s: %v, %v, want it asked: %v", c.owner.Role, owns, err, c.want)
		}
	}
}
