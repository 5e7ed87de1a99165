package webtest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// Keys for Press.
const (
	Enter  = kb.Enter
	Tab    = kb.Tab
	Escape = kb.Escape
	Space  = " "
)

// Open goes to a path of the app, or to a whole URL, and waits until the page is loaded. It takes any answer.
func (p *Page) Open(path string) {
	p.t.Helper()
	if strings.HasPrefix(path, "/") {
		path = p.base + path
	}
	p.do(chromedp.Navigate(path))
}

// Click clicks on the middle of the first visible element of a CSS selector; with a text, the first one that says just
// that, or whose accessible name it is. It waits until the element is there, stands still, and nothing covers it.
func (p *Page) Click(selector string, text ...string) {
	p.t.Helper()
	x, y := p.find(selector, text)
	p.do(chromedp.MouseClickXY(x, y))
}

// Follow clicks like Click, on something that leads to another page, and waits until that is loaded.
func (p *Page) Follow(selector string, text ...string) {
	p.t.Helper()
	p.Leads(func() { p.Click(selector, text...) })
}

// Leads takes a step that leads to another page, and waits until that is loaded.
func (p *Page) Leads(step func()) {
	p.t.Helper()
	old := Eval[float64](p, `performance.timeOrigin`)
	step()
	p.Wait(fmt.Sprintf(`performance.timeOrigin !== %v && document.readyState === "complete"`, strconv.FormatFloat(old, 'f', -1, 64)))
}

// Type writes into the field of a selector, in place of what is there.
func (p *Page) Type(selector, text string) {
	p.t.Helper()
	p.Click(selector)
	p.do(chromedp.Evaluate[chromedp.Void](`document.activeElement.select?.()`), chromedp.KeyEvent(text))
}

// Press presses keys, wherever the focus is.
func (p *Page) Press(keys string) {
	p.t.Helper()
	p.do(chromedp.KeyEvent(keys))
}

// Select chooses the option with a value.
func (p *Page) Select(selector, value string) {
	p.t.Helper()
	p.WaitFor(selector)
	p.Wait(fmt.Sprintf(`(() => {
		const s = document.querySelector(%q);
		if (![...s.options].some((o) => o.value === %[2]q)) return false;
		s.focus();
		s.value = %[2]q;
		for (const e of ["input", "change"]) s.dispatchEvent(new Event(e, {bubbles: true}));
		return true;
	})()`, selector, value))
}

// WaitFor waits until a visible element matches a CSS selector; with a text, until one says just that.
func (p *Page) WaitFor(selector string, text ...string) {
	p.t.Helper()
	p.Wait(fmt.Sprintf(`(%s)(%q, %s)`, finder, selector, wanted(text)))
}

// WaitGone waits until no visible element matches a CSS selector.
func (p *Page) WaitGone(selector string) {
	p.t.Helper()
	p.Wait(fmt.Sprintf(`!(%s)(%q, null)`, finder, selector))
}

// WaitText waits until the page says a text somewhere where it can be seen.
func (p *Page) WaitText(text string) {
	p.t.Helper()
	p.Wait(fmt.Sprintf(`document.body.innerText.replace(/\u00a0/g, " ").includes(%q)`, text))
}

// WaitNoText waits until the page does not say a text.
func (p *Page) WaitNoText(text string) {
	p.t.Helper()
	p.Wait(fmt.Sprintf(`!document.body.innerText.replace(/\u00a0/g, " ").includes(%q)`, text))
}

// WaitPath waits until the page's path, with its query, is this one, and the page is loaded.
func (p *Page) WaitPath(path string) {
	p.t.Helper()
	p.Wait(fmt.Sprintf(`location.pathname + location.search === %q && document.readyState === "complete"`, path))
}

// Text returns the visible text of the first element of a CSS selector, and waits until there is one.
func (p *Page) Text(selector string) string {
	p.t.Helper()
	p.WaitFor(selector)
	return Eval[string](p, fmt.Sprintf(`(%s)(%q, null)?.innerText.trim() ?? ""`, finder, selector))
}

// Path returns the path of the page, with its query.
func (p *Page) Path() string {
	p.t.Helper()
	return Eval[string](p, `location.pathname + location.search`)
}

// Hidden tells the page that its tab is in the background, or in the front again.
func (p *Page) Hidden(hidden bool) {
	p.t.Helper()
	state := map[bool]string{true: "hidden", false: "visible"}[hidden]
	p.do(chromedp.Evaluate[chromedp.Void](fmt.Sprintf(`
		Object.defineProperty(document, "hidden", {value: %t, configurable: true});
		Object.defineProperty(document, "visibilityState", {value: %q, configurable: true});
		document.dispatchEvent(new Event("visibilitychange"));`, hidden, state)))
}

// Eval returns what a JavaScript expression is in the page; a promise is awaited. It is for reading: what it does
// escapes the Content-Security-Policy.
func Eval[T any](p *Page, expression string) T {
	p.t.Helper()
	value, err := bounded(p, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		p.fail("evaluate %.200s: %v", expression, err)
	}
	return value
}

// Wait waits until a JavaScript expression is true. While a new page is being loaded it is not.
func (p *Page) Wait(condition string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("!!("+condition+")"))
		if err == nil && ok {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			p.fail("waited %s for %.500s (last: %v)", patience, condition, err)
		}
	}
}

// finder returns the first visible element of a selector that has a text or an accessible name, if one is asked for.
const finder = `(selector, text) => [...document.querySelectorAll(selector)].find((e) =>
	e.checkVisibility({visibilityProperty: true}) && e.getClientRects().length > 0 && (text === null ||
		[e.innerText, e.value, e.getAttribute("aria-label")].some((s) => s?.replace(/\s+/g, " ").trim() === text)))`

func wanted(text []string) string {
	if len(text) == 0 {
		return "null"
	}
	return strconv.Quote(text[0])
}

// find returns the middle of an element that can be clicked on: twice at the same place, with nothing above it.
func (p *Page) find(selector string, text []string) (x, y float64) {
	p.t.Helper()
	script := fmt.Sprintf(`(() => {
		const e = (%s)(%q, %s);
		if (!e) return {why: "it is not there"};
		if (e.disabled) return {why: "it is disabled"};
		e.scrollIntoView({block: "nearest", inline: "nearest", behavior: "instant"});
		let r = e.getClientRects()[0], x = r.x + r.width / 2, y = r.y + r.height / 2, top = document.elementFromPoint(x, y);
		if (!e.contains(top) && !top?.contains(e) && !e.labels?.length) {
			e.scrollIntoView({block: "center", behavior: "instant"}); // below a header that stays
			r = e.getClientRects()[0]; x = r.x + r.width / 2; y = r.y + r.height / 2; top = document.elementFromPoint(x, y);
		}
		if (top && (e.contains(top) || [...e.labels ?? []].some((l) => l.contains(top)))) return {x, y, why: ""};
		return {why: "covered by " + (top ? top.outerHTML.slice(0, 120) : "nothing, outside the window")};
	})()`, finder, selector, wanted(text))
	type place struct {
		X, Y float64
		Why  string
	}
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	last := place{Why: "never seen"}
	for {
		at, err := chromedp.Run(ctx, chromedp.Evaluate[place](script))
		switch {
		case err != nil:
			at.Why = err.Error()
		case at.Why == "" && at == last:
			return at.X, at.Y
		}
		last = at
		select {
		case <-tick.C:
		case <-ctx.Done():
			p.fail("cannot click on %s %q: %s", selector, text, last.Why)
		}
	}
}

// do takes steps that must work.
func (p *Page) do(steps ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	// The first step opens the tab, whose life is then that of the context it was opened with.
	if chromedp.FromContext(p.ctx).Target == nil {
		if err := chromedp.Do(p.ctx, steps...); err != nil {
			p.t.Fatalf("open a tab: %v", err)
		}
		return
	}
	if _, err := bounded(p, chromedp.Steps(steps...)); err != nil {
		p.fail("%v", err)
	}
}

func bounded[T any](p *Page, action chromedp.Action[T]) (T, error) {
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	return chromedp.Run(ctx, action)
}

func command[P, R any](c cdp.Command[P, R], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, c, params)
		return err
	})
}

// fail ends the test, and says what page it was.
func (p *Page) fail(format string, args ...any) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	where, err := chromedp.Run(ctx, chromedp.Location())
	said, err2 := chromedp.Run(ctx, chromedp.Evaluate[string](`document.body.innerText.slice(0, 1500)`))
	picture, err3 := p.keepFailure(ctx)
	p.t.Fatalf("%s\non the page %s\npicture: %s\nthe page says:\n%s\n%v", fmt.Sprintf(format, args...), where, picture, said, errors.Join(err, err2, err3))
}
