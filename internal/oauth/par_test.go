package oauth

import (
	"crypto/rand"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/jose"
)

// pushed pushes a request and gives its request_uri.
func (r *rig) pushed(c client.Client, f url.Values, opts ...option) string {
	r.Helper()
	a := r.push(c, f, opts...)
	m := a.json(r)
	uri, _ := m["request_uri"].(string)
	if a.status != http.StatusCreated || !strings.HasPrefix(uri, pushedPrefix) || m["expires_in"] != 90.0 || a.header.Get("Cache-Control") != "no-store" {
		r.Fatalf("not pushed: %d %s %v", a.status, a.body, a.header)
	}
	return uri
}

func (r *rig) push(c client.Client, f url.Values, opts ...option) answer {
	r.Helper()
	if c.ID == r.jwt.ID {
		f = r.asserted(f)
	}
	return r.post("/oauth/par", f, append(opts, r.auth(c))...)
}

// bring sends the browser with a request_uri.
func (r *rig) bring(c client.Client, uri string, opts ...option) answer {
	return r.authorize(form("client_id", c.ClientID, "request_uri", uri), opts...)
}

// set changes what a client is registered with.
func (r *rig) set(c client.Client, edit func(*client.Client)) client.Client {
	r.Helper()
	edit(&c)
	r.do(audit.ClientUpdated, client.Update{Client: c})
	return c
}

func TestPushedRequest(t *testing.T) {
	t.Parallel()
	engines(t, 2, func(r *rig) {
		for _, c := range []client.Client{r.app, r.web, r.jwt} {
			uri := r.pushed(c, r.request(c, "nonce", "n"))
			// The signed-out browser signs in first; a reload is the same request.
			for range 2 {
				if name, _ := r.bring(c, uri).page(r); name != "sign_in" {
					r.Errorf("%s: %s", c.ClientID, name)
				}
			}
			// What is beside it does not count.
			a := r.authorize(change(form("client_id", c.ClientID, "request_uri", uri), "redirect_uri", "https://evil.example", "scope", "vault:open", "state", "evil"), in(r.ses))
			code := r.redirected(a, c.RedirectURIs[0][:8], "s t&ate=%").Get("code")
			f := r.redemption(c, code)
			if c.ID == r.jwt.ID {
				f = r.asserted(f)
			}
			tok := r.tokens(r.post("/oauth/token", f, r.auth(c)))
			if tok.Scope != "openid notes:read" || r.idToken(tok.IDToken, c.ClientID).Nonce != "n" {
				r.Errorf("%s: %+v", c.ClientID, tok)
			}
			// Answered, it is used up, on every node.
			for n := range r.nodes {
				if a := r.send(n, "GET", "/oauth/authorize?"+form("client_id", c.ClientID, "request_uri", uri).Encode(), "", nil, in(r.ses)); a.status != 400 || a.body != "page: invalid_request_uri" {
					r.Errorf("%s again at node %d: %d %s", c.ClientID, n, a.status, a.body)
				}
			}
		}
	})
}

// TestPushedRace: many browsers bring one pushed request at once; one of them
// gets a code.
func TestPushedRace(t *testing.T) {
	t.Parallel()
	engines(t, 2, func(r *rig) {
		uri := r.pushed(r.web, r.request(r.web))
		var mu sync.Mutex
		codes := 0
		var wg sync.WaitGroup
		for i := range 32 {
			wg.Go(func() {
				a := r.send(i%2, "GET", "/oauth/authorize?"+form("client_id", r.web.ClientID, "request_uri", uri).Encode(), "", nil, in(r.ses), with(headerBrowser, rand.Text()))
				if strings.Contains(a.header.Get("Location"), "code=") {
					mu.Lock()
					codes++
					mu.Unlock()
				} else if a.body != "page: interaction_done" && a.body != "page: invalid_request_uri" {
					r.Errorf("%d %s %s", a.status, a.header.Get("Location"), a.body)
				}
			})
		}
		wg.Wait()
		if codes != 1 {
			r.Errorf("%d codes", codes)
		}
	})
}

func TestPushedErrorsAreExact(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	good := r.request(r.web)
	for name, c := range map[string]struct {
		f      url.Values
		opts   []option
		status int
		code   string
	}{
		"no client":           {change(good, "client_id", ""), nil, 401, "invalid_client"},
		"wrong secret":        {good, []option{basic(url.QueryEscape(r.web.ClientID), "x")}, 401, "invalid_client"},
		"another's id":        {change(good, "client_id", "app"), []option{r.auth(r.web)}, 401, "invalid_client"},
		"request_uri":         {change(good, "request_uri", pushedPrefix+"x"), []option{r.auth(r.web)}, 400, "invalid_request"},
		"redirect":            {change(good, "redirect_uri", "https://evil.example/cb"), []option{r.auth(r.web)}, 400, "invalid_request"},
		"no PKCE":             {change(good, "code_challenge", ""), []option{r.auth(r.web)}, 400, "invalid_request"},
		"scope":               {change(good, "scope", "notes:burn"), []option{r.auth(r.web)}, 400, "invalid_scope"},
		"resource":            {change(good, "resource", "https://nowhere.example"), []option{r.auth(r.web)}, 400, "invalid_target"},
		"response type":       {change(good, "response_type", "token"), []option{r.auth(r.web)}, 400, "unsupported_response_type"},
		"state":               {change(good, "state", strings.Repeat("s", 4<<10+1)), []option{r.auth(r.web)}, 400, "invalid_request"},
		"cannot sign in":      {change(r.request(r.web), "client_id", r.svc.ClientID), []option{r.auth(r.svc)}, 400, "invalid_request"},
		"a request object":    {change(good, "request", "e30.e30.e30"), []option{r.auth(r.web)}, 400, "request_not_supported"},
		"a proof that is bad": {good, []option{r.auth(r.web), with("DPoP", "x")}, 400, "invalid_dpop_proof"},
	} {
		if a := r.post("/oauth/par", c.f, c.opts...); a.status != c.status || a.code() != c.code {
			t.Errorf("%s: %d %s, want %d %s", name, a.status, a.body, c.status, c.code)
		}
	}
	if a := r.get("/oauth/par?"+good.Encode(), r.auth(r.web)); a.status != 405 || a.header.Get("Allow") != "POST" {
		t.Errorf("GET: %d %v", a.status, a.header)
	}
	// An assertion is used once, here too.
	f := r.asserted(r.request(r.jwt))
	if a := r.post("/oauth/par", f); a.status != 201 {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := r.post("/oauth/par", f); a.status != 401 || a.code() != "invalid_client" {
		t.Errorf("replayed: %d %s", a.status, a.body)
	}
}

func TestPushedIsBound(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	uri := r.pushed(r.web, r.request(r.web))
	bad := func(why string, a answer) {
		t.Helper()
		if a.status != 400 || a.body != "page: invalid_request_uri" || a.header.Get("Location") != "" {
			t.Errorf("%s: %d %s %s", why, a.status, a.body, a.header.Get("Location"))
		}
	}
	bad("another client", r.bring(r.app, uri, in(r.ses)))
	bad("made up", r.bring(r.web, pushedPrefix+"AAAA", in(r.ses)))
	bad("cut", r.bring(r.web, uri[:len(uri)-4], in(r.ses)))
	bad("another spelling", r.bring(r.web, uri+"=", in(r.ses)))
	_, ref := r.authorize(r.request(r.web)).page(t)
	bad("a login transaction", r.bring(r.web, pushedPrefix+ref, in(r.ses)))
	if a := r.get("/oauth/continue?tx="+strings.TrimPrefix(uri, pushedPrefix), in(r.ses)); a.body != "page: transaction_unknown" {
		t.Errorf("as a login transaction: %d %s", a.status, a.body)
	}
	r.clock.move(PushedLifetime - time.Second)
	if name, _ := r.bring(r.web, uri).page(t); name != "sign_in" {
		t.Error(name)
	}
	r.clock.move(time.Second)
	bad("expired", r.bring(r.web, uri, in(r.ses)))
	// The client is not any more what it was.
	uri = r.pushed(r.web, r.request(r.web))
	r.set(r.web, func(c *client.Client) { c.Scopes = []string{"notes:write"} })
	if a := r.bring(r.web, uri, in(r.ses)); a.body != "page: interaction_outdated" {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// TestPushedKey: a DPoP proof at the push binds the code to its key (RFC 9449
// §10.1).
func TestPushedKey(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	p := r.prover()
	a := p.post("/oauth/par", r.request(r.web, "dpop_jkt", p.jkt()), r.auth(r.web))
	b := p.post("/oauth/par", r.request(r.web), r.auth(r.web))
	if a.status != 201 || b.status != 201 {
		t.Fatalf("%d %s, %d %s", a.status, a.body, b.status, b.body)
	}
	if c := p.post("/oauth/par", r.request(r.web, "dpop_jkt", r.prover().jkt()), r.auth(r.web)); c.code() != "invalid_dpop_proof" {
		t.Errorf("another key: %d %s", c.status, c.body)
	}
	for _, x := range []answer{a, b} {
		code := r.bring(r.web, x.json(t)["request_uri"].(string), in(r.ses)).to(t).Query().Get("code")
		if y := r.post("/oauth/token", r.redemption(r.web, code), r.auth(r.web)); y.code() != "invalid_grant" {
			t.Errorf("without the key: %d %s", y.status, y.body)
		}
		if tok := r.tokens(p.post("/oauth/token", r.redemption(r.web, code), r.auth(r.web))); tok.TokenType != "DPoP" {
			t.Errorf("%+v", tok)
		}
	}
}

func TestRequirePushed(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	c := r.set(r.web, func(c *client.Client) { c.RequirePushed = true })
	q := r.redirected(r.authorize(r.request(c), in(r.ses)), "https://web.example.com/cb", "s t&ate=%")
	if q.Get("error") != "invalid_request" || q.Has("code") {
		t.Error(q)
	}
	if code := r.bring(c, r.pushed(c, r.request(c)), in(r.ses)).to(t).Query().Get("code"); code == "" {
		t.Error("no code for the pushed request")
	}
}

// signedRequest is a request object of the client with keys.
func (r *rig) signedRequest(pairs ...any) string {
	r.Helper()
	c := map[string]any{"iss": "jwt", "aud": issuer, "exp": r.clock.now().Add(time.Minute).Unix(), "nbf": r.clock.now().Unix(), "jti": rand.Text()}
	for k, v := range r.request(r.jwt) {
		c[k] = v[0]
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		if c[pairs[i].(string)] = pairs[i+1]; pairs[i+1] == nil {
			delete(c, pairs[i].(string))
		}
	}
	return got(got(jose.NewSigner(r.jwtKey, "ES256", "k1", jose.TypRequestObject))(r).Sign(c))(r)
}

func TestRequestObject(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	there := "https://jwt.example.com/cb?"
	at := func(object string, outside ...string) answer {
		return r.authorize(change(form("client_id", "jwt", "request", object), outside...), in(r.ses))
	}
	// Only what is inside counts.
	for _, outside := range [][]string{
		nil, {"state", "evil", "scope", "vault:open", "nonce", "evil", "redirect_uri", "https://evil.example", "response_type", "token", "code_challenge", "evil"},
	} {
		q := r.redirected(at(r.signedRequest("nonce", "n"), outside...), there, "s t&ate=%")
		tok := r.tokens(r.post("/oauth/token", r.asserted(r.redemption(r.jwt, q.Get("code")))))
		if tok.Scope != "openid notes:read" || r.idToken(tok.IDToken, "jwt").Nonce != "n" {
			t.Errorf("%v: %+v", outside, tok)
		}
	}
	// state only outside is not used.
	if q := r.redirected(at(r.signedRequest("state", nil), "state", "outside"), there, ""); q.Get("code") == "" {
		t.Error(q)
	}
	// Numbers and repeated resources are read as parameters.
	if q := r.redirected(at(r.signedRequest("max_age", 300, "resource", []string{r.notes.URI})), there, "s t&ate=%"); q.Get("code") == "" {
		t.Error(q)
	}
	outside := []string{"redirect_uri", r.jwt.RedirectURIs[0], "state", "s t&ate=%"}
	tampered := r.signedRequest()
	for name, object := range map[string]string{
		"not a token":      "x",
		"tampered":         tampered[:len(tampered)-8] + "AAAAAAAA",
		"unsigned":         "eyJhbGciOiJub25lIn0." + strings.Split(tampered, ".")[1] + ".",
		"another client's": r.signedRequest("iss", "app"),
		"client_id":        r.signedRequest("client_id", "app"),
		"for another":      r.signedRequest("aud", "https://else.example"),
		"expired":          r.signedRequest("exp", r.clock.now().Add(-time.Minute).Unix()),
		"for too long":     r.signedRequest("exp", r.clock.now().Add(2*time.Hour).Unix()),
		"a nested request": r.signedRequest("request", "x"),
		"a request_uri":    r.signedRequest("request_uri", pushedPrefix+"x"),
		"NUL":              r.signedRequest("nonce", "\x00"),
		"an assertion":     r.assertion(func(*jose.ClientAssertionClaims) {}),
	} {
		if q := r.redirected(at(object, outside...), there, "s t&ate=%"); q.Get("error") != "invalid_request_object" {
			t.Errorf("%s: %v", name, q)
		}
		if a := at(object); a.status != 400 || !strings.HasPrefix(a.body, "page: ") { // nowhere to say so
			if u := a.header.Get("Location"); !strings.HasPrefix(u, there) { // the only one registered
				t.Errorf("%s: %d %s %s", name, a.status, a.body, u)
			}
		}
		if a := r.push(r.jwt, form("request", object)); a.status != 400 || a.code() != "invalid_request_object" {
			t.Errorf("%s, pushed: %d %s", name, a.status, a.body)
		}
	}
	// A request is by value or by reference, never both (RFC 9101 §5).
	for _, uri := range []string{"https://jwt.example.com/request", r.pushed(r.jwt, r.request(r.jwt))} {
		if q := r.redirected(at(r.signedRequest(), append(outside, "request_uri", uri)...), there, "s t&ate=%"); q.Get("error") != "invalid_request" || q.Has("code") {
			t.Errorf("%.60s: %v", uri, q)
		}
	}
	// What is wrong inside is said at the redirect URI inside.
	if q := r.redirected(at(r.signedRequest("scope", "notes:burn")), there, "s t&ate=%"); q.Get("error") != "invalid_scope" {
		t.Error(q)
	}
	if a := at(r.signedRequest("redirect_uri", "https://evil.example/cb")); a.status != 400 || a.body != "page: redirect_invalid" {
		t.Errorf("%d %s", a.status, a.body)
	}
	// Pushed, and from a client that must.
	if code := r.bring(r.jwt, r.pushed(r.jwt, form("request", r.signedRequest())), in(r.ses)).to(t).Query().Get("code"); code == "" {
		t.Error("no code for a pushed request object")
	}
	c := r.set(r.jwt, func(c *client.Client) { c.RequireSigned = true })
	if q := r.redirected(r.authorize(r.request(c), in(r.ses)), there, "s t&ate=%"); q.Get("error") != "invalid_request" {
		t.Error(q)
	}
	if a := r.push(c, r.request(c)); a.code() != "invalid_request" {
		t.Errorf("%d %s", a.status, a.body)
	}
	if q := r.redirected(at(r.signedRequest()), there, "s t&ate=%"); q.Get("code") == "" {
		t.Error(q)
	}
}

func TestFormPost(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	posted := func(a answer) (to string, f url.Values) {
		t.Helper()
		head, body, _ := strings.Cut(a.body, "\n")
		if a.status != 200 || !strings.HasPrefix(head, "post: ") || a.header.Get("Cache-Control") != "no-store" {
			t.Fatalf("not posted: %d %s", a.status, a.body)
		}
		return strings.TrimPrefix(head, "post: "), got(url.ParseQuery(body))(t)
	}
	to, f := posted(r.authorize(r.request(r.web, "response_mode", "form_post"), in(r.ses)))
	if to != r.web.RedirectURIs[0] || f.Get("state") != "s t&ate=%" || f.Get("iss") != issuer || len(f) != 3 {
		t.Errorf("%s %v", to, f)
	}
	r.tokens(r.post("/oauth/token", r.redemption(r.web, f.Get("code")), r.auth(r.web)))
	// Errors and refusals go the same way.
	_, f = posted(r.authorize(r.request(r.web, "response_mode", "form_post", "scope", "notes:burn"), in(r.ses)))
	if f.Get("error") != "invalid_scope" || f.Get("iss") != issuer {
		t.Error(f)
	}
	_, f = posted(r.authorize(r.request(r.web, "response_mode", "form_post", "prompt", "none")))
	if f.Get("error") != "login_required" {
		t.Error(f)
	}
	// Through a pushed request too, and never to an app's own scheme.
	_, f = posted(r.bring(r.web, r.pushed(r.web, r.request(r.web, "response_mode", "form_post")), in(r.ses)))
	if f.Get("code") == "" {
		t.Error(f)
	}
	if q := r.redirected(r.authorize(r.request(r.app, "response_mode", "form_post", "redirect_uri", "com.example.app:/cb"), in(r.ses)), "com.example.app:/cb?", "s t&ate=%"); q.Get("error") != "invalid_request" {
		t.Error(q)
	}
}

// TestPushedMarksEnd: the mark of an answered request is kept as long as anybody
// could bring it, and no longer than needed.
func TestPushedMarksEnd(t *testing.T) {
	t.Parallel()
	in := grant.Interaction{Pushed: "x", Started: start}
	s := spendPushed(in)
	if len(s) != 1 || !s[0].Mark || s[0].Until.Before(start.Add(PushedLifetime+grant.InteractionLifetime)) || spendPushed(grant.Interaction{}) != nil {
		t.Errorf("%+v", s)
	}
}
