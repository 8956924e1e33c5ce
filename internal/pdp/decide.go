package pdp

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/resource"
)

// subject is whom a question is about.
type subject struct {
	kind, id string          // an id of "" is of nobody that there is
	holder   *Holder         // of the token that was shown; nil: none was, and so nothing is proved
	state    assurance.State // that it shows
	present  bool            // it is of the person's own sign-in (mechanisms G3)
}

// errHolder says nothing of why: a token that is invalid, expired or for another resource
// is refused before any policy is asked (mechanisms A11).
var errHolder = problem.New(problem.Unauthenticated, "invalid_token", "The access token does not count here, or is of another subject.")

// round is one request: its questions are answered by the same policies, on what is known
// at one time, and what a token says is established once for all that show it.
type round struct {
	*Server
	caller  Caller
	set     *policy.Set
	ref     string
	holders map[string]shownBy // by token
	sight   *act.Sight
}

// shownBy is whose a token is, or why it does not count.
type shownBy struct {
	holder *Holder
	err    error
}

// begin begins the answer to a request.
func (s *Server) begin(ctx context.Context, c Caller, ref string) (*round, error) {
	set, _, err := s.Policies(ctx)
	return &round{Server: s, caller: c, set: set, ref: ref, holders: map[string]shownBy{}, sight: s.Do.Sight()}, err
}

// holder finds whose a token is.
func (r *round) holder(ctx context.Context, token string) (*Holder, error) {
	x, ok := r.holders[token]
	if !ok {
		h, err := r.Holder(ctx, token)
		if problem.Refusal(err) && problem.From(err).Kind == problem.Unauthenticated {
			err = errHolder
		}
		x = shownBy{&h, err}
		r.holders[token] = x
	}
	return x.holder, x.err
}

// decide answers a question.
func (r *round) decide(ctx context.Context, q question) (answer, error) {
	who, err := r.subject(ctx, q)
	if errors.Is(err, errHolder) {
		return unanswered(errHolder, r.ref), nil
	}
	if err != nil {
		return answer{}, err
	}
	return r.decided(ctx, who, q)
}

// decided answers a question about a subject that was found. One that the caller may not
// ask is answered like one about an action that nothing permits.
func (r *round) decided(ctx context.Context, who subject, q question) (a answer, err error) {
	place, _ := r.set.Place(policy.Action(q.action))
	at := where(&r.caller, place, who.holder)
	if at == nil || !slices.Contains(place.Resources, q.kind) || !slices.Contains(place.Kinds, who.kind) {
		return r.refused(r.ref), nil
	}
	on := policy.Resource{Type: q.kind, ID: q.id}
	if on.Attributes, err = r.set.Attributes(q.kind).Take(q.said); err != nil {
		return answer{}, wrong("Of resource.properties, " + err.Error() + ".")
	}
	if on.Owner, err = r.owner(ctx, q, who); err != nil {
		return answer{}, err
	}
	in := r.intent(place.Action, at, on, who)
	in.Elsewhere.Said = q.said
	if who.id != "" {
		return r.judge(ctx, in, who)
	}
	in.Refs = act.Refs{Kind: policy.KindAnonymous, Resource: at.ID}
	in.Elsewhere.Who = &policy.Entity{Kind: who.kind, ID: absent}
	dec, facts, err := r.sight.Judge(ctx, in)
	if err != nil {
		return answer{}, err
	}
	return r.answer(facts.Input, dec.Problem(r.Ladder), who), nil
}

// refused is the answer to what is nothing of the caller's.
func (s *Server) refused(ref string) answer {
	s.stats[policy.Deny].Add(1)
	return answer{Context: &reason{Ref: ref}}
}

// where is the resource of the caller's that an action is decided for: the one that the
// token is for, or any; nil if there is none.
func where(c *Caller, p policy.Place, h *Holder) *resource.Resource {
	for _, aud := range p.Audiences {
		if h == nil || h.Claims.Audience[0] == aud {
			if r := c.serves(aud); r != nil {
				return r
			}
		}
	}
	return nil
}

// kindOf is the kind of principal that a type of subject names.
func kindOf(t string) string {
	switch t {
	case "user", "person":
		return policy.KindPerson
	case "service":
		return policy.KindService
	}
	return ""
}

// subject finds whom a question is about: the holder of the token, or somebody by the
// subject that tokens name.
func (r *round) subject(ctx context.Context, q question) (who subject, err error) {
	who.kind = kindOf(q.subjectType)
	if q.token == "" {
		if who.kind == policy.KindPerson {
			who.id, err = found(r.People.PersonBySubject(ctx, q.subject))
		}
		return who, err
	}
	h, err := r.holder(ctx, q.token)
	if err != nil {
		return who, err
	}
	t := h.Claims
	if len(t.Audience) != 1 || r.caller.serves(t.Audience[0]) == nil || h.Kind != who.kind || t.Subject != q.subject {
		return who, errHolder
	}
	shown := assurance.Shown{
		ACR: t.ACR, AuthTime: t.AuthTime.Time(), Person: h.Kind == policy.KindPerson,
		Present: t.Present(), Machine: assurance.MachineRung(t.MachineRung()),
	}
	who.holder, who.id, who.present = h, h.Actor, shown.Present
	who.state = r.Ladder.Shows(shown, r.Now())
	return who, nil
}

// found is the id of a person, "" if there is none.
func found(p account.Person, err error) (string, error) {
	if errors.Is(err, problem.NotFound) {
		return "", nil
	}
	return p.ID, err
}

// No id is like these: somebody owns what is not the subject's, and absent is a subject
// that there is not, who owns what is said to be theirs as anybody does.
const (
	somebody = "(somebody else)"
	absent   = "(nobody there)"
)

// owner is whose the resource is: the subject's, somebody else's, or nobody's in
// particular.
func (s *Server) owner(ctx context.Context, q question, who subject) (id string, err error) {
	switch {
	case q.owner == "" && q.ownerName == "":
		return "", nil
	case q.owner != "" && q.owner == q.subject:
		return cmp.Or(who.id, absent), nil
	case q.owner != "":
		id, err = found(s.People.PersonBySubject(ctx, q.owner))
	default:
		id, err = found(s.People.PersonByUsername(ctx, q.ownerName))
	}
	if id == "" {
		id = somebody
	}
	return id, err
}

// intent is the act that is asked about.
func (s *Server) intent(action policy.Action, at *resource.Resource, on policy.Resource, who subject) act.Intent {
	in := act.Intent{
		Action: action, Kind: audit.AccessDecided,
		Refs:      act.Refs{Kind: who.kind, Actor: who.id, Resource: at.ID, Under: []string{who.id}},
		Elsewhere: &act.Elsewhere{On: on, Shown: who.state},
	}
	if h := who.holder; h != nil {
		age := max(s.Now().Sub(h.Claims.IssuedAt.Time()), 0)
		in.Refs.Grant, in.Refs.Client, in.Refs.Under = h.Grant, h.Client, []string{h.Leaf}
		in.Token = policy.Token{Known: true, Age: age, Bound: h.Claims.Confirmation != nil, Depth: h.Depth}
		in.Details = h.Details
		in.From = act.Origin{Asked: true, TokenAge: age, Things: []string{at.ID + " " + string(action)}}
	}
	return in
}

// judge decides, and records the answer unless the same one was recorded in this minute.
// If it cannot be recorded, there is no answer.
func (r *round) judge(ctx context.Context, in act.Intent, who subject) (answer, error) {
	dec, facts, err := r.sight.Judge(ctx, in)
	if errors.Is(err, problem.NotFound) { // erased, or ended, since it was looked up
		return r.refused(r.ref), nil
	}
	if err != nil {
		return answer{}, err
	}
	p := dec.Problem(r.Ladder)
	x := note{
		caller: r.caller.Client, kind: who.kind, actor: who.id, client: in.Refs.Client, action: string(in.Action), thing: in.Elsewhere.On.Type,
		said: r.set.Told(in.Action, who.kind, &in.Elsewhere.On),
		own:  in.Elsewhere.On.Owner == who.id, version: dec.PolicyVersion, outcome: dec.Outcome, code: dec.Code, ask: dec.Ask,
	}
	if !r.noted.first(x, r.Now()) {
		r.Counted(string(audit.AccessDecided.Name()) + " " + dec.Outcome.String())
		return r.answer(facts.Input, p, who), nil
	}
	_, err = r.Do.Do(ctx, in) // decides again: what is recorded is what is answered
	p = problem.From(err)
	if err != nil && (p == nil || p.Kind != problem.StepUp && p.Kind != problem.Denied) {
		r.noted.forget(x)
		return answer{}, err
	}
	r.records.Add(1)
	return r.answer(facts.Input, p, who), nil
}

// answer says a decision as AuthZEN does; p is nil if it is allowed. Only a person whose
// own sign-in it is, or would be, is told which proof would do (mechanisms G3, A26).
func (r *round) answer(in policy.Input, p *problem.Error, who subject) answer {
	if p == nil {
		r.stats[policy.Allow].Add(1)
		return answer{Decision: true}
	}
	a := answer{Context: &reason{Ref: r.ref}}
	ch := p.Challenge
	if p.Kind == problem.StepUp && ch != nil && (who.holder == nil || who.present) {
		r.stats[policy.StepUp].Add(1)
		a.Context.ACRValues, a.Context.MaxAge = strings.Join(ch.ACRValues, " "), int64(ch.MaxAge/time.Second)
		if ch.Public != "" {
			a.Context.Words = map[string]string{"en": ch.Public}
		}
		return a
	}
	r.stats[policy.Deny].Add(1)
	if rung := r.set.MachineNeeds(in); rung != assurance.None {
		a.Context.ClientAssurance = assurance.MachineName(rung)
	}
	return a
}
