package cloner

import (
	"fmt"
	"testing"

	"calco/db/dbtest"
)

// Large objects go in parts of bytes, however few they are: one of several gigabytes was one transaction, which needed twice
// its size on the target's disk, and began anew with each lost connection. Small ones share a part.
func TestLargeObjectParts(t *testing.T) {
	t.Parallel()
	source, target := dbtest.Database(t), dbtest.Database(t)
	owner := "role_" + NewJob()[:12]
	dbtest.Exec(t, source, fmt.Sprintf(`CREATE ROLE %s;
		SELECT lo_create(20000 + n) FROM generate_series(1, 1200) n WHERE n <> 601;
		SELECT lo_from_bytea(20601, convert_to(repeat('0123456789abcdef', 200000), 'UTF8')); -- 3.2 MB
		SELECT lo_from_bytea(4294967295, 'the last OID');
		SELECT lo_from_bytea(30000 + n, convert_to(repeat('x', 300000), 'UTF8')) FROM generate_series(1, 10) n;
		ALTER LARGE OBJECT 20601 OWNER TO %[1]s; GRANT SELECT ON LARGE OBJECT 20601 TO PUBLIC; COMMENT ON LARGE OBJECT 20601 IS 'large'`, owner))
	const size = 1 << 20
	s, err := open(t.Context(), Source, URL(source), nil, "test")
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	if err := s.exec(t.Context(), "BEGIN"); err != nil {
		t.Fatal(err)
	}
	r := &run{spec: Spec{PartSize: size}, meter: &Meter{}}
	parts, err := r.largeObjectParts(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	var pieces, bytes int64
	for _, p := range parts {
		bytes += p.large.Bytes
		if p.large.IsPiece {
			pieces++
		}
		if p.large.Bytes > 2*size || p.large.Last-p.large.First > 2*largeObjectsAPart && p.large.Bytes == 0 {
			t.Errorf("a part of %+v", p.large)
		}
	}
	if pieces != 4 || bytes != 3_200_000+12+3_000_000 || len(parts) < 10 || len(parts) > 16 {
		t.Errorf("%d parts, %d pieces, %d bytes", len(parts), pieces, bytes)
	}
	mustComplete(t, Spec{Source: URL(source), Target: URL(target), PartSize: size, Lanes: 4})
	mustEqual(t, source, target, `SELECT m.oid, lomowner::regrole, lomacl::text, md5(lo_get(m.oid)), length(lo_get(m.oid)), obj_description(m.oid, 'pg_largeobject') FROM pg_largeobject_metadata m ORDER BY 1`)
}
