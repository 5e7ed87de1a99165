package webtest_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"calco/web/webtest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	webtest.Close()
	os.Exit(code)
}

// serve serves pages whose policy is as strict as that of the app.
func serve(t *testing.T, pages map[string]string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:")
		body, ok := pages[r.URL.Path]
		if strings.HasSuffix(r.URL.Path, ".js") {
			w.Header().Set("Content-Type", "text/javascript")
		} else {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			body = "<!DOCTYPE html><html lang=en><head><title>t</title><link rel=icon href=data:,></head><body><main><h1>t</h1>" + body
		}
		if !ok {
			w.WriteHeader(http.StatusNotFound)
		}
		_, _ = fmt.Fprint(w, body, "<p>"+r.Header.Get("Accept-Language"))
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func TestFaults(t *testing.T) {
	t.Parallel()
	webtest.Require(t)
	base := serve(t, map[string]string{
		"/fine":           "<p>fine</p>",
		"/style":          `<p style="color: red">red</p>`,
		"/script":         `<script>document.title = "x"</script>`,
		"/throws":         `<script src="/throws.js"></script><button>Go</button>`,
		"/throws.js":      `addEventListener("click", () => { throw new Error("thrown on purpose"); }); //`,
		"/complains":      `<script src="/complains.js"></script>`,
		"/complains.js":   `console.error("complained on purpose"); //`,
		"/rejects":        `<script src="/rejects.js"></script>`,
		"/rejects.js":     `Promise.reject(new Error("rejected on purpose")); //`,
		"/evaluates":      `<script src="/evaluates.js"></script><button>Go</button>`,
		"/evaluates.js":   `addEventListener("click", () => { new Function("1")(); }); //`,
		"/missing":        `<script src="/static/gone.js"></script>`,
		"/static/gone.js": "",
	})
	base404 := serve(t, map[string]string{"/missing": `<script src="/static/gone.js"></script>`})
	cases := []struct{ path, fault string }{
		{"/fine", ""},
		{"/nowhere", ""},
		{"/style", "inline style"},
		{"/script", "inline script"},
		{"/throws", "thrown on purpose"},
		{"/complains", "complained on purpose"},
		{"/rejects", "rejected on purpose"},
		{"/evaluates", "unsafe-eval"},
		{base404 + "/missing", "404"},
	}
	for _, c := range cases {
		t.Run(c.path, func(t *testing.T) {
			t.Parallel()
			p := webtest.New(t, base)
			p.Open(c.path)
			if webtest.Eval[bool](p, `!!document.querySelector("button")`) {
				p.Click("button")
			}
			faults := strings.Join(p.Faults(), "\n")
			if c.fault == "" && faults != "" || !strings.Contains(faults, c.fault) {
				t.Errorf("faults = %q, want %q", faults, c.fault)
			}
		})
	}
}

func TestSteps(t *testing.T) {
	t.Parallel()
	webtest.Require(t)
	base := serve(t, map[string]string{
		"/": `<form action="/next"><label>Name <input name="name" value="old"></label>
			<label>Colour <select name="colour"><option value="r">Red</option><option value="g">Green</option></select></label>
			<button disabled>Wait</button><button aria-label="Go on">→</button></form><script src="/hidden.js"></script>`,
		"/next":      `<p>next</p>`,
		"/hidden.js": `document.addEventListener("visibilitychange", () => { document.querySelector("h1").textContent = document.visibilityState; }); //`,
	})
	p := webtest.New(t, base)
	p.Language("es")
	p.Open("/")
	p.WaitText("es")
	p.Type("input", "Ada")
	p.Select("select", "g")
	p.Hidden(true)
	if got := p.Text("h1"); got != "hidden" {
		t.Errorf("h1 = %q", got)
	}
	p.Follow("button", "Go on")
	if got, want := p.Path(), "/next?name=Ada&colour=g"; got != want {
		t.Errorf("path = %s, want %s", got, want)
	}

	tab := p.Tab()
	tab.Scripts(false)
	tab.Open("/")
	tab.Hidden(true)
	if got := tab.Text("h1"); got != "t" {
		t.Errorf("h1 = %q: scripts run", got)
	}
	tab.Close()
}

// recorder is a test that may fail.
type recorder struct {
	testing.TB
	said string
}

func (r *recorder) Errorf(format string, args ...any) { r.said += fmt.Sprintf(format, args...) }

func TestLook(t *testing.T) {
	webtest.Require(t)
	shots := t.TempDir()
	t.Setenv("CALCO_SHOTS", shots)
	base := serve(t, map[string]string{
		"/fine":  "<p>fine</p>",
		"/blind": `<img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=">`,
		"/wide":  "<pre>" + strings.Repeat("wide", 100) + "</pre>",
	})
	for path, want := range map[string]string{"/fine": "", "/blind": "image-alt", "/wide": "wider than 390 pixels"} {
		r := &recorder{TB: t}
		p := webtest.New(r, base)
		p.Open(path)
		p.Look("look" + path)
		if want == "" && r.said != "" || !strings.Contains(r.said, want) {
			t.Errorf("Look at %s says %q, want %q", path, r.said, want)
		}
	}
	pictures, err := filepath.Glob(filepath.Join(shots, "look", "*-*-*.png"))
	if err != nil || len(pictures) != 12 {
		t.Errorf("pictures = %v (%v), want 12", pictures, err)
	}
}
