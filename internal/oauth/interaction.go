package oauth

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/resource"
	"github.com/countersign-dev/countersign/internal/secret"
	"github.com/countersign-dev/countersign/internal/session"
)

// statePurpose types the sealed form of an interaction.
const statePurpose = "interaction"

// resume goes on with an interaction after a page did its part. It judges from
// nothing: a challenge granted nothing (mechanisms A13).
func (s *Server) resume(w http.ResponseWriter, r *http.Request) error {
	ref := r.URL.Query().Get("tx")
	a, err := s.open(w, r, ref)
	if err != nil {
		return s.authError(w, r, nil, err)
	}
	return s.proceed(w, r, a, ref)
}

// open reads a sealed interaction that this browser brought.
func (s *Server) open(w http.ResponseWriter, r *http.Request, ref string) (*authRequest, error) {
	binding, err := s.Browser.Binding(w, r)
	if err != nil {
		return nil, err
	}
	a := &authRequest{}
	if err := s.Keys.OpenState(statePurpose, binding, ref, &a.in); err != nil {
		return nil, err
	}
	if s.now().Sub(a.in.Started) > grant.InteractionLifetime {
		return nil, invalid("interaction_expired", "This request waited longer than ten minutes, so it has expired.").
			WithHint("Go back to the app and start again.")
	}
	if a.client, err = s.Clients.Client(r.Context(), a.in.Client); err != nil {
		return nil, err
	}
	a.redirect = a.in.RedirectURI
	return a, nil
}

// For names an interaction in the proofs of a step-up made for it.
func For(reference string) string {
	k := once.KeyOf(once.Interaction, reference)
	return secret.Encode(secret.Interaction, k[:]).Reveal()[7:27]
}

// proceed issues, or sends the browser to what is next.
func (s *Server) proceed(w http.ResponseWriter, r *http.Request, a *authRequest, ref string) error {
	ses, ok, err := s.Browser.Session(r)
	if err != nil {
		return err
	}
	var cur *session.Session
	if ok {
		cur = &ses
	}
	p, err := s.judge(r.Context(), a, cur, ref)
	if err != nil {
		return s.authError(w, r, a, err)
	}
	if p.Next == grant.NextIssue {
		return s.issueCode(w, r, a, ses, p, ref)
	}
	if slices.Contains(a.prompts, "none") {
		return s.authError(w, r, a, promptNone(p.Next))
	}
	s.Browser.Go(w, r, p.Next, ref)
	return nil
}

// promptNone is the answer to prompt=none when a page would be needed; the same
// for every account (mechanisms A9).
func promptNone(n grant.Next) *problem.Error {
	switch n {
	case grant.NextSignIn, grant.NextWrongUser:
		return invalid("login_required", "A sign-in is needed.")
	case grant.NextConsent:
		return invalid("consent_required", "Consent is needed.")
	}
	return invalid("interaction_required", "The person must be asked.")
}

// Pending is what an interaction waits for, for the person signed in: what the
// portal's pages show. ses is nil if nobody is.
func (s *Server) Pending(w http.ResponseWriter, r *http.Request, ref string, ses *session.Session) (grant.Pending, error) {
	a, err := s.open(w, r, ref)
	if err != nil {
		return grant.Pending{}, err
	}
	return s.judge(r.Context(), a, ses, ref)
}

// judge says what is next: sign in, step up, consent, or nothing.
func (s *Server) judge(ctx context.Context, a *authRequest, ses *session.Session, ref string) (grant.Pending, error) {
	p := grant.Pending{Interaction: a.in, Reference: ref, App: a.client, Next: grant.NextSignIn}
	if ses == nil {
		return p, nil
	}
	if a.in.Subject != "" {
		who, err := s.State.Person(ctx, ses.Person)
		if err != nil {
			return p, err
		}
		if who.Subject != a.in.Subject {
			p.Next = grant.NextWrongUser
			return p, nil
		}
	}
	in := s.codeIntent(a, *ses, ref)
	dec, facts, err := s.Do.Judge(ctx, in)
	if err != nil {
		return p, err
	}
	for _, r := range dec.Reasons {
		p.Reasons = append(p.Reasons, r.Text)
	}
	if dec.Outcome == policy.Deny {
		p.Next, p.Code = grant.NextDenied, dec.Code
		return p, nil
	}
	ask, met := s.wanted(a, facts.Input.Context.Assurance, dec)
	p.Ask = ask
	if !met {
		p.Next = grant.NextStepUp
		can, err := s.Browser.Attainable(ctx, ses.Person)
		if err != nil {
			return p, err
		}
		if !can(assurance.Ask{Rung: ask.Rung}) {
			p.Next = grant.NextImpossible
		}
		return p, nil
	}
	return p, s.consent(ctx, a, ses.Person, dec, &p)
}

// wanted is what the client and policy together ask of the person's assurance,
// and whether it is met. What the client asks is binding (mechanisms A18).
func (s *Server) wanted(a *authRequest, st assurance.State, dec policy.Decision) (assurance.Ask, bool) {
	ask, met := assurance.Ask{}, true
	if dec.Outcome == policy.StepUp {
		ask, met = dec.Ask, false
	}
	now := s.now()
	var maxAge *time.Duration
	if a.in.MaxAge > 0 {
		maxAge = &a.in.MaxAge
	}
	pair, _, ok := st.Select(a.in.ACRValues, maxAge, s.Ladder, now)
	if ok && a.in.Fresh && pair.AuthTime.Before(a.in.Started.Add(-time.Second)) {
		ok = false
	}
	if !ok {
		met = false
		want := assurance.Ask{MaxAge: a.in.MaxAge, Rung: assurance.Multi}
		for i, v := range a.in.ACRValues {
			if r := s.Ladder.RungOf(v); i == 0 || r < want.Rung {
				want.Rung = r
			}
		}
		if a.in.Fresh {
			want.MaxAge = time.Minute
		}
		if j, joined := ask.Join(want); joined {
			ask = j
		}
	}
	return ask, met
}

// consent decides whether the person must be asked, and fills what is shown.
func (s *Server) consent(ctx context.Context, a *authRequest, person string, dec policy.Decision, p *grant.Pending) error {
	p.Next = grant.NextIssue
	if a.client.FirstParty {
		return nil
	}
	have, err := s.Grants.Consent(ctx, person, a.client.ID)
	switch {
	case err == nil:
		p.Remembered = &have
	case problem.From(err) == nil:
		return err
	}
	covered := p.Remembered != nil && len(without(a.in.Resources, have.Resources)) == 0
	for _, id := range a.in.Resources {
		res, err := s.Resources.Resource(ctx, id)
		if err != nil {
			return err
		}
		p.Scopes = append(p.Scopes, permissions(res, a.in.Scopes, p.Remembered)...)
	}
	for _, name := range a.in.Scopes {
		if isIdentity(name) {
			sc := resource.Scope{Name: name, Description: identityWords[name], Kind: "read"}
			p.Scopes = append(p.Scopes, grant.Permission{Scope: sc, Resource: "your account", New: !remembers(p.Remembered, name)})
		}
	}
	for _, sc := range p.Scopes {
		covered = covered && !sc.New
	}
	if !covered || a.in.Consent && (p.Remembered == nil || p.Remembered.At.Before(a.in.Started)) {
		p.Next = grant.NextConsent
	}
	return nil
}

var identityWords = map[string]string{
	"openid": "Know who you are", "profile": "See your name and user name",
	"email": "See your e-mail address", "offline_access": "Stay signed in when you are away",
}

func remembers(c *grant.Consent, scope string) bool {
	return c != nil && slices.Contains(c.Scopes, scope)
}

func permissions(res resource.Resource, scopes []string, have *grant.Consent) []grant.Permission {
	var out []grant.Permission
	for _, name := range scopes {
		if sc, ok := res.Scope(name); ok {
			out = append(out, grant.Permission{Scope: sc, Resource: res.Name, New: !remembers(have, name)})
		}
	}
	return out
}

// codeIntent is the act of answering an interaction for a session.
func (s *Server) codeIntent(a *authRequest, ses session.Session, ref string) act.Intent {
	in := act.Intent{
		Action: "authorize", Kind: audit.CodeIssued, For: For(ref),
		Refs: act.Refs{Kind: "person", Actor: ses.Person, Session: ses.ID, Client: a.client.ID, Required: a.in.Explicit},
	}
	if len(a.in.Resources) > 0 {
		in.Refs.Resource = a.in.Resources[0]
		in.Refs.Resources = a.in.Resources
	}
	for _, name := range a.in.Scopes {
		if !isIdentity(name) {
			in.Refs.Scopes = append(in.Refs.Scopes, name)
		}
	}
	return in
}

// issueCode answers the interaction: the code is made, the interaction spent,
// both recorded, and only then does the browser leave with it.
func (s *Server) issueCode(w http.ResponseWriter, r *http.Request, a *authRequest, ses session.Session, p grant.Pending, ref string) error {
	code := secret.New(secret.Code)
	in := s.codeIntent(a, ses, ref)
	in.Spend = []once.Spend{{Purpose: once.Interaction, Key: once.KeyOf(once.Interaction, ref), Mark: true, Until: a.in.Started.Add(grant.InteractionLifetime + time.Minute)}}
	in.Changes = func(f *act.Facts, d policy.Decision) (act.Effect, error) {
		c, err := s.codeFor(r.Context(), a, ses, p, f, d)
		if err != nil {
			return act.Effect{}, err
		}
		data, err := json.Marshal(c)
		if err != nil {
			return act.Effect{}, err
		}
		now := f.Input.Context.Now
		return act.Effect{
			Changes: []act.Change{once.Put{Value: once.Value{
				Purpose: once.Code, Key: once.KeyOf(once.Code, code.Reveal()), Bound: a.client.ID, Data: data,
				MadeAt: now, ExpiresAt: now.Add(grant.CodeLifetime),
			}}},
			Detail: map[string]any{"scopes": c.Scopes, "elevated": c.Elevated, "acr": c.ACR},
		}, nil
	}
	if _, err := s.Do.Do(r.Context(), in); err != nil {
		if used, ok := act.Spent(err); ok {
			err = invalid("interaction_done", "This request was already completed in another window.").Because(used)
			return s.authError(w, r, nil, err)
		}
		return s.authError(w, r, a, err)
	}
	q := url.Values{"code": {code.Reveal()}, "iss": {s.Issuer}}
	if a.in.State != "" {
		q.Set("state", a.in.State)
	}
	redirect(w, r, a.redirect, q)
	return nil
}

// codeFor is what the code stands for: one pair from one evaluation (A17), and
// the conditional scopes that this response releases (D13, A23).
func (s *Server) codeFor(ctx context.Context, a *authRequest, ses session.Session, p grant.Pending, f *act.Facts, d policy.Decision) (grant.Code, error) {
	st := f.Input.Context.Assurance
	var maxAge *time.Duration
	if a.in.MaxAge > 0 {
		maxAge = &a.in.MaxAge
	}
	pair, acr, ok := st.Select(a.in.ACRValues, maxAge, s.Ladder, f.Input.Context.Now)
	if !ok || a.in.Fresh && pair.AuthTime.Before(a.in.Started.Add(-time.Second)) {
		return grant.Code{}, problem.New(problem.Invalid, "unmet_authentication_requirements", "The authentication that was asked for was not reached.")
	}
	c := grant.Code{
		Person: ses.Person, Session: ses.ID, Client: a.client.ID, RedirectURI: a.in.RedirectURI,
		Challenge: a.in.Challenge, JKT: a.in.JKT, Resources: a.in.Resources, Nonce: a.in.Nonce, Pair: pair, ACR: acr,
	}
	if p.Remembered != nil {
		c.Consent = p.Remembered.ID
	}
	for _, pr := range f.Proofs {
		pr.For = ""
		c.Proofs = append(c.Proofs, pr)
	}
	for _, name := range a.in.Scopes {
		if !forOthers(f.Input, name) {
			c.Scopes = append(c.Scopes, name)
		}
	}
	for _, rid := range a.in.Resources {
		res, err := s.Resources.Resource(ctx, rid)
		if err != nil {
			return grant.Code{}, err
		}
		for _, sc := range res.Scopes {
			if !slices.Contains(c.Scopes, sc.Name) || !sc.Conditional() || slices.Contains(d.Withheld, sc.Name) {
				continue
			}
			c.Elevated = append(c.Elevated, sc.Name)
			if end := pair.AuthTime.Add(sc.Ask.MaxAge); sc.Ask.MaxAge > 0 && (c.Until.IsZero() || end.Before(c.Until)) {
				c.Until = end
			}
		}
	}
	return c, nil
}

// forOthers reports whether a scope is for members of groups that the person is
// not in: it is left out of the grant (RFC 6749 §3.3).
func forOthers(in policy.Input, scope string) bool {
	for _, sc := range in.Context.Scopes {
		if sc.Name == scope && len(sc.Groups) > 0 {
			return !slices.ContainsFunc(sc.Groups, in.Principal.In)
		}
	}
	return false
}

// Refuse ends an interaction without a code: the person said no, or cannot reach
// what is asked. It gives the address to send the browser to.
func (s *Server) Refuse(w http.ResponseWriter, r *http.Request, ref, code, detail string) (string, error) {
	a, err := s.open(w, r, ref)
	if err != nil {
		return "", err
	}
	if !slices.Contains([]string{"access_denied", "unmet_authentication_requirements"}, code) {
		code = "access_denied"
	}
	note(r, "refused", code)
	q := url.Values{"error": {code}, "error_description": {asciiOnly(detail)}, "iss": {s.Issuer}}
	if a.in.State != "" {
		q.Set("state", a.in.State)
	}
	sep := "?"
	if u, err := url.Parse(a.redirect); err == nil && u.RawQuery != "" {
		sep = "&"
	}
	return a.redirect + sep + q.Encode(), nil
}

// maxResources is how many resources a request without the parameter is about at
// most.
const maxResources = 64

// clientResources are the resources a request is about: those it names, which
// the client must be registered for, or all the client's own.
func (s *Server) clientResources(ctx context.Context, c client.Client, uris []string) ([]resource.Resource, error) {
	var out []resource.Resource
	if len(uris) == 0 {
		for _, id := range c.Resources {
			if id == "*" { // every resource of the deployment
				all, err := s.Resources.Resources(ctx, "", maxResources)
				if err != nil {
					return nil, err
				}
				for _, res := range all {
					if res.Node.Live() {
						out = append(out, res)
					}
				}
				continue
			}
			res, err := s.Resources.Resource(ctx, id)
			if err != nil {
				return nil, err
			}
			if res.Node.Live() {
				out = append(out, res)
			}
		}
		return out, nil
	}
	for _, uri := range uris {
		res, err := s.Resources.ResourceByURI(ctx, uri)
		if problem.From(err) != nil || err == nil && (!mayUse(c, res.ID) || !res.Node.Live()) {
			return nil, invalid("invalid_target", "The app is not registered for one of the resources it asks for (RFC 8707).")
		}
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(out, func(o resource.Resource) bool { return o.ID == res.ID }) {
			out = append(out, res)
		}
	}
	return out, nil
}
