package cloner

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"calco/cloner/internal/session"
	"calco/cloner/report"
)

// checkEncodings refuses a clone between a database that knows the encoding of its text and one that does not: what the
// bytes of the latter mean nobody can tell, so no copy of them can be called equal.
func (r *run) checkEncodings(context.Context) ([]report.Reason, error) {
	const unknown = "SQL_ASCII"
	source, target := r.source.Encoding, r.target.Encoding
	if source == target || source != unknown && target != unknown {
		return nil, nil
	}
	side, known := report.Source, target
	if target == unknown {
		side, known = report.Target, source
	}
	other := report.Target
	if side == report.Target {
		other = report.Source
	}
	return []report.Reason{{
		Code: report.ReasonEncoding, Side: side,
		Text: fmt.Sprintf("The %s has the encoding SQL_ASCII, which stands for any bytes; the %s has %s. The same text would not be the same on both sides.", side, other, known),
		Hint: "Make the target with the source's encoding: CREATE DATABASE … TEMPLATE template0 ENCODING '" + source + "' LOCALE 'C'.",
	}}, nil
}

// likeness is what no entry of an archive has, and the copy may have otherwise.
type likeness struct {
	Kind     string // of the difference it makes, see likenessSQL
	Name     string
	Value    string
	Relation int64 // the table of an index, else 0
}

// likenessSQL reads how text is encoded and sorted, what versions extensions are of, indexes that pg_dump leaves out, and
// user mappings of which it gets no options, by the rule of the view pg_user_mappings.
const likenessSQL = `
	SELECT 'locale' AS kind, 'ENCODING' AS name, pg_encoding_to_char(encoding)::text AS value, 0::bigint AS relation
	FROM pg_database WHERE datname = current_database()
	UNION ALL
	SELECT 'locale', 'LOCALE', concat_ws(', ',
	       CASE to_jsonb(d)->>'datlocprovider' WHEN 'i' THEN 'icu' WHEN 'b' THEN 'builtin' ELSE 'libc' END,
	       coalesce(to_jsonb(d)->>'datlocale', to_jsonb(d)->>'daticulocale'), to_jsonb(d)->>'daticurules',
	       'collate ' || datcollate, 'ctype ' || datctype), 0
	FROM pg_database d WHERE datname = current_database()
	UNION ALL
	SELECT 'extension version', extname, extversion, 0 FROM pg_extension
	UNION ALL
	SELECT 'missing', quote_ident(n.nspname) || '.' || quote_ident(c.relname), 'invalid', i.indrelid::bigint
	FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_class t ON t.oid = i.indrelid
	WHERE NOT (i.indisready AND (i.indisvalid OR t.relkind = 'p')) AND t.relkind IN ('r', 'p', 'm')
	UNION ALL
	SELECT 'not compared', format('USER MAPPING %s SERVER %s', m.usename, m.srvname), '', 0
	FROM pg_user_mappings m JOIN pg_foreign_server s ON s.oid = m.srvid
	WHERE umoptions IS NULL AND current_setting('is_superuser') <> 'on'
	  AND NOT (m.umuser <> 0 AND m.usename = current_user AND (pg_has_role(s.srvowner, 'USAGE') OR has_server_privilege(s.oid, 'USAGE'))
	           OR m.umuser = 0 AND pg_has_role(s.srvowner, 'USAGE'))
	ORDER BY 1, 2`

// compareLikeness compares what the source had under the snapshot with what the target has.
func (r *run) compareLikeness(ctx context.Context) ([]report.Difference, error) {
	target, err := session.Query[likeness](ctx, r.target.Control, likenessSQL)
	if err != nil {
		return nil, fmt.Errorf("read what the target is like: %w", err)
	}
	tables, tags := map[int64]bool{}, map[string]bool{}
	for _, e := range r.plan.entries {
		tables[int64(e.OID)] = tables[int64(e.OID)] || e.CatalogOID == pgClass
		tags[e.Desc+" "+e.Tag] = true
	}
	var found []report.Difference
	for _, s := range r.plan.catalog.likeness {
		i := slices.IndexFunc(target, func(t likeness) bool { return t.Kind == s.Kind && t.Name == s.Name })
		d := report.Difference{Kind: s.Kind, Source: s.Value}
		if i >= 0 {
			d.Target = target[i].Value
		}
		switch s.Kind {
		case "locale":
			d.Object = "DATABASE " + s.Name
			d.Harmless = word(s.Name == "ENCODING", "Each character was converted.", "Every value is there; text may be sorted, and its case changed, in another way.")
		case "extension version":
			if !tags["EXTENSION "+s.Name] || i < 0 {
				continue // not cloned, or missing: which the archives tell
			}
			d.Object = "EXTENSION " + s.Name
			if newerVersion(d.Target, d.Source) {
				d.Harmless = "The target has a newer version of the extension."
			}
		case "missing":
			if !tables[s.Relation] || i >= 0 {
				continue
			}
			d.Object, d.Target = "INDEX "+s.Name, "missing"
		case "not compared":
			if !tags["USER MAPPING "+s.Name] {
				continue
			}
			d.Object, d.Source, d.Target = s.Name, "not readable", "none"
			d.Harmless = "The role of the source's connection may not read the options of this user mapping; the copy has none."
		}
		if d.Source != d.Target {
			found = append(found, d)
		}
	}
	return found, nil
}

// newerVersion tells whether an extension's version a is newer than b: numbers in it count as numbers.
func newerVersion(a, b string) bool {
	split := func(s string) []string {
		return strings.FieldsFunc(s, func(c rune) bool { return c == '.' || c == '-' || c == '_' || c == ' ' })
	}
	return slices.CompareFunc(split(a), split(b), func(x, y string) int {
		m, errX := strconv.Atoi(x)
		n, errY := strconv.Atoi(y)
		if errX == nil && errY == nil {
			return cmp.Compare(m, n)
		}
		return strings.Compare(x, y)
	}) > 0
}
