package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"calco/cloner/report"
)

func TestClassify(t *testing.T) {
	t.Parallel()
	pg := func(code, severity string) error {
		return fmt.Errorf("wrapped: %w", &pgconn.PgError{Code: code, Severity: severity})
	}
	for _, tt := range []struct {
		name string
		err  error
		want Class
	}{
		{"none", nil, None},
		{"a permission", pg(NoPrivilege, "ERROR"), Object},
		{"a duplicate", pg(UniqueViolation, "ERROR"), Object},
		{"a function that is missing", pg(NoFunction, "ERROR"), Missing},
		{"a schema that is missing", pg(NoSchema, "ERROR"), Missing},
		{"a CHECK", pg(CheckViolation, "ERROR"), Premature},
		{"a function that raises", pg(RaiseException, "ERROR"), Premature},
		{"a deadlock", pg(Deadlock, "ERROR"), Transient},
		{"a lock", pg(LockNotAvailable, "ERROR"), Transient},
		{"a server that stops", pg(AdminShutdown, "FATAL"), Lost},
		{"a server that starts", pg(CannotConnectNow, "FATAL"), Lost},
		{"too many connections", pg(TooManyConnections, "FATAL"), Lost},
		{"a connection exception", pg("08006", "FATAL"), Lost},
		{"a database that was dropped", pg("57P04", "FATAL"), Fatal},
		{"a wrong password", pg("28P01", "FATAL"), Fatal},
		{"a full disk", pg(DiskFull, "ERROR"), Fatal},
		{"a statement that was cancelled", pg(QueryCanceled, "ERROR"), Fatal},
		{"an end of file", fmt.Errorf("read: %w", io.ErrUnexpectedEOF), Lost},
		{"a reset", &net.OpError{Op: "read", Err: syscall.ECONNRESET}, Lost},
		{"a time limit", context.DeadlineExceeded, Lost},
		{"a connection that was lost", &LostError{Side: report.Source, Err: errors.New("pg_dump: terminating connection")}, Lost},
		{"an end that was asked for", fmt.Errorf("read: %w", context.Canceled), Fatal},
		{"a cancel", report.ErrCancelled, Fatal},
		{"another owner", fmt.Errorf("write: %w", ErrTermLost), Fatal},
		{"anything else", errors.New("4 answers to 5 questions"), Fatal},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := Classify(tt.err)
			if got != tt.want {
				t.Errorf("class %d, want %d", got, tt.want)
			}
			if ends := tt.want == Lost || tt.want == Fatal; got.Ends() != ends {
				t.Errorf("it ends the attempt: %t", got.Ends())
			}
		})
	}
}
