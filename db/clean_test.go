package db

import (
	"encoding/json"
	"testing"
)

func TestCleanJSON(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"a\x00b\x00": `"a\ufffdb\ufffd"`, `a\u0000`: `"a\\u0000"`, "\\\x00": `"\\\ufffd"`, "\\\\u0000\x00": `"\\\\u0000\ufffd"`, "\n": `"\n"`, "": `""`,
	} {
		got, err := json.Marshal(cleanJSON{in})
		if err != nil || string(got) != want {
			t.Errorf("%q: %s, %v, want %s", in, got, err, want)
		}
	}
}
