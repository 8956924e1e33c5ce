package oauth

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/secret"
	"github.com/countersign-dev/countersign/internal/web"
)

const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// caller is an authenticated client (or an identified public one), with what its
// authentication proved and what it spends.
type caller struct {
	client.Client
	proofs []assurance.Proof
	spend  []once.Spend
}

var errClient = problem.New(problem.Unauthenticated, "invalid_client", "Client authentication failed.")

// presented is what a request says of its client.
type presented struct {
	id, secret string
	assertion  string
	basic      bool
	certs      []*x509.Certificate // of the connection, the client's own first
}

// authenticate establishes the client of a request: exactly one method, the one
// it is registered with (RFC 6749 §2.3, RFC 7523bis). It changes nothing; a
// replayed assertion is found when its mark is spent.
func (s *Server) authenticate(ctx context.Context, r *http.Request, f web.Form, find func(context.Context, string) (*client.Client, error)) (*caller, error) {
	p, err := present(r, f)
	if err != nil {
		return nil, err
	}
	if p.assertion != "" {
		id, err := jose.AssertionClientUnverified(p.assertion)
		if err != nil || p.id != "" && p.id != id {
			return nil, errClient.Because(err)
		}
		p.id = id
	}
	p.certs = s.certificates(r)
	var c *client.Client
	for _, id := range p.names() {
		if c, err = find(ctx, id); !problem.Refusal(err) {
			break
		}
	}
	if err != nil {
		if problem.Refusal(err) {
			burn(p.secret)
			return nil, p.wrong(client.Client{}, errClient.Because(err))
		}
		return nil, err
	}
	out := &caller{Client: *c}
	if out.Client, err = s.withKeys(ctx, out.Client, s.networkOf(r)); err != nil {
		return nil, err
	}
	if err := s.credentials(ctx, out, p); err != nil {
		return nil, p.wrong(out.Client, err)
	}
	if !c.Node.Live() {
		return nil, errClient
	}
	return out, nil
}

// wrong says of a refusal that what was presented was a wrong proof of a client, the zero
// one if there is none of that name. Where nothing was, none was wrong; and an assertion that
// is the client's, only not of now, says that a clock is.
func (p presented) wrong(c client.Client, err error) error {
	w := act.Wrong{Whose: actorOf(c), Cause: err}
	switch {
	case !problem.Refusal(err) || untimely(err):
		return err
	case p.secret != "":
		w.Way = act.WaySecret
	case p.assertion != "":
		w.Way = act.WayAssertion
	case len(p.certs) > 0 && (c.AuthMethod == client.AuthTLS || c.AuthMethod == client.AuthSelfSignedTLS):
		w.Way = act.WayCertificate
	default:
		return err
	}
	return errClient.Because(w)
}

// untimely reports whether a client is refused for when its assertion was made.
func untimely(err error) bool {
	switch problem.CodeOf(errors.Unwrap(err)) {
	case "assertion_expired", "assertion_not_yet_valid", "assertion_lifetime", errLost.Code:
		return true
	}
	return false
}

// current reads a client anew, for endpoints whose answer no commit guards.
func (s *Server) current(ctx context.Context, clientID string) (*client.Client, error) {
	c, err := s.stored(ctx, clientID)
	return &c, err
}

// met is current where a client may be met for the first time.
func (s *Server) met(r *http.Request) func(context.Context, string) (*client.Client, error) {
	return func(ctx context.Context, clientID string) (*client.Client, error) {
		c, err := s.find(ctx, clientID, s.networkOf(r))
		return &c, err
	}
}

// credentials holds what was presented against the client's own method.
func (s *Server) credentials(ctx context.Context, c *caller, p presented) error {
	now := s.now()
	if c.FAPI() && !c.Asymmetric() { // FAPI 2.0 §5.3.2.1
		return errClient
	}
	switch c.AuthMethod {
	case client.AuthNone:
		if p.secret != "" || p.assertion != "" {
			return errClient
		}
	case client.AuthSecretBasic, client.AuthSecretPost:
		if p.assertion != "" || !p.matches(c.Secrets(now)) {
			return errClient
		}
		c.proofs = append(c.proofs, assurance.Proof{Method: assurance.ClientSecret, Subject: actorOf(c.Client), Credential: c.ID, At: now, Source: "store:" + c.ID})
	case client.AuthPrivateKeyJWT:
		if p.assertion == "" || p.secret != "" {
			return errClient
		}
		keys, err := s.clientKeys(ctx, c.Client)
		if err != nil {
			return asClient(err)
		}
		a, err := jose.VerifyClientAssertion(p.assertion, keys, jose.ClientAssertionWant{
			Issuer: s.Issuer, ClientID: c.ClientID, Now: now, Ahead: assertionLeeway, OneAudience: c.FAPI(),
		})
		if err != nil {
			return errClient.Because(err)
		}
		// The epoch before took none that expires later than this.
		if s.lost(a.IssuedAt) && !a.ExpiresAt.After(s.Since.Add(jose.MaxAssertionLifetime)) {
			return errClient.Because(errLost)
		}
		c.spend = append(c.spend, once.Spend{
			Purpose: once.Assertion, Key: once.KeyOf(once.Assertion, c.ID, a.JTI), Mark: true, Until: a.ExpiresAt.Add(time.Minute),
		})
		c.proofs = append(c.proofs, assurance.Proof{Method: assurance.PrivateKeyJWT, Subject: actorOf(c.Client), Credential: c.ID, At: now, Source: "store:" + c.ID})
	case client.AuthTLS, client.AuthSelfSignedTLS:
		if p.secret != "" || p.assertion != "" {
			return errClient
		}
		if err := s.certified(ctx, c.Client, p.certs); err != nil {
			return err
		}
		c.proofs = append(c.proofs, assurance.Proof{Method: assurance.MTLS, Subject: actorOf(c.Client), Credential: c.ID, At: now, SenderBound: true, Source: "store:" + c.ID})
	default:
		return errClient
	}
	return nil
}

// asClient is a client that cannot be authenticated: what is wrong is not told,
// only if it is ours to put right.
func asClient(err error) error {
	if !problem.Refusal(err) {
		return err
	}
	return errClient.Because(err)
}

// actorOf is whom a client's own authentication proves: the service it acts as.
func actorOf(c client.Client) string {
	if c.Service != "" {
		return c.Service
	}
	return c.ID
}

// errMethods is of a request with more than one method (RFC 6749 §2.3).
var errMethods = invalid("invalid_request", "Use one client authentication method, not two.")

// present reads the credentials of a request; two methods at once are refused.
func present(r *http.Request, f web.Form) (presented, error) {
	p := presented{id: f.Get("client_id"), secret: f.Get("client_secret"), assertion: f.Get("client_assertion")}
	methods := 0
	if p.secret != "" {
		methods++
	}
	if p.assertion != "" {
		methods++
		if f.Get("client_assertion_type") != assertionType {
			return p, errClient
		}
	}
	if len(r.Header.Values("Authorization")) > 1 { // which one counts is no parser's to choose
		return p, errMethods
	}
	if r.Header.Get("Authorization") != "" {
		id, pass, ok := r.BasicAuth()
		if !ok || !web.IsText(id) || !web.IsText(unescape(id)) {
			return p, errClient
		}
		p.basic = true
		if pass != "" {
			methods++
		}
		if p.id != "" && p.id != id && p.id != unescape(id) {
			return p, errClient
		}
		if p.id == "" {
			p.id = id
		}
		if pass != "" {
			p.secret = pass
		}
	}
	if methods > 1 {
		return p, errMethods
	}
	if p.id == "" && p.assertion == "" {
		return p, errClient
	}
	return p, nil
}

// names are the spellings to look for: in Basic, ids come raw and
// percent-encoded (clients.md §2.5).
func (p presented) names() []string {
	if u := unescape(p.id); p.basic && u != p.id {
		return []string{p.id, u}
	}
	return []string{p.id}
}

func unescape(s string) string {
	if u, err := url.QueryUnescape(s); err == nil {
		return u
	}
	return s
}

// matches reports whether the secret is one of those; each is compared, whichever
// it is.
func (p presented) matches(want []secret.Hash) bool {
	spelt := []secret.Hash{sha256.Sum256([]byte(p.secret))}
	if u := unescape(p.secret); p.basic && u != p.secret {
		spelt = append(spelt, sha256.Sum256([]byte(u)))
	}
	ok := false
	for _, h := range spelt {
		for _, w := range want {
			ok = h.Equal(w) || ok
		}
	}
	return ok && p.secret != ""
}

// burn does what matches does, so that an unknown client takes as long as a
// wrong secret (security, invariant 13).
func burn(s string) { _ = presented{secret: s}.matches([]secret.Hash{{}}) }
