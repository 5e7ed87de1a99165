SELECT format('OWNER OF LARGE OBJECT %%s', oid),
       format('ALTER LARGE OBJECT %%s OWNER TO %%I', oid, pg_get_userbyid(lomowner))
FROM pg_largeobject_metadata WHERE oid BETWEEN '%[1]d'::oid AND '%[2]d'::oid
UNION ALL
SELECT format('ACL LARGE OBJECT %%s', m.oid),
       format('GRANT %%s ON LARGE OBJECT %%s TO %%s%%s', a.privilege_type, m.oid,
              CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END,
              CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
FROM pg_largeobject_metadata m, aclexplode(m.lomacl) a
WHERE m.oid BETWEEN '%[1]d'::oid AND '%[2]d'::oid AND a.grantee <> m.lomowner
UNION ALL
SELECT format('COMMENT LARGE OBJECT %%s', d.objoid),
       format('COMMENT ON LARGE OBJECT %%s IS %%L', d.objoid, d.description)
FROM pg_description d
WHERE d.classoid = 'pg_largeobject'::regclass AND d.objoid BETWEEN '%[1]d'::oid AND '%[2]d'::oid
