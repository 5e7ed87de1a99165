package jobs_test

import (
	"testing"

	"calco/cloner/jobs"
)

func TestPlaces(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name        string
		one, other  string
		same, meets bool
	}{
		{"the same", "db.example.org:5432", "db.example.org:5432", true, true},
		{"upper case, and the dot of the root", "DB.example.org.:5432", "db.example.org:5432", true, true},
		{"another port", "db.example.org:5432", "db.example.org:5433", false, false},
		{"another host", "db.example.org:5432", "db2.example.org:5432", false, false},
		{"this machine", "localhost:5432", "127.0.0.1:5432", true, true},
		{"this machine, version 6", "localhost:5432", "[::1]:5432", true, true},
		{"an address of version 4 within 6", "[::ffff:192.0.2.1]:5432", "192.0.2.1:5432", true, true},
		{"no port", "db.example.org:", "db.example.org:5432", true, true},
		{"one of several", "a.example.org,b.example.org:5432", "B.example.org:5432", false, true},
		{"each with a port", "a.example.org,b.example.org:5432,5433", "b.example.org:5432", false, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p, q := jobs.Place{Address: c.one, Database: "d"}, jobs.Place{Address: c.other, Database: "d"}
			if p.Same(q) != c.same || q.Same(p) != c.same || p.Meets(q) != c.meets || q.Meets(p) != c.meets {
				t.Errorf("same %t, meets %t; want %t, %t", p.Same(q), p.Meets(q), c.same, c.meets)
			}
			if q.Database = "other"; p.Same(q) || p.Meets(q) {
				t.Error("two databases of one server are taken for one")
			}
		})
	}
}
