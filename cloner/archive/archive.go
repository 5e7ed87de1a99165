// Package archive reads the table of contents of a pg_dump archive in custom
// format (pg_dump -Fc): the objects of a database, each with its SQL, its owner
// and what it depends on. It knows no database and runs nothing.
//
// The format is specified only by its writer: WriteHead and WriteToc in
// PostgreSQL's src/bin/pg_dump/pg_backup_archiver.c, and _WriteExtraToc in
// pg_backup_custom.c. The table of contents is never compressed.
package archive

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
)

// The formats Read knows, as in Archive.Version. pg_dump 9.0 to 9.6 wrote 1.12,
// 10 and 11 write 1.13, 12 to 15 1.14, 16 writes 1.15, 17 and 18 write 1.16.
const (
	oldest = 1012
	newest = 1016
)

const magic = "PGDMP"

// ErrNotArchive reports input that is not an archive in custom format.
var ErrNotArchive = errors.New("not a pg_dump archive in custom format (pg_dump -Fc)")

// VersionError reports an archive in a format that Read does not know.
type VersionError struct {
	Version int // as in Archive.Version
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("archive format %d.%d is not one of 1.12 to 1.16: use pg_dump 9.6 to 18",
		e.Version/1000, e.Version%1000)
}

// Archive is the head and the table of contents of an archive.
type Archive struct {
	Version       int    // the format: 1014 for 1.14
	Database      string // the name of the database that was dumped
	ServerVersion string // of the server it was on, as "15.20 (Debian 15.20-0+deb12u1)"
	DumpVersion   string // of the pg_dump that wrote the archive

	// Encoding is the client_encoding and StdStrings the
	// standard_conforming_strings under which the definitions are to be run.
	// All other strings of the archive are in Encoding too, so they are not
	// always UTF-8.
	Encoding   string
	StdStrings bool

	// Entries are in pg_dump's order, in which each comes after those it
	// depends on. They are pointers because a graph, a queue and a ledger refer
	// to the same entry, and copies of 250 bytes would stand in for it.
	Entries []*Entry
}

// Section says in which part of a restore an entry belongs.
type Section int

// The sections, numbered as teSection in PostgreSQL's pg_backup.h.
const (
	SectionNone     Section = iota + 1 // anywhere: comments, ACLs
	SectionPreData                     // before the rows: schemas, types, tables
	SectionData                        // rows, large objects, sequence values
	SectionPostData                    // after the rows: indexes, constraints, triggers
)

// Entry is one object in the table of contents. A string that is NULL in the
// archive is empty here.
type Entry struct {
	ID         int    // pg_dump's own number, unique in the archive
	CatalogOID uint32 // the catalog that describes the object: 1259 is pg_class; 0 for none
	OID        uint32 // the object's row in that catalog, on the source
	Tag        string // the object's name, as people read it; never for use in SQL
	Desc       string // the kind: "TABLE", "FK CONSTRAINT", "ACL"
	Section    Section

	Defn     string // makes the object; may hold several statements
	DropStmt string // removes it
	CopyStmt string // heads its rows: COPY … FROM stdin

	Namespace  string
	Tablespace string
	TableAM    string // table access method, from format 1.14 on
	RelKind    byte   // pg_class.relkind or 0, from format 1.16 on
	Owner      string

	// Deps are the IDs of the entries this one depends on. An ID may be absent
	// from the archive: pg_dump leaves out what it was not asked for.
	Deps []int
}

// Read reads an archive up to the end of its table of contents; it may read
// ahead of that. The column option pg_attver is taken out of the definitions.
//
// The input need not be trusted: whatever it holds, Read returns an error or an
// archive, in memory proportional to the input. The error is ErrNotArchive, a
// *VersionError, io.ErrUnexpectedEOF for an archive that was cut off, or says
// what is corrupt, each wrapped with the place.
func Read(r io.Reader) (*Archive, error) {
	d := &decoder{r: bufio.NewReader(r)}
	a, err := readHead(d)
	if err != nil {
		return nil, fmt.Errorf("read archive head: %w", err)
	}
	count := d.int()
	if count < 0 {
		d.fail(fmt.Errorf("%d entries", count))
	}
	if d.err != nil {
		return nil, fmt.Errorf("read number of archive entries: %w", d.err)
	}
	seen := map[int]bool{}
	for n := 1; n <= count; n++ {
		e := readEntry(d, a.Version)
		if seen[e.ID] {
			d.fail(fmt.Errorf("second entry with ID %d", e.ID))
		}
		d.fail(a.keepSetting(e))
		if d.err != nil {
			return nil, fmt.Errorf("read archive entry %d of %d: %w", n, count, d.err)
		}
		seen[e.ID] = true
		a.Entries = append(a.Entries, e)
	}
	return a, nil
}

// readHead reads what stands before the table of contents.
func readHead(d *decoder) (*Archive, error) {
	start, err := d.r.Peek(len(magic))
	if !strings.HasPrefix(magic, string(start)) {
		return nil, ErrNotArchive
	}
	d.fail(err)
	d.skip(len(magic))

	a := &Archive{Version: int(d.byte())*1000 + int(d.byte())}
	d.skip(1) // revision: never changes the format
	if d.err == nil && (a.Version < oldest || a.Version > newest) {
		return nil, &VersionError{Version: a.Version}
	}
	d.setSizes(int(d.byte()), int(d.byte()))
	const custom = 1 // archCustom in pg_backup.h
	if format := d.byte(); format != custom {
		d.fail(fmt.Errorf("%w: format %d", ErrNotArchive, format))
	}
	if a.Version >= 1015 {
		d.skip(1) // compression algorithm
	} else {
		d.int() // compression level
	}
	for range 7 {
		d.int() // time of the dump: struct tm from tm_sec to tm_isdst
	}
	a.Database, a.ServerVersion, a.DumpVersion = d.str(), d.str(), d.str()
	return a, d.err
}

// readEntry reads one entry; it is of use only when d has no error.
func readEntry(d *decoder, version int) *Entry {
	e := &Entry{ID: d.int()}
	if e.ID < 1 {
		d.fail(fmt.Errorf("entry ID %d", e.ID))
	}
	d.int() // whether rows follow
	e.CatalogOID, e.OID = d.oid(), d.oid()
	e.Tag, e.Desc = d.str(), d.str()
	e.Section = Section(d.int())
	if e.Section < SectionNone || e.Section > SectionPostData {
		d.fail(fmt.Errorf("section %d", e.Section))
	}
	e.Defn, e.DropStmt, e.CopyStmt = d.str(), d.str(), d.str()
	e.Namespace, e.Tablespace = d.str(), d.str()
	if version >= 1014 {
		e.TableAM = d.str()
	}
	if version >= 1016 {
		e.RelKind = byte(d.int())
	}
	e.Owner = d.str()
	d.str() // WITH OIDS: of no meaning since PostgreSQL 12
	e.Deps = d.ids()
	d.skipOffset()

	switch e.Desc {
	case "TABLE", "FOREIGN TABLE", "MATERIALIZED VIEW":
		e.Defn = withoutAttver(e.Defn)
	}
	return e
}

// keepSetting keeps what the entries ENCODING and STDSTRINGS say. Their
// definitions, SET name = 'value', are read as processEncodingEntry and
// processStdStringsEntry of pg_backup_archiver.c read them.
func (a *Archive) keepSetting(e *Entry) error {
	if e.Desc != "ENCODING" && e.Desc != "STDSTRINGS" {
		return nil
	}
	_, rest, _ := strings.Cut(e.Defn, "'")
	value, _, ok := strings.Cut(rest, "'")
	if !ok {
		return fmt.Errorf("%s entry without a value: %q", e.Desc, e.Defn)
	}
	if e.Desc == "ENCODING" {
		a.Encoding = value
	} else {
		a.StdStrings = value == "on"
	}
	return nil
}
