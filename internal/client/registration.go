package client

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/secret"
)

// DynamicPrefix begins the client_id of a client that registered itself; what
// follows is the registration, sealed: nothing is stored for whoever asks.
const DynamicPrefix = "dyn_"

// RegistrationLifetime is for how long a registration that nobody agreed to works.
// Once a person did, it is stored, and works as long as that.
const RegistrationLifetime = 60 * 24 * time.Hour

// Registration is what a client registered itself with (RFC 7591 §2), as far as it
// is kept: the sealed part of its client_id.
type Registration struct {
	Name         string          `json:"n"`
	RedirectURIs []string        `json:"r"`
	AuthMethod   AuthMethod      `json:"m"`
	GrantTypes   []GrantType     `json:"g"`
	SecretHash   []byte          `json:"h,omitempty"` // of client_secret_*
	JWKS         json.RawMessage `json:"k,omitempty"`
	JWKSURI      string          `json:"u,omitempty"`
	SoftwareID   string          `json:"i,omitempty"`
	Demands      Demands         `json:"d,omitzero"`
	At           time.Time       `json:"t"`
}

// ParseRegistration reads a registration request (RFC 7591 §3.1). Each redirect
// URI is judged by itself; the request is refused only if none is left. Members
// that are not offered are left out of what is stored, and so of the answer
// (§3.2.1). Errors are problem.Invalid with the codes of §3.2.2.
func ParseRegistration(data []byte, now time.Time) (Registration, error) {
	a, err := readAnnounced(data)
	if err != nil {
		return Registration{}, invalid("invalid_client_metadata", "The request is not one JSON object of at most 5 KB, with each member once.").Because(err)
	}
	bad := func(format string, args ...any) (Registration, error) {
		return Registration{}, invalid("invalid_client_metadata", format, args...)
	}
	r := Registration{
		Name: cleanName(a.Name), AuthMethod: AuthMethod(a.AuthMethod), GrantTypes: a.grantTypes(), SoftwareID: cleanName(a.SoftwareID), Demands: a.Demands, At: now.UTC().Truncate(time.Second),
	}
	switch {
	case len(a.Statement) > 0:
		return Registration{}, invalid("invalid_software_statement", "Software statements are not read here: leave it out.")
	case len(a.ResponseType) > 0 && !slices.Contains(a.ResponseType, "code"):
		return bad("Only the response type code is offered.")
	case !slices.Contains(r.GrantTypes, AuthorizationCode):
		return bad("A client that registers itself signs people in: it needs authorization_code.")
	}
	if r.AuthMethod == "" { // RFC 7591 §2
		r.AuthMethod = AuthSecretBasic
	}
	switch r.AuthMethod {
	case AuthNone, AuthSecretBasic, AuthSecretPost:
	case AuthPrivateKeyJWT:
		if r.JWKS, r.JWKSURI, err = a.keys(); err != nil || len(r.JWKS) == 0 && r.JWKSURI == "" {
			return Registration{}, invalid("invalid_client_metadata", "A client with private_key_jwt needs its public keys: jwks or jwks_uri.").Because(err)
		}
	default:
		return bad("There is no token_endpoint_auth_method %.60q here.", a.AuthMethod)
	}
	if r.Demands.Signed && len(r.JWKS) == 0 && r.JWKSURI == "" {
		return bad("A client whose requests must be signed needs its public keys, and private_key_jwt.")
	}
	var why error
	if r.RedirectURIs, why = goodRedirects(a.RedirectURIs); len(r.RedirectURIs) == 0 {
		return Registration{}, invalid("invalid_redirect_uri", "No redirect URI is left that can be used: https, http on a loopback address, or a private-use scheme such as com.example.app.").Because(why)
	}
	return r, nil
}

// WithSecret gives a registration that authenticates by a secret one, and says
// what it is; the zero value is told to nobody.
func (r *Registration) WithSecret() (v secret.Value, has bool) {
	if r.AuthMethod != AuthSecretBasic && r.AuthMethod != AuthSecretPost {
		return secret.Value{}, false
	}
	v = secret.New(secret.ClientSecret)
	h := v.Hash()
	r.SecretHash = h[:]
	return v, true
}

// Client is the client that a registration makes, under its client_id. It has no
// ID yet; what it may ask for is not its to say.
func (r Registration) Client(clientID string) Client {
	c := Client{
		ClientID: clientID, Name: r.Name, AuthMethod: r.AuthMethod, JWKS: r.JWKS, RedirectURIs: r.RedirectURIs, GrantTypes: r.GrantTypes,
		ManagedBy: string(FromItself), CreatedAt: r.At,
		Origin: Origin{Source: FromItself, Group: r.Fingerprint()},
	}
	c.JWKSURI = r.JWKSURI
	r.Demands.of(&c)
	if len(r.SecretHash) == len(secret.Hash{}) {
		h := secret.Hash(r.SecretHash)
		c.SecretHash = &h
	}
	if c.Name == "" {
		c.Name = strings.TrimSuffix(placeOf(r.RedirectURIs[0]), ":")
	}
	return finish(c)
}

// Fingerprint names what registers itself again and again as the same app: by its
// name, its software_id and where its answers go. It is for remembering, showing
// and limiting together; it proves nothing, and anybody can take it.
func (r Registration) Fingerprint() string {
	return hashed(map[string]any{
		"name": strings.ToLower(r.Name), "software": r.SoftwareID, "hosts": places(r.RedirectURIs, placeOf),
	})
}

// StoredID is the client_id that a client is kept under: itself, or for one that
// registered itself a hash, because a registration is too long for an index.
func StoredID(clientID string) string {
	if !strings.HasPrefix(clientID, DynamicPrefix) || len(clientID) == len(DynamicPrefix)+43 {
		return clientID
	}
	sum := sha256.Sum256([]byte(clientID))
	return DynamicPrefix + encode(sum[:])
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
