package viewstest

import (
	"bytes"
	"net/http"

	"calco/static"
	"calco/views"
)

// Handler serves each state at its name, with the styles and scripts of the product: /running?lang=es. It is safe for
// concurrent use.
func Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle(static.Prefix, static.Handler())
	mux.HandleFunc("GET /{name}", func(w http.ResponseWriter, r *http.Request) {
		for _, s := range States() {
			if s.Name != r.PathValue("name") {
				continue
			}
			ctx := views.WithLanguage(r.Context(), views.MatchLanguage(r.URL.Query().Get("lang"), ""))
			var body bytes.Buffer
			if err := s.Component.Render(ctx, &body); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			w.Header().Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
			_, _ = w.Write(body.Bytes()) // the browser that is gone needs no error
			return
		}
		http.NotFound(w, r)
	})
	return mux
}
