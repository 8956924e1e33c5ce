package act

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/lineage"
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
	New     bool     // … which the act itself gives out
	Managed bool     // … which is the operator's; Do fills it in
	Agent   string   // the kind of program that shows it, "" if nothing tells
	App     string   // the client that acts, by id; Do fills it in
	Things  []string // what it touches beside the act's action and scopes
	// Known says that it was learned already, as a part of the same use: it is scored, and
	// teaches nothing more.
	Known bool
	// TokenAge is how long ago the credential that is used was given out.
	TokenAge time.Duration
	// Transaction names what the act is a part of; Do fills it in.
	Transaction string
	// Through are the lineage nodes that it hangs on; Do fills them in.
	Through []string
}

// Prompt is a question that is put before a person: to prove that it is them, or to
// allow something. What is not answered until Until, and what is answered with a
// no, speaks of somebody who prompts until a person gives in. An act that asks says
// so in its Effect, and so does the one that answers.
type Prompt struct {
	Person string
	Ref    string // of the transaction: the answer has the same
	Until  time.Time
	Band   string // of risk when it was asked (mechanisms A14); "": none was scored
}

// Answer is what became of the open prompts of a transaction.
type Answer struct {
	Person string
	Ref    string
	Denied bool
}

// Transaction names the prompts of one interaction in one session, on the device that
// was shown: of who has a session's cookie alone, its owner's are others.
func Transaction(interaction, session, device string) string {
	if interaction == "" || session == "" {
		return ""
	}
	return interaction + " " + session + " " + device
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
	// Miss remembers a wrong proof, of a person, a service or an app by id; "" if it is
	// nobody's. It MUST neither read nor write the store: strangers cause it.
	Miss(actor, network string, at time.Time)
	// Asked and Answered remember what became of prompts. Said twice they change
	// nothing more.
	Asked(ctx context.Context, p Prompt, at time.Time) error
	Answered(ctx context.Context, a Answer, at time.Time) error
	// Refused remembers that an actor was refused an action, and reports whether
	// that makes too many below one of the nodes (mechanisms A12).
	Refused(actor string, nodes []string, action string, at time.Time) bool
}

// proofRecent is how old the proofs may be that an act's own make up a sign-in with.
const proofRecent = 15 * time.Minute

// scores reports whether the risk of an intent is scored.
func (d *Doer) scores(in *Intent) bool {
	return d.Risk != nil && in.From.Asked && in.Refs.Actor != "" && (in.Refs.Kind == policy.KindPerson || in.Refs.Kind == policy.KindService || in.Refs.Kind == policy.KindAgent)
}

// through are the nodes that an actor acts with: not what of others the act is about,
// whose compromise would otherwise speak against whoever comes to their help.
func through(in *Intent, f *Facts) []lineage.Node {
	r := &in.Refs
	if len(r.Target) == 0 || f.Input.Resource.Owner == r.Actor {
		return f.Nodes
	}
	with := append([]string{r.Actor, r.Session, f.Device, r.Grant, r.Family, r.Client, r.Resource}, slices.Concat(r.Credential, r.Under, r.Resources)...)
	return slices.DeleteFunc(slices.Clone(f.Nodes), func(n lineage.Node) bool {
		return slices.Contains(r.Target, n.ID) && !slices.Contains(with, n.ID)
	})
}

// origin is where an intent comes from with all that it touches.
func origin(in *Intent, f *Facts) Origin {
	o := in.From
	o.Managed = o.Shown && f.Input.Context.DeviceManaged // of a token nobody knows where it is now
	o.Things = slices.Clone(o.Things)
	o.Things = append(o.Things, string(in.Action))
	for _, n := range through(in, f) {
		o.Through = append(o.Through, n.ID)
	}
	o.App = in.Refs.Client
	o.Transaction = Transaction(in.For, in.Refs.Session, in.From.Device)
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
	a, err := d.Risk.Score(ctx, in.Refs.Actor, origin(in, f), at)
	if err == nil {
		a, err = d.vouched(ctx, in, a, at)
	}
	if err == nil {
		f.Input.Context.Risk = policy.Risk{Known: true, Band: a.Band}
		if a.Before != "" {
			f.Input.Context.RiskBefore = policy.Risk{Known: true, Band: a.Before}
		}
	}
	return a, err
}

// unusual adds the words of an assessment to a decision that would be another one
// without it.
func unusual(set *policy.Set, f *Facts, in *Intent, dec policy.Decision, a risk.Assessment) policy.Decision {
	if dec.Outcome == policy.Allow || a.Worst() == "" || a.Worst() == risk.Low {
		return dec
	}
	calm := f.Input
	calm.Context.Risk.Band, calm.Context.RiskBefore = policy.RiskLow, policy.Risk{}
	if without := set.Decide(calm, in.Attainable); without.Outcome == dec.Outcome && without.Ask == dec.Ask {
		return dec
	}
	dec.Reasons = slices.Clone(dec.Reasons)
	for _, t := range a.Terms {
		dec.Reasons = append(dec.Reasons, policy.Reason{Text: t.Words})
	}
	return dec
}

// Learn remembers what was judged, allowed and done without an act: something was read.
// It is kept with the actor's next act.
func (d *Doer) Learn(in Intent, f *Facts, at time.Time) { d.learn(&in, f, at) }

// learn remembers what was carried out.
func (d *Doer) learn(in *Intent, f *Facts, at time.Time) {
	if in.From.Known || !d.scores(in) {
		return
	}
	// A proof of a moment ago was of another place, for all that is known here.
	proved := in.Refs.Kind == policy.KindPerson && len(in.Proofs) > 0 && slices.ContainsFunc(f.Input.Context.Assurance.Pairs, func(p assurance.Pair) bool {
		return p.Rung >= assurance.Multi && at.Sub(p.AuthTime) <= proofRecent
	})
	d.Risk.Learn(in.Refs.Actor, origin(in, f), at, proved)
}

// prompts has the scorer remember what an act asks and answers, and gives the
// changes that keep it.
func (d *Doer) prompts(ctx context.Context, eff *Effect, at time.Time) error {
	if d.Risk == nil {
		return nil
	}
	var whose []string
	for _, p := range eff.Asks {
		if err := d.Risk.Asked(ctx, p, at); err != nil {
			return err
		}
		whose = append(whose, p.Person)
	}
	for _, a := range eff.Answers {
		if err := d.Risk.Answered(ctx, a, at); err != nil {
			return err
		}
		whose = append(whose, a.Person)
	}
	slices.Sort(whose)
	for _, person := range slices.Compact(whose) {
		if c := d.Risk.Keep(person, at); c != nil {
			eff.Changes = append(eff.Changes[:len(eff.Changes):len(eff.Changes)], c)
		}
	}
	return nil
}

// slowness is how long the answer to who probes is held back (mechanisms A12).
const slowness = time.Second

// probed counts a refusal below the nodes that one actor answers for, and holds the
// answer back where there were too many.
func (d *Doer) probed(ctx context.Context, in *Intent, f *Facts, at time.Time) {
	if d.Risk == nil || !in.theirs() || in.Refs.Actor == "" || in.Refs.Kind != policy.KindPerson && in.Refs.Kind != policy.KindService && in.Refs.Kind != policy.KindAgent {
		return
	}
	what := []string{string(in.Action), in.Refs.Resource}
	for _, more := range [][]string{in.Refs.Resources, in.Refs.Scopes, in.Refs.Target} {
		what = append(append(what, "\x00"), more...)
	}
	var nodes []string
	for _, n := range through(in, f) {
		switch n.Kind {
		case lineage.Client, lineage.Resource, lineage.Group: // others are below them, too
		default:
			nodes = append(nodes, n.ID)
		}
	}
	if !d.Risk.Refused(in.Refs.Actor, nodes, strings.Join(what, "\x00"), at) {
		return
	}
	if d.Slow == nil {
		wait(ctx, slowness)
		return
	}
	d.Slow(ctx, slowness)
}

func wait(ctx context.Context, long time.Duration) {
	t := time.NewTimer(long)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
