package cloner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"golang.org/x/sync/errgroup"
)

// A server may be anybody's, and answer anything: what it says takes no more memory than this, and ends no more than the
// clone that asked. Rows that are copied are not meant; they are never held.
const (
	messageBytes = 64 << 20  // of one message, such as a row of a catalog
	answerBytes  = 256 << 20 // of all rows of an answer
	errorBytes   = 4 << 10   // of each text of an error
)

var errAnswerSize = fmt.Errorf("the server's answer is larger than %d MB", answerBytes>>20)

// boundAnswers has connections made with a configuration keep to these bounds.
func boundAnswers(config *pgconn.Config) {
	config.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		f := pgproto3.NewFrontend(r, w)
		f.SetMaxBodyLen(messageBytes)
		return f
	}
	onError := config.OnPgError
	config.OnPgError = func(pc *pgconn.PgConn, e *pgconn.PgError) bool {
		boundError(e)
		return onError(pc, e)
	}
}

// serverError is an error as a server has sent it.
func serverError(msg *pgproto3.ErrorResponse) *pgconn.PgError {
	e := pgconn.ErrorResponseToPgError(msg)
	boundError(e)
	return e
}

func boundError(e *pgconn.PgError) {
	for _, text := range []*string{&e.Message, &e.Detail, &e.Hint, &e.InternalQuery, &e.Where} {
		if len(*text) > errorBytes {
			*text = strings.ToValidUTF8((*text)[:errorBytes], "") + "…"
		}
	}
}

// allowance is how many more bytes of an answer are read.
type allowance int

// take counts the values of a row.
func (a *allowance) take(values [][]byte) error {
	const aValue = 24 // what holding one costs, however short it is
	for _, v := range values {
		*a -= allowance(len(v) + aValue)
	}
	if *a < 0 {
		return errAnswerSize
	}
	return nil
}

// collectRows reads an answer to its end.
func collectRows[T any](rows pgx.Rows, scan pgx.RowToFunc[T]) ([]T, error) {
	left := allowance(answerBytes)
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (value T, err error) {
		if err := left.take(row.RawValues()); err != nil {
			return value, err
		}
		return scan(row)
	})
}

var errFault = errors.New("a fault in Calco, or a server that does not speak like PostgreSQL; Calco's own log has more")

// safely makes a panic of do an error: it must not end the process, in which others' clones run.
func safely(do func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			slog.Error("panic in a clone", "panic", p, "stack", string(debug.Stack()))
			err = errFault
		}
	}()
	return do()
}

// group is an errgroup whose functions run safely.
type group struct{ *errgroup.Group }

func newGroup(ctx context.Context) (group, context.Context) {
	eg, ctx := errgroup.WithContext(ctx)
	return group{eg}, ctx
}

func (g group) Go(do func() error) { g.Group.Go(func() error { return safely(do) }) }
