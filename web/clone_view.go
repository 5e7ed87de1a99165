package web

import (
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"calco/cloner/jobs"
	"calco/cloner/report"
	"calco/views"
)

// shownStatus is the state of a job with those that are derived.
func shownStatus(t jobs.Task) string {
	if t.Stalled() {
		return "stalled"
	}
	return string(t.Status)
}

// audience is who looks at a job.
type audience struct {
	user jobs.User
	link string // of the job's page, for this browser
}

func (s *Server) audience(c echo.Context, id string) audience {
	return audience{user: currentUser(c), link: s.address(clonePath(id))}
}

// viewTask is a job for somebody who looks at it.
func viewTask(t jobs.Task, v audience) views.CloneProps {
	now := touched(t.Progress)
	props := views.CloneProps{
		ID: t.ID, Status: shownStatus(t), Cancelling: t.Cancelling, Resumable: t.Resumable, MayAct: jobs.MayAct(v.user, t), Yours: t.UserID == v.user.ID, Owner: t.Owner,
		Link: v.link, Again: formPath(t), Newest: t.Newest, Source: viewPlace(t.Source), Target: viewPlace(t.Target), Schemas: t.Schemas, Clean: t.Clean,
		Created: t.CreatedAt, Started: t.StartedAt, Heartbeat: time.Now().Add(-t.Silence), Finished: t.FinishedAt,
		Progress: t.Progress, Speeds: t.Speeds, Speed: speedOf(t.Speeds), EveryRow: t.Verify == report.VerifyContents, Hand: byHand(t),
		Report: t.Report, Error: t.Error, Touched: t.Touched || now, Earlier: t.Touched && !now,
	}
	if t.Status == jobs.Queued {
		rest(&props)
	}
	return props
}

// rest leaves out what moves: a job in the queue has what it got done before, and does nothing now.
func rest(props *views.CloneProps) {
	props.Phases = slices.Clone(props.Phases) // other pages have them too
	for i := range props.Phases {
		props.Phases[i].Running = false
	}
	props.Active, props.Speeds, props.Speed, props.Left, props.Waiting = nil, nil, 0, 0, nil
}

// touched tells whether this life of the job has come to change its target.
func touched(p report.Progress) bool {
	return slices.ContainsFunc(p.Phases, func(ph report.PhaseProgress) bool {
		return ph.Name == report.PhaseClean || ph.Name == report.PhasePreData
	})
}

func viewPlace(p jobs.Place) views.ClonePlace {
	return views.ClonePlace{ID: p.ConnectionID, Name: p.Name, Environment: string(p.Environment), Address: p.Address, Database: p.Database}
}

func viewRow(t jobs.Task) views.CloneRow {
	return views.CloneRow{
		ID: t.ID, Status: shownStatus(t), Owner: t.Owner, Source: viewPlace(t.Source), Target: viewPlace(t.Target), Done: t.Progress.Done, Left: t.Progress.Left,
	}
}

// speedOf is the mean of the last seconds: that of a single one jumps.
func speedOf(speeds []int64) int64 {
	const seconds = 5
	last := speeds[max(0, len(speeds)-seconds):]
	if len(last) == 0 {
		return 0
	}
	var sum int64
	for _, s := range last {
		sum += s
	}
	return sum / int64(len(last))
}

// byHand are the command lines that do the same. The URLs of Calco's are in its environment, out of process lists.
func byHand(t jobs.Task) views.CloneByHand {
	var calco, dump, restore strings.Builder
	calco.WriteString(`CALCO_SOURCE="$SOURCE" CALCO_TARGET="$TARGET" calco clone`)
	dump.WriteString(`pg_dump --format=custom --dbname="$SOURCE"`)
	restore.WriteString(`pg_restore --dbname="$TARGET"`)
	for _, name := range t.Schemas {
		calco.WriteString(" --schema " + quoteShell(name))
		dump.WriteString(" --schema=" + quoteShell(`"`+strings.ReplaceAll(name, `"`, `""`)+`"`)) // a name, not a pattern
	}
	if t.Verify == report.VerifyContents {
		calco.WriteString(" --verify contents")
	}
	if t.Clean {
		calco.WriteString(" --clean")
		restore.WriteString(" --clean --if-exists")
	}
	return views.CloneByHand{Calco: calco.String(), Pgdump: dump.String() + " | " + restore.String()}
}

// quoteShell writes a word as a POSIX shell takes it.
func quoteShell(word string) string { return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'" }
