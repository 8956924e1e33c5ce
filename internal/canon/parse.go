package canon

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/countersign-dev/countersign/internal/problem"
)

// value is one parsed JSON value: the structure from which both the canonical
// bytes and every judgement about the document come.
type value struct {
	kind    byte // 's' string, 'n' number or literal, 'a' array, 'o' object
	text    string
	items   []value
	members []member
}

type member struct {
	name  string
	value value
}

type parser struct {
	in      []byte
	at      int
	depth   int
	members int
	lim     Limits
}

func refuse(code, format string, args ...any) error {
	return problem.Newf(problem.Invalid, code, format, args...)
}

func (p *parser) syntax() error {
	return refuse("json_invalid", "That is not valid JSON at byte %d.", p.at)
}

func (p *parser) space() {
	for p.at < len(p.in) {
		switch p.in[p.at] {
		case ' ', '\t', '\r', '\n':
			p.at++
		default:
			return
		}
	}
}

// peek skips white space and gives the next byte, 0 at the end. A zero byte in
// the document is no token either, so the two need not be told apart.
func (p *parser) peek() byte {
	p.space()
	if p.at == len(p.in) {
		return 0
	}
	return p.in[p.at]
}

func (p *parser) document() (value, error) {
	if !utf8.Valid(p.in) {
		return value{}, refuse("json_invalid", "The document is not valid UTF-8.")
	}
	c := p.peek()
	v, err := p.value()
	if err != nil {
		return value{}, err
	}
	p.space()
	if p.at != len(p.in) {
		return value{}, p.syntax()
	}
	if c != '{' {
		return value{}, refuse("json_not_object", "The document is not a JSON object.")
	}
	return v, nil
}

func (p *parser) value() (value, error) {
	switch c := p.peek(); {
	case c == '{':
		return p.nested(p.object)
	case c == '[':
		return p.nested(p.array)
	case c == '"':
		s, err := p.str()
		return value{kind: 's', text: s}, err
	case c == '-' || '0' <= c && c <= '9':
		s, err := p.number()
		return value{kind: 'n', text: s}, err
	}
	for _, l := range [...]string{"true", "false", "null"} {
		if strings.HasPrefix(string(p.in[p.at:min(len(p.in), p.at+5)]), l) {
			p.at += len(l)
			return value{kind: 'n', text: l}, nil
		}
	}
	return value{}, p.syntax()
}

func (p *parser) nested(parse func() (value, error)) (value, error) {
	p.depth++
	if p.depth > p.lim.Depth {
		return value{}, refuse("too_deep", "The document is nested more than %d deep.", p.lim.Depth)
	}
	p.at++
	v, err := parse()
	p.depth--
	return v, err
}

func (p *parser) array() (value, error) {
	v := value{kind: 'a'}
	if p.peek() == ']' {
		p.at++
		return v, nil
	}
	for {
		item, err := p.value()
		if err != nil {
			return value{}, err
		}
		v.items = append(v.items, item)
		switch p.peek() {
		case ',':
			p.at++
		case ']':
			p.at++
			return v, nil
		default:
			return value{}, p.syntax()
		}
	}
}

func (p *parser) object() (value, error) {
	v := value{kind: 'o'}
	if p.peek() == '}' {
		p.at++
		return v, nil
	}
	folded := map[string]string{}
	for {
		if p.peek() != '"' {
			return value{}, p.syntax()
		}
		name, err := p.name(folded)
		if err != nil {
			return value{}, err
		}
		if p.peek() != ':' {
			return value{}, p.syntax()
		}
		p.at++
		item, err := p.value()
		if err != nil {
			return value{}, err
		}
		v.members = append(v.members, member{name, item})
		switch p.peek() {
		case ',':
			p.at++
		case '}':
			p.at++
			return v, nil
		default:
			return value{}, p.syntax()
		}
	}
}

// name reads a member name and refuses one that some reader could take for a
// name already in folded.
func (p *parser) name(folded map[string]string) (string, error) {
	name, err := p.str()
	if err != nil {
		return "", err
	}
	if p.members++; p.members > p.lim.Members {
		return "", refuse("too_many_members", "The document has more than %d members.", p.lim.Members)
	}
	if len(name) > p.lim.NameBytes {
		return "", refuse("name_too_long", "A member name is longer than %d bytes.", p.lim.NameBytes)
	}
	key := fold(name)
	switch before, seen := folded[key]; {
	case seen && before == name:
		return "", refuse("duplicate_member", "The member %q occurs twice in one object.", name)
	case seen:
		return "", refuse("ambiguous_member", "The members %q and %q differ only in letter case.", before, name)
	}
	folded[key] = name
	return name, nil
}

// fold maps names that are equal under Unicode simple case folding, and no
// others, to one string: each rune becomes the smallest of its orbit.
func fold(s string) string {
	return strings.Map(func(r rune) rune {
		least := r
		for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
			least = min(least, f)
		}
		return least
	}, s)
}

// str reads a string, the opening quote included, and gives its text.
func (p *parser) str() (string, error) {
	p.at++
	start := p.at
	var b []byte // nil until the first escape
	for p.at < len(p.in) {
		switch c := p.in[p.at]; {
		case c == '"':
			s := string(p.in[start:p.at])
			p.at++
			return string(b) + s, nil
		case c < ' ':
			return "", p.syntax()
		case c == '\\':
			b = append(b, p.in[start:p.at]...)
			r, err := p.escape()
			if err != nil {
				return "", err
			}
			b = utf8.AppendRune(b, r)
			start = p.at
		default:
			p.at++
		}
	}
	return "", p.syntax()
}

func (p *parser) escape() (rune, error) {
	if p.at+1 >= len(p.in) {
		return 0, p.syntax()
	}
	c := p.in[p.at+1]
	if i := strings.IndexByte(`"\/bfnrt`, c); i >= 0 {
		p.at += 2
		return rune("\"\\/\b\f\n\r\t"[i]), nil
	}
	r, ok := p.hex4(p.at)
	if !ok {
		return 0, p.syntax()
	}
	switch {
	case r == 0:
		return 0, refuse("string_invalid", "A string holds U+0000.")
	case 0xD800 <= r && r <= 0xDBFF:
		if low, ok := p.hex4(p.at + 6); ok && 0xDC00 <= low && low <= 0xDFFF {
			p.at += 12
			return (r-0xD800)<<10 + (low - 0xDC00) + 0x10000, nil
		}
		fallthrough
	case 0xDC00 <= r && r <= 0xDFFF:
		return 0, refuse("string_invalid", "A string holds a lone surrogate.")
	}
	p.at += 6
	return r, nil
}

// hex4 reads \uXXXX at the given place.
func (p *parser) hex4(at int) (rune, bool) {
	if at+6 > len(p.in) || p.in[at] != '\\' || p.in[at+1] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(p.in[at+2:at+6]), 16, 16)
	return rune(n), err == nil
}
