package jose

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/asn1"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strings"
	"testing"
	"time"

	gojose "github.com/go-jose/go-jose/v4"
	"pgregory.net/rapid"

	"github.com/countersign-dev/countersign/internal/problem"
)

const (
	rfc7638 = `{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB","alg":"RS256","kid":"2011-04-29"}`
	rfc9449 = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0IjoxNTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg"
)

func TestVectors(t *testing.T) {
	for jwk, want := range map[string]string{
		rfc7638: "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs",
		`{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`:                                                "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k", // RFC 8037 A.3
		`{"kty":"EC","x":"l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs","y":"9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA","crv":"P-256"}`: "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I", // RFC 9449 §6
	} {
		key, err := ParseJWK([]byte(jwk))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Thumbprint(key); err != nil || got != want {
			t.Errorf("thumbprint %s, %v; want %s", got, err, want)
		}
	}
	for _, v := range []struct{ jwk, token string }{
		// RFC 7515 A.3 and RFC 8037 A.4
		{`{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}`, "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"},
		{`{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`, "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"},
	} {
		key, err := ParseJWK([]byte(v.jwk))
		if err != nil {
			t.Fatal(err)
		}
		o, fault := rowAssertion.open(v.token, every, MaxToken)
		if fault != nil || !genuine(o, key) {
			t.Errorf("%.30s: %v, or the signature", v.token, fault)
		}
	}

	at := time.Unix(1562262616, 0)
	p, err := VerifyDPoP(rfc9449, DPoPWant{Method: "POST", URL: "https://server.example.com/token", Now: at})
	if err != nil || p != (DPoPProof{Alg: "ES256", JKT: "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I", JTI: "-BwC3ESc6acc2lTc", IssuedAt: at.UTC()}) {
		t.Errorf("RFC 9449 §4: %+v, %v", p, err)
	}
	if got := tokenHash("Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU"); got != "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo" {
		t.Errorf("ath %s", got)
	}
}

func signers() map[string]crypto.Signer {
	return map[string]crypto.Signer{ES256: p256, ES384: p384, ES512: p521, PS256: rsa2048, RS256: rsa2048, EdDSA: ed, Ed25519: ed}
}

// What we sign, go-jose verifies, and we agree on what is changed.
func TestSignAgainstGoJose(t *testing.T) {
	for alg, key := range signers() {
		s, err := NewSigner(key, alg, "k<1>", "JWT")
		if err != nil {
			t.Fatal(err)
		}
		if s.KeyID() != "k<1>" || s.Algorithm() != alg || !key.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(s.Public()) {
			t.Errorf("%s: the signer says %q %q", alg, s.KeyID(), s.Algorithm())
		}
		for range 8 {
			token, err := s.Sign(map[string]string{"sub": "x"})
			if err != nil {
				t.Fatal(err)
			}
			if alg != Ed25519 { // go-jose does not know the name
				jws, err := gojose.ParseSignedCompact(token, []gojose.SignatureAlgorithm{gojose.SignatureAlgorithm(alg)})
				if err != nil {
					t.Fatal(err)
				}
				if payload, err := jws.Verify(key.Public()); err != nil || string(payload) != `{"sub":"x"}` || jws.Signatures[0].Header.KeyID != "k<1>" {
					t.Errorf("%s: go-jose reads %s, %v", alg, payload, err)
				}
			}
			for bit := 0; bit < 8*32; bit += 37 {
				changed := flip(token, bit)
				o, fault := rowIDToken.open(changed, every, MaxToken)
				if fault == nil && genuine(o, key.Public()) {
					t.Errorf("%s: bit %d changes nothing", alg, bit)
				}
			}
		}
	}
	for _, c := range []struct {
		key crypto.Signer
		alg string
	}{{nil, ES256}, {p256, ES384}, {p256, RS256}, {ed, ES256}, {rsa2048, EdDSA}, {p256, "none"}, {p256, ""}} {
		if s, err := NewSigner(c.key, c.alg, "", ""); err == nil || s != nil {
			t.Errorf("%T signs %s", c.key, c.alg)
		}
	}
	s, _ := NewSigner(p256, ES256, "", "")
	if _, err := s.Sign(func() {}); err == nil {
		t.Error("a function has no JSON")
	}
}

// flip changes one bit of the signature.
func flip(token string, bit int) string {
	i := strings.LastIndexByte(token, '.')
	sig, _ := b64.DecodeString(token[i+1:])
	sig[bit/8] ^= 1 << (bit % 8)
	return token[:i+1] + b64.EncodeToString(sig)
}

// ECDSA values at the edges: zero, the order, longer and shorter signatures.
func TestECDSAEdges(t *testing.T) {
	token := signed(t, p256, `{"alg":"ES256","typ":"JWT"}`, `{}`)
	i := strings.LastIndexByte(token, '.')
	sig, _ := b64.DecodeString(token[i+1:])
	n := elliptic.P256().Params().N
	zero, order, half := make([]byte, 32), n.FillBytes(make([]byte, 32)), sig[:32]
	plus := new(big.Int).Add(new(big.Int).SetBytes(sig[32:]), n)
	for what, bad := range map[string][]byte{
		"r=0": append(bytes.Clone(zero), sig[32:]...), "s=0": append(bytes.Clone(half), zero...), "both 0": append(bytes.Clone(zero), zero...),
		"r=n": append(bytes.Clone(order), sig[32:]...), "s=n": append(bytes.Clone(half), order...),
		"longer": append([]byte{0}, sig...), "shorter": sig[1:], "empty": {},
		"s+n": append(bytes.Clone(half), plus.Bytes()...), "padded": append(append([]byte{0}, half...), append([]byte{0}, sig[32:]...)...),
	} {
		o, fault := rowIDToken.open(token[:i+1]+b64.EncodeToString(bad), every, MaxToken)
		if fault != nil || genuine(o, p256.Public()) {
			t.Errorf("%s: %v, or it verifies", what, fault)
		}
	}
}

// What go-jose cannot read does not verify either.
func TestGoJoseRefuses(t *testing.T) {
	token := signed(t, rsa2048, `{"alg":"RS256","typ":"JWT","jwk":1}`, `{}`)
	o, fault := rowIDToken.open(token, every, MaxToken)
	if fault != nil || genuine(o, rsa2048.Public()) {
		t.Errorf("%v, or it verifies", fault)
	}
}

type fakeSigner struct {
	crypto.Signer
	out []byte
	err error
}

// Every signature, short integers included, survives the way there and back.
func TestECDSAForms(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		raw := rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 0x7f, 0x80, 0xff}), 64, 64).Draw(t, "raw")
		zeros := rapid.IntRange(0, 32).Draw(t, "zeros")
		clear(raw[:zeros])
		clear(raw[32 : 64-zeros])
		der := derECDSA(raw)
		var rs struct{ R, S *big.Int }
		if rest, err := asn1.Unmarshal(der, &rs); err != nil || len(rest) > 0 || rs.R.Cmp(new(big.Int).SetBytes(raw[:32])) != 0 || rs.S.Cmp(new(big.Int).SetBytes(raw[32:])) != 0 {
			t.Fatalf("%x became %x: %v", raw, der, err)
		}
		if back, err := rawECDSA(der, 32); err != nil || !bytes.Equal(back, raw) {
			t.Fatalf("%x came back as %x: %v", raw, back, err)
		}
	})
}

func (f fakeSigner) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { return f.out, f.err }

func TestSignerFaults(t *testing.T) {
	for _, der := range []string{
		"", "\x30", "\x31\x00", "\x30\x05\x02\x01\x01", "\x30\x03\x02\x01\x01", "\x30\x06\x02\x01\x01\x03\x01\x01",
		"\x30\x06\x02\x01\x01\x02\x7f\x01", "\x30\x07\x02\x01\x01\x02\x01\x01\x00", "\x30\x81", "\x30\x81\x01",
		"\x30\x28\x02\x23" + strings.Repeat("\x01", 35) + "\x02\x01\x01", "\x30\x26\x02\x21" + strings.Repeat("\x01", 33) + "\x02\x01\x01",
	} {
		s, _ := NewSigner(fakeSigner{p256, []byte(der), nil}, ES256, "", "")
		if token, err := s.Sign(1); !errors.Is(err, errDER) || token != "" {
			t.Errorf("%x: %s, %v", der, token, err)
		}
	}
	broken := errors.New("unplugged")
	s, _ := NewSigner(fakeSigner{p256, nil, broken}, ES256, "", "")
	if _, err := s.Sign(1); !errors.Is(err, broken) {
		t.Error(err)
	}
	if _, err := MakeDPoP(fakeSigner{p256, nil, broken}, "GET", "https://a/", "", "", now); !errors.Is(err, broken) {
		t.Error(err)
	}
	if _, err := MakeDPoP(oddSigner{}, "GET", "https://a/", "", "", now); err == nil {
		t.Error("a key of unknown type makes a proof")
	}
	if _, err := MakeDPoP(p521, "GET", "https://a/", "", "", now); err == nil {
		t.Error("P-521 makes a proof")
	}
}

type oddSigner struct{ crypto.Signer }

func (oddSigner) Public() crypto.PublicKey { return struct{}{} }

func TestJWKSet(t *testing.T) {
	for _, k := range []crypto.Signer{p256, p384, p521, rsa2048, ed} {
		text, err := json.Marshal(&JWKSet{Keys: []JWK{{Key: k.Public(), KeyID: "k"}}})
		if err != nil {
			t.Fatal(err)
		}
		var lib gojose.JSONWebKeySet
		if err := json.Unmarshal(text, &lib); err != nil || !lib.Keys[0].Valid() || lib.Keys[0].Use != "sig" {
			t.Errorf("go-jose: %v: %s", err, text)
		}
		sum, _ := lib.Keys[0].Thumbprint(crypto.SHA256)
		if got, _ := Thumbprint(k.Public()); got != b64.EncodeToString(sum) {
			t.Errorf("%T: thumbprint %s", k, got)
		}
		set, err := ParseJWKSet(text)
		if err != nil || len(set.Keys) != 1 || !k.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(set.Keys[0].Key) {
			t.Errorf("%s: %v, %v", text, set, err)
		}
	}
	if text, _ := json.Marshal(&JWKSet{}); string(text) != `{"keys":[]}` {
		t.Errorf("an empty set is %s", text)
	}
	if _, err := json.Marshal(&JWKSet{Keys: []JWK{{Key: 1}}}); err == nil {
		t.Error("1 is a key")
	}
	//lint:ignore SA1019 a point off the curve can be written down in no other way
	if _, err := Thumbprint(&ecdsa.PublicKey{Curve: elliptic.P256(), X: new(big.Int), Y: new(big.Int)}); err == nil {
		t.Error("a point off the curve has a thumbprint")
	}

	for alg, kid := range map[string]string{ES256: "a", EdDSA: "e", Ed25519: "e", RS256: "r", PS256: "r", ES384: "p384", ES512: "p521"} {
		if k, ok := keys.Key(kid, alg); !ok || !fits(k, alg) {
			t.Errorf("no key for %s", alg)
		}
		if k, ok := keys.Key("", alg); !ok || !fits(k, alg) {
			t.Errorf("no only key for %s", alg)
		}
	}
	if _, ok := keys.Key("a", EdDSA); ok {
		t.Error("an EC key for EdDSA")
	}
	if _, ok := keys.Key("a", "HS256"); ok {
		t.Error("a key for HS256")
	}
	two := &JWKSet{Keys: []JWK{{Key: p256.Public(), KeyID: "a"}, {Key: other.Public(), KeyID: "a"}}}
	if _, ok := two.Key("a", ES256); ok {
		t.Error("one of two keys of a name")
	}
}

func TestJWKSetLeavesOut(t *testing.T) {
	good := jwkOf(t, p256.Public())
	add := func(s string) string { return good[:len(good)-1] + "," + s + "}" }
	short, _ := rsa.GenerateKey(rand.Reader, 1024)
	zeros := b64.EncodeToString(make([]byte, 32))
	e := func(exp string) string { return strings.Replace(jwkOf(t, rsa2048.Public()), "AQAB", exp, 1) }
	for _, jwk := range []string{
		add(`"d":"AA"`), add(`"use":"enc"`), add(`"use":1`), add(`"key_ops":["sign"]`), add(`"key_ops":"verify"`), add(`"alg":"ES384"`), add(`"alg":"none"`),
		`{"kty":"oct","k":"AAAA"}`, `{"kty":"EC","crv":"secp256k1","x":"` + zeros + `","y":"` + zeros + `"}`, `{}`, `{"kty":"AKP"}`,
		strings.Replace(good, "P-256", "P-384", 1), `{"kty":"EC","crv":"P-256","x":"` + zeros + `","y":"` + zeros + `"}`,
		strings.Replace(good, `"x":"`, `"x":"AA`, 1), strings.Replace(good, `"x":"`, `"x":"\n`, 1), strings.Replace(good, `"x":"`, `"x":"=`, 1),
		`{"kty":"OKP","crv":"X25519","x":"` + zeros + `"}`, `{"kty":"OKP","crv":"Ed25519","x":"AA"}`, `{"kty":"OKP","crv":"Ed25519","x":"` + zeros + `"}`,
		jwkOf(t, short.Public()), e("AA"), e("AQ"), e("AAEAAQ"), e("AQABAAAB"), e("AQAA"), e("_____w"), e(""),
		`{"kty":"RSA","e":"AQAB","n":"AA"}`, `{"kty":"RSA","e":"AQAB","n":"` + b64.EncodeToString(append([]byte{0}, rsa2048.N.Bytes()...)) + `"}`,
		`{"kty":"RSA","e":"AQAB","n":"` + b64.EncodeToString(bytes.Repeat([]byte{0xff}, 1025)) + `"}`,
		`{"kty":"RSA","e":"AQAB","n":"` + b64.EncodeToString(append(bytes.Repeat([]byte{0xff}, 255), 0xfe)) + `"}`,
	} {
		set, err := ParseJWKSet([]byte(`{"keys":[` + jwk + `,` + good + `]}`))
		if err != nil || len(set.Keys) != 1 {
			t.Errorf("%.80s: %v, %v", jwk, set, err)
		}
	}
	for _, kept := range []string{good, add(`"use":"sig"`), add(`"key_ops":["verify"]`), add(`"alg":"ES256","x5u":"https://evil.example"`)} {
		if set, err := ParseJWKSet([]byte(`{"keys":[` + kept + `]}`)); err != nil || len(set.Keys) != 1 {
			t.Errorf("%s: %v, %v", kept, set, err)
		}
	}
	for _, bad := range []string{``, `[]`, `{}`, `{"keys":{}}`, `{"keys":[1]}`, `{"keys":[],"keys":[]}`, `{"keys":[{"kty":"EC","kty":"EC"}]}`, `{"keys":[` + strings.Repeat(" ", maxJWKS) + `]}`} {
		if set, err := ParseJWKSet([]byte(bad)); problem.CodeOf(err) != "jwks_invalid" || set != nil {
			t.Errorf("%.40s: %v, %v", bad, set, err)
		}
	}
	for _, bad := range []string{``, `1`, strings.Repeat(" ", MaxToken+1), `{"kty":"oct"}`} {
		if key, err := ParseJWK([]byte(bad)); err == nil || key != nil {
			t.Errorf("%.40s: %v", bad, key)
		}
	}
}

func TestEd25519LowOrder(t *testing.T) {
	// The identity: S = 0 and R = it would verify any message.
	identity := make([]byte, 32)
	identity[0] = 1
	if k, err := ParseJWK([]byte(fmt.Sprintf(`{"kty":"OKP","crv":"Ed25519","x":"%s"}`, b64.EncodeToString(identity)))); err == nil {
		t.Errorf("the identity is a key: %v", k)
	}
}
