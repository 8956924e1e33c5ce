package act

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/risk"
	"github.com/countersign-dev/countersign/internal/web"
)

// Refusal is something refused that somebody has to look at.
type Refusal struct {
	Kind, Actor    string // of the principal; a person, service or agent that is known
	Client         string // by id, "" if none
	Action         policy.Action
	Resource       string // by id, "" if none
	Session, Grant string // that it was asked in
	At             time.Time
	Ref            string // of the request, "" if there was none
	Record         string // of the refusal
	Code           string
	Reasons        []policy.Reason
	Risk           risk.Assessment // zero if none was scored
	From           Origin
	ACR            string // that was reached, "" for none
	Methods        []string
}

// Reviews keeps what somebody has to look at.
type Reviews interface {
	// Again gives the change that counts a refusal on the review that is open of the
	// like; where there is none it MUST change nothing.
	Again(Refusal) Change
	// Opening gives the change that opens a review, its id and what is said of it. open
	// is nil if one of the like is open, whose id it then is, or as many as an actor may
	// have, and id is "". The change MUST be refused (problem.Conflict) if another one
	// was quicker.
	Opening(context.Context, Refusal) (id string, open Change, said map[string]any, err error)
	// Vouched gives, for an actor whose risk is extreme, what an administrator said of
	// uses from there, "" if nobody said anything that counts now. What they did not
	// see when they said it, they did not vouch for.
	Vouched(ctx context.Context, actor, client string, o Origin, a risk.Assessment, at time.Time) (words string, err error)
}

// refusal is what is to be looked at of an intent that policy refused; nil if
// nothing is.
func (d *Doer) refusal(in *Intent, f *Facts, dec policy.Decision) *Refusal {
	if !dec.Review || in.Quiet || !in.theirs() || in.Refs.Actor == "" || policy.OfHost(in.Refs.Kind) {
		return nil
	}
	r := &Refusal{
		Kind: in.Refs.Kind, Actor: in.Refs.Actor, Client: in.Refs.Client, Action: in.Action, Resource: in.Refs.Resource,
		Session: in.Refs.Session, Grant: in.Refs.Grant, Code: dec.Code, Reasons: dec.Reasons, Risk: f.Risk, From: in.From,
	}
	if best := f.Input.Context.Assurance.Best(); best.Rung > 0 {
		r.ACR = d.Ladder.ACR(best.Rung)
	}
	for _, p := range f.Proofs {
		if m := string(p.Method); !slices.Contains(r.Methods, m) {
			r.Methods = append(r.Methods, m)
		}
	}
	return r
}

// again is the change that counts r; none where nothing is kept.
func (d *Doer) again(r *Refusal) []Change {
	if r == nil || d.Reviews == nil {
		return nil
	}
	return []Change{d.Reviews.Again(*r)}
}

// open opens a review of what was refused and recorded, unless one is open, and gives
// the id of what is open then, "" if nothing is. It is an act of its own, of the server:
// a crash before it leaves the refusal, and the next of the like opens it.
func (d *Doer) open(ctx context.Context, r *Refusal) (string, error) {
	if r == nil || d.Reviews == nil {
		return "", nil
	}
	id, made, said, err := d.Reviews.Opening(ctx, *r)
	if err != nil || made == nil {
		return id, err
	}
	_, err = d.Do(ctx, Intent{
		Action: policy.ReviewOpen, Kind: audit.ReviewOpened, Refs: Refs{Kind: policy.KindSystem},
		Changes: func(*Facts, policy.Decision) (Effect, error) {
			part := audit.Part{Body: said}
			if r.Kind == policy.KindPerson {
				part.Person = r.Actor
			}
			return Effect{Changes: []Change{made}, Parts: []audit.Part{part}}, nil
		},
	})
	if p := problem.From(err); p != nil && p.Kind == problem.Conflict { // another refusal of the like was quicker
		id, _, _, err = d.Reviews.Opening(ctx, *r)
		return id, err
	}
	if err != nil {
		return "", fmt.Errorf("open a review: %w", err)
	}
	return id, nil
}

// vouched lets what an administrator said of an actor count.
func (d *Doer) vouched(ctx context.Context, in *Intent, a risk.Assessment, at time.Time) (risk.Assessment, error) {
	if d.Reviews == nil || a.Band != risk.Extreme {
		return a, nil
	}
	words, err := d.Reviews.Vouched(ctx, in.Refs.Actor, in.Refs.Client, in.From, a, at)
	if err != nil || words == "" {
		return a, err
	}
	return a.Vouch(words), nil
}

// Refuse carries out an intent that was judged as refused, for its record and for
// whoever has to look at it, and gives the refusal. Where it would be allowed by
// now, nothing is done and the answer is to come again.
func (d *Doer) Refuse(ctx context.Context, in Intent) error {
	in.Changes = func(*Facts, policy.Decision) (Effect, error) {
		return Effect{}, problem.New(problem.Unavailable, "contended", "This was refused a moment ago and would not be now. Try again.")
	}
	in.Seal, in.Spend = nil, nil
	_, err := d.Do(ctx, in)
	return err
}

// referred adds the reference of the request to what a refusal says of nobody: it
// is what callers quote.
func referred(ctx context.Context, parts []audit.Part) []audit.Part {
	ref := web.RefOf(ctx)
	if ref == "" {
		return parts
	}
	parts = slices.Clone(parts)
	for i, p := range parts {
		if said, ok := p.Body.(map[string]any); p.Person == "" && (ok || p.Body == nil) {
			with := map[string]any{"ref": ref}
			for k, v := range said {
				with[k] = v
			}
			parts[i].Body = with
			return parts
		}
	}
	return append(parts, audit.Part{Body: map[string]any{"ref": ref}})
}
