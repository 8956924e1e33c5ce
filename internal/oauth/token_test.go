package oauth

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/keyring"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/resource"
	"github.com/countersign-dev/countersign/internal/secret"
)

// expect holds an answer against status and error code; 200 has no code.
func (r *rig) expect(name string, status int, code string, a answer) {
	r.Helper()
	if a.status != status || a.code() != code {
		r.Errorf("%s: %d %s, want %d %s", name, a.status, a.body, status, code)
	}
}

func TestClientAuthentication(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	cc := form("grant_type", "client_credentials")
	wrong := secret.New(secret.ClientSecret).Reveal()
	body := func(f url.Values, pairs ...string) url.Values { return change(f, pairs...) }
	signed := func(edit func(*jose.ClientAssertionClaims)) url.Values {
		return body(cc, "resource", r.notes.URI, "client_assertion_type", assertionType, "client_assertion", r.assertion(edit))
	}
	for name, c := range map[string]struct {
		status int
		code   string
		a      answer
	}{
		"body":                          {200, "", r.post("/oauth/token", body(cc, "client_id", "nightly", "client_secret", r.svcSecret))},
		"basic":                         {200, "", r.post("/oauth/token", cc, basic("nightly", r.svcSecret))},
		"basic and the id again":        {200, "", r.post("/oauth/token", body(cc, "client_id", "nightly"), basic("nightly", r.svcSecret))},
		"nobody":                        {401, "invalid_client", r.post("/oauth/token", cc)},
		"unknown":                       {401, "invalid_client", r.post("/oauth/token", body(cc, "client_id", "nobody", "client_secret", r.svcSecret))},
		"wrong secret":                  {401, "invalid_client", r.post("/oauth/token", body(cc, "client_id", "nightly", "client_secret", wrong))},
		"wrong secret, basic":           {401, "invalid_client", r.post("/oauth/token", cc, basic("nightly", wrong))},
		"no secret":                     {401, "invalid_client", r.post("/oauth/token", body(cc, "client_id", "nightly"))},
		"empty secret, basic":           {401, "invalid_client", r.post("/oauth/token", cc, basic("nightly", ""))},
		"another's secret":              {401, "invalid_client", r.post("/oauth/token", cc, basic("nightly", r.webSecret))},
		"another id in the body":        {401, "invalid_client", r.post("/oauth/token", body(cc, "client_id", "web:1"), basic("nightly", r.svcSecret))},
		"two methods":                   {400, "invalid_request", r.post("/oauth/token", body(cc, "client_secret", r.svcSecret), basic("nightly", r.svcSecret))},
		"a secret and an assertion":     {400, "invalid_request", r.post("/oauth/token", body(signed(func(*jose.ClientAssertionClaims) {}), "client_id", "jwt", "client_secret", r.svcSecret))},
		"two headers":                   {400, "invalid_request", r.post("/oauth/token", cc, basic("nightly", r.svcSecret), with("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("web:x"))))},
		"another scheme":                {401, "invalid_client", r.post("/oauth/token", cc, with("Authorization", "Bearer x"))},
		"malformed basic":               {401, "invalid_client", r.post("/oauth/token", cc, with("Authorization", "Basic !!!"))},
		"credentials in the query":      {401, "invalid_client", r.post("/oauth/token?client_id=nightly&client_secret="+r.svcSecret, cc)},
		"a secret of a public client":   {401, "invalid_client", r.post("/oauth/token", form("grant_type", "refresh_token", "client_id", "app", "client_secret", "x"))},
		"public, basic, empty password": {400, "invalid_request", r.post("/oauth/token", form("grant_type", "refresh_token"), basic("app", ""))}, // no refresh_token: it got in
		"assertion":                     {200, "", r.post("/oauth/token", signed(func(*jose.ClientAssertionClaims) {}))},
		"assertion and its id":          {200, "", r.post("/oauth/token", body(signed(func(*jose.ClientAssertionClaims) {}), "client_id", "jwt"))},
		"assertion, another id":         {401, "invalid_client", r.post("/oauth/token", body(signed(func(*jose.ClientAssertionClaims) {}), "client_id", "nightly"))},
		"assertion without its type":    {401, "invalid_client", r.post("/oauth/token", body(signed(func(*jose.ClientAssertionClaims) {}), "client_assertion_type", ""))},
		"assertion, SAML":               {401, "invalid_client", r.post("/oauth/token", body(signed(func(*jose.ClientAssertionClaims) {}), "client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:saml2-bearer"))},
		"audience: the endpoint":        {401, "invalid_client", r.post("/oauth/token", signed(func(c *jose.ClientAssertionClaims) { c.Audience = jose.Audience{issuer + "/oauth/token"} }))},
		"audience: a list":              {401, "invalid_client", r.post("/oauth/token", signed(func(c *jose.ClientAssertionClaims) { c.Audience = jose.Audience{issuer, "https://other.example"} }))},
		"expired":                       {401, "invalid_client", r.post("/oauth/token", signed(func(c *jose.ClientAssertionClaims) { c.ExpiresAt = jose.Date(r.clock.now().Add(-time.Second)) }))},
		"lives too long":                {401, "invalid_client", r.post("/oauth/token", signed(func(c *jose.ClientAssertionClaims) { c.ExpiresAt = jose.Date(r.clock.now().Add(time.Hour)) }))},
		"by another":                    {401, "invalid_client", r.post("/oauth/token", signed(func(c *jose.ClientAssertionClaims) { c.Issuer = "app" }))},
		"for another":                   {401, "invalid_client", r.post("/oauth/token", signed(func(c *jose.ClientAssertionClaims) { c.Subject = "nightly" }))},
		"unsigned":                      {401, "invalid_client", r.post("/oauth/token", body(cc, "client_assertion_type", assertionType, "client_assertion", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJqd3QifQ."))},
	} {
		r.expect(name, c.status, c.code, c.a)
		if c.a.status == 401 && strings.Contains(name, "basic") && !strings.HasPrefix(c.a.header.Get("WWW-Authenticate"), "Basic ") {
			t.Errorf("%s: WWW-Authenticate %q", name, c.a.header.Get("WWW-Authenticate"))
		}
		if c.a.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: may be stored", name)
		}
	}
	once := signed(func(*jose.ClientAssertionClaims) {})
	r.expect("once", 200, "", r.post("/oauth/token", once))
	r.expect("an assertion used again", 401, "invalid_client", r.post("/oauth/token", once))
	spent := r.assertion(func(*jose.ClientAssertionClaims) {})
	at := form("token", "x", "client_assertion_type", assertionType, "client_assertion", spent)
	r.expect("introspection with it", 200, "", r.post("/oauth/introspect", at))
	r.expect("again there", 401, "invalid_client", r.post("/oauth/introspect", at))
	r.expect("and here", 401, "invalid_client", r.post("/oauth/revoke", at))
	// Ids and secrets come raw and percent-encoded.
	code := r.redemption(r.web, r.code(r.web))
	r.expect("raw", 200, "", r.post("/oauth/token", code, basic("web:1", r.webSecret), func(q *http.Request) {
		q.SetBasicAuth("web%3A1", r.webSecret) // a colon cannot come raw
	}))
}

// Two secrets work while they overlap, each at every endpoint; the earlier one ends
// at its time, or at once when it is retired, whatever was remembered.
func TestTwoSecrets(t *testing.T) {
	t.Parallel()
	engines(t, 1, func(r *rig) {
		cc := form("grant_type", "client_credentials")
		try := func(text string) answer { return r.post("/oauth/token", cc, basic("nightly", text)) }
		first, second := r.svcSecret, secret.New(secret.ClientSecret)
		r.expect("the only one", 200, "", try(first))
		until := r.clock.now().Add(time.Hour)
		r.do(audit.ClientSecretAdded, client.RotateSecret{ID: r.svc.ID, SecretHash: second.Hash(), EarlierUntil: until})
		for name, text := range map[string]string{"the earlier": first, "the newest": second.Reveal()} {
			r.expect(name, 200, "", try(text))
			r.expect(name+", introspection", 200, "", r.post("/oauth/introspect", form("token", "x"), basic("nightly", text)))
			r.expect(name+", revocation", 200, "", r.post("/oauth/revoke", form("token", "x"), basic("nightly", text)))
		}
		r.expect("neither", 401, "invalid_client", try(secret.New(secret.ClientSecret).Reveal()))
		r.expect("none", 401, "invalid_client", try(""))
		r.clock.move(time.Hour - time.Microsecond)
		r.expect("the earlier, the last moment", 200, "", try(first))
		r.clock.move(time.Microsecond)
		r.expect("the earlier, past its time", 401, "invalid_client", try(first))
		r.expect("the newest, then", 200, "", try(second.Reveal()))

		third := secret.New(secret.ClientSecret)
		r.do(audit.ClientSecretAdded, client.RotateSecret{ID: r.svc.ID, SecretHash: third.Hash(), EarlierUntil: r.clock.now().Add(time.Hour)})
		r.expect("the earlier", 200, "", try(second.Reveal()))
		// Retired amid its use: from the moment that is done, it opens nothing.
		var wg sync.WaitGroup
		var retired atomic.Bool
		for range 4 {
			wg.Go(func() {
				for range 25 {
					late := retired.Load()
					if a := try(second.Reveal()); late && a.status != 401 {
						r.Errorf("a retired secret is answered %d %s", a.status, a.body)
					}
				}
			})
		}
		r.do(audit.ClientSecretRetired, client.RetireSecret{ID: r.svc.ID, Hash: second.Hash()})
		retired.Store(true)
		wg.Wait()
		r.expect("the retired one", 401, "invalid_client", try(second.Reveal()))
		r.expect("the newest", 200, "", try(third.Reveal()))
	})
}

func TestTokenRequestsAreExact(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	me := r.auth(r.svc)
	good := form("grant_type", "client_credentials")
	raw := func(typ, body string, opts ...option) answer {
		return r.send(0, "POST", "/oauth/token", typ, strings.NewReader(body), append(opts, me)...)
	}
	gone := resource.Resource{ID: id.New(id.Resource), URI: "https://gone.example", Name: "Gone"}
	r.do(audit.ResourceCreated, resource.Create{Resource: gone})
	r.end(gone.ID)
	for name, c := range map[string]struct {
		status int
		code   string
		a      answer
	}{
		"good":                   {200, "", r.post("/oauth/token", good, me)},
		"no grant type":          {400, "invalid_request", r.post("/oauth/token", form("scope", "x"), me)},
		"password":               {400, "unsupported_grant_type", r.post("/oauth/token", form("grant_type", "password"), me)},
		"not registered for it":  {400, "unauthorized_client", r.post("/oauth/token", form("grant_type", "refresh_token", "refresh_token", "x"), me)},
		"a person's app":         {400, "unauthorized_client", r.post("/oauth/token", good, r.auth(r.web))},
		"two grant types":        {400, "invalid_request", raw(formType, "grant_type=client_credentials&grant_type=client_credentials")},
		"two scopes":             {400, "invalid_request", raw(formType, "grant_type=client_credentials&scope=a&scope=b")},
		"two resources":          {400, "invalid_target", raw(formType, "grant_type=client_credentials&resource=https%3A%2F%2Fa.example&resource=https%3A%2F%2Fb.example")},
		"JSON":                   {400, "invalid_request", raw("application/json", `{"grant_type":"client_credentials"}`)},
		"no type":                {400, "invalid_request", raw("", "grant_type=client_credentials")},
		"charset":                {200, "", raw(formType+"; charset=UTF-8", "grant_type=client_credentials")},
		"another charset":        {400, "invalid_request", raw(formType+"; charset=utf-16", "grant_type=client_credentials")},
		"NUL":                    {400, "invalid_request", raw(formType, "grant_type=client_credentials&x=%00")},
		"invalid UTF-8":          {400, "invalid_request", raw(formType, "grant_type=client_credentials&x=%ff")},
		"oversize":               {400, "invalid_request", raw(formType, "grant_type=client_credentials&x="+strings.Repeat("x", 64<<10))},
		"unknown parameter":      {200, "", raw(formType, "grant_type=client_credentials&x=y&x2=")},
		"empty is absent":        {200, "", raw(formType, "grant_type=client_credentials&scope=&resource=")},
		"bad scope":              {400, "invalid_scope", r.post("/oauth/token", change(good, "scope", "notes:read\x7f"), me)},
		"unregistered scope":     {400, "invalid_scope", r.post("/oauth/token", change(good, "scope", "vault:open"), me)},
		"identity scope":         {400, "invalid_scope", r.post("/oauth/token", change(good, "scope", "openid"), me)},
		"a person's scope":       {400, "invalid_scope", r.post("/oauth/token", change(good, "scope", "keys:rotate"), me)},
		"narrower":               {200, "", r.post("/oauth/token", change(good, "scope", "notes:read"), me)},
		"unknown resource":       {400, "invalid_target", r.post("/oauth/token", change(good, "resource", "https://nowhere.example"), me)},
		"foreign resource":       {400, "invalid_target", r.post("/oauth/token", change(good, "resource", r.foreign.URI), me)},
		"ended resource":         {400, "invalid_target", r.post("/oauth/token", change(good, "resource", "https://gone.example"), me)},
		"which resource":         {400, "invalid_target", r.post("/oauth/token", r.asserted(change(good, "resource", r.bound.URI)))},
		"resource with a slash":  {200, "", r.post("/oauth/token", change(good, "resource", r.notes.URI+"/"), me)},
		"GET":                    {405, "invalid_request", r.get("/oauth/token?grant_type=client_credentials", me)},
		"many scopes":            {400, "invalid_scope", r.post("/oauth/token", change(good, "scope", manyScopes()), me)},
		"code without a code":    {400, "invalid_request", r.post("/oauth/token", form("grant_type", "authorization_code", "client_id", "app"))},
		"refresh without one":    {400, "invalid_request", r.post("/oauth/token", form("grant_type", "refresh_token", "client_id", "app"))},
		"an access token as one": {400, "invalid_grant", r.refresh(r.app, "eyJ.e30.x")},
	} {
		r.expect(name, c.status, c.code, c.a)
	}
	a := r.post("/oauth/token", change(good, "resource", r.notes.URI+"/"), me)
	if c := r.claims(r.tokens(a).AccessToken); c.Audience[0] != r.notes.URI {
		t.Errorf("audience %v is not the registered spelling", c.Audience)
	}
}

func manyScopes() string {
	var s []string
	for i := range 65 {
		s = append(s, "s"+strings.Repeat("x", i))
	}
	return strings.Join(s, " ")
}

func TestCodesAreBound(t *testing.T) {
	t.Parallel()
	engines(t, 1, func(r *rig) {
		code := r.code(r.app)
		good := r.redemption(r.app, code)
		r.expect("unknown code", 400, "invalid_grant", r.post("/oauth/token", change(good, "code", secret.New(secret.Code).Reveal())))
		r.expect("another kind", 400, "invalid_grant", r.post("/oauth/token", change(good, "code", secret.New(secret.Session).Reveal())))
		// What fails before the binding step, or only narrows wrongly, counts nothing.
		for range 6 {
			r.expect("no client", 401, "invalid_client", r.post("/oauth/token", change(good, "client_id", "")))
			r.expect("unknown client", 401, "invalid_client", r.post("/oauth/token", change(good, "client_id", "nobody")))
			r.expect("wrong secret", 401, "invalid_client", r.post("/oauth/token", change(good, "client_id", ""), basic("web:1", "x")))
			r.expect("no nonce", 400, "use_dpop_nonce", r.post("/oauth/token", good, with("DPoP", r.prover().make("POST", "/oauth/token", ""))))
			r.expect("wrong resource", 400, "invalid_target", r.post("/oauth/token", change(good, "resource", r.foreign.URI)))
			r.expect("resource not granted", 400, "invalid_target", r.post("/oauth/token", change(good, "resource", r.bound.URI)))
			r.expect("wider scope", 400, "invalid_scope", r.post("/oauth/token", change(good, "scope", "notes:read notes:write")))
		}
		for name, f := range map[string]url.Values{
			"another client": change(good, "client_id", "third"),
			"no verifier":    change(good, "code_verifier", ""),
			"wrong verifier": change(good, "code_verifier", strings.Repeat("w", 43)),
			"the challenge":  change(good, "code_verifier", r.verifierDigest),
			"wrong redirect": change(good, "redirect_uri", "http://127.0.0.1:1/cb"),
		} {
			if name == "wrong redirect" {
				continue // the fifth would burn it
			}
			r.expect(name, 400, "invalid_grant", r.post("/oauth/token", f))
		}
		r.expect("the right one", 200, "", r.post("/oauth/token", change(good, "redirect_uri", "http://127.0.0.1:49152/cb")))

		// Five failures of the binding step burn it (D16).
		good = r.redemption(r.app, r.code(r.app))
		for range 5 {
			r.expect("wrong redirect", 400, "invalid_grant", r.post("/oauth/token", change(good, "redirect_uri", "http://127.0.0.1:1/cb")))
		}
		r.expect("burnt", 400, "invalid_grant", r.post("/oauth/token", good))

		// The edge of its life.
		good = r.redemption(r.app, r.code(r.app))
		r.clock.move(grant.CodeLifetime - time.Microsecond)
		r.expect("the last moment", 200, "", r.post("/oauth/token", good))
		good = r.redemption(r.app, r.code(r.app))
		r.clock.move(grant.CodeLifetime)
		r.expect("too late", 400, "invalid_grant", r.post("/oauth/token", good))
	})
}

func TestCodeReuse(t *testing.T) {
	t.Parallel()
	engines(t, 1, func(r *rig) {
		good := r.redemption(r.app, r.code(r.app))
		tok := r.tokens(r.post("/oauth/token", good))
		r.expect("at once", 400, "invalid_grant", r.post("/oauth/token", good))
		r.clock.move(grant.ReuseGrace)
		r.expect("ten seconds later", 400, "invalid_grant", r.post("/oauth/token", good))
		if !r.active(tok.AccessToken) {
			r.Fatal("reuse within ten seconds ended what the code issued")
		}
		r.clock.move(time.Minute)
		r.expect("later, without the verifier", 400, "invalid_grant", r.post("/oauth/token", change(good, "code_verifier", strings.Repeat("w", 43))))
		r.expect("later, by another client", 400, "invalid_grant", r.post("/oauth/token", change(good, "client_id", "third")))
		r.expect("later, unauthenticated", 401, "invalid_client", r.post("/oauth/token", change(good, "client_id", "")))
		if !r.active(tok.AccessToken) {
			r.Fatal("a leaked code is a way to log people out")
		}
		r.expect("later, all checks passed", 400, "invalid_grant", r.post("/oauth/token", good))
		if r.active(tok.AccessToken) {
			r.Error("what the code issued survives its reuse")
		}
		r.expect("its refresh token", 400, "invalid_grant", r.refresh(r.app, tok.RefreshToken))
		r.granted(r.app) // the session goes on
	})
}

func TestDPoP(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	p := r.prover()
	// A key named in the authorization request is needed at redemption.
	f := r.redemption(r.app, r.code(r.app, "dpop_jkt", p.jkt()))
	r.expect("without the key", 400, "invalid_grant", r.post("/oauth/token", f))
	r.expect("with another", 400, "invalid_grant", r.prover().post("/oauth/token", f))
	tok := r.tokens(p.post("/oauth/token", f))
	if tok.TokenType != "DPoP" || r.claims(tok.AccessToken).Confirmation.JKT != p.jkt() {
		t.Errorf("%+v", tok)
	}
	refresh := form("grant_type", "refresh_token", "client_id", "app", "refresh_token", tok.RefreshToken)
	r.expect("refresh without the key", 400, "invalid_grant", r.post("/oauth/token", refresh))
	r.expect("refresh with another", 400, "invalid_grant", r.prover().post("/oauth/token", refresh))
	tok = r.tokens(p.post("/oauth/token", refresh))

	refresh.Set("refresh_token", tok.RefreshToken)
	proof := p.make("POST", "/oauth/token", "")
	first := r.post("/oauth/token", refresh, with("DPoP", proof))
	r.expect("a proof", 200, "", first)
	if first.header.Get("DPoP-Nonce") == "" {
		t.Error("a success brings no nonce")
	}
	r.expect("the same proof again", 400, "invalid_dpop_proof", r.post("/oauth/token", refresh, with("DPoP", proof)))
	for name, opts := range map[string][]option{
		"two proofs":     {with("DPoP", p.make("POST", "/oauth/token", "")), with("DPoP", p.make("POST", "/oauth/token", ""))},
		"another method": {with("DPoP", p.make("GET", "/oauth/token", ""))},
		"another path":   {with("DPoP", p.make("POST", "/oauth/revoke", ""))},
		"no JWT":         {with("DPoP", "x")},
		"empty":          {with("DPoP", "")},
	} {
		r.expect(name, 400, "invalid_dpop_proof", r.post("/oauth/token", refresh, opts...))
	}
	old := p.make("POST", "/oauth/token", "")
	r.clock.move(proofWindow + time.Second)
	r.expect("an old proof", 400, "invalid_dpop_proof", r.post("/oauth/token", refresh, with("DPoP", old)))
	r.expect("an old nonce", 400, "use_dpop_nonce", r.post("/oauth/token", refresh, with("DPoP", p.make("POST", "/oauth/token", ""))))
	r.expect("and with the new one", 200, "", p.post("/oauth/token", form("grant_type", "refresh_token", "client_id", "app", "refresh_token", r.tokens(first).RefreshToken)))

	// Confidential clients' refresh tokens are bound to their authentication.
	w := r.redemption(r.web, r.code(r.web))
	tok = r.tokens(p.post("/oauth/token", w, r.auth(r.web)))
	r.expect("confidential, another key", 200, "", r.prover().post("/oauth/token", form("grant_type", "refresh_token", "refresh_token", tok.RefreshToken), r.auth(r.web)))

	// Where a key is demanded.
	r.expect("the client's", 400, "invalid_dpop_proof", r.post("/oauth/token", r.redemption(r.first, r.code(r.first))))
	f = r.redemption(r.app, r.code(r.app, "scope", "bound:read", "resource", r.bound.URI))
	r.expect("the resource's", 400, "invalid_dpop_proof", r.post("/oauth/token", f))
	r.expect("with one", 200, "", p.post("/oauth/token", f))
}

func TestIntrospection(t *testing.T) {
	t.Parallel()
	engines(t, 1, func(r *rig) {
		tok := r.granted(r.app)
		ask := func(token string, opts ...option) answer {
			return r.post("/oauth/introspect", form("token", token), opts...)
		}
		a := ask(tok.AccessToken, r.auth(r.rs))
		m, c := a.json(r), r.claims(tok.AccessToken)
		if m["active"] != true || m["sub"] != c.Subject || m["aud"] != r.notes.URI || m["token_type"] != "Bearer" || m["acr"] != "phr" || m["jti"] != c.JTI || len(m["lin"].([]any)) != len(c.Lineage) {
			r.Errorf("%s", a.body)
		}
		foreign := r.tokens(r.post("/oauth/token", form("grant_type", "refresh_token", "client_id", "app", "refresh_token", tok.RefreshToken)))
		identity := r.granted(r.app, "scope", "openid", "resource", "")
		for name, a := range map[string]answer{
			"unknown": ask("x", r.auth(r.rs)), "cut": ask(tok.AccessToken[:len(tok.AccessToken)*8/10], r.auth(r.rs)),
			"another audience": ask(identity.AccessToken, r.auth(r.rs)), "another client asks": ask(tok.AccessToken, r.auth(r.web)),
			"a refresh token": ask(foreign.RefreshToken, r.auth(r.rs)), "an ID token": ask(tok.IDToken, r.auth(r.rs)),
			"a longer one": ask(tok.AccessToken+"A", r.auth(r.rs)),
		} {
			if a.status != 200 || a.body != "{\"active\":false}\n" {
				r.Errorf("%s: %d %s", name, a.status, a.body)
			}
		}
		// Rows that were remembered, on the caller's side: its registration, the
		// resource it serves, its secret, itself.
		less := r.notes
		less.Servers = nil
		r.do(audit.ResourceUpdated, resource.Update{Resource: less})
		if r.active(tok.AccessToken) {
			r.Error("told to who is no enforcement point any more")
		}
		r.do(audit.ResourceUpdated, resource.Update{Resource: r.notes})
		if !r.active(tok.AccessToken) {
			r.Error("not told to who is one again")
		}
		next := secret.New(secret.ClientSecret)
		r.do(audit.ClientSecretRotated, client.RotateSecret{ID: r.rs.ID, SecretHash: next.Hash()})
		r.expect("the old secret", 401, "invalid_client", ask(tok.AccessToken, r.auth(r.rs)))
		r.rsSecret = next.Reveal()
		r.freeze(r.notes.ID)
		if r.active(tok.AccessToken) {
			r.Error("active at a resource that is frozen")
		}
		r.do(audit.ResourceUpdated, lineage.Thaw{ID: r.notes.ID})
		r.freeze(r.rs.ID)
		r.expect("a frozen enforcement point", 401, "invalid_client", ask(tok.AccessToken, r.auth(r.rs)))
		r.do(audit.ClientEnabled, lineage.Thaw{ID: r.rs.ID})
		r.expect("a service of one who was suspended", 200, "", r.post("/oauth/introspect", form("token", "x"), r.auth(r.svc)))
		r.freeze(r.other.ID)
		r.expect("a service of one who was suspended", 401, "invalid_client", r.post("/oauth/introspect", form("token", "x"), r.auth(r.svc)))
		r.do(audit.PersonEnabled, lineage.Thaw{ID: r.other.ID})
		r.expect("nobody asks", 401, "invalid_client", ask(tok.AccessToken))
		r.expect("a public client asks", 401, "invalid_client", r.post("/oauth/introspect", form("token", tok.AccessToken, "client_id", "app")))
		r.expect("about nothing", 400, "invalid_request", ask("", r.auth(r.rs)))
		r.clock.move(5*time.Minute - time.Second)
		if !r.active(tok.AccessToken) {
			r.Error("inactive before its end")
		}
		r.clock.move(time.Second)
		if r.active(tok.AccessToken) {
			r.Error("active after its end")
		}
	})
}

// A key that was withdrawn verifies nothing, whatever was seen before.
func TestWithdrawnKey(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	tok := r.granted(r.app)
	if !r.active(tok.AccessToken) {
		t.Fatal("inactive")
	}
	ring := r.nodes[0].server.Keys.(*keyring.Ring)
	for _, k := range ring.List() {
		if k.Purpose == keyring.Token {
			r.do(audit.KeyRetired, keyring.Withdraw{ID: k.ID, At: r.clock.now()})
		}
	}
	ok(t, ring.Reload(t.Context()))
	if r.active(tok.AccessToken) {
		t.Error("active under a withdrawn key")
	}
}

func TestRevocation(t *testing.T) {
	t.Parallel()
	engines(t, 1, func(r *rig) {
		tok, other := r.granted(r.app), r.granted(r.web)
		revoke := func(token string, pairs ...string) answer {
			return r.post("/oauth/revoke", change(form("token", token, "client_id", "app"), pairs...))
		}
		r.expect("another's refresh token", 200, "", revoke(other.RefreshToken))
		r.expect("another's access token", 200, "", revoke(other.AccessToken))
		r.expect("unknown", 200, "", revoke("x"))
		r.expect("nothing", 400, "invalid_request", revoke(""))
		r.expect("nobody", 401, "invalid_client", revoke(tok.RefreshToken, "client_id", ""))
		if !r.active(tok.AccessToken) || !r.active(other.AccessToken) {
			r.Fatal("ended what is not the caller's")
		}
		r.expect("a wrong hint", 200, "", revoke(tok.RefreshToken, "token_type_hint", "access_token"))
		if r.active(tok.AccessToken) {
			r.Error("the access token survives its grant")
		}
		r.expect("refresh", 400, "invalid_grant", r.refresh(r.app, tok.RefreshToken))
		r.expect("again", 200, "", revoke(tok.RefreshToken))
		r.expect("by access token", 200, "", r.post("/oauth/revoke", form("token", other.AccessToken), r.auth(r.web)))
		r.expect("refresh", 400, "invalid_grant", r.refresh(r.web, other.RefreshToken))
		m := r.tokens(r.post("/oauth/token", form("grant_type", "client_credentials"), r.auth(r.svc)))
		r.expect("a machine's", 400, "unsupported_token_type", r.post("/oauth/revoke", form("token", m.AccessToken), r.auth(r.svc)))
	})
}

func TestUserinfo(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	p := r.prover()
	tok := r.granted(r.app, "scope", "openid profile email notes:read")
	bearer := func(s string) option { return with("Authorization", "Bearer "+s) }
	a := r.get("/oauth/userinfo", bearer(tok.AccessToken))
	m := a.json(t)
	if a.status != 200 || m["sub"] != r.person.Subject || m["name"] != "Dana Lind" || m["preferred_username"] != "dana" || m["email"] != "dana@example.com" || m["email_verified"] != false {
		t.Errorf("%d %s", a.status, a.body)
	}
	little := r.granted(r.app, "scope", "openid")
	if m := r.post("/oauth/userinfo", form(), bearer(little.AccessToken)).json(t); len(m) != 1 {
		t.Errorf("%v", m)
	}
	none := r.granted(r.app, "scope", "notes:read")
	bound := r.tokens(p.post("/oauth/token", r.redemption(r.app, r.code(r.app))))
	machine := r.tokens(r.post("/oauth/token", form("grant_type", "client_credentials"), r.auth(r.svc)))
	for name, c := range map[string]struct {
		status int
		line   string
		a      answer
	}{
		"nothing":          {401, `DPoP algs=`, r.get("/oauth/userinfo")},
		"basic":            {401, `DPoP algs=`, r.get("/oauth/userinfo", basic("a", "b"))},
		"in the query":     {401, `DPoP algs=`, r.get("/oauth/userinfo?access_token=" + tok.AccessToken)},
		"two":              {400, `Bearer error="invalid_request"`, r.get("/oauth/userinfo", bearer(tok.AccessToken), bearer(tok.AccessToken))},
		"empty":            {400, `Bearer error="invalid_request"`, r.get("/oauth/userinfo", with("Authorization", "Bearer"))},
		"unknown":          {401, `Bearer error="invalid_token"`, r.get("/oauth/userinfo", bearer("x"))},
		"an ID token":      {401, `Bearer error="invalid_token"`, r.get("/oauth/userinfo", bearer(tok.IDToken))},
		"without openid":   {403, `Bearer error="insufficient_scope", scope="openid"`, r.get("/oauth/userinfo", bearer(none.AccessToken))},
		"a machine":        {403, `Bearer error="insufficient_scope", scope="openid"`, r.get("/oauth/userinfo", bearer(machine.AccessToken))},
		"bound as Bearer":  {401, `Bearer error="invalid_token"`, r.get("/oauth/userinfo", bearer(bound.AccessToken))},
		"unbound as DPoP":  {401, `DPoP error="invalid_token"`, r.get("/oauth/userinfo", with("Authorization", "DPoP "+tok.AccessToken))},
		"bound, no proof":  {401, `DPoP error="invalid_dpop_proof"`, r.get("/oauth/userinfo", with("Authorization", "DPoP "+bound.AccessToken))},
		"another key":      {401, `DPoP error="invalid_token"`, r.prover().send("GET", "/oauth/userinfo", form(), bound.AccessToken, with("Authorization", "DPoP "+bound.AccessToken))},
		"without its hash": {401, `DPoP error="invalid_dpop_proof"`, r.get("/oauth/userinfo", with("Authorization", "DPoP "+bound.AccessToken), with("DPoP", p.make("GET", "/oauth/userinfo", "")))},
		"without a nonce":  {401, `DPoP error="use_dpop_nonce"`, r.get("/oauth/userinfo", with("Authorization", "DPoP "+bound.AccessToken), with("DPoP", (&prover{r: r, key: p.key}).make("GET", "/oauth/userinfo", bound.AccessToken)))},
	} {
		if line := c.a.header.Get("WWW-Authenticate"); c.a.status != c.status || !strings.HasPrefix(line, c.line) {
			t.Errorf("%s: %d %q", name, c.a.status, line)
		}
	}
	if a := p.send("GET", "/oauth/userinfo", form(), bound.AccessToken, with("Authorization", "dpop "+bound.AccessToken)); a.status != 200 {
		t.Errorf("bound: %d %s", a.status, a.body)
	}
	proof := p.make("GET", "/oauth/userinfo", bound.AccessToken)
	opts := []option{with("Authorization", "DPoP "+bound.AccessToken), with("DPoP", proof)}
	if a := r.get("/oauth/userinfo", opts...); a.status != 200 {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := r.get("/oauth/userinfo", opts...); a.status != 401 || !strings.Contains(a.header.Get("WWW-Authenticate"), "invalid_dpop_proof") {
		t.Errorf("a proof works twice: %d", a.status)
	}
	r.end(r.ses)
	if a := r.get("/oauth/userinfo", bearer(tok.AccessToken)); a.status != 401 {
		t.Errorf("after the session: %d", a.status)
	}
}

// Userinfo remembers rows, and still tells what is so now, on this node or
// another, by a token of a code or of a refresh.
func TestUserinfoTellsWhatIsNow(t *testing.T) {
	t.Parallel()
	engines(t, 2, func(r *rig) {
		first := r.granted(r.app, "scope", "openid profile offline_access notes:read")
		second := r.tokens(r.refresh(r.app, first.RefreshToken))
		ask := func(n int, token string) answer {
			return r.send(n, "GET", "/oauth/userinfo", "", nil, with("Authorization", "Bearer "+token))
		}
		each := func(check func(name string, a answer)) {
			for n := range r.nodes {
				for by, token := range map[string]string{"code": first.AccessToken, "refresh": second.AccessToken} {
					check("by "+by+" on node "+strconv.Itoa(n), ask(n, token))
				}
			}
		}
		named := func(want string) {
			r.Helper()
			each(func(name string, a answer) {
				if got := a.json(r)["name"]; a.status != 200 || got != want {
					r.Errorf("%s: %d %v, not %s", name, a.status, got, want)
				}
			})
		}
		named("Dana Lind")
		named("Dana Lind") // from memory
		now := "Dana Oak"
		r.do(audit.PersonUpdated, account.Update{ID: r.person.ID, Name: &now})
		named(now)
		c := r.app
		c.UserInfoAlg = "ES256"
		r.do(audit.ClientUpdated, client.Update{Client: c})
		each(func(name string, a answer) {
			if a.status != 200 || a.header.Get("Content-Type") != "application/jwt" {
				r.Errorf("%s is not signed: %d %s", name, a.status, a.body)
			}
		})
		r.freeze(r.app.ID)
		each(func(name string, a answer) { r.expect(name, 401, "", a) })
	})
}

// A row that was remembered never lets anything through that has changed, on
// this node or another.
func TestRememberedRows(t *testing.T) {
	t.Parallel()
	engines(t, 2, func(r *rig) {
		at := func(n int, f url.Values, opts ...option) answer {
			return r.send(n, "POST", "/oauth/token", formType, strings.NewReader(f.Encode()), opts...)
		}
		cc := form("grant_type", "client_credentials")
		warm := func() {
			for n := range r.nodes {
				r.expect("warm", 200, "", at(n, cc, r.auth(r.svc)))
			}
		}
		warm()
		old := r.svcSecret
		next := secret.New(secret.ClientSecret)
		r.do(audit.ClientSecretRotated, client.RotateSecret{ID: r.svc.ID, SecretHash: next.Hash()})
		for n := range r.nodes {
			r.expect("the old secret", 401, "invalid_client", at(n, cc, basic("nightly", old)))
			r.expect("the new secret", 200, "", at(n, cc, basic("nightly", next.Reveal())))
		}
		r.svcSecret = next.Reveal()
		warm()
		h := next.Hash()
		less := r.svc
		less.SecretHash, less.Scopes = &h, []string{"notes:read"}
		r.do(audit.ClientUpdated, client.Update{Client: less})
		for n := range r.nodes {
			a := at(n, cc, r.auth(r.svc))
			if r.tokens(a).Scope != "notes:read" {
				r.Errorf("node %d still gives %s", n, a.body)
			}
			r.expect("a scope taken away", 400, "invalid_scope", at(n, change(cc, "scope", "notes:write"), r.auth(r.svc)))
		}
		less.Scopes = r.svc.Scopes
		r.do(audit.ClientUpdated, client.Update{Client: less})
		for n := range r.nodes {
			r.expect("a scope given back", 200, "", at(n, change(cc, "scope", "notes:write"), r.auth(r.svc)))
		}
		r.freeze(r.svc.ID)
		for n := range r.nodes {
			r.expect("frozen", 401, "invalid_client", at(n, cc, r.auth(r.svc)))
		}
	})
}
