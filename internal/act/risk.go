package act

import (
	"context"
	"slices"
	"time"

	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/risk"
)

// Origin is what of a request its risk is judged by. Of an act that nobody outside
// asked for, Asked is false, and its risk is not scored.
type Origin struct {
	Asked   bool
	SignIn  bool     // the act is a sign-in, or a service's proof of itself
	Network string   // prefix of the address (mechanisms D8), "" if it is not known
	Shown   bool     // a device could be shown; false where nothing can show one
	Device  string   // id of the device that was shown, "" if none was
	Things  []string // what it touches beside the act's action and scopes
	// TokenAge is how long ago the credential that is used was given out.
	TokenAge time.Duration
}

// Scorer says how unusual an act is by what its actor did before.
type Scorer interface {
	// Score MUST change nothing.
	Score(ctx context.Context, actor string, o Origin, at time.Time) (risk.Assessment, error)
	// Keep gives the change that keeps what was learned of an actor so far; nil if
	// that can wait.
	Keep(actor string, at time.Time) Change
	// Learn remembers an act that was carried out; proved says that a person proved
	// themselves for it.
	Learn(actor string, o Origin, at time.Time, proved bool)
	// Miss remembers a wrong proof. actor is "" if it is nobody's.
	Miss(actor, network string, at time.Time)
}

// proofRecent is how old a proof may be to speak for what it comes with.
const proofRecent = 15 * time.Minute

// scores reports whether the risk of an intent is scored.
func (d *Doer) scores(in *Intent) bool {
	return d.Risk != nil && in.From.Asked && in.Refs.Actor != "" && (in.Refs.Kind == policy.KindPerson || in.Refs.Kind == policy.KindService || in.Refs.Kind == policy.KindAgent)
}

// origin is where an intent comes from with all that it touches.
func origin(in *Intent) Origin {
	o := in.From
	o.Things = slices.Clone(o.Things)
	o.Things = append(o.Things, string(in.Action))
	for _, s := range in.Refs.Scopes {
		o.Things = append(o.Things, in.Refs.Resource+" "+s)
	}
	return o
}

// score puts the risk into what the decision sees.
func (d *Doer) score(ctx context.Context, in *Intent, f *Facts, at time.Time) (risk.Assessment, error) {
	if !d.scores(in) {
		return risk.Assessment{}, nil
	}
	a, err := d.Risk.Score(ctx, in.Refs.Actor, origin(in), at)
	if err == nil {
		f.Input.Context.Risk = policy.Risk{Known: true, Band: a.Band}
	}
	return a, err
}

// unusual adds the words of an assessment to a decision that would be another one
// without it.
func unusual(set *policy.Set, f *Facts, in *Intent, dec policy.Decision, a risk.Assessment) policy.Decision {
	if dec.Outcome == policy.Allow || a.Band == "" || a.Band == risk.Low {
		return dec
	}
	calm := f.Input
	calm.Context.Risk.Band = policy.RiskLow
	if without := set.Decide(calm, in.Attainable); without.Outcome == dec.Outcome && without.Ask == dec.Ask {
		return dec
	}
	dec.Reasons = slices.Clone(dec.Reasons)
	for _, t := range a.Terms {
		dec.Reasons = append(dec.Reasons, policy.Reason{Text: t.Words})
	}
	return dec
}

// learn remembers an act that was carried out.
func (d *Doer) learn(in *Intent, f *Facts, at time.Time) {
	if !d.scores(in) {
		return
	}
	proved := in.Refs.Kind == policy.KindPerson && slices.ContainsFunc(f.Input.Context.Assurance.Pairs, func(p assurance.Pair) bool {
		return p.Rung >= assurance.Multi && at.Sub(p.AuthTime) <= proofRecent
	})
	d.Risk.Learn(in.Refs.Actor, origin(in), at, proved)
}
