-- The tables of the source whose rows can be copied, under the snapshot: plain tables,
-- partitions that are leaves, and tables of extensions that are marked as configuration
-- (pg_extension_config_dump), with their condition.
WITH config AS (
    SELECT unnest(e.extconfig) AS oid, unnest(e.extcondition) AS condition, e.oid AS extension
    FROM pg_extension e
)
SELECT c.oid::bigint                                          AS oid,
       n.nspname::text                                        AS schema,
       c.relname::text                                        AS name,
       coalesce(pg_table_size(c.oid), 0)                      AS size,
       coalesce(pg_relation_size(c.oid), 0) / current_setting('block_size')::int AS pages,
       coalesce(pg_relation_filenode(c.oid), 0)::bigint       AS filenode,
       coalesce(am.amname = 'heap', false)                    AS heap,
       c.relpersistence = 'u'                                 AS unlogged,
       stats.rows                                             AS estimated_rows,
       coalesce(root.oid, c.oid)::bigint                      AS root_oid,
       coalesce(rn.nspname, n.nspname)::text                  AS root_schema,
       coalesce(root.relname, c.relname)::text                AS root_name,
       coalesce(hashed.enums, false)                          AS through_root,
       coalesce(config.extension, 0)::bigint                  AS extension,
       coalesce(config.condition, '')                         AS condition,
       cols.names                                             AS columns,
       cols.contents                                          AS contents,
       cols.shape                                             AS shape
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_am am ON am.oid = c.relam
LEFT JOIN pg_class root ON c.relispartition AND root.oid = pg_partition_root(c.oid)
LEFT JOIN pg_namespace rn ON rn.oid = root.relnamespace
LEFT JOIN config ON config.oid = c.oid
-- The hash of an enum is made of its OID, which is another one on the target: rows of
-- such a tree find their partition through the root (getPartitioningInfo in pg_dump.c).
LEFT JOIN LATERAL (
    SELECT true AS enums
    FROM pg_partition_ancestors(c.oid) a
    JOIN pg_partitioned_table p ON p.partrelid = a.relid AND p.partstrat = 'h'
    JOIN pg_opclass o ON o.oid = ANY (p.partclass::oid[]) AND o.opcname = 'enum_ops'
    WHERE c.relispartition
    LIMIT 1) hashed ON true
-- As the planner reckons (estimate_rel_size in plancat.c); NULL while nobody has gathered statistics.
CROSS JOIN LATERAL (
    SELECT CASE WHEN pg_relation_size(c.oid) = 0 THEN 0
                WHEN c.relpages > 0 THEN round(greatest(c.reltuples, 0)::float8 / c.relpages
                                               * (pg_relation_size(c.oid) / current_setting('block_size')::int))::bigint
           END AS rows) stats
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(a.attname::text ORDER BY a.attnum) FILTER (WHERE a.attgenerated = ''), '{}') AS names,
           coalesce(array_agg(a.attname::text ORDER BY a.attname COLLATE "C"), '{}')                       AS contents,
           coalesce(string_agg(a.attnum || ':' || a.attname, ',' ORDER BY a.attnum), '')                   AS shape
    FROM pg_attribute a
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) cols
WHERE c.relkind = 'r'
  AND c.relpersistence <> 't'
  AND n.nspname <> '_calco'
  AND (config.oid IS NOT NULL
       OR n.nspname !~ '^pg_' AND n.nspname <> 'information_schema')
  AND (config.oid IS NOT NULL
       OR NOT EXISTS (SELECT FROM pg_depend d
                      WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'))
ORDER BY size DESC, c.oid
