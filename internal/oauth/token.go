package oauth

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/grant"
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
	key      *proof // nil without DPoP
	scopes   []string
	resource *resource.Resource // nil: not asked for
	network  string
}

func (t *tokenRequest) jkt() string {
	if t.key == nil {
		return ""
	}
	return t.key.jkt
}

// grantType is a grant of the token endpoint. The endpoint owns client
// authentication, the sender constraint, act.Do and rendering; a grant fills
// these hooks.
type grantType interface {
	// intent reads the grant's parameters, checks its bindings and says what is
	// to be done. The endpoint adds the client's and the key's spends.
	intent(ctx context.Context, t *tokenRequest) (*pendingIssue, error)
	// failed may turn what act.Do answered into the protocol's error, and act on
	// it (a reused code).
	failed(ctx context.Context, t *tokenRequest, p *pendingIssue, err error) error
}

// pendingIssue is a grant's intent and where its answer will be.
type pendingIssue struct {
	act.Intent
	answer func(act.Outcome) (*tokenResponse, error)
	state  any // the grant type's own
}

// tokenResponse is RFC 6749 §5.1 with OpenID Connect's id_token.
type tokenResponse struct {
	AccessToken  string `json:"access_token"`
	TokenType    string `json:"token_type"`
	ExpiresIn    int64  `json:"expires_in"`
	Scope        string `json:"scope"`
	RefreshToken string `json:"refresh_token,omitempty"`
	IDToken      string `json:"id_token,omitempty"`
}

func (s *Server) grantTypes() map[client.GrantType]grantType {
	return map[client.GrantType]grantType{
		client.AuthorizationCode: codeGrant{s},
		client.RefreshToken:      refreshGrant{s},
		client.ClientCredentials: clientGrant{s},
	}
}

// token is the token endpoint: form, client authentication, sender constraint,
// the grant's intent, act.Do, render. Nothing before act.Do changes anything
// (mechanisms D15).
func (s *Server) token(w http.ResponseWriter, r *http.Request) error {
	res, err := s.exchange(w, r)
	if err != nil {
		return renderError(w, r, err)
	}
	return web.JSON(w, http.StatusOK, res)
}

func (s *Server) exchange(w http.ResponseWriter, r *http.Request) (*tokenResponse, error) {
	ctx := r.Context()
	f, err := web.ParseForm(r, maxForm, "resource")
	if err != nil {
		return nil, err
	}
	c, err := s.authenticate(ctx, r, f)
	if err != nil {
		s.refusedQuietly("token", err)
		return nil, err
	}
	note(r, "client", c.ClientID)
	gt := client.GrantType(f.Get("grant_type"))
	g, known := s.grantTypes()[gt]
	switch {
	case gt == "":
		return nil, invalid("invalid_request", "grant_type is missing.")
	case !known:
		return nil, invalid("unsupported_grant_type", "This server does not offer that grant type.")
	case !c.Allows(gt):
		return nil, invalid("unauthorized_client", "The client is not registered for this grant type.")
	}
	note(r, "grant", string(gt))
	t := &tokenRequest{form: f, client: c, network: grant.NetworkOf(s.ClientAddr(r))}
	if t.key, err = s.dpop(w, r, ""); err != nil {
		return nil, err
	}
	if t.key == nil && c.RequireDPoP {
		return nil, invalid("invalid_dpop_proof", "This client's tokens are bound to a key: send a DPoP proof (RFC 9449).")
	}
	if t.scopes, err = scopeList(f.Get("scope")); err != nil {
		return nil, err
	}
	if t.resource, err = s.oneResource(ctx, f.All("resource")); err != nil {
		return nil, err
	}
	p, err := g.intent(ctx, t)
	if err != nil {
		return nil, grantError(err)
	}
	p.Spend = append(p.Spend, c.spend...)
	if t.key != nil {
		p.Spend = append(p.Spend, t.key.spend)
	}
	out, err := s.Do.Do(ctx, p.Intent)
	if err != nil {
		if used, ok := act.Spent(err); ok && (used.Purpose == once.Assertion || used.Purpose == once.DPoP) {
			return nil, replayed(used)
		}
		return nil, grantError(g.failed(ctx, t, p, err))
	}
	return p.answer(out)
}

// oneResource finds the resource a token is asked for; a token has one audience
// (mechanisms C4).
func (s *Server) oneResource(ctx context.Context, uris []string) (*resource.Resource, error) {
	switch len(uris) {
	case 0:
		return nil, nil
	case 1:
		res, err := s.Resources.ResourceByURI(ctx, uris[0])
		if problem.From(err) != nil {
			return nil, invalid("invalid_target", "The resource is unknown here (RFC 8707).").Because(err)
		}
		return &res, err
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
				return nil, invalid("invalid_scope", "A scope has only printable ASCII characters, and no quotes (RFC 6749 §3.3).")
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

// lifetime is how long a token lives: the default, what policy allows, and no
// longer than what elevated it (mechanisms A23).
func lifetime(at time.Time, d policy.Decision, until time.Time) time.Duration {
	l := TokenLifetime
	if d.MaxLife > 0 {
		l = min(l, d.MaxLife)
	}
	if !until.IsZero() {
		l = min(l, until.Sub(at))
	}
	return l
}
