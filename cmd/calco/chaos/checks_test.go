package chaos

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"calco/db/dbtest"
)

func sqlState(err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code
	}
	return ""
}

// check is a question whose every row is a fault of a copy.
type check struct{ name, sql string }

// invariantChecks hold in every snapshot of the source, however much was written.
var invariantChecks = []check{
	{"balances", `
		SELECT * FROM (SELECT (SELECT sum(balance) FROM bank.account) AS accounts, (SELECT sum(balance) FROM bank.teller) AS tellers,
		       (SELECT sum(balance) FROM bank.branch) AS branches,
		       (SELECT coalesce(sum(delta), 0) FROM bank.history) + (SELECT sum(trimmed_delta) FROM bank.writer) AS history) s
		WHERE NOT (accounts = tellers AND tellers = branches AND branches = history)`},
	{"branches", `SELECT b.id, b.balance, sum(t.balance) FROM bank.branch b LEFT JOIN bank.teller t ON t.branch_id = b.id GROUP BY b.id HAVING b.balance IS DISTINCT FROM sum(t.balance)`},
	{"moves", `SELECT * FROM (SELECT (SELECT sum(moved) FROM bank.account) AS moved, (SELECT sum(written) FROM bank.writer) AS written) s WHERE moved IS DISTINCT FROM written`},
	{"history", `
		SELECT w.id, w.trimmed, w.written, count(h.number), min(h.number), max(h.number)
		FROM   bank.writer w LEFT JOIN bank.history h ON h.writer_id = w.id
		GROUP  BY w.id
		HAVING count(h.number) <> w.written - w.trimmed OR min(h.number) <> w.trimmed + 1 OR max(h.number) <> w.written OR count(DISTINCT h.number) <> count(h.number)`},
	{"lines", `
		SELECT o.id, o.lines, o.total, count(l.number), sum(l.amount)
		FROM   bank.orders o LEFT JOIN bank.line l ON l.order_id = o.id
		GROUP  BY o.id
		HAVING count(l.number) <> o.lines OR sum(l.amount) IS DISTINCT FROM o.total OR max(l.number) <> o.lines`},
	{"orders", `SELECT w.id, w.orders, count(o.id) FROM bank.writer w LEFT JOIN bank.orders o ON o.writer_id = w.id GROUP BY w.id HAVING w.orders <> count(o.id)`},
	{"events", `SELECT w.id, w.events, count(e.id) FROM bank.writer w LEFT JOIN bank.event e ON e.writer_id = w.id GROUP BY w.id HAVING w.events <> count(e.id)`},
	{"event twice", `SELECT id, count(*) FROM bank.event GROUP BY id HAVING count(*) > 1`},
	{"documents", `SELECT id FROM bank.document WHERE digest <> md5(body)`},
	{"blobs", `SELECT id, object FROM bank.blob WHERE digest <> md5(lo_get(object))`},
	{"large objects", `SELECT m.oid, b.id FROM pg_largeobject_metadata m FULL JOIN bank.blob b ON b.object = m.oid WHERE m.oid IS NULL OR b.id IS NULL`},
	{"cache", `SELECT key FROM bank.cache WHERE value <> md5(key::text)`},
	{"sequences", `
		SELECT 'event_id' FROM bank.event_id WHERE last_value < (SELECT max(id) FROM bank.event) UNION ALL
		SELECT 'orders_id_seq' FROM bank.orders_id_seq WHERE last_value < (SELECT max(id) FROM bank.orders)`},
}

// targetChecks are for a finished copy alone.
var targetChecks = []check{
	{"totals", `
		WITH fresh AS (SELECT t.branch_id, count(*) AS moves, sum(h.delta) AS delta FROM bank.history h JOIN bank.teller t ON t.id = h.teller_id GROUP BY 1)
		(TABLE bank.totals EXCEPT TABLE fresh) UNION ALL (TABLE fresh EXCEPT TABLE bank.totals)`},
	{"marks", `SELECT nspname FROM pg_namespace WHERE nspname = '_calco'`},
}

// noIndexes makes a query read the tables themselves: an index may hide what is in them.
const noIndexes = "SET enable_indexscan = off; SET enable_indexonlyscan = off; SET enable_bitmapscan = off; SET max_parallel_workers_per_gather = 0; "

// invariants returns what does not hold, at one moment.
func invariants(t testing.TB, url string) []string {
	t.Helper()
	return ask(t, url, invariantChecks)
}

// ask returns what the checks find, all at one moment. Each finding begins with the name of its check.
func ask(t testing.TB, url string, checks []check) (found []string) {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx) //nolint:errcheck // it has answered
	if _, err := conn.Exec(ctx, noIndexes+"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"); err != nil {
		t.Fatal(err)
	}
	for _, c := range checks {
		rows, err := conn.PgConn().Exec(ctx, "SAVEPOINT one; "+c.sql).ReadAll()
		if err != nil { // a large object that is missing, too, is found in this way
			found = append(found, fmt.Sprintf("%s: %v", c.name, err))
			if _, err := conn.Exec(ctx, "ROLLBACK TO one"); err != nil {
				t.Fatal(err)
			}
			continue
		}
		for _, row := range rows[len(rows)-1].Rows[:min(3, len(rows[len(rows)-1].Rows))] {
			found = append(found, fmt.Sprintf("%s: %s", c.name, row))
		}
	}
	return found
}

// keyChecks ask the tables of a database whether its unique indexes and foreign keys tell the truth.
func keyChecks(t testing.TB, url string) (checks []check) {
	t.Helper()
	for _, row := range dbtest.Query(t, url, `
		SELECT indexrelid::regclass, indrelid::regclass, string_agg(quote_ident(attname), ', ' ORDER BY attnum)
		FROM   pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY (indkey)
		WHERE  indisunique AND indexprs IS NULL AND indpred IS NULL AND indrelid::regclass::text ~ '^(bank|archive)\.'
		GROUP  BY indexrelid, indrelid`) {
		checks = append(checks, check{"unique " + row[0], fmt.Sprintf("SELECT %s, count(*) FROM %s GROUP BY %[1]s HAVING count(*) > 1", row[2], row[1])})
	}
	for _, row := range dbtest.Query(t, url, `
		SELECT conrelid::regclass || '.' || conname, conrelid::regclass, confrelid::regclass, c.attname, p.attname
		FROM   pg_constraint
		JOIN   pg_attribute c ON c.attrelid = conrelid AND c.attnum = conkey[1]
		JOIN   pg_attribute p ON p.attrelid = confrelid AND p.attnum = confkey[1]
		WHERE  contype = 'f'`) {
		checks = append(checks, check{"orphans " + row[0], fmt.Sprintf(
			"SELECT c.%s FROM %s c WHERE NOT EXISTS (SELECT FROM %s p WHERE p.%s = c.%[1]s)", row[3], row[1], row[2], row[4])})
	}
	return checks
}

// digests returns the number and the hash of the rows of each table and view that has any of its own.
func digests(t testing.TB, url string) map[string]string {
	t.Helper()
	var parts []string
	for _, row := range dbtest.Query(t, url, `SELECT oid::regclass FROM pg_class
		WHERE relkind IN ('r', 'm') AND relispopulated AND relnamespace::regnamespace::text IN ('bank', 'archive')`) {
		parts = append(parts, fmt.Sprintf("SELECT '%s', count(*) || ' rows, ' || coalesce(sum(hashtextextended(x::text, 0)::numeric), 0) FROM ONLY %[1]s x", row[0]))
	}
	parts = append(parts, "SELECT 'bank.large objects', count(*) || ' objects, ' || coalesce(sum(hashtextextended(oid || md5(lo_get(oid)), 0)::numeric), 0) FROM pg_largeobject_metadata")
	found := map[string]string{}
	for _, row := range dbtest.Query(t, url, noIndexes+"SET TimeZone = 'UTC'; "+strings.Join(parts, " UNION ALL ")) {
		found[row[0]] = row[1]
	}
	return found
}

// structure is all that could be lost of the tables but their rows.
const structure = `
	SET search_path = '';
	SELECT format('CONSTRAINT %s %s %s valid %s', conrelid::regclass, conname, pg_get_constraintdef(oid), convalidated) AS line
	FROM pg_constraint WHERE connamespace::regnamespace::text IN ('bank', 'archive') UNION ALL
	SELECT format('INDEX %s valid %s ready %s', pg_get_indexdef(indexrelid), indisvalid, indisready)
	FROM pg_index WHERE indrelid::regclass::text ~ '^(bank|archive)\.' UNION ALL
	SELECT format('%s %s persistence %s populated %s', relkind, oid::regclass, relpersistence, relispopulated)
	FROM pg_class WHERE relnamespace::regnamespace::text IN ('bank', 'archive') UNION ALL
	SELECT format('TRIGGERS %s %s enabled %s', tgrelid::regclass, count(*), string_agg(DISTINCT tgenabled::text, ''))
	FROM pg_trigger GROUP BY tgrelid UNION ALL
	SELECT format('COLUMN %s.%s %s identity %s', attrelid::regclass, attname, format_type(atttypid, atttypmod), attidentity)
	FROM pg_attribute WHERE attnum > 0 AND attrelid::regclass::text ~ '^(bank|archive)\.'`

// sequences is where the sequences stand.
const sequences = `SELECT schemaname || '.' || sequencename || ' ' || last_value FROM pg_sequences ORDER BY 1`

// examine returns what is wrong with a copy. Where the source was not written to since the copy's snapshot, the two must
// be equal row by row; otherwise what was never touched must be, and the rest must be some moment of the source.
//
// lost is a table of the source that is not any more what it was at the snapshot; empty for none.
func examine(t testing.TB, source, target string, exact bool, lost string) []string {
	t.Helper()
	found := invariants(t, target)
	found = append(found, ask(t, target, targetChecks)...)
	found = append(found, ask(t, target, keyChecks(t, source))...)
	found = append(found, compare("structure", dbtest.Query(t, source, structure), dbtest.Query(t, target, structure))...)
	if exact {
		found = append(found, compare("sequence", dbtest.Query(t, source, sequences), dbtest.Query(t, target, sequences))...)
	}
	want, got := digests(t, source), digests(t, target)
	for name := range want {
		if name != "bank.totals" && name != lost && (exact || !strings.HasPrefix(name, "bank.")) && got[name] != want[name] { // totals are computed anew
			found = append(found, fmt.Sprintf("rows of %s: %s, want %s", name, got[name], want[name]))
		}
	}
	return found
}

// compare returns the lines that only one side has.
func compare(what string, source, target [][]string) (found []string) {
	a, b := slices.Concat(source...), slices.Concat(target...)
	for _, line := range a {
		if !slices.Contains(b, line) {
			found = append(found, fmt.Sprintf("%s: the target does not have %s", what, line))
		}
	}
	for _, line := range b {
		if !slices.Contains(a, line) {
			found = append(found, fmt.Sprintf("%s: only the target has %s", what, line))
		}
	}
	return found
}
