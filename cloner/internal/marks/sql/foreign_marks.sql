-- What makes the schema _calco somebody else's: an object in it that Calco does not make, what
-- outside it depends on it, and, where it lacks the row of a job that all versions of Calco
-- know, the schema itself.
WITH calco AS (
    SELECT oid FROM pg_namespace WHERE nspname = '_calco'
),
own AS ( -- the tables, and what belongs to them
    SELECT 'pg_class'::regclass::oid AS classid, c.oid AS objid
    FROM pg_class c
    WHERE c.relnamespace = (SELECT oid FROM calco) AND c.relkind = 'r'
      AND c.relname IN ('job', 'epoch', 'stage', 'kept', 'large_object', 'mark', 'unlogged_mark', 'version')
),
dependent AS (
    SELECT d.classid, d.objid FROM pg_depend d
    WHERE d.refclassid = 'pg_namespace'::regclass AND d.refobjid = (SELECT oid FROM calco)
    UNION
    SELECT d.classid, d.objid FROM own o JOIN pg_depend d ON d.refclassid = o.classid AND d.refobjid = o.objid
    WHERE d.deptype NOT IN ('a', 'i')
)
SELECT i.type || ' ' || i.identity AS name
FROM dependent d
CROSS JOIN LATERAL pg_identify_object(d.classid, d.objid, 0) i
WHERE (d.classid, d.objid) NOT IN (SELECT classid, objid FROM own)
  AND i.type IS NOT NULL -- else it is gone by now
  -- A constraint between two of the tables.
  AND NOT EXISTS (SELECT FROM pg_constraint k
                  WHERE d.classid = 'pg_constraint'::regclass AND k.oid = d.objid AND k.conrelid IN (SELECT objid FROM own))
UNION ALL
SELECT 'schema _calco' FROM calco
WHERE (SELECT count(*) FROM pg_attribute
       WHERE attrelid = to_regclass('_calco.job') AND attname IN ('id', 'term') AND NOT attisdropped) < 2
ORDER BY 1
