// Package resource owns protected resources: their identifiers (audiences),
// their scopes, what each scope asks for, and which clients are their
// enforcement points.
package resource

import (
	"context"
	"net/url"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/problem"
)

// Scope is a permission at a resource.
type Scope struct {
	Name        string        `json:"name"`
	Description string        `json:"description"` // plain words for consent: "Read your notes"
	Kind        string        `json:"kind"`        // read, change, spend, admin
	Ask         assurance.Ask `json:"ask,omitzero"`
	Groups      []string      `json:"groups,omitempty"` // names; empty: anyone
	// Default scopes are given when a client asks for none.
	Default bool `json:"default,omitempty"`
}

// Conditional reports whether the scope is withheld from tokens until its ask
// is met (mechanisms D12).
func (s Scope) Conditional() bool { return s.Ask != assurance.Ask{} }

// Resource is a protected resource.
type Resource struct {
	ID              string // res_…, the lineage node
	URI             string // the registered audience; unique
	Name            string
	Scopes          []Scope
	DetailsTypes    []DetailsType
	Servers         []string // client ids (cli_…) that are its enforcement points: introspection, feed
	RequireDPoP     bool
	DelegationAware bool // its verifier understands act (mechanisms G4)
	ManagedBy       string
	CreatedAt       time.Time
	Node            lineage.Node
}

// Scope finds a scope by name.
func (r Resource) Scope(name string) (Scope, bool) {
	for _, s := range r.Scopes {
		if s.Name == name {
			return s, true
		}
	}
	return Scope{}, false
}

// Create makes a resource.
type Create struct{ Resource }

// Update replaces what a resource is; ID, URI and CreatedAt stay.
type Update struct{ Resource }

// Change marks Create as a change.
func (Create) Change() {}

// Change marks Update as a change.
func (Update) Change() {}

// Store reads resources.
type Store interface {
	Resource(ctx context.Context, id string) (Resource, error)
	// ResourceByURI finds by identifier, compared as Canonical says.
	ResourceByURI(ctx context.Context, uri string) (Resource, error)
	Resources(ctx context.Context, after string, n int) ([]Resource, error)
}

// Canonical is the form in which resource identifiers are compared: scheme and
// host lower-case, an empty path without its slash (clients.md: real clients
// add one). The registered spelling is what tokens carry.
func Canonical(uri string) (string, error) {
	u, err := url.Parse(uri)
	if err != nil || u.Scheme == "" || u.Fragment != "" || strings.Contains(uri, "#") || u.User != nil ||
		(u.Scheme == "http" || u.Scheme == "https") && u.Host == "" || len(uri) > 2048 {
		return "", problem.New(problem.Invalid, "invalid_target", "A resource is an absolute URI without a fragment (RFC 8707).")
	}
	u.Scheme = strings.ToLower(u.Scheme)
	u.Host = strings.ToLower(u.Host)
	if u.Path == "/" && u.RawQuery == "" {
		u.Path = ""
	}
	return u.String(), nil
}
