package client

import (
	"net/url"
	"strings"
)

// MaxURI is how long an address of a registration is at most, in bytes.
const MaxURI = 1024

// Authentication is what of a client's metadata says how it proves who it is.
type Authentication struct {
	// JWKSURI is where the client publishes its keys (RFC 7591 §2); "": in its
	// registration, or nowhere.
	JWKSURI string `json:"jwks_uri,omitempty" maxLength:"1024" doc:"Where it publishes its keys; instead of jwks (RFC 7591)"`
}

// Keyed reports whether keys of the client are known: by value or by address.
func (c Client) Keyed() bool { return len(c.JWKS) > 0 || c.JWKSURI != "" }

// CheckJWKSURI says whether an address of keys may be registered: https to a plain
// host, without user and fragment. Whether the server may reach it is judged each
// time. Errors are problem.Invalid with code jwks_uri_invalid.
func CheckJWKSURI(uri string) error {
	u, err := url.Parse(uri)
	authority, _, _, _ := split(strings.TrimPrefix(uri, "https:"))
	if err != nil || len(uri) > MaxURI || u.Scheme != "https" || u.User != nil || strings.Contains(uri, "#") || !plainHost(authority, false) || u.Host != authority {
		return invalid("jwks_uri_invalid", "%.200q cannot be a jwks_uri: it is https to a plain host, without user and fragment.", uri)
	}
	return nil
}

// checkKeys checks the client's keys, wherever they are.
func checkKeys(c Client) error {
	switch {
	case len(c.JWKS) > 0 && c.JWKSURI != "":
		return invalid("jwks_invalid", "A client's keys are in jwks or at jwks_uri, not both (RFC 7591 section 2).")
	case c.JWKSURI != "":
		return CheckJWKSURI(c.JWKSURI)
	case len(c.JWKS) > 0:
		return CheckJWKS(c.JWKS)
	case c.AuthMethod == AuthPrivateKeyJWT:
		return invalid("jwks_invalid", "A client that authenticates with private_key_jwt needs its keys: jwks or jwks_uri.")
	case c.RequireSigned:
		return invalid("jwks_invalid", "A client whose requests must be signed needs its keys: jwks or jwks_uri.")
	}
	return nil
}
