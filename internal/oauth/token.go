package oauth

import (
	"context"
	"crypto/x509"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/jwks"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/resource"
	"github.com/countersign-dev/countersign/internal/web"
)

// maxForm is the most a token request may be.
const maxForm = 64 << 10

// tokenRequest is a token request whose client and key are established; grant
// types see nothing earlier.
type tokenRequest struct {
	form     web.Form
	client   *caller
	key      *proof              // nil without DPoP
	certs    []*x509.Certificate // of the connection, the client's own first
	scopes   []string
	resource *resource.Resource // nil: not asked for
	network  string
	rows     rows
	mayAct   *jose.Actor // who alone may act with tokens of this client; nil: its registration does not say
	acted    bool        // something was recorded already: the request is not judged again
}

func (t *tokenRequest) jkt() string {
	if t.key == nil {
		return ""
	}
	return t.key.jkt
}

// do carries out an act that is not the request's own: an event about it.
func (t *tokenRequest) do(ctx context.Context, in act.Intent) error {
	t.acted = true
	_, err := t.rows.s.Do.Do(ctx, in)
	return err
}

// grantType is a grant of the token endpoint. The endpoint owns client
// authentication, the sender constraint, act.Do and rendering; a grant fills
// these hooks.
type grantType interface {
	// intent reads the grant's parameters, checks its bindings and says what is
	// to be done. The endpoint adds the client's and the key's spends.
	intent(ctx context.Context, t *tokenRequest) (*pendingIssue, error)
}

// pendingIssue is a grant's intent and where its answer will be.
type pendingIssue struct {
	act.Intent
	answer func(act.Outcome) (*tokenResponse, error)
	// lost, if not nil, is called when the client was gone before it had its
	// answer (mechanisms D9).
	lost func(context.Context) error
	// failed, if not nil, turns what act.Do answered into the protocol's error,
	// and may act on it (a reused code).
	failed func(context.Context, error) error
}

// tokenResponse is RFC 6749 §5.1 with OpenID Connect's id_token.
type tokenResponse struct {
	AccessToken     string             `json:"access_token"`
	IssuedTokenType string             `json:"issued_token_type,omitempty"` // of token exchange (RFC 8693 §2.2.1)
	TokenType       string             `json:"token_type"`
	ExpiresIn       int64              `json:"expires_in"`
	Scope           string             `json:"scope"`
	Details         []resource.Element `json:"authorization_details,omitempty"`
	RefreshToken    string             `json:"refresh_token,omitempty"`
	IDToken         string             `json:"id_token,omitempty"`
}

// grants are the grant types on offer.
var grants = [...]struct {
	name client.GrantType
	make func(*Server) grantType
}{
	{client.AuthorizationCode, func(s *Server) grantType { return codeGrant{s} }},
	{client.RefreshToken, func(s *Server) grantType { return refreshGrant{s} }},
	{client.ClientCredentials, func(s *Server) grantType { return clientGrant{s} }},
	{client.JWTBearer, func(s *Server) grantType { return assertionGrant{s} }},
	{client.TokenExchange, func(s *Server) grantType { return exchangeGrant{s} }},
	{client.DeviceCode, func(s *Server) grantType { return polledGrant{s, byDevice} }},
	{client.CIBA, func(s *Server) grantType { return polledGrant{s, byBackchannel} }},
}

// offers reports whether a grant type is on in this deployment.
func (s *Server) offers(name client.GrantType) bool {
	return (name != client.DeviceCode || s.Device) && (name != client.CIBA || s.Backchannel)
}

func (s *Server) grantType(name client.GrantType) (grantType, bool) {
	for _, g := range grants {
		if g.name == name && s.offers(name) {
			return g.make(s), true
		}
	}
	return nil, false
}

// token is the token endpoint: form, client authentication, sender constraint,
// the grant's intent, act.Do, render. Nothing before act.Do changes anything
// (mechanisms D15).
func (s *Server) token(w http.ResponseWriter, r *http.Request) error {
	res, p, err := s.exchange(w, r)
	if err != nil {
		s.refusedQuietly(r, "token", err)
		if problem.CodeOf(err) == codeAhead && s.Ahead != nil {
			if err := s.Ahead(context.WithoutCancel(r.Context())); err != nil {
				note(r, "gone_back", err.Error())
			}
		}
		return renderError(w, r, err)
	}
	err = web.JSON(w, http.StatusOK, res)
	if p.lost != nil && (err != nil || r.Context().Err() != nil) {
		if err := p.lost(context.WithoutCancel(r.Context())); err != nil {
			note(r, "lost_answer", err.Error())
		}
	}
	return err
}

// exchange answers a token request. It first takes rows from memory; what they
// may be to blame for is judged again on rows read anew.
func (s *Server) exchange(w http.ResponseWriter, r *http.Request) (*tokenResponse, *pendingIssue, error) {
	f, err := web.ParseForm(r, maxForm, "resource")
	if err != nil {
		return nil, nil, err
	}
	for try := range 4 {
		t := &tokenRequest{form: f, rows: rows{s: s, now: s.now(), recall: try == 0}}
		t.rows.seen = make([]act.Version, 0, 4)
		var p *pendingIssue
		var res *tokenResponse
		if p, err = s.prepare(w, r, t); err == nil {
			res, err = s.issue(r.Context(), t, p)
		}
		if err != nil && (errors.Is(err, errMoved) || t.rows.old) && !t.acted && !errors.Is(err, jwks.ErrUnavailable) {
			continue // what was waited for once is not waited for again
		}
		if t.client != nil {
			note(r, "client", shortID(t.client.Client))
			note(r, "grant", asciiOnly(f.Get("grant_type")))
		}
		return res, p, err
	}
	if errors.Is(err, errMoved) {
		err = contended.Because(err)
	}
	return nil, nil, err
}

var contended = problem.New(problem.Unavailable, "contended", "Others are changing the same thing right now. Nothing was issued.")

// prepare reads the request up to what is to be done: client authentication,
// sender constraint, bindings.
func (s *Server) prepare(w http.ResponseWriter, r *http.Request, t *tokenRequest) (*pendingIssue, error) {
	ctx, f := r.Context(), t.form
	c, err := s.authenticate(ctx, r, f, t.rows.clientByClientID)
	if err != nil {
		return nil, err
	}
	t.client = c
	name := client.GrantType(f.Get("grant_type"))
	g, known := s.grantType(name)
	switch {
	case name == "":
		return nil, invalid("invalid_request", "grant_type is missing.")
	case !known:
		return nil, invalid("unsupported_grant_type", "This server does not offer that grant type.")
	case !c.Allows(name):
		return nil, invalid("unauthorized_client", "The client is not registered for this grant type.")
	}
	t.network = s.networkOf(r)
	if t.key, err = s.dpop(w, r, ""); err != nil {
		return nil, err
	}
	t.certs = s.certificates(r)
	if err = t.constrained(); err != nil {
		return nil, err
	}
	if t.scopes, err = scopeList(f.Get("scope")); err != nil {
		return nil, err
	}
	if t.resource, err = oneResource(ctx, t, f.All("resource")); err != nil {
		return nil, err
	}
	if t.mayAct, err = mayAct(ctx, t); err != nil {
		return nil, err
	}
	p, err := g.intent(ctx, t)
	if err != nil {
		return nil, grantError(err)
	}
	p.From.Asked, p.From.SignIn = true, p.Refs.Kind == policy.KindService
	// Else it is a server's network, and no person is there; where a device asked, that
	// it is elsewhere than the browser was a part of the ceremony (mechanisms A14).
	if p.From.SignIn || c.Near() && name != client.DeviceCode {
		p.From.Network = t.network
	}
	p.Spend = append(p.Spend, c.spend...)
	if t.key != nil {
		p.Spend = append(p.Spend, t.key.spend)
	}
	changes := p.Changes
	p.Changes = func(f *act.Facts, d policy.Decision) (act.Effect, error) {
		if err := t.rows.same(f); err != nil {
			return act.Effect{}, err
		}
		return changes(f, d)
	}
	return p, nil
}

// unbound refuses a request without a DPoP proof where one is needed.
func unbound(what string) *problem.Error {
	return invalid("invalid_dpop_proof", what+" are bound to a key: send a DPoP proof (RFC 9449).")
}

// issue does it.
func (s *Server) issue(ctx context.Context, t *tokenRequest, p *pendingIssue) (*tokenResponse, error) {
	out, err := s.Do.Do(ctx, p.Intent)
	if err == nil {
		return p.answer(out)
	}
	if errors.Is(err, errMoved) {
		return nil, err
	}
	switch {
	case problem.Refusal(err): // it is recorded by now
		if t.rows.old && s.moved(ctx, t.client.Client) {
			return nil, errMoved
		}
		t.acted = true
	case errors.Is(err, problem.Unavailable): // it was waited for, and may have been done (act.CodeUnknown)
		t.acted = true
	}
	if used, ok := act.Spent(err); ok && (used.Purpose == once.Assertion || used.Purpose == once.DPoP) {
		t.acted = true
		return nil, replayed(used)
	}
	if p.failed != nil {
		err = p.failed(ctx, err)
	}
	return nil, grantError(err)
}

// moved reports whether a client changed since it was read: then what it is to
// be told has to be found out again.
func (s *Server) moved(ctx context.Context, c client.Client) bool {
	now, err := s.Clients.Client(ctx, c.ID)
	return err == nil && now.Node.Version != c.Node.Version
}

// oneResource finds the resource a token is asked for; a token has one audience
// (mechanisms C4).
func oneResource(ctx context.Context, t *tokenRequest, uris []string) (*resource.Resource, error) {
	switch len(uris) {
	case 0:
		return nil, nil
	case 1:
		return t.rows.resourceByURI(ctx, uris[0])
	}
	return nil, invalid("invalid_target", "Ask for one resource at a time: a token has one audience.")
}

// scopeList reads a scope parameter (RFC 6749 §3.3): distinct, in order.
func scopeList(s string) ([]string, error) {
	if s == "" {
		return nil, nil
	}
	var out []string
	for _, v := range strings.Split(s, " ") {
		if v == "" {
			continue
		}
		for _, c := range []byte(v) {
			if c < 0x21 || c == '"' || c == '\\' || c > 0x7e {
				return nil, invalid("invalid_scope", "A scope has only printable ASCII characters, and no quotes (RFC 6749 section 3.3).")
			}
		}
		if !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	if len(out) > 64 {
		return nil, invalid("invalid_scope", "At most 64 scopes can be asked for at once.")
	}
	return out, nil
}

// lifetime is how long a token lives: the default, or less where policy says so:
// a token that carries an elevated scope ends when the proof behind it is too old
// (mechanisms A23).
func lifetime(d policy.Decision) time.Duration {
	if d.MaxLife > 0 {
		return min(TokenLifetime, d.MaxLife)
	}
	return TokenLifetime
}
