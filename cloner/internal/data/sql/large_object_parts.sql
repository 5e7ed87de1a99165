-- The large objects of the source as parts of about $1 bytes, or of $2 objects where these are
-- small: ranges of OIDs, or of the bytes of one that is larger than a part by itself. Only
-- superusers see sizes in the catalogs, so each object is asked where it ends: 262144 is
-- INV_READ, 2 is SEEK_END. OFFSET 0 keeps the planner from calling a function twice.
WITH object AS (
    SELECT o.oid, o.size, o.size > $1::bigint AS is_large, o.size + $1::bigint / $2::int AS weight
    FROM (SELECT f.oid, f.size, lo_close(f.fd)
          FROM (SELECT d.oid, d.fd, lo_lseek64(d.fd, 0, 2) AS size
                FROM (SELECT m.oid, lo_open(m.oid, 262144) AS fd FROM pg_largeobject_metadata m OFFSET 0) d OFFSET 0) f OFFSET 0) o
),
placed AS (
    SELECT oid, size, is_large,
           count(*) FILTER (WHERE is_large) OVER before                                      AS large_before,
           (sum(CASE WHEN is_large THEN 0 ELSE weight END) OVER before - weight)::bigint / $1::bigint AS bucket
    FROM object
    WINDOW before AS (ORDER BY oid)
)
SELECT min(oid)::bigint AS first, max(oid)::bigint AS last, 0::bigint AS from_byte, $1::bigint AS to_byte, sum(size)::bigint AS bytes
FROM placed
WHERE NOT is_large
GROUP BY large_before, bucket
UNION ALL
SELECT oid::bigint, oid::bigint, part * $1::bigint, (part + 1) * $1::bigint, least(size - part * $1::bigint, $1::bigint)
FROM placed, generate_series(0, (size - 1) / $1::bigint) part
WHERE is_large
ORDER BY first, from_byte
