package policy

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/problem"
)

// Words says an ask in words that finish "This needs …".
func Words(a assurance.Ask) string {
	var parts []string
	if a.Rung > assurance.None || a.MaxAge != 0 {
		kind := map[assurance.Rung]string{
			assurance.Multi:    "two-factor ",
			assurance.Phishing: "phishing-resistant ",
			assurance.Hardware: "hardware-bound ",
		}[a.Rung]
		s := "a " + kind + "sign-in"
		if a.MaxAge != 0 {
			s += " from the last " + span(a.MaxAge)
		}
		parts = append(parts, s)
	}
	switch n := a.Approval.Need(); {
	case a.Approval.Kind == assurance.Confirm:
		parts = append(parts, "your confirmation")
	case n == 1:
		parts = append(parts, "another person's approval")
	case n > 1:
		parts = append(parts, fmt.Sprintf("the approval of %d others", n))
	}
	switch a.Device {
	case assurance.KnownDevice:
		parts = append(parts, "a known device")
	case assurance.ManagedDevice:
		parts = append(parts, "a managed device")
	}
	if len(parts) == 0 {
		return "nothing more"
	}
	return strings.Join(parts, " and ")
}

// span says a duration in its largest whole unit.
func span(d time.Duration) string {
	for _, u := range []struct {
		of   time.Duration
		name string
	}{{time.Hour, "hour"}, {time.Minute, "minute"}} {
		switch n := d / u.of; {
		case d%u.of != 0 || n == 0:
		case n == 1:
			return u.name
		default:
			return fmt.Sprintf("%d %ss", n, u.name)
		}
	}
	return fmt.Sprintf("%d seconds", (d+time.Second-1)/time.Second)
}

// Problem is the decision as the error that surfaces render; nil for Allow. Its
// Detail says no more than the ask, or that it is refused, and the policy's public
// reason (mechanisms A10); the words for the signed-in person are in Why.
func (d Decision) Problem(l assurance.Ladder) *problem.Error {
	switch d.Outcome {
	case Allow:
		return nil
	case StepUp:
		e := problem.New(problem.StepUp, CodeStepUp, "This needs "+Words(d.Ask)+".")
		e.Challenge = &problem.Challenge{
			ACRValues: l.AtLeast(d.Ask.Rung),
			MaxAge:    d.Ask.ChallengeAge(),
			Scope:     d.Withheld,
			Public:    d.public(),
		}
		e.Why = d.why()
		return e
	}
	code := cmp.Or(d.Code, CodeDenied)
	e := problem.New(problem.Denied, code, details[code])
	if e.Public, e.Why = d.public(), d.why(); e.Public != "" {
		e.Detail = strings.TrimSuffix(e.Detail, ".") + ": " + strings.TrimSuffix(e.Public, ".") + "."
	}
	return e
}

// why is the reasons as a problem carries them.
func (d Decision) why() []problem.Reason {
	out := make([]problem.Reason, 0, len(d.Reasons))
	for _, r := range d.Reasons {
		out = append(out, problem.Reason{Policy: r.Policy, Text: r.Text, Owner: r.Owner})
	}
	return out
}

// details are the sentences for refusals, one per code.
var details = map[string]string{
	CodeDenied:       "This is not allowed.",
	CodeUnattainable: "This needs a proof that cannot be given here.",
	CodeEnded:        "This access was ended.",
	CodeQuarantine:   "The server is in quarantine and issues nothing.",
	CodeTooMany:      "Too many sign-ins were asked for without success.",
	CodeError:        "This could not be decided and is refused.",
	CodeInconsistent: "This could not be decided and is refused.",
}

// public is the first public reason, "" if there is none.
func (d Decision) public() string {
	for _, r := range d.Reasons {
		if r.Public != "" {
			return r.Public
		}
	}
	return ""
}
