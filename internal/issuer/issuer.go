// Package issuer owns the trusted issuers: those whose assertions about people this
// server takes as grants (RFC 7523, ID-JAG), and which of their subjects is which
// person here. Verifying an assertion is jose's and taking it oauth's; fetching keys
// is jwks'.
package issuer

import (
	"context"
	"encoding/json"
	"time"

	"github.com/countersign-dev/countersign/internal/lineage"
)

// The profiles: what kind of assertion an issuer is trusted for.
const (
	JWTBearer = "jwt-bearer" // any assertion about a subject (RFC 7523 §2.1)
	IDJAG     = "id-jag"     // for one client and resource (draft-ietf-oauth-identity-assertion-authz-grant-04)
)

// How often one assertion may be presented.
const (
	Once       = "once"        // never again
	SameClient = "same_client" // an ID-JAG until it expires, by the same client and key
)

// Issuer is trusted to say who somebody is, within what its registration says.
type Issuer struct {
	ID string // iss_…, the lineage node
	Spec
	ManagedBy string
	CreatedAt time.Time
	Node      lineage.Node
}

// Spec is what an issuer is registered with. It is stored as it stands and is what
// the management API says, but for clients and resources: those are stored by id.
type Spec struct {
	Issuer        string            `json:"issuer" maxLength:"512" doc:"Its iss, compared byte by byte; never changes"`
	Name          string            `json:"name,omitempty" maxLength:"320" doc:"What people see; the issuer if left out"`
	JWKS          json.RawMessage   `json:"jwks,omitempty"`
	JWKSURI       string            `json:"jwks_uri,omitempty" maxLength:"1024" doc:"Where it publishes its keys; instead of jwks"`
	Algorithms    []string          `json:"algorithms,omitempty" maxItems:"8" doc:"That it may sign with; ES256, EdDSA, Ed25519 and PS256 if left out"`
	Profiles      []string          `json:"profiles,omitempty" maxItems:"2" doc:"jwt-bearer, id-jag; at least one"`
	TokenEndpoint bool              `json:"token_endpoint_audience,omitempty" doc:"The audience of a jwt-bearer assertion may be the token endpoint instead of the issuer identifier"`
	Clients       []string          `json:"clients,omitempty" maxItems:"200" doc:"client_ids that may present its assertions; any with the grant type if left out"`
	Resources     []string          `json:"resources,omitempty" maxItems:"200" doc:"URIs of the resources that its assertions may be used for; at least one"`
	Scopes        []string          `json:"scopes,omitempty" maxItems:"200" doc:"That its assertions may be used for; at least one"`
	DetailsTypes  []string          `json:"authorization_details_types,omitempty" maxItems:"50" doc:"Types of authorization details that its assertions may say; none if left out"`
	MaxLifetime   int64             `json:"max_lifetime,omitempty" minimum:"0" maximum:"3600" doc:"Seconds that an assertion may be good for; 300 if left out"`
	Replay        string            `json:"replay,omitempty" enum:"once,same_client" doc:"same_client: an ID-JAG may be presented again until it expires, by the same client and key; once if left out"`
	ACR           map[string]string `json:"acr,omitempty" doc:"What its acr values are worth here; a value that is not in it is worth one factor and is not passed on"`
}

// Life is how long an assertion may be good for.
func (s Spec) Life() time.Duration {
	if s.MaxLifetime == 0 {
		return DefaultLifetime
	}
	return time.Duration(s.MaxLifetime) * time.Second
}

// DefaultLifetime is how long an assertion may be good for unless the registration
// says otherwise; it says no more than an hour.
const DefaultLifetime = 5 * time.Minute

// Link says that a subject of an issuer is a person here. Nobody is anybody without
// one: no account is made, and none is found by a name or an address.
type Link struct {
	ID        string // lnk_…, the lineage node: below the issuer and the person
	Issuer    string // iss_…
	Tenant    string // "" if the issuer has one
	Subject   string
	Person    string
	CreatedAt time.Time
	Node      lineage.Node
}

// Create registers an issuer. No other that has not ended has the same iss.
type Create struct{ Issuer }

// Update replaces what an issuer is registered with; its iss stays.
type Update struct{ Issuer }

// Remove ends an issuer, with everything that was given at its word.
type Remove struct{ ID string }

// Join makes a link. No other that has not ended is of the same subject.
type Join struct{ Link }

// Part ends a link, with everything that was given by it.
type Part struct{ ID string }

// Change marks Create as a change.
func (Create) Change() {}

// Change marks Update as a change.
func (Update) Change() {}

// Change marks Remove as a change.
func (Remove) Change() {}

// Change marks Join as a change.
func (Join) Change() {}

// Change marks Part as a change.
func (Part) Change() {}

// Store reads issuers and links.
type Store interface {
	TrustedIssuer(ctx context.Context, id string) (Issuer, error)
	// TrustedIssuerByName finds one that was not removed by its iss.
	TrustedIssuerByName(ctx context.Context, iss string) (Issuer, error)
	TrustedIssuers(ctx context.Context, after string, n int) ([]Issuer, error)
	// LinkOf finds whom a subject is, in a link that was not ended.
	LinkOf(ctx context.Context, issuer, tenant, subject string) (Link, error)
	Link(ctx context.Context, id string) (Link, error)
	Links(ctx context.Context, issuer, after string, n int) ([]Link, error)
}
