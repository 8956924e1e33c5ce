package oauth

import (
	"context"
	"crypto/sha256"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/lineage"
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
	c, err := s.authenticate(r.Context(), r, f)
	if err == nil && !c.Confidential() {
		err = errClient
	}
	if err == nil {
		err = s.spendCaller(r.Context(), c)
	}
	if err != nil {
		return renderError(w, r, err)
	}
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
	old map[[32]byte]*jose.AccessTokenClaims
	new map[[32]byte]*jose.AccessTokenClaims
}

const verifiedCap = 20_000 // of each half

func (c *verifiedCache) get(k [32]byte) *jose.AccessTokenClaims {
	c.mu.Lock()
	defer c.mu.Unlock()
	if v := c.new[k]; v != nil {
		return v
	}
	return c.old[k]
}

func (c *verifiedCache) put(k [32]byte, v *jose.AccessTokenClaims) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.new == nil || len(c.new) >= verifiedCap {
		c.old, c.new = c.new, make(map[[32]byte]*jose.AccessTokenClaims)
	}
	c.new[k] = v
}

// genuine verifies one of our access tokens for any audience; the time is judged
// each time, the signature once.
func (s *Server) genuine(text string) (*jose.AccessTokenClaims, error) {
	now := s.now()
	k := sha256.Sum256([]byte(text))
	if c := s.verified.get(k); c != nil {
		if !now.Before(c.ExpiresAt.Time()) {
			return nil, problem.New(problem.Unauthenticated, "token_expired", "The token has expired.")
		}
		return c, nil
	}
	c, err := jose.VerifyAccessToken(text, s.Keys, jose.AccessTokenWant{Issuer: s.Issuer, AnyAudience: true, Now: now, Leeway: 5 * time.Second})
	if err != nil {
		return nil, err
	}
	s.verified.put(k, c)
	return c, nil
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

// revoke ends what a token hangs on (RFC 7009): a refresh token's grant, with
// everything below it; an access token's grant likewise. A service's access
// token hangs on nothing that could be ended apart from the service: it lives
// for minutes and is answered with unsupported_token_type.
func (s *Server) revoke(w http.ResponseWriter, r *http.Request) error {
	f, err := web.ParseForm(r, maxForm)
	if err != nil {
		return renderError(w, r, err)
	}
	c, err := s.authenticate(r.Context(), r, f)
	if err == nil {
		err = s.spendCaller(r.Context(), c)
	}
	if err != nil {
		return renderError(w, r, err)
	}
	text := f.Get("token")
	if text == "" {
		return renderError(w, r, invalid("invalid_request", "token is missing."))
	}
	gr, err := s.revocable(r.Context(), c, text)
	if err == nil && gr != nil {
		err = s.endGrant(r.Context(), c, *gr)
	}
	if err != nil {
		return renderError(w, r, err)
	}
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	return nil
}

// revocable finds the caller's own grant behind a token; nil if there is none,
// which is no error (RFC 7009 §2.2).
func (s *Server) revocable(ctx context.Context, c *caller, text string) (*grant.Grant, error) {
	grantID := ""
	if tok, err := grant.ReadToken(text, s.Keys); err == nil {
		fam, err := s.Grants.Family(ctx, tok.FamilyID())
		switch {
		case problem.From(err) != nil:
			return nil, nil
		case err != nil:
			return nil, err
		case fam.Client != c.ID || tok.Gen == fam.Gen && !tok.Hash().Equal(fam.CurHash):
			return nil, nil
		}
		grantID = fam.Grant
	} else if claims, err := s.genuine(text); err == nil {
		if claims.ClientID != c.ClientID {
			return nil, nil
		}
		if claims.ACR == "" && strings.HasPrefix(claims.Subject, "svc_") {
			return nil, invalid("unsupported_token_type", "A service's access token cannot be revoked apart from the service; it ends within minutes.")
		}
		nodes, err := s.State.Issued(ctx, claims.JTI)
		if err != nil {
			if problem.From(err) != nil {
				return nil, nil
			}
			return nil, err
		}
		for _, n := range nodes {
			if n.Kind == lineage.Grant && strings.HasPrefix(n.ID, "gnt_") {
				grantID = n.ID
			}
		}
	}
	if grantID == "" {
		return nil, nil
	}
	gr, err := s.Grants.Grant(ctx, grantID)
	if problem.From(err) != nil {
		return nil, nil
	}
	return &gr, err
}
