package cloner

import (
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"calco/cloner/dsn"
	"calco/cloner/internal/session"
	"calco/cloner/report"
	"calco/db/dbtest"
)

// TestTorture clones a schema of everything that is hard to copy, twice in a row.
func TestTorture(t *testing.T) {
	source, target := dbtest.Database(t), dbtest.Database(t)
	fixture(t, source, "torture.sql")
	spec := Spec{Source: dsn.URL(source), Target: dsn.URL(target), Verify: report.VerifyContents}
	first := mustComplete(t, spec)
	if n := compareFidelity(t, source, target); n < 55 {
		t.Errorf("only %d fidelity queries were run", n)
	}
	spec.Clean = true
	second := mustComplete(t, spec)
	compareFidelity(t, source, target)

	for _, r := range []*report.Report{&first, &second} { // what differs between any two runs
		r.Seconds, r.Phases, r.SnapshotAt = 0, nil, second.SnapshotAt
	}
	if !reflect.DeepEqual(first, second) {
		t.Errorf("the second report differs\nfirst:  %+v\nsecond: %+v", first, second)
	}
}

// TestMissingRoles clones to a server that has none of the source's roles, and then to the
// same with them. Only owners and grants may be missing.
func TestMissingRoles(t *testing.T) {
	t.Parallel()
	source := dbtest.Database(t)
	fixture(t, source, "torture.sql")
	target := dbtest.Cluster(t, nil).URL("")
	spec := Spec{Source: dsn.URL(source), Target: dsn.URL(target)}
	r := mustEnd(t, spec, Options{}, report.StatusDifferences)
	// A policy and a user mapping name a role, and a regrole is one.
	const withRows = "ROWS OF app.all_types"
	for _, e := range r.Ledger {
		known := slices.ContainsFunc([]string{"OWNER OF ", "ACL ", "DEFAULT ACL ", "POLICY ", "COMMENT app.POLICY ", "USER MAPPING ", "DATABASE GRANT ", "DATABASE SETTING ", "SCHEMA app", withRows},
			func(prefix string) bool { return strings.HasPrefix(e.Object, prefix) })
		if !known || e.SQLState != "42704" || !strings.Contains(e.Hint.String(), "Create the role") && !strings.HasPrefix(e.Object, "COMMENT ") {
			t.Errorf("ledger: %+v", e)
		}
	}
	inLedger(t, r, "OWNER OF TABLE app.orders")
	want, got := hashes(t, source), hashes(t, target)
	delete(want, "app.all_types") // its regrole has no number here
	delete(got, "app.all_types")
	if !reflect.DeepEqual(got, want) {
		t.Errorf("rows\ngot  %v\nwant %v", got, want)
	}

	dbtest.Exec(t, target, "CREATE ROLE tort_owner; CREATE ROLE tort_reader; CREATE ROLE tort_writer")
	spec.Clean = true
	mustComplete(t, spec)
	compareFidelity(t, source, target)
}

// TestEncodings clones between databases whose encodings are not the same.
func TestEncodings(t *testing.T) {
	t.Parallel()
	server := dbtest.Cluster(t, nil)
	const options = "TEMPLATE template0 LOCALE 'C' ENCODING "
	for i, test := range []struct {
		name, from, to string
		sql            string
		want           report.Status
		object         string // in the ledger
		query          string // equal on both sides
	}{
		{
			name: "LATIN1 to UTF8", from: "LATIN1", to: "UTF8", sql: `CREATE TABLE "tâble" (s text DEFAULT 'é', CHECK (s <> 'ñ')); INSERT INTO "tâble" VALUES ('naïve'), (DEFAULT); COMMENT ON TABLE "tâble" IS 'ü'`,
			want: report.StatusCompleted, query: `SELECT s, obj_description('"tâble"'::regclass), octet_length(convert_to(s, 'UTF8')) FROM "tâble"`,
		},
		{name: "UTF8 to LATIN1", from: "UTF8", to: "LATIN1", sql: `CREATE TABLE "tâble" (s text DEFAULT 'é'); INSERT INTO "tâble" VALUES ('naïve')`, want: report.StatusCompleted, query: `SELECT s FROM "tâble"`},
		{
			name: "a character that LATIN1 has not", from: "UTF8", to: "LATIN1", sql: "CREATE TABLE a (s text); INSERT INTO a VALUES ('fine'), ('owl 🦉'); CREATE TABLE b AS SELECT 'é' AS s",
			want: report.StatusDifferences, object: "ROWS OF public.a", query: "SELECT s FROM b",
		},
		{
			name: "a name that LATIN1 has not", from: "UTF8", to: "LATIN1", sql: "CREATE TABLE \"🦉\" (n int); INSERT INTO \"🦉\" VALUES (1); CREATE TABLE b AS SELECT 'é' AS s",
			want: report.StatusDifferences, object: "TABLE public.🦉", query: "SELECT s FROM b",
		},
		{name: "SQL_ASCII to UTF8", from: "SQL_ASCII", to: "UTF8", sql: "CREATE TABLE a (s text)", want: report.StatusRefused},
		{
			name: "SQL_ASCII with any bytes to SQL_ASCII", from: "SQL_ASCII", to: "SQL_ASCII", sql: "SET client_encoding = SQL_ASCII; CREATE TABLE a (s text); INSERT INTO a VALUES (E'caf\\xe9'), (E'\\xff\\xfe')",
			want: report.StatusCompleted, query: "SELECT s::bytea FROM a",
		},
		// The target would take the bytes of the UTF-8 text for as many characters.
		{name: "LATIN1 to SQL_ASCII", from: "LATIN1", to: "SQL_ASCII", sql: "CREATE TABLE a (s text); INSERT INTO a VALUES ('café')", want: report.StatusRefused},
		{name: "EUC_JP to UTF8", from: "EUC_JP", to: "UTF8", sql: "CREATE TABLE a (s text); INSERT INTO a VALUES ('日本語'); CREATE TABLE \"日本\" (\"語\" int)", want: report.StatusCompleted, query: `SELECT s, '"日本"'::regclass FROM a`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			source := newDatabase(t, server, fmt.Sprintf("s%d", i), options+session.QuoteLiteral(test.from))
			target := newDatabase(t, server, fmt.Sprintf("t%d", i), options+session.QuoteLiteral(test.to))
			const utf8 = "&client_encoding=UTF8"
			dbtest.Exec(t, source+utf8, test.sql)
			r := mustEnd(t, Spec{Source: dsn.URL(source), Target: dsn.URL(target), Verify: report.VerifyContents}, Options{}, test.want)
			if test.want == report.StatusRefused {
				if len(r.Reasons) != 1 || r.Reasons[0].Code != report.ReasonEncoding {
					t.Errorf("reasons %+v", r.Reasons)
				}
				return
			}
			if test.from != test.to {
				if d := find(t, r, "locale", "DATABASE ENCODING"); d.Source != test.from || d.Target != test.to || d.ExpectedBecause.IsZero() {
					t.Errorf("%+v", d)
				}
			}
			if test.object != "" {
				inLedger(t, r, test.object)
			}
			dbtest.Equal(t, source+utf8, target+utf8, test.query)
		})
	}
}

// TestOrder has objects that need each other in ways that no dependency shows.
func TestOrder(t *testing.T) {
	t.Parallel()
	dbtest.Long(t)
	for _, test := range []struct {
		name, sql, query string
	}{
		{"materialized views in a chain, named against it", `
			CREATE TABLE t AS SELECT 1 AS n; CREATE MATERIALIZED VIEW z AS SELECT * FROM t; CREATE VIEW y AS SELECT * FROM z;
			CREATE FUNCTION x() RETURNS SETOF y LANGUAGE sql BEGIN ATOMIC SELECT * FROM y; END; CREATE VIEW w AS SELECT * FROM x();
			CREATE MATERIALIZED VIEW a AS SELECT * FROM w; CREATE MATERIALIZED VIEW m AS SELECT * FROM a, z AS b (k)`, "SELECT * FROM m"},
		{"materialized views that call functions which read others", `
			CREATE MATERIALIZED VIEW c AS SELECT 5 AS n; CREATE FUNCTION fc() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT n FROM public.c); END';
			CREATE MATERIALIZED VIEW b AS SELECT fc() AS n; CREATE FUNCTION fb() RETURNS int LANGUAGE sql AS 'SELECT n FROM b';
			CREATE MATERIALIZED VIEW a AS SELECT fb() AS n; CREATE UNIQUE INDEX ON a (n)`, "SELECT a.n, b.n, c.n FROM a, b, c"},
		{"materialized views without rows", `
			CREATE MATERIALIZED VIEW a AS SELECT 1 AS n; CREATE MATERIALIZED VIEW b AS SELECT * FROM a WITH NO DATA; CREATE VIEW c AS SELECT * FROM b;
			CREATE MATERIALIZED VIEW d AS SELECT 2 AS n; CREATE VIEW e AS SELECT n FROM d; REFRESH MATERIALIZED VIEW a WITH NO DATA`, "SELECT relname, relispopulated FROM pg_class WHERE relkind = 'm' ORDER BY 1"},
		{
			"checks that read other tables, three in a row", `
			CREATE TABLE c (n int PRIMARY KEY); INSERT INTO c VALUES (1), (2);
			CREATE FUNCTION in_c(int) RETURNS bool LANGUAGE sql AS 'SELECT EXISTS (SELECT FROM c WHERE n = $1)';
			CREATE TABLE b (n int PRIMARY KEY CHECK (in_c(n)), pad text DEFAULT repeat('x', 1000)); INSERT INTO b VALUES (1), (2);
			CREATE FUNCTION in_b(int) RETURNS bool LANGUAGE plpgsql AS 'BEGIN RETURN EXISTS (SELECT FROM b WHERE n = $1); END';
			CREATE TABLE a (n int CHECK (in_b(n)), pad text DEFAULT repeat('x', 5000)); INSERT INTO a SELECT 1 FROM generate_series(1, 1000);
			CREATE FUNCTION in_a(int) RETURNS bool LANGUAGE plpgsql AS 'BEGIN PERFORM FROM a WHERE n = $1; IF NOT FOUND THEN RAISE ''not in a''; END IF; RETURN true; END';
			CREATE DOMAIN d AS int CHECK (in_a(VALUE)); CREATE TABLE z (d d, pad text); INSERT INTO z SELECT 1, repeat('y', 5000) FROM generate_series(1, 3000)`,
			"SELECT (SELECT count(*) FROM a), (SELECT count(*) FROM b), (SELECT count(*) FROM z)",
		},
		{"partitions by the hash of an enum", `
			CREATE TYPE e AS ENUM ('a', 'b', 'c', 'd', 'f'); CREATE TABLE t (e e, n int, PRIMARY KEY (e, n)) PARTITION BY HASH (e);
			CREATE TABLE t0 PARTITION OF t FOR VALUES WITH (MODULUS 3, REMAINDER 0); CREATE TABLE t1 PARTITION OF t FOR VALUES WITH (MODULUS 3, REMAINDER 1);
			CREATE TABLE t2 PARTITION OF t FOR VALUES WITH (MODULUS 3, REMAINDER 2) PARTITION BY LIST (n); CREATE TABLE t20 PARTITION OF t2 DEFAULT;
			INSERT INTO t SELECT v, g FROM unnest(enum_range(NULL::e)) v, generate_series(1, 100) g;
			CREATE TABLE r (e e, n int, FOREIGN KEY (e, n) REFERENCES t); INSERT INTO r SELECT * FROM t`, "SELECT * FROM t ORDER BY e, n"},
		{"partitions of what a function says, which says something else on the target", `
			CREATE TABLE rule (k text PRIMARY KEY, part int);
			CREATE FUNCTION part(text) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT CASE current_setting(''application_name'') WHEN ''here'' THEN 1 ELSE 2 END';
			SET application_name = 'here';
			CREATE TABLE t (k text) PARTITION BY LIST (part(k)); CREATE TABLE t1 PARTITION OF t FOR VALUES IN (1); CREATE TABLE t2 PARTITION OF t FOR VALUES IN (2);
			INSERT INTO t VALUES ('a'), ('b')`, "SELECT * FROM t ORDER BY 1"},
		{"a view on a primary key under views, rules and materialized views", `
			CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 2); CREATE VIEW v AS SELECT id, n FROM t GROUP BY id;
			CREATE VIEW u AS SELECT * FROM v; CREATE MATERIALIZED VIEW m AS SELECT * FROM u; CREATE MATERIALIZED VIEW a AS SELECT * FROM m;
			CREATE RULE r AS ON INSERT TO v DO INSTEAD INSERT INTO t VALUES (NEW.id, NEW.n)`, "SELECT * FROM a"},
		{"foreign keys in a circle, to itself, and between partitions", `
			CREATE TABLE a (id int PRIMARY KEY, b int); CREATE TABLE b (id int PRIMARY KEY, a int REFERENCES a); INSERT INTO a VALUES (1, 1); INSERT INTO b VALUES (1, 1);
			ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES b; ALTER TABLE a ADD self int REFERENCES a; UPDATE a SET self = 1;
			CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);
			CREATE TABLE q (id int PRIMARY KEY, p int REFERENCES p, q int REFERENCES q) PARTITION BY RANGE (id); CREATE TABLE q1 PARTITION OF q FOR VALUES FROM (0) TO (10);
			INSERT INTO p VALUES (1); INSERT INTO q VALUES (1, 1, 1)`, "SELECT * FROM q"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			source, target := dbtest.Database(t), dbtest.Database(t)
			dbtest.Exec(t, source, test.sql)
			spec := Spec{Source: dsn.URL(source), Target: dsn.URL(target)}
			for _, clean := range []bool{false, true} {
				spec.Clean = clean
				mustComplete(t, spec)
				dbtest.Equal(t, source, target, test.query)
			}
		})
	}
}

// TestOrdinaryRoles clones as roles that are no superusers: one may read everything on the
// source, the other owns the target's database.
func TestOrdinaryRoles(t *testing.T) {
	t.Parallel()
	server := dbtest.Cluster(t, nil)
	dbtest.Exec(t, server.URL(""), `CREATE ROLE reader LOGIN PASSWORD 'x'; GRANT pg_read_all_data TO reader; CREATE ROLE owner LOGIN PASSWORD 'x'; CREATE ROLE app`)
	source, target := newDatabase(t, server, "s", "OWNER owner"), newDatabase(t, server, "t", "OWNER owner")
	const schema = `
		CREATE SCHEMA shop; CREATE EXTENSION IF NOT EXISTS citext;
		CREATE TYPE shop.state AS ENUM ('new', 'done');
		CREATE TABLE shop.customer (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name citext UNIQUE, made timestamptz DEFAULT now());
		CREATE TABLE shop.purchase (id serial PRIMARY KEY, customer bigint REFERENCES shop.customer ON DELETE CASCADE, state shop.state DEFAULT 'new', total numeric CHECK (total > 0));
		CREATE INDEX ON shop.purchase (customer) WHERE state = 'new';
		CREATE FUNCTION shop.touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
		CREATE TRIGGER touch BEFORE UPDATE ON shop.purchase FOR EACH ROW EXECUTE FUNCTION shop.touch();
		CREATE VIEW shop.totals AS SELECT customer, sum(total) FROM shop.purchase GROUP BY 1;
		CREATE MATERIALIZED VIEW shop.top AS SELECT * FROM shop.totals;
		INSERT INTO shop.customer (name) SELECT 'c' || g FROM generate_series(1, 100) g;
		INSERT INTO shop.purchase (customer, total) SELECT 1 + g % 100, g FROM generate_series(1, 1000) g;
		CREATE TABLE shop.log (n int) PARTITION BY RANGE (n); CREATE TABLE shop.log1 PARTITION OF shop.log FOR VALUES FROM (0) TO (10); INSERT INTO shop.log VALUES (1);
		GRANT USAGE ON SCHEMA shop TO app; GRANT SELECT ON ALL TABLES IN SCHEMA shop TO app;
		ALTER TABLE shop.log1 ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON shop.log1 USING (true);
		SELECT lo_from_bytea(4711, 'x')`
	dbtest.Exec(t, as(t, source, "owner", "x"), schema)
	dbtest.Exec(t, source, "REFRESH MATERIALIZED VIEW shop.top; ALTER TABLE shop.log1 DISABLE ROW LEVEL SECURITY; GRANT SELECT ON LARGE OBJECT 4711 TO reader")
	spec := Spec{Source: dsn.URL(as(t, source, "reader", "x")), Target: dsn.URL(as(t, target, "owner", "x"))}
	for _, clean := range []bool{false, true} {
		spec.Clean = clean
		mustComplete(t, spec)
		compareFidelity(t, source, target)
	}

	// What it may not do is in the ledger, with what to do, and all rows are there.
	dbtest.Exec(t, source, "ALTER TABLE shop.purchase OWNER TO postgres; ALTER DATABASE s SET work_mem = '9MB'; CREATE PUBLICATION p FOR ALL TABLES")
	r := mustEnd(t, spec, Options{}, report.StatusDifferences)
	for _, object := range []string{"OWNER OF TABLE shop.purchase", "PUBLICATION p"} {
		if e := inLedger(t, r, object); e.SQLState != "42501" || e.Hint.IsZero() {
			t.Errorf("%s: %+v", object, e)
		}
	}
	if got, want := hashes(t, target), hashes(t, source); !reflect.DeepEqual(got, want) {
		t.Errorf("rows\ngot  %v\nwant %v", got, want)
	}
}

// TestTablespaces clones tables and indexes that lie in a tablespace, to a server that has it
// and to one that does not.
func TestTablespaces(t *testing.T) {
	t.Parallel()
	server := dbtest.Cluster(t, nil)
	source := newDatabase(t, server, "s", "")
	const space = `the "fast'; one`
	where := tablespaceDir(t, source, server.Dir())
	dbtest.Exec(t, source, fmt.Sprintf("CREATE TABLESPACE %s LOCATION %s", session.QuoteName(space), session.QuoteLiteral(where)))
	dbtest.Exec(t, source, strings.ReplaceAll(`
		CREATE TABLE t (id int, n int, CONSTRAINT k PRIMARY KEY (id) USING INDEX TABLESPACE @, EXCLUDE (n WITH =) USING INDEX TABLESPACE @) TABLESPACE @;
		CREATE INDEX ON t (n) TABLESPACE @; CREATE INDEX ON t (n, id); CREATE TABLE plain (id int UNIQUE);
		CREATE TABLE p (id int PRIMARY KEY USING INDEX TABLESPACE @) PARTITION BY RANGE (id) TABLESPACE @; CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);
		CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20) TABLESPACE pg_default;
		CREATE MATERIALIZED VIEW m TABLESPACE @ AS SELECT 1 AS n; INSERT INTO t VALUES (1, 1); INSERT INTO p VALUES (1), (11)`, "@", session.QuoteName(space)))
	const places = "SELECT relname, coalesce((SELECT spcname FROM pg_tablespace t WHERE t.oid = reltablespace), '') FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1"

	target := newDatabase(t, server, "t", "")
	mustComplete(t, Spec{Source: dsn.URL(source), Target: dsn.URL(target)})
	compareFidelity(t, source, target)
	dbtest.Equal(t, source, target, places)

	other := dbtest.Database(t)
	r := mustComplete(t, Spec{Source: dsn.URL(source), Target: dsn.URL(other)})
	if !slices.ContainsFunc(r.Warnings, func(w report.Text) bool { return strings.Contains(w.String(), "no tablespace "+space) }) {
		t.Errorf("warnings %q", r.Warnings)
	}
	dbtest.Equal(t, source, other, "SELECT * FROM t, p, m ORDER BY p.id")
}

// tablespaceDir makes an empty folder that belongs to who runs the server.
func tablespaceDir(t *testing.T, url, serverDir string) string {
	t.Helper()
	dir := filepath.Join(serverDir, "data", "space")
	program := "mkdir -m 700 " + dir // by the server itself, as its own user
	dbtest.Exec(t, url, "COPY (SELECT 1) TO PROGRAM "+session.QuoteLiteral("cat > /dev/null; "+program))
	return dir
}

// TestUnusualTables has what a copy can miss without an error.
func TestUnusualTables(t *testing.T) {
	t.Parallel()
	source, target := dbtest.Database(t), dbtest.Database(t)
	dbtest.Exec(t, source, `
		CREATE UNLOGGED TABLE unlogged (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY); INSERT INTO unlogged SELECT FROM generate_series(1, 10);
		CREATE TABLE nothing (); INSERT INTO nothing SELECT FROM generate_series(1, 5); CREATE TABLE generated (g int GENERATED ALWAYS AS (1) STORED); INSERT INTO generated DEFAULT VALUES;
		CREATE TABLE invalid (n int); INSERT INTO invalid VALUES (1), (1); CREATE INDEX bad ON invalid (n); UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'bad'::regclass;
		CREATE TABLE guarded (n int); INSERT INTO guarded VALUES (1); ALTER TABLE guarded ENABLE ROW LEVEL SECURITY; ALTER TABLE guarded FORCE ROW LEVEL SECURITY;
		CREATE TABLE parent (n int); CREATE TABLE child () INHERITS (parent); INSERT INTO parent VALUES (1); INSERT INTO child VALUES (2), (3);
		CREATE TABLE ruled (n int); INSERT INTO ruled VALUES (1); CREATE RULE nothing AS ON INSERT TO ruled DO INSTEAD NOTHING;
		CREATE TABLE backslashes (s text, b bytea); INSERT INTO backslashes VALUES ('\.', '\x5c2e'), (E'\\.\n\\N', NULL), (E'\\N', ''), ('', '\x00');
		CREATE TABLE always (n int); INSERT INTO always VALUES (1); CREATE FUNCTION plus() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.n := NEW.n + 1; RETURN NEW; END';
		CREATE TRIGGER plus BEFORE INSERT ON always FOR EACH ROW EXECUTE FUNCTION plus(); ALTER TABLE always ENABLE ALWAYS TRIGGER plus;
		CREATE SEQUENCE cycled MAXVALUE 3 CYCLE; SELECT nextval('cycled') FROM generate_series(1, 4);
		CREATE SEQUENCE unused; CREATE SEQUENCE reset_low; SELECT setval('reset_low', 5, false)`)
	// The invalid index is not in any dump.
	r := mustEnd(t, Spec{Source: dsn.URL(source), Target: dsn.URL(target)}, Options{}, report.StatusDifferences)
	find(t, r, "missing", "INDEX public.bad")
	if len(r.Differences) != 1 {
		t.Errorf("differences %+v", r.Differences)
	}
	dbtest.Equal(t, source, target, "SELECT count(*) FROM unlogged UNION ALL SELECT count(*) FROM nothing UNION ALL SELECT count(*) FROM generated UNION ALL SELECT count(*) FROM ONLY parent")
	compareFidelity(t, source, target)
}

// TestDatabaseProperties gives the database of a target that is cleaned what the source's has, and takes from it what it
// had beside. See TestWhatIsSetStays.
func TestDatabaseProperties(t *testing.T) {
	t.Parallel()
	server := dbtest.Cluster(t, nil)
	source, target := newDatabase(t, server, "s", ""), newDatabase(t, server, "t", "")
	dbtest.Exec(t, source, `CREATE ROLE "a=b 'c'"; CREATE ROLE other;
		ALTER DATABASE s SET search_path = "$user", 'we"ird', public; ALTER DATABASE s SET app.empty = ''; ALTER DATABASE s SET DateStyle = 'SQL, DMY'; ALTER DATABASE s SET temp_tablespaces = '';
		ALTER DATABASE s SET app.quoted = 'a=b, ''c'' "d" \e'; ALTER ROLE "a=b 'c'" IN DATABASE s SET app.x = 'y'; ALTER DATABASE s SET work_mem = '9MB';
		ALTER DATABASE s SET bytea_output = 'escape'; ALTER DATABASE s SET extra_float_digits = -5; ALTER DATABASE s SET row_security = off; ALTER DATABASE s SET standard_conforming_strings = on;
		COMMENT ON DATABASE s IS 'it''s'; GRANT CREATE ON DATABASE s TO "a=b 'c'" WITH GRANT OPTION; REVOKE TEMPORARY ON DATABASE s FROM PUBLIC;
		CREATE TABLE t (f float8, b bytea, s text); INSERT INTO t VALUES (0.1 + 0.2::float8, '\xdeadbeef', E'\\')`)
	dbtest.Exec(t, target, `ALTER DATABASE t SET work_mem = '1MB'; ALTER DATABASE t SET app.beside = 'x'; ALTER ROLE other IN DATABASE t SET work_mem = '2MB'; ALTER ROLE ALL IN DATABASE t SET app.every = 'x';
		COMMENT ON DATABASE t IS 'old'; GRANT CREATE, CONNECT ON DATABASE t TO other; GRANT CREATE ON DATABASE t TO "a=b 'c'"; ALTER DATABASE t SET default_transaction_isolation = 'serializable';
		ALTER DATABASE t SET row_security = on; ALTER DATABASE t SET statement_timeout = '10s'; ALTER DATABASE t SET default_transaction_read_only = on; ALTER DATABASE t SET session_replication_role = replica`)
	mustComplete(t, Spec{Source: dsn.URL(source), Target: dsn.URL(target), Clean: true})
	compareFidelity(t, source, target)
	dbtest.Equal(t, source, target, "SELECT * FROM t")
}
