package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/resource"
)

// Ask is what a scope demands of who uses it.
type Ask struct {
	ACR    string `json:"acr,omitempty" maxLength:"100" doc:"At least this rung, e.g. phr"`
	MaxAge int64  `json:"max_age,omitempty" minimum:"0" maximum:"31536000" doc:"Seconds since the sign-in; at least 60"`
}

// Scope is a permission at a resource.
type Scope struct {
	Name        string   `json:"name" maxLength:"128"`
	Description string   `json:"description,omitempty" maxLength:"800" doc:"In plain words, for consent"`
	Kind        string   `json:"kind,omitempty" enum:"read,change,spend,admin" doc:"read if left out"`
	Ask         *Ask     `json:"ask,omitempty"`
	Groups      []string `json:"groups,omitempty" maxItems:"20" doc:"Names; anybody if left out"`
	Default     bool     `json:"default,omitempty" doc:"Given when a client asks for none"`
}

// ResourceSpec says what a resource is to be.
type ResourceSpec struct {
	URI             string        `json:"uri" maxLength:"512" doc:"Its identifier: the audience of tokens; never changes"`
	Name            string        `json:"name,omitempty" maxLength:"320" doc:"What people see; the uri if left out"`
	Scopes          []Scope       `json:"scopes,omitempty" maxItems:"200"`
	DetailsTypes    []DetailsType `json:"authorization_details_types,omitempty" maxItems:"50"`
	Servers         []string      `json:"servers,omitempty" maxItems:"50" doc:"client_ids of its enforcement points"`
	RequireDPoP     bool          `json:"require_dpop,omitempty"`
	DelegationAware bool          `json:"delegation_aware,omitempty" doc:"Its verifier understands the claim act"`
}

// ProtectedResource is a registered resource.
type ProtectedResource struct {
	ID              string        `json:"id"`
	URI             string        `json:"uri"`
	Name            string        `json:"name"`
	Scopes          []Scope       `json:"scopes" nullable:"false"`
	DetailsTypes    []DetailsType `json:"authorization_details_types,omitempty"`
	Servers         []string      `json:"servers" nullable:"false" doc:"client_ids"`
	RequireDPoP     bool          `json:"require_dpop"`
	DelegationAware bool          `json:"delegation_aware"`
	ManagedBy       string        `json:"managed_by"`
	CreatedAt       time.Time     `json:"created_at"`
}

// DetailsType is a type of authorization details at a resource (RFC 9396).
type DetailsType struct {
	Name     string            `json:"name" maxLength:"100" doc:"The value of type"`
	Schema   Schema            `json:"schema"`
	Narrower map[string]string `json:"narrower,omitempty" doc:"By member, as a dotted path, how a narrower element may differ: subset, at_most, at_least or prefix. Every other member has to be equal"`
	Template string            `json:"template" maxLength:"1200" doc:"The sentence for consent, with members of the element as {dotted.path}"`
}

// Schema is a JSON Schema as its owner sent it.
type Schema json.RawMessage

// Schema implements huma.SchemaProvider: an object that is read elsewhere.
func (Schema) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeObject, Description: "A JSON Schema (2020-12) that refers to nothing outside of itself", AdditionalProperties: true}
}

// MarshalJSON implements json.Marshaler.
func (s Schema) MarshalJSON() ([]byte, error) { return json.RawMessage(s).MarshalJSON() }

// UnmarshalJSON implements json.Unmarshaler.
func (s *Schema) UnmarshalJSON(b []byte) error { return (*json.RawMessage)(s).UnmarshalJSON(b) }

type (
	resourceIn struct {
		KeyParam
		Body ResourceSpec
	}
	resourcePutIn struct {
		ID      string `path:"id" maxLength:"64"`
		IfMatch string `header:"If-Match" maxLength:"64"`
		Body    ResourceSpec
	}
	endIn struct {
		ID      string `path:"id" maxLength:"64"`
		IfMatch string `header:"If-Match" maxLength:"64"`
	}
	resourceOut struct {
		Location string `header:"Location"`
		Tagged
		Body ProtectedResource
	}
)

func (a *API) resources() {
	const tag = "resources"
	register(a, operation{
		id: "list-resources", method: http.MethodGet, path: "/v1/resources", summary: "List resources", tag: tag,
		scope: ScopeRead, action: policy.ResourceRead, kind: audit.TokenRefused,
	}, a.listResources)
	register(a, operation{
		id: "create-resource", method: http.MethodPost, path: "/v1/resources", summary: "Register a resource", tag: tag,
		scope: ScopeWrite, action: policy.ResourceWrite, kind: audit.ResourceCreated, status: http.StatusCreated,
	}, a.createResource)
	register(a, operation{
		id: "get-resource", method: http.MethodGet, path: "/v1/resources/{id}", summary: "Read a resource", tag: tag,
		scope: ScopeRead, action: policy.ResourceRead, kind: audit.TokenRefused,
	}, func(ctx context.Context, _ *call, in *idIn) (*resourceOut, error) { return a.showResource(ctx, in.ID) })
	register(a, operation{
		id: "replace-resource", method: http.MethodPut, path: "/v1/resources/{id}", summary: "Change what a resource is", tag: tag,
		scope: ScopeWrite, action: policy.ResourceWrite, kind: audit.ResourceUpdated,
	}, a.replaceResource)
	register(a, operation{
		id: "end-resource", method: http.MethodDelete, path: "/v1/resources/{id}", summary: "End a resource: nobody gets tokens for it any more", tag: tag,
		scope: ScopeWrite, action: policy.ResourceWrite, kind: audit.ResourceEnded, status: http.StatusNoContent,
	}, a.endResource)
}

func (a *API) liveResource(ctx context.Context, id string) (resource.Resource, error) {
	r, err := a.Registry.Resource(ctx, id)
	if err == nil && !r.Node.EndedAt.IsZero() {
		err = problem.New(problem.NotFound, "resource_not_found", "There is no such resource.")
	}
	return r, err
}

func (a *API) managedResource(ctx context.Context, id string) (resource.Resource, error) {
	r, err := a.liveResource(ctx, id)
	if err == nil && r.ManagedBy == BuiltIn {
		err = problem.New(problem.Conflict, "built_in", "The server made this itself, and keeps it as it is.")
	}
	return r, err
}

func (a *API) listResources(ctx context.Context, _ *call, in *PageParams) (*pageOut[ProtectedResource], error) {
	return paged(*in, func(after string, n int) ([]resource.Resource, error) { return a.Registry.Resources(ctx, after, n) },
		func(r resource.Resource) string { return r.ID }, func(r resource.Resource) bool { return r.Node.EndedAt.IsZero() },
		func(r resource.Resource) (ProtectedResource, error) { return a.viewResource(ctx, r) })
}

func (a *API) showResource(ctx context.Context, id string) (*resourceOut, error) {
	r, err := a.liveResource(ctx, id)
	if err != nil {
		return nil, err
	}
	v, err := a.viewResource(ctx, r)
	return &resourceOut{"/v1/resources/" + r.ID, Tagged{tag(r.Node)}, v}, err
}

func (a *API) viewResource(ctx context.Context, r resource.Resource) (ProtectedResource, error) {
	v := ProtectedResource{
		ID: r.ID, URI: r.URI, Name: r.Name, Scopes: []Scope{}, Servers: []string{}, RequireDPoP: r.RequireDPoP,
		DelegationAware: r.DelegationAware, ManagedBy: r.ManagedBy, CreatedAt: r.CreatedAt,
	}
	for _, s := range r.Scopes {
		sc := Scope{Name: s.Name, Description: s.Description, Kind: s.Kind, Groups: s.Groups, Default: s.Default}
		if s.Ask.Demands() {
			sc.Ask = &Ask{ACR: a.Do.Ladder.ACR(s.Ask.Rung), MaxAge: int64(s.Ask.MaxAge / time.Second)}
		}
		v.Scopes = append(v.Scopes, sc)
	}
	for _, t := range r.DetailsTypes {
		v.DetailsTypes = append(v.DetailsTypes, DetailsType{t.Name, Schema(t.Schema), t.Narrower, t.Template})
	}
	for _, s := range r.Servers {
		c, err := a.Registry.Client(ctx, s)
		if err != nil {
			return v, err
		}
		v.Servers = append(v.Servers, c.ClientID)
	}
	return v, nil
}

// plainText reports whether s can be shown to people as it is.
func plainText(s string) bool {
	return utf8.ValidString(s) && strings.TrimSpace(s) == s &&
		!strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) })
}

// described is the resource that a spec describes.
func (a *API) described(ctx context.Context, s ResourceSpec) (resource.Resource, error) {
	r := resource.Resource{URI: s.URI, Name: s.Name, RequireDPoP: s.RequireDPoP, DelegationAware: s.DelegationAware, ManagedBy: "api"}
	if r.Name == "" {
		r.Name = s.URI[:min(len(s.URI), 80)]
	}
	for _, sc := range s.Scopes {
		out := resource.Scope{Name: sc.Name, Description: sc.Description, Kind: sc.Kind, Groups: sc.Groups, Default: sc.Default}
		if out.Kind == "" {
			out.Kind = resource.KindRead
		}
		if sc.Ask != nil {
			if out.Ask = (assurance.Ask{Rung: a.Do.Ladder.RungOf(sc.Ask.ACR), MaxAge: time.Duration(sc.Ask.MaxAge) * time.Second}); sc.Ask.ACR != "" && out.Ask.Rung == assurance.None {
				return r, problem.Newf(problem.Invalid, "ask_invalid", "The scope %.128q asks for an acr that is not known: %s are.", sc.Name, strings.Join(a.Do.Ladder.Values(), ", "))
			}
		}
		for _, g := range sc.Groups {
			if _, err := a.groupNamed(ctx, g); err != nil {
				return r, err
			}
		}
		r.Scopes = append(r.Scopes, out)
	}
	for _, t := range s.DetailsTypes {
		r.DetailsTypes = append(r.DetailsTypes, resource.DetailsType{Name: t.Name, Schema: json.RawMessage(t.Schema), Narrower: t.Narrower, Template: t.Template})
	}
	for _, name := range s.Servers {
		c, err := a.liveClient(ctx, name)
		if err != nil {
			return r, unknownIs(err, problem.Newf(problem.Invalid, "server_unknown", "There is no client %.64q.", name))
		}
		r.Servers = append(r.Servers, c.ID)
	}
	return r, resource.Check(r)
}

func (a *API) createResource(ctx context.Context, c *call, in *resourceIn) (*resourceOut, error) {
	return onlyOnce(ctx, a, c, in.KeyParam, in.Body, a.showResource, func(key *idempotency) (*resourceOut, error) {
		r, err := a.described(ctx, in.Body)
		if err != nil {
			return nil, err
		}
		if strings.HasPrefix(r.URI+"/", a.Issuer+"/") {
			return nil, problem.New(problem.Invalid, "uri_invalid", "What is below the server's own address is its own.")
		}
		r.ID, r.CreatedAt = id.New(id.Resource), a.now()
		_, err = a.carryOut(ctx, c, change{
			target: r.Servers, said: map[string]any{"resource": r.ID, "uri": r.URI},
			make: func(*act.Facts) ([]act.Change, error) {
				return key.remember(r.ID, a.now(), resource.Create{Resource: r}), nil
			},
		})
		if err != nil {
			return nil, err
		}
		return a.showResource(ctx, r.ID)
	})
}

func (a *API) replaceResource(ctx context.Context, c *call, in *resourcePutIn) (*resourceOut, error) {
	have, err := a.managedResource(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	m, err := matching(in.IfMatch, have.Node)
	if err != nil {
		return nil, err
	}
	if in.Body.URI != have.URI {
		return nil, problem.New(problem.Invalid, "uri_fixed", "A resource's uri does not change: tokens and verifiers know it.")
	}
	r, err := a.described(ctx, in.Body)
	if err != nil {
		return nil, err
	}
	r.ID, r.CreatedAt = have.ID, have.CreatedAt
	_, err = a.carryOut(ctx, c, change{
		target: append([]string{r.ID}, r.Servers...), match: m,
		said: map[string]any{"resource": r.ID, "uri": r.URI, "changed": changedResource(have, r)},
		make: func(*act.Facts) ([]act.Change, error) { return []act.Change{resource.Update{Resource: r}}, nil },
	})
	if err != nil {
		return nil, err
	}
	return a.showResource(ctx, r.ID)
}

// changedResource names the members that differ, for the record.
func changedResource(x, y resource.Resource) []string {
	out := []string{}
	for _, m := range []struct {
		name string
		same bool
	}{
		{"name", x.Name == y.Name},
		{"scopes", len(x.Scopes) == 0 && len(y.Scopes) == 0 || reflect.DeepEqual(x.Scopes, y.Scopes)},
		{"authorization_details_types", len(x.DetailsTypes) == 0 && len(y.DetailsTypes) == 0 || reflect.DeepEqual(x.DetailsTypes, y.DetailsTypes)},
		{"servers", slices.Equal(x.Servers, y.Servers)},
		{"require_dpop", x.RequireDPoP == y.RequireDPoP},
		{"delegation_aware", x.DelegationAware == y.DelegationAware},
	} {
		if !m.same {
			out = append(out, m.name)
		}
	}
	return out
}

func (a *API) endResource(ctx context.Context, c *call, in *endIn) (*none, error) {
	r, err := a.managedResource(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	m, err := matching(in.IfMatch, r.Node)
	if err != nil {
		return nil, err
	}
	_, err = a.carryOut(ctx, c, change{
		target: []string{r.ID}, match: m, said: map[string]any{"resource": r.ID, "uri": r.URI},
		make: func(*act.Facts) ([]act.Change, error) { return []act.Change{lineage.End{ID: r.ID, Why: "ended"}}, nil },
	})
	return nil, err
}
