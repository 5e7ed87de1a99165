package session

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"

	"calco/cloner/report"
)

// Class is what an error means for whoever has asked a server something.
type Class int

// The classes. Those from Lost on end the attempt; all others concern one object, and the clone goes on.
const (
	None      Class = iota // there is no error
	Object                 // the statement cannot be run, and trying again does not help
	Missing                // a function, relation, type, column or schema was not found
	Premature              // rows were refused by a CHECK or a function, which may read other rows that are still to come
	Transient              // a deadlock, a serialization failure, or a lock that was not to be had in time
	Lost                   // the connection broke, or the server takes none for now: waiting may cure it
	Fatal                  // the clone was told to stop or has lost its target, the disk is full, or it is no error of a server
)

// Ends tells whether the error is beyond one object.
func (c Class) Ends() bool { return c >= Lost }

// MayPass tells whether the statement may succeed once other things are there.
func (c Class) MayPass() bool { return c == Missing || c == Premature || c == Transient }

// SQLSTATEs that something depends on.
// https://www.postgresql.org/docs/current/errcodes-appendix.html
const (
	CardinalityViolation  = "21000"
	DivisionByZero        = "22012" // how fences and guards raise
	InvalidParameterValue = "22023"
	DependentObjects      = "2BP01"
	NoSchema              = "3F000"
	SerializationFailure  = "40001"
	Deadlock              = "40P01"
	NoPrivilege           = "42501"
	NoColumn              = "42703"
	NoObject              = "42704"
	DuplicateObject       = "42710"
	DuplicateFunction     = "42723"
	WrongObjectType       = "42809"
	NoFunction            = "42883"
	DuplicateSchema       = "42P06"
	DuplicateTable        = "42P07"
	InvalidTable          = "42P16"
	NoTable               = "42P01"
	NotNullViolation      = "23502"
	ForeignKeyViolation   = "23503"
	UniqueViolation       = "23505"
	CheckViolation        = "23514"
	DiskFull              = "53100"
	OutOfMemory           = "53200"
	TooManyConnections    = "53300"
	NotInState            = "55000"
	LockNotAvailable      = "55P03"
	QueryCanceled         = "57014"
	AdminShutdown         = "57P01"
	CrashShutdown         = "57P02"
	CannotConnectNow      = "57P03"
	IdleSessionTimeout    = "57P05"
	RaiseException        = "P0001"
	NoDataFound           = "P0002"
	TooManyRows           = "P0003"
	AssertFailure         = "P0004"
)

// classes has the SQLSTATEs that are not of the class Object.
var classes = map[string]Class{
	NoFunction: Missing, NoTable: Missing, NoObject: Missing, NoColumn: Missing, NoSchema: Missing,

	CheckViolation: Premature, NotNullViolation: Premature, CardinalityViolation: Premature,
	RaiseException: Premature, NoDataFound: Premature, TooManyRows: Premature, AssertFailure: Premature,

	Deadlock: Transient, SerializationFailure: Transient, LockNotAvailable: Transient,

	AdminShutdown: Lost, CrashShutdown: Lost, CannotConnectNow: Lost, IdleSessionTimeout: Lost, TooManyConnections: Lost,

	DiskFull: Fatal, QueryCanceled: Fatal, // by us, or by somebody on the server
}

// Classify tells what an error of a session means.
func Classify(err error) Class {
	switch {
	case err == nil:
		return None
	case errors.Is(err, ErrTermLost), errors.Is(err, context.Canceled), errors.Is(err, report.ErrCancelled):
		return Fatal
	}
	pg, answered := errors.AsType[*pgconn.PgError](err)
	if !answered {
		if isBroken(err) {
			return Lost
		}
		return Fatal
	}
	class, known := classes[pg.Code]
	switch severity := cmp.Or(pg.SeverityUnlocalized, pg.Severity); { // the other speaks the server's language
	case known && class.Ends():
		return class
	case strings.HasPrefix(pg.Code, "08"): // connection exceptions
		return Lost
	case severity == "FATAL", severity == "PANIC", strings.HasPrefix(pg.Code, "57P"): // operator intervention
		return Fatal
	case known:
		return class
	}
	return Object
}

// isBroken tells whether an error that no server has sent is the end of a connection.
func isBroken(err error) bool {
	var lost *LostError
	var network net.Error
	var errno syscall.Errno
	return errors.As(err, &lost) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) ||
		errors.As(err, &network) || errors.As(err, &errno) || errors.Is(err, pgconn.ErrConnClosed)
}
