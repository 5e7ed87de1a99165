package runner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"calco/cloner"
	"calco/cloner/dsn"
	"calco/cloner/report"
)

const (
	beatEvery     = time.Second
	writePatience = 5 * time.Second // for one write to the state database
	maxSpeeds     = 90              // a minute and a half of them, for the curve of a page
)

// The reasons of refusals that only the keeper of the jobs knows.
const (
	ReasonProtected     report.ReasonCode = "protected"      // the target is protected by now
	ReasonFork          report.ReasonCode = "fork"           // the target has the identity of a protected database
	ReasonStateDatabase report.ReasonCode = "state_database" // the target is Calco's own
	ReasonGone          report.ReasonCode = "gone"           // the saved database was removed
	ReasonWithdrawn     report.ReasonCode = "withdrawn"      // the job's user may not use the saved database any more
	ReasonMoved         report.ReasonCode = "moved"          // the saved database leads elsewhere by now
)

// execution is one job in this process, from its claim to its outcome.
type execution struct {
	runner *Runner
	run    Run
	job    Job
	meter  *cloner.Meter
	woken  chan struct{}

	mu       sync.Mutex // held while the state database is written to, so that what is new is written once
	revision int64      // of the meter, that is written
	events   int64      // that are written
	speeds   []int64
	sampled  time.Time
	bytes    int64          // at that time
	recorded *report.Report // the verdict, once it is on record
	begun    bool           // the target is about to change, or has
}

func newExecution(r *Runner, run Run, job Job) *execution {
	job.Spec.Resume, job.Spec.Touched, job.Spec.PartSize = true, job.Touched, r.options.PartSize
	return &execution{
		runner: r, run: run, job: job, meter: &cloner.Meter{}, woken: make(chan struct{}, 1), sampled: time.Now(), events: job.Events,
	}
}

// wake has the next beat come now.
func (l *execution) wake() {
	select {
	case l.woken <- struct{}{}:
	default:
	}
}

// execute returns when the outcome is written, or cannot be. The job ends with stopping, not with ctx.
func (l *execution) execute(ctx, stopping context.Context) {
	ctx = context.WithoutCancel(ctx)
	working, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(stopping, func() { cancel(errInterrupted) })()

	var beating sync.WaitGroup
	ended := make(chan struct{})
	beating.Go(func() { l.beatUntil(ctx, ended, cancel) })
	var result report.Report
	func() {
		defer beating.Wait()
		defer close(ended)
		defer func() {
			if p := recover(); p != nil { // else the job would go on saying that it lives
				l.runner.log.ErrorContext(ctx, "panic in a job", "job", l.run.Task, "panic", p, "stack", string(debug.Stack()))
				result = report.Report{Status: report.StatusFailed, Error: "a fault in Calco, whose log has more", Resumable: l.job.Touched || l.begun}
			}
		}()
		result = l.clone(working)
	}()

	writing, done := extendAfterStop(ctx, stopping, lastWrites)
	defer done()
	cause := context.Cause(working)
	switch {
	case errors.Is(cause, ErrLost):
		l.runner.log.WarnContext(ctx, "the job was lost", "job", l.run.Task, "term", l.run.Term)
		return
	case l.recorded != nil:
		result = l.mergeFinal(result)
	case result.Status == report.StatusFailed && errors.Is(cause, errInterrupted):
		if !l.requeue(writing) {
			return
		}
		result.Status, result.Error = report.StatusCancelled, report.ErrCancelled.Error()
	}
	l.finish(writing, result)
}

// extendAfterStop returns a context that ends a while after stopping.
func extendAfterStop(ctx, stopping context.Context, by time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	forget := context.AfterFunc(stopping, func() {
		select {
		case <-time.After(by):
			cancel()
		case <-ctx.Done():
		}
	})
	return ctx, func() {
		forget()
		cancel()
	}
}

// clone is the engine's part, unless the job must not begin.
func (l *execution) clone(ctx context.Context) report.Report {
	reason, err := l.awaitRefusal(ctx, l.refusal)
	switch {
	case context.Cause(ctx) != nil && errors.Is(context.Cause(ctx), report.ErrCancelled):
		return report.Report{Status: report.StatusCancelled, Error: report.ErrCancelled.Error(), Resumable: l.job.Touched}
	case err != nil:
		return report.Report{Status: report.StatusFailed, Error: err.Error(), Resumable: l.job.Touched}
	case reason != nil:
		return report.Report{Status: report.StatusRefused, Reasons: []report.Reason{*reason}, Schemas: l.job.Spec.Schemas}
	}
	report, _ := cloner.Clone(ctx, l.job.Spec, cloner.Options{ // the report has the error
		Meter: l.meter, Past: l.job.Past, Begin: l.begin, Record: l.record, Patience: l.runner.options.Patience,
	})
	return report
}

// begin asks whether the target, being what it is, may be written to, and notes that it is about to change: where that is not
// noted and no marks are on the target, a later run may do with it what was asked for.
func (l *execution) begin(ctx context.Context, source, target report.Identity) error {
	reason, err := l.awaitRefusal(ctx, func(ctx context.Context) (*report.Reason, error) {
		answer, err := l.runner.store.Admit(ctx, l.run, source, target)
		return answer.reason(), err
	})
	if err != nil {
		return err
	}
	if reason != nil {
		return &report.RefusedError{Reasons: []report.Reason{*reason}}
	}
	l.mu.Lock()
	l.begun = true
	l.mu.Unlock()
	return l.mustWrite(ctx, func(ctx context.Context, b Beat) error {
		_, err := l.runner.store.Beat(ctx, b)
		return err
	})
}

// awaitRefusal asks whether there is something against the job, with patience while the state database is away.
func (l *execution) awaitRefusal(ctx context.Context, ask func(context.Context) (*report.Reason, error)) (*report.Reason, error) {
	enough := time.After(cmp.Or(l.runner.options.Patience, cloner.DefaultPatience))
	for {
		reason, err := ask(ctx)
		if err == nil || errors.Is(err, ErrLost) {
			return reason, err
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-enough:
			return nil, err
		case <-time.After(beatEvery):
		}
	}
}

// refusal looks at what may have changed since the job was started.
func (l *execution) refusal(ctx context.Context) (*report.Reason, error) {
	spec := l.job.Spec
	if reason := cmp.Or(l.job.SourceStands.reason(report.Source), l.job.TargetStands.reason(report.Target)); reason != nil {
		return reason, nil
	}
	for _, end := range []struct {
		side  report.Side
		url   dsn.URL
		hosts *dsn.Hosts
	}{{report.Source, spec.Source, spec.SourceHosts}, {report.Target, spec.Target, spec.TargetHosts}} {
		if err := end.url.CheckRemote(end.hosts); err != nil { // it was saved before such URLs were refused
			return &report.Reason{
				Code: report.ReasonURL, Side: end.side, Text: report.Said(fmt.Sprintf("The URL of the %s cannot be used: %v.", end.side, err)),
				Hint: report.Said("Change the saved database, then start a new clone."),
			}, nil
		}
	}
	if l.job.Protected {
		return IsProtected.reason(), nil
	}
	owns, err := l.runner.store.OwnsDatabase(ctx, spec.Target, spec.TargetHosts)
	if err != nil || !owns {
		return nil, err
	}
	return IsState.reason(), nil
}

// reason is why a job is not admitted to its target, or nil. It names no saved database: its user may not see that.
func (a Admission) reason() *report.Reason {
	const another = "Choose another target."
	switch a {
	case IsState:
		return &report.Reason{Code: ReasonStateDatabase, Side: report.Target, Text: report.Said("This is Calco's own state database."), Hint: report.Said(another)}
	case MayBeState:
		return &report.Reason{
			Code: ReasonStateDatabase, Side: report.Target,
			Text: report.Said("This may be Calco's own state database: it has the same identity, and could not be told apart."), Hint: report.Said(another),
		}
	case IsProtected:
		return &report.Reason{
			Code: ReasonProtected, Side: report.Target, Text: report.Said("The target is protected: nothing may be cloned into it."),
			Hint: report.Said("Choose another target, or ask an admin to unprotect this one."),
		}
	case MayBeProtected:
		return &report.Reason{
			Code: ReasonProtected, Side: report.Target,
			Text: report.Said("The target has the identity of a protected database, which could not be asked whether it is the same one."),
			Hint: report.Said("Start the clone again when the protected database can be reached, or choose another target."),
		}
	case IsFork:
		return &report.Reason{
			Code: ReasonFork, Side: report.Target,
			Text: report.Said("The target is a fork of a protected database, such as a branch or a restored snapshot: both have the same identity."),
			Hint: report.Said("If it may be changed, start the clone again and confirm that it is a fork; or choose another target."),
		}
	case Admitted:
	}
	return nil
}

// reason is why a job must not use a database that stands so, or nil.
func (s Standing) reason(side report.Side) *report.Reason {
	the := "The saved database of the " + string(side)
	switch s {
	case Gone:
		return &report.Reason{
			Code: ReasonGone, Side: side, Text: report.Said(the + " was removed."),
			Hint: report.Said("Save it again, then start a new clone."),
		}
	case Withdrawn:
		return &report.Reason{
			Code: ReasonWithdrawn, Side: side, Text: report.Said(the + " is not shared any more with the one who started the clone, or that account was removed."),
			Hint: report.Said("Have it shared again, or start a new clone with a database that you can see."),
		}
	case Moved:
		return &report.Reason{
			Code: ReasonMoved, Side: side, Text: report.Said(the + " leads to another database than when the clone was started."),
			Hint: report.Said("Start a new clone."),
		}
	case Stands:
	}
	return nil
}

// beatUntil writes how far the job is, about once a second. What cannot be written now is written later: the copy goes
// on without the state database.
func (l *execution) beatUntil(ctx context.Context, ended <-chan struct{}, cancel context.CancelCauseFunc) {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for silent := false; ; {
		asked := false
		err := l.write(ctx, func(ctx context.Context, b Beat) (err error) {
			if l.recorded == nil {
				asked, err = l.runner.store.Beat(ctx, b)
			}
			return err
		})
		switch {
		case errors.Is(err, ErrLost):
			cancel(ErrLost)
			return
		case errors.Is(err, ErrUnwritable):
			cancel(err)
		case err != nil && !silent:
			l.runner.log.WarnContext(ctx, "the state database does not answer; the clone goes on", "job", l.run.Task, "error", err)
		case asked:
			cancel(report.ErrCancelled)
		}
		silent = err != nil
		select {
		case <-ended:
			return
		case <-tick.C:
		case <-l.woken:
		}
	}
}

// write has what is new written. If that fails it stays new.
func (l *execution) write(ctx context.Context, to func(context.Context, Beat) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writePatience)
	defer cancel()
	l.mu.Lock()
	defer l.mu.Unlock()
	changes := l.meter.Since(l.revision)
	progress := l.meter.Progress()
	l.sample(progress.Bytes)
	err := to(ctx, Beat{
		Run: l.run, Progress: progress, Touched: l.job.Touched || l.begun, Speeds: l.speeds,
		Tables: changes.Tables, Events: changes.Events, Event: l.events + 1,
	})
	if err == nil {
		l.revision = changes.Revision
		l.events += int64(len(changes.Events))
	}
	return err
}

// sample adds to the speeds, one for each second that has passed. It must be called with mu held.
func (l *execution) sample(bytes int64) {
	passed := time.Since(l.sampled)
	seconds := int((passed + beatEvery/10) / beatEvery) // ticks are not on the dot
	if seconds < 1 {
		return
	}
	speed := int64(float64(max(bytes-l.bytes, 0)) / passed.Seconds())
	for range min(seconds, maxSpeeds) {
		l.speeds = append(l.speeds, speed)
	}
	l.speeds = l.speeds[max(len(l.speeds)-maxSpeeds, 0):]
	l.sampled, l.bytes = time.Now(), bytes
}

// record puts the verdict on record, before the marks on the target go.
func (l *execution) record(ctx context.Context, report report.Report) error {
	return l.mustWrite(ctx, func(ctx context.Context, b Beat) error {
		err := l.runner.store.Finish(ctx, b, report)
		if err == nil {
			l.recorded = &report
		}
		return err
	})
}

// mustWrite has something written that the clone cannot go on without. It waits for a state database that is away, as long as
// the job may.
func (l *execution) mustWrite(ctx context.Context, to func(context.Context, Beat) error) error {
	for {
		err := l.write(ctx, to)
		if err == nil || errors.Is(err, ErrLost) || errors.Is(err, ErrUnwritable) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(beatEvery):
		}
	}
}

// mergeFinal is the recorded verdict, with what came after it. That cannot change it any more: the copy is there, and true.
func (l *execution) mergeFinal(last report.Report) report.Report {
	if last.Status == l.recorded.Status {
		return last
	}
	verdict := *l.recorded
	verdict.Warnings = append(verdict.Warnings, last.Warnings...)
	verdict.Warnings = append(verdict.Warnings, report.Said("Calco's marks may still be on the target, in the schema _calco: "+last.Error))
	return verdict
}

// finish writes the outcome, or that it cannot be written.
func (l *execution) finish(ctx context.Context, result report.Report) {
	l.writeUntilStopped(ctx, "write the outcome", func(ctx context.Context, b Beat) error {
		if result.Status == report.StatusRefused { // nothing was left on the target
			b.Touched = l.job.Touched
		}
		err := l.runner.store.Finish(ctx, b, result)
		if errors.Is(err, ErrUnwritable) {
			l.runner.log.ErrorContext(ctx, "write the outcome", "job", l.run.Task, "term", l.run.Term, "error", err)
			b = Beat{Run: b.Run, Touched: b.Touched, Event: b.Event}
			err = l.runner.store.Finish(ctx, b, report.Report{Status: report.StatusFailed, Error: ErrUnwritable.Error()})
		}
		return err
	})
}

// requeue puts the job back into the queue, unless it tells that somebody has asked to cancel it. Where that cannot be
// written, the lease runs out.
func (l *execution) requeue(ctx context.Context) (cancel bool) {
	l.writeUntilStopped(ctx, "put the job back into the queue", func(ctx context.Context, b Beat) (err error) {
		cancel, err = l.runner.store.Requeue(ctx, b)
		return err
	})
	return cancel
}

// writeUntilStopped writes until that succeeds, the job is lost, or the process may wait no longer.
func (l *execution) writeUntilStopped(ctx context.Context, act string, to func(context.Context, Beat) error) {
	for {
		err := l.write(ctx, to)
		if err == nil {
			return
		}
		l.runner.log.ErrorContext(ctx, act, "job", l.run.Task, "term", l.run.Term, "error", err)
		if errors.Is(err, ErrLost) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(beatEvery):
		}
	}
}
