package chaos

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "embed"

	"calco/db/dbtest"
)

// calco is the program under test, built once.
var calco string

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	flag.Parse()
	if testing.Short() {
		return dbtest.Main(m) // all tests here are long
	}
	dir, err := os.MkdirTemp("", "calco-bin-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir) //nolint:errcheck // it is only rubbish then
	calco = filepath.Join(dir, "calco")
	if out, err := exec.Command("go", "build", "-o", calco, "calco/cmd/calco").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%v\n%s", err, out)
		return 1
	}
	return dbtest.Main(m)
}

//go:embed testdata/source.sql
var sourceSQL string

// size is how large the source is.
type size struct {
	accounts, history, documents int
	slow                         string // how long each call of archive.slow sleeps, in seconds
}

var (
	// whole is the size of the source that is cloned: some 70 MB.
	whole = size{accounts: 60000, history: 120000, documents: 1200, slow: "0.25"}
	// sketch is the size for the tests of the harness itself.
	sketch = size{accounts: 400, history: 900, documents: 40, slow: "0"}
)

// fill makes the source in an empty database.
func fill(t testing.TB, url string, s size) {
	t.Helper()
	dbtest.Exec(t, url, strings.NewReplacer(
		"{accounts}", fmt.Sprint(s.accounts), "{history}", fmt.Sprint(s.history), "{documents}", fmt.Sprint(s.documents), "{slow}", s.slow,
	).Replace(sourceSQL))
}

// eventually waits until something holds.
func eventually(t testing.TB, patience time.Duration, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(patience)
	for !holds() {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("never: %s", what)
		}
	}
}
