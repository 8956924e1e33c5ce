package countersign

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Challenge is one challenge of a WWW-Authenticate header, with the parameters
// of RFC 6750, RFC 9449, RFC 9470 and RFC 9728 read.
type Challenge struct {
	Scheme           string // as sent, e.g. "DPoP"
	Error            string // e.g. "insufficient_user_authentication"; "" if no token was sent
	Description      string // for people; from the server, shown as it is
	Scope            []string
	ACRValues        []string      // sufficient ones, ascending
	MaxAge           time.Duration // of the sign-in; meaningful if HasMaxAge
	HasMaxAge        bool
	ResourceMetadata string            // URL of the RFC 9728 document
	ClientAssurance  string            // rung that a machine needs
	Params           map[string]string // all parameters, names in lower case

	// Where it came from; set by Transport.
	Method, URL string
	Ref         string // Countersign-Ref
}

// errChallenge is the one fault of the parser.
var errChallenge = errors.New("countersign: malformed WWW-Authenticate header")

// maxChallenge bounds what is read of one header line.
const maxChallenge = 16 << 10

// ParseChallenge reads the values of WWW-Authenticate (RFC 9110 section
// 11.6.1): any number of lines, each with any number of challenges. If a line
// is malformed or a parameter is repeated, the result is nil and an error.
func ParseChallenge(values []string) ([]Challenge, error) {
	var out []Challenge
	for _, v := range values {
		if len(v) > maxChallenge {
			return nil, errChallenge
		}
		p := challengeParser{s: v}
		list, ok := p.challenges()
		if !ok {
			return nil, errChallenge
		}
		out = append(out, list...)
	}
	return out, nil
}

// challengeOf is the first challenge for the scheme in a response's headers.
func challengeOf(h http.Header, scheme string) (Challenge, bool) {
	list, err := ParseChallenge(h.Values("WWW-Authenticate"))
	if err != nil {
		return Challenge{}, false
	}
	for _, c := range list {
		if strings.EqualFold(c.Scheme, scheme) {
			c.Ref = h.Get("Countersign-Ref")
			return c, true
		}
	}
	return Challenge{}, false
}

type challengeParser struct {
	s string
	i int
}

func (p *challengeParser) space() {
	for p.i < len(p.s) && (p.s[p.i] == ' ' || p.s[p.i] == '\t') {
		p.i++
	}
}

func (p *challengeParser) peek(c byte) bool { return p.i < len(p.s) && p.s[p.i] == c }

// commas skips empty list elements and tells whether there was a comma.
func (p *challengeParser) commas() (any bool) {
	for {
		p.space()
		if !p.peek(',') {
			return any
		}
		p.i++
		any = true
	}
}

func isToken(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

func (p *challengeParser) token() string {
	start := p.i
	for p.i < len(p.s) && isToken(p.s[p.i]) {
		p.i++
	}
	return p.s[start:p.i]
}

func (p *challengeParser) challenges() (out []Challenge, ok bool) {
	p.commas()
	for p.i < len(p.s) {
		scheme := p.token()
		if scheme == "" {
			return nil, false
		}
		c := Challenge{Scheme: scheme, Params: map[string]string{}}
		if p.i < len(p.s) && !p.peek(',') {
			if !p.peek(' ') && !p.peek('\t') {
				return nil, false
			}
			p.space()
			if !p.token68() && !p.params(c.Params) {
				return nil, false
			}
		}
		if !c.read() {
			return nil, false
		}
		out = append(out, c)
		if p.space(); p.i < len(p.s) && !p.peek(',') && !p.atScheme() {
			return nil, false
		}
		p.commas()
	}
	return out, true
}

// token68 skips the one value that some schemes have instead of parameters.
func (p *challengeParser) token68() bool {
	start := p.i
	for p.i < len(p.s) && (isToken(p.s[p.i]) || p.s[p.i] == '/') {
		p.i++
	}
	body := p.i > start
	for p.peek('=') {
		p.i++
	}
	p.space()
	if body && (p.i == len(p.s) || p.peek(',')) {
		return true
	}
	p.i = start
	return false
}

// params reads name=value pairs until the next element is a scheme.
func (p *challengeParser) params(m map[string]string) bool {
	for {
		name := strings.ToLower(p.token())
		p.space()
		if name == "" || !p.peek('=') {
			return false
		}
		p.i++
		p.space()
		value, ok := p.value()
		if _, twice := m[name]; !ok || twice {
			return false
		}
		m[name] = value
		if !p.commas() || p.i == len(p.s) || p.atScheme() {
			return true
		}
	}
}

// atScheme looks ahead: a token that no "=" follows begins a challenge.
func (p *challengeParser) atScheme() bool {
	q := *p
	if q.token() == "" {
		return false
	}
	q.space()
	return !q.peek('=')
}

func (p *challengeParser) value() (string, bool) {
	if !p.peek('"') {
		v := p.token()
		return v, v != ""
	}
	p.i++
	var b strings.Builder
	for p.i < len(p.s) {
		c := p.s[p.i]
		p.i++
		switch {
		case c == '"':
			return b.String(), true
		case c == '\\':
			if p.i == len(p.s) {
				return "", false
			}
			c = p.s[p.i]
			p.i++
		}
		if c < ' ' && c != '\t' || c == 0x7f {
			return "", false
		}
		b.WriteByte(c)
	}
	return "", false
}

// read takes the known parameters out of Params.
func (c *Challenge) read() bool {
	c.Error, c.Description = c.Params["error"], c.Params["error_description"]
	c.Scope, c.ACRValues = strings.Fields(c.Params["scope"]), strings.Fields(c.Params["acr_values"])
	c.ResourceMetadata, c.ClientAssurance = c.Params["resource_metadata"], c.Params["client_assurance"]
	if v, ok := c.Params["max_age"]; ok {
		n, err := strconv.ParseUint(v, 10, 31)
		if err != nil {
			return false
		}
		c.MaxAge, c.HasMaxAge = time.Duration(n)*time.Second, true
	}
	return true
}
