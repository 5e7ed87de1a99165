package ledger_test

import (
	"errors"
	"reflect"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"calco/cloner/internal/ledger"
	"calco/cloner/internal/progress"
	"calco/cloner/report"
)

func TestLedger(t *testing.T) {
	t.Parallel()
	var m progress.Meter
	l := ledger.New(&m)
	l.Record(report.PhaseIndexes, "INDEX a.b", &pgconn.PgError{Code: "23505", Message: "could not create unique index", Detail: "Key (n)=(1) is duplicated."})
	l.Record(report.PhaseCopy, "ROWS OF a.c", errors.New("lost"))
	entries := l.Entries()
	if got, want := entries[0], (report.LedgerEntry{
		Phase: report.PhaseIndexes, Object: "INDEX a.b", SQLState: "23505", Error: "could not create unique index: Key (n)=(1) is duplicated.",
		Hint: report.Said("The source holds duplicates that its own index does not see. Run REINDEX or remove them there."),
	}); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if got, want := entries[1], (report.LedgerEntry{Phase: report.PhaseCopy, Object: "ROWS OF a.c", Error: "lost"}); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	l.Record(report.PhaseCopy, "ROWS OF a.d", errors.New("lost"))
	if len(entries) != 2 {
		t.Errorf("what was asked for grew")
	}
}
