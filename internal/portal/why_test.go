package portal

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestEveryPageSaysWhatItIsFor: what a page is confirmed for is one of ownActions: of
// another key the step-up would say nothing, and ask for too little.
func TestEveryPageSaysWhatItIsFor(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) == 0 {
		t.Fatal("there are no files here", err)
	}
	key := regexp.MustCompile(`s\.(?:may|perform)\(w, r, .*, "([a-z]*)"\)`)
	found := 0
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(string(text), "\n") {
			m := key.FindStringSubmatch(line)
			if m == nil {
				continue
			}
			found++
			if ownActions[m[1]].words == "" {
				t.Errorf("%s:%d: nobody is told what %q is", name, i+1, m[1])
			}
		}
	}
	if found < 20 {
		t.Errorf("only %d pages were found", found)
	}
}
