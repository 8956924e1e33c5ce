package jose

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	gojose "github.com/go-jose/go-jose/v4"

	"github.com/countersign-dev/countersign/internal/problem"
)

// fuzzKind feeds one kind's verifier with claims under a good signature and
// with whole tokens: an error comes with the zero value and is a problem.
func fuzzKind(f *testing.F, v verifier) {
	head := `{"alg":"ES256","typ":"` + v.typ + `","kid":"a"}`
	f.Add(head, with(v.claims, "x", 1))
	f.Add(head, `{"iss":1e400,"aud":[[]],"cnf":{}}`)
	f.Add(`{"alg":"none"}`, `{}`)
	f.Add(strings.Repeat(".", 100), "\xff")
	f.Fuzz(func(t *testing.T, head, payload string) {
		for _, token := range []string{signed(t, p256, head, payload), head, head + "." + payload, payload} {
			zero, err := v.verify(token)
			if !zero || err != nil && problem.From(err) == nil {
				t.Fatalf("%q: %v, zero value %t", token, err, zero)
			}
		}
	})
}

func FuzzAccessToken(f *testing.F)     { fuzzKind(f, verifiers()[0]) }
func FuzzClientAssertion(f *testing.F) { fuzzKind(f, verifiers()[1]) }
func FuzzRequestObject(f *testing.F)   { fuzzKind(f, verifiers()[2]) }
func FuzzIDToken(f *testing.F)         { fuzzKind(f, verifiers()[3]) }
func FuzzFeedFrame(f *testing.F)       { fuzzKind(f, verifiers()[4]) }
func FuzzGrantAssertion(f *testing.F)  { fuzzKind(f, verifiers()[5]) }
func FuzzIDJAG(f *testing.F)           { fuzzKind(f, verifiers()[6]) }
func FuzzBundleHead(f *testing.F)      { fuzzKind(f, verifiers()[7]) }

// A signed backchannel authentication request is read like a request object, and has
// claims of its own that it needs.
func FuzzBackchannelRequest(f *testing.F) {
	iat := now.Unix()
	fuzzKind(f, verifier{"request_object", TypRequestObject, map[string]any{
		"iss": "cli_1", "aud": "https://id.example.com", "exp": iat + 60, "nbf": iat, "iat": iat, "jti": "j", "login_hint": "dana", "requested_expiry": 60,
	}, func(s string) (bool, error) {
		want := requestWant
		want.Backchannel = true
		c, err := VerifyRequestObject(s, keys, want)
		return (c.JTI == "") == (err != nil), err
	}})
}

// Whatever is not verified yet gives an issuer or an error, and never both.
func FuzzGrantIssuer(f *testing.F) {
	f.Add(`{"alg":"ES256","typ":"oauth-id-jag+jwt"}`, `{"iss":"https://idp.example.com"}`)
	f.Add(`{"alg":"none"}`, `{"iss":""}`)
	f.Add(`{"alg":"ES256"}`, `{"iss":["a"]}`)
	f.Fuzz(func(t *testing.T, head, payload string) {
		for _, token := range []string{signed(t, p256, head, payload), head, payload} {
			iss, jag, err := GrantIssuerUnverified(token)
			if (iss == "") != (err != nil) || err != nil && (jag || problem.From(err) == nil) {
				t.Fatalf("%q: %q, %t, %v", token, iss, jag, err)
			}
		}
	})
}

func FuzzDPoP(f *testing.F) {
	jwk := jwkOf(f, p256.Public())
	f.Add(jwk, `{"jti":"j","htm":"GET","htu":"https://a.example/","iat":1790000000}`)
	f.Add(`{"kty":"RSA","n":"AA","e":"AA"}`, `{"htu":"https://a.example/%"}`)
	f.Fuzz(func(t *testing.T, jwk, payload string) {
		for _, token := range []string{signed(t, p256, `{"alg":"ES256","typ":"dpop+jwt","jwk":`+jwk+`}`, payload), payload} {
			p, err := VerifyDPoP(token, DPoPWant{Method: "GET", URL: "https://a.example/", Now: now})
			if (p == DPoPProof{}) == (err == nil) || err != nil && problem.From(err) == nil {
				t.Fatalf("%q: %+v, %v", token, p, err)
			}
		}
	})
}

func FuzzJWKSet(f *testing.F) {
	b, _ := json.Marshal(keys)
	f.Add(b)
	f.Add([]byte(`{"keys":[{"kty":"EC","crv":"P-256","x":"","y":""}]}`))
	x5c := `,"x5c":["` + base64.StdEncoding.EncodeToString(certificate(f, p256)) + `"]}`
	f.Add([]byte(`{"keys":[` + strings.TrimSuffix(jwkOf(f, p256.Public()), "}") + x5c + `]}`))
	f.Add([]byte(`{"keys":[` + strings.TrimSuffix(jwkOf(f, other.Public()), "}") + x5c + `]}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		set, err := ParseJWKSet(in)
		if (set == nil) != (err != nil) {
			t.Fatal(set, err)
		}
		if err != nil {
			return
		}
		out, err := json.Marshal(set)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := ParseJWKSet(out); err != nil && len(out) <= maxJWKS || err == nil && len(again.Keys) != len(set.Keys) {
			t.Fatalf("%s: %v", out, err)
		}
	})
}

// Whatever JSON we read, the standard library reads too.
func FuzzReadObject(f *testing.F) {
	f.Add(`{"a":[1,-0.5e3,"\u00e9",null,true,{}]}`)
	f.Fuzz(func(t *testing.T, s string) {
		o, ok := readObject(s)
		if !ok {
			if o != nil {
				t.Fatal(o)
			}
			return
		}
		var m map[string]json.RawMessage
		if err := json.Unmarshal([]byte(s), &m); err != nil || len(m) != len(o) {
			t.Fatalf("%q: %d members, %d, %v", s, len(o), len(m), err)
		}
		for _, x := range o {
			if string(m[x.name]) != x.raw {
				t.Fatalf("%q: %q is %q and %q", s, x.name, x.raw, m[x.name])
			}
		}
	})
}

func BenchmarkSign(b *testing.B) {
	s, _ := NewSigner(p256, ES256, "a", TypAccessToken)
	c := fullAccess()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Sign(&c); err != nil {
			b.Fatal(err)
		}
	}
}

// The floor: one bare ES256 verification.
func BenchmarkFloor(b *testing.B) {
	digest := sha256.Sum256([]byte("x"))
	sig, _ := ecdsa.SignASN1(rand.Reader, p256, digest[:])
	b.ReportAllocs()
	for b.Loop() {
		if !ecdsa.VerifyASN1(&p256.PublicKey, digest[:], sig) {
			b.Fatal()
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	s, _ := NewSigner(p256, ES256, "a", TypAccessToken)
	c := fullAccess()
	token, _ := s.Sign(&c)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := VerifyAccessToken(token, keys, accessWant); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerifyWithProof(b *testing.B) {
	s, _ := NewSigner(p256, ES256, "a", TypAccessToken)
	c := fullAccess()
	token, _ := s.Sign(&c)
	proof, _ := MakeDPoP(p256, "GET", "https://api.example.com/a", "", token, now)
	want := DPoPWant{Method: "GET", URL: "https://api.example.com/a", AccessToken: token, Now: now, Window: time.Minute}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := VerifyAccessToken(token, keys, accessWant); err != nil {
			b.Fatal(err)
		}
		if _, err := VerifyDPoP(proof, want); err != nil {
			b.Fatal(err)
		}
	}
}

// Token and proof against one bare verification, taken in turns so that a busy
// machine slows both: the target is 2.2 (performance).
func BenchmarkRatioToFloor(b *testing.B) {
	digest := sha256.Sum256([]byte("x"))
	sig, _ := ecdsa.SignASN1(rand.Reader, p256, digest[:])
	s, _ := NewSigner(p256, ES256, "a", TypAccessToken)
	c := plainAccess()
	token, _ := s.Sign(&c)
	proof, _ := MakeDPoP(p256, "GET", "https://api.example.com/a", "", token, now)
	want := DPoPWant{Method: "GET", URL: "https://api.example.com/a", AccessToken: token, Now: now}
	var floors, pairs []time.Duration
	for b.Loop() {
		t0 := time.Now()
		ecdsa.VerifyASN1(&p256.PublicKey, digest[:], sig)
		t1 := time.Now()
		_, err1 := VerifyAccessToken(token, keys, accessWant)
		_, err2 := VerifyDPoP(proof, want)
		if err1 != nil || err2 != nil {
			b.Fatal(err1, err2)
		}
		floors, pairs = append(floors, t1.Sub(t0)), append(pairs, time.Since(t1))
	}
	slices.Sort(floors)
	slices.Sort(pairs)
	b.ReportMetric(float64(pairs[len(pairs)/2])/float64(floors[len(floors)/2]), "x-median")
	b.ReportMetric(float64(pairs[len(pairs)/10])/float64(floors[len(floors)/10]), "x-p10")
}

// What go-jose alone would cost for a token, claims not read.
func BenchmarkGoJose(b *testing.B) {
	s, _ := NewSigner(p256, ES256, "a", TypAccessToken)
	c := fullAccess()
	token, _ := s.Sign(&c)
	var key crypto.PublicKey = p256.Public()
	b.ReportAllocs()
	for b.Loop() {
		jws, err := gojose.ParseSignedCompact(token, []gojose.SignatureAlgorithm{gojose.ES256})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := jws.Verify(key); err != nil {
			b.Fatal(err)
		}
	}
}
