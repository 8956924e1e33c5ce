package client

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"testing"

	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/secret"
)

// subject encodes a name as a certificate has it.
func subject(t testing.TB, n pkix.Name) []byte {
	t.Helper()
	b, err := asn1.Marshal(n.ToRDNSequence())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSubjects(t *testing.T) {
	plain := subject(t, pkix.Name{Country: []string{"AT"}, Organization: []string{"Example, Inc."}, OrganizationalUnit: []string{"A+B"}, CommonName: "billing"})
	multi, err := asn1.Marshal(pkix.RDNSequence{
		{{Type: asn1.ObjectIdentifier{2, 5, 4, 10}, Value: "Example"}},
		{{Type: asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 1}, Value: "7"}, {Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: " ä#1 "}},
	})
	if err != nil {
		t.Fatal(err)
	}
	number, err := asn1.Marshal(pkix.RDNSequence{{{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: 7}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		text string
		raw  []byte
		same bool
	}{
		{`CN=billing,OU=A\+B,O=Example\, Inc.,C=AT`, plain, true},
		{`cn=billing, ou=A\2BB , O = Example\2c Inc.,c=AT`, plain, true},
		{`2.5.4.3=billing,OID.2.5.4.11=A\+B,2.5.4.10=Example\, Inc.,2.5.4.6=AT`, plain, true},
		{`C=AT,O=Example\, Inc.,OU=A\+B,CN=billing`, plain, false}, // the other way round
		{`CN=Billing,OU=A\+B,O=Example\, Inc.,C=AT`, plain, false},
		{`CN=billing,O=Example\, Inc.,C=AT`, plain, false},
		{`CN=billing,OU=A\+B,O=Example\, Inc.,C=AT,CN=x`, plain, false},
		{`CN=billing`, plain, false},
		{`UID=7+CN=\ ä#1\ ,O=Example`, multi, true},
		{`CN=\20\C3\A4\#1\20+UID=7,O=Example`, multi, true},
		{`CN=ä#1+UID=7,O=Example`, multi, false},
		{`CN=\ ä#1\ ,UID=7,O=Example`, multi, false}, // two names, not one of two parts
		{`CN=7`, number, false},
		{`CN=x`, nil, false},
		{`CN=x`, []byte{0x30, 0}, false},
		{`CN=billing,OU=A\+B,O=Example\, Inc.,C=AT`, append(plain[:len(plain):len(plain)], 0), false},
	} {
		if got := sameDN(c.text, c.raw); got != c.same {
			t.Errorf("%s: %v, want %v", c.text, got, c.same)
		}
	}
	for _, bad := range []string{
		"", "CN", "CN=", "=x", "CN=x,", "CN=x+", "XX=x", "CN=#0403", `CN=x\`, `CN=\zz`, `CN=a"b"`, "CN=a;b", "CN=a<b", `CN=\00`, "1=x", "1..2=x", "01.2=x", "CN=x,,O=y", "CN=a\x00",
	} {
		if _, ok := parseDN(bad); ok {
			t.Errorf("%q is read", bad)
		}
	}
}

// FuzzSubject: what is read of a text is the subject that has these parts.
func FuzzSubject(f *testing.F) {
	for _, s := range []string{`CN=billing,OU=A\+B,O=Example\, Inc.,C=AT`, `UID=7+CN=\ a\20,2.5.4.10=x`, "CN=#04", `CN=\`, "=,+"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name, ok := parseDN(s)
		if !ok {
			if name != nil {
				t.Fatal("an error comes with a value")
			}
			return
		}
		seq := pkix.RDNSequence{}
		for _, set := range name {
			var rdn pkix.RelativeDistinguishedNameSET
			for _, a := range set {
				var oid asn1.ObjectIdentifier
				n := 0
				for _, c := range a.oid + "." {
					if c == '.' {
						oid, n = append(oid, n), 0
						continue
					}
					if n = n*10 + int(c-'0'); n > 1<<28 {
						return
					}
				}
				rdn = append(rdn, pkix.AttributeTypeAndValue{Type: oid, Value: a.value})
			}
			seq = append(seq, rdn)
		}
		raw, err := asn1.Marshal(seq)
		if err != nil {
			return // no certificate can have it
		}
		if have, ok := readDN(raw); ok && !sameDN(s, raw) {
			t.Fatalf("%q is not the name it says: %v %v", s, name, have)
		}
	})
}

func TestCheckCertificate(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(*Client)
		code string
	}{
		"subject":            {func(c *Client) { c.SubjectDN = "CN=billing,O=Example" }, ""},
		"DNS":                {func(c *Client) { c.SanDNS = "worker.example.com" }, ""},
		"URI":                {func(c *Client) { c.SanURI = "spiffe://example.com/worker" }, ""},
		"address":            {func(c *Client) { c.SanIP = "192.0.2.1" }, ""},
		"mail":               {func(c *Client) { c.SanEmail = "a@example.com" }, ""},
		"no name":            {func(*Client) {}, "certificate_name_invalid"},
		"two names":          {func(c *Client) { c.SanIP, c.SanDNS = "192.0.2.1", "a.example" }, "certificate_name_invalid"},
		"a wildcard":         {func(c *Client) { c.SanDNS = "*.example.com" }, "certificate_name_invalid"},
		"no subject":         {func(c *Client) { c.SubjectDN = "billing" }, "certificate_name_invalid"},
		"no URI":             {func(c *Client) { c.SanURI = "worker" }, "certificate_name_invalid"},
		"a range":            {func(c *Client) { c.SanIP = "192.0.2.0/24" }, "certificate_name_invalid"},
		"a zone":             {func(c *Client) { c.SanIP = "fe80::1%eth0" }, "certificate_name_invalid"},
		"no mail":            {func(c *Client) { c.SanEmail = "example.com" }, "certificate_name_invalid"},
		"a hidden character": {func(c *Client) { c.SubjectDN = "CN=a\u200bb" }, "certificate_name_invalid"},
		"of another method": {func(c *Client) {
			c.AuthMethod, c.JWKSURI, c.SanDNS = AuthPrivateKeyJWT, "https://a.example/jwks", "a.example"
		}, "certificate_name_invalid"},
		"by itself, no certificate":  {func(c *Client) { c.AuthMethod = AuthSelfSignedTLS }, "jwks_invalid"},
		"by itself, only a key":      {func(c *Client) { c.AuthMethod, c.JWKS = AuthSelfSignedTLS, []byte(ecSet) }, "jwks_invalid"},
		"by itself, by address":      {func(c *Client) { c.AuthMethod, c.JWKSURI = AuthSelfSignedTLS, "https://a.example/jwks" }, ""},
		"by itself, not a key set":   {func(c *Client) { c.AuthMethod, c.JWKS = AuthSelfSignedTLS, []byte(`{}`) }, "jwks_invalid"},
		"a secret beside its method": {func(c *Client) { c.SanDNS = "a.example"; c.SecretHash = new(secret.Hash) }, "auth_method_invalid"},
	} {
		cl := good()
		cl.AuthMethod = AuthTLS
		c.edit(&cl)
		if got := problem.CodeOf(Check(cl)); got != c.code {
			t.Errorf("%s: %q, want %q (%v)", name, got, c.code, Check(cl))
		}
	}
	if (Client{}).Named(&x509.Certificate{}) {
		t.Error("a client without a name is named by any certificate")
	}
}

const ecSet = `{"keys":[{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}`
