package oauth

import (
	"context"
	"net/http"
	"strings"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/web"
)

// revoke ends what a token hangs on (RFC 7009): a refresh token's grant, with
// everything below it; an access token's grant likewise. A service's access
// token hangs on nothing that could be ended apart from the service: it lives
// for minutes and is answered with unsupported_token_type.
func (s *Server) revoke(w http.ResponseWriter, r *http.Request) error {
	f, err := web.ParseForm(r, maxForm)
	if err != nil {
		return renderError(w, r, err)
	}
	c, err := s.authenticate(r.Context(), r, f, s.current)
	if err == nil {
		err = s.spendCaller(r.Context(), c)
	}
	if err != nil {
		s.refusedQuietly(policy.TokenRevoke, err)
		return renderError(w, r, err)
	}
	note(r, "client", c.ClientID)
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
		if claims.ACR == "" { // nobody's grant
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
			if n.Kind == lineage.Grant && strings.HasPrefix(n.ID, id.Grant) {
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

// endGrant ends a grant at its client's word (RFC 7009).
func (s *Server) endGrant(ctx context.Context, c *caller, gr grant.Grant) error {
	_, err := s.Do.Do(ctx, act.Intent{
		Action: policy.GrantEnd, Kind: audit.TokenRevoked, Refs: act.Refs{Kind: policy.KindSystem, Target: []string{gr.ID}},
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
			return act.Effect{
				Changes: []act.Change{lineage.End{ID: gr.ID, Why: "revoked_by_client"}},
				Parts:   []audit.Part{{Person: gr.Person, Body: map[string]any{"client": c.ID, "grant": gr.ID}}},
			}, nil
		},
	})
	return err
}
