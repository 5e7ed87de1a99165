package db_test

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"calco/cloner/jobs"
	"calco/db/dbtest"
)

const hash = "$argon2id$v=19$m=1,t=1,p=1$c2FsdA$aGFzaA"

func TestUsers(t *testing.T) {
	t.Parallel()
	store, url := openAt(t)
	ctx := t.Context()
	if has, err := store.HasUsers(ctx); err != nil || has {
		t.Errorf("users at first: %v, %v", has, err)
	}
	u, err := store.AddUser(ctx, "Ada@example.org", jobs.RoleAdmin, hash)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.AddUser(ctx, "ada@EXAMPLE.org", jobs.RoleMember, ""); !errors.Is(err, jobs.ErrTaken) {
		t.Errorf("the same address: %v, want ErrTaken", err)
	}
	for _, bad := range []string{"", "ada", "a b@c", "a@b@c", strings.Repeat("x", 251) + "@y.z"} {
		if _, err := store.AddUser(ctx, bad, jobs.RoleMember, ""); err == nil {
			t.Errorf("%q is taken for an address", bad)
		}
	}
	if _, err := store.AddUser(ctx, "b@example.org", jobs.RoleMember, "plain text"); err == nil {
		t.Error("a password is stored that is not hashed")
	}
	got, kept, err := store.Credentials(ctx, "ADA@example.org")
	if err != nil || got.ID != u.ID || kept != hash || !got.Admin() {
		t.Errorf("credentials = %+v %q, %v", got, kept, err)
	}
	if _, _, err := store.Credentials(ctx, "nobody@example.org"); !errors.Is(err, jobs.ErrNotFound) {
		t.Errorf("credentials of nobody: %v", err)
	}
	b := addUser(t, store, jobs.RoleMember)
	if _, _, err := store.StartSession(ctx, b.ID, jobs.Client{}); err != nil {
		t.Fatal(err)
	}
	dbtest.Exec(t, url, "UPDATE sessions SET last_seen_at = now() - interval '1 hour'")
	if _, _, err := store.StartSession(ctx, b.ID, jobs.Client{}); err != nil {
		t.Fatal(err)
	}
	all, err := store.Users(ctx)
	if err != nil || len(all) != 2 {
		t.Fatalf("users = %+v, %v, want two", all, err)
	}
	dbtest.Same(t, "first user", all[0].ID, u.ID)
	dbtest.Same(t, "first user, never seen", all[0].LastSeenAt.IsZero(), true)
	newest := dbtest.Query(t, url, "SELECT max(last_seen_at) = '"+all[1].LastSeenAt.Format(time.RFC3339Nano)+"' FROM sessions")[0][0]
	dbtest.Same(t, "second user, seen in the newest session", newest, "t")
}

func TestLastAdminStays(t *testing.T) {
	t.Parallel()
	store := open(t)
	ctx := t.Context()
	one := addUser(t, store, jobs.RoleAdmin)
	if err := store.RemoveUser(ctx, one.ID); !errors.Is(err, jobs.ErrConflict) {
		t.Errorf("remove the last admin: %v, want ErrConflict", err)
	}
	if err := store.RemoveUser(ctx, one.ID+1000); !errors.Is(err, jobs.ErrNotFound) {
		t.Errorf("remove nobody: %v, want ErrNotFound", err)
	}
	if err := store.RemoveUser(ctx, addUser(t, store, jobs.RoleMember).ID); err != nil {
		t.Errorf("remove a member: %v", err)
	}
	// Admins who remove each other at the same time leave one.
	for range 10 {
		two := addUser(t, store, jobs.RoleAdmin)
		var errs [2]error
		var all sync.WaitGroup
		for i, id := range []int64{one.ID, two.ID} {
			all.Go(func() { errs[i] = store.RemoveUser(ctx, id) })
		}
		all.Wait()
		gone := slices.IndexFunc(errs[:], func(err error) bool { return err == nil })
		if gone < 0 || !errors.Is(errs[1-gone], jobs.ErrConflict) {
			t.Fatalf("remove both: %v", errs)
		}
		if gone == 0 {
			one = two
		}
	}
}

// Attempts at the same time used to find that none was counted: the statement did not see what the others had written.
func TestAttemptsAtOnce(t *testing.T) {
	t.Parallel()
	store := open(t)
	ctx := t.Context()
	for round := range 20 {
		var mu sync.Mutex
		var tried, waits int
		var all sync.WaitGroup
		for range 12 {
			all.Go(func() {
				wait, err := store.AttemptSignIn(ctx, "bob@example.org", "")
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err != nil:
					t.Error(err)
				case wait == 0:
					tried++
				case wait > 3*time.Second:
					t.Errorf("wait %s", wait)
				default:
					waits++
				}
			})
		}
		all.Wait()
		if tried != 5 || waits != 7 {
			t.Fatalf("round %d: %d attempts and %d waits, want 5 and 7", round, tried, waits)
		}
		if err := store.ForgiveSignIn(ctx, "BOB@example.org", ""); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAttemptsWait(t *testing.T) {
	t.Parallel()
	store, url := openAt(t)
	ctx := t.Context()
	attempt := func() time.Duration {
		t.Helper()
		wait, err := store.AttemptSignIn(ctx, "bob@example.org", "")
		if err != nil {
			t.Fatal(err)
		}
		return wait.Round(time.Second)
	}
	var waits []time.Duration
	for range 16 {
		if wait := attempt(); wait != 0 {
			t.Fatalf("attempt waits %s", wait)
		}
		waits = append(waits, attempt()) // refused, or free: then it counts
		dbtest.Exec(t, url, "UPDATE signin_attempts SET next_at = now()")
	}
	want := []time.Duration{0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300, 300, 300}
	for i := range want {
		want[i] *= time.Second
	}
	if !slices.Equal(waits, want) {
		t.Errorf("waits = %v, want %v", waits, want)
	}
	dbtest.Exec(t, url, "UPDATE signin_attempts SET last_at = now() - interval '25 hours', next_at = now() - interval '24 hours'")
	for i := range 5 {
		if wait := attempt(); wait != 0 {
			t.Errorf("attempt %d of the next day waits %s", i+1, wait)
		}
	}
}

func TestSweep(t *testing.T) {
	t.Parallel()
	store, url := openAt(t)
	ctx := t.Context()
	u := addUser(t, store, jobs.RoleAdmin)
	for range 3 {
		if _, _, err := store.StartSession(ctx, u.ID, jobs.Client{Agent: "x\x00\xff" + strings.Repeat("ñ", 500)}); err != nil {
			t.Fatal(err)
		}
		if _, err := store.NewUserLink(ctx, jobs.LinkReset, u.ID); err != nil {
			t.Fatal(err)
		}
	}
	for _, email := range []string{"a@example.org", "b@example.org"} {
		if _, err := store.AttemptSignIn(ctx, email, ""); err != nil {
			t.Fatal(err)
		}
	}
	dbtest.Exec(t, url, `
		UPDATE sessions SET created_at = now() - interval '40 days', expires_at = now() - interval '10 days' WHERE id = 1;
		UPDATE sessions SET last_seen_at = now() - interval '8 days' WHERE id = 2;
		UPDATE links SET created_at = now() - interval '2 days', expires_at = now() - interval '1 day' WHERE id = 1;
		UPDATE links SET used_at = now() - interval '2 days' WHERE id = 2;
		UPDATE signin_attempts SET last_at = now() - interval '2 days' WHERE account = (SELECT account FROM signin_attempts LIMIT 1)`)
	if err := store.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	got := dbtest.Query(t, url, "SELECT (SELECT string_agg(id::text, ' ') FROM sessions), (SELECT string_agg(id::text, ' ') FROM links), (SELECT count(*) FROM signin_attempts)")
	if !slices.Equal(got[0], []string{"3", "3", "1"}) {
		t.Errorf("left: %v, want the third session, the third link and one counter", got)
	}
}

func TestLinkOnce(t *testing.T) {
	t.Parallel()
	store := open(t)
	ctx := t.Context()
	u := addUser(t, store, jobs.RoleMember)
	token, err := store.NewUserLink(ctx, jobs.LinkSignIn, u.ID)
	if err != nil {
		t.Fatal(err)
	}
	errs := make([]error, 8)
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() { _, errs[i] = store.UseLink(ctx, token, "", "") })
	}
	all.Wait()
	used := 0
	for _, err := range errs {
		switch {
		case err == nil:
			used++
		case !errors.Is(err, jobs.ErrUsedUp):
			t.Error(err)
		}
	}
	if used != 1 {
		t.Errorf("the link was good %d times", used)
	}
	if _, err := store.NewUserLink(ctx, jobs.LinkReset, u.ID+1000); !errors.Is(err, jobs.ErrNotFound) {
		t.Errorf("a link for nobody: %v", err)
	}
	if err := store.Uninvite(ctx, 1); !errors.Is(err, jobs.ErrNotFound) { // that one is no invitation
		t.Errorf("take a sign-in link back: %v", err)
	}
}
