package client

import (
	"net/url"
	"slices"
	"strings"

	"github.com/countersign-dev/countersign/internal/problem"
)

// MaxDocumentURL is how long a client_id that is an address may be, in bytes.
const MaxDocumentURL = 512

// IsDocumentURL reports whether a client_id is the address of a document, rather
// than a name.
func IsDocumentURL(clientID string) bool { return strings.HasPrefix(clientID, "https://") }

// CheckDocumentURL reads a client_id that is the address of a document (Client ID
// Metadata Document §3): https with a path, no user, fragment or dot segment,
// and spelled as every parser reads it. It is compared byte by byte ever after.
func CheckDocumentURL(clientID string) error {
	bad := func(why string) *problem.Error {
		return invalid("client_id_invalid", "%.200q cannot be the address of a client: %s.", clientID, why)
	}
	if !IsDocumentURL(clientID) || len(clientID) > MaxDocumentURL {
		return bad("it is https and has at most 512 bytes")
	}
	if err := CheckRedirect(clientID, false); err != nil {
		return bad("it has to be plain, without a user, a fragment or dot segments").Because(err)
	}
	if _, path, _, _ := split(strings.TrimPrefix(clientID, "https:")); path == "" {
		return bad("it has no path")
	}
	return nil
}

// DocumentHost is the host of a client_id that is an address: what the client is
// verified to belong to.
func DocumentHost(clientID string) string {
	u, err := url.Parse(clientID)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// ParseDocument reads the document that a client_id names (Client ID Metadata
// Document §4): it must name that very client_id, and holds no secret, because
// everybody can read it. A client that publishes keys authenticates with them,
// always. The client has no ID yet; what it may ask for is not its to say. Errors
// are problem.Invalid.
func ParseDocument(clientID string, data []byte) (Client, error) {
	a, err := readAnnounced(data)
	if err != nil {
		return Client{}, err
	}
	bad := func(format string, args ...any) (Client, error) {
		return Client{}, invalid("client_document_invalid", format, args...)
	}
	switch {
	case a.ClientID == nil || *a.ClientID != clientID:
		return bad("The document names another client_id than its address.")
	case len(a.Secret) > 0 || len(a.SecretUntil) > 0:
		return bad("The document holds a secret, which it would tell everybody.")
	}
	c := Client{
		ClientID: clientID, Name: cleanName(a.Name), AuthMethod: AuthNone, GrantTypes: a.grantTypes(), ManagedBy: string(FromDocument),
		Origin: Origin{Source: FromDocument, Group: DocumentHost(clientID)},
	}
	if c.Name == "" {
		c.Name = c.Group
	}
	if c.JWKS, c.JWKSURI, err = a.keys(); err != nil {
		return bad("Its keys cannot be used: public ones, in jwks or at an https jwks_uri.")
	}
	if c.Keyed() {
		c.AuthMethod = AuthPrivateKeyJWT
	}
	if a.Demands.of(&c); c.RequireSigned && !c.Keyed() {
		return bad("The document demands signed requests and has no keys.")
	}
	if m := AuthMethod(a.AuthMethod); m != "" && m != c.AuthMethod {
		return bad("The document asks for token_endpoint_auth_method %.60q: a client with keys has private_key_jwt, one without has none.", a.AuthMethod)
	}
	if len(a.ResponseType) > 0 && !slices.Contains(a.ResponseType, "code") || !c.Allows(AuthorizationCode) {
		return bad("The document is of a client that signs nobody in: it needs authorization_code and code.")
	}
	var why error
	if c.RedirectURIs, why = goodRedirects(a.RedirectURIs); len(c.RedirectURIs) == 0 {
		return Client{}, invalid("client_document_invalid", "The document names no redirect URI that can be used.").Because(why)
	}
	return finish(c), nil
}

// finish completes a client that says itself what it is.
func finish(c Client) Client {
	c.Native = slices.ContainsFunc(c.RedirectURIs, NativeRedirect)
	c.Digest = digest(c)
	return c
}
