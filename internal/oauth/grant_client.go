package oauth

import (
	"context"
	"slices"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/resource"
)

// clientGrant is client credentials (RFC 6749 §4.4): a service asks for itself.
// It writes no row of its own: the record's id is the jti, and the token's
// lineage is the client, the service and its owner.
type clientGrant struct{ s *Server }

func (g clientGrant) intent(ctx context.Context, t *tokenRequest) (*pendingIssue, error) {
	c := t.client.Client
	if c.Service == "" || !c.Confidential() {
		return nil, invalid("unauthorized_client", "The client acts for no service of its own.")
	}
	res, err := g.s.machineResource(ctx, c, t.resource)
	if err != nil {
		return nil, err
	}
	scopes, err := machineScopes(c, res, t.scopes)
	if err != nil {
		return nil, err
	}
	svc, err := g.s.Clients.Service(ctx, c.Service)
	if err != nil {
		return nil, err
	}
	p := &pendingIssue{Intent: act.Intent{
		Action: "token.issue", Kind: audit.TokenIssued,
		Refs:   act.Refs{Kind: "service", Actor: c.Service, Client: c.ID, Resource: res.ID, Scopes: scopes},
		Proofs: t.client.proofs,
	}}
	var given []string
	p.Changes = func(f *act.Facts, d policy.Decision) (act.Effect, error) {
		given = without(scopes, d.Withheld)
		if len(given) == 0 && len(scopes) > 0 {
			return act.Effect{}, invalid("invalid_scope", "None of these scopes can be given now.")
		}
		return act.Effect{Leaf: c.ID, Detail: map[string]any{"scopes": given}}, nil
	}
	p.Seal = func(seal act.Sealing) (any, error) {
		life := lifetime(seal.At, seal.Decision, time.Time{})
		text, err := g.s.sign(seal, accessToken{
			subject: svc.Subject, clientID: c.ClientID, audience: res.URI, scopes: given, life: life,
			jkt: t.jkt(), nodes: seal.Facts.Nodes,
		})
		return &tokenResponse{AccessToken: text, TokenType: tokenType(t.jkt()), ExpiresIn: int64(life.Seconds()), Scope: joinScopes(given)}, err
	}
	p.answer = answerValue
	return p, nil
}

func (g clientGrant) failed(_ context.Context, _ *tokenRequest, _ *pendingIssue, err error) error {
	return err
}

// machineResource is the resource a service's token is for: the one it asks for,
// or its only one (RFC 8707: never "all").
func (s *Server) machineResource(ctx context.Context, c client.Client, asked *resource.Resource) (resource.Resource, error) {
	if asked != nil {
		if !mayUse(c, asked.ID) {
			return resource.Resource{}, invalid("invalid_target", "The client is not registered for this resource.")
		}
		return *asked, nil
	}
	if len(c.Resources) != 1 || c.Resources[0] == "*" {
		return resource.Resource{}, invalid("invalid_target", "Say which resource the token is for (RFC 8707).")
	}
	return s.Resources.Resource(ctx, c.Resources[0])
}

func mayUse(c client.Client, resourceID string) bool {
	return slices.Contains(c.Resources, resourceID) || slices.Contains(c.Resources, "*")
}

// machineScopes are the scopes a service's token has: those it asks for, which
// must be among those it is registered for, or all of these at the resource.
func machineScopes(c client.Client, res resource.Resource, asked []string) ([]string, error) {
	if len(asked) == 0 {
		var out []string
		for _, sc := range res.Scopes {
			if slices.Contains(c.Scopes, sc.Name) {
				out = append(out, sc.Name)
			}
		}
		return out, nil
	}
	for _, name := range asked {
		if _, ok := res.Scope(name); !ok || !slices.Contains(c.Scopes, name) {
			return nil, invalid("invalid_scope", "The client is not registered for the scope "+name+" at this resource.")
		}
	}
	return asked, nil
}

func answerValue(out act.Outcome) (*tokenResponse, error) { return out.Value.(*tokenResponse), nil }
