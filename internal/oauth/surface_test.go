package oauth

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/keyring"
	"github.com/countersign-dev/countersign/internal/secret"
)

func TestMetadataIsOneDocument(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	a, b := r.get("/.well-known/oauth-authorization-server"), r.get("/.well-known/openid-configuration")
	if a.body != b.body || a.status != 200 || a.header.Get("Content-Type") != "application/json" || a.header.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("%d %v", a.status, a.header)
	}
	m := a.json(t)
	if m["issuer"] != issuer || m["authorization_response_iss_parameter_supported"] != true {
		t.Errorf("%v", m)
	}
	for _, s := range m["scopes_supported"].([]any) {
		if s == "offline_access" {
			t.Error("offline_access is advertised")
		}
	}
	if types := m["grant_types_supported"].([]any); len(types) != len(grants) {
		t.Errorf("%v", types)
	}
	// Every endpoint that is named is there.
	for name, v := range m {
		if path, is := strings.CutPrefix(asString(v), issuer); is && (strings.HasSuffix(name, "_endpoint") || name == "jwks_uri") {
			if a := r.get(path); a.status == http.StatusNotFound {
				t.Errorf("%s is at %s, where nothing is", name, path)
			}
		}
	}
	for _, tag := range []string{a.header.Get("ETag"), "*", `"x", ` + a.header.Get("ETag")} {
		if c := r.get("/.well-known/openid-configuration", with("If-None-Match", tag)); c.status != 304 || c.body != "" {
			t.Errorf("%s: %d", tag, c.status)
		}
	}
	if c := r.get("/.well-known/openid-configuration", with("If-None-Match", `"x"`)); c.status != 200 {
		t.Error(c.status)
	}
	for _, path := range []string{"/.well-known/oauth-authorization-server/x", "/.well-known/x", "/x/.well-known/openid-configuration", "/oauth/x", "/oauth/"} {
		for _, method := range []string{"GET", "POST", "HEAD"} {
			a := r.send(0, method, path, "", nil)
			if strings.HasPrefix(path, "/x/") {
				continue // the other mux's
			}
			if a.status != 404 || a.header.Get("Content-Type") != "application/json" || method != "HEAD" && !json.Valid([]byte(a.body)) {
				t.Errorf("%s %s: %d %s", method, path, a.status, a.body)
			}
		}
	}
}

func asString(v any) string { s, _ := v.(string); return s }

func TestJWKS(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	a := r.get("/oauth/jwks")
	set := got(jose.ParseJWKSet([]byte(a.body)))(t)
	tok := r.granted(r.app)
	got(jose.VerifyAccessToken(tok.AccessToken, set, jose.AccessTokenWant{Issuer: issuer, AnyAudience: true, Now: r.clock.now()}))(t)
	got(jose.VerifyIDToken(tok.IDToken, set, jose.IDTokenWant{Issuer: issuer, ClientID: "app", Now: r.clock.now()}))(t)
	for _, member := range []string{`"d"`, `"p"`, `"q"`, `"k"`} {
		if strings.Contains(a.body, member+":") {
			t.Errorf("the JWKS has the private member %s", member)
		}
	}
	if c := r.get("/oauth/jwks", with("If-None-Match", a.header.Get("ETag"))); c.status != 304 {
		t.Error(c.status)
	}
	// A successor is published before it signs, with another tag.
	ring := r.nodes[0].server.Keys.(*keyring.Ring)
	add, retire, err := ring.Rotation(keyring.Token, "ES256")
	ok(t, err)
	r.do(audit.KeyPublished, add, retire[0])
	ok(t, ring.Reload(t.Context()))
	b := r.get("/oauth/jwks", with("If-None-Match", a.header.Get("ETag")))
	if b.status != 200 || !strings.Contains(b.body, add.ID) {
		t.Errorf("%d: the successor is not published", b.status)
	}
	if c := r.granted(r.app); strings.Contains(decodeHeader(t, c.AccessToken), add.ID) {
		t.Error("it signs at once")
	}
	r.clock.move(keyring.CacheLifetime)
	if c := r.granted(r.app); !strings.Contains(decodeHeader(t, c.AccessToken), add.ID) {
		t.Error("it does not sign")
	}
	if !r.active(tok.AccessToken) && tok.ExpiresIn > int64(keyring.CacheLifetime/time.Second) {
		t.Error("the old key verifies nothing")
	}
}

func decodeHeader(t *testing.T, token string) string {
	t.Helper()
	return keyID(token)
}

func TestCORS(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	origin := with("Origin", "https://spa.example")
	for _, path := range []string{"/.well-known/oauth-authorization-server", "/.well-known/openid-configuration", "/oauth/jwks", "/oauth/token", "/oauth/revoke", "/oauth/userinfo", "/.well-known/nothing"} {
		a := r.send(0, "OPTIONS", path, "", nil, origin, with("Access-Control-Request-Method", "POST"))
		allowed := a.header.Get("Access-Control-Allow-Headers")
		if a.status != 204 || a.header.Get("Access-Control-Allow-Origin") != "*" || a.header.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("%s: %d %v", path, a.status, a.header)
		}
		for _, h := range []string{"Authorization", "DPoP", "MCP-Protocol-Version", "Content-Type"} {
			if !strings.Contains(allowed, h) {
				t.Errorf("%s: %s is not allowed", path, h)
			}
		}
	}
	for name, a := range map[string]answer{
		"an error":   r.post("/oauth/token", form("grant_type", "x"), origin),
		"a 401":      r.get("/oauth/userinfo", origin),
		"revocation": r.post("/oauth/revoke", form("client_id", "app", "token", "x"), origin),
	} {
		if e := a.header.Get("Access-Control-Expose-Headers"); a.header.Get("Access-Control-Allow-Origin") != "*" || !strings.Contains(e, "DPoP-Nonce") || !strings.Contains(e, "WWW-Authenticate") {
			t.Errorf("%s: %v", name, a.header)
		}
	}
	// What answers in the place of an endpoint, because the server is busy, says the same of it.
	for _, path := range []string{"/oauth/token", "/oauth/par", "/oauth/revoke", "/oauth/userinfo", "/oauth/register", devicePath, backchannelPath, "/oauth/introspect"} {
		if a := r.post(path, form("x", "y"), origin); Shared(path) != (a.header.Get("Access-Control-Allow-Origin") == "*") {
			t.Errorf("%s: %d %v, shared: %v", path, a.status, a.header, Shared(path))
		}
	}
	if a := r.authorize(r.request(r.app), origin, in(r.ses)); a.header.Get("Access-Control-Allow-Origin") != "" {
		t.Error("the authorization endpoint lets scripts read")
	}
	if a := r.post("/oauth/introspect", form("token", "x"), r.auth(r.rs), origin); a.header.Get("Access-Control-Allow-Origin") != "" {
		t.Error("introspection lets scripts read")
	}
}

// Nothing that anybody holds, or sends by mistake, is in the log.
func TestSecretsAreNeverLogged(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	p := r.prover()
	canary := []string{r.webSecret, r.svcSecret, r.rsSecret, r.verifier}
	code := r.code(r.web, "state", "state-canary", "nonce", "nonce-canary")
	canary = append(canary, "state-canary", "nonce-canary", code)
	f := r.redemption(r.web, code)
	tok := r.tokens(p.post("/oauth/token", f, r.auth(r.web)))
	canary = append(canary, tok.AccessToken, tok.RefreshToken, tok.IDToken)
	_, ref := r.authorize(r.request(r.web, "state", "other-canary")).page(t)
	canary = append(canary, ref, "other-canary")
	wrong := secret.New(secret.ClientSecret).Reveal()
	made := secret.New(secret.Code).Reveal()
	assertion := r.assertion(func(c *jose.ClientAssertionClaims) { c.Audience = jose.Audience{"https://jti-canary.example"} })
	proof := p.make("GET", "/oauth/token", "")
	canary = append(canary, wrong, made, assertion, proof, "body-canary", "dup-canary", "utf-canary", "verifier-canary", "scope-canary-value")
	r.post("/oauth/token", f, r.auth(r.web)) // reuse
	r.post("/oauth/token", f, basic("web:1", wrong))
	r.post("/oauth/token", change(f, "code", made), r.auth(r.web))
	r.post("/oauth/token", change(f, "code_verifier", "verifier-canary-"+strings.Repeat("x", 40)), r.auth(r.web))
	r.post("/oauth/token", form("grant_type", "client_credentials", "client_assertion_type", assertionType, "client_assertion", assertion))
	r.post("/oauth/token", form("grant_type", "refresh_token", "refresh_token", tok.RefreshToken), r.auth(r.web), with("DPoP", proof))
	r.send(0, "POST", "/oauth/token", formType, strings.NewReader("client_secret=dup-canary&client_secret=dup-canary"))
	r.send(0, "POST", "/oauth/token", formType, strings.NewReader("client_secret=utf-canary%ff"))
	r.send(0, "POST", "/oauth/token", "application/json", strings.NewReader(`{"client_secret":"body-canary"}`))
	r.get("/oauth/token?client_secret=body-canary")
	r.get("/oauth/continue?tx=body-canary")
	r.get("/oauth/userinfo", with("Authorization", "Bearer body-canary"))
	r.get("/oauth/userinfo", with("Authorization", "Basic body-canary"))
	r.get("/oauth/userinfo?access_token=body-canary")
	r.post("/oauth/introspect", form("token", tok.AccessToken), r.auth(r.rs))
	r.post("/oauth/revoke", form("token", tok.RefreshToken), r.auth(r.web))
	r.authorize(r.request(r.web, "id_token_hint", tok.IDToken, "prompt", "none"), in(r.ses))
	log := r.log.String()
	if !strings.Contains(log, "route=\"POST /oauth/token\"") || !strings.Contains(log, "client=web:1") {
		t.Fatal("the log has no lines of these requests")
	}
	for _, c := range canary {
		if strings.Contains(log, c) {
			t.Errorf("%.12s… is in the log", c)
		}
	}
}
