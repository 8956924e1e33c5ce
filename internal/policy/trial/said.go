package trial

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/countersign-dev/countersign/internal/attribute"
	"github.com/countersign-dev/countersign/internal/policy"
)

// said puts into an input what the case says of its resource. The error says what is
// missing, of another type, or declared nowhere.
func (c *Case) said(s *policy.Set, in *policy.Input) error {
	on := &c.Given.Resource
	about := s.About(in.Action)
	if on.Type == "" || !slices.Contains(about, on.Type) {
		for _, kind := range about {
			if len(s.Attributes(kind)) > 0 {
				return fmt.Errorf("%s is about %s: the resource has one of these types", c.Action, strings.Join(about, ", "))
			}
		}
	}
	types := s.Attributes(on.Type)
	for _, name := range slices.Sorted(maps.Keys(on.Properties)) {
		if _, ok := types[name]; !ok {
			return fmt.Errorf("a resource of type %q has no %s", on.Type, name)
		}
	}
	var err error
	if in.Resource.Attributes, err = types.Take(on.Properties); err != nil {
		return fmt.Errorf("of the %s, %w", on.Type, err)
	}
	return nil
}

// where is what a statement says of one attribute.
type where struct {
	name     string
	is       attribute.Type
	literals []any // that it tells apart
	holds    func(v any) bool
}

// wheres reads what a statement says of attributes.
func (n *Never) wheres() (out []where, err error) {
	for _, name := range slices.Sorted(maps.Keys(n.Where)) {
		w, err := whereOf(n.Where[name])
		if err != nil {
			return nil, fmt.Errorf("where %s: %w", name, err)
		}
		w.name = name
		out = append(out, w)
	}
	return out, nil
}

var errWhere = errors.New("it is a value, a list of values of one type, or one of at_least and at_most (numbers), contains and lacks (texts)")

// whereOf reads what is said of an attribute: it is a value, or one of several; a number
// from and to; a set that has texts, and has not.
func whereOf(said any) (where, error) {
	var w where
	limits, ok := said.(map[string]any)
	if !ok {
		list, many := said.([]any)
		if !many {
			list = []any{said}
		}
		err := w.list(list, "")
		w.holds = func(v any) bool { return slices.Contains(w.literals, v) }
		return w, err
	}
	var tests []func(any) bool
	for _, key := range slices.Sorted(maps.Keys(limits)) {
		var part where
		list, many := limits[key].([]any)
		if !many {
			list = []any{limits[key]}
		}
		switch is := map[string]attribute.Type{"at_least": attribute.Long, "at_most": attribute.Long, "contains": attribute.Set, "lacks": attribute.Set}[key]; is {
		case attribute.Long:
			if err := part.list(list, is); err != nil || len(list) != 1 {
				return w, errWhere
			}
			limit, low := part.literals[0].(int64), key == "at_least"
			tests = append(tests, func(v any) bool { n, _ := v.(int64); return n == limit || (n > limit) == low })
		case attribute.Set:
			if err := part.list(list, attribute.String); err != nil {
				return w, err
			}
			tests = append(tests, func(v any) bool {
				set, _ := v.([]string)
				return !slices.ContainsFunc(part.literals, func(t any) bool { return slices.Contains(set, t.(string)) != (key == "contains") })
			})
			part.is = is
		default:
			return w, errWhere
		}
		if w.is != "" && w.is != part.is {
			return w, errWhere
		}
		w.is, w.literals = part.is, append(w.literals, part.literals...)
	}
	if len(tests) == 0 {
		return w, errWhere
	}
	w.holds = func(v any) bool {
		return !slices.ContainsFunc(tests, func(test func(any) bool) bool { return !test(v) })
	}
	return w, nil
}

// list reads literals of one type; "" is any.
func (w *where) list(list []any, is attribute.Type) error {
	may := []attribute.Type{is}
	if is == "" {
		may = []attribute.Type{attribute.String, attribute.Long, attribute.Bool}
	}
	for _, w.is = range may {
		w.literals = nil
		for _, l := range list {
			if v, err := (attribute.Types{"it": w.is}).Take(map[string]any{"it": l}); err == nil {
				w.literals = append(w.literals, v["it"])
			}
		}
		if len(list) > 0 && len(w.literals) == len(list) {
			return nil
		}
	}
	return errWhere
}

// about says what keeps a statement from being about an action: that nothing which the
// action is about has its attributes.
func (n *Never) about(s *policy.Set, a policy.Action) string {
	all, _ := n.wheres() // Parse has checked it
	if len(all) == 0 || slices.ContainsFunc(s.About(a), func(kind string) bool { return n.of(s.Attributes(kind), all) == "" }) {
		return ""
	}
	for _, kind := range s.About(a) {
		return "a " + kind + " has no " + n.of(s.Attributes(kind), all)
	}
	return string(a) + " is about nothing of which more is said"
}

// of is the first attribute of a statement that a type of thing does not have, with its type.
func (n *Never) of(types attribute.Types, all []where) string {
	for _, w := range all {
		if types[w.name] != w.is {
			return w.name + " that is a " + string(w.is)
		}
	}
	return ""
}

// words says what attributes are, of those that are told apart.
func words(v attribute.Values, told []string) string {
	var parts []string
	for _, name := range told {
		switch x := v[name].(type) {
		case nil:
		case string:
			parts = append(parts, fmt.Sprintf("%s %q", name, x))
		case []string:
			parts = append(parts, fmt.Sprintf("%s %q", name, x))
		default:
			parts = append(parts, fmt.Sprintf("%s %v", name, x))
		}
	}
	return strings.Join(parts, ", ")
}
