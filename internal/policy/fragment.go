package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"

	"github.com/countersign-dev/countersign/internal/assurance"
)

// An atom is one thing that a policy demands to be shown, as the monotone
// fragment allows it to be said (mechanisms A5): more proof makes it true and
// never false.
type atom struct {
	is    demand
	rung  assurance.Rung // atLeast, within
	age   time.Duration  // within
	n     int            // approved, machine, sources
	group string         // approved: whose approvals are counted
}

type demand int

const (
	atLeast   demand = iota // a rung
	within                  // a rung, reached at most so long ago
	machine                 // a machine's rung
	sources                 // independent authorities
	phishing                // a phishing-resistant factor was used
	hardware                // a hardware-bound one
	human                   // a person used a factor
	confirmed               // the person on whose behalf the chain acts said yes
	approved                // so many others did
	known                   // the device is known
	managed                 // and managed
)

// met reports whether the facts have it.
func (a atom) met(c *Context) bool {
	switch s := &c.Assurance; a.is {
	case atLeast:
		return c.rung() >= a.rung
	case within:
		d, _ := c.age(a.rung)
		return d <= a.age
	case machine:
		return int(s.MachineRung) >= a.n
	case sources:
		return s.Sources >= a.n
	case phishing:
		return s.PhishingResistant
	case hardware:
		return s.HardwareBound
	case human:
		return s.HumanPresent
	case confirmed:
		return c.Confirmed
	case approved:
		return c.Approvals >= a.n
	case known:
		return c.known()
	default:
		return c.DeviceManaged
	}
}

// ask is the cheapest ask that makes it true. For a machine's rung there is
// none: no ceremony changes it.
func (a atom) ask() assurance.Ask {
	switch a.is {
	case atLeast:
		return assurance.Ask{Rung: a.rung}
	case within:
		return assurance.Ask{Rung: a.rung, MaxAge: a.age}
	case phishing:
		return assurance.Ask{Rung: assurance.Phishing}
	case hardware:
		return assurance.Ask{Rung: assurance.Hardware}
	case human:
		return assurance.Ask{Rung: assurance.Single}
	case confirmed:
		return assurance.Ask{Approval: assurance.Approval{Kind: assurance.Confirm}}
	case approved:
		return assurance.Ask{Approval: assurance.Approval{Kind: assurance.Approve, M: a.n, Group: a.group}}
	case known:
		return assurance.Ask{Device: assurance.KnownDevice}
	case managed:
		return assurance.Ask{Device: assurance.ManagedDevice}
	default:
		return assurance.Ask{}
	}
}

// A disjunction of conjunctions of atoms: the ways in which what is demanded
// can be shown. None: it cannot. An empty one: nothing has to be.
type ways [][]atom

// maxCandidates is how many asks the climb tries for one action, maxPoints how
// many points the lattice of one kind of actor has (mechanisms A1).
const (
	maxCandidates = 16
	maxPoints     = 256
)

// with is both, each way with each. It drops what another atom of the way implies.
func (w ways) with(o ways) ways {
	var out ways
	for _, a := range w {
		for _, b := range o {
			out = out.add(slices.Concat(a, b))
		}
	}
	return out
}

// or is either.
func (w ways) or(o ways) ways {
	for _, a := range o {
		w = w.add(a)
	}
	return w
}

// add adds a way that is not there yet.
func (w ways) add(way []atom) ways {
	way = least(way)
	if slices.ContainsFunc(w, func(have []atom) bool { return slices.Equal(have, way) }) {
		return w
	}
	return append(w, way)
}

// least is a way without what the rest of it implies, in a fixed order.
func least(way []atom) []atom {
	out := make([]atom, 0, len(way))
	for i, a := range way {
		implied := slices.ContainsFunc(way[:i], func(b atom) bool { return b == a }) ||
			slices.ContainsFunc(way, func(b atom) bool { return b != a && b.implies(a) })
		if !implied {
			out = append(out, a)
		}
	}
	slices.SortFunc(out, func(a, b atom) int { return compareText(fmt.Sprint(a), fmt.Sprint(b)) })
	return out
}

// implies reports whether whatever makes a true makes b true as well.
func (a atom) implies(b atom) bool {
	switch {
	case a.is == b.is && (a.is == machine || a.is == sources):
		return a.n >= b.n
	case a.is == approved && b.is == approved:
		return a.n >= b.n && a.group == b.group
	case b.is == atLeast && (a.is == atLeast || a.is == within):
		return a.rung >= b.rung
	case a.is == within && b.is == within:
		return a.rung >= b.rung && a.age <= b.age
	case a.is == managed && b.is == known:
		return true
	default:
		return false
	}
}

// climbing are the members of the context that a ceremony, others or the device
// could raise; presented is shown too, and by no ceremony.
var climbing = []string{"assurance", "approvals", "device"}

// path is the path below the context that a node reads; ok is false if it is
// not one. The context alone is the empty path.
func path(n ast.IsNode) (p []string, ok bool) {
	for {
		switch v := n.(type) {
		case ast.NodeTypeAccess:
			p, n = append(p, string(v.Value)), v.Arg
		case ast.NodeTypeVariable:
			slices.Reverse(p)
			return p, v == ast.NewContextNode()
		default:
			return nil, false
		}
	}
}

// reads calls visit with every path below the context that n reads.
func paths(n ast.IsNode, visit func([]string)) {
	ast.Inspect(ast.NewNode(n), func(n ast.IsNode) bool {
		p, ok := path(n)
		if ok {
			visit(p)
		}
		return !ok
	})
}

// shows reports whether n speaks of what can be shown: of what climbs, of the
// whole context, or of a link.
func shows(n ast.IsNode, names ...string) (found bool) {
	paths(n, func(p []string) { found = found || len(p) == 0 || slices.Contains(names, p[0]) })
	return found
}

// fragment reads conditions of the monotone fragment.
type fragment struct {
	approvers string // of the policy
	why       []string
}

func (f *fragment) refuse(format string, a ...any) {
	f.why = append(f.why, fmt.Sprintf(format, a...))
}

// positive gives the ways to make n true. What does not climb is taken for
// true: evaluation says whether it is.
func (f *fragment) positive(n ast.IsNode) ways {
	if !shows(n, climbing...) {
		return ways{nil}
	}
	switch v := n.(type) {
	case ast.NodeTypeAnd:
		return f.bounded(f.positive(v.Left).with(f.positive(v.Right)))
	case ast.NodeTypeOr:
		return f.bounded(f.positive(v.Left).or(f.positive(v.Right)))
	}
	a, ok := f.atom(n)
	if !ok {
		return nil
	}
	return ways{{a}}
}

// bounded keeps a condition from growing without end.
func (f *fragment) bounded(w ways) ways {
	if len(w) > maxCandidates {
		f.refuse("a condition has more than %d alternatives", maxCandidates)
		return w[:maxCandidates]
	}
	return w
}

// bools are the members that are true or false.
var bools = map[string]demand{
	"assurance.phishing_resistant": phishing, "assurance.hardware_bound": hardware, "assurance.human_present": human,
	"approvals.confirmed": confirmed, "device.known": known, "device.managed": managed,
}

// counts are the members that are compared with >=, and the most that is.
var counts = map[string]struct {
	is   demand
	most types.Long
}{
	"assurance.rung": {atLeast, types.Long(assurance.Hardware)}, "assurance.machine": {machine, 4},
	"assurance.sources": {sources, 9}, "approvals.count": {approved, 9},
}

// atom reads one comparison of the fragment.
func (f *fragment) atom(n ast.IsNode) (atom, bool) {
	switch v := n.(type) {
	case ast.NodeTypeEquals:
		if v.Right == (ast.NodeValue{Value: types.True}) {
			if is, ok := bools[dotted(v.Left)]; ok {
				return atom{is: is}, true
			}
		}
	case ast.NodeTypeAccess:
		if is, ok := bools[dotted(v)]; ok {
			return atom{is: is}, true
		}
	case ast.NodeTypeGreaterThanOrEqual:
		if a, ok := f.count(dotted(v.Left), v.Right); ok {
			return a, true
		}
	case ast.NodeTypeLessThanOrEqual:
		if a, ok := f.fresh(v); ok {
			return a, true
		}
	}
	f.refuse("what is proved may only be compared as `rung >= 3`, `age.phr <= duration(\"5m\")`, `approvals.count >= 2` or `device.managed == true`, with a literal, joined by && and ||")
	return atom{}, false
}

// dotted is the path below the context that a node reads, as policies write it; "" of
// what is none, an attribute of the resource too.
func dotted(n ast.IsNode) string {
	p, ok := path(n)
	if !ok {
		return ""
	}
	return strings.Join(p, ".")
}

func (f *fragment) count(of string, n ast.IsNode) (atom, bool) {
	c, ok := counts[of]
	v, literal := n.(ast.NodeValue)
	if !ok || !literal {
		return atom{}, false
	}
	l, ok := v.Value.(types.Long)
	if !ok {
		return atom{}, false
	}
	if l < 1 || l > c.most {
		f.refuse("context.%s is compared with a number from 1 to %d", of, c.most)
	}
	a := atom{is: c.is, n: int(l)}
	switch c.is {
	case atLeast:
		a.rung, a.n = assurance.Rung(l), 0
	case approved:
		a.group = f.approvers
	}
	return a, true
}

// The ages that a policy may name: not less than a challenge can (mechanisms
// A20), in whole seconds, and not more than a year.
const (
	minAge = assurance.MinChallengeAge
	maxAge = 366 * 24 * time.Hour
)

func (f *fragment) fresh(v ast.NodeTypeLessThanOrEqual) (atom, bool) {
	r, ok := agedRung(v.Left)
	d, literal := duration(v.Right)
	if !ok || !literal {
		return atom{}, false
	}
	if d < minAge || d > maxAge || d%time.Second != 0 {
		f.refuse("an age is from a minute to a year, in whole seconds")
	}
	return atom{is: within, rung: r, age: d}, true
}

// agedRung is the rung whose age a node reads.
func agedRung(n ast.IsNode) (assurance.Rung, bool) {
	name, ok := strings.CutPrefix(dotted(n), "assurance.age.")
	r := rungNames[name]
	return r, ok && r != assurance.None
}

// duration reads a literal duration.
func duration(n ast.IsNode) (time.Duration, bool) {
	call, ok := n.(ast.NodeTypeExtensionCall)
	if !ok || call.Name != "duration" || len(call.Args) != 1 {
		return 0, false
	}
	v, ok := call.Args[0].(ast.NodeValue)
	if !ok {
		return 0, false
	}
	s, ok := v.Value.(types.String)
	if !ok {
		return 0, false
	}
	parsed, err := types.ParseDuration(string(s))
	if err != nil {
		return 0, false
	}
	d, err := parsed.Duration()
	return d, err == nil
}
