package config

import (
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
)

// MTLS is a listener that asks clients for a certificate without demanding one
// (RFC 8705). It serves the endpoints of clients and resource servers, and no pages.
type MTLS struct {
	Address string `yaml:"address,omitempty"` // host:port, or unix:PATH for a proxy on this machine; "": none
	URL     string `yaml:"url,omitempty"`     // the https origin at which clients reach it
	TLS     TLS    `yaml:"tls,omitempty"`     // left out: that of listen
	// ClientCAs are files of authorities whose certificates tls_client_auth takes.
	ClientCAs []string `yaml:"client_cas,omitempty"`
	// Proxies may say which certificate their client showed: each by the SHA-256 of its
	// own certificate, or "unix" for whoever may open the socket.
	Proxies []string `yaml:"proxies,omitempty"`
}

// Socket is the path of the Unix socket, if that is what is listened on.
func (m MTLS) Socket() (path string, ok bool) { return strings.CutPrefix(m.Address, "unix:") }

// Fingerprints are the proxies' certificates, by SHA-256.
func (m MTLS) Fingerprints() (out [][32]byte) {
	for _, p := range m.Proxies {
		if f, ok := fingerprint(p); ok {
			out = append(out, f)
		}
	}
	return out
}

// fingerprint reads 64 hexadecimal digits, with or without colons.
func fingerprint(s string) (out [32]byte, ok bool) {
	b, err := hex.DecodeString(strings.ReplaceAll(s, ":", ""))
	return out, err == nil && copy(out[:], b) == 32 && len(b) == 32
}

// Anchors reads the authorities; nil if there are none.
func (m MTLS) Anchors() (*x509.CertPool, error) {
	if len(m.ClientCAs) == 0 {
		return nil, nil
	}
	pool := x509.NewCertPool()
	for _, path := range m.ClientCAs {
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("mtls.client_cas: %w", err)
		}
		if !pool.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("mtls.client_cas: %s has no certificate", path)
		}
	}
	return pool, nil
}

func (m MTLS) check(c *Config, bad func(string, string, ...any)) {
	if m.Address == "" {
		if m.URL != "" || len(m.ClientCAs) > 0 || len(m.Proxies) > 0 || m.TLS != (TLS{}) {
			bad("mtls.address", "say where to listen, or leave mtls out")
		}
		return
	}
	_, socket := m.Socket()
	if _, _, err := net.SplitHostPort(m.Address); err != nil && !socket {
		bad("mtls.address", "%q is neither host:port nor unix:PATH", m.Address)
	}
	u, err := url.Parse(m.URL)
	if err != nil || u.Scheme != "https" || u.Host == "" || m.URL != "https://"+u.Host || strings.ToLower(m.URL) != m.URL {
		bad("mtls.url", "give the https origin at which clients reach this listener, e.g. https://mtls.id.example.com")
	} else if m.URL == c.Issuer {
		bad("mtls.url", "is another origin than the issuer: browsers must not be asked for a certificate there")
	}
	if (m.TLS.CertFile == "") != (m.TLS.KeyFile == "") {
		bad("mtls.tls", "cert_file and key_file go together")
	}
	if !socket && m.TLS.CertFile == "" && c.Listen.TLS.CertFile == "" {
		bad("mtls.tls", "a certificate is needed: without TLS nobody shows one")
	}
	for _, p := range m.Proxies {
		if _, ok := fingerprint(p); !ok && p != "unix" {
			bad("mtls.proxies", "%q is neither the SHA-256 of a certificate in hexadecimal nor \"unix\": an address is no proof of who is behind it", p)
		}
		if p == "unix" && !socket {
			bad("mtls.proxies", "\"unix\" needs an address unix:PATH")
		}
	}
	if socket && len(m.Proxies) != 1 {
		bad("mtls.proxies", "over a socket only a proxy connects: [unix]")
	}
	if _, err := m.Anchors(); err != nil {
		bad("mtls.client_cas", "%s", strings.TrimPrefix(err.Error(), "mtls.client_cas: "))
	}
}
