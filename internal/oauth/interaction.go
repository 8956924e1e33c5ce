package oauth

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/assurance"
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

// carried is an interaction as it travels through the browser. Its state is kept
// as bytes: JSON escapes could make 4 KB of it six times as long.
type carried struct {
	grant.Interaction
	State []byte `json:"state,omitempty"`
}

func carry(in grant.Interaction) carried {
	c := carried{in, []byte(in.State)}
	c.Interaction.State = ""
	return c
}

func (c carried) interaction() grant.Interaction {
	c.Interaction.State = string(c.State)
	return c.Interaction
}

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
	var c carried
	if err := s.Keys.OpenState(statePurpose, binding, ref, &c); err != nil {
		return nil, err
	}
	if !onlySpelling(ref) {
		return nil, invalid("transaction_unknown", "This address was changed on the way.").WithHint("Start again from the app you came from.")
	}
	a := &authRequest{in: c.interaction()}
	if s.now().Sub(a.in.Started) > grant.InteractionLifetime {
		return nil, invalid("interaction_expired", "This request waited longer than ten minutes, so it has expired.").
			WithHint("Go back to the app and start again.")
	}
	if a.client, err = s.clientOf(r.Context(), a.in, s.networkOf(r)); err != nil {
		return nil, err
	}
	a.in.Client = a.client.ID // there may be one by now
	if err := s.registered(a); err != nil {
		return nil, err
	}
	a.redirect = a.in.RedirectURI
	if how := a.answering(); how.over != nil && !s.now().Before(how.Until) {
		return nil, how.over
	}
	return a, nil
}

// clientOf finds the client of an interaction: one that nobody registered by its
// name, as it says now that it is.
func (s *Server) clientOf(ctx context.Context, in grant.Interaction, network string) (client.Client, error) {
	if in.Name == "" {
		return s.Clients.Client(ctx, in.Client)
	}
	return s.find(ctx, in.Name, network)
}

// onlySpelling reports whether a sealed value is written as we wrote it: it is
// spent by its name, and decoding alone would take several.
func onlySpelling(ref string) bool {
	b, err := base64.RawURLEncoding.Strict().DecodeString(ref)
	return err == nil && base64.RawURLEncoding.EncodeToString(b) == ref
}

// registered holds an interaction against what its client is now: what was
// registered when it began may have been taken back since.
func (s *Server) registered(a *authRequest) error {
	if !a.elsewhere() {
		if _, err := redirectOf(a.client, a.in.RedirectURI); err != nil {
			return err
		}
	}
	pushed := a.in.Pushed != "" || a.elsewhere() || !a.client.FAPI() // it may have become one meanwhile
	ok := pushed && a.client.Node.Live() && a.client.Allows(a.answering().by) && len(askable(a.client, a.in.Scopes)) == len(a.in.Scopes)
	for _, id := range a.in.Resources {
		ok = ok && mayUse(a.client, id)
	}
	for _, e := range a.in.Details {
		ok = ok && mayDetail(a.client, e.Type)
	}
	if !ok {
		return invalid("interaction_outdated", "What this app may ask for has changed meanwhile.").WithHint("Go back to the app and start again.")
	}
	return nil
}

// askable are the scopes that a client is still registered for.
func askable(c client.Client, scopes []string) []string {
	return slices.DeleteFunc(slices.Clone(scopes), func(name string) bool { return !isIdentity(name) && !mayAsk(c, name) })
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
	p, err := s.judge(r, a, cur, ref)
	if err != nil {
		return s.authError(w, r, a, err)
	}
	switch {
	case p.Next == grant.NextIssue:
		return s.issueCode(w, r, a, ses, p)
	case p.Next == grant.NextDenied && p.Review:
		in, err := s.codeIntent(r, a, ses, ref)
		if err == nil {
			err = s.Do.Refuse(r.Context(), in)
		}
		if !problem.Refusal(err) {
			return s.authError(w, r, nil, err)
		}
	}
	return s.ask(w, r, a, ses, p)
}

// presence is asked for only so that somebody is there.
var presence = assurance.Ask{Rung: assurance.Multi, MaxAge: time.Minute}

// ask sends the browser to the page for what is next; with prompt=none it is the
// client that is told. Step-ups are counted (mechanisms A15), but not those whose
// only reason is that somebody is there.
func (s *Server) ask(w http.ResponseWriter, r *http.Request, a *authRequest, ses session.Session, p grant.Pending) error {
	if slices.Contains(a.prompts, "none") {
		return s.authError(w, r, a, promptNone(p.Next))
	}
	if p.Next == grant.NextStepUp && !(a.in.Fresh && p.Ask == presence) {
		if err := s.count(r, a, ses, &p); err != nil {
			return s.authError(w, r, a, err)
		}
	}
	s.Browser.Go(w, r, p.Next, p.Reference)
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
	p, err := s.judge(r, a, ses, ref)
	s.place(r, &p)
	return p, err
}

// judge says what is next: sign in, step up, consent, or nothing.
func (s *Server) judge(r *http.Request, a *authRequest, ses *session.Session, ref string) (grant.Pending, error) {
	ctx := r.Context()
	p := grant.Pending{Interaction: a.in, Reference: ref, App: a.client, Next: grant.NextSignIn}
	if ses == nil {
		return p, nil
	}
	if a.in.Subject != "" {
		who, err := s.State.Person(ctx, ses.Person)
		if err != nil {
			return p, err
		}
		same, err := s.isSubject(a.client, &who, a.in.Subject)
		if err != nil {
			return p, err
		}
		if !same {
			p.Next = grant.NextWrongUser
			return p, nil
		}
	}
	if a.in.Backchannel != nil {
		if _, err := s.waits(ctx, a, ses.Person); err != nil {
			return p, err
		}
	}
	in, err := s.codeIntent(r, a, *ses, ref)
	if err != nil {
		return p, err
	}
	dec, facts, err := s.Do.Judge(ctx, in)
	if err != nil {
		return p, err
	}
	p.Band = facts.Risk.Band
	if dec.Outcome != policy.Allow {
		for _, r := range dec.Reasons {
			p.Reasons = append(p.Reasons, r.Text)
			p.Why = append(p.Why, problem.Reason{Policy: r.Policy, Text: r.Text, Owner: r.Owner})
		}
	}
	if dec.Outcome == policy.Deny {
		p.Next, p.Code, p.Review = grant.NextDenied, dec.Code, dec.Review
		return p, nil
	}
	ask, met := s.wanted(a, facts.Input.Context, dec)
	p.Ask = ask
	if !met {
		p.Next = grant.NextStepUp
		if a.in.Backchannel != nil { // it is shown whole, before anything is proved
			err = s.question(ctx, a, facts.Input, &p)
		} else {
			p.Scopes, err = s.shown(ctx, a, facts.Input, nil)
		}
		if err != nil {
			return p, err
		}
		can, err := s.Browser.Attainable(ctx, ses.Person)
		if err != nil {
			return p, err
		}
		if !can(assurance.Ask{Rung: ask.Rung}) {
			p.Next = grant.NextImpossible
		}
		return p, nil
	}
	switch {
	case a.in.Device != nil:
		return p, s.deviceNext(ctx, a, facts.Input, &p)
	case a.in.Backchannel != nil:
		p.Next = grant.NextRequest
		return p, s.question(ctx, a, facts.Input, &p)
	}
	err = s.consent(ctx, a, facts.Input, &p)
	return p, err
}

// choose picks the pair and acr that answer a request (mechanisms A17, A18):
// fresh enough for the client and, if it can be, for the conditional scopes that
// this answer releases, whose verifiers will look at this very pair.
func (s *Server) choose(a *authRequest, c policy.Context, released []policy.ScopeAsk) (p assurance.Pair, acr string, ok bool) {
	var limit *time.Duration
	atMost := func(d time.Duration) {
		if limit == nil || d < *limit {
			limit = &d
		}
	}
	if a.in.MaxAge > 0 {
		atMost(a.in.MaxAge)
	}
	if a.in.Fresh {
		atMost(c.Now.Sub(a.in.Started))
	}
	if p, acr, ok = c.Assurance.Select(a.in.ACRValues, limit, s.Ladder, c.Now); !ok {
		return p, acr, false
	}
	least := assurance.None
	for _, sc := range released {
		least = max(least, sc.Ask.Rung)
		if sc.Ask.MaxAge > 0 {
			atMost(sc.Ask.MaxAge)
		}
	}
	if q, name, good := c.Assurance.Select(a.in.ACRValues, limit, s.Ladder, c.Now); good && q.Rung >= least {
		return q, name, true
	}
	return p, acr, true
}

// wanted is what the client and policy together ask of the person's assurance,
// and whether it is met. What the client asks is binding (mechanisms A18).
func (s *Server) wanted(a *authRequest, c policy.Context, dec policy.Decision) (assurance.Ask, bool) {
	ask, met := assurance.Ask{}, true
	if dec.Outcome == policy.StepUp {
		ask, met = dec.Ask, false
	}
	if _, _, ok := s.choose(a, c, nil); ok {
		return ask, met
	}
	want := assurance.Ask{MaxAge: a.in.MaxAge, Rung: assurance.Multi}
	for i, v := range a.in.ACRValues {
		if r := s.Ladder.RungOf(v); i == 0 || r < want.Rung {
			want.Rung = r
		}
	}
	if a.in.Fresh && want.MaxAge == 0 {
		want.MaxAge = presence.MaxAge
	}
	if j, ok := ask.Join(want); ok {
		ask = j
	}
	return ask, false
}

// consent decides whether the person must be asked, and fills what is shown.
func (s *Server) consent(ctx context.Context, a *authRequest, in policy.Input, p *grant.Pending) error {
	p.Next = grant.NextIssue
	if a.client.FirstParty && len(a.in.Details) == 0 {
		return nil
	}
	have, err := s.agreed(ctx, in.Principal.ID, a.client)
	switch {
	case err == nil:
		p.Remembered = &have
	case !problem.Refusal(err):
		return err
	}
	seen := p.Remembered
	if seen != nil && seen.Digest != a.client.Digest && !a.client.Known() { // it was something else then
		seen, p.Changed = nil, true
	}
	covered := seen != nil && seen.Client == a.client.ID && len(without(a.in.Resources, have.Resources)) == 0
	if p.Scopes, err = s.shown(ctx, a, in, seen); err != nil {
		return err
	}
	for _, sc := range p.Scopes {
		covered = covered && !sc.New
	}
	covered = covered || a.client.FirstParty
	if len(a.in.Details) > 0 { // agreed to for this interaction, or not at all
		covered = covered && have.For == For(p.Reference) && sameDetails(have.Details, a.in.Details)
		if p.Shown, err = s.detailsShown(ctx, a); err != nil {
			return err
		}
	}
	if !covered || (a.in.Consent || a.client.Asks()) && (p.Remembered == nil || p.Remembered.At.Before(a.in.Started)) {
		p.Next = grant.NextConsent
	}
	return nil
}

// agreed is what a person allowed a client: for one that registers itself again
// and again, what they allowed it the last time.
func (s *Server) agreed(ctx context.Context, person string, c client.Client) (grant.Consent, error) {
	if c.ID != "" {
		if have, err := s.Grants.Consent(ctx, person, c.ID); !problem.Refusal(err) || c.Source != client.FromItself {
			return have, err
		}
	}
	if c.Source != client.FromItself {
		return grant.Consent{}, problem.New(problem.NotFound, "consent_not_found", "Nothing was allowed yet.")
	}
	return s.Grants.ConsentOfGroup(ctx, person, c.Group)
}

// shown are the permissions that a page shows to this person.
func (s *Server) shown(ctx context.Context, a *authRequest, in policy.Input, have *grant.Consent) (out []grant.Permission, err error) {
	theirs := slices.DeleteFunc(slices.Clone(a.in.Scopes), func(name string) bool { return forOthers(in, name) })
	for _, id := range a.in.Resources {
		res, err := s.Resources.Resource(ctx, id)
		if err != nil {
			return nil, err
		}
		out = append(out, permissions(res, theirs, have)...)
	}
	for _, asked := range slices.Concat(a.in.Claims.IDToken, a.in.Claims.UserInfo) {
		if name := claimScope[asked.Name]; !slices.Contains(theirs, name) {
			theirs = append(theirs, name)
		}
	}
	for _, name := range theirs {
		if isIdentity(name) {
			sc := resource.Scope{Name: name, Description: identityWords[name], Kind: "read"}
			out = append(out, grant.Permission{Scope: sc, Resource: "your account", New: !have.Covers("", name)})
		}
	}
	return out, nil
}

var identityWords = map[string]string{
	"openid": "Know who you are", "profile": "See your name and user name",
	"email": "See your e-mail address", "offline_access": "Stay signed in when you are away",
}

func permissions(res resource.Resource, scopes []string, have *grant.Consent) []grant.Permission {
	var out []grant.Permission
	for _, name := range scopes {
		if sc, ok := res.Scope(name); ok {
			out = append(out, grant.Permission{Scope: sc, At: res.ID, Resource: res.Name, New: !have.Covers(res.ID, name)})
		}
	}
	return out
}

// codeIntent is the act of answering an interaction for a session.
func (s *Server) codeIntent(r *http.Request, a *authRequest, ses session.Session, ref string) (act.Intent, error) {
	how := a.answering()
	in := act.Intent{
		Action: how.yes, Kind: how.approved, For: For(ref), From: s.Browser.Origin(r),
		Refs: act.Refs{Kind: policy.KindPerson, Actor: ses.Person, Session: ses.ID, Client: a.client.ID, Required: a.in.Explicit},
	}
	err := s.about(r.Context(), &in, a.in.Resources, a.in.Scopes, a.in.Details)
	return in, err
}

// about has an act judged for what is asked for: resources by id, scopes, and details
// at those resources.
func (s *Server) about(ctx context.Context, in *act.Intent, resources, scopes []string, details []resource.Element) error {
	if len(resources) > 0 {
		in.Refs.Resource, in.Refs.Resources = resources[0], resources
	}
	for _, name := range scopes {
		if !isIdentity(name) {
			in.Refs.Scopes = append(in.Refs.Scopes, name)
		}
	}
	if len(details) == 0 {
		return nil
	}
	var list []resource.Resource
	for _, id := range resources {
		res, err := s.Resources.Resource(ctx, id)
		if err != nil {
			return err
		}
		list = append(list, res)
	}
	in.Details = judged(details, list...)
	return nil
}

// issueCode answers the interaction: the code is made, the interaction spent,
// both recorded, and only then does the browser leave with it.
func (s *Server) issueCode(w http.ResponseWriter, r *http.Request, a *authRequest, ses session.Session, p grant.Pending) error {
	code := secret.New(secret.Code)
	in, err := s.codeIntent(r, a, ses, p.Reference)
	if err != nil {
		return s.authError(w, r, a, err)
	}
	if p.Remembered != nil {
		in.Refs.Under = []string{p.Remembered.ID}
	}
	in.Spend = append(spendPushed(a.in), once.Spend{
		Purpose: once.Interaction, Key: once.KeyOf(once.Interaction, p.Reference), Mark: true,
		Until: a.in.Started.Add(grant.InteractionLifetime + time.Minute),
	})
	in.Changes = func(f *act.Facts, d policy.Decision) (act.Effect, error) {
		c, err := s.codeFor(r.Context(), a, ses, p, f, d)
		if err != nil {
			return act.Effect{}, err
		}
		if f.Input.Context.DeviceKnown { // here the answer goes to the browser that gives it
			c.Device = in.From.Device
		}
		data, err := json.Marshal(c)
		if err != nil {
			return act.Effect{}, err
		}
		now := f.Input.Context.Now
		return act.Effect{
			Changes: []act.Change{once.Put{Value: once.Value{
				Purpose: once.Code, Key: once.KeyOf(once.Code, code.Reveal()), Bound: a.client.ID, Data: data,
				MadeAt: now, ExpiresAt: now.Add(policy.Shorter(grant.CodeLifetime, d.MaxLife)),
			}}},
			Detail: map[string]any{"scopes": c.Scopes, "elevated": c.Elevated, "acr": c.ACR},
		}, nil
	}
	_, err = s.Do.Do(r.Context(), in)
	if used, ok := act.Spent(err); ok {
		return s.authError(w, r, nil, errDone.Because(used))
	}
	if q := problem.From(err); q != nil && (q.Kind == problem.StepUp || q.Code == "unmet_authentication_requirements") {
		p.Next = grant.NextStepUp // what was met a moment ago is too old now
		return s.ask(w, r, a, ses, p)
	}
	if err != nil {
		return s.authError(w, r, a, err)
	}
	s.answer(w, r, a, url.Values{"code": {code.Reveal()}})
	return nil
}

// codeFor is what the code stands for: one pair from one evaluation (A17), and
// the conditional scopes that this response releases (D13). How long what
// carries them lives is policy's, when the token is issued (A23).
func (s *Server) codeFor(ctx context.Context, a *authRequest, ses session.Session, p grant.Pending, f *act.Facts, d policy.Decision) (grant.Code, error) {
	c := grant.Code{
		Person: ses.Person, Session: ses.ID, Client: a.client.ID, RedirectURI: a.in.RedirectURI,
		Challenge: a.in.Challenge, JKT: a.in.JKT, Resources: a.in.Resources, Nonce: a.in.Nonce, Claims: a.in.Claims, Details: a.in.Details,
		Life: d.MaxGrant,
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
	var released []policy.ScopeAsk
	now := f.Input.Context.Now
	for _, id := range a.in.Resources {
		res, err := s.Resources.Resource(ctx, id)
		if err != nil {
			return grant.Code{}, err
		}
		for _, sc := range res.Scopes {
			if !sc.Conditional() || !slices.Contains(c.Scopes, sc.Name) || slices.Contains(d.Withheld, sc.Name) ||
				!f.Input.Context.Assurance.Meets(sc.Ask, now) {
				continue
			}
			released = append(released, policy.ScopeAsk{Name: sc.Name, Ask: sc.Ask})
			if !slices.Contains(c.Elevated, sc.Name) {
				c.Elevated = append(c.Elevated, sc.Name)
			}
		}
	}
	var ok bool
	if c.Pair, c.ACR, ok = s.choose(a, f.Input.Context, released); !ok {
		return grant.Code{}, invalid("unmet_authentication_requirements", "The authentication that was asked for was not reached.")
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
