-- Who holds a lock on what: all sessions and prepared transactions but this session, and the
-- objects of this database, an index standing for its table. A prepared transaction has no
-- process; it is known by the lock on its own number, which it holds under the same name.
SELECT CASE l.locktype WHEN 'relation' THEN 'pg_class'::regclass::oid ELSE l.classid END    AS class,
       CASE l.locktype WHEN 'relation' THEN coalesce(x.indrelid, l.relation) ELSE l.objid END AS oid,
       coalesce(l.pid, 0)                                                                    AS pid,
       coalesce(p.gid, '')                                                                   AS prepared,
       coalesce(a.application_name, '')                                                      AS application,
       coalesce(a.usename, p.owner, '')::text                                                AS role,
       coalesce(a.xact_start, p.prepared)                                                    AS since
FROM pg_locks l
LEFT JOIN pg_index x ON x.indexrelid = l.relation
LEFT JOIN pg_stat_activity a ON a.pid = l.pid
LEFT JOIN (pg_locks own JOIN pg_prepared_xacts p ON own.locktype = 'transactionid' AND own.transactionid = p.transaction)
       ON l.pid IS NULL AND own.pid IS NULL AND own.virtualtransaction = l.virtualtransaction
WHERE l.granted AND l.pid IS DISTINCT FROM pg_backend_pid() AND l.locktype IN ('relation', 'object')
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
ORDER BY since, l.pid
