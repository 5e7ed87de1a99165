package jobs

import (
	"cmp"
	"crypto/rand"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"calco/cloner/report"
)

// Status is where a job stands.
type Status string

// The states of a job. Stalled is derived: see Task.Stalled.
const (
	Queued      Status = "queued"
	Running     Status = "running"
	Completed   Status = Status(report.StatusCompleted)
	Differences Status = Status(report.StatusDifferences)
	Failed      Status = Status(report.StatusFailed)
	Cancelled   Status = Status(report.StatusCancelled)
	Refused     Status = Status(report.StatusRefused)
)

// Ended tells whether nothing more will happen to a job in this state.
func (s Status) Ended() bool { return s != Queued && s != Running }

// StalledAfter is how long a running job may be silent before it is shown as stalled.
const StalledAfter = 30 * time.Second

// Place is one end of a job, as it was when the job was made.
type Place struct {
	ConnectionID int64       `json:"-"` // 0 when the saved database is gone
	Name         string      `json:"name"`
	Environment  Environment `json:"environment"`
	Address      string      `json:"address"` // host:port
	Database     string      `json:"database"`
}

// Same tells whether two places are one database, as far as their addresses say it.
func (p Place) Same(q Place) bool {
	return p.Database == q.Database && slices.Equal(servers(p.Address), servers(q.Address))
}

// Meets is Same for places with several hosts too: it tells whether one of them may lead to where one of the other's does.
func (p Place) Meets(q Place) bool {
	return p.Database == q.Database && slices.ContainsFunc(servers(p.Address), func(s string) bool {
		return slices.Contains(servers(q.Address), s)
	})
}

// servers are the hosts and ports of an address, each spelled in one way. libpq's lists have the hosts first, and then one
// port for all or one for each.
func servers(address string) []string {
	at := strings.LastIndexByte(address, ':')
	if at < 0 {
		return []string{address}
	}
	hosts, ports := strings.Split(address[:at], ","), strings.Split(address[at+1:], ",")
	for i, host := range hosts {
		port := ports[min(i, len(ports)-1)]
		hosts[i] = net.JoinHostPort(spelled(host), cmp.Or(port, "5432"))
	}
	return hosts
}

// spelled is a host in one of the ways it can be spelled.
func spelled(host string) string {
	host = strings.ToLower(strings.Trim(host, "[]"))
	host = strings.TrimSuffix(host, ".")
	if ip, err := netip.ParseAddr(host); err == nil {
		host = ip.Unmap().String()
		if ip.Unmap().IsLoopback() {
			return "localhost"
		}
	}
	return host
}

// Task is one job: a row of background_tasks.
type Task struct {
	ID      string // see NewTaskID
	UserID  int64  // 0 when the user is gone
	Owner   string // the user's e-mail address
	Status  Status
	Source  Place
	Target  Place
	Schemas []string // none: the whole database
	Clean   bool
	Verify  report.Verify
	Fork    bool // as NewTask has it; only what queues the job again tells

	RetryOf string // the job that this one tries again
	Newest  string // the last of the jobs that try this one again, however often; empty for none

	CreatedAt  time.Time
	StartedAt  time.Time     // the first time; zero before
	FinishedAt time.Time     // zero before
	Silence    time.Duration // since the last heartbeat, when this was read: the database's clock counts

	Progress   report.Progress
	Speeds     []int64        // bytes a second, one for each of the last seconds, at most a minute and a half; the newest last
	Report     *report.Report // when it ended and there is one; nil when a newer version of Calco has written it
	Error      string         // of a job that ended without a report, or why Report or Progress cannot be read
	Cancelling bool           // somebody has asked for it
	Touched    bool           // it has begun to change its target, or may have: now, or before it was queued again
	Resumable  bool           // it ended early and can go on; lists do not tell
	Term       int64          // the number of its worker: a takeover raises it
	Revision   int64          // grows with every change that can be seen
}

// Stalled tells whether a running job has not been heard of for too long.
func (t Task) Stalled() bool { return t.Status == Running && t.Silence > StalledAfter }

// NewTaskID returns the id of a new job: ten letters and digits that nobody guesses and that can be read aloud. It also
// names the job on the target, where other installations may write too.
func NewTaskID() string { return strings.ToLower(rand.Text()[:10]) }

// TaskFilter chooses jobs for a list. Zero fields choose all.
type TaskFilter struct {
	Status       Status
	ConnectionID int64  // as source or target
	Before       string // jobs older than this one: for the next page
	Limit        int
}

// NewTask is what a person asks for.
type NewTask struct {
	SourceID    int64 // of saved databases; a job that is tried again keeps its own
	TargetID    int64
	Schemas     []string
	Verify      report.Verify        // "" is VerifySample
	Clean       *report.Confirmation // what the user has agreed to have dropped first; nil is that nothing is cleaned
	EndBlockers bool                 // end who holds locks on what is dropped; see cloner.Spec
	Fork        bool                 // the user says that the target is a fork of a protected database
	RetryOf     string               // the job that this one tries again; empty for none, and for Start, which makes a new one
}

// TableFilter chooses rows of a job's table list.
type TableFilter struct {
	Name   string // a part of the relation's name, whatever its case
	Status report.TableStatus
	Offset int
	Limit  int
}
