package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
)

// Admission says whether, and for what, clients may be used that nobody
// registered here.
type Admission struct {
	Documents    string   `json:"metadata_documents" enum:"off,listed,any" doc:"Whether a client_id may be the address of a document about the client: of domains that are allowed and of pinned documents, or of any"`
	Registration bool     `json:"dynamic_registration" doc:"Whether clients may register themselves (RFC 7591)"`
	Resources    []string `json:"resources" nullable:"false" maxItems:"200" doc:"URIs of the resources that they may ask tokens for; * is any but this API"`
	Scopes       []string `json:"scopes" nullable:"false" maxItems:"200" doc:"What they may ask for; * is any"`
}

// ClientRule is what is said of a domain, or of a group of registrations.
type ClientRule struct {
	Kind  string     `json:"kind" enum:"domain,registration" doc:"What group names"`
	Group string     `json:"group" maxLength:"255" doc:"A domain, *.domain for those below it, or the group of a client that registered itself"`
	Trust string     `json:"trust" enum:"allowed,trusted,blocked,none" doc:"trusted: agreement is remembered as for a registered client; blocked: what the clients hold stands still; none takes back what was said"`
	Name  string     `json:"name,omitempty" maxLength:"320" doc:"For people"`
	SetAt *time.Time `json:"set_at,omitempty" readOnly:"true"`
}

// ClientDocument is one that administrators keep, so that it is not fetched.
type ClientDocument struct {
	ClientID string        `json:"client_id"`
	Name     string        `json:"name"`
	Document DocumentValue `json:"document"`
	PinnedAt time.Time     `json:"pinned_at"`
}

// DocumentValue is a document as it was given.
type DocumentValue json.RawMessage

// Schema implements huma.SchemaProvider: an object that is read elsewhere.
func (DocumentValue) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeObject, Description: "A client ID metadata document, at most 5 KB", AdditionalProperties: true}
}

// MarshalJSON implements json.Marshaler.
func (d DocumentValue) MarshalJSON() ([]byte, error) { return json.RawMessage(d).MarshalJSON() }

// UnmarshalJSON implements json.Unmarshaler.
func (d *DocumentValue) UnmarshalJSON(b []byte) error { return (*json.RawMessage)(d).UnmarshalJSON(b) }

type (
	admissionIn  struct{ Body Admission }
	admissionOut struct{ Body Admission }
	ruleIn       struct{ Body ClientRule }
	ruleOut      struct{ Body ClientRule }
	rulesOut     struct {
		Body struct {
			Items []ClientRule `json:"items" nullable:"false"`
		}
	}
	documentIn struct {
		Body struct {
			Document DocumentValue `json:"document"`
		}
	}
	documentOut struct{ Body ClientDocument }
	unpinIn     struct {
		ClientID string `query:"client_id" maxLength:"512" required:"true" doc:"Its address"`
	}
	documentsIn struct {
		After string `query:"after" maxLength:"512" doc:"The next of the page before"`
		Limit int    `query:"limit" minimum:"1" maximum:"200" default:"50" doc:"How many items at most"`
	}
)

func (a *API) admissions() {
	const tag = "clients"
	register(a, operation{
		id: "get-client-admission", method: http.MethodGet, path: "/v1/client-admission", tag: tag,
		summary: "Say which clients may be used that nobody registered", scope: ScopeRead, action: policy.ClientRead, kind: audit.TokenRefused,
	}, func(ctx context.Context, _ *call, _ *none) (*admissionOut, error) { return a.showAdmission(ctx) })
	register(a, operation{
		id: "set-client-admission", method: http.MethodPut, path: "/v1/client-admission", tag: tag,
		summary: "Change which clients may be used that nobody registered", scope: ScopeWrite, action: policy.ClientWrite, kind: audit.ClientsAdmitted, status: http.StatusOK,
	}, a.setAdmission)
	register(a, operation{
		id: "list-client-rules", method: http.MethodGet, path: "/v1/client-rules", tag: tag,
		summary: "List what is said of domains and groups of clients", scope: ScopeRead, action: policy.ClientRead, kind: audit.TokenRefused,
	}, a.listRules)
	register(a, operation{
		id: "set-client-rule", method: http.MethodPut, path: "/v1/client-rules", tag: tag,
		summary: "Allow, trust or block a domain, or block a group of clients that register themselves", scope: ScopeWrite, action: policy.ClientWrite, kind: audit.ClientRuleSet, status: http.StatusOK,
	}, a.setRule)
	register(a, operation{
		id: "list-client-documents", method: http.MethodGet, path: "/v1/client-documents", tag: tag,
		summary: "List the pinned documents of clients", scope: ScopeRead, action: policy.ClientRead, kind: audit.TokenRefused,
	}, a.listDocuments)
	register(a, operation{
		id: "pin-client-document", method: http.MethodPut, path: "/v1/client-documents", tag: tag,
		summary: "Keep the document of a client, in place of an earlier one, so that it is not fetched", scope: ScopeWrite, action: policy.ClientWrite, kind: audit.ClientPinned, status: http.StatusOK,
	}, a.pinDocument)
	register(a, operation{
		id: "unpin-client-document", method: http.MethodDelete, path: "/v1/client-documents", tag: tag,
		summary: "Let the document of a client be fetched again", scope: ScopeWrite, action: policy.ClientWrite, kind: audit.ClientUnpinned, status: http.StatusNoContent,
	}, a.unpinDocument)
}

// wordsOf are the API's words for whose documents are taken.
var wordsOf = map[client.Admission]string{client.Nobody: "off", client.Listed: "listed", client.Anyone: "any"}

func (a *API) showAdmission(ctx context.Context) (*admissionOut, error) {
	o, err := a.Admissions.Openness(ctx)
	if err != nil {
		return nil, err
	}
	out := &admissionOut{Admission{Documents: wordsOf[o.Documents], Registration: o.Registration, Resources: []string{}, Scopes: append([]string{}, o.Scopes...)}}
	uris := a.uris(ctx)
	for _, id := range o.Resources {
		u, err := uris(id)
		if err != nil {
			return nil, err
		}
		out.Body.Resources = append(out.Body.Resources, u)
	}
	return out, nil
}

func (a *API) setAdmission(ctx context.Context, c *call, in *admissionIn) (*admissionOut, error) {
	o := client.Openness{Registration: in.Body.Registration, Scopes: in.Body.Scopes}
	for k, w := range wordsOf {
		if w == in.Body.Documents {
			o.Documents = k
		}
	}
	for _, s := range o.Scopes {
		if s != "*" && !client.ScopeToken(s) {
			return nil, problem.Newf(problem.Invalid, "scope_invalid", "The scope %.80q is not a scope (RFC 6749 section 3.3).", s)
		}
	}
	for _, uri := range in.Body.Resources {
		if uri == "*" {
			o.Resources = append(o.Resources, uri)
			continue
		}
		r, err := a.resourceAt(ctx, uri)
		if err != nil {
			return nil, err
		}
		if r.URI == a.Issuer+"/v1" {
			return nil, problem.New(problem.Invalid, "resource_reserved", "This API is only for clients that were registered here.")
		}
		o.Resources = append(o.Resources, r.ID)
	}
	_, err := a.carryOut(ctx, c, change{
		target:  targets(o.Resources),
		general: map[string]any{"metadata_documents": in.Body.Documents, "dynamic_registration": o.Registration, "scopes": o.Scopes, "resources": o.Resources},
		make:    func(*act.Facts) ([]act.Change, error) { return []act.Change{client.SetOpenness{Openness: o}}, nil },
	})
	if err != nil {
		return nil, err
	}
	return a.showAdmission(ctx)
}

// kindsOfRule are the API's words for what a rule is about.
var kindsOfRule = map[client.Source]string{client.FromDocument: "domain", client.FromItself: "registration"}

func viewRule(r client.Rule) ClientRule {
	v := ClientRule{Kind: kindsOfRule[r.Source], Group: r.Group, Trust: string(r.Trust), Name: r.Name}
	if r.Trust == client.Unsaid {
		v.Trust = "none"
		return v
	}
	v.SetAt = &r.At
	return v
}

func (a *API) listRules(ctx context.Context, _ *call, _ *none) (*rulesOut, error) {
	list, err := a.Admissions.Rules(ctx)
	out := &rulesOut{}
	out.Body.Items = []ClientRule{}
	for _, r := range list {
		out.Body.Items = append(out.Body.Items, viewRule(r))
	}
	return out, err
}

// setRule says something of a group. With a block the clients of the group that
// are stored stand still, in the same act, and with its end they go on.
func (a *API) setRule(ctx context.Context, c *call, in *ruleIn) (*ruleOut, error) {
	r := client.Rule{Source: client.FromDocument, Group: in.Body.Group, Trust: client.Trust(in.Body.Trust), Name: in.Body.Name, At: a.now()}
	if in.Body.Kind == kindsOfRule[client.FromItself] {
		r.Source = client.FromItself
	}
	if r.Trust == "none" {
		r.Trust = client.Unsaid
	}
	if err := client.CheckRule(r); err != nil {
		return nil, err
	}
	list, ids, err := client.Stand(ctx, a.Admissions, r)
	if err != nil {
		return nil, err
	}
	list = append([]act.Change{client.SetRule{Rule: r}}, list...)
	_, err = a.carryOut(ctx, c, change{
		general: map[string]any{"group": r.Group, "about": in.Body.Kind, "trust": in.Body.Trust, "name": r.Name, "clients": ids},
		make:    func(*act.Facts) ([]act.Change, error) { return list, nil },
	})
	if err != nil {
		return nil, err
	}
	return &ruleOut{viewRule(r)}, nil
}

func viewDocument(d client.Document) (ClientDocument, error) {
	c, err := client.ParseDocument(d.ClientID, d.Body)
	return ClientDocument{ClientID: d.ClientID, Name: c.Name, Document: DocumentValue(d.Body), PinnedAt: d.At}, err
}

func (a *API) listDocuments(ctx context.Context, _ *call, in *documentsIn) (*pageOut[ClientDocument], error) {
	return paged(PageParams{After: in.After, Limit: in.Limit}, func(after string, n int) ([]client.Document, error) { return a.Admissions.Documents(ctx, after, n) },
		func(d client.Document) string { return d.ClientID }, nil, viewDocument)
}

func (a *API) pinDocument(ctx context.Context, c *call, in *documentIn) (*documentOut, error) {
	d := client.Document{Body: in.Body.Document, At: a.now()}
	var named struct {
		ClientID string `json:"client_id"`
	}
	if err := json.Unmarshal(d.Body, &named); err != nil {
		return nil, problem.New(problem.Invalid, "client_document_invalid", "The document names no client_id.").Because(err)
	}
	d.ClientID = named.ClientID
	if err := client.CheckDocumentURL(d.ClientID); err != nil {
		return nil, err
	}
	v, err := viewDocument(d)
	if err != nil {
		return nil, err
	}
	_, err = a.carryOut(ctx, c, change{
		general: map[string]any{"client_id": d.ClientID, "name": v.Name},
		make:    func(*act.Facts) ([]act.Change, error) { return []act.Change{client.PinDocument{Document: d}}, nil },
	})
	return &documentOut{v}, err
}

func (a *API) unpinDocument(ctx context.Context, c *call, in *unpinIn) (*none, error) {
	if _, err := a.Admissions.Document(ctx, in.ClientID); err != nil {
		return nil, unknownIs(err, problem.New(problem.NotFound, "document_not_found", "No document of that address is pinned."))
	}
	_, err := a.carryOut(ctx, c, change{
		general: map[string]any{"client_id": in.ClientID},
		make: func(*act.Facts) ([]act.Change, error) {
			return []act.Change{client.UnpinDocument{ClientID: in.ClientID}}, nil
		},
	})
	return nil, err
}
