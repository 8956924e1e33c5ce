package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cedar-policy/cedar-go/x/exp/ast"

	"github.com/countersign-dev/countersign/internal/assurance"
)

// MaxException is how long an exception may last.
const MaxException = 90 * 24 * time.Hour

// maxExceptions bounds those of a set: each is somebody's work to look at.
const maxExceptions = 50

// ExceptionPrefix begins the reason that an exception gives.
const ExceptionPrefix = "exception:"

// Exception is a waiver of a named rule for somebody: in its place they show
// something else, until a date. It is part of a set, and so reviewed, published,
// attributed and put back with it. It never makes an answer depend on less than
// the rule and Instead together would: whoever meets neither is told of the weaker.
type Exception struct {
	ID     string    `json:"id"`
	Rule   string    `json:"rule"`              // the id of the policy that is waived
	For    string    `json:"for"`               // a person or service by id, or "group:" and its name
	Owner  string    `json:"owner"`             // who answers for it
	Reason string    `json:"reason"`            // why, in words, to those it concerns
	Rung   int       `json:"rung"`              // what is shown instead: at least this rung, which is 1 or more,
	MaxAge int64     `json:"max_age,omitempty"` // reached so many seconds ago at most; 0: any time
	Until  time.Time `json:"until"`
}

// Instead is the ask that stands in the place of the rule.
func (e *Exception) Instead() assurance.Ask {
	return assurance.Ask{Rung: assurance.Rung(e.Rung), MaxAge: time.Duration(e.MaxAge) * time.Second}
}

const groupFor = "group:"

// Concerns reports whether the exception is for somebody.
func (e *Exception) Concerns(who Entity) bool {
	if name, ok := strings.CutPrefix(e.For, groupFor); ok {
		return who.In(name)
	}
	return who.ID != "" && e.For == who.ID
}

// Exceptions are those of the set, in order. They are shared: read them, do not
// change them.
func (s *Set) Exceptions() []Exception { return s.exceptions }

// waivers are the exceptions that count for an input at a time, or at any, if it is
// zero.
func (s *Set) waivers(in *Input, at time.Time) (out []*Exception) {
	for i := range s.exceptions {
		e := &s.exceptions[i]
		if !e.Concerns(in.Principal) || !at.IsZero() && !at.Before(e.Until) {
			continue
		}
		b := s.eval.(*engine).bucket(in)
		if b != nil && slices.ContainsFunc(b.policies, func(p *compiled) bool { return p.ID == e.Rule && !p.host }) {
			out = append(out, e)
		}
	}
	return out
}

// waiving is the bucket as it is for somebody whom exceptions concern. A forbid
// that is waived falls away once what stands in its place is shown, a permit then
// asks for nothing else; until then each stands as it is, with one more way.
func (b *bucket) waiving(in *Input) *bucket {
	out := &bucket{approvals: b.approvals, fixed: b.fixed}
	for _, p := range b.policies {
		for _, e := range in.Waived {
			if e.Rule != p.ID {
				continue
			}
			was := p
			if p = p.waived(e, in.Context.meets(e.Instead())); p == nil {
				out.limitBy(was)
				break
			}
		}
		if p != nil {
			out.add(p)
		}
	}
	out.fixed = b.fixed
	if !out.fixed {
		out.combine()
	}
	return out
}

// waived is the policy with one more way to satisfy it; nil is a forbid that fell
// away.
func (p *compiled) waived(e *Exception, shown bool) *compiled {
	with := *p
	if !p.never {
		with.ways = append(slices.Clip(p.ways), e.way())
	}
	if !shown {
		return &with
	}
	if p.Effect == "forbid" {
		return nil
	}
	with.asked = p.bare
	return &with
}

// way is what stands in the place of the rule, as atoms.
func (e *Exception) way() []atom {
	if e.MaxAge > 0 {
		return []atom{{is: within, rung: assurance.Rung(e.Rung), age: time.Duration(e.MaxAge) * time.Second}}
	}
	return []atom{{is: atLeast, rung: assurance.Rung(e.Rung)}}
}

// combine finds the candidates of the climb: a way of one permit, with a way around
// each forbid that might apply. It stops where there are more than are tried.
func (b *bucket) combine() (few bool) {
	for _, p := range b.policies {
		if p.Effect == "permit" {
			b.candidates = b.candidates.or(p.ways)
		}
	}
	for _, p := range b.policies {
		if p.Effect == "forbid" {
			b.candidates = b.candidates.with(ways{nil}.or(p.ways))
		}
		if len(b.candidates) > maxCandidates {
			return false
		}
	}
	return true
}

// strip makes, of a permit, the policy that a waiver leaves: the same without what
// has to be shown. There is none where that stands in one condition with something
// else, which would fall away with it.
func (p *compiled) strip() {
	var bare []ast.ConditionType
	for _, c := range p.tree.Conditions {
		for _, n := range conjuncts(c.Body, c.Condition == ast.ConditionWhen) {
			switch {
			case !shows(n, climbing...):
				bare = append(bare, ast.ConditionType{Condition: c.Condition, Body: n})
			case mixed(n):
				return
			}
		}
	}
	p.bare = p.form(ast.EffectPermit, bare)
}

// mixed reports whether a condition speaks of more than what can be shown.
func mixed(n ast.IsNode) (found bool) {
	ast.Inspect(ast.NewNode(n), func(n ast.IsNode) bool {
		if p, ok := path(n); ok {
			found = found || len(p) == 0 || !slices.Contains(climbing, p[0])
			return false
		}
		_, variable := n.(ast.NodeTypeVariable)
		found = found || variable
		return !found
	})
	return found
}

// used names the exceptions without which an input would not be allowed.
func (s *Set) used(in Input) (out []Reason) {
	waived := in.Waived
	in.Waived = nil
	if s.judge(in, false).allow {
		return nil
	}
	for _, e := range waived {
		if in.Context.meets(e.Instead()) {
			out = append(out, Reason{Policy: ExceptionPrefix + e.ID, Text: "By an exception until " + e.Until.UTC().Format(time.DateOnly) + ": " + e.Reason, Owner: e.Owner})
		}
	}
	return out
}

// except checks the exceptions of a source and gives them to the set.
func (s *Set) except(src Source, policies []*compiled) (faults Faults) {
	seen := map[string]bool{}
	for i := range src.Exceptions {
		e := src.Exceptions[i]
		wrong := func(format string, a ...any) {
			faults = append(faults, Fault{Policy: e.ID, Code: FaultException, Text: fmt.Sprintf("exception %q: ", e.ID) + fmt.Sprintf(format, a...)})
		}
		at := slices.IndexFunc(policies, func(p *compiled) bool { return p.ID == e.Rule })
		name, group := strings.CutPrefix(e.For, groupFor)
		switch {
		case !idPattern.MatchString(e.ID) || seen[e.ID]:
			wrong("it has an id of its own: lower-case letters, digits, \".\", \"_\" and \"-\"")
		case at < 0:
			wrong("there is no rule %q", e.Rule)
		case policies[at].host:
			wrong("what root on the host and the server itself may do has no exceptions")
		case policies[at].Effect == "permit" && policies[at].bare == nil:
			wrong("rule %q demands proof and something else in one condition: write two", e.Rule)
		case group && name == "", !group && !strings.HasPrefix(e.For, "usr_") && !strings.HasPrefix(e.For, "svc_"):
			wrong("it is for a person (usr_…), a service (svc_…) or group:NAME")
		case strings.TrimSpace(e.Owner) == "" || strings.TrimSpace(e.Reason) == "" || len(e.Reason) > 400 || len(e.Owner) > 100:
			wrong("owner and reason say who answers for it and why, in at most 100 and 400 letters")
		case e.Rung < int(assurance.Single) || e.Rung > int(assurance.Hardware) || e.MaxAge < 0 || e.MaxAge > int64((365*24*time.Hour).Seconds()) || e.MaxAge > 0 && e.MaxAge < 60:
			wrong("something is shown in the place of the rule: a rung from 1 to 4, a minute to a year ago at most")
		case e.Until.IsZero(), e.Until.UTC().Year() > 9999:
			wrong("it ends")
		}
		seen[e.ID] = true
	}
	if len(src.Exceptions) > maxExceptions {
		faults = append(faults, Fault{Code: FaultException, Text: fmt.Sprintf("there are more than %d exceptions", maxExceptions)})
	}
	if len(faults) == 0 {
		s.exceptions = slices.Clone(src.Exceptions)
		faults = s.tooMany()
	}
	return faults
}

// tooMany holds the climb of whoever all exceptions concerned to its limit.
func (s *Set) tooMany() (faults Faults) {
	var all Input
	for i := range s.exceptions {
		all.Waived = append(all.Waived, &s.exceptions[i])
	}
	if len(all.Waived) == 0 {
		return nil
	}
	for key, b := range s.eval.(*engine).buckets {
		if w := b.waiving(&all); climbs(key.kind) && !b.fixed && len(w.candidates) > maxCandidates {
			faults = append(faults, Fault{Code: FaultException, Text: fmt.Sprintf("with the exceptions, action %s by a %s would have more than %d different asks to be tried", key.action, key.kind, maxCandidates)})
		}
	}
	slices.SortFunc(faults, func(a, b Fault) int { return compareText(a.Text, b.Text) })
	return faults
}
