package oauth

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/web"
)

// userinfo tells a client about the person (OpenID Connect Core §5.3). It takes
// any live access token of ours with the scope openid, whatever its audience:
// clients that use resource indicators hold no other (docs/divergences.md).
func (s *Server) userinfo(w http.ResponseWriter, r *http.Request) error {
	text, scheme, err := presentedToken(r)
	if err != nil {
		return challenge(w, scheme, "invalid_token")
	}
	if text == "" {
		return challenge(w, "", "")
	}
	claims, err := s.live(r.Context(), text)
	if err != nil {
		if problem.From(err) == nil {
			return err
		}
		return challenge(w, scheme, "invalid_token")
	}
	if ok, err := s.possessed(w, r, text, scheme, claims.Confirmation != nil && claims.Confirmation.JKT != "", func() string { return claims.Confirmation.JKT }); err != nil {
		return renderError(w, r, err)
	} else if !ok {
		return challenge(w, scheme, "invalid_token")
	}
	scopes := strings.Fields(claims.Scope)
	if !slices.Contains(scopes, "openid") {
		return challenge(w, scheme, "insufficient_scope")
	}
	who, err := s.State.PersonBySubject(r.Context(), claims.Subject)
	if err != nil {
		return err
	}
	out := map[string]any{"sub": claims.Subject}
	if slices.Contains(scopes, "profile") {
		out["name"], out["preferred_username"] = who.Name, who.Username
	}
	if slices.Contains(scopes, "email") && who.Email != "" {
		out["email"], out["email_verified"] = who.Email, who.Verified
	}
	return web.JSON(w, http.StatusOK, out)
}

// possessed checks the sender constraint of a token presented to us: a bound
// token needs its proof, and a proof is used once.
func (s *Server) possessed(w http.ResponseWriter, r *http.Request, text, scheme string, bound bool, jkt func() string) (bool, error) {
	if !bound {
		return scheme == "Bearer", nil
	}
	if scheme != "DPoP" {
		return false, nil
	}
	p, err := s.dpop(w, r, text)
	if err != nil {
		if problem.CodeOf(err) == "use_dpop_nonce" {
			w.Header().Set("WWW-Authenticate", `DPoP error="use_dpop_nonce"`)
			return false, problem.New(problem.Unauthenticated, "use_dpop_nonce", "Use the nonce in the DPoP-Nonce header.")
		}
		return false, nil
	}
	if p == nil || p.jkt != jkt() {
		return false, nil
	}
	_, err = s.Do.Do(r.Context(), act.Intent{
		Action: policy.ProofSpend, Kind: audit.ProofSeen, Refs: act.Refs{Kind: "system"}, Spend: []once.Spend{p.spend},
	})
	if _, used := act.Spent(err); used {
		return false, nil
	}
	return err == nil, err
}

// presentedToken reads the Authorization header: exactly one, DPoP or Bearer.
func presentedToken(r *http.Request) (text, scheme string, err error) {
	h := r.Header.Values("Authorization")
	if len(h) == 0 {
		return "", "", nil
	}
	name, text, ok := strings.Cut(h[0], " ")
	switch {
	case len(h) > 1 || !ok || text == "":
	case strings.EqualFold(name, "DPoP"):
		return text, "DPoP", nil
	case strings.EqualFold(name, "Bearer"):
		return text, "Bearer", nil
	}
	return "", "Bearer", errClient
}

// challenge answers 401 or 403 as a resource server (RFC 6750 §3).
func challenge(w http.ResponseWriter, scheme, code string) error {
	status, line := http.StatusUnauthorized, `DPoP algs="ES256 EdDSA PS256", Bearer`
	if code != "" {
		line = scheme + ` error="` + code + `"`
		if code == "insufficient_scope" {
			status, line = http.StatusForbidden, line+`, scope="openid"`
		}
	}
	w.Header().Set("WWW-Authenticate", line)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	return nil
}

// spendCaller spends a client assertion at an endpoint that changes nothing
// else: it is used once wherever it is used.
func (s *Server) spendCaller(ctx context.Context, c *caller) error {
	if len(c.spend) == 0 {
		return nil
	}
	_, err := s.Do.Do(ctx, act.Intent{
		Action: policy.ProofSpend, Kind: audit.ProofSeen, Refs: act.Refs{Kind: "system"}, Spend: c.spend,
	})
	if used, ok := act.Spent(err); ok {
		return replayed(used)
	}
	return err
}

// endGrant ends a grant at its client's word (RFC 7009).
func (s *Server) endGrant(ctx context.Context, c *caller, gr grant.Grant) error {
	_, err := s.Do.Do(ctx, act.Intent{
		Action: policy.GrantEnd, Kind: audit.TokenRevoked, Refs: act.Refs{Kind: "system", Target: []string{gr.ID}},
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
			return act.Effect{
				Changes: []act.Change{lineage.End{ID: gr.ID, Why: "revoked_by_client"}},
				Parts:   []audit.Part{{Person: gr.Person, Body: map[string]any{"client": c.ID, "grant": gr.ID}}},
			}, nil
		},
	})
	return err
}

// refusedQuietly counts a refusal of somebody who is not authenticated: totals
// per minute, never records (mechanisms E5).
func (s *Server) refusedQuietly(action policy.Action, err error) {
	if p := problem.From(err); p != nil && s.Do.Refused != nil {
		s.Do.Refused(action, p.Code)
	}
}
