package cloner

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"calco/cloner/internal/session"
	"calco/cloner/report"
	"calco/db/dbtest"
	"calco/db/embedded"
)

func TestMain(m *testing.M) {
	if urls, ok := os.LookupEnv(cloneEnv); ok {
		os.Exit(cloneChild(urls))
	}
	flag.Parse()
	if err := flag.Set("test.parallel", strconv.Itoa(max(4, runtime.GOMAXPROCS(0)))); err != nil { // most of the time they wait
		panic(err)
	}
	os.Exit(dbtest.Main(m))
}

// fixtures keeps tests from making the roles of a fixture at the same time: roles belong to
// the server, which they share.
var fixtures sync.Mutex

// fixture fills a database from a file of testdata, in one simple query. psql's meta
// commands are not understood: \if blocks and :variables must not be in it.
func fixture(t testing.TB, database, name string) {
	t.Helper()
	sql, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	fixtures.Lock()
	defer fixtures.Unlock()
	dbtest.Exec(t, database, string(sql))
}

// mustComplete clones and wants the outcome completed.
func mustComplete(t testing.TB, spec Spec) report.Report {
	t.Helper()
	return mustEnd(t, spec, Options{}, report.StatusCompleted)
}

// confirmed is a spec to clean that confirms what the target holds now, unless it says itself what was confirmed. What
// cannot be looked at is not confirmed.
func confirmed(t testing.TB, spec Spec) Spec {
	t.Helper()
	if !spec.Clean || spec.Confirmed != nil {
		return spec
	}
	p, err := PreviewClean(t.Context(), spec)
	if _, refused := errors.AsType[*report.RefusedError](err); err != nil && !refused {
		t.Fatalf("PreviewClean: %v", err)
	}
	if err == nil {
		spec.Confirmed = &p.Confirmation
	}
	return spec
}

// mustEnd clones and wants that outcome.
func mustEnd(t testing.TB, spec Spec, o Options, want report.Status) report.Report {
	t.Helper()
	result, err := Clone(t.Context(), confirmed(t, spec), o)
	var refused *report.RefusedError
	if err != nil && (want != report.StatusRefused || !errors.As(err, &refused)) {
		t.Fatalf("Clone: %v\n%+v", err, result)
	}
	if result.Status != want {
		t.Fatalf("status %s, want %s\ndifferences: %+v\nledger: %+v", result.Status, want, result.Differences, result.Ledger)
	}
	return result
}

// jobRow makes a job's row in a target that has no other.
func jobRow(id string, term int) string {
	return fmt.Sprintf(`INSERT INTO _calco.job (id, term, nonce, schemas, system, database, timeline, definitions)
		VALUES ('%s', %d, 'x', '{}', '', 0, 1, '15 none')`, id, term)
}

// inLedger returns the entry about an object, and wants one.
func inLedger(t testing.TB, r report.Report, object string) report.LedgerEntry {
	t.Helper()
	for _, e := range r.Ledger {
		if e.Object == object {
			return e
		}
	}
	t.Errorf("the ledger has no %s: %+v", object, r.Ledger)
	return report.LedgerEntry{}
}

// newDatabase makes a database on a server of the test's own, with options such as ENCODING.
func newDatabase(t testing.TB, s *embedded.Server, name, options string) string {
	t.Helper()
	dbtest.Exec(t, s.URL(""), "CREATE DATABASE "+session.QuoteName(name)+" "+options)
	return s.URL(name)
}

// as returns the URL of a database for another role.
func as(t testing.TB, database, role, password string) string {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(role, password)
	return u.String()
}

// fidelitySettings are what fidelity_queries.sql wants on both sides.
const fidelitySettings = `SET search_path = ''; SET TimeZone = 'UTC'; SET DateStyle = 'ISO, YMD'; SET IntervalStyle = 'postgres';
	SET extra_float_digits = 3; SET bytea_output = 'hex'; SET lc_monetary = 'C'; SET row_security = off; SET xmloption = content`

// compareFidelity runs every query of fidelity_queries.sql on both sides and wants the
// same rows. It returns how many queries were run.
func compareFidelity(t *testing.T, source, target string) int {
	t.Helper()
	a, b := connectFidelity(t, source), connectFidelity(t, target)
	ran := 0
	for _, q := range fidelityQueries(t) {
		version := min(serverVersion(t, a), serverVersion(t, b))
		if version < q.minVersion || q.sameMajor && serverVersion(t, a)/10000 != serverVersion(t, b)/10000 {
			continue
		}
		ran++
		want, got := textRows(t, a, q.sql), textRows(t, b, q.sql)
		if strings.HasSuffix(q.name, "_generator") {
			want, got = runAll(t, a, want), runAll(t, b, got)
		}
		for _, row := range want {
			if !slices.Contains(got, row) {
				t.Errorf("%s: only on the source: %.400s", q.name, row)
			}
		}
		for _, row := range got {
			if !slices.Contains(want, row) {
				t.Errorf("%s: only on the target: %.400s", q.name, row)
			}
		}
		if len(want) != len(got) {
			t.Errorf("%s: %d rows on the source, %d on the target", q.name, len(want), len(got))
		}
	}
	return ran
}

type fidelityQuery struct {
	name       string
	minVersion int
	sameMajor  bool
	sql        string
}

// fidelityQueries reads the file's own format: "-- name: <id> | min: <version> [| same-major]".
func fidelityQueries(t *testing.T) []fidelityQuery {
	t.Helper()
	f, err := os.Open("testdata/fidelity_queries.sql")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	var queries []fidelityQuery
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		switch head, ok := strings.CutPrefix(line, "-- name: "); {
		case ok:
			fields := strings.Split(head, " | ")
			q := fidelityQuery{name: fields[0]}
			for _, f := range fields[1:] {
				if v, ok := strings.CutPrefix(f, "min: "); ok {
					if q.minVersion, err = strconv.Atoi(v); err != nil {
						t.Fatal(err)
					}
				}
				q.sameMajor = q.sameMajor || f == "same-major"
			}
			queries = append(queries, q)
		case !strings.HasPrefix(line, "--") && len(queries) > 0:
			queries[len(queries)-1].sql += line + "\n"
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return queries
}

func connectFidelity(t *testing.T, database string) *pgconn.PgConn {
	t.Helper()
	c, err := pgconn.Connect(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	textRows(t, c, fidelitySettings)
	return c
}

func serverVersion(t *testing.T, c *pgconn.PgConn) int {
	t.Helper()
	v, err := strconv.Atoi(strings.Trim(textRows(t, c, "SHOW server_version_num")[0], "| "))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// textRows returns the rows of a query as lines of text, sorted.
func textRows(t *testing.T, c *pgconn.PgConn, sql string) []string {
	t.Helper()
	results, err := c.Exec(t.Context(), sql).ReadAll()
	if err != nil {
		t.Fatalf("%v\n%.300s", err, sql)
	}
	var rows []string
	for _, r := range results {
		for _, row := range r.Rows {
			var b strings.Builder
			for _, v := range row {
				if v == nil {
					b.WriteString("| NULL ")
				} else {
					fmt.Fprintf(&b, "| %s ", v)
				}
			}
			rows = append(rows, b.String())
		}
	}
	slices.Sort(rows)
	return rows
}

// runAll runs generated statements, which come as rows of one column.
func runAll(t *testing.T, c *pgconn.PgConn, generated []string) []string {
	t.Helper()
	var rows []string
	for _, sql := range generated {
		rows = append(rows, textRows(t, c, strings.TrimSuffix(strings.TrimPrefix(sql, "| "), " "))...)
	}
	slices.Sort(rows)
	return rows
}
