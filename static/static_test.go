package static

import (
	"compress/gzip"
	"io"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

func get(t *testing.T, path, encoding string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), "GET", path, nil)
	r.Header.Set("Accept-Encoding", encoding)
	w := httptest.NewRecorder()
	Handler().ServeHTTP(w, r)
	return w
}

func TestFiles(t *testing.T) {
	t.Parallel()
	kinds := map[string]string{
		"app.css": "text/css; charset=utf-8", "app.js": "text/javascript; charset=utf-8", "inter.woff2": "font/woff2", "icon.svg": "image/svg+xml",
		"daisy.css": "text/css; charset=utf-8", "theme.css": "text/css; charset=utf-8", "htmx.min.js": "text/javascript; charset=utf-8",
	}
	for name, kind := range kinds {
		url := URL(name)
		if !regexp.MustCompile(`^/static/[a-z.-]+\.[0-9a-f]{12}\.[a-z0-9]+$`).MatchString(url) {
			t.Errorf("URL of %s: %s", name, url)
		}
		plain, zipped := get(t, url, ""), get(t, url, "gzip, br")
		if plain.Code != 200 || plain.Header().Get("Content-Type") != kind || plain.Header().Get("Content-Encoding") != "" {
			t.Errorf("%s: %d %v", name, plain.Code, plain.Header())
		}
		if got := plain.Header().Get("Cache-Control"); got != "public, max-age=31536000, immutable" {
			t.Errorf("%s: Cache-Control %s", name, got)
		}
		if got := plain.Header().Get("Vary"); got != "Accept-Encoding" {
			t.Errorf("%s: Vary %s", name, got)
		}
		if kind == "font/woff2" {
			if zipped.Header().Get("Content-Encoding") != "" {
				t.Errorf("%s is compressed, in vain", name)
			}
			continue
		}
		if name == "icon.svg" && zipped.Header().Get("Content-Encoding") == "" {
			continue // too small
		}
		if zipped.Header().Get("Content-Encoding") != "gzip" {
			t.Errorf("%s is not compressed", name)
			continue
		}
		if zipped.Body.Len() >= plain.Body.Len() {
			t.Errorf("%s: %d bytes compressed, %d plain", name, zipped.Body.Len(), plain.Body.Len())
		}
		unzip, err := gzip.NewReader(zipped.Body)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(unzip)
		if err != nil || string(body) != plain.Body.String() {
			t.Errorf("%s is another one when compressed (%v)", name, err)
		}
	}
}

func TestStyleSheetsNameFiles(t *testing.T) {
	t.Parallel()
	body := get(t, URL("theme.css"), "").Body.String()
	if !strings.Contains(body, `url("`+URL("inter.woff2")+`")`) {
		t.Error("theme.css does not name the font by its URL")
	}
	for name, a := range load().byName {
		for _, m := range reference.FindAllSubmatch(a.plain, -1) {
			if strings.HasSuffix(name, ".css") && get(t, string(m[1]), "").Code != 200 {
				t.Errorf("%s names %s, which is not there", name, m[1])
			}
		}
	}
}

func TestNoFile(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/static/", "/static/app.css", "/static/app.000000000000.css", "/static/../static.go", "/static/inter.LICENSE.txt", "/app.css"} {
		if got := get(t, path, ""); got.Code != 404 {
			t.Errorf("%s: %d", path, got.Code)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("a name that does not exist has a URL")
		}
	}()
	URL("nothing.css")
}
