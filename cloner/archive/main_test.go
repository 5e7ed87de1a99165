package archive_test

import (
	"bytes"
	"os"
	"strconv"
	"testing"

	"calco/cloner/archive"
	"calco/db/dbtest"
)

func TestMain(m *testing.M) { os.Exit(dbtest.Main(m)) }

// sample is an archive of that format with every field in use, and a definition
// that Read leaves alone.
func sample(version int) *archive.Archive {
	table := &archive.Entry{
		ID: 200, CatalogOID: 1259, OID: 4294967295, Tag: "t", Desc: "TABLE", Section: archive.SectionPreData,
		Defn: "CREATE TABLE app.t (x int);\n", DropStmt: "DROP TABLE app.t;\n", CopyStmt: "COPY app.t (x) FROM stdin;\n",
		Namespace: "app", Tablespace: "fast", Owner: "ownér", Deps: []int{6, 4711},
	}
	if version >= 1014 {
		table.TableAM = "heap"
	}
	if version >= 1016 {
		table.RelKind = 'r'
	}
	return &archive.Archive{
		Version: version, Database: "shop", ServerVersion: "15.20", DumpVersion: "16.1",
		Encoding: "LATIN1", StdStrings: true,
		Entries: []*archive.Entry{
			{ID: 1, Tag: "ENCODING", Desc: "ENCODING", Section: archive.SectionPreData, Defn: "SET client_encoding = 'LATIN1';\n"},
			{ID: 2, Tag: "STDSTRINGS", Desc: "STDSTRINGS", Section: archive.SectionPreData, Defn: "SET standard_conforming_strings = 'on';\n"},
			{ID: 6, CatalogOID: 2615, OID: 16386, Tag: "app", Desc: "SCHEMA", Section: archive.SectionPreData, Defn: "CREATE SCHEMA app;\n"},
			table,
		},
	}
}

// writer writes what pg_dump would, with integers of intSize bytes.
type writer struct {
	bytes.Buffer
	intSize int
}

// encode writes an archive as pg_dump would: an empty string becomes NULL.
func encode(a *archive.Archive, intSize int) []byte {
	w := &writer{intSize: intSize}
	w.WriteString("PGDMP")
	w.Write([]byte{byte(a.Version / 1000), byte(a.Version % 1000), 0, byte(intSize), 8, 1})
	if a.Version >= 1015 {
		w.WriteByte(1)
	} else {
		w.int(-1)
	}
	for _, tm := range []int{59, 30, 23, 31, 11, 125, 0} {
		w.int(tm)
	}
	w.strs(a.Database, a.ServerVersion, a.DumpVersion)
	w.int(len(a.Entries))
	for _, e := range a.Entries {
		w.entry(e, a.Version)
	}
	return w.Bytes()
}

func (w *writer) entry(e *archive.Entry, version int) {
	w.int(e.ID)
	w.int(0)
	w.strs(strconv.Itoa(int(e.CatalogOID)), strconv.Itoa(int(e.OID)), e.Tag, e.Desc)
	w.int(int(e.Section))
	w.strs(e.Defn, e.DropStmt, e.CopyStmt, e.Namespace, e.Tablespace)
	if version >= 1014 {
		w.strs(e.TableAM)
	}
	if version >= 1016 {
		w.int(int(e.RelKind))
	}
	w.strs(e.Owner, "false")
	for _, id := range e.Deps {
		w.strs(strconv.Itoa(id))
	}
	w.strs("")
	w.WriteByte(3) // no data
	w.Write(make([]byte, 8))
}

func (w *writer) int(v int) {
	sign := byte(0)
	if v < 0 {
		sign, v = 1, -v
	}
	w.WriteByte(sign)
	for i := range w.intSize {
		w.WriteByte(byte(v >> (8 * i)))
	}
}

func (w *writer) strs(values ...string) {
	for _, s := range values {
		if s == "" {
			w.int(-1)
			continue
		}
		w.int(len(s))
		w.WriteString(s)
	}
}
