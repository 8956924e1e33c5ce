// Package client owns OAuth clients, and the service accounts that confidential
// clients act as. Client authentication is oauth's; this package says what a
// client is and what it may ask for.
package client

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"time"

	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/secret"
)

// AuthMethod is how a client authenticates at the token endpoint (OAuth token
// endpoint authentication methods registry).
type AuthMethod string

// The methods of this release.
const (
	AuthNone          AuthMethod = "none"
	AuthSecretBasic   AuthMethod = "client_secret_basic"
	AuthSecretPost    AuthMethod = "client_secret_post"
	AuthPrivateKeyJWT AuthMethod = "private_key_jwt"
	AuthTLS           AuthMethod = "tls_client_auth"             // RFC 8705 §2.1
	AuthSelfSignedTLS AuthMethod = "self_signed_tls_client_auth" // RFC 8705 §2.2
)

// GrantType is a grant_type value (RFC 6749).
type GrantType string

// The grant types of this release.
const (
	AuthorizationCode GrantType = "authorization_code"
	RefreshToken      GrantType = "refresh_token"
	ClientCredentials GrantType = "client_credentials"
	JWTBearer         GrantType = "urn:ietf:params:oauth:grant-type:jwt-bearer"     // RFC 7523
	TokenExchange     GrantType = "urn:ietf:params:oauth:grant-type:token-exchange" // RFC 8693
	DeviceCode        GrantType = "urn:ietf:params:oauth:grant-type:device_code"    // RFC 8628
	CIBA              GrantType = "urn:openid:params:grant-type:ciba"               // OpenID Connect CIBA Core 1.0
)

// Client is software that asks on somebody's behalf.
type Client struct {
	ID           string // cli_…, the lineage node
	ClientID     string // on the wire; begins with https:// if it is the address of a document
	Name         string
	AuthMethod   AuthMethod
	SecretHash   *secret.Hash    // of client_secret_*: the newest; nil otherwise
	SecretAt     time.Time       // when it was made; zero: before that was kept
	Earlier      *Secret         // the one before it, while both work; nil: none
	JWKS         json.RawMessage // of private_key_jwt and signed requests; nil if it has no keys
	RedirectURIs []string
	GrantTypes   []GrantType
	Scopes       []string // may ask for; empty: none beyond openid profile email
	Resources    []string // resource ids it may ask tokens for; "*" is any
	FirstParty   bool     // part of this deployment: consent is not asked
	Native       bool     // loopback or private-use redirects: an app on a computer
	RequireDPoP  bool
	Service      string // service it acts as with client_credentials; "" if none
	Owner        string // person answerable for it; "" for built-in ones
	ManagedBy    string // "apply", "api", "built-in"
	CreatedAt    time.Time
	Metadata
	Origin
	Node lineage.Node
}

// Secret is a secret of a client that a newer one takes the place of.
type Secret struct {
	Hash   secret.Hash
	MadeAt time.Time // zero: before that was kept
	EndsAt time.Time // from then on it does not work
}

// The overlap of two secrets: long enough to change what uses them, and an end.
const (
	UsualOverlap = 24 * time.Hour
	MaxOverlap   = 30 * 24 * time.Hour
)

// SecretName is the name by which a secret is listed and retired: the beginning of
// the SHA-256 of its text, in hexadecimal, which whoever has the secret can work
// out and nobody can go back from.
func SecretName(h secret.Hash) string { return hex.EncodeToString(h[:6]) }

// Secrets are the hashes of the secrets that work at now, the newest first.
func (c Client) Secrets(now time.Time) []secret.Hash {
	var out []secret.Hash
	if c.SecretHash != nil {
		out = append(out, *c.SecretHash)
	}
	if c.Earlier != nil && now.Before(c.Earlier.EndsAt) {
		out = append(out, c.Earlier.Hash)
	}
	return out
}

// Confidential reports whether the client authenticates.
func (c Client) Confidential() bool { return c.AuthMethod != AuthNone }

// Near reports whether requests of the client come from where its person is, as far as
// can be told: those of a server come from its own network.
func (c Client) Near() bool { return c.Native || !c.Confidential() }

// Allows reports whether the client may use the grant type.
func (c Client) Allows(g GrantType) bool {
	for _, t := range c.GrantTypes {
		if t == g {
			return true
		}
	}
	return false
}

// Service is a service account: an actor that is not a person.
type Service struct {
	ID        string // svc_…, the lineage node
	Subject   string // OAuth sub
	Name      string
	Owner     string // person id; mandatory
	Purpose   string
	ReviewBy  time.Time // by when it must be reviewed; mandatory
	Groups    []string
	CreatedAt time.Time
	Node      lineage.Node
}

// Create makes a client, and the service it acts as if given.
type Create struct {
	Client
	NewService *Service
}

// Update replaces what a client is; ID, ClientID, Service and CreatedAt stay.
type Update struct{ Client }

// RotateSecret replaces a client's secret. With EarlierUntil the one it replaces
// works on until then; a client that has two already is refused
// (problem.Conflict, two_secrets). Without it, every earlier one stops at once.
type RotateSecret struct {
	ID           string
	SecretHash   secret.Hash
	EarlierUntil time.Time
}

// RetireSecret stops the earlier of a client's two secrets before its time.
type RetireSecret struct {
	ID   string
	Hash secret.Hash
}

// Change marks Create as a change.
func (Create) Change() {}

// Change marks Update as a change.
func (Update) Change() {}

// Change marks RotateSecret as a change.
func (RotateSecret) Change() {}

// Change marks RetireSecret as a change.
func (RetireSecret) Change() {}

// Store reads clients and services.
type Store interface {
	// Client finds by lineage id.
	Client(ctx context.Context, id string) (Client, error)
	// ClientByClientID finds by the name on the wire.
	ClientByClientID(ctx context.Context, clientID string) (Client, error)
	Clients(ctx context.Context, after string, n int) ([]Client, error)
	Service(ctx context.Context, id string) (Service, error)
}
