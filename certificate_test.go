package countersign

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/jose"
)

// shownCertificate is a client's certificate, signed by itself.
func shownCertificate(t *testing.T) tls.Certificate {
	t.Helper()
	k := newKey(t)
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "client"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, k.key.Public(), k.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: k.key}
}

// TestBoundToACertificate: over real connections, tokens bound to a certificate are
// taken on a connection with that one only, and beside a key with both.
func TestBoundToACertificate(t *testing.T) {
	i := newIssuer(t)
	key, mine, others := newKey(t), shownCertificate(t), shownCertificate(t)
	bound := func(c jose.Confirmation) string {
		claims := i.Claims(testAudience, key, "")
		claims.Confirmation = &c
		return i.Token(claims)
	}
	x5t := jose.CertificateThumbprint(mine.Certificate[0])
	byCert, byBoth := bound(jose.Confirmation{X5TS256: x5t}), bound(jose.Confirmation{X5TS256: x5t, JKT: key.Thumbprint()})
	serve := func(change func(*Config)) *httptest.Server {
		v := newVerifier(t, i, change)
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			tok, err := v.Verify(r)
			if err != nil {
				http.Error(w, err.Error(), http.StatusUnauthorized)
				return
			}
			w.Write([]byte(tok.Scheme))
		}))
		s.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
		s.StartTLS()
		t.Cleanup(s.Close)
		return s
	}
	plain := serve(nil)
	told := serve(func(c *Config) { // a proxy that the application trusts tells
		c.Certificate = func(r *http.Request) *x509.Certificate {
			if r.Header.Get("Told") == "" {
				return nil
			}
			leaf, _ := x509.ParseCertificate(mine.Certificate[0])
			return leaf
		}
	})
	ask := func(s *httptest.Server, cert *tls.Certificate, headers ...string) int {
		conf := s.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
		if cert != nil {
			conf.Certificates = []tls.Certificate{*cert}
		}
		q, err := http.NewRequest("GET", s.URL+"/notes", nil)
		if err != nil {
			t.Fatal(err)
		}
		for n := 0; n < len(headers); n += 2 {
			q.Header.Set(headers[n], headers[n+1])
		}
		res, err := (&http.Client{Transport: &http.Transport{TLSClientConfig: conf, DisableKeepAlives: true}}).Do(q)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode
	}
	proof := func() string {
		p, err := key.Proof("GET", testAudience+"/notes", byBoth, "")
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	for name, c := range map[string]struct {
		got, want int
	}{
		"its certificate":               {ask(plain, &mine, "Authorization", "Bearer "+byCert), 200},
		"another":                       {ask(plain, &others, "Authorization", "Bearer "+byCert), 401},
		"none":                          {ask(plain, nil, "Authorization", "Bearer "+byCert), 401},
		"presented as DPoP":             {ask(plain, &mine, "Authorization", "DPoP "+byCert, "DPoP", proof()), 401},
		"both":                          {ask(plain, &mine, "Authorization", "DPoP "+byBoth, "DPoP", proof()), 200},
		"the key alone":                 {ask(plain, &others, "Authorization", "DPoP "+byBoth, "DPoP", proof()), 401},
		"the certificate alone":         {ask(plain, &mine, "Authorization", "Bearer "+byBoth), 401},
		"told by the application":       {ask(told, nil, "Authorization", "Bearer "+byCert, "Told", "yes"), 200},
		"told none: its own is another": {ask(told, &mine, "Authorization", "Bearer "+byCert), 401},
	} {
		if c.got != c.want {
			t.Errorf("%s: %d, want %d", name, c.got, c.want)
		}
	}
}
