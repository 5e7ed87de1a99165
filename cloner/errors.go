package cloner

import (
	"errors"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"calco/cloner/dsn"
	"calco/cloner/report"
)

// errTermLost stops a clone whose target was taken over by a newer owner.
var errTermLost = errors.New("another run has taken over this target")

// inPhase names the phase of err unless something nearer to it already has.
func inPhase(p report.Phase, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*report.Error](err); ok {
		return err
	}
	if _, ok := errors.AsType[*report.RefusedError](err); ok {
		return err
	}
	return &report.Error{Phase: p, Hint: hintFor(err), Err: err}
}

// standingRefusal stays a refusal though the job has begun before: it is true of that too. See notRefused.
type standingRefusal struct{ refused *report.RefusedError }

func (e *standingRefusal) Error() string { return e.refused.Error() }
func (e *standingRefusal) Unwrap() error { return e.refused }

// sqlState is PostgreSQL's code of err, or "".
func sqlState(err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code
	}
	return ""
}

// hintFor is what to do about an error that PostgreSQL reported, or "".
func hintFor(err error) string {
	if errors.Is(err, errTermLost) {
		return "Open the newer run of this clone; this one has stopped."
	}
	if _, ok := errors.AsType[*dsn.ForbiddenError](err); ok {
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
	if pg.Hint != "" && pg.Code != NoFunction && pg.Code != NoObject {
		return pg.Hint
	}
	switch pg.Code {
	case NoPrivilege:
		return "Connect to the target as a role that has this permission, or grant it."
	case NoObject:
		if strings.HasPrefix(pg.Message, "role ") {
			return "Create the role on the target server, then clone again. Roles belong to the server, not to the database."
		}
	case "58P01", "0A000":
		if strings.Contains(pg.Message, "extension") {
			return "Install the extension's package on the target server, then clone again."
		}
	case NoFunction, NoTable:
		return "A function names this object without its schema. On the source, add SET search_path to the function."
	case UniqueViolation:
		return "The source holds duplicates that its own index does not see. Run REINDEX or remove them there."
	case ForeignKeyViolation:
		return "The source holds rows that break this foreign key. Repair them there, or make the constraint NOT VALID."
	case DiskFull:
		return "Free disk space on the server, then start again."
	case OutOfMemory:
		return "Raise max_locks_per_transaction or the memory of the server."
	}
	return ""
}
