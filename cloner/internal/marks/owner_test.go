package marks_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Only this package makes transactions that may write to a target.
func TestOnlyMarksWrites(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../*.go")
	if err != nil {
		t.Fatal(err)
	}
	rooms, err := filepath.Glob("../*/*.go")
	if err != nil {
		t.Fatal(err)
	}
	read := 0
	for _, name := range append(files, rooms...) {
		if strings.HasSuffix(name, "_test.go") || filepath.Base(filepath.Dir(name)) == "marks" {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		read++
		for _, words := range []string{"READ WRITE", "transaction_read_only = off"} {
			if strings.Contains(string(text), words) {
				t.Errorf("%s has %s", name, words)
			}
		}
	}
	if read < 20 {
		t.Errorf("%d files were read", read)
	}
}
