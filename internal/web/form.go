package web

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/countersign-dev/countersign/internal/problem"
)

// MaxParameters is how many parameters a form may have.
const MaxParameters = 100

// Form is the parameters of a request. One without a value is absent (RFC 6749
// §3.1).
type Form struct{ values map[string][]string }

// Get is the parameter's value, "" if absent; the first of a repeatable one.
func (f Form) Get(name string) string {
	if v := f.values[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// Has reports whether the parameter has a value.
func (f Form) Has(name string) bool { return len(f.values[name]) > 0 }

// Names are the parameters that have a value, in order.
func (f Form) Names() []string { return slices.Sorted(maps.Keys(f.values)) }

// All is the values of a repeatable parameter, in order.
func (f Form) All(name string) []string { return slices.Clone(f.values[name]) }

// ParseForm reads the parameters of a request strictly: of the query for GET
// and HEAD, of the body (application/x-www-form-urlencoded, at most max bytes)
// otherwise; never of both. A name that occurs twice is refused unless it is
// repeatable, as are NUL, invalid UTF-8 and broken escapes. Errors are
// problem.Invalid with codes form_type, form_too_large, form_malformed,
// parameter_repeated and parameter_malformed; on error the form is empty.
func ParseForm(r *http.Request, max int, repeatable ...string) (Form, error) {
	text := r.URL.RawQuery
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		var err error
		if text, err = body(r, max); err != nil {
			return Form{}, err
		}
	}
	return parse(text, max, repeatable)
}

// CheckQuery refuses a query that ParseForm would refuse: for what reads single
// parameters of it beside a body.
func CheckQuery(r *http.Request, max int) error {
	_, err := parse(r.URL.RawQuery, max, nil)
	return err
}

func body(r *http.Request, max int) (string, error) {
	types := r.Header.Values("Content-Type")
	if len(types) != 1 {
		return "", badType
	}
	typ, params, err := mime.ParseMediaType(types[0])
	if charset, ok := params["charset"]; err != nil || typ != "application/x-www-form-urlencoded" || ok && !strings.EqualFold(charset, "utf-8") {
		return "", badType
	}
	if r.ContentLength > int64(max) {
		return "", tooLarge
	}
	b, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, int64(max)))
	if large := (*http.MaxBytesError)(nil); errors.As(err, &large) {
		return "", tooLarge
	}
	if err != nil {
		return "", problem.New(problem.Invalid, "form_malformed", "The request body ended early.").Because(err)
	}
	return string(b), nil
}

var (
	badType  = problem.New(problem.Invalid, "form_type", "The request body must be application/x-www-form-urlencoded.")
	tooLarge = problem.New(problem.Invalid, "form_too_large", "The request is too large.")
)

func parse(text string, max int, repeatable []string) (Form, error) {
	if len(text) > max {
		return Form{}, tooLarge
	}
	var pairs []Pair
	for text != "" {
		var pair string
		pair, text, _ = strings.Cut(text, "&")
		if pair == "" {
			continue
		}
		name, value, ok := readPair(pair)
		if !ok {
			return Form{}, malformed
		}
		if len(pairs) == MaxParameters {
			return Form{}, tooLarge
		}
		pairs = append(pairs, Pair{name, value})
	}
	return NewForm(pairs, repeatable...)
}

// Pair is one parameter as it was sent.
type Pair struct{ Name, Value string }

// NewForm is the form of parameters that came in another form than a body or a
// query, held to the same rules as ParseForm's.
func NewForm(pairs []Pair, repeatable ...string) (Form, error) {
	if len(pairs) > MaxParameters {
		return Form{}, tooLarge
	}
	f := Form{values: make(map[string][]string, len(pairs))}
	seen := make(map[string]bool, len(pairs))
	for _, p := range pairs {
		if !IsText(p.Name) || !IsText(p.Value) {
			return Form{}, malformed
		}
		if seen[p.Name] && !slices.Contains(repeatable, p.Name) {
			return Form{}, problem.Newf(problem.Invalid, "parameter_repeated", "The parameter %s occurs twice.", strings.Trim(fmt.Sprintf("%+.64q", p.Name), `"`))
		}
		if seen[p.Name] = true; p.Value != "" {
			f.values[p.Name] = append(f.values[p.Name], p.Value)
		}
	}
	return f, nil
}

var malformed = problem.New(problem.Invalid, "parameter_malformed", "A parameter holds a broken escape, a NUL or invalid UTF-8.")

// readPair decodes name=value. A bare semicolon is refused: some parsers end
// the parameter there.
func readPair(pair string) (name, value string, ok bool) {
	name, value, _ = strings.Cut(pair, "=")
	name, err1 := url.QueryUnescape(name)
	value, err2 := url.QueryUnescape(value)
	if err1 != nil || err2 != nil || strings.IndexByte(pair, ';') >= 0 {
		return "", "", false
	}
	return name, value, true
}

// IsText reports whether s is text that every database takes: valid UTF-8
// without NUL.
func IsText(s string) bool { return utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 }
