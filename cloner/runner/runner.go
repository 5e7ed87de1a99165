// Package runner executes a job around the engine: it claims a job that River brings, clones, writes about once a
// second how far that is, and writes the outcome, whatever happens meanwhile to people, processes and the state
// database. It has no SQL of its own, knows no HTTP, and nothing of how rows are copied.
package runner

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"golang.org/x/sync/errgroup"
)

// DefaultJobs is how many jobs run at a time when Options do not say.
const DefaultJobs = 2

const (
	reapEvery    = 5 * time.Second
	stopPatience = 10 * time.Second // for the jobs that run when the process stops
	lastWrites   = 5 * time.Second  // of that: how long their last words are tried to be written
)

// errInterrupted is the cause to end a job with because the process stops. It goes on in the next one.
var errInterrupted = errors.New("interrupted when the server stopped")

// Options are what a Runner may be told. The zero value is ready.
type Options struct {
	Jobs     int           // at a time; 0 means DefaultJobs
	Idle     bool          // run none, and only look after those of dead workers
	PartSize int64         // see cloner.Spec
	Patience time.Duration // see cloner.Options
	Log      *slog.Logger  // nil is slog.Default
}

// Runner works the jobs of a state database. Its methods are safe for concurrent use.
type Runner struct {
	store   Store
	options Options
	log     *slog.Logger
	name    string // of this process, unlike that of any other

	mu      sync.Mutex
	running map[*execution]struct{} // a job may have two: one that was lost takes a moment to end
}

// New makes a Runner. It does nothing before Run.
func New(store Store, o Options) *Runner {
	if o.Jobs <= 0 {
		o.Jobs = DefaultJobs
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	host, _ := os.Hostname() // only for people to read
	return &Runner{
		store: store, options: o, log: o.Log, running: map[*execution]struct{}{},
		name: fmt.Sprintf("%.40s/%d/%s", host, os.Getpid(), rand.Text()[:8]),
	}
}

// Run works jobs until ctx ends. Then those that run are put back into the queue, for another process to go on with, which
// takes a few seconds. It returns when nothing runs any more.
func (r *Runner) Run(ctx context.Context) error {
	if r.options.Idle {
		return r.reap(ctx)
	}
	workers := river.NewWorkers()
	river.AddWorker(workers, &worker{runner: r, stopping: ctx})
	client, err := r.store.Queue(&river.Config{
		ID:                  r.name,
		Queues:              map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: r.options.Jobs}},
		Workers:             workers,
		FetchOnlyKnownKinds: true,
		Logger:              slog.New(quiet{r.log.Handler()}),
	})
	if err != nil {
		return fmt.Errorf("work jobs: %w", err)
	}
	// River ends with Stop, not with ctx: the jobs have outcomes to write first.
	if err := client.Start(context.WithoutCancel(ctx)); err != nil {
		return fmt.Errorf("work jobs: %w", err)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return r.reap(ctx) })
	group.Go(func() error {
		_ = r.store.ListenCancel(ctx, r.wake) // it ends with ctx only
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		return stop(context.WithoutCancel(ctx), client)
	})
	return group.Wait()
}

func stop(ctx context.Context, client *river.Client[pgx.Tx]) error {
	ctx, cancel := context.WithTimeout(ctx, stopPatience)
	defer cancel()
	if err := client.Stop(ctx); err != nil {
		return fmt.Errorf("stop the jobs: %w", err)
	}
	return nil
}

// reap looks for jobs of dead workers, now and then.
func (r *Runner) reap(ctx context.Context) error {
	tick := time.NewTicker(reapEvery)
	defer tick.Stop()
	for {
		if err := r.store.Reap(ctx, r.mine()); err != nil && ctx.Err() == nil {
			r.log.WarnContext(ctx, "reap", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// mine are the jobs that live in this process, whatever their rows say while nothing can be written there.
func (r *Runner) mine() []Run {
	r.mu.Lock()
	defer r.mu.Unlock()
	runs := []Run{}
	for l := range r.running {
		runs = append(runs, l.run)
	}
	return runs
}

// wake has a job look whether it is to be cancelled, or all of them for "".
func (r *Runner) wake(task string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for l := range r.running {
		if task == "" || task == l.run.Task {
			l.wake()
		}
	}
}

func (r *Runner) enter(l *execution) (leave func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running[l] = struct{}{}
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.running, l)
	}
}

// worker is what River gives jobs to.
type worker struct {
	river.WorkerDefaults[Args]

	runner   *Runner
	stopping context.Context // the root of all jobs: it ends when the process begins to stop
}

// Timeout is none: a clone takes as long as it takes.
func (*worker) Timeout(*river.Job[Args]) time.Duration { return -1 }

// Work executes a job. Its outcome is in the task's row; to River it is only done.
func (w *worker) Work(ctx context.Context, job *river.Job[Args]) error {
	if w.stopping.Err() != nil {
		return river.JobSnooze(0) // the next process has it
	}
	run := Run{Task: job.Args.Task, Term: job.Args.Term}
	claimed, err := w.runner.store.Claim(ctx, run, w.runner.name)
	if errors.Is(err, ErrLost) {
		return nil
	}
	if err != nil {
		return err // the reaper queues it again
	}
	l := newExecution(w.runner, run, claimed)
	defer w.runner.enter(l)()
	l.execute(ctx, w.stopping)
	return nil
}

// quiet leaves out what River says of itself when all is well.
type quiet struct{ slog.Handler }

func (q quiet) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && q.Handler.Enabled(ctx, level)
}

// WithAttrs keeps quiet.
func (q quiet) WithAttrs(attrs []slog.Attr) slog.Handler { return quiet{q.Handler.WithAttrs(attrs)} }

// WithGroup keeps quiet.
func (q quiet) WithGroup(name string) slog.Handler { return quiet{q.Handler.WithGroup(name)} }
