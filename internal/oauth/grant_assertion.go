package oauth

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/id"
	trusted "github.com/countersign-dev/countersign/internal/issuer"
	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/resource"
)

// assertionGrant takes an assertion of a trusted issuer as a grant (RFC 7523 §2.1);
// with the type of an ID-JAG, as the resource authorization server of
// draft-ietf-oauth-identity-assertion-authz-grant-04.
type assertionGrant struct{ s *Server }

// vouched is one assertion presented: what it says, and what that is here.
type vouched struct {
	issuer  trusted.Issuer
	claims  jose.GrantAssertion
	idJAG   bool
	link    trusted.Link
	person  *account.Person
	target  *resource.Resource
	scopes  []string
	details []resource.Element
	rung    assurance.Rung // that the issuer's acr is worth
	acr     string         // as told to resources; "" if the registration does not know the issuer's
	key     once.Key
	grant   grant.Grant
	again   bool // it was taken before, and may be presented again
}

var errAssertion = invalid("invalid_grant", "The assertion is not one that is accepted from this client (RFC 7523 section 3).")

// errLost is why something that was signed before a restored deployment began anew is
// not taken.
var errLost = problem.New(problem.Invalid, "assertion_lost", "it was signed before the deployment was restored, and may have been used")

func (g assertionGrant) intent(ctx context.Context, t *tokenRequest) (*pendingIssue, error) {
	if !t.client.Confidential() {
		return nil, invalid("unauthorized_client", "Only a client that authenticates may present assertions.")
	}
	text := t.form.Get("assertion")
	if text == "" {
		return nil, invalid("invalid_request", "assertion is missing.")
	}
	v := &vouched{}
	if err := g.verify(ctx, t, text, v); err != nil {
		return nil, err
	}
	for _, step := range []func(context.Context, *tokenRequest, *vouched) error{g.bindings, g.aim, g.scope, g.details, g.seen} {
		if err := step(ctx, t, v); err != nil {
			return nil, err
		}
	}
	return g.pending(t, v), nil
}

// verify finds the issuer and holds the assertion to its registration.
func (g assertionGrant) verify(ctx context.Context, t *tokenRequest, text string, v *vouched) error {
	name, idJAG, err := jose.GrantIssuerUnverified(text)
	if err != nil || name == g.s.Issuer {
		return errAssertion.Because(err)
	}
	if v.issuer, err = g.s.Issuers.TrustedIssuerByName(ctx, name); err != nil {
		return asAssertion(err)
	}
	profile := trusted.JWTBearer
	if v.idJAG = idJAG; idJAG {
		profile = trusted.IDJAG
	}
	if !slices.Contains(v.issuer.Profiles, profile) {
		return errAssertion
	}
	keys, err := g.keys(ctx, v.issuer)
	if err != nil {
		return err
	}
	want := jose.GrantAssertionWant{
		Issuer: v.issuer.Issuer, Audiences: []string{g.s.Issuer}, IDJAG: idJAG, Algorithms: v.issuer.Algorithms,
		MaxLifetime: v.issuer.Life(), Now: t.rows.now, Leeway: assertionLeeway,
	}
	if v.issuer.TokenEndpoint && !idJAG {
		want.Audiences = append(want.Audiences, g.s.Issuer+"/oauth/token")
	}
	if v.claims, err = jose.VerifyGrantAssertion(text, keys, want); err != nil {
		return asAssertion(err)
	}
	if g.s.lost(v.claims.IssuedAt) {
		return errAssertion.Because(errLost)
	}
	t.rows.saw(v.issuer.Node)
	return nil
}

// keys are those of an issuer for one verification.
func (g assertionGrant) keys(ctx context.Context, i trusted.Issuer) (jose.KeySet, error) {
	switch {
	case i.JWKSURI == "":
		return jose.ParseJWKSet(i.JWKS)
	case g.s.Published == nil:
		return nil, errKeys
	}
	return g.s.Published.Keys(ctx, i.JWKSURI)
}

// asAssertion tells a client no more than that its assertion is not accepted.
func asAssertion(err error) error {
	if p := problem.From(err); p != nil && p.Kind != problem.Unavailable && p.Kind != problem.Throttled {
		return errAssertion.Because(err)
	}
	return err
}

// bindings checks that the assertion is for this client and key, and finds the
// person. A failure changes nothing and is on record: the assertion is genuine.
func (g assertionGrant) bindings(ctx context.Context, t *tokenRequest, v *vouched) error {
	why := ""
	switch {
	case v.idJAG && v.claims.ClientID != t.client.ClientID, v.claims.ClientID != "" && v.claims.ClientID != t.client.ClientID:
		why = "it names another client"
	case len(v.issuer.Clients) > 0 && !slices.Contains(v.issuer.Clients, t.client.ID):
		why = "the client may not present assertions of this issuer"
	case !t.shows(v.claims.Key):
		return g.anothers(ctx, t, v)
	case v.claims.Acting:
		why = "it names an actor, which no issuer is trusted to do"
	}
	if why != "" {
		return g.refused(ctx, t, v, why)
	}
	var err error
	if v.link, err = g.s.Issuers.LinkOf(ctx, v.issuer.ID, v.claims.Tenant, v.claims.Subject); err != nil {
		if problem.Refusal(err) {
			return g.refused(ctx, t, v, "its subject is nobody here")
		}
		return err
	}
	t.rows.saw(v.link.Node)
	if v.person, err = t.rows.person(ctx, v.link.Person); err != nil {
		return asAssertion(err)
	}
	if acr, known := v.issuer.ACR[v.claims.ACR]; known {
		v.rung, v.acr = g.s.Ladder.RungOf(acr), acr
	}
	return nil
}

// anothers refuses an assertion that somebody else shows than it was made for.
func (g assertionGrant) anothers(ctx context.Context, t *tokenRequest, v *vouched) error {
	link, err := g.s.Issuers.LinkOf(ctx, v.issuer.ID, v.claims.Tenant, v.claims.Subject)
	if err != nil && !problem.Refusal(err) {
		return err
	}
	err = g.refused(ctx, t, v, "it is bound to another key")
	if !problem.Refusal(err) {
		return err
	}
	return errAssertion.Because(act.Wrong{Way: act.WayVouched, Whose: link.Person, Cause: err})
}

// refused records that a genuine assertion was not taken.
func (g assertionGrant) refused(ctx context.Context, t *tokenRequest, v *vouched, why string) error {
	err := t.do(ctx, act.Intent{
		Action: policy.AssertReplayed, Kind: audit.TokenRefused, Refs: act.Refs{Kind: policy.KindSystem, Client: t.client.ID, Target: []string{v.issuer.ID}},
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
			return act.Effect{Parts: []audit.Part{{Body: map[string]any{"client": t.client.ID, "issuer": v.issuer.ID, "why": why}}}}, nil
		},
	})
	if err != nil && !problem.Refusal(err) {
		return err
	}
	return errAssertion.Because(problem.New(problem.Invalid, "assertion_binding", why))
}

// aim finds the resource: the one that the assertion says, or that is asked for, which
// have to agree; of several that it says one has to be asked for, because a token has
// one audience. It is within the issuer's registration and the client's.
func (g assertionGrant) aim(ctx context.Context, t *tokenRequest, v *vouched) (err error) {
	switch says := v.claims.Resources; {
	case len(says) == 0:
	case t.resource == nil && len(says) > 1:
		return invalid("invalid_target", "The assertion is for several resources: say which one the token is for (RFC 8707).")
	case t.resource == nil:
		if t.resource, err = t.rows.resourceByURI(ctx, says[0]); err != nil {
			return err
		}
	case !slices.ContainsFunc(says, func(uri string) bool { return resource.Same(uri, t.resource.URI) }):
		return invalid("invalid_target", "The assertion is for another resource than the one asked for.")
	}
	res, err := machineResource(ctx, t)
	if err != nil {
		return err
	}
	if !slices.Contains(v.issuer.Resources, res.ID) || strings.HasPrefix(res.URI+"/", g.s.Issuer+"/") { // nobody else's word manages this server
		return invalid("invalid_target", "Assertions of this issuer cannot be used for that resource.")
	}
	v.target = res
	return nil
}

// scope is what is asked for, or else what the assertion says, or else what the
// resource gives by default: cut to what the assertion, the issuer's registration
// and the client's allow. Conditional scopes need the person here.
func (g assertionGrant) scope(_ context.Context, t *tokenRequest, v *vouched) error {
	says, err := scopeList(v.claims.Scope)
	if err != nil {
		return errAssertion.Because(err)
	}
	asked := t.scopes
	for _, sc := range v.target.Scopes {
		switch {
		case sc.Conditional(), !slices.Contains(v.issuer.Scopes, sc.Name), !mayAsk(t.client.Client, sc.Name),
			v.claims.Scoped && !slices.Contains(says, sc.Name),
			len(asked) > 0 && !slices.Contains(asked, sc.Name),
			len(asked) == 0 && !v.claims.Scoped && !sc.Default:
			continue
		}
		v.scopes = append(v.scopes, sc.Name)
	}
	return nil
}

// details are what the assertion says, each of a type that the issuer and the client
// are registered for and in its form (RFC 9396 §5: nothing is left out silently), or
// what the request names, which may only be narrower. Nobody agreed to others.
func (g assertionGrant) details(_ context.Context, t *tokenRequest, v *vouched) error {
	if v.claims.Details != "" {
		says, err := resource.ReadDetails(v.claims.Details)
		if err != nil {
			return err
		}
		for _, e := range says {
			if !slices.Contains(v.issuer.DetailsTypes, e.Type) {
				return badDetails("The issuer is not trusted for authorization details of the type " + asciiOnly(e.Type) + ".")
			}
			if err := fitting(t.client.Client, e, []resource.Resource{*v.target}); err != nil {
				return err
			}
		}
		v.details = says
	}
	var err error
	if v.details, err = detailsFor(t, v.target, v.details); err != nil {
		return err
	}
	if len(v.scopes) == 0 && len(v.details) == 0 {
		return invalid("invalid_scope", "None of these scopes can be given for this assertion.")
	}
	return nil
}

// seen looks whether the assertion was taken before. One that may be presented
// again is bound to the client and key that came first.
func (g assertionGrant) seen(ctx context.Context, t *tokenRequest, v *vouched) error {
	v.key = once.KeyOf(once.Grant, v.issuer.ID, v.claims.JTI)
	was, err := g.s.State.OnceValue(ctx, once.Grant, v.key)
	if _, isGone := errors.AsType[*once.Gone](err); isGone || problem.Refusal(err) {
		g.open(t, v)
		return nil
	}
	if err != nil {
		return err
	}
	return g.presented(ctx, t, v, was.Ref)
}

// presented judges an assertion that comes again, by what was remembered of the
// first time.
func (g assertionGrant) presented(ctx context.Context, t *tokenRequest, v *vouched, ref string) error {
	grantID, holder, _ := strings.Cut(ref, " ")
	if v.idJAG && v.issuer.Replay == trusted.SameClient && holder == holderOf(t) {
		gr, err := t.rows.grant(ctx, grantID)
		if err != nil {
			return asAssertion(err)
		}
		if gr.Person == v.link.Person && slices.Contains(gr.Resources, v.target.ID) {
			v.grant, v.again = *gr, true
			return nil
		}
	}
	err := t.do(ctx, act.Intent{
		Action: policy.AssertReplayed, Kind: audit.AssertionReused, Refs: act.Refs{Kind: policy.KindSystem, Client: t.client.ID, Target: []string{v.issuer.ID}},
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
			return act.Effect{Parts: []audit.Part{{Person: v.link.Person, Body: map[string]any{"client": t.client.ID, "issuer": v.issuer.ID, "grant": grantID}}}}, nil
		},
	})
	if err != nil && !problem.Refusal(err) {
		return err
	}
	return errAssertion.Because(problem.New(problem.Invalid, "assertion_reused", "the assertion was taken before"))
}

// holderOf names who presents: client and key.
func holderOf(t *tokenRequest) string {
	b := t.bound()
	return t.client.ID + " " + b.jkt + " " + b.x5t
}

// open prepares the grant that the token hangs on.
func (g assertionGrant) open(t *tokenRequest, v *vouched) {
	at := v.claims.AuthTime
	if at.After(v.claims.IssuedAt) { // nobody signed in after it was said (mechanisms G9)
		at = v.claims.IssuedAt
	}
	now := t.rows.now.UTC()
	v.grant = grant.Grant{
		ID: id.New(id.Grant), Person: v.link.Person, Client: t.client.ID, Resources: []string{v.target.ID}, Scopes: v.scopes, Details: v.details,
		Proofs: []assurance.Proof{assurance.FederatedProof(v.link.Person, v.issuer.ID, v.rung, at)}, CreatedAt: now, UsedAt: now,
		ExpiresAt: now.Add(TokenLifetime),
	}
	if v.claims.ExpiresAt.After(v.grant.ExpiresAt) {
		v.grant.ExpiresAt = v.claims.ExpiresAt
	}
	if v.acr != "" {
		v.grant.ACR, v.grant.Pair = v.acr, assurance.Pair{Rung: v.rung, AuthTime: at, AMR: v.claims.AMR}
	}
}

func (g assertionGrant) pending(t *tokenRequest, v *vouched) *pendingIssue {
	what := "jwt_bearer"
	if v.idJAG {
		what = "id_jag"
	}
	p := &pendingIssue{answer: answerValue, Intent: act.Intent{
		Action: policy.TokenAssert, Kind: audit.TokenIssued,
		Refs: act.Refs{
			Kind: policy.KindPerson, Actor: v.link.Person, Client: t.client.ID, Resource: v.target.ID, Scopes: v.scopes, Under: []string{v.link.ID},
		},
		Details: judgedAt(v.details, v.target),
	}}
	if v.again {
		p.Refs.Grant = v.grant.ID
	} else {
		p.Proofs = v.grant.Proofs
		p.Spend = []once.Spend{{Purpose: once.Grant, Key: v.key, Ref: v.grant.ID + " " + holderOf(t), Mark: true, Until: v.claims.ExpiresAt.Add(time.Minute)}}
	}
	var given []string
	p.Changes = func(_ *act.Facts, d policy.Decision) (act.Effect, error) {
		eff := act.Effect{Leaf: v.grant.ID, Parts: []audit.Part{{Person: v.link.Person, Body: map[string]any{"issuer": v.issuer.ID, "grant": v.grant.ID, "acr": v.acr}}}}
		if given = without(v.scopes, d.Withheld); len(given) == 0 && len(v.details) == 0 {
			return eff, invalid("invalid_scope", "None of these scopes can be given now.")
		}
		if eff.Detail = (issued{given, what}); !v.again {
			eff.Changes = []act.Change{grant.Open{Grant: v.grant, Link: v.link.ID}}
		}
		return eff, nil
	}
	p.Seal = func(seal act.Sealing) (any, error) { return g.seal(seal, t, v, given) }
	// Another request may have presented it first.
	p.failed = func(ctx context.Context, err error) error {
		if used, ok := act.Spent(err); ok && used.Purpose == once.Grant {
			if err := g.presented(ctx, t, v, used.Ref); err != nil {
				return err
			}
			return errMoved // it may come again: judged again, it does
		}
		if p := problem.From(err); p != nil && p.Kind == problem.StepUp {
			return insufficient(err)
		}
		return err
	}
	return p
}

func (g assertionGrant) seal(seal act.Sealing, t *tokenRequest, v *vouched, given []string) (any, error) {
	sub, err := g.s.subject(t.client.Client, v.person)
	if err != nil {
		return nil, err
	}
	nodes := slices.Clone(seal.Facts.Nodes)
	if !v.again {
		nodes = append(nodes, lineage.Node{ID: v.grant.ID, Kind: lineage.Grant})
	}
	if err := mustHave(nodes, v.issuer.ID); err != nil {
		return nil, err
	}
	life := lifetime(seal.Decision)
	text, err := g.s.sign(seal, accessToken{
		subject: sub, client: t.client.Client, audience: v.target.URI, scopes: given, life: life,
		bound: t.bound(), nodes: nodes, pair: v.grant.Pair, acr: v.grant.ACR, mayAct: t.mayAct, details: v.details,
	})
	return &tokenResponse{AccessToken: text, TokenType: t.bound().tokenType(), ExpiresIn: int64(life.Seconds()), Scope: joinScopes(given), Details: v.details}, err
}
