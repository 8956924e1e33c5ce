// Package oauth is the authorization server's protocol surface: metadata, the
// authorization, token, introspection, revocation and userinfo endpoints
// (RFC 6749, 7009, 7636, 7662, 8414, 8707, 9068, 9207, 9449; OpenID Connect
// Core). It validates what is asked, hands people to the portal's pages, and
// changes state only through act.Do: a grant type fills the hooks of grantType
// and cannot skip a step of the token endpoint.
package oauth

import (
	"context"
	"crypto/x509"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/grant"
	trusted "github.com/countersign-dev/countersign/internal/issuer"
	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/jwks"
	"github.com/countersign-dev/countersign/internal/keyring"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/resource"
	"github.com/countersign-dev/countersign/internal/session"
	"github.com/countersign-dev/countersign/internal/web"
)

// TokenLifetime is how long an access token lives at most (contract).
const TokenLifetime = 5 * time.Minute

// Clients reads clients.
type Clients interface {
	Client(ctx context.Context, id string) (client.Client, error)
	ClientByClientID(ctx context.Context, clientID string) (client.Client, error)
	Service(ctx context.Context, id string) (client.Service, error)
}

// Resources reads resources.
type Resources interface {
	Resource(ctx context.Context, id string) (resource.Resource, error)
	ResourceByURI(ctx context.Context, uri string) (resource.Resource, error)
	Resources(ctx context.Context, after string, n int) ([]resource.Resource, error)
}

// Grants reads grants, consents and families.
type Grants interface {
	Grant(ctx context.Context, id string) (grant.Grant, error)
	Consent(ctx context.Context, person, client string) (grant.Consent, error)
	ConsentOfGroup(ctx context.Context, person, group string) (grant.Consent, error)
	Family(ctx context.Context, id string) (grant.Family, error)
	Delegation(ctx context.Context, parent, client string) (grant.Delegation, error)
	DelegationByID(ctx context.Context, id string) (grant.Delegation, error)
}

// Issuers reads trusted issuers and whom their subjects are.
type Issuers interface {
	TrustedIssuerByName(ctx context.Context, iss string) (trusted.Issuer, error)
	LinkOf(ctx context.Context, issuerID, tenant, subject string) (trusted.Link, error)
}

// State reads what liveness is judged by.
type State interface {
	OnceValue(ctx context.Context, p once.Purpose, k once.Key) (once.Value, error)
	// Issued gives the lineage node that a token (by its jti) hangs on and
	// everything above it; problem.NotFound if no such record issued anything.
	Issued(ctx context.Context, recordID string) ([]lineage.Node, error)
	// Leaf gives the id of that node, with the same nodes.
	Leaf(ctx context.Context, recordID string) (string, []lineage.Node, error)
	// Ancestors gives the nodes of ids and everything they descend from;
	// problem.NotFound if one has no node.
	Ancestors(ctx context.Context, ids ...string) ([]lineage.Node, error)
	Person(ctx context.Context, id string) (account.Person, error)
}

// Keys signs, verifies and seals.
type Keys interface {
	jose.KeySet
	grant.RefreshKeys
	Signer(p keyring.Purpose, alg, typ string) (*jose.Signer, error)
	AudienceKey(audience string) ([]byte, error)
	PairwiseKey() ([]byte, error)
	Public() []jose.JWK
	Nonces() [][]byte
	StateSealer
}

// People finds whom a client asks for, and what it asked them before.
type People interface {
	// PersonByUsername finds without regard to case.
	PersonByUsername(ctx context.Context, username string) (account.Person, error)
	PersonBySubject(ctx context.Context, sub string) (account.Person, error)
	// OnceBound gives the values of a purpose that are bound to somebody, the newest
	// first, at most a thousand: spent ones and, for a day, expired ones too.
	OnceBound(ctx context.Context, p once.Purpose, bound string) ([]once.Value, error)
}

// StateSealer seals values that travel through a browser.
type StateSealer interface {
	SealState(purpose, bound string, v any) (string, error)
	OpenState(purpose, bound, sealed string, v any) error
}

// Browser is what the portal knows of a request's browser.
type Browser interface {
	// Session is the usable session of the browser; ok is false if there is none.
	Session(r *http.Request) (s session.Session, ok bool, err error)
	// Binding is a stable name of the browser, making one if it has none.
	Binding(w http.ResponseWriter, r *http.Request) (string, error)
	// Origin is what the risk of what somebody does in this browser is judged by.
	Origin(r *http.Request) act.Origin
	// Fail shows an error page; never a redirect.
	Fail(w http.ResponseWriter, r *http.Request, p *problem.Error)
	// Go sends the browser to the page for what is next of an interaction.
	Go(w http.ResponseWriter, r *http.Request, next grant.Next, reference string)
	// Deliver shows the page that posts an answer to a client's address; if there is
	// none, the address itself, which holds it, for whose app is not on this computer.
	Deliver(w http.ResponseWriter, r *http.Request, to string, answer url.Values)
	// Attainable says which asks a person can meet (mechanisms A9).
	Attainable(ctx context.Context, person string) (func(assurance.Ask) bool, error)
}

// Server serves the protocol. Fill every member but Now.
type Server struct {
	Issuer    string
	Do        *act.Doer
	Clients   Clients
	Resources Resources
	Issuers   Issuers
	Grants    Grants
	// Admissions is what administrators say of clients that they did not register.
	Admissions client.Admissions
	// Fetch gets the documents of clients, behind the egress guard, from public
	// addresses only: strangers name them. nil: only pinned ones are known.
	Fetch *http.Client
	// FetchAllowed gets those of domains that administrators allowed, which may be
	// within the network as far as the guard knows them.
	FetchAllowed *http.Client
	State        State
	Keys         Keys
	Browser      Browser
	Departure    Departure
	Ladder       assurance.Ladder
	// Ahead is told of a genuine refresh token that the database has not made yet
	// (mechanisms I13); nil: nobody is.
	Ahead func(context.Context) error
	// Since is when the deployment's epoch began, zero for the first: what was signed
	// before, to be used once, may have been used, and its mark be lost (mechanisms I10).
	Since time.Time
	// Published fetches the keys that registered clients publish by address, and those of
	// whom administrators vouch for; nil: none is fetched. Its HTTP client MUST be behind
	// the egress guard.
	Published *jwks.Source
	// Agreed does the same for clients that nobody registered and that a person agreed
	// to, from public addresses only: strangers name them; nil: theirs are not fetched.
	Agreed *jwks.Source
	// Announced does what Agreed does for clients that nobody agreed to either, so that
	// strangers take none of the others' places and memory; nil: theirs are not fetched.
	Announced *jwks.Source
	// Device says that devices may be signed in by code (RFC 8628).
	Device bool
	// DeviceNear refuses where device and browser are on different networks.
	DeviceNear bool
	// Backchannel says that clients may ask people who are elsewhere (CIBA Core).
	Backchannel bool
	// People are whom they ask; nil where Backchannel is off.
	People People
	// ClientAddr is the client's address, invalid if unknown (mechanisms I20).
	ClientAddr func(*http.Request) netip.Addr
	// Certificates are those that a request's connection was made with, the client's
	// own first, its key shown; nil: no connection asks for one.
	Certificates func(*http.Request) []*x509.Certificate
	// Anchors are whose certificates tls_client_auth takes; nil: nobody's.
	Anchors *x509.CertPool
	// MTLS is the origin at which connections ask for a certificate, "" if none does.
	MTLS string
	// Origin is where a request reached us, "" or nil: at the issuer.
	Origin func(*http.Request) string
	Now    func() time.Time // nil: time.Now

	polls    paces
	verified verifiedCache
	meta     metadataCache
	types    knownTypes
	recent   recentRows
	handles  handleCache

	docs          documents // of clients that nobody agreed to
	knownDocs     documents // of the others: no number of strangers takes their places, or what is remembered of them
	registrations meter
}

func (s *Server) now() time.Time {
	if s.Now != nil {
		return s.Now()
	}
	return time.Now()
}

// lost reports whether something that is to be used once, and was signed at a time,
// may have been used in the epoch before: after the backup that was put back, so that
// nobody knows of it. Zero is a time that it does not say.
func (s *Server) lost(iat time.Time) bool {
	return !s.Since.IsZero() && !iat.After(s.Since.Add(assertionLeeway))
}

// API gives the routes of clients and resource servers.
func (s *Server) API(handle func(pattern string, h web.Handler)) {
	for p, h := range map[string]web.Handler{
		"/.well-known/oauth-authorization-server": s.metadata, "/.well-known/openid-configuration": s.metadata, "/oauth/jwks": s.jwks,
	} {
		handle("OPTIONS "+p, preflight)
		handle("GET "+p, h)
	}
	calls := map[string]web.Handler{"/oauth/token": s.token, "/oauth/par": s.par, "/oauth/revoke": s.revoke, "/oauth/userinfo": s.userinfo, "/oauth/register": s.register}
	if s.Device {
		calls[devicePath] = s.deviceAuthorization
		handle(devicePath, postOnly)
	}
	if s.Backchannel { // for clients that authenticate, which are in no browser
		handle("POST "+backchannelPath, s.backchannel)
		handle(backchannelPath, postOnly)
	}
	for p, h := range calls {
		handle("OPTIONS "+p, preflight)
		handle("POST "+p, shared(h))
	}
	handle("GET /oauth/userinfo", shared(s.userinfo))
	handle("POST /oauth/introspect", s.introspect)
	handle("/.well-known/", missed)
	handle("/oauth/", missed)
}

// Pages gives the routes that browsers visit.
func (s *Server) Pages(handle func(pattern string, h web.Handler)) {
	handle("GET "+authorizePath, s.authorize)
	handle("POST "+authorizePath, s.authorize)
	handle("GET /oauth/continue", s.resume)
	handle("GET /oauth/logout", s.logout)
	handle("POST /oauth/logout", s.logout)
}
