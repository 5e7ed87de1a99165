package marks

import (
	"context"
	"errors"
	"fmt"

	"calco/cloner/internal/session"
	"calco/cloner/report"
)

// Job is one run of a job.
type Job struct {
	ID    string
	Term  int64
	Nonce string // of this run alone: it is in the job's row, and tells whether a write arrived whose answer was lost
}

// ApplicationName marks every session of this run, so that a takeover finds and ends them. PostgreSQL cuts it at 63 bytes.
func (j Job) ApplicationName() string { return fmt.Sprintf("calco/%s/%d", j.ID, j.Term) }

// Wish is what a run wants of the target.
type Wish struct {
	Job     Job
	Schemas []string // none: the whole database
	Resume  bool     // go on from what the job has left there
	Adopt   bool     // go on from what any job has left there, if that was like this one, and become that job

	// Claimed: this run had the target before, and Again: an earlier attempt of it may still have something to commit.
	Claimed, Again bool

	// Announce is called before something is written for the first time.
	Announce func(ctx context.Context) error
}

// Lock is a target that nobody else clones into, and a source that nobody clones into, as long as the control sessions of both
// live.
type Lock struct {
	Job            Job       // that of the wish, or the one that was adopted
	Previous       *Previous // what is to go on, or nil
	source, target *session.Server
	wish           Wish
}

// Acquire takes the locks of both databases, and the target from what is left of an earlier run of the job: its backends are
// ended on both sides, since their locks would be waited for and their transactions could still commit, and with the higher
// term those that still come write nothing. With a wish that says so, the run becomes the job that it finds; its sessions take
// over the name. Where another clone uses one of the databases that is a refusal, and nothing of it is touched.
func Acquire(ctx context.Context, source, target *session.Server, w Wish) (*Lock, error) {
	l := &Lock{Job: w.Job, source: source, target: target, wish: w}
	if err := l.takeOver(ctx); err != nil {
		return nil, err
	}
	reasons, err := lock(ctx, source, target)
	if err == nil {
		err = report.Refuse(reasons...)
	}
	if err == nil && l.Previous == nil {
		err = l.endInterrupted(ctx)
	}
	if err != nil {
		return nil, err
	}
	return l, nil
}

// takeOver finds what the job has left, and makes sure that nobody else writes for it.
func (l *Lock) takeOver(ctx context.Context) error {
	if l.wish.Again {
		if err := EndBackends(ctx, l.target.Control, l.Job.ApplicationName()); err != nil {
			return fmt.Errorf("end the earlier attempt: %w", err)
		}
	}
	previous, err := Look(ctx, l.target, l.wish)
	if err != nil {
		return err
	}
	ours, err := previous.Ours(ctx, l.source, l.target, l.wish)
	if err != nil {
		return err
	}
	if !ours {
		return l.endUnmarked(ctx, previous)
	}
	if l.wish.Adopt && previous.Nonce != l.Job.Nonce {
		if err := l.adopt(ctx, previous); err != nil {
			return err
		}
	}
	if err := l.endEarlier(ctx, previous, l.wish.Claimed || previous.Nonce == l.Job.Nonce); err != nil {
		return err
	}
	// What they committed last counts too.
	if previous, err = Look(ctx, l.target, l.wish); err != nil {
		return err
	}
	if previous == nil || previous.Nonce != l.Job.Nonce {
		return session.ErrTermLost
	}
	l.Previous = previous
	return nil
}

// endUnmarked ends what may be left of a run that had not yet come to write its marks: it still has the lock.
func (l *Lock) endUnmarked(ctx context.Context, previous *Previous) error {
	if previous != nil || !l.wish.Resume || l.wish.Adopt || l.Job.Term < 2 {
		return nil
	}
	for _, s := range []*session.Server{l.target, l.source} {
		if err := endOthers(ctx, s.Control, l.Job); err != nil {
			return fmt.Errorf("end the interrupted run on the %s: %w", s.Side, err)
		}
	}
	return nil
}

// adopt becomes the interrupted job. The sessions take over its name.
func (l *Lock) adopt(ctx context.Context, previous *Previous) error {
	l.Job.ID, l.Job.Term = previous.ID, previous.Term+1
	name := l.Job.ApplicationName()
	return errors.Join(l.source.Rename(ctx, name), l.target.Rename(ctx, name))
}

// endEarlier makes sure that nobody else writes for this job: it ends the backends of its earlier runs, and of earlier
// attempts of this one, and raises the term. The sessions that hold the snapshot of this run stay.
func (l *Lock) endEarlier(ctx context.Context, previous *Previous, claimed bool) error {
	if err := EndBackends(ctx, l.target.Control, backendsOf(l.Job.ID)); err != nil {
		return fmt.Errorf("end the interrupted run: %w", err)
	}
	if !claimed {
		if err := l.wish.Announce(ctx); err != nil {
			return err
		}
		if err := l.raiseTerm(ctx, previous); err != nil {
			return err
		}
	}
	if err := endOthers(ctx, l.source.Control, l.Job); err != nil {
		return fmt.Errorf("end the interrupted run on the source: %w", err)
	}
	return nil
}

// raiseTerm waits for writers of the old term that came since they were last looked for, and ends them again. With the new
// nonce nobody else has the same fence, whatever terms are given out elsewhere.
func (l *Lock) raiseTerm(ctx context.Context, previous *Previous) error {
	for {
		raised, err := l.target.Control.SimpleValue(ctx, fmt.Sprintf(`BEGIN READ WRITE; SET LOCAL lock_timeout = '1s'; SET LOCAL synchronous_commit = on;
			WITH raised AS (UPDATE _calco.job SET term = %[1]d, nonce = %[4]s, status = NULL WHERE id = %[2]s AND nonce = %[3]s AND term < %[1]d RETURNING 1)
			SELECT count(*) FROM raised; COMMIT`,
			l.Job.Term, session.QuoteLiteral(previous.ID), session.QuoteLiteral(previous.Nonce), session.QuoteLiteral(l.Job.Nonce)))
		switch {
		case session.SQLState(err) == session.LockNotAvailable:
			if err := l.target.Control.Exec(ctx, "ROLLBACK"); err != nil {
				return fmt.Errorf("take over the target: %w", err)
			}
		case err != nil:
			return fmt.Errorf("take over the target: %w", err)
		case raised != "1":
			return session.ErrTermLost
		}
		if ended := endOthers(ctx, l.target.Control, l.Job); ended != nil {
			return fmt.Errorf("end the interrupted run: %w", ended)
		}
		if err == nil {
			return nil
		}
	}
}

// endInterrupted ends the backends of any job that left its schema behind, and waits until they are gone, since a dead
// client's transaction may still commit. That job is dead: this one has its lock.
func (l *Lock) endInterrupted(ctx context.Context) error {
	left, err := session.QueryValue[bool](ctx, l.target.Control, `SELECT to_regnamespace('_calco') IS NOT NULL`)
	if err != nil || !left {
		return err
	}
	jobs, err := session.Query[struct{ ID string }](ctx, l.target.Control, `SELECT id FROM _calco.job`)
	if err != nil && session.SQLState(err) != session.NoTable {
		return fmt.Errorf("read the interrupted job: %w", err)
	}
	for _, j := range jobs {
		if err := EndBackends(ctx, l.target.Control, backendsOf(j.ID)); err != nil {
			return fmt.Errorf("end the interrupted job: %w", err)
		}
	}
	return nil
}
