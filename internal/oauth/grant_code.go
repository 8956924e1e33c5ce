package oauth

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/resource"
	"github.com/countersign-dev/countersign/internal/secret"
)

// codeGrant redeems an authorization code (RFC 6749 §4.1.3, RFC 7636,
// mechanisms D15–D17).
type codeGrant struct{ s *Server }

// redemption is a code with its key, and what redeeming it opens.
type redemption struct {
	key    once.Key
	value  once.Value
	code   grant.Code
	grant  grant.Grant
	family *grant.Family
	first  grant.Token
}

var errCode = invalid("invalid_grant", "The code is unknown, expired, used before, or was made for another request.")

func (g codeGrant) intent(ctx context.Context, t *tokenRequest) (*pendingIssue, error) {
	text := t.form.Get("code")
	if text == "" {
		return nil, invalid("invalid_request", "code is missing.")
	}
	v, err := secret.Read(secret.Code, text)
	if err != nil {
		return nil, errCode.Because(err)
	}
	red := &redemption{key: once.KeyOf(once.Code, v.Reveal())}
	red.value, err = g.s.State.OnceValue(ctx, once.Code, red.key)
	if err != nil {
		if problem.From(err) != nil {
			return nil, errCode.Because(err)
		}
		return nil, err
	}
	if err := json.Unmarshal(red.value.Data, &red.code); err != nil {
		return nil, err
	}
	if err := g.bindings(ctx, t, red); err != nil {
		return nil, err
	}
	if !red.value.UsedAt.IsZero() {
		return nil, g.reused(ctx, t, red, red.value.UsedAt, red.value.Ref)
	}
	return g.redeem(ctx, t, red)
}

// bindings checks that the code comes from where it was sent to: client,
// redirect, PKCE, key. Five failures burn it (D16).
func (g codeGrant) bindings(ctx context.Context, t *tokenRequest, red *redemption) error {
	c := red.code
	why := ""
	switch {
	case c.Client != t.client.ID:
		why = "another client presented the code"
	case t.form.Has("redirect_uri") && t.form.Get("redirect_uri") != c.RedirectURI:
		why = "redirect_uri is not the one the code was sent to"
	case !pkceMatches(t.form.Get("code_verifier"), c.Challenge):
		why = "code_verifier does not match"
	case c.JKT != "" && c.JKT != t.jkt():
		why = "the code is bound to another key"
	}
	if why == "" {
		return nil
	}
	if red.value.UsedAt.IsZero() {
		_, err := g.s.Do.Do(ctx, act.Intent{
			Action: "code.missed", Kind: audit.TokenRefused, Refs: act.Refs{Kind: "system", Target: []string{c.Client}},
			Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
				return act.Effect{
					Changes: []act.Change{once.Miss{Purpose: once.Code, Key: red.key}},
					Parts:   []audit.Part{{Person: c.Person, Body: map[string]any{"client": t.client.ID, "why": why}}},
				}, nil
			},
		})
		if err != nil && problem.From(err) == nil {
			return err
		}
	}
	return errCode.Because(problem.New(problem.Invalid, "code_binding", why))
}

func pkceMatches(verifier, challenge string) bool {
	if len(verifier) < 43 || len(verifier) > 128 || challenge == "" {
		return false
	}
	sum := sha256.Sum256([]byte(verifier))
	return hmac.Equal([]byte(base64.RawURLEncoding.EncodeToString(sum[:])), []byte(challenge))
}

func (g codeGrant) redeem(ctx context.Context, t *tokenRequest, red *redemption) (*pendingIssue, error) {
	c := red.code
	res, err := g.s.codeResource(ctx, t, c.Resources)
	if err != nil {
		return nil, err
	}
	person, err := g.s.State.Person(ctx, c.Person)
	if err != nil {
		return nil, err
	}
	now := g.s.now().UTC()
	g.open(red, t, now)
	scopes := red.code.Scopes
	if len(t.scopes) > 0 { // a token request may only narrow
		if len(without(t.scopes, scopes)) > 0 {
			return nil, invalid("invalid_scope", "The token request may only narrow what was granted.")
		}
		scopes = t.scopes
	}
	p := &pendingIssue{state: red, Intent: act.Intent{
		Action: "token.issue", Kind: audit.TokenIssued,
		Refs: act.Refs{
			Kind: "person", Actor: c.Person, Client: c.Client, Resource: resourceID(res),
			Scopes: atResource(scopes, res, c.Elevated), Credential: credentials(c.Proofs), Under: under(c),
		},
		Proofs: c.Proofs,
		Spend:  []once.Spend{{Purpose: once.Code, Key: red.key, Ref: red.grant.ID}},
	}}
	var given []string
	p.Changes = func(f *act.Facts, d policy.Decision) (act.Effect, error) {
		given = released(scopes, res, d, c.Elevated)
		eff := act.Effect{
			Changes: []act.Change{grant.Open{Grant: red.grant, Credentials: credentials(c.Proofs)}},
			Leaf:    red.grant.ID, Detail: map[string]any{"scopes": given, "grant_type": "authorization_code"},
			Parts: []audit.Part{{Person: c.Person, Body: map[string]any{"session": c.Session, "grant": red.grant.ID, "acr": c.ACR}}},
		}
		if red.family != nil {
			eff.Changes = append(eff.Changes, grant.OpenFamily{Family: *red.family})
			eff.Leaf = red.family.ID
		}
		return eff, nil
	}
	p.Seal = func(seal act.Sealing) (any, error) {
		return g.seal(seal, t, red, res, person.Subject, person.Name, given)
	}
	p.answer = answerValue
	return p, nil
}

// open prepares the grant and, if the client is registered for refresh, its
// family (clients.md: refresh tokens follow grant_types).
func (g codeGrant) open(red *redemption, t *tokenRequest, now time.Time) {
	c := red.code
	red.grant = grant.Grant{
		ID: id.New(id.Grant), Person: c.Person, Client: c.Client, Session: c.Session, Consent: c.Consent,
		Resources: c.Resources, Scopes: c.Scopes, Pair: c.Pair, ACR: c.ACR, Proofs: c.Proofs,
		CreatedAt: now, ExpiresAt: now.Add(grant.FamilyLifetime), UsedAt: now,
	}
	if !t.client.Allows(client.RefreshToken) {
		return
	}
	fam := id.New(id.Family)
	raw, _ := id.Parse(id.Family, fam)
	red.first = grant.FirstToken(raw)
	red.family = &grant.Family{
		ID: fam, Grant: red.grant.ID, Client: c.Client, Person: c.Person, JKT: familyKey(t),
		Static: t.client.AuthMethod == client.AuthPrivateKeyJWT, CurHash: red.first.Hash(), RotatedAt: now,
		Network: t.network, KeyVersion: g.s.Keys.CurrentRT(), CreatedAt: now,
		ExpiresAt: red.grant.ExpiresAt, IdleUntil: now.Add(grant.FamilyIdle),
	}
}

// familyKey is the key a refresh family is bound to: public clients' are bound
// to the DPoP key, confidential ones' to client authentication (RFC 9449 §5).
func familyKey(t *tokenRequest) string {
	if t.client.Confidential() {
		return ""
	}
	return t.jkt()
}

func (g codeGrant) seal(seal act.Sealing, t *tokenRequest, red *redemption, res *resource.Resource, sub, name string, given []string) (any, error) {
	c := red.code
	nodes := append(slices.Clone(seal.Facts.Nodes), lineage.Node{ID: red.grant.ID, Kind: lineage.Grant})
	if red.family != nil {
		nodes = append(nodes, lineage.Node{ID: red.family.ID, Kind: lineage.Family})
	}
	if err := mustHave(nodes, c.Session); err != nil {
		return nil, err
	}
	until := time.Time{}
	if slices.ContainsFunc(given, func(s string) bool { return slices.Contains(c.Elevated, s) }) {
		until = c.Until
	}
	life := lifetime(seal.At, seal.Decision, until)
	text, err := g.s.sign(seal, accessToken{
		subject: sub, clientID: t.client.ClientID, audience: g.s.audience(res), scopes: given, life: life,
		jkt: t.jkt(), nodes: nodes, session: c.Session, pair: c.Pair, acr: c.ACR,
	})
	if err != nil {
		return nil, err
	}
	out := &tokenResponse{AccessToken: text, TokenType: tokenType(t.jkt()), ExpiresIn: int64(life.Seconds()), Scope: joinScopes(given)}
	if red.family != nil {
		out.RefreshToken = red.first.Text(g.s.Keys).Reveal()
	}
	if slices.Contains(c.Scopes, "openid") {
		out.IDToken, err = g.s.idToken(seal, idTokenFor{subject: sub, name: name, clientID: t.client.ClientID, nonce: c.Nonce, pair: c.Pair, acr: c.ACR, session: c.Session, scopes: c.Scopes})
	}
	return out, err
}

// failed handles a code that another redemption spent first.
func (g codeGrant) failed(ctx context.Context, t *tokenRequest, p *pendingIssue, err error) error {
	if used, ok := act.Spent(err); ok && used.Purpose == once.Code {
		return g.reused(ctx, t, p.state.(*redemption), used.At, used.Ref)
	}
	return err
}

// reused answers a code that was redeemed before and passes every check again:
// within ten seconds it is only refused, later what it issued ends (D17).
func (g codeGrant) reused(ctx context.Context, t *tokenRequest, red *redemption, at time.Time, issued string) error {
	late := g.s.now().Sub(at) > grant.ReuseGrace
	_, err := g.s.Do.Do(ctx, act.Intent{
		Action: "code.reused", Kind: audit.CodeReused, Refs: act.Refs{Kind: "system", Target: nonEmpty(issued)},
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
			eff := act.Effect{Parts: []audit.Part{{Person: red.code.Person, Body: map[string]any{"client": t.client.ID, "grant": issued, "ended": late && issued != ""}}}}
			if late && issued != "" {
				eff.Changes = []act.Change{lineage.End{ID: issued, Why: "code_reused"}}
			}
			return eff, nil
		},
	})
	if err != nil {
		return err
	}
	return errCode
}

func nonEmpty(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

func credentials(proofs []assurance.Proof) []string {
	var out []string
	for _, p := range proofs {
		if strings.HasPrefix(p.Credential, id.Credential) && !slices.Contains(out, p.Credential) {
			out = append(out, p.Credential)
		}
	}
	return out
}

func joinScopes(s []string) string { return strings.Join(s, " ") }
