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
// everything below it; an access token's grant likewise, or its delegation if
// somebody acts with it. A service's access token hangs on nothing that could be
// ended apart from the service: it lives for minutes and is answered with
// unsupported_token_type.
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
		s.refusedQuietly(r, policy.TokenRevoke, err)
		return renderError(w, r, err)
	}
	note(r, "client", shortID(c.Client))
	text := f.Get("token")
	if text == "" {
		return renderError(w, r, invalid("invalid_request", "token is missing."))
	}
	what, err := s.revocable(r.Context(), c, text)
	if err == nil && what.id != "" {
		err = s.endGrant(r.Context(), c, what)
	}
	if err != nil {
		return renderError(w, r, err)
	}
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	return nil
}

// revocable is what ends with a token, and whose it is; the zero value is nothing.
type revocable struct{ id, person string }

// revocable finds the caller's own grant or delegation behind a token; there being
// none is no error (RFC 7009 §2.2).
func (s *Server) revocable(ctx context.Context, c *caller, text string) (revocable, error) {
	if tok, err := grant.ReadToken(text, s.Keys); err == nil {
		fam, err := s.Grants.Family(ctx, tok.FamilyID())
		switch {
		case problem.Refusal(err):
			return revocable{}, nil
		case err != nil:
			return revocable{}, err
		case fam.Client != c.ID || tok.Gen == fam.Gen && !tok.Hash().Equal(fam.CurHash):
			return revocable{}, nil
		}
		return s.grantBehind(ctx, fam.Grant)
	}
	claims, err := s.genuine(text)
	if err != nil || claims.ClientID != c.ClientID {
		return revocable{}, nil
	}
	leaf, nodes, err := s.State.Leaf(ctx, claims.JTI)
	if err != nil {
		if problem.Refusal(err) {
			return revocable{}, nil
		}
		return revocable{}, err
	}
	if claims.Actor != nil {
		return s.delegationOf(ctx, leaf)
	}
	for _, n := range nodes {
		if n.Kind == lineage.Grant && strings.HasPrefix(n.ID, id.Grant) {
			return s.grantBehind(ctx, n.ID)
		}
	}
	return revocable{}, invalid("unsupported_token_type", "A service's access token cannot be revoked apart from the service; it ends within minutes.")
}

func (s *Server) grantBehind(ctx context.Context, grantID string) (revocable, error) {
	gr, err := s.Grants.Grant(ctx, grantID)
	if problem.Refusal(err) {
		return revocable{}, nil
	}
	return revocable{gr.ID, gr.Person}, err
}

// delegationOf is what an actor was given, not what it was given from: that is not
// its own to end.
func (s *Server) delegationOf(ctx context.Context, delegationID string) (revocable, error) {
	d, err := s.Grants.DelegationByID(ctx, delegationID)
	switch {
	case problem.Refusal(err):
		return revocable{}, nil
	case err != nil || d.Grant == "": // a service's: nobody's in particular
		return revocable{id: d.ID}, err
	}
	return revocable{d.ID, d.Subject}, nil
}

// endGrant ends a grant or delegation at its client's word (RFC 7009).
func (s *Server) endGrant(ctx context.Context, c *caller, what revocable) error {
	_, err := s.Do.Do(ctx, act.Intent{
		Action: policy.GrantEnd, Kind: audit.TokenRevoked, Refs: act.Refs{Kind: policy.KindSystem, Target: []string{what.id}},
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
			return act.Effect{
				Changes: []act.Change{lineage.End{ID: what.id, Why: "revoked_by_client"}},
				Parts:   []audit.Part{{Person: what.person, Body: map[string]any{"client": c.ID, "grant": what.id}}},
			}, nil
		},
	})
	return err
}
