package viewstest

import (
	"fmt"
	"math"
	"time"

	"calco/cloner/report"
	"calco/views"
)

// NamedClone is a job in one state.
type NamedClone struct {
	Name  string
	Props views.ClonePageProps
}

func named(name string) views.ClonePageProps {
	for _, c := range Clones() {
		if c.Name == name {
			return c.Props
		}
	}
	panic("viewstest: no clone " + name)
}

// Clones are jobs in each of their states, those that are real first, then those that nobody hopes to see.
func Clones() []NamedClone {
	all := []NamedClone{
		{"queued", clone("queued", func(c *views.CloneProps) {
			c.Phases, c.Active, c.Speeds = nil, nil, nil
			c.Done, c.Left, c.Elapsed, c.Rows, c.Bytes, c.Tables, c.TablesTotal = 0, 0, 0, 0, 0, 0, 0
			c.Started, c.SourceVersion, c.TargetVersion = time.Time{}, "", ""
		})},
		{"requeued", clone("queued", func(c *views.CloneProps) { c.Speeds, c.Speed, c.Left = nil, 0, 0 })},
		{"starting", clone("running", func(c *views.CloneProps) {
			c.Phases, c.Active, c.Speeds = phases("preflight", "snapshot", "pre-data"), nil, nil
			c.Done, c.Left, c.Elapsed, c.Rows, c.Bytes, c.Tables, c.Speed = 0, 0, 4*time.Second, 0, 0, 0, 0
		})},
		{"running", clone("running", func(*views.CloneProps) {})},
		{"waiting", waiting()},
		{"cancelling", clone("running", func(c *views.CloneProps) { c.Cancelling = true })},
		{"stalled", clone("stalled", func(c *views.CloneProps) { c.Heartbeat = ago(3 * time.Minute); c.Speed = 0 })},
		{"watching", clone("running", func(c *views.CloneProps) { c.MayAct, c.Yours, c.Owner = false, false, "ben@example.com" })},
		{"completed", clone("completed", completed)},
		{"completed-epochs", clone("completed", func(c *views.CloneProps) {
			completed(c)
			c.Report.Epochs = epochs()
		})},
		{"completed-newer", clone("completed", func(c *views.CloneProps) {
			c.Progress, c.Speeds, c.Error = report.Progress{}, nil, (&report.VersionError{Version: report.Version + 1}).Error()
		})},
		{"differences", clone("differences", differences)},
		{"failed", clone("failed", func(c *views.CloneProps) {
			c.Resumable = true
			c.Touched, c.Report = true, &report.Report{
				Phase: report.PhaseCopy, Relation: "public.events", Error: "FATAL: terminating connection due to administrator command", SQLState: "57P01",
				Hint: report.Said("The target's server was shut down or restarted. Try again when it is up."),
			}
		})},
		{"failed-for-good", clone("failed", func(c *views.CloneProps) {
			c.Touched, c.Report = true, &report.Report{Phase: report.PhaseCopy, Error: "What this clone has left on the target is no longer there."}
		})},
		{"failed-again", clone("failed", func(c *views.CloneProps) {
			c.Phases, c.Speeds, c.Rows, c.Bytes, c.Tables, c.TablesTotal, c.Elapsed = phases("preflight"), nil, 0, 0, 0, 0, 2*time.Second
			c.Resumable, c.Touched, c.Earlier = true, true, true
			c.Report = &report.Report{Phase: report.PhasePreflight, Error: "dial tcp: lookup db.example.com: no such host", Epochs: epochs()}
		})},
		{"resume-refused", resumeRefused()},
		{"failed-early", clone("failed", func(c *views.CloneProps) {
			c.Phases, c.Speeds, c.Rows, c.Bytes, c.Tables, c.TablesTotal, c.Elapsed = phases("preflight", "snapshot"), nil, 0, 0, 0, 0, 2*time.Second
			c.Report = &report.Report{Phase: report.PhaseSnapshot, Error: "export snapshot: unexpected EOF"}
		})},
		{"failed-watching", clone("failed", func(c *views.CloneProps) {
			c.MayAct, c.Yours, c.Owner, c.Newest = false, false, "ben@example.com", "p7xk2mv4qa"
			c.Touched = true
			c.Report = &report.Report{Phase: report.PhaseIndexes, Relation: "public.orders", Error: "could not extend file: No space left on device", SQLState: "53100", Hint: report.Said("Free disk space on the server, then start again.")}
		})},
		{"cancelled", clone("cancelled", func(c *views.CloneProps) { c.Resumable, c.Touched = true, true })},
		{"refused", clone("refused", refused)},
		{"refused-resumed", clone("refused", func(c *views.CloneProps) {
			refused(c)
			c.Resumable, c.Report.Reasons = true, c.Report.Reasons[1:]
		})},
	}
	return append(all, hostileClones()...)
}

// waiting is a job whose target is away for a moment.
func waiting() views.ClonePageProps {
	p := clone("running", func(c *views.CloneProps) {
		c.Speed, c.Left, c.Active = 0, 0, nil
		c.Waiting = &report.Wait{Text: report.Said("The target does not answer: the database system is starting up (57P03)"), Since: ago(3 * time.Minute), Until: ago(-7 * time.Minute), Tries: 41}
	})
	p.Log.Lines = append([]report.Event{
		{At: ago(2 * time.Minute), Kind: report.EventRetry, Object: "public.events", Text: report.Said("The connection to the target was lost; part 12 is tried again: unexpected EOF")},
		{At: ago(5 * time.Minute), Kind: report.EventResumed, Text: report.Said("The clone goes on from 80 parts on the target.")},
		{At: ago(6 * time.Minute), Kind: report.EventRetry, Text: report.Said("The process that ran the clone was not heard of any more. The clone goes on in another one.")},
	}, p.Log.Lines...)
	return p
}

// resumeRefused is a job that somebody wanted to go on, while another one has its target.
func resumeRefused() views.ClonePageProps {
	p := clone("cancelled", func(c *views.CloneProps) { c.Resumable, c.Touched = true, true })
	p.Refused = "form.error.busy"
	return p
}

func epochs() []report.Epoch {
	return []report.Epoch{
		{SnapshotAt: ago(50 * time.Minute), Copied: 412},
		{SnapshotAt: ago(31 * time.Minute), Copied: 1204, Kept: 409, Redone: 3, RedoneTables: []string{"public.events", "public.sessions"}},
		{SnapshotAt: ago(14 * time.Minute), Copied: 96, Kept: 1610, Redone: 3, RedoneTables: []string{"public.events", "billing.invoices", "public.sessions"}},
	}
}

func completed(c *views.CloneProps) {
	c.Phases = phases(report.Phases()...)
	for i := range c.Phases {
		c.Phases[i].Running, c.Phases[i].Done = false, c.Phases[i].Total
	}
	c.Done, c.Rows, c.Bytes, c.Tables, c.Elapsed = 1, 10_204_117, 1_070_000_000, 107, 131*time.Second
	c.Report = &report.Report{
		SnapshotAt: ago(14 * time.Minute), Contents: &report.Contents{Verify: report.VerifySample, Tables: 98, Rows: 318_204},
		Warnings: []report.Text{report.Said("The source's role may not read the statistics of 2 tables; they were gathered anew on the target.")},
		Differences: []report.Difference{
			{Kind: "tablespace", Object: "TABLE archive.events_2019", Source: "cold", Target: "", ExpectedBecause: report.Said("The target has no such tablespace.")},
			{Kind: "definition", Object: "TABLE app.children", ExpectedBecause: report.Said("The columns of a table that inherits stand in another order; every one is there.")},
		},
	}
}

func differences(c *views.CloneProps) {
	completed(c)
	c.Ledger = 3
	c.EveryRow, c.Report.Contents = true, &report.Contents{Verify: report.VerifyContents, Tables: 105, Rows: 10_104_003, Left: []string{"archive.scans", "app.blobs"}}
	c.Report.Differences = append(c.Report.Differences,
		report.Difference{Kind: "rows", Object: "TABLE public.sessions", Source: "1048576", Target: "1048570"},
		report.Difference{Kind: "contents", Object: "TABLE billing.totals", Source: "checksum 1034098310983 -83120983102983", Target: "checksum 2310398213 -43109831098"},
		report.Difference{Kind: "missing", Object: "INDEX public.places_geom_idx", Source: "present", Target: "missing"},
		report.Difference{Kind: "missing", Object: "FUNCTION public.nearest(geometry, integer)", Source: "present", Target: "missing"},
		report.Difference{
			Kind: "definition", Object: "VIEW public.active_customers",
			Source: "SELECT id, email\n   FROM customers\n  WHERE (deleted_at IS NULL)", Target: "SELECT id, email\n   FROM customers\n  WHERE (NOT deleted)",
		},
	)
	for i := range 17 {
		c.Report.Differences = append(c.Report.Differences, report.Difference{Kind: "owner", Object: fmt.Sprintf("TABLE billing.invoice_%02d", i+1), Source: "billing_admin", Target: "postgres"})
	}
	c.Report.Ledger = []report.LedgerEntry{
		{Phase: "pre-data", Object: "EXTENSION postgis", SQLState: "0A000", Error: `extension "postgis" is not available`, Hint: report.Said("Install the extension's package on the target server, then clone again.")},
		{Phase: "indexes", Object: "INDEX public.places_geom_idx", SQLState: "42704", Error: `type "geometry" does not exist`},
		{Phase: "constraints", Object: "FK CONSTRAINT public.orders orders_customer_fkey", SQLState: "23503", Error: `insert or update on table "orders" violates foreign key constraint "orders_customer_fkey": Key (customer_id)=(48213) is not present in table "customers".`, Hint: report.Said("The source holds rows that break this foreign key. Repair them there, or make the constraint NOT VALID.")},
	}
	for i := range 14 {
		c.Report.Ledger = append(c.Report.Ledger, report.LedgerEntry{Phase: "post-data", Object: fmt.Sprintf("TRIGGER public.audit_%02d", i+1), SQLState: "42883", Error: "function audit.log() does not exist"})
	}
}

func refused(c *views.CloneProps) {
	c.Phases, c.Active, c.Speeds, c.Done, c.TablesTotal = phases("preflight"), nil, nil, 0, 0
	c.Report = &report.Report{Reasons: []report.Reason{
		{
			Code: report.ReasonNotEmpty, Side: report.Target, Text: report.Said("The target staging.example.com:5432/shop is not empty: it holds table public.customers, table public.orders and 86 others."),
			Hint: report.Said("Choose an empty database, or clean the target first: that drops all of it."), Objects: []string{"table public.customers", "table public.orders", "table public.order_items", "view public.active_customers"},
		},
		{Code: report.ReasonUnreadable, Side: report.Source, Text: report.Said("The role reader may not read public.salaries of the source."), Hint: report.Said("GRANT SELECT ON public.salaries TO reader, or choose other schemas."), Objects: []string{"public.salaries"}},
	}}
}

func clone(status string, change func(*views.CloneProps)) views.ClonePageProps {
	c := views.CloneProps{
		ID: "k3f9wd2mpa", Status: status, MayAct: true, Yours: true, Owner: "ana@example.com", Link: "https://calco.example.com/clones/k3f9wd2mpa",
		Again: "/?source=1&target=2", Source: production, Target: staging, Clean: true,
		Created: ago(14 * time.Minute), Started: ago(14 * time.Minute), Heartbeat: ago(0), Finished: ago(12 * time.Minute),
		Progress: report.Progress{
			Done: .583, Left: 68 * time.Second, Elapsed: 88 * time.Second, SourceVersion: "15.8", TargetVersion: "17.5 (Debian 17.5-1)",
			Rows: 7_870_412, RowsTotal: 10_200_000, Bytes: 618_000_000, Tables: 88, TablesTotal: 107,
			Phases: phases(report.Phases()[:6]...), Active: active(),
		},
		Speed: 46_200_000, Speeds: speeds(),
		Hand: views.CloneByHand{
			Calco:  `CALCO_SOURCE="$SOURCE" CALCO_TARGET="$TARGET" calco clone --clean`,
			Pgdump: `pg_dump -Fc --dbname="$SOURCE" | pg_restore --clean --if-exists --dbname="$TARGET"`,
		},
	}
	if status != "running" && status != "stalled" {
		for i := range c.Phases {
			c.Phases[i].Running = false
		}
		c.Active = nil
	}
	change(&c)
	list := views.TableListProps{Path: c.Path(), Limit: 50}
	if c.TablesTotal > 0 {
		list.Rows, list.Total = tables(), 107
		for i := range list.Rows {
			if r := &list.Rows[i]; status == "completed" || status == "differences" {
				r.Status, r.Built, r.Rows = report.TableDone, r.ToBuild, max(r.Rows, 412_000)
			}
		}
	}
	return views.ClonePageProps{Clone: c, Tables: list, Log: views.LogProps{Path: c.Path(), Lines: log(c.Phases)}, Attempts: []views.CloneAttempt{
		{ID: "m8rj4cx7vo", Status: "failed", Created: ago(30 * time.Minute)}, {ID: c.ID, Status: status, Created: c.Created, Here: true},
	}}
}

// phases begins these; the last two still run.
func phases(names ...report.Phase) []report.PhaseProgress {
	took := map[report.Phase]time.Duration{
		"preflight": 1240 * time.Millisecond, "snapshot": 90 * time.Millisecond, "clean": 820 * time.Millisecond, "pre-data": 2100 * time.Millisecond,
		"copy": 84 * time.Second, "indexes": 51 * time.Second, "constraints": 9 * time.Second, "post-data": 400 * time.Millisecond,
		"sequences": 110 * time.Millisecond, "views": 3100 * time.Millisecond, "analyze": 6 * time.Second, "verify": 12 * time.Second,
	}
	units := map[report.Phase][2]int{"clean": {88, 88}, "pre-data": {412, 412}, "copy": {88, 107}, "indexes": {131, 214}}
	var list []report.PhaseProgress
	for i, name := range names {
		p := report.PhaseProgress{Name: name, Elapsed: took[name], Done: units[name][0], Total: units[name][1]}
		p.Running = i >= len(names)-1 || name == report.PhaseCopy && len(names) == 6
		p.Ended = !p.Running
		list = append(list, p)
	}
	return list
}

func speeds() []int64 {
	list := make([]int64, 90)
	for i := range list {
		x := float64(i)
		list[i] = int64(1e6 * (30 + 14*math.Sin(x/19) + 5*math.Sin(x/3.1) + 4*math.Sin(x*1.7)))
	}
	return list
}

// active are tables whose rows are on their way.
func active() []report.TableProgress {
	var list []report.TableProgress
	for _, t := range tables()[:4] {
		list = append(list, report.TableProgress{Relation: t.Relation, Rows: t.Rows, Bytes: t.Bytes, Size: t.Size})
	}
	return list
}

func tables() []report.TableState {
	return []report.TableState{
		{Relation: "public.events", Status: report.TableCopying, Rows: 1_864_210, Bytes: 280_000_000, Size: 451_000_000},
		{Relation: "public.measurements", Status: report.TableIndexing, Rows: 3_000_000, Bytes: 190_000_000, Size: 219_000_000, Built: 2, ToBuild: 3},
		{Relation: "public.order_items", Status: report.TableIndexing, Rows: 3_000_000, Bytes: 150_000_000, Size: 172_000_000, Built: 0, ToBuild: 4},
		{Relation: "public.docs", Status: report.TableCopying, Rows: 6_811, Bytes: 36_000_000, Size: 107_000_000},
		{Relation: "public.orders", Status: report.TableWaiting, Size: 73_000_000},
		{Relation: "billing.invoices", Status: report.TableDone, Rows: 412_204, Bytes: 40_000_000, Size: 61_000_000, Built: 5, ToBuild: 5},
		{Relation: "public.customers", Status: report.TableDone, Rows: 120_381, Bytes: 22_000_000, Size: 39_000_000},
		{Relation: "public.places", Status: report.TableFailed, Rows: 12_000, Bytes: 9_000_000, Size: 11_000_000},
	}
}

func log(begun []report.PhaseProgress) []report.Event {
	var lines []report.Event
	at := ago(14 * time.Minute)
	for _, p := range begun {
		lines = append(lines, report.Event{At: at, Kind: report.EventPhaseBegun, Phase: p.Name})
		at = at.Add(p.Elapsed)
		if p.Name == report.PhasePreData {
			lines = append(lines,
				report.Event{At: at, Kind: report.EventTrouble, Phase: p.Name, Object: "EXTENSION postgis", Text: report.Said(`extension "postgis" is not available`)},
				report.Event{At: at, Kind: report.EventWarning, Text: report.Said("The target runs a newer version of ICU: indexes on text are built with its order.")})
		}
		if !p.Running {
			lines = append(lines, report.Event{At: at, Kind: report.EventPhaseEnded, Phase: p.Name})
		}
	}
	for i, j := 0, len(lines)-1; i < j; i, j = i+1, j-1 {
		lines[i], lines[j] = lines[j], lines[i]
	}
	return lines
}
