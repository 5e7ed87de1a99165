package cloner

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"reflect"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"calco/cloner/dsn"
	"calco/cloner/report"
	"calco/db/dbtest"
)

// cloneEnv makes this test binary a process that clones and prints what /proc says of it: its
// value is the two URLs, in lines of their own.
const cloneEnv = "CALCO_CLONE_CHILD"

// cloneChild is that process.
func cloneChild(urls string) int {
	source, target, _ := strings.Cut(urls, "\n")
	r, err := Clone(context.Background(), Spec{Source: dsn.URL(source), Target: dsn.URL(target)}, Options{})
	if err != nil || r.Status != report.StatusCompleted {
		fmt.Printf("Clone: %v %+v\n", err, r)
		return 1
	}
	status, _ := os.ReadFile("/proc/self/status") // nothing on other systems than Linux
	fmt.Printf("%s\n", status)
	return 0
}

// peakMemory clones in a process of its own and returns the most memory it had, in MB, or 0
// where the system does not tell. Its rusage would count what this process had when it forked.
func peakMemory(t *testing.T, source, target string) int {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), cloneEnv+"="+source+"\n"+target)
	out, err := child.CombinedOutput()
	if err != nil {
		t.Fatalf("clone in a child: %v\n%s", err, out)
	}
	m := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(out)
	if m == nil && runtime.GOOS == "linux" {
		t.Fatalf("the child did not say how much memory it had:\n%s", out)
	}
	if m == nil {
		return 0
	}
	kB, err := strconv.Atoi(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	return kB / 1024
}

// enoughMemory is what a clone of anything may take, in MB.
const enoughMemory = 100

// TestManyTables has 1,200 tables with a key, an index and a chain of foreign keys.
func TestManyTables(t *testing.T) {
	t.Parallel()
	dbtest.Long(t)
	const tables, atATime = 1200, 200
	source, target := dbtest.Database(t), dbtest.Database(t)
	for first := 1; first <= tables; first += atATime {
		dbtest.Exec(t, source, fmt.Sprintf(`DO $$ BEGIN
			FOR i IN %d..%d LOOP
				EXECUTE format('CREATE TABLE t%%s (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a text NOT NULL, ref bigint %%s)',
					i, CASE WHEN i > 1 THEN 'REFERENCES t' || i - 1 END);
				EXECUTE format('INSERT INTO t%%s (a, ref) SELECT g, g FROM generate_series(1, 3) g', i);
				EXECUTE format('CREATE INDEX ON t%%s (a)', i);
			END LOOP; END $$`, first, first+atATime-1))
	}
	if mb := peakMemory(t, source, target); mb > enoughMemory {
		t.Errorf("%d MB, want at most %d", mb, enoughMemory)
	} else {
		t.Logf("%d MB", mb)
	}
	const state = `SELECT (SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace), (SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = indexrelid WHERE relnamespace = 'public'::regnamespace),
		(SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND convalidated), (SELECT sum(last_value) FROM pg_sequences), (SELECT count(*) FROM t1, t600, t1200)`
	dbtest.Equal(t, source, target, state)
}

// TestLargeRows has values of 100 MB. PostgreSQL sends them whole; the clone must not hold one.
func TestLargeRows(t *testing.T) {
	t.Parallel()
	dbtest.Long(t)
	source, target := dbtest.Database(t), dbtest.Database(t)
	dbtest.Exec(t, source, `
		CREATE TABLE large (id int, s text, b bytea, j jsonb);
		ALTER TABLE large ALTER s SET STORAGE EXTERNAL;
		INSERT INTO large VALUES (1, repeat('0123456789', 10000000), NULL, NULL), (2, NULL, decode(repeat('00ff', 25000000), 'hex'), NULL);
		INSERT INTO large (id, j) SELECT 3, jsonb_object_agg(g, repeat('x', 1000)) FROM generate_series(1, 10000) g;
		CREATE TABLE wide (id int PRIMARY KEY, doc jsonb);
		INSERT INTO wide SELECT g, (SELECT jsonb_object_agg('key' || k, g * k) FROM generate_series(1, 100) k) FROM generate_series(1, 10000) g`)
	if mb := peakMemory(t, source, target); mb > enoughMemory {
		t.Errorf("%d MB, want at most %d", mb, enoughMemory)
	} else {
		t.Logf("%d MB", mb)
	}
	dbtest.Equal(t, source, target, "SELECT id, length(s), md5(s), length(b), md5(b), md5(j::text) FROM large ORDER BY id")
	dbtest.Equal(t, source, target, "SELECT count(*), md5(string_agg(doc::text, ',' ORDER BY id)) FROM wide")
}

// TestManyColumns has tables as wide as PostgreSQL lets them be, and none wide at all.
func TestManyColumns(t *testing.T) {
	t.Parallel()
	dbtest.Long(t)
	source, target := dbtest.Database(t), dbtest.Database(t)
	for _, columns := range []int{0, 300, 1600} {
		list := make([]string, columns)
		for i := range list {
			list[i] = fmt.Sprintf("a_rather_long_name_for_a_column_of_numbers_%d int", i)
		}
		dbtest.Exec(t, source, fmt.Sprintf("CREATE TABLE wide%d (%s); INSERT INTO wide%[1]d SELECT %[3]s FROM generate_series(1, 10) g", columns, strings.Join(list, ", "),
			strings.TrimSuffix(strings.Repeat("g, ", columns/2), ", ")))
	}
	mustComplete(t, Spec{Source: dsn.URL(source), Target: dsn.URL(target)})
	compareFidelity(t, source, target)
}

// TestManyPartitions has a tree of 400 leaves on two levels, with indexes and foreign keys.
func TestManyPartitions(t *testing.T) {
	t.Parallel()
	dbtest.Long(t)
	source, target := dbtest.Database(t), dbtest.Database(t)
	dbtest.Exec(t, source, `CREATE TABLE other (id int PRIMARY KEY); INSERT INTO other SELECT generate_series(0, 399);
		CREATE TABLE root (id int REFERENCES other, n int, s text, PRIMARY KEY (id, n)) PARTITION BY RANGE (id)`)
	for i := range 4 {
		dbtest.Exec(t, source, fmt.Sprintf(`CREATE TABLE mid%d PARTITION OF root FOR VALUES FROM (%[2]d) TO (%[3]d) PARTITION BY LIST (id);
			DO $$ BEGIN FOR i IN %[2]d..%[3]d - 1 LOOP EXECUTE format('CREATE TABLE leaf%%s PARTITION OF mid%[1]d FOR VALUES IN (%%s)', i, i); END LOOP; END $$`, i, i*100, i*100+100))
	}
	dbtest.Exec(t, source, "CREATE INDEX ON root (s); INSERT INTO root SELECT g % 400, g, 'x' FROM generate_series(1, 5000) g")
	mustComplete(t, Spec{Source: dsn.URL(source), Target: dsn.URL(target)})
	const state = `SELECT (SELECT count(*) FROM pg_partition_tree('root')), (SELECT count(*) FROM pg_index WHERE indisvalid), (SELECT count(*) FROM pg_constraint WHERE convalidated),
		(SELECT count(*) FROM pg_inherits), (SELECT md5(string_agg(tableoid::regclass || '/' || n, ',' ORDER BY n)) FROM root)`
	dbtest.Equal(t, source, target, state)
	var none [][]string
	if got := dbtest.Query(t, target, "SELECT indexrelid::regclass FROM pg_index WHERE NOT indisvalid"); !reflect.DeepEqual(got, none) {
		t.Errorf("invalid indexes: %v", got)
	}
}
