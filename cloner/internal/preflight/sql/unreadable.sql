-- Tables and sequences of the source that this role cannot read whole.
-- row_security_active is true where a policy would hide rows from this role.
SELECT n.nspname::text AS schema,
       c.relname::text AS name,
       has_schema_privilege(n.oid, 'USAGE')
         AND CASE c.relkind WHEN 'S' THEN has_sequence_privilege(c.oid, 'SELECT')
                            ELSE has_table_privilege(c.oid, 'SELECT') END AS permitted
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'S')
  AND c.relpersistence <> 't'
  AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', '_calco')
  AND NOT EXISTS (SELECT FROM pg_depend d
                  WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
  AND (NOT has_schema_privilege(n.oid, 'USAGE')
       OR NOT CASE c.relkind WHEN 'S' THEN has_sequence_privilege(c.oid, 'SELECT')
                             ELSE has_table_privilege(c.oid, 'SELECT') END
       OR (c.relkind <> 'S' AND row_security_active(c.oid)))
ORDER BY 1, 2
