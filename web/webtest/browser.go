// Package webtest opens the pages of the app in a real browser, for tests: Chromium without a window, real clicks and
// keys. A page that breaks its Content-Security-Policy, throws, or complains on the console fails its test. The package
// knows nothing of the app.
//
// With go test -short, which is make check, there is no browser, and its tests are skipped.
//
// CALCO_SHOTS names a folder for the pictures that Screenshot and Look take; without it they take none.
package webtest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
)

// patience bounds each step. It is long because a machine may do much else; nothing waits for it in vain.
const patience = 2 * time.Minute

// browsers are the programs that can be driven, the first one that is there. .ci/setup looks for the same.
var browsers = []string{
	"chromium", "chromium-browser", "google-chrome", "google-chrome-stable",
	"/Applications/Chromium.app/Contents/MacOS/Chromium",
	"/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
}

// shared is the browser of this process, in which each test has a profile of its own.
var shared struct {
	start sync.Once
	ctx   context.Context // of the browser, until Close
	close context.CancelFunc
	err   error
}

// Close ends the browser, if one was started. Call it from TestMain, after the tests.
func Close() {
	if shared.close != nil {
		shared.close()
	}
}

func launch() {
	var path string
	for _, name := range browsers {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		shared.err = exec.ErrNotFound
		return
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.DisableGPU, chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("hide-scrollbars", true), chromedp.Flag("font-render-hinting", "none"))
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox) // which Chromium refuses to set up for root
	}
	process, end := chromedp.NewExecAllocator(context.Background(), options...)
	var stop context.CancelFunc
	shared.ctx, stop = chromedp.NewContext(process)
	shared.close = func() { stop(); end() }
	if err := chromedp.Do(shared.ctx); err != nil {
		shared.err = fmt.Errorf("start %s: %w", path, err)
	}
}

// Require skips a test that needs a browser where there is to be none. New does too, but only after what a test has made
// ready by then.
func Require(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs a browser: make test runs it")
	}
}

// start returns the context of the browser. Without one on this machine the test is skipped, or fails in CI.
func start(t testing.TB) context.Context {
	t.Helper()
	Require(t)
	shared.start.Do(launch)
	switch {
	case shared.err == nil:
	case shared.err == exec.ErrNotFound && os.Getenv("CI") == "": //nolint:errorlint // it is ours, and not wrapped
		t.Skip("needs Chromium: run .ci/setup, or install your system's package chromium")
	default:
		t.Fatalf("needs Chromium: %v", shared.err)
	}
	return shared.ctx
}

// Page is a tab of a browser. Its methods are steps: one that cannot be done fails the test, with a picture of the page.
// They are for one goroutine.
type Page struct {
	t      testing.TB
	ctx    context.Context
	close  context.CancelFunc
	base   string
	width  int
	theme  string
	mu     sync.Mutex
	faults []string // what the page did wrong
}

// New opens an empty tab in a new profile: without cookies, 1280 pixels wide, light and English. Paths are below the
// base URL. It goes with the test.
func New(t testing.TB, base string) *Page {
	t.Helper()
	return open(t, start(t), base, chromedp.WithNewBrowserContext())
}

// Tab opens another tab in the same profile: with the same cookies.
func (p *Page) Tab() *Page {
	p.t.Helper()
	return open(p.t, p.ctx, p.base)
}

func open(t testing.TB, parent context.Context, base string, options ...chromedp.ContextOption) *Page {
	t.Helper()
	p := &Page{t: t, base: strings.TrimSuffix(base, "/"), width: 1280, theme: "light"}
	options = append(options, chromedp.WithListener(p.listen))
	p.ctx, p.close = chromedp.NewContext(parent, options...)
	t.Cleanup(func() {
		p.checkFaults()
		p.close()
	})
	p.do(chromedp.Steps())
	p.view()
	p.Language("en")
	return p
}

// Close closes the tab, as a person does. What it did wrong still fails the test.
func (p *Page) Close() {
	p.t.Helper()
	p.checkFaults()
	p.close()
}

// SetWidth makes the window so wide: 1280 or 390 pixels are what pages are made for.
func (p *Page) SetWidth(width int) {
	p.t.Helper()
	p.width = width
	p.view()
}

// Theme sets what the system prefers: light or dark.
func (p *Page) Theme(name string) {
	p.t.Helper()
	p.theme = name
	p.view()
}

func (p *Page) view() {
	p.t.Helper()
	media := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: p.theme},
		{Name: "prefers-reduced-motion", Value: "reduce"}, // pictures are then the same each time
	}}
	height := int64(900)
	if p.width < 700 {
		height = 844
	}
	p.do(chromedp.EmulateViewport(int64(p.width), height), command(emulation.SetEmulatedMedia, media))
}

// Language sets what the browser asks for from the next page on: en, es, or a whole Accept-Language.
func (p *Page) Language(accept string) {
	p.t.Helper()
	p.do(command(network.SetExtraHTTPHeaders, network.SetExtraHTTPHeadersParams{Headers: network.Headers{"Accept-Language": accept}}))
}

// Scripts lets the pages from the next one on run scripts, or not.
func (p *Page) Scripts(run bool) {
	p.t.Helper()
	p.do(command(emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !run}))
}

// Cookie gives the browser a cookie of the app, such as that of a session.
func (p *Page) Cookie(name, value string) {
	p.t.Helper()
	p.do(command(network.SetCookie, network.SetCookieParams{Name: name, Value: value, URL: p.base + "/"}))
}
