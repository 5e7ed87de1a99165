package views

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/a-h/templ"

	"calco/cloner/report"
)

// Say writes what the engine has to say in the language of the context. Somebody else's words stay as they are.
func Say(ctx context.Context, t report.Text) string {
	if t.Code == "" {
		return t.Said
	}
	data := make([]any, 0, 2*len(t.Params))
	for name, value := range t.Params {
		data = append(data, name, parameter(ctx, name, value))
	}
	return T(ctx, t.Code, data...)
}

// parameter writes a parameter of a text. The Count stays a number: T chooses the plural form by it.
func parameter(ctx context.Context, name string, value any) any {
	switch v := value.(type) {
	case int:
		if name == "Count" {
			return v
		}
		return Number(ctx, int64(v))
	case report.Side:
		return T(ctx, "side."+string(v))
	case report.Text:
		return Say(ctx, v)
	case []report.Text:
		texts := make([]string, len(v))
		for i, t := range v {
			texts[i] = Say(ctx, t)
		}
		return strings.Join(texts, "; ")
	case []string:
		return names(ctx, v)
	case time.Time:
		return moment(ctx, v)
	case time.Duration:
		return Duration(ctx, v)
	}
	return fmt.Sprint(value)
}

// names writes a list, of which the first few are enough.
func names(ctx context.Context, list []string) string {
	const few = 5
	shown, rest := first(list, few)
	text := strings.Join(shown, ", ")
	if rest == 0 {
		return text
	}
	return T(ctx, "list.more", "Names", text, "Count", rest)
}

// tongueAttrs are those of the element around a text: words that are somebody else's, or an old report's, are in English.
func tongueAttrs(t report.Text) templ.Attributes {
	if t.Said == "" {
		return nil
	}
	return templ.Attributes{"lang": "en"}
}

// sentence is a Text with what it says in English.
type sentence struct {
	report.Text
	English string `json:"text,omitempty"`
}

func english(t report.Text) sentence { return sentence{t, Say(context.Background(), t)} }

func reasonInEnglish(r report.Reason) reasonSentence {
	return reasonSentence{r, english(r.Text), english(r.Hint)}
}

// The values of a report with sentences: each has the fields of what it embeds, and in place of some of them its own.
type (
	plainReport    report.Report // without methods
	reportSentence struct {
		Version int `json:"version"`
		plainReport

		Failure     sentence             `json:"failure,omitzero"`
		Hint        sentence             `json:"hint,omitzero"`
		Reasons     []reasonSentence     `json:"reasons,omitempty"`
		Differences []differenceSentence `json:"differences"`
		Ledger      []ledgerSentence     `json:"ledger"`
		Warnings    []sentence           `json:"warnings,omitempty"`
	}
	reasonSentence struct {
		report.Reason
		Text sentence `json:"text"`
		Hint sentence `json:"hint"`
	}
	differenceSentence struct {
		report.Difference
		ExpectedBecause sentence `json:"expected_because,omitzero"`
	}
	ledgerSentence struct {
		report.LedgerEntry
		Hint sentence `json:"hint,omitzero"`
	}
)

// WithSentences is a report for its readers outside of Calco. As JSON it has beside the code and the parameters of each text
// what that is in English, in a field named text.
func WithSentences(r report.Report) any {
	return reportSentence{
		Version: report.Version, plainReport: plainReport(r),
		Failure: english(r.Failure), Hint: english(r.Hint),
		Reasons: each(r.Reasons, reasonInEnglish),
		Differences: each(r.Differences, func(v report.Difference) differenceSentence {
			return differenceSentence{v, english(v.ExpectedBecause)}
		}),
		Ledger:   each(r.Ledger, func(v report.LedgerEntry) ledgerSentence { return ledgerSentence{v, english(v.Hint)} }),
		Warnings: each(r.Warnings, english),
	}
}

type preflightSentence struct {
	report.Preflight
	Reasons  []reasonSentence `json:"reasons"`
	Warnings []sentence       `json:"warnings"`
}

// PreflightWithSentences is the same for what stands in the way of a clone.
func PreflightWithSentences(p report.Preflight) any {
	return preflightSentence{p, each(p.Reasons, reasonInEnglish), each(p.Warnings, english)}
}

// each keeps nil as it is, which is null in JSON.
func each[A, B any](list []A, of func(A) B) []B {
	if list == nil {
		return nil
	}
	all := make([]B, len(list))
	for i, v := range list {
		all[i] = of(v)
	}
	return all
}
