-- What belongs to the database itself and is in no archive without --create: settings,
-- comment and grants, as statements that set and unset them. $1 is the database they are
-- for, quoted. Both sides run this query; what only one of them has is the difference.
SELECT format('SETTING %s%s', coalesce(r.rolname || ' ', ''), split_part(x, '=', 1)) AS property,
       substr(x, strpos(x, '=') + 1)                                                  AS value,
       CASE WHEN s.setrole = 0 THEN format('ALTER DATABASE %s ', $1::text)
            ELSE format('ALTER ROLE %I IN DATABASE %s ', r.rolname, $1::text) END
         || format('SET %s = ', split_part(x, '=', 1))
         || CASE WHEN lower(split_part(x, '=', 1)) IN
                      ('local_preload_libraries', 'search_path', 'session_preload_libraries',
                       'shared_preload_libraries', 'temp_tablespaces', 'unix_socket_directories')
                 -- a list of names, quoted where they need it, an empty one too: '' in SET
                 THEN coalesce((SELECT string_agg(quote_literal(coalesce(replace(m[1], '""', '"'), m[2])), ', ')
                                FROM regexp_matches(substr(x, strpos(x, '=') + 1), '"((?:[^"]|"")*)"|([^", ]+)', 'g') m), '''''')
                 ELSE quote_literal(substr(x, strpos(x, '=') + 1)) END                AS make,
       CASE WHEN s.setrole = 0 THEN format('ALTER DATABASE %s ', $1::text)
            ELSE format('ALTER ROLE %I IN DATABASE %s ', r.rolname, $1::text) END
         || format('RESET %s', split_part(x, '=', 1))                                AS unmake
FROM pg_db_role_setting s
LEFT JOIN pg_roles r ON r.oid = s.setrole
CROSS JOIN LATERAL unnest(s.setconfig) x
WHERE s.setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
UNION ALL
SELECT 'COMMENT', c, format('COMMENT ON DATABASE %s IS %L', $1::text, c), format('COMMENT ON DATABASE %s IS NULL', $1::text)
FROM (SELECT shobj_description(oid, 'pg_database') AS c FROM pg_database WHERE datname = current_database()) d
WHERE c IS NOT NULL
UNION ALL
SELECT format('GRANT %s TO %s', a.privilege_type, who), CASE WHEN a.is_grantable THEN 'with grant option' ELSE '' END,
       format('GRANT %s ON DATABASE %s TO %s%s', a.privilege_type, $1::text, who, CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END),
       format('REVOKE %s ON DATABASE %s FROM %s', a.privilege_type, $1::text, who)
FROM (SELECT DISTINCT e.grantee, e.privilege_type, e.is_grantable,
             CASE e.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(e.grantee)) END AS who
      FROM pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) e
      WHERE d.datname = current_database() AND e.grantee <> d.datdba) a
ORDER BY 1
