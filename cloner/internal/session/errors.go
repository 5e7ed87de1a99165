package session

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"

	"calco/cloner/report"
)

// ErrTermLost stops a clone whose target was taken over by a newer owner.
var ErrTermLost = report.WithHint(errors.New("another run has taken over this target"), report.Said("Open the newer run of this clone; this one has stopped."))

// InPhase names the phase of err unless something nearer to it already has.
func InPhase(p report.Phase, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*report.Error](err); ok {
		return err
	}
	if _, ok := errors.AsType[*report.RefusedError](err); ok {
		return err
	}
	return &report.Error{Phase: p, Hint: HintFor(err), Err: err}
}

// SQLState is PostgreSQL's code of err, or "".
func SQLState(err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code
	}
	return ""
}

// HintFor is what to do about an error, or nothing: an error that knows has a method Hint.
func HintFor(err error) report.Text {
	var carries interface{ Hint() report.Text }
	if errors.As(err, &carries) {
		return carries.Hint()
	}
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return report.Text{}
	}
	if pg.Hint != "" && pg.Code != NoFunction && pg.Code != NoObject {
		return report.Said(pg.Hint)
	}
	switch pg.Code {
	case NoPrivilege:
		return report.Said("Connect to the target as a role that has this permission, or grant it.")
	case NoObject:
		if strings.HasPrefix(pg.Message, "role ") {
			return report.Said("Create the role on the target server, then clone again. Roles belong to the server, not to the database.")
		}
	case "58P01", "0A000":
		if strings.Contains(pg.Message, "extension") {
			return report.Said("Install the extension's package on the target server, then clone again.")
		}
	case NoFunction, NoTable:
		return report.Said("A function names this object without its schema. On the source, add SET search_path to the function.")
	case UniqueViolation:
		return report.Said("The source holds duplicates that its own index does not see. Run REINDEX or remove them there.")
	case ForeignKeyViolation:
		return report.Said("The source holds rows that break this foreign key. Repair them there, or make the constraint NOT VALID.")
	case DiskFull:
		return report.Said("Free disk space on the server, then start again.")
	case OutOfMemory:
		return report.Said("Raise max_locks_per_transaction or the memory of the server.")
	}
	return report.Text{}
}

// LostError is a connection that broke, or could not be made for now: waiting may cure it.
type LostError struct {
	Side report.Side
	Err  error
	Text report.Text // what a person is told while the clone waits; nothing for that the connection was lost
}

func (e *LostError) Error() string {
	return fmt.Sprintf("lost the connection to the %s: %v", e.Side, e.Err)
}

func (e *LostError) Unwrap() error { return e.Err }

// ErrSnapshotLost is for a source that ended every session that held the snapshot.
var ErrSnapshotLost = errors.New("the snapshot of the source is lost")

// Explain tells a broken connection from an answer of the server.
func (s *Session) Explain(err error) error {
	conflict := s.Side == report.Source && SQLState(err) == "40001" // with recovery, on a standby
	if err == nil || Classify(err) != Lost && !conflict {
		return err
	}
	if _, ok := errors.AsType[*LostError](err); ok {
		return err
	}
	return &LostError{Side: s.Side, Err: err}
}

// CuredByWaiting tells whether waiting may cure err. What it cannot cure (a wrong password, a full disk, a missing permission)
// ends the clone at once.
func CuredByWaiting(err error) bool {
	var lost *LostError
	return errors.As(err, &lost) || errors.Is(err, ErrSnapshotLost)
}

// WaitText is what a person is told while a clone waits.
func WaitText(err error) report.Text {
	lost, ok := errors.AsType[*LostError](err)
	switch {
	case errors.Is(err, ErrSnapshotLost):
		return report.Said("The source ended every session that held the snapshot.")
	case !ok:
		return report.Said(err.Error())
	case !lost.Text.IsZero():
		return lost.Text
	}
	return report.Said(fmt.Sprintf("The connection to the %s was lost: %s.", lost.Side, LossReason(lost.Err)))
}

// LossReason is why a connection was lost, in the server's words if it said any.
func LossReason(err error) string {
	var network net.Error
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Message
	}
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the server closed it"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nobody answers there"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "it was reset"
	case errors.As(err, &network) && network.Timeout():
		return "no answer in time"
	}
	return err.Error()
}
