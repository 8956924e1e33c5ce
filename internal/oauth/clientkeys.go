package oauth

import (
	"context"

	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/jwks"
	"github.com/countersign-dev/countersign/internal/problem"
)

// errKeys is of a client whose keys are registered by address when the server was
// built without a way to fetch them.
var errKeys = problem.New(problem.Unavailable, "jwks_unavailable", "The client's keys cannot be read right now.")

// keySource is what fetches a client's keys. Whom nobody registered or agreed to has
// one apart: its places and its memory are anybody's to fill. So has whom people agreed
// to: they vouch for nothing that the server can reach, and where the keys are is the
// client's word, today and tomorrow.
func (s *Server) keySource(c client.Client) *jwks.Source {
	switch {
	case c.ID == "":
		return s.Announced
	case c.Known() || c.Pinned || allowed(c.Trust) && client.DocumentHost(c.JWKSURI) == c.Group:
		return s.Published
	}
	return s.Agreed
}

// clientKeys are the keys of a client for one verification: by value, or fetched
// from where it publishes them. A key that is not there is looked for once more.
func (s *Server) clientKeys(ctx context.Context, c client.Client) (jose.KeySet, error) {
	if from := s.keySource(c); c.JWKSURI != "" && from != nil {
		return from.Keys(ctx, c.JWKSURI)
	}
	return s.clientKeySet(ctx, c)
}

// clientKeySet is clientKeys as the set it is, without looking for what is missing.
func (s *Server) clientKeySet(ctx context.Context, c client.Client) (*jose.JWKSet, error) {
	from := s.keySource(c)
	switch {
	case c.JWKSURI == "":
		return jose.ParseJWKSet(c.JWKS)
	case from == nil:
		return nil, errKeys
	}
	return from.Set(ctx, c.JWKSURI)
}
