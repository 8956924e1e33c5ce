package canon

import (
	"go/ast"
	goparser "go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The table of mechanisms 0.2, and the uses added since.
var table = []string{
	"action", "ceremony", "view", "challenge/approve", "challenge/mandate", "challenge/enrol", "challenge/stepup",
	"call", "tool", "lin", "rt-next", "rt-tag", "audit", "consume",
	"state", "dpop-nonce", "dpop-nonce-resource", "webauthn-challenge", "guess", "policy", "feed-mark", "recovery-claim", "recovery-cancel", "pairwise", "client", "bundle", "member", "publication", "plan",
}

// labels are the string literals in a file that look like labels.
func labels(t *testing.T, file string) (found []string) {
	t.Helper()
	tree, err := goparser.ParseFile(token.NewFileSet(), file, nil, goparser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(tree, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			if s, err := strconv.Unquote(lit.Value); err == nil && strings.HasPrefix(s, "countersign/v1/") {
				found = append(found, s)
			}
		}
		return true
	})
	return found
}

func TestLabels(t *testing.T) {
	seen := map[string]bool{}
	for _, l := range labels(t, "label.go") {
		if seen[l] {
			t.Errorf("%q is used twice", l)
		}
		if strings.Contains(l, "\x00") {
			t.Errorf("%q holds a zero byte", l)
		}
		seen[l] = true
	}
	for _, l := range table {
		if !seen["countersign/v1/"+l] {
			t.Errorf("%q has no constant", l)
		}
	}
	if len(seen) != len(table) {
		t.Errorf("%d labels, the table has %d", len(seen), len(table))
	}
}

// A label anywhere else is one of the table: a use that is not in it cannot be
// seen to be unique.
func TestLabelsElsewhere(t *testing.T) {
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || filepath.Base(filepath.Dir(path)) == "canon" {
			return err
		}
		for _, l := range labels(t, path) {
			if name := strings.TrimSuffix(strings.TrimPrefix(l, "countersign/v1/"), "\x00"); !slices.Contains(table, name) {
				t.Errorf("%s: %q is not in the table of labels", path, l)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestLabelsSeparate(t *testing.T) {
	if H(LabelAudit, []byte("a")) == H(LabelAction, []byte("a")) || M(nil, LabelRTNext) == M(nil, LabelRTTag) {
		t.Error("labels do not separate")
	}
	if H(LabelCall, []byte("ab")) != H(LabelCall, []byte("a"), []byte("b")) {
		t.Error("parts are not simply joined")
	}
}
