package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/jackc/pgx/v5/pgconn"

	"calco/cloner/dsn"
	"calco/cloner/report"
	"calco/db/dbtest"
)

// calco is the program under test, built once.
var calco string

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "calco-bin-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir) //nolint:errcheck // it is only rubbish then
	calco = filepath.Join(dir, "calco")
	if out, err := exec.Command("go", "build", "-o", calco, ".").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%v\n%s", err, out)
		return 1
	}
	return dbtest.Main(m)
}

const password = "s3cret/of:nobody@all"

// library is a small source; broken adds a foreign key that its rows do not keep.
const (
	library = `CREATE TABLE book (id int PRIMARY KEY, title text); INSERT INTO book SELECT g, 'Book ' || g FROM generate_series(1, 1000) g;`
	broken  = `CREATE TABLE loan (book_id int REFERENCES book); SET session_replication_role = replica; INSERT INTO loan VALUES (-1);`
)

// result is how a run of the program ended.
type result struct {
	code           int
	stdout, stderr string
}

func start(t *testing.T, env []string, args ...string) (cmd *exec.Cmd, stdout, stderr *bytes.Buffer) {
	t.Helper()
	stdout, stderr = &bytes.Buffer{}, &bytes.Buffer{}
	cmd = exec.Command(calco, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	return cmd, stdout, stderr
}

func runCalco(t *testing.T, env []string, args ...string) result {
	t.Helper()
	cmd, stdout, stderr := start(t, env, args...)
	return result{exitOf(t, cmd.Run()), stdout.String(), stderr.String()}
}

func exitOf(t *testing.T, err error) int {
	t.Helper()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	if err != nil {
		t.Fatal(err)
	}
	return 0
}

func TestCloneExitCodes(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name           string
		source, target string // SQL
		args           []string
		code           int
		status         report.Status
		says           string
	}{
		{"completed", library, "", nil, exitCompleted, report.StatusCompleted, ""},
		{"differences", library + broken, "", nil, exitDifferences, report.StatusDifferences, "loan_book_id_fkey"},
		{"refused", library, "CREATE TABLE mine (a int)", nil, exitRefused, report.StatusRefused, "mine"},
		{"cleaned", library, "CREATE TABLE mine (a int)", []string{"--clean", "--yes"}, exitCompleted, report.StatusCompleted, ""},
		{"nothing to go on with", library, "", []string{"--resume"}, exitCompleted, report.StatusCompleted, ""},
		{"one schema", library + "CREATE SCHEMA other; CREATE TABLE other.t (a int)", "", []string{"--schema", "other"}, exitCompleted, report.StatusCompleted, ""},
		{"no such schema", library, "", []string{"--schema", "nowhere"}, exitRefused, report.StatusRefused, "nowhere"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			source, target := dbtest.Database(t), dbtest.Database(t)
			dbtest.Exec(t, source, c.source)
			dbtest.Exec(t, target, c.target)
			got := runCalco(t, []string{"CALCO_SOURCE=" + source, "CALCO_TARGET=" + target}, append([]string{"clone", "--json"}, c.args...)...)
			if got.code != c.code {
				t.Fatalf("exit code %d, want %d\n%s%s", got.code, c.code, got.stdout, got.stderr)
			}
			if secret := secretOf(t, source); strings.Contains(got.stdout+got.stderr, secret) {
				t.Errorf("it says the password:\n%s%s", got.stdout, got.stderr)
			}
			report := decode(t, got.stdout)
			if report["status"] != string(c.status) {
				t.Errorf("status %v, want %s", report["status"], c.status)
			}
			if report["version"] != float64(1) {
				t.Errorf("version %v, want 1", report["version"])
			}
			if !strings.Contains(got.stdout, c.says) {
				t.Errorf("report does not say %q: %s", c.says, got.stdout)
			}
			for _, reason := range list(report, "reasons") {
				text, _ := reason["text"].(map[string]any)
				if sentence, _ := text["text"].(string); !strings.Contains(sentence, c.says) {
					t.Errorf("a reason has no sentence that says %q: %v", c.says, reason)
				}
			}
			for _, field := range []string{"tables", "rows", "bytes", "seconds", "phases", "differences", "ledger"} {
				if _, ok := report[field]; !ok {
					t.Errorf("report has no %s: %s", field, got.stdout)
				}
			}
		})
	}
}

func decode(t *testing.T, stdout string) map[string]any {
	t.Helper()
	var report map[string]any
	if err := json.Unmarshal([]byte(stdout), &report); err != nil {
		t.Fatalf("stdout is not one JSON object: %v\n%s", err, stdout)
	}
	return report
}

// list returns the objects of a list in a report.
func list(report map[string]any, field string) []map[string]any {
	all, _ := report[field].([]any)
	objects := make([]map[string]any, len(all))
	for i := range all {
		objects[i], _ = all[i].(map[string]any)
	}
	return objects
}

func TestUsage(t *testing.T) {
	t.Parallel()
	const url = "postgres://u:p@127.0.0.1:1/db"
	cases := []struct {
		name string
		args []string
		says string
	}{
		{"no command", nil, "clone"},
		{"no source", []string{"clone", "--target", url}, "--source"},
		{"no target", []string{"clone", "--source", url}, "--target"},
		{"unknown flag", []string{"clone", "--source", url, "--target", url, "--fast"}, "--fast"},
		{"no lanes", []string{"clone", "--source", url, "--target", url, "--lanes", "0"}, "lanes"},
		{"too many lanes", []string{"clone", "--source", url, "--target", url, "--lanes", "65"}, "lanes"},
		{"resume and clean", []string{"clone", "--source", url, "--target", url, "--resume", "--clean", "--yes"}, "--resume"},
		{"small parts", []string{"clone", "--source", url, "--target", url, "--part-size", "1kB"}, "at least 64kB"},
		{"parts without a size", []string{"clone", "--source", url, "--target", url, "--part-size", "big"}, "64MB"},
		{"no patience", []string{"clone", "--source", url, "--target", url, "--give-up-after", "0s"}, "at least 1s"},
		{"system schema", []string{"clone", "--source", url, "--target", url, "--schema", "pg_catalog"}, "pg_catalog"},
		{"no sample", []string{"demo", "--percent", "0"}, "choose 1 to 100"},
		{"bad URL", []string{"clone", "--source", "postgres://u:" + password + "@h:x/d", "--target", url}, "URL of the source"},
		{"nothing to ask with", nil, "--yes"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if c.name == "nothing to ask with" {
				source, target := dbtest.Database(t), dbtest.Database(t)
				dbtest.Exec(t, target, library)
				c.args = []string{"clone", "--source", source, "--target", target, "--clean"}
			}
			got := runCalco(t, nil, c.args...)
			if got.code != exitUsage {
				t.Errorf("exit code %d, want %d", got.code, exitUsage)
			}
			if !strings.Contains(got.stderr, c.says) {
				t.Errorf("stderr does not say %q: %s", c.says, got.stderr)
			}
			if strings.Contains(got.stderr+got.stdout, password) {
				t.Errorf("the password is shown: %s%s", got.stdout, got.stderr)
			}
		})
	}
}

func TestVersionAndHelp(t *testing.T) {
	t.Parallel()
	if got := runCalco(t, nil, "version"); got.code != 0 || !strings.HasPrefix(got.stdout, "calco ") {
		t.Errorf("version: %+v", got)
	}
	got := runCalco(t, nil, "clone", "--help")
	if got.code != 0 {
		t.Errorf("help: exit code %d", got.code)
	}
	for _, variable := range []string{"SOURCE", "TARGET", "SCHEMA", "CLEAN", "YES", "RESUME", "LANES", "JSON", "PART_SIZE", "GIVE_UP_AFTER", "END_BLOCKERS"} {
		if !strings.Contains(got.stdout, "$CALCO_"+variable) {
			t.Errorf("help does not name CALCO_%s:\n%s", variable, got.stdout)
		}
	}
}

// TestTypedName cleans only when the database's name is typed at the prompt.
func TestTypedName(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name  string
		typed func(database string) string
		code  int
		rows  string // of the target's own table afterwards
	}{
		{"right", func(database string) string { return database }, exitCompleted, "gone"},
		{"wrong", func(string) string { return "yes" }, exitRefused, "1"},
		{"empty", func(string) string { return "" }, exitRefused, "1"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			source, target := dbtest.Database(t), dbtest.Database(t)
			dbtest.Exec(t, source, library)
			dbtest.Exec(t, target, "CREATE TABLE mine AS SELECT 1 AS a")
			cmd := exec.Command(calco, "clone", "--clean", "--source", source, "--target", target)
			tty, err := pty.Start(cmd)
			if err != nil {
				t.Fatal(err)
			}
			defer tty.Close() //nolint:errcheck // the program has ended
			seen := readUntil(t, tty, "to go on: ")
			if !strings.Contains(seen, "table public.mine") {
				t.Errorf("the prompt does not say what is dropped: %s", seen)
			}
			if _, err := fmt.Fprintf(tty, "%s\n", c.typed(dsn.URL(target).Database())); err != nil {
				t.Fatal(err)
			}
			rest, _ := io.ReadAll(tty) // a terminal whose program has ended answers with an error
			if code := exitOf(t, cmd.Wait()); code != c.code {
				t.Errorf("exit code %d, want %d: %s", code, c.code, rest)
			}
			rows := "gone"
			if dbtest.Query(t, target, "SELECT to_regclass('mine') IS NULL")[0][0] == "f" {
				rows = dbtest.Query(t, target, "SELECT count(*) FROM mine")[0][0]
			}
			if rows != c.rows {
				t.Errorf("rows of the target's own table: %s, want %s", rows, c.rows)
			}
		})
	}
}

func readUntil(t *testing.T, r io.Reader, want string) string {
	t.Helper()
	var seen strings.Builder
	buf := make([]byte, 4096)
	for !strings.Contains(seen.String(), want) {
		n, err := r.Read(buf)
		seen.Write(buf[:n])
		if err != nil {
			t.Fatalf("read %q until %q: %v", seen.String(), want, err)
		}
	}
	return seen.String()
}

// slowIndex is a source whose index takes ten minutes to build again, for the first run of a job: its function has
// changed since it was built.
const slowIndex = `
	CREATE TABLE book AS SELECT 1 AS id;
	CREATE FUNCTION slow(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1';
	CREATE INDEX ON book (slow(id));
	CREATE OR REPLACE FUNCTION slow(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$
		BEGIN IF EXISTS (SELECT FROM _calco.job WHERE term = 1) THEN PERFORM pg_sleep(600); END IF; RETURN $1; END $$`

// building finds the backend that builds it.
const building = `SELECT pid FROM pg_stat_activity WHERE query ~ 'CREATE INDEX' AND wait_event = 'PgSleep' AND datname = current_database()`

// TestInterrupt cancels a clone that builds an index.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	source, target := dbtest.Database(t), dbtest.Database(t)
	dbtest.Exec(t, source, slowIndex)
	cmd, stdout, _ := start(t, nil, "clone", "--source", source, "--target", target)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	dbtest.Await(t, target, `SELECT EXISTS (`+building+`)`)
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	code := exitOf(t, cmd.Wait())
	if code != exitCancelled || !strings.Contains(stdout.String(), "Cancelled after") {
		t.Errorf("exit code %d, want %d: %s", code, exitCancelled, stdout)
	}
	for _, url := range []string{source, target} {
		dbtest.Await(t, url, `SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name LIKE 'calco/%' AND datname = current_database()`)
	}
}

// TestResumeInTerminal goes on with a clone that was killed, and with nothing else.
func TestResumeInTerminal(t *testing.T) {
	t.Parallel()
	source, target := dbtest.Database(t), dbtest.Database(t)
	dbtest.Exec(t, source, slowIndex)
	urls := []string{"CALCO_SOURCE=" + source, "CALCO_TARGET=" + target}
	cmd, _, _ := start(t, urls, "clone")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	dbtest.Await(t, target, `SELECT EXISTS (`+building+`)`)
	kill(t, cmd.Process.Pid, syscall.SIGKILL)
	_ = cmd.Wait() // killed
	if got := runCalco(t, urls, "clone"); got.code != exitRefused {
		t.Errorf("without --resume: exit code %d, want %d\n%s", got.code, exitRefused, got.stdout)
	}
	if got := runCalco(t, urls, "clone", "--resume"); got.code != exitCompleted {
		t.Errorf("with --resume: exit code %d\n%s%s", got.code, got.stdout, got.stderr)
	}
	if got := dbtest.Query(t, target, `SELECT (SELECT count(*) FROM book), (SELECT count(*) FROM pg_indexes WHERE tablename = 'book'), to_regnamespace('_calco')`); fmt.Sprint(got) != "[[1 1 NULL]]" {
		t.Errorf("the target has %v", got)
	}
	if got := runCalco(t, urls, "clone", "--resume"); got.code != exitRefused {
		t.Errorf("with nothing to resume: exit code %d, want %d\n%s", got.code, exitRefused, got.stdout)
	}
}

// TestSecondInterrupt does not wait for a server that does not answer.
func TestSecondInterrupt(t *testing.T) {
	t.Parallel()
	source, target := dbtest.Database(t), dbtest.Database(t)
	dbtest.Exec(t, source, slowIndex)
	cmd := exec.Command(calco, "clone", "--source", source, "--target", target)
	var stdout bytes.Buffer
	cmd.Stdout = &stdout
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	dbtest.Await(t, target, `SELECT EXISTS (`+building+`)`)
	pid, err := strconv.Atoi(dbtest.Query(t, target, building)[0][0])
	if err != nil {
		t.Fatal(err)
	}
	kill(t, pid, syscall.SIGSTOP)
	defer kill(t, pid, syscall.SIGCONT)
	kill(t, cmd.Process.Pid, syscall.SIGINT)
	readUntil(t, stderr, "Press Ctrl-C again")
	kill(t, cmd.Process.Pid, syscall.SIGINT)
	if code := exitOf(t, cmd.Wait()); code != exitCancelled {
		t.Errorf("exit code %d, want %d", code, exitCancelled)
	}
	if !strings.Contains(stdout.String(), "may still run") {
		t.Errorf("does not say what may still run: %s", &stdout)
	}
}

func kill(t *testing.T, pid int, s syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, s); err != nil {
		t.Fatal(err)
	}
}

// TestDemoInTerminal leaves nothing behind.
func TestDemoInTerminal(t *testing.T) {
	t.Parallel()
	dbtest.Long(t)
	dir := t.TempDir()
	for d := dir; d != os.TempDir() && len(d) > 1; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o711); err != nil { //nolint:gosec // the server's user must pass
			t.Fatal(err)
		}
	}
	got := runCalco(t, []string{"TMPDIR=" + dir}, "demo", "--terminal")
	if got.code != exitCompleted || !strings.Contains(got.stdout, "they agree") {
		t.Errorf("exit code %d\n%s%s", got.code, got.stdout, got.stderr)
	}
	left, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestNothingToDropIsConfirmed: with nothing on the target nobody is asked, and nothing may be dropped that comes to it
// while the source is read.
func TestNothingToDropIsConfirmed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, target, yes string }{{"nothing", "", ""}, {"something", "CREATE TABLE mine (a int)", "--yes"}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			source, target := dbtest.Database(t), dbtest.Database(t)
			dbtest.Exec(t, source, library)
			dbtest.Exec(t, target, c.target)
			args := []string{"clone", "--json", "--clean"}
			if c.yes != "" {
				args = append(args, c.yes)
			}
			holding, err := pgconn.Connect(t.Context(), source)
			if err != nil {
				t.Fatal(err)
			}
			defer holding.Close(context.Background()) //nolint:errcheck // nothing to lose
			if err := holding.Exec(t.Context(), "BEGIN; LOCK TABLE book").Close(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan result, 1)
			go func() { ended <- runCalco(t, []string{"CALCO_SOURCE=" + source, "CALCO_TARGET=" + target}, args...) }()
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			for dbtest.Query(t, source, "SELECT count(*) FROM pg_locks WHERE NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())")[0][0] == "0" {
				if ctx.Err() != nil {
					t.Fatal("the clone does not read the source")
				}
			}
			dbtest.Exec(t, target, "CREATE TABLE payments AS SELECT 1 AS a")
			if err := holding.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			got := <-ended
			if got.code != exitRefused || !strings.Contains(got.stdout, string(report.ReasonNotShown)) || !strings.Contains(got.stdout, "table public.payments") {
				t.Errorf("exit code %d: %s%s", got.code, got.stdout, got.stderr)
			}
			if shown := strings.Contains(got.stderr, "table public.mine"); shown != (c.yes != "") {
				t.Errorf("what may be dropped is not printed: %s", got.stderr)
			}
			if rows := dbtest.Query(t, target, "SELECT count(*) FROM payments"); rows[0][0] != "1" {
				t.Errorf("payments: %v", rows)
			}
		})
	}
}
