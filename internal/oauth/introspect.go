package oauth

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/jwks"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/resource"
	"github.com/countersign-dev/countersign/internal/web"
)

// introspection is RFC 7662 §2.2; inactive is exactly {"active":false}.
type introspection struct {
	Active    bool               `json:"active"`
	Scope     string             `json:"scope,omitempty"`
	ClientID  string             `json:"client_id,omitempty"`
	TokenType string             `json:"token_type,omitempty"`
	ExpiresAt jose.NumericDate   `json:"exp,omitempty"`
	IssuedAt  jose.NumericDate   `json:"iat,omitempty"`
	Subject   string             `json:"sub,omitempty"`
	Audience  jose.Audience      `json:"aud,omitempty"`
	Issuer    string             `json:"iss,omitempty"`
	JTI       string             `json:"jti,omitempty"`
	ACR       string             `json:"acr,omitempty"`
	AMR       []string           `json:"amr,omitempty"`
	AuthTime  jose.NumericDate   `json:"auth_time,omitempty"`
	Confirm   *jose.Confirmation `json:"cnf,omitempty"`
	Lineage   []string           `json:"lin,omitempty"`
	SessionID string             `json:"sid,omitempty"`
	Details   json.RawMessage    `json:"authorization_details,omitempty"`

	Actor      *jose.Actor     `json:"act,omitempty"` // RFC 8693 §4.1
	MayAct     *jose.Actor     `json:"may_act,omitempty"`
	Assurance  *jose.Assurance `json:"asr,omitempty"`
	Delegation string          `json:"dlg,omitempty"`
	Depth      int             `json:"depth,omitempty"`
}

// introspect tells an enforcement point about a token for its own resource
// (RFC 7662). Whatever is not such a token, live now, is inactive, without
// telling why. The signature may come from a cache; the state is read each time.
func (s *Server) introspect(w http.ResponseWriter, r *http.Request) error {
	f, err := web.ParseForm(r, maxForm)
	if err != nil {
		return renderError(w, r, err)
	}
	var q inquiry
	for try := range 3 {
		q = inquiry{rows: rows{s: s, now: s.now(), recall: try == 0}}
		if err = s.inquire(r, f, &q); err == nil || !q.rows.old && !errors.Is(err, errMoved) || errors.Is(err, jwks.ErrUnavailable) {
			break
		}
	}
	if errors.Is(err, errMoved) {
		err = contended.Because(err)
	}
	if err == nil {
		err = s.spendCaller(r.Context(), q.caller)
	}
	if err != nil {
		s.refusedQuietly(r, policy.TokenIntrospect, err)
		return renderError(w, r, err)
	}
	note(r, "client", shortID(q.caller.Client))
	if !f.Has("token") {
		return renderError(w, r, invalid("invalid_request", "token is missing."))
	}
	if q.claims == nil || q.resource == nil || !slices.Contains(q.resource.Servers, q.caller.ID) {
		return web.JSON(w, http.StatusOK, introspection{})
	}
	if _, err := s.unended(r.Context(), q.claims); err != nil {
		if !problem.Refusal(err) {
			return renderError(w, r, err)
		}
		return web.JSON(w, http.StatusOK, introspection{})
	}
	return web.JSON(w, http.StatusOK, describeToken(q.claims))
}

func describeToken(c *jose.AccessTokenClaims) introspection {
	out := introspection{
		Active: true, Scope: c.Scope, ClientID: c.ClientID, TokenType: "Bearer", ExpiresAt: c.ExpiresAt,
		IssuedAt: c.IssuedAt, Subject: c.Subject, Audience: c.Audience, Issuer: c.Issuer, JTI: c.JTI,
		ACR: c.ACR, AMR: c.AMR, AuthTime: c.AuthTime, Confirm: c.Confirmation, Lineage: c.Lineage, SessionID: c.SessionID, Details: c.AuthorizationDetails,
		Actor: c.Actor, MayAct: c.MayAct, Assurance: c.Assurance, Delegation: c.Delegation, Depth: c.Depth,
	}
	if c.Confirmation != nil && c.Confirmation.JKT != "" {
		out.TokenType = "DPoP"
	}
	return out
}

// inquiry is who asks, about which genuine token, of which resource. Its rows may
// come from memory: one read holds them all against the present.
type inquiry struct {
	rows     rows
	caller   *caller
	claims   *jose.AccessTokenClaims // nil: not a genuine token
	resource *resource.Resource      // nil: none that is served
}

// inquire establishes the caller, who may do nothing once it, its service or the
// service's owner was switched off, and what is asked about.
func (s *Server) inquire(r *http.Request, f web.Form, q *inquiry) (err error) {
	ctx := r.Context()
	if q.caller, err = s.authenticate(ctx, r, f, q.rows.clientByClientID); err != nil {
		return err
	}
	if !q.caller.Confidential() {
		return errClient
	}
	if c, err := s.genuine(f.Get("token")); err == nil && len(c.Audience) == 1 {
		q.claims = c
		if q.resource, err = q.rows.resourceByURI(ctx, c.Audience[0]); err != nil && !problem.Refusal(err) {
			return err
		}
	}
	ids := make([]string, len(q.rows.seen))
	for i, v := range q.rows.seen {
		ids[i] = v.ID
	}
	nodes, err := s.State.Ancestors(ctx, ids...)
	if problem.Refusal(err) {
		return errMoved
	}
	if err != nil {
		return err
	}
	if err := q.rows.same(&act.Facts{Nodes: nodes}); err != nil {
		return err
	}
	if q.resource == nil { // one that ended is nothing to ask about; the caller is none the worse
		nodes = slices.DeleteFunc(nodes, func(n lineage.Node) bool { return strings.HasPrefix(n.ID, id.Resource) })
	}
	if _, ended := lineage.FirstEnded(nodes); ended {
		return errClient
	}
	return nil
}

// verifiedCache remembers which tokens' signatures were verified, by the SHA-256
// of the whole token; never by a prefix (security: CVE-2026-58425).
type verifiedCache struct {
	mu  sync.Mutex
	old map[[32]byte]*verified
	new map[[32]byte]*verified
}

// verified is a token whose signature was found genuine under the key kid, which
// must not have been withdrawn since.
type verified struct {
	jose.AccessTokenClaims
	kid string
}

const verifiedCap = 8_192 // of each half

func (c *verifiedCache) get(k [32]byte) *verified {
	c.mu.Lock()
	defer c.mu.Unlock()
	if v := c.new[k]; v != nil {
		return v
	}
	return c.old[k]
}

func (c *verifiedCache) put(k [32]byte, v *verified) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.new == nil || len(c.new) >= verifiedCap {
		c.old, c.new = c.new, make(map[[32]byte]*verified)
	}
	c.new[k] = v
}

// genuine verifies one of our access tokens for any audience; time and key are
// judged each time, the signature once.
func (s *Server) genuine(text string) (*jose.AccessTokenClaims, error) {
	now := s.now()
	k := sha256.Sum256([]byte(text))
	v := s.verified.get(k)
	if v != nil {
		if _, ok := s.Keys.Key(v.kid, jose.ES256); !ok {
			return nil, problem.New(problem.Unauthenticated, "token_key", "The token's key was withdrawn.")
		}
	} else {
		// Replicas' clocks differ a little: iat may lie ahead of ours.
		c, err := jose.VerifyAccessToken(text, s.Keys, jose.AccessTokenWant{Issuer: s.Issuer, AnyAudience: true, Now: now, Leeway: 5 * time.Second})
		if err != nil {
			return nil, err
		}
		v = &verified{*c, keyID(text)}
		s.verified.put(k, v)
	}
	if !now.Before(v.ExpiresAt.Time()) {
		return nil, problem.New(problem.Unauthenticated, "token_expired", "The token has expired.")
	}
	return &v.AccessTokenClaims, nil
}

// keyID reads the kid of a token whose header was verified before.
func keyID(token string) string {
	head, _, _ := strings.Cut(token, ".")
	var h struct {
		KeyID string `json:"kid"`
	}
	if b, err := base64.RawURLEncoding.DecodeString(head); err != nil || json.Unmarshal(b, &h) != nil {
		return ""
	}
	return h.KeyID
}

// live is genuine, and every ancestor of what the token hangs on is live now.
func (s *Server) live(ctx context.Context, text string) (*jose.AccessTokenClaims, []lineage.Node, error) {
	c, err := s.genuine(text)
	if err != nil {
		return nil, nil, err
	}
	nodes, err := s.unended(ctx, c)
	return c, nodes, err
}

// unended gives what a token hangs on, and refuses it if any of that was ended.
func (s *Server) unended(ctx context.Context, c *jose.AccessTokenClaims) ([]lineage.Node, error) {
	nodes, err := s.State.Issued(ctx, c.JTI)
	if err != nil {
		return nil, err
	}
	if n, ended := lineage.FirstEnded(nodes); ended || len(nodes) == 0 {
		return nil, problem.New(problem.Unauthenticated, "token_ended", "The token was ended: "+n.Kind.String()+".")
	}
	return nodes, nil
}
