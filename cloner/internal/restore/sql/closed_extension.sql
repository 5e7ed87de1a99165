-- Statements that make the default privileges of this role on the target those of PostgreSQL, and
-- back again. Between them an extension makes its objects: what its script grants is kept apart
-- from what was there before (pg_init_privs), so that default privileges cannot be taken back later.
WITH mine AS (
    SELECT 'ALTER DEFAULT PRIVILEGES ' || CASE WHEN n.oid IS NULL THEN '' ELSE format('IN SCHEMA %I ', n.nspname) END AS head,
           CASE d.defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'FUNCTIONS'
                                WHEN 'T' THEN 'TYPES' ELSE 'SCHEMAS' END                  AS kind,
           d.defaclacl                                                                    AS acl,
           CASE WHEN n.oid IS NULL THEN acldefault(CASE d.defaclobjtype WHEN 'S' THEN 's' ELSE d.defaclobjtype END, d.defaclrole)
                END                                                                       AS base
    FROM pg_default_acl d
    LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
    WHERE pg_get_userbyid(d.defaclrole) = current_user AND d.defaclobjtype IN ('r', 'S', 'f', 'T', 'n')
),
differs AS (
    SELECT head, kind, a.privilege_type, a.grantee, a.is_grantable, true AS added
    FROM mine, aclexplode(acl) a
    WHERE NOT EXISTS (SELECT FROM aclexplode(base) b WHERE b.grantee = a.grantee AND b.privilege_type = a.privilege_type)
    UNION ALL
    SELECT head, kind, b.privilege_type, b.grantee, b.is_grantable, false
    FROM mine, aclexplode(base) b
    WHERE NOT EXISTS (SELECT FROM aclexplode(acl) a WHERE a.grantee = b.grantee AND a.privilege_type = b.privilege_type)
),
statement AS (
    SELECT added, head || format('REVOKE %s ON %s FROM %s;', privilege_type, kind, who) AS revoke,
           head || format('GRANT %s ON %s TO %s%s;', privilege_type, kind, who, CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END) AS give
    FROM differs, LATERAL (SELECT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END AS who) w
)
SELECT coalesce(string_agg(CASE WHEN added THEN revoke ELSE give END, E'\n'), '') AS close,
       coalesce(string_agg(CASE WHEN added THEN give ELSE revoke END, E'\n'), '') AS restore
FROM statement
