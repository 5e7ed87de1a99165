package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"calco/cloner/dsn"
	"calco/cloner/jobs"
	"calco/cloner/report"
)

// rights are who may do what with a thing that is there: yes, no, or that it is not there for them. The thing is private or
// shared, and whoever asks is its owner or not.
const rights = `
                   | nobody | stranger | viewer | owner | admin, private | admin, shared | operator
read a job         | no     | yes      | yes    | yes   | yes            | yes           | yes
cancel a job       | no     | no       | no     | yes   | yes            | yes           | yes
reconnect a job    | no     | no       | no     | yes   | yes            | yes           | yes
resume a job       | no     | no       | no     | yes   | gone           | yes           | gone
retry a job        | no     | no       | no     | yes   | gone           | yes           | gone
start a job        | gone   | gone     | yes    | yes   | gone           | yes           | gone
see a database     | gone   | gone     | yes    | yes   | gone           | yes           | gone
change a database  | gone   | gone     | no     | yes   | gone           | yes           | gone
remove a database  | gone   | gone     | no     | yes   | gone           | yes           | gone
preview its clean  | gone   | gone     | yes    | yes   | gone           | yes           | gone
look for what is in the way of its clone | gone   | gone     | yes    | yes   | gone           | yes           | gone
test it            | gone   | gone     | yes    | yes   | gone           | yes           | gone
save a database    | no     | yes      | yes    | yes   | yes            | yes           | no
test a URL         | no     | yes      | yes    | yes   | yes            | yes           | no
test one for it    | gone   | gone     | no     | yes   | gone           | yes           | gone
list users         | no     | no       | no     | no    | yes            | yes           | yes
list invitations   | no     | no       | no     | no    | yes            | yes           | yes
invite             | no     | no       | no     | no    | yes            | yes           | yes
reset a password   | no     | no       | no     | no    | yes            | yes           | yes
remove a user      | no     | no       | no     | no    | yes            | yes           | yes
`

// acts are what somebody may do with a thing of somebody else's, or of their own.
var acts = map[string]func(ctx context.Context, f *fixture, by, owner jobs.User, source, target jobs.Connection) error{
	"read a job": func(ctx context.Context, f *fixture, by, owner jobs.User, source, target jobs.Connection) error {
		_, err := f.Task(ctx, by, f.start(owner, source, target))
		return err
	},
	"cancel a job": func(ctx context.Context, f *fixture, by, owner jobs.User, source, target jobs.Connection) error {
		return f.Cancel(ctx, by, f.start(owner, source, target))
	},
	"reconnect a job": func(ctx context.Context, f *fixture, by, owner jobs.User, source, target jobs.Connection) error {
		return f.Reconnect(ctx, by, f.start(owner, source, target))
	},
	"resume a job": func(ctx context.Context, f *fixture, by, owner jobs.User, source, target jobs.Connection) error {
		id := f.start(owner, source, target)
		f.end(id, true, resumable())
		return f.Resume(ctx, by, id)
	},
	"retry a job": func(ctx context.Context, f *fixture, by, owner jobs.User, source, target jobs.Connection) error {
		id := f.start(owner, source, target)
		f.end(id, false, report.Report{Status: report.StatusFailed, Error: "the disk is full"})
		_, err := f.Retry(ctx, by, id, jobs.Again{})
		return err
	},
	"start a job": func(ctx context.Context, f *fixture, by, _ jobs.User, source, target jobs.Connection) error {
		_, err := f.Start(ctx, by, jobs.NewTask{SourceID: source.ID, TargetID: target.ID})
		return err
	},
	"see a database": func(ctx context.Context, f *fixture, by, _ jobs.User, source, _ jobs.Connection) error {
		all, err := f.Databases(ctx, by)
		if err != nil {
			return err
		}
		_, err = f.Database(ctx, by, source.ID)
		if listed := slices.ContainsFunc(all, func(c jobs.Connection) bool { return c.ID == source.ID }); listed != (err == nil) {
			return fmt.Errorf("it is listed: %t, and found: %w", listed, err)
		}
		return err
	},
	"change a database": func(ctx context.Context, f *fixture, by, _ jobs.User, source, _ jobs.Connection) error {
		return f.ChangeDatabase(ctx, by, source.ID, source.Request())
	},
	"remove a database": func(ctx context.Context, f *fixture, by, _ jobs.User, source, _ jobs.Connection) error {
		return f.RemoveDatabase(ctx, by, source.ID)
	},
	"preview its clean": func(ctx context.Context, f *fixture, by, _ jobs.User, source, _ jobs.Connection) error {
		_, err := f.PreviewClean(ctx, by, source.ID, nil)
		return answered(err)
	},
	"look for what is in the way of its clone": func(ctx context.Context, f *fixture, by, _ jobs.User, source, target jobs.Connection) error {
		_, err := f.Preflight(ctx, by, jobs.NewTask{SourceID: source.ID, TargetID: target.ID}, false)
		return answered(err)
	},
	"test it": func(ctx context.Context, f *fixture, by, _ jobs.User, source, _ jobs.Connection) error {
		_, err := f.TestDatabase(ctx, by, source.ID)
		return answered(err)
	},
	"save a database": func(ctx context.Context, f *fixture, by, _ jobs.User, source, _ jobs.Connection) error {
		r := source.Request()
		r.Name, r.URL = "another", "postgres://u@127.0.0.1:1/d"
		_, err := f.AddDatabase(ctx, by, r)
		return err
	},
	"test a URL": func(ctx context.Context, f *fixture, by, _ jobs.User, _, _ jobs.Connection) error {
		_, err := f.TestURL(ctx, by, "postgres://u@127.0.0.1:1/d", 0)
		return answered(err)
	},
	"test one for it": func(ctx context.Context, f *fixture, by, _ jobs.User, source, _ jobs.Connection) error {
		_, err := f.TestURL(ctx, by, "postgres://u@127.0.0.1:1/d", source.ID)
		return answered(err)
	},
	"list users": func(ctx context.Context, f *fixture, by, _ jobs.User, _, _ jobs.Connection) error {
		_, err := f.Users(ctx, by)
		return err
	},
	"list invitations": func(ctx context.Context, f *fixture, by, _ jobs.User, _, _ jobs.Connection) error {
		_, err := f.Invitations(ctx, by)
		return err
	},
	"invite": func(ctx context.Context, f *fixture, by, _ jobs.User, source, _ jobs.Connection) error {
		_, err := f.Invite(ctx, by, source.Name+"@example.org", jobs.RoleMember)
		return err
	},
	"reset a password": func(ctx context.Context, f *fixture, by, owner jobs.User, _, _ jobs.Connection) error {
		_, err := f.ResetPassword(ctx, by, owner.ID)
		return err
	},
	"remove a user": func(ctx context.Context, f *fixture, by, _ jobs.User, _, _ jobs.Connection) error {
		return f.RemoveUser(ctx, by, f.user(jobs.RoleMember).ID)
	},
}

// answered is nil for a database that was asked, whatever it had to say.
func answered(err error) error {
	var refused *report.RefusedError
	if errors.As(err, &refused) {
		return nil
	}
	return err
}

func TestRights(t *testing.T) {
	t.Parallel()
	lines := strings.Split(strings.Trim(rights, "\n"), "\n")
	if len(lines) != len(acts)+1 {
		t.Errorf("%d lines for %d acts", len(lines)-1, len(acts))
	}
	for _, line := range lines[1:] {
		cells := strings.Split(line, "|")
		act := strings.TrimSpace(cells[0])
		t.Run(act, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			for i, head := range strings.Split(lines[0], "|")[1:] {
				who := strings.TrimSpace(head)
				owner, by := f.user(jobs.RoleMember), jobs.User{}
				share := func(c *jobs.Connection) { c.Shared = who == "viewer" || who == "admin, shared" }
				switch who {
				case "stranger", "viewer":
					by = f.user(jobs.RoleMember)
				case "owner":
					by = owner
				case "admin, private", "admin, shared":
					by = f.user(jobs.RoleAdmin)
				case "operator":
					by = jobs.Operator()
				}
				source := f.saveURL(owner, fmt.Sprint("source", i), "postgres://u@127.0.0.1:1/source", share)
				target := f.saveURL(owner, fmt.Sprint("target", i), dsn.URL(fmt.Sprint("postgres://u@127.0.0.1:1/target", i)), share)
				got := "yes"
				switch err := acts[act](t.Context(), f, by, owner, source, target); {
				case errors.Is(err, jobs.ErrForbidden):
					got = "no"
				case errors.Is(err, jobs.ErrNotFound):
					got = "gone"
				case err != nil:
					got = err.Error()
				}
				if want := strings.TrimSpace(cells[i+1]); got != want {
					t.Errorf("%s: %s, want %s", who, got, want)
				}
			}
		})
	}
}
