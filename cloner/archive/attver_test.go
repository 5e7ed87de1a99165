package archive_test

import (
	"bytes"
	"testing"

	"calco/cloner/archive"
)

func TestReadTakesOutAttver(t *testing.T) {
	const create = "CREATE TABLE app.t (\n    id integer\n);\nALTER TABLE ONLY app.t ALTER COLUMN id SET STATISTICS 9;\n"
	for name, test := range map[string]struct {
		desc string // TABLE when empty
		defn string
		want string // defn when empty
	}{
		"alone": {
			defn: create + "ALTER TABLE ONLY app.t ALTER COLUMN id SET (pg_attver=465532328);\n",
			want: create,
		},
		"of several columns": {
			defn: create + "ALTER TABLE ONLY app.t ALTER COLUMN id SET (pg_attver=1);\n" +
				"ALTER TABLE ONLY app.t ALTER COLUMN \"Id\" SET STORAGE PLAIN;\n" +
				"ALTER TABLE ONLY app.t ALTER COLUMN \"Id\" SET (pg_attver=2);\n",
			want: create + "ALTER TABLE ONLY app.t ALTER COLUMN \"Id\" SET STORAGE PLAIN;\n",
		},
		"first of the options": {
			defn: create + "ALTER TABLE ONLY app.t ALTER COLUMN id SET (pg_attver=1, n_distinct=-0.5);\n",
			want: create + "ALTER TABLE ONLY app.t ALTER COLUMN id SET (n_distinct=-0.5);\n",
		},
		"between options": {
			defn: create + "ALTER TABLE ONLY app.t ALTER COLUMN id SET (n_distinct=5, pg_attver=1, n_distinct_inherited=7);\n",
			want: create + "ALTER TABLE ONLY app.t ALTER COLUMN id SET (n_distinct=5, n_distinct_inherited=7);\n",
		},
		"foreign table": {
			desc: "FOREIGN TABLE",
			defn: "CREATE FOREIGN TABLE app.f (\n    id integer\n)\nSERVER s;\nALTER FOREIGN TABLE ONLY app.f ALTER COLUMN id SET (pg_attver=1);\n",
			want: "CREATE FOREIGN TABLE app.f (\n    id integer\n)\nSERVER s;\n",
		},
		"materialized view": {
			desc: "MATERIALIZED VIEW",
			defn: "CREATE MATERIALIZED VIEW app.m AS\n SELECT 1 AS id\n  WITH NO DATA;\nALTER TABLE ONLY app.m ALTER COLUMN id SET (pg_attver=1);\n",
			want: "CREATE MATERIALIZED VIEW app.m AS\n SELECT 1 AS id\n  WITH NO DATA;\n",
		},
		"names with quotes, line ends and semicolons": {
			defn: "CREATE TABLE \"a\"\"b\".\"x;\ny\" (\n    \"it's; pg_attver=1\" integer\n);\n" +
				"ALTER TABLE ONLY \"a\"\"b\".\"x;\ny\" ALTER COLUMN \"it's; pg_attver=1\" SET (pg_attver=1, n_distinct=2);\n" +
				"ALTER TABLE ONLY \"a\"\"b\".\"x;\ny\" ALTER COLUMN \") SET (pg_attver=1\" SET (pg_attver=3);\n",
			want: "CREATE TABLE \"a\"\"b\".\"x;\ny\" (\n    \"it's; pg_attver=1\" integer\n);\n" +
				"ALTER TABLE ONLY \"a\"\"b\".\"x;\ny\" ALTER COLUMN \"it's; pg_attver=1\" SET (n_distinct=2);\n",
		},
		"in a string": {
			defn: "CREATE TABLE app.t (\n    x text DEFAULT 'it''s;\nALTER TABLE ONLY app.t ALTER COLUMN x SET (pg_attver=1);\n'::text\n);\n",
		},
		"in a string with a backslash": {
			defn: "CREATE TABLE app.t (\n    x text DEFAULT 'a\\';\nALTER TABLE ONLY app.t ALTER COLUMN x SET (pg_attver=1);\n",
			want: "CREATE TABLE app.t (\n    x text DEFAULT 'a\\';\n",
		},
		"in a column name": {
			defn: "CREATE TABLE app.t (\n    \";\nALTER TABLE ONLY app.t ALTER COLUMN x SET (pg_attver=1);\n\" integer\n);\n",
		},
		"the name of a column": {
			defn: "ALTER TABLE ONLY app.t ALTER COLUMN pg_attver SET (n_distinct=1);\nALTER TABLE ONLY app.\"pg_attver=\" ALTER COLUMN x SET (n_distinct=1);\n",
		},
		"an option that only ends so": {
			defn: "ALTER TABLE ONLY app.t ALTER COLUMN x SET (my_pg_attver=1);\n",
		},
		"the option of a foreign column": {
			desc: "FOREIGN TABLE",
			defn: "ALTER FOREIGN TABLE ONLY app.f ALTER COLUMN x OPTIONS (\n    y 'SET (pg_attver=1)'\n);\n",
		},
		"a quote that never ends": {
			defn: "CREATE TABLE app.t ('\nALTER TABLE ONLY app.t ALTER COLUMN x SET (pg_attver=1);\n",
		},
		"an entry of another kind": {
			desc: "FUNCTION",
			defn: "CREATE FUNCTION app.f() RETURNS void LANGUAGE plpgsql AS $$ BEGIN\nALTER TABLE ONLY app.t ALTER COLUMN x SET (pg_attver=1);\nEND $$;\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if test.desc == "" {
				test.desc = "TABLE"
			}
			if test.want == "" {
				test.want = test.defn
			}
			a := sample(1014)
			a.Entries[3].Desc, a.Entries[3].Defn = test.desc, test.defn
			got, err := archive.Read(bytes.NewReader(encode(a, 4)))
			if err != nil {
				t.Fatal(err)
			}
			if got.Entries[3].Defn != test.want {
				t.Errorf("got %q, want %q", got.Entries[3].Defn, test.want)
			}
		})
	}
}
