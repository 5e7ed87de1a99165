package runner

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"calco/cloner"
)

// Interrupted is the error of a job that ended because its process stopped or died.
const Interrupted = "interrupted when the server stopped"

// ErrLost is the error for a run whose job has ended, or has another worker by now. Such a run writes nothing more.
var ErrLost = errors.New("the job has ended or belongs to another worker")

// Run is one life of a job: a takeover begins another one, with a higher term.
type Run struct {
	Task string
	Term int64
}

// Job is what a worker has claimed: what was asked for, and what is true of its databases now.
type Job struct {
	Spec      cloner.Spec    // without a URL where the saved database is gone
	Protected bool           // the target is, by now
	Past      *cloner.Report // of the last clone of the same schemas from the one into the other, if there was one
}

// Beat is what a worker says of its job about once a second. Saying the same twice does no harm.
type Beat struct {
	Run

	Progress cloner.Progress
	Speeds   []int64             // of the last seconds, the newest last
	Tables   []cloner.TableState // that have changed
	Events   []cloner.Event      // that are new
	Event    int64               // the number of the first of Events; the first of a job is 1
}

// Store is where the jobs are. Each write checks that the run still has its job, and is ErrLost if not. db has it.
type Store interface {
	// Queue makes a River client on the state database.
	Queue(*river.Config) (*river.Client[pgx.Tx], error)

	// Claim takes a queued job for a worker.
	Claim(ctx context.Context, r Run, worker string) (Job, error)

	// Beat is the heartbeat. It tells whether somebody has asked to cancel the job.
	Beat(ctx context.Context, b Beat) (cancel bool, err error)

	// Finish ends a job as its report says. It may be called again with the same outcome. An interrupted one has failed.
	Finish(ctx context.Context, b Beat, report cloner.Report, interrupted bool) error

	// Reap ends the jobs of dead workers, and queues those again that never reached one. It spares mine.
	Reap(ctx context.Context, mine []string) error

	// ListenCancel blocks until ctx ends, and calls wake with the id of a running job that somebody wants cancelled, or
	// with "" when one may have been missed.
	ListenCancel(ctx context.Context, wake func(task string)) error

	// OwnsDatabase tells whether a URL leads to the state database.
	OwnsDatabase(ctx context.Context, url cloner.URL) (bool, error)
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
