-- The large objects from one OID to another, or some bytes of one, in pieces of 1 MB; an empty
-- one is one empty piece. 262144 is INV_READ, 2 is SEEK_END. OFFSET 0 keeps the planner from
-- calling a function twice.
SELECT o.oid, piece.pos, lo_get(o.oid, piece.pos, 1048576)
FROM (SELECT f.oid, f.size, lo_close(f.fd)
      FROM (SELECT d.oid, d.fd, lo_lseek64(d.fd, 0, 2) AS size
            FROM (SELECT m.oid, lo_open(m.oid, 262144) AS fd
                  FROM pg_largeobject_metadata m
                  WHERE m.oid BETWEEN '%[1]d'::oid AND '%[2]d'::oid OFFSET 0) d OFFSET 0) f OFFSET 0) o,
     generate_series(%[3]d, least(greatest(o.size - 1, 0), %[4]d - 1), 1048576) piece(pos)
