package admin

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
)

// Caller is who sent a request, established by a live token and a proof of its
// key.
type Caller struct {
	Claims   *jose.AccessTokenClaims
	ClientID string         // on the wire
	Client   string         // cli_…
	JKT      string         // the key that was proved
	Person   account.Person // zero for a machine's token
	Grant    string         // gnt_…; "" for a machine's token
	Service  client.Service // that a machine's token is of; zero for a person's

	network string     // that the request came from, "" if that says nothing of who sent it
	proof   once.Spend // of the DPoP proof, for an act: no replica takes it twice
}

// Has reports whether the token has a scope.
func (c Caller) Has(scope string) bool {
	return slices.Contains(strings.Fields(c.Claims.Scope), scope)
}

// Human reports whether the token is a person's own, with nobody in between.
func (c Caller) Human() bool {
	return c.Person.ID != "" && c.Grant != "" && c.Claims.Actor == nil
}

// machine reports whether the token is a service's own, with nobody in between.
func (c Caller) machine() bool {
	return c.Service.ID != "" && c.Grant == "" && c.Claims.Actor == nil
}

// token is what policy sees of the access token.
func (c Caller) token(now time.Time) policy.Token {
	return policy.Token{Known: true, Age: max(0, now.Sub(c.Claims.IssuedAt.Time())), Bound: true, Depth: c.Claims.Depth}
}

// origin is what the risk of a call is judged by, as at the token endpoint: the network
// and the age of the grant. Nothing shows a device here.
func (c Caller) origin(now time.Time) act.Origin {
	o := act.Origin{Asked: true, Network: c.network}
	if b, ok := id.Bytes(c.Grant); ok {
		o.TokenAge = max(0, now.Sub(id.MadeAt(b)))
	}
	return o
}

// refs is what any decision about the caller loads. Facts of it are never taken
// from a cache (Under), because a read is not re-checked by a commit.
func (c Caller) refs(owner string) act.Refs {
	if c.machine() {
		return act.Refs{Kind: policy.KindService, Actor: c.Service.ID, Client: c.Client, Owner: owner, Under: []string{c.Client}}
	}
	return act.Refs{
		Kind: policy.KindPerson, Actor: c.Person.ID, Grant: c.Grant, Client: c.Client, Owner: owner, Under: []string{c.Grant},
	}
}

// tokenLeeway is for clocks of other replicas.
const tokenLeeway = 5 * time.Second

func badToken(detail string, cause error) *problem.Error {
	p := problem.New(problem.Unauthenticated, codeToken, detail)
	if cause != nil {
		p = p.Because(cause)
	}
	return p.WithHint("countersign login")
}

var (
	errNoToken = problem.New(problem.Unauthenticated, codeNoToken, "This needs an access token.").WithHint("countersign login")
	errBearer  = badToken("This API takes DPoP-bound access tokens only (RFC 9449).", nil)
)

// Authenticate establishes who sent a request: an access token of ours for this
// API, bound to a DPoP key, with a fresh proof for this very request, and
// everything the token hangs on live now. The signature may come from a cache;
// the state is read each time. Errors are problem.Unauthenticated, or
// problem.Unavailable.
func (a *API) Authenticate(r *http.Request) (Caller, error) {
	now := a.now()
	text, err := presented(r)
	if err != nil {
		return Caller{}, err
	}
	claims, err := a.genuine(text, now)
	if err != nil {
		return Caller{}, err
	}
	network := grant.NetworkOf(a.ClientAddr(r))
	proof, err := a.proved(r, text, claims, now)
	if err != nil {
		a.missed(r.Context(), err, claims, network)
		return Caller{}, err
	}
	c, err := a.live(r.Context(), claims, network)
	c.proof = proof
	return c, err
}

// missed remembers that somebody else than its holder showed a live token.
func (a *API) missed(ctx context.Context, err error, claims *jose.AccessTokenClaims, network string) {
	w, wrong := errors.AsType[act.Wrong](err)
	if !wrong {
		return
	}
	if c, err := a.live(ctx, claims, network); err == nil {
		w.Whose = cmp.Or(c.Person.ID, c.Service.ID)
		a.Do.Missed(w, network, a.now())
	}
}

// presented reads the one token of a request, which is in the header and of the
// scheme DPoP.
func presented(r *http.Request) (string, error) {
	h := r.Header.Values("Authorization")
	if len(h) == 0 {
		return "", errNoToken
	}
	scheme, text, _ := strings.Cut(h[0], " ")
	switch {
	case len(h) > 1:
		return "", badToken("There is more than one Authorization header.", nil)
	case strings.EqualFold(scheme, "Bearer"):
		return "", errBearer
	case !strings.EqualFold(scheme, "DPoP"):
		return "", errNoToken
	case len(text) > jose.MaxToken:
		return "", badToken("That is not an access token.", nil)
	}
	return text, nil
}

// genuine verifies one of our tokens for this API. What it says does not change,
// so the signature is verified once; the time is judged each time.
func (a *API) genuine(text string, now time.Time) (*jose.AccessTokenClaims, error) {
	k := sha256.Sum256([]byte(text)) // of the whole token, never of a part
	if c, ok := a.verified.get(k); ok {
		if a.trusted(text) && now.Before(c.ExpiresAt.Time()) && !now.Before(c.IssuedAt.Time().Add(-tokenLeeway)) {
			return c, nil
		}
	}
	c, err := jose.VerifyAccessToken(text, a.Keys, jose.AccessTokenWant{
		Issuer: a.Issuer, Audiences: []string{a.audience()}, Now: now, Leeway: tokenLeeway,
	})
	if err != nil {
		detail := "The access token is not valid here."
		if problem.CodeOf(err) == "token_expired" {
			detail = "The access token has expired."
		}
		return nil, badToken(detail, err)
	}
	if len(c.Audience) != 1 {
		return nil, badToken("The access token is for more than this API.", nil)
	}
	a.verified.keep(k, c, now)
	return c, nil
}

// trusted reports whether the key that a verified token names still verifies: a
// withdrawn one does so no more.
func (a *API) trusted(text string) bool {
	head, _, _ := strings.Cut(text, ".")
	b, err := base64.RawURLEncoding.DecodeString(head)
	var h struct {
		Kid string `json:"kid"`
		Alg string `json:"alg"`
	}
	if err != nil || json.Unmarshal(b, &h) != nil {
		return false
	}
	_, ok := a.Keys.Key(h.Kid, h.Alg)
	return ok
}

// proved checks the DPoP proof of a request (RFC 9449 section 7.1). The URL is
// the configured issuer's: what the request says of its host is worth nothing. A
// replay at this process is found here, for reads too; the mark finds one at
// another, or after a restart, where something is changed.
func (a *API) proved(r *http.Request, text string, c *jose.AccessTokenClaims, now time.Time) (mark once.Spend, err error) {
	if c.Confirmation == nil || c.Confirmation.JKT == "" {
		return mark, errBearer
	}
	if c.Confirmation.X5TS256 != "" { // no connection to /v1 asks for a certificate
		return mark, badToken("The access token is bound to a certificate, too.", nil)
	}
	bad := badProof
	h := r.Header.Values("DPoP")
	if len(h) != 1 {
		return mark, bad
	}
	p, err := jose.VerifyDPoP(h[0], jose.DPoPWant{Method: r.Method, URL: a.Issuer + r.URL.EscapedPath(), AccessToken: text, Now: now})
	if err != nil {
		return mark, bad.Because(err)
	}
	if p.JKT != c.Confirmation.JKT {
		return mark, badToken("The access token is bound to another key.", act.Wrong{Way: act.WayToken})
	}
	fresh, full := a.seen.add(sha256.Sum256([]byte(p.JKT+"\x00"+p.JTI)), now)
	switch {
	case full:
		return mark, problem.New(problem.Unavailable, "busy", "The server is busy. Nothing was changed.")
	case !fresh:
		return mark, bad.Because(problem.New(problem.Unauthenticated, "dpop_replayed", "The proof was used before."))
	}
	return once.Spend{Purpose: once.DPoP, Key: once.KeyOf(once.DPoP, p.JKT, p.JTI), Mark: true, Until: now.Add(replayLife)}, nil
}

var badProof = problem.New(problem.Unauthenticated, codeProof, "The DPoP proof is not valid for this request (RFC 9449).")

// live reads what the token hangs on, each time. network is where the request came
// from.
func (a *API) live(ctx context.Context, claims *jose.AccessTokenClaims, network string) (Caller, error) {
	ended := badToken("The access token was ended.", nil)
	nodes, err := a.State.Issued(ctx, claims.JTI)
	if err != nil {
		return Caller{}, unknownIs(err, ended)
	}
	if _, dead := lineage.FirstEnded(nodes); dead || len(nodes) == 0 {
		return Caller{}, ended
	}
	cl, err := a.Registry.ClientByClientID(ctx, claims.ClientID)
	if err != nil {
		return Caller{}, unknownIs(err, ended)
	}
	if !cl.Node.Live() || !holds(nodes, cl.ID) {
		return Caller{}, ended
	}
	c := Caller{Claims: claims, ClientID: cl.ClientID, Client: cl.ID, JKT: claims.Confirmation.JKT}
	for _, n := range nodes {
		if strings.HasPrefix(n.ID, id.Grant) {
			c.Grant = n.ID
		}
	}
	if c.Grant == "" {
		c.network = network
		return a.machineOf(ctx, c, cl, nodes)
	}
	if cl.Near() {
		c.network = network
	}
	if c.Person, err = a.Directory.PersonBySubject(ctx, claims.Subject); err != nil {
		return Caller{}, unknownIs(err, ended)
	}
	if !c.Person.Node.Live() || !holds(nodes, c.Person.ID) {
		return Caller{}, ended
	}
	return c, nil
}

// machineOf adds the service that a token without a person is of: its client's, which
// the token hangs on. Of any other there is none.
func (a *API) machineOf(ctx context.Context, c Caller, cl client.Client, nodes []lineage.Node) (Caller, error) {
	if cl.Service == "" || !holds(nodes, cl.Service) {
		return c, nil
	}
	s, err := a.Registry.Service(ctx, cl.Service)
	if err != nil {
		return Caller{}, err
	}
	if s.Subject == c.Claims.Subject {
		c.Service = s
	}
	return c, nil
}

func holds(nodes []lineage.Node, id string) bool {
	return slices.ContainsFunc(nodes, func(n lineage.Node) bool { return n.ID == id })
}

// unknownIs turns "there is no such thing" into p; a storage fault stays one, so
// that nothing is called ended, or live, because it could not be read.
func unknownIs(err error, p *problem.Error) error {
	if problem.Refusal(err) && problem.From(err).Kind == problem.NotFound {
		return p.Because(err)
	}
	return err
}
