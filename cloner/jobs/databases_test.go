package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"calco/cloner/dsn"
	"calco/cloner/jobs"
)

// Production is protected, and whatever was, until an admin says otherwise.
func TestProtects(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	admin, member := f.user(jobs.RoleAdmin), f.user(jobs.RoleMember)
	saved := func(e jobs.Environment, protected bool) jobs.Connection {
		return jobs.Connection{Environment: e, Protected: protected}
	}
	type asked = jobs.DatabaseRequest
	for i, tt := range []struct {
		name      string
		saved     jobs.Connection
		user      jobs.User
		asked     asked
		want      bool
		forbidden bool
	}{
		{"new production", jobs.Connection{}, member, asked{Environment: jobs.Production}, true, false},
		{"new production, by an admin", jobs.Connection{}, admin, asked{Environment: jobs.Production}, true, false},
		{"new production, left open by an admin", jobs.Connection{}, admin, asked{Environment: jobs.Production, Unprotected: true}, false, false},
		{"new production, left open by a member", jobs.Connection{}, member, asked{Environment: jobs.Production, Unprotected: true}, true, true},
		{"new staging", jobs.Connection{}, member, asked{Environment: jobs.Staging}, false, false},
		{"new staging, protected", jobs.Connection{}, member, asked{Environment: jobs.Staging, Protected: true}, true, false},
		{"staging becomes production", saved(jobs.Staging, false), member, asked{Environment: jobs.Production}, true, false},
		{"staging becomes production, left open by a member", saved(jobs.Staging, false), member, asked{Environment: jobs.Production, Unprotected: true}, true, true},
		{"staging becomes production, with an admin's form", saved(jobs.Staging, false), admin, asked{Environment: jobs.Production}, true, false},
		{"production becomes staging", saved(jobs.Production, true), member, asked{Environment: jobs.Staging}, true, false},
		{"production becomes staging, by an admin", saved(jobs.Production, true), admin, asked{Environment: jobs.Staging, Protected: true}, true, false},
		{"production becomes open staging, by an admin", saved(jobs.Production, true), admin, asked{Environment: jobs.Staging}, false, false},
		{"protected staging stays so", saved(jobs.Staging, true), member, asked{Environment: jobs.Staging}, true, false},
		{"open production stays so", saved(jobs.Production, false), member, asked{Environment: jobs.Production, Unprotected: true}, false, false},
		{"open production is protected by its owner", saved(jobs.Production, false), member, asked{Environment: jobs.Production}, true, false},
		{"protected production, opened by its owner", saved(jobs.Production, true), member, asked{Environment: jobs.Production, Unprotected: true}, true, true},
		{"protected production, opened by an admin", saved(jobs.Production, true), admin, asked{Environment: jobs.Production, Unprotected: true}, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			const nobodyThere = "postgres://u@127.0.0.1:1/d"
			tt.asked.Name = fmt.Sprint("d", i)
			id, err := int64(0), error(nil)
			if tt.saved == (jobs.Connection{}) {
				tt.asked.URL = nobodyThere
				id, err = f.AddDatabase(t.Context(), tt.user, tt.asked)
			} else {
				id = f.saveURL(tt.user, tt.asked.Name, nobodyThere, func(c *jobs.Connection) { c.Environment, c.Protected = tt.saved.Environment, tt.saved.Protected }).ID
				err = f.ChangeDatabase(t.Context(), tt.user, id, tt.asked)
			}
			if tt.forbidden {
				if !errors.Is(err, jobs.ErrForbidden) {
					t.Errorf("got %v, want it forbidden", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := f.saved(id); got.Protected != tt.want || got.Environment != tt.asked.Environment {
				t.Errorf("got %+v; want it protected: %v", got, tt.want)
			}
		})
	}
}

// A request says all that is wrong with it, and nothing is saved.
func TestDatabaseRequests(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.store.Limit(dsn.HostPolicy{})
	ana := f.user(jobs.RoleMember)
	_, err := f.AddDatabase(t.Context(), ana, jobs.DatabaseRequest{Name: strings.Repeat("é", jobs.MaxName+1), Environment: "none", URL: "postgres://u@127.0.0.1/d"})
	for _, want := range []error{jobs.ErrLongName, jobs.ErrNoEnvironment, jobs.ErrHostForbidden} {
		if !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
	if _, err := f.AddDatabase(t.Context(), ana, jobs.DatabaseRequest{Environment: jobs.Staging, URL: "postgres://u@db.example.org/d"}); !errors.Is(err, jobs.ErrNoName) {
		t.Errorf("without a name: %v", err)
	}
	if all, err := f.Databases(t.Context(), ana); err != nil || len(all) > 0 {
		t.Errorf("saved: %v, %v", all, err)
	}
}

// Tests must not be a way to look through a network.
func TestTestLimits(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.Service = jobs.New(f.store, jobs.Options{Tests: jobs.TestLimits{InARow: 4, Every: time.Hour}})
	ana, bea := f.user(jobs.RoleMember), f.user(jobs.RoleMember)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	test := func(ctx context.Context, u jobs.User, at string) error {
		_, err := f.TestURL(ctx, u, dsn.URL("postgres://u@"+at+"/d?sslmode=disable"), 0)
		return err
	}
	code := func(err error) jobs.UnansweredCode {
		var unanswered *jobs.UnansweredError
		errors.As(err, &unanswered)
		if unanswered == nil {
			return ""
		}
		return unanswered.Code
	}
	ctx, leave := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() { _ = test(ctx, ana, silent.Addr().String()) })
		conn, err := silent.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
	const refuses = "127.0.0.1:1"
	if got := code(test(t.Context(), ana, refuses)); got != jobs.TooManyTests {
		t.Errorf("the third at a time: %q", got)
	}
	if got := code(test(t.Context(), bea, refuses)); got != "" {
		t.Errorf("somebody else: %q", got)
	}
	leave()
	all.Wait()
	for i, want := range []jobs.UnansweredCode{"", "", jobs.TooOften} {
		if got := code(test(t.Context(), ana, refuses)); got != want {
			t.Errorf("test %d after them: %q, want %q", i, got, want)
		}
	}
}
