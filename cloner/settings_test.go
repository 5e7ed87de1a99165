package cloner

import (
	"fmt"
	"slices"
	"testing"

	"calco/cloner/dsn"
	"calco/cloner/internal/session"
	"calco/cloner/report"
	"calco/db/dbtest"
)

// unpinned are the settings of the manual's chapters on client connections, compatibility and error handling, and of the
// developer options, that a session leaves as they are, and why.
var unpinned = map[string]string{
	"createrole_self_grant":      "roles are not cloned",
	"default_statistics_target":  "changes no value",
	"default_text_search_config": "only functions that are not immutable read it",
	"default_toast_compression":  "how values are stored, not what they are",
	"dynamic_library_path":       "where the server finds its own code",
	"event_triggers":             "fires nothing by being on",
	"extension_control_path":     "where the server finds its own code",
	"gin_pending_list_limit":     "how an index is built, not what it finds",
	"lc_messages":                "errors, not values",
	"local_preload_libraries":    "set before any SET",
	"session_preload_libraries":  "set before any SET",
	"temp_tablespaces":           "where there is room to sort",
	"transaction_deferrable":     "of a transaction",
	"transaction_isolation":      "of a transaction",
	"transaction_read_only":      "of a transaction",
}

// chapters are the categories of those settings.
const chapters = `category ~ '^(Client Connection Defaults|Version and Platform Compatibility|Error Handling)' AND name !~ '^vacuum_' OR
	name IN ('zero_damaged_pages', 'ignore_checksum_failure')`

// TestEverySettingIsPinned goes through the settings of the server's own list: one that a later version adds has to be
// pinned, or to be named above.
func TestEverySettingIsPinned(t *testing.T) {
	t.Parallel()
	database := dbtest.Database(t)
	dbtest.Exec(t, database, hostile(superuserSettings))
	for _, side := range []report.Side{report.Source, report.Target} {
		s, err := session.Open(t.Context(), side, dsn.URL(database), nil, "calco/test/1")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		left, err := s.SimpleQuery(t.Context(), `SELECT name FROM pg_settings WHERE context IN ('user', 'superuser') AND source <> 'session' AND (`+chapters+`)`)
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range left {
			if unpinned[row[0]] == "" {
				t.Errorf("%s: %s is left as the database has it", side, row[0])
			}
		}
	}
}

// superuserSettings are those that only a superuser sets.
var superuserSettings = [][2]string{
	{"session_replication_role", "replica"}, {"lo_compat_privileges", "on"}, {"zero_damaged_pages", "on"}, {"ignore_checksum_failure", "on"},
}

// userSettings change how values are written and read, and statements understood.
var userSettings = [][2]string{
	{"array_nulls", "off"},
	{"backslash_quote", "off"},
	{"transform_null_equals", "on"},
	{"exit_on_error", "on"},
	{"xmloption", "document"},
	{"xmlbinary", "hex"},
	{"timezone_abbreviations", "Australia"},
	{"TimeZone", "America/Caracas"},
	{"DateStyle", "SQL, DMY"},
	{"IntervalStyle", "sql_standard"},
	{"extra_float_digits", "-10"},
	{"bytea_output", "escape"},
	{"quote_all_identifiers", "on"},
	{"standard_conforming_strings", "off"},
	{"gin_fuzzy_search_limit", "5"},
	{"default_transaction_isolation", "serializable"},
	{"default_transaction_deferrable", "on"},
	{"default_transaction_read_only", "on"},
	{"default_table_access_method", "heap"},
	{"client_encoding", "LATIN1"},
	{"search_path", "nowhere"},
	{"check_function_bodies", "on"},
	{"row_security", "on"},
}

// hostile gives the database that it runs in settings of its own.
func hostile(settings [][2]string) string {
	sql := "DO $$ BEGIN\n"
	for _, s := range settings {
		sql += "EXECUTE format('ALTER DATABASE %I SET " + s[0] + " = %L', current_database(), " + session.QuoteLiteral(s[1]) + ");\n"
	}
	return sql + "END $$"
}

// TestHostileSettings clones between databases whose settings change how values are written and read: on one side, on the
// other, on both.
func TestHostileSettings(t *testing.T) {
	t.Parallel()
	const rows = `
		CREATE TABLE v (id int PRIMARY KEY, a text[], n text[], x xml, t timestamptz, d date, i interval, f float8, b bytea, q text, w tsvector);
		INSERT INTO v VALUES (1, ARRAY['x', NULL, 'y'], ARRAY['NULL', 'null'], XMLPARSE(CONTENT '<a/>text<b/>'), '2024-02-03 04:05:06.789+00', '2024-02-03',
			'-1 mons +2 days -03:04:05', 0.1::float8 + 0.2::float8, '\x00ff5c', E'a\\b''c', 'a:1 b:2');
		CREATE INDEX ON v USING gin (w); INSERT INTO v (id, w) SELECT g, 'a:1' FROM generate_series(2, 400) g;
		CREATE MATERIALIZED VIEW found AS SELECT id FROM v WHERE w @@ 'a';
		CREATE TABLE days (t timestamptz DEFAULT '2024-02-03 04:05:06+00', b bytea DEFAULT '\x00ff5c', s text DEFAULT E'a\\b''c') PARTITION BY RANGE (t);
		CREATE TABLE one PARTITION OF days FOR VALUES FROM ('2024-02-03 00:00:00+00') TO ('2024-02-04 00:00:00+00'); INSERT INTO days DEFAULT VALUES;
		CREATE VIEW unknown AS SELECT id FROM v WHERE q = NULL`
	const values = `SET array_nulls = on; SET search_path = public; SET xmloption = content; SET bytea_output = hex; SELECT id, a, a[2] IS NULL, n, x, extract(epoch FROM t), extract(epoch FROM d), extract(epoch FROM i), float8send(f), encode(b, 'hex'), q, w,
		(SELECT count(*) FROM found), (SELECT encode(b, 'hex') || s FROM one) FROM v ORDER BY id`
	for _, test := range []struct {
		name  string
		sides []report.Side
	}{{"source", []report.Side{report.Source}}, {"target", []report.Side{report.Target}}, {"both", []report.Side{report.Source, report.Target}}} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			source, target := dbtest.Database(t), dbtest.Database(t)
			dbtest.Exec(t, source, rows)
			for side, database := range map[report.Side]string{report.Source: source, report.Target: target} {
				if slices.Contains(test.sides, side) {
					dbtest.Exec(t, database, hostile(slices.Concat(userSettings, superuserSettings)))
				}
			}
			mustComplete(t, Spec{Source: dsn.URL(source), Target: dsn.URL(target), Schemas: []string{"public"}})
			dbtest.Equal(t, source, target, values)
		})
	}
}

// Settings of the role or the database would end an idle holder, or a long statement. And
// the backend of a client that is gone without a word, which kept its lock on the target for
// as long as the server's system lets dead connections be, mostly two hours, has to notice.
func TestSessionSettings(t *testing.T) {
	t.Parallel()
	source, target := dbtest.Database(t), dbtest.Database(t)
	for _, u := range []string{source, target} {
		dbtest.Exec(t, u, fmt.Sprintf(`ALTER DATABASE %s SET idle_in_transaction_session_timeout = '1h'; ALTER DATABASE %[1]s SET idle_session_timeout = '1h'; ALTER DATABASE %[1]s SET statement_timeout = '1h'`, session.QuoteName(dsn.URL(u).Database())))
	}
	for side, u := range map[report.Side]string{report.Source: source, report.Target: target} {
		s, err := session.Open(t.Context(), side, dsn.URL(u), nil, "calco/settings/1")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		for name, want := range map[string]string{
			"idle_in_transaction_session_timeout": "0", "idle_session_timeout": "0", "statement_timeout": "0",
			"tcp_keepalives_idle": "30", "tcp_keepalives_interval": "10", "tcp_keepalives_count": "3",
		} {
			if got, err := s.SimpleValue(t.Context(), "SHOW "+name); err != nil || got != want {
				t.Errorf("%s: %s = %q, %v, want %s", side, name, got, err, want)
			}
		}
	}
}
