package policy

import (
	"math"
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
	"github.com/cedar-policy/cedar-go/x/exp/schema/resolved"

	"github.com/countersign-dev/countersign/internal/attribute"
)

// thing is a type of thing that a deployment declares.
type thing struct {
	is    types.EntityType
	owned bool            // it declares an owner
	has   attribute.Types // what else enforcement points say of one
}

// thingOf reads the declaration of a type of thing. wrong is told what nobody supplies.
func thingOf(e *resolved.Entity, wrong func(format string, a ...any)) thing {
	t := thing{is: e.Name}
	alike := map[string]int{"ownerid": 1} // names of JSON that differ in case only are refused (mechanisms 0.3)
	for name := range e.Shape {
		alike[strings.ToLower(string(name))]++
	}
	for name, is := range e.Shape {
		n := string(name)
		typ, ok := typeOf(is.Type)
		switch {
		case n == "owner":
			if t.owned = is.Type == resolved.EntityType("Person") && !is.Optional; !t.owned {
				wrong("entity %s, attribute owner: it is a Person, and not optional", e.Name)
			}
			continue
		case is.Optional:
			wrong("entity %s, attribute %s: it is not optional, so that no policy reads what is absent; say what is not known by a value", e.Name, n)
		case !attribute.Good(n) || alike[strings.ToLower(n)] > 1 || strings.EqualFold(n, "owner"):
			wrong("entity %s, attribute %s: a name has letters, digits and _, at most 64, does not begin with a digit, and differs from others, owner and ownerID in more than case", e.Name, n)
		case !ok:
			wrong("entity %s, attribute %s: enforcement points say String, Long, Bool and Set<String>, and nothing else", e.Name, n)
		}
		if t.has == nil {
			t.has = attribute.Types{}
		}
		t.has[n] = typ
	}
	if len(t.has) > attribute.MaxDeclared {
		wrong("entity %s: it has more than %d attributes", e.Name, attribute.MaxDeclared)
	}
	return t
}

// typeOf is the type of an attribute; ok is false of one that nobody says.
func typeOf(t resolved.IsType) (is attribute.Type, ok bool) {
	switch t := t.(type) {
	case resolved.StringType:
		return attribute.String, true
	case resolved.LongType:
		return attribute.Long, true
	case resolved.BoolType:
		return attribute.Bool, true
	case resolved.SetType:
		_, texts := t.Element.(resolved.StringType)
		return attribute.Set, texts
	}
	return "", false
}

// Attributes are what the set's schema declares of a type of thing, beside its owner;
// none of a type that is the product's, or that there is not.
func (s *Set) Attributes(thing string) attribute.Types {
	if s == nil {
		return nil
	}
	e, _ := s.eval.(*engine)
	if e == nil {
		return nil
	}
	return e.things[thing].has
}

// About are the types of thing that one of the deployment's own actions is about, as
// they are declared; none of any other action.
func (s *Set) About(a Action) []string {
	e, _ := s.eval.(*engine)
	if e == nil {
		return nil
	}
	return e.about[a]
}

// Told is a number that is the same for things of one type of which no policy about an
// action by a kind of principal tells what is said apart; 0 where it cannot be told.
func (s *Set) Told(a Action, kind string, on *Resource) uint64 {
	e, _ := s.eval.(*engine)
	if e == nil {
		return 0
	}
	b := e.buckets[bucketKey{a, kind}]
	if b == nil || b.memo == nil {
		return 0
	}
	return b.memo.class(on)
}

// unsaid is the reason to refuse an input of whose resource not all is said that is
// declared: no policy may read what is absent (mechanisms A3). Enforcement points are
// told before.
func (s *Set) unsaid(in *Input) (r Reason, found bool) {
	types := s.Attributes(in.Resource.Type)
	if name := types.Lacks(in.Resource.Attributes); name != "" {
		return Reason{Policy: "evaluation", Text: "Of the " + in.Resource.Type + " it was not said what its " + name + " is, as a " + string(types[name]) + "."}, true
	}
	return r, false
}

// record is what Cedar reads of a resource: exactly what is declared.
func (r *Resource) record(things map[string]thing) types.Record {
	t, own := things[r.Type]
	m := make(types.RecordMap, len(t.has)+2)
	if !own {
		m["kind"] = types.String(r.Type)
	}
	if t.owned || !own {
		m["owner"] = ownerOf(r)
	}
	for name := range t.has {
		switch v := r.Attributes[name].(type) {
		case string:
			m[types.String(name)] = types.String(v)
		case int64:
			m[types.String(name)] = types.Long(v)
		case bool:
			m[types.String(name)] = yes(v)
		case []string:
			m[types.String(name)] = textSet(v)
		}
	}
	return types.NewRecord(m)
}

// trait is what policies, or a statement about them, ask of one attribute: the literals
// that they compare it with.
type trait struct {
	words    []string // of texts, and of sets, ascending
	bounds   []int64  // of numbers, ascending
	patterns []types.Pattern
}

// traits are by the name of the attribute.
type traits map[string]trait

// add adds what is asked of an attribute.
func (ts traits) add(name string, t trait) {
	have := ts[name]
	have.words = union(have.words, t.words)
	have.bounds = append(slices.Clip(have.bounds), t.bounds...)
	slices.Sort(have.bounds)
	have.bounds = slices.Compact(have.bounds)
	for _, p := range t.patterns {
		if !slices.ContainsFunc(have.patterns, p.Equal) {
			have.patterns = append(slices.Clip(have.patterns), p)
		}
	}
	ts[name] = have
}

// with is both.
func (ts traits) with(o traits) traits {
	out := traits{}
	for _, all := range []traits{ts, o} {
		for name, t := range all {
			out.add(name, t)
		}
	}
	return out
}

// traitsOf are what some policies ask of attributes.
func traitsOf(policies []*compiled) traits {
	ts := traits{}
	for _, p := range policies {
		for _, c := range p.tree.Conditions {
			ast.Inspect(ast.NewNode(c.Body), func(n ast.IsNode) bool {
				if name, t, ok := asks(n); ok {
					ts.add(name, t)
				} else if name, ok := attributeOf(n); ok {
					ts.add(name, trait{})
				}
				return true
			})
		}
	}
	return ts
}

// attributeOf is the attribute of the resource that a node is. Whose it is, is none.
func attributeOf(n ast.IsNode) (name string, ok bool) {
	v, ok := n.(ast.NodeTypeAccess)
	if !ok || v.Arg != ast.IsNode(ast.NewResourceNode()) || v.Value == "owner" {
		return "", false
	}
	return string(v.Value), true
}

// asks reads a node that asks something of one attribute of the resource, with literals:
// the answer is the same for all values of one class (see trait.class). ok is false of
// any other node.
func asks(n ast.IsNode) (name string, t trait, ok bool) {
	switch v := n.(type) {
	case ast.NodeTypeEquals:
		return compares(v.BinaryNode)
	case ast.NodeTypeNotEquals:
		return compares(v.BinaryNode)
	case ast.NodeTypeLessThan:
		return compares(v.BinaryNode)
	case ast.NodeTypeLessThanOrEqual:
		return compares(v.BinaryNode)
	case ast.NodeTypeGreaterThan:
		return compares(v.BinaryNode)
	case ast.NodeTypeGreaterThanOrEqual:
		return compares(v.BinaryNode)
	case ast.NodeTypeContains:
		return compares(v.BinaryNode)
	case ast.NodeTypeContainsAll:
		return compares(v.BinaryNode)
	case ast.NodeTypeContainsAny:
		return compares(v.BinaryNode)
	case ast.NodeTypeIsEmpty:
		name, ok = attributeOf(v.Arg)
	case ast.NodeTypeLike:
		name, ok = attributeOf(v.Arg)
		t.patterns = []types.Pattern{v.Value}
	}
	return name, t, ok
}

// compares reads two sides of which one is an attribute and the other a literal.
func compares(b ast.BinaryNode) (name string, t trait, ok bool) {
	name, ok = attributeOf(b.Left)
	other := b.Right
	if !ok {
		name, ok = attributeOf(b.Right)
		other = b.Left
	}
	return name, t, ok && t.literal(other)
}

// literal adds a literal, or a set of them; false of anything else.
func (t *trait) literal(n ast.IsNode) bool {
	switch v := n.(type) {
	case ast.NodeValue:
		switch l := v.Value.(type) {
		case types.String:
			t.words = append(t.words, string(l))
		case types.Long:
			t.bounds = append(t.bounds, int64(l))
		case types.Boolean:
		default:
			return false
		}
		return true
	case ast.NodeTypeSet:
		return !slices.ContainsFunc(v.Elements, func(e ast.IsNode) bool {
			_, literal := e.(ast.NodeValue)
			return !literal || !t.literal(e)
		})
	}
	return false
}

// class is which of the values that policies tell apart a value is: 0 is none, as of
// another type. They are fewer than classes.
func (t *trait) class(v any) uint64 {
	switch v := v.(type) {
	case string:
		i, found := slices.BinarySearch(t.words, v)
		if !found {
			i = len(t.words)
		}
		n := uint64(i)
		for _, p := range t.patterns {
			n = n<<1 | uint64(bit[p.Match(types.String(v))])
		}
		return 1 + n
	case int64:
		i, found := slices.BinarySearch(t.bounds, v)
		return 1 + 2*uint64(i) + uint64(bit[found])
	case bool:
		return 1 + uint64(bit[v])
	case []string:
		n := uint64(0) // a bit for each word; the first for any other
		for _, s := range v {
			if i, found := slices.BinarySearch(t.words, s); found {
				n |= 2 << i
			} else {
				n |= 1
			}
		}
		return 1 + n
	}
	return 0
}

// maxBits bounds the words and patterns of one attribute that are bits of a class.
const maxBits = 40

// classes is how many classes there are of the values of a type; 0: too many.
func (t *trait) classes(is attribute.Type) uint64 {
	if len(t.patterns) > maxBits || is == attribute.Set && len(t.words) > maxBits {
		return 0
	}
	switch is {
	case attribute.String:
		return 1 + uint64(len(t.words)+1)<<len(t.patterns)
	case attribute.Long:
		return 2 + 2*uint64(len(t.bounds))
	case attribute.Set:
		return 1 + 2<<len(t.words)
	default:
		return 3
	}
}

// values are a value of each class, but of patterns. They are at most most and one.
func (t *trait) values(is attribute.Type, most int) []any {
	out := []any{}
	switch is {
	case attribute.String:
		for _, w := range t.words {
			out = append(out, w)
		}
		return append(out, t.another())
	case attribute.Long:
		numbers := []int64{0}
		for _, b := range t.bounds {
			for _, n := range [...]int64{max(b, math.MinInt64+1) - 1, b, min(b, math.MaxInt64-1) + 1} {
				numbers = append(numbers, min(max(n, -attribute.MaxLong), attribute.MaxLong))
			}
		}
		slices.Sort(numbers)
		for _, n := range slices.Compact(numbers) {
			out = append(out, n)
		}
		return out
	case attribute.Set:
		sets := [][]string{{}}
		for _, w := range append(slices.Clone(t.words), t.another()) {
			for _, some := range sets[:len(sets):len(sets)] {
				with := append(slices.Clone(some), w)
				slices.Sort(with)
				if sets = append(sets, with); len(sets) > most {
					break
				}
			}
		}
		for _, s := range sets {
			out = append(out, s)
		}
		return out
	default:
		return append(out, false, true)
	}
}

// few are a value of each class, but of sets the empty one, each word alone, and all.
func (t *trait) few(is attribute.Type) []any {
	if is != attribute.Set {
		return t.values(is, 0)
	}
	words := union(t.words, []string{t.another()})
	out := []any{[]string{}, words}
	for i := range words {
		out = append(out, words[i:i+1:i+1])
	}
	return out
}

// another is a text that is none of the words.
func (t *trait) another() string {
	s := "another"
	for slices.Contains(t.words, s) {
		s += "_"
	}
	return s
}

// combinations are what may be said of a thing, each combination of values that are told
// apart; what is not told apart has its least value. There are at most most and one.
func (ts traits) combinations(has attribute.Types, most int) []attribute.Values {
	least := attribute.Values{}
	for name, is := range has {
		least[name] = is.Zero()
	}
	out := []attribute.Values{least}
	for _, name := range has.Names() {
		t, told := ts[name]
		if !told {
			continue
		}
		var next []attribute.Values
		for _, v := range t.values(has[name], most) {
			for _, have := range out {
				if len(next) > most {
					return next
				}
				with := attribute.Values{name: v}
				for other, is := range have {
					if other != name {
						with[other] = is
					}
				}
				next = append(next, with)
			}
		}
		out = next
	}
	return out
}

// told is one attribute of one type of thing, as a memo tells its values apart.
type told struct {
	name string
	trait
	classes uint64
}

// told are the attributes of each type of thing that policies read; ok is false if their
// values have more combinations than a key holds.
func (ts traits) told(things map[string]thing) (out map[string][]told, ok bool) {
	out = map[string][]told{}
	for kind, t := range things {
		room := uint64(math.MaxUint64)
		for _, name := range t.has.Names() {
			asked, read := ts[name]
			if !read {
				continue
			}
			n := asked.classes(t.has[name])
			if n == 0 || room/n == 0 {
				return nil, false
			}
			room /= n
			out[kind] = append(out[kind], told{name, asked, n})
		}
	}
	return out, true
}

// onlyBool reports whether every type of thing that has an attribute says true or false
// by it, and one does.
func onlyBool(things map[string]thing, name string) (found bool) {
	for _, t := range things {
		if is, has := t.has[name]; has {
			if is != attribute.Bool {
				return false
			}
			found = true
		}
	}
	return found
}

// declares reports whether a type of thing has an attribute.
func declares(things map[string]thing, name string) bool {
	for _, t := range things {
		if _, has := t.has[name]; has {
			return true
		}
	}
	return false
}

// numbersOf are the names of the attributes that are numbers of some thing.
func numbersOf(s *resolved.Schema) map[string]bool {
	out := map[string]bool{}
	for _, e := range s.Entities {
		for name, is := range e.Shape {
			if _, long := is.Type.(resolved.LongType); long {
				out[string(name)] = true
			}
		}
	}
	return out
}
