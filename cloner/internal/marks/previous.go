package marks

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"calco/cloner/internal/session"
	"calco/cloner/report"
)

// ErrChanged is for a target or a source on which an interrupted clone cannot go on.
var ErrChanged = errors.New("the clone cannot go on from what is on the target")

// CannotResume says why, and that there is another way.
func CannotResume(format string, args ...any) error {
	return &report.Error{
		Phase: report.PhaseSnapshot, Err: fmt.Errorf("%w: "+format, append([]any{ErrChanged}, args...)...),
		Hint: report.Said("Clean the target and start the clone again."),
	}
}

// Previous is what an earlier run of a job has left in the target's _calco.
type Previous struct {
	ID          string
	Term        int64
	Nonce       string
	Schemas     []string
	System      string // of the source
	Database    int64
	Timeline    int
	Definitions string
	Copying     bool   // the target held nothing else when this job began to copy into it
	Epoch       int    // the last one, or 0
	EpochNonce  string // of that one

	// Where all rows had arrived in the last epoch, else false and zero: when its snapshot was taken, and how many large objects
	// the source had then.
	Copied       bool
	CopiedAt     time.Time
	LargeObjects int64
}

const previousSQL = `
	SELECT j.id, j.term, j.nonce, j.schemas, j.system, j.database, j.timeline, j.definitions,
	       EXISTS (SELECT FROM _calco.stage WHERE name = 'filling')                           AS copying,
	       coalesce(e.number, 0)                                                              AS epoch,
	       coalesce(e.nonce, '')                                                              AS epoch_nonce,
	       s.epoch IS NOT NULL                                                                AS copied,
	       coalesce(e.snapshot_at, 'epoch')                                                   AS copied_at,
	       coalesce(s.large_objects, 0)                                                       AS large_objects
	FROM _calco.job j
	LEFT JOIN _calco.epoch e ON e.number = (SELECT max(number) FROM _calco.epoch)
	LEFT JOIN _calco.stage s ON s.name = 'filled' AND s.epoch = e.number`

// Look reads what a job has left on the target: nil where there is nothing, or nothing of this job that could be read. It
// reads only.
func Look(ctx context.Context, target *session.Server, w Wish) (*Previous, error) {
	number, marked, err := readVersion(ctx, target.Control)
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the interrupted job: %w", err)
	case !marked:
		return nil, nil //nolint:nilnil // there is nothing
	case number > version:
		return nil, report.Refuse(report.Reason{
			Code: report.ReasonMarks, Side: report.Target,
			Text: report.Said(fmt.Sprintf("The target %s holds the marks of a clone by a newer version of Calco, which this one cannot read.", target.URL)),
			Hint: report.Said("Use that version. If the clone is given up, drop the schema _calco there first."),
		})
	case number < version:
		return nil, checkOlder(ctx, target, w)
	}
	found, err := session.Query[Previous](ctx, target.Control, previousSQL)
	if err != nil {
		return nil, fmt.Errorf("read the interrupted job: %w", err)
	}
	if len(found) != 1 {
		return nil, nil //nolint:nilnil // there is nothing
	}
	return &found[0], nil
}

// checkOlder: a clone that is to go on cannot do so from the marks of an older version. Any other clone drops them.
func checkOlder(ctx context.Context, target *session.Server, w Wish) error {
	ours, err := session.QueryValue[bool](ctx, target.Control, `SELECT EXISTS (SELECT FROM _calco.job WHERE id = $1)`, w.Job.ID)
	if err != nil {
		return fmt.Errorf("read the interrupted job: %w", err)
	}
	if w.Resume && (ours || w.Adopt) {
		return CannotResume("an earlier version of Calco has begun it, whose marks this one cannot read")
	}
	return nil
}

// Ours tells whether what these marks speak of is the run's to go on with. It is an error if the run has lost its target to
// another one, or its marks, and a refusal if it is to go on from any marks and these are of a clone that was not like it. It
// reads only.
func (p *Previous) Ours(ctx context.Context, source, target *session.Server, w Wish) (bool, error) {
	switch {
	case p == nil && w.Claimed:
		return false, CannotResume("somebody has dropped Calco's marks from the target")
	case p == nil:
		return false, nil
	case p.Nonce == w.Job.Nonce:
		return true, nil // perhaps the answer to the claim was lost
	case w.Claimed:
		return false, session.ErrTermLost // another job's, or a later run's
	case w.Adopt:
		return p.adoptable(ctx, source, target, w)
	case p.ID != w.Job.ID || !w.Resume:
		return false, nil
	case p.Term >= w.Job.Term:
		return false, session.ErrTermLost
	}
	return true, nil
}

// adoptable tells whether a run may go on with an interrupted job that it does not know.
func (p *Previous) adoptable(ctx context.Context, source, target *session.Server, w Wish) (bool, error) {
	if u, err := ReadUse(ctx, target.Control, ""); err != nil || u.Filled { // one that has its lock is not interrupted
		return false, err
	}
	if p.System != source.SystemIdentifier || p.Database != source.DatabaseOID || !slices.Equal(sorted(p.Schemas), sorted(w.Schemas)) {
		return false, report.Refuse(report.Reason{
			Code: report.ReasonNotEmpty, Side: report.Target,
			Text: report.Said(fmt.Sprintf("The target %s holds what an interrupted clone of another source, or of other schemas, has left.", target.URL)),
			Hint: report.Said("Give the source and the schemas of that clone, or clean the target first."),
		})
	}
	return p.Copying, nil // of a clone that was still cleaning, the rest is for a person to confirm again
}

// checkSource wants the source to be the one that was read before, with the same definitions.
func (p *Previous) checkSource(source *session.Server, definitions string) error {
	before, sumBefore, _ := strings.Cut(p.Definitions, " ")
	now, sumNow, _ := strings.Cut(definitions, " ")
	switch {
	case p.System != source.SystemIdentifier || p.Database != source.DatabaseOID:
		return CannotResume("the source is another server or database than the one that was copied")
	case p.Timeline != source.Timeline && p.Timeline != 0 && source.Timeline != 0:
		return CannotResume("the source has failed over to another server since (timeline %d, then %d), which may have taken back what was copied", p.Timeline, source.Timeline)
	case sumBefore == sumNow:
	case before != now: // even a minor one may write a definition in other words
		return CannotResume("it was begun with pg_dump %s, and this is pg_dump %s: either the schema of the source has changed since, or they write it differently", before, now)
	default:
		return CannotResume("the schema of the source has changed since")
	}
	return nil
}

// sorted is a copy in order.
func sorted(names []string) []string { return slices.Sorted(slices.Values(names)) }
