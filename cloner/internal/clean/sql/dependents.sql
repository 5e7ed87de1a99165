-- What outside the chosen schemas ($1) depends on something inside them: clean would have
-- to take it along, and refuses instead. Everything that depends on the objects of the
-- schemas, directly or not, and the relation or schema each such thing belongs to.
WITH RECURSIVE chosen AS (
    SELECT oid FROM pg_namespace WHERE nspname = ANY ($1::text[])
),
dependent AS (
    SELECT d.classid, d.objid, d.objsubid
    FROM pg_depend s
    JOIN pg_depend d ON d.refclassid = s.classid AND d.refobjid = s.objid
    WHERE s.refclassid = 'pg_namespace'::regclass AND s.refobjid IN (SELECT oid FROM chosen)
      AND d.deptype <> 'e'
      AND s.classid <> 'pg_extension'::regclass -- it stays, and its members do
      AND NOT EXISTS (SELECT FROM pg_depend m WHERE m.classid = s.classid AND m.objid = s.objid AND m.deptype = 'e')
    UNION
    -- A publication of all tables of a schema loses it when the schema is dropped.
    SELECT s.classid, s.objid, s.objsubid
    FROM pg_depend s
    WHERE s.refclassid = 'pg_namespace'::regclass AND s.refobjid IN (SELECT oid FROM chosen)
      AND s.classid = to_regclass('pg_catalog.pg_publication_namespace')
    UNION
    SELECT d.classid, d.objid, d.objsubid
    FROM dependent t
    JOIN pg_depend d ON d.refclassid = t.classid AND d.refobjid = t.objid
                    AND (t.objsubid = 0 OR d.refobjsubid = t.objsubid)
    WHERE d.deptype <> 'e'
),
placed AS (
    SELECT t.*,
           CASE t.classid
               WHEN 'pg_class'::regclass THEN (SELECT relnamespace FROM pg_class WHERE oid = t.objid)
               WHEN 'pg_constraint'::regclass THEN (SELECT connamespace FROM pg_constraint WHERE oid = t.objid)
               WHEN 'pg_type'::regclass THEN (SELECT typnamespace FROM pg_type WHERE oid = t.objid)
               WHEN 'pg_proc'::regclass THEN (SELECT pronamespace FROM pg_proc WHERE oid = t.objid)
               WHEN 'pg_operator'::regclass THEN (SELECT oprnamespace FROM pg_operator WHERE oid = t.objid)
               WHEN 'pg_opclass'::regclass THEN (SELECT opcnamespace FROM pg_opclass WHERE oid = t.objid)
               WHEN 'pg_opfamily'::regclass THEN (SELECT opfnamespace FROM pg_opfamily WHERE oid = t.objid)
               WHEN 'pg_conversion'::regclass THEN (SELECT connamespace FROM pg_conversion WHERE oid = t.objid)
               WHEN 'pg_collation'::regclass THEN (SELECT collnamespace FROM pg_collation WHERE oid = t.objid)
               WHEN 'pg_ts_config'::regclass THEN (SELECT cfgnamespace FROM pg_ts_config WHERE oid = t.objid)
               WHEN 'pg_ts_dict'::regclass THEN (SELECT dictnamespace FROM pg_ts_dict WHERE oid = t.objid)
               WHEN 'pg_statistic_ext'::regclass THEN (SELECT stxnamespace FROM pg_statistic_ext WHERE oid = t.objid)
               WHEN 'pg_attrdef'::regclass THEN
                   (SELECT c.relnamespace FROM pg_attrdef a JOIN pg_class c ON c.oid = a.adrelid WHERE a.oid = t.objid)
               WHEN 'pg_trigger'::regclass THEN
                   (SELECT c.relnamespace FROM pg_trigger a JOIN pg_class c ON c.oid = a.tgrelid WHERE a.oid = t.objid)
               WHEN 'pg_rewrite'::regclass THEN
                   (SELECT c.relnamespace FROM pg_rewrite a JOIN pg_class c ON c.oid = a.ev_class WHERE a.oid = t.objid)
               WHEN 'pg_policy'::regclass THEN
                   (SELECT c.relnamespace FROM pg_policy a JOIN pg_class c ON c.oid = a.polrelid WHERE a.oid = t.objid)
           END AS nsp
    FROM dependent t
)
SELECT DISTINCT i.type || ' ' || i.identity AS name
FROM placed p
CROSS JOIN LATERAL pg_identify_object(p.classid, p.objid, p.objsubid) i
WHERE (p.nsp IS NULL OR p.nsp NOT IN (SELECT oid FROM chosen))
  AND p.nsp IS DISTINCT FROM 'pg_toast'::regnamespace
  -- Parts of operator families and default privileges go with what they are part of.
  AND p.classid NOT IN ('pg_amop'::regclass, 'pg_amproc'::regclass, 'pg_default_acl'::regclass)
ORDER BY 1
