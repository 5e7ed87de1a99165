package jobs_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"calco/cloner/jobs"
	"calco/cloner/report"
	"calco/cloner/runner"
)

func TestStartRefuses(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ana, bea, admin := f.user(jobs.RoleMember), f.user(jobs.RoleMember), f.user(jobs.RoleAdmin)
	one, two, three := f.save(ana, "one"), f.save(ana, "two"), f.save(ana, "three")
	twoAgain := f.saveURL(bea, "two as well", "postgres://other@db.example.org:5432/two", shared)
	oneAgain := f.saveURL(bea, "one as well", "postgres://other@db.example.org:5432/one", shared)
	prod := f.save(ana, "prod", protected)
	running := f.start(ana, one, two)
	if _, err := f.store.Claim(t.Context(), runner.Run{Task: running, Term: 1}, "test"); err != nil {
		t.Fatal(err)
	}

	cases := []struct {
		name           string
		by             jobs.User
		source, target int64
		want           error
	}{
		{"the same twice", ana, one.ID, one.ID, jobs.ErrSameConnection},
		{"a source of somebody else", bea, one.ID, oneAgain.ID, jobs.ErrNotFound},
		{"a target of somebody else", admin, oneAgain.ID, three.ID, jobs.ErrNotFound},
		{"no such database", ana, one.ID, 999, jobs.ErrNotFound},
		{"a protected target", ana, one.ID, prod.ID, jobs.ErrProtected},
		{"a busy target", ana, three.ID, two.ID, jobs.ErrTargetBusy},
		{"a busy target under another name", ana, three.ID, twoAgain.ID, jobs.ErrTargetBusy},
		{"a target that is read", ana, three.ID, one.ID, jobs.ErrIsSource},
		{"a target that is read under another name", ana, three.ID, oneAgain.ID, jobs.ErrIsSource},
		{"a source that is written", ana, two.ID, three.ID, jobs.ErrIsTarget},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if _, err := f.Start(t.Context(), c.by, jobs.NewTask{SourceID: c.source, TargetID: c.target}); !errors.Is(err, c.want) {
				t.Errorf("error %v, want %v", err, c.want)
			}
		})
	}
	again := func(by jobs.User, id string) error {
		_, err := f.Retry(t.Context(), by, id, jobs.Again{})
		return err
	}
	if err := again(ana, "aaaaaaaaaa"); !errors.Is(err, jobs.ErrNotFound) {
		t.Errorf("again, what never was: %v", err)
	}
	for name, err := range map[string]error{
		"try it again":             again(ana, running),
		"remove the source":        f.RemoveDatabase(t.Context(), ana, one.ID),
		"remove the target":        f.RemoveDatabase(t.Context(), ana, two.ID),
		"lead it elsewhere":        f.resave(two, "postgres://u@elsewhere/d"),
		"remove the user":          f.store.RemoveUser(t.Context(), ana.ID),
		"remove what nobody needs": ignore(f.RemoveDatabase(t.Context(), ana, three.ID)),
	} {
		if !errors.Is(err, jobs.ErrConflict) {
			t.Errorf("%s: %v, want a conflict", name, err)
		}
	}
}

// ignore turns success into the conflict that the others of a table want.
func ignore(err error) error {
	if err == nil {
		return jobs.ErrConflict
	}
	return err
}

// Many people start at once, into one database that is saved under several names: one gets it.
func TestStartAtOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ana := f.user(jobs.RoleMember)
	source := f.save(ana, "source")
	var all sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		target := f.saveURL(ana, fmt.Sprint("target ", i), "postgres://u@h/target")
		all.Go(func() {
			_, errs[i] = f.Start(t.Context(), ana, jobs.NewTask{SourceID: source.ID, TargetID: target.ID})
		})
	}
	all.Wait()
	began := 0
	for _, err := range errs {
		switch {
		case err == nil:
			began++
		case !errors.Is(err, jobs.ErrTargetBusy):
			t.Error(err)
		}
	}
	if began != 1 {
		t.Errorf("%d began, want 1", began)
	}
}

// Trying a job again, and going on with it, went on for ever on databases that had been withdrawn, and a retry went wherever
// the saved database led by then, though the place of the old job had been shown and typed.
func TestRightsNow(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ana, bob := f.user(jobs.RoleMember), f.user(jobs.RoleMember)
	source, target := f.save(bob, "source"), f.save(ana, "target", shared)
	id := f.start(bob, source, target)
	f.end(id, true, resumable())

	target.Shared = false
	if err := f.resave(target, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Retry(t.Context(), bob, id, jobs.Again{}); !errors.Is(err, jobs.ErrNotFound) {
		t.Errorf("tried again into a database that was withdrawn: %v", err)
	}
	if err := f.Resume(t.Context(), bob, id); !errors.Is(err, jobs.ErrNotFound) {
		t.Errorf("resumed into a database that was withdrawn: %v", err)
	}

	target.Shared = true
	if err := f.resave(target, "postgres://u:pw@db.example.org/precious"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Retry(t.Context(), bob, id, jobs.Again{}); !errors.Is(err, jobs.ErrMoved) {
		t.Errorf("tried again into another database: %v", err)
	}
}

func TestResumeRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		before func(f *fixture, ana jobs.User, source, target jobs.Connection, id string)
		want   error
	}{
		{"tried again", func(f *fixture, ana jobs.User, source, target jobs.Connection, id string) {
			again, err := f.Retry(f.Context(), ana, id, jobs.Again{})
			if err != nil {
				f.Fatal(err)
			}
			f.end(again, false, report.Report{Status: report.StatusRefused})
		}, jobs.ErrConflict},
		{"a busy target", func(f *fixture, ana jobs.User, source, target jobs.Connection, _ string) {
			f.start(ana, source, target)
		}, jobs.ErrTargetBusy},
		{"a busy target under another name", func(f *fixture, ana jobs.User, source, _ jobs.Connection, _ string) {
			f.start(ana, source, f.saveURL(ana, "alias", "postgres://other@db.example.org/target"))
		}, jobs.ErrTargetBusy},
		{"a target that is read", func(f *fixture, ana jobs.User, _, target jobs.Connection, _ string) {
			f.start(ana, target, f.save(ana, "other"))
		}, jobs.ErrIsSource},
		{"a source that is written", func(f *fixture, ana jobs.User, source, _ jobs.Connection, _ string) {
			f.start(ana, f.save(ana, "other"), source)
		}, jobs.ErrIsTarget},
		{"a target that another clone has filled", func(f *fixture, ana jobs.User, source, _ jobs.Connection, _ string) {
			later := f.start(ana, source, f.saveURL(ana, "alias", "postgres://other@db.example.org/target"))
			f.end(later, true, report.Report{Status: report.StatusCompleted})
		}, jobs.ErrConflict},
		{"a protected target", func(f *fixture, _ jobs.User, _, target jobs.Connection, _ string) {
			target.Protected = true
			if err := f.resave(target, ""); err != nil {
				f.Fatal(err)
			}
		}, jobs.ErrProtected},
		{"a target that is elsewhere", func(f *fixture, _ jobs.User, _, target jobs.Connection, _ string) {
			if err := f.resave(target, "postgres://u@elsewhere/target"); err != nil {
				f.Fatal(err)
			}
		}, jobs.ErrMoved},
		{"a target that is gone", func(f *fixture, ana jobs.User, _, target jobs.Connection, _ string) {
			if err := f.RemoveDatabase(f.Context(), ana, target.ID); err != nil {
				f.Fatal(err)
			}
		}, jobs.ErrNotFound},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			ana := f.user(jobs.RoleMember)
			source, target := f.save(ana, "source"), f.save(ana, "target")
			id := f.start(ana, source, target)
			f.end(id, true, resumable())
			c.before(f, ana, source, target, id)
			if err := f.Resume(t.Context(), ana, id); !errors.Is(err, c.want) {
				t.Errorf("error %v, want %v", err, c.want)
			}
			if got := f.task(id); got.Status != jobs.Failed || got.Term != 1 {
				t.Errorf("the job is %s with term %d", got.Status, got.Term)
			}
		})
	}
}
