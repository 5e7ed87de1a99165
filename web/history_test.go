package web

import (
	"fmt"
	"html"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"calco/cloner/jobs"
	"calco/cloner/report"
	"calco/cloner/runner"
	"calco/db/dbtest"
)

// rowsOf are the jobs of the history on a page.
func rowsOf(page answer) (ids []string) {
	for _, found := range regexp.MustCompile(`<tr data-clone="([a-z2-7]+)"`).FindAllStringSubmatch(page.body, -1) {
		ids = append(ids, found[1])
	}
	return ids
}

// link returns where the first link leads whose tag matches a pattern, or "".
func link(page answer, pattern string) string {
	tag := regexp.MustCompile(`<a [^>]*` + pattern + `[^>]*>`).FindString(page.body)
	found := regexp.MustCompile(` href="([^"]*)"`).FindStringSubmatch(tag)
	if found == nil {
		return ""
	}
	return html.UnescapeString(found[1])
}

func TestHistory(t *testing.T) {
	t.Parallel()
	f := newCloneFixture(t)
	v := f.as(f.other)
	says(t, v.get("/history"), "No clones yet")
	source, target := f.pair(f.owner)
	ended := map[string]string{}
	var newestFirst []string
	for _, status := range []string{"completed", "differences", "failed", "cancelled", "refused", "queued"} {
		ended[status] = f.startBetween(source, target)
		if status != "queued" {
			f.end(ended[status], status)
		}
		newestFirst = slices.Insert(newestFirst, 0, ended[status])
	}
	theirSource, theirTarget := f.pair(f.other)
	theirs := f.startBetween(theirSource, theirTarget, func(n *jobs.NewTask) { n.Schemas = []string{"app", "a&b"} })
	all := append([]string{theirs}, newestFirst...)
	for query, ids := range map[string][]string{
		"":                              all,
		"?state=completed":              {ended["completed"]},
		"?state=differences":            {ended["differences"]},
		"?state=failed":                 {ended["failed"]},
		"?state=cancelled":              {ended["cancelled"]},
		"?state=refused":                {ended["refused"]},
		"?state=queued":                 {theirs, ended["queued"]},
		"?state=running":                nil,
		"?state=stalled":                all, // no state that is stored: no filter
		"?state=nonsense":               all,
		"?database=nonsense":            all,
		"?database=999999":              nil,
		"?database=" + idOf(target):     newestFirst,
		"?database=" + idOf(source):     newestFirst,
		"?before=nonsense":              nil,
		"?before=" + ended["cancelled"]: newestFirst[3:],
		"?state=queued&database=" + idOf(theirTarget):    {theirs},
		"?state=completed&database=" + idOf(theirTarget): nil,
	} {
		page := v.get("/history" + query)
		want(t, query, page, "200")
		if got := rowsOf(page); !slices.Equal(got, ids) {
			t.Errorf("%s: %v, want %v", query, got, ids)
		}
		if len(ids) == 0 {
			says(t, page, "Nothing matches")
		}
	}
	page := v.get("/history?state=failed&database=" + idOf(theirTarget))
	for _, text := range []string{`value="failed" selected`, `value="` + idOf(theirTarget) + `" selected`} {
		says(t, page, text)
	}
	page = v.get("/history")
	for _, text := range []string{bob, eve, `data-status="failed"`, `data-status="refused"`} {
		says(t, page, text)
	}
	lacks(t, page, secret)
	lacks(t, page, ">"+source.Name+"</option>") // which is private to somebody else

	// Clone again is filled in, where the databases are to be had.
	again := link(page, `aria-label="Clone again like `+theirs)
	if got := link(page, `aria-label="Clone again like `+ended["completed"]); got != "" {
		t.Errorf("with databases that she does not see: %s", got)
	}
	form := v.get(again)
	want(t, again, form, "200")
	if chosen(form, "source") != idOf(theirSource) || chosen(form, "target") != idOf(theirTarget) {
		t.Errorf("from %q into %q", chosen(form, "source"), chosen(form, "target"))
	}
	for _, text := range []string{`value="chosen" checked`, `name="schema" value="app"`, `name="schema" value="a&amp;b"`} {
		says(t, form, text)
	}
	lacks(t, form, `id="clean" name="clean" value="yes" checked`)
}

// Of many jobs each is on one page, whatever the filter, and the newest page is one click away.
func TestHistoryPages(t *testing.T) {
	t.Parallel()
	f := newCloneFixture(t)
	v := f.as(f.owner)
	source, target := f.pair(f.owner)
	first := f.startBetween(source, target)
	f.end(first, "failed")
	dbtest.Exec(t, f.database, `
		INSERT INTO background_tasks (id, user_id, owner, status, source_id, target_id, source, target, clean, error, created_at, started_at, finished_at)
		SELECT 'aaaaaaa' || substr('abcdefghijklmnopqrstuvwxyz', 1 + n / 26, 1) || substr('abcdefghijklmnopqrstuvwxyz', 1 + n % 26, 1) || 'a',
		       user_id, owner, status, source_id, target_id, source, target, clean, error,
		       created_at - (n / 10) * interval '1 hour', created_at, finished_at -- ten at a time: the id decides then
		FROM   background_tasks, generate_series(1, 119) n`)
	var seen []string
	path := "/history?state=failed&database=" + idOf(target)
	for sizes := []int{50, 50, 20}; ; path = link(v.get(path), `rel="next"`) {
		if path == "" || len(sizes) == 0 {
			if path != "" || len(sizes) != 0 {
				t.Errorf("after %d jobs the next page is %q", len(seen), path)
			}
			break
		}
		if q, err := url.ParseQuery(strings.TrimPrefix(path, "/history?")); err != nil || q.Get("state") != "failed" || q.Get("database") != idOf(target) {
			t.Errorf("the next page has lost the filter: %s", path)
		}
		page := v.get(path)
		rows := rowsOf(page)
		if len(rows) != sizes[0] {
			t.Errorf("%s has %d jobs, want %d", path, len(rows), sizes[0])
		}
		if len(seen) > 0 {
			says(t, page, `href="/history?database=`+idOf(target)+`&amp;state=failed">Newest`)
		}
		seen, sizes = append(seen, rows...), sizes[1:]
	}
	slices.Sort(seen)
	if n := len(slices.Compact(seen)); n != 120 {
		t.Errorf("the pages have %d different jobs, want 120", n)
	}
}

// The list of a job's tables is filtered and paged by the server, and its page has some size whatever there is.
func TestTables(t *testing.T) {
	t.Parallel()
	f := newCloneFixture(t)
	v := f.as(f.other)
	id := f.start()
	f.claim(id)
	dbtest.Exec(t, f.database, `
		INSERT INTO task_tables (task_id, relation, status, rows, bytes, size, built, to_build)
		SELECT '`+id+`', 'app."Table ' || n || ' ' || repeat('<', 40) || '"',
		       CASE WHEN n <= 3 THEN 'copying' WHEN n <= 5 THEN 'failed' ELSE 'done' END, n, n, 10000 - n, 0, 0
		FROM   generate_series(1, 10000) n;
		ANALYZE task_tables`)
	names := func(page answer) (list []string) {
		for _, found := range regexp.MustCompile(`Table (\d+) `).FindAllStringSubmatch(strings.ReplaceAll(page.body, "<wbr>", ""), -1) {
			if !slices.Contains(list, found[1]) {
				list = append(list, found[1])
			}
		}
		return list
	}
	numbers := func(from, to int) (list []string) {
		for n := from; n <= to; n++ {
			list = append(list, fmt.Sprint(n))
		}
		return list
	}
	for _, tt := range []struct {
		query string
		list  []string
		says  string
	}{
		{"", numbers(1, 50), "1–50 of 10,000"},
		{"?from=50", numbers(51, 100), "51–100 of 10,000"},
		{"?from=9990", numbers(9991, 10000), "9,991–10,000 of 10,000"},
		{"?from=10000", nil, ""},
		{"?from=-5", numbers(1, 50), "1–50 of 10,000"},
		{"?from=x", numbers(1, 50), "1–50 of 10,000"},
		{"?from=99999999999999999999", numbers(1, 50), ""},
		{"?state=nonsense", numbers(1, 50), "1–50 of 10,000"},
		{"?state=failed", numbers(4, 5), "1–2 of 2"},
		{"?state=copying&table=TABLE+2", numbers(2, 2), "1–1 of 1"},
		{"?table=table+999", append([]string{"999"}, numbers(9990, 9999)...), "1–11 of 11"},
		{"?table=%25", nil, "No table matches"},
		{"?table=no_such", nil, ""},
	} {
		part := v.get("/clones/" + id + "/tables" + tt.query)
		page := v.get("/clones/" + id + tt.query)
		for what, got := range map[string]answer{"part": part, "page": page} {
			want(t, what+tt.query, got, "200")
			if list := names(got); !slices.Equal(list, tt.list) {
				t.Errorf("%s%s: %v, want %v", what, tt.query, list, tt.list)
			}
			says(t, got, tt.says)
			if len(got.body) > 256<<10 {
				t.Errorf("%s%s has %d bytes", what, tt.query, len(got.body))
			}
		}
		lacks(t, part, "<html")
	}
	next := link(v.get("/clones/"+id+"/tables?state=done&table=table&from=50"), `hx-get="[^"]*from=100`)
	if got := names(v.get(strings.TrimSuffix(next, "#tables"))); !slices.Equal(got, numbers(106, 155)) {
		t.Errorf("%s: %v", next, got)
	}
}

// The log has the newest lines, the newest first.
func TestLog(t *testing.T) {
	t.Parallel()
	f := newCloneFixture(t)
	v := f.as(f.other)
	id := f.start()
	says(t, v.get("/clones/"+id+"/log"), "Nothing has happened yet.")
	beat := runner.Beat{Run: f.claim(id), Event: 1}
	for n := range 250 {
		beat.Events = append(beat.Events, report.Event{Kind: report.EventWarning, Phase: report.PhaseCopy, Object: "TABLE <a>", Text: report.Said(fmt.Sprintf("line %d.", n))})
	}
	beat.Events = append(beat.Events, report.Event{Kind: report.EventPhaseBegun, Phase: report.PhaseIndexes})
	f.beat(beat)
	for what, got := range map[string]answer{"part": v.get("/clones/" + id + "/log"), "page": v.get("/clones/" + id)} {
		want(t, what, got, "200")
		for _, text := range []string{"line 249.", "line 51.", "TABLE &lt;a&gt;", "Indexes"} {
			says(t, got, text)
		}
		lacks(t, got, "line 50.")
		if strings.Index(got.body, "line 249.") > strings.Index(got.body, "line 248.") {
			t.Errorf("%s: the newest line is not the first", what)
		}
	}
}
