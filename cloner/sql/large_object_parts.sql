SELECT min(oid)::bigint AS first, max(oid)::bigint AS last
FROM (SELECT oid, (row_number() OVER (ORDER BY oid) - 1) / $1::int AS part FROM pg_largeobject_metadata) m
GROUP BY part
ORDER BY part
