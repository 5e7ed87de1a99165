package data

import (
	"testing"

	"calco/cloner/dsn"
	"calco/cloner/internal/session"
	"calco/cloner/report"
	"calco/db/dbtest"
)

// Large objects go in parts of bytes, however few they are: one of several gigabytes was one transaction, which needed twice
// its size on the target's disk, and began anew with each lost connection. Small ones share a part.
func TestLargeObjectParts(t *testing.T) {
	t.Parallel()
	source := dbtest.Database(t)
	dbtest.Exec(t, source, `		SELECT lo_create(20000 + n) FROM generate_series(1, 1200) n WHERE n <> 601;
		SELECT lo_from_bytea(20601, convert_to(repeat('0123456789abcdef', 200000), 'UTF8')); -- 3.2 MB
		SELECT lo_from_bytea(4294967295, 'the last OID');
		SELECT lo_from_bytea(30000 + n, convert_to(repeat('x', 300000), 'UTF8')) FROM generate_series(1, 10) n`)
	const size = 1 << 20
	s, err := session.Open(t.Context(), report.Source, dsn.URL(source), nil, "test")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Exec(t.Context(), "BEGIN"); err != nil {
		t.Fatal(err)
	}
	r := &Copier{PartSize: size}
	parts, err := r.largeObjectParts(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	var pieces, bytes int64
	for _, p := range parts {
		bytes += p.large.Bytes
		if p.large.First == 20601 && p.large.Last == 20601 {
			pieces++
		}
		if p.large.Bytes > 2*size || p.large.Last-p.large.First > 2*largeObjectsAPart && p.large.Bytes == 0 {
			t.Errorf("a part of %+v", p.large)
		}
	}
	if pieces != 4 || bytes != 3_200_000+12+3_000_000 || len(parts) < 10 || len(parts) > 16 {
		t.Errorf("%d parts, %d pieces, %d bytes", len(parts), pieces, bytes)
	}
}
