package jose

import (
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// The bounds of JSON within a token.
const (
	maxDepth   = 16
	maxMembers = 256 // of one object
)

// object is a JSON object whose values are still text. Names are compared byte
// by byte: "Exp" is not "exp".
type object []member

type member struct{ name, raw string }

func (o object) get(name string) (raw string, ok bool) {
	for i := range o {
		if o[i].name == name {
			return o[i].raw, true
		}
	}
	return "", false
}

// readObject reads a text that is one JSON object and nothing else: valid
// UTF-8, no duplicate members at any depth, no lone surrogates, within bounds.
func readObject(s string) (object, bool) {
	if !utf8.ValidString(s) {
		return nil, false
	}
	p := scanner{s: s}
	p.space()
	if p.next() != '{' {
		return nil, false
	}
	o, ok := p.outer(make(object, 0, min(24, 2+len(s)/24)))
	p.space()
	if !ok || p.i != len(s) {
		return nil, false
	}
	return o, true
}

type scanner struct {
	s     string
	i     int
	depth int
	names []string // of the inner objects that are open, the innermost last
}

func (p *scanner) space() {
	for p.i < len(p.s) && (p.s[p.i] == ' ' || p.s[p.i] == '\n' || p.s[p.i] == '\t' || p.s[p.i] == '\r') {
		p.i++
	}
}

// next is the byte at hand, 0 at the end.
func (p *scanner) next() byte {
	if p.i < len(p.s) {
		return p.s[p.i]
	}
	return 0
}

// eat moves over white space and then c.
func (p *scanner) eat(c byte) bool {
	p.space()
	if p.next() != c {
		return false
	}
	p.i++
	return true
}

// value moves over one value and gives its text.
func (p *scanner) value() (raw string, ok bool) {
	p.space()
	start := p.i
	switch c := p.next(); {
	case c == '{':
		ok = p.inner()
	case c == '[':
		ok = p.array()
	case c == '"':
		_, ok = p.str()
	case c == '-' || '0' <= c && c <= '9':
		ok = p.number()
	default:
		for _, l := range [...]string{"true", "false", "null"} {
			if strings.HasPrefix(p.s[p.i:], l) {
				p.i += len(l)
				ok = true
				break
			}
		}
	}
	return p.s[start:p.i], ok
}

// outer moves over the outermost object and gives its members, kept in o.
func (p *scanner) outer(o object) (object, bool) {
	p.i++
	p.depth++ // it is the outermost
	if p.eat('}') {
		return o, true
	}
	for {
		p.space()
		if p.next() != '"' || len(o) == maxMembers {
			return nil, false
		}
		name, ok := p.str()
		if _, twice := o.get(name); !ok || twice || !p.eat(':') {
			return nil, false
		}
		raw, ok := p.value()
		if !ok {
			return nil, false
		}
		o = append(o, member{name, raw})
		if p.eat('}') {
			return o, true
		}
		if !p.eat(',') {
			return nil, false
		}
	}
}

// inner moves over an object whose members nobody asks for yet; that they are
// distinct is checked all the same.
func (p *scanner) inner() bool {
	p.i++
	if p.depth++; p.depth > maxDepth {
		return false
	}
	mine := len(p.names)
	defer func() { p.depth--; p.names = p.names[:mine] }()
	if p.eat('}') {
		return true
	}
	for {
		p.space()
		if p.next() != '"' || len(p.names)-mine == maxMembers {
			return false
		}
		name, ok := p.str()
		if !ok || slices.Contains(p.names[mine:], name) || !p.eat(':') {
			return false
		}
		p.names = append(p.names, name)
		if _, ok := p.value(); !ok {
			return false
		}
		if p.eat('}') {
			return true
		}
		if !p.eat(',') {
			return false
		}
	}
}

func (p *scanner) array() bool {
	p.i++
	if p.depth++; p.depth > maxDepth {
		return false
	}
	defer func() { p.depth-- }()
	if p.eat(']') {
		return true
	}
	for {
		if _, ok := p.value(); !ok {
			return false
		}
		if p.eat(']') {
			return true
		}
		if !p.eat(',') {
			return false
		}
	}
}

// each calls f with every element of an array that was read before.
func each(raw string, f func(raw string) bool) bool {
	p := scanner{s: raw}
	if !p.eat('[') {
		return false
	}
	if p.eat(']') {
		return true
	}
	for {
		v, ok := p.value()
		if !ok || !f(v) {
			return false
		}
		if !p.eat(',') {
			return p.eat(']')
		}
	}
}

func (p *scanner) number() bool {
	digits := func() bool {
		start := p.i
		for p.i < len(p.s) && '0' <= p.s[p.i] && p.s[p.i] <= '9' {
			p.i++
		}
		return p.i > start
	}
	if p.next() == '-' {
		p.i++
	}
	if p.next() == '0' {
		p.i++
	} else if !digits() {
		return false
	}
	if p.next() == '.' {
		p.i++
		if !digits() {
			return false
		}
	}
	if c := p.next(); c == 'e' || c == 'E' {
		p.i++
		if c := p.next(); c == '+' || c == '-' {
			p.i++
		}
		return digits()
	}
	return true
}

// str moves over a string and gives its text.
func (p *scanner) str() (string, bool) {
	p.i++
	start := p.i
	for p.i < len(p.s) {
		switch c := p.s[p.i]; {
		case c == '"':
			p.i++
			return p.s[start : p.i-1], true
		case c < ' ':
			return "", false
		case c == '\\':
			return p.escaped(start)
		}
		p.i++
	}
	return "", false
}

// escaped is str from the first escape on.
func (p *scanner) escaped(start int) (string, bool) {
	b := []byte(p.s[start:p.i])
	for p.i < len(p.s) {
		c := p.s[p.i]
		switch {
		case c == '"':
			p.i++
			return string(b), true
		case c < ' ':
			return "", false
		case c != '\\':
			b = append(b, c)
			p.i++
			continue
		}
		if p.i+1 == len(p.s) {
			return "", false
		}
		if at := strings.IndexByte(`"\/bfnrt`, p.s[p.i+1]); at >= 0 {
			b = append(b, "\"\\/\b\f\n\r\t"[at])
			p.i += 2
			continue
		}
		r, ok := p.hex4(p.i)
		if !ok || r == 0 || 0xDC00 <= r && r <= 0xDFFF {
			return "", false
		}
		p.i += 6
		if 0xD800 <= r && r <= 0xDBFF {
			low, ok := p.hex4(p.i)
			if !ok || low < 0xDC00 || low > 0xDFFF {
				return "", false
			}
			p.i += 6
			r = (r-0xD800)<<10 + (low - 0xDC00) + 0x10000
		}
		b = utf8.AppendRune(b, r)
	}
	return "", false
}

func (p *scanner) hex4(at int) (rune, bool) {
	if at+6 > len(p.s) || p.s[at] != '\\' || p.s[at+1] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(p.s[at+2:at+6], 16, 16)
	return rune(n), err == nil
}

// claims reads members by type. A member that is absent reads as the zero
// value; one of the wrong type is noted in bad, the first one wins.
type claims struct {
	object
	bad string
}

func (c *claims) has(name string) bool { _, ok := c.get(name); return ok }

// wrong notes a member of the wrong type.
func (c *claims) wrong(name string) {
	if c.bad == "" {
		c.bad = name
	}
}

func (c *claims) raw(name string) string { raw, _ := c.get(name); return raw }

func text(raw string) (string, bool) {
	if raw == "" || raw[0] != '"' {
		return "", false
	}
	p := scanner{s: raw}
	return p.str()
}

func (c *claims) str(name string) string {
	raw, ok := c.get(name)
	if !ok {
		return ""
	}
	s, ok := text(raw)
	if !ok {
		c.wrong(name)
	}
	return s
}

func (c *claims) strs(name string) (list []string) {
	raw, ok := c.get(name)
	if ok && !each(raw, func(raw string) bool {
		s, ok := text(raw)
		list = append(list, s)
		return ok
	}) {
		c.wrong(name)
		return nil
	}
	return list
}

// audience is a string or an array of strings (RFC 7519 §4.1.3).
func (c *claims) audience() Audience { return c.texts("aud") }

// texts reads a member that is a string or an array of strings.
func (c *claims) texts(name string) []string {
	if raw, ok := c.get(name); ok && raw[0] == '[' {
		return c.strs(name)
	}
	if s := c.str(name); s != "" {
		return []string{s}
	}
	return nil
}

func (c *claims) int(name string) int64 {
	raw, ok := c.get(name)
	if !ok {
		return 0
	}
	n, err := strconv.ParseInt(raw, 10, 64)
	if err != nil || n > 1<<53 || n < -1<<53 {
		c.wrong(name)
		return 0
	}
	return n
}

// date reads a NumericDate; a fraction is cut off.
func (c *claims) date(name string) NumericDate {
	raw, ok := c.get(name)
	if !ok {
		return 0
	}
	if strings.ContainsAny(raw, ".eE") && raw[0] != '"' {
		f, err := strconv.ParseFloat(raw, 64)
		if err != nil || math.Abs(f) > 1<<53 {
			c.wrong(name)
			return 0
		}
		return NumericDate(math.Floor(f))
	}
	return NumericDate(c.int(name))
}

func (c *claims) bool(name string) bool {
	raw, ok := c.get(name)
	if ok && raw != "true" && raw != "false" {
		c.wrong(name)
	}
	return raw == "true"
}

// sub reads a member that is an object; ok is false if it is absent or none.
func (c *claims) sub(name string) (o claims, ok bool) {
	raw, ok := c.get(name)
	if !ok {
		return claims{}, false
	}
	inner, ok := readObject(raw)
	if !ok {
		c.wrong(name)
	}
	return claims{object: inner}, ok
}

// NumericDate is a time in seconds since 1970 UTC (RFC 7519 §2); 0 is absent.
type NumericDate int64

// Date cuts a time to the second; the zero time is 0.
func Date(t time.Time) NumericDate {
	if t.IsZero() {
		return 0
	}
	return NumericDate(t.Unix())
}

// Time is the date as a time; the zero time if absent.
func (d NumericDate) Time() time.Time {
	if d == 0 {
		return time.Time{}
	}
	return time.Unix(int64(d), 0).UTC()
}

// Audience is one or more audiences: an array or a string when read, a string
// when one is written.
type Audience []string

// MarshalJSON implements json.Marshaler.
func (a Audience) MarshalJSON() ([]byte, error) {
	if len(a) == 1 {
		return json.Marshal(a[0])
	}
	return json.Marshal([]string(a))
}

// Has reports whether one of the audiences is in the list, byte by byte.
func (a Audience) Has(list ...string) bool {
	for _, x := range a {
		for _, y := range list {
			if x == y {
				return true
			}
		}
	}
	return false
}
