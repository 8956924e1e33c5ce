package interop

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/test/browser/chrome"
)

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	return key
}

// certify makes an authority, the certificate that every server of the lab has, and
// those of the clients that have one.
func (l *lab) certify() {
	l.t.Helper()
	root := &authority{t: l.t, dir: l.dir, key: newKey(l.t)}
	root.cert = root.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "Interop tests"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, root.key, nil)
	l.ca = root.write("ca", root.cert, nil)
	own := newKey(l.t)
	root.write("cert", root.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, own, root.cert), own)
	client := func(name string, by *x509.Certificate) *x509.Certificate {
		c := root.sign(&x509.Certificate{
			Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		}, l.key, by)
		root.write(name, c, l.key)
		return c
	}
	client("app.example.com", root.cert)
	l.selfSigned = base64.StdEncoding.EncodeToString(client("self-signed", nil).Raw)
	var err error
	l.cert, err = tls.LoadX509KeyPair(filepath.Join(l.dir, "cert.pem"), filepath.Join(l.dir, "cert-key.pem"))
	check(l.t, err)
	l.trust = x509.NewCertPool()
	l.trust.AddCert(root.cert)
	chrome.Trust(l.cert.Leaf)
}

// authority signs certificates, and writes them into a folder.
type authority struct {
	t      testing.TB
	dir    string
	key    *ecdsa.PrivateKey
	cert   *x509.Certificate
	serial int64
}

// sign makes a certificate of a key, signed by the authority, or by the key itself
// if by is nil.
func (a *authority) sign(c *x509.Certificate, key *ecdsa.PrivateKey, by *x509.Certificate) *x509.Certificate {
	a.t.Helper()
	a.serial++
	c.SerialNumber, c.NotBefore, c.NotAfter = big.NewInt(a.serial), time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	with := a.key
	if by == nil {
		by, with = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, by, key.Public(), with)
	check(a.t, err)
	made, err := x509.ParseCertificate(der)
	check(a.t, err)
	return made
}

// write writes name.pem, and name-key.pem if there is a key.
func (a *authority) write(name string, c *x509.Certificate, key *ecdsa.PrivateKey) (path string) {
	a.t.Helper()
	path = filepath.Join(a.dir, name+".pem")
	check(a.t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}), 0o600))
	if key != nil {
		check(a.t, os.WriteFile(filepath.Join(a.dir, name+"-key.pem"), []byte(pkcs8(key)), 0o600))
	}
	return path
}

func pkcs8(key *ecdsa.PrivateKey) string {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		panic(err) // an ECDSA key
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// jwk are the coordinates of a public key.
func jwk(key *ecdsa.PrivateKey) map[string]string {
	raw, err := key.PublicKey.Bytes()
	if err != nil {
		panic(err) // P-256
	}
	return map[string]string{"x": base64.RawURLEncoding.EncodeToString(raw[1:33]), "y": base64.RawURLEncoding.EncodeToString(raw[33:])}
}
