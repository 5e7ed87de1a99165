package runner

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"calco/cloner"
	"calco/cloner/dsn"
	"calco/cloner/report"
)

// ErrLost is the error for a run whose job has ended, or has another worker by now. Such a run writes nothing more.
var ErrLost = errors.New("the job has ended or belongs to another worker")

// Run is one execution of a job: a takeover begins another one, with a higher term.
type Run struct {
	Task string
	Term int64
}

// Standing is whether a job may still use one of its saved databases.
type Standing int

// The standings. Moved: it leads elsewhere than when the job was made. Withdrawn: the job's user may not see it any more,
// or is gone.
const (
	Stands Standing = iota
	Gone
	Withdrawn
	Moved
)

// Job is what a worker has claimed: what was asked for, and what is true of its databases now.
type Job struct {
	Spec      cloner.Spec // without a URL where the saved database is gone
	Protected bool        // the target is, by now

	SourceStands, TargetStands Standing

	Past    *report.Report // of the last clone of the same schemas from the one into the other, if there was one
	Touched bool           // an earlier run has begun to change the target
	Events  int64          // the number of the last event of its log, which goes on over all its runs
}

// Admission is whether a job may write to its target, being what that is.
type Admission int

// The admissions. In doubt a job is not admitted.
const (
	Admitted       Admission = iota
	IsState                  // Calco's own state database
	MayBeState               // it has the identity of that, and nothing tells them apart
	IsProtected              // it is protected, as the same saved database or as another one
	MayBeProtected           // it has the identity of a protected database, and nothing tells them apart
	IsFork                   // of a protected database, which nobody has confirmed: they have one identity, and have parted
)

// Beat is what a worker says of its job about once a second. Saying the same twice does no harm.
type Beat struct {
	Run

	Progress report.Progress
	Touched  bool                // this run or an earlier one has begun to change the target
	Speeds   []int64             // of the last seconds, the newest last
	Tables   []report.TableState // that have changed
	Events   []report.Event      // that are new
	Event    int64               // the number of the first of Events; the first of a job is 1
}

// ErrUnwritable is the error for a beat or an outcome that the state database will never take, such as one that is too large.
var ErrUnwritable = errors.New("what the clone has to tell cannot be written down")

// Store is where the jobs are. Each write checks that the run still has its job, and is ErrLost if not. db has it.
type Store interface {
	// Queue makes a River client on the state database.
	Queue(*river.Config) (*river.Client[pgx.Tx], error)

	// Claim takes a queued job for a worker.
	Claim(ctx context.Context, r Run, worker string) (Job, error)

	// Beat is the heartbeat. It tells whether somebody has asked to cancel the job.
	Beat(ctx context.Context, b Beat) (cancel bool, err error)

	// Finish ends a job as its report says. It may be called again with the same outcome.
	Finish(ctx context.Context, b Beat, report report.Report) error

	// Requeue puts a job back into the queue, with a higher term, for another run to go on with. One that somebody has
	// asked to cancel it leaves as it is, and tells so: that is to be finished.
	Requeue(ctx context.Context, b Beat) (cancel bool, err error)

	// Reap puts the jobs of dead workers back into the queue, and those that never reached one, with higher terms. Those
	// that somebody wants cancelled it ends. It spares mine.
	Reap(ctx context.Context, mine []Run) error

	// ListenCancel blocks until ctx ends, and calls wake with the id of a running job that somebody wants cancelled, or
	// with "" when one may have been missed.
	ListenCancel(ctx context.Context, wake func(task string)) error

	// Admit is asked right before the first write of a run, with what its databases really are. It keeps that.
	Admit(ctx context.Context, r Run, source, target report.Identity) (Admission, error)

	// OwnsDatabase tells whether a URL, which may lead to hosts, is known to lead to the state database.
	OwnsDatabase(ctx context.Context, url dsn.URL, hosts *dsn.Hosts) (bool, error)
}

// Args are what River carries to a worker.
type Args struct {
	Task string `json:"task"`
	Term int64  `json:"term"`
}

// Kind is River's name for the work.
func (Args) Kind() string { return "clone_database" }

// InsertOpts keeps River from trying again: whether to do that is for people, or for the reaper.
func (Args) InsertOpts() river.InsertOpts { return river.InsertOpts{MaxAttempts: 1} }
