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

// onlooker is who looks at a job.
type onlooker struct {
	user jobs.User
	link string // of the job's page, for this browser
}

func (s *Server) onlooker(c echo.Context, id string) onlooker {
	return onlooker{user: currentUser(c), link: s.address(clonePath(id))}
}

// viewTask is a job for somebody who looks at it.
func viewTask(t jobs.Task, v onlooker) views.CloneProps {
	p := t.Progress
	props := views.CloneProps{
		ID: t.ID, Status: shownStatus(t), Cancelling: t.Cancelling, Resumable: t.Resumable, MayAct: jobs.MayAct(v.user, t), Yours: t.UserID == v.user.ID, Owner: t.Owner,
		Link: v.link, Again: formPath(t), Newest: t.Newest, Source: viewPlace(t.Source), Target: viewPlace(t.Target), Schemas: t.Schemas, Clean: t.Clean,
		Created: t.CreatedAt, Started: t.StartedAt, Heartbeat: time.Now().Add(-t.Silence), Finished: t.FinishedAt,
		Done: p.Done, Left: p.Left, Elapsed: p.Elapsed, Speeds: t.Speeds, Speed: speedOf(t.Speeds),
		Rows: p.Rows, RowsTotal: p.RowsTotal, Bytes: p.Bytes, Tables: p.Tables, TablesTotal: p.TablesTotal, Trouble: p.Ledger,
		EveryRow: t.Verify == report.VerifyContents, Hand: byHand(t),
	}
	props.Source.Version, props.Target.Version = number(p.SourceVersion), number(p.TargetVersion)
	if p.Trouble != nil {
		props.Waiting = &views.CloneWait{Text: p.Trouble.Text, Since: p.Trouble.Since, Until: p.Trouble.Until, Tries: p.Trouble.Tries}
	}
	for _, ph := range p.Phases {
		props.Phases = append(props.Phases, views.ClonePhase{Name: string(ph.Name), Done: ph.Done, Total: ph.Total, Running: ph.Running, Ended: ph.Ended, Elapsed: ph.Elapsed})
	}
	for _, a := range p.Active {
		props.Active = append(props.Active, views.CloneTable{Relation: a.Relation, Status: string(report.TableCopying), Rows: a.Rows, Bytes: a.Bytes, Size: a.Size})
	}
	if t.Status == jobs.Queued {
		rest(&props)
	}
	now := touched(p)
	props.Stop = views.CloneStop{Error: t.Error, Touched: t.Touched || now, Earlier: t.Touched && !now}
	if t.Report != nil {
		viewReport(&props, *t.Report)
	}
	return props
}

// rest leaves out what moves: a job in the queue has what it got done before, and does nothing now.
func rest(props *views.CloneProps) {
	for i := range props.Phases {
		props.Phases[i].Running = false
	}
	props.Active, props.Speeds, props.Speed, props.Left, props.Waiting = nil, nil, 0, 0, nil
}

// number is a version without what its packager has added: 15.20 of 15.20 (Debian 15.20-1).
func number(version string) string {
	short, _, _ := strings.Cut(version, " ")
	return short
}

// touched tells whether this life of the job has come to change its target.
func touched(p report.Progress) bool {
	return slices.ContainsFunc(p.Phases, func(ph report.PhaseProgress) bool {
		return ph.Name == report.PhaseClean || ph.Name == report.PhasePreData
	})
}

func viewReport(props *views.CloneProps, r report.Report) {
	props.Stop.Error, props.Stop.Hint, props.Stop.SQLState = r.Error, r.Hint, r.SQLState
	props.Stop.Phase, props.Stop.Relation = string(r.Phase), r.Relation
	props.Reason = viewReasons(r.Reasons)
	result := views.CloneReport{SnapshotAt: r.SnapshotAt, Pulled: r.Pulled, Warnings: r.Warnings}
	if n := r.Contents; n != nil {
		result.Contents = &views.CloneContents{EveryRow: n.Verify == report.VerifyContents, Tables: n.Tables, Rows: n.Rows, Left: n.Left}
	}
	for _, e := range r.Epochs {
		result.Epochs = append(result.Epochs, views.CloneEpoch{SnapshotAt: e.SnapshotAt, Kept: e.Kept, Redone: e.Redone, Copied: e.Copied, RedoneTables: e.RedoneTables})
	}
	for _, d := range r.Differences {
		result.Differences = append(result.Differences, views.CloneDifference(d))
	}
	for _, l := range r.Ledger {
		result.Ledger = append(result.Ledger, views.CloneLedger{Phase: string(l.Phase), Object: l.Object, SQLState: l.SQLState, Error: l.Error, Hint: l.Hint})
	}
	props.Report = &result
}

func viewReasons(reasons []report.Reason) []views.CloneReason {
	var all []views.CloneReason
	for _, r := range reasons {
		all = append(all, views.CloneReason{Code: string(r.Code), Side: string(r.Side), Text: r.Text, Hint: r.Hint, Objects: r.Objects})
	}
	return all
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
