package countersign

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/jose"
)

func newVerifier(t testing.TB, i *TestIssuer, change func(*Config)) *Verifier {
	t.Helper()
	cfg := Config{Issuer: i.URL, Audience: testAudience, NoFeed: true}
	if change != nil {
		change(&cfg)
	}
	v, err := New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	return v
}

func newKey(t testing.TB) *DPoPKey {
	t.Helper()
	k, err := GenerateDPoPKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// request makes one with a token and a proof of key (nil: none).
func request(t testing.TB, method, path, token string, key *DPoPKey) *http.Request {
	t.Helper()
	r := httptest.NewRequest(method, path, nil)
	r.Host = "evil.example" // is never asked
	if key == nil {
		r.Header.Set("Authorization", "Bearer "+token)
		return r
	}
	p, err := key.Proof(method, testAudience+strings.SplitN(path, "?", 2)[0], token, "")
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "DPoP "+token)
	r.Header.Set("DPoP", p)
	return r
}

func codeOf(err error) string {
	if err == nil {
		return ""
	}
	var e *Error
	if !errors.As(err, &e) {
		return "plain: " + err.Error()
	}
	return e.Code
}

func TestVerifyAttacks(t *testing.T) {
	i := newIssuer(t)
	key, other := newKey(t), newKey(t)
	claims := func(f func(*jose.AccessTokenClaims)) string {
		c := i.Claims(testAudience, key, "notes:read")
		f(&c)
		return i.Token(c)
	}
	good := claims(func(*jose.AccessTokenClaims) {})
	unbound := claims(func(c *jose.AccessTokenClaims) { c.Confirmation = nil })
	proof := func(k *DPoPKey, method, url, token, nonce string, at time.Time) string {
		p, err := k.proofAt(method, url, token, nonce, at)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	tests := []struct {
		name   string
		token  string
		bearer bool // Config.AllowBearer
		change func(*http.Request)
		want   string
	}{
		{"good", good, false, nil, ""},
		{"good, bearer allowed", good, true, nil, ""},
		{"scheme in lower case", good, false, func(r *http.Request) { r.Header.Set("Authorization", "dpop "+good) }, ""},
		{"nothing", good, false, func(r *http.Request) { r.Header.Del("Authorization") }, "token_missing"},
		{"two headers", good, false, func(r *http.Request) { r.Header.Add("Authorization", "DPoP "+good) }, "invalid_request"},
		{"basic", good, false, func(r *http.Request) { r.SetBasicAuth("a", "b") }, "token_missing"},
		{"empty", good, false, func(r *http.Request) { r.Header.Set("Authorization", "DPoP ") }, "invalid_request"},
		{"in the query", good, true, func(r *http.Request) {
			r.Header.Del("Authorization")
			r.URL.RawQuery = "access_token=" + unbound
			r.RequestURI = r.URL.RequestURI()
		}, "token_missing"},
		{"bound as bearer", good, true, func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+good) }, "invalid_token"},
		{"bound as bearer, no proof", good, true, func(r *http.Request) {
			r.Header.Set("Authorization", "Bearer "+good)
			r.Header.Del("DPoP")
		}, "invalid_token"},
		{"unbound as DPoP", unbound, true, nil, "invalid_token"},
		{"unbound as bearer, allowed", unbound, true, func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+unbound) }, ""},
		{"unbound as bearer, not allowed", unbound, false, func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+unbound) }, "invalid_token"},
		{"no proof", good, false, func(r *http.Request) { r.Header.Del("DPoP") }, "invalid_dpop_proof"},
		{"two proofs", good, false, func(r *http.Request) {
			r.Header.Add("DPoP", proof(key, "GET", testAudience+"/notes", good, "", time.Now()))
		}, "invalid_dpop_proof"},
		{"other method", good, false, func(r *http.Request) {
			r.Header.Set("DPoP", proof(key, "POST", testAudience+"/notes", good, "", time.Now()))
		}, "invalid_dpop_proof"},
		{"URL of the Host header", good, false, func(r *http.Request) {
			r.Header.Set("DPoP", proof(key, "GET", "https://evil.example/notes", good, "", time.Now()))
		}, "invalid_dpop_proof"},
		{"other path", good, false, func(r *http.Request) {
			r.Header.Set("DPoP", proof(key, "GET", testAudience+"/other", good, "", time.Now()))
		}, "invalid_dpop_proof"},
		{"other token", good, false, func(r *http.Request) {
			r.Header.Set("DPoP", proof(key, "GET", testAudience+"/notes", unbound, "", time.Now()))
		}, "invalid_dpop_proof"},
		{"no ath", good, false, func(r *http.Request) {
			r.Header.Set("DPoP", proof(key, "GET", testAudience+"/notes", "", "", time.Now()))
		}, "invalid_dpop_proof"},
		{"other key", good, false, func(r *http.Request) {
			r.Header.Set("DPoP", proof(other, "GET", testAudience+"/notes", good, "", time.Now()))
		}, "invalid_dpop_proof"},
		{"stale proof", good, false, func(r *http.Request) {
			r.Header.Set("DPoP", proof(key, "GET", testAudience+"/notes", good, "", time.Now().Add(-2*time.Minute)))
		}, "invalid_dpop_proof"},
		{"a little ahead", good, false, func(r *http.Request) {
			r.Header.Set("DPoP", proof(key, "GET", testAudience+"/notes", good, "", time.Now().Add(10*time.Second)))
		}, ""},
		{"other audience", claims(func(c *jose.AccessTokenClaims) { c.Audience = jose.Audience{"https://other.example"} }), false, nil, "invalid_token"},
		{"two audiences", claims(func(c *jose.AccessTokenClaims) { c.Audience = append(c.Audience, "https://other.example") }), false, nil, "invalid_token"},
		{"audience with slash", claims(func(c *jose.AccessTokenClaims) { c.Audience = jose.Audience{testAudience + "/"} }), false, nil, ""},
		{"other issuer", claims(func(c *jose.AccessTokenClaims) { c.Issuer += "/" }), false, nil, "invalid_token"},
		{"expired", claims(func(c *jose.AccessTokenClaims) { c.ExpiresAt = jose.Date(time.Now().Add(-time.Minute)) }), false, nil, "invalid_token"},
		{"from the future", claims(func(c *jose.AccessTokenClaims) { c.IssuedAt = jose.Date(time.Now().Add(2 * time.Minute)) }), false, nil, "invalid_token"},
		{"no subject", claims(func(c *jose.AccessTokenClaims) { c.Subject = "" }), false, nil, "invalid_token"},
		{"bound to a certificate", claims(func(c *jose.AccessTokenClaims) { c.Confirmation = &jose.Confirmation{X5TS256: "x"} }), false, nil, "invalid_token"},
		{"bad handle", claims(func(c *jose.AccessTokenClaims) { c.Lineage = []string{"short"} }), false, nil, "invalid_token"},
		{"an ID token", i.sign("JWT", i.Claims(testAudience, key, "")), false, nil, "invalid_token"},
		{"a revocation frame", i.sign(jose.TypFeed, i.Claims(testAudience, key, "")), false, nil, "invalid_token"},
		{"cut short", good[:len(good)-4], false, nil, "invalid_token"},
		{"too long", strings.Repeat("a", 20<<10), false, nil, "invalid_token"},
		{"alg none", "eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0." + strings.Split(good, ".")[1] + ".", false, nil, "invalid_token"},
	}
	strict, lax := newVerifier(t, i, nil), newVerifier(t, i, func(c *Config) { c.AllowBearer = true })
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := strict
			if tt.bearer {
				v = lax
			}
			r := request(t, "GET", "/notes?q=1", tt.token, key)
			if tt.change != nil {
				tt.change(r)
			}
			tok, err := v.Verify(r)
			if got := codeOf(err); got != tt.want {
				t.Fatalf("got %q (%v), want %q", got, err, tt.want)
			}
			if (tok == nil) != (err != nil) {
				t.Errorf("token %v with error %v", tok, err)
			}
		})
	}
}

func TestVerifyGivesTheToken(t *testing.T) {
	i := newIssuer(t)
	v, key := newVerifier(t, i, nil), newKey(t)
	c := i.Claims(testAudience, key, "notes:read notes:write")
	c.Actor = &jose.Actor{Subject: "agt_7", Actor: &jose.Actor{Subject: "agt_6"}}
	c.Organization = "org_1"
	tok, err := v.Verify(request(t, "GET", "/", i.Token(c), key))
	if err != nil {
		t.Fatal(err)
	}
	if tok.Subject != "usr_dana" || tok.ClientID != "app" || tok.ID != c.JTI || tok.ACR != "phr" || tok.Rung() != Phishing ||
		tok.AuthTime.Unix() != int64(c.AuthTime) || len(tok.AMR) != 3 || tok.Act.Subject != "agt_7" || len(tok.Lin) != 2 ||
		tok.Scheme != "DPoP" || !tok.HasScope("notes:write") || tok.HasScope("notes") || len(tok.Scope()) != 2 || !tok.Person() {
		t.Errorf("got %+v", tok)
	}
	var more struct{ Org string }
	if err := tok.Claims(&more); err != nil || more.Org != "org_1" {
		t.Errorf("claims: %+v, %v", more, err)
	}
}

func TestProofCountsOnce(t *testing.T) {
	i := newIssuer(t)
	v, key := newVerifier(t, i, nil), newKey(t)
	r := request(t, "GET", "/notes", i.Token(i.Claims(testAudience, key, "")), key)
	var mu sync.Mutex
	var wg sync.WaitGroup
	counts := map[string]int{}
	for range 32 {
		wg.Go(func() {
			_, err := v.Verify(r.Clone(t.Context()))
			mu.Lock()
			counts[codeOf(err)]++
			mu.Unlock()
		})
	}
	wg.Wait()
	if counts[""] != 1 || counts["invalid_dpop_proof"] != 31 {
		t.Errorf("got %v", counts)
	}
}

func TestReplayCacheTurns(t *testing.T) {
	c := newReplayCache(time.Minute, 3)
	at := time.Now()
	step := func(name, jti string, after time.Duration, want seen) {
		t.Helper()
		if got := c.see("k", jti, at.Add(after)); got != want {
			t.Errorf("%s: got %d, want %d", name, got, want)
		}
	}
	step("new", "a", 0, seenNew)
	step("again", "a", time.Second, seenBefore)
	if c.see("other", "a", at) != seenNew {
		t.Error("another key's jti is another proof")
	}
	step("third", "b", time.Second, seenNew)
	step("full", "c", time.Second, seenFull)
	step("after one span, still known", "a", time.Minute+time.Second, seenBefore)
	step("room again", "c", time.Minute+time.Second, seenNew)
	step("clock goes back", "c", -time.Hour, seenBefore)
	step("forgotten at last", "a", 4*time.Minute, seenNew)
}

func TestNonce(t *testing.T) {
	i := newIssuer(t)
	v, key := newVerifier(t, i, func(c *Config) { c.DemandNonce = true }), newKey(t)
	raw := i.Token(i.Claims(testAudience, key, ""))
	if got := codeOf(second(v.Verify(request(t, "GET", "/", raw, key)))); got != "use_dpop_nonce" {
		t.Fatalf("without: %q", got)
	}
	with := func(nonce string) string {
		r := request(t, "GET", "/", raw, key)
		p, _ := key.Proof("GET", testAudience+"/", raw, nonce)
		r.Header.Set("DPoP", p)
		return codeOf(second(v.Verify(r)))
	}
	if got := with(v.nonces.current(time.Now())); got != "" {
		t.Errorf("with: %q", got)
	}
	if got := with("made-up"); got != "use_dpop_nonce" {
		t.Errorf("made up: %q", got)
	}
	n := &nonceSource{span: time.Minute}
	at := time.Now()
	first := n.current(at)
	if !n.good(first, at.Add(90*time.Second)) || n.good(first, at.Add(151*time.Second)) || n.good("", at) {
		t.Error("a nonce is good for one span to two")
	}
}

func second[T any](_ T, err error) error { return err }

func TestExternalURL(t *testing.T) {
	i := newIssuer(t)
	key := newKey(t)
	v := newVerifier(t, i, func(c *Config) { c.URL = "https://edge.example.com/api/" })
	raw := i.Token(i.Claims(testAudience, key, ""))
	send := func(url, path string) string {
		r := request(t, "GET", path, raw, key)
		p, _ := key.Proof("GET", url, raw, "")
		r.Header.Set("DPoP", p)
		// What handlers before us do to the path does not count.
		r.URL.Path = "/stripped"
		return codeOf(second(v.Verify(r)))
	}
	if got := send("https://edge.example.com/api/notes/a%2Fb?x=1", "/notes/a%2Fb?x=1"); got != "" {
		t.Errorf("behind the prefix: %q", got)
	}
	if got := send("https://edge.example.com/notes", "/notes"); got != "invalid_dpop_proof" {
		t.Errorf("without the prefix: %q", got)
	}
	if got := send("https://edge.example.com/api/x", "http://evil.example/x"); got != "" {
		t.Errorf("absolute form: %q", got)
	}
}

func TestKeysAreReadAgain(t *testing.T) {
	i := newIssuer(t)
	now := time.Now()
	var mu sync.Mutex
	clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	advance := func(d time.Duration) { mu.Lock(); now = now.Add(d); mu.Unlock() }
	v := newVerifier(t, i, func(c *Config) { c.Now = clock; c.AllowBearer = true })
	verify := func() string {
		return codeOf(second(v.Verify(request(t, "GET", "/", i.Token(i.Claims(testAudience, nil, "")), nil))))
	}
	reads := func() (n int) { i.with(func() { n = i.keyReads }); return }
	eventually := func(what string, ok func() bool) {
		t.Helper()
		for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
			if ok() {
				return
			}
		}
		t.Fatal(what)
	}
	if verify() != "" || reads() != 1 {
		t.Fatalf("first: %d reads", reads())
	}
	old := i.Token(i.Claims(testAudience, nil, ""))
	if err := second(v.Verify(request(t, "GET", "/", old, nil))); err != nil {
		t.Fatal(err)
	}
	i.Rotate() // nobody made the verifier ask yet, so the first key that is not there is read for at once
	if got := verify(); got != "" || reads() != 2 {
		t.Errorf("the first unknown key: %q, %d reads", got, reads())
	}
	i.Rotate()
	if got := verify(); got != "invalid_token" || reads() != 2 {
		t.Errorf("unknown key within the pause: %q, %d reads", got, reads())
	}
	advance(keyThrottle)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if got := verify(); got != "" {
				t.Errorf("unknown key: %q", got)
			}
		})
	}
	wg.Wait()
	if reads() != 3 {
		t.Errorf("16 at once read the keys %d times", reads()-2)
	}
	if got := codeOf(second(v.Verify(request(t, "GET", "/", old, nil)))); got != "invalid_token" {
		t.Errorf("a remembered token of a withdrawn key: %q", got)
	}
	i.with(func() { i.keyFail = true })
	advance(6 * time.Minute)
	if got := codeOf(second(v.known(t.Context(), i.Token(i.Claims(testAudience, nil, "")), time.Now()))); got != "" {
		t.Errorf("keys past their time while the issuer fails: %q", got)
	}
	eventually("no read behind the request", func() bool { return reads() == 4 })
	i.with(func() { i.keyFail = false })
	advance(keyThrottle)
	eventually("not read again", func() bool { v.keys.current(t.Context()); return reads() == 5 })
}

func TestTokenCacheIsBounded(t *testing.T) {
	c := newTokenCache(100)
	keep := sha256.Sum256([]byte("used all the time"))
	c.put(keep, &cachedToken{})
	for n := range 10_000 {
		c.put(sha256.Sum256([]byte{byte(n), byte(n >> 8)}), &cachedToken{})
		if c.get(keep) == nil {
			t.Fatalf("forgot what is used after %d", n)
		}
		if len(c.now)+len(c.old) > 100 {
			t.Fatalf("%d entries", len(c.now)+len(c.old))
		}
	}
}

func TestNewRefuses(t *testing.T) {
	i := newIssuer(t)
	good := Config{Issuer: i.URL, Audience: testAudience, NoFeed: true}
	for name, change := range map[string]func(*Config){
		"no client and no word":   func(c *Config) { c.NoFeed = false },
		"issuer with a slash":     func(c *Config) { c.Issuer += "/" },
		"issuer over plain http":  func(c *Config) { c.Issuer = "http://id.example.com" },
		"audience relative":       func(c *Config) { c.Audience = "api" },
		"audience without a host": func(c *Config) { c.Audience = "urn:api" },
		"URL with a query":        func(c *Config) { c.URL = "https://a.example/?x" },
		"nobody there":            func(c *Config) { c.Issuer = "http://127.0.0.1:1" },
	} {
		cfg := good
		change(&cfg)
		if v, err := New(t.Context(), cfg); err == nil || v != nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := New(t.Context(), good); err != nil {
		t.Errorf("the good one: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := New(ctx, good); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestPrivateKeyJWT(t *testing.T) {
	i := newIssuer(t)
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	i.clientPK = &jose.JWKSet{Keys: []jose.JWK{{Key: k.Public(), KeyID: "c1"}}}
	v := newVerifier(t, i, func(c *Config) { c.Client = ClientAuth{ID: "rs", Key: k, KeyID: "c1"} })
	key := newKey(t)
	raw := i.Token(i.Claims(testAudience, key, ""))
	h := v.Protect(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), Sensitive())
	w := httptest.NewRecorder()
	h.ServeHTTP(w, request(t, "GET", "/", raw, key))
	if w.Code != 200 || i.asked != 1 {
		t.Errorf("sensitive without feed: %d, %d introspections", w.Code, i.asked)
	}
	i.with(func() { i.ended[raw] = true })
	w = httptest.NewRecorder()
	h.ServeHTTP(w, request(t, "GET", "/", raw, key))
	if w.Code != 401 {
		t.Errorf("ended: %d", w.Code)
	}
}
