-- What the target holds in the schemas of $1 (all but system schemas where it is NULL),
-- as objects that DROP and pg_identify_object know, in an order in which dropping one
-- after the other mostly succeeds: what was made last goes first, partitions before their
-- parents. Members of extensions are left out, and so is what belongs to another object
-- (row types, identity sequences), which goes with it. What has no owner is its type's, or
-- that of the first superuser, whose OID is 10: only superusers make such things.
WITH RECURSIVE chosen AS (
    SELECT oid, nspname, nspowner FROM pg_namespace
    WHERE nspname !~ '^pg_' AND nspname NOT IN ('information_schema', '_calco')
      AND ($1::text[] IS NULL OR nspname = ANY ($1))
),
depth AS (
    SELECT inhrelid AS relid, 1 AS level FROM pg_inherits
    UNION
    SELECT i.inhrelid, d.level + 1 FROM depth d JOIN pg_inherits i ON i.inhparent = d.relid
),
needed AS ( -- by extensions, which stay
    SELECT classid, objid FROM pg_depend WHERE deptype = 'e'
    UNION
    SELECT d.refclassid, d.refobjid FROM needed n JOIN pg_depend d ON d.classid = n.classid AND d.objid = n.objid AND d.deptype <> 'e'
),
object AS (
    SELECT 'pg_class'::regclass AS classid, oid AS objid, relnamespace AS nsp, relowner AS owner,
           CASE relkind WHEN 'v' THEN 1 WHEN 'm' THEN 1 WHEN 'S' THEN 3 ELSE 2 END AS rank
    FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
    UNION ALL SELECT 'pg_type'::regclass, t.oid, t.typnamespace, t.typowner, 5 FROM pg_type t
        WHERE t.typtype IN ('b', 'c', 'd', 'e', 'r', 'p')
          AND (t.typrelid = 0 OR EXISTS (SELECT FROM pg_class c WHERE c.oid = t.typrelid AND c.relkind = 'c'))
          AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid)
    UNION ALL SELECT 'pg_proc'::regclass, oid, pronamespace, proowner, 4 FROM pg_proc
    UNION ALL SELECT 'pg_operator'::regclass, oid, oprnamespace, oprowner, 4 FROM pg_operator
    UNION ALL SELECT 'pg_opclass'::regclass, oid, opcnamespace, opcowner, 4 FROM pg_opclass
    UNION ALL SELECT 'pg_opfamily'::regclass, oid, opfnamespace, opfowner, 5 FROM pg_opfamily
    UNION ALL SELECT 'pg_collation'::regclass, oid, collnamespace, collowner, 5 FROM pg_collation
    UNION ALL SELECT 'pg_conversion'::regclass, oid, connamespace, conowner, 4 FROM pg_conversion
    UNION ALL SELECT 'pg_ts_config'::regclass, oid, cfgnamespace, cfgowner, 4 FROM pg_ts_config
    UNION ALL SELECT 'pg_ts_dict'::regclass, oid, dictnamespace, dictowner, 5 FROM pg_ts_dict
    UNION ALL SELECT 'pg_ts_parser'::regclass, oid, prsnamespace, 10, 5 FROM pg_ts_parser
    UNION ALL SELECT 'pg_ts_template'::regclass, oid, tmplnamespace, 10, 5 FROM pg_ts_template
    UNION ALL SELECT 'pg_statistic_ext'::regclass, oid, stxnamespace, stxowner, 1 FROM pg_statistic_ext
    -- A schema that is empty then; public stays, and so does the home of an extension.
    UNION ALL SELECT 'pg_namespace'::regclass, oid, oid, nspowner, 9 FROM pg_namespace n
        WHERE nspname <> 'public' AND pg_has_role(nspowner, 'USAGE') AND NOT EXISTS (SELECT FROM pg_extension WHERE extnamespace = n.oid)
    -- What belongs to no schema is part of the whole database only.
    UNION ALL SELECT 'pg_event_trigger'::regclass, oid, NULL, evtowner, -2 FROM pg_event_trigger
    UNION ALL SELECT 'pg_publication'::regclass, oid, NULL, pubowner, -1 FROM pg_publication
    UNION ALL SELECT 'pg_cast'::regclass, k.oid, NULL, CASE WHEN pg_has_role(s.typowner, 'USAGE') THEN s.typowner ELSE t.typowner END, 4
        FROM pg_cast k JOIN pg_type s ON s.oid = k.castsource JOIN pg_type t ON t.oid = k.casttarget WHERE k.oid >= 16384
    UNION ALL SELECT 'pg_transform'::regclass, k.oid, NULL, t.typowner, 4
        FROM pg_transform k JOIN pg_type t ON t.oid = k.trftype WHERE k.oid >= 16384
    UNION ALL SELECT 'pg_foreign_server'::regclass, oid, NULL, srvowner, 7 FROM pg_foreign_server
    UNION ALL SELECT 'pg_foreign_data_wrapper'::regclass, oid, NULL, fdwowner, 8 FROM pg_foreign_data_wrapper
    UNION ALL SELECT 'pg_language'::regclass, oid, NULL, lanowner, 6 FROM pg_language WHERE oid >= 16384
    UNION ALL SELECT 'pg_am'::regclass, oid, NULL, 10, 6 FROM pg_am WHERE oid >= 16384
)
SELECT o.classid::oid                                                    AS class,
       o.objid                                                           AS oid,
       i.type                                                            AS type,
       CASE WHEN o.classid = 'pg_transform'::regclass
            THEN (SELECT format('FOR %s LANGUAGE %I', t.trftype::regtype, l.lanname)
                  FROM pg_transform t JOIN pg_language l ON l.oid = t.trflang WHERE t.oid = o.objid)
            ELSE i.identity END                                          AS identity, -- as DROP takes it
       o.nsp IS NOT NULL AND o.rank < 9                                  AS in_schema,
       (o.classid::oid, o.objid) IN (SELECT classid, objid FROM needed)  AS stays,
       pg_has_role(o.owner, 'USAGE')
         OR coalesce(pg_has_role(chosen.nspowner, 'USAGE'), false)       AS permitted,
       CASE WHEN o.classid = 'pg_class'::regclass AND o.rank = 2 THEN
            greatest((SELECT reltuples FROM pg_class WHERE oid = o.objid)::bigint, 0) ELSE 0 END AS rows,
       CASE WHEN o.classid = 'pg_class'::regclass THEN
            coalesce(pg_total_relation_size(o.objid), 0) ELSE 0 END      AS bytes,
       ARRAY(SELECT format('%s.%s', p.classid, p.objid) FROM pg_depend p JOIN pg_class s ON s.oid = p.objid
             WHERE o.classid = 'pg_class'::regclass AND p.refclassid = o.classid AND p.refobjid = o.objid
               AND p.classid = o.classid AND p.deptype = 'a' AND s.relkind = 'S') AS owns -- sequences, which go with it
FROM object o
LEFT JOIN chosen ON chosen.oid = o.nsp
LEFT JOIN (SELECT relid, max(level) AS level FROM depth GROUP BY relid) d
       ON o.classid = 'pg_class'::regclass AND d.relid = o.objid
CROSS JOIN LATERAL pg_identify_object(o.classid, o.objid, 0) i
WHERE (chosen.oid IS NOT NULL OR o.nsp IS NULL AND $1::text[] IS NULL)
  AND NOT EXISTS (SELECT FROM pg_depend p
                  WHERE p.classid = o.classid AND p.objid = o.objid AND p.objsubid = 0 AND p.deptype IN ('e', 'i'))
ORDER BY o.rank, coalesce(d.level, 0) DESC, o.objid::bigint DESC
