package oauth

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
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
}

// introspect tells an enforcement point about a token for its own resource
// (RFC 7662). Whatever is not such a token, live now, is inactive, without
// telling why. The signature may come from a cache; the state is read each time.
func (s *Server) introspect(w http.ResponseWriter, r *http.Request) error {
	f, err := web.ParseForm(r, maxForm)
	if err != nil {
		return renderError(w, r, err)
	}
	c, err := s.authenticate(r.Context(), r, f, s.current)
	if err == nil && !c.Confidential() {
		err = errClient
	}
	if err == nil {
		err = s.stands(r.Context(), c)
	}
	if err == nil {
		err = s.spendCaller(r.Context(), c)
	}
	if err != nil {
		s.refusedQuietly(policy.TokenIntrospect, err)
		return renderError(w, r, err)
	}
	note(r, "client", c.ClientID)
	text := f.Get("token")
	if text == "" {
		return renderError(w, r, invalid("invalid_request", "token is missing."))
	}
	claims, err := s.live(r.Context(), text)
	if err != nil {
		if problem.From(err) == nil {
			return err
		}
		return web.JSON(w, http.StatusOK, introspection{})
	}
	entitled, err := s.entitled(r.Context(), c.Client, claims)
	if err != nil {
		return err
	}
	if !entitled {
		return web.JSON(w, http.StatusOK, introspection{})
	}
	out := introspection{
		Active: true, Scope: claims.Scope, ClientID: claims.ClientID, TokenType: "Bearer", ExpiresAt: claims.ExpiresAt,
		IssuedAt: claims.IssuedAt, Subject: claims.Subject, Audience: claims.Audience, Issuer: claims.Issuer, JTI: claims.JTI,
		ACR: claims.ACR, AMR: claims.AMR, AuthTime: claims.AuthTime, Confirm: claims.Confirmation, Lineage: claims.Lineage, SessionID: claims.SessionID,
	}
	if claims.Confirmation != nil && claims.Confirmation.JKT != "" {
		out.TokenType = "DPoP"
	}
	return web.JSON(w, http.StatusOK, out)
}

// stands refuses a client whose service, or the service's owner, was switched
// off: no act follows here whose facts would say so. Under keeps the facts from
// being taken from memory.
func (s *Server) stands(ctx context.Context, c *caller) error {
	dec, _, err := s.Do.Judge(ctx, act.Intent{
		Action: policy.ProofSpend, Refs: act.Refs{Kind: policy.KindSystem, Client: c.ID, Under: []string{c.ID}},
	})
	if err == nil && dec.Outcome != policy.Allow {
		err = errClient
	}
	return err
}

// entitled reports whether a client may learn about tokens of this audience: the
// resource's registered enforcement points only.
func (s *Server) entitled(ctx context.Context, c client.Client, claims *jose.AccessTokenClaims) (bool, error) {
	if len(claims.Audience) != 1 {
		return false, nil
	}
	res, err := s.Resources.ResourceByURI(ctx, claims.Audience[0])
	if err != nil {
		if problem.From(err) != nil {
			return false, nil
		}
		return false, err
	}
	return slices.Contains(res.Servers, c.ID) && res.Node.Live(), nil
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
func (s *Server) live(ctx context.Context, text string) (*jose.AccessTokenClaims, error) {
	c, err := s.genuine(text)
	if err != nil {
		return nil, err
	}
	nodes, err := s.State.Issued(ctx, c.JTI)
	if err != nil {
		return nil, err
	}
	if n, ended := lineage.FirstEnded(nodes); ended || len(nodes) == 0 {
		return nil, problem.New(problem.Unauthenticated, "token_ended", "The token was ended: "+n.Kind.String()+".")
	}
	return c, nil
}
