package db_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"calco/cloner/dsn"
	"calco/cloner/jobs"
	"calco/db"
	"calco/db/dbtest"
)

func TestKeyFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "key")
	keys := make([]db.Key, 8)
	var all sync.WaitGroup
	for i := range keys { // processes that start at once get one key
		all.Go(func() {
			var err error
			if keys[i], err = db.KeyFile(path); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for _, key := range keys {
		if key != keys[0] || key == (db.Key{}) {
			t.Fatal("the keys are not one, or none")
		}
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".key-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := os.Chmod(path, 0o640); err != nil { //nolint:gosec // this is what is refused
		t.Fatal(err)
	}
	if _, err := db.KeyFile(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a file that others can read: %v", err)
	}
}

func TestParseKey(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "secret", "c2hvcnQ=", strings.Repeat("A", 43) + "=", strings.Repeat("A", 60)} {
		if _, err := db.ParseKey(text); err == nil || !strings.Contains(err.Error(), "openssl rand -base64 32") || text != "" && strings.Contains(err.Error(), text) {
			t.Errorf("ParseKey(%q): %v", text, err)
		}
	}
	if _, err := db.ParseKey("q83vASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4k=\n"); err != nil {
		t.Error(err)
	}
}

func TestWrongKey(t *testing.T) {
	t.Parallel()
	url, key := dbtest.Database(t), newKey()
	openKey(t, url, key)
	openKey(t, url, key)
	if _, err := db.Open(t.Context(), url, newKey()); !errors.Is(err, db.ErrWrongKey) {
		t.Errorf("with another key: %v", err)
	}
	keyless := openKey(t, url, db.Key{})
	u := addUser(t, keyless, jobs.RoleAdmin)
	if _, err := keyless.AddConnection(t.Context(), jobs.Connection{OwnerID: u.ID, Name: "a", Environment: jobs.Staging}, "postgres://u:pw@h/d"); err == nil {
		t.Error("a URL was saved without a key")
	}
}

func TestConnections(t *testing.T) {
	t.Parallel()
	store, url := openAt(t)
	ana, bea := addUser(t, store, jobs.RoleMember), addUser(t, store, jobs.RoleMember)
	secret := dsn.URL("postgres://app:s3cret%2Fpw@db.example.org:6543/shop")
	private := saveURL(t, store, ana, "shop", secret, protected)
	team := save(t, store, ana, "Team", shared)

	dbtest.Same(t, "saved address", private.Address, "db.example.org:6543")
	dbtest.Same(t, "saved database", private.Database, "shop")
	dbtest.Same(t, "saved user", private.User, "app")
	dbtest.Same(t, "saved protection", private.Protected, true)
	dbtest.Same(t, "saved owner", private.Owner, ana.Email)
	if got, _, err := store.ConnectionURL(t.Context(), private.ID); err != nil || got != secret {
		t.Errorf("its URL: %v, %v", got, err)
	}
	if _, err := store.AddConnection(t.Context(), jobs.Connection{OwnerID: ana.ID, Name: "SHOP", Environment: jobs.Staging}, secret); !errors.Is(err, jobs.ErrTaken) {
		t.Errorf("a second one of the name: %v", err)
	}
	save(t, store, bea, "shop")

	private.Name, private.Environment, private.Protected = "Shop 2", jobs.Production, false
	if err := change(t, store, private, ""); err != nil {
		t.Fatal(err)
	}
	if got, _, err := store.ConnectionURL(t.Context(), private.ID); err != nil || got != secret {
		t.Errorf("the URL after a change without one: %v, %v", got, err)
	}
	if err := change(t, store, private, "host=other user=me dbname=elsewhere"); err != nil {
		t.Fatal(err)
	}
	got, err := store.Connection(t.Context(), private.ID)
	if err != nil {
		t.Fatal(err)
	}
	dbtest.Same(t, "changed name", got.Name, "Shop 2")
	dbtest.Same(t, "changed environment", got.Environment, jobs.Production)
	dbtest.Same(t, "changed protection", got.Protected, false)
	dbtest.Same(t, "changed address", got.Address, "other:5432")
	dbtest.Same(t, "changed database", got.Database, "elsewhere")
	dbtest.Same(t, "changed user", got.User, "me")
	private.Name = "team"
	if err := change(t, store, private, ""); !errors.Is(err, jobs.ErrTaken) {
		t.Errorf("a name that is taken: %v", err)
	}
	if err := change(t, store, jobs.Connection{ID: 999, Name: "x", Environment: jobs.OtherUse}, ""); !errors.Is(err, jobs.ErrNotFound) {
		t.Errorf("one that is not there: %v", err)
	}

	dump := fmt.Sprint(dbtest.Query(t, url, `SELECT c::text FROM connections c`))
	if strings.Contains(dump, "s3cret") {
		t.Error("the password can be read in the database")
	}
	// A sealed URL that is moved to another row is worthless.
	dbtest.Exec(t, url, fmt.Sprintf(`UPDATE connections SET url_sealed = (SELECT url_sealed FROM connections WHERE id = %d) WHERE id = %d`, private.ID, team.ID))
	if got, _, err := store.ConnectionURL(t.Context(), team.ID); err == nil {
		t.Errorf("the moved URL was opened: %v", got)
	}
	if err := store.RemoveConnection(t.Context(), private.ID, anybody); err != nil {
		t.Fatal(err)
	}
	if err := store.RemoveConnection(t.Context(), private.ID, anybody); !errors.Is(err, jobs.ErrNotFound) {
		t.Errorf("removed twice: %v", err)
	}
}

// What the team shares outlives its owner; what nobody else sees does not.
func TestConnectionsOfRemovedUser(t *testing.T) {
	t.Parallel()
	store := open(t)
	admin, ana := addUser(t, store, jobs.RoleAdmin), addUser(t, store, jobs.RoleMember)
	private, team := save(t, store, ana, "private"), save(t, store, ana, "team", shared)
	if err := store.RemoveUser(t.Context(), ana.ID); err != nil {
		t.Fatal(err)
	}
	if _, _, err := store.ConnectionURL(t.Context(), private.ID); !errors.Is(err, jobs.ErrNotFound) {
		t.Errorf("the private one: %v", err)
	}
	got, err := store.Connection(t.Context(), team.ID)
	if err != nil || got.OwnerID != 0 || got.Owner != "" || !jobs.MayChange(admin, got) {
		t.Errorf("the shared one: %+v, %v", got, err)
	}
}

func TestOwnsDatabase(t *testing.T) {
	t.Parallel()
	store, url := openAt(t)
	cases := []struct {
		name string
		url  string
		want bool
	}{
		{"itself", url, true},
		{"under another name", strings.Replace(url, "127.0.0.1", "localhost", 1), true},
		{"another database of the server", dbtest.Database(t), false},
		{"nothing there", "postgres://u:pw@127.0.0.1:1/d", false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got, err := store.OwnsDatabase(t.Context(), dsn.URL(c.url), nil); err != nil || got != c.want {
				t.Errorf("OwnsDatabase = %v, %v, want %v", got, err, c.want)
			}
		})
	}
}

// A URL that somebody has typed says all by itself: nothing of the server's own environment gets into it.
func TestURLInheritsNothing(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("[calco]\nhost=inherited\nuser=inherited\n*:*:*:*:inherited\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"PGHOST": "inherited", "PGUSER": "inherited", "PGDATABASE": "inherited", "PGPASSWORD": "inherited", "PGPORT": "1",
		"PGSERVICE": "calco", "PGSERVICEFILE": secret, "PGPASSFILE": secret, "PGOPTIONS": "-c inherited=1", "PGSSLROOTCERT": secret,
	} {
		t.Setenv(name, value)
	}
	for _, url := range []dsn.URL{"postgres:///", "postgres://h/d", "dbname=d host=h", "postgres://u@/d", "service=calco"} {
		if url.Check() == nil {
			t.Errorf("%v is taken, though it does not say all", url)
		}
	}
	url := dsn.URL("postgres://me@example.org/mine")
	if err := url.Check(); err != nil {
		t.Fatal(err)
	}
	config, err := url.Config("calco", nil)
	if err != nil {
		t.Fatal(err)
	}
	dbtest.Same(t, "host", config.Host, "example.org")
	dbtest.Same(t, "port", config.Port, 5432)
	dbtest.Same(t, "user", config.User, "me")
	dbtest.Same(t, "database", config.Database, "mine")
	dbtest.Same(t, "a password", config.Password != "", false)
	dbtest.Same(t, "options", config.RuntimeParams["options"], "")
}
