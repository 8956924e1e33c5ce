package web

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
)

// The headers in which a hop that ends TLS says which certificate the client
// showed (RFC 9440).
const (
	ClientCert      = "Client-Cert"
	ClientCertChain = "Client-Cert-Chain"
)

// The limits of what a hop says.
const (
	maxCertField = 32 << 10 // bytes of either header
	maxChain     = 10       // certificates above the client's own
)

// ClientCerts establishes the certificate that a client showed: the one of the
// connection, or what an authenticated hop says of it (mechanisms I19). The zero
// value is for listeners that ask for none: there nobody may speak of one.
type ClientCerts struct {
	// Direct takes the certificate of a connection that is no hop's.
	Direct bool
	// Hops are the SHA-256 of the certificates that hops connect with.
	Hops [][sha256.Size]byte
	// Unix trusts whoever reaches a Unix socket of ours.
	Unix bool
	// Origin is where clients reach the listener, if that is not the issuer.
	Origin string
	// Refuse answers a request that speaks of a certificate and may not; nil: a bare
	// 400.
	Refuse func(http.ResponseWriter, *http.Request, error)
}

// ErrClientCert is in the chain of refusals of the headers.
var ErrClientCert = errors.New("client certificate header")

// connection is what is known of how a request came in.
type connection struct {
	certs  []*x509.Certificate
	origin string
}

type connectionKey struct{}

func connectionOf(r *http.Request) *connection {
	c, ok := r.Context().Value(connectionKey{}).(*connection)
	if !ok {
		return &connection{}
	}
	return c
}

// Certificates are those that a request's client showed, its own first: that it
// holds the key was shown in the handshake, with us or with an authenticated hop.
// Nothing else about them is judged.
func Certificates(r *http.Request) []*x509.Certificate { return connectionOf(r).certs }

// OriginOf is where the client reached us, "" if that is the issuer.
func OriginOf(r *http.Request) string { return connectionOf(r).origin }

// Wrap puts it before a handler. The headers are gone from what comes through,
// whoever sent them.
func (c ClientCerts) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		certs, err := c.certificates(r)
		if err != nil {
			if c.Refuse != nil {
				c.Refuse(w, r, err)
				return
			}
			http.Error(w, "The request speaks of a client certificate, and may not.", http.StatusBadRequest)
			return
		}
		if certs != nil || c.Origin != "" {
			r = r.WithContext(context.WithValue(r.Context(), connectionKey{}, &connection{certs, c.Origin}))
		}
		next.ServeHTTP(w, r)
	})
}

// certificates finds the certificate of a request, and takes its headers away.
func (c ClientCerts) certificates(r *http.Request) ([]*x509.Certificate, error) {
	said := spoken(r.Header)
	switch {
	case c.hop(r) && said:
		leaf, chain := r.Header[ClientCert], r.Header[ClientCertChain]
		delete(r.Header, ClientCert)
		delete(r.Header, ClientCertChain)
		if spoken(r.Header) {
			return nil, errors.Join(ErrClientCert, errors.New("a name that is another spelling of it"))
		}
		return readCerts(leaf, chain)
	case said:
		return nil, errors.Join(ErrClientCert, errors.New("it came from who is no authenticated hop"))
	case c.hop(r) || !c.Direct || r.TLS == nil:
		return nil, nil // a hop's own certificate is not its client's
	}
	return r.TLS.PeerCertificates, nil
}

// spoken reports whether a request speaks of a client certificate, in any spelling
// that some server takes for the header's name.
func spoken(h http.Header) bool {
	for name := range h {
		switch strings.ToLower(strings.ReplaceAll(name, "_", "-")) {
		case "client-cert", "client-cert-chain":
			return true
		}
	}
	return false
}

// hop reports whether a request comes from an authenticated hop: one that showed
// its certificate, or that may open our socket (mechanisms I17).
func (c ClientCerts) hop(r *http.Request) bool {
	if local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok && local.Network() == "unix" {
		return c.Unix
	}
	return r.TLS != nil && len(r.TLS.PeerCertificates) > 0 && slices.Contains(c.Hops, sha256.Sum256(r.TLS.PeerCertificates[0].Raw))
}

// readCerts reads the two fields (RFC 9440 §2.2, §2.3): one certificate, and those
// above it.
func readCerts(leaf, chain []string) ([]*x509.Certificate, error) {
	bad := func(why string) ([]*x509.Certificate, error) {
		return nil, errors.Join(ErrClientCert, errors.New(why))
	}
	if len(leaf) != 1 {
		return bad("not exactly one certificate")
	}
	fields := []string{leaf[0]}
	if all := strings.Join(chain, ","); len(chain) > 0 {
		if len(all) > maxCertField {
			return bad("a chain that is too long")
		}
		fields = append(fields, strings.Split(all, ",")...)
	}
	if len(leaf[0]) > maxCertField || len(fields) > 1+maxChain {
		return bad("too much of it")
	}
	out := make([]*x509.Certificate, 0, len(fields))
	for _, f := range fields {
		der, ok := byteSequence(strings.Trim(f, " \t"))
		if !ok {
			return bad("not a byte sequence (RFC 8941 section 3.3.5)")
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return bad("not a certificate")
		}
		out = append(out, cert)
	}
	return out, nil
}

// byteSequence reads a structured field's byte sequence without parameters.
func byteSequence(s string) ([]byte, bool) {
	if len(s) < 3 || s[0] != ':' || s[len(s)-1] != ':' {
		return nil, false
	}
	text := s[1 : len(s)-1]
	if strings.ContainsAny(text, "\r\n") { // the decoder skips them
		return nil, false
	}
	b, err := base64.StdEncoding.Strict().DecodeString(text)
	return b, err == nil
}
