package restore

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"calco/cloner/archive"
	"calco/cloner/internal/marks"
	"calco/cloner/internal/schema"
	"calco/cloner/internal/session"
	"calco/cloner/report"
)

// statement is one thing to make on the target, and what to call it when it fails.
type statement struct {
	entry  *archive.Entry // nil for what is not an entry of the archive
	phase  report.Phase
	object string
	sql    string
	table  int64 // the OID of the table whose index or constraint it makes, or 0
}

// make runs statements in order, many to a round trip. One that fails is tried again,
// first as it is, since what it needs may have failed before it and succeeded since,
// then under the source's own search_path; what fails for good goes into the ledger and
// does not hold up the rest. The error is one that ends the clone.
func (m *Maker) make(ctx context.Context, s *marks.Writer, statements []statement) error {
	queries := make([]string, len(statements))
	for i, st := range statements {
		queries[i] = st.sql
	}
	errs, err := s.Pipeline(ctx, queries)
	if err != nil {
		return err
	}
	for i, err := range errs {
		if err == nil {
			continue
		}
		if err := m.remake(ctx, s, statements[i], err); err != nil {
			return err
		}
	}
	return nil
}

// remake tries a statement that failed with err again.
func (m *Maker) remake(ctx context.Context, s *marks.Writer, st statement, err error) error {
	const tries = 5 // a deadlock is broken by giving way; more than a few mean something else
	for try := 0; try < tries && err != nil && session.Classify(err) == session.Transient; try++ {
		err = s.Write(ctx, st.sql)
	}
	if session.Classify(err) == session.Missing {
		err = s.Write(ctx, st.sql)
	}
	if session.Classify(err) == session.Missing {
		err = s.Write(ctx, m.underSourcePath(st.sql))
	}
	switch {
	case err == nil:
		return nil
	case session.Classify(err).Ends():
		return err
	case m.standsAlready(st, err):
		return nil
	}
	if st.entry != nil {
		m.Ledger.Skip(st.entry.ID)
	}
	m.Ledger.Record(st.phase, st.object, err)
	m.Meter.TableFailed(st.table)
	return nil
}

// underSourcePath is SQL that runs under the source's own search_path: a function may name
// objects without their schema, and on the source that worked.
func (m *Maker) underSourcePath(sql string) string {
	return "SET LOCAL search_path = " + m.Source.SearchPath + ";\n" + sql
}

// standsAlready tells whether a statement failed because its object is there, and may be:
// a schema that clean kept, or one outside the chosen schemas, which is left as it is.
func (m *Maker) standsAlready(st statement, err error) bool {
	if st.entry == nil {
		return false
	}
	pulled := m.Plan.Pulled[st.entry.ID]
	switch session.SQLState(err) {
	case session.DuplicateSchema: // duplicate schema
		if pulled {
			keepEntry(m.Plan, m.Ledger, st.entry)
		}
		return true
	case session.UniqueViolation: // how text search objects say that they are duplicates
		if pg, ok := errors.AsType[*pgconn.PgError](err); !ok || pg.SchemaName != "pg_catalog" {
			return false
		}
	case session.DuplicateObject, session.DuplicateTable, session.DuplicateFunction, session.InvalidTable: // duplicate object, relation, function; second primary key
	case session.WrongObjectType: // is a partition already
		if st.entry.Desc != "TABLE ATTACH" {
			return false
		}
	default:
		return false
	}
	if pulled {
		keepEntry(m.Plan, m.Ledger, st.entry) // no rows of ours go into it
		m.Ledger.Warn(report.Said(fmt.Sprintf("%s was on the target already and was left as it is.", st.object)))
		return true
	}
	// A partition that joined a table which was there got its indexes from that.
	x := m.Plan.Catalog.Indexes[schema.ObjectOf(st.entry.CatalogOID, st.entry.OID)]
	if x == nil || !m.Ledger.Keeps(m.Plan.Catalog.Root(x.TableOID)) {
		return false
	}
	m.Ledger.Skip(st.entry.ID) // nothing more is to be done for it; the comparison will tell
	return true
}

// entryStatement is what makes an entry, as _printTocEntry in pg_backup_archiver.c does it.
func (m *Maker) entryStatement(p report.Phase, e *archive.Entry) statement {
	defn := e.Defn
	switch e.Desc {
	case "USER MAPPING":
		defn = schema.WithoutOptions(defn)
	case "SUBSCRIPTION":
		// Who drops it later drops nothing on the publisher. https://www.postgresql.org/docs/current/sql-dropsubscription.html
		defn += fmt.Sprintf("\nALTER SUBSCRIPTION %s SET (slot_name = NONE);", session.QuoteName(e.Tag))
	case "EXTENSION":
		defn = m.closedExtension.Close + defn + m.closedExtension.Restore
	}
	return statement{entry: e, phase: p, object: schema.Title(e), sql: m.placement(e) + defn + m.closing(e)}
}

// closing is SQL that takes from a new object, in the transaction that makes it, every privilege of anybody but its owner,
// so that nobody else reads, writes or calls it while the clone goes on: what default privileges of the target give, and the
// right to call a function, which may act as its owner, that PostgreSQL gives to everybody. That one comes back with the
// grants. Types hold nothing: everybody may use them, as PostgreSQL has it.
// https://www.postgresql.org/docs/current/sql-alterdefaultprivileges.html
func (m *Maker) closing(e *archive.Entry) string {
	kind, on := grantable(e)
	if kind == "" {
		return ""
	}
	var b strings.Builder
	if kind == functions {
		fmt.Fprintf(&b, "\nREVOKE ALL ON %s FROM PUBLIC;", on)
	}
	for _, d := range m.defaultGrants {
		if d.Kind == kind && (d.Schema == "" || d.Schema == e.Namespace) {
			if d.Grantees != "" {
				fmt.Fprintf(&b, "\nREVOKE ALL ON %s FROM %s;", on, d.Grantees)
			}
			fmt.Fprintf(&b, "\nGRANT ALL ON %s TO CURRENT_USER;", on)
			if kind == types {
				fmt.Fprintf(&b, "\nGRANT ALL ON %s TO PUBLIC;", on)
			}
		}
	}
	return b.String()
}

// Kinds of objects, as pg_default_acl.defaclobjtype has them. On functions and types everybody has a privilege.
const functions, types, largeObjectKind = "f", "T", "L"

// grantable tells which default privileges are for an entry, "" for none, and how GRANT calls it.
func grantable(e *archive.Entry) (kind, on string) {
	switch e.Desc {
	case "TABLE", "VIEW", "MATERIALIZED VIEW", "FOREIGN TABLE":
		return "r", "TABLE " + session.QuoteName(e.Namespace, e.Tag)
	case "SEQUENCE":
		return "S", "SEQUENCE " + session.QuoteName(e.Namespace, e.Tag)
	case "FUNCTION", "PROCEDURE", "AGGREGATE":
		_, signature, ok := strings.Cut(strings.TrimRight(e.DropStmt, ";\n "), e.Desc+" ")
		signature = strings.NewReplacer("(*)", "()", "(ORDER BY ", "(", " ORDER BY ", ", ").Replace(signature)
		return report.Either(ok, functions, ""), "ROUTINE " + signature
	case "TYPE", "DOMAIN":
		return types, "TYPE " + session.QuoteName(e.Namespace, e.Tag)
	case "SCHEMA":
		return "n", "SCHEMA " + session.QuoteName(e.Tag)
	}
	return "", ""
}

// defaultGrant is what default privileges of the target give on objects that this role makes there.
type defaultGrant struct {
	Kind     string // pg_default_acl.defaclobjtype
	Schema   string // "" for all
	Grantees string // but the role itself, quoted; "" for none
}

//go:embed sql/closed_extension.sql
var closedExtensionSQL string

// closedExtension are statements around the making of an extension, in its transaction, by which default privileges of the
// target give nothing on its objects. They are as before after it.
type closedExtension struct{ Close, Restore string }

const defaultGrantsSQL = `
	SELECT d.defaclobjtype::text AS kind, coalesce(n.nspname::text, '') AS schema,
	       coalesce((SELECT string_agg(DISTINCT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END, ', ')
	                 FROM aclexplode(d.defaclacl) a WHERE a.grantee <> d.defaclrole), '') AS grantees
	FROM pg_default_acl d
	LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
	WHERE pg_get_userbyid(d.defaclrole) = current_user
	ORDER BY 1, 2`

// placement sets where and how a relation is stored before it is made.
func (m *Maker) placement(e *archive.Entry) string {
	var b strings.Builder
	if e.Tablespace != "" && m.tablespaces[e.Tablespace] {
		fmt.Fprintf(&b, "SET LOCAL default_tablespace = %s;\n", session.QuoteLiteral(e.Tablespace))
	}
	if e.TableAM != "" && e.RelKind != 'p' && m.accessMethods[e.TableAM] {
		fmt.Fprintf(&b, "SET LOCAL default_table_access_method = %s;\n", session.QuoteName(e.TableAM))
	}
	return b.String()
}

// PreData makes all that has to be there before the rows.
func (m *Maker) PreData(ctx context.Context) error {
	if err := m.ensurePublic(ctx); err != nil {
		return err
	}
	statements := make([]statement, 0, len(m.Plan.Pre))
	for _, e := range m.Plan.Pre {
		if m.Existing.HasPlanned(e, m.Plan) || m.Ledger.Skips(e.ID) {
			continue // it was made before, or is not to be
		}
		st := m.entryStatement(report.PhasePreData, e)
		// Archives of version 17 and later say which method partitions are to inherit.
		if e.RelKind == 'p' && e.TableAM != "" && m.accessMethods[e.TableAM] && m.Target.Major() >= 17 {
			st.sql += fmt.Sprintf("\nALTER TABLE %s SET ACCESS METHOD %s;", session.QuoteName(e.Namespace, e.Tag), session.QuoteName(e.TableAM))
		}
		statements = append(statements, st)
	}
	m.Meter.Expect(report.PhasePreData, len(statements))
	for batch := range slices.Chunk(statements, session.PipelineStatements) {
		if err := m.make(ctx, m.Owner.Control, batch); err != nil {
			return err
		}
		m.Meter.Advance(report.PhasePreData, len(batch))
	}
	return nil
}

// ensurePublic makes the schema public where somebody has dropped it: pg_dump takes it for
// granted.
func (m *Maker) ensurePublic(ctx context.Context) error {
	if !m.Whole && !slices.ContainsFunc(m.Plan.Entries, func(e *archive.Entry) bool { return e.Namespace == "public" }) {
		return nil
	}
	const has = "SELECT to_regnamespace('public') IS NOT NULL"
	needed, err := session.QueryValue[bool](ctx, m.Source.Control, has)
	if err != nil {
		return fmt.Errorf("look for schema public on the source: %w", err)
	}
	there, err := session.QueryValue[bool](ctx, m.Target.Control, has)
	if err != nil {
		return fmt.Errorf("look for schema public on the target: %w", err)
	}
	if there || !needed {
		return nil
	}
	sql := "CREATE SCHEMA public; COMMENT ON SCHEMA public IS 'standard public schema'; "
	if m.Target.Major() >= 15 {
		sql += "GRANT USAGE ON SCHEMA public TO PUBLIC; ALTER SCHEMA public OWNER TO pg_database_owner"
	} else {
		sql += "GRANT ALL ON SCHEMA public TO PUBLIC"
	}
	return m.make(ctx, m.Owner.Control, []statement{{phase: report.PhasePreData, object: "SCHEMA public", sql: sql}})
}

// places are which tablespaces and access methods the target has or will have, and what its default privileges give.
type places struct {
	tablespaces, accessMethods map[string]bool
	defaultGrants              []defaultGrant
	closedExtension            closedExtension
}

func readPlaces(ctx context.Context, c Config) (p places, err error) {
	type place struct{ Kind, Name string }
	found, err := session.Query[place](ctx, c.Target.Control, `
		SELECT 'tablespace' AS kind, spcname::text AS name FROM pg_tablespace
		UNION ALL
		SELECT 'access method', amname::text FROM pg_am`)
	if err != nil {
		return p, fmt.Errorf("read tablespaces of the target: %w", err)
	}
	have := map[string]map[string]bool{"tablespace": {}, "access method": {}}
	for _, f := range found {
		have[f.Kind][f.Name] = true
	}
	p.tablespaces, p.accessMethods = have["tablespace"], have["access method"]
	if p.defaultGrants, err = session.Query[defaultGrant](ctx, c.Target.Control, defaultGrantsSQL); err != nil {
		return p, fmt.Errorf("read default privileges of the target: %w", err)
	}
	if p.closedExtension, err = session.QueryRow[closedExtension](ctx, c.Target.Control, closedExtensionSQL); err != nil {
		return p, fmt.Errorf("read default privileges of the target: %w", err)
	}
	missing := map[string]bool{}
	for _, e := range c.Plan.Entries {
		if e.Desc == "ACCESS METHOD" {
			p.accessMethods[e.Tag] = true
		}
		if e.Tablespace != "" && !p.tablespaces[e.Tablespace] && !missing[e.Tablespace] {
			missing[e.Tablespace] = true
			c.Ledger.Warn(report.Said(fmt.Sprintf("The target has no tablespace %s; its objects are in the default one.", e.Tablespace)))
		}
	}
	return p, nil
}

// HasTablespace tells whether the target has a tablespace of that name.
func (m *Maker) HasTablespace(name string) bool { return m.tablespaces[name] }

// Owners gives each object its owner. It comes after all objects are made, while this
// role still may do everything with them, and before the grants, which owners make.
func (m *Maker) Owners(ctx context.Context) error {
	var statements []statement
	for _, e := range slices.Concat(m.Plan.Pre, m.Plan.Post) {
		if sql := ownerSQL(e); sql != "" && !m.Ledger.Skips(e.ID) {
			statements = append(statements, statement{phase: report.PhasePostData, object: "OWNER OF " + schema.Title(e), sql: sql})
		}
	}
	return m.make(ctx, m.Owner.Control, statements)
}

// EventTriggers come last of all objects: they would fire at the making of the others.
func (m *Maker) EventTriggers(ctx context.Context) error {
	var statements []statement
	for _, e := range m.Plan.Last {
		if m.Ledger.Skips(e.ID) {
			continue // it is not to be made
		}
		statements = append(statements, m.entryStatement(report.PhasePostData, e))
		if sql := ownerSQL(e); sql != "" {
			statements = append(statements, statement{phase: report.PhasePostData, object: "OWNER OF " + schema.Title(e), sql: sql})
		}
	}
	return m.make(ctx, m.Owner.Control, statements)
}

// ownerSQL is the statement that gives an entry its owner, or "". It follows
// _getObjectDescription in pg_backup_archiver.c: what has arguments takes its name from
// the statement that would drop it.
func ownerSQL(e *archive.Entry) string {
	if e.Owner == "" || e.DropStmt == "" {
		return ""
	}
	var name string
	switch e.Desc {
	case "COLLATION", "CONVERSION", "DOMAIN", "FOREIGN TABLE", "MATERIALIZED VIEW", "SEQUENCE", "STATISTICS",
		"TABLE", "TEXT SEARCH CONFIGURATION", "TEXT SEARCH DICTIONARY", "TYPE", "VIEW":
		name = e.Desc + " " + session.QuoteName(e.Namespace, e.Tag)
	case "DATABASE", "EVENT TRIGGER", "FOREIGN DATA WRAPPER", "PROCEDURAL LANGUAGE", "PUBLICATION", "SCHEMA", "SERVER", "SUBSCRIPTION":
		name = e.Desc + " " + session.QuoteName(e.Tag)
	case "AGGREGATE", "FUNCTION", "OPERATOR", "OPERATOR CLASS", "OPERATOR FAMILY", "PROCEDURE":
		name = strings.TrimRight(strings.TrimPrefix(e.DropStmt, "DROP "), ";\n ")
	default:
		return ""
	}
	return "ALTER " + name + " OWNER TO " + session.QuoteName(e.Owner) + ";"
}

// CloseLargeObjects is SQL that takes from the large objects that its transaction has made what default privileges of the
// target give to others, which they do since version 18.
func (m *Maker) CloseLargeObjects() string {
	var b strings.Builder
	for _, d := range m.defaultGrants {
		if d.Kind != largeObjectKind {
			continue
		}
		if d.Grantees != "" {
			fmt.Fprintf(&b, "EXECUTE format('REVOKE ALL ON LARGE OBJECT %%s FROM %%s', made, %s); ", session.QuoteLiteral(d.Grantees))
		}
		b.WriteString("EXECUTE format('GRANT ALL ON LARGE OBJECT %s TO CURRENT_USER', made); ")
	}
	if b.Len() == 0 {
		return ""
	}
	return "DO " + session.QuoteLiteral(`DECLARE made oid; BEGIN
		FOR made IN SELECT DISTINCT oid FROM pg_temp.calco_large_object JOIN _calco.large_object o USING (oid) WHERE o.xmin = pg_current_xact_id()::xid LOOP
			`+b.String()+`END LOOP; END`) + "; "
}

// Make makes things of a phase on a session: each is a name for the ledger, and a statement.
func (m *Maker) Make(ctx context.Context, w *marks.Writer, p report.Phase, things [][2]string) error {
	statements := make([]statement, len(things))
	for i, t := range things {
		statements[i] = statement{phase: p, object: t[0], sql: t[1]}
	}
	return m.make(ctx, w, statements)
}
