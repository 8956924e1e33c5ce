package oauth

import (
	"context"
	"slices"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/resource"
)

// refreshGrant is the refresh token grant (RFC 6749 §6), exactly as mechanisms
// D4 to D14 say.
type refreshGrant struct{ s *Server }

// presentation is one refresh token presented, judged anew in each try.
type presentation struct {
	token   grant.Token
	family  grant.Family
	grant   grant.Grant
	verdict grant.Verdict
	next    grant.Token // what is handed out
	details []resource.Element
	fresh   bool // the family was read for this try
}

// codeAhead is of a refresh token with a right tag and of a generation that its
// family has not come to: the database has gone back in time.
const codeAhead = "refresh_from_the_future"

var errRefresh = invalid("invalid_grant", "The refresh token is unknown, expired, used before or revoked.")

func (g refreshGrant) intent(ctx context.Context, t *tokenRequest) (*pendingIssue, error) {
	text := t.form.Get("refresh_token")
	if text == "" {
		return nil, invalid("invalid_request", "refresh_token is missing.")
	}
	pr := &presentation{}
	var err error
	if pr.token, err = grant.ReadToken(text, g.s.Keys); err != nil {
		return nil, err
	}
	if err := g.read(ctx, t, pr); err != nil {
		return nil, err
	}
	if err := g.bindings(ctx, t, pr); err != nil {
		return nil, err
	}
	res, scopes, err := g.wanted(ctx, t, pr.grant)
	if err != nil {
		return nil, err
	}
	if pr.details, err = detailsFor(t, res, pr.grant.Details); err != nil {
		return nil, err
	}
	person, err := t.rows.person(ctx, pr.family.Person)
	if err != nil {
		return nil, err
	}
	p := &pendingIssue{Intent: act.Intent{
		Action: policy.TokenRefresh, Kind: audit.TokenRefreshed,
		Refs: act.Refs{
			Kind: policy.KindPerson, Actor: pr.family.Person, Grant: pr.grant.ID, Family: pr.family.ID,
			Client: pr.family.Client, Resource: resourceID(res), Scopes: atResource(scopes, res, nil),
		},
		From:    act.Origin{TokenAge: g.s.now().Sub(pr.grant.CreatedAt)},
		Details: judgedAt(pr.details, res),
		Prepare: func(ctx context.Context) error { return g.again(ctx, pr) },
	}}
	var given []string
	p.Changes = func(f *act.Facts, d policy.Decision) (act.Effect, error) {
		given = released(scopes, res, d, nil)
		return g.decide(t, pr, given, f.Input.Context.Now)
	}
	p.Seal = func(seal act.Sealing) (any, error) { return g.seal(seal, t, pr, res, person, given) }
	p.answer = func(out act.Outcome) (*tokenResponse, error) {
		if res, ok := out.Value.(*tokenResponse); ok {
			return res, nil
		}
		return nil, errRefresh
	}
	p.lost = func(ctx context.Context) error { return g.lost(ctx, pr) }
	p.failed = func(_ context.Context, err error) error { return notNow(err) }
	return p, nil
}

// read reads the family and its grant.
func (g refreshGrant) read(ctx context.Context, t *tokenRequest, pr *presentation) (err error) {
	if pr.family, err = g.s.Grants.Family(ctx, pr.token.FamilyID()); err != nil {
		return asRefused(err)
	}
	gr, err := t.rows.grant(ctx, pr.family.Grant)
	if err != nil {
		return asRefused(err)
	}
	pr.grant, pr.fresh = *gr, true
	return nil
}

// again reads the family before each further try, because a rotation elsewhere
// moves it.
func (g refreshGrant) again(ctx context.Context, pr *presentation) (err error) {
	if !pr.fresh {
		if pr.family, err = g.s.Grants.Family(ctx, pr.token.FamilyID()); err != nil {
			return asRefused(err)
		}
	}
	pr.fresh = false
	return nil
}

// lost keeps the window of a rotation open for the network that asked: the client
// was gone before its answer was written, and comes back with the old token
// (mechanisms D9).
func (g refreshGrant) lost(ctx context.Context, pr *presentation) error {
	if pr.family.Static || pr.verdict != grant.Current && pr.verdict != grant.Replayed {
		return nil
	}
	f := pr.family
	_, err := g.s.Do.Do(ctx, act.Intent{
		Action: policy.RefreshLost, Kind: audit.RefreshLost, Refs: act.Refs{Kind: policy.KindSystem, Target: []string{f.ID}},
		Changes: func(_ *act.Facts, _ policy.Decision) (act.Effect, error) {
			return act.Effect{
				Changes: []act.Change{grant.Lost{ID: f.ID, Gen: pr.next.Gen, NetUntil: g.s.now().Add(grant.WindowLost)}},
				Parts:   []audit.Part{{Person: f.Person, Body: map[string]any{"family": f.ID, "generation": pr.next.Gen}}},
			}, nil
		},
	})
	return err
}

func asRefused(err error) error {
	if problem.Refusal(err) {
		return errRefresh.Because(err)
	}
	return err
}

// bindings are the checks before any state (D4): client and key. A failure
// changes nothing and is an event.
func (g refreshGrant) bindings(ctx context.Context, t *tokenRequest, pr *presentation) error {
	why := ""
	switch {
	case pr.family.Client != t.client.ID:
		why = "another client presented the refresh token"
	case pr.family.JKT != "" && pr.family.JKT != t.jkt():
		why = "the refresh token is bound to another key"
	case pr.family.X5T != "" && pr.family.X5T != thumbprint(t.certs):
		why = "the refresh token is bound to another certificate"
	}
	if why == "" {
		return nil
	}
	err := t.do(ctx, act.Intent{
		Action: policy.RefreshMisused, Kind: audit.TokenRefused,
		Refs: act.Refs{Kind: policy.KindSystem, Target: []string{pr.family.ID}},
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
			return act.Effect{Parts: []audit.Part{{Person: pr.family.Person, Body: map[string]any{"client": t.client.ID, "family": pr.family.ID, "why": why}}}}, nil
		},
	})
	if err != nil && !problem.Refusal(err) {
		return err
	}
	return errRefresh.Because(act.Wrong{Way: act.WayRefresh, Whose: pr.family.Person, Cause: problem.New(problem.Invalid, "refresh_binding", why)})
}

// wanted is the resource and scopes of the new access token: absent, the granted
// set; otherwise only narrower (RFC 6749 §6, RFC 8707 §2.2).
func (g refreshGrant) wanted(ctx context.Context, t *tokenRequest, gr grant.Grant) (*resource.Resource, []string, error) {
	res, err := codeResource(ctx, t, gr.Resources)
	if err != nil {
		return nil, nil, err
	}
	scopes := askable(t.client.Client, gr.Scopes)
	if len(t.scopes) > 0 {
		if extra := without(t.scopes, gr.Scopes); len(extra) > 0 {
			return nil, nil, invalid("invalid_scope", "A refresh may only narrow what was granted; it was not granted: "+joinScopes(extra))
		}
		scopes = askable(t.client.Client, t.scopes)
	}
	return res, scopes, nil
}

// decide is the state machine of D5, pure: from the family just read and the
// token presented to what is written.
func (g refreshGrant) decide(t *tokenRequest, pr *presentation, given []string, now time.Time) (act.Effect, error) {
	f := pr.family
	eff := act.Effect{Leaf: f.ID, Detail: issued{given, "refresh_token"}}
	about := map[string]any{"family": f.ID, "generation": pr.token.Gen}
	eff.Parts = []audit.Part{{Person: f.Person, Body: about}}
	pr.verdict = f.Judge(pr.token, t.network, now)
	key, ok := g.s.Keys.RT(f.KeyVersion)
	if !ok {
		return eff, problem.New(problem.Unavailable, "no_keys", "The key of this refresh token is not here.")
	}
	if len(t.scopes) > 0 && len(given) == 0 && (pr.verdict == grant.Current || pr.verdict == grant.Replayed) {
		return eff, invalid("invalid_scope", "These scopes are asked for again each time: start an authorization.")
	}
	switch pr.verdict {
	case grant.Current:
		if used, late := pr.grant.Used(now); late {
			eff.Changes = []act.Change{used}
		}
		if f.Static {
			pr.next = pr.token
			return eff, nil
		}
		salt := grant.Salt()
		pr.next = pr.token.Next(key, salt)
		eff.Changes = append(eff.Changes, f.Rotation(pr.token, pr.next, salt, t.network, t.client.Native, now))
	case grant.Replayed:
		if pr.next, ok = f.Newest(pr.token, key); !ok {
			return eff, problem.New(problem.Unavailable, "refresh_inconsistent", "The refresh token cannot be renewed right now.")
		}
		eff.Kind = audit.RefreshReplayed
		eff.Changes = []act.Change{grant.Replay{ID: f.ID, Gen: f.Gen}}
	case grant.Reused:
		// The act is to end the family; the client is refused.
		eff.Kind, eff.Leaf, eff.Against = audit.RefreshReused, "", true
		about["ended"] = true
		eff.Changes = []act.Change{lineage.End{ID: f.ID, Why: "refresh_reused"}, lineage.End{ID: f.Grant, Why: "refresh_reused"}}
	case grant.Future: // genuine, and this database has not made it yet (mechanisms I13)
		return eff, problem.New(problem.Unavailable, codeAhead, "The server's data seems older than this token. Nothing was changed.")
	default:
		return eff, errRefresh
	}
	return eff, nil
}

func (g refreshGrant) seal(seal act.Sealing, t *tokenRequest, pr *presentation, res *resource.Resource, who *account.Person, given []string) (any, error) {
	if pr.verdict == grant.Reused {
		return nil, nil
	}
	gr := pr.grant
	sub, err := g.s.subject(t.client.Client, who)
	if err != nil {
		return nil, err
	}
	life := lifetime(seal.Decision)
	text, err := g.s.sign(seal, accessToken{
		subject: sub, client: t.client.Client, audience: g.s.audience(res), scopes: given, life: life,
		bound: t.bound(), nodes: seal.Facts.Nodes, session: gr.Session, pair: gr.Pair, acr: gr.ACR, mayAct: t.mayAct, details: pr.details,
	})
	if err != nil {
		return nil, err
	}
	out := &tokenResponse{
		AccessToken: text, TokenType: t.bound().tokenType(), ExpiresIn: int64(life.Seconds()),
		Scope: joinScopes(given), Details: pr.details, RefreshToken: pr.next.Text(g.s.Keys).Reveal(),
	}
	if slices.Contains(gr.Scopes, "openid") && slices.Contains(given, "openid") {
		out.IDToken, err = g.s.idToken(seal, idTokenFor{subject: sub, who: who, client: t.client.Client, pair: gr.Pair, acr: gr.ACR, session: gr.Session})
	}
	return out, err
}

// codeResource is the resource of a token made from a grant: the one asked for,
// which must be granted, or the grant's first; nil is the server itself.
func codeResource(ctx context.Context, t *tokenRequest, granted []string) (*resource.Resource, error) {
	res := t.resource
	switch {
	case res != nil && !slices.Contains(granted, res.ID):
		return nil, invalid("invalid_target", "That resource was not granted; ask the person for it.")
	case res == nil && len(granted) == 0:
		return nil, nil
	case res == nil:
		var err error
		if res, err = t.rows.resource(ctx, granted[0]); err != nil {
			return nil, err
		}
	}
	if !mayUse(t.client.Client, res.ID) { // not any more
		return nil, invalid("invalid_target", "The client is not registered for this resource.")
	}
	return res, constrained(t, res)
}

// audience is the registered spelling; tokens for the server itself carry the
// issuer.
func (s *Server) audience(res *resource.Resource) string {
	if res == nil {
		return s.Issuer
	}
	return res.URI
}

func resourceID(res *resource.Resource) string {
	if res == nil {
		return ""
	}
	return res.ID
}

// atResource are the scopes that a resource knows and that this answer may carry:
// conditional ones only if elevated.
func atResource(scopes []string, res *resource.Resource, elevated []string) []string {
	var out []string
	for _, name := range scopes {
		if res == nil {
			break
		}
		if sc, ok := res.Scope(name); ok && (!sc.Conditional() || slices.Contains(elevated, name)) {
			out = append(out, name)
		}
	}
	return out
}

// released are the scopes a token gets: the identity scopes, and those of its
// resource that policy did not withhold. A conditional scope is given only with
// the response that elevated it (mechanisms D12, D13).
func released(scopes []string, res *resource.Resource, d policy.Decision, elevated []string) []string {
	out := make([]string, 0, len(scopes))
	for _, name := range scopes {
		if isIdentity(name) {
			out = append(out, name)
			continue
		}
		if res == nil {
			continue
		}
		sc, ok := res.Scope(name)
		if !ok || slices.Contains(d.Withheld, name) || sc.Conditional() && !slices.Contains(elevated, name) {
			continue
		}
		out = append(out, name)
	}
	return out
}

// under are the ancestors that a code's grant will have.
func under(c grant.Code) []string {
	out := []string{c.Session, c.Client}
	if c.Consent != "" {
		out = append(out, c.Consent)
	}
	return out
}
