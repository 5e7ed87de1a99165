-- What guards a DROP by name, in its own transaction. calco_guard goes before it, for the
-- object $2 of catalog $1: it notes what would go with it, and raises, by a division, if
-- that is more than its own parts and the objects of $3. With CASCADE ($4) that is all
-- that depends on it, and what those are part of; else what is dropped in silence, such as
-- a sequence that a column owns. calco_taken goes after it: the locks of the transaction
-- tell what was dropped. It raises if that is not the object, because another has its name
-- by now, or more than was noted, because something has come in between.
DEALLOCATE ALL;
PREPARE calco_guard(oid, oid, text[], boolean) AS
WITH RECURSIVE part(classid, objid) AS (
    VALUES ($1, $2)
    UNION
    SELECT e.classid, e.objid
    FROM part p CROSS JOIN LATERAL (
        SELECT d.classid, d.objid FROM pg_depend d
        WHERE d.refclassid = p.classid AND d.refobjid = p.objid
          AND CASE WHEN $4 THEN d.deptype <> 'e' ELSE d.deptype IN ('a', 'i', 'P', 'S') END
        UNION ALL
        SELECT d.refclassid, d.refobjid FROM pg_depend d
        WHERE $4 AND d.classid = p.classid AND d.objid = p.objid AND d.deptype IN ('a', 'e', 'i')
    ) e
)
SELECT length(set_config('calco.parts', string_agg(format('%s.%s', p.classid, p.objid), ' '), true)),
       1 / (count(*) FILTER (WHERE
           -- What has a life of its own: see contents.sql.
           p.classid IN ('pg_class'::regclass, 'pg_type'::regclass, 'pg_proc'::regclass, 'pg_operator'::regclass, 'pg_opclass'::regclass,
                         'pg_opfamily'::regclass, 'pg_collation'::regclass, 'pg_conversion'::regclass, 'pg_ts_config'::regclass,
                         'pg_ts_dict'::regclass, 'pg_ts_parser'::regclass, 'pg_ts_template'::regclass, 'pg_statistic_ext'::regclass,
                         'pg_event_trigger'::regclass, 'pg_publication'::regclass, 'pg_cast'::regclass, 'pg_transform'::regclass,
                         'pg_foreign_server'::regclass, 'pg_foreign_data_wrapper'::regclass, 'pg_language'::regclass, 'pg_am'::regclass,
                         'pg_extension'::regclass)
           AND (p.classid, p.objid) <> ($1, $2) AND format('%s.%s', p.classid, p.objid) <> ALL ($3)
           AND NOT EXISTS (SELECT FROM pg_class c WHERE p.classid = 'pg_class'::regclass AND c.oid = p.objid AND c.relkind IN ('i', 'I', 't'))
           AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = p.classid AND d.objid = p.objid AND d.objsubid = 0 AND d.deptype = 'i')
       ) = 0)::int
FROM part p;
PREPARE calco_taken(oid, oid) AS
SELECT 1 / (coalesce(bool_or(t.classid = $1 AND t.objid = $2), false)
            AND coalesce(bool_and(format('%s.%s', t.classid, t.objid) = ANY (string_to_array(current_setting('calco.parts'), ' '))), true))::int
FROM (SELECT CASE l.locktype WHEN 'relation' THEN 'pg_class'::regclass::oid ELSE l.classid END  AS classid,
             CASE l.locktype WHEN 'relation' THEN l.relation ELSE l.objid END                   AS objid
      FROM pg_locks l
      WHERE l.pid = pg_backend_pid() AND l.granted AND l.mode = 'AccessExclusiveLock' AND l.locktype IN ('relation', 'object')
        -- A subscription's position goes with it.
        AND (l.locktype = 'relation' OR l.classid <> 'pg_replication_origin'::regclass)
        -- A table that had a foreign key to the dropped one, or was its parent, is locked and stays.
        AND (l.locktype = 'object' OR NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = l.relation))) t
