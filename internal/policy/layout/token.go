package layout

import (
	"errors"
	"strings"
)

// token is a word of Cedar with the comments that stand with it.
type token struct {
	text  string
	lead  []comment // on lines of their own, before it
	trail string    // behind it, on its line
	blank bool      // an empty line stands before it, and after the comments before it
}

// comment is a comment as it is written.
type comment struct {
	text  string
	blank bool // an empty line stands before it
}

// scan reads tokens. The last one is empty: the end, with what stands before it.
// What is not Cedar comes out as some token, for the parser to refuse.
func scan(text string) ([]token, error) {
	var out []token
	var next token
	lines := 0 // newlines since the last token or comment
	var deep bounds
	for i := 0; ; {
		for ; i < len(text) && strings.IndexByte(" \t\r\n", text[i]) >= 0; i++ {
			if text[i] == '\n' {
				lines++
			}
		}
		n := length(text[i:])
		word := text[i : i+n]
		i += n
		if strings.HasPrefix(word, "//") || strings.HasPrefix(word, "/*") {
			word = strings.TrimRight(word, " \t\r")
			if last := len(out) - 1; last >= 0 && lines == 0 && out[last].trail == "" && len(next.lead) == 0 {
				out[last].trail = word
			} else {
				next.lead = append(next.lead, comment{word, lines > 1})
			}
			lines = 0
			continue
		}
		next.text, next.blank = word, lines > 1
		out = append(out, next)
		next, lines = token{}, 0
		if word == "" {
			return out, nil
		}
		if err := deep.take(word); err != nil {
			return nil, err
		}
	}
}

// bounds hold a text to what can be parsed in bounded time and memory.
type bounds struct {
	brackets, signs int
	has             bool // what stands here is asked for with has
	unfolds         int  // a has b.c is a has b && a.b has c: twice a, and so on
}

var (
	errDeep    = errors.New("brackets or signs stand too deep in each other")
	errUnfolds = errors.New("too much is asked for with has")
)

func (b *bounds) take(word string) error {
	switch word {
	case "(", "[", "{":
		b.brackets++
	case ")", "]", "}":
		b.brackets--
	case ";":
		b.unfolds = 0
	}
	switch {
	case word == "has":
		b.has = true
	case b.has && word == ".":
		b.unfolds++
	case !letter(word[0]):
		b.has = false
	}
	if b.signs++; word != "!" && word != "-" {
		b.signs = 0
	}
	switch {
	case b.brackets > maxDepth, b.signs > maxDepth:
		return errDeep
	case b.unfolds > maxUnfolds:
		return errUnfolds
	}
	return nil
}

// Bounded refuses a text that could take a parser of Cedar beyond its stack or
// memory, whatever its length.
func Bounded(text string) error {
	_, err := scan(text)
	return err
}

// length is that of the token or comment at the start of text; 0 at its end.
func length(text string) int {
	if text == "" {
		return 0
	}
	for _, two := range []string{"::", "==", "!=", "<=", ">=", "&&", "||"} {
		if strings.HasPrefix(text, two) {
			return 2
		}
	}
	switch c := text[0]; {
	case strings.HasPrefix(text, "//"):
		if n := strings.IndexByte(text, '\n'); n >= 0 {
			return n
		}
		return len(text)
	case strings.HasPrefix(text, "/*"):
		if n := strings.Index(text[2:], "*/"); n >= 0 {
			return n + 4
		}
		return len(text)
	case c == '"':
		for i := 1; i < len(text); i++ {
			switch text[i] {
			case '\\':
				i++
			case '"':
				return i + 1
			}
		}
		return len(text)
	case letter(c):
		n := 1
		for n < len(text) && letter(text[n]) && (!digit(c) || digit(text[n])) {
			n++
		}
		return n
	}
	return 1
}

func digit(c byte) bool { return '0' <= c && c <= '9' }

// letter reports whether c is one of a name or number.
func letter(c byte) bool {
	return c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || digit(c)
}

// settle moves comments that stand before or within what separates: one behind an
// operand goes behind the separator on its line, others before what follows.
func settle(tokens []token) {
	for i := 1; i+1 < len(tokens); i++ {
		t, before, after := &tokens[i], &tokens[i-1], &tokens[i+1]
		if t.text != "," && t.text != ";" && t.text != "&&" && t.text != "||" {
			continue
		}
		all := t.lead
		if before.trail != "" {
			all = append([]comment{{text: before.trail}}, all...)
		}
		if t.trail != "" {
			all = append(all, comment{text: t.trail})
		}
		before.trail, t.lead, t.trail = "", nil, ""
		if len(all) == 0 {
			continue
		}
		t.trail = all[0].text
		after.lead = append(all[1:len(all):len(all)], after.lead...)
	}
}
