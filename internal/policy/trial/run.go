package trial

import (
	"fmt"
	"slices"
	"strings"

	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/policy"
)

// The results of a case or statement.
const (
	Passed   = "passed"
	Failed   = "failed"
	Proved   = "proved"
	False    = "false"    // a statement, with a counterexample
	Unproven = "unproven" // a statement that goes beyond what can be tried
)

// Result is what came of a case or statement.
type Result struct {
	File   string `json:"file"`
	Name   string `json:"name"`
	Result string `json:"result"`
	Detail string `json:"detail,omitempty"` // what is wrong, or how much was tried
}

// Bad reports whether it is to be mended.
func (r Result) Bad() bool { return r.Result != Passed && r.Result != Proved }

// Test runs the cases of a file.
func Test(s *policy.Set, f File) []Result {
	out := make([]Result, 0, len(f.Cases))
	for i := range f.Cases {
		c := &f.Cases[i]
		r := Result{File: f.Name, Name: c.name(i), Result: Passed}
		if wrong := c.wrong(s); wrong != "" {
			r.Result, r.Detail = Failed, wrong
		}
		out = append(out, r)
	}
	return out
}

func (c *Case) name(i int) string {
	if c.Name != "" {
		return c.Name
	}
	return fmt.Sprintf("case %d: %s", i+1, c.Action)
}

// wrong is how the answer differs from what is expected; "" if it does not.
func (c *Case) wrong(s *policy.Set) string {
	in, ask, _ := c.question() // Parse has checked it
	if !s.Has(in.Action) {
		return "there is no action " + c.Action
	}
	if err := c.said(s, &in); err != nil {
		return err.Error()
	}
	d := s.Decide(in, nil)
	var wrong []string
	if d.Outcome.String() != c.Expect {
		wrong = append(wrong, fmt.Sprintf("expected %s, got %s", c.Expect, Answer(d)))
	} else if c.Ask != nil && d.Ask != ask {
		wrong = append(wrong, fmt.Sprintf("expected %s, got %s", policy.Words(ask), policy.Words(d.Ask)))
	}
	if c.Reason != "" && !slices.ContainsFunc(d.Reasons, func(r policy.Reason) bool { return r.Policy == c.Reason }) {
		wrong = append(wrong, fmt.Sprintf("expected the reason %s, got %s", c.Reason, ids(d.Reasons)))
	}
	if c.Code != "" && c.Code != d.Code {
		wrong = append(wrong, fmt.Sprintf("expected the code %s, got %s", c.Code, d.Code))
	}
	if c.Review && !d.Review {
		wrong = append(wrong, "expected a review, and none is asked for")
	}
	return strings.Join(wrong, "; ")
}

// Answer says a decision in a line.
func Answer(d policy.Decision) string {
	switch {
	case d.Outcome == policy.StepUp, d.Ask.Demands():
		return fmt.Sprintf("%s (needs %s) by %s", d.Outcome, policy.Words(d.Ask), ids(d.Reasons))
	case d.Code != "":
		return fmt.Sprintf("%s (%s) by %s", d.Outcome, d.Code, ids(d.Reasons))
	}
	return fmt.Sprintf("%s by %s", d.Outcome, ids(d.Reasons))
}

func ids(reasons []policy.Reason) string {
	var out []string
	for _, r := range reasons {
		if !slices.Contains(out, r.Policy) {
			out = append(out, r.Policy)
		}
	}
	return strings.Join(out, ", ")
}

// Explain is a decision on the question of a case, whole. The error says what is wrong
// with what the case says of its resource.
func Explain(s *policy.Set, c Case) (policy.Decision, error) {
	in, _, _ := c.question() // Parse has checked it
	if err := c.said(s, &in); err != nil {
		return policy.Decision{}, err
	}
	return s.Decide(in, nil), nil
}

// Check proves the statements of a file.
func Check(s *policy.Set, f File) []Result {
	out := make([]Result, 0, len(f.Never))
	for i := range f.Never {
		n := &f.Never[i]
		r := Result{File: f.Name, Name: n.Name, Result: Proved}
		if r.Name == "" {
			r.Name = fmt.Sprintf("never %d: %s", i+1, strings.Join(n.Actions, ", "))
		}
		if j := slices.IndexFunc(n.Actions, func(a string) bool { return !s.Has(policy.Action(a)) }); j >= 0 {
			r.Result, r.Detail = Failed, "there is no action "+n.Actions[j]
			out = append(out, r)
			continue
		}
		if j := slices.IndexFunc(n.Actions, func(a string) bool { return n.about(s, policy.Action(a)) != "" }); j >= 0 {
			r.Result, r.Detail = Failed, n.about(s, policy.Action(n.Actions[j]))
			out = append(out, r)
			continue
		}
		st, _ := n.statement() // Parse has checked it
		switch p := s.Prove(st); {
		case p.Counter != nil:
			r.Result, r.Detail = False, fmt.Sprintf("%s is allowed by %s to %s", p.Counter.Action, ids(p.Allowed), state(p.Counter, p.Told))
		case p.Unproven != "":
			r.Result, r.Detail = Unproven, p.Unproven
		case p.Tried == 0:
			r.Detail = "nobody is permitted these actions"
		default:
			r.Detail = fmt.Sprintf("%d combinations tried", p.Tried)
		}
		out = append(out, r)
	}
	return out
}

// state says who a counterexample is about, with what, and how the world is. told are the
// attributes that matter.
func state(in *policy.Input, told []string) string {
	c := &in.Context
	parts := []string{"a " + in.Principal.Kind}
	if len(in.Principal.Groups) > 0 {
		parts = append(parts, "of "+strings.Join(in.Principal.Groups, ", "))
	}
	if best := c.Assurance.Best(); best.Rung > 0 {
		parts = append(parts, fmt.Sprintf("at %s since %s", name(best.Rung), c.Now.Sub(best.AuthTime)))
	} else if c.Assurance.MachineRung > 0 {
		parts = append(parts, fmt.Sprintf("at m%d", c.Assurance.MachineRung))
	} else {
		parts = append(parts, "without a sign-in")
	}
	if c.Approvals > 0 {
		parts = append(parts, fmt.Sprintf("with %d approvals", c.Approvals))
	}
	if c.Risk.Known {
		parts = append(parts, c.Risk.Band+" risk")
	}
	for _, f := range []struct {
		is   bool
		text string
	}{
		{c.Confirmed, "confirmed"},
		{c.DeviceManaged, "on a managed device"},
		{c.DeviceKnown && !c.DeviceManaged, "on a known device"},
		{c.DevicesUsed, "where devices are managed"},
		{in.Resource.Owner != "", "on their own"},
		{c.Network.Known, "from a known network"},
		{c.Network.Zone != "", "in the zone " + c.Network.Zone},
		{c.NoPasskey, "without a passkey"},
		{c.Presented, "with a link"},
	} {
		if f.is {
			parts = append(parts, f.text)
		}
	}
	if said := words(in.Resource.Attributes, told); said != "" {
		parts = append(parts, "with a "+in.Resource.Type+" of "+said)
	}
	return strings.Join(parts, ", ")
}

func name(of assurance.Rung) string {
	for n, r := range rungs {
		if r == of {
			return n
		}
	}
	return ""
}
