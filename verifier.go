package countersign

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/problem"
)

// Config says whose tokens a resource server takes, and for what.
type Config struct {
	// Issuer is the authorization server, byte for byte as it names itself.
	Issuer string
	// Audience is this resource's identifier as it is registered there (RFC
	// 8707). A token or request that spells an empty path with a slash, or the
	// host in capitals, means the same.
	Audience string
	// URL is where clients reach this server, if that is not the origin of
	// Audience: scheme, host, and the path that a proxy takes off, if one does.
	// Proofs are checked against it; the Host header is never asked.
	URL string
	// Client is who this server is to the issuer: for the revocation feed and
	// introspection. Without it NoFeed must be said.
	Client ClientAuth
	// NoFeed does without the revocation feed: a token that was ended is
	// accepted until it expires, and sensitive routes introspect each one, or
	// refuse if there is no Client.
	NoFeed bool
	// Certificate gives the certificate that the client of a request showed, its key
	// proved in the handshake; nil if it showed none. The default is that of the TLS
	// connection. Behind a proxy that ends TLS, say what that one tells, and only if the
	// request came from it: tokens that are bound to a certificate (RFC 8705) are
	// accepted on its word.
	Certificate func(*http.Request) *x509.Certificate
	// AllowBearer accepts tokens that are bound to nothing. A bound token is
	// never accepted without its proof or certificate.
	AllowBearer bool
	// DemandNonce has every proof carry a nonce of this process (RFC 9449
	// section 9): right for a single instance, or behind sticky routing.
	DemandNonce bool
	// Policies has the policies of this resource held here, so that Authorize asks nobody
	// for what they can decide: pep.Engine() of package pep. It needs Client. nil: each
	// Authorize asks the issuer.
	Policies Policies
	// Keep is a folder for this server alone, in which the policies held are kept, with
	// the issuer's metadata and keys; it is made if it is not there. With it New begins
	// although the issuer does not answer, and Authorize decides, by the policies that
	// were last in force, what the action's stated outage answer lets it, up to 24 hours
	// after the issuer said so. Whoever writes to the folder decides with it: protect it
	// like the key in Client; New refuses one that everybody can write to, or that belongs
	// to another user than this one and root. What has ended is not kept: until the feed is heard, tokens
	// are introspected, and if that fails only routes with OutageAllow accept them.
	// "": New fails. It needs Policies.
	Keep string
	// HTTP reaches the issuer; nil is one with a time limit of 10 s. Redirects
	// are never followed. Its Timeout does not apply to the feed.
	HTTP *http.Client
	// OnFrame is called after each frame of the feed was applied, by one
	// goroutine: the moment to Recheck streams and other held things. It must
	// not block.
	OnFrame func(Frame)
	// Log gets what an operator should know; nil is silent.
	Log *slog.Logger
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Verifier checks the tokens of one resource. It is safe for use by many
// goroutines. Close it when done.
type Verifier struct {
	cfg       Config
	meta      *Metadata
	audiences []string // spellings that mean Audience; the configured one first
	origin    string   // of URL: what request paths are put behind
	client    *TokenClient
	source    *TokenSource // of its own token for the issuer; nil without Client
	keys      *keyCache
	tokens    *tokenCache
	proofs    *replayCache
	nonces    *nonceSource
	feed      *feed   // nil with NoFeed
	bundle    *bundle // nil without Policies
	asker     *asker  // nil without Client
	tally     tally
	alone     bool // it began without the issuer, with what was kept
	log       *slog.Logger
	now       func() time.Time
}

const (
	maxTokens    = 20_000  // remembered signatures
	maxProofs    = 1 << 19 // remembered proofs per span
	proofSpan    = 2*jose.DefaultDPoPWindow + time.Second
	nonceSpan    = 2 * time.Minute
	askTimeout   = 3 * time.Second // of an introspection that a request waits for
	tokenLeeway  = assurance.Leeway
	maxAuthValue = jose.MaxToken + 16
)

// New reads the issuer's metadata and keys and starts the revocation feed,
// which runs until Close. ctx bounds New only. Until the feed has its first
// snapshot, every token is introspected.
func New(ctx context.Context, cfg Config) (*Verifier, error) {
	v := &Verifier{
		cfg: cfg, log: cfg.Log, now: cfg.Now, tokens: newTokenCache(maxTokens),
		proofs: newReplayCache(proofSpan, maxProofs), nonces: &nonceSource{span: nonceSpan},
	}
	if v.log == nil {
		v.log = slog.New(slog.DiscardHandler)
	}
	if v.now == nil {
		v.now = time.Now
	}
	if err := v.address(); err != nil {
		return nil, err
	}
	if !cfg.Client.confidential() && !cfg.NoFeed {
		return nil, errors.New("countersign: the revocation feed needs Client with a key or secret; say NoFeed to do without")
	}
	if cfg.Policies != nil && !cfg.Client.confidential() {
		return nil, errors.New("countersign: Policies needs Client with a key or secret, by which the issuer knows whose they are")
	}
	if cfg.Keep != "" && cfg.Policies == nil {
		return nil, errors.New("countersign: Keep keeps policies, and needs Policies")
	}
	if cfg.Policies != nil {
		v.bundle = newBundle(v)
		if cfg.Keep != "" {
			var err error
			if v.bundle.keep, err = newKeep(cfg.Keep, cfg.Issuer, cfg.Audience); err != nil {
				return nil, err
			}
		}
	}
	if err := v.meet(ctx); err != nil {
		return nil, err
	}
	if !cfg.Client.confidential() {
		return v, nil
	}
	key, err := GenerateDPoPKey()
	if err != nil {
		return nil, err
	}
	v.client = &TokenClient{Metadata: v.meta, Auth: cfg.Client, Key: key, HTTP: cfg.HTTP, Now: cfg.Now}
	v.source = NewTokenSource(&MemoryStore{}, v.client.CredentialsRenewal(cfg.Issuer+"/v1", feedScope))
	v.source.now = v.now
	v.asker = &asker{hc: v.toward(cfg.Issuer + pathAccess), began: time.Now()}
	if v.bundle != nil {
		v.bundle.start(ctx)
	}
	if !cfg.NoFeed {
		v.feed = newFeed(v)
		v.feed.start()
	}
	return v, nil
}

// toward is a client for what is at and below a URL of the issuer's, as this server.
func (v *Verifier) toward(resource string) *http.Client {
	var base http.RoundTripper
	if v.cfg.HTTP != nil {
		base = v.cfg.HTTP.Transport
	}
	return &http.Client{
		Transport:     &Transport{Resource: resource, Source: v.source, Key: v.client.Key, Base: base, Now: v.now},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Close ends the feed, and the reading of policies, and waits for them. Afterwards the
// verifier counts as cut off: what is sensitive is introspected or refused.
func (v *Verifier) Close() {
	if v.bundle != nil {
		v.bundle.close()
	}
	if v.feed != nil {
		v.feed.close()
	}
}

// Issuer is the metadata that New read.
func (v *Verifier) Issuer() Metadata { return *v.meta }

// address works out the audience's spellings and our own origin.
func (v *Verifier) address() error {
	a, err := url.Parse(v.cfg.Audience)
	if err != nil || !a.IsAbs() || a.Fragment != "" || a.User != nil {
		return fmt.Errorf("countersign: audience %q is not an absolute URI", v.cfg.Audience)
	}
	v.audiences = spellings(v.cfg.Audience)
	from := a
	if v.cfg.URL != "" {
		if from, err = url.Parse(v.cfg.URL); err != nil || from.RawQuery != "" || from.Fragment != "" || from.User != nil {
			return fmt.Errorf("countersign: URL %q is not usable", v.cfg.URL)
		}
	}
	if from.Host == "" || from.Scheme != "https" && from.Scheme != "http" {
		return fmt.Errorf("countersign: %q does not say where clients reach this server; set URL", from)
	}
	v.origin = from.Scheme + "://" + from.Host
	if v.cfg.URL != "" {
		v.origin += strings.TrimSuffix(from.EscapedPath(), "/")
	}
	return nil
}

// spellings are the ways in which a resource identifier is written that mean
// the same: scheme and host in lower case or as given, an empty path with and
// without its slash.
func spellings(aud string) []string {
	out := []string{aud}
	u, err := url.Parse(aud)
	if err != nil || u.Host == "" {
		return out
	}
	add := func(s string) {
		for _, have := range out {
			if have == s {
				return
			}
		}
		out = append(out, s)
	}
	lower := *u
	lower.Scheme, lower.Host = strings.ToLower(u.Scheme), strings.ToLower(u.Host)
	for _, x := range []url.URL{*u, lower} {
		add(x.String())
		if x.RawQuery == "" && (x.Path == "" || x.Path == "/") {
			x.Path = ""
			add(x.String())
			add(x.String() + "/")
		}
	}
	return out
}

// Verify checks the token of a request, its proof, and that it still stands. An
// error is an *Error: Unauthenticated (401), Invalid (400) or Unavailable (503).
// Whether the token suffices is not asked here; Protect does.
func (v *Verifier) Verify(r *http.Request) (*Token, error) {
	t, err := v.authenticate(r)
	if err != nil {
		return nil, err
	}
	if err := v.standing(r.Context(), t, false, OutageIntrospect); err != nil {
		return nil, err
	}
	return t, nil
}

// The refusals before policy.
var (
	errNoToken   = problem.New(problem.Unauthenticated, "token_missing", "This needs an access token.")
	errTwo       = problem.New(problem.Invalid, "invalid_request", "The request has more than one Authorization header.")
	errEmpty     = problem.New(problem.Invalid, "invalid_request", "The Authorization header has no token.")
	errRevoked   = problem.New(problem.Unauthenticated, "invalid_token", "The access token has been revoked.")
	errExpired   = problem.New(problem.Unauthenticated, "invalid_token", "The access token has expired.")
	errBound     = problem.New(problem.Unauthenticated, "invalid_token", "The access token is bound to a key; it was sent without proof of it.")
	errUnbound   = problem.New(problem.Unauthenticated, "invalid_token", "The access token is bound to no key; it cannot be used here that way.")
	errNoLineage = problem.New(problem.Unauthenticated, "invalid_token", "The access token does not say what it descends from.")
	errProofs    = problem.New(problem.Unauthenticated, "invalid_dpop_proof", "The request needs exactly one DPoP header.")
	errOtherCert = problem.New(problem.Unauthenticated, "invalid_token", "The access token is bound to another client certificate than the connection's.")
	errOtherKey  = problem.New(problem.Unauthenticated, "invalid_dpop_proof", "The DPoP proof is of another key than the access token's.")
	errReplay    = problem.New(problem.Unauthenticated, "invalid_dpop_proof", "The DPoP proof was used before.")
	errNonce     = problem.New(problem.Unauthenticated, "use_dpop_nonce", "The DPoP proof needs the nonce in DPoP-Nonce.")
	errBusy      = problem.New(problem.Unavailable, "temporarily_unavailable", "Too many requests to tell a repeated proof from a new one.")
	errUnknown   = problem.New(problem.Unavailable, "temporarily_unavailable", "Whether the access token still stands could not be found out.")
)

// credentials reads the one Authorization header. Tokens anywhere else are not
// looked at.
func credentials(h http.Header) (scheme, token string, err error) {
	values := h["Authorization"]
	switch {
	case len(values) == 0:
		return "", "", errNoToken
	case len(values) > 1:
		return "", "", errTwo
	case len(values[0]) > maxAuthValue:
		return "", "", problem.New(problem.Unauthenticated, "invalid_token", "The access token is too long.")
	}
	scheme, token, _ = strings.Cut(values[0], " ")
	switch {
	case strings.EqualFold(scheme, "DPoP"):
		scheme = "DPoP"
	case strings.EqualFold(scheme, "Bearer"):
		scheme = "Bearer"
	default:
		return "", "", errNoToken // of another scheme, not ours to judge
	}
	if token = strings.TrimLeft(token, " "); token == "" {
		return "", "", errEmpty
	}
	return scheme, token, nil
}

// authenticate establishes whose token it is and that the sender may use it.
func (v *Verifier) authenticate(r *http.Request) (*Token, error) {
	scheme, raw, err := credentials(r.Header)
	if err != nil {
		return nil, err
	}
	now := v.now()
	e, err := v.known(r.Context(), raw, now)
	if err != nil {
		return nil, err
	}
	if !now.Before(e.token.ExpiresAt.Add(tokenLeeway)) {
		return nil, errExpired
	}
	if e.x5t != "" && !v.certified(r, e.x5t) {
		return nil, errOtherCert
	}
	if e.jkt == "" {
		if scheme != "Bearer" || e.x5t == "" && !v.cfg.AllowBearer {
			return nil, errUnbound
		}
		return e.token, nil
	}
	if scheme != "DPoP" {
		return nil, errBound
	}
	return e.token, v.proof(r, raw, e.jkt, now)
}

// certified reports whether the client showed the certificate that a token is bound
// to (RFC 8705 section 3).
func (v *Verifier) certified(r *http.Request, x5t string) bool {
	var cert *x509.Certificate
	switch {
	case v.cfg.Certificate != nil:
		cert = v.cfg.Certificate(r)
	case r.TLS != nil && len(r.TLS.PeerCertificates) > 0:
		cert = r.TLS.PeerCertificates[0]
	}
	return cert != nil && subtle.ConstantTimeCompare([]byte(jose.CertificateThumbprint(cert.Raw)), []byte(x5t)) == 1
}

// known verifies a token, or remembers that it was.
func (v *Verifier) known(ctx context.Context, raw string, now time.Time) (*cachedToken, error) {
	sum := sha256.Sum256([]byte(raw))
	if e := v.tokens.get(sum); e != nil && e.keys == v.keys.current(ctx) {
		return e, nil
	}
	keys := &lookup{ctx: ctx, cache: v.keys}
	c, err := jose.VerifyAccessToken(raw, keys, jose.AccessTokenWant{
		Issuer: v.cfg.Issuer, Audiences: v.audiences, Now: now, Leeway: tokenLeeway,
	})
	if err != nil {
		return nil, refusal("invalid_token", err)
	}
	e := &cachedToken{token: newToken(raw, c), keys: keys.used}
	if e.token.handles, err = handlesOf(c.Lineage); err != nil || v.feed != nil && len(c.Lineage) == 0 {
		return nil, errNoLineage
	}
	if c.Confirmation != nil {
		if e.jkt, e.x5t = c.Confirmation.JKT, c.Confirmation.X5TS256; e.jkt == "" && e.x5t == "" {
			return nil, problem.New(problem.Unauthenticated, "invalid_token", "The access token is bound in a way that is not supported here.")
		}
	}
	if len(c.Audience) != 1 { // mechanisms C4
		return nil, problem.New(problem.Unauthenticated, "invalid_token", "The access token has more than one audience.")
	}
	v.tokens.put(sum, e)
	return e, nil
}

// proof checks the DPoP proof that came with a token (RFC 9449 section 4.3).
func (v *Verifier) proof(r *http.Request, raw, jkt string, now time.Time) error {
	values := r.Header["Dpop"]
	if len(values) != 1 {
		return errProofs
	}
	p, err := jose.VerifyDPoP(values[0], jose.DPoPWant{Method: r.Method, URL: v.origin + requestPath(r), AccessToken: raw, Now: now})
	if err != nil {
		return refusal("invalid_dpop_proof", err)
	}
	if p.JKT != jkt {
		return errOtherKey
	}
	if v.cfg.DemandNonce && !v.nonces.good(p.Nonce, now) {
		return errNonce
	}
	switch v.proofs.see(p.JKT, p.JTI, now) {
	case seenBefore:
		return errReplay
	case seenFull:
		v.log.Warn("DPoP proofs come faster than they can be remembered", "limit", maxProofs)
		return errBusy
	}
	return nil
}

// requestPath is the path as the client sent it, whatever handlers before us
// made of r.URL.
func requestPath(r *http.Request) string {
	if s := r.RequestURI; s != "" && s[0] == '/' {
		if i := strings.IndexAny(s, "?#"); i >= 0 {
			s = s[:i]
		}
		return s
	}
	if u, err := url.ParseRequestURI(r.RequestURI); err == nil && u.Path != "" { // absolute form
		return u.EscapedPath()
	}
	if p := r.URL.EscapedPath(); p != "" {
		return p
	}
	return "/"
}

// refusal gives a verifier's finding the code of the protocol.
func refusal(code string, err error) error {
	detail := "It was refused."
	if p := problem.From(err); p != nil {
		detail = p.Detail
	}
	return problem.New(problem.Unauthenticated, code, detail).Because(err)
}

// Outage says what a route does when the feed has been silent for more than
// five minutes (mechanisms C14).
type Outage int

// The answers. The zero value is OutageIntrospect.
const (
	OutageIntrospect Outage = iota // ask the issuer about each token; refuse if that fails
	OutageRefuse                   // refuse
	OutageAllow                    // accept what is not known to have ended; never on a Sensitive route
)

// The ages of the last good frame at which trust in the feed lessens.
const (
	staleAfter  = 15 * time.Second
	outageAfter = 5 * time.Minute
)

// standing judges whether the token has been ended.
func (v *Verifier) standing(ctx context.Context, t *Token, sensitive bool, onOutage Outage) error {
	if v.feed == nil {
		if sensitive {
			return v.introspect(ctx, t)
		}
		return nil
	}
	ended, age, synced := v.feed.judge(t)
	switch {
	case ended:
		return errRevoked
	case !synced:
		err := v.introspect(ctx, t)
		if v.alone && !v.feed.began() && onOutage == OutageAllow && !sensitive && silent(ctx, err) {
			return nil // it began cut off, and is
		}
		return err
	case age <= staleAfter, age <= outageAfter && !sensitive:
		return nil
	case age <= outageAfter || onOutage == OutageIntrospect || onOutage == OutageAllow && sensitive:
		return v.introspect(ctx, t)
	case onOutage == OutageAllow:
		return nil
	}
	return errUnknown
}

// Recheck judges again whether the token of a held request stands: that it has
// not expired nor been ended. Streams call it from OnFrame.
func (v *Verifier) Recheck(ctx context.Context, t *Token) error {
	if !v.now().Before(t.ExpiresAt.Add(tokenLeeway)) {
		return errExpired
	}
	return v.standing(ctx, t, false, OutageIntrospect)
}

// introspect asks the issuer; no answer is a refusal.
func (v *Verifier) introspect(ctx context.Context, t *Token) error {
	if v.client == nil {
		return errUnknown
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	in, err := v.client.Introspect(ctx, t.raw)
	switch {
	case err != nil:
		return errUnknown.Because(err)
	case !in.Active:
		return errRevoked
	case in.Subject != t.Subject || in.ClientID != t.ClientID:
		return errUnknown.Because(errors.New("the introspection answer is of another token"))
	}
	return nil
}

// handle is a lineage handle: nine bytes (mechanisms C3).
type handle [9]byte

var errHandle = errors.New("countersign: malformed lineage handle")

func handleOf(s string) (h handle, err error) {
	if len(s) != 12 {
		return h, errHandle
	}
	var b [12]byte
	copy(b[:], s)
	if _, err := base64.RawURLEncoding.Decode(h[:], b[:]); err != nil {
		return h, errHandle
	}
	return h, nil
}

func handlesOf(lin []string) ([]handle, error) {
	out := make([]handle, len(lin))
	for i, s := range lin {
		var err error
		if out[i], err = handleOf(s); err != nil {
			return nil, err
		}
	}
	return out, nil
}
