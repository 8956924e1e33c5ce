package view

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/countersign-dev/countersign/internal/policy/diff"
)

// The page says of what is signed what the text says that is signed, word by word, and
// nothing else; what it has no room for it counts.
func TestPageIsWhatIsSigned(t *testing.T) {
	whole := 0
	for _, c := range publicationCases() {
		m, ok := c.view.(Publication)
		if !ok {
			continue
		}
		_, doc := render(t, c)
		i := slices.IndexFunc(elements(doc, "section"), func(n *html.Node) bool { v, _ := attr(n, "class"); return v == "signed" })
		said, signed := strings.Fields(text(elements(doc, "section")[i])), strings.Fields(m.Statement.Text())
		if _, left := m.Statement.shown(); left == 0 {
			whole++
			if !slices.Equal(said, signed) {
				t.Errorf("%s: the page says\n%q\nand what is signed is\n%q", c.name, said, signed)
			}
			continue
		}
		if c.name != "publication-long" || len(said) >= len(signed) || !slices.Equal(said[:100], signed[:100]) {
			t.Errorf("%s is not whole", c.name)
		}
		if main := text(elements(doc, "main")[0]); !strings.Contains(main, "more lines are not shown here, and part of what is signed. Read all of it") {
			t.Errorf("%s does not say what it leaves out", c.name)
		}
	}
	if whole < 10 {
		t.Errorf("only %d pages are whole", whole)
	}
}

// What is shown and what is not are all lines; a line that is too long for a page is
// not shown in part.
func TestStatementIsBounded(t *testing.T) {
	line := func(n int) diff.Line { return NewLine(diff.New, strings.Repeat("x", n)) }
	s := Statement{Parts: []Part{{Lines: []diff.Line{line(10), line(2 * maxShown), line(10)}}, {Lines: []diff.Line{line(10)}}}}
	lines, left := s.shown()
	if !slices.Equal(lines, []int{1, 0}) || left != 3 {
		t.Errorf("%v are shown, %d are not", lines, left)
	}
	if n := strings.Count(s.Text(), "\n+ "); n != 4 {
		t.Errorf("the text has %d lines", n)
	}
}

// Nothing in a line of a file is left out or looks like something else.
func TestCode(t *testing.T) {
	for _, x := range [][2]string{
		{"  permit (", "  permit ("},
		{"\t when", "     when"},
		{"a\tb", "a‹U+0009›b"},
		{"a  ", "a  "},
		{"a\r", "a‹U+000D›"},
		{"\u202eb\u200b\x00", "‹U+202E›b‹U+200B›‹U+0000›"},
		{"Group::\"\u0430dministrators\"", "Group::\"‹U+0430›dministrators\""},
		{"\u0433\u0440\u0443\u043f\u043f\u0430 ops", "\u0433\u0440\u0443\u043f\u043f\u0430 ops"},
		{"ops_\u0430 team-\u0430 v1\u0430 \u0661", "ops_‹U+0430› team-‹U+0430› v1‹U+0430› \u0661"},
		{"\u0433\u0440\u0443\u043f\u043f\u0430-1 // -- \u0430", "\u0433\u0440\u0443\u043f\u043f\u0430-1 // -- \u0430"},
		{"\uff41dmin \U0001d41aps o\u0251s x\uff02; \u2024 \u037e \u2026", "‹U+FF41›dmin ‹U+1D41A›ps o‹U+0251›s x‹U+FF02›; ‹U+2024› ‹U+037E› \u2026"},
		{"cafe\u0301", "cafe‹U+0301›"},
		{"caf\u00e9", "caf\u00e9"},
		{"\u0915\u093c\u0301\u0301", "\u0915\u093c\u0301‹U+0301›"},
		{"\u00ad\u3164x", "‹U+00AD›‹U+3164›x"},
		{"bad\xff", "bad\ufffd"},
		{"‹U+0041›", "‹U+2039›U+0041›"},
		{"", ""},
	} {
		if got := code(x[0]); got != x[1] {
			t.Errorf("code(%q) = %q, want %q", x[0], got, x[1])
		}
	}
}

// Whatever is not seen is shown.
func FuzzCode(f *testing.F) {
	for _, s := range []string{"permit", "\u0430b", "a\u0301", "‹U+0430›"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := code(s)
		for _, r := range got {
			if r != ' ' && unseen(r) {
				t.Errorf("%q has %U, which is not seen", got, r)
			}
		}
	})
}
