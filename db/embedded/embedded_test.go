package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"calco/cloner/pgtools"
	"calco/db/dbtest"
	"calco/db/embedded"
)

// childEnv makes this test binary a process that starts a server in the folder of that name, says its URL, and waits to
// be killed.
const childEnv = "CALCO_EMBEDDED_CHILD"

var fast = map[string]string{"fsync": "off", "shared_buffers": "16MB"}

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		s, err := embedded.Start(context.Background(), embedded.Options{Dir: dir, Loopback: true, Settings: fast})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(s.URL(""))
		select {}
	}
	os.Exit(dbtest.Main(m))
}

// newDir makes a folder that any user can pass through; t.TempDir is closed to the user who runs the server for root.
func newDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "calco-embedded-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	return dir
}

func start(t *testing.T, o embedded.Options) *embedded.Server {
	t.Helper()
	dbtest.Long(t)
	if o.Settings == nil {
		o.Settings = fast
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s, err := embedded.Start(ctx, o)
	var missing *pgtools.NotFoundError
	if errors.As(err, &missing) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, s) })
	return s
}

func stop(t *testing.T, s *embedded.Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		t.Error(err)
	}
}

// pid returns the number of the server's process.
func pid(t *testing.T, dir string) int {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(dir, "data", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(content), "\n")
	n, err := strconv.Atoi(line)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func alive(pid int) bool { return !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("never: %s", what)
		}
	}
}

func answers(t *testing.T, url string) bool {
	conn, err := pgconn.Connect(t.Context(), url)
	if err != nil {
		return false
	}
	return conn.Close(t.Context()) == nil
}

func TestStart(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		dir      string
		loopback bool
	}{
		{"socket", "plain", false},
		{"loopback", "plain", true},
		{"socket in a hostile folder", `it's a "folder" + 100% $HOME & ünï?`, false},
		{"loopback in a hostile folder", `it's a "folder" + 100% $HOME & ünï?`, true},
		{"socket path too long", strings.Repeat("long", 30), false},
		{"socket path with a comma", "a,b", false},
		{"missing parents", "x/y/z", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := embedded.Options{Dir: filepath.Join(newDir(t), tt.dir), Loopback: tt.loopback, Settings: map[string]string{
				"fsync": "off", "shared_buffers": "16MB", "cluster_name": `my "own" server`, "work_mem": "7MB",
				"listen_addresses": "*", // cannot be set
			}}
			s := start(t, o)
			if got := dbtest.Query(t, s.URL(""), "SHOW work_mem; SELECT current_setting('work_mem'), current_setting('cluster_name')"); got[0][0] != "7MB" || got[0][1] != `my "own" server` {
				t.Errorf("settings = %q, want the chosen ones", got[0])
			}
			wantListen := ""
			if tt.loopback {
				wantListen = "127.0.0.1"
			}
			if got := dbtest.Query(t, s.URL(""), "SHOW listen_addresses"); got[0][0] != wantListen {
				t.Errorf("listens on %q, want %q", got[0][0], wantListen)
			}
			made := dbtest.Query(t, s.URL(""), `
				SELECT pg_encoding_to_char(encoding), current_setting('data_checksums'), current_setting('password_encryption')
				FROM   pg_database WHERE datname = 'template1'`)
			if got := strings.Join(made[0], " "); got != "UTF8 on scram-sha-256" {
				t.Errorf("cluster is %q, want UTF8, checksums and scram-sha-256", got)
			}
			dbtest.Exec(t, s.URL(""), "CREATE TABLE kept (n int)")
			dbtest.Exec(t, s.URL(""), "INSERT INTO kept VALUES (42)")

			sockets := strings.Trim(dbtest.Query(t, s.URL(""), "SHOW unix_socket_directories")[0][0], `"`)
			url, server := s.URL(""), pid(t, s.Dir())
			stop(t, s)
			if alive(server) {
				t.Errorf("process %d runs after Stop", server)
			}
			if !tt.loopback {
				if _, err := os.Stat(sockets); sockets == "" || !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("socket folder %q after Stop: %v, want it gone", sockets, err)
				}
			}
			select {
			case <-s.Done():
			default:
				t.Error("Done is open after Stop")
			}
			if err := s.Err(); err != nil {
				t.Errorf("Err after Stop = %v", err)
			}
			if err := s.Restart(t.Context()); err == nil {
				t.Error("Restart after Stop did not fail")
			}

			s = start(t, o)
			if tt.loopback && s.URL("") != url {
				t.Errorf("URL of the second Start = %s, want %s", s.URL(""), url)
			}
			if got := dbtest.Query(t, s.URL(""), "SELECT n FROM kept"); len(got) != 1 || got[0][0] != "42" {
				t.Errorf("rows after the second Start = %v, want 42", got)
			}
		})
	}
}

func TestURLWorksWithLibpq(t *testing.T) {
	t.Parallel()
	psql, _, err := pgtools.Newest(t.Context(), "psql")
	if err != nil {
		if os.Getenv("CI") == "" {
			t.Skip(err)
		}
		t.Fatal(err)
	}
	for _, loopback := range []bool{false, true} {
		t.Run(fmt.Sprintf("loopback %v", loopback), func(t *testing.T) {
			t.Parallel()
			s := start(t, embedded.Options{Dir: filepath.Join(newDir(t), "with + and space"), Loopback: loopback})
			name := "a b+c%d/e?f&g"
			dbtest.Exec(t, s.URL(""), `CREATE DATABASE "`+name+`"`)
			out, err := exec.Command(psql, "-XAt", "-d", s.URL(name), "-c", "SELECT current_database()").CombinedOutput()
			if got := strings.TrimSpace(string(out)); err != nil || got != name {
				t.Errorf("psql says %q, %v, want %q", got, err, name)
			}
			wrong := strings.Replace(s.URL(""), "postgres:", "postgres:x", 2)
			if answers(t, wrong) {
				t.Error("the server takes a wrong password")
			}
		})
	}
}

func TestFilesAreClosedToOthers(t *testing.T) {
	t.Parallel()
	s := start(t, embedded.Options{Dir: filepath.Join(newDir(t), "d")})
	for name, want := range map[string]fs.FileMode{"password": 0o600, "data": 0o700, "socket": 0o700, "server.log": 0o600} {
		info, err := os.Stat(filepath.Join(s.Dir(), name))
		if err != nil {
			t.Error(err)
		} else if got := info.Mode().Perm(); got != want {
			t.Errorf("mode of %s = %o, want %o", name, got, want)
		}
	}
}

// PGPORT and its like belong to the servers that the user knows, and used to reach every program that libpq is in.
func TestEnvironmentDoesNotLeakIn(t *testing.T) {
	for name, value := range map[string]string{
		"PGPORT": "1", "PGDATA": "/nowhere", "PGHOST": "nowhere", "PGUSER": "nobody", "PGDATABASE": "none",
		"PGSSLMODE": "require", "PGOPTIONS": "-c work_mem=9MB", "LC_ALL": "xx_YY.nothing", "LANG": "xx_YY",
	} {
		t.Setenv(name, value)
	}
	s := start(t, embedded.Options{Dir: filepath.Join(newDir(t), "d"), Loopback: true})
	t.Setenv("PGOPTIONS", "") // for our own connection
	if got := dbtest.Query(t, s.URL(""), "SELECT current_user, current_database(), current_setting('work_mem')"); strings.Join(got[0], " ") != "postgres postgres 4MB" {
		t.Errorf("user, database and work_mem = %v, want the defaults", got[0])
	}
}
