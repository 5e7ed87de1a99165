package cloner

import (
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"calco/cloner/dsn"
	"calco/cloner/report"
	"calco/db/dbtest"
)

// What the environment of whoever runs Calco says of PostgreSQL is about other databases.
func TestEnvironmentIsIgnored(t *testing.T) {
	source, target := dbtest.Database(t), dbtest.Database(t)
	dbtest.Exec(t, source, "CREATE TABLE a AS SELECT 1 AS n")
	home := t.TempDir()
	const everything = "*:*:*:*:wrong\n"
	if err := os.WriteFile(filepath.Join(home, ".pgpass"), []byte(everything), 0o600); err != nil {
		t.Fatal(err)
	}
	for k, v := range map[string]string{
		"HOME": home, "PGPASSFILE": filepath.Join(home, ".pgpass"), "PGHOST": "nowhere.invalid", "PGHOSTADDR": "192.0.2.1", "PGPORT": "1",
		"PGUSER": "nobody", "PGPASSWORD": "wrong", "PGDATABASE": "none", "PGSERVICE": "none", "PGSERVICEFILE": "/nonexistent",
		"PGOPTIONS": "-c search_path=nowhere -c default_transaction_isolation=serializable", "PGTZ": "Asia/Tokyo", "PGAPPNAME": "x",
		"PGSSLMODE": "verify-full", "PGSSLROOTCERT": "/nonexistent", "PGSSLCERT": "/nonexistent", "PGSSLKEY": "/nonexistent", "PGSSLNEGOTIATION": "direct",
		"PGCHANNELBINDING": "require", "PGREQUIREAUTH": "none", "PGTARGETSESSIONATTRS": "read-only", "PGMINPROTOCOLVERSION": "latest",
		"PGMAXPROTOCOLVERSION": "0", "PGCONNECT_TIMEOUT": "x", "PGSSLCERTMODE": "x", "PGSSLSNI": "x", "PGCLIENTENCODING": "LATIN1",
	} {
		t.Setenv(k, v)
	}
	mustComplete(t, Spec{Source: dsn.URL(source), Target: dsn.URL(target)})
	if got := os.Getenv("PGSERVICE"); got != "none" {
		t.Errorf("PGSERVICE is %q now", got) // it is the whole process's
	}

	// A URL without password gets none from the file either.
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.User(u.User.Username())
	result := mustEnd(t, Spec{Source: dsn.URL(source), Target: dsn.URL(u.String())}, Options{}, report.StatusRefused)
	if got := result.Reasons[0].Code; got != report.ReasonCredentials {
		t.Errorf("without password: reason %s, want %s", got, report.ReasonCredentials)
	}
	cfg, err := dsn.URL("postgres://u:p@h/d").Config("a", nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := map[string]string{"application_name": "a"}; !maps.Equal(cfg.RuntimeParams, want) {
		t.Errorf("startup parameters %v, want %v", cfg.RuntimeParams, want)
	}
}
