package schema

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"calco/cloner/archive"
	"calco/cloner/pgtools"
	"calco/cloner/report"
)

// Plan is what a clone has to make and to copy.
type Plan struct {
	Entries  []*archive.Entry // in an order in which each comes after what it needs
	ByID     map[int]*archive.Entry
	Keys     map[EntryKey]int // how many entries have one
	Pulled   map[int]bool     // entries outside the chosen schemas that these depend on
	Tables   []*Table         // largest first
	Catalog  *Catalog
	converts bool // text: the encodings of the two databases are not the same

	Pre, Post         []*archive.Entry // before and after the rows
	ACLs              []*archive.Entry // after all objects: they may lock their owners out
	Last              []*archive.Entry // event triggers, which would fire at the rest
	MaterializedViews []*archive.Entry
}

// Choice is what of a source is to be cloned, and how.
type Choice struct {
	Schemas  []string // none: the whole database
	Version  int      // of the source, as server_version_num
	PartSize int64    // bytes of a table, on the source's disk
	Verify   report.Verify
	Converts bool // text: the encodings of the two databases are not the same
}

// NewPlan plans what a clone has to make and to copy, from all entries of an archive.
func NewPlan(all []*archive.Entry, choice Choice, c *Catalog) *Plan {
	p := &Plan{ByID: map[int]*archive.Entry{}, Keys: map[EntryKey]int{}, Catalog: c, converts: choice.Converts}
	c.complete(all)
	p.Entries, p.Pulled = SelectEntries(all, choice.Schemas)
	byOID := map[Object]*archive.Entry{}
	for _, e := range p.Entries {
		p.ByID[e.ID] = e
		p.Keys[KeyOf(e)]++
		byOID[Object{e.CatalogOID, e.OID}] = e
	}
	for _, t := range c.tables {
		e := byOID[Object{PgClass, uint32(t.OID)}]
		switch {
		case e != nil && e.Desc == "TABLE":
			p.Tables = append(p.Tables, t)
		case t.Extension != 0 && byOID[Object{PgExtension, uint32(t.Extension)}] != nil:
			p.Tables = append(p.Tables, t)
		}
	}
	p.divide()
	for _, t := range p.Tables {
		t.Split = splitTable(t, choice.Version, choice.PartSize)
	}
	p.sample(choice.Verify)
	return p
}

// CountOf is how many entries of a kind there are.
func (p *Plan) CountOf(desc string) int {
	n := 0
	for _, e := range p.Entries {
		if e.Desc == desc {
			n++
		}
	}
	return n
}

// divide sorts the entries into the passes of a restore (_tocEntryRestorePass in
// pg_backup_archiver.c). Comments and labels go where the object is that they belong to.
func (p *Plan) divide() {
	post := map[int]bool{}
	late := map[int]bool{}
	for _, e := range p.Entries {
		onPost, onLate := false, false
		for _, d := range e.Deps {
			onPost = onPost || post[d]
			onLate = onLate || late[d]
		}
		switch {
		case e.Desc == "ACL" || e.Desc == "DEFAULT ACL":
			p.ACLs = append(p.ACLs, e)
		case e.Desc == "EVENT TRIGGER" || onLate && e.Section == archive.SectionNone:
			late[e.ID] = true
			p.Last = append(p.Last, e)
		case e.Section == archive.SectionPostData || onPost && e.Section == archive.SectionNone:
			post[e.ID] = true
			p.Post = append(p.Post, e)
		default:
			p.Pre = append(p.Pre, e)
		}
		if e.Desc == "MATERIALIZED VIEW" {
			p.MaterializedViews = append(p.MaterializedViews, e)
		}
	}
}

// OnOthers tells whether an entry is about something that the archive does not make: a member of an extension, or what
// PostgreSQL itself has. It is in an archive only where it is not as the extension's script left it.
func (p *Plan) OnOthers(e *archive.Entry) bool {
	switch e.Desc {
	case "ACL", "COMMENT", "SECURITY LABEL":
	default:
		return false
	}
	return !slices.ContainsFunc(e.Deps, func(d int) bool { return p.ByID[d] != nil })
}

// SelectEntries picks what belongs to the chosen schemas, or everything if none is
// chosen, and what that depends on, however far away (the second result). The same
// rule applied to the target's archive gives what has to be equal.
func SelectEntries(all []*archive.Entry, schemas []string) (chosen []*archive.Entry, pulled map[int]bool) {
	all = slices.DeleteFunc(slices.Clone(all), func(e *archive.Entry) bool {
		switch e.Desc {
		case "ENCODING", "STDSTRINGS", "SEARCHPATH", "DATABASE", "DATABASE PROPERTIES":
			return true
		case "COMMENT", "ACL", "SECURITY LABEL":
			return strings.HasPrefix(e.Tag, "DATABASE ") // handled with the other settings of the database
		}
		return e.Section == archive.SectionData
	})
	pulled = map[int]bool{}
	if len(schemas) == 0 {
		return all, pulled
	}
	c := newClosure(all)
	seeds := map[int]bool{}
	for _, e := range all {
		if isSeed(e, schemas, seeds) {
			seeds[e.ID] = true
		}
	}
	for id := range seeds {
		c.take(id, true)
	}
	for _, e := range all {
		if c.taken[e.ID] {
			chosen = append(chosen, e)
			if !seeds[e.ID] {
				pulled[e.ID] = true
			}
		}
	}
	return chosen, pulled
}

// closure collects entries with all that they need. A partition is part of its table and
// needs it, but not the other partitions.
type closure struct {
	byID     map[int]*archive.Entry
	bodies   map[int][]int // see viewBodies
	attached map[int][]int // the ATTACH entries of a partitioned table or index
	parent   map[int]int   // of a partition
	taken    map[int]bool
	whole    map[int]bool // taken with its partitions
}

func newClosure(all []*archive.Entry) *closure {
	c := &closure{
		byID: map[int]*archive.Entry{}, bodies: viewBodies(all), attached: map[int][]int{}, parent: map[int]int{},
		taken: map[int]bool{}, whole: map[int]bool{},
	}
	for _, e := range all {
		c.byID[e.ID] = e
		if e.Desc != "TABLE ATTACH" && e.Desc != "INDEX ATTACH" {
			continue
		}
		// It is named after the partition, and depends on it and on what it is a part of.
		child, parent := 0, 0
		for _, id := range e.Deps {
			switch d := c.byID[id]; {
			case d == nil:
			case d.Namespace == e.Namespace && (d.Tag == e.Tag || d.Desc == "CONSTRAINT" && strings.HasSuffix(d.Tag, " "+e.Tag)):
				child = id
			case d.Desc == strings.TrimSuffix(e.Desc, " ATTACH"), d.Desc == "CONSTRAINT":
				parent = id
			}
		}
		c.attached[parent] = append(c.attached[parent], e.ID)
		c.parent[child], c.parent[e.ID] = parent, parent
	}
	return c
}

// take takes an entry and what it depends on, and, if it is to be whole, its partitions.
func (c *closure) take(id int, whole bool) {
	e := c.byID[id]
	if e == nil || c.whole[id] || c.taken[id] && !whole {
		return
	}
	c.taken[id], c.whole[id] = true, whole
	for _, d := range e.Deps {
		c.take(d, whole && d != c.parent[id])
	}
	for _, b := range c.bodies[id] {
		c.take(b, whole)
	}
	if whole {
		for _, a := range c.attached[id] {
			c.take(a, true)
		}
	}
}

// viewBodies finds the bodies of views whose own entry is only a stub, because they need a
// primary key, which comes after the rows. Nothing depends on them.
func viewBodies(entries []*archive.Entry) map[int][]int {
	byID := map[int]*archive.Entry{}
	bodies := map[int][]int{}
	for _, e := range entries {
		byID[e.ID] = e
		if e.Desc != "RULE" || !strings.HasSuffix(e.Tag, " _RETURN") {
			continue
		}
		for _, d := range e.Deps {
			if v := byID[d]; v != nil && strings.HasSuffix(v.Desc, "VIEW") && v.Namespace == e.Namespace && e.Tag == v.Tag+" _RETURN" {
				bodies[d] = append(bodies[d], e.ID)
			}
		}
	}
	return bodies
}

// isSeed tells whether an entry itself belongs to one of the schemas.
func isSeed(e *archive.Entry, schemas []string, seeds map[int]bool) bool {
	switch {
	case e.Desc == "SCHEMA":
		return slices.Contains(schemas, e.Tag)
	case e.Desc == "EXTENSION":
		// Its members have no entries, and functions may use them without a dependency.
		_, home, _ := strings.Cut(e.Defn, " WITH SCHEMA ")
		return slices.Contains(schemas, UnquoteName(strings.TrimRight(home, ";\n")))
	case e.Desc == "PUBLICATION TABLE" || e.Desc == "PUBLICATION TABLES IN SCHEMA":
		return false // a publication belongs to the database
	case e.Namespace != "":
		return slices.Contains(schemas, e.Namespace)
	case e.Desc == "COMMENT" || e.Desc == "ACL" || e.Desc == "SECURITY LABEL":
		// pg_dump has no entry for the schema public itself, only for what was said of it.
		if name, ok := strings.CutPrefix(e.Tag, "SCHEMA "); ok {
			return slices.Contains(schemas, UnquoteName(name))
		}
		return slices.ContainsFunc(e.Deps, func(d int) bool { return seeds[d] })
	}
	return false
}

// UnquoteName undoes pg_dump's fmtId.
func UnquoteName(s string) string {
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		return strings.ReplaceAll(s[1:len(s)-1], `""`, `"`)
	}
	return s
}

// ReadsForeign tells whether a view reads a foreign table, by the dependencies that PostgreSQL knows.
func (p *Plan) ReadsForeign(id int) bool {
	bodies := viewBodies(p.Entries)
	seen := map[int]bool{}
	var reads func(id int) bool
	reads = func(id int) bool {
		e := p.ByID[id]
		if e == nil || seen[id] {
			return false
		}
		seen[id] = true
		if e.Desc == "FOREIGN TABLE" || e.CatalogOID == PgClass && p.Catalog.Foreign[p.Catalog.Root(int64(e.OID))] {
			return true
		}
		return slices.ContainsFunc(append(slices.Clone(e.Deps), bodies[id]...), reads)
	}
	return reads(id)
}

// Title names an entry for people: TABLE app.orders.
func Title(e *archive.Entry) string {
	if e.Namespace != "" {
		return e.Desc + " " + e.Namespace + "." + e.Tag
	}
	return e.Desc + " " + e.Tag
}

// ViewsInOrder sorts the materialized views so that each comes after those it reads, be it
// through plain views. The body of a view that needs a primary key is an entry of its own.
func (p *Plan) ViewsInOrder() []*archive.Entry {
	bodies := viewBodies(p.Entries)
	var order []*archive.Entry
	seen := map[int]bool{}
	var visit func(id int)
	visit = func(id int) {
		e := p.ByID[id]
		if e == nil || seen[id] {
			return
		}
		seen[id] = true
		for _, d := range append(slices.Clone(e.Deps), bodies[id]...) {
			visit(d)
		}
		if e.Desc == "MATERIALIZED VIEW" {
			order = append(order, e)
		}
	}
	for _, e := range p.MaterializedViews {
		visit(e.ID)
	}
	return order
}

// calcoSchema is the schema on the target in which a job keeps what it has done. It is
// the first thing a job writes there and the last it drops.
const calcoSchema = "_calco"

// Relations are the tables and views that an entry is about.
func (p *Plan) Relations(e *archive.Entry, x *Index) []int64 {
	var oids []int64
	if x != nil {
		oids = append(oids, x.TableOID)
		if x.ReferencedOID != 0 {
			oids = append(oids, x.ReferencedOID)
		}
	}
	for _, d := range e.Deps {
		on := p.ByID[d]
		if on != nil && on.CatalogOID == PgClass && on.Desc != "INDEX" && !slices.Contains(oids, int64(on.OID)) {
			oids = append(oids, int64(on.OID))
		}
	}
	return oids
}

func IsSystemSchema(name string) bool {
	return strings.HasPrefix(name, "pg_") || name == "information_schema" || name == calcoSchema
}

// EntryKey is what makes an entry of one archive the same as one of another. Numbers
// and OIDs differ between them.
type EntryKey struct{ Desc, Namespace, Tag string }

func KeyOf(e *archive.Entry) EntryKey { return EntryKey{e.Desc, e.Namespace, e.Tag} }

// ByRelation are the tables by their quoted names.
func (p *Plan) ByRelation() map[string]*Table {
	tables := map[string]*Table{}
	for _, t := range p.Tables {
		tables[t.Relation()] = t
	}
	return tables
}

// Definitions is a digest of all that decides what the rows mean and what stands on them. It begins with the
// version of the pg_dump that wrote them.
func (p *Plan) Definitions(v pgtools.Version) string {
	var all []string
	for _, e := range p.Entries {
		switch e.Desc {
		case "ACL", "DEFAULT ACL", "COMMENT", "SECURITY LABEL":
			continue
		}
		all = append(all, fmt.Sprintf("%q %q %q %q", e.Desc, e.Namespace, e.Tag, e.Defn))
	}
	for _, t := range p.Tables {
		all = append(all, fmt.Sprintf("%q %q", t.Relation(), t.Shape))
	}
	all = append(all, p.Catalog.Shapes)
	slices.Sort(all)
	sum := sha256.New()
	for _, d := range all {
		fmt.Fprintln(sum, d)
	}
	return fmt.Sprintf("%s %s", v, hex.EncodeToString(sum.Sum(nil)))
}
