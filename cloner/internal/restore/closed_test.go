package restore

import (
	"fmt"
	"testing"

	"calco/cloner/internal/marks"
	"calco/db/dbtest"
)

// The large objects that a part makes belong to nobody but their owner, whatever default privileges give (which they do
// since version 18; here they are granted in the transaction).
func TestLargeObjectsAreClosed(t *testing.T) {
	t.Parallel()
	target := dbtest.Database(t)
	anon := dbtest.Role(t, target)
	r := &Maker{places: places{defaultGrants: []defaultGrant{{Kind: "r", Grantees: "PUBLIC"}, {Kind: largeObjectKind, Grantees: "PUBLIC, " + anon}}}}
	dbtest.Exec(t, target, marks.CreateSQL())
	part := func(oid int) {
		dbtest.Exec(t, target, fmt.Sprintf(`BEGIN; CREATE TEMP TABLE calco_large_object (oid oid); INSERT INTO calco_large_object VALUES (%d), (%[1]d), (4711); %s
			GRANT SELECT ON LARGE OBJECT %[1]d TO PUBLIC, %[3]s; %[4]s COMMIT`, oid, marks.CreateLargeObjects, anon, r.CloseLargeObjects()))
	}
	part(4711)
	dbtest.Exec(t, target, "GRANT SELECT ON LARGE OBJECT 4711 TO "+anon) // as on the source
	part(4712)
	got := dbtest.Query(t, target, fmt.Sprintf("SELECT oid, coalesce(lomacl::text, '') ~ '(%s|[{,])=' FROM pg_largeobject_metadata ORDER BY 1", anon))
	if fmt.Sprint(got) != "[[4711 t] [4712 f]]" {
		t.Errorf("others may read: %v", got)
	}
	if sql := (&Maker{}).CloseLargeObjects(); sql != "" {
		t.Errorf("without default privileges: %s", sql)
	}
}
