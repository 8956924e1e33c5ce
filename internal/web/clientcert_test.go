package web

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
	"errors"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// selfSigned is a certificate of its own authority.
func selfSigned(t testing.TB, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func field(c tls.Certificate) string {
	return ":" + base64.StdEncoding.EncodeToString(c.Certificate[0]) + ":"
}

// serveCerts answers with the common names of the certificates that a request is
// taken to come with, over TLS that asks for one.
func serveCerts(t *testing.T, c ClientCerts) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(c.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if spoken(r.Header) {
			t.Error("a header came through")
		}
		for _, cert := range Certificates(r) {
			w.Write([]byte(cert.Subject.CommonName + ";"))
		}
		w.Write([]byte(OriginOf(r)))
	})))
	s.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// ask is a request over a connection of its own, with a certificate if there is
// one, and headers as they stand.
func ask(t *testing.T, s *httptest.Server, with *tls.Certificate, headers ...string) (status int, body string) {
	t.Helper()
	conf := s.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	if with != nil {
		conf.Certificates = []tls.Certificate{*with}
	}
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: conf, DisableKeepAlives: true}}
	q, err := http.NewRequest("GET", s.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		q.Header[headers[i]] = append(q.Header[headers[i]], headers[i+1])
	}
	res, err := c.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b := make([]byte, 1<<10)
	n, _ := res.Body.Read(b)
	return res.StatusCode, string(b[:n])
}

func TestWhoseCertificateItIs(t *testing.T) {
	hop, client, ca := selfSigned(t, "hop"), selfSigned(t, "client"), selfSigned(t, "ca")
	s := serveCerts(t, ClientCerts{Direct: true, Hops: [][32]byte{sha256.Sum256(hop.Certificate[0])}, Origin: "https://mtls.example.com"})
	const at = "https://mtls.example.com"
	for _, c := range []struct {
		name    string
		with    *tls.Certificate
		headers []string
		status  int
		body    string
	}{
		{"a client itself", &client, nil, 200, "client;" + at},
		{"no certificate", nil, nil, 200, at},
		{"a hop that says nothing: its own is not its client's", &hop, nil, 200, at},
		{"a hop's client", &hop, []string{ClientCert, field(client)}, 200, "client;" + at},
		{"with a chain", &hop, []string{ClientCert, field(client), ClientCertChain, field(ca) + " , " + field(ca)}, 200, "client;ca;ca;" + at},
		{"with a chain in lines", &hop, []string{ClientCert, field(client), ClientCertChain, field(ca), ClientCertChain, field(ca)}, 200, "client;ca;ca;" + at},
		// Whoever is no hop does not speak of certificates: not in any spelling.
		{"a client smuggles", &client, []string{ClientCert, field(hop)}, 400, ""},
		{"nobody smuggles", nil, []string{ClientCert, field(client)}, 400, ""},
		{"a chain alone", &client, []string{ClientCertChain, field(ca)}, 400, ""},
		{"with an underscore", nil, []string{"Client_Cert", field(client)}, 400, ""},
		{"in another case", nil, []string{"client_cert-CHAIN", field(client)}, 400, ""},
		// What a hop passes on beside its own header.
		{"two lines", &hop, []string{ClientCert, field(client), ClientCert, field(ca)}, 400, ""},
		{"two in one", &hop, []string{ClientCert, field(client) + ", " + field(ca)}, 400, ""},
		{"a spelling beside it", &hop, []string{ClientCert, field(client), "Client_Cert", field(ca)}, 400, ""},
		{"only a chain", &hop, []string{ClientCertChain, field(ca)}, 400, ""},
		{"empty", &hop, []string{ClientCert, ""}, 400, ""},
		{"PEM", &hop, []string{ClientCert, "-----BEGIN CERTIFICATE-----"}, 400, ""},
		{"without colons", &hop, []string{ClientCert, strings.Trim(field(client), ":")}, 400, ""},
		{"with a parameter", &hop, []string{ClientCert, field(client) + ";x=1"}, 400, ""},
		{"cut", &hop, []string{ClientCert, field(client)[:60] + ":"}, 400, ""},
		{"huge", &hop, []string{ClientCert, ":" + strings.Repeat("AAAA", maxCertField) + ":"}, 400, ""},
		{"a long chain", &hop, []string{ClientCert, field(client), ClientCertChain, strings.Repeat(field(ca)+",", maxChain) + field(ca)}, 400, ""},
	} {
		status, body := ask(t, s, c.with, c.headers...)
		if status != c.status || status == 200 && body != c.body {
			t.Errorf("%s: %d %q, want %d %q", c.name, status, body, c.status, c.body)
		}
	}
	// Another certificate of the same name is not the hop's.
	again := selfSigned(t, "hop")
	if status, _ := ask(t, s, &again, ClientCert, field(client)); status != 400 {
		t.Errorf("another certificate named like the hop's: %d", status)
	}
}

func TestListenersThatAskForNone(t *testing.T) {
	client := selfSigned(t, "client")
	refused := false
	s := serveCerts(t, ClientCerts{Refuse: func(w http.ResponseWriter, _ *http.Request, err error) {
		refused = errors.Is(err, ErrClientCert)
		w.WriteHeader(http.StatusTeapot)
	}})
	if status, body := ask(t, s, &client); status != 200 || body != "" {
		t.Errorf("a certificate that was not asked for counts: %d %q", status, body)
	}
	if status, _ := ask(t, s, nil, ClientCert, field(client)); status != http.StatusTeapot || !refused {
		t.Errorf("smuggled: %d", status)
	}
}

func TestOverASocket(t *testing.T) {
	client := selfSigned(t, "client")
	for _, trusted := range []bool{true, false} {
		path := filepath.Join(t.TempDir(), "s")
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		s := &http.Server{Handler: ClientCerts{Direct: true, Unix: trusted}.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for _, c := range Certificates(r) {
				w.Write([]byte(c.Subject.CommonName))
			}
		}))}
		go s.Serve(l)
		c := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		}}}
		q, _ := http.NewRequest("GET", "http://x/", nil)
		q.Header.Set(ClientCert, field(client))
		res, err := c.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 64)
		n, _ := res.Body.Read(b)
		res.Body.Close()
		if want := map[bool]int{true: 200, false: 400}[trusted]; res.StatusCode != want || trusted && string(b[:n]) != "client" {
			t.Errorf("trusted %v: %d %q", trusted, res.StatusCode, b[:n])
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// FuzzClientCert: an error comes with no certificate, and what is read is what was
// written.
func FuzzClientCert(f *testing.F) {
	c := selfSigned(f, "client")
	f.Add(field(c), field(c))
	f.Add(field(c), field(c)+" ,\t"+field(c))
	f.Add("::", "")
	f.Add(":AAAA:", ":AAAA:;a")
	f.Add(":AA\nAA:", ",")
	f.Fuzz(func(t *testing.T, leaf, chain string) {
		var above []string
		if chain != "" {
			above = []string{chain}
		}
		certs, err := readCerts([]string{leaf}, above)
		if (certs == nil) != (err != nil) {
			t.Fatal(certs, err)
		}
		if err == nil && field(tls.Certificate{Certificate: [][]byte{certs[0].Raw}}) != strings.Trim(leaf, " \t") {
			t.Fatalf("%q is another certificate written again", leaf)
		}
	})
}
