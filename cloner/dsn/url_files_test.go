package dsn

import (
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"calco/db/dbtest"
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
			if _, err := u.Config("a", nil); !errors.Is(err, ErrSettings) {
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
		{"postgres://u@h,/d", "leaves out a host"},
		{"host=@abstract user=u dbname=d", "leaves out a host"},
		{"postgres://u@h/d?passfile=/dev/zero", "parameter"},
		{"postgres://u@h/d?service=x", "parameter"},
		{"postgres://u@h/d?hostaddr=127.0.0.1", "parameter"},
	} {
		err := URL(tt.url).CheckRemote(nil)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", tt.url, err, tt.want)
		}
	}
}

// The files of one folder may be read where the operator allows it, and no others, whatever leads out of it. No connection
// of a saved database is made with others, whoever asks for it.
func TestFilesOfFolder(t *testing.T) {
	t.Parallel()
	outside, folder := t.TempDir(), t.TempDir()
	for _, file := range []string{filepath.Join(outside, "secret"), filepath.Join(folder, "ca.pem"), filepath.Join(folder, "in", "ca.pem")} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, []byte(dbtest.NewAuthority(t).PEM), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	inside := filepath.Join(t.TempDir(), "link") // to the folder, which may itself be named by a link
	if err := errors.Join(os.Symlink(filepath.Join(outside, "secret"), filepath.Join(folder, "out")), os.Symlink(folder, inside)); err != nil {
		t.Fatal(err)
	}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	relative, err := filepath.Rel(here, filepath.Join(folder, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		folder, file string
		may          bool
	}{
		{folder, folder + "/ca.pem", true},
		{folder, folder + "/in/ca.pem", true},
		{folder, folder + "/in/../ca.pem", true},
		{folder, inside + "/ca.pem", true},
		{inside, folder + "/ca.pem", true},
		{folder, folder + "/../" + filepath.Base(outside) + "/secret", false},
		{folder, outside + "/secret", false},
		{folder, folder + "/out", false},
		{folder, folder + "/missing", false},
		{folder, relative, false},
		{filepath.Join(folder, "in"), folder + "/ca.pem", false},
		{"", folder + "/ca.pem", false},
	} {
		u := URL("postgres://u:p@127.0.0.1:1/d?sslmode=verify-full&sslrootcert=" + url.QueryEscape(tt.file))
		hosts := HostPolicy{Certificates: tt.folder}.Of(true)
		if err := u.CheckRemote(hosts); (err == nil) != tt.may {
			t.Errorf("%s, with %s allowed: %v", tt.file, tt.folder, err)
		}
		if _, err := u.Config("a", hosts); (err == nil) != tt.may {
			t.Errorf("connect with %s, with %s allowed: %v", tt.file, tt.folder, err)
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
		cfg, err := URL(u).Config("a", nil)
		if err != nil || cfg.ConnectTimeout != want {
			t.Errorf("%q: %v, want %v", typed, err, want)
			continue
		}
		info, err := Parse(u)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.ForLibpq("a", 15); typed != "" && typed != "7" && !strings.Contains(got, "connect_timeout='60'") {
			t.Errorf("%q: pg_dump gets %s", typed, got)
		}
	}
}

// pg_dump before version 16 took "system" for the name of a file, after all rows were copied.
func TestPgDumpGetsSystemRoots(t *testing.T) {
	bundle := filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(bundle, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSL_CERT_FILE", bundle)
	for parameters, want := range map[string]string{
		"sslmode=verify-full&sslrootcert=system": bundle, "sslmode=verify-full": bundle, "sslmode=verify-ca": bundle,
		"sslmode=verify-full&sslrootcert=/own": "/own",
	} {
		info, err := Parse("postgres://u@h/d?" + parameters)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.ForLibpq("a", 15); !strings.Contains(got, "sslrootcert='"+want+"'") {
			t.Errorf("%s: pg_dump gets %s", parameters, got)
		}
	}
}
