package policy

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"

	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/attribute"
)

// maxTried bounds how many combinations of facts a proof tries, and maxThings how many
// combinations of what is said of one type of thing are among them: of more, with the
// states of assurance and the bands of risk, the first would be exceeded.
const (
	maxTried  = 500_000
	maxThings = 20_000
)

// Never is a statement about a set: in these states, these actions are allowed
// to nobody.
type Never struct {
	Actions []Action
	Kinds   []string             // of principals; empty: all
	Ages    []time.Duration      // that Holds tells apart, beside those that policies compare with
	Groups  []string             // that Holds looks for, likewise
	Said    map[string][]any     // that Holds tells apart, likewise, of what is said of things: texts, numbers (int64), true or false
	Holds   func(in *Input) bool // whether a state is one that it is about
}

// Proof is what came of a Never. It is proved if nothing contradicts it and
// everything could be tried.
type Proof struct {
	Tried    int      // combinations of facts that it is about
	Told     []string // attributes of things that were told apart
	Counter  *Input   // one in which it is false; nil if there is none
	Allowed  []Reason // why policy allows that
	Unproven string   // why not everything could be tried; "" if everything was
}

// Prove tries every combination of the facts that the policies of the actions
// can tell apart: each literal that they compare with, and one other.
//
// Exceptions count, whether they have ended or not: what is proved is true for
// those whom they concern, too.
func (s *Set) Prove(n Never) Proof {
	var p Proof
	for i := range s.exceptions {
		e := &s.exceptions[i]
		if name, ok := strings.CutPrefix(e.For, groupFor); ok {
			n.Groups = append(slices.Clip(n.Groups), name)
		}
		if e.MaxAge > 0 {
			n.Ages = append(slices.Clip(n.Ages), e.Instead().MaxAge)
		}
	}
	p.Told = slices.Sorted(maps.Keys(n.traits()))
	for _, a := range n.Actions {
		for _, kind := range Kinds() {
			if b := s.eval.(*engine).buckets[bucketKey{a, kind}]; b != nil {
				p.Told = union(p.Told, slices.Collect(maps.Keys(b.traits)))
			}
			if len(n.Kinds) > 0 && !slices.Contains(n.Kinds, kind) {
				continue
			}
			if n.againstRight(a, kind) && p.Unproven == "" {
				p.Unproven = fmt.Sprintf("%s: no policies keep a %s from it", a, kind)
			}
			var err error
			for _, who := range s.subjects(kind) {
				err = errors.Join(err, s.points(a, kind, who, n, func(in Input) bool {
					if !n.Holds(&in) {
						return true
					}
					p.Tried++
					in.Waived = s.waivers(&in, time.Time{})
					if v := s.eval.evaluate(in, false); v.allow {
						p.Counter, p.Allowed = &in, join(v.reasons, s.used(in))
					}
					return p.Counter == nil
				}))
			}
			if p.Counter != nil {
				return p
			}
			if err != nil && p.Unproven == "" {
				p.Unproven = fmt.Sprintf("%s by a %s: %v", a, kind, err)
			}
		}
	}
	return p
}

// subjects are one of whom nothing is known, and those whom exceptions name.
func (s *Set) subjects(kind string) []string {
	out := []string{"usr_somebody"}
	prefix := map[string]string{KindPerson: "usr_", KindService: "svc_"}[kind]
	for _, e := range s.exceptions {
		if prefix != "" && strings.HasPrefix(e.For, prefix) && !slices.Contains(out, e.For) {
			out = append(out, e.For)
		}
	}
	return out
}

// Has reports whether the set's schema declares an action.
func (s *Set) Has(a Action) bool {
	e, ok := s.eval.(*engine)
	if !ok {
		return false
	}
	_, ok = e.actions[actionUID(string(a))]
	return ok
}

// Kinds are the kinds of principal that policies can speak of, by name.
func Kinds() []string { return slices.Sorted(maps.Keys(kinds)) }

// A dimension is the values that one fact can have.
type dimension []func(*Input)

// points visits every combination, until visit says no. An action without a
// policy has none: it is denied whatever the facts.
func (s *Set) points(a Action, kind, who string, n Never, visit func(Input) bool) error {
	b := s.eval.(*engine).buckets[bucketKey{a, kind}]
	if b == nil {
		return nil
	}
	if b.memo == nil {
		return errors.New("its policies read what has no end, such as the time of day, an identifier, or attributes compared with each other")
	}
	words, numbers, err := b.literals()
	if err != nil {
		return err
	}
	on, err := s.eval.(*engine).thingsTold(a, b, words, n.traits())
	if err != nil {
		return err
	}
	words = append(words, "another")
	groups := union(b.memo.groups, n.Groups)
	if len(groups) > 10 {
		return fmt.Errorf("its policies name %d groups, more than 10", len(groups))
	}
	dims := b.memo.dimensions(n.Ages, words, numbers, groups)
	if len(on) > 0 {
		dims = append(dims, on)
	}
	total := 1
	for _, d := range dims {
		if total *= len(d); total > maxTried {
			return fmt.Errorf("its policies tell more than %d combinations of facts apart", maxTried)
		}
	}
	in := Input{Principal: Entity{Kind: kind, ID: who}, Action: a, Context: Context{Now: proofTime, Risk: UnknownRisk}}
	combine(dims, in, visit)
	return nil
}

// proofTime is any time: no policy whose action can be proved reads it.
var proofTime = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// traits are what a statement asks of attributes.
func (n *Never) traits() traits {
	ts := traits{}
	for name, values := range n.Said {
		var t trait
		for _, v := range values {
			switch v := v.(type) {
			case string:
				t.words = append(t.words, v)
			case int64:
				t.bounds = append(t.bounds, v)
			}
		}
		ts.add(name, t)
	}
	return ts
}

// thingsTold are the resources that the policies of an action, or a statement, tell
// apart: each kind, where they read it, and of what the action is about each combination
// of attributes. words are those that the policies compare with.
func (e *engine) thingsTold(a Action, b *bucket, words []string, said traits) (dimension, error) {
	ts := said.with(b.traits)
	read := func(kind string) bool {
		return slices.ContainsFunc(e.things[kind].has.Names(), func(name string) bool { _, told := ts[name]; return told })
	}
	var on dimension
	for _, kind := range e.about[a] {
		if !read(kind) {
			continue
		}
		all := ts.combinations(e.things[kind].has, maxThings)
		if len(all) > maxThings {
			return nil, fmt.Errorf("its policies tell more than %d different things of the type %s apart", maxThings, kind)
		}
		on = append(on, each(all, func(in *Input, v attribute.Values) { in.Resource.Type, in.Resource.Attributes = kind, v })...)
	}
	if !b.memo.of["kind"] && len(on) == 0 {
		return nil, nil
	}
	var others []string
	if b.memo.of["kind"] {
		others = append(union(words, slices.Collect(maps.Keys(e.things))), "another")
	}
	for _, kind := range union(others, e.about[a]) {
		if read(kind) && slices.Contains(e.about[a], kind) {
			continue
		}
		on = append(on, each(traits{}.combinations(e.things[kind].has, 1), func(in *Input, v attribute.Values) { in.Resource.Type, in.Resource.Attributes = kind, v })...)
	}
	return on, nil
}

func combine(dims []dimension, in Input, visit func(Input) bool) bool {
	if len(dims) == 0 {
		return visit(in)
	}
	for _, set := range dims[0] {
		with := in
		set(&with)
		if !combine(dims[1:], with, visit) {
			return false
		}
	}
	return true
}

func union(a, b []string) []string {
	out := slices.Concat(a, b)
	slices.Sort(out)
	return slices.Compact(out)
}

// literals are the words and the numbers that the policies compare with, and
// the numbers beside these. Large numbers, arithmetic and patterns are errors.
func (b *bucket) literals() (words []string, numbers []int, err error) {
	numbers = []int{0}
	for _, p := range b.policies {
		for _, c := range p.tree.Conditions {
			ast.Inspect(ast.NewNode(c.Body), func(n ast.IsNode) bool {
				if name, t, ok := asks(n); ok && name != "kind" && len(t.patterns) == 0 {
					return false // its literals are trait's
				}
				switch v := n.(type) {
				case ast.NodeTypeAdd, ast.NodeTypeSub, ast.NodeTypeMult, ast.NodeTypeNegate:
					err = fmt.Errorf("policy %s computes", p.ID)
				case ast.NodeTypeLike:
					err = fmt.Errorf("policy %s compares with a pattern", p.ID)
				case ast.NodeValue:
					switch l := v.Value.(type) {
					case types.String:
						words = append(words, string(l))
					case types.Long:
						if l < 0 || l > most {
							err = fmt.Errorf("policy %s compares with a number above %d", p.ID, most)
						}
						numbers = append(numbers, int(l), int(l)+1, max(int(l)-1, 0))
					}
				}
				return true
			})
		}
	}
	slices.Sort(numbers)
	return union(words, nil), slices.Compact(numbers), err
}

// most is the highest number that a policy may compare with in a proof.
const most = 9

func either(set func(*Input, bool)) dimension {
	return dimension{func(in *Input) { set(in, false) }, func(in *Input) { set(in, true) }}
}

func each[T any](values []T, set func(*Input, T)) (d dimension) {
	for _, v := range values {
		d = append(d, func(in *Input) { set(in, v) })
	}
	return d
}

// dimensions are the facts that the policies read. Rung, age, risk and groups are
// always among them: a statement may be about them. Of others it can be only
// about the least, with which each dimension begins.
func (m *memo) dimensions(ages []time.Duration, words []string, numbers []int, groups []string) []dimension {
	dims := []dimension{
		m.states(ages),
		{func(*Input) {}},
		each(subsets(groups), func(in *Input, some []string) { in.Principal.Groups = some }),
	}
	device := dimension{
		func(*Input) {},
		func(in *Input) { in.Context.DeviceKnown = true },
		func(in *Input) { in.Context.DeviceManaged = true },
	}
	dims[1] = append(dims[1], each(bands, func(in *Input, band string) { in.Context.Risk = Risk{Known: true, Band: band} })...)
	read := map[string]dimension{
		"device.known":               device,
		"device.managed":             device,
		"approvals.confirmed":        either(func(in *Input, b bool) { in.Context.Confirmed = b }),
		"own":                        {func(*Input) {}, func(in *Input) { in.Resource.Owner = in.Principal.ID }},
		"approvals.count":            each(numbers, func(in *Input, n int) { in.Context.Approvals = n }),
		"assurance.machine":          each(numbers, func(in *Input, n int) { in.Context.Assurance.MachineRung = assurance.Rung(n) }),
		"assurance.sources":          each(numbers, func(in *Input, n int) { in.Context.Assurance.Sources = n }),
		"deployment.manages_devices": either(func(in *Input, b bool) { in.Context.DevicesUsed = b }),
		"network.known":              either(func(in *Input, b bool) { in.Context.Network.Known = b }),
		"no_passkey":                 either(func(in *Input, b bool) { in.Context.NoPasskey = b }),
		"presented":                  either(func(in *Input, b bool) { in.Context.Presented = b }),
		"network.zone":               each(words, func(in *Input, w string) { in.Context.Network.Zone = w }),
	}
	for _, name := range slices.Sorted(maps.Keys(read)) {
		if m.of[name] {
			dims = append(dims, read[name])
		}
	}
	return dims
}

func subsets(names []string) [][]string {
	out := [][]string{nil}
	for _, n := range names {
		for _, some := range out {
			out = append(out, append(slices.Clip(some), n))
		}
	}
	return out
}

// states are the states of assurance: every rung reached or not, each at every
// age that is compared with or older, a lower rung never longer ago than a
// higher; and the facts that go with a rung.
func (m *memo) states(more []time.Duration) (d dimension) {
	ages := slices.Clone(more)
	for _, of := range m.ages {
		ages = append(ages, of...)
	}
	slices.Sort(ages)
	ages = slices.Compact(ages)
	older := time.Hour
	if len(ages) > 0 {
		older = ages[len(ages)-1] + time.Second
	}
	ages = append(ages, older)
	var build func(s assurance.State, r assurance.Rung, from int)
	build = func(s assurance.State, r assurance.Rung, from int) {
		best := s.Best().Rung
		s.HumanPresent = best > assurance.None
		for _, weak := range m.weak() { // a key without user verification, a bound key without attestation
			s.PhishingResistant = best >= assurance.Phishing || weak && best > assurance.None
			s.HardwareBound = best >= assurance.Hardware || weak && best > assurance.None
			d = append(d, func(in *Input) {
				s.MachineRung, s.Sources = in.Context.Assurance.MachineRung, in.Context.Assurance.Sources
				in.Context.Assurance = s
			})
		}
		for i := from; r <= assurance.Hardware && i < len(ages); i++ {
			with := s
			with.Pairs = append(slices.Clip(s.Pairs), assurance.Pair{Rung: r, AuthTime: proofTime.Add(-ages[i])})
			build(with, r+1, i)
		}
	}
	build(assurance.State{}, assurance.Single, 0)
	return d
}

// weak says whether the facts that come without their rung matter.
func (m *memo) weak() []bool {
	if m.of["assurance.phishing_resistant"] || m.of["assurance.hardware_bound"] {
		return []bool{false, true}
	}
	return []bool{false}
}

// serverOnly are the members of the context that only the server knows.
var serverOnly = []string{"risk", "device", "deployment", "approvals", "no_passkey", "presented"}

// AtServer reports whether the policies of an action read facts that only the
// server has: an enforcement point that holds the set then asks it, and takes
// the action's answer for an outage when it cannot (mechanisms A16).
func (s *Set) AtServer(a Action) bool {
	e, ok := s.eval.(*engine)
	if !ok {
		return true
	}
	for key, b := range e.buckets {
		if key.action != a {
			continue
		}
		for _, p := range b.policies {
			if slices.ContainsFunc(p.tree.Conditions, func(c ast.ConditionType) bool { return shows(c.Body, serverOnly...) }) {
				return true
			}
		}
	}
	return false
}
