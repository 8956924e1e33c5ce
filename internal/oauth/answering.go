package oauth

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/session"
)

// answering says how an interaction is answered. Below approved is what only one has
// whose client waits elsewhere than in the person's browser.
type answering struct {
	polled   // by and yes of every one
	approved audit.Kind

	grant.Decoupled
	claim   once.Purpose // the person's, which an answer spends
	no      policy.Action
	allowed string         // what is remembered with the claim that a yes spent
	over    *problem.Error // nobody can answer it any more
}

// answering is that of an interaction.
func (a *authRequest) answering() answering {
	switch {
	case a.in.Device != nil:
		d := a.in.Device.Decoupled
		return answering{
			polled: byDevice, approved: audit.DeviceApproved,
			Decoupled: d, claim: once.DeviceOpened, no: policy.DeviceDeny, over: deviceExpired(d),
		}
	case a.in.Backchannel != nil:
		d := a.in.Backchannel.Decoupled
		return answering{
			polled: byBackchannel, approved: audit.CIBAApproved,
			Decoupled: d, claim: once.BackchannelAsked, no: policy.CIBADeny, allowed: grant.AskAllowed, over: requestExpired(d),
		}
	}
	return answering{polled: polled{by: client.AuthorizationCode, yes: policy.Authorize}, approved: audit.CodeIssued}
}

// elsewhere reports whether an interaction's client waits elsewhere.
func (a *authRequest) elsewhere() bool { return a.in.Device != nil || a.in.Backchannel != nil }

// forOne makes an interaction that was decoupled one of this person's, and of nobody
// else in the browser, with its client as it is now.
func (s *Server) forOne(ctx context.Context, a *authRequest, person string) (err error) {
	if a.client, err = s.Clients.Client(ctx, a.in.Client); err != nil {
		return err
	}
	if err := s.registered(a); err != nil || a.in.Subject != "" {
		return err
	}
	who, err := s.State.Person(ctx, person)
	if err != nil {
		return err
	}
	a.in.Subject, err = s.subject(a.client, &who)
	return err
}

// question fills in what the person is asked, whatever they agreed to before.
func (s *Server) question(ctx context.Context, a *authRequest, in policy.Input, p *grant.Pending) (err error) {
	if !a.client.FirstParty {
		have, err := s.Grants.Consent(ctx, in.Principal.ID, a.client.ID)
		if err == nil {
			p.Remembered = &have
		} else if !problem.Refusal(err) {
			return err
		}
	}
	if p.Shown, err = s.detailsShown(ctx, a); err != nil {
		return err
	}
	p.Scopes, err = s.shown(ctx, a, in, p.Remembered)
	return err
}

// approve makes the answer that the client fetches: one act, which spends the
// person's claim, so that of two windows one is heard. with is what else it does.
func (s *Server) approve(r *http.Request, a *authRequest, ses session.Session, p grant.Pending, key once.Key, with act.Effect) (grant.Pending, error) {
	how := a.answering()
	in, err := s.codeIntent(r, a, ses, p.Reference)
	if err != nil {
		return p, err
	}
	if p.Remembered != nil {
		in.Refs.Under = []string{p.Remembered.ID}
	}
	in.Spend = []once.Spend{{Purpose: how.claim, Key: key, Ref: how.allowed}}
	in.Changes = func(f *act.Facts, d policy.Decision) (act.Effect, error) {
		c, err := s.codeFor(r.Context(), a, ses, p, f, d)
		if err != nil {
			return act.Effect{}, err
		}
		eff := with
		eff.Changes = slices.Clone(with.Changes)
		eff.Detail = map[string]any{"scopes": c.Scopes, "elevated": c.Elevated, "acr": c.ACR}
		if !a.client.FirstParty {
			agreed := grant.Consent{ID: id.New("cns_"), Person: ses.Person, Client: a.client.ID}
			if p.Remembered != nil {
				agreed = *p.Remembered
			}
			agreed.At = f.Input.Context.Now
			agreed.Widen(p)
			if c.Consent = agreed.ID; p.Remembered == nil || slices.ContainsFunc(p.Scopes, func(x grant.Permission) bool { return x.New }) {
				eff.Changes = append(eff.Changes, grant.Remember{Consent: agreed})
			}
		}
		put, err := how.answered(key, grant.Answered{Code: c})
		eff.Changes = append(eff.Changes, put)
		return eff, err
	}
	_, err = s.Do.Do(r.Context(), in)
	if used, ok := act.Spent(err); ok {
		return p, errDone.Because(used)
	}
	if q := problem.From(err); q != nil && (q.Kind == problem.StepUp || q.Code == "unmet_authentication_requirements") {
		p.Next = grant.NextStepUp // what was met a moment ago is too old now
		return p, nil
	}
	return p, oneOfGone(err, how.over)
}

// deny tells the client no. in has the kind of the record and whatever else is spent,
// with what else is done.
func (s *Server) deny(ctx context.Context, how answering, ses session.Session, key once.Key, in act.Intent, with act.Effect) error {
	put, err := how.answered(key, grant.Answered{Denied: true})
	if err != nil {
		return err
	}
	with.Changes = append(with.Changes, put)
	if len(in.Spend) == 0 {
		in.Spend = []once.Spend{{Purpose: how.claim, Key: key}}
	}
	in.Action = how.no
	in.Refs = act.Refs{Kind: policy.KindPerson, Actor: ses.Person, Session: ses.ID, Owner: ses.Person}
	in.Changes = func(*act.Facts, policy.Decision) (act.Effect, error) { return with, nil }
	_, err = s.Do.Do(ctx, in)
	if used, ok := act.Spent(err); ok {
		return errDone.Because(used)
	}
	return oneOfGone(err, how.over)
}

// answered stores what the client is to hear.
func (how answering) answered(key once.Key, a grant.Answered) (once.Put, error) {
	data, err := json.Marshal(a)
	return once.Put{Value: once.Value{
		Purpose: how.answer, Key: key, Bound: how.Client, Data: data, MadeAt: how.Started, ExpiresAt: how.Until.Add(grant.DeviceGrace),
	}}, err
}

// withSaid adds to a record what is known of these, and leaves out the others.
func withSaid(record map[string]any, said map[string]string) map[string]any {
	for name, v := range said {
		if v != "" {
			record[name] = v
		}
	}
	return record
}

// Refuse ends an interaction without a code: the person said no, or cannot reach
// what is asked. It sends the browser back to the client. Giving up where
// nothing this person has would do is said as such (mechanisms A9).
func (s *Server) Refuse(w http.ResponseWriter, r *http.Request, ref, code, detail string) error {
	a, err := s.open(w, r, ref)
	if err != nil {
		return err
	}
	if a.elsewhere() {
		deny, next := s.denyDevice, grant.NextDone
		if a.in.Backchannel != nil {
			deny, next = s.denyRequest, grant.NextRefused
		}
		if ses, ok, err := s.Browser.Session(r); err != nil {
			return err
		} else if ok {
			if err := deny(r.Context(), a, ses); err != nil {
				return err
			}
		}
		s.Browser.Go(w, r, next, ref)
		return nil
	}
	if code != "unmet_authentication_requirements" {
		code = "access_denied"
		if ses, ok, err := s.Browser.Session(r); err == nil && ok {
			if p, err := s.judge(r, a, &ses, ref); err == nil && p.Next == grant.NextImpossible {
				code, detail = "unmet_authentication_requirements", "The authentication that was asked for cannot be reached."
			}
		}
	}
	note(r, "refused", code)
	s.answer(w, r, a, url.Values{"error": {code}, "error_description": {asciiOnly(detail)}})
	return nil
}
