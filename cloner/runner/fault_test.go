package runner_test

import (
	"context"
	"strings"
	"testing"

	"calco/cloner/dsn"
	"calco/cloner/jobs"
	"calco/cloner/report"
	"calco/cloner/runner"
	"calco/db"
	"calco/db/dbtest"
)

// faulty is a store in which something goes wrong.
type faulty struct {
	*db.Store
	owns   func()
	finish func(runner.Beat, report.Report) error
}

func (f faulty) OwnsDatabase(ctx context.Context, u dsn.URL, hosts *dsn.Hosts) (bool, error) {
	if f.owns != nil {
		f.owns()
	}
	return f.Store.OwnsDatabase(ctx, u, hosts)
}

func (f faulty) Finish(ctx context.Context, b runner.Beat, r report.Report) error {
	if f.finish != nil {
		if err := f.finish(b, r); err != nil {
			return err
		}
	}
	return f.Store.Finish(ctx, b, r)
}

// A fault in the goroutine of a job fails it. The job went on saying that it lives, and its target was in use for ever.
func TestPanicFailsTheJob(t *testing.T) {
	t.Parallel()
	f := newFixture(t, library)
	f.work(faulty{Store: f.store, owns: func() { panic("on purpose") }}, runner.Options{Jobs: 1})
	if task := f.awaitEnd(f.create()); task.Status != jobs.Failed || !strings.Contains(task.Error, "a fault in Calco") {
		t.Errorf("%s: %s", task.Status, task.Error)
	}
}

// An outcome that the state database will never take is written as that. Its worker tried again for ever, even when
// somebody cancelled the job.
func TestOutcomeThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	f := newFixture(t, library)
	f.work(faulty{Store: f.store, finish: func(b runner.Beat, r report.Report) error {
		if r.Error == runner.ErrUnwritable.Error() {
			return nil
		}
		b.Tables = []report.TableState{{Relation: "a", Status: "no such status"}}
		return f.store.Finish(t.Context(), b, r)
	}}, runner.Options{Jobs: 1})
	if task := f.awaitEnd(f.create()); task.Status != jobs.Failed || task.Error != runner.ErrUnwritable.Error() {
		t.Errorf("%s: %s", task.Status, task.Error)
	}
}

// What a server says reaches the state database whatever it is: a zero byte in a name, which PostgreSQL has not, is another
// character there.
func TestZeroBytes(t *testing.T) {
	t.Parallel()
	f := newFixture(t, library)
	dbtest.Exec(t, f.targetURL, "CREATE TABLE zzzz (id int)")
	lying := f.save("lying", dbtest.Distort(t, f.targetURL, dbtest.Replace("zzzz", "zz\x00z")))
	f.work(f.store, runner.Options{Jobs: 1})
	task := f.awaitEnd(f.create(func(n *jobs.NewTask) { n.TargetID = lying }))
	if task.Status != jobs.Refused || !strings.Contains(task.Report.Reasons[0].Text.String(), "table public.zz�z") {
		t.Errorf("%s: %s %+v", task.Status, task.Error, task.Report)
	}
}
