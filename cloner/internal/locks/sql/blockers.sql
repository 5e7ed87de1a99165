-- Which backends of application $1 wait for a lock of this database, and for whom: sessions of
-- others, and prepared transactions, which have no process. A lock that the source's own functions
-- take is theirs to wait for.
SELECT coalesce(quote_ident(n.nspname) || '.' || quote_ident(c.relname), 'a ' || l.locktype) AS what,
       'pg_class'::regclass::oid AS class, coalesce(l.relation, 0) AS oid, blocker.pid, '' AS prepared,
       coalesce(b.application_name, '')                                                      AS application,
       coalesce(b.usename::text, '')                                                         AS role,
       b.xact_start                                                                          AS since
FROM pg_stat_activity a
JOIN pg_locks l ON l.pid = a.pid AND NOT l.granted AND l.locktype <> 'advisory'
CROSS JOIN LATERAL unnest(pg_blocking_pids(a.pid)) AS blocker (pid)
LEFT JOIN pg_stat_activity b ON b.pid = blocker.pid
LEFT JOIN pg_class c ON c.oid = l.relation
LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE a.application_name = $1
  AND a.datname = current_database()
  AND b.application_name IS DISTINCT FROM $1
ORDER BY 1, 2
