package oauth

import (
	"context"
	"crypto/hmac"
	"crypto/x509"
	"net/http"
	"strings"

	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/jose"
)

// binding is what a token is bound to: a key that proofs are made with (RFC 9449),
// a client certificate (RFC 8705), both, or nothing.
type binding struct{ jkt, x5t string }

// confirmation is what the token says of it, nil for a bearer token.
func (b binding) confirmation() *jose.Confirmation {
	if b == (binding{}) {
		return nil
	}
	return &jose.Confirmation{JKT: b.jkt, X5TS256: b.x5t}
}

// tokenType is what the token is presented as: one bound to a certificate alone is
// Bearer (RFC 8705 §3).
func (b binding) tokenType() string {
	if b.jkt != "" {
		return "DPoP"
	}
	return "Bearer"
}

// bound is what a token of this request is bound to: the key it proves, and its
// certificate if the client is registered for that.
func (t *tokenRequest) bound() binding {
	b := binding{jkt: t.jkt()}
	if t.client.CertificateBound {
		b.x5t = thumbprint(t.certs)
	}
	return b
}

// constrained refuses a request whose client's tokens have to be bound and that has
// nothing to bind them to.
func (t *tokenRequest) constrained() error {
	switch {
	case !proofAllowed(t.client.Client, t.key):
		return invalid("invalid_dpop_proof", "This client's proofs are signed with PS256, ES256 or EdDSA (FAPI 2.0 section 5.4.1).")
	case t.client.FAPI() && t.bound() == (binding{}):
		return unbound("This client's tokens")
	case t.key == nil && t.client.RequireDPoP:
		return unbound("This client's tokens")
	case t.client.CertificateBound && len(t.certs) == 0:
		return invalid("invalid_request", "This client's tokens are bound to its certificate: use the endpoints in mtls_endpoint_aliases (RFC 8705).")
	}
	return nil
}

// thumbprint names the certificate that a connection was made with, "" if none.
func thumbprint(certs []*x509.Certificate) string {
	if len(certs) == 0 {
		return ""
	}
	return jose.CertificateThumbprint(certs[0].Raw)
}

// certificates are those of the request's connection, the client's own first; none
// where no connection asks for one.
func (s *Server) certificates(r *http.Request) []*x509.Certificate {
	if s.Certificates == nil {
		return nil
	}
	return s.Certificates(r)
}

// holds reports whether a request comes with the certificate that a token is bound
// to, if it is bound to one (RFC 8705 §3).
func (s *Server) holds(r *http.Request, c *jose.Confirmation) bool {
	return c == nil || c.X5TS256 == "" || hmac.Equal([]byte(c.X5TS256), []byte(thumbprint(s.certificates(r))))
}

// certified authenticates a client by the certificate of its connection, that the
// handshake has shown it to hold the key of (RFC 8705 §2).
func (s *Server) certified(ctx context.Context, c client.Client, certs []*x509.Certificate) error {
	if len(certs) == 0 {
		return errClient
	}
	leaf, now := certs[0], s.now()
	if now.Before(leaf.NotBefore) || now.After(leaf.NotAfter) {
		return errClient
	}
	if c.AuthMethod == client.AuthSelfSignedTLS {
		return s.published(ctx, c, leaf)
	}
	if s.Anchors == nil || leaf.IsCA || !c.Named(leaf) {
		return errClient
	}
	between := x509.NewCertPool()
	for _, i := range certs[1:] {
		between.AddCert(i)
	}
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots: s.Anchors, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return errClient.Because(err)
	}
	return nil
}

// published looks for a certificate among those that the client has registered or
// publishes; who signed it does not matter (RFC 8705 §2.2).
func (s *Server) published(ctx context.Context, c client.Client, leaf *x509.Certificate) error {
	set, err := s.clientKeySet(ctx, c)
	if err != nil {
		return asClient(err)
	}
	if hasCertificate(set, leaf) || c.JWKSURI != "" && hasCertificate(s.keySource(c).Again(ctx, c.JWKSURI, set), leaf) {
		return nil
	}
	return errClient
}

func hasCertificate(set *jose.JWKSet, leaf *x509.Certificate) bool {
	for _, k := range set.Keys {
		if k.Certificate != nil && hmac.Equal(k.Certificate, leaf.Raw) {
			return true
		}
	}
	return false
}

// authMethods are the client authentication methods on offer.
func (s *Server) authMethods() []string {
	out := []string{string(client.AuthNone), string(client.AuthSecretBasic), string(client.AuthSecretPost), string(client.AuthPrivateKeyJWT)}
	if s.MTLS != "" {
		out = append(out, string(client.AuthSelfSignedTLS))
		if s.Anchors != nil {
			out = append(out, string(client.AuthTLS))
		}
	}
	return out
}

// aliased are the endpoints that clients with a certificate reach at another
// address (RFC 8705 §5), by their names in the metadata.
var aliased = []string{
	"token_endpoint", "pushed_authorization_request_endpoint", "introspection_endpoint", "revocation_endpoint", "userinfo_endpoint",
	"device_authorization_endpoint", "backchannel_authentication_endpoint",
}

// describeMTLS adds what the metadata says of certificates, where connections ask
// for one.
func (s *Server) describeMTLS(doc map[string]any) {
	if s.MTLS == "" {
		return
	}
	aliases := map[string]string{}
	for _, name := range aliased {
		if at, ok := doc[name].(string); ok {
			aliases[name] = s.MTLS + strings.TrimPrefix(at, s.Issuer)
		}
	}
	doc["tls_client_certificate_bound_access_tokens"], doc["mtls_endpoint_aliases"] = true, aliases
}
