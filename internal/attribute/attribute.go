// Package attribute is what an enforcement point says of its things beside which they
// are and whose: values of a few types, under names that a deployment's schema declares.
// It is pure, and small enough for the SDK.
package attribute

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Type is the type of an attribute, as Cedar's schema language writes it.
type Type string

// The types.
const (
	String Type = "String"      // at most MaxText bytes of UTF-8 without NUL
	Long   Type = "Long"        // a whole number within ±MaxLong
	Bool   Type = "Bool"        // true or false
	Set    Type = "Set<String>" // at most MaxElements different texts
)

// The bounds of what is declared and said.
const (
	MaxDeclared = 16
	MaxText     = 512 // bytes
	MaxElements = 64
	MaxBytes    = 4096      // of all texts that are said of one thing
	MaxLong     = 1<<53 - 1 // beyond it JSON does not say a number exactly (RFC 8259 section 6)
)

// name is what an attribute may be called.
var name = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,63}$`)

// Good reports whether an attribute may have a name.
func Good(s string) bool { return name.MatchString(s) }

// UnmarshalJSON implements json.Unmarshaler. It reads what a Values is written as.
func (v *Values) UnmarshalJSON(text []byte) error {
	said, err := Read(text)
	if err != nil || said == nil {
		return err
	}
	*v = Plain(said)
	for n := range said {
		if (*v)[n] == nil {
			return fmt.Errorf("attribute %s is of no type that there is", n)
		}
	}
	return nil
}

// Plain is what of all that is said of a thing some declaration could take, as Take takes
// it: however a Go type would write itself as JSON.
func Plain(said map[string]any) Values {
	out := make(Values, len(said))
	for n, x := range said {
		for _, t := range [...]Type{String, Long, Bool, Set} {
			if one, err := t.take(x); err == nil && Good(n) {
				out[n] = one
			}
		}
	}
	return out
}

// Read reads what is said of a thing from a JSON object, for Take.
func Read(text []byte) (said map[string]any, err error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	err = d.Decode(&said)
	return said, err
}

// Types are the attributes that are declared of one type of thing, by name. All of them
// are required.
type Types map[string]Type

// Values are attributes by name, each a string, an int64, a bool, or a []string whose
// elements ascend and differ. They are shared: read them, do not change them.
type Values map[string]any

// Names are the names of the attributes, ascending.
func (t Types) Names() []string { return slices.Sorted(maps.Keys(t)) }

// Take takes what is declared out of what is said of a thing: strings, whole numbers,
// booleans and slices of strings, of any Go type that is made of them, and what JSON and
// YAML are read as. Other names are passed over. The error says, in words for whoever
// wrote the enforcement point, which attribute is missing or of another type.
func (t Types) Take(said map[string]any) (Values, error) {
	if len(t) == 0 {
		return nil, nil
	}
	out := make(Values, len(t))
	size := 0
	for n, is := range t {
		taken, err := is.take(said[n])
		if err != nil {
			return nil, t.first(said)
		}
		out[n] = taken
		size += sizeOf(taken)
	}
	if size > MaxBytes {
		return nil, fmt.Errorf("texts are more than %d bytes together", MaxBytes)
	}
	return out, nil
}

// first says of the first attribute that is not as declared what is wrong with it.
func (t Types) first(said map[string]any) error {
	for _, n := range t.Names() {
		v, ok := said[n]
		if !ok {
			return fmt.Errorf("%s is missing; it is a %s", n, t[n])
		}
		if _, err := t[n].take(v); err != nil {
			return fmt.Errorf("%s %w", n, err)
		}
	}
	return nil
}

// Lacks is the first attribute that values do not say as it is declared; "" if they say
// all of them.
func (t Types) Lacks(v Values) string {
	if len(t) == 0 {
		return ""
	}
	least := ""
	for n, is := range t {
		if !is.Has(v[n]) && (least == "" || n < least) {
			least = n
		}
	}
	return least
}

// With is both; of an attribute that both declare, as the second does.
func (t Types) With(o Types) Types {
	out := maps.Clone(t)
	if out == nil {
		return o
	}
	maps.Copy(out, o)
	return out
}

// Fit is what of some values is declared, and of what they do not say the value that
// says least.
func (t Types) Fit(v Values) Values {
	if len(t) == 0 {
		return nil
	}
	out := make(Values, len(t))
	for n, is := range t {
		if out[n] = v[n]; !is.Has(v[n]) {
			out[n] = is.Zero()
		}
	}
	return out
}

// Has reports whether a value is one of the type.
func (t Type) Has(v any) (ok bool) {
	switch t {
	case String:
		_, ok = v.(string)
	case Long:
		_, ok = v.(int64)
	case Bool:
		_, ok = v.(bool)
	case Set:
		_, ok = v.([]string)
	}
	return ok
}

// Zero is the value that says least.
func (t Type) Zero() any {
	switch t {
	case Long:
		return int64(0)
	case Bool:
		return false
	case Set:
		return []string{}
	default:
		return ""
	}
}

// sizeOf is how many bytes the texts of a value have.
func sizeOf(v any) (n int) {
	switch v := v.(type) {
	case string:
		return len(v)
	case []string:
		for _, s := range v {
			n += len(s)
		}
	}
	return n
}

// take reads a value of the type.
func (t Type) take(v any) (any, error) {
	switch t {
	case String:
		if s, ok := text(v); ok {
			if _, plain := v.(string); !plain {
				v = s
			}
			return v, sound(s)
		}
	case Long:
		n, ok := whole(v)
		switch {
		case !ok:
		case n > MaxLong || n < -MaxLong:
			return nil, fmt.Errorf("is beyond ±%d", int64(MaxLong))
		default:
			return n, nil
		}
	case Bool:
		if b := reflect.ValueOf(v); b.IsValid() && b.Kind() == reflect.Bool {
			return b.Bool(), nil
		}
	case Set:
		switch s := v.(type) {
		case []string:
			return set(len(s), func(i int) (string, bool) { return s[i], true })
		default:
			if r := reflect.ValueOf(v); r.IsValid() && r.Kind() == reflect.Slice {
				return set(r.Len(), func(i int) (string, bool) { return text(r.Index(i).Interface()) })
			}
		}
	}
	return nil, fmt.Errorf("is not a %s", t)
}

// text reads a string of any type. A number as JSON writes it is none.
func text(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case json.Number, nil:
		return "", false
	}
	r := reflect.ValueOf(v)
	return r.String(), r.Kind() == reflect.String
}

// sound says what is wrong with a text.
func sound(s string) error {
	if len(s) > MaxText || !utf8.ValidString(s) || strings.Contains(s, "\x00") {
		return fmt.Errorf("is not UTF-8 of at most %d bytes without NUL", MaxText)
	}
	return nil
}

// whole reads a whole number of any type.
func whole(v any) (int64, bool) {
	switch v := v.(type) {
	case int64:
		return v, true
	case int:
		return int64(v), true
	case json.Number:
		n, err := strconv.ParseInt(string(v), 10, 64)
		return n, err == nil
	}
	r := reflect.ValueOf(v)
	switch {
	case r.CanInt():
		return r.Int(), true
	case r.CanUint():
		return int64(min(r.Uint(), MaxLong+1)), true
	}
	return 0, false
}

// set reads so many texts.
func set(size int, at func(int) (string, bool)) (any, error) {
	if size > MaxElements {
		return nil, fmt.Errorf("has more than %d elements", MaxElements)
	}
	out := make([]string, size)
	for i := range out {
		s, ok := at(i)
		if !ok {
			return nil, fmt.Errorf("is not a %s", Set)
		}
		if err := sound(s); err != nil {
			return nil, fmt.Errorf("has an element that %w", err)
		}
		out[i] = s
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}
