package report

import (
	"errors"
	"fmt"
	"strings"
)

// ErrCancelled is the cause to cancel a clone's context with when a person asked
// for it: cancel(report.ErrCancelled).
var ErrCancelled = errors.New("cancelled")

// Side is one of the two databases of a clone.
type Side string

// The sides, as messages name them.
const (
	Source Side = "source"
	Target Side = "target"
)

// EitherSide is how messages name a database that is only looked at.
const EitherSide Side = "database"

// Error is a failed clone, in words a person can act on.
type Error struct {
	Phase    Phase
	Relation string // "app.orders", or "" when no one object is to blame
	Failure  Text   // why, where Calco itself says that and Err has no words for a person; mostly nothing
	Hint     Text   // what to do about it, or nothing
	Err      error
}

func (e *Error) Error() string {
	if e.Relation == "" {
		return fmt.Sprintf("%s: %v", e.Phase, e.Err)
	}
	return fmt.Sprintf("%s %s: %v", e.Phase, e.Relation, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// RefusedError says why a clone was not begun. Nothing was copied or dropped, unless the reasons say so: a clone that had
// begun to clean is refused to go on with that where more has come.
type RefusedError struct{ Reasons []Reason }

func (e *RefusedError) Error() string {
	texts := make([]string, len(e.Reasons))
	for i, r := range e.Reasons {
		texts[i] = r.Text.String()
	}
	return strings.Join(texts, " ")
}

// Refuse is nil when there is no reason to.
func Refuse(reasons ...Reason) error {
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

// Reason is one cause of a refusal, and what to do about it.
type Reason struct {
	Code    ReasonCode `json:"code"`
	Side    Side       `json:"side,omitempty"`
	Text    Text       `json:"text"`
	Hint    Text       `json:"hint"`
	Objects []string   `json:"objects,omitempty"` // what the text speaks of, at most ListedObjects
}

// NewReason is a reason whose text has this id, and whose hint has the id with .hint behind it and the same parameters,
// which are those of T.
func NewReason(code ReasonCode, side Side, id string, params ...any) Reason {
	return Reason{Code: code, Side: side, Text: T(id, params...), Hint: T(id+".hint", params...)}
}

// OfConfirmation tells whether it asks for another confirmation, and says itself what was dropped already.
func (r Reason) OfConfirmation() bool {
	return r.Code == ReasonNotConfirmed || r.Code == ReasonOtherTarget || r.Code == ReasonNotShown
}

// WithHint returns err with what to do about it, which it tells by a method Hint.
func WithHint(err error, hint Text) error { return &hinted{err, hint} }

type hinted struct {
	error
	hint Text
}

func (e *hinted) Unwrap() error { return e.error }
func (e *hinted) Hint() Text    { return e.hint }
