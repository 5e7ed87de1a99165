-- What clean changes on the target without dropping an object: what was set, said or granted of
-- the database and of schemas that stay. $1 are the chosen schemas, NULL for the whole database.
WITH stays AS (
    SELECT n.*, CASE WHEN current_setting('server_version_num')::int >= 150000 THEN '{USAGE}'::text[] ELSE '{CREATE,USAGE}' END AS open
    FROM pg_namespace n
    WHERE (nspname = 'public' OR EXISTS (SELECT FROM pg_extension WHERE extnamespace = n.oid))
      AND nspname !~ '^pg_' AND nspname NOT IN ('information_schema', '_calco')
      AND ($1::text[] IS NULL OR nspname = ANY ($1))
),
this AS (
    SELECT * FROM pg_database WHERE datname = current_database() AND $1::text[] IS NULL
)
SELECT 'grants' AS type, format('on schema %I', nspname) AS identity
FROM stays
WHERE EXISTS (SELECT FROM aclexplode(nspacl) a WHERE a.grantee <> nspowner AND NOT (nspname = 'public' AND a.grantee = 0 AND a.privilege_type = ANY (open)))
   OR nspname = 'public' AND nspacl IS NOT NULL
      AND NOT open <@ ARRAY(SELECT a.privilege_type FROM aclexplode(nspacl) a WHERE a.grantee = 0)
UNION ALL
SELECT 'comment', format('on schema %I', nspname)
FROM stays
WHERE obj_description(oid, 'pg_namespace') IS DISTINCT FROM CASE WHEN nspname = 'public' THEN 'standard public schema' END
UNION ALL
SELECT DISTINCT 'default privileges', CASE WHEN s.oid IS NULL THEN 'of the database' ELSE format('in schema %I', s.nspname) END
FROM pg_default_acl d
LEFT JOIN stays s ON s.oid = d.defaclnamespace
WHERE s.oid IS NOT NULL OR d.defaclnamespace = 0 AND $1::text[] IS NULL
UNION ALL
SELECT 'settings', 'of the database'
FROM this
WHERE EXISTS (SELECT FROM pg_db_role_setting WHERE setdatabase = this.oid)
UNION ALL
SELECT 'comment', 'on the database'
FROM this
WHERE shobj_description(oid, 'pg_database') IS NOT NULL
UNION ALL
SELECT 'grants', 'on the database'
FROM this
WHERE (SELECT array_agg(a::text ORDER BY a::text) FROM unnest(datacl) a) <> (SELECT array_agg(a::text ORDER BY a::text) FROM unnest(acldefault('d', datdba)) a)
ORDER BY 1, 2
