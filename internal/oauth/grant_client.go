package oauth

import (
	"context"
	"slices"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
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
	res, err := machineResource(ctx, t)
	if err != nil {
		return nil, err
	}
	scopes, err := machineScopes(c, res, t.scopes)
	if err != nil {
		return nil, err
	}
	details, err := askedDetails(t, res)
	if err != nil {
		return nil, err
	}
	svc, err := t.rows.service(ctx, c.Service)
	if err != nil {
		return nil, err
	}
	p := &pendingIssue{answer: answerValue, failed: machineError, Intent: act.Intent{
		Action: policy.TokenIssue, Kind: audit.TokenIssued,
		Refs:   act.Refs{Kind: policy.KindService, Actor: c.Service, Client: c.ID, Resource: res.ID, Scopes: scopes},
		Proofs: t.client.proofs, Details: judgedAt(details, res),
	}}
	given := scopes
	p.Changes = func(f *act.Facts, d policy.Decision) (act.Effect, error) {
		if len(d.Withheld) > 0 {
			if given = without(scopes, d.Withheld); len(given) == 0 {
				return act.Effect{}, invalid("invalid_scope", "None of these scopes can be given now.")
			}
		}
		return act.Effect{Leaf: c.ID, Detail: issued{Scopes: given}}, nil
	}
	p.Seal = func(seal act.Sealing) (any, error) {
		life := lifetime(seal.Decision)
		text, err := g.s.sign(seal, accessToken{
			subject: svc.Subject, client: c, audience: res.URI, scopes: given, life: life,
			bound: t.bound(), nodes: seal.Facts.Nodes, mayAct: t.mayAct, details: details,
		})
		return &tokenResponse{AccessToken: text, TokenType: t.bound().tokenType(), ExpiresIn: int64(life.Seconds()), Scope: joinScopes(given), Details: details}, err
	}
	return p, nil
}

// issued is what a record tells of a token beside the decision's own facts.
type issued struct {
	Scopes []string `json:"scopes"`
	Grant  string   `json:"grant_type,omitempty"`
}

// FactsKey says what issued says, for interning (act.Keyed).
func (i issued) FactsKey() string { return i.Grant + "\x00" + joinScopes(i.Scopes) }

// machineError is what a service is told that policy refuses: no grant is
// presented that could be invalid (RFC 6749 §5.2).
func machineError(_ context.Context, err error) error {
	if p := problem.From(err); p != nil && (p.Kind == problem.Denied || p.Kind == problem.StepUp) {
		return invalid("unauthorized_client", "The service may not have this token now.").Because(err)
	}
	return err
}

// machineResource is the resource a service's token is for: the one it asks for,
// or its only one (RFC 8707: never "all").
func machineResource(ctx context.Context, t *tokenRequest) (*resource.Resource, error) {
	c, res := t.client.Client, t.resource
	if res == nil {
		if len(c.Resources) != 1 || c.Resources[0] == "*" {
			return nil, invalid("invalid_target", "Say which resource the token is for (RFC 8707).")
		}
		var err error
		if res, err = t.rows.resource(ctx, c.Resources[0]); err != nil {
			return nil, err
		}
	}
	if !mayUse(c, res.ID) {
		return nil, invalid("invalid_target", "The client is not registered for this resource.")
	}
	return res, constrained(t, res)
}

// constrained holds a request to what the resource demands of its tokens.
func constrained(t *tokenRequest, res *resource.Resource) error {
	if res != nil && res.RequireDPoP && t.key == nil {
		return unbound("Tokens for this resource")
	}
	return nil
}

func mayUse(c client.Client, resourceID string) bool {
	return slices.Contains(c.Resources, resourceID) || slices.Contains(c.Resources, "*")
}

// machineScopes are the scopes a service's token has: those it asks for, which
// must be among those it is registered for, or all of these at the resource. For
// one that is registered for any, asking for none means the resource's defaults.
func machineScopes(c client.Client, res *resource.Resource, asked []string) ([]string, error) {
	if len(asked) == 0 {
		any := slices.Contains(c.Scopes, "*")
		var out []string
		for _, sc := range res.Scopes {
			// What asks for a person's proof is never given to a machine (A26).
			if !sc.Conditional() && (slices.Contains(c.Scopes, sc.Name) || any && sc.Default) {
				out = append(out, sc.Name)
			}
		}
		return out, nil
	}
	for _, name := range asked {
		if _, ok := res.Scope(name); !ok || !mayAsk(c, name) {
			return nil, invalid("invalid_scope", "The client is not registered for the scope "+name+" at this resource.")
		}
	}
	return asked, nil
}

func answerValue(out act.Outcome) (*tokenResponse, error) { return out.Value.(*tokenResponse), nil }
