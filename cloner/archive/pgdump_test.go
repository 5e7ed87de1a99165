package archive_test

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"calco/cloner/archive"
	"calco/cloner/pgtools"
	"calco/db/dbtest"
)

//go:embed testdata/schema.sql
var schema string

// What Read returns of pg_dump's archives is what pg_restore prints of them,
// byte for byte, with each entry's ID, catalog, OID, dependencies and name.
func TestReadAgreesWithPgRestore(t *testing.T) {
	url := dbtest.Database(t)
	dbtest.Exec(t, url, schema)
	for name, flags := range map[string][]string{
		"schema only": {"--schema-only"},
		"sections":    {"--section=pre-data", "--section=post-data"},
		"with rows":   {"--compress=9"},
	} {
		t.Run(name, func(t *testing.T) {
			data := run(t, "pg_dump", append(flags, "-Fc", url)...)
			a, err := archive.Read(bytes.NewReader(data))
			if err != nil {
				t.Fatal(err)
			}
			got := script(a)
			want := restored(t, data)
			if got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

func TestReadPgDump(t *testing.T) {
	url := dbtest.DatabaseNamed(t, "it's")
	dbtest.Exec(t, url, `
		CREATE SCHEMA app;
		CREATE TABLE app.t (id int PRIMARY KEY);
		INSERT INTO app.t VALUES (1);
		DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET standard_conforming_strings = off', current_database()); END $$`)
	a, err := archive.Read(bytes.NewReader(run(t, "pg_dump", "-Fc", "--encoding=LATIN1", url)))
	if err != nil {
		t.Fatal(err)
	}
	if a.Database != "it's" || a.Encoding != "LATIN1" || a.StdStrings {
		t.Errorf("got database %q, encoding %q, standard_conforming_strings %v", a.Database, a.Encoding, a.StdStrings)
	}
	if server := dbtest.Query(t, url, "SHOW server_version")[0][0]; a.ServerVersion != server {
		t.Errorf("server version: got %q, want %q", a.ServerVersion, server)
	}
	var got []string
	for _, e := range a.Entries {
		if e.Namespace == "app" {
			got = append(got, fmt.Sprintf("%d %s %s %s owner=%s am=%s %q", e.Section, e.Desc, e.Tag, e.DropStmt, e.Owner, e.TableAM, e.CopyStmt))
		}
	}
	want := []string{
		"2 TABLE t DROP TABLE app.t;\n owner=postgres am=heap \"\"",
		"3 TABLE DATA t  owner=postgres am= \"COPY app.t (id) FROM stdin;\\n\"",
		"4 CONSTRAINT t t_pkey ALTER TABLE ONLY app.t DROP CONSTRAINT t_pkey;\n owner=postgres am= \"\"",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("entries: got %q, want %q", got, want)
	}
}

// script is what pg_restore makes of the entries, in its three passes:
// _tocEntryRestorePass in pg_backup_archiver.c.
func script(a *archive.Archive) string {
	var passes [3]strings.Builder
	for _, e := range a.Entries {
		if e.Section == archive.SectionData {
			continue
		}
		switch e.Desc {
		case "ENCODING", "STDSTRINGS", "SEARCHPATH", "DATABASE", "DATABASE PROPERTIES":
		case "ACL", "DEFAULT ACL":
			printEntry(&passes[1], e)
		case "EVENT TRIGGER", "MATERIALIZED VIEW DATA":
			printEntry(&passes[2], e)
		default:
			printEntry(&passes[0], e)
		}
	}
	return strings.TrimSpace(passes[0].String() + passes[1].String() + passes[2].String())
}

// printEntry writes an entry as _printTocEntry in pg_backup_archiver.c does.
func printEntry(b *strings.Builder, e *archive.Entry) {
	fmt.Fprintf(b, "--\n-- TOC entry %d (class %d OID %d)\n", e.ID, e.CatalogOID, e.OID)
	if len(e.Deps) > 0 {
		fmt.Fprintf(b, "-- Dependencies: %s\n", strings.Trim(fmt.Sprint(e.Deps), "[]"))
	}
	namespace := e.Namespace
	if namespace == "" {
		namespace = "-"
	}
	fmt.Fprintf(b, "-- Name: %s; Type: %s; Schema: %s; Owner: -\n", strings.ReplaceAll(e.Tag, "\n", " "), e.Desc, namespace)
	fmt.Fprintf(b, "--\n\n%s\n\n", e.Defn)
}

// notEntries is what pg_restore prints beside the entries.
var notEntries = regexp.MustCompile(`(?m)^-- Data Pos: \d+\n|^SET default_(?:tablespace|table_access_method) = .*;\n\n`)

// restored is the script that pg_restore makes of an archive, without its head
// and its end.
func restored(t *testing.T, data []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "archive")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	out := string(run(t, "pg_restore", "--verbose", "--no-owner", "--section=pre-data", "--section=post-data", "--file=-", file))
	start, end := strings.Index(out, "--\n-- TOC entry"), strings.LastIndex(out, "-- Completed on")
	if start < 0 || end < start {
		t.Fatalf("pg_restore printed no entries: %q", out)
	}
	return strings.TrimSpace(notEntries.ReplaceAllString(out[start:end], ""))
}

// run returns what a PostgreSQL program prints: the newest, as dbtest takes for
// the server.
func run(t *testing.T, program string, args ...string) []byte {
	t.Helper()
	var dirs []string
	if dir := os.Getenv("CALCO_TEST_BINDIR"); dir != "" {
		dirs = []string{dir}
	}
	installs, err := pgtools.All(t.Context(), program, dirs...)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), installs[0].Path, args...).Output()
	if err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			t.Fatalf("%s: %v: %s", program, err, exit.Stderr)
		}
		t.Fatal(err)
	}
	return out
}
