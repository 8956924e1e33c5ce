package client

import (
	"net/url"
	"slices"
	"strings"
)

// OpenID is what a client is registered with for OpenID Connect, under the names of
// its Registration §2 and of the logout specifications.
type OpenID struct {
	// IDTokenAlg signs the client's ID and logout tokens (OpenID Connect Registration
	// §2); "" is ES256.
	IDTokenAlg string `json:"id_token_signed_response_alg,omitempty" enum:"RS256,ES256,PS256,EdDSA" doc:"What its ID and logout tokens are signed with; ES256 if left out"`
	// UserInfoAlg has userinfo answered as a JWT that is signed so; "" is plain JSON.
	UserInfoAlg string `json:"userinfo_signed_response_alg,omitempty" enum:"RS256,ES256,PS256,EdDSA" doc:"Has userinfo answered as a signed JWT; JSON if left out"`
	// SubjectType is "public", which "" is too, or "pairwise": people then have other
	// subjects there than in other sectors.
	SubjectType string `json:"subject_type,omitempty" enum:"public,pairwise" doc:"pairwise: people have a subject of their own in the client's sector; public if left out"`
	// SectorURI is a document that lists the redirect URIs of all clients of a sector
	// (OpenID Connect Registration §5).
	SectorURI string `json:"sector_identifier_uri,omitempty" maxLength:"1024" doc:"Where a document lists the redirect URIs of the sector; its host is the sector"`
	// PostLogoutURIs are where people may be sent after they signed out (RP-Initiated
	// Logout §2).
	PostLogoutURIs []string `json:"post_logout_redirect_uris,omitempty" maxItems:"20" doc:"Where people may be sent after the app had them sign out"`
	// BackchannelURI is told when a session with the client ends (Back-Channel Logout
	// §2.2).
	BackchannelURI string `json:"backchannel_logout_uri,omitempty" maxLength:"1024" doc:"Where the app is told that a session ended"`
	// DetailsTypes are the types of authorization details that the client may ask for;
	// "*" is any (RFC 9396 §10).
	DetailsTypes []string `json:"authorization_details_types,omitempty" maxItems:"50" doc:"Types of authorization details it may ask for; * is any"`
	// BackchannelSession says that the client needs to be told which session; it always
	// is.
	BackchannelSession bool `json:"backchannel_logout_session_required,omitempty" doc:"The app needs sid in logout tokens, which are never without"`
}

// Algorithms of what a client may have signed for it.
const (
	defaultIDTokenAlg = "ES256"
	Pairwise          = "pairwise"
	public            = "public"
)

// SignedAlgs are what ID tokens, logout tokens and userinfo can be signed with.
func SignedAlgs() []string { return []string{"RS256", "ES256", "PS256", "EdDSA"} }

// SignedWith is the algorithm of the client's ID and logout tokens.
func (m OpenID) SignedWith() string {
	if m.IDTokenAlg == "" {
		return defaultIDTokenAlg
	}
	return m.IDTokenAlg
}

// Signs are the algorithms that the client needs a key of.
func (m OpenID) Signs() []string {
	if m.UserInfoAlg == "" {
		return []string{m.SignedWith()}
	}
	return []string{m.SignedWith(), m.UserInfoAlg}
}

// maxPostLogout is how many addresses a client may send people to after they
// signed out.
const maxPostLogout = 20

// checkOpenID reads what a client is registered with for OpenID Connect.
func checkOpenID(c Client) error {
	for _, alg := range []string{c.IDTokenAlg, c.UserInfoAlg} {
		if alg != "" && !slices.Contains(SignedAlgs(), alg) {
			return invalid("signed_alg_invalid", "Nothing is signed with %.40q here: choose one of %s.", alg, strings.Join(SignedAlgs(), ", "))
		}
	}
	if c.BackchannelURI != "" {
		if why := endpoint(c.BackchannelURI); why != "" {
			return invalid("backchannel_uri_invalid", "%.200q cannot be a backchannel_logout_uri: %s.", c.BackchannelURI, why)
		}
	}
	if len(c.PostLogoutURIs) > maxPostLogout {
		return invalid("client_too_large", "A client has at most %d post_logout_redirect_uris.", maxPostLogout)
	}
	for i, u := range c.PostLogoutURIs {
		if err := CheckRedirect(u, c.Native); err != nil {
			return err
		}
		if strings.Contains(u, ":*") || slices.Contains(c.PostLogoutURIs[:i], u) {
			return invalid("redirect_invalid", "The post_logout_redirect_uri %.200q is named twice, or has a wildcard: it is compared byte by byte.", u)
		}
	}
	for i, name := range c.DetailsTypes {
		if !ScopeToken(name) || slices.Contains(c.DetailsTypes[:i], name) {
			return invalid("details_type_invalid", "%.80q is no type of authorization details, or is named twice.", name)
		}
	}
	return checkSector(c)
}

// endpoint says what is wrong with an address that the server is to call; "" if
// nothing is. http is for what egress is allowed to reach without TLS, which only
// the call itself can tell.
func endpoint(uri string) string {
	u, err := url.Parse(uri)
	switch {
	case err != nil || len(uri) > MaxRedirect || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "":
		return "it is not an https URL"
	case u.User != nil || strings.ContainsAny(uri, "#\\ ") || u.String() != uri:
		return "it has a user, a fragment, or something that has to be escaped"
	}
	return ""
}

// checkSector holds a pairwise client to one sector (OpenID Connect Core §8.1). That
// the document at sector_identifier_uri names its redirect URIs is checked by
// whoever can fetch it.
func checkSector(c Client) error {
	if !slices.Contains([]string{"", public, Pairwise}, c.SubjectType) {
		return invalid("subject_type_invalid", "A subject_type is public or pairwise.")
	}
	if c.SectorURI != "" {
		if why := endpoint(c.SectorURI); why != "" {
			return invalid("sector_invalid", "%.200q cannot be a sector_identifier_uri: %s.", c.SectorURI, why)
		}
		return nil
	}
	if c.SubjectType != Pairwise {
		return nil
	}
	for _, u := range c.RedirectURIs {
		if !strings.HasPrefix(u, "https://") || hostOf(u) != hostOf(c.RedirectURIs[0]) {
			return invalid("sector_missing", "Redirect URIs of several hosts, or of an app on a computer, say no sector: name a sector_identifier_uri.")
		}
	}
	return nil
}

func hostOf(uri string) string {
	u, err := url.Parse(uri)
	if err != nil {
		return ""
	}
	return strings.ToLower(u.Hostname())
}

// Sector names the sector within which the client's subjects are the same; ok is
// false for a client with public ones. A pairwise client without any address, which
// signs nobody in, is a sector by itself.
func (c Client) Sector() (sector string, ok bool) {
	switch {
	case c.SubjectType != Pairwise:
		return "", false
	case c.SectorURI != "":
		return hostOf(c.SectorURI), true
	case len(c.RedirectURIs) > 0:
		return hostOf(c.RedirectURIs[0]), true
	}
	return c.ID, true
}
