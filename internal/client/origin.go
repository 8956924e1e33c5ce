package client

import (
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"unicode"

	"github.com/countersign-dev/countersign/internal/canon"
)

// Source says how the server came to know a client.
type Source string

// The sources.
const (
	Registered   Source = ""         // by an administrator, or built in
	FromDocument Source = "document" // its client_id is the address of a document about it (OAuth Client ID Metadata Document)
	FromItself   Source = "dynamic"  // it registered itself (RFC 7591)
)

// Origin is how a client came to be known that nobody registered. Such a client
// has no row, and so no ID, until a person agrees that it may act for them
// (docs/decisions/0002).
type Origin struct {
	Source Source
	// Group is what belongs together: the host of a document, the fingerprint of
	// what registers itself.
	Group string
	// Digest is of what a person is shown and relies on; agreement holds while it
	// is the same.
	Digest string
	// Pinned: administrators keep the document, so that it is not fetched.
	Pinned bool
	// Trust is what the administrators say of its group; it is read at use and not
	// stored with the client.
	Trust Trust
}

// Trust is what administrators say of a domain, or of a group of registrations.
type Trust string

// What they can say.
const (
	Unsaid  Trust = ""
	Allowed Trust = "allowed" // may be a client where only those listed may
	Trusted Trust = "trusted" // allowed, and agreement is remembered as for a registered client
	Blocked Trust = "blocked" // may not be a client, and what it holds stands still
)

// Known reports whether an administrator registered the client.
func (c Client) Known() bool { return c.Source == Registered }

// Asks reports whether a person is asked each time, although they agreed before:
// nobody vouches for such a client, and whoever sends a browser here may have
// taken its name (RFC 9700 §4.14, docs/threat-model.md).
func (c Client) Asks() bool {
	return !c.Known() && (c.Trust != Trusted || c.Native || c.Source == FromItself)
}

// MaxSelfRedirects and the like bound what a client says of itself.
const (
	MaxSelfRedirects    = 20
	MaxSelfRedirectSize = 512 // bytes of one
	MaxAnnounced        = 5 << 10
)

// announced is what a client says of itself: the members of RFC 7591 §2 that are
// read here, in a document or in a registration. Others are passed over.
type announced struct {
	ClientID     *string         `json:"client_id"`
	Name         string          `json:"client_name"`
	URI          string          `json:"client_uri"`
	RedirectURIs []string        `json:"redirect_uris"`
	GrantTypes   []string        `json:"grant_types"`
	ResponseType []string        `json:"response_types"`
	AuthMethod   string          `json:"token_endpoint_auth_method"`
	JWKS         json.RawMessage `json:"jwks"`
	JWKSURI      string          `json:"jwks_uri"`
	SoftwareID   string          `json:"software_id"`
	Secret       json.RawMessage `json:"client_secret"`
	SecretUntil  json.RawMessage `json:"client_secret_expires_at"`
	Statement    json.RawMessage `json:"software_statement"`
	Demands
}

// Demands are what a client asks the server to demand of it, so that whoever passes for
// it cannot do with less. They are kept, or the client is not.
type Demands struct {
	Bound  bool `json:"dpop_bound_access_tokens,omitempty"`              // RFC 9449 §5.2
	Pushed bool `json:"require_pushed_authorization_requests,omitempty"` // RFC 9126 §6
	Signed bool `json:"require_signed_request_object,omitempty"`         // RFC 9101 §10.5
}

// of makes them the client's. One whose requests have to be signed needs keys.
func (d Demands) of(c *Client) {
	c.RequireDPoP, c.RequirePushed, c.RequireSigned = d.Bound, d.Pushed, d.Signed
}

// announcedLimits bound the JSON of a document or registration.
var announcedLimits = canon.Limits{Bytes: MaxAnnounced, Depth: 8, Members: 256, NameBytes: 128}

// readAnnounced reads what a client says of itself. It is strict about the form
// (one object, no member twice, exact numbers) and about the types of members
// that it knows.
func readAnnounced(data []byte) (a announced, err error) {
	canonical, err := canon.Strict(data, announcedLimits)
	if err != nil {
		return announced{}, err
	}
	if err = json.Unmarshal(canonical, &a); err != nil {
		return announced{}, invalid("invalid_client_metadata", "A member has another type than RFC 7591 gives it.").Because(err)
	}
	return a, nil
}

// goodRedirects are the redirect URIs that can be stored, each judged by itself:
// a client that names one for a browser extension, say, beside a usable one is
// not refused for it. Duplicates and what is beyond the bounds fall out too.
func goodRedirects(list []string) (good []string, first error) {
	for _, u := range list {
		err := CheckRedirect(u, true)
		switch {
		case err == nil && len(u) <= MaxSelfRedirectSize && len(good) < MaxSelfRedirects && !slices.Contains(good, u):
			good = append(good, u)
		case err != nil && first == nil:
			first = err
		}
	}
	return good, first
}

// grantTypes are the grant types that a client without a service can have, of
// those it names; RFC 7591 gives one that names none authorization_code.
func (a announced) grantTypes() (out []GrantType) {
	if len(a.GrantTypes) == 0 {
		return []GrantType{AuthorizationCode}
	}
	for _, g := range []GrantType{AuthorizationCode, RefreshToken} {
		if slices.Contains(a.GrantTypes, string(g)) {
			out = append(out, g)
		}
	}
	return out
}

// keys are the client's keys: by value, by address, or none.
func (a announced) keys() (json.RawMessage, string, error) {
	byValue := len(a.JWKS) > 0 && string(a.JWKS) != "null"
	switch {
	case byValue && a.JWKSURI != "":
		return nil, "", invalid("jwks_invalid", "A client's keys are in jwks or at jwks_uri, not both (RFC 7591 section 2).")
	case a.JWKSURI != "":
		return nil, a.JWKSURI, CheckJWKSURI(a.JWKSURI)
	case byValue:
		return a.JWKS, "", CheckJWKS(a.JWKS)
	}
	return nil, "", nil
}

// portless is a redirect URI without what may change from one run of an app to
// the next: the port of a loopback address.
func portless(uri string) string {
	u, err := url.Parse(strings.Replace(uri, ":*", "", 1))
	if err != nil || u.Scheme != "http" {
		return uri
	}
	host := u.Hostname()
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	u.Host = host
	return u.String()
}

// places are redirect URIs, without loopback ports, in order and once each.
func places(uris []string, part func(string) string) []string {
	var out []string
	for _, u := range uris {
		if p := part(u); !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	slices.Sort(out)
	return out
}

// placeOf is where a redirect URI leads: a host, or the scheme of an app.
func placeOf(uri string) string {
	u, err := url.Parse(strings.Replace(uri, ":*", "", 1))
	switch {
	case err != nil:
		return uri
	case u.Scheme == "http" || u.Scheme == "https":
		return u.Scheme + "://" + u.Hostname()
	}
	return u.Scheme + ":"
}

// digest names what a person is shown of a client and relies on: its name, where
// answers go, how it proves that it is itself, and what it has demanded of it.
func digest(c Client) string {
	of := map[string]any{
		"name": c.Name, "redirects": places(c.RedirectURIs, portless), "method": string(c.AuthMethod), "keys": string(c.JWKS) + c.JWKSURI,
	}
	for name, demanded := range map[string]bool{"bound": c.RequireDPoP, "pushed": c.RequirePushed, "signed": c.RequireSigned} {
		if demanded {
			of[name] = true
		}
	}
	return hashed(of)
}

func hashed(v any) string {
	b, err := canon.Marshal(v)
	if err != nil {
		panic("client: plain strings cannot be written as JSON: " + err.Error())
	}
	h := canon.H(canon.LabelClient, b)
	return encode(h[:])
}

// cleanName is a name that a client gives itself as it can be shown, "" if it is
// none: pages say anyway that it is the client's own word.
func cleanName(s string) string {
	s = strings.Map(func(r rune) rune {
		if hidden(r) || !unicode.IsGraphic(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
	s = strings.TrimSpace(s)
	if r := []rune(s); len(r) > MaxName {
		s = strings.TrimSpace(string(r[:MaxName]))
	}
	return s
}
