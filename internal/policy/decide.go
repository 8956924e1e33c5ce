package policy

import (
	"slices"

	"github.com/countersign-dev/countersign/internal/assurance"
)

// maxChallenges is how many challenges one actor gets through one client for one
// class of action in five minutes (mechanisms A15).
const maxChallenges = 2

// Decide answers one question. Facts that no policy may overrule come first,
// then what is somebody's right, then the climb (mechanisms A6). can is nil outside the server.
func (s *Set) Decide(in Input, can Attainable) Decision {
	if s == nil || s.eval == nil {
		return refused("", CodeError, Reason{Policy: "none", Text: "No policy is loaded."})
	}
	if r, code := factual(in); code != "" {
		return refused(s.version, code, r)
	}
	if r, ok := byRight(&in); ok {
		return Decision{Outcome: Allow, Reasons: []Reason{r}, PolicyVersion: s.version}
	}
	if r, found := s.unsaid(&in); found {
		return refused(s.version, CodeError, r)
	}
	in.Waived = s.waivers(&in, in.Context.Now)
	d := s.climb(in, can)
	d.PolicyVersion = s.version
	if d.Outcome == Allow && len(in.Waived) > 0 {
		d.Reasons = join(d.Reasons, s.used(in))
	}
	if d.Outcome == StepUp && in.Context.Challenges >= maxChallenges {
		d = Decision{Outcome: Deny, Code: CodeTooMany, Review: true, Reasons: d.Reasons, PolicyVersion: s.version}
	}
	if s.monitor != nil {
		if m := s.monitor.Decide(in, can); m.Differs(&d) {
			d.Monitored = &m
		}
	}
	return d
}

// refused is a Deny without any evaluation.
func refused(version, code string, r Reason) Decision {
	return Decision{Outcome: Deny, Code: code, Reasons: []Reason{r}, PolicyVersion: version}
}

// factual refuses what no policy may allow.
func factual(in Input) (Reason, string) {
	c := &in.Context
	switch {
	case c.Ended != "":
		return Reason{Policy: "ended", Text: "This was ended: " + c.Ended + "."}, CodeEnded
	case c.OwnerEnded != "":
		return Reason{Policy: "ended", Text: "The owner was ended: " + c.OwnerEnded + "."}, CodeEnded
	case c.Now.IsZero():
		return Reason{Policy: "now", Text: "The time of the decision is missing."}, CodeError
	case c.Quarantine && in.Principal.Kind != KindOperator && in.Principal.Kind != KindSystem:
		return Reason{Policy: "quarantine", Text: "The server is in quarantine and answers only its operator."}, CodeQuarantine
	}
	return Reason{}, ""
}

// climb is A6: the real facts; the top; the candidates in order of cost, each at
// its weakest hypothesis; and never an ask that is met already.
func (s *Set) climb(in Input, can Attainable) Decision {
	real := s.judge(in, true)
	if real.err != nil {
		return failed(real)
	}
	if real.allow {
		d := scopes(in)
		d.Outcome, d.Reasons = Allow, join(real.reasons, d.Reasons)
		d.MaxLife, d.MaxGrant = Shorter(d.MaxLife, real.lives.life), real.lives.grant
		return d
	}
	denied := Decision{Outcome: Deny, Code: CodeDenied, Reasons: real.reasons, Review: real.review}
	approvals, ok := s.eval.top(in)
	if !climbs(in.Principal.Kind) || !ok {
		return denied
	}
	candidates := s.candidates(in)
	if top := s.judge(atTop(in, approvals), true); top.err != nil {
		return failed(top)
	} else if !top.allow {
		denied.Reasons, denied.Review = top.reasons, top.review // what remains wrong when everything was shown
		return denied
	}
	sorted := scopes(in)
	d := Decision{Outcome: Deny, Code: CodeUnattainable, Withheld: sorted.Withheld, Reasons: join(real.reasons, sorted.Reasons)}
	for _, a := range candidates {
		v := s.judge(suppose(in, a), false)
		switch {
		case v.err != nil:
			return failed(v)
		case !v.allow:
			continue
		case in.Context.meets(a):
			return Decision{Outcome: Deny, Code: CodeInconsistent, Reasons: v.reasons}
		}
		if !d.Ask.Demands() {
			d.Ask = a // the first that policy accepts, for the page
		}
		if in.Context.obtainable(a.Approval) && (can == nil || can(a)) {
			d.Outcome, d.Code, d.Ask = StepUp, CodeStepUp, a
			return d
		}
	}
	if d.Ask.Demands() && !in.Context.obtainable(d.Ask.Approval) {
		d.Reasons = join(d.Reasons, []Reason{{Policy: "needs:approvals", Text: "This needs " + Words(d.Ask) + ", and there is nobody who can give that here."}})
	}
	return d
}

// join is a then b, without a copy when there is nothing to add.
func join(a, b []Reason) []Reason {
	if len(b) == 0 {
		return a
	}
	return slices.Concat(a, b)
}

// failed is the answer when a policy could not be evaluated (A4).
func failed(v verdict) Decision {
	return Decision{Outcome: Deny, Code: CodeError, Reasons: append(slices.Clip(v.reasons),
		Reason{Policy: "evaluation", Text: "A policy could not be evaluated: " + v.err.Error()})}
}

// judge is what the policies say, and the asks of the scopes that must be met
// for the whole to be allowed.
func (s *Set) judge(in Input, explain bool) verdict {
	v := s.eval.evaluate(in, explain)
	for i := range in.Context.Scopes {
		sc := &in.Context.Scopes[i]
		if !sc.binding(in.Principal) || in.Context.meets(sc.Ask) {
			continue
		}
		if v.allow {
			v.allow, v.reasons = false, nil // why the rest is allowed explains nothing
		}
		v.reasons = append(slices.Clip(v.reasons), sc.unmet())
	}
	return v
}

// climbs reports whether a kind of principal can be asked for more: a person,
// and an agent through the person it acts for (A8). A machine is told what its
// client must bring (A26), which is nothing that a ceremony changes.
func climbs(kind string) bool { return kind == KindPerson || kind == KindAgent }

// candidates are the asks worth trying, cheapest first: each that the policies
// name, joined with what the binding scopes need, less what is met already. Less
// changes nothing of the hypothesis, so the ask stays sufficient; without it a
// sign-in that is strong but old would be asked for again to go with a weaker
// one that must be fresh.
func (s *Set) candidates(in Input) []assurance.Ask {
	var need assurance.Ask
	for i := range in.Context.Scopes {
		sc := &in.Context.Scopes[i]
		if !sc.binding(in.Principal) {
			continue
		}
		j, ok := need.Join(in.Context.lacking(sc.Ask))
		if !ok {
			return nil // no one ask can say it
		}
		need = j
	}
	var out []assurance.Ask
	for _, a := range s.eval.candidates(in) {
		if j, ok := in.Context.lacking(a).Join(need); ok {
			out = append(out, j)
		}
	}
	slices.SortFunc(out, assurance.Ask.Compare)
	return slices.Compact(out)
}

// lacking is an ask without the dimensions that the real facts meet, and without
// the device, which no ceremony changes (A7).
func (c *Context) lacking(a assurance.Ask) assurance.Ask {
	a.Device = assurance.AnyDevice
	if c.Assurance.Meets(a, c.Now) {
		a.Rung, a.MaxAge = assurance.None, 0
	}
	if c.approved(a.Approval) {
		a.Approval = assurance.Approval{}
	}
	return a
}

// suppose is the input with the weakest facts that meet an ask (A2).
func suppose(in Input, a assurance.Ask) Input {
	c := &in.Context
	c.Assurance = a.Raise(c.Assurance, c.Now)
	c.Confirmed = c.Confirmed || a.Approval.Kind == assurance.Confirm
	c.Approvals = max(c.Approvals, a.Approval.Need())
	return in
}

// atTop is the input with everything that a person could show: the highest rung,
// now, confirmed, and every approval that is named. The device stays (A6.2).
func atTop(in Input, approvals int) Input {
	c := &in.Context
	c.Assurance = c.Assurance.Top(c.Now)
	c.Confirmed = true
	c.Approvals = max(c.Approvals, approvals)
	for i := range c.Scopes {
		c.Approvals = max(c.Approvals, c.Scopes[i].Ask.Approval.Need())
	}
	return in
}

// meets reports whether the real facts meet every dimension of an ask.
func (c *Context) meets(a assurance.Ask) bool {
	return c.Assurance.Meets(a, c.Now) && c.approved(a.Approval) && c.onDevice(a.Device)
}

func (c *Context) approved(a assurance.Approval) bool {
	switch a.Kind {
	case assurance.NoApproval:
		return true
	case assurance.Confirm:
		return c.Confirmed
	case assurance.Approve:
		return c.Approvals >= a.Need()
	default:
		return false
	}
}

// obtainable reports whether there is somebody who could sign off (A7): an ask that
// nobody can meet is not handed out.
func (c *Context) obtainable(a assurance.Approval) bool {
	if a.Kind == assurance.Confirm {
		return c.Confirmed || c.Confirmable
	}
	return a.Need() <= c.Approvers
}

func (c *Context) onDevice(d assurance.Device) bool {
	switch d {
	case assurance.AnyDevice:
		return true
	case assurance.KnownDevice:
		return c.DeviceKnown || c.DeviceManaged
	case assurance.ManagedDevice:
		return c.DeviceManaged
	default:
		return false
	}
}
