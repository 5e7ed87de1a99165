package clean

import (
	"testing"
	"time"

	"calco/cloner/dsn"
	"calco/cloner/internal/ledger"
	"calco/cloner/internal/locks"
	"calco/cloner/internal/patience"
	"calco/cloner/internal/progress"
	"calco/cloner/internal/session"
	"calco/cloner/report"
	"calco/db/dbtest"
)

// TestEndsOnlyHolders leaves a session alone that uses something else by now, such as one that has got the number of another.
func TestEndsOnlyHolders(t *testing.T) {
	t.Parallel()
	target := dbtest.Database(t)
	dbtest.Exec(t, target, "CREATE TABLE t (id int); CREATE TABLE u (id int)")
	dbtest.Hold(t, target, "BEGIN; LOCK TABLE t IN ACCESS SHARE MODE")
	s, err := session.Dial(t.Context(), report.Target, dsn.URL(target), nil, "test")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	holders, err := locks.ReadHolders(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	r := &Cleaner{Scope: Scope{Target: &session.Server{Control: s}}, EndBlockers: true, Meter: &progress.Meter{}, Ledger: ledger.New(&progress.Meter{}), Patience: patience.New(time.Minute)}
	for _, of := range holders {
		was := of[0]
		was.OID++ // a table that it has let go of
		if ended, err := r.endHolder(t.Context(), newLockWait(), object{}, was); ended || err != nil {
			t.Errorf("ended %t, %v", ended, err)
		}
		if ended, err := r.endHolder(t.Context(), newLockWait(), object{}, of[0]); !ended || err != nil {
			t.Errorf("ended %t, %v, want it", ended, err)
		}
	}
	if len(holders) != 1 {
		t.Errorf("%v", holders)
	}
}
