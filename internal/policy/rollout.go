package policy

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/x/exp/ast"

	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/attribute"
)

// Rollout is a set that comes into force for one wave of people after the other.
// Who is in no wave that has begun, and whoever is no person, is decided by the
// version in force; what the candidate would have answered is worked out beside it.
type Rollout struct {
	N     int64 // its number
	Waves []Wave
}

// Wave is the people for whom a rollout's candidate is enforced from a time on. It
// stands on those before it: while one of them is held, it is not enforced either.
type Wave struct {
	Groups []string  `json:"groups,omitempty"` // by name; who is in any of them, and in no wave before, is in this one
	Rest   bool      `json:"rest,omitempty"`   // so is everybody who is in no wave before; only of the last
	From   time.Time `json:"from"`
	Budget Budget    `json:"budget"`
	Held   Hold      `json:"held,omitempty"`   // why it is in monitor though it has begun; "": it is not
	Since  time.Time `json:"since,omitzero"`   // what came before is not counted any more
	Record string    `json:"record,omitempty"` // of the act that held it, or let it go
}

// Budget is what a wave may cost its people in any 24 hours: how often they may be
// asked for more, or refused, where the version in force would not do the same. One
// more, and the wave returns to monitor. What one person is asked again within
// BudgetSpan counts once, and what one person meets counts for a Share at most.
type Budget struct {
	Prompts int `json:"prompts"`
	Denials int `json:"denials"`
}

// BudgetDay is the time over which a budget is counted, and BudgetSpan that in which
// the same person is counted once.
const (
	BudgetDay  = 24 * time.Hour
	BudgetSpan = 5 * time.Minute
)

// Hold is why a wave is in monitor.
type Hold string

// The holds.
const (
	Paused   Hold = "paused"   // by somebody: its count goes on when it is let go
	Undone   Hold = "undone"   // by somebody: it is counted afresh when it is let go
	Reverted Hold = "reverted" // by itself: it exceeded its budget
)

// Wave is the index of the wave that somebody is in; -1: none.
func (r *Rollout) Wave(who Entity) int {
	if r == nil || who.Kind != KindPerson {
		return -1
	}
	return slices.IndexFunc(r.Waves, func(w Wave) bool { return w.Rest || slices.ContainsFunc(w.Groups, who.In) })
}

// Enforced reports whether the candidate is what decides for a wave. It is for none
// below 0.
func (r *Rollout) Enforced(wave int, at time.Time) bool {
	if r == nil || wave < 0 || wave >= len(r.Waves) {
		return false
	}
	for _, w := range r.Waves[:wave+1] {
		if w.Held != "" || at.Before(w.From) {
			return false
		}
	}
	return true
}

// The states of a wave.
const (
	WaveWaiting  = "waiting"  // its date has not come
	WaveEnforced = "enforced" // the candidate decides
	WaveHeld     = "held"     // it is in monitor: see Held
	WaveBehind   = "behind"   // one before it is held
)

// State says where a wave stands.
func (r *Rollout) State(wave int, at time.Time) string {
	w := &r.Waves[wave]
	switch {
	case w.Held != "":
		return WaveHeld
	case at.Before(w.From):
		return WaveWaiting
	case r.Enforced(wave, at):
		return WaveEnforced
	}
	return WaveBehind
}

// Counted is the time from which on a wave's budget is counted.
func (w *Wave) Counted(at time.Time) time.Time {
	from := at.Add(-BudgetDay)
	for _, t := range []time.Time{w.From, w.Since} {
		if t.After(from) {
			from = t
		}
	}
	return from
}

// Shares is how many people at least share a budget, in a wave of so many. What one of
// them meets counts for one part of so many, and one more, so that all of them together
// can exceed it.
const Shares = 4

// Share is what one person of a wave of so many people counts for at most.
func (b Budget) Share(people int) Budget {
	n := min(max(people, 1), Shares)
	return Budget{b.Prompts/n + 1, b.Denials/n + 1}
}

// Spent is what counts of what the people of a wave met.
type Spent struct {
	Budget
	Over bool // it is more than the budget allows: the wave returns to monitor
}

// Spent sums what each person met, in a wave of so many people. In a wave of more than
// one nobody exceeds the budget alone, a budget of nothing neither.
func (b Budget) Spent(people int, each []Budget) (sum Spent) {
	share := b.Share(people)
	var prompted, denied int // how many people
	for _, met := range each {
		sum.Prompts += min(met.Prompts, share.Prompts)
		sum.Denials += min(met.Denials, share.Denials)
		prompted, denied = prompted+min(met.Prompts, 1), denied+min(met.Denials, 1)
	}
	sum.Over = sum.Prompts > b.Prompts && (prompted > 1 || people < 2) || sum.Denials > b.Denials && (denied > 1 || people < 2)
	return sum
}

// Add counts n more.
func (b *Budget) Add(denied bool, n int) {
	if denied {
		b.Denials += n
	} else {
		b.Prompts += n
	}
}

// Tried is what a rollout makes of a decision where its candidate and the version in
// force differ.
type Tried struct {
	Rollout  int64
	Wave     int       // from 1; 0: in none
	Enforced bool      // the answer is the candidate's, and Other that of the version in force; false: the other way round
	Other    *Decision // the answer that was not given
}

// Differs reports whether two answers are not the same to whoever asked.
func (d *Decision) Differs(o *Decision) bool {
	return d.Outcome != o.Outcome || d.Ask != o.Ask || d.Code != o.Code
}

// Met is what an enforced candidate cost somebody: a prompt, or a refusal.
type Met struct {
	Rollout int64
	Wave    int // from 1
	Denied  bool
	Rule    string // that makes the difference
}

// Met says what the candidate of a rollout cost whoever asked; nil if nothing.
func (d *Decision) Met() *Met {
	if d.Tried == nil || !d.Tried.Enforced || d.Outcome == Allow {
		return nil
	}
	m := &Met{Rollout: d.Tried.Rollout, Wave: d.Tried.Wave, Denied: d.Outcome == Deny}
	m.Rule = d.added(d.Tried.Other)
	return m
}

// added is the first policy that an answer names and another one does not, else the
// first that it names: the rule that makes the difference.
func (d *Decision) added(o *Decision) string {
	first := ""
	for _, r := range d.Reasons {
		if !slices.ContainsFunc(o.Reasons, func(x Reason) bool { return x.Policy == r.Policy }) {
			return r.Policy
		}
		first = cmp.Or(first, r.Policy)
	}
	return first
}

// Gap is what somebody could not do any more under another set, with everything that
// they have enrolled.
type Gap struct {
	Rule    string        `json:"rule"`              // that stands in the way
	Needs   assurance.Ask `json:"-"`                 // what they cannot show; none: it refuses whatever they show
	Words   string        `json:"needs,omitempty"`   // the same, in words
	Actions []Action      `json:"actions,omitempty"` // that are refused
}

// Gaps finds what a person could not do any more if they were decided by candidate
// in the place of inForce. can says what they could show. It tries what the sets
// differ in, on one's own things and on nobody's, in each band of risk but the
// highest, and of the deployment's own actions each kind of thing and each that the
// policies name, with what they tell apart of what is said of it: it is told to
// administrators only (mechanisms A8).
func Gaps(inForce, candidate *Set, who Entity, can Attainable, now time.Time) []Gap {
	var out []Gap
	for _, action := range changed(inForce, candidate) {
		things := tried(inForce, candidate, who.ID, action)
		for _, band := range bands[:len(bands)-1] {
			for _, on := range things {
				in := Input{Principal: who, Action: action, Resource: on, Context: Context{Now: now, Risk: Risk{Known: true, Band: band}}}
				in.Resource.Attributes = candidate.Attributes(on.Type).Fit(on.Attributes)
				d := candidate.Decide(in, can)
				if d.Outcome != Deny || d.Code == CodeTooMany {
					continue
				}
				in.Resource.Attributes = inForce.Attributes(on.Type).Fit(on.Attributes)
				was := inForce.Decide(in, can)
				if was.Outcome != Deny {
					out = gap(out, action, &d, d.added(&was))
				}
			}
		}
	}
	return out
}

// maxNamed bounds how many things that policies name are tried of an action, and maxSaid
// how many combinations of what is said of one: of more, each value is tried by itself, of
// a set each word. Somebody waits for all of it, of every person there is.
const (
	maxNamed = 50
	maxSaid  = 20
)

// tried are the things on which an action is tried: somebody's own and nobody's.
func tried(a, b *Set, owner string, action Action) (out []Resource) {
	var things []Resource
	ts := traits{}
	for _, s := range []*Set{a, b} {
		e, ok := s.eval.(*engine)
		if !ok {
			continue
		}
		for _, t := range e.about[action] {
			things = append(things, Resource{Type: t})
		}
		if bucket := e.buckets[bucketKey{action, KindPerson}]; bucket != nil {
			things = append(things, bucket.things(e.about[action])...)
			ts = ts.with(bucket.traits)
		}
	}
	if len(things) == 0 { // one of the product's
		return []Resource{{Type: KindPerson, ID: owner, Owner: owner}, {}}
	}
	slices.SortFunc(things, func(x, y Resource) int { return cmp.Or(cmp.Compare(x.Type, y.Type), cmp.Compare(x.ID, y.ID)) })
	things = slices.CompactFunc(things, func(x, y Resource) bool { return x.Type == y.Type && x.ID == y.ID })
	for _, r := range things[:min(len(things), maxNamed)] {
		for _, r.Attributes = range ts.samples(a.Attributes(r.Type).With(b.Attributes(r.Type))) {
			out = append(out, Resource{Type: r.Type, ID: r.ID, Owner: owner, Attributes: r.Attributes}, r)
		}
	}
	return out
}

// samples are what may be said of a thing: every combination of what is told apart, or,
// if they are many, each value by itself.
func (ts traits) samples(has attribute.Types) []attribute.Values {
	all := ts.combinations(has, maxSaid)
	if len(all) <= maxSaid {
		return all
	}
	var out []attribute.Values
	for _, name := range has.Names() {
		if t, told := ts[name]; told {
			for _, v := range t.few(has[name]) {
				with := traits{}.combinations(has, 1)[0]
				with[name] = v
				out = append(out, with)
			}
		}
	}
	return out
}

// things are those that policies name, of some types.
func (b *bucket) things(types []string) (out []Resource) {
	note := func(uid cedar.EntityUID) {
		if slices.Contains(types, string(uid.Type)) {
			out = append(out, Resource{Type: string(uid.Type), ID: string(uid.ID)})
		}
	}
	for _, p := range b.policies {
		if eq, ok := p.tree.Resource.(ast.ScopeTypeEq); ok {
			note(eq.Entity)
		}
		for _, c := range p.tree.Conditions {
			ast.Inspect(ast.NewNode(c.Body), func(n ast.IsNode) bool {
				if v, ok := n.(ast.NodeValue); ok {
					if uid, is := v.Value.(cedar.EntityUID); is {
						note(uid)
					}
				}
				return true
			})
		}
	}
	return out
}

// gap adds what an answer refuses.
func gap(list []Gap, action Action, d *Decision, rule string) []Gap {
	g := Gap{Rule: rule, Needs: d.Ask}
	if d.Ask.Demands() {
		g.Words = Words(d.Ask)
	}
	i := slices.IndexFunc(list, func(o Gap) bool { return o.Rule == g.Rule && o.Needs == g.Needs })
	if i < 0 {
		i, list = len(list), append(list, g)
	}
	if !slices.Contains(list[i].Actions, action) {
		list[i].Actions = append(list[i].Actions, action)
	}
	return list
}

// changed are the actions of people of which two sets may differ.
func changed(a, b *Set) []Action {
	one, two := a.ofPeople(), b.ofPeople()
	differ := !slices.EqualFunc(a.exceptions, b.exceptions, func(x, y Exception) bool { return x == y })
	out := map[Action]bool{}
	for _, m := range []map[Action]*bucket{one, two} {
		for action := range m {
			if differ || !one[action].same(two[action]) {
				out[action] = true
			}
		}
	}
	return slices.SortedFunc(maps.Keys(out), func(x, y Action) int { return cmp.Compare(x, y) })
}

func (s *Set) ofPeople() map[Action]*bucket {
	out := map[Action]*bucket{}
	if e, ok := s.eval.(*engine); ok {
		for key, b := range e.buckets {
			if key.kind == KindPerson {
				out[key.action] = b
			}
		}
	}
	return out
}

// same reports whether two buckets hold the same policies.
func (b *bucket) same(o *bucket) bool {
	if b == nil || o == nil {
		return b == o
	}
	return slices.EqualFunc(b.policies, o.policies, func(x, y *compiled) bool {
		return x.ID == y.ID && string(x.cedar.MarshalCedar()) == string(y.cedar.MarshalCedar())
	})
}
