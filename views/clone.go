package views

import (
	"time"

	"calco/cloner/report"
)

// ClonePageProps are what the page of a job shows, and the panel of the current job on the start page.
type ClonePageProps struct {
	Notice   string    // the id of a text, such as "clone.reconnected"; empty for none
	Refused  string    // the id of a text that says why the job was not resumed; empty for none
	Live     Component // the stream and its banner, outside what a frame replaces; nil where nothing more will come
	Clone    CloneProps
	Tables   TableListProps
	Log      LogProps
	Attempts []CloneAttempt // the whole chain with this one in it, oldest first; fewer than two are not shown
}

// CloneProps are one job as Job draws it. Whatever is not known is zero, and is not drawn.
//
// Its actions are requests to paths below Path(): POST /cancel, POST /reconnect, POST /resume, GET and POST /retry (Clean
// target and retry, Cancel and restart), POST /again (Try again: a new job with the same databases, schemas and clean, or
// this one where it is Resumable); GET /tables
// and GET /log draw TableList and LogList alone, GET /report.json is the report to download.
type CloneProps struct {
	ID         string
	Status     string // one of Statuses
	Cancelling bool   // a cancel was asked for and has not happened yet
	Resumable  bool   // it ended early, and can go on from what is on the target
	MayAct     bool   // the one who looks may cancel it or try it again
	Yours      bool   // the one who looks has started it
	Owner      string // who started it; empty when the user is gone
	Link       string // the absolute URL of the page, to be copied
	Again      string // where the form is filled in with its databases, for New clone; empty without the link
	Newest     string // the id of the newest attempt, if that is another job

	Source, Target ClonePlace
	Schemas        []string // none: the whole database
	Clean          bool
	EveryRow       bool // is compared by what it holds

	Created, Started, Heartbeat, Finished time.Time

	report.Progress         // of a job in the queue, how far it came before
	Speed           int64   // bytes a second at this moment
	Speeds          []int64 // the same for each of the last seconds, the newest last; at most 90 are drawn

	Report  *report.Report // of a job that ended; nil where there is none
	Error   string         // of a job that ended without a report, or why Report and Progress are not known
	Touched bool           // something was dropped or written on the target. Tables are on it, complete
	Earlier bool           // that was before the job was queued again; since then it has not come to the target
	Hand    CloneByHand    // the same by hand
}

// Path is the page of the job.
func (c CloneProps) Path() string { return "/clones/" + c.ID }

// ClonePlace is one end of a job.
type ClonePlace struct {
	ID          int64  // of the saved database; 0 when it is gone
	Name        string // of it
	Environment string // production, staging, development or other
	Address     string // host:port
	Database    string
}

// verdict is the report, or what stands for it where there is none.
func (c CloneProps) verdict() report.Report {
	if c.Report == nil {
		return report.Report{Error: c.Error}
	}
	return *c.Report
}

// unread tells whether Error says why it is not known what the job did. A job that stopped says so beside why it stopped.
func (c CloneProps) unread() bool { return c.Report == nil && c.Error != "" && !c.stopped() }

// CloneByHand are command lines that do the same. They name the databases $SOURCE and $TARGET, never by a URL.
type CloneByHand struct {
	Calco  string // calco clone …
	Pgdump string // pg_dump … | pg_restore …
}

// CloneAttempt is one of the jobs that try the same again.
type CloneAttempt struct {
	ID      string
	Status  string
	Created time.Time
	Here    bool // the one that is shown
}

// TableListProps are a page of the tables of a job.
type TableListProps struct {
	Path   string             // of the job: CloneProps.Path()
	Name   string             // the filter, GET parameter "table"
	Status report.TableStatus // the filter, GET parameter "state"; empty for all
	Rows   []report.TableState
	Offset int // GET parameter "from"
	Limit  int // 50
	Total  int // of what the filter lets through
}

// LogProps are the last lines of the log of a job.
type LogProps struct {
	Path  string         // of the job
	Lines []report.Event // the newest first
}

// CloneRow is a job in a list of those that run now.
type CloneRow struct {
	ID             string
	Status         string
	Owner          string
	Source, Target ClonePlace
	Done           float64
	Left           time.Duration
}

// StartPageProps are what the start page shows: the current job, or the form, or both.
type StartPageProps struct {
	Current *ClonePageProps
	Form    *CloneForm // without databases it is an invitation to add one
	Running []CloneRow // the other jobs of the team
}

// CloneForm is what was typed to start a clone. It is posted to /clones with the fields source and target (ids of saved
// databases), scope ("all" or "chosen"), schema (repeated), clean ("yes"), confirm (the typed name), and do ("schemas"
// where the button that only reads the schemas was pressed: draw the form again with them). GET /clones/schemas and
// GET /clones/clean, with the same fields in the query, draw SchemaChoice and CleanPreview alone.
type CloneForm struct {
	Databases []CloneDatabase
	Source    int64 // 0 for none yet
	Target    int64
	Schemas   SchemaChoiceProps
	Clean     bool
	EveryRow  bool // is compared by what it holds
	AskFork   bool // the target has the identity of a protected database: is it a fork?
	Fork      bool // it is, says the user
	Preview   CleanPreviewProps
	Errors    Errors // source, target, schemas, confirm; the empty name is the form as a whole
}

// CloneDatabase is a saved database that can be chosen.
type CloneDatabase struct {
	ID          int64
	Name        string
	Environment string
	Address     string
	Database    string
	Owner       string // of one that the team shares; empty for the user's own
	Protected   bool
}

// SchemaChoiceProps are the choice between the whole database and some of its schemas.
type SchemaChoiceProps struct {
	Chosen  bool // schemas are chosen one by one, and not the whole database
	Read    bool // Schemas are what the source has
	Schemas []SchemaOption
	Reasons []report.Reason // why the source could not be read
	Error   string          // the id of a text
}

// SchemaOption is a schema that can be chosen.
type SchemaOption struct {
	report.SchemaInfo
	On bool
}

// CleanPreviewProps are what clean would drop, and the field for the name of the database. The zero value, before it was
// asked for, draws an empty place.
type CleanPreviewProps struct {
	Ready bool // it was looked at
	report.CleanPreview
	Place   ClonePlace
	Schemas []string        // none: all of them
	Reasons []report.Reason // why it could not be looked at, or cannot be cleaned
	Typed   string          // the field confirm
	End     bool            // the field end: who holds locks on it is ended
	Error   string          // the id of a text
}

// CloneCheckProps are what stands in the way of a clone that nobody has started yet. The zero value is before that was asked for.
type CloneCheckProps struct {
	Asked bool
	Found report.Preflight
}

// RetryPageProps are the confirmation before a job is tried again on a cleaned target. The form posts confirm and
// shown to /clones/{id}/retry.
type RetryPageProps struct {
	ID             string
	Source, Target ClonePlace
	Schemas        []string
	Running        bool // the old run goes on: it will be cancelled (Cancel and restart)
	Waiting        bool // it was cancelled, and something of it may still be on the target: the page looks again by itself
	Preview        CleanPreviewProps
	AskFork, Fork  bool   // as CloneForm has them
	Error          string // the id of a text about the whole; empty for none
}

// HistoryPageProps are a page of all jobs.
type HistoryPageProps struct {
	Rows      []HistoryRow
	Status    string         // the filter, GET parameter "state"; empty for all
	Database  int64          // the filter, GET parameter "database"; 0 for all
	Databases []SelectOption // the saved databases, with their ids as values
	Older     string         // the URL of the next page; empty when this is the last one
	Later     bool           // this is not the first page
}

// HistoryRow is a job in the history.
type HistoryRow struct {
	ID             string
	Status         string
	Owner          string
	Source, Target ClonePlace
	Created        time.Time
	Rows, Bytes    int64
	Duration       time.Duration // zero for one that has not begun
	Again          string        // where the form is filled in like this one; empty without the link
}
