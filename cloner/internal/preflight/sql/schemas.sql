-- The schemas that can be chosen for a clone. Tables of extensions are no tables of ours.
SELECT n.nspname::text                                                           AS name,
       count(c.oid) FILTER (WHERE c.relkind = 'r' AND NOT of_extension)::int     AS tables,
       coalesce(sum(pg_total_relation_size(c.oid))
                FILTER (WHERE c.relkind IN ('r', 'm')), 0)::bigint               AS bytes
FROM pg_namespace n
LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relkind IN ('r', 'm') AND c.relpersistence <> 't'
CROSS JOIN LATERAL (
    SELECT EXISTS (SELECT FROM pg_depend d
                   WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e') AS of_extension) e
WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', '_calco')
GROUP BY n.nspname
ORDER BY n.nspname
