package countersign

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/jose"
)

// api is a resource server whose answers a test scripts; it is a real one, with
// the real verifier, unless answer says otherwise.
type api struct {
	*httptest.Server
	mu     sync.Mutex
	seen   []*http.Request
	bodies []string
	answer func(n int, w http.ResponseWriter, r *http.Request) bool // true: answered
	next   http.Handler
}

func newAPI(t *testing.T) *api {
	a := &api{}
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		a.mu.Lock()
		n := len(a.seen)
		a.seen = append(a.seen, r)
		a.bodies = append(a.bodies, string(body))
		answer, next := a.answer, a.next
		a.mu.Unlock()
		if answer != nil && answer(n, w, r) {
			return
		}
		if next != nil {
			next.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(a.Close)
	return a
}

// challengeWith answers the first request with a challenge, the rest with 200.
func challengeWith(status int, value string, h ...string) func(int, http.ResponseWriter, *http.Request) bool {
	return func(n int, w http.ResponseWriter, _ *http.Request) bool {
		if n > 0 {
			return false
		}
		w.Header().Set("WWW-Authenticate", value)
		for i := 0; i < len(h); i += 2 {
			w.Header().Set(h[i], h[i+1])
		}
		w.WriteHeader(status)
		return true
	}
}

// fixture is a client with a good credential at an issuer and an API.
func fixture(t *testing.T) (*TestIssuer, *api, *Transport, *MemoryStore) {
	t.Helper()
	i, a, key := newIssuer(t), newAPI(t), newKey(t)
	meta, err := Discover(t.Context(), i.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	tc := &TokenClient{Metadata: meta, Auth: ClientAuth{ID: "public"}, Key: key}
	store := NewMemoryStore(Credential{
		AccessToken: i.Token(i.Claims(a.URL, key, "notes:read")), TokenType: "DPoP", RefreshToken: i.NewRefresh(),
		IssuedAt: time.Now(), ExpiresAt: time.Now().Add(5 * time.Minute), Generation: 1,
	})
	return i, a, &Transport{Resource: a.URL, Key: key, Source: NewTokenSource(store, tc.RefreshRenewal(a.URL))}, store
}

func get(t *testing.T, rt http.RoundTripper, method, url string, body io.Reader) (*http.Response, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: rt}).Do(req)
	if err == nil {
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	return resp, err
}

// The transport and the verifier of this package understand each other.
func TestTransportMeetsVerifier(t *testing.T) {
	i, a, tr, _ := fixture(t)
	v := newVerifier(t, i, func(c *Config) { c.Audience, c.DemandNonce = a.URL, true })
	a.next = v.Protect(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, TokenFrom(r.Context()).Subject) }))
	for n := range 5 {
		resp, err := get(t, tr, "POST", a.URL+"/notes?q=1", strings.NewReader("body"))
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("%d: %v %v", n, resp, err)
		}
	}
	if len(a.seen) != 6 {
		t.Errorf("%d requests, want 6: the nonce is asked for once", len(a.seen))
	}
	for n, b := range a.bodies {
		if b != "body" {
			t.Errorf("request %d had body %q", n, b)
		}
	}
	if k := a.seen[0].Header.Get("Idempotency-Key"); k == "" || a.seen[1].Header.Get("Idempotency-Key") != k || a.seen[2].Header.Get("Idempotency-Key") == k {
		t.Error("one Idempotency-Key for one request and its retries")
	}
	if resp, _ := get(t, tr, "GET", a.URL, nil); resp.StatusCode != 200 || a.seen[len(a.seen)-1].Header.Get("Idempotency-Key") != "" {
		t.Error("empty path, or a key where none is needed")
	}
}

func TestTransportRetriesOnce(t *testing.T) {
	always := func(value string, status int) func(int, http.ResponseWriter, *http.Request) bool {
		return func(_ int, w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("WWW-Authenticate", value)
			w.Header().Set("DPoP-Nonce", "n")
			w.WriteHeader(status)
			return true
		}
	}
	for name, tt := range map[string]struct {
		value  string
		status int
		want   int // requests
		steps  int // calls of StepUp
	}{
		"nonce":            {`DPoP error="use_dpop_nonce"`, 401, 2, 0},
		"invalid token":    {`DPoP error="invalid_token"`, 401, 2, 0},
		"step-up":          {`DPoP error="insufficient_user_authentication", acr_values="phr"`, 401, 2, 1},
		"scope":            {`DPoP error="insufficient_scope", scope="a"`, 403, 2, 1},
		"machine":          {`DPoP error="insufficient_scope", client_assurance="m3"`, 403, 1, 0},
		"other scheme":     {`Bearer error="invalid_token"`, 401, 1, 0},
		"unreadable":       {`DPoP error="`, 401, 1, 0},
		"without error":    {`DPoP algs="ES256"`, 401, 1, 0},
		"invalid proof":    {`DPoP error="invalid_dpop_proof"`, 401, 1, 0},
		"not a challenge":  {`DPoP error="invalid_token"`, 500, 1, 0},
		"second challenge": {`Bearer realm="x", DPoP error="invalid_token"`, 401, 2, 0},
	} {
		t.Run(name, func(t *testing.T) {
			i, a, tr, store := fixture(t)
			steps := 0
			tr.StepUp = func(ctx context.Context, c Challenge) error {
				steps++
				if c.Method != "GET" || c.URL != a.URL+"/x" {
					t.Errorf("challenge %+v", c)
				}
				_, err := store.Update(ctx, func(cur Credential) (Credential, error) {
					cur.AccessToken, cur.Generation = i.Token(i.Claims(a.URL, tr.Key, "a")), cur.Generation+1
					return cur, nil
				})
				return err
			}
			a.answer = always(tt.value, tt.status)
			resp, err := get(t, tr, "GET", a.URL+"/x", nil)
			if err != nil || resp.StatusCode != tt.status {
				t.Fatalf("%v, %v", resp, err)
			}
			if len(a.seen) != tt.want || steps != tt.steps {
				t.Errorf("%d requests and %d prompts, want %d and %d", len(a.seen), steps, tt.want, tt.steps)
			}
		})
	}
}

func TestTransportStepUp(t *testing.T) {
	const ask = `DPoP error="insufficient_user_authentication", acr_values="phr phrh", max_age="300", scope="keys:rotate"`
	i, a, tr, store := fixture(t)
	a.answer = challengeWith(401, ask, "Countersign-Ref", "7F3A9C")
	var got Challenge
	refused := errors.New("not today")
	tr.StepUp = func(_ context.Context, c Challenge) error { got = c; return refused }
	_, err := get(t, tr, "POST", a.URL+"/keys/rotate", strings.NewReader("x"))
	var su *StepUpError
	if !errors.As(err, &su) || !errors.Is(err, refused) || got.Ref != "7F3A9C" || got.MaxAge != 5*time.Minute || len(got.ACRValues) != 2 || got.Scope[0] != "keys:rotate" {
		t.Fatalf("refused by the person: %v, %+v", err, got)
	}
	if len(a.seen) != 1 {
		t.Errorf("%d requests", len(a.seen))
	}

	// Many requests, one prompt; all go through with what it brought.
	a.seen = nil
	elevated := i.Token(i.Claims(a.URL, tr.Key, "keys:rotate"))
	a.answer = func(_ int, w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.Header.Get("Authorization"), elevated) {
			return false
		}
		w.Header().Set("WWW-Authenticate", ask)
		w.WriteHeader(401)
		return true
	}
	var prompts atomic.Int32
	tr.StepUp = func(ctx context.Context, _ Challenge) error {
		prompts.Add(1)
		time.Sleep(50 * time.Millisecond)
		_, err := store.Update(ctx, func(cur Credential) (Credential, error) {
			cur.AccessToken, cur.Generation, cur.IssuedAt = elevated, cur.Generation+1, time.Now()
			return cur, nil
		})
		return err
	}
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if resp, err := get(t, tr, "POST", a.URL+"/keys/rotate", strings.NewReader("x")); err != nil || resp.StatusCode != 200 {
				t.Errorf("%v %v", resp, err)
			}
		})
	}
	wg.Wait()
	if prompts.Load() != 1 {
		t.Errorf("%d prompts", prompts.Load())
	}
}

func TestTransportKeepsTheTokenHome(t *testing.T) {
	_, a, tr, _ := fixture(t)
	other := newAPI(t)
	a.answer = func(n int, w http.ResponseWriter, r *http.Request) bool {
		http.Redirect(w, r, other.URL+"/steal", http.StatusTemporaryRedirect)
		return true
	}
	if resp, err := get(t, tr, "POST", a.URL+"/x", strings.NewReader("x")); err != nil || resp.StatusCode != 200 {
		t.Fatal(resp, err)
	}
	if h := other.seen[0].Header; h.Get("Authorization") != "" || h.Get("DPoP") != "" {
		t.Error("the token went to another host")
	}
	if a.seen[0].Header.Get("Authorization") == "" {
		t.Error("positive control: no token at home")
	}
	u := func(s string) *url.URL { return must(url.Parse(s)) }
	for _, tt := range []struct {
		resource, to string
		want         bool
	}{
		{"https://a.example/api", "https://a.example/api", true},
		{"https://a.example/api/", "https://A.example:443/api/x", true},
		{"https://a.example/api", "https://a.example/apis", false},
		{"https://a.example/api", "https://a.example/api/../x", false},
		{"https://a.example/api", "https://a.example/api/%2e%2e/x", false},
		{"https://a.example", "https://a.example/any", true},
		{"https://a.example", "http://a.example/any", false},
		{"https://a.example", "https://a.example:8443/any", false},
		{"https://a.example", "https://a.example.evil/any", false},
	} {
		if got, err := (&Transport{Resource: tt.resource}).covers(u(tt.to)); got != tt.want || err != nil {
			t.Errorf("%s at %s: %v, %v", tt.resource, tt.to, got, err)
		}
	}
	for _, bad := range []string{"", "http://a.example", "a.example", "ftp://a.example"} {
		if _, err := (&Transport{Resource: bad}).covers(u("https://a.example/")); err == nil {
			t.Errorf("resource %q accepted", bad)
		}
	}
}

func TestTransportWithoutBodyAgain(t *testing.T) {
	_, a, tr, _ := fixture(t)
	a.answer = challengeWith(401, `DPoP error="use_dpop_nonce"`, "DPoP-Nonce", "n")
	resp, err := get(t, tr, "POST", a.URL+"/x", io.MultiReader(strings.NewReader("once")))
	if err != nil || resp.StatusCode != 401 || len(a.seen) != 1 {
		t.Fatalf("a body that cannot be sent again was: %v %v, %d requests", resp, err, len(a.seen))
	}
	if resp, _ = get(t, tr, "POST", a.URL+"/x", io.MultiReader(strings.NewReader("once"))); resp.StatusCode != 200 || a.bodies[1] != "once" {
		t.Error("the nonce was not remembered")
	}
}

func TestRenewOnceForMany(t *testing.T) {
	i, a, tr, store := fixture(t)
	v := newVerifier(t, i, func(c *Config) { c.Audience = a.URL })
	a.next = v.Protect(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	store.cred.IssuedAt, store.cred.ExpiresAt = time.Now().Add(-time.Hour), time.Now().Add(-time.Minute)
	i.slow = 30 * time.Millisecond
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			if resp, err := get(t, tr, "GET", a.URL+"/x", nil); err != nil || resp.StatusCode != 200 {
				t.Errorf("%v %v", resp, err)
			}
		})
	}
	wg.Wait()
	if i.refreshN != 1 || store.cred.Generation != 2 {
		t.Errorf("%d refreshes, generation %d", i.refreshN, store.cred.Generation)
	}
}

func TestRenewAtFourFifths(t *testing.T) {
	start := time.Now()
	c := Credential{AccessToken: "x", IssuedAt: start, ExpiresAt: start.Add(100 * time.Second)}
	for _, last := range "aZ09_-" {
		c.AccessToken = "x" + string(last)
		if c.due(start.Add(74 * time.Second)) {
			t.Errorf("%c: due at 74 %%", last)
		}
		if !c.due(start.Add(80*time.Second)) || !c.usable(start.Add(98*time.Second)) || c.usable(start.Add(99*time.Second)) {
			t.Errorf("%c: wrong at the end", last)
		}
	}
}

func TestGoodTokenOutlivesAFailedRenewal(t *testing.T) {
	i, a, tr, store := fixture(t)
	store.cred.IssuedAt = time.Now().Add(-time.Hour) // long past 80 %
	i.with(func() { i.down = true })
	if resp, err := get(t, tr, "GET", a.URL+"/x", nil); err != nil || resp.StatusCode != 200 {
		t.Fatalf("%v %v", resp, err)
	}
	if store.cred.RefreshToken == "" {
		t.Error("a fault of the server cost the refresh token")
	}
	store.cred.ExpiresAt = time.Now().Add(-time.Second)
	tr.Source.Reload(t.Context())
	if _, err := get(t, tr, "GET", a.URL+"/x", nil); err == nil || errors.Is(err, ErrLoginRequired) {
		t.Errorf("expired, and the server is down: %v", err)
	}
	i.with(func() { i.down = false })
	if resp, err := get(t, tr, "GET", a.URL+"/x", nil); err != nil || resp.StatusCode != 200 {
		t.Errorf("the server is back: %v %v", resp, err)
	}
}

// racy is a store that another process, which does not lock, writes to while we
// renew.
type racy struct {
	*MemoryStore
	other Credential
}

func (r *racy) Update(ctx context.Context, change func(Credential) (Credential, error)) (Credential, error) {
	next, err := r.MemoryStore.Update(ctx, change)
	if err != nil {
		r.mu.Lock()
		r.cred = r.other
		r.mu.Unlock()
	}
	return next, err
}

func TestInvalidGrantLooksOnceMore(t *testing.T) {
	i, a, tr, store := fixture(t)
	store.cred.RefreshToken, store.cred.ExpiresAt = "spent by the other process", time.Now().Add(-time.Minute)
	other := Credential{
		AccessToken: i.Token(i.Claims(a.URL, tr.Key, "")), TokenType: "DPoP", RefreshToken: i.NewRefresh(),
		IssuedAt: time.Now(), ExpiresAt: time.Now().Add(time.Minute), Generation: 2,
	}
	tr.Source.store = &racy{store, other}
	if resp, err := get(t, tr, "GET", a.URL+"/x", nil); err != nil || resp.StatusCode != 200 {
		t.Fatalf("%v %v", resp, err)
	}
	if store.cred.AccessToken != other.AccessToken {
		t.Error("the newer credential was overwritten")
	}

	i, a, tr, store = fixture(t)
	store.cred.RefreshToken, store.cred.ExpiresAt = "dead", time.Now().Add(-time.Minute)
	for range 3 {
		if _, err := get(t, tr, "GET", a.URL+"/x", nil); !errors.Is(err, ErrLoginRequired) {
			t.Fatalf("a dead refresh token: %v", err)
		}
	}
	if i.refreshN != 1 || store.cred.RefreshToken != "dead" {
		t.Errorf("%d tries; stored %q", i.refreshN, store.cred.RefreshToken)
	}
}

func TestRenewalSurvivesItsCaller(t *testing.T) {
	i, a, tr, store := fixture(t)
	store.cred.ExpiresAt = time.Now().Add(-time.Minute)
	i.slow = time.Second
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := tr.Source.Credential(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	if _, err := tr.Source.Credential(t.Context()); err != nil || i.refreshN != 1 {
		t.Errorf("%v after %d refreshes of %s", err, i.refreshN, a.URL)
	}
}

func TestRevokedTokenIsRenewed(t *testing.T) {
	i, a, tr, _ := fixture(t)
	a.answer = challengeWith(401, `DPoP error="invalid_token"`)
	if resp, err := get(t, tr, "GET", a.URL+"/x", nil); err != nil || resp.StatusCode != 200 || i.refreshN != 1 {
		t.Fatalf("%v %v, %d refreshes", resp, err, i.refreshN)
	}
	if a.seen[0].Header.Get("Authorization") == a.seen[1].Header.Get("Authorization") {
		t.Error("the same token again")
	}
}

func TestNoCredential(t *testing.T) {
	_, a, tr, _ := fixture(t)
	tr.Source = NewTokenSource(&MemoryStore{}, tr.Source.renew)
	if _, err := get(t, tr, "GET", a.URL+"/x", nil); !errors.Is(err, ErrLoginRequired) {
		t.Errorf("got %v", err)
	}
	i, _, _, _ := fixture(t)
	tr.Source = NewTokenSource(NewMemoryStore(Credential{AccessToken: i.Token(i.Claims(a.URL, nil, "")), TokenType: "Bearer", IssuedAt: time.Now().Add(-time.Hour), ExpiresAt: time.Now().Add(time.Minute)}), nil)
	if resp, err := get(t, tr, "GET", a.URL+"/x", nil); err != nil || resp.StatusCode != 200 || !strings.HasPrefix(a.seen[0].Header.Get("Authorization"), "Bearer ") {
		t.Errorf("a bare token: %v %v", resp, err)
	}
}

func TestTokenClient(t *testing.T) {
	i := newIssuer(t)
	i.nonce, i.scope = "nonce-1", "notes:read"
	meta := must(Discover(t.Context(), i.URL, nil))
	c := &TokenClient{Metadata: meta, Auth: ClientAuth{ID: "rs", Secret: "s3cret"}, Key: newKey(t)}
	cred, err := c.AuthorizationCode(t.Context(), CodeRequest{Code: "code1", RedirectURI: "http://127.0.0.1/cb", Verifier: "verifier1", Resource: testAudience})
	if err != nil || cred.TokenType != "DPoP" || cred.RefreshToken == "" || cred.Scope != "notes:read" || time.Until(cred.ExpiresAt) < 290*time.Second {
		t.Fatalf("code: %v %v", cred, err)
	}
	if len(i.forms) != 2 || i.forms[1].Get("redirect_uri") != "http://127.0.0.1/cb" {
		t.Errorf("%d requests: a nonce is supplied once", len(i.forms))
	}
	next, err := c.Refresh(t.Context(), cred.RefreshToken, testAudience, "notes:read")
	if err != nil || next.RefreshToken == cred.RefreshToken || len(i.forms) != 3 {
		t.Errorf("refresh: %v %v", next, err)
	}
	_, err = c.Refresh(t.Context(), cred.RefreshToken, "")
	var re *ResponseError
	if !IsCode(err, "invalid_grant") || !errors.As(err, &re) || re.Status != 400 || re.Ref != "ABCDEF" || re.Description == "" {
		t.Errorf("spent: %v", err)
	}
	if err := c.Revoke(t.Context(), "x", "refresh_token"); err != nil || !i.ended["x"] {
		t.Errorf("revoke: %v", err)
	}
	i.nonce = ""
	bearer := &TokenClient{Metadata: meta, Auth: c.Auth}
	if cred, err := bearer.ClientCredentials(t.Context(), testAudience); err != nil || cred.TokenType != "Bearer" {
		t.Errorf("bearer: %v", err)
	}
	lie := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		reply(w, 200, map[string]any{"access_token": "x", "token_type": "Bearer", "expires_in": 5})
	}))
	defer lie.Close()
	m := *meta
	m.TokenEndpoint = lie.URL
	if _, err := (&TokenClient{Metadata: &m, Auth: c.Auth, Key: c.Key}).ClientCredentials(t.Context(), ""); err == nil {
		t.Error("took a bearer token for a bound one")
	}
	odd := ClientAuth{ID: "a b:c", Secret: "p%ü:&"}
	h := http.Header{}
	if err := odd.apply(url.Values{}, h, i.URL, time.Now()); err != nil {
		t.Fatal(err)
	}
	id, secret, ok := (&http.Request{Header: h}).BasicAuth()
	if !ok || must(url.QueryUnescape(id)) != odd.ID || must(url.QueryUnescape(secret)) != odd.Secret {
		t.Errorf("basic: %q %q", id, secret)
	}
}

func TestDiscoverRefuses(t *testing.T) {
	doc := Metadata{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/.well-known/oauth-authorization-server/redirect" {
			http.Redirect(w, r, "/.well-known/oauth-authorization-server", http.StatusFound)
			return
		}
		reply(w, 200, doc)
	}))
	defer srv.Close()
	good := Metadata{Issuer: srv.URL, TokenEndpoint: srv.URL + "/t", JWKSURI: srv.URL + "/k"}
	for name, f := range map[string]func(*Metadata){
		"other issuer":   func(m *Metadata) { m.Issuer = "https://other.example" },
		"slash":          func(m *Metadata) { m.Issuer += "/" },
		"no token":       func(m *Metadata) { m.TokenEndpoint = "" },
		"plain http":     func(m *Metadata) { m.JWKSURI = "http://id.example.com/k" },
		"introspection":  func(m *Metadata) { m.IntrospectionEndpoint = "http://id.example.com/i" },
		"another scheme": func(m *Metadata) { m.RevocationEndpoint = "file:///etc/passwd" },
	} {
		doc = good
		f(&doc)
		if _, err := Discover(t.Context(), srv.URL, nil); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	doc = good
	if _, err := Discover(t.Context(), srv.URL, nil); err != nil {
		t.Errorf("the good one: %v", err)
	}
	doc.Issuer = srv.URL + "/redirect"
	if _, err := Discover(t.Context(), doc.Issuer, nil); err == nil {
		t.Error("followed a redirect")
	}
}

func TestDPoPKeyIsKept(t *testing.T) {
	k := newKey(t)
	pem := must(k.Marshal())
	again, err := ParseDPoPKey(pem)
	if err != nil || again.Thumbprint() != k.Thumbprint() {
		t.Fatalf("%v", err)
	}
	p, err := jose.VerifyDPoP(must(again.Proof("GET", "https://a.example/x?q#f", "tok", "n")), jose.DPoPWant{Method: "GET", URL: "https://a.example/x", AccessToken: "tok", Now: time.Now()})
	if err != nil || p.JKT != k.Thumbprint() || p.Nonce != "n" {
		t.Errorf("%+v %v", p, err)
	}
	for _, bad := range []string{"", "x", string(pem[:60]), string(pem) + string(pem), strings.Replace(string(pem), "PRIVATE", "PUBLIC", 2)} {
		if k, err := ParseDPoPKey([]byte(bad)); err == nil || k != nil {
			t.Errorf("read %q", bad)
		}
	}
}

// TestRefusedForNow: an invalid_grant that says that the grant stands is no end: the
// token is tried again later, but not with each call that needs it; what would do is read
// of it, and only of it.
func TestRefusedForNow(t *testing.T) {
	i := newIssuer(t)
	c := &TokenClient{Metadata: must(Discover(t.Context(), i.URL, nil)), Auth: ClientAuth{ID: "rs", Secret: "s3cret"}, Key: newKey(t)}
	source := NewTokenSource(NewMemoryStore(Credential{RefreshToken: i.NewRefresh()}), c.RefreshRenewal(""))
	now := time.Now()
	source.now = func() time.Time { return now }
	for name, tc := range map[string]struct {
		answer any
		stands bool
		acr    string
		age    time.Duration
		review string
	}{
		"asked for": {map[string]any{"error": "invalid_grant", "grant_stands": true, "acr_values": "phr phrh", "max_age": 900}, true, "phr phrh", 15 * time.Minute, ""},
		"any age":   {map[string]any{"error": "invalid_grant", "grant_stands": true, "acr_values": "phr"}, true, "phr", 0, ""},
		"looked at": {map[string]any{"error": "invalid_grant", "grant_stands": true, "review": "rvw_1"}, true, "", 0, "rvw_1"},
		"mistyped":  {map[string]any{"error": "invalid_grant", "grant_stands": true, "acr_values": 7}, true, "", 0, ""},
		"not said":  {map[string]any{"error": "slow_down", "grant_stands": "true", "acr_values": "phr", "review": "rvw_1"}, false, "", 0, ""},
	} {
		i.notNow = tc.answer
		_, err := source.Credential(t.Context())
		var re *ResponseError
		if !errors.As(err, &re) || errors.Is(err, ErrLoginRequired) {
			t.Fatalf("%s: %v", name, err)
		}
		acr, age := "", time.Duration(0)
		if re.Challenge != nil {
			acr, age = strings.Join(re.Challenge.ACRValues, " "), re.Challenge.MaxAge
		}
		if re.Stands != tc.stands || acr != tc.acr || age != tc.age || re.Review != tc.review {
			t.Errorf("%s: %+v, challenge %+v", name, re, re.Challenge)
		}
		asked := i.refreshN
		if _, again := source.Credential(t.Context()); tc.stands && (i.refreshN != asked || again == nil || again.Error() != err.Error()) {
			t.Errorf("%s: asked again at once, and told %v", name, again)
		}
		now = now.Add(refusedFor)
	}
	i.notNow = nil
	if _, err := source.Credential(t.Context()); err != nil {
		t.Errorf("once it is not refused any more: %v", err)
	}
	i.notNow = map[string]any{"error": "invalid_grant"}
	source = NewTokenSource(NewMemoryStore(Credential{RefreshToken: i.NewRefresh()}), c.RefreshRenewal(""))
	_, err := source.Credential(t.Context())
	i.notNow = nil
	if _, again := source.Credential(t.Context()); !errors.Is(err, ErrLoginRequired) || !errors.Is(again, ErrLoginRequired) {
		t.Errorf("a grant that ended: %v, and again %v", err, again)
	}
}
