package cloner

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"calco/cloner/dsn"
	"calco/cloner/internal/progress"
	"calco/cloner/internal/safely"
	"calco/cloner/internal/session"
	"calco/cloner/report"
	"calco/db/dbtest"
)

// A server that answers what nobody expects fails the clone. Its answers were taken for granted in goroutines whose panic
// ended the process, with the clones of all others.
func TestServerThatLies(t *testing.T) {
	t.Parallel()
	const counting, locks = "SELECT count(*), ", "max_prepared_transactions"
	for _, lie := range []struct {
		name, to string
		rows     func(row []byte) [][]byte
		want     string
	}{
		{"a row twice", counting, func(row []byte) [][]byte { return [][]byte{row, row} }, "2 answers of the target to 1 questions"},
		{"no row", locks, func([]byte) [][]byte { return nil }, "0 rows instead of one"},
		{"half a row", counting, func(row []byte) [][]byte { // its count, without the checksum
			size := 4 + int(row[5])
			return [][]byte{append([]byte{0, 1}, row[2:2+size]...)}
		}, safely.ErrFault.Error()},
	} {
		t.Run(lie.name, func(t *testing.T) {
			t.Parallel()
			source, target := dbtest.Database(t), dbtest.Database(t)
			dbtest.Exec(t, source, "CREATE TABLE a AS SELECT 1 AS n")
			lying := dbtest.Distort(t, target, func(asked string, kind byte, body []byte) [][]byte {
				if kind != dbtest.Row || !strings.Contains(asked, lie.to) {
					return [][]byte{body}
				}
				return lie.rows(body)
			})
			result, err := Clone(t.Context(), Spec{Source: dsn.URL(source), Target: dsn.URL(lying), Verify: report.VerifyContents}, Options{})
			if result.Status != report.StatusFailed || !strings.Contains(fmt.Sprint(err), lie.want) {
				t.Errorf("%s, %v, want %q", result.Status, err, lie.want)
			}
		})
	}
}

// An answer without end is not held in memory, whoever asks.
func TestEndlessAnswer(t *testing.T) {
	t.Parallel()
	endless := dbtest.Distort(t, dbtest.Database(t), func(_ string, kind byte, body []byte) [][]byte {
		if kind != dbtest.Row {
			return [][]byte{body}
		}
		row := append([]byte{0, 1, 0, 16, 0, 0}, make([]byte, 1<<20)...)
		rows := make([][]byte, session.AnswerBytes>>20+10)
		for i := range rows {
			rows[i] = row
		}
		return rows
	})
	_, err := Inspect(t.Context(), dsn.URL(endless), nil)
	if refused, ok := errors.AsType[*report.RefusedError](err); !ok || !strings.Contains(refused.Reasons[0].Text.String(), session.ErrAnswerSize.Error()) {
		t.Errorf("Inspect: %v", err)
	}
	large := dbtest.Distort(t, dbtest.Database(t), func(_ string, kind byte, body []byte) [][]byte {
		if kind == dbtest.Row {
			body = make([]byte, dsn.MessageBytes+1)
		}
		return [][]byte{body}
	})
	if _, err := Inspect(t.Context(), dsn.URL(large), nil); err == nil {
		t.Error("a row that is too large was taken")
	}
}

// An error is kept in a few words, and without the row that it is about: whoever sees the job reads it.
func TestErrorsAreShort(t *testing.T) {
	t.Parallel()
	source, target := dbtest.Database(t), dbtest.Database(t)
	dbtest.Exec(t, source, `
		CREATE FUNCTION f(n int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN n; END'; CREATE TABLE a AS SELECT 1 AS n; CREATE INDEX i ON a (f(n));
		CREATE FUNCTION ok(t text) RETURNS bool IMMUTABLE LANGUAGE sql AS 'SELECT true';
		CREATE TABLE person (email text, secret text CHECK (ok(secret))); INSERT INTO person VALUES ('a@example.org', 'hash of a password')`)
	dbtest.Exec(t, source, `
		CREATE OR REPLACE FUNCTION f(n int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RAISE '%', repeat('x', 20000000); END $$;
		CREATE OR REPLACE FUNCTION ok(t text) RETURNS bool IMMUTABLE LANGUAGE sql AS 'SELECT false'`)
	m := &progress.Meter{}
	report := mustEnd(t, Spec{Source: dsn.URL(source), Target: dsn.URL(target)}, Options{Meter: m}, report.StatusDifferences)
	if len(report.Ledger) != 2 {
		t.Errorf("ledger %.1000v", report.Ledger)
	}
	var texts []string
	for _, e := range report.Ledger {
		texts = append(texts, e.Error)
	}
	for _, e := range m.Since(0).Events {
		texts = append(texts, e.Text.String())
	}
	for _, text := range texts {
		if len(text) > 2*dsn.ErrorBytes || strings.Contains(text, "hash of") {
			t.Errorf("%d bytes: %.200s", len(text), text)
		}
	}
}
