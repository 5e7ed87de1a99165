package dsn

import (
	"io"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// A server may be anybody's, and answer anything: what it says takes no more memory than this.
const (
	MessageBytes = 64 << 20 // of one message, such as a row of a catalog
	ErrorBytes   = 4 << 10  // of each text of an error
)

// boundAnswers has connections made with a configuration keep to these bounds.
func boundAnswers(config *pgconn.Config) {
	config.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		f := pgproto3.NewFrontend(r, w)
		f.SetMaxBodyLen(MessageBytes)
		return f
	}
	onError := config.OnPgError
	config.OnPgError = func(pc *pgconn.PgConn, e *pgconn.PgError) bool {
		BoundError(e)
		return onError(pc, e)
	}
}

func BoundError(e *pgconn.PgError) {
	for _, text := range []*string{&e.Message, &e.Detail, &e.Hint, &e.InternalQuery, &e.Where} {
		if len(*text) > ErrorBytes {
			*text = strings.ToValidUTF8((*text)[:ErrorBytes], "") + "…"
		}
	}
}
