package cloner

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"calco/cloner/dsn"
	"calco/cloner/internal/session"
	"calco/db/dbtest"
)

// hostileNames are all legal, and each has broken some program that writes SQL. A name of 63
// bytes is the longest there is.
var hostileNames = []string{
	`double"quote`, "single'quote", `back\slash\n`, "new\nline", "semi;colon", "$$", "$1 $body$", strings.Repeat("🦉", 15) + "abc",
	"%s %d %!(EXTRA)", " spaces around ", "select", "x;\ny", "x\n    ADD CONSTRAINT \"y\" CHECK (true)", "v _RETURN", "SET (pg_attver=1)",
	"tab\there", "carriage\rreturn", "--comment", "/*comment*/", "a.b", "ünïcödé", "PUBLIC", "{brace,}", "x';", `"`, "''", `\.`, "\\",
}

// hostileSchema makes one schema in which every kind of object has a hostile name. %n is one
// such name as an identifier, counted from the schema's own, and 'n the same as a literal.
const hostileSchema = `
	CREATE SCHEMA %0 AUTHORIZATION %0;
	COMMENT ON SCHEMA %0 IS '1;
	GRANT USAGE ON SCHEMA %0 TO %1;
	ALTER DEFAULT PRIVILEGES FOR ROLE %0 IN SCHEMA %0 GRANT SELECT ON TABLES TO %2;
	CREATE TYPE %0.%4 AS ENUM ('4, 'b', '5);
	CREATE DOMAIN %0.%5 AS text DEFAULT '5 CONSTRAINT %6 CHECK (VALUE <> '7);
	COMMENT ON CONSTRAINT %6 ON DOMAIN %0.%5 IS '6;
	CREATE TYPE %0.%6 AS (%7 text, %8 int);
	CREATE COLLATION %0.%0 FROM "C";
	CREATE TEXT SEARCH DICTIONARY %0.%0 (TEMPLATE = simple);
	CREATE TEXT SEARCH CONFIGURATION %0.%0 (COPY = pg_catalog.english);
	CREATE FUNCTION %0.%0(%1 text, %2 %0.%4 DEFAULT '4) RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'body;
	ALTER FUNCTION %0.%0(text, %0.%4) OWNER TO %0;
	COMMENT ON FUNCTION %0.%0(text, %0.%4) IS '3;
	GRANT EXECUTE ON FUNCTION %0.%0(text, %0.%4) TO %1;
	CREATE PROCEDURE %0.%1(INOUT %3 int) LANGUAGE sql AS 'SELECT 1';
	CREATE AGGREGATE %0.%2(int) (SFUNC = int4pl, STYPE = int);
	ALTER AGGREGATE %0.%2(int) OWNER TO %0;
	CREATE OPERATOR %0.<~> (LEFTARG = box, RIGHTARG = box, PROCEDURE = box_overlap);
	CREATE OPERATOR CLASS %0.%0 FOR TYPE int4 USING hash AS OPERATOR 1 =, FUNCTION 1 hashint4(int4);
	CREATE SEQUENCE %0.%3;
	SELECT setval('seq, 7);

	CREATE TABLE %0.%0 (
		%0 int NOT NULL, %1 text DEFAULT '1 COLLATE %0.%0, %2 %0.%4, %3 %0.%5, %4 %0.%6, %5 int GENERATED ALWAYS AS IDENTITY,
		%6 int DEFAULT nextval('seq), %7 text GENERATED ALWAYS AS (%0.%0(%1, '4)) STORED,
		CONSTRAINT %10 PRIMARY KEY (%0), CONSTRAINT %11 UNIQUE (%5) DEFERRABLE INITIALLY DEFERRED, CONSTRAINT %12 CHECK (%1 <> '9)
	);
	ALTER TABLE %0.%0 OWNER TO %0;
	INSERT INTO %0.%0 (%0, %2, %3, %4) SELECT g, '5, '0, ROW('1, g)::%0.%6 FROM generate_series(1, 20) g;
	CREATE INDEX %13 ON %0.%0 (%1, (%0 + 1)) WHERE %1 <> '2;
	ALTER INDEX %0.%13 ALTER COLUMN 2 SET STATISTICS 17;
	COMMENT ON INDEX %0.%13 IS '3;
	CREATE UNIQUE INDEX %14 ON %0.%0 (%0, %5);
	ALTER TABLE %0.%0 REPLICA IDENTITY USING INDEX %14;
	CREATE UNIQUE INDEX %15 ON %0.%0 (%6, %0);
	ALTER TABLE %0.%0 CLUSTER ON %15;
	CREATE STATISTICS %0.%0 ON %0, %1 FROM %0.%0;
	COMMENT ON COLUMN %0.%0.%1 IS '4;
	COMMENT ON CONSTRAINT %10 ON %0.%0 IS '5;
	GRANT SELECT (%0), UPDATE (%1) ON %0.%0 TO %1;
	CREATE FUNCTION %0.%4() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
	CREATE TRIGGER %3 AFTER UPDATE OF %1 ON %0.%0 FOR EACH ROW WHEN (NEW.%1 <> '2) EXECUTE FUNCTION %0.%4('5, '6);
	ALTER TABLE %0.%0 DISABLE TRIGGER %3;
	COMMENT ON TRIGGER %3 ON %0.%0 IS '8;
	CREATE RULE %2 AS ON DELETE TO %0.%0 WHERE OLD.%1 = '7 DO ALSO NOTHING;
	CREATE POLICY %4 ON %0.%0 FOR SELECT TO %2 USING (%1 <> '3);
	ALTER TABLE %0.%0 ENABLE ROW LEVEL SECURITY;

	CREATE TABLE %0.%16 (%0 int, %1 int4range, CONSTRAINT %1 FOREIGN KEY (%0) REFERENCES %0.%0 (%0) ON DELETE CASCADE DEFERRABLE,
		CONSTRAINT %22 EXCLUDE USING gist (%1 WITH &&));
	INSERT INTO %0.%16 SELECT g, int4range(g, g + 1) FROM generate_series(1, 20) g;
	CREATE VIEW %0.%17 AS SELECT t.%0, t.%1, count(*) AS %2 FROM %0.%0 t GROUP BY t.%0;
	CREATE VIEW %0.%18 (%3) AS SELECT %2 FROM %0.%17;
	CREATE MATERIALIZED VIEW %0.%19 AS SELECT %0 AS %4, '1::text AS %5 FROM %0.%17;
	CREATE UNIQUE INDEX %23 ON %0.%19 (%4);
	CREATE TABLE %0.%20 (%0 int, %1 text, CONSTRAINT %24 PRIMARY KEY (%0, %1)) PARTITION BY LIST (%1);
	CREATE TABLE %0.%21 PARTITION OF %0.%20 (CONSTRAINT %9 CHECK (%0 > 0)) FOR VALUES IN ('5, '6);
	CREATE TABLE %0.%8 PARTITION OF %0.%20 DEFAULT PARTITION BY RANGE (%0);
	CREATE TABLE %0.%9 PARTITION OF %0.%8 FOR VALUES FROM (0) TO (100);
	CREATE INDEX %25 ON %0.%20 (%1);
	INSERT INTO %0.%20 VALUES (1, '5), (2, '6), (3, '7);
	CREATE TABLE %0.%26 (%0 int, %1 text, CONSTRAINT %2 FOREIGN KEY (%0, %1) REFERENCES %0.%20);
	INSERT INTO %0.%26 VALUES (3, '7);

	CREATE PUBLICATION %0 FOR TABLE %0.%0 WHERE (%0 > 0), TABLES IN SCHEMA %1;
	CREATE FUNCTION %0.%5() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
	CREATE EVENT TRIGGER %0 ON ddl_command_end EXECUTE FUNCTION %0.%5();
	COMMENT ON EVENT TRIGGER %0 IS '4;
	CREATE FOREIGN DATA WRAPPER %0 OPTIONS ("o p" '2);
	CREATE SERVER %0 TYPE '1 VERSION '2 FOREIGN DATA WRAPPER %0 OPTIONS ("o p" '4);
	CREATE USER MAPPING FOR %1 SERVER %0 OPTIONS ("o p" '3);
	CREATE FOREIGN TABLE %0.%7 (%0 int OPTIONS ("o p" '2)) SERVER %0 OPTIONS ("o p" '5);
	CREATE CAST (%0.%6 AS %0.%4) WITH INOUT;
	COMMENT ON CAST (%0.%6 AS %0.%4) IS '6;
	CREATE ACCESS METHOD %0 TYPE INDEX HANDLER hashhandler;
	CREATE FUNCTION %0.%6() RETURNS language_handler LANGUAGE c AS '$libdir/plpgsql', 'plpgsql_call_handler';
	CREATE LANGUAGE %0 HANDLER %0.%6;
	ALTER DATABASE %db SET search_path = %0, public;
	ALTER ROLE %1 IN DATABASE %db SET search_path = %1, %2;
	GRANT CONNECT ON DATABASE %db TO %1;
`

// hostileSQL writes out hostileSchema for the nth name.
func hostileSQL(n int, database string) string {
	name := func(k int) string { return hostileNames[(n+k)%len(hostileNames)] }
	oldnew := []string{
		"%db", session.QuoteName(database),
		"'seq", session.QuoteLiteral(session.QuoteName(name(0), name(3))),
		"'body", session.QuoteLiteral("BEGIN RETURN $1 || " + session.QuoteLiteral(name(0)) + "; END"),
	}
	for k := len(hostileNames) - 1; k >= 0; k-- { // %10 before %1
		literal := session.QuoteLiteral(name(k))
		if strings.Contains(literal, `\`) {
			literal = "E" + strings.ReplaceAll(literal, `\`, `\\`)
		}
		oldnew = append(oldnew, fmt.Sprintf("%%%d", k), session.QuoteName(name(k)), fmt.Sprintf("'%d", k), literal)
	}
	return strings.NewReplacer(oldnew...).Replace(hostileSchema)
}

// TestHostileNames clones every kind of object under every hostile name, twice in a row.
func TestHostileNames(t *testing.T) {
	t.Parallel()
	server := dbtest.Cluster(t, nil)
	const database = "the \"source\"; %s\n\\"
	source := newDatabase(t, server, database, "")
	target := newDatabase(t, server, "the 'target' $1 ünï\t", "")
	var setup strings.Builder
	for _, name := range hostileNames {
		fmt.Fprintf(&setup, "CREATE ROLE %s;\n", session.QuoteName(name))
	}
	// A publication of one schema names the next, so they are there before all else.
	schemas := make([]string, len(hostileNames))
	for i := range hostileNames {
		create, rest, _ := strings.Cut(hostileSQL(i, database), ";\n\tCOMMENT ON SCHEMA")
		setup.WriteString(create + ";\n")
		schemas[i] = "\tCOMMENT ON SCHEMA" + rest
	}
	dbtest.Exec(t, source, setup.String())
	for _, sql := range schemas {
		dbtest.Exec(t, source, sql)
	}
	spec := Spec{Source: dsn.URL(source), Target: dsn.URL(target)}
	for _, clean := range []bool{false, true} {
		spec.Clean = clean
		mustComplete(t, spec)
		compareFidelity(t, source, target)
	}
}

// TestHostileNamesOfLargeTables has the names in the statements that are taken apart, or
// made, only for tables above a size.
func TestHostileNamesOfLargeTables(t *testing.T) {
	t.Parallel()
	dbtest.Long(t)
	source, target := dbtest.Database(t), dbtest.Database(t)
	var sql strings.Builder
	sql.WriteString("CREATE TABLE parent (id int PRIMARY KEY); INSERT INTO parent VALUES (1);\n")
	for i, name := range slices.Concat(hostileNames[:4], hostileNames[11:15]) {
		n := session.QuoteName(name)
		fmt.Fprintf(&sql, `CREATE TABLE t%d (%[2]s int, pad text, CONSTRAINT %[2]s FOREIGN KEY (%[2]s) REFERENCES parent ON DELETE SET DEFAULT DEFERRABLE);
			ALTER TABLE t%[1]d ALTER pad SET STORAGE PLAIN;
			INSERT INTO t%[1]d SELECT 1, repeat('x', 7000) FROM generate_series(1, 700);
			COMMENT ON CONSTRAINT %[2]s ON t%[1]d IS 'checked';
			`, i, n)
	}
	dbtest.Exec(t, source, sql.String())
	mustComplete(t, Spec{Source: dsn.URL(source), Target: dsn.URL(target)})
	compareFidelity(t, source, target)
}

func TestHostileDatabaseNames(t *testing.T) {
	t.Parallel()
	dbtest.Long(t)
	for _, name := range []string{
		"with spaces ", `"`, "'", `\`, "100%", "%41", "a=b c='d", "postgres://x@y/z?w", "ünïcödé 🦉", "$(rm)`;--", "new\nline", "template", "@", "#?",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			source, target := dbtest.DatabaseNamed(t, "from "+name), dbtest.DatabaseNamed(t, "to "+name)
			dbtest.Exec(t, source, `CREATE TABLE a (n int); INSERT INTO a VALUES (1);
				DO $$ BEGIN
					EXECUTE format('COMMENT ON DATABASE %I IS %L', current_database(), 'mine');
					EXECUTE format('ALTER DATABASE %I SET app.x = %L', current_database(), 'y');
				END $$`)
			mustComplete(t, Spec{Source: dsn.URL(source), Target: dsn.URL(target)})
			compareFidelity(t, source, target)
			mustComplete(t, Spec{Source: dsn.URL(source), Target: dsn.URL(target), Schemas: []string{"public"}, Clean: true})
			compareFidelity(t, source, target)
		})
	}
}
