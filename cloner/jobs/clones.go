package jobs

import (
	"context"
	"fmt"

	"calco/cloner/report"
)

// TaskStore keeps the jobs. What changes a job asks a rule first, in the transaction that changes it and with what that has
// locked. The error of the rule is returned, and nothing is changed. A job that is not there is ErrNotFound.
type TaskStore interface {
	// CreateTask queues a job of a user, between the databases of the one that it tries again if there is one.
	CreateTask(ctx context.Context, userID int64, n NewTask, may func(Facts) error) (id string, err error)
	// ResumeTask queues a job again.
	ResumeTask(ctx context.Context, id string, may func(Facts) error) error
	// CancelTask cancels a queued job at once, and a running one by its worker, soon. The rule is told UserID and Status.
	CancelTask(ctx context.Context, id string, may func(Task) error) error
	// ReconnectTask takes a job from a worker that has been silent for so long that the job is shown as stalled. Any other
	// job it leaves as it is. The rule is told UserID and Status.
	ReconnectTask(ctx context.Context, id string, may func(Task) error) error

	Task(ctx context.Context, id string) (Task, error)
	// CurrentTask is what a user is shown first; with nothing to show, ErrNotFound.
	CurrentTask(ctx context.Context, userID int64) (Task, error)
	RunningTasks(context.Context) ([]Task, error)
	Tasks(context.Context, TaskFilter) ([]Task, error)
	Attempts(ctx context.Context, id string) ([]Task, error)
	TaskTables(ctx context.Context, id string, f TableFilter) (rows []report.TableState, total int, err error)
	TaskEvents(ctx context.Context, id string, limit int) ([]report.Event, error)
	// Listen blocks, and tells of each job that has changed; "" is any of them.
	Listen(ctx context.Context, changed func(id string)) error
}

// Facts decide whether a job may begin, or go on.
type Facts struct {
	// Old is the job to try again or to resume, as far as UserID, Status, Source, Target, Fork, Newest and Resumable. Nil is
	// that there is none.
	Old *Task
	// Source and Target are nil where the saved database is gone.
	Source, Target *Connection

	Protected bool // the target is: as this saved database, or under whatever name somebody has saved it
	Kin       bool // the target has the identity of a protected database
	Busy      bool // another job is queued or running into the target
	Read      bool // another job reads from the target
	Written   bool // another job writes to the source
}

// Start queues a clone between two databases that its user sees, and returns its id at once. The errors are ErrNotFound for
// a database, ErrSameConnection, ErrProtected, ErrFork, ErrTargetBusy, ErrIsSource and ErrIsTarget.
func (s *Service) Start(ctx context.Context, by User, n NewTask) (id string, err error) {
	n.RetryOf = ""
	return s.create(ctx, by, n)
}

func (s *Service) create(ctx context.Context, by User, n NewTask) (id string, err error) {
	return s.store.CreateTask(ctx, by.ID, n, func(f Facts) error { return mayStart(by, n, f) })
}

// Again is how a job is tried again.
type Again struct {
	Clean       *report.Confirmation // as NewTask has it
	EndBlockers bool
	Fork        bool
}

// Retry queues a new job like an old one that has ended, of the one who asks. The errors are those of Start, ErrMoved, and
// ErrConflict: the old job has not ended, or was tried again already.
func (s *Service) Retry(ctx context.Context, by User, id string, a Again) (newID string, err error) {
	old, err := s.TaskToRetry(ctx, by, id)
	if err != nil {
		return "", err
	}
	return s.create(ctx, by, NewTask{
		RetryOf: old.ID, Schemas: old.Schemas, Verify: old.Verify, Clean: a.Clean, EndBlockers: a.EndBlockers, Fork: a.Fork,
	})
}

// TaskToRetry returns a job to somebody who may act on it.
func (s *Service) TaskToRetry(ctx context.Context, by User, id string) (Task, error) {
	task, err := s.store.Task(ctx, id)
	if err == nil && !MayAct(by, task) {
		err = ErrForbidden
	}
	if err != nil {
		return Task{}, err
	}
	return task, nil
}

// Resume queues a job again that ended early, to go on with what it has left on its target. The errors are those of Start,
// ErrMoved, and ErrConflict: it cannot go on, or does already.
func (s *Service) Resume(ctx context.Context, by User, id string) error {
	return s.store.ResumeTask(ctx, id, func(f Facts) error { return mayResume(by, f) })
}

// Cancel cancels a queued job at once, and a running one soon. The error for one that has ended is ErrConflict.
func (s *Service) Cancel(ctx context.Context, by User, id string) error {
	return s.store.CancelTask(ctx, id, func(t Task) error {
		switch {
		case !MayAct(by, t):
			return ErrForbidden
		case t.Status.Ended():
			return fmt.Errorf("the job is %s: %w", t.Status, ErrConflict)
		}
		return nil
	})
}

// Reconnect takes a stalled job from its worker, for another one to go on with. Any other job it leaves as it is.
func (s *Service) Reconnect(ctx context.Context, by User, id string) error {
	return s.store.ReconnectTask(ctx, id, func(t Task) error {
		if !MayAct(by, t) {
			return ErrForbidden
		}
		return nil
	})
}

// mayStart decides whether somebody may start a job.
func mayStart(by User, n NewTask, f Facts) error {
	again := n.RetryOf != ""
	if again {
		if err := mayRetry(by, f.Old); err != nil {
			return err
		}
	}
	if err := mayUse(by, f, n.Fork); err != nil {
		return err
	}
	if again {
		if err := f.unmoved(); err != nil {
			return err
		}
	}
	return f.free()
}

// mayRetry decides whether somebody may try a job again, whatever becomes of its databases.
func mayRetry(by User, old *Task) error {
	switch {
	case old == nil:
		return ErrNotFound
	case !MayAct(by, *old):
		return ErrForbidden
	case !old.Status.Ended():
		return fmt.Errorf("the job to try again has not ended: %w", ErrConflict)
	case old.Newest != "":
		return fmt.Errorf("the job was tried again already, as %s: %w", old.Newest, ErrConflict)
	}
	return nil
}

// mayResume decides whether somebody may have a job go on.
func mayResume(by User, f Facts) error {
	switch {
	case f.Old == nil:
		return ErrNotFound
	case !MayAct(by, *f.Old):
		return ErrForbidden
	case !f.Old.Status.Ended():
		return fmt.Errorf("the job is %s: %w", f.Old.Status, ErrConflict)
	}
	if err := mayUse(by, f, f.Old.Fork); err != nil {
		return err
	}
	if err := f.free(); err != nil {
		return err
	}
	if !f.Old.Resumable {
		return fmt.Errorf("there is nothing to go on with: %w", ErrConflict)
	}
	return f.unmoved()
}

// mayUse decides whether somebody may clone from the source into the target. Where identities alone are equal the target may
// be a fork: whoever says so may start the job, and its worker looks whether it is.
func mayUse(by User, f Facts, fork bool) error {
	switch {
	case f.Source == nil || f.Target == nil || !MaySee(by, *f.Source) || !MaySee(by, *f.Target):
		return ErrNotFound
	case f.Source.ID == f.Target.ID:
		return ErrSameConnection
	case f.Protected:
		return ErrProtected
	case f.Kin && !fork:
		return ErrFork
	}
	return nil
}

// unmoved is ErrMoved where a saved database leads elsewhere than the old job went: that is what was shown and typed.
func (f Facts) unmoved() error {
	if !f.Old.Source.Same(f.Source.Place()) || !f.Old.Target.Same(f.Target.Place()) {
		return ErrMoved
	}
	return nil
}

// free refuses what other jobs are busy with.
func (f Facts) free() error {
	switch {
	case f.Busy:
		return ErrTargetBusy
	case f.Read:
		return ErrIsSource
	case f.Written:
		return ErrIsTarget
	}
	return nil
}

// Task returns a job.
func (s *Service) Task(ctx context.Context, by User, id string) (Task, error) {
	if err := mayRead(by); err != nil {
		return Task{}, err
	}
	return s.store.Task(ctx, id)
}

// CurrentTask returns what somebody is shown first: the newest own job that is queued or running, or else the newest one that
// went wrong in the last two hours and was not tried again. With neither the error is ErrNotFound.
func (s *Service) CurrentTask(ctx context.Context, by User) (Task, error) {
	if err := mayRead(by); err != nil {
		return Task{}, err
	}
	return s.store.CurrentTask(ctx, by.ID)
}

// RunningTasks returns the jobs that are queued or running, the newest first, at most 50.
func (s *Service) RunningTasks(ctx context.Context, by User) ([]Task, error) {
	if err := mayRead(by); err != nil {
		return nil, err
	}
	return s.store.RunningTasks(ctx)
}

// Tasks returns jobs, the newest first. Their reports have at most 50 differences and 50 entries of the ledger.
func (s *Service) Tasks(ctx context.Context, by User, f TaskFilter) ([]Task, error) {
	if err := mayRead(by); err != nil {
		return nil, err
	}
	return s.store.Tasks(ctx, f)
}

// Attempts returns the jobs that try one thing again and again, of which this is one, the oldest first.
func (s *Service) Attempts(ctx context.Context, by User, id string) ([]Task, error) {
	if err := mayRead(by); err != nil {
		return nil, err
	}
	return s.store.Attempts(ctx, id)
}

// Tables returns the tables of a job, what is going on first, then what failed, then the largest, and how many the filter
// has in all. A job that is not there has none.
func (s *Service) Tables(ctx context.Context, by User, id string, f TableFilter) (rows []report.TableState, total int, err error) {
	if err := mayRead(by); err != nil {
		return nil, 0, err
	}
	return s.store.TaskTables(ctx, id, f)
}

// Events returns the log of a job, the newest line first. A job that is not there has none.
func (s *Service) Events(ctx context.Context, by User, id string, limit int) ([]report.Event, error) {
	if err := mayRead(by); err != nil {
		return nil, err
	}
	return s.store.TaskEvents(ctx, id, limit)
}

// Listen calls changed with the id of each job that changes, and with "" when a change may have been missed. It blocks until
// ctx ends, and returns why it did.
func (s *Service) Listen(ctx context.Context, changed func(id string)) error {
	return s.store.Listen(ctx, changed)
}

// Reread returns a job once for all who look on. Each of them has asked for it with Task before.
func (s *Service) Reread(ctx context.Context, id string) (Task, error) { return s.store.Task(ctx, id) }
