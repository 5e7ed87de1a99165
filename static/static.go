// Package static has the files that the browser loads beside the pages: styles, scripts, the font and the icon. They are
// embedded in the program, and their content is in their names, so that a browser keeps them for ever and never has an
// old one. It knows nothing of the pages.
package static

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"regexp"
	"strings"
	"sync"
)

// Prefix is where Handler is to be mounted.
const Prefix = "/static/"

// The files, the licences of those that others wrote beside them. The vendor command writes all but app.css, app.js,
// theme.css and the icon.
//
//go:embed files
var embedded embed.FS

// asset is one file as it is served.
type asset struct {
	url     string
	kind    string // content type
	plain   []byte
	gzipped []byte // nil where it saves nothing
}

// library is all files, by their names in the repository and by their URLs.
type library struct {
	byName, byURL map[string]*asset
}

var load = sync.OnceValue(func() library {
	lib, err := read()
	if err != nil {
		panic(err) // the files are in the program: it was built wrong
	}
	return lib
})

// URL returns the address of a file, such as "/static/app.0a1b2c3d4e5f.css" for "app.css". A name that does not exist is
// a mistake in the program, and panics.
func URL(name string) string {
	a := load().byName[name]
	if a == nil {
		panic("static: no file " + name)
	}
	return a.url
}

// Handler serves the files below Prefix, to be kept for ever.
func Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a := load().byURL[r.URL.Path]
		if a == nil {
			http.NotFound(w, r)
			return
		}
		h := w.Header()
		h.Set("Content-Type", a.kind)
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
		h.Set("Vary", "Accept-Encoding")
		body := a.plain
		if a.gzipped != nil && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			h.Set("Content-Encoding", "gzip")
			body = a.gzipped
		}
		h.Set("Content-Length", fmt.Sprint(len(body)))
		w.WriteHeader(http.StatusOK)
		_, _ = w.Write(body) // the browser that is gone needs no error
	})
}

// reference is how a style sheet names another file.
var reference = regexp.MustCompile(`url\("([^":]+)"\)`)

// read makes the library. Style sheets come last, because they name other files by their URLs.
func read() (library, error) {
	lib := library{byName: map[string]*asset{}, byURL: map[string]*asset{}}
	root, err := fs.Sub(embedded, "files")
	if err != nil {
		return lib, err
	}
	var names, sheets []string
	entries, err := fs.ReadDir(root, ".")
	if err != nil {
		return lib, err
	}
	for _, e := range entries {
		switch path.Ext(e.Name()) {
		case ".css":
			sheets = append(sheets, e.Name())
		case ".txt": // the licences, for whoever reads the repository
		default:
			names = append(names, e.Name())
		}
	}
	for _, name := range append(names, sheets...) {
		body, err := fs.ReadFile(root, name)
		if err != nil {
			return lib, err
		}
		if path.Ext(name) == ".css" {
			body = reference.ReplaceAllFunc(body, func(m []byte) []byte {
				if a := lib.byName[string(reference.FindSubmatch(m)[1])]; a != nil {
					return fmt.Appendf(nil, "url(%q)", a.url)
				}
				return m
			})
		}
		a := &asset{url: hashed(name, body), kind: kindOf(name), plain: body, gzipped: compress(body)}
		lib.byName[name], lib.byURL[a.url] = a, a
	}
	return lib, nil
}

func hashed(name string, body []byte) string {
	sum := sha256.Sum256(body)
	ext := path.Ext(name)
	return Prefix + strings.TrimSuffix(name, ext) + "." + hex.EncodeToString(sum[:6]) + ext
}

// kindOf does not ask the machine's own table for what it may not have.
func kindOf(name string) string {
	if path.Ext(name) == ".woff2" {
		return "font/woff2"
	}
	return mime.TypeByExtension(path.Ext(name))
}

func compress(body []byte) []byte {
	var buf bytes.Buffer
	w, _ := gzip.NewWriterLevel(&buf, gzip.BestCompression) // the level is a valid one
	_, _ = w.Write(body)                                    // into memory
	_ = w.Close()
	if buf.Len() >= len(body)*9/10 {
		return nil
	}
	return buf.Bytes()
}
