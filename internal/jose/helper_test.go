package jose

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/problem"
)

var (
	p256, _    = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	other, _   = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p384, _    = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	p521, _    = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	rsa2048, _ = rsa.GenerateKey(rand.Reader, 2048)
	_, ed, _   = ed25519.GenerateKey(rand.Reader)

	now  = time.Unix(1_790_000_000, 0)
	keys = &JWKSet{Keys: []JWK{
		{Key: p256.Public(), KeyID: "a", Algorithm: ES256},
		{Key: ed.Public(), KeyID: "e", Algorithm: EdDSA},
		{Key: rsa2048.Public(), KeyID: "r"},
		{Key: p384.Public(), KeyID: "p384"},
		{Key: p521.Public(), KeyID: "p521"},
	}}
	every = []string{ES256, ES384, ES512, PS256, RS256, EdDSA, Ed25519}
)

// signed makes a token with whatever header and payload.
func signed(t testing.TB, key crypto.Signer, head, payload string) string {
	t.Helper()
	var h struct{ Alg string }
	if json.Unmarshal([]byte(head), &h) != nil || !fits(key.Public(), h.Alg) {
		h.Alg = algOf(key.Public())
	}
	s := &Signer{key: key, alg: h.Alg, head: []byte(b64.EncodeToString([]byte(head)) + ".")}
	token, err := s.Sign(json.RawMessage("{}"))
	if err != nil {
		t.Fatal(err)
	}
	input := string(s.head) + b64.EncodeToString([]byte(payload))
	signature, err := s.sign([]byte(input))
	if err != nil || token == "" {
		t.Fatal(err)
	}
	return input + "." + b64.EncodeToString(signature)
}

// with is the JSON of claims with one changed; nil takes it out.
func with(base map[string]any, name string, v any) string {
	m := maps.Clone(base)
	m[name] = v
	if v == nil {
		delete(m, name)
	}
	b, _ := json.Marshal(m)
	return string(b)
}

// wants checks that a verifier refused with a code and gave nothing else.
func wants(t *testing.T, what string, zero bool, err error, code string) {
	t.Helper()
	if problem.CodeOf(err) != code || !zero || code != "" && !errors.Is(err, problem.Unauthenticated) {
		t.Errorf("%s: %v (zero value: %t), want %q", what, err, zero, code)
	}
}

// verifier lets one table of attacks run against every kind.
type verifier struct {
	code   string
	typ    string
	claims map[string]any
	verify func(string) (zero bool, err error)
}

func verifiers() []verifier {
	iat := now.Unix()
	return []verifier{
		{"token", "at+jwt", accessClaims(), func(s string) (bool, error) {
			c, err := VerifyAccessToken(s, keys, accessWant)
			return c == nil == (err != nil), err
		}},
		{"assertion", TypClientAssertion, map[string]any{"iss": "cli_1", "sub": "cli_1", "aud": "https://id.example.com", "jti": "j", "exp": iat + 60}, func(s string) (bool, error) {
			c, err := VerifyClientAssertion(s, keys, assertionWant)
			return (c == ClientAssertion{}) == (err != nil), err
		}},
		{"request_object", TypRequestObject, map[string]any{"iss": "cli_1", "aud": "https://id.example.com", "client_id": "cli_1", "exp": iat + 60}, func(s string) (bool, error) {
			c, err := VerifyRequestObject(s, keys, requestWant)
			return (c.Parameters == nil) == (err != nil), err
		}},
		{"id_token", "JWT", map[string]any{"iss": "https://id.example.com", "sub": "s", "aud": "cli_1", "exp": iat + 60, "iat": iat}, func(s string) (bool, error) {
			c, err := VerifyIDToken(s, keys, idWant)
			return c == nil == (err != nil), err
		}},
		{"feed", TypFeed, map[string]any{"iss": "https://id.example.com", "aud": "https://api.example.com", "epoch": 1, "seq": 2, "prev": 1, "iat": iat, "ents": []any{[]any{"tt2XKqiTyk9K", 0}, []any{"tt2XKqiTyk9L", nil}}}, func(s string) (bool, error) {
			c, err := VerifyFeedFrame(s, keys, feedWant)
			return c == nil == (err != nil), err
		}},
		{"grant_assertion", TypGrantAssertion, map[string]any{"iss": "https://idp.example.com", "sub": "ext-1", "aud": "https://id.example.com", "jti": "j", "exp": iat + 60, "iat": iat}, func(s string) (bool, error) {
			c, err := VerifyGrantAssertion(s, keys, grantWant)
			return (c.Subject == "") == (err != nil), err
		}},
		{"id_jag", TypIDJAG, grantClaims(), func(s string) (bool, error) {
			want := grantWant
			want.IDJAG = true
			c, err := VerifyGrantAssertion(s, keys, want)
			return (c.Subject == "") == (err != nil), err
		}},
		{"bundle", TypBundle, map[string]any{"iss": "https://id.example.com", "aud": "https://api.example.com", "epoch": 1, "pol": 3, "iat": iat, "hash": "h"}, func(s string) (bool, error) {
			c, err := VerifyBundleHead(s, keys, feedWant)
			return c == nil == (err != nil), err
		}},
	}
}

var (
	accessWant    = AccessTokenWant{Issuer: "https://id.example.com", Audiences: []string{"https://api.example.com"}, Now: now, Leeway: 5 * time.Second}
	assertionWant = ClientAssertionWant{Issuer: "https://id.example.com", ClientID: "cli_1", Now: now, Leeway: 10 * time.Second}
	requestWant   = RequestObjectWant{Issuer: "https://id.example.com", ClientID: "cli_1", Now: now, Leeway: 10 * time.Second}
	idWant        = IDTokenWant{Issuer: "https://id.example.com", ClientID: "cli_1", Now: now}
	grantWant     = GrantAssertionWant{Issuer: "https://idp.example.com", Audiences: []string{"https://id.example.com"}, MaxLifetime: 5 * time.Minute, Now: now, Leeway: 10 * time.Second}
	feedWant      = FeedWant{Issuer: "https://id.example.com", Audience: "https://api.example.com"}
)

func grantClaims() map[string]any {
	return map[string]any{
		"iss": "https://idp.example.com", "sub": "ext-1", "aud": "https://id.example.com", "client_id": "cli_1", "jti": "j",
		"exp": now.Unix() + 60, "iat": now.Unix(),
	}
}

func accessClaims() map[string]any {
	return map[string]any{
		"iss": "https://id.example.com", "sub": "usr_1", "aud": "https://api.example.com", "client_id": "cli_1",
		"exp": now.Unix() + 300, "iat": now.Unix(), "jti": "rec_1", "scope": "notes:read",
	}
}

// The attacks that no kind may let through.
func TestAttacks(t *testing.T) {
	for _, v := range verifiers() {
		head := `{"alg":"ES256","typ":"` + v.typ + `","kid":"a"}`
		payload := with(v.claims, "x", 1)
		good := signed(t, p256, head, payload)
		zero, err := v.verify(good)
		wants(t, v.code+": control", zero, err, "")
		parts := strings.Split(good, ".")
		hs := strings.Replace(good, parts[0], b64.EncodeToString([]byte(strings.Replace(head, "ES256", "HS256", 1))), 1)
		headed := func(h string) string { return signed(t, p256, h, payload) }
		claimed := func(p string) string { return signed(t, p256, head, p) }
		for _, c := range []struct{ what, token, code string }{
			{"empty", "", "malformed"},
			{"1 MB of dots", strings.Repeat(".", 1<<20), "malformed"},
			{"16 KiB of dots", strings.Repeat(".", MaxToken), "malformed"},
			{"two segments", parts[0] + "." + parts[1], "malformed"},
			{"four segments", good + ".", "malformed"},
			{"trailing garbage", good + "!", "malformed"},
			{"trailing line break", good + "\n", "malformed"},
			{"line break within", parts[0] + ".\r\n" + parts[1] + "." + parts[2], "malformed"},
			{"padding", good + "=", "malformed"},
			{"non-canonical base64", good[:len(good)-1] + string(nextB64(good[len(good)-1])), "malformed"},
			{"no signature", parts[0] + "." + parts[1] + ".", "signature"},
			{"truncated", good[:len(good)-2], "signature"},
			{"header no JSON", headed(`{"alg":"ES256"`), "malformed"},
			{"header twice alg", headed(`{"alg":"ES256","alg":"ES256","typ":"` + v.typ + `"}`), "malformed"},
			{"header alg number", headed(`{"alg":1,"typ":"` + v.typ + `"}`), "malformed"},
			{"crit", headed(`{"alg":"ES256","crit":["b64"],"b64":false,"typ":"` + v.typ + `","kid":"a"}`), "malformed"},
			{"alg none", headed(`{"alg":"none","typ":"` + v.typ + `","kid":"a"}`), "algorithm"},
			{"alg nOnE", headed(`{"alg":"nOnE","typ":"` + v.typ + `","kid":"a"}`), "algorithm"},
			{"alg absent", headed(`{"typ":"` + v.typ + `","kid":"a"}`), "algorithm"},
			{"alg es256", headed(`{"alg":"es256","typ":"` + v.typ + `","kid":"a"}`), "algorithm"},
			{"HS256 with the public key", hs, "algorithm"},
			{"unknown kid", headed(`{"alg":"ES256","typ":"` + v.typ + `","kid":"z"}`), "key"},
			{"wrong typ", headed(`{"alg":"ES256","typ":"secevent+jwt","kid":"a"}`), "type"},
			{"own key in the header", signed(t, other, `{"alg":"ES256","typ":"`+v.typ+`","kid":"a","jwk":`+jwkOf(t, other.Public())+`}`, payload), "signature"},
			{"jku", signed(t, other, `{"alg":"ES256","typ":"`+v.typ+`","kid":"a","jku":"https://evil.example/","x5u":"https://evil.example/"}`, payload), "signature"},
			{"duplicate claim", claimed(strings.Replace(payload, `"x":1`, `"x":1,"x":2`, 1)), "malformed"},
			{"duplicate claim, escaped", claimed(strings.Replace(payload, `"x":1`, `"x":1,"\u0078":2`, 1)), "malformed"},
			{"duplicate deep within", claimed(strings.Replace(payload, `"x":1`, `"x":[{"a":1,"a":1}]`, 1)), "malformed"},
			{"claims no object", claimed(`[1]`), "malformed"},
			{"two objects", claimed(payload + payload), "malformed"},
			{"deep", claimed(strings.Replace(payload, `"x":1`, `"x":`+strings.Repeat("[", 1000)+strings.Repeat("]", 1000), 1)), "malformed"},
			{"invalid UTF-8", claimed(strings.Replace(payload, `"x":1`, "\"x\":\"\xff\"", 1)), "malformed"},
			{"lone surrogate", claimed(strings.Replace(payload, `"x":1`, `"x":"\ud800"`, 1)), "malformed"},
		} {
			zero, err := v.verify(c.token)
			wants(t, v.code+": "+c.what, zero, err, v.code+"_"+c.code)
		}
		for name := range v.claims {
			if name == "scope" {
				continue
			}
			zero, err := v.verify(claimed(with(v.claims, name, nil)))
			wants(t, v.code+" without "+name, zero, err, v.code+"_malformed")
			zero, err = v.verify(claimed(with(v.claims, name, map[string]any{})))
			wants(t, v.code+" with another type of "+name, zero, err, v.code+"_malformed")
			renamed := strings.Replace(with(v.claims, "x", 1), `"`+name+`":`, `"`+strings.ToUpper(name[:1])+name[1:]+`":`, 1)
			zero, err = v.verify(claimed(renamed))
			wants(t, v.code+" with capital "+name, zero, err, v.code+"_malformed")
		}
		for _, w := range verifiers() { // one kind is never taken for another
			if w.code != v.code {
				zero, err := w.verify(good)
				if err == nil || !zero || problem.CodeOf(err) != w.code+"_type" && !(generic[w.code] && generic[v.code]) {
					t.Errorf("%s taken for %s: %v", v.code, w.code, err)
				}
			}
		}
		for _, typ := range []string{strings.ToUpper(v.typ), "application/" + v.typ, "Application/" + v.typ} {
			zero, err := v.verify(headed(`{"alg":"ES256","typ":"` + typ + `","kid":"a"}`))
			wants(t, v.code+" with typ "+typ, zero, err, "")
		}
	}
}

// generic are the kinds that take the type JWT, or none: their claims tell them apart.
var generic = map[string]bool{"assertion": true, "id_token": true, "grant_assertion": true}

// nextB64 differs from c in the bits that base64 of 64 bytes does not use.
func nextB64(c byte) byte {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return alphabet[strings.IndexByte(alphabet, c)^1]
}

func jwkOf(t testing.TB, key crypto.PublicKey) string {
	t.Helper()
	b, err := essential(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
