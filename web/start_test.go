package web

import (
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"calco/cloner/jobs"
	"calco/cloner/report"
	"calco/db/dbtest"
)

// drawn are the states of the jobs that a page draws: of the one in full, and of those in the list below.
func drawn(page answer) (current string, list []string) {
	if found := regexp.MustCompile(`id="job"[^>]* data-status="([a-z]+)"`).FindStringSubmatch(page.body); found != nil {
		current = found[1]
	}
	for _, found := range regexp.MustCompile(`<li data-clone="([a-z2-7]+)"`).FindAllStringSubmatch(page.body, -1) {
		list = append(list, found[1])
	}
	return current, list
}

// What somebody sees first is decided when the page is asked for: S1 to S5.
func TestHome(t *testing.T) {
	t.Parallel()
	const form, reconnected = `id="clone-form"`, "Reconnected to the clone in progress"
	for _, tt := range []struct {
		status string
		age    string // since it ended
		shown  bool
		says   []string
	}{
		{"queued", "", true, []string{reconnected, `/events"`, ">Cancel<"}},
		{"running", "", true, []string{reconnected, `/events"`, ">Cancel<"}},
		{"failed", "1 hour 59 minutes", true, []string{"the disk of the target is full", "Clean target and retry"}},
		{"cancelled", "1 hour 59 minutes", true, []string{"Clean target and retry"}},
		{"refused", "1 hour 59 minutes", true, []string{"The target is not empty.", "Choose clean.", "Clean target and retry"}},
		{"failed", "2 hours 1 minute", false, nil},
		{"cancelled", "2 hours 1 minute", false, nil},
		{"refused", "2 hours 1 minute", false, nil},
		{"completed", "1 second", false, nil},
		{"differences", "1 second", false, nil},
	} {
		t.Run(tt.status+" "+tt.age, func(t *testing.T) {
			t.Parallel()
			f := newCloneFixture(t)
			id := f.start()
			switch tt.status {
			case "queued":
			case "running":
				f.claim(id)
			default:
				f.end(id, tt.status)
				f.change(id, `finished_at = now() - '`+tt.age+`'::interval`)
			}
			page := f.as(f.owner).get("/")
			current, list := drawn(page)
			if tt.shown != (current == tt.status) || tt.shown == strings.Contains(page.body, form) || len(list) != 0 {
				t.Errorf("the page draws %q and %v:\n%.3000s", current, list, page.body)
			}
			for _, text := range tt.says {
				says(t, page, text)
			}
			if tt.age != "" {
				lacks(t, page, reconnected)
				lacks(t, page, `/events"`)
			}
			if current, _ := drawn(f.as(f.other).get("/")); current != "" {
				t.Errorf("somebody else sees the job first, %s", current)
			}
		})
	}
}

// What runs comes before what went wrong, what was tried again is over, and the others' jobs are listed below.
func TestHomeOfSeveral(t *testing.T) {
	t.Parallel()
	f := newCloneFixture(t)
	v := f.as(f.owner)
	failed := f.ended("failed")
	again, err := f.server.jobs.Retry(t.Context(), f.owner, failed, jobs.Again{})
	if err != nil {
		t.Fatal(err)
	}
	f.finish(again, report.Report{Status: report.StatusCompleted})
	says(t, v.get("/"), `id="clone-form"`)

	older := f.start()
	f.claim(older)
	f.ended("failed")
	theirSource, theirTarget := f.pair(f.other)
	theirs := f.startBetween(theirSource, theirTarget)
	page := v.get("/")
	if current, list := drawn(page); current != "running" || fmt.Sprint(list) != fmt.Sprint([]string{theirs}) {
		t.Errorf("the page draws %q and %v, want the running job and %s", current, list, theirs)
	}
	says(t, page, eve)
	page = v.get("/clones/new")
	says(t, page, `id="clone-form"`)
	if current, list := drawn(page); current != "" || fmt.Sprint(list) != fmt.Sprint([]string{theirs, older}) {
		t.Errorf("beside the form are %q and %v, want %s and %s", current, list, theirs, older)
	}
	v.header.Set("Accept-Language", "es")
	says(t, v.get("/"), "Reconectado a la clonación en progreso")
}

// change changes the row of a job.
func (f *cloneFixture) change(id, set string) {
	f.t.Helper()
	dbtest.Exec(f.t, f.database, `UPDATE background_tasks SET `+set+` WHERE id = '`+id+`'`)
}

func (f *cloneFixture) task(id string) jobs.Task {
	f.t.Helper()
	task, err := f.store.Task(f.t.Context(), id)
	if err != nil {
		f.t.Fatal(err)
	}
	return task
}

func idOf(c jobs.Connection) string { return strconv.FormatInt(c.ID, 10) }

// chosen is the value of a select of the form.
func chosen(page answer, name string) string {
	_, rest, _ := strings.Cut(page.body, `id="`+name+`"`)
	rest, _, _ = strings.Cut(rest, "</select>")
	if found := regexp.MustCompile(`<option value="(\d*)"[^>]* selected`).FindStringSubmatch(rest); found != nil {
		return found[1]
	}
	return ""
}

// Whatever is refused comes back with what was typed, the reason at its place, and nothing was started.
func TestStartRefused(t *testing.T) {
	t.Parallel()
	f := newCloneFixture(t)
	source, target := f.pair(f.owner)
	read, written := f.pair(f.owner)
	running := f.startBetween(read, written)
	f.claim(running)
	queuedSource, queuedTarget := f.pair(f.owner)
	f.startBetween(queuedSource, queuedTarget)
	guarded := f.save(jobs.Connection{OwnerID: f.owner.ID, Name: "Guarded", Protected: true}, nowhere("guarded"))
	private := f.save(jobs.Connection{OwnerID: f.other.ID, Name: "Eve's own"}, nowhere("eves"))
	gone := f.save(jobs.Connection{OwnerID: f.owner.ID, Name: "Gone"}, nowhere("gone"))
	if err := f.forget(gone); err != nil {
		t.Fatal(err)
	}
	const lost = "This database is no longer there."
	jobs := f.query(`SELECT count(*) FROM background_tasks`)[0][0]
	v := f.as(f.owner)
	for _, tt := range []struct {
		name           string
		source, target string
		field, says    string
		unkept         string // the field that has nothing to keep
	}{
		{"nothing", "", "", "source", "Choose the database to copy from.", ""},
		{"no target", idOf(source), "", "target", "Choose the database to copy into.", ""},
		{"one database", idOf(source), idOf(source), "target", "Source and target are the same database.", ""},
		{"protected", idOf(source), idOf(guarded), "target", "This database is protected: it can never be a target.", ""},
		{"target of a running job", idOf(source), idOf(written), "target", "Another clone is writing to this target. Wait for it, or cancel it.", ""},
		{"target of a queued job", idOf(source), idOf(queuedTarget), "target", "Another clone is writing to this target. Wait for it, or cancel it.", ""},
		{"source of a running job", idOf(source), idOf(read), "target", "A running clone is reading from this database.", ""},
		{"from the target of a running job", idOf(written), idOf(target), "source", "A running clone is writing to this database.", ""},
		{"the source is gone", idOf(gone), idOf(target), "source", lost, "source"},
		{"the target is gone", idOf(source), idOf(gone), "target", lost, "target"},
		{"a private source", idOf(private), idOf(target), "source", lost, "source"},
		{"a private target", idOf(source), idOf(private), "target", lost, "target"},
		{"a word", "shop", idOf(target), "source", "Choose the database to copy from.", "source"},
		{"less than nothing", idOf(source), "-1", "target", lost, "target"},
		{"too much", "99999999999999999999", idOf(target), "source", "Choose the database to copy from.", "source"},
	} {
		for _, kept := range []url.Values{{}, {"scope": {"chosen"}, "schema": {"app", `odd "one"`}}} {
			form := url.Values{"source": {tt.source}, "target": {tt.target}}
			for name, values := range kept {
				form[name] = values
			}
			got := v.do("POST", "/clones", strings.NewReader(form.Encode()), formHeader)
			want(t, tt.name, got, "422")
			if at := regexp.MustCompile(`id="` + tt.field + `-error"[^>]*>` + regexp.QuoteMeta(tt.says)); !at.MatchString(got.body) {
				t.Errorf("%s: the field %s does not say %q:\n%.4000s", tt.name, tt.field, tt.says, got.body)
			}
			for name, typed := range map[string]string{"source": tt.source, "target": tt.target} {
				if name == tt.unkept {
					typed = ""
				}
				if now := chosen(got, name); now != typed {
					t.Errorf("%s: the %s is %q now, want %q", tt.name, name, now, typed)
				}
			}
			for _, name := range kept["schema"] {
				says(t, got, `name="schema" value="`+strings.ReplaceAll(name, `"`, "&#34;")+`"`)
			}
			lacks(t, got, "Eve&#39;s own")
			lacks(t, got, secret)
		}
	}
	if now := f.query(`SELECT count(*) FROM background_tasks`)[0][0]; now != jobs {
		t.Errorf("there are %s jobs, want %s", now, jobs)
	}
	if strings.Contains(f.log.String(), secret) {
		t.Error("the log has a password")
	}
}

// formHeader says that a body is a form.
var formHeader = map[string][]string{"Content-Type": {"application/x-www-form-urlencoded"}}

// A form that is complete starts what it says.
func TestStart(t *testing.T) {
	t.Parallel()
	f := newCloneFixture(t)
	source, _ := f.pair(f.owner)
	target, _ := f.real("Staging", shop)
	v := f.as(f.owner)
	form := []string{"source", idOf(source), "target", idOf(target), "scope", "chosen", "schema", "app", "schema", "odd 'one'", "clean", "yes", "verify", "contents"}
	page := v.post("/clones", form...)
	want(t, "without a confirmation", page, "422")
	says(t, page, `name="verify" value="contents" checked`)
	got := v.post("/clones", append(form, "confirm", target.Database, "shown", shown(t, page))...)
	id := f.newest()
	want(t, "start", got, "303 /clones/"+id)
	task := f.task(id)
	dbtest.Same(t, "user", task.UserID, f.owner.ID)
	dbtest.Same(t, "source", task.Source, source.Place())
	dbtest.Same(t, "target", task.Target, target.Place())
	dbtest.Same(t, "clean", task.Clean, true)
	dbtest.Same(t, "verify", task.Verify, report.VerifyContents)
	dbtest.Same(t, "schemas", fmt.Sprintf("%q", task.Schemas), `["app" "odd 'one'"]`)
	source, target = f.pair(f.owner)
	got = v.post("/clones", "source", idOf(source), "target", idOf(target), "scope", "all", "schema", "app")
	want(t, "all of it", got, "303 /clones/"+f.newest())
	if task := f.task(f.newest()); task.Clean || task.Verify != report.VerifySample || len(task.Schemas) != 0 {
		t.Errorf("started is %+v", task)
	}
}

// shop is a database with three schemas.
const shop = `
	CREATE TABLE public.a (id int); CREATE SCHEMA app; CREATE TABLE app.orders (id int); CREATE TABLE app.lines (id int);
	INSERT INTO app.orders SELECT generate_series(1, 1234); ANALYZE app.orders; CREATE SCHEMA "odd <one>"; CREATE TABLE "odd <one>".t (id int);`

// real saves a database of the owner that is there.
func (f *cloneFixture) real(name, sql string) (c jobs.Connection, leadsTo string) {
	f.t.Helper()
	leadsTo = dbtest.Database(f.t)
	dbtest.Exec(f.t, leadsTo, sql)
	return f.save(jobs.Connection{OwnerID: f.owner.ID, Name: name}, leadsTo), leadsTo
}

func TestSchemas(t *testing.T) {
	t.Parallel()
	f := newCloneFixture(t)
	source, _ := f.real("Shop", shop)
	away, target := f.pair(f.owner)
	v := f.as(f.owner)

	// The part alone, and the whole form: from its link, and for want of scripts.
	query := "source=" + idOf(source) + "&target=" + idOf(target) + "&scope=chosen&schema=app&schema=no+more"
	for what, got := range map[string]answer{
		"part": v.get("/clones/schemas?" + query), "page": v.get("/clones/new?" + query), "home": v.get("/?" + query),
		"button": v.do("POST", "/clones", strings.NewReader("do=schemas&"+query), formHeader),
	} {
		want(t, what, got, "200")
		for _, text := range []string{
			`name="schema" value="app" checked>`, `name="schema" value="public">`, `name="schema" value="odd &lt;one&gt;">`, "2 tables", "1 table",
			`name="scope" value="chosen" checked`,
		} {
			says(t, got, text)
		}
		lacks(t, got, `value="no more"`)
		if what != "part" && (chosen(got, "source") != idOf(source) || chosen(got, "target") != idOf(target)) {
			t.Errorf("%s: from %q into %q", what, chosen(got, "source"), chosen(got, "target"))
		}
	}

	got := v.post("/clones", "source", idOf(source), "target", idOf(target), "scope", "chosen")
	want(t, "none chosen", got, "422")
	says(t, got, `id="schemas-error">Choose at least one schema, or the whole database.`)
	says(t, got, `name="schema" value="app">`)

	got = v.get("/clones/schemas?scope=chosen&schema=app&source=" + idOf(away))
	want(t, "nobody answers", got, "200")
	says(t, got, `data-reason="host"`)
	says(t, got, `name="schema" value="app"`)
	lacks(t, got, secret)

	private := f.save(jobs.Connection{OwnerID: f.other.ID, Name: "Hers"}, nowhere("hers"))
	for _, from := range []string{"", "shop", idOf(private), "999999"} {
		got := v.get("/clones/schemas?scope=chosen&source=" + url.QueryEscape(from))
		want(t, "source "+from, got, "200")
		says(t, got, "The list is read from the source.")
		lacks(t, got, "data-reason")
	}
}

// A source that does not answer in time made an error page of the form, and what was typed was lost.
func TestSchemasOfBusySource(t *testing.T) {
	t.Parallel()
	c := newClones(t, library)
	c.hold("book")
	got := c.as(c.owner).post("/clones", "source", idOf(c.source), "target", idOf(c.source), "scope", "chosen", "schema", "office")
	want(t, "the source is locked", got, "422")
	for _, text := range []string{"The schemas could not be read from the source.", "lock timeout", `name="schema" value="office"`, "Source and target are the same database."} {
		says(t, got, text)
	}
}

// Whoever fills in the form can ask what is in the way, before anything is started.
func TestCloneCheck(t *testing.T) {
	t.Parallel()
	f := newCloneFixture(t)
	_, away := f.pair(f.owner)
	source, _ := f.real("Shop", shop)
	empty, _ := f.real("Empty", "")
	v := f.as(f.owner)
	check := func(source, target int64, more string) answer {
		return v.get(fmt.Sprintf("/clones/check?source=%d&target=%d%s", source, target, more))
	}
	got := check(source.ID, empty.ID, "")
	want(t, "nothing in the way", got, "200")
	says(t, got, "Nothing is in the way of this clone.")
	says(t, check(empty.ID, source.ID, ""), `data-reason="not_empty"`)
	says(t, check(empty.ID, source.ID, "&clean=yes"), "Nothing is in the way of this clone.")
	says(t, check(source.ID, source.ID, ""), `data-reason="same_database"`)
	says(t, check(source.ID, away.ID, ""), `data-reason="host"`)
	got = check(source.ID, 999999, "")
	want(t, "no such database", got, "200")
	lacks(t, got, "Nothing is in the way")
	if n := f.query(`SELECT count(*) FROM background_tasks`)[0][0]; n != "0" {
		t.Errorf("%s jobs were started", n)
	}
}

func TestCleanPreview(t *testing.T) {
	t.Parallel()
	const orders = "app.<wbr>orders"
	f := newCloneFixture(t)
	source, away := f.pair(f.owner)
	target, leadsTo := f.real("Staging", shop)
	v := f.as(f.owner)
	query := "source=" + idOf(source) + "&clean=yes&confirm=stag&target="
	for what, got := range map[string]answer{"part": v.get("/clones/clean?" + query + idOf(target)), "page": v.get("/clones/new?" + query + idOf(target))} {
		want(t, what, got, "200")
		for _, text := range []string{orders, "app.<wbr>lines", "1,234", `value="stag"`, "<code>" + target.Database + "</code>", "Objects", "Rows", "Data"} {
			says(t, got, text)
		}
	}
	got := v.get("/clones/clean?" + query + idOf(target) + "&scope=chosen&schema=public")
	says(t, got, "public.<wbr>a")
	lacks(t, got, orders)

	got = v.post("/clones", "source", idOf(source), "target", idOf(target), "clean", "yes", "confirm", "Staging")
	want(t, "the wrong name", got, "422")
	for _, text := range []string{`value="Staging"`, `id="confirm-error"`, "Type the name of the database exactly as it is shown.", orders, `value="yes" checked`} {
		says(t, got, text)
	}
	if n := f.query(`SELECT count(*) FROM background_tasks`)[0][0]; n != "0" {
		t.Errorf("%s jobs were started", n)
	}
	if n := dbtest.Query(t, leadsTo, `SELECT count(*) FROM app.orders`)[0][0]; n != "1234" {
		t.Errorf("looking at the target left %s orders", n)
	}

	got = v.get("/clones/clean?" + query + idOf(away))
	want(t, "nobody answers", got, "200")
	says(t, got, `data-reason="host"`)
	lacks(t, got, secret)
	lacks(t, got, `name="confirm"`)

	private := f.save(jobs.Connection{OwnerID: f.other.ID, Name: "Hers"}, leadsTo)
	for _, without := range []string{"clean=yes&target=", "clean=yes&target=shop", "clean=yes&target=" + idOf(private), "target=" + idOf(target)} {
		got := v.get("/clones/clean?" + without)
		want(t, without, got, "200")
		lacks(t, got, orders)
		lacks(t, got, `name="confirm"`)
	}
}

// What has the identity of a protected database may be a fork of it: whoever says so may have it as a target.
func TestForkIsConfirmed(t *testing.T) {
	t.Parallel()
	f := newCloneFixture(t)
	source, _ := f.pair(f.owner)
	target, _ := f.real("Branch", shop)
	first := f.startBetween(source, target)
	f.end(first, "failed")
	guarded := f.save(jobs.Connection{OwnerID: f.other.ID, Name: "Eve's own", Protected: true}, nowhere("guarded"))
	f.query(fmt.Sprintf(`UPDATE connections SET system_identifier = '7', database_oid = 7 WHERE id IN (%d, %d) RETURNING id`, target.ID, guarded.ID))
	v := f.as(f.owner)
	retry := "/clones/" + first + "/retry"
	lacks(t, v.get("/clones/new"), `name="fork"`)
	lacks(t, v.get(retry), `name="fork"`)

	form := []string{"source", idOf(source), "target", idOf(target)}
	confirm := []string{"confirm", target.Database, "shown", shown(t, v.get(retry))}
	for what, got := range map[string]answer{"start": v.post("/clones", form...), "retry": v.post(retry, confirm...)} {
		want(t, what, got, "422")
		says(t, got, "The target has the identity of a protected database.")
		says(t, got, `name="fork"`)
		lacks(t, got, "Eve&#39;s own")
	}
	got := v.post(retry, append(confirm, "fork", "yes")...)
	want(t, "confirmed retry", got, "303 /clones/"+f.newest())
	f.end(f.newest(), "failed")
	got = v.post("/clones", append(form, "fork", "yes")...)
	want(t, "confirmed start", got, "303 /clones/"+f.newest())
	if confirmed := f.query(`SELECT count(*) FROM background_tasks WHERE fork`)[0][0]; confirmed != "2" {
		t.Errorf("%s jobs know that their target is a fork", confirmed)
	}
}
