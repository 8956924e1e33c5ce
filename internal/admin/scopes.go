package admin

import (
	"time"

	"github.com/countersign-dev/countersign/internal/group"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/resource"
)

// The scopes of /v1.
const (
	ScopeSelf  = "self"        // one's own account and sessions
	ScopeRead  = "admin:read"  // the deployment's state
	ScopeWrite = "admin:write" // changes of it
	ScopeFeed  = "feed"        // the revocation feed, for enforcement points
)

// BuiltIn is who manages what the server made itself; it is not changed or ended
// through the API.
const BuiltIn = "built-in"

// Resource is the definition of /v1 as a protected resource. Its scopes carry no
// ask: policy asks for freshness of each action (mechanisms A25).
func Resource(issuer string) resource.Resource {
	admins := []string{group.Administrators}
	return resource.Resource{
		URI: issuer + "/v1", Name: "Countersign",
		Scopes: []resource.Scope{
			{Name: ScopeSelf, Description: "See and end your own sessions", Kind: resource.KindRead, Default: true},
			{Name: ScopeRead, Description: "See the people, apps and log of this deployment", Kind: resource.KindRead, Groups: admins, Default: true},
			{Name: ScopeWrite, Description: "Manage the people and apps of this deployment", Kind: resource.KindAdmin, Groups: admins, Default: true},
			{Name: ScopeSignals, Description: "Report what is suspicious about people, devices, apps and networks, as a service", Kind: resource.KindChange},
			{Name: ScopeDevices, Description: "Say which devices that people sign in from are managed, as a service", Kind: resource.KindAdmin},
			{Name: ScopePolicies, Description: "Hand in policies for a person to sign, and carry them out once signed, as a service", Kind: resource.KindAdmin},
			{Name: ScopeFeed, Description: "Learn what has ended, as an enforcement point", Kind: resource.KindRead},
		},
		RequireDPoP: true, ManagedBy: BuiltIn,
	}
}

// Create makes the resource /v1 of a new deployment.
func Create(issuer string, now time.Time) resource.Create {
	r := Resource(issuer)
	r.ID, r.CreatedAt = id.New(id.Resource), now
	return resource.Create{Resource: r}
}

// metadataPath is where RFC 9728 puts the metadata of <issuer>/v1.
const metadataPath = "/.well-known/oauth-protected-resource/v1"

// metadata is the protected resource metadata of /v1 (RFC 9728 section 2).
func (a *API) metadata() any {
	return struct {
		Resource string   `json:"resource"`
		Servers  []string `json:"authorization_servers"`
		Scopes   []string `json:"scopes_supported"`
		Bearer   []string `json:"bearer_methods_supported"`
		Algs     []string `json:"dpop_signing_alg_values_supported"`
		Bound    bool     `json:"dpop_bound_access_tokens_required"`
		Name     string   `json:"resource_name"`
		Document string   `json:"resource_documentation"`
	}{
		a.audience(),
		[]string{a.Issuer},
		[]string{ScopeSelf, ScopeRead, ScopeWrite},
		[]string{"header"},
		jose.DPoPAlgorithms, true, "Countersign", a.audience() + "/openapi.json",
	}
}
