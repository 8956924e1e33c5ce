package server

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/config"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/resource"
)

// certify makes a certificate, signed by parent or by itself.
func certify(t *testing.T, name string, parent *tls.Certificate) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: parent == nil, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	issuer, signer := c, any(key)
	if parent != nil {
		issuer, signer = parent.Leaf, parent.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, c, issuer, key.Public(), signer)
	check(t, err)
	leaf, err := x509.ParseCertificate(der)
	check(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// seedCertified registers a client that its certificate names.
func seedCertified(t *testing.T, s *Server, dn string) {
	t.Helper()
	owner := seedAdmin(t, s)
	res := resource.Resource{ID: id.New(id.Resource), URI: "https://api.example.com", Name: "API", Scopes: []resource.Scope{{Name: "read", Kind: "read"}}}
	svc := client.Service{ID: id.New(id.Service), Subject: id.Random("svc_"), Name: "billing", Owner: owner.ID, Purpose: "p", ReviewBy: time.Now().AddDate(1, 0, 0)}
	c := client.Client{
		ID: id.New(id.Client), ClientID: "billing", Name: "billing", AuthMethod: client.AuthTLS, GrantTypes: []client.GrantType{client.ClientCredentials},
		Scopes: []string{"read"}, Resources: []string{res.ID}, Service: svc.ID,
	}
	c.SubjectDN, c.CertificateBound = dn, true
	check(t, client.Check(c))
	check(t, s.Seed(t.Context(), audit.ClientCreated, resource.Create{Resource: res}, client.Create{Client: c, NewService: &svc}))
}

// run serves until the test ends.
func run(t *testing.T, s *Server) Listeners {
	t.Helper()
	s.Config.Listen.Address = "127.0.0.1:0"
	l, err := Listen(s.Config)
	check(t, err)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, l) }()
	waitFor(t, func() bool { return s.Ready(t.Context()) == nil })
	t.Cleanup(func() { stop(); check(t, <-done) })
	return l
}

var billing = url.Values{"grant_type": {"client_credentials"}, "client_id": {"billing"}}.Encode()

// say sends a request over a connection of its own.
func say(t *testing.T, tr *http.Transport, method, at, body string, headers ...string) (int, string) {
	t.Helper()
	tr.DisableKeepAlives = true
	q, err := http.NewRequest(method, at, strings.NewReader(body))
	check(t, err)
	q.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i < len(headers); i += 2 {
		q.Header.Set(headers[i], headers[i+1])
	}
	res, err := (&http.Client{Transport: tr}).Do(q)
	check(t, err)
	return res.StatusCode, string(readAll(t, res))
}

func forwarded(c tls.Certificate) string {
	return ":" + base64.StdEncoding.EncodeToString(c.Certificate[0]) + ":"
}

// TestMTLS: the listener asks for a certificate and does not demand it, serves no
// pages, and takes a forwarded certificate from the proxy that is named only; the
// public listener takes none from anybody.
func TestMTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pair := &certificates{cert: filepath.Join(dir, "tls.crt"), key: filepath.Join(dir, "tls.key")}
	writePair(t, pair, 7, time.Now())
	ca, other, proxy := certify(t, "Clients", nil), certify(t, "Clients", nil), certify(t, "proxy", nil)
	caFile := filepath.Join(dir, "ca.pem")
	check(t, os.WriteFile(caFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Certificate[0]}), 0o600))
	print := sha256.Sum256(proxy.Certificate[0])
	s, log := newServer(t, func(c *config.Config) {
		c.Listen.TLS = config.TLS{CertFile: pair.cert, KeyFile: pair.key}
		c.MTLS = config.MTLS{Address: "127.0.0.1:0", URL: "https://mtls.example.com", ClientCAs: []string{caFile}, Proxies: []string{hex.EncodeToString(print[:])}}
	})
	seedCertified(t, s, "CN=billing")
	l := run(t, s)
	mutual, public := "https://"+l.MTLS.Addr().String(), "https://"+l.Public.Addr().String()
	as := func(certs ...tls.Certificate) *http.Transport {
		return &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, Certificates: certs}} // the test knows whom it asks
	}
	mine, forged := certify(t, "billing", &ca), certify(t, "billing", &other)
	for _, c := range []struct {
		name   string
		tr     *http.Transport
		at     string
		say    []string
		status int
	}{
		{"its certificate", as(mine), mutual, nil, 200},
		{"of another authority", as(forged), mutual, nil, 401},
		{"none", as(), mutual, nil, 401},
		{"its certificate, where none is asked for", as(mine), public, nil, 401},
		{"the proxy's word", as(proxy), mutual, []string{"Client-Cert", forwarded(mine)}, 200},
		{"the proxy's word of a forged one", as(proxy), mutual, []string{"Client-Cert", forwarded(forged)}, 401},
		{"the proxy itself", as(proxy), mutual, nil, 401},
		{"nobody's word", as(), mutual, []string{"Client-Cert", forwarded(mine)}, 400},
		{"a client's word", as(forged), mutual, []string{"Client-Cert", forwarded(mine)}, 400},
		{"with an underscore", as(forged), mutual, []string{"Client_Cert", forwarded(mine)}, 400},
		{"the proxy's word, elsewhere", as(proxy), public, []string{"Client-Cert", forwarded(mine)}, 400},
		{"nobody's word, elsewhere", as(), public, []string{"Client-Cert", forwarded(mine)}, 400},
	} {
		if status, body := say(t, c.tr, "POST", c.at+"/oauth/token", billing, c.say...); status != c.status {
			t.Errorf("%s: %d %s, want %d", c.name, status, body, c.status)
		}
	}
	for path, want := range map[string]int{"/": 404, "/sign-in": 404, "/oauth/authorize": 404, "/v1/me": 404, "/log/checkpoint": 404, "/oauth/jwks": 200, "/.well-known/openid-configuration": 200} {
		if status, body := say(t, as(mine), "GET", mutual+path, ""); status != want {
			t.Errorf("%s: %d %.80s, want %d", path, status, body, want)
		}
	}
	if _, body := say(t, as(), "GET", public+"/.well-known/oauth-authorization-server", ""); !strings.Contains(body, `"token_endpoint":"https://mtls.example.com/oauth/token"`) || !strings.Contains(body, `"tls_client_auth"`) {
		t.Errorf("metadata: %s", body)
	}
	if !strings.Contains(log.String(), "client_cert_refused") || strings.Contains(log.String(), forwarded(mine)[:80]) {
		t.Error("a refusal is not in the log, or the certificate is")
	}
}

// TestMTLSOverASocket: a proxy on this machine ends TLS and reaches a socket that
// only its group may open.
func TestMTLSOverASocket(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca := certify(t, "Clients", nil)
	caFile, path := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "m.sock")
	check(t, os.WriteFile(caFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Certificate[0]}), 0o600))
	left, err := net.Listen("unix", path) // one that a process left behind
	check(t, err)
	left.(*net.UnixListener).SetUnlinkOnClose(false)
	check(t, left.Close())
	s, _ := newServer(t, func(c *config.Config) {
		c.MTLS = config.MTLS{Address: "unix:" + path, URL: "https://mtls.example.com", ClientCAs: []string{caFile}, Proxies: []string{"unix"}}
	})
	seedCertified(t, s, "CN=billing")
	run(t, s)
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o660 {
		t.Errorf("the socket: %v %v", st.Mode(), err)
	}
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}
	if status, body := say(t, tr, "POST", "http://x/oauth/token", billing, "Client-Cert", forwarded(certify(t, "billing", &ca))); status != 200 {
		t.Errorf("%d %s", status, body)
	}
	if status, _ := say(t, tr, "POST", "http://x/oauth/token", billing); status != 401 {
		t.Errorf("without a word: %d", status)
	}
	if _, err := listenMTLS(s.Config.MTLS); err == nil || !strings.Contains(err.Error(), "another process listens") {
		t.Errorf("a socket in use: %v", err)
	}
}
