// Package ledger keeps what an attempt has to say beside its success. It does not know how it came about.
package ledger

import (
	"errors"
	"slices"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"

	"calco/cloner/internal/session"
	"calco/cloner/report"
)

// Ledger is what an attempt has to say beside its success: what could not be made, what was on the target before and stays,
// and warnings. It lives as long as the attempt and is safe for concurrent use.
type Ledger struct {
	tell Listener

	mu       sync.Mutex
	entries  []report.LedgerEntry
	skipped  map[int]bool   // entries of the archive
	existing map[int64]bool // tables
	warnings []report.Text
}

// Listener hears of what comes into a ledger.
type Listener interface {
	Failed(e report.LedgerEntry)
	Warned(text report.Text)
}

// New returns an empty one. Whatever comes into it, tell hears of.
func New(tell Listener) *Ledger {
	return &Ledger{tell: tell, skipped: map[int]bool{}, existing: map[int64]bool{}}
}

// Record enters an object that could not be made.
func (l *Ledger) Record(p report.Phase, object string, err error) {
	e := report.LedgerEntry{Phase: p, Object: object, Error: err.Error(), Hint: session.HintFor(err)}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		e.SQLState, e.Error = pg.Code, pg.Message
		if pg.Detail != "" && pg.Code != session.NotNullViolation && pg.Code != session.CheckViolation { // those show a whole row, to all who see the job
			e.Error += ": " + pg.Detail
		}
	}
	l.mu.Lock()
	l.entries = append(l.entries, e)
	l.mu.Unlock()
	l.tell.Failed(e)
}

// Warn adds what is worth knowing without being a difference, once.
func (l *Ledger) Warn(text report.Text) {
	l.mu.Lock()
	known := slices.ContainsFunc(l.warnings, text.Same)
	if !known {
		l.warnings = append(l.warnings, text)
	}
	l.mu.Unlock()
	if !known {
		l.tell.Warned(text)
	}
}

// Entries are the objects that could not be made, in order.
func (l *Ledger) Entries() []report.LedgerEntry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]report.LedgerEntry{}, l.entries...)
}

// Warnings are those of Warn, in order.
func (l *Ledger) Warnings() []report.Text {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.warnings)
}

// Skip says that an entry of the archive could not be made, or is not to be.
func (l *Ledger) Skip(entry int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.skipped[entry] = true
}

// Skips tells whether Skip was said of an entry.
func (l *Ledger) Skips(entry int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.skipped[entry]
}

// Keep says that a table was on the target before, and that its rows are not ours to bring.
func (l *Ledger) Keep(table int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.existing[table] = true
}

// Keeps tells whether Keep was said of a table.
func (l *Ledger) Keeps(table int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.existing[table]
}
