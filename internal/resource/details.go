package resource

import (
	"bytes"
	"encoding/json"
	"math/big"
	"regexp"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/countersign-dev/countersign/internal/canon"
	"github.com/countersign-dev/countersign/internal/problem"
)

// DetailsType is a type of authorization details at a resource (RFC 9396 §2): what an
// element looks like, when one is narrower than another, and how it is said to people.
type DetailsType struct {
	Name string `json:"name"`
	// Schema is a JSON Schema (2020-12) of an element, type included. It refers to
	// nothing outside of itself.
	Schema json.RawMessage `json:"schema"`
	// Narrower says by member, as a dotted path, how two elements compare. What is not
	// named has to be equal.
	Narrower map[string]string `json:"narrower,omitempty"`
	// Template is the sentence for consent: "Pay {amount.value} to {payee}".
	Template string `json:"template"`
}

// The ways in which a member of a narrower element may differ.
const (
	Subset  = "subset"   // a list with nothing that the other has not
	AtMost  = "at_most"  // a number, or a decimal number in a string, that is not greater
	AtLeast = "at_least" // … not smaller
	Prefix  = "prefix"   // a path below the other's, by whole segments
)

// The limits of authorization details.
const (
	MaxDetailsTypes   = 50
	maxDetailsSchema  = 16 << 10
	maxTemplate       = 300
	MaxDetails        = 16      // elements of a request
	MaxDetailsBytes   = 4 << 10 // of them all, in canonical form
	maxDetailsCompare = 50
)

// Element is one element of authorization details in canonical form.
type Element struct {
	Type string
	Raw  json.RawMessage // RFC 8785
	tree map[string]any
}

// MarshalJSON writes the element as it is.
func (e Element) MarshalJSON() ([]byte, error) { return e.Raw, nil }

// UnmarshalJSON reads what MarshalJSON wrote.
func (e *Element) UnmarshalJSON(b []byte) (err error) {
	*e, err = readElement(b)
	return err
}

var errDetails = problem.New(problem.Invalid, "invalid_authorization_details", "authorization_details is not a JSON array of objects that each have a type (RFC 9396).")

// ReadDetails reads authorization details strictly: one array of at most MaxDetails
// objects, without duplicate or ambiguous members and with exact numbers. Errors are
// problem.Invalid with the code invalid_authorization_details.
func ReadDetails(text string) ([]Element, error) {
	var list []json.RawMessage
	// canon takes an object at the top.
	strict, err := canon.Strict([]byte(`{"d":`+text+`}`), canon.Limits{Bytes: 4 * MaxDetailsBytes, Depth: 10, Members: 512, NameBytes: 128})
	if err != nil {
		return nil, errDetails.Because(err)
	}
	var top map[string]json.RawMessage
	if err := json.Unmarshal(strict, &top); err != nil || len(top) != 1 || json.Unmarshal(top["d"], &list) != nil {
		return nil, errDetails.Because(err)
	}
	if len(list) == 0 || len(list) > MaxDetails || len(strict) > MaxDetailsBytes {
		return nil, problem.Newf(problem.Invalid, "invalid_authorization_details", "authorization_details has 1 to %d elements, and at most %d bytes.", MaxDetails, MaxDetailsBytes)
	}
	out := make([]Element, len(list))
	for i, raw := range list {
		if out[i], err = readElement(raw); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func readElement(raw []byte) (e Element, err error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&e.tree); err != nil {
		return Element{}, errDetails.Because(err)
	}
	name, ok := e.tree["type"].(string)
	if !ok || name == "" {
		return Element{}, errDetails
	}
	return Element{name, bytes.Clone(raw), e.tree}, nil
}

// Locations are where the element is for (RFC 9396 §2.2); ok is false if it does not
// say, and err not nil if it does not say it in a list of texts.
func (e Element) Locations() (list []string, ok bool, err error) {
	v, ok := e.tree["locations"]
	if !ok {
		return nil, false, nil
	}
	all, isList := v.([]any)
	for _, x := range all {
		s, isText := x.(string)
		isList = isList && isText
		list = append(list, s)
	}
	if !isList || len(list) == 0 {
		return nil, true, errDetails
	}
	return list, true, nil
}

// Carries reports whether tokens for the resource carry an element: it has the type,
// and the element is for it.
func (r Resource) Carries(e Element) bool {
	if _, ok := r.Details(e.Type); !ok {
		return false
	}
	list, said, err := e.Locations()
	return err == nil && (!said || slices.ContainsFunc(list, func(l string) bool { return Same(l, r.URI) }))
}

// Same reports whether two identifiers name one resource, compared as Canonical says.
func Same(a, b string) bool {
	x, err1 := Canonical(a)
	y, err2 := Canonical(b)
	return err1 == nil && err2 == nil && x == y
}

// Details finds a type of authorization details by name.
func (r Resource) Details(name string) (DetailsType, bool) {
	i := slices.IndexFunc(r.DetailsTypes, func(t DetailsType) bool { return t.Name == name })
	if i < 0 {
		return DetailsType{}, false
	}
	return r.DetailsTypes[i], true
}

var (
	placeholder = regexp.MustCompile(`\{([A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)*)\}`)
	dotted      = regexp.MustCompile(`^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*$`)
)

// checkDetails says whether types may be registered.
func checkDetails(types []DetailsType) error {
	if len(types) > MaxDetailsTypes {
		return invalid("resource_too_large", "A resource has at most %d types of authorization details.", MaxDetailsTypes)
	}
	for i, t := range types {
		bad := func(why string) error {
			return invalid("details_type_invalid", "The type %.80q of authorization details cannot be registered: %s.", t.Name, why)
		}
		switch {
		case !token(t.Name) || len(t.Name) > 100:
			return bad("a name has 1 to 100 printable ASCII characters, without spaces and quotes")
		case slices.ContainsFunc(types[:i], func(o DetailsType) bool { return o.Name == t.Name }):
			return bad("it is there twice")
		case len(t.Schema) > maxDetailsSchema:
			return bad("its schema has more than 16 KiB")
		case !shown(t.Template, maxTemplate) || t.Template == "":
			return bad("its template has 1 to 300 characters, no control characters and no space at its ends")
		case strings.ContainsAny(placeholder.ReplaceAllString(t.Template, ""), "{}"):
			return bad("its template has a brace that is no {member}")
		case len(t.Narrower) > maxDetailsCompare:
			return bad("it compares more than 50 members")
		}
		for path, how := range t.Narrower {
			if !dotted.MatchString(path) || path == "type" || strings.HasPrefix(path, "type.") || !slices.Contains([]string{Subset, AtMost, AtLeast, Prefix}, how) {
				return bad("narrower names members by dotted paths, not type, as subset, at_most, at_least or prefix")
			}
		}
		if _, err := t.compile(); err != nil {
			return bad("its schema is not a JSON Schema that stands by itself").(*problem.Error).Because(err)
		}
	}
	return nil
}

// sealed refuses every reference outside of a schema.
type sealed struct{}

// Load implements jsonschema.URLLoader.
func (sealed) Load(string) (any, error) {
	return nil, problem.New(problem.Invalid, "schema_outside", "A schema refers to nothing outside of itself.")
}

func (t DetailsType) compile() (*jsonschema.Schema, error) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(t.Schema))
	if err != nil {
		return nil, err
	}
	c := jsonschema.NewCompiler()
	c.UseLoader(sealed{})
	c.DefaultDraft(jsonschema.Draft2020)
	if err := c.AddResource("urn:countersign:details", doc); err != nil {
		return nil, err
	}
	return c.Compile("urn:countersign:details")
}

// Fits says whether an element is one of the type. Errors are problem.Invalid with the
// code invalid_authorization_details.
func (t DetailsType) Fits(e Element) error {
	s, err := t.compile()
	if err != nil {
		return err
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(e.Raw))
	if err == nil {
		err = s.Validate(v)
	}
	if err != nil {
		return problem.Newf(problem.Invalid, "invalid_authorization_details", "An element of type %s has not the form of that type (RFC 9396).", t.Name).Because(err)
	}
	return nil
}

// Narrower reports whether every asked element is covered by a granted one of its own:
// no two by the same, so that what is asked never adds up to more. It is reflexive and
// transitive. types gives the type of a name; without one, elements have to be equal.
func Narrower(asked, granted []Element, types func(name string) (DetailsType, bool)) bool {
	owner := make([]int, len(granted)) // asked element that a granted one covers, plus one
	var place func(i int, tried []bool) bool
	place = func(i int, tried []bool) bool {
		for g := range granted {
			if tried[g] || !within(asked[i], granted[g], types) {
				continue
			}
			tried[g] = true
			if owner[g] == 0 || place(owner[g]-1, tried) {
				owner[g] = i + 1
				return true
			}
		}
		return false
	}
	for i := range asked {
		if !place(i, make([]bool, len(granted))) {
			return false
		}
	}
	return true
}

func within(a, g Element, types func(string) (DetailsType, bool)) bool {
	if a.Type != g.Type {
		return false
	}
	t, _ := types(a.Type)
	return narrowerObject(a.tree, g.tree, "", t.Narrower)
}

// narrowerObject compares two objects member by member. A member that one has and the
// other has not makes them different: missing never means "none" or "any".
func narrowerObject(a, g map[string]any, at string, how map[string]string) bool {
	if len(a) != len(g) {
		return false
	}
	for name, x := range a {
		y, ok := g[name]
		if !ok {
			return false
		}
		path := name
		if at != "" {
			path = at + "." + name
		}
		if !narrowerValue(x, y, path, how) {
			return false
		}
	}
	return true
}

func narrowerValue(a, g any, path string, how map[string]string) bool {
	switch how[path] {
	case Subset:
		x, ok1 := a.([]any)
		y, ok2 := g.([]any)
		return ok1 && ok2 && !slices.ContainsFunc(x, func(v any) bool {
			return !slices.ContainsFunc(y, func(o any) bool { return equal(v, o) })
		})
	case AtMost, AtLeast:
		x, ok1 := decimal(a)
		y, ok2 := decimal(g)
		if !ok1 || !ok2 {
			return equal(a, g)
		}
		if how[path] == AtLeast {
			x, y = y, x
		}
		return x.Cmp(y) <= 0
	case Prefix:
		x, ok1 := a.(string)
		y, ok2 := g.(string)
		if !ok1 || !ok2 || x == y {
			return equal(a, g)
		}
		return strings.HasPrefix(x, strings.TrimSuffix(y, "/")+"/") && plainPath(x) && plainPath(y)
	}
	if x, ok := a.(map[string]any); ok {
		y, ok := g.(map[string]any)
		return ok && narrowerObject(x, y, path, how)
	}
	return equal(a, g)
}

// plainPath reports whether a path has no segment that leads elsewhere, in whatever
// spelling.
func plainPath(s string) bool {
	if strings.ContainsAny(s, "%\\?#") {
		return false
	}
	for seg := range strings.SplitSeq(s, "/") {
		if seg == "." || seg == ".." {
			return false
		}
	}
	return true
}

var decimalText = regexp.MustCompile(`^-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,30})?$`)

// decimal reads a number, or the text of a decimal one.
func decimal(v any) (*big.Rat, bool) {
	var s string
	switch v := v.(type) {
	case json.Number:
		s = v.String()
		if len(s) > 40 {
			return nil, false
		}
	case string:
		if !decimalText.MatchString(v) {
			return nil, false
		}
		s = v
	default:
		return nil, false
	}
	return new(big.Rat).SetString(s)
}

// equal compares two values of canonical JSON.
func equal(a, b any) bool {
	x, err1 := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err1 == nil && err2 == nil && bytes.Equal(x, y)
}

// Part is a piece of a sentence about an element: the operator's words, or what the
// app supplied.
type Part struct {
	Text     string
	Supplied bool
}

// Say makes the sentence about an element. What the app supplied is never mixed into
// the words around it; a member that is not there is said as such.
func (t DetailsType) Say(e Element) (out []Part) {
	last := 0
	for _, m := range placeholder.FindAllStringSubmatchIndex(t.Template, -1) {
		if m[0] > last {
			out = append(out, Part{t.Template[last:m[0]], false})
		}
		out = append(out, Part{words(member(e.tree, t.Template[m[2]:m[3]])), true})
		last = m[1]
	}
	if last < len(t.Template) {
		out = append(out, Part{t.Template[last:], false})
	}
	return out
}

func member(tree any, path string) any {
	for name := range strings.SplitSeq(path, ".") {
		m, ok := tree.(map[string]any)
		if !ok {
			return nil
		}
		tree = m[name]
	}
	return tree
}

func words(v any) string {
	switch v := v.(type) {
	case nil:
		return "(nothing)"
	case string:
		return v
	case []any:
		var list []string
		for _, x := range v {
			list = append(list, words(x))
		}
		return strings.Join(list, ", ")
	}
	b, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return string(b)
}

// Field is a member of an element, for who wants to see all of it.
type Field struct{ Name, Value string }

// Fields are all members of an element but its type, by path, in order.
func (e Element) Fields() (out []Field) {
	var walk func(at string, v any)
	walk = func(at string, v any) {
		if m, ok := v.(map[string]any); ok && len(m) > 0 {
			names := make([]string, 0, len(m))
			for name := range m {
				names = append(names, name)
			}
			slices.Sort(names)
			for _, name := range names {
				path := name
				if at != "" {
					path = at + "." + name
				}
				if path != "type" {
					walk(path, m[name])
				}
			}
			return
		}
		out = append(out, Field{at, words(v)})
	}
	walk("", e.tree)
	return out
}
