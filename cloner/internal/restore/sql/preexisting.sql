-- What of the target a clone without clean leaves as it is, by what pg_dump calls it: schemas that
-- are there, what was granted or said of them, comments of extensions, and default privileges.
-- What is as PostgreSQL made it counts as not there: of the schema public its owner, its grants
-- and its comment.
WITH version AS (
    SELECT current_setting('server_version_num')::int >= 150000 AS new
),
there AS (
    SELECT n.oid, n.nspname, n.nspacl, n.nspowner, obj_description(n.oid, 'pg_namespace') AS comment,
           n.nspname = 'public'                                                            AS public,
           CASE WHEN version.new THEN 'pg_database_owner' ELSE pg_get_userbyid(10) END     AS maker,
           CASE WHEN version.new THEN '{USAGE}'::text[] ELSE '{CREATE,USAGE}' END          AS open
    FROM pg_namespace n, version
    WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', '_calco')
)
SELECT 'SCHEMA' AS kind, '' AS namespace, nspname::text AS name
FROM there
WHERE NOT public OR pg_get_userbyid(nspowner) <> maker
UNION ALL
SELECT 'ACL', '', format('SCHEMA %I', nspname)
FROM there
WHERE nspacl IS NOT NULL
  AND NOT (public AND open = (SELECT array_agg(a.privilege_type ORDER BY a.privilege_type) FROM aclexplode(nspacl) a WHERE a.grantee = 0)
                  AND NOT EXISTS (SELECT FROM aclexplode(nspacl) a WHERE a.grantee NOT IN (0, nspowner)))
UNION ALL
SELECT 'COMMENT', '', format('SCHEMA %I', nspname)
FROM there
WHERE comment IS NOT NULL AND NOT (public AND comment = 'standard public schema')
UNION ALL
SELECT 'COMMENT', '', format('EXTENSION %I', extname)
FROM pg_extension
WHERE obj_description(oid, 'pg_extension') IS NOT NULL
UNION ALL
SELECT DISTINCT 'DEFAULT ACL', coalesce(n.nspname::text, ''),
       'DEFAULT PRIVILEGES FOR ' || CASE d.defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'FUNCTIONS'
                                                         WHEN 'T' THEN 'TYPES' WHEN 'n' THEN 'SCHEMAS' ELSE 'LARGE OBJECTS' END
FROM pg_default_acl d
LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
