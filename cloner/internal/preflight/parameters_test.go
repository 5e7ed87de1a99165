package preflight

import (
	"testing"

	"calco/cloner/dsn"
	"calco/cloner/pgtools"
	"calco/cloner/report"
)

// pg_dump was given no require_auth where it does not know it, and would have answered in clear text.
func TestParameterReasons(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		parameters string
		version    pgtools.Version
		want       int
	}{
		{"require_auth=scram-sha-256", 150020, 1},
		{"require_auth=scram-sha-256", 160000, 0},
		{"sslmode=require&sslnegotiation=direct", 160000, 1},
		{"sslmode=require&sslnegotiation=direct", 170000, 0},
		{"sslnegotiation=postgres&channel_binding=require", 150020, 0},
		{"require_auth=md5", 0, 0}, // that there is none is said elsewhere
	} {
		got := parameterReasons(report.Source, dsn.URL("postgres://u@h/d?"+tt.parameters), tt.version)
		if len(got) != tt.want || len(got) > 0 && got[0].Code != report.ReasonClientTools {
			t.Errorf("%s with %s: %+v, want %d", tt.parameters, tt.version, got, tt.want)
		}
	}
}

// A certificate that pg_dump cannot check stopped a clone when all its rows were there.
func TestRootsReasons(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		parameters string
		version    pgtools.Version
		bundle     string
		want       int
	}{
		{"sslmode=verify-full", 150020, "", 1},
		{"sslmode=verify-full&sslrootcert=system", 150020, "", 1},
		{"sslmode=verify-full&sslrootcert=system", 150020, "/roots.pem", 0},
		{"sslmode=verify-full&sslrootcert=/own.pem", 150020, "", 0},
		{"sslmode=verify-full", 160000, "", 0},
		{"sslmode=verify-ca", 160000, "", 1},
		{"sslmode=require", 150020, "", 0},
	} {
		info, err := dsn.Parse("postgres://u@h/d?" + tt.parameters)
		if err != nil {
			t.Fatal(err)
		}
		got := rootsReasons(report.Target, info, tt.version, tt.bundle)
		if len(got) != tt.want || len(got) > 0 && got[0].Code != report.ReasonClientTools {
			t.Errorf("%s with %s and %q: %+v, want %d", tt.parameters, tt.version, tt.bundle, got, tt.want)
		}
	}
}
