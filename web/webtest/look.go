package webtest

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

//go:embed axe.min.js
var axe string

// Look examines the page as it is now, in both themes and widths: no serious finding of axe, nothing wider than the
// window. It takes a picture of each, such as signin-1280-light.png.
func (p *Page) Look(name string) {
	p.t.Helper()
	width, theme := p.width, p.theme
	for _, w := range []int{1280, 390} {
		p.SetWidth(w)
		p.NoOverflow()
		for _, t := range []string{"light", "dark"} {
			p.Theme(t)
			p.Axe()
			p.Screenshot(fmt.Sprintf("%s-%d-%s", name, w, t))
		}
	}
	p.width, p.theme = width, theme
	p.view()
}

// Screenshot takes a picture of the whole page, if CALCO_SHOTS says where to keep it.
func (p *Page) Screenshot(name string) {
	p.t.Helper()
	dir := os.Getenv("CALCO_SHOTS")
	if dir == "" {
		return
	}
	png, err := bounded(p, chromedp.FullScreenshot(100))
	if err == nil {
		err = write(filepath.Join(dir, name+".png"), png)
	}
	if err != nil {
		p.fail("take a picture: %v", err)
	}
}

func write(path string, png []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, png, 0o644)
}

// keepFailure takes a picture of the page as it failed. The test's own folder would go with the test.
func (p *Page) keepFailure(ctx context.Context) (path string, err error) {
	png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err != nil {
		return "none", err
	}
	name := strings.NewReplacer("/", "-", " ", "-").Replace(p.t.Name()) + time.Now().Format("-150405") + ".png"
	path = filepath.Join(os.TempDir(), "calco-failed", name)
	return path, write(path, png)
}

// NoOverflow fails the test if the page is wider than the window.
func (p *Page) NoOverflow() {
	p.t.Helper()
	wide := Eval[[]string](p, `(() => {
		const room = document.documentElement.clientWidth;
		if (document.documentElement.scrollWidth <= room) return [];
		const wide = [...document.querySelectorAll("body, body *")].filter((e) => {
			const left = e.getBoundingClientRect().left;
			return left + Math.max(e.getBoundingClientRect().width, e.scrollWidth) > room + .5;
		});
		return wide.slice(-5).map((e) => e.outerHTML.slice(0, 160));
	})()`)
	if len(wide) > 0 {
		p.t.Errorf("%s is wider than %d pixels, by %s", p.Path(), p.width, strings.Join(wide, "\n"))
	}
}

// Axe fails the test if axe finds something serious or critical for those who cannot see, hear or point.
func (p *Page) Axe() {
	p.t.Helper()
	found := p.audit()
	if len(found) > 0 {
		p.t.Errorf("axe on %s (%d pixels, %s):\n%s", p.Path(), p.width, p.theme, strings.Join(found, "\n"))
	}
}

func (p *Page) audit() []string {
	p.t.Helper()
	if !Eval[bool](p, `"axe" in window`) {
		p.do(chromedp.Evaluate[chromedp.Void](axe + ";0"))
	}
	return Eval[[]string](p, `axe.run({resultTypes: ["violations"]}).then((r) => r.violations
		.filter((v) => v.impact === "serious" || v.impact === "critical")
		.flatMap((v) => v.nodes.map((n) => v.id + ": " + n.html.slice(0, 200) + "\n\t" + n.failureSummary.replace(/\n/g, "\n\t"))))`)
}

// listen notes what the page does wrong. Requests that fail are none of it: pages are also tested with a server that is
// gone; but what pages are made of must be there.
func (p *Page) listen(event any) {
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		text := e.ExceptionDetails.Text
		if o := e.ExceptionDetails.Exception; o != nil {
			text += " " + o.Description
		}
		p.fault("exception: %s at %s:%d", text, e.ExceptionDetails.URL, e.ExceptionDetails.LineNumber+1)
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeAssert {
			args, _ := json.Marshal(e.Args)
			p.fault("console: %s", args)
		}
	case *log.EventEntryAdded:
		request := e.Entry.Source == log.EntrySourceNetwork && !strings.Contains(e.Entry.URL, "/static/")
		if e.Entry.Level == log.EntryLevelError && !request {
			p.fault("%s: %s %s", e.Entry.Source, e.Entry.Text, e.Entry.URL)
		}
	}
}

func (p *Page) fault(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = append(p.faults, fmt.Sprintf(format, args...))
}

// Faults returns what the page did wrong until now, and forgets it: for tests in which it is meant to.
func (p *Page) Faults() []string {
	// The answer to this comes after the events before it.
	if p.ctx.Err() == nil {
		_, _ = bounded(p, chromedp.Evaluate[int]("0")) // a page that is gone has said all
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	faults := p.faults
	p.faults = nil
	return faults
}

func (p *Page) checkFaults() {
	p.t.Helper()
	for _, f := range p.Faults() {
		p.t.Errorf("the page did wrong: %s", f)
	}
}
