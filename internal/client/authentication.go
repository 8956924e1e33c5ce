package client

import (
	"encoding/json"
	"net/url"
	"slices"
	"strings"

	"github.com/countersign-dev/countersign/internal/jose"
)

// MaxURI is how long an address of a registration is at most, in bytes.
const MaxURI = 1024

// Authentication is what of a client's metadata says how it proves who it is.
type Authentication struct {
	// JWKSURI is where the client publishes its keys (RFC 7591 §2); "": in its
	// registration, or nowhere.
	JWKSURI string `json:"jwks_uri,omitempty" maxLength:"1024" doc:"Where it publishes its keys; instead of jwks (RFC 7591)"`
	// How its certificate names a client with tls_client_auth: exactly one of them
	// (RFC 8705 §2.1.2).
	SubjectDN string `json:"tls_client_auth_subject_dn,omitempty" maxLength:"1024" doc:"The subject of its certificate, as RFC 4514 writes it (RFC 8705)"`
	SanDNS    string `json:"tls_client_auth_san_dns,omitempty" maxLength:"253" doc:"A DNS name in its certificate (RFC 8705)"`
	SanURI    string `json:"tls_client_auth_san_uri,omitempty" maxLength:"1024" doc:"A URI in its certificate (RFC 8705)"`
	SanIP     string `json:"tls_client_auth_san_ip,omitempty" maxLength:"45" doc:"An address in its certificate (RFC 8705)"`
	SanEmail  string `json:"tls_client_auth_san_email,omitempty" maxLength:"320" doc:"A mail address in its certificate (RFC 8705)"`
	// Profile holds the client to a security profile: FAPI2, or "" for none.
	Profile string `json:"security_profile,omitempty" enum:"fapi2" doc:"fapi2 holds it to the FAPI 2.0 Security Profile"`
	// CertificateBound binds the client's tokens to the certificate of the connection
	// they are asked for on (RFC 8705 §3).
	CertificateBound bool `json:"tls_client_certificate_bound_access_tokens,omitempty" doc:"Its tokens are bound to its certificate (RFC 8705)"`
}

// Asymmetric reports whether the client proves a key each time it authenticates.
func (c Client) Asymmetric() bool {
	return c.AuthMethod == AuthPrivateKeyJWT || c.AuthMethod == AuthTLS || c.AuthMethod == AuthSelfSignedTLS
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

// checkCertificates is CheckJWKS for a client whose certificates are in x5c.
func checkCertificates(data json.RawMessage) error {
	if err := CheckJWKS(data); err != nil {
		return err
	}
	set, err := jose.ParseJWKSet(data)
	if err == nil && !slices.ContainsFunc(set.Keys, func(k jose.JWK) bool { return k.Certificate != nil }) {
		err = invalid("jwks_invalid", "The key set holds no certificate (x5c).")
	}
	return err
}

// checkKeys checks the client's keys, wherever they are.
func checkKeys(c Client) error {
	switch {
	case len(c.JWKS) > 0 && c.JWKSURI != "":
		return invalid("jwks_invalid", "A client's keys are in jwks or at jwks_uri, not both (RFC 7591 section 2).")
	case c.JWKSURI != "":
		return CheckJWKSURI(c.JWKSURI)
	case len(c.JWKS) > 0 && c.AuthMethod == AuthSelfSignedTLS:
		return checkCertificates(c.JWKS)
	case len(c.JWKS) > 0:
		return CheckJWKS(c.JWKS)
	case c.AuthMethod == AuthSelfSignedTLS:
		return invalid("jwks_invalid", "A client with self_signed_tls_client_auth needs its certificates, as x5c in jwks or at jwks_uri (RFC 8705 section 2.2).")
	case c.AuthMethod == AuthPrivateKeyJWT:
		return invalid("jwks_invalid", "A client that authenticates with private_key_jwt needs its keys: jwks or jwks_uri.")
	case c.RequireSigned:
		return invalid("jwks_invalid", "A client whose requests must be signed needs its keys: jwks or jwks_uri.")
	}
	return nil
}
