package oauth

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/resource"
)

// exchangeGrant is token exchange (RFC 8693) as delegation: a client's service
// gives a token that it was shown, and gets one of its own for the same subject
// that names the service as the actor. Nobody gets a token without act, so
// nobody can pass for somebody else (mechanisms G).
type exchangeGrant struct{ s *Server }

// typeAccessToken is the only token type that is taken and given (RFC 8693 §3).
const typeAccessToken = "urn:ietf:params:oauth:token-type:access_token"

// exchange is one request: what was shown, whose it is, and what is wanted.
type exchange struct {
	claims   *jose.AccessTokenClaims // of the subject token: genuine and live
	leaf     string                  // what the subject token hangs on
	nodes    []lineage.Node          // that, and all above it
	root     root
	service  *client.Service    // of the caller: who is to act
	at       *resource.Resource // that the subject token is for; nil: the server itself
	target   *resource.Resource
	scopes   []string // wanted, and within what the subject token says
	details  []resource.Element
	found    bool // a delegation was found
	handover grant.Delegation
}

// root is where the authority of a chain comes from.
type root struct {
	kind    string // policy.KindPerson or policy.KindService
	subject string // by id
	grant   *grant.Grant
	origin  client.Client // that the first token was given to
	depth   int           // actors so far
}

var errSubjectToken = invalid("invalid_request", "The subject_token is not one that this client can exchange (RFC 8693 section 2.2.2).")

func (g exchangeGrant) intent(ctx context.Context, t *tokenRequest) (*pendingIssue, error) {
	c := t.client.Client
	if c.Service == "" || !c.Confidential() {
		return nil, invalid("unauthorized_client", "The client acts for no service of its own: it cannot be anybody's actor.")
	}
	if err := exchangeForm(t); err != nil {
		return nil, err
	}
	x := &exchange{}
	if err := g.read(ctx, t, x); err != nil {
		return nil, exchangeError(ctx, err)
	}
	var err error
	if x.target, err = g.target(ctx, t, x); err != nil {
		return nil, err
	}
	if x.scopes, err = x.wanted(c, t.scopes); err != nil {
		return nil, err
	}
	if x.details, err = x.handed(t); err != nil {
		return nil, err
	}
	if len(x.scopes) == 0 && len(x.details) == 0 {
		return nil, invalid("invalid_scope", "The subject_token has no scope that can be exchanged for that resource.")
	}
	return g.pending(t, x), nil
}

// exchangeForm holds the parameters to RFC 8693 §2.1.
func exchangeForm(t *tokenRequest) error {
	f := t.form
	switch {
	case f.Get("subject_token") == "" || f.Get("subject_token_type") == "":
		return invalid("invalid_request", "subject_token and subject_token_type are needed.")
	case f.Get("subject_token_type") != typeAccessToken:
		return invalid("invalid_request", "Only access tokens of this server can be exchanged: subject_token_type has to be "+typeAccessToken+".")
	case f.Has("requested_token_type") && f.Get("requested_token_type") != typeAccessToken:
		return invalid("invalid_request", "Only access tokens are given: requested_token_type has to be "+typeAccessToken+".")
	case f.Has("actor_token") != f.Has("actor_token_type"):
		return invalid("invalid_request", "actor_token and actor_token_type go together.")
	case f.Has("actor_token") && f.Get("actor_token_type") != typeAccessToken:
		return invalid("invalid_request", "actor_token_type has to be "+typeAccessToken+".")
	}
	return nil
}

// read verifies the tokens and finds whose authority they carry.
func (g exchangeGrant) read(ctx context.Context, t *tokenRequest, x *exchange) (err error) {
	if x.service, err = t.rows.service(ctx, t.client.Service); err != nil {
		return err
	}
	if x.claims, err = g.s.genuine(t.form.Get("subject_token")); err != nil {
		return err
	}
	if len(x.claims.Audience) != 1 {
		return errSubjectToken
	}
	if x.leaf, x.nodes, err = g.s.State.Leaf(ctx, x.claims.JTI); err != nil {
		return err
	}
	if n, ended := lineage.FirstEnded(x.nodes); ended || len(x.nodes) == 0 {
		return problem.New(problem.Unauthenticated, "token_ended", "The token was ended: "+n.Kind.String()+".")
	}
	if aud := x.claims.Audience[0]; aud != g.s.Issuer {
		if x.at, err = t.rows.resourceByURI(ctx, aud); err != nil {
			return err
		}
	}
	if x.root, err = g.rootOf(ctx, t, x); err != nil {
		return err
	}
	return g.actorToken(ctx, t, x)
}

// rootOf finds the person's grant, or the service, that a chain begins with.
func (g exchangeGrant) rootOf(ctx context.Context, t *tokenRequest, x *exchange) (r root, err error) {
	grantID, originID := "", ""
	if strings.HasPrefix(x.leaf, id.Delegation) {
		d, err := g.s.Grants.DelegationByID(ctx, x.leaf)
		if err != nil {
			return r, err
		}
		r.subject, r.depth, grantID, originID = d.Subject, d.Depth, d.Grant, d.Origin
	} else {
		for _, n := range x.nodes {
			if strings.HasPrefix(n.ID, id.Grant) {
				grantID = n.ID
			}
		}
	}
	if grantID != "" {
		if r.grant, err = t.rows.grant(ctx, grantID); err != nil {
			return r, err
		}
		r.kind, r.subject, originID = policy.KindPerson, r.grant.Person, r.grant.Client
	}
	if originID == "" {
		originID = x.leaf // a service's token hangs on its client
	}
	if r.origin, err = g.s.Clients.Client(ctx, originID); err != nil {
		return r, err
	}
	if r.grant == nil {
		r.kind, r.subject = policy.KindService, r.origin.Service
		if r.subject == "" {
			return r, errSubjectToken
		}
	}
	return r, nil
}

// actorToken holds an actor token, if there is one, to what client authentication
// says already: who acts is the caller's own service, and nobody else.
func (g exchangeGrant) actorToken(ctx context.Context, t *tokenRequest, x *exchange) error {
	if !t.form.Has("actor_token") {
		return nil
	}
	bad := invalid("invalid_request", "The actor_token is not a live token of this client for its own service.")
	c, _, err := g.s.live(ctx, t.form.Get("actor_token"))
	switch {
	case err != nil && !problem.Refusal(err):
		return err
	case err != nil:
		return bad.Because(err)
	case c.ClientID != t.client.ClientID, c.Subject != x.service.Subject, c.Actor != nil:
		return bad
	case !t.shows(c.Confirmation):
		return bad
	}
	return nil
}

// target is the resource that the token is to be for: by its resource indicator
// or as the audience, which mean the same here; among what the client is
// registered for and what the chain began with.
func (g exchangeGrant) target(ctx context.Context, t *tokenRequest, x *exchange) (*resource.Resource, error) {
	res := t.resource
	if aud := t.form.Get("audience"); aud != "" {
		named, err := t.rows.resourceByURI(ctx, aud)
		if err != nil {
			return nil, err
		}
		if res != nil && res.ID != named.ID {
			return nil, invalid("invalid_target", "resource and audience name two things: a token has one audience.")
		}
		res = named
	}
	t.resource = res
	res, err := machineResource(ctx, t)
	if err != nil {
		return nil, err
	}
	beyond := invalid("invalid_target", "The subject_token does not reach that resource.")
	switch r := x.root; {
	case r.grant != nil && !slices.Contains(r.grant.Resources, res.ID):
		return nil, beyond
	case r.grant == nil && !mayUse(r.origin, res.ID):
		return nil, beyond
	}
	return res, nil
}

// wanted are the scopes to give: those asked for, or all; each one that the
// subject token has, that the target knows, and that the client is registered
// for. Identity scopes are about a sign-in at a client, and conditional ones
// need the person: an actor gets neither (mechanisms G6).
func (x *exchange) wanted(c client.Client, asked []string) ([]string, error) {
	var out []string
	has := strings.Fields(x.claims.Scope)
	for _, name := range has {
		sc, known := x.target.Scope(name)
		if isIdentity(name) || !known || sc.Conditional() || !mayAsk(c, name) || x.root.grant == nil && !mayAsk(x.root.origin, name) {
			continue
		}
		if len(asked) == 0 || slices.Contains(asked, name) {
			out = append(out, name)
		}
	}
	if extra := without(asked, out); len(extra) > 0 {
		return nil, invalid("invalid_scope", "An exchange may only narrow what the subject_token says, to what the client may ask for at the resource; beyond that is: "+joinScopes(extra))
	}
	return out, nil
}

// handed are the authorization details to give: those of the subject token that the
// target has a type for and that have its form, as far as the client may ask for them,
// and, of a service's own, the one that the chain began with; or what the request
// names, which may only be narrower (mechanisms G7).
func (x *exchange) handed(t *tokenRequest) ([]resource.Element, error) {
	if len(x.claims.AuthorizationDetails) == 0 {
		return detailsFor(t, x.target, nil)
	}
	has, err := resource.ReadDetails(string(x.claims.AuthorizationDetails))
	if err != nil {
		return nil, err
	}
	return detailsFor(t, x.target, slices.DeleteFunc(has, func(e resource.Element) bool {
		known, ok := x.target.Details(e.Type)
		return !ok || known.Fits(e) != nil || x.root.grant == nil && !mayDetail(x.root.origin, e.Type)
	}))
}

func (g exchangeGrant) pending(t *tokenRequest, x *exchange) *pendingIssue {
	p := &pendingIssue{answer: answerValue, failed: exchangeError, Intent: act.Intent{
		Action: policy.TokenExchange, Kind: audit.TokenExchanged,
		Refs: act.Refs{
			Kind: x.root.kind, Actor: x.root.subject, Client: t.client.ID, Resource: x.target.ID, Scopes: x.scopes,
			Under: []string{x.leaf},
		},
		Token: policy.Token{
			Known: true, Age: max(t.rows.now.Sub(x.claims.IssuedAt.Time()), 0), Depth: x.root.depth + 1,
			Bound: x.claims.Confirmation != nil && t.shows(x.claims.Confirmation),
		},
		Details: judgedAt(x.details, x.target),
		Prepare: func(ctx context.Context) error { return g.delegation(ctx, t, x) },
	}}
	if x.at != nil && x.at.ID != x.target.ID {
		p.Refs.Under = append(p.Refs.Under, x.at.ID)
	}
	if x.root.grant != nil {
		p.Refs.Grant = x.root.grant.ID
	} else {
		p.Proofs = []assurance.Proof{x.root.proved(x.claims.IssuedAt.Time())}
	}
	given := x.scopes
	p.Changes = func(f *act.Facts, d policy.Decision) (act.Effect, error) {
		eff := act.Effect{Leaf: x.handover.ID, Parts: x.parts(t)}
		if err := x.entitled(t, f); err != nil {
			return eff, err
		}
		if given = without(x.scopes, d.Withheld); len(given) == 0 && len(x.details) == 0 {
			return eff, invalid("invalid_scope", "None of these scopes can be given now.")
		}
		if eff.Detail = (issued{given, "token_exchange"}); !x.found {
			eff.Changes = []act.Change{grant.Delegate{Delegation: x.handover}}
		}
		return eff, nil
	}
	p.Seal = func(seal act.Sealing) (any, error) { return g.seal(seal, t, x, given) }
	return p
}

// proved is what a service's live token says: its client authenticated when it
// was given.
func (r root) proved(at time.Time) assurance.Proof {
	method := assurance.ClientSecret
	switch r.origin.AuthMethod {
	case client.AuthPrivateKeyJWT:
		method = assurance.PrivateKeyJWT
	case client.AuthTLS, client.AuthSelfSignedTLS:
		method = assurance.MTLS
	}
	return assurance.Proof{Method: method, Subject: r.subject, Credential: r.origin.ID, At: at, Source: "store:" + r.origin.ID}
}

// delegation finds the delegation that the token will hang on, or prepares it.
func (g exchangeGrant) delegation(ctx context.Context, t *tokenRequest, x *exchange) error {
	d, err := g.s.Grants.Delegation(ctx, x.leaf, t.client.ID)
	if x.found = err == nil; x.found {
		x.handover = d
		return nil
	}
	if !problem.Refusal(err) {
		return err
	}
	x.handover = grant.Delegation{
		ID: id.New(id.Delegation), Parent: x.leaf, Subject: x.root.subject, Origin: x.root.origin.ID,
		Client: t.client.ID, Actor: t.client.Service, Depth: x.root.depth + 1, CreatedAt: t.rows.now.UTC(),
	}
	if x.root.grant != nil {
		x.handover.Grant = x.root.grant.ID
	}
	return nil
}

// entitled says whether this client may exchange this token. It is judged within
// the act, so that who tries without a right is on record.
func (x *exchange) entitled(t *tokenRequest, f *act.Facts) error {
	c, actor := x.claims, x.service.Subject
	why := ""
	switch own := c.ClientID == t.client.ClientID; {
	case c.MayAct != nil && (c.MayAct.Subject != actor || c.MayAct.Issuer != ""):
		why = "may_act names another actor"
	case c.MayAct == nil && !own && (x.at == nil || !slices.Contains(x.at.Servers, t.client.ID)):
		why = "the token is neither for this client nor given to it"
	case c.Subject == actor:
		why = "a service does not act for itself"
	case c.Actor.Names(actor, ""):
		why = "the service is in the chain already"
	case x.root.depth+1 > grant.MaxActors:
		why = "the chain has as many actors as there may be"
	case c.Confirmation != nil && t.bound() == (binding{}):
		return unbound("Tokens that are exchanged for a bound one")
	case own && !t.shows(c.Confirmation):
		return errSubjectToken.Because(act.Wrong{Way: act.WaySubject, Whose: x.root.subject, Cause: problem.New(problem.Denied, "exchange_refused", "the token is bound to another key")})
	case x.found && !x.handover.Node.Live():
		why = "the delegation is frozen"
	case handled(f.Nodes)+1 > lineage.MaxHandles:
		why = "the token would descend from too many others"
	}
	if why != "" {
		return errSubjectToken.Because(problem.New(problem.Denied, "exchange_refused", why))
	}
	return nil
}

// shows reports whether a request comes with the key, and the certificate, that a
// token is bound to; a token that is not bound asks for none.
func (t *tokenRequest) shows(c *jose.Confirmation) bool {
	return c == nil || (c.JKT == "" || c.JKT == t.jkt()) && (c.X5TS256 == "" || c.X5TS256 == thumbprint(t.certs))
}

// handled counts the nodes that lin has a handle of.
func handled(nodes []lineage.Node) (n int) {
	for _, x := range nodes {
		if x.Kind.Named() {
			n++
		}
	}
	return n
}

// parts are what the record says, of the person if it is one's authority.
func (x *exchange) parts(t *tokenRequest) []audit.Part {
	body := map[string]any{"delegation": x.handover.ID, "actor": t.client.Service, "depth": x.root.depth + 1}
	if x.root.grant == nil {
		return []audit.Part{{Body: body}}
	}
	body["grant"] = x.root.grant.ID
	return []audit.Part{{Person: x.root.subject, Body: body}}
}

// seal makes the token: the subject's authentication as it was, never newer or
// higher, and only for who understands act (mechanisms G2, G4, G7).
func (g exchangeGrant) seal(seal act.Sealing, t *tokenRequest, x *exchange, given []string) (any, error) {
	c := x.claims
	life := min(lifetime(seal.Decision), c.ExpiresAt.Time().Sub(seal.At))
	if life < time.Second {
		return nil, errSubjectToken
	}
	node := lineage.Node{ID: x.handover.ID, Kind: lineage.Delegation}
	tok := accessToken{
		subject: c.Subject, client: t.client.Client, audience: x.target.URI, scopes: given, life: life,
		bound: t.bound(), nodes: append(slices.Clone(seal.Facts.Nodes), node), mayAct: t.mayAct, details: x.details,
		acting: &acting{
			actor:      &jose.Actor{Subject: x.service.Subject, SubProfile: "service", Actor: c.Actor},
			assurance:  &jose.Assurance{Actors: []jose.ActorAssurance{g.shown(seal, t, x)}},
			delegation: node,
		},
	}
	if c.Assurance != nil {
		tok.acting.assurance.Actors = append(tok.acting.assurance.Actors, c.Assurance.Actors...)
	}
	if x.target.DelegationAware && c.ACR != "" {
		tok.acr, tok.pair = c.ACR, assurance.Pair{AMR: c.AMR, AuthTime: c.AuthTime.Time()}
		tok.acting.assurance.Human = &jose.HumanAssurance{Rung: int(g.s.Ladder.RungOf(c.ACR)), At: c.AuthTime}
	}
	if err := mustHave(tok.nodes, x.leaf); err != nil {
		return nil, err
	}
	text, err := g.s.sign(seal, tok)
	return &tokenResponse{
		AccessToken: text, IssuedTokenType: typeAccessToken, TokenType: t.bound().tokenType(), ExpiresIn: int64(life.Seconds()), Scope: joinScopes(given),
		Details: x.details,
	}, err
}

// shown is what the actor proved: its client authenticated.
func (g exchangeGrant) shown(seal act.Sealing, t *tokenRequest, x *exchange) jose.ActorAssurance {
	rung := assurance.Evaluate(t.client.Service, t.client.proofs, seal.At).MachineRung
	return jose.ActorAssurance{Subject: x.service.Subject, Rung: assurance.MachineName(rung), At: jose.Date(seal.At)}
}

// exchangeError is what a client is told whose exchange policy refuses, or whose
// token ended meanwhile (RFC 8693 §2.2.2).
func exchangeError(_ context.Context, err error) error {
	switch p := problem.From(err); {
	case p == nil:
		return err
	case p.Kind == problem.Denied, p.Kind == problem.StepUp, p.Kind == problem.NotFound, p.Kind == problem.Unauthenticated, p.Code == "invalid_target":
		return errSubjectToken.Because(err)
	}
	return err
}

// mayAct is the claim of the same name in tokens of a client: the service of the
// one client that its registration names. It is said even when that one has
// ended, because then nobody may.
func mayAct(ctx context.Context, t *tokenRequest) (*jose.Actor, error) {
	if t.client.MayAct == "" {
		return nil, nil
	}
	other, err := t.rows.clientByClientID(ctx, t.client.MayAct)
	if err != nil {
		return nil, err
	}
	svc, err := t.rows.service(ctx, other.Service)
	if err != nil {
		return nil, err
	}
	return &jose.Actor{Subject: svc.Subject}, nil
}
