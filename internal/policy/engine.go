package policy

import (
	"fmt"
	"slices"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/schema/resolved"

	"github.com/countersign-dev/countersign/internal/assurance"
)

// engine evaluates Cedar policies. Those of other actions and other kinds of
// principal cost nothing: there is a bucket for each pair, made beforehand.
type engine struct {
	buckets  map[bucketKey]*bucket
	actions  types.EntityMap     // with the groups they are in
	things   map[string]thing    // that the deployment declares
	about    map[Action][]string // of the deployment's own actions, the types of thing that they are about
	policies []*compiled         // in their order
	places   map[Action]Place    // of the deployment's own actions
	contexts contexts
}

type bucketKey struct {
	action Action
	kind   string
}

// bucket is what speaks of one action by one kind of principal.
type bucket struct {
	policies   []*compiled
	all        questions // the policies
	permits    questions // those that permit
	about      questions // what these ask to speak of an input at all
	candidates ways      // of the climb, by the policies alone
	approvals  int       // that are named, at most
	fixed      bool
	limited    bool      // some of them set a life
	limits     questions // those that forbid and do, whether they speak of an input
	traits     traits    // what the policies ask of attributes
	memo       *memo     // nil: the policies read what no key holds
}

// newEngine indexes policies and finds the asks that the climb will try.
func newEngine(s *resolved.Schema, policies []*compiled) (*engine, Faults) {
	e := &engine{buckets: map[bucketKey]*bucket{}, actions: types.EntityMap{}, things: map[string]thing{}, about: map[Action][]string{}, policies: policies}
	for name, is := range s.Entities {
		if _, ours := productTypes().Entities[name]; !ours {
			e.things[string(name)] = thingOf(&is, func(string, ...any) {}) // what is wrong, readSchema says
		}
	}
	for uid, a := range s.Actions {
		e.actions[uid] = a.Entity
		if _, ours := productTypes().Actions[uid]; !ours && a.AppliesTo != nil {
			for _, t := range a.AppliesTo.Resources {
				e.about[Action(uid.ID)] = append(e.about[Action(uid.ID)], string(t))
			}
		}
	}
	var faults Faults
	for _, p := range policies {
		for _, a := range p.Actions {
			for kind, t := range kinds {
				if !slices.Contains(s.Actions[actionUID(string(a))].AppliesTo.Principals, t) || p.kinds != nil && !slices.Contains(p.kinds, t) || ofHost(t) && !p.host {
					continue
				}
				key := bucketKey{a, kind}
				if e.buckets[key] == nil {
					e.buckets[key] = &bucket{}
				}
				b := e.buckets[key]
				b.add(p)
			}
		}
	}
	for key, b := range e.buckets {
		faults = append(faults, b.plan(key)...)
		b.traits = traitsOf(b.policies)
		b.memo = newMemo(b.policies, b.traits, e.things)
	}
	e.place(s)
	slices.SortFunc(faults, func(a, b Fault) int { return compareText(a.Text, b.Text) })
	return e, append(faults, e.points()...)
}

func (b *bucket) add(p *compiled) {
	b.policies = append(b.policies, p)
	b.limitBy(p)
	b.fixed = b.fixed || p.never
	b.all.add(p, p.asked)
	if p.about != nil {
		b.permits.add(p, p.asked)
		b.about.add(p, p.about)
	}
}

// plan finds the candidates: a way of one permit, with a way around each forbid
// that might apply. A1 limits how many.
func (b *bucket) plan(key bucketKey) (faults Faults) {
	refuse := func(code, format string, a ...any) {
		faults = append(faults, Fault{Code: code, Text: fmt.Sprintf("action %s by a %s: ", key.action, key.kind) + fmt.Sprintf(format, a...)})
	}
	if b.fixed || !climbs(key.kind) {
		return nil
	}
	group, counted := "", false
	for _, p := range b.policies {
		for _, way := range p.ways {
			for _, a := range way {
				if a.is != approved {
					continue
				}
				if counted && a.group != group {
					refuse(FaultApprovers, "approvals are counted of %q and of %q; name one group with @approvers", group, a.group)
				}
				group, counted = a.group, true
				b.approvals = max(b.approvals, a.n)
			}
		}
	}
	if !b.combine() {
		refuse(FaultLimit, "more than %d different asks would have to be tried", maxCandidates)
	}
	return faults
}

// points holds the lattice of each kind of actor to its limit.
func (e *engine) points() (faults Faults) {
	for kind := range kinds {
		seen := map[demand]map[any]bool{}
		for key, b := range e.buckets {
			if key.kind != kind || !climbs(kind) || b.fixed {
				continue
			}
			for _, p := range b.policies {
				for _, way := range p.ways {
					for _, a := range way {
						ask := a.ask()
						note(seen, atLeast, ask.Rung)
						note(seen, within, ask.MaxAge)
						note(seen, approved, ask.Approval)
						note(seen, managed, ask.Device)
					}
				}
			}
		}
		n := 1
		for _, values := range seen {
			n *= len(values)
		}
		if n > maxPoints {
			faults = append(faults, Fault{Code: FaultLimit, Text: fmt.Sprintf(
				"what policies demand of a %s has %d combinations, more than %d: use fewer different ages, counts and rungs", kind, n, maxPoints)})
		}
	}
	return faults
}

// note counts a value of a dimension, and its least one.
func note[T comparable](seen map[demand]map[any]bool, of demand, v T) {
	var least T
	if seen[of] == nil {
		seen[of] = map[any]bool{any(least): true}
	}
	seen[of][any(v)] = true
}

// byDefault is the reason when no policy speaks of this principal and action.
var byDefault = []Reason{{Policy: "default", Text: "No rule allows this."}}

func (e *engine) bucket(in *Input) *bucket { return e.buckets[bucketKey{in.Action, in.Principal.Kind}] }

// evaluate implements evaluator. What was evaluated on the same facts is
// remembered, where the policies read nothing but what can be told apart.
func (e *engine) evaluate(in Input, explain bool) verdict {
	b := e.bucket(&in)
	if b == nil {
		return verdict{reasons: byDefault}
	}
	if len(in.Waived) > 0 {
		return e.fresh(b.waiving(&in), in, explain)
	}
	if b.memo == nil {
		return e.fresh(b, in, explain)
	}
	key := b.memo.key(&in)
	if v, ok := b.memo.get(key); ok && (v.allow || v.reasons != nil || !explain) {
		return v
	}
	v := e.fresh(b, in, explain)
	b.memo.put(key, v)
	return v
}

// fresh asks Cedar. An error in any policy is an error of the whole: Cedar
// itself would pass over the policy, a forbid too (mechanisms A4).
func (e *engine) fresh(b *bucket, in Input, explain bool) verdict {
	w := e.worldOf(&in, b.memo)
	said := w.answer(inquiry{&b.all, &w.who})
	if said.err != nil {
		return verdict{reasons: said.bad.why, err: said.err}
	}
	var v verdict
	if said.allow {
		v.allow, v.reasons = true, said.yes[0].why // the first that permits is enough
		v.lives, v.err = b.lives(said.yes, w)
		return v
	}
	if !explain {
		return v
	}
	// The permits that speak of the input at all, and of them, if others forbid
	// it, those that do not permit it anyway.
	speak := w.answer(inquiry{&b.about, nil}).yes
	v.reasons = make([]Reason, 0, len(said.yes)+len(speak))
	for _, p := range said.yes { // of a refusal they are the policies that forbid
		v.review = v.review || p.opens
		v.reasons = append(v.reasons, p.unmet(&in)...)
	}
	var permitting []*compiled
	if len(said.yes) > 0 {
		permitting = w.answer(inquiry{&b.permits, &w.who}).yes
	}
	for _, p := range speak {
		if !slices.Contains(permitting, p) {
			v.reasons = append(v.reasons, p.missing(&in)...)
		}
	}
	if len(v.reasons) == 0 {
		v.reasons = byDefault
	}
	return v
}

// missing is why a permit that speaks of the input does not permit it.
func (p *compiled) missing(in *Input) []Reason {
	if p.member != "" && !in.Principal.In(p.member) {
		return p.others
	}
	return p.unmet(in)
}

// unmet is the policy's reason, and the device if every way asks for another
// one: no ceremony changes it (mechanisms A7).
func (p *compiled) unmet(in *Input) []Reason {
	var need assurance.Device
	for _, way := range p.ways {
		i := slices.IndexFunc(way, func(a atom) bool { return (a.is == known || a.is == managed) && !a.met(&in.Context) })
		if i < 0 {
			return p.why
		}
		need = max(need, way[i].ask().Device)
	}
	if need == assurance.AnyDevice {
		return p.why
	}
	return append(slices.Clip(p.why), Reason{Policy: p.ID, Text: "This needs " + Words(assurance.Ask{Device: need}) + "."})
}

// top implements evaluator.
func (e *engine) top(in Input) (approvals int, climbs bool) {
	b := e.bucket(&in)
	if b == nil {
		return 0, true
	}
	return b.approvals, !b.fixed
}

// candidates implements evaluator: of every way that the policies leave, what is
// not shown yet.
func (e *engine) candidates(in Input) []assurance.Ask {
	b := e.bucket(&in)
	if b == nil {
		return nil
	}
	if len(in.Waived) > 0 {
		b = b.waiving(&in)
	}
	out := make([]assurance.Ask, 0, len(b.candidates))
	for _, way := range b.candidates {
		var need assurance.Ask
		ok := true
		for _, a := range way {
			if !a.met(&in.Context) && ok {
				need, ok = need.Join(a.ask())
			}
		}
		if ok {
			out = append(out, need)
		}
	}
	return out
}
