package schema

// Trait is what no entry of an archive has, and the copy may have otherwise.
type Trait struct {
	Kind     string // of the difference it makes, see TraitsSQL
	Name     string
	Value    string
	Relation int64 // the table of an index, else 0
}

// TraitsSQL reads how text is encoded and sorted, what versions extensions are of, indexes that pg_dump leaves out, and
// user mappings of which it gets no options, by the rule of the view pg_user_mappings.
const TraitsSQL = `
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
