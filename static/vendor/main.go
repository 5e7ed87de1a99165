// Command vendor fetches the files of others that package static carries, in the versions and with the checksums named
// here, and writes them into static/files. It needs npm; nobody else does. Run it after changing a version or the list of
// components:
//
//	go run ./static/vendor
//
// daisyUI comes as its plain style sheets, one a component, and not through Tailwind: then no class goes missing when a
// page begins to use it. What it repeats for each width of the screen is left out; Calco has its own layout.
package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

const into = "static/files"

// components are the parts of daisyUI in use, in the order in which they take effect.
var components = []string{
	"base/properties", "base/reset", "base/rootcolor", "base/svg",
	"components/alert", "components/badge", "components/button", "components/checkbox", "components/fieldset",
	"components/input", "components/label", "components/link", "components/loading", "components/menu", "components/modal",
	"components/progress", "components/radio", "components/select", "components/status", "components/steps",
	"components/table", "components/textarea", "components/toggle", "components/tooltip", "utilities/join",
}

// source is a package of npm. The checksum is the one of its registry.
type source struct{ name, version, sum string }

var (
	daisy = source{"daisyui", "5.8.1", "sha512-ptP4WHOJ6WltNnA5zwkg3GypOLhsyUM2FHuXCckWVEpWviioInFKsjnShCWYGYHsQ5P9bUCOH1tn45cKLeTUpg=="}
	htmx  = source{"htmx.org", "4.0.1", "sha512-oF7JgXhDW9UXCy/k1ZYFUQgzu/rm19ORWPSPNL91vPluB2PB9+MV55tyQdH/w7o2EAbTYUG5SDW1R60mdkdqGg=="}
	axe   = source{"axe-core", "4.14.1", "sha512-FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="}
	inter = source{"@fontsource-variable/inter", "5.3.0", "sha512-OupL48va4JNofb97w6NYeF9S7W/kHNKM0Er8Dem5nqi4jeOLrVJDoE8tZEpnMJmtkvNbB1EIPPwHcdkF6b1oUA=="}
)

// copied are the files that are taken as they are.
var copied = []struct {
	from     source
	file, to string
}{
	{htmx, "dist/htmx.min.js", into + "/htmx.min.js"},
	{htmx, "dist/ext/hx-sse.min.js", into + "/hx-sse.min.js"},
	{htmx, "LICENSE", into + "/htmx.LICENSE.txt"},
	{daisy, "LICENSE", into + "/daisy.LICENSE.txt"},
	{inter, "files/inter-latin-wght-normal.woff2", into + "/inter.woff2"},
	{inter, "LICENSE", into + "/inter.LICENSE.txt"},
	{axe, "axe.min.js", "web/webtest/axe.min.js"},
	{axe, "LICENSE", "web/webtest/axe.LICENSE.txt"},
}

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "vendor:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	packages := map[source]map[string][]byte{}
	for _, s := range []source{daisy, htmx, axe, inter} {
		files, err := fetch(ctx, s)
		if err != nil {
			return fmt.Errorf("fetch %s %s: %w", s.name, s.version, err)
		}
		packages[s] = files
	}
	for _, c := range copied {
		if err := write(c.to, packages[c.from][c.file]); err != nil {
			return err
		}
	}
	var sheet bytes.Buffer
	fmt.Fprintf(&sheet, "/*! daisyUI %s, MIT License, Copyright (c) 2020 Pouya Saadeghi. Put together by static/vendor. */\n", daisy.version)
	for _, name := range components {
		body := packages[daisy][name+".css"]
		if body == nil {
			return fmt.Errorf("daisyUI %s has no %s", daisy.version, name)
		}
		fmt.Fprintf(&sheet, "/* %s */\n%s\n", name, withoutWidths(body))
	}
	return write(into+"/daisy.css", sheet.Bytes())
}

func write(name string, body []byte) error {
	if len(body) == 0 {
		return fmt.Errorf("nothing to write into %s", name)
	}
	return os.WriteFile(name, body, 0o644) //nolint:gosec // the files of a repository are for everyone
}

// fetch downloads a package, checks it and returns its files by their names in it.
func fetch(ctx context.Context, s source) (_ map[string][]byte, err error) {
	dir, err := os.MkdirTemp("", "calco-vendor-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	npm := exec.CommandContext(ctx, "npm", "pack", "--silent", s.name+"@"+s.version) //nolint:gosec // names are constants
	npm.Dir, npm.Stderr = dir, os.Stderr
	if err := npm.Run(); err != nil {
		return nil, fmt.Errorf("npm pack: %w", err)
	}
	found, err := filepath.Glob(filepath.Join(dir, "*.tgz"))
	if err != nil || len(found) != 1 {
		return nil, fmt.Errorf("npm pack left %d archives: %w", len(found), err)
	}
	archive, err := os.ReadFile(found[0])
	if err != nil {
		return nil, err
	}
	sum := sha512.Sum512(archive)
	if got := "sha512-" + base64.StdEncoding.EncodeToString(sum[:]); got != s.sum {
		return nil, fmt.Errorf("the checksum is %s, want %s", got, s.sum)
	}
	return unpack(archive)
}

func unpack(archive []byte) (map[string][]byte, error) {
	zipped, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for r := tar.NewReader(zipped); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files, nil
		}
		if err != nil {
			return nil, err
		}
		body, err := io.ReadAll(r)
		if err != nil {
			return nil, err
		}
		files[strings.TrimPrefix(h.Name, "package/")] = body
	}
}

var width = regexp.MustCompile(`@media \(width>=\d+px\)\{`)

// withoutWidths cuts out the variants for a width of the screen, such as .sm\:modal.
func withoutWidths(css []byte) []byte {
	var out []byte
	for {
		at := width.FindIndex(css)
		if at == nil {
			return append(out, css...)
		}
		out = append(out, css[:at[0]]...)
		css = css[at[1]:]
		depth, end := 1, 0
		for depth > 0 {
			switch css[end] {
			case '{':
				depth++
			case '}':
				depth--
			}
			end++
		}
		css = css[end:]
	}
}
