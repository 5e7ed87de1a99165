package cloner

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"calco/cloner/dsn"
	"calco/cloner/internal/session"
	"calco/cloner/report"
	"calco/db/dbtest"
)

// hashes returns a hash of the rows of each table and materialized view, by schema and name.
// It is the same on both sides where the rows are.
func hashes(t *testing.T, database string) map[string]string {
	t.Helper()
	c := connectFidelity(t, database)
	byName := map[string]string{}
	for _, q := range fidelityQueries(t) {
		if q.name != "data_hash_generator" {
			continue
		}
		for _, row := range runAll(t, c, textRows(t, c, q.sql)) {
			name, hash, _ := strings.Cut(strings.TrimPrefix(row, "| "), " | ")
			byName[name] = hash
		}
	}
	return byName
}

// inSchemas keeps the hashes of some schemas.
func inSchemas(all map[string]string, schemas []string) map[string]string {
	kept := maps.Clone(all)
	maps.DeleteFunc(kept, func(name, _ string) bool {
		return !slices.ContainsFunc(schemas, func(s string) bool { return strings.HasPrefix(name, s+".") })
	})
	return kept
}

// outside is what a target has of its own; no clone of other schemas may touch it.
const outside = `
	CREATE SCHEMA outside;
	CREATE TABLE outside.t (id int PRIMARY KEY, name text);
	INSERT INTO outside.t SELECT g, md5(g::text) FROM generate_series(1, 500) g;
	CREATE VIEW outside.v AS SELECT count(*) FROM outside.t;
	CREATE MATERIALIZED VIEW outside.m AS SELECT id FROM outside.t;
	CREATE SEQUENCE outside.s; SELECT setval('outside.s', 42);
	CREATE FUNCTION outside.f() RETURNS int LANGUAGE sql AS 'SELECT 1';
	CREATE PUBLICATION outside FOR TABLE outside.t;
	SELECT lo_from_bytea(77, 'mine');
	COMMENT ON SCHEMA outside IS 'mine';
	DO $$ BEGIN EXECUTE format('COMMENT ON DATABASE %I IS %L', current_database(), 'mine'); END $$`

const outsideState = `
	SELECT md5(string_agg(t::text, ',' ORDER BY id)) FROM outside.t
	UNION ALL SELECT v::text FROM outside.v
	UNION ALL SELECT count(*)::text FROM outside.m
	UNION ALL SELECT last_value::text FROM outside.s
	UNION ALL SELECT outside.f()::text
	UNION ALL SELECT string_agg(prrelid::regclass::text, ',') FROM pg_publication_rel
	UNION ALL SELECT encode(lo_get(77), 'escape')
	UNION ALL SELECT obj_description('outside'::regnamespace)
	UNION ALL SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()`

// TestSchemas clones schemas of the torture one by one and in pairs, twice, into a target with
// something of its own.
func TestSchemas(t *testing.T) {
	t.Parallel()
	dbtest.Long(t)
	source := dbtest.Database(t)
	fixture(t, source, "torture.sql")
	want := hashes(t, source)
	for _, test := range []struct {
		name    string
		schemas []string
		again   report.Status // of a second run with Clean
	}{
		{"empty", []string{"empty_schema"}, report.StatusCompleted},
		{"ext", []string{"ext"}, report.StatusCompleted},
		{"public", []string{"public"}, report.StatusCompleted},
		{"weird", []string{`Weird Schema "q" %s`}, report.StatusCompleted},
		// The language plalias belongs to no schema, and its handler is in app.
		{"app", []string{"app"}, report.StatusRefused},
		{"zzz", []string{"zzz"}, report.StatusCompleted}, // its partitions hang on tables in app
		{"app and zzz", []string{"app", "zzz"}, report.StatusRefused},
		{"public and app", []string{"public", "app"}, report.StatusRefused},
		{"public and ext", []string{"public", "ext"}, report.StatusCompleted},
		{"weird and public", []string{`Weird Schema "q" %s`, "public"}, report.StatusCompleted},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			target := dbtest.Database(t)
			dbtest.Exec(t, target, outside)
			before := dbtest.Query(t, target, outsideState)
			spec := Spec{Source: dsn.URL(source), Target: dsn.URL(target), Schemas: test.schemas}
			mustComplete(t, spec)
			spec.Clean = true
			mustEnd(t, spec, Options{}, test.again)
			if got, want := inSchemas(hashes(t, target), test.schemas), inSchemas(want, test.schemas); !reflect.DeepEqual(got, want) {
				t.Errorf("rows of %s\ngot  %v\nwant %v", test.schemas, got, want)
			}
			if after := dbtest.Query(t, target, outsideState); !reflect.DeepEqual(after, before) {
				t.Errorf("outside: got %v, want %v", after, before)
			}
		})
	}
}

// TestSchemaNeeds clones one schema, "a", that needs something of another one.
func TestSchemaNeeds(t *testing.T) {
	t.Parallel()
	dbtest.Long(t)
	for _, test := range []struct {
		name   string
		source string
		target string // what is there before
		query  string // what has to be equal
		pulled string // a part of the name of something pulled
		warned string // a part of a warning
		want   report.Status
	}{
		{
			name: "a type", source: "CREATE TYPE b.t AS ENUM ('x', 'y'); CREATE TABLE a.t (t b.t); INSERT INTO a.t VALUES ('y')",
			query: "SELECT * FROM a.t", pulled: "TYPE b.t",
		},
		{
			name:   "a referenced table, with its rows",
			source: "CREATE TABLE b.t (id int PRIMARY KEY); INSERT INTO b.t VALUES (1); CREATE TABLE a.t (id int REFERENCES b.t); INSERT INTO a.t VALUES (1)",
			query:  "SELECT * FROM a.t, b.t", pulled: "TABLE b.t",
		},
		{
			name:   "a referenced table that is there already",
			source: "CREATE TABLE b.t (id int PRIMARY KEY); INSERT INTO b.t VALUES (1); CREATE TABLE a.t (id int REFERENCES b.t); INSERT INTO a.t VALUES (1)",
			target: "CREATE SCHEMA b; CREATE TABLE b.t (id int, CONSTRAINT t_pkey PRIMARY KEY (id)); INSERT INTO b.t VALUES (1), (2)",
			query:  "SELECT * FROM a.t", pulled: "TABLE b.t", warned: "TABLE b.t was on the target already",
		},
		{
			name:   "a referenced table that is there already, without the row",
			source: "CREATE TABLE b.t (id int PRIMARY KEY); INSERT INTO b.t VALUES (1); CREATE TABLE a.t (id int REFERENCES b.t); INSERT INTO a.t VALUES (1)",
			target: "CREATE SCHEMA b; CREATE TABLE b.t (id int PRIMARY KEY)",
			query:  "SELECT * FROM a.t", warned: "TABLE b.t was on the target already", want: report.StatusDifferences,
		},
		{
			// A pulled view on a primary key stayed the stub that stands for it until the key is
			// there, and the comparison found the stub on both sides.
			name: "a view whose body comes after the rows",
			source: `CREATE TABLE b.t (id int PRIMARY KEY, n text); INSERT INTO b.t VALUES (1, 'x');
				CREATE VIEW b.v AS SELECT id, n, count(*) FROM b.t GROUP BY id; CREATE VIEW a.v AS SELECT * FROM b.v`,
			query: "SELECT * FROM a.v", pulled: "VIEW b.v",
		},
		{
			name:   "a materialized view, filled",
			source: "CREATE TABLE b.t AS SELECT 1 AS n; CREATE MATERIALIZED VIEW b.m AS SELECT * FROM b.t; CREATE VIEW a.v AS SELECT * FROM b.m",
			query:  "SELECT * FROM a.v", pulled: "MATERIALIZED VIEW b.m",
		},
		{
			// Only partitions of the chosen tables themselves were found, not those of theirs.
			name: "partitions of partitions elsewhere",
			source: `CREATE TABLE a.root (n int, m int) PARTITION BY LIST (n);
				CREATE TABLE b.mid PARTITION OF a.root FOR VALUES IN (1) PARTITION BY LIST (m);
				CREATE TABLE c.leaf PARTITION OF b.mid FOR VALUES IN (1);
				CREATE TABLE b.leaf PARTITION OF b.mid DEFAULT;
				CREATE INDEX ON a.root (m);
				INSERT INTO a.root VALUES (1, 1), (1, 2)`,
			query: "SELECT tableoid::regclass, * FROM a.root ORDER BY m", pulled: "TABLE c.leaf",
		},
		{
			name: "a partitioned table that is referenced, with its partitions",
			source: `CREATE TABLE b.root (n int PRIMARY KEY) PARTITION BY LIST (n);
				CREATE TABLE c.one PARTITION OF b.root FOR VALUES IN (1); CREATE TABLE b.other PARTITION OF b.root DEFAULT;
				INSERT INTO b.root VALUES (1), (2); CREATE TABLE a.t (n int REFERENCES b.root); INSERT INTO a.t VALUES (1), (2)`,
			query: "SELECT tableoid::regclass, * FROM b.root ORDER BY n", pulled: "TABLE c.one",
		},
		{
			name: "the operators of an exclusion constraint",
			source: `CREATE EXTENSION btree_gist SCHEMA b; CREATE TABLE a.t (n int, r int4range, EXCLUDE USING gist (n WITH =, r WITH &&));
				INSERT INTO a.t VALUES (1, '[1,2)')`,
			query: "SELECT * FROM a.t", pulled: "EXTENSION btree_gist",
		},
		{
			name: "the tree of a partition",
			source: `CREATE TABLE b.root (n int PRIMARY KEY) PARTITION BY LIST (n);
				CREATE TABLE a.leaf PARTITION OF b.root FOR VALUES IN (1); CREATE TABLE b.other PARTITION OF b.root DEFAULT;
				INSERT INTO b.root VALUES (1), (2)`,
			query: "SELECT * FROM a.leaf", pulled: "TABLE b.root",
		},
		{
			name:   "a function of a trigger",
			source: "CREATE FUNCTION b.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; CREATE TABLE a.t (n int); CREATE TRIGGER t BEFORE INSERT ON a.t FOR EACH ROW EXECUTE FUNCTION b.f()",
			query:  "SELECT tgname, tgfoid::regproc FROM pg_trigger", pulled: "FUNCTION b.f()",
		},
		{
			// A sequence on the target was set, though it is outside and was there before.
			name: "a sequence that is there already", source: "CREATE SEQUENCE b.s; SELECT setval('b.s', 5); CREATE TABLE a.t (n int DEFAULT nextval('b.s'))",
			target: "CREATE SCHEMA b; CREATE SEQUENCE b.s; SELECT setval('b.s', 5)",
			query:  "SELECT last_value FROM b.s", warned: "SEQUENCE b.s was on the target already",
		},
		{
			// Making a text search dictionary again is reported as a duplicate key in the catalog.
			name: "a text search configuration that is there already",
			source: `CREATE TEXT SEARCH DICTIONARY b.d (TEMPLATE = simple); CREATE TEXT SEARCH CONFIGURATION b.c (PARSER = default);
				ALTER TEXT SEARCH CONFIGURATION b.c ADD MAPPING FOR word WITH b.d; CREATE TABLE a.t (v text); CREATE INDEX ON a.t USING gin (to_tsvector('b.c', v))`,
			target: `CREATE SCHEMA b; CREATE TEXT SEARCH DICTIONARY b.d (TEMPLATE = simple); CREATE TEXT SEARCH CONFIGURATION b.c (PARSER = default);
				ALTER TEXT SEARCH CONFIGURATION b.c ADD MAPPING FOR word WITH b.d`,
			query: "SELECT count(*) FROM a.t", warned: "TEXT SEARCH CONFIGURATION b.c was on the target already",
		},
		{
			name: "objects of every other kind that are there already",
			source: `CREATE TYPE b.e AS ENUM ('x'); CREATE DOMAIN b.d AS int; CREATE TYPE b.c AS (n int); CREATE COLLATION b.col FROM "C"; CREATE TYPE b.r AS RANGE (subtype = int);
				CREATE FUNCTION b.f(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1'; CREATE AGGREGATE b.agg(int) (SFUNC = int4pl, STYPE = int);
				CREATE OPERATOR b.<+> (LEFTARG = int, RIGHTARG = int, PROCEDURE = int4pl); CREATE OPERATOR CLASS b.oc FOR TYPE int4 USING hash AS OPERATOR 1 =, FUNCTION 1 hashint4(int4);
				CREATE VIEW b.v AS SELECT 1 AS n; CREATE MATERIALIZED VIEW b.m AS SELECT 1 AS n;
				CREATE TABLE a.t (e b.e, d b.d, c b.c, s text COLLATE b.col, r b.r, n int DEFAULT b.f(1), CHECK (n OPERATOR(b.<+>) 1 > 0));
				CREATE INDEX ON a.t USING hash (n b.oc); CREATE VIEW a.v AS SELECT b.agg(v.n) FROM b.v, b.m; INSERT INTO a.t DEFAULT VALUES`,
			target: `CREATE SCHEMA b; CREATE TYPE b.e AS ENUM ('x'); CREATE DOMAIN b.d AS int; CREATE TYPE b.c AS (n int); CREATE COLLATION b.col FROM "C"; CREATE TYPE b.r AS RANGE (subtype = int);
				CREATE FUNCTION b.f(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1'; CREATE AGGREGATE b.agg(int) (SFUNC = int4pl, STYPE = int);
				CREATE OPERATOR b.<+> (LEFTARG = int, RIGHTARG = int, PROCEDURE = int4pl); CREATE OPERATOR CLASS b.oc FOR TYPE int4 USING hash AS OPERATOR 1 =, FUNCTION 1 hashint4(int4);
				CREATE VIEW b.v AS SELECT 1 AS n; CREATE MATERIALIZED VIEW b.m AS SELECT 1 AS n`,
			query: "SELECT * FROM a.t", warned: "TYPE b.e was on the target already",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			source, target := dbtest.Database(t), dbtest.Database(t)
			dbtest.Exec(t, source, "CREATE SCHEMA a; CREATE SCHEMA b; CREATE SCHEMA c; "+test.source)
			dbtest.Exec(t, target, outside+";"+test.target)
			if test.want == "" {
				test.want = report.StatusCompleted
			}
			r := mustEnd(t, Spec{Source: dsn.URL(source), Target: dsn.URL(target), Schemas: []string{"a"}}, Options{}, test.want)
			dbtest.Equal(t, source, target, test.query)
			if !slices.ContainsFunc(r.Dependencies, func(s string) bool { return strings.Contains(s, test.pulled) }) {
				t.Errorf("pulled %q, want %s", r.Dependencies, test.pulled)
			}
			if test.warned != "" && !slices.ContainsFunc(r.Warnings, func(s report.Text) bool { return strings.Contains(s.String(), test.warned) }) {
				t.Errorf("warnings %q, want %s", r.Warnings, test.warned)
			}
		})
	}
}

// TestSchemasWithoutPermission clones a schema beside others that the role may not even look
// at, which pg_dump must be told to leave out by their names.
func TestSchemasWithoutPermission(t *testing.T) {
	t.Parallel()
	server := dbtest.Cluster(t, nil)
	source, target := newDatabase(t, server, "s", ""), newDatabase(t, server, "t", "")
	dbtest.Exec(t, source, "CREATE ROLE reader LOGIN PASSWORD 'x'; CREATE SCHEMA mine; CREATE TABLE mine.t AS SELECT 1 AS n; GRANT USAGE ON SCHEMA mine TO reader; GRANT SELECT ON mine.t TO reader")
	for _, name := range hostileNames {
		dbtest.Exec(t, source, fmt.Sprintf("CREATE SCHEMA %s; CREATE TABLE %[1]s.%[1]s (n int)", session.QuoteName(name)))
	}
	dbtest.Exec(t, source, "CREATE SCHEMA \"min*\"; CREATE TABLE \"min*\".t (n int); CREATE SCHEMA \"m.*\"; CREATE TABLE \"m.*\".t (n int)")
	mustComplete(t, Spec{Source: dsn.URL(as(t, source, "reader", "x")), Target: dsn.URL(target), Schemas: []string{"mine"}})
	dbtest.Equal(t, source, target, "SELECT * FROM mine.t")
}
