package views

import (
	"context"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/a-h/templ"

	"calco/cloner/report"
)

// ended tells whether nothing more will happen to the job.
func (c CloneProps) ended() bool {
	return c.Status != "queued" && c.Status != "running" && c.Status != "stalled"
}

// stopped tells whether the job ended without coming to its end.
func (c CloneProps) stopped() bool {
	return c.Status == "failed" || c.Status == "cancelled"
}

// percent is 100 only for a job that came to its end: a copy that is all there may still be compared.
func (c CloneProps) percent() int {
	if c.Status == "completed" || c.Status == "differences" {
		return 100
	}
	return min(max(int(100*c.Done), 0), 99)
}

// news changes when something happens that the lists below the panel show too, but not with every row.
func (c CloneProps) news() string {
	running, done := 0, 0
	for _, p := range c.Phases {
		if p.Running {
			running++
		} else {
			done++
		}
	}
	tries := 0
	if c.Waiting != nil {
		tries = 1 + c.Waiting.Tries
	}
	return strings.Join([]string{
		c.Status, strconv.Itoa(running), strconv.Itoa(done), strconv.Itoa(c.Ledger), strconv.Itoa(c.percent() / 5), strconv.Itoa(tries),
	}, " ")
}

// waits tells whether something keeps the job from going on, so that it says so instead of what it does.
func (c CloneProps) waits() bool { return c.Status == "running" && c.Waiting != nil && !c.Cancelling }

// doing is what the job does at this moment: the newest of its running phases, in words.
func (c CloneProps) doing(ctx context.Context) string {
	switch {
	case c.Cancelling:
		return T(ctx, "clone.cancelling")
	case c.Status != "running":
		return T(ctx, "status."+c.Status)
	case c.waits():
		return T(ctx, "clone.waiting")
	}
	name := report.PhasePreflight
	for _, p := range c.Phases {
		if p.Running {
			name = p.Name
		}
	}
	for _, p := range c.Phases {
		if p.Running && p.Name == report.PhaseCopy { // what takes longest names the moment
			name = p.Name
		}
	}
	return T(ctx, "clone.doing."+string(name))
}

// badge is the state with its time: "Failed 12 minutes ago".
func (c CloneProps) badge(ctx context.Context) string {
	if c.ended() && !c.Finished.IsZero() {
		if c.Status == "differences" {
			return T(ctx, "clone.badge.differences", "Ago", Ago(ctx, c.Finished))
		}
		return T(ctx, "clone.badge", "Status", T(ctx, "status."+c.Status), "Ago", Ago(ctx, c.Finished))
	}
	return c.doing(ctx)
}

// announced is the state for those who do not see the badge.
func (c CloneProps) announced(ctx context.Context) string {
	if c.waits() {
		return T(ctx, "clone.waiting")
	}
	return T(ctx, "status."+c.Status)
}

// left is the time left in words.
func (c CloneProps) left(ctx context.Context) string {
	switch {
	case c.Cancelling:
		return T(ctx, "clone.left.cancelling")
	case c.waits():
		return T(ctx, "clone.left.waiting")
	case c.Status == "queued" && !c.Started.IsZero():
		return T(ctx, "clone.left.requeued")
	case c.Status == "queued":
		return T(ctx, "clone.left.queued")
	case c.Status == "stalled":
		return T(ctx, "clone.left.stalled")
	case c.Left <= 0:
		return T(ctx, "clone.left.unknown")
	}
	return T(ctx, "clone.left", "Time", About(ctx, c.Left))
}

// About writes a duration that is an estimate, no more exactly than it is known.
func About(ctx context.Context, d time.Duration) string {
	switch {
	case d > 2*time.Hour:
		d = d.Round(10 * time.Minute)
	case d > 10*time.Minute:
		d = d.Round(time.Minute)
	case d > time.Minute:
		d = d.Round(10 * time.Second)
	case d > 10*time.Second:
		d = d.Round(5 * time.Second)
	default:
		d = max(d.Round(time.Second), time.Second)
	}
	if d < 10*time.Second {
		return Number(ctx, int64(d.Seconds())) + "\u00a0s"
	}
	return Duration(ctx, d)
}

// average is how many bytes a second the copy carried, or 0.
func (c CloneProps) average() int64 {
	took := c.Elapsed
	for _, p := range c.Phases {
		if p.Name == report.PhaseCopy && p.Elapsed > 0 {
			took = p.Elapsed
		}
	}
	if took < 100*time.Millisecond {
		return 0
	}
	return int64(float64(c.Bytes) / took.Seconds())
}

// speed is that of this moment, or of the whole copy once it is over.
func (c CloneProps) speed() int64 {
	if c.ended() {
		return c.average()
	}
	return c.Speed
}

// scope is what was chosen of the source, in words.
func scope(ctx context.Context, schemas []string) string {
	switch n := len(schemas); {
	case n == 0:
		return T(ctx, "clone.scope.all")
	case n <= 3:
		return T(ctx, "clone.scope.schemas", "Count", n, "Names", strings.Join(schemas, ", "))
	default:
		return T(ctx, "clone.scope.more", "Names", strings.Join(schemas[:3], ", "), "Count", n-3)
	}
}

// where is the address and the database of a place.
func (p ClonePlace) where() string {
	switch {
	case p.Address == "":
		return p.Database
	case p.Database == "":
		return p.Address
	}
	return p.Address + " / " + p.Database
}

// environment is one of the four that have a text and a colour.
func (p ClonePlace) environment() string { return environmentOf(p.Environment) }

func environmentOf(name string) string {
	switch name {
	case "production", "staging", "development":
		return name
	}
	return "other"
}

// moment writes a point in time to the second.
func moment(ctx context.Context, t time.Time) string {
	return Date(ctx, t.UTC()) + ", " + t.UTC().Format("15:04:05 UTC")
}

// remains says what a job that stopped has left on the target.
func (c CloneProps) remains(ctx context.Context) string {
	switch {
	case !c.Touched:
		return T(ctx, "clone.remains.nothing")
	case c.Earlier:
		return T(ctx, "clone.remains.earlier")
	case c.TablesTotal == 0:
		return T(ctx, "clone.remains.something")
	case c.Tables == 0:
		return T(ctx, "clone.remains.schema")
	}
	return T(ctx, "clone.remains.tables", "Count", c.TablesTotal, "Done", Number(ctx, int64(c.Tables)))
}

// helps is what helps a job that was refused for a reason: to clean its target, to edit its database, or to begin with
// others. What is not listed may have passed when it is tried again.
var helps = map[report.ReasonCode]string{
	"not_empty": "clean", "not_confirmed": "clean", "not_shown": "clean", "other_target": "clean",
	"url": "edit", "host": "edit", "host_forbidden": "edit", "credentials": "edit", "tls": "edit", "no_database": "edit", "pooler": "edit",
	"same_database": "new", "state_database": "new", "protected": "new", "gone": "new", "withdrawn": "new", "moved": "new",
}

// way is what helps first: clean where nothing but that is needed, and nothing but new where one of the reasons stays.
func (c CloneProps) way() string {
	reasons := c.verdict().Reasons
	if len(reasons) == 0 {
		return ""
	}
	for _, way := range []string{"new", "edit", ""} {
		if slices.ContainsFunc(reasons, func(r report.Reason) bool { return helps[r.Code] == way }) {
			return way
		}
	}
	return "clean"
}

// toEdit are those of the job's databases whose connection has to be changed.
func (c CloneProps) toEdit() []ClonePlace {
	var places []ClonePlace
	for i, p := range []ClonePlace{c.Source, c.Target} {
		side := []report.Side{report.Source, report.Target}[i]
		if p.ID != 0 && slices.ContainsFunc(c.verdict().Reasons, func(r report.Reason) bool { return r.Side == side && helps[r.Code] == "edit" }) {
			places = append(places, p)
		}
	}
	return places
}

// stop is the headline of a job that stopped.
func (c CloneProps) stop(ctx context.Context) string {
	id, v := "clone.stop."+c.Status, c.verdict()
	switch {
	case c.Status != "failed" || v.Phase == "":
		return T(ctx, id)
	case v.Relation == "":
		return T(ctx, id+".phase", "Phase", T(ctx, "phase.during."+string(v.Phase)))
	}
	return T(ctx, id+".relation", "Phase", T(ctx, "phase.during."+string(v.Phase)), "Relation", v.Relation)
}

// tableShare is how far a table is, 0 to 100. COPY data and what a table takes on the disk are not the same, so a table that
// is still being copied never is at the end.
func tableShare(t report.TableState) int {
	switch t.Status {
	case report.TableWaiting:
		return 0
	case report.TableIndexing, report.TableDone:
		return 100
	}
	if t.Size <= 0 {
		return 0
	}
	return int(min(max(100*float64(t.Bytes)/float64(t.Size), 0), 99))
}

// tableState is the state of a table in words.
func tableState(ctx context.Context, t report.TableState) string {
	if t.Status == report.TableIndexing && t.ToBuild > 0 {
		return T(ctx, "table.indexing.of", "Done", Number(ctx, int64(t.Built)), "Total", Number(ctx, int64(t.ToBuild)))
	}
	return T(ctx, "table."+string(t.Status))
}

var tableColours = map[report.TableStatus]string{
	report.TableWaiting: "badge-ghost", report.TableCopying: "badge-primary", report.TableIndexing: "badge-info",
	report.TableDone: "badge-success", report.TableFailed: "badge-error",
}

// TableStates are those that the list of tables can be filtered by.
var TableStates = []report.TableStatus{report.TableWaiting, report.TableCopying, report.TableIndexing, report.TableDone, report.TableFailed}

// filtered tells whether some of the tables are left out.
func (t TableListProps) filtered() bool { return t.Name != "" || t.Status != "" }

// query asks for the tables from an offset on, with the same filter.
func (t TableListProps) query(offset int) string {
	q := url.Values{}
	if t.Name != "" {
		q.Set("table", t.Name)
	}
	if t.Status != "" {
		q.Set("state", string(t.Status))
	}
	if offset > 0 {
		q.Set("from", strconv.Itoa(offset))
	}
	if len(q) == 0 {
		return ""
	}
	return "?" + q.Encode()
}

// span is "1–50 of 10,000".
func (t TableListProps) span(ctx context.Context) string {
	if len(t.Rows) == 0 {
		return ""
	}
	return T(ctx, "table.span", "From", Number(ctx, int64(t.Offset+1)), "To", Number(ctx, int64(t.Offset+len(t.Rows))), "Total", Number(ctx, int64(t.Total)))
}

// eventText is a line of the log in words; all but the phases are PostgreSQL's own or the engine's.
func eventText(ctx context.Context, e report.Event) string {
	switch e.Kind {
	case report.EventPhaseBegun, report.EventPhaseEnded:
		return T(ctx, "log."+string(e.Kind), "Phase", T(ctx, "phase."+string(e.Phase)))
	}
	return Say(ctx, e.Text)
}

// inFlight are tables of which rows are on their way.
func inFlight(list []report.TableProgress) []report.TableState {
	tables := make([]report.TableState, len(list))
	for i, t := range list {
		tables[i] = report.TableState{Relation: t.Relation, Status: report.TableCopying, Rows: t.Rows, Bytes: t.Bytes, Size: t.Size}
	}
	return tables
}

// shortVersion is a version without what its packager has added: 15.20 of 15.20 (Debian 15.20-1).
func shortVersion(version string) string {
	short, _, _ := strings.Cut(version, " ")
	return short
}

// startedBy is who started the job, when, and what was asked for.
func startedBy(ctx context.Context, c CloneProps) []string {
	who := T(ctx, "clone.by.gone")
	switch {
	case c.Yours:
		who = T(ctx, "clone.by.you")
	case c.Owner != "":
		who = T(ctx, "clone.by", "Owner", c.Owner)
	}
	if !c.Created.IsZero() {
		who += " " + Ago(ctx, c.Created)
	}
	parts := []string{who, scope(ctx, c.Schemas)}
	if c.Clean {
		parts = append(parts, T(ctx, "clone.cleans"))
	}
	if c.EveryRow {
		parts = append(parts, T(ctx, "clone.verifies"))
	}
	return parts
}

// tracedFrom is how far down the copy is drawn with full lines.
func tracedFrom(percent int) string { return strconv.Itoa(52 - 50*percent/100) }

func badgeColour(c CloneProps) string {
	if c.waits() {
		return "badge-warning"
	}
	return statusColours[c.Status]
}

func barColour(c CloneProps) string {
	if c.Status == "stalled" || c.Cancelling || c.waits() {
		return "progress-warning"
	}
	return "progress-primary"
}

func of(ctx context.Context, known bool, total string) string {
	if !known {
		return ""
	}
	return T(ctx, "clone.of", "Total", total)
}

func perSecond(ctx context.Context, n int64) string { return Bytes(ctx, n) + "/s" }

func speedLabel(ctx context.Context, c CloneProps) string {
	if c.ended() {
		return T(ctx, "clone.speed.average")
	}
	return T(ctx, "clone.speed")
}

func chartLabel(ctx context.Context, speeds []int64, c chart) string {
	return T(ctx, "clone.throughput.label", "Count", c.seconds, "Now", perSecond(ctx, speeds[len(speeds)-1]), "Max", perSecond(ctx, c.max))
}

// breakable is a name that may go on in the next line after a point or an underscore. It is no component of a .templ
// file, where a space would stand at each of these.
func breakable(name string) Component {
	return templ.ComponentFunc(func(_ context.Context, w io.Writer) error {
		_, err := io.WriteString(w, breaks.Replace(templ.EscapeString(brief(name))))
		return err
	})
}

var breaks = strings.NewReplacer(".", ".<wbr>", "_", "_<wbr>")
