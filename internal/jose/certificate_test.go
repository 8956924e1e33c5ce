package jose

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"math/big"
	"strings"
	"testing"
	"time"
)

// certificate is one for a key, signed by itself.
func certificate(t testing.TB, key crypto.Signer) []byte {
	t.Helper()
	c := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "client"}, NotBefore: now, NotAfter: now.Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestCertificateOfAKey(t *testing.T) {
	mine, others := certificate(t, p256), certificate(t, other)
	text := base64.StdEncoding.EncodeToString
	for name, c := range map[string]struct {
		chain  string
		keys   int
		holds  []byte
		signer crypto.Signer
	}{
		"its own":          {`["` + text(mine) + `"]`, 1, mine, p256},
		"slashes escaped":  {`["` + strings.ReplaceAll(text(mine), "/", `\/`) + `"]`, 1, mine, p256},
		"with its issuer":  {`["` + text(mine) + `","` + text(others) + `"]`, 1, mine, p256},
		"another key's":    {`["` + text(others) + `"]`, 0, nil, p256},
		"no base64":        {`["!"]`, 1, nil, p256},
		"no certificate":   {`["AAAA"]`, 1, nil, p256},
		"nothing":          {`[]`, 1, nil, p256},
		"not a list":       {`"` + text(mine) + `"`, 1, nil, p256},
		"of a number":      {`[1]`, 1, nil, p256},
		"of an RSA key":    {`["` + text(certificate(t, rsa2048)) + `"]`, 1, []byte{}, rsa2048},
		"of an EdDSA key":  {`["` + text(certificate(t, ed)) + `"]`, 1, []byte{}, ed},
		"of an other kind": {`["` + text(certificate(t, ed)) + `"]`, 0, nil, rsa2048},
	} {
		jwk := jwkOf(t, c.signer.Public())
		set, err := ParseJWKSet([]byte(`{"keys":[` + strings.TrimSuffix(jwk, "}") + `,"x5c":` + c.chain + `}]}`))
		if err != nil || len(set.Keys) != c.keys {
			t.Errorf("%s: %d keys, %v", name, len(set.Keys), err)
			continue
		}
		if c.keys == 1 && (c.holds == nil) != (set.Keys[0].Certificate == nil) || c.signer == p256 && c.keys == 1 && !bytes.Equal(c.holds, set.Keys[0].Certificate) {
			t.Errorf("%s: another certificate", name)
		}
	}
}
