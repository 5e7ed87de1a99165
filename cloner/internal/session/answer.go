package session

import (
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"calco/cloner/dsn"
)

var ErrAnswerSize = fmt.Errorf("the server's answer is larger than %d MB", AnswerBytes>>20)

// ServerError is an error as a server has sent it.
func ServerError(msg *pgproto3.ErrorResponse) *pgconn.PgError {
	e := pgconn.ErrorResponseToPgError(msg)
	dsn.BoundError(e)
	return e
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
		return ErrAnswerSize
	}
	return nil
}

// collectRows reads an answer to its end.
func collectRows[T any](rows pgx.Rows, scan pgx.RowToFunc[T]) ([]T, error) {
	left := allowance(AnswerBytes)
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (value T, err error) {
		if err := left.take(row.RawValues()); err != nil {
			return value, err
		}
		return scan(row)
	})
}

// AnswerBytes bounds what is kept of an answer: of all its rows. Rows that are copied are not meant; they are never held.
const AnswerBytes = 256 << 20
