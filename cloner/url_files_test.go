package cloner

import (
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A file without an end took the process with it, and a pipe that nobody writes to held a worker for ever.
func TestFilesOfURLAreRegularAndSmall(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pipe, large := filepath.Join(dir, "pipe"), filepath.Join(dir, "large")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(large, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(large, maxFile+1); err != nil {
		t.Fatal(err)
	}
	for _, key := range fileKeywords {
		for _, file := range []string{"/dev/zero", "/dev/stdin", pipe, large, dir, filepath.Join(dir, "missing")} {
			u := URL("postgres://u:p@127.0.0.1:1/d?" + key + "=" + url.QueryEscape(file))
			if _, err := u.Config("a"); !errors.Is(err, errSettings) {
				t.Errorf("%s of %s: %v, want an error", file, key, err)
			}
		}
	}
}

func TestCheckRemote(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ url, want string }{
		{"postgres://u:p@db.example.com/d?sslmode=verify-full&sslrootcert=system", ""},
		{"postgres://u:p@a,b/d", ""},
		{"postgres://u:p@h/d?sslrootcert=/dev/zero", "names a file with sslrootcert"},
		{"postgres://u:p@h/d?sslmode=disable&sslcert=system", "names a file with sslcert"},
		{"host=h user=u dbname=d sslkey=/etc/calco/key", "names a file with sslkey"},
		{"postgres://u@%2Fvar%2Frun%2Fpostgresql/d", "leads to a socket"},
		{"postgres://u@h,%2Fvar%2Frun%2Fpostgresql/d", "leads to a socket"},
		{"postgres://u@h,/d", "leads to a socket"},
		{"host=@abstract user=u dbname=d", "leads to a socket"},
		{"postgres://u@h/d?host=/tmp", "leads to a socket"},
		{"postgres://u@h/d?passfile=/dev/zero", "parameter"},
		{"postgres://u@h/d?service=x", "parameter"},
		{"postgres://u@h/d?hostaddr=127.0.0.1", "parameter"},
	} {
		err := URL(tt.url).CheckRemote()
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", tt.url, err, tt.want)
		}
	}
}

// libpq waits for ever with 0, and pgx with a number so large that it is less than nothing in nanoseconds.
func TestConnectTimeoutIsBounded(t *testing.T) {
	t.Parallel()
	for typed, want := range map[string]time.Duration{
		"": 15 * time.Second, "7": 7 * time.Second, "0": maxConnect * time.Second, "-1": maxConnect * time.Second,
		"10000000000": maxConnect * time.Second, "99999999999999999999": maxConnect * time.Second,
	} {
		u := "postgres://u@h/d"
		if typed != "" {
			u += "?connect_timeout=" + typed
		}
		cfg, err := URL(u).Config("a")
		if err != nil || cfg.ConnectTimeout != want {
			t.Errorf("%q: %v, want %v", typed, err, want)
			continue
		}
		info, err := parseConninfo(u)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.forLibpq("a", 150000); typed != "" && typed != "7" && !strings.Contains(got, "connect_timeout='60'") {
			t.Errorf("%q: pg_dump gets %s", typed, got)
		}
	}
}
