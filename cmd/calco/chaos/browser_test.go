package chaos

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"calco/cloner/report"
)

// What a page says, and where.
var (
	statusMark  = regexp.MustCompile(`id="job"[^>]* data-status="([^"]*)"`)
	percentMark = regexp.MustCompile(`id="job"[^>]* data-percent="([^"]*)"`)
	troubleMark = regexp.MustCompile(`data-trouble`)
	resumeMark  = regexp.MustCompile(`action="(/clones/[a-z2-7]+/resume)"`)
	jobPath     = regexp.MustCompile(`^/clones/[a-z2-7]{10}$`)
	factMark    = regexp.MustCompile(`(?s)<dd>(.*?)</dd>`)
	phasesMark  = regexp.MustCompile(`(?s)<ol class="b phase">.*?</ol>`)
	tookMark    = regexp.MustCompile(`(?s)<span class="took">.*?</span>`) // which goes on even when nothing else does
	tagMark     = regexp.MustCompile(`(?s)<[^>]*>`)
)

// page is what somebody sees who looks at a job.
type page struct {
	status  string
	trouble bool   // it says that the job waits for something
	resume  string // where its button Resume leads; empty for none
	facts   string // all that changes when the job gets on, and only then
	text    string
}

// readPage reads a page of a job.
func readPage(html string) (p page, err error) {
	status := statusMark.FindStringSubmatch(html)
	if status == nil {
		return p, fmt.Errorf("not the page of a job: %.300s", words(html))
	}
	p.status, p.trouble, p.text = status[1], troubleMark.MatchString(html), words(html)
	if m := resumeMark.FindStringSubmatch(html); m != nil {
		p.resume = m[1]
	}
	facts := percentMark.FindStringSubmatch(html)[1:]
	for i, dd := range factMark.FindAllStringSubmatch(html, 4) {
		if i != 2 { // the speed
			facts = append(facts, words(dd[1]))
		}
	}
	for _, ol := range phasesMark.FindAllString(html, 1) {
		facts = append(facts, tookMark.ReplaceAllString(ol, ""))
	}
	p.facts = strings.Join(facts, "\n")
	return p, nil
}

// words returns the text of HTML.
func words(html string) string {
	return strings.Join(strings.Fields(tagMark.ReplaceAllString(html, " ")), " ")
}

// browser is one in which the user is signed in. It is safe for concurrent use.
type browser struct {
	testing.TB
	token  string
	client *http.Client

	mu sync.Mutex
	at string // where the web process is
}

func newBrowser(t testing.TB, token string) *browser {
	return &browser{TB: t, token: token, client: &http.Client{
		Timeout:       10 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

func (b *browser) goTo(at string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.at = at
}

func (b *browser) do(method, path string, form url.Values) (status int, location, body string, err error) {
	b.mu.Lock()
	at := b.at
	b.mu.Unlock()
	r, err := http.NewRequestWithContext(b.Context(), method, at+path, strings.NewReader(form.Encode()))
	if err != nil {
		return 0, "", "", err
	}
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	r.AddCookie(&http.Cookie{Name: "calco_session", Value: b.token})
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	res, err := b.client.Do(r)
	if err != nil {
		return 0, "", "", err
	}
	defer res.Body.Close() //nolint:errcheck // it is read
	text, err := io.ReadAll(res.Body)
	return res.StatusCode, res.Header.Get("Location"), string(text), err
}

// look reads the page of a job as it is now.
func (b *browser) look(job string) (page, error) {
	status, location, body, err := b.do(http.MethodGet, "/clones/"+job, nil)
	if err == nil && jobPath.MatchString(location) {
		return page{status: "failed", text: "tried again at " + location}, nil
	}
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("GET /clones/%s: %d %.300s", job, status, words(body))
	}
	if err != nil {
		return page{}, err
	}
	return readPage(body)
}

// shown is the digest of what a page says that clean would drop.
func (b *browser) shown(path string) (string, error) {
	status, _, body, err := b.do(http.MethodGet, path, nil)
	if err != nil {
		return "", err
	}
	found := shownDigest.FindStringSubmatch(body)
	if found == nil {
		return "", fmt.Errorf("GET %s: %d, with nothing to confirm: %.300s", path, status, words(body))
	}
	return found[1], nil
}

var shownDigest = regexp.MustCompile(`name="shown" value="([0-9a-f]+)"`)

// press sends a form, and returns where it leads.
func (b *browser) press(path string, form url.Values) (location string, err error) {
	if form == nil {
		form = url.Values{}
	}
	status, location, body, err := b.do(http.MethodPost, path, form)
	if err == nil && status != http.StatusSeeOther {
		err = fmt.Errorf("POST %s: %d %.300s", path, status, words(body))
	}
	return location, err
}

// report downloads the report of a job.
func (b *browser) report(job string) (r report.Report, err error) {
	status, _, body, err := b.do(http.MethodGet, "/clones/"+job+"/report.json", nil)
	if err == nil && status != http.StatusOK {
		err = errors.New(words(body))
	}
	if err == nil {
		err = json.Unmarshal([]byte(body), &r)
	}
	if err != nil {
		return r, fmt.Errorf("read the report: %w", err)
	}
	return r, nil
}
