package views

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"sync"

	"github.com/nicksnyder/go-i18n/v2/i18n"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

// Each part of the app has a pair of files here, such as shell.en.json and shell.es.json.
//
//go:embed locales/*.json
var locales embed.FS

// Languages are the languages of the pages, the first one for everybody who speaks none of them.
var Languages = []string{"en", "es"}

// tongue is what writing in one language takes. It is safe for concurrent use.
type tongue struct {
	code    string
	texts   *i18n.Localizer
	numbers *message.Printer
}

var tongues = sync.OnceValue(func() map[string]*tongue {
	bundle, err := readLocales()
	if err != nil {
		panic(err) // the files are in the program, and a test reads them
	}
	all := map[string]*tongue{}
	for _, code := range Languages {
		all[code] = &tongue{code, i18n.NewLocalizer(bundle, code), message.NewPrinter(language.Make(code))}
	}
	return all
})

func readLocales() (*i18n.Bundle, error) {
	bundle := i18n.NewBundle(language.English)
	files, err := fs.Glob(locales, "locales/*.json")
	if err != nil {
		return nil, err
	}
	for _, name := range files {
		if _, err := bundle.LoadMessageFileFS(locales, name); err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
	}
	return bundle, nil
}

// maxAccept bounds what is read of a browser's wishes, in bytes: long ones take long.
const maxAccept = 1000

// MatchLanguage returns the one of Languages that suits best: the one chosen before, if there is one, or else what the
// browser's Accept-Language asks for.
func MatchLanguage(chosen, accept string) string {
	if _, ok := tongues()[chosen]; ok {
		return chosen
	}
	if len(accept) > maxAccept {
		return Languages[0]
	}
	matcher := language.NewMatcher([]language.Tag{language.English, language.Spanish})
	wanted, _, err := language.ParseAcceptLanguage(accept)
	if err != nil {
		return Languages[0]
	}
	_, index, _ := matcher.Match(wanted...)
	return Languages[index]
}

type tongueKey struct{}

// WithLanguage returns a context in which T and its like write in a language of Languages.
func WithLanguage(ctx context.Context, code string) context.Context {
	return context.WithValue(ctx, tongueKey{}, tongues()[code])
}

// Language returns the language of WithLanguage, and English without it.
func Language(ctx context.Context) string { return tongueOf(ctx).code }

func tongueOf(ctx context.Context) *tongue {
	if t, ok := ctx.Value(tongueKey{}).(*tongue); ok && t != nil {
		return t
	}
	return tongues()[Languages[0]]
}

// T returns a text in the language of the context. The data are names and values in turn, for {{.Name}} in the text; an
// int named Count also chooses the plural form and is written the way of the language. A text that is missing shows its
// id; the tests look for such.
//
//	T(ctx, "account.sessions", "Count", 3)
func T(ctx context.Context, id string, data ...any) string {
	t := tongueOf(ctx)
	config := &i18n.LocalizeConfig{MessageID: id}
	if len(data) > 0 {
		values := make(map[string]any, len(data)/2)
		for i := 0; i+1 < len(data); i += 2 {
			name, value := fmt.Sprint(data[i]), data[i+1]
			if count, ok := value.(int); ok && name == "Count" {
				config.PluralCount = count
				value = Number(ctx, int64(count))
			}
			values[name] = value
		}
		config.TemplateData = values
	}
	// There is text beside an error when the other language had it.
	text, err := t.texts.Localize(config)
	if text == "" && err != nil {
		return id
	}
	return text
}

// HasText tells whether there is a text with this id.
func HasText(id string) bool {
	text, _ := tongues()[Languages[0]].texts.Localize(&i18n.LocalizeConfig{MessageID: id})
	return text != ""
}
