SELECT format('ALTER TABLE %s DROP CONSTRAINT IF EXISTS %I', k.conrelid::regclass, k.conname) AS sql,
       k.oid                                                                                AS oid,
       k.conrelid                                                                           AS from_table,
       k.confrelid                                                                          AS to_table,
       k.conrelid::regclass::text                                                           AS "from",
       k.confrelid::regclass::text                                                          AS "to"
FROM pg_constraint k
JOIN pg_class c ON c.oid = k.conrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE k.contype = 'f' AND k.conparentid = 0
  AND pg_has_role(c.relowner, 'USAGE') -- the owner of a schema may drop a table, but not alter it
  AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', '_calco')
  AND ($1::text[] IS NULL OR n.nspname = ANY ($1))
  AND NOT EXISTS (SELECT FROM pg_depend d
                  WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
