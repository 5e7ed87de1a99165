-- Statements that give the schemas of $1 (all where NULL) which survived a clean what a
-- new schema has: no comment, no grants but the initial ones, no default privileges; and
-- the database, where all are chosen, what a new one has. They undo what changes.sql shows.
-- The source's own come back at the end.
WITH chosen AS (
    SELECT n.oid, n.nspname, n.nspowner, n.nspacl
    FROM pg_namespace n
    WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', '_calco')
      AND ($1::text[] IS NULL OR n.nspname = ANY ($1))
),
this AS (
    SELECT * FROM pg_database WHERE datname = current_database() AND $1::text[] IS NULL
),
defaults AS (
    SELECT d.*, format('ALTER DEFAULT PRIVILEGES FOR ROLE %I%s ', pg_get_userbyid(d.defaclrole),
                       CASE WHEN c.oid IS NULL THEN '' ELSE format(' IN SCHEMA %I', c.nspname) END) AS head,
           CASE d.defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'FUNCTIONS'
                                WHEN 'T' THEN 'TYPES' WHEN 'n' THEN 'SCHEMAS' ELSE 'LARGE OBJECTS' END AS kind
    FROM pg_default_acl d
    LEFT JOIN chosen c ON c.oid = d.defaclnamespace
    WHERE c.oid IS NOT NULL OR d.defaclnamespace = 0 AND $1::text[] IS NULL
)
SELECT 1 AS pass, format('COMMENT ON SCHEMA %I IS %s', nspname,
              CASE WHEN nspname = 'public' THEN '''standard public schema''' ELSE 'NULL' END) AS sql
FROM chosen
UNION ALL
SELECT 1, format('ALTER SCHEMA public OWNER TO %I', CASE WHEN current_setting('server_version_num')::int >= 150000
              THEN 'pg_database_owner' ELSE pg_get_userbyid(10) END)
FROM chosen WHERE nspname = 'public'
UNION ALL
SELECT DISTINCT 2, format('REVOKE ALL ON SCHEMA %I FROM %s CASCADE', nspname,
              CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END)
FROM chosen, aclexplode(nspacl) a WHERE a.grantee <> nspowner
UNION ALL
SELECT 3, format('GRANT %s ON SCHEMA public TO %s', privileges, role)
FROM chosen, -- not from pg_init_privs, which knows nothing of a public that was made anew
     (VALUES (150000, 1000000, 'USAGE', 'PUBLIC'), (150000, 1000000, 'ALL', 'pg_database_owner'),
             (0, 150000, 'ALL', 'PUBLIC'), (0, 150000, 'ALL', quote_ident(pg_get_userbyid(10)))) v (from_version, to_version, privileges, role)
WHERE nspname = 'public' AND current_setting('server_version_num')::int >= from_version
  AND current_setting('server_version_num')::int < to_version
UNION ALL
SELECT DISTINCT 2, head || format('REVOKE ALL ON %s FROM %s', kind,
              CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END)
FROM defaults, aclexplode(defaclacl) a
UNION ALL
SELECT 3, head || format('GRANT %s ON %s TO %s', a.privilege_type, kind,
              CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END)
FROM defaults, aclexplode(acldefault(CASE defaclobjtype WHEN 'S' THEN 's' ELSE defaclobjtype END, defaclrole)) a
WHERE defaclnamespace = 0
UNION ALL
SELECT 1, format('COMMENT ON DATABASE %I IS NULL', datname) FROM this WHERE shobj_description(oid, 'pg_database') IS NOT NULL
UNION ALL
SELECT 1, CASE WHEN s.setrole = 0 THEN format('ALTER DATABASE %I ', datname) ELSE format('ALTER ROLE %I IN DATABASE %I ', pg_get_userbyid(s.setrole), datname) END
          || 'RESET ' || split_part(x, '=', 1)
FROM this JOIN pg_db_role_setting s ON s.setdatabase = this.oid, unnest(s.setconfig) x
UNION ALL
SELECT DISTINCT 2, format('REVOKE ALL ON DATABASE %I FROM %s CASCADE', datname, CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END)
FROM this, aclexplode(datacl) a WHERE a.grantee <> datdba
UNION ALL
SELECT 3, format('GRANT %s ON DATABASE %I TO PUBLIC', a.privilege_type, datname)
FROM this, aclexplode(acldefault('d', datdba)) a WHERE datacl IS NOT NULL AND a.grantee = 0
ORDER BY 1, 2
