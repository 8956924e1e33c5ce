package client

import (
	"context"
	"slices"
	"strings"
	"time"
)

// Openness says whether, and for what, clients may be used that no administrator
// registered. The zero value: not at all.
type Openness struct {
	// Documents: a client_id may be the address of a document.
	Documents Admission `json:"metadata_documents"`
	// Registration: clients may register themselves (RFC 7591).
	Registration bool `json:"dynamic_registration"`
	// Resources are the ids of those they may ask for, "*" is any but the
	// management API, which is never theirs.
	Resources []string `json:"resources"`
	// Scopes are what they may ask for there, "*" is any.
	Scopes []string `json:"scopes"`
}

// Admission is whose documents are taken.
type Admission string

// Whose.
const (
	Nobody Admission = ""       // documents are off
	Listed Admission = "listed" // of domains that administrators allow, and pinned ones
	Anyone Admission = "any"
)

// Rule is what administrators say of a group of clients.
type Rule struct {
	Source Source // FromDocument: Group is a domain, or *.domain for those below it; FromItself: a fingerprint
	Group  string
	Trust  Trust
	Name   string // of the app, for people
	At     time.Time
}

// Document is one that administrators keep, for sites that cannot or will not
// fetch it.
type Document struct {
	ClientID string
	Body     []byte
	At       time.Time
}

// WhyBlocked is why the clients of a blocked group stand still.
const WhyBlocked = "group_blocked"

// SetOpenness replaces what unregistered clients may do.
type SetOpenness struct{ Openness }

// SetRule says something of a group, in place of what was said; Unsaid takes it
// back.
type SetRule struct{ Rule }

// PinDocument keeps a document, in place of an earlier one of its address.
type PinDocument struct{ Document }

// UnpinDocument lets a document be fetched again.
type UnpinDocument struct{ ClientID string }

// Change marks SetOpenness as a change.
func (SetOpenness) Change() {}

// Change marks SetRule as a change.
func (SetRule) Change() {}

// Change marks PinDocument as a change.
func (PinDocument) Change() {}

// Change marks UnpinDocument as a change.
func (UnpinDocument) Change() {}

// Admissions reads what administrators say of clients that they did not register.
type Admissions interface {
	Openness(ctx context.Context) (Openness, error)
	// Rules are all there are, ordered.
	Rules(ctx context.Context) ([]Rule, error)
	// Document is a pinned one; problem.NotFound if there is none.
	Document(ctx context.Context, clientID string) (Document, error)
	// Documents lists the pinned ones, ordered by address, after one.
	Documents(ctx context.Context, after string, n int) ([]Document, error)
	// Under lists the clients that a rule is about and that have not ended: whom it
	// blocks, if it is a block.
	Under(ctx context.Context, r Rule) ([]Client, error)
	// Met lists the groups of those that people agreed to, newest first: those whose
	// newest client's id is smaller than before, "" for all.
	Met(ctx context.Context, before string, n int) ([]Met, error)
	// Uses lists who agreed to clients of a group, newest first.
	Uses(ctx context.Context, source Source, group string, n int) ([]Use, error)
}

// TrustOf is what rules say of a client: of its group, or of the domain above it.
// A blocked domain counts for the redirect hosts of what registers itself, too.
func TrustOf(c Client, rules []Rule) Trust {
	out := Unsaid
	for _, r := range rules {
		switch {
		case r.Source == c.Source && r.covers(c.Group):
			out = stronger(out, r.Trust)
		case r.Source == FromDocument && r.Trust == Blocked && slices.ContainsFunc(c.RedirectURIs, func(u string) bool {
			return strings.HasPrefix(u, "https:") && r.covers(DocumentHost(u))
		}):
			out = Blocked
		}
	}
	return out
}

// covers reports whether a rule is about a group.
func (r Rule) covers(group string) bool {
	if below, is := strings.CutPrefix(r.Group, "*."); is && r.Source == FromDocument {
		return strings.HasSuffix(group, "."+below)
	}
	return r.Group == group
}

// stronger is what holds of two things said: a block, then the more of the others.
func stronger(a, b Trust) Trust {
	order := []Trust{Unsaid, Allowed, Trusted, Blocked}
	return order[max(slices.Index(order, a), slices.Index(order, b))]
}

// CheckRule says whether a rule can be kept.
func CheckRule(r Rule) error {
	host := strings.TrimPrefix(r.Group, "*.")
	switch {
	case r.Source == FromDocument && (!plainName(host) || !strings.Contains(host, ".") && host != "localhost"):
		return invalid("domain_invalid", "%.100q is no domain: give a host such as app.example.com, or *.example.com for all below it.", r.Group)
	case r.Source == FromItself && len(r.Group) != 43:
		return invalid("group_invalid", "A group of registrations is named by its fingerprint.")
	case r.Source != FromDocument && r.Source != FromItself:
		return invalid("rule_invalid", "A rule is about a domain or about a group of registrations.")
	case r.Source == FromItself && r.Trust != Blocked && r.Trust != Unsaid:
		return invalid("trust_invalid", "What registers itself can be blocked and not trusted: anybody can take its name.")
	case !slices.Contains([]Trust{Unsaid, Allowed, Trusted, Blocked}, r.Trust):
		return invalid("trust_invalid", "A domain is allowed, trusted or blocked.")
	}
	return nil
}
