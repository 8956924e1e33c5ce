package oauth

import (
	"context"
	"net/http"
	"slices"

	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/resource"
	"github.com/countersign-dev/countersign/internal/web"
)

// Holder is whose authority a live access token carries, and through what.
type Holder struct {
	Claims *jose.AccessTokenClaims
	Kind   string // policy.KindPerson or policy.KindService
	Actor  string // by id
	Grant  string // of a person; "" if there is none
	Client string // that holds the token, by id
	Leaf   string // what the token hangs on
	Depth  int    // how many act for them
	// Details are what the token's authorization details say at its resource.
	Details policy.Details
}

// Holder verifies an access token of ours, for whatever audience, and finds whose it is;
// it and all that it hangs on are live now. A token that is none, or has ended, is
// problem.Unauthenticated.
func (s *Server) Holder(ctx context.Context, token string) (h Holder, err error) {
	x := &exchange{}
	if x.claims, err = s.genuine(token); err != nil {
		return h, err
	}
	if x.leaf, x.nodes, err = s.State.Leaf(ctx, x.claims.JTI); err != nil {
		return h, notOurs(err)
	}
	if n, ended := lineage.FirstEnded(x.nodes); ended || len(x.nodes) == 0 {
		return h, problem.New(problem.Unauthenticated, "token_ended", "The token was ended: "+n.Kind.String()+".")
	}
	if x.root, err = (exchangeGrant{s}).rootOf(ctx, &tokenRequest{rows: rows{s: s, now: s.now()}}, x); err != nil {
		return h, notOurs(err)
	}
	c, err := s.Clients.ClientByClientID(ctx, x.claims.ClientID)
	if err != nil {
		return h, notOurs(err)
	}
	h = Holder{Claims: x.claims, Kind: x.root.kind, Actor: x.root.subject, Client: c.ID, Leaf: x.leaf, Depth: x.root.depth}
	if x.root.grant != nil && x.claims.Actor == nil {
		h.Grant = x.root.grant.ID
	}
	if len(x.claims.AuthorizationDetails) > 0 && len(x.claims.Audience) == 1 {
		elements, err := resource.ReadDetails(string(x.claims.AuthorizationDetails))
		if err != nil {
			return Holder{}, notOurs(err)
		}
		res, err := s.Resources.ResourceByURI(ctx, x.claims.Audience[0])
		if err != nil {
			return Holder{}, notOurs(err)
		}
		h.Details = judgedAt(elements, &res)
	}
	return h, nil
}

// notOurs keeps a storage fault one, and makes of anything else a token that does not
// count.
func notOurs(err error) error {
	if !problem.Refusal(err) {
		return err
	}
	return problem.New(problem.Unauthenticated, "token_ended", "The token was ended.").Because(err)
}

// ServerClient authenticates a resource server that asks as itself, with what is in the
// headers and the connection of a request alone: its client's secret (RFC 6749 §2.3.1) or
// certificate (RFC 8705). Neither it nor what it acts for has been switched off. Errors
// are problem.Unauthenticated, or problem.Invalid where more than one is shown.
func (s *Server) ServerClient(r *http.Request) (client.Client, error) {
	c, err := s.authenticate(r.Context(), r, web.Form{}, s.current)
	if err != nil {
		s.Do.Missed(err, s.networkOf(r), s.now())
		return client.Client{}, err
	}
	if !c.Confidential() {
		return client.Client{}, errClient
	}
	nodes, err := s.State.Ancestors(r.Context(), c.ID)
	if err != nil {
		return client.Client{}, asClient(err)
	}
	if _, ended := lineage.FirstEnded(nodes); ended || !slices.ContainsFunc(nodes, func(n lineage.Node) bool { return n.ID == c.ID }) {
		return client.Client{}, errClient
	}
	return c.Client, nil
}
