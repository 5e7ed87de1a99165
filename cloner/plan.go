package cloner

import (
	"slices"
	"strings"

	"calco/cloner/archive"
)

// plan is what a clone has to make and to copy.
type plan struct {
	entries []*archive.Entry // in an order in which each comes after what it needs
	byID    map[int]*archive.Entry
	keys    map[entryKey]int // how many entries have one
	pulled  map[int]bool     // entries outside the chosen schemas that these depend on
	tables  []*table         // largest first
	catalog *catalog

	pre, post         []*archive.Entry // before and after the rows
	acls              []*archive.Entry // after all objects: they may lock their owners out
	last              []*archive.Entry // event triggers, which would fire at the rest
	materializedViews []*archive.Entry
}

func newPlan(all []*archive.Entry, schemas []string, c *catalog) (*plan, error) {
	p := &plan{byID: map[int]*archive.Entry{}, keys: map[entryKey]int{}, catalog: c}
	c.complete(all)
	p.entries, p.pulled = selectEntries(all, schemas)
	byOID := map[object]*archive.Entry{}
	for _, e := range p.entries {
		p.byID[e.ID] = e
		p.keys[keyOf(e)]++
		byOID[object{e.CatalogOID, e.OID}] = e
	}
	for _, t := range c.tables {
		e := byOID[object{pgClass, uint32(t.OID)}]
		switch {
		case e != nil && e.Desc == "TABLE":
			p.tables = append(p.tables, t)
		case t.Extension != 0 && byOID[object{pgExtension, uint32(t.Extension)}] != nil:
			p.tables = append(p.tables, t)
		}
	}
	p.divide()
	return p, nil
}

// renew forgets what was on the target.
func (p *plan) renew() {
	for _, t := range p.tables {
		t.left, t.here, t.lost, t.rows = t.split.Parts, nil, false, 0
	}
}

// count is how many entries of a kind there are.
func (p *plan) count(desc string) int {
	n := 0
	for _, e := range p.entries {
		if e.Desc == desc {
			n++
		}
	}
	return n
}

// divide sorts the entries into the passes of a restore (_tocEntryRestorePass in
// pg_backup_archiver.c). Comments and labels go where the object is that they belong to.
func (p *plan) divide() {
	post := map[int]bool{}
	late := map[int]bool{}
	for _, e := range p.entries {
		onPost, onLate := false, false
		for _, d := range e.Deps {
			onPost = onPost || post[d]
			onLate = onLate || late[d]
		}
		switch {
		case e.Desc == "ACL" || e.Desc == "DEFAULT ACL":
			p.acls = append(p.acls, e)
		case e.Desc == "EVENT TRIGGER" || onLate && e.Section == archive.SectionNone:
			late[e.ID] = true
			p.last = append(p.last, e)
		case e.Section == archive.SectionPostData || onPost && e.Section == archive.SectionNone:
			post[e.ID] = true
			p.post = append(p.post, e)
		default:
			p.pre = append(p.pre, e)
		}
		if e.Desc == "MATERIALIZED VIEW" {
			p.materializedViews = append(p.materializedViews, e)
		}
	}
}

// onOthers tells whether an entry is about something that the archive does not make: a member of an extension, or what
// PostgreSQL itself has. It is in an archive only where it is not as the extension's script left it.
func (p *plan) onOthers(e *archive.Entry) bool {
	switch e.Desc {
	case "ACL", "COMMENT", "SECURITY LABEL":
	default:
		return false
	}
	return !slices.ContainsFunc(e.Deps, func(d int) bool { return p.byID[d] != nil })
}

// selectEntries picks what belongs to the chosen schemas, or everything if none is
// chosen, and what that depends on, however far away (the second result). The same
// rule applied to the target's archive gives what has to be equal.
func selectEntries(all []*archive.Entry, schemas []string) (chosen []*archive.Entry, pulled map[int]bool) {
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
		return slices.Contains(schemas, unquoteName(strings.TrimRight(home, ";\n")))
	case e.Desc == "PUBLICATION TABLE" || e.Desc == "PUBLICATION TABLES IN SCHEMA":
		return false // a publication belongs to the database
	case e.Namespace != "":
		return slices.Contains(schemas, e.Namespace)
	case e.Desc == "COMMENT" || e.Desc == "ACL" || e.Desc == "SECURITY LABEL":
		// pg_dump has no entry for the schema public itself, only for what was said of it.
		if name, ok := strings.CutPrefix(e.Tag, "SCHEMA "); ok {
			return slices.Contains(schemas, unquoteName(name))
		}
		return slices.ContainsFunc(e.Deps, func(d int) bool { return seeds[d] })
	}
	return false
}

// unquoteName undoes pg_dump's fmtId.
func unquoteName(s string) string {
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		return strings.ReplaceAll(s[1:len(s)-1], `""`, `"`)
	}
	return s
}

// readsForeign tells whether a view reads a foreign table, by the dependencies that PostgreSQL knows.
func (p *plan) readsForeign(id int) bool {
	bodies := viewBodies(p.entries)
	seen := map[int]bool{}
	var reads func(id int) bool
	reads = func(id int) bool {
		e := p.byID[id]
		if e == nil || seen[id] {
			return false
		}
		seen[id] = true
		if e.Desc == "FOREIGN TABLE" || e.CatalogOID == pgClass && p.catalog.foreign[p.catalog.root(int64(e.OID))] {
			return true
		}
		return slices.ContainsFunc(append(slices.Clone(e.Deps), bodies[id]...), reads)
	}
	return reads(id)
}

// title names an entry for people: TABLE app.orders.
func title(e *archive.Entry) string {
	if e.Namespace != "" {
		return e.Desc + " " + e.Namespace + "." + e.Tag
	}
	return e.Desc + " " + e.Tag
}
