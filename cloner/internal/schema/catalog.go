package schema

import (
	"context"
	_ "embed"
	"fmt"
	"strings"

	"calco/cloner/archive"
	"calco/cloner/internal/session"
)

//go:embed sql/tables.sql
var tablesSQL string

//go:embed sql/indexes.sql
var indexesSQL string

// Catalog is what the source's catalogs say that the archive does not.
type Catalog struct {
	tables  []*Table
	Indexes map[Object]*Index
	Roots   map[int64]int64     // the root of each partition and partitioned table, by OID
	Foreign map[int64]bool      // roots that have a foreign table among their partitions
	needs   map[Object][]Object // what constraints need, and no entry says
	Shapes  string              // of composite types, as of tables

	Traits []Trait
}

// Object addresses a row of a system catalog.
type Object struct{ catalog, oid uint32 }

// ObjectOf is the row with that OID in a catalog.
func ObjectOf(catalog, oid uint32) Object { return Object{catalog, oid} }

// The catalogs' own OIDs never change.
const (
	PgClass      = 1259
	PgConstraint = 2606
	PgExtension  = 3079

	PgSubscription = 6100
)

// Table is one table whose rows are copied.
type Table struct {
	OID      int64
	Schema   string
	Name     string
	Size     int64 // of heap and TOAST on the source's disk, in bytes
	Pages    int64 // of the heap alone
	Filenode int64 // another one after it was rewritten
	Heap     bool  // its rows are kept as PostgreSQL itself keeps them, and not by an extension
	Unlogged bool
	// EstimatedRows is by the source's statistics, nil where there are none yet.
	EstimatedRows *int64
	RootOID       int64 // of its partition tree; its own where it is no partition
	RootSchema    string
	RootName      string
	// ThroughRoot: its rows have to be sent to the root of its tree, which finds the partition.
	ThroughRoot bool
	Extension   int64    // the extension whose configuration it holds, or 0
	Condition   string   // which of its rows are configuration: a WHERE clause or ""
	Columns     []string // that have a value of their own, as generated ones do not
	Contents    []string // all columns, by name
	Shape       string   // its columns by number: one that was dropped and made again has another

	Split      Split `db:"-"` // into parts
	hashedFrom int   // the first part whose contents are compared, and those of all after it
}

// EstimatedRows is how many rows tables have by the source's statistics, or 0 where these do not have all of them.
func EstimatedRows(tables []*Table) (rows int64) {
	for _, t := range tables {
		if t.EstimatedRows == nil {
			return 0
		}
		rows += *t.EstimatedRows
	}
	return rows
}

func (t *Table) String() string { return t.Schema + "." + t.Name }

// Relation is the table's quoted name.
func (t *Table) Relation() string { return session.QuoteName(t.Schema, t.Name) }

// From is what stands after FROM for its rows on the source, and on the target where they are in a table of this name: not
// those of its children, and of an extension's table those that its condition picks.
func (t *Table) From() string {
	if t.Condition != "" {
		return t.Relation() + " " + t.Condition
	}
	return "ONLY " + t.Relation()
}

// Root is the quoted name of the root of its partition tree.
func (t *Table) Root() string { return session.QuoteName(t.RootSchema, t.RootName) }

// ColumnList is the list of columns that have a value of their own. Names, always: the
// order of columns may differ on the target. Where there are none there must be no
// list, and COPY sends empty lines.
func (t *Table) ColumnList() string {
	if len(t.Columns) == 0 {
		return ""
	}
	quoted := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		quoted[i] = session.QuoteName(c)
	}
	return "(" + strings.Join(quoted, ", ") + ")"
}

// Index is an index, or a constraint and the index behind it.
type Index struct {
	CatalogOID    int64
	OID           int64
	Definition    string // CREATE INDEX …, without a semicolon; "" where there is none
	Kind          string // "" for an index, else pg_constraint.contype
	Name          string // of the constraint
	TableOID      int64
	Relation      string // the table, quoted
	ReferencedOID int64  // of a foreign key
	Partitioned   bool   // the constraint's table is a partitioned one
	Size          int64
	IsDeferrable  bool
	IsDeferred    bool
	Validated     bool
}

// ReadCatalog reads in the transaction that s is in.
func ReadCatalog(ctx context.Context, s *session.Session) (*Catalog, error) {
	tables, err := session.Query[Table](ctx, s, tablesSQL)
	if err != nil {
		return nil, fmt.Errorf("read tables of the source: %w", err)
	}
	c := &Catalog{Indexes: map[Object]*Index{}, Roots: map[int64]int64{}, Foreign: map[int64]bool{}, needs: map[Object][]Object{}}
	for i := range tables {
		c.tables = append(c.tables, &tables[i])
	}
	indexes, err := session.Query[Index](ctx, s, indexesSQL)
	if err != nil {
		return nil, fmt.Errorf("read indexes of the source: %w", err)
	}
	for i := range indexes {
		x := &indexes[i]
		c.Indexes[Object{uint32(x.CatalogOID), uint32(x.OID)}] = x
	}
	type partition struct {
		OID, Root int64
		Foreign   bool
	}
	roots, err := session.Query[partition](ctx, s, `
		SELECT oid::bigint AS oid, pg_partition_root(oid)::oid::bigint AS root, relkind = 'f' AS foreign
		FROM pg_class
		WHERE relispartition AND relkind IN ('r', 'p', 'f') OR relkind = 'p'`)
	if err != nil {
		return nil, fmt.Errorf("read partition trees of the source: %w", err)
	}
	for _, t := range roots {
		c.Roots[t.OID] = t.Root
		c.Foreign[t.Root] = c.Foreign[t.Root] || t.Foreign
	}
	if err := c.readNeeds(ctx, s); err != nil {
		return nil, err
	}
	c.Shapes, err = session.QueryValue[string](ctx, s, `
		SELECT coalesce(string_agg(format('%s.%s:%s', c.oid, a.attnum, a.attname), ',' ORDER BY c.oid, a.attnum), '')
		FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
		WHERE c.relkind = 'c' AND c.relnamespace::regnamespace::text !~ '^pg_|^information_schema$'`)
	if err != nil {
		return nil, fmt.Errorf("read composite types of the source: %w", err)
	}
	for _, t := range c.tables {
		// The root may send rows into a foreign table: what the target sorts otherwise fails instead.
		t.ThroughRoot = t.ThroughRoot && !c.Foreign[t.RootOID]
	}
	if c.Traits, err = session.Query[Trait](ctx, s, TraitsSQL); err != nil {
		return nil, fmt.Errorf("read what the source is like: %w", err)
	}
	return c, nil
}

// readNeeds reads what the index behind a constraint needs, or the extension this is from.
func (c *Catalog) readNeeds(ctx context.Context, s *session.Session) error {
	type need struct{ Constraint, Catalog, OID int64 }
	needs, err := session.Query[need](ctx, s, `
		SELECT k.oid::bigint AS constraint, coalesce(m.refclassid, d.refclassid)::bigint AS catalog, coalesce(m.refobjid, d.refobjid)::bigint AS oid
		FROM pg_constraint k
		JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = k.conindid
		LEFT JOIN pg_depend m ON m.classid = d.refclassid AND m.objid = d.refobjid AND m.deptype = 'e'
		WHERE k.contype IN ('p', 'u', 'x') AND d.refclassid NOT IN ('pg_class'::regclass, 'pg_constraint'::regclass)`)
	if err != nil {
		return fmt.Errorf("read what constraints of the source need: %w", err)
	}
	for _, n := range needs {
		k := Object{PgConstraint, uint32(n.Constraint)}
		c.needs[k] = append(c.needs[k], Object{uint32(n.Catalog), uint32(n.OID)})
	}
	return nil
}

// complete adds to the entries of an archive the dependencies that pg_dump leaves out.
func (c *Catalog) complete(entries []*archive.Entry) {
	ids := map[Object]int{}
	for _, e := range entries {
		ids[Object{e.CatalogOID, e.OID}] = e.ID
	}
	for _, e := range entries {
		for _, n := range c.needs[Object{e.CatalogOID, e.OID}] {
			if id, ok := ids[n]; ok && e.Desc == "CONSTRAINT" {
				e.Deps = append(e.Deps, id)
			}
		}
	}
}

// Root is the root of a table's partition tree, or the table itself.
func (c *Catalog) Root(oid int64) int64 {
	if root, ok := c.Roots[oid]; ok {
		return root
	}
	return oid
}
