-- What clean changes on the target without dropping an object: what was set, said, granted or
-- revoked of the database and of schemas that stay, one by one, so that what is left of it after
-- a part of it is nothing new. $1 are the chosen schemas, NULL for the whole database. Values
-- are compared, and not shown: some are secrets.
WITH version AS (
    SELECT current_setting('server_version_num')::int >= 150000 AS new
),
stays AS (
    SELECT n.oid, nspname, nspacl, nspowner, nspname = 'public' AS public,
           CASE WHEN new THEN '{USAGE}'::text[] ELSE '{CREATE,USAGE}' END                     AS open,
           CASE WHEN new THEN 'pg_database_owner' ELSE pg_get_userbyid(10) END                AS maker
    FROM pg_namespace n, version
    WHERE (nspname = 'public' OR EXISTS (SELECT FROM pg_extension WHERE extnamespace = n.oid))
      AND nspname !~ '^pg_' AND nspname NOT IN ('information_schema', '_calco')
      AND ($1::text[] IS NULL OR nspname = ANY ($1))
),
this AS (
    SELECT * FROM pg_database WHERE datname = current_database() AND $1::text[] IS NULL
),
defaults AS (
    SELECT d.defaclacl AS acl, CASE WHEN s.oid IS NULL THEN acldefault(CASE defaclobjtype WHEN 'S' THEN 's' ELSE defaclobjtype END, defaclrole) END AS initial,
           format('%s%s of role %I', CASE d.defaclobjtype WHEN 'r' THEN 'tables' WHEN 'S' THEN 'sequences' WHEN 'f' THEN 'functions'
                                                           WHEN 'T' THEN 'types' WHEN 'n' THEN 'schemas' ELSE 'large objects' END,
                  ' in schema ' || quote_ident(s.nspname), pg_get_userbyid(d.defaclrole)) AS what
    FROM pg_default_acl d
    LEFT JOIN stays s ON s.oid = d.defaclnamespace
    WHERE s.oid IS NOT NULL OR d.defaclnamespace = 0 AND $1::text[] IS NULL
),
-- Access control lists, and what each is where nobody has granted or revoked anything.
list AS (
    SELECT 'on schema ' || quote_ident(nspname) AS what, '' AS of, nspacl AS acl,
           CASE WHEN public THEN ARRAY(SELECT makeaclitem(0, nspowner, p, false) FROM unnest(open) p) END AS initial, nspowner AS owner
    FROM stays
    WHERE nspacl IS NOT NULL
    UNION ALL
    SELECT 'on the database', '', datacl, acldefault('d', datdba), datdba FROM this WHERE datacl IS NOT NULL
    UNION ALL
    SELECT 'on ' || what, 'default ', acl, initial, NULL FROM defaults
),
granted AS (
    SELECT what, of, owner, a.grantee, a.privilege_type AS privilege, a.is_grantable FROM list, aclexplode(acl) a
),
initial AS (
    SELECT what, of, owner, a.grantee, a.privilege_type AS privilege, a.is_grantable FROM list, aclexplode(initial) a
)
SELECT of || kind AS type, format('of %s %s to %s', privilege, what, CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END) AS identity,
       is_grantable::text AS value
FROM (SELECT 'grant' AS kind, g.* FROM (SELECT * FROM granted EXCEPT SELECT * FROM initial) g
      UNION ALL
      SELECT 'revoked grant', g.* FROM (SELECT * FROM initial EXCEPT SELECT * FROM granted) g) c
WHERE grantee IS DISTINCT FROM owner
UNION ALL
SELECT 'owner', 'of schema public', pg_get_userbyid(nspowner)::text FROM stays WHERE public AND pg_get_userbyid(nspowner) <> maker
UNION ALL
SELECT 'comment', format('on schema %I', nspname), coalesce(obj_description(oid, 'pg_namespace'), '')
FROM stays
WHERE obj_description(oid, 'pg_namespace') IS DISTINCT FROM CASE WHEN public THEN 'standard public schema' END
UNION ALL
SELECT 'setting', format('%s of the database%s', split_part(x, '=', 1), ' for role ' || CASE WHEN setrole <> 0 THEN quote_ident(pg_get_userbyid(setrole)) END), x
FROM this JOIN pg_db_role_setting ON setdatabase = this.oid, unnest(setconfig) x
UNION ALL
SELECT 'comment', 'on the database', shobj_description(oid, 'pg_database')
FROM this
WHERE shobj_description(oid, 'pg_database') IS NOT NULL
ORDER BY 1, 2
