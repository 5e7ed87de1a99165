package web

import (
	"fmt"
	"testing"

	"calco/cloner/report"
)

// A job that a newer version of Calco has written has its page, and its row in the history.
func TestJobOfANewerVersion(t *testing.T) {
	t.Parallel()
	f := newCloneFixture(t)
	v := f.as(f.owner)
	for _, status := range []string{"completed", "differences", "failed", "refused", "running"} {
		id := f.start()
		set := `report = report || '{"version": %[1]d, "differences": 3, "epochs": "all"}', `
		if status == "running" {
			f.claim(id)
			set = ""
		} else {
			f.end(id, status)
		}
		f.change(id, fmt.Sprintf(set+`metadata = '{"clone": {"progress": {"version": %[1]d, "phases": "all"}}}'`, report.Version+1))
		page := v.get("/clones/" + id)
		want(t, status, page, "200")
		says(t, page, "was written by a newer version of Calco")
		lacks(t, page, "/report.json")
		want(t, status+", its report", v.get("/clones/"+id+"/report.json"), "404")
		history := v.get("/history")
		want(t, "the history", history, "200")
		says(t, history, `data-clone="`+id+`"`)
	}
	want(t, "the start page", v.get("/"), "200")
}
