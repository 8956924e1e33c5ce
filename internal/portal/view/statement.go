package view

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/countersign-dev/countersign/internal/policy/diff"
)

// Statement is what somebody signs, as they read it: the page shows these words and no
// others about it, and what is signed commits to Text (mechanisms B5). Whatever
// somebody supplied is made visible; times are in UTC, so that it is the same for
// whoever reads it.
type Statement struct {
	Title string
	Facts []Fact
	Parts []Part
}

// Fact is a line of what is signed, with what it says.
type Fact struct{ Label, Text string }

// Part is a list of lines that come, go or stay.
type Part struct {
	Title string // a file, or what the lines are of
	Code  bool   // they are a file's, with their numbers
	Lines []diff.Line
	None  string // a sentence; in the place of lines, if there are none
}

// NewFact is a fact, made visible.
func NewFact(label, text string) Fact {
	return Fact{label, code(strings.TrimSpace(text))}
}

// NewLine is a line that comes ('+'), goes ('-') or changes ('~'), made visible.
func NewLine(op diff.Op, text string) diff.Line {
	return diff.Line{Op: op, Text: code(strings.TrimSpace(text))}
}

// FilePart is how a file differs.
func FilePart(f diff.File) Part {
	p := Part{Title: "File " + code(f.Name), Code: true, Lines: make([]diff.Line, len(f.Lines))}
	switch f.Op {
	case diff.New:
		p.Title += ", new"
	case diff.Gone:
		p.Title += ", taken out"
	}
	for i, l := range f.Lines {
		l.Text = code(l.Text)
		p.Lines[i] = l
	}
	return p
}

// Moment is a time as a statement says it.
func Moment(t time.Time) string { return t.UTC().Format("2 January 2006, 15:04 UTC") }

// written is a line as it is read: what becomes of it, its numbers before and after, and
// its text.
func (p *Part) written(l diff.Line) string {
	if !p.Code {
		return string(l.Op) + " " + l.Text
	}
	number := func(n int) string {
		if n == 0 {
			return "    "
		}
		s := strconv.Itoa(n)
		return strings.Repeat(" ", max(0, 4-len(s))) + s
	}
	return string(l.Op) + " " + number(l.Old) + " " + number(l.Now) + "  " + l.Text
}

// Text is the statement as plain text.
func (s *Statement) Text() string {
	var b strings.Builder
	b.WriteString(s.Title + "\n\n")
	for _, f := range s.Facts {
		b.WriteString(f.Label + ": " + f.Text + "\n")
	}
	for i := range s.Parts {
		p := &s.Parts[i]
		b.WriteString("\n" + p.Title + "\n")
		if len(p.Lines) == 0 {
			b.WriteString(p.None + "\n")
		}
		for _, l := range p.Lines {
			b.WriteString(p.written(l) + "\n")
		}
	}
	return b.String()
}

// A page shows so much of the lines of a statement, in bytes; the rest is read on a page
// of its own.
const maxShown = 12_000

// shown gives how many lines of each part the page shows, and how many it does not.
func (s *Statement) shown() (lines []int, left int) {
	room := maxShown
	for i := range s.Parts {
		p, n := &s.Parts[i], 0
		for _, l := range p.Lines {
			if room -= len(p.written(l)) + len("<del></del>\n"); room < 0 {
				break
			}
			n++
		}
		lines, left = append(lines, n), left+len(p.Lines)-n
	}
	return lines, left
}

// code makes a line of a file safe to read. Unlike Visible it leaves nothing out, as
// somebody signs it: what is not seen, what changes the order of what is seen, and what
// looks like something else (a letter of another alphabet in a Latin word, a mark on a
// Latin letter that has a letter of its own, a twin of a sign of ASCII) is shown as ‹U+0430› (mechanisms 0.3).
func code(s string) string {
	var b strings.Builder
	all := []rune(s)
	indent := true
	for i := 0; i < len(all); {
		end := i
		for end < len(all) && ofWord(all[end]) {
			end++
		}
		if end > i {
			plainWord(&b, all[i:end])
			i, indent = end, false
			continue
		}
		switch r := all[i]; {
		case r == '\t' && indent:
			b.WriteString("    ")
		case r == ' ' || r == utf8.RuneError:
			b.WriteRune(r)
		case unseen(r), twin(r), r == '‹': // with which a point begins
			point(&b, r)
		default:
			b.WriteRune(r)
		}
		indent = indent && (all[i] == ' ' || all[i] == '\t')
		i++
	}
	return b.String()
}

// twin holds for what is drawn as a sign of ASCII and is another: fullwidth and
// mathematical ones, and the letters of phonetics (ɑ, ɡ).
func twin(r rune) bool {
	return r >= utf8.RuneSelf && (0x0250 <= r && r <= 0x02AF || len(norm.NFKC.String(string(r))) == 1)
}

func point(b *strings.Builder, r rune) { fmt.Fprintf(b, "‹U+%04X›", r) }

func mark(r rune) bool { return unicode.Is(unicode.Mn, r) || unicode.Is(unicode.Me, r) }

// ofWord holds for what a word or a name is made of: ops_а and team-а are one each.
func ofWord(r rune) bool {
	return unicode.IsLetter(r) || mark(r) || unicode.IsDigit(r) || r == '_' || r == '-'
}

// plainWord writes a run of them.
func plainWord(b *strings.Builder, word []rune) {
	latin := func(r rune) bool { return unicode.Is(unicode.Latin, r) }
	mixed := slices.ContainsFunc(word, latin)
	marks := 0
	for _, r := range word {
		switch {
		case mark(r):
			if marks++; marks > 2 || mixed || unseen(r) {
				point(b, r)
				continue
			}
		default:
			if marks = 0; unseen(r) || twin(r) || mixed && r >= utf8.RuneSelf && !latin(r) {
				point(b, r)
				continue
			}
		}
		b.WriteRune(r)
	}
}
