package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/resource"
	"github.com/countersign-dev/countersign/internal/secret"
)

// KeySet is a JWK set as its owner sent it.
type KeySet json.RawMessage

// Schema implements huma.SchemaProvider: an object that is read elsewhere.
func (KeySet) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeObject, Description: "A JWK set of public signature keys (RFC 7517)", AdditionalProperties: true}
}

// MarshalJSON implements json.Marshaler.
func (k KeySet) MarshalJSON() ([]byte, error) { return json.RawMessage(k).MarshalJSON() }

// UnmarshalJSON implements json.Unmarshaler.
func (k *KeySet) UnmarshalJSON(b []byte) error { return (*json.RawMessage)(k).UnmarshalJSON(b) }

// ClientSpec says what a client is to be. A member that is left out has its
// default; what is not here cannot be set.
type ClientSpec struct {
	ClientID     string   `json:"client_id,omitempty" maxLength:"64" doc:"Its name on the wire; made if left out"`
	Name         string   `json:"name,omitempty" maxLength:"320" doc:"What people see; the client_id if left out"`
	AuthMethod   string   `json:"auth_method,omitempty" enum:"none,client_secret_basic,client_secret_post,private_key_jwt,tls_client_auth,self_signed_tls_client_auth" doc:"none if left out"`
	JWKS         KeySet   `json:"jwks,omitempty"`
	RedirectURIs []string `json:"redirect_uris,omitempty" maxItems:"50"`
	GrantTypes   []string `json:"grant_types,omitempty" maxItems:"10" doc:"client_credentials for a client with a service, else authorization_code and refresh_token, if left out"`
	Scopes       []string `json:"scopes,omitempty" maxItems:"200" doc:"What it may ask for; * is any"`
	Resources    []string `json:"resources,omitempty" maxItems:"200" doc:"URIs of the resources it may ask tokens for; * is any"`
	Native       *bool    `json:"native,omitempty" doc:"An app on a computer; from the redirect URIs if left out"`
	RequireDPoP  bool     `json:"require_dpop,omitempty"`
	client.Metadata
	Service *ServiceSpec `json:"service,omitempty" doc:"The service account it acts as with client_credentials; made with the client, and fixed then"`
}

// Client is software that asks on somebody's behalf.
type Client struct {
	ID           string   `json:"id"`
	ClientID     string   `json:"client_id"`
	Name         string   `json:"name"`
	AuthMethod   string   `json:"auth_method"`
	JWKS         KeySet   `json:"jwks,omitempty"`
	RedirectURIs []string `json:"redirect_uris" nullable:"false"`
	GrantTypes   []string `json:"grant_types" nullable:"false"`
	Scopes       []string `json:"scopes" nullable:"false"`
	Resources    []string `json:"resources" nullable:"false"`
	FirstParty   bool     `json:"first_party" doc:"Part of this deployment: consent is not asked"`
	Native       bool     `json:"native"`
	RequireDPoP  bool     `json:"require_dpop"`
	client.Metadata
	Service   *Service  `json:"service,omitempty"`
	Owner     string    `json:"owner,omitempty" doc:"Person who registered it"`
	ManagedBy string    `json:"managed_by" doc:"document: its client_id is the address of a document; dynamic: it registered itself"`
	Group     string    `json:"group,omitempty" doc:"Of a client that nobody registered: its domain, or the group of registrations"`
	State     string    `json:"state" enum:"active,disabled"`
	CreatedAt time.Time `json:"created_at"`
	Secret    string    `json:"client_secret,omitempty" doc:"Told once, when it is made"`
}

type (
	clientIDIn struct {
		ClientID string `path:"client_id" maxLength:"64"`
	}
	clientIn struct {
		KeyParam
		Body ClientSpec
	}
	clientPutIn struct {
		ClientID string `path:"client_id" maxLength:"64"`
		IfMatch  string `header:"If-Match" maxLength:"64"`
		Body     ClientSpec
	}
	clientEndIn struct {
		ClientID string `path:"client_id" maxLength:"64"`
		IfMatch  string `header:"If-Match" maxLength:"64"`
	}
	clientOut struct {
		Location string `header:"Location"`
		Tagged
		Body Client
	}
)

func (a *API) clients() {
	const tag = "clients"
	register(a, operation{
		id: "list-clients", method: http.MethodGet, path: "/v1/clients", summary: "List clients", tag: tag,
		scope: ScopeRead, action: policy.ClientRead, kind: audit.TokenRefused,
	}, a.listClients)
	register(a, operation{
		id: "create-client", method: http.MethodPost, path: "/v1/clients", summary: "Register a client", tag: tag,
		scope: ScopeWrite, action: policy.ClientWrite, kind: audit.ClientCreated, status: http.StatusCreated,
	}, a.createClient)
	register(a, operation{
		id: "get-client", method: http.MethodGet, path: "/v1/clients/{client_id}", summary: "Read a client", tag: tag,
		scope: ScopeRead, action: policy.ClientRead, kind: audit.TokenRefused,
	}, func(ctx context.Context, _ *call, in *clientIDIn) (*clientOut, error) {
		return a.showClient(ctx, in.ClientID)
	})
	register(a, operation{
		id: "replace-client", method: http.MethodPut, path: "/v1/clients/{client_id}", summary: "Change what a client is", tag: tag,
		scope: ScopeWrite, action: policy.ClientWrite, kind: audit.ClientUpdated,
	}, a.replaceClient)
	register(a, operation{
		id: "end-client", method: http.MethodDelete, path: "/v1/clients/{client_id}", summary: "End a client and everything it holds, for ever", tag: tag,
		scope: ScopeWrite, action: policy.ClientWrite, kind: audit.ClientEnded, status: http.StatusNoContent,
	}, a.endClient)
	a.clientSecrets()
}

var noClient = problem.New(problem.NotFound, "client_not_found", "There is no such client.")

// liveClient finds a client that has not ended.
func (a *API) liveClient(ctx context.Context, clientID string) (client.Client, error) {
	c, err := a.Registry.ClientByClientID(ctx, clientID)
	if problem.Refusal(err) && strings.HasPrefix(clientID, id.Client) { // one whose client_id is an address goes by its id
		c, err = a.Registry.Client(ctx, clientID)
	}
	if err == nil && !c.Node.EndedAt.IsZero() {
		err = noClient
	}
	return c, err
}

// managed is liveClient for a change: what the server made itself is not managed
// here.
func (a *API) managed(ctx context.Context, clientID string) (client.Client, error) {
	c, err := a.liveClient(ctx, clientID)
	if err == nil && c.ManagedBy == BuiltIn {
		err = problem.New(problem.Conflict, "built_in", "The server made this itself, and keeps it as it is.")
	}
	return c, err
}

func (a *API) listClients(ctx context.Context, _ *call, in *PageParams) (*pageOut[Client], error) {
	uris := a.uris(ctx)
	return paged(*in, func(after string, n int) ([]client.Client, error) { return a.Registry.Clients(ctx, after, n) },
		func(c client.Client) string { return c.ID }, func(c client.Client) bool { return c.Node.EndedAt.IsZero() },
		func(c client.Client) (Client, error) { return a.viewClient(ctx, c, uris) })
}

func (a *API) showClient(ctx context.Context, clientID string) (*clientOut, error) {
	c, err := a.liveClient(ctx, clientID)
	if err != nil {
		return nil, err
	}
	v, err := a.viewClient(ctx, c, a.uris(ctx))
	at := c.ClientID
	if !c.Known() { // which may be an address itself
		at = c.ID
	}
	return &clientOut{"/v1/clients/" + at, Tagged{tag(c.Node)}, v}, err
}

// uris gives the registered spelling of resources by id, remembering them.
func (a *API) uris(ctx context.Context) func(id string) (string, error) {
	known := map[string]string{"*": "*"}
	return func(id string) (string, error) {
		if u, ok := known[id]; ok {
			return u, nil
		}
		r, err := a.Registry.Resource(ctx, id)
		if err != nil {
			return "", err
		}
		known[id] = r.URI
		return r.URI, nil
	}
}

func (a *API) viewClient(ctx context.Context, c client.Client, uris func(string) (string, error)) (Client, error) {
	v := Client{
		ID: c.ID, ClientID: c.ClientID, Name: c.Name, AuthMethod: string(c.AuthMethod), JWKS: KeySet(c.JWKS),
		RedirectURIs: append([]string{}, c.RedirectURIs...), GrantTypes: []string{}, Scopes: append([]string{}, c.Scopes...), Resources: []string{},
		FirstParty: c.FirstParty, Native: c.Native, RequireDPoP: c.RequireDPoP, Metadata: c.Metadata, Owner: c.Owner, ManagedBy: c.ManagedBy, Group: c.Group, State: "active", CreatedAt: c.CreatedAt,
	}
	if !c.Node.Live() {
		v.State = "disabled"
	}
	for _, g := range c.GrantTypes {
		v.GrantTypes = append(v.GrantTypes, string(g))
	}
	for _, r := range c.Resources {
		u, err := uris(r)
		if err != nil {
			return v, err
		}
		v.Resources = append(v.Resources, u)
	}
	if c.Service == "" {
		return v, nil
	}
	var err error
	v.Service, err = a.viewService(ctx, c.Service)
	return v, err
}

// specified is the client that a spec describes, without what only the server
// knows. Resources are found by their URI.
func (a *API) specified(ctx context.Context, s ClientSpec) (client.Client, error) {
	c := client.Client{
		ClientID: s.ClientID, Name: s.Name, AuthMethod: client.AuthMethod(s.AuthMethod), JWKS: json.RawMessage(s.JWKS),
		RedirectURIs: s.RedirectURIs, Scopes: s.Scopes, RequireDPoP: s.RequireDPoP, Metadata: s.Metadata, ManagedBy: "api",
	}
	if c.Name == "" {
		c.Name = c.ClientID
	}
	if c.AuthMethod == "" {
		c.AuthMethod = client.AuthNone
	}
	for _, g := range s.GrantTypes {
		c.GrantTypes = append(c.GrantTypes, client.GrantType(g))
	}
	if c.Native = slices.ContainsFunc(s.RedirectURIs, client.NativeRedirect); s.Native != nil {
		c.Native = *s.Native
	}
	for _, uri := range s.Resources {
		if uri == "*" {
			c.Resources = append(c.Resources, uri)
			continue
		}
		r, err := a.resourceAt(ctx, uri)
		if err != nil {
			return c, err
		}
		c.Resources = append(c.Resources, r.ID)
	}
	return c, a.mayActFor(ctx, c)
}

// mayActFor refuses a may_act that names nobody who could act.
func (a *API) mayActFor(ctx context.Context, c client.Client) error {
	if c.MayAct == "" {
		return nil
	}
	unknown := problem.Newf(problem.Invalid, "may_act_unknown", "may_act names %.64q, which is no client that acts as a service.", c.MayAct)
	other, err := a.liveClient(ctx, c.MayAct)
	if err == nil && other.Service == "" {
		return unknown
	}
	return unknownIs(err, unknown)
}

// resourceAt finds a live resource that a request names.
func (a *API) resourceAt(ctx context.Context, uri string) (resource.Resource, error) {
	unknown := problem.Newf(problem.Invalid, "resource_unknown", "There is no resource %.200q.", uri).WithHint("Register the resource first.")
	if _, err := resource.Canonical(uri); err != nil {
		return resource.Resource{}, unknown
	}
	r, err := a.Registry.ResourceByURI(ctx, uri)
	switch {
	case err != nil:
		return r, unknownIs(err, unknown)
	case !r.Node.EndedAt.IsZero():
		return r, unknown
	}
	return r, nil
}

// usual are the grant types of a client that names none.
func usual(c client.Client) []client.GrantType {
	if len(c.GrantTypes) > 0 {
		return c.GrantTypes
	}
	if c.Service != "" {
		return []client.GrantType{client.ClientCredentials}
	}
	return []client.GrantType{client.AuthorizationCode, client.RefreshToken}
}

// withSecret gives a client that authenticates by a secret one.
func withSecret(c *client.Client) string {
	if c.AuthMethod != client.AuthSecretBasic && c.AuthMethod != client.AuthSecretPost {
		return ""
	}
	v := secret.New(secret.ClientSecret)
	h := v.Hash()
	c.SecretHash, c.Earlier = &h, nil
	return v.Reveal()
}

func (a *API) createClient(ctx context.Context, c *call, in *clientIn) (*clientOut, error) {
	return onlyOnce(ctx, a, c, in.KeyParam, in.Body, a.showClient, func(key *idempotency) (*clientOut, error) {
		cl, err := a.specified(ctx, in.Body)
		if err != nil {
			return nil, err
		}
		cl.ID, cl.Owner, cl.CreatedAt = id.New(id.Client), c.Person.ID, a.now()
		switch {
		case strings.HasPrefix(cl.ClientID, id.Client) || strings.HasPrefix(cl.ClientID, client.DynamicPrefix):
			return nil, problem.New(problem.Invalid, "client_id_invalid", "A client_id that begins with cli_ or dyn_ is one the server makes.")
		case cl.ClientID == "":
			cl.ClientID = cl.ID
			if cl.Name == "" {
				cl.Name = cl.ID
			}
		}
		create := client.Create{}
		if s := in.Body.Service; s != nil {
			if create.NewService, err = a.newService(ctx, *s, cl); err != nil {
				return nil, err
			}
			cl.Service = create.NewService.ID
		}
		cl.GrantTypes = usual(cl)
		text := withSecret(&cl)
		if text != "" {
			cl.SecretAt = cl.CreatedAt
		}
		if err := a.ready(ctx, cl); err != nil {
			return nil, err
		}
		create.Client = cl
		ch := change{
			target: targets(cl.Resources), said: map[string]any{"client": cl.ID, "client_id": cl.ClientID},
			make: func(*act.Facts) ([]act.Change, error) { return key.remember(cl.ClientID, a.now(), create), nil },
		}
		if create.NewService != nil {
			ch.said["service"] = create.NewService.ID
			ch.target = append(ch.target, create.NewService.Owner)
		}
		_, err = a.carryOut(ctx, c, ch)
		if err != nil {
			return nil, err
		}
		return a.tell(ctx, cl.ClientID, text)
	})
}

// ready checks a client, and that what it relies on outside of its row is there.
func (a *API) ready(ctx context.Context, c client.Client) error {
	err := client.Check(c)
	if err == nil && a.Ready != nil {
		err = a.Ready(ctx, c)
	}
	return err
}

// targets are the ids in a list that may hold "*".
func targets(list []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return s == "*" })
}

// tell is showClient with a secret that was made just now.
func (a *API) tell(ctx context.Context, clientID, text string) (*clientOut, error) {
	out, err := a.showClient(ctx, clientID)
	if err != nil {
		return nil, err
	}
	out.Body.Secret = text
	return out, nil
}

func (a *API) replaceClient(ctx context.Context, c *call, in *clientPutIn) (*clientOut, error) {
	have, err := a.managed(ctx, in.ClientID)
	if err != nil {
		return nil, err
	}
	if !have.Known() {
		return nil, problem.New(problem.Conflict, "client_describes_itself", "Nobody registered this client here: it says itself what it is.").
			WithHint("End it, or allow, trust or block its group.")
	}
	m, err := matching(in.IfMatch, have.Node)
	if err != nil {
		return nil, err
	}
	if in.Body.ClientID != "" && in.Body.ClientID != have.ClientID {
		return nil, problem.New(problem.Invalid, "client_id_fixed", "A client_id does not change.")
	}
	in.Body.ClientID = have.ClientID
	if err := a.sameService(ctx, in.Body.Service, have.Service); err != nil {
		return nil, err
	}
	cl, err := a.specified(ctx, in.Body)
	if err != nil {
		return nil, err
	}
	cl.ID, cl.Service, cl.Owner, cl.FirstParty, cl.CreatedAt = have.ID, have.Service, have.Owner, have.FirstParty, have.CreatedAt
	cl.GrantTypes = usual(cl)
	text := ""
	if cl.AuthMethod == client.AuthSecretBasic || cl.AuthMethod == client.AuthSecretPost {
		if cl.SecretHash, cl.SecretAt, cl.Earlier = have.SecretHash, have.SecretAt, have.Earlier; cl.SecretHash == nil {
			text, cl.SecretAt = withSecret(&cl), a.now()
		}
	}
	if err := a.ready(ctx, cl); err != nil {
		return nil, err
	}
	_, err = a.carryOut(ctx, c, change{
		target: append([]string{cl.ID}, targets(cl.Resources)...), match: m,
		said: map[string]any{"client": cl.ID, "client_id": cl.ClientID, "changed": changedClient(have, cl)},
		make: func(*act.Facts) ([]act.Change, error) { return []act.Change{client.Update{Client: cl}}, nil },
	})
	if err != nil {
		return nil, err
	}
	return a.tell(ctx, cl.ClientID, text)
}

// changedClient names the members that differ, for the record.
func changedClient(x, y client.Client) []string {
	out := []string{}
	for _, m := range []struct {
		name string
		same bool
	}{
		{"name", x.Name == y.Name},
		{"auth_method", x.AuthMethod == y.AuthMethod},
		{"jwks", bytes.Equal(x.JWKS, y.JWKS)},
		{"redirect_uris", slices.Equal(x.RedirectURIs, y.RedirectURIs)},
		{"grant_types", slices.Equal(x.GrantTypes, y.GrantTypes)},
		{"scopes", slices.Equal(x.Scopes, y.Scopes)},
		{"resources", slices.Equal(x.Resources, y.Resources)},
		{"native", x.Native == y.Native},
		{"require_dpop", x.RequireDPoP == y.RequireDPoP},
		{"metadata", reflect.DeepEqual(x.Metadata, y.Metadata)},
		{"secret", reflect.DeepEqual(x.SecretHash, y.SecretHash)},
	} {
		if !m.same {
			out = append(out, m.name)
		}
	}
	return out
}

func (a *API) endClient(ctx context.Context, c *call, in *clientEndIn) (*none, error) {
	cl, err := a.managed(ctx, in.ClientID)
	if err != nil {
		return nil, err
	}
	m, err := matching(in.IfMatch, cl.Node)
	if err != nil {
		return nil, err
	}
	ch := change{target: []string{cl.ID}, match: m, said: map[string]any{"client": cl.ID, "client_id": cl.ClientID}}
	list := []act.Change{lineage.End{ID: cl.ID, Why: "ended"}}
	if cl.Service != "" { // it acts through this client only
		ch.target = append(ch.target, cl.Service)
		ch.said["service"] = cl.Service
		list = append(list, lineage.End{ID: cl.Service, Why: "ended"})
	}
	ch.make = func(*act.Facts) ([]act.Change, error) { return list, nil }
	_, err = a.carryOut(ctx, c, ch)
	return nil, err
}
