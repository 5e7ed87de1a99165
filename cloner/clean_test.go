package cloner

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"calco/cloner/dsn"
	"calco/cloner/report"
	"calco/db/dbtest"
)

// relationNames is every relation outside system schemas.
const relationNames = `
	SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
	WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' ORDER BY 1`

// TestCleanRefusesWithDependents: something in schema b of the target depends on what is in
// schema a, which is to be cleaned. Nothing may be dropped.
func TestCleanRefusesWithDependents(t *testing.T) {
	t.Parallel()
	dbtest.Long(t)
	const inside = `CREATE SCHEMA a; CREATE SCHEMA b;
		CREATE TABLE a.t (id int PRIMARY KEY); CREATE TYPE a.e AS ENUM ('x'); CREATE SEQUENCE a.s; CREATE DOMAIN a.d AS int;
		CREATE FUNCTION a.f() RETURNS int LANGUAGE sql AS 'SELECT 1';
		CREATE FUNCTION a.trg() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
		CREATE TABLE a.p (n int) PARTITION BY LIST (n);
		CREATE COLLATION a.c FROM "C"; CREATE TEXT SEARCH DICTIONARY a.d (TEMPLATE = simple);
		CREATE TABLE b.t (id int)`
	source := dbtest.Database(t)
	dbtest.Exec(t, source, "CREATE SCHEMA a; CREATE TABLE a.new (id int)")
	for _, test := range []struct{ name, sql, found string }{
		{"view", "CREATE VIEW b.v AS SELECT * FROM a.t", "b.v"},
		{"materialized view", "CREATE MATERIALIZED VIEW b.m AS SELECT * FROM a.t", "b.m"},
		{"view of a view", "CREATE VIEW a.v AS SELECT * FROM a.t; CREATE VIEW b.v AS SELECT * FROM a.v", "b.v"},
		{"foreign key", "ALTER TABLE b.t ADD FOREIGN KEY (id) REFERENCES a.t", "t_id_fkey on b.t"},
		{"column type", "ALTER TABLE b.t ADD e a.e", "b.t.e"},
		{"column of an array", "ALTER TABLE b.t ADD e a.e[]", "b.t.e"},
		{"column of a row type", "ALTER TABLE b.t ADD e a.t", "b.t.e"},
		{"domain of a domain", "CREATE DOMAIN b.d AS a.d", "b.d"},
		{"default", "ALTER TABLE b.t ALTER id SET DEFAULT nextval('a.s')", "b.t.id"},
		{"default that calls a function", "ALTER TABLE b.t ALTER id SET DEFAULT a.f()", "b.t.id"},
		{"check", "ALTER TABLE b.t ADD CHECK (id > a.f())", "on b.t"},
		{"index", "CREATE FUNCTION a.g(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1'; CREATE INDEX i ON b.t (a.g(id))", "b.i"},
		{"function with a body", "CREATE FUNCTION b.f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT a.f(); END", "b.f()"},
		{"function's argument", "CREATE FUNCTION b.f(a.e) RETURNS int LANGUAGE sql AS 'SELECT 1'", "b.f"},
		{"policy", "CREATE POLICY p ON b.t USING (id = a.f())", "p on b.t"},
		{"rule", "CREATE RULE r AS ON INSERT TO b.t DO ALSO INSERT INTO a.t VALUES (NEW.id)", "r on b.t"},
		{"trigger", "CREATE TRIGGER t AFTER INSERT ON b.t FOR EACH ROW EXECUTE FUNCTION a.trg()", "t on b.t"},
		{"partition", "CREATE TABLE b.p1 PARTITION OF a.p FOR VALUES IN (1)", "b.p1"},
		{"inheritance", "CREATE TABLE b.child () INHERITS (a.t)", "b.child"},
		{"collation of a column", `ALTER TABLE b.t ADD x text COLLATE a.c`, "b.t.x"},
		{"text search configuration", "CREATE TEXT SEARCH CONFIGURATION b.c (PARSER = default); ALTER TEXT SEARCH CONFIGURATION b.c ADD MAPPING FOR word WITH a.d", "b.c"},
		{"event trigger", "CREATE FUNCTION a.evt() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'; CREATE EVENT TRIGGER mine ON sql_drop EXECUTE FUNCTION a.evt()", "mine"},
		{"cast", "CREATE CAST (a.e AS int) WITH INOUT", "a.e AS"},
		{"publication of a table", "CREATE PUBLICATION mine FOR TABLE a.t", "mine"},
		// It went silently: the publication stayed, without the schema.
		{"publication of the schema", "CREATE PUBLICATION mine FOR TABLES IN SCHEMA a", "mine"},
		{"statistics", "CREATE STATISTICS b.s ON id, (id + 1) FROM a.t", "b.s"},
		{"operator", "CREATE FUNCTION a.op(int, int) RETURNS bool LANGUAGE sql AS 'SELECT true'; CREATE OPERATOR b.<+> (LEFTARG = int, RIGHTARG = int, PROCEDURE = a.op)", "b.<+>"},
		{"aggregate", "CREATE FUNCTION a.agg(int, int) RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE AGGREGATE b.a(int) (SFUNC = a.agg, STYPE = int)", "b.a"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			target := dbtest.Database(t)
			dbtest.Exec(t, target, inside+";"+test.sql)
			before := dbtest.Query(t, target, relationNames)
			r := mustEnd(t, Spec{Source: dsn.URL(source), Target: dsn.URL(target), Schemas: []string{"a"}, Clean: true}, Options{}, report.StatusRefused)
			if len(r.Reasons) != 1 || r.Reasons[0].Code != report.ReasonDependents ||
				!slices.ContainsFunc(r.Reasons[0].Objects, func(o string) bool { return strings.Contains(o, test.found) }) {
				t.Errorf("reasons %+v, want %s", r.Reasons, test.found)
			}
			if after := dbtest.Query(t, target, relationNames); !reflect.DeepEqual(after, before) {
				t.Errorf("relations after the refusal: %v, before: %v", after, before)
			}
		})
	}
}

// TestClean cleans what is hard to drop, and wants the source's state afterwards.
func TestClean(t *testing.T) {
	t.Parallel()
	dbtest.Long(t)
	source := dbtest.Database(t)
	dbtest.Exec(t, source, `CREATE TABLE new (id int PRIMARY KEY, s text); INSERT INTO new VALUES (1, 'x');
		CREATE VIEW v AS SELECT * FROM new; CREATE SCHEMA fresh; SELECT lo_from_bytea(4711, 'x')`)
	for _, test := range []struct {
		name    string
		target  string
		schemas []string
		query   string // in place of the comparison: what must not have changed on the target
		want    report.Status
	}{
		{name: "views in a circle", target: `CREATE VIEW v1 AS SELECT 1 AS n; CREATE VIEW v2 AS SELECT * FROM v1; CREATE OR REPLACE VIEW v1 AS SELECT n FROM v2 WHERE false`},
		{name: "a function and a view in a circle", target: `CREATE VIEW v AS SELECT 1 AS n; CREATE FUNCTION f() RETURNS SETOF v LANGUAGE sql AS 'SELECT 1';
			CREATE OR REPLACE VIEW v AS SELECT n FROM f()`},
		{name: "a base type and its functions", target: `CREATE TYPE base; CREATE FUNCTION base_in(cstring) RETURNS base LANGUAGE internal IMMUTABLE STRICT AS 'int4in';
			CREATE FUNCTION base_out(base) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'int4out';
			CREATE TYPE base (INPUT = base_in, OUTPUT = base_out, LIKE = int4); CREATE TABLE u (b base, a base[]); CREATE TYPE shell`},
		{name: "foreign keys both ways", target: `CREATE TABLE a (id int PRIMARY KEY, b int); CREATE TABLE b (id int PRIMARY KEY, a int REFERENCES a);
			ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES b; CREATE TABLE me (id int PRIMARY KEY REFERENCES me)`},
		{name: "a table, a function of its rows, and its default", target: `CREATE TABLE r (id int); CREATE FUNCTION f(r) RETURNS int LANGUAGE sql AS 'SELECT 1';
			CREATE FUNCTION g() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT f(r) FROM r LIMIT 1; END; ALTER TABLE r ALTER id SET DEFAULT g()`},
		{name: "an operator family in a circle", target: `CREATE FUNCTION lt(int, int) RETURNS bool LANGUAGE internal IMMUTABLE STRICT AS 'int4lt';
			CREATE OPERATOR <<< (LEFTARG = int, RIGHTARG = int, PROCEDURE = lt, COMMUTATOR = >>>); CREATE OPERATOR FAMILY fam USING btree`},
		{name: "partitions of partitions", target: `CREATE TABLE p (a int, b int, PRIMARY KEY (a, b)) PARTITION BY LIST (a); CREATE TABLE p1 PARTITION OF p DEFAULT PARTITION BY LIST (b);
			CREATE TABLE p2 PARTITION OF p1 DEFAULT; CREATE TABLE q (a int, b int, FOREIGN KEY (a, b) REFERENCES p)`},
		{name: "inheritance from two", target: `CREATE TABLE a (x int); CREATE TABLE b (y int); CREATE TABLE c () INHERITS (a, b); CREATE TABLE d () INHERITS (c)`},
		{name: "all that belongs to no schema", target: `CREATE FUNCTION evt() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN IF tg_tag LIKE 'DROP%' THEN RAISE 'no drops'; END IF; END$$;
			CREATE EVENT TRIGGER no_drops ON sql_drop EXECUTE FUNCTION evt(); CREATE PUBLICATION p FOR ALL TABLES;
			CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w; CREATE USER MAPPING FOR PUBLIC SERVER s; CREATE FOREIGN TABLE ft (n int) SERVER s;
			CREATE TYPE e AS ENUM (); CREATE CAST (e AS int) WITH INOUT; CREATE ACCESS METHOD am TYPE INDEX HANDLER hashhandler;
			SELECT lo_create(0) FROM generate_series(1, 1500)`},
		{name: "a schema with everything of another name", target: `CREATE SCHEMA "Old; DROP"; CREATE TABLE "Old; DROP"."T""" (n int); COMMENT ON SCHEMA "Old; DROP" IS 'x'`},
		{name: "extensions stay, with their members and what uses them goes", target: `CREATE SCHEMA ext; CREATE EXTENSION citext SCHEMA ext; CREATE TABLE uses (c ext.citext);
			CREATE TABLE ext.mine (n int)`, query: "SELECT count(*) FROM pg_depend WHERE deptype = 'e'", want: report.StatusDifferences}, // the source has none
		{
			name: "one schema, with an extension that another one needs", schemas: []string{"public"},
			target: `CREATE EXTENSION cube; CREATE SCHEMA other; CREATE EXTENSION earthdistance SCHEMA other; CREATE TABLE other.t (c cube); INSERT INTO other.t VALUES ('(1)'); CREATE TABLE mine (n int)`, want: report.StatusDifferences, // the source has none
			query: "SELECT * FROM other.t",
		},
		{name: "public made anew as the first version of the product did", target: `DROP SCHEMA public CASCADE; CREATE SCHEMA public; GRANT ALL ON SCHEMA public TO postgres; GRANT ALL ON SCHEMA public TO public`},
		{name: "without public", target: `DROP SCHEMA public CASCADE`},
		{name: "grants, comments and default privileges of public", target: `
			REVOKE ALL ON SCHEMA public FROM PUBLIC; GRANT CREATE, USAGE ON SCHEMA public TO pg_monitor WITH GRANT OPTION; COMMENT ON SCHEMA public IS 'weird';
			ALTER SCHEMA public OWNER TO postgres;
			ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO pg_monitor WITH GRANT OPTION;
			ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC; ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
			ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM postgres; ALTER DEFAULT PRIVILEGES REVOKE USAGE ON TYPES FROM PUBLIC;
			ALTER DEFAULT PRIVILEGES GRANT USAGE ON SCHEMAS TO pg_monitor; ALTER DEFAULT PRIVILEGES FOR ROLE pg_monitor GRANT USAGE ON SEQUENCES TO PUBLIC`},
		{name: "no comment on public", target: `COMMENT ON SCHEMA public IS NULL`},
		{name: "settings, grants and comment of the database", target: `DO $$ DECLARE db text := quote_ident(current_database()); BEGIN
				EXECUTE 'ALTER DATABASE ' || db || ' SET work_mem = ''9MB'''; EXECUTE 'ALTER DATABASE ' || db || ' SET search_path = a, "B c", public';
				EXECUTE 'ALTER ROLE postgres IN DATABASE ' || db || ' SET app.x = ''y'''; EXECUTE 'COMMENT ON DATABASE ' || db || ' IS ''old''';
				EXECUTE 'GRANT CREATE ON DATABASE ' || db || ' TO pg_monitor WITH GRANT OPTION'; EXECUTE 'REVOKE CONNECT, TEMPORARY ON DATABASE ' || db || ' FROM PUBLIC';
				EXECUTE 'ALTER DATABASE ' || db || ' SET default_transaction_read_only = on';
			END $$`},
		{name: "grants on what PostgreSQL itself made stay, and are reported", want: report.StatusDifferences, query: "SELECT 1", target: `REVOKE EXECUTE ON FUNCTION pg_sleep(double precision) FROM PUBLIC; GRANT EXECUTE ON FUNCTION pg_reload_conf() TO PUBLIC`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			target := dbtest.Database(t)
			dbtest.Exec(t, target, test.target)
			var before [][]string
			if test.query != "" {
				before = dbtest.Query(t, target, test.query)
			}
			spec := Spec{Source: dsn.URL(source), Target: dsn.URL(target), Clean: true, Schemas: test.schemas}
			if test.want == "" {
				test.want = report.StatusCompleted
			}
			mustEnd(t, spec, Options{}, test.want)
			if test.query == "" {
				compareFidelity(t, source, target)
			} else if after := dbtest.Query(t, target, test.query); !reflect.DeepEqual(after, before) {
				t.Errorf("%s: %v, before %v", test.query, after, before)
			}
		})
	}
}

// TestCleanKeepsExtensionConfiguration: the rows of an extension's table stay, those that people added too. Contrib has no
// such extension, so one is made of hstore.
func TestCleanKeepsExtensionConfiguration(t *testing.T) {
	t.Parallel()
	dbtest.Long(t)
	const extension = `
		CREATE EXTENSION hstore;
		CREATE TABLE config (k text PRIMARY KEY, v text, builtin bool NOT NULL DEFAULT false); CREATE SEQUENCE config_seq;
		ALTER EXTENSION hstore ADD TABLE config; ALTER EXTENSION hstore ADD SEQUENCE config_seq;
		UPDATE pg_extension SET extconfig = ARRAY['config'::regclass, 'config_seq'::regclass], extcondition = ARRAY['WHERE NOT builtin', '']
		WHERE extname = 'hstore';
		INSERT INTO config VALUES ('version', 'of the extension', true);`
	source, target := dbtest.Database(t), dbtest.Database(t)
	dbtest.Exec(t, source, extension+"INSERT INTO config VALUES ('a', 'source'), ('b', 'source'); SELECT setval('config_seq', 9)")
	dbtest.Exec(t, target, extension+"UPDATE config SET v = 'of the target''s'; INSERT INTO config VALUES ('a', 'target'), ('c', 'target')")
	spec := Spec{Source: dsn.URL(source), Target: dsn.URL(target), Clean: true}
	for range 2 {
		mustComplete(t, spec)
		if got := dbtest.Query(t, target, "SELECT k, v FROM config WHERE NOT builtin ORDER BY k"); !reflect.DeepEqual(got, [][]string{{"a", "target"}, {"c", "target"}}) {
			t.Errorf("people's own rows are %q", got)
		}
		dbtest.Equal(t, source, target, "SELECT last_value, is_called FROM config_seq")
		if got := dbtest.Query(t, target, "SELECT v FROM config WHERE builtin"); got[0][0] != "of the target's" {
			t.Errorf("the extension's own row is %q", got)
		}
	}

	// An extension outside the chosen schemas was there before: it is left as it is.
	dbtest.Exec(t, source, "CREATE SCHEMA a; CREATE TABLE a.t (h hstore); INSERT INTO a.t VALUES ('a=>1')")
	dbtest.Exec(t, target, "UPDATE config SET v = 'mine' WHERE NOT builtin; SELECT setval('config_seq', 1000)")
	spec.Schemas = []string{"a"}
	for range 2 {
		mustComplete(t, spec)
		dbtest.Equal(t, source, target, "SELECT * FROM a.t")
		if got := dbtest.Query(t, target, "SELECT DISTINCT v FROM config WHERE NOT builtin UNION ALL SELECT last_value::text FROM config_seq"); !reflect.DeepEqual(got, [][]string{{"mine"}, {"1000"}}) {
			t.Errorf("outside: %q", got)
		}
	}
}

// TestCleanManyObjects cleans more than the lock table of the server holds.
func TestCleanManyObjects(t *testing.T) {
	t.Parallel()
	source := dbtest.Database(t)
	dbtest.Exec(t, source, "CREATE TABLE new (id int)")
	server := dbtest.Cluster(t, map[string]string{"max_locks_per_transaction": "10", "max_connections": "40"})
	target := server.URL("")
	for i := range 6 {
		dbtest.Exec(t, target, fmt.Sprintf(`DO $$ BEGIN
			FOR i IN %d..%d LOOP
				EXECUTE format('CREATE TABLE t%%s (id int)', i);
				IF i %% 100 = 0 THEN EXECUTE format('CREATE VIEW v%%s AS SELECT * FROM t%%s', i, i); END IF;
			END LOOP; END $$`, i*200, i*200+199))
	}
	dbtest.Exec(t, target, "CREATE TABLE p (n int) PARTITION BY LIST (n)")
	for i := range 5 {
		dbtest.Exec(t, target, fmt.Sprintf(`DO $$ BEGIN
			FOR i IN %d..%d LOOP EXECUTE format('CREATE TABLE p%%s PARTITION OF p FOR VALUES IN (%%s)', i, i); END LOOP; END $$`, i*100, i*100+99))
	}
	spec := Spec{Source: dsn.URL(source), Target: dsn.URL(target), Clean: true}
	preview, err := PreviewClean(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	if preview.Tables != 1701 || preview.Objects != 1714 { // with the comment that initdb gives to the database postgres
		t.Errorf("preview: %d tables, %d objects, want 1701 and 1714", preview.Tables, preview.Objects)
	}
	mustComplete(t, spec)
	if got := dbtest.Query(t, target, relationNames); !reflect.DeepEqual(got, [][]string{{"new"}}) {
		t.Errorf("left on the target: %v", got)
	}
}

// TestCleanWithoutPermission: the role owns the database and a table, but not all that is to
// be dropped. It is refused before anything is.
func TestCleanWithoutPermission(t *testing.T) {
	t.Parallel()
	server := dbtest.Cluster(t, nil)
	source := newDatabase(t, server, "source", "")
	dbtest.Exec(t, source, "CREATE TABLE new (id int); CREATE ROLE boss LOGIN PASSWORD 'x'; CREATE ROLE other")
	for i, test := range []struct{ name, sql string }{
		{"table", "CREATE TABLE theirs (id int)"},
		{"view", "CREATE VIEW theirs AS SELECT 1 AS n"},
		{"function", "CREATE FUNCTION theirs() RETURNS int LANGUAGE sql AS 'SELECT 1'"},
		{"type", "CREATE TYPE theirs AS ENUM ()"},
		{"cast", "CREATE TYPE theirs AS ENUM (); CREATE CAST (theirs AS int) WITH INOUT"},
		{"publication", "CREATE PUBLICATION theirs FOR ALL TABLES"},
		{"event trigger", "CREATE FUNCTION evt() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'; ALTER FUNCTION evt() OWNER TO boss; CREATE EVENT TRIGGER theirs ON ddl_command_end EXECUTE FUNCTION evt()"},
		{"foreign data wrapper", "CREATE FOREIGN DATA WRAPPER theirs"},
		// Each of these has no owner: they were tried, after much else was gone.
		{"access method", "CREATE ACCESS METHOD theirs TYPE INDEX HANDLER hashhandler"},
		{"text search parser", "CREATE TEXT SEARCH PARSER theirs (START = prsd_start, GETTOKEN = prsd_nexttoken, END = prsd_end, LEXTYPES = prsd_lextype)"},
		{"cast between types of PostgreSQL", "CREATE CAST (point AS int) WITH INOUT"},
		{"transform", "CREATE TRANSFORM FOR int LANGUAGE sql (FROM SQL WITH FUNCTION prsd_lextype(internal))"},
		{"large object", "SELECT lo_create(4711)"},
	} {
		t.Run(test.name, func(t *testing.T) {
			target := newDatabase(t, server, fmt.Sprintf("t%d", i), "OWNER boss")
			dbtest.Exec(t, as(t, target, "boss", "x"), "CREATE TABLE mine (id int)")
			dbtest.Exec(t, target, "CREATE SCHEMA s; GRANT ALL ON SCHEMA s TO PUBLIC; ALTER SCHEMA s OWNER TO other; SET search_path = s; "+test.sql)
			spec := Spec{Source: dsn.URL(source), Target: dsn.URL(as(t, target, "boss", "x")), Clean: true}
			r := mustEnd(t, spec, Options{}, report.StatusRefused)
			if len(r.Reasons) != 1 || r.Reasons[0].Code != report.ReasonPermission {
				t.Errorf("reasons %+v, want %s", r.Reasons, report.ReasonPermission)
			}
			if got := dbtest.Query(t, target, "SELECT to_regclass('mine'), to_regnamespace('_calco')"); got[0][0] != "mine" || got[0][1] != "NULL" {
				t.Errorf("after the refusal: %v", got)
			}
		})
	}
	// Who owns a schema may drop what is in it, whoever owns that, foreign keys included.
	target := newDatabase(t, server, "theirs", "OWNER boss")
	dbtest.Exec(t, target, `CREATE SCHEMA a AUTHORIZATION boss; CREATE TABLE a.p (id int PRIMARY KEY); CREATE TABLE a.c (id int REFERENCES a.p);
		ALTER TABLE a.p OWNER TO other; ALTER TABLE a.c OWNER TO other`)
	dbtest.Exec(t, source, "CREATE SCHEMA a; CREATE TABLE a.new (id int)")
	spec := Spec{Source: dsn.URL(source), Target: dsn.URL(as(t, target, "boss", "x")), Clean: true, Schemas: []string{"a"}}
	r, err := Clone(t.Context(), confirmed(t, spec), Options{})
	if err != nil || r.Status != report.StatusDifferences { // its owner on the source is postgres
		t.Errorf("a schema of one's own: %v %+v", err, r)
	}
	if got := dbtest.Query(t, target, "SELECT string_agg(relname, ',') FROM pg_class WHERE relnamespace = 'a'::regnamespace AND relkind = 'r'"); got[0][0] != "new" {
		t.Errorf("tables on the target: %v, want new", got)
	}
}

func TestPreviewCleanOfAnUnreachableTarget(t *testing.T) {
	t.Parallel()
	_, err := PreviewClean(t.Context(), Spec{Target: "postgres://nobody@127.0.0.1:1/x"})
	var refused *report.RefusedError
	if !errors.As(err, &refused) {
		t.Errorf("error %v, want a refusal", err)
	}
}
