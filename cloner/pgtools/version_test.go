package pgtools

import "testing"

func TestParseVersion(t *testing.T) {
	for _, tt := range []struct {
		line string
		want Version
		text string
	}{
		{"pg_dump (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)", 150020, "15.20"},
		{"postgres (PostgreSQL) 18beta1", 180000, "18.0"},
		{"postgres (PostgreSQL) 17devel", 170000, "17.0"},
		{"pg_dump (PostgreSQL) 16rc1", 160000, "16.0"},
		{"initdb (PostgreSQL) 10.23", 100023, "10.23"},
		{"pg_dump (PostgreSQL) 9.6.24", 90624, "9.6.24"},
		{"postgres (PostgreSQL) 16.3 - Percona Server for PostgreSQL 16.3.1", 160003, "16.3"},
	} {
		got, err := parseVersion(tt.line)
		if err != nil {
			t.Errorf("parseVersion(%q): %v", tt.line, err)
			continue
		}
		if got != tt.want || got.String() != tt.text {
			t.Errorf("parseVersion(%q) = %d (%s), want %d (%s)", tt.line, got, got, tt.want, tt.text)
		}
	}
	for _, line := range []string{"", "15.20", "pg_dump (PostgreSQL)", "pg_dump (PostgreSQL) devel", "sh: not found"} {
		if got, err := parseVersion(line); err == nil {
			t.Errorf("parseVersion(%q) = %d, want an error", line, got)
		}
	}
}

func TestVersionOrder(t *testing.T) {
	v := Version(150020)
	if v.Major() != 15 || v.Minor() != 20 {
		t.Errorf("major and minor of %d = %d, %d, want 15, 20", v, v.Major(), v.Minor())
	}
	for _, older := range []Version{90624, 140099, 150003} {
		if older >= v {
			t.Errorf("%s is not older than %s", older, v)
		}
	}
}
