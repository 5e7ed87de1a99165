-- What the archive does not say of indexes and constraints: their definition under an
-- empty search_path (for a constraint: of the index behind it, unless it is one with
-- WITHOUT OVERLAPS, which no CREATE INDEX can make), and the tables involved.
SELECT 'pg_class'::regclass::oid::bigint          AS catalog_oid,
       x.indexrelid::bigint                       AS oid,
       pg_get_indexdef(x.indexrelid)              AS definition,
       ''                                         AS kind,
       ''                                         AS name,
       x.indrelid::bigint                         AS table_oid,
       format('%I.%I', n.nspname, c.relname)      AS relation,
       0::bigint                                  AS referenced_oid,
       false                                      AS partitioned,
       coalesce(pg_relation_size(x.indexrelid), 0) AS size,
       false AS is_deferrable, false AS is_deferred, true AS validated
FROM pg_index x
JOIN pg_class c ON c.oid = x.indrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
UNION ALL
SELECT 'pg_constraint'::regclass::oid::bigint,
       k.oid::bigint,
       CASE WHEN k.contype IN ('p', 'u') AND to_jsonb(k) ->> 'conperiod' IS DISTINCT FROM 'true'
            THEN pg_get_indexdef(k.conindid) ELSE '' END,
       k.contype::text,
       k.conname::text,
       k.conrelid::bigint,
       format('%I.%I', n.nspname, c.relname),
       k.confrelid::bigint,
       c.relkind = 'p',
       CASE WHEN k.contype IN ('p', 'u', 'x') THEN coalesce(pg_relation_size(k.conindid), 0) ELSE 0 END,
       k.condeferrable, k.condeferred, k.convalidated
FROM pg_constraint k
JOIN pg_class c ON c.oid = k.conrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE k.contype IN ('p', 'u', 'x', 'f')
