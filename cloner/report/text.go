package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Text is something to be said to a person. It has a code and parameters, from which the pages and the terminal write a
// sentence in the language of the reader, or it is Said: in somebody else's words. The zero value says nothing.
//
// Texts are compared with Same. Params is not changed once the Text is made: copies of it share the map.
type Text struct {
	Code   string         `json:"code,omitempty"`   // the id of a text in views/locales, such as reason.not_empty
	Params map[string]any `json:"params,omitempty"` // by their names in that text, see T
	Said   string         `json:"said,omitempty"`   // instead of a code: PostgreSQL's words, or a sentence of an old report
}

// The parameters that have a type of their own, which JSON does not keep. Each has this name in every text.
const (
	paramSide   = "Side"   // a Side
	paramTime   = "Time"   // a time.Time
	paramWaited = "Waited" // a time.Duration
)

// T is a text by its code, which is given as one literal, and by names and values in turn:
//
//	T("reason.not_empty", "Place", url, "Names", names)
//
// A parameter is an int of any size, which is written with separators, a []string, a Text, a []Text, a Side named Side, a
// time.Time named Time, a time.Duration named Waited, or else a string. Any other value becomes a string as fmt.Sprint
// writes it: a URL has no password then. A number that must not have separators is given as a string. What chooses the
// plural form is named Count.
func T(code string, params ...any) Text {
	t := Text{Code: code}
	if len(params) > 0 {
		t.Params = make(map[string]any, len(params)/2)
	}
	for i := 0; i+1 < len(params); i += 2 {
		name := fmt.Sprint(params[i])
		t.Params[name] = parameter(name, params[i+1])
	}
	return t
}

// Said is a text in somebody else's words, or in English where there is no code yet.
func Said(words string) Text { return Text{Said: words} }

// parameter is a value that is the same after it was written as JSON and read again.
func parameter(name string, value any) any {
	switch v := value.(type) {
	case string, int, Text:
		return v
	case []string:
		return append([]string{}, v...)
	case []Text:
		return append([]Text{}, v...)
	case Side:
		if name == paramSide {
			return v
		}
		return string(v)
	case time.Time:
		if name == paramTime {
			return v.UTC().Round(0)
		}
		return v.UTC().Format(time.RFC3339)
	case time.Duration:
		if name == paramWaited {
			return v
		}
		return v.String()
	case fmt.Stringer, error:
		return fmt.Sprint(v)
	}
	switch v := reflect.ValueOf(value); {
	case v.CanInt():
		return int(v.Int())
	case v.CanUint():
		return int(v.Uint()) //nolint:gosec // counts and sizes do not come near the limit
	}
	return fmt.Sprint(value)
}

// IsZero tells whether nothing is said.
func (t Text) IsZero() bool { return t.Code == "" && t.Said == "" }

// Same tells whether both say the same.
func (t Text) Same(other Text) bool {
	return t.Code == other.Code && t.Said == other.Said && (len(t.Params)+len(other.Params) == 0 || reflect.DeepEqual(t.Params, other.Params))
}

// String is for logs: reason.not_empty (Place=a@b:5432/c), or the words that were said.
func (t Text) String() string {
	if t.Code == "" {
		return t.Said
	}
	if len(t.Params) == 0 {
		return t.Code
	}
	params := make([]string, 0, len(t.Params))
	for _, name := range slices.Sorted(maps.Keys(t.Params)) {
		params = append(params, fmt.Sprintf("%s=%v", name, t.Params[name]))
	}
	return t.Code + " (" + strings.Join(params, ", ") + ")"
}

// UnmarshalJSON reads a Text, or a string, as older versions have written it.
func (t *Text) UnmarshalJSON(text []byte) error {
	if text[0] == '"' {
		*t = Text{}
		return json.Unmarshal(text, &t.Said)
	}
	type plain Text // has no methods
	var read struct {
		plain
		Params map[string]json.RawMessage `json:"params"`
	}
	if err := json.Unmarshal(text, &read); err != nil {
		return fmt.Errorf("read a text: %w", err)
	}
	*t = Text(read.plain)
	if len(read.Params) > 0 {
		t.Params = make(map[string]any, len(read.Params))
	}
	for name, raw := range read.Params {
		value, err := readParameter(name, raw)
		if err != nil {
			return fmt.Errorf("read the parameter %s of the text %s: %w", name, t.Code, err)
		}
		t.Params[name] = value
	}
	return nil
}

// readParameter reads what parameter has made. What it does not know is a string.
func readParameter(name string, raw json.RawMessage) (any, error) {
	switch {
	case name == paramSide && raw[0] == '"':
		return readAs[Side](raw)
	case name == paramTime && raw[0] == '"':
		return readAs[time.Time](raw)
	case name == paramWaited && raw[0] != '"':
		return readAs[time.Duration](raw)
	case raw[0] == '"':
		return readAs[string](raw)
	case raw[0] == '{':
		return readAs[Text](raw)
	case raw[0] == '[' && bytes.ContainsRune(raw, '{') && json.Unmarshal(raw, &[]string{}) != nil:
		return readAs[[]Text](raw)
	case raw[0] == '[':
		return readAs[[]string](raw)
	}
	if n, err := readAs[int](raw); err == nil {
		return n, nil
	}
	return string(raw), nil
}

func readAs[V any](raw json.RawMessage) (V, error) {
	var v V
	err := json.Unmarshal(raw, &v)
	return v, err
}
