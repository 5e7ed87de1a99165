package cloner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// ErrCancelled is the cause to cancel a clone's context with when a person asked
// for it: cancel(cloner.ErrCancelled).
var ErrCancelled = errors.New("cancelled")

// errTermLost stops a clone whose target was taken over by a newer owner.
var errTermLost = errors.New("another run has taken over this target")

// Side is one of the two databases of a clone.
type Side string

// The sides, as messages name them.
const (
	Source Side = "source"
	Target Side = "target"
)

// eitherSide is how messages name a database that is only looked at.
const eitherSide Side = "database"

// Error is a failed clone, in words a person can act on.
type Error struct {
	Phase    Phase
	Relation string // "app.orders", or "" when no one object is to blame
	Hint     string // what to do about it, or ""
	Err      error
}

func (e *Error) Error() string {
	if e.Relation == "" {
		return fmt.Sprintf("%s: %v", e.Phase, e.Err)
	}
	return fmt.Sprintf("%s %s: %v", e.Phase, e.Relation, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// inPhase names the phase of err unless something nearer to it already has.
func inPhase(p Phase, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*Error](err); ok {
		return err
	}
	if _, ok := errors.AsType[*RefusedError](err); ok {
		return err
	}
	return &Error{Phase: p, Hint: hintFor(err), Err: err}
}

// RefusedError says why a clone was not begun. Nothing was copied or dropped, unless the reasons say so: a clone that had
// begun to clean is refused to go on with that where more has come.
type RefusedError struct{ Reasons []Reason }

func (e *RefusedError) Error() string {
	texts := make([]string, len(e.Reasons))
	for i, r := range e.Reasons {
		texts[i] = r.Text
	}
	return strings.Join(texts, " ")
}

// standingRefusal stays a refusal though the job has begun before: it is true of that too. See notRefused.
type standingRefusal struct{ refused *RefusedError }

func (e *standingRefusal) Error() string { return e.refused.Error() }
func (e *standingRefusal) Unwrap() error { return e.refused }

// refuse is nil when there is no reason to.
func refuse(reasons ...Reason) error {
	if len(reasons) == 0 {
		return nil
	}
	return &RefusedError{Reasons: reasons}
}

// ReasonCode names a kind of refusal; it does not change between versions.
type ReasonCode string

// The kinds of refusal.
const (
	ReasonURL            ReasonCode = "url"             // the connection URL cannot be used
	ReasonHost           ReasonCode = "host"            // no server answers there
	ReasonHostForbidden  ReasonCode = "host_forbidden"  // saved databases may not lead there
	ReasonCredentials    ReasonCode = "credentials"     // the server does not let this user in
	ReasonTLS            ReasonCode = "tls"             // no encrypted connection can be made
	ReasonNoDatabase     ReasonCode = "no_database"     // there is no such database
	ReasonNoConnection   ReasonCode = "no_connection"   // the server lets nobody in at the moment
	ReasonPooler         ReasonCode = "pooler"          // a transaction pooler stands in between
	ReasonClientTools    ReasonCode = "client_tools"    // no pg_dump that is new enough
	ReasonSameDatabase   ReasonCode = "same_database"   // source and target are one
	ReasonNotEmpty       ReasonCode = "not_empty"       // the target holds something
	ReasonUnreadable     ReasonCode = "unreadable"      // the source's role may not read everything
	ReasonReadOnly       ReasonCode = "read_only"       // the target takes no writes
	ReasonPermission     ReasonCode = "permission"      // the target's role may not create there
	ReasonSubscription   ReasonCode = "subscription"    // the target is subscribed to another server
	ReasonDependents     ReasonCode = "dependents"      // something outside depends on what clean would drop
	ReasonBusy           ReasonCode = "busy"            // a running clone uses this database
	ReasonMarks          ReasonCode = "marks"           // a newer version of Calco has left its marks
	ReasonUnknownSchema  ReasonCode = "unknown_schema"  // the source has no such schema
	ReasonNotConfirmed   ReasonCode = "not_confirmed"   // nobody confirmed what clean would drop
	ReasonOtherTarget    ReasonCode = "other_target"    // the target is not the database that was confirmed
	ReasonNotShown       ReasonCode = "not_shown"       // the target holds what was not shown when clean was confirmed
	ReasonEncoding       ReasonCode = "encoding"        // one side does not know the encoding of its text
	ReasonForeignMarks   ReasonCode = "foreign_marks"   // the target's schema _calco is not Calco's
	ReasonLocks          ReasonCode = "locks"           // the server has no room for so many locks
	ReasonStandby        ReasonCode = "standby"         // this standby's snapshots cannot be trusted
	ReasonUnknownVersion ReasonCode = "unknown_version" // a server this version of Calco does not know
)

// Reason is one cause of a refusal: a plain sentence, and what to do about it.
type Reason struct {
	Code    ReasonCode `json:"code"`
	Side    Side       `json:"side,omitempty"`
	Text    string     `json:"text"`
	Hint    string     `json:"hint"`
	Objects []string   `json:"objects,omitempty"` // what the sentence speaks of, at most listedObjects
}

// ofConfirmation: it asks for another confirmation, and says itself what was dropped already.
func (r Reason) ofConfirmation() bool {
	return r.Code == ReasonNotConfirmed || r.Code == ReasonOtherTarget || r.Code == ReasonNotShown
}

const tooManyConnections = "53300"

// listedObjects bounds how many objects a reason or a warning names.
const listedObjects = 50

// sqlState is PostgreSQL's code of err, or "".
func sqlState(err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code
	}
	return ""
}

// endsClone tells whether err is beyond one object: the connection or the server is
// gone, the disk is full, or the clone was told to stop. All else concerns one object,
// goes into the ledger, and the clone goes on.
// https://www.postgresql.org/docs/current/errcodes-appendix.html
func endsClone(err error) bool {
	if err == nil {
		return false
	}
	if errors.Is(err, errTermLost) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return true
	}
	switch severity := cmp.Or(pg.SeverityUnlocalized, pg.Severity); { // the other speaks the server's language
	case severity == "FATAL", severity == "PANIC":
		return true
	case pg.Code == "53100", pg.Code == tooManyConnections: // disk full
		return true
	case pg.Code == "57014": // a cancelled statement, by us or by somebody on the server
		return true
	case strings.HasPrefix(pg.Code, "08"), strings.HasPrefix(pg.Code, "57P"): // connection, shutdown
		return true
	}
	return false
}

// hintFor is what to do about an error that PostgreSQL reported, or "".
func hintFor(err error) string {
	if errors.Is(err, errTermLost) {
		return "Open the newer run of this clone; this one has stopped."
	}
	if _, ok := errors.AsType[*forbiddenError](err); ok {
		return forbiddenHint
	}
	if errors.Is(err, errRewritten) {
		return "Clone again when what truncates or rewrites it is over."
	}
	if errors.Is(err, errForeignPartition) {
		return "The target sorts these rows into other partitions, and one of the tree is a foreign table, into which Calco writes nothing. Copy this table yourself, or detach the foreign partition on the source."
	}
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return ""
	}
	if pg.Hint != "" && pg.Code != "42883" && pg.Code != "42704" {
		return pg.Hint
	}
	switch pg.Code {
	case "42501":
		return "Connect to the target as a role that has this permission, or grant it."
	case "42704":
		if strings.HasPrefix(pg.Message, "role ") {
			return "Create the role on the target server, then clone again. Roles belong to the server, not to the database."
		}
	case "58P01", "0A000":
		if strings.Contains(pg.Message, "extension") {
			return "Install the extension's package on the target server, then clone again."
		}
	case "42883", "42P01":
		return "A function names this object without its schema. On the source, add SET search_path to the function."
	case "23505":
		return "The source holds duplicates that its own index does not see. Run REINDEX or remove them there."
	case "23503":
		return "The source holds rows that break this foreign key. Repair them there, or make the constraint NOT VALID."
	case "53100":
		return "Free disk space on the server, then start again."
	case "53200":
		return "Raise max_locks_per_transaction or the memory of the server."
	}
	return ""
}
