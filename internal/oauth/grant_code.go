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

	"github.com/countersign-dev/countersign/internal/account"
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

// redemption is what a person's answer stands for, with its key, and what
// redeeming it opens.
type redemption struct {
	by      client.GrantType
	now     time.Time
	key     once.Key
	value   once.Value
	code    grant.Code
	grant   grant.Grant
	family  *grant.Family
	first   grant.Token
	details []resource.Element // of the first token
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
	red := &redemption{by: client.AuthorizationCode, now: t.rows.now, key: once.KeyOf(once.Code, v.Reveal())}
	red.value, err = g.s.State.OnceValue(ctx, once.Code, red.key)
	if err != nil {
		if problem.Refusal(err) {
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
	res, err := codeResource(ctx, t, red.code.Resources)
	if err != nil {
		return nil, err
	}
	if !red.value.UsedAt.IsZero() {
		return nil, g.s.reused(ctx, t, red, red.value.UsedAt, red.value.Ref)
	}
	return g.s.redeem(ctx, t, red, res)
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
	return g.s.missed(ctx, t, red, why, errCode)
}

// missed counts a failed binding of a genuine value that is not spent yet, and
// gives the refusal.
func (s *Server) missed(ctx context.Context, t *tokenRequest, red *redemption, why string, refusal *problem.Error) error {
	if red.value.UsedAt.IsZero() {
		err := t.do(ctx, act.Intent{
			Action: policy.CodeMissed, Kind: audit.TokenRefused, Refs: act.Refs{Kind: policy.KindSystem, Target: []string{red.value.Bound}},
			Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
				return act.Effect{
					Changes: []act.Change{once.Miss{Purpose: red.value.Purpose, Key: red.key}},
					Parts:   []audit.Part{{Person: red.code.Person, Body: map[string]any{"client": t.client.ID, "why": why}}},
				}, nil
			},
		})
		if err != nil && !problem.Refusal(err) {
			return err
		}
	}
	return refusal.Because(act.Wrong{Way: act.WayAuthorization, Whose: red.code.Person, Cause: problem.New(problem.Invalid, "code_binding", why)})
}

func pkceMatches(verifier, challenge string) bool {
	if len(verifier) < 43 || len(verifier) > 128 || challenge == "" {
		return false
	}
	sum := sha256.Sum256([]byte(verifier))
	return hmac.Equal([]byte(base64.RawURLEncoding.EncodeToString(sum[:])), []byte(challenge))
}

// redeem is the act of giving a client what a person's answer stands for,
// however that was carried to it.
func (s *Server) redeem(ctx context.Context, t *tokenRequest, red *redemption, res *resource.Resource) (*pendingIssue, error) {
	c := red.code
	person, err := t.rows.person(ctx, c.Person)
	if err != nil {
		return nil, err
	}
	if red.details, err = detailsFor(t, res, c.Details); err != nil {
		return nil, err
	}
	s.openGrant(red, t)
	scopes := c.Scopes
	if len(t.scopes) > 0 { // a token request may only narrow
		if len(without(t.scopes, scopes)) > 0 {
			return nil, invalid("invalid_scope", "The token request may only narrow what was granted.")
		}
		scopes = t.scopes
	}
	scopes = askable(t.client.Client, scopes)
	p := &pendingIssue{answer: answerValue, Intent: act.Intent{
		Action: policy.TokenIssue, Kind: audit.TokenIssued,
		Refs: act.Refs{
			Kind: policy.KindPerson, Actor: c.Person, Client: c.Client, Resource: resourceID(res),
			Scopes: atResource(scopes, res, c.Elevated), Credential: credentials(c.Proofs), Under: under(c),
		},
		From:   act.Origin{Device: c.Device},
		Proofs: c.Proofs, Details: judgedAt(red.details, res),
		Spend: []once.Spend{{Purpose: red.value.Purpose, Key: red.key, Ref: red.grant.ID}},
	}}
	var given []string
	p.Changes = func(f *act.Facts, d policy.Decision) (act.Effect, error) {
		given = released(scopes, res, d, c.Elevated)
		red.within(policy.Shorter(c.Life, d.MaxGrant))
		eff := act.Effect{
			Changes: []act.Change{grant.Open{Grant: red.grant, Credentials: credentials(c.Proofs)}},
			Leaf:    red.grant.ID, Detail: issued{given, string(red.by)},
			Parts: []audit.Part{{Person: c.Person, Body: map[string]any{"session": c.Session, "grant": red.grant.ID, "acr": c.ACR}}},
		}
		if red.family != nil {
			eff.Changes = append(eff.Changes, grant.OpenFamily{Family: *red.family})
			eff.Leaf = red.family.ID
		}
		return eff, nil
	}
	p.Seal = func(seal act.Sealing) (any, error) {
		return s.sealGrant(seal, t, red, res, person, given)
	}
	// Another redemption may have spent the code first.
	p.failed = func(ctx context.Context, err error) error {
		if used, ok := act.Spent(err); ok && used.Purpose == red.value.Purpose {
			return s.reused(ctx, t, red, used.At, used.Ref)
		}
		return err
	}
	return p, nil
}

// openGrant prepares the grant and, if the client is registered for refresh, its
// family (clients.md: refresh tokens follow grant_types).
func (s *Server) openGrant(red *redemption, t *tokenRequest) {
	c, now := red.code, red.now.UTC()
	red.grant = grant.Grant{
		ID: id.New(id.Grant), Person: c.Person, Client: c.Client, Session: c.Session, Device: c.Device, Consent: c.Consent,
		Resources: c.Resources, Scopes: c.Scopes, Pair: c.Pair, ACR: c.ACR, Proofs: c.Proofs, Claims: c.Claims, Details: c.Details,
		CreatedAt: now, ExpiresAt: now.Add(grant.FamilyLifetime), UsedAt: now,
	}
	if !t.client.Allows(client.RefreshToken) {
		return
	}
	fam := id.New(id.Family)
	raw, _ := id.Parse(id.Family, fam)
	red.first = grant.FirstToken(raw)
	red.family = &grant.Family{
		ID: fam, Grant: red.grant.ID, Client: c.Client, Person: c.Person,
		Static: t.client.Asymmetric(), CurHash: red.first.Hash(), RotatedAt: now,
		Network: t.network, KeyVersion: s.Keys.CurrentRT(), CreatedAt: now,
		ExpiresAt: red.grant.ExpiresAt, IdleUntil: now.Add(grant.FamilyIdle),
	}
	to := familyKey(t)
	red.family.JKT, red.family.X5T = to.jkt, to.x5t
	if red.family.Static { // nothing moves its idle end on, and its holder proves a key each time (D10)
		red.family.IdleUntil = red.family.ExpiresAt
	}
}

// within ends what is opened after a life, 0 for none that policy set.
func (red *redemption) within(life time.Duration) {
	if life == 0 {
		return
	}
	end := red.grant.CreatedAt.Add(life)
	if end.Before(red.grant.ExpiresAt) {
		red.grant.ExpiresAt = end
	}
	if f := red.family; f != nil && end.Before(f.ExpiresAt) {
		f.ExpiresAt = end
		if end.Before(f.IdleUntil) {
			f.IdleUntil = end
		}
	}
}

// familyKey is what a refresh family is bound to: public clients' as their tokens
// are, confidential ones' to client authentication (RFC 9449 §5, RFC 8705 §7.1).
func familyKey(t *tokenRequest) binding {
	if t.client.Confidential() {
		return binding{}
	}
	return t.bound()
}

func (s *Server) sealGrant(seal act.Sealing, t *tokenRequest, red *redemption, res *resource.Resource, who *account.Person, given []string) (any, error) {
	c := red.code
	nodes := append(slices.Clone(seal.Facts.Nodes), lineage.Node{ID: red.grant.ID, Kind: lineage.Grant})
	if red.family != nil {
		nodes = append(nodes, lineage.Node{ID: red.family.ID, Kind: lineage.Family})
	}
	if err := mustHave(nodes, c.Session); err != nil {
		return nil, err
	}
	sub, err := s.subject(t.client.Client, who)
	if err != nil {
		return nil, err
	}
	life := lifetime(seal.Decision)
	text, err := s.sign(seal, accessToken{
		subject: sub, client: t.client.Client, audience: s.audience(res), scopes: given, life: life,
		bound: t.bound(), nodes: nodes, session: c.Session, pair: c.Pair, acr: c.ACR, mayAct: t.mayAct, details: red.details,
	})
	if err != nil {
		return nil, err
	}
	out := &tokenResponse{AccessToken: text, TokenType: t.bound().tokenType(), ExpiresIn: int64(life.Seconds()), Scope: joinScopes(given), Details: red.details}
	if red.family != nil {
		out.RefreshToken = red.first.Text(s.Keys).Reveal()
	}
	if slices.Contains(c.Scopes, "openid") {
		out.IDToken, err = s.idToken(seal, idTokenFor{
			subject: sub, who: who, client: t.client.Client, nonce: c.Nonce, pair: c.Pair, acr: c.ACR, session: c.Session, scopes: c.Scopes, asked: c.Claims.IDToken,
		})
	}
	return out, err
}

// twice is what a second presentation does, by what was presented: for how long
// it is only refused, and how ending what the first one opened is recorded.
var twice = map[once.Purpose]struct {
	grace time.Duration
	kind  audit.Kind
	err   error
}{
	once.Code:        {grant.ReuseGrace, audit.CodeReused, errCode},
	once.DeviceCode:  {time.Second, audit.DeviceReused, byDevice.unknown},
	once.Backchannel: {time.Second, audit.CIBAReused, byBackchannel.unknown},
}

// reused answers a code that was redeemed before and passes every check again:
// within its grace it is only refused, later what it issued ends (D17).
func (s *Server) reused(ctx context.Context, t *tokenRequest, red *redemption, at time.Time, issued string) error {
	how := twice[red.value.Purpose]
	ends := red.now.Sub(at) > how.grace && issued != ""
	in := act.Intent{Action: policy.CodeReused, Kind: audit.TokenRefused, Refs: act.Refs{Kind: policy.KindSystem}}
	about := map[string]any{"client": t.client.ID, "grant": issued, "ended": ends, "why": "the code was redeemed before"}
	eff := act.Effect{Parts: []audit.Part{{Person: red.code.Person, Body: about}}}
	if ends {
		in.Kind, in.Refs.Target = how.kind, []string{issued}
		eff.Changes = []act.Change{lineage.End{ID: issued, Why: "code_reused"}}
	}
	in.Changes = func(*act.Facts, policy.Decision) (act.Effect, error) { return eff, nil }
	if err := t.do(ctx, in); err != nil {
		return err
	}
	return how.err
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
