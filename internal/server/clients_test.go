package server_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/config"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/resource"
	"github.com/countersign-dev/countersign/internal/secret"
	"github.com/countersign-dev/countersign/internal/server"
	"github.com/countersign-dev/countersign/test/trust/actor"
)

// field is a whole server on a port, with somebody signed in: what clients of
// others find. The twelve tests are the requirements of the design's page on
// clients, by their numbers; what needs a browser is in test/browser.
type field struct {
	*testing.T
	issuer string
	st     *server.State
	dana   *actor.Browser
	ahead  atomic.Int64
	http   *http.Client
}

const (
	theAPI      = "https://notes.example.com"
	theVerifier = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGH"
)

func newField(t *testing.T) *field {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	f := &field{T: t, issuer: fmt.Sprintf("http://localhost:%d", l.Addr().(*net.TCPAddr).Port), http: &http.Client{
		Timeout: time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, Transport: &http.Transport{MaxIdleConnsPerHost: 64},
	}}
	dir := t.TempDir()
	cfg, err := config.Parse(fmt.Appendf(nil, "issuer: %s\nlisten: {address: %q}\ndata_dir: %q\ndevelopment: true\ndatabase: {sqlite: %q}\n", f.issuer, l.Addr(), dir, filepath.Join(dir, "db")), nil)
	ok(t, err)
	f.st, err = server.OpenState(t.Context(), cfg, server.Options{Migrate: true, Now: func() time.Time { return time.Now().Add(time.Duration(f.ahead.Load())) }})
	ok(t, err)
	srv, err := server.New(f.st)
	ok(t, err)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx, server.Listeners{Public: l}) }()
	t.Cleanup(func() {
		f.http.CloseIdleConnections()
		stop()
		ok(t, <-done)
		ok(t, f.st.Close())
	})
	f.seed(audit.ResourceCreated, resource.Create{Resource: resource.Resource{ID: id.New(id.Resource), URI: theAPI, Name: "Notes", Scopes: []resource.Scope{
		{Name: "notes:read", Description: "Read your notes", Kind: "read", Default: true},
		{Name: "keys:rotate", Description: "Rotate the key", Kind: "admin", Ask: assurance.Ask{Rung: assurance.Phishing, MaxAge: 5 * time.Minute}},
	}}})
	f.seed(audit.ClientsAdmitted, client.SetOpenness{Openness: client.Openness{Documents: client.Anyone, Registration: true, Resources: []string{"*"}, Scopes: []string{"*"}}})
	link, err := f.st.SetupLink(t.Context(), policy.KindSystem)
	ok(t, err)
	f.dana = actor.New(f.issuer, nil)
	t.Cleanup(f.dana.Close)
	ok(t, f.dana.SetUp(link, "Dana Example", "dana"))
	return f
}

func (f *field) seed(kind audit.Kind, c interface{ Change() }) {
	f.Helper()
	ok(f.T, f.st.Seed(f.Context(), kind, c))
}

// client registers an app as an administrator would.
func (f *field) client(c client.Client) client.Client {
	f.Helper()
	c.ID, c.Name = id.New(id.Client), c.ClientID
	c.Scopes, c.Resources = []string{"*"}, []string{"*"}
	if c.AuthMethod == "" {
		c.AuthMethod = client.AuthNone
	}
	if len(c.GrantTypes) == 0 {
		c.GrantTypes = []client.GrantType{client.AuthorizationCode, client.RefreshToken}
	}
	f.seed(audit.ClientCreated, client.Create{Client: c})
	return c
}

// hosted is an app with an https address, which is asked about once.
func (f *field) hosted(name string) client.Client {
	return f.client(client.Client{ClientID: name, RedirectURIs: []string{"https://" + name + ".example/cb"}})
}

type got struct {
	status int
	header http.Header
	body   map[string]any
	text   string
}

func (f *field) do(method, path, contentType, body string, header ...string) got {
	f.Helper()
	r, err := http.NewRequest(method, f.issuer+path, strings.NewReader(body))
	ok(f.T, err)
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := f.http.Do(r)
	ok(f.T, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	ok(f.T, err)
	g := got{status: resp.StatusCode, header: resp.Header, text: string(text)}
	_ = json.Unmarshal(text, &g.body)
	return g
}

func (f *field) form(path string, v url.Values, header ...string) got {
	f.Helper()
	return f.do(http.MethodPost, path, "application/x-www-form-urlencoded", v.Encode(), header...)
}

// asks is a good authorization request.
func (f *field) asks(clientID, redirect string, pairs ...string) url.Values {
	sum := sha256.Sum256([]byte(theVerifier))
	v := url.Values{
		"client_id": {clientID}, "redirect_uri": {redirect}, "response_type": {"code"}, "state": {"x"}, "scope": {"openid notes:read"}, "resource": {theAPI},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
	}
	for i := 0; i < len(pairs); i += 2 {
		if v.Set(pairs[i], pairs[i+1]); pairs[i+1] == "" {
			v.Del(pairs[i])
		}
	}
	return v
}

// code goes the whole way as Dana.
func (f *field) code(v url.Values) string {
	f.Helper()
	q, err := f.dana.Authorize(v)
	ok(f.T, err)
	if q.Get("code") == "" || q.Get("iss") != f.issuer {
		f.Fatalf("%v", q)
	}
	return q.Get("code")
}

func redeems(code string, pairs ...string) url.Values {
	v := url.Values{"grant_type": {"authorization_code"}, "code": {code}, "code_verifier": {theVerifier}}
	for i := 0; i < len(pairs); i += 2 {
		v.Set(pairs[i], pairs[i+1])
	}
	return v
}

func renews(token any, pairs ...string) url.Values {
	v := redeems("", pairs...)
	v.Del("code")
	v.Del("code_verifier")
	v.Set("grant_type", "refresh_token")
	v.Set("refresh_token", token.(string))
	return v
}

// granted is a success of the token endpoint.
func (f *field) granted(g got) map[string]any {
	f.Helper()
	if g.status != 200 || g.body["access_token"] == nil || g.body["scope"] == nil {
		f.Fatalf("%d %s", g.status, g.text)
	}
	return g.body
}

func (f *field) refused(g got, status int, code string) {
	f.Helper()
	if g.status != status || g.body["error"] != code {
		f.Errorf("%d %s; want %d %s", g.status, g.text, status, code)
	}
}

func claims(t *testing.T, token any) (c map[string]any) {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(strings.Split(token.(string), ".")[1])
	ok(t, err)
	ok(t, json.Unmarshal(b, &c))
	return c
}

func basicOf(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// TestClients01Metadata: one document at every place, misses in JSON, and all of it
// readable for a browser-based client.
func TestClients01Metadata(t *testing.T) {
	t.Parallel()
	f := newField(t)
	doc := f.do("GET", "/.well-known/oauth-authorization-server", "", "", "MCP-Protocol-Version", "2025-11-25")
	again := f.do("GET", "/.well-known/openid-configuration", "", "")
	if doc.status != 200 || doc.text != again.text || doc.header.Get("Content-Type") != "application/json" || doc.body["issuer"] != f.issuer {
		t.Errorf("%d %v", doc.status, doc.header)
	}
	// The issuer has no path: a client that believes it has gets a plain miss from all three forms.
	for _, miss := range []string{"/.well-known/oauth-authorization-server/mcp", "/.well-known/openid-configuration/mcp", "/mcp/.well-known/openid-configuration", "/.well-known/oauth-protected-resource"} {
		if g := f.do("GET", miss, "", ""); g.status != 404 || g.header.Get("Content-Type") != "application/json" || g.body["error"] == nil || g.header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s: %d %s %s", miss, g.status, g.header.Get("Content-Type"), g.text)
		}
	}
	for _, path := range []string{"/.well-known/oauth-authorization-server", "/.well-known/openid-configuration", "/oauth/jwks", "/oauth/token", "/oauth/register", "/oauth/revoke"} {
		g := f.do("OPTIONS", path, "", "", "Origin", "https://inspector.example", "Access-Control-Request-Method", "POST")
		allowed := strings.ToLower(g.header.Get("Access-Control-Allow-Headers"))
		for _, h := range []string{"mcp-protocol-version", "authorization", "dpop", "content-type"} {
			if !strings.Contains(allowed, h) {
				t.Errorf("%s does not allow %s: %d %v", path, h, g.status, g.header)
			}
		}
		g = f.do(map[bool]string{true: "GET", false: "POST"}[strings.Contains(path, "well-known") || path == "/oauth/jwks"], path, "", "") // development mode takes nothing from other origins; the headers are the same
		if e := g.header.Get("Access-Control-Expose-Headers"); g.header.Get("Access-Control-Allow-Origin") != "*" || !strings.Contains(e, "WWW-Authenticate") || !strings.Contains(e, "DPoP-Nonce") {
			t.Errorf("%s: %d %v", path, g.status, g.header)
		}
	}
	if g := f.do("OPTIONS", "/oauth/authorize", "", "", "Origin", "https://inspector.example"); g.header.Get("Access-Control-Allow-Origin") != "" {
		t.Error("the authorization endpoint answers other origins")
	}
}

// TestClients02Issuer: the members that clients insist on, and iss in every answer.
func TestClients02Issuer(t *testing.T) {
	t.Parallel()
	f := newField(t)
	m := f.do("GET", "/.well-known/oauth-authorization-server", "", "").body
	for name, want := range map[string]string{
		"response_types_supported": "[code]", "code_challenge_methods_supported": "[S256]", "authorization_response_iss_parameter_supported": "true",
		"client_id_metadata_document_supported": "true", "registration_endpoint": f.issuer + "/oauth/register",
	} {
		if fmt.Sprint(m[name]) != want {
			t.Errorf("%s is %v", name, m[name])
		}
	}
	if !slices.Contains(m["token_endpoint_auth_methods_supported"].([]any), any("none")) {
		t.Error("public clients are not announced")
	}
	app := f.hosted("issuer")
	if q, err := f.dana.Authorize(f.asks(app.ClientID, app.RedirectURIs[0])); err != nil || q.Get("iss") != f.issuer || q.Get("code") == "" {
		t.Errorf("%v %v", err, q)
	}
	for _, pairs := range [][]string{{"response_type", "token"}, {"scope", "nothing:like"}, {"code_challenge", ""}, {"resource", "https://elsewhere.example"}} {
		if q, err := f.dana.Authorize(f.asks(app.ClientID, app.RedirectURIs[0], pairs...)); err != nil || q.Get("iss") != f.issuer || q.Get("error") == "" || q.Get("state") != "x" {
			t.Errorf("%v: %v %v", pairs, err, q)
		}
	}
}

// TestClients03OfflineAccess: not announced, taken when asked for, and the refresh
// token follows grant_types alone; prompt=consent is one press if nothing changed.
func TestClients03OfflineAccess(t *testing.T) {
	t.Parallel()
	f := newField(t)
	m := f.do("GET", "/.well-known/openid-configuration", "", "").body
	if slices.Contains(m["scopes_supported"].([]any), any("offline_access")) {
		t.Error("offline_access is announced")
	}
	app := f.hosted("offline")
	with := f.asks(app.ClientID, app.RedirectURIs[0], "scope", "openid notes:read offline_access", "prompt", "consent")
	if f.granted(f.form("/oauth/token", redeems(f.code(with), "client_id", app.ClientID)))["refresh_token"] == nil {
		t.Error("no refresh token although it was asked for")
	}
	if strings.Contains(f.dana.Consent.Body, "Nothing changed") {
		t.Error("the first time is called an old one")
	}
	f.code(with)
	if !strings.Contains(f.dana.Consent.Body, "Nothing changed.") || strings.Count(f.dana.Consent.Body, `name="decision"`) != 1 {
		t.Error("asked again, and it is more than one press")
	}
	if f.granted(f.form("/oauth/token", redeems(f.code(f.asks(app.ClientID, app.RedirectURIs[0])), "client_id", app.ClientID)))["refresh_token"] == nil {
		t.Error("no refresh token without the scope, although it is registered for it")
	}
	plain := f.client(client.Client{ClientID: "online", RedirectURIs: []string{"https://online.example/cb"}, GrantTypes: []client.GrantType{client.AuthorizationCode}})
	if f.granted(f.form("/oauth/token", redeems(f.code(f.asks(plain.ClientID, plain.RedirectURIs[0], "scope", "openid notes:read offline_access")), "client_id", plain.ClientID)))["refresh_token"] != nil {
		t.Error("a refresh token for an app that is not registered for it")
	}
}

// TestClients04Resource: taken at each step, compared without the slash of an empty
// path and without regard to case of the host; the token says the registered name.
func TestClients04Resource(t *testing.T) {
	t.Parallel()
	f := newField(t)
	app := f.hosted("resource")
	for _, spelled := range []string{theAPI, theAPI + "/", "https://NOTES.example.com/", ""} {
		tok := f.granted(f.form("/oauth/token", redeems(f.code(f.asks(app.ClientID, app.RedirectURIs[0], "resource", spelled)), "client_id", app.ClientID, "resource", theAPI+"/")))
		if c := claims(t, tok["access_token"]); c["aud"] != theAPI {
			t.Errorf("%q: for %v", spelled, c["aud"])
		}
		for _, again := range []url.Values{renews(tok["refresh_token"], "client_id", app.ClientID, "resource", theAPI+"/")} {
			tok = f.granted(f.form("/oauth/token", again))
		}
		if c := claims(t, f.granted(f.form("/oauth/token", renews(tok["refresh_token"], "client_id", app.ClientID)))["access_token"]); c["aud"] != theAPI {
			t.Errorf("refreshed without the parameter: for %v", c["aud"])
		}
	}
	tok := f.granted(f.form("/oauth/token", redeems(f.code(f.asks(app.ClientID, app.RedirectURIs[0])), "client_id", app.ClientID)))
	f.refused(f.form("/oauth/token", renews(tok["refresh_token"], "client_id", app.ClientID, "resource", "https://elsewhere.example")), 400, "invalid_target")
	f.refused(f.form("/oauth/token", renews(tok["refresh_token"], "client_id", app.ClientID, "resource", theAPI+"/sub")), 400, "invalid_target")
	f.granted(f.form("/oauth/token", renews(tok["refresh_token"], "client_id", app.ClientID))) // a refusal costs nothing
}

// TestClients05Authentication: in the body, in Basic as it is and percent-encoded,
// a public client with an empty password; and failing does not use the code up.
func TestClients05Authentication(t *testing.T) {
	t.Parallel()
	f := newField(t)
	v := secret.New(secret.ClientSecret)
	h := v.Hash()
	app := f.client(client.Client{ClientID: "conf~1.2", AuthMethod: client.AuthSecretBasic, SecretHash: &h, RedirectURIs: []string{"https://conf.example/cb"}})
	for _, how := range []string{basicOf(app.ClientID, v.Reveal()), basicOf("conf%7E1%2E2", strings.ReplaceAll(v.Reveal(), "_", "%5F"))} {
		code := f.code(f.asks(app.ClientID, app.RedirectURIs[0]))
		for range 8 {
			f.refused(f.form("/oauth/token", redeems(code), "Authorization", basicOf(app.ClientID, "wrong")), 401, "invalid_client")
		}
		f.granted(f.form("/oauth/token", redeems(code), "Authorization", how))
	}
	inBody := f.client(client.Client{ClientID: "body", AuthMethod: client.AuthSecretPost, SecretHash: &h, RedirectURIs: []string{"https://body.example/cb"}})
	f.granted(f.form("/oauth/token", redeems(f.code(f.asks(inBody.ClientID, inBody.RedirectURIs[0])), "client_id", inBody.ClientID, "client_secret", v.Reveal())))
	public := f.hosted("public")
	code := f.code(f.asks(public.ClientID, public.RedirectURIs[0]))
	g := f.form("/oauth/token", redeems(code), "Authorization", basicOf(public.ClientID, "not-empty"))
	f.refused(g, 401, "invalid_client")
	if !strings.HasPrefix(g.header.Get("WWW-Authenticate"), "Basic ") {
		t.Errorf("%v", g.header)
	}
	f.granted(f.form("/oauth/token", redeems(code), "Authorization", basicOf(public.ClientID, "")))
	f.refused(f.form("/oauth/token", redeems("x", "client_id", public.ClientID, "client_secret", "y"), "Authorization", basicOf(public.ClientID, "z")), 400, "invalid_request")
	// What the server makes needs no escape anywhere.
	reg := f.register(`{"redirect_uris":["https://made.example/cb"]}`)
	for _, name := range []string{"client_id", "client_secret"} {
		if s := reg[name].(string); url.QueryEscape(s) != s {
			t.Errorf("%s has to be escaped: %s", name, s)
		}
	}
}

func (f *field) register(body string) map[string]any {
	f.Helper()
	g := f.do("POST", "/oauth/register", "application/json", body)
	if g.status != 201 {
		f.Fatalf("%d %s", g.status, g.text)
	}
	return g.body
}

// TestClients06Redirects: any port of a loopback address however the client came,
// schemes of apps, nothing that runs; each judged by itself; and consent can lead
// out to where the answer goes.
func TestClients06Redirects(t *testing.T) {
	t.Parallel()
	f := newField(t)
	uris := []string{"http://localhost/cb", "http://127.0.0.1:*/cb", "http://[::1]:8080/cb", "com.example.app:/cb", "cursor://anysphere/cb"}
	registered := f.client(client.Client{ClientID: "desktop", Native: true, RedirectURIs: uris})
	list, err := json.Marshal(append([]string{
		"javascript:alert(1)", "data:text/html,x", "file:///etc/passwd", "blob:https://a.example/x", "vbscript:x", "about:blank", "https://a.example/#f", "https://u@a.example/", "http://a.example/cb",
	}, uris...))
	ok(t, err)
	reg := f.register(`{"client_name":"Desktop","token_endpoint_auth_method":"none","grant_types":["authorization_code","refresh_token"],"redirect_uris":` + string(list) + `}`)
	if fmt.Sprint(reg["redirect_uris"]) != fmt.Sprint(uris) {
		t.Errorf("stored: %v", reg["redirect_uris"])
	}
	f.refused(f.do("POST", "/oauth/register", "application/json", `{"redirect_uris":["javascript:alert(1)","http://a.example/"]}`), 400, "invalid_redirect_uri")
	for _, name := range []string{registered.ClientID, reg["client_id"].(string)} {
		for _, to := range []string{"http://localhost:49152/cb", "http://127.0.0.1:1/cb", "http://127.0.0.1/cb", "http://[::1]:65535/cb", "com.example.app:/cb", "cursor://anysphere/cb"} {
			f.dana.Consent = actor.Answer{}
			f.granted(f.form("/oauth/token", redeems(f.code(f.asks(name, to, "prompt", "consent")), "client_id", name, "redirect_uri", to)))
			out, _, _ := strings.Cut(to, "/cb")
			if out = strings.TrimSuffix(out, "/"); strings.HasPrefix(out, "cursor") {
				out = "cursor:"
			} else if strings.HasPrefix(out, "http://[::1]") { // CSP knows no such addresses
				out = "http:"
			}
			if csp := f.dana.Consent.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "form-action 'self' "+out) {
				t.Errorf("%s: consent leads to %q", to, csp)
			}
		}
		for _, to := range []string{"http://localhost:1/cb/", "http://localhost:1/other", "http://127.0.0.1:*/cb", "http://127.0.0.2:1/cb", "http://localhost.evil.example/cb", "https://localhost/cb", "http://localhost:1@evil.example/cb", "com.example.app:/cb/x", "javascript:alert(1)"} {
			a, err := f.dana.Get("/oauth/authorize?" + f.asks(name, to).Encode())
			ok(t, err)
			if a.Status != 400 || a.Location != "" || !strings.Contains(a.Body, "isn&#39;t registered") {
				t.Errorf("%s: %d to %s", to, a.Status, a.Location)
			}
		}
	}
}

// TestClients07Registration: twice a login is one app to its person; what somebody
// uses is never forgotten; an unknown client is told so.
func TestClients07Registration(t *testing.T) {
	t.Parallel()
	f := newField(t)
	const app = `{"client_name":"opencode","redirect_uris":["http://127.0.0.1:19876/mcp/oauth/callback"],"grant_types":["authorization_code","refresh_token"],"token_endpoint_auth_method":"none"}`
	first, second := f.register(app)["client_id"].(string), f.register(app)["client_id"].(string)
	to := "http://127.0.0.1:19876/mcp/oauth/callback"
	tok := f.granted(f.form("/oauth/token", redeems(f.code(f.asks(first, to)), "client_id", first)))
	if c := f.dana.Consent.Body; !strings.Contains(c, "not verified") || !strings.Contains(c, "an app on this computer") || strings.Contains(c, "Nothing changed") {
		t.Error("the first consent does not say who asks")
	}
	f.code(f.asks(second, to))
	if !strings.Contains(f.dana.Consent.Body, "Nothing changed.") {
		t.Error("the second registration of an app is a stranger")
	}
	f.ahead.Store(int64(client.RegistrationLifetime + 24*time.Hour))
	f.refused(f.form("/oauth/token", renews(tok["refresh_token"], "client_id", first)), 400, "invalid_grant") // the session is over; the client is not
	ok(t, f.dana.SignIn())
	f.granted(f.form("/oauth/token", redeems(f.code(f.asks(first, to)), "client_id", first)))
	f.refused(f.form("/oauth/token", renews(tok["refresh_token"], "client_id", "dyn_gone")), 401, "invalid_client")
	unused := f.register(app)["client_id"].(string)
	for _, name := range []string{"gone-app", "dyn_gone"} {
		a, err := f.dana.Get("/oauth/authorize?" + f.asks(name, to).Encode())
		ok(t, err)
		if a.Status != 400 || !strings.Contains(a.Body, name) || !strings.Contains(a.Body, "remove the connection in the app and add it again") {
			t.Errorf("%s: %d", name, a.Status)
		}
	}
	f.ahead.Store(int64(2*client.RegistrationLifetime + 50*time.Hour))
	a, err := f.dana.Get("/oauth/authorize?" + f.asks(unused, to).Encode())
	ok(t, err)
	if a.Status != 400 || !strings.Contains(a.Body, "opencode") || !strings.Contains(a.Body, "emove the connection in the app and add it again") {
		t.Errorf("an expired registration: %d %s", a.Status, a.Body)
	}
	limited := 0
	for range 60 {
		if g := f.do("POST", "/oauth/register", "application/json", app); g.status == 503 {
			limited++
		}
	}
	if limited == 0 {
		t.Error("registering has no limit")
	}
}

// TestClients08Documents: a pinned document needs no network; the page says whose
// the app is, and a domain that is not its own. Fetching is in internal/oauth.
func TestClients08Documents(t *testing.T) {
	t.Parallel()
	f := newField(t)
	const name = "https://editor.example.com/oauth/client.json"
	pin := func(n string) {
		f.seed(audit.ClientPinned, client.PinDocument{Document: client.Document{ClientID: name, Body: fmt.Appendf(nil,
			`{"client_id":%q,"client_name":%q,"redirect_uris":["http://127.0.0.1/callback","https://elsewhere.example/cb"],"grant_types":["authorization_code","refresh_token"],"token_endpoint_auth_method":"none"}`, name, n)}})
	}
	pin("Editor")
	tok := f.granted(f.form("/oauth/token", redeems(f.code(f.asks(name, "http://127.0.0.1:50123/callback")), "client_id", name)))
	for _, want := range []string{"Verified by its domain: <strong>editor.example.com</strong>", "an app on this computer", "Your administrators keep its description here."} {
		if !strings.Contains(f.dana.Consent.Body, want) {
			t.Errorf("consent does not say %q", want)
		}
	}
	f.code(f.asks(name, "https://elsewhere.example/cb"))
	if c := f.dana.Consent.Body; !strings.Contains(c, "Nothing changed.") || !strings.Contains(c, "elsewhere.example") || !strings.Contains(c, "not the app's own domain") {
		t.Error("an answer that leaves the domain is not shown")
	}
	pin("Your Bank")
	f.code(f.asks(name, "http://127.0.0.1:50123/callback"))
	if c := f.dana.Consent.Body; !strings.Contains(c, "it has changed what it says about itself") || strings.Contains(c, "Nothing changed.") {
		t.Error("another name goes unnoticed")
	}
	tok = f.granted(f.form("/oauth/token", renews(tok["refresh_token"], "client_id", name)))
	f.granted(f.form("/oauth/token", renews(tok["refresh_token"]), "Authorization", basicOf(url.QueryEscape(name), ""))) // x/oauth2's way
	if page, err := f.dana.Get("/account/sessions"); err != nil || !strings.Contains(page.Body, "Your Bank") {
		t.Errorf("the tree of sessions does not show the app: %v", err)
	}
}

// TestClients09Refresh: parallel refreshes are one.
func TestClients09Refresh(t *testing.T) {
	t.Parallel()
	f := newField(t)
	app := f.client(client.Client{ClientID: "parallel", Native: true, RedirectURIs: []string{"http://127.0.0.1/cb"}})
	tok := f.granted(f.form("/oauth/token", redeems(f.code(f.asks(app.ClientID, "http://127.0.0.1:4000/cb")), "client_id", app.ClientID)))
	answers := make([]got, 32)
	var wg sync.WaitGroup
	for i := range answers {
		wg.Go(func() { answers[i] = f.form("/oauth/token", renews(tok["refresh_token"], "client_id", app.ClientID)) })
	}
	wg.Wait()
	next, tokens := map[any]bool{}, map[any]bool{}
	for _, g := range answers {
		b := f.granted(g)
		next[b["refresh_token"]], tokens[b["access_token"]] = true, true
	}
	if len(next) != 1 || len(tokens) != 32 {
		t.Errorf("%d successors, %d tokens", len(next), len(tokens))
	}
	for n := range next {
		f.granted(f.form("/oauth/token", renews(n, "client_id", app.ClientID)))
	}
}

// TestClients10Scope: every answer says its scopes, and an elevated one is not in
// the next.
func TestClients10Scope(t *testing.T) {
	t.Parallel()
	f := newField(t)
	app := f.hosted("elevated")
	tok := f.granted(f.form("/oauth/token", redeems(f.code(f.asks(app.ClientID, app.RedirectURIs[0], "scope", "notes:read keys:rotate")), "client_id", app.ClientID)))
	if tok["scope"] != "notes:read keys:rotate" {
		t.Errorf("%v", tok["scope"])
	}
	tok = f.granted(f.form("/oauth/token", renews(tok["refresh_token"], "client_id", app.ClientID)))
	if tok["scope"] != "notes:read" || claims(t, tok["access_token"])["scope"] != "notes:read" {
		t.Errorf("refreshed: %v", tok["scope"])
	}
	// The union that a client asks for next is a new authorization, not refused.
	tok = f.granted(f.form("/oauth/token", redeems(f.code(f.asks(app.ClientID, app.RedirectURIs[0], "scope", "notes:read keys:rotate")), "client_id", app.ClientID)))
	if tok["scope"] != "notes:read keys:rotate" {
		t.Errorf("%v", tok["scope"])
	}
}

// TestClients11Time: a code works for a minute, and no more; and whoever's app is on
// another computer is given the address instead.
func TestClients11Time(t *testing.T) {
	t.Parallel()
	f := newField(t)
	app := f.hosted("slow")
	code := f.code(f.asks(app.ClientID, app.RedirectURIs[0]))
	f.ahead.Store(int64(55 * time.Second))
	f.granted(f.form("/oauth/token", redeems(code, "client_id", app.ClientID)))
	code = f.code(f.asks(app.ClientID, app.RedirectURIs[0]))
	f.ahead.Store(int64(116 * time.Second))
	f.refused(f.form("/oauth/token", redeems(code, "client_id", app.ClientID)), 400, "invalid_grant")

	// The address to paste, for whoever's app runs elsewhere.
	far := f.client(client.Client{ClientID: "far", RedirectURIs: []string{"http://127.0.0.1/cb"}})
	f.dana.Elsewhere = true
	_, err := f.dana.Authorize(f.asks(far.ClientID, "http://127.0.0.1:4000/cb"))
	shown := regexp.MustCompile(`http://127\.0\.0\.1:4000/cb\?code=([A-Za-z0-9_]+)[^"<]*`).FindStringSubmatch(f.dana.Last.Body)
	if err == nil || shown == nil || !strings.Contains(f.dana.Last.Body, "and nowhere else") || f.dana.Last.Header.Get("Cache-Control") != "no-store" {
		f.Fatalf("%v: %.2000s", err, f.dana.Last.Body)
	}
	f.granted(f.form("/oauth/token", redeems(shown[1], "client_id", far.ClientID)))
	f.dana.Elsewhere = false
	// No link that somebody is sent has a code shown.
	if q, err := f.dana.Authorize(f.asks(far.ClientID, "http://127.0.0.1:4000/cb", "deliver", "copy")); err != nil || q.Get("code") == "" {
		f.Errorf("%v %v", err, q)
	}
}

// TestClients12Parameters: state comes back as it was, up to 4 KB; what is not known
// is passed over; what is there twice is refused.
func TestClients12Parameters(t *testing.T) {
	t.Parallel()
	f := newField(t)
	app := f.hosted("params")
	for _, state := range []string{"a b+c%20&d=e#f?", "ä\u202e\u0001\"'<>\\", strings.Repeat("é", 2048), "{\"a\":\"b\"}", "."} {
		q, err := f.dana.Authorize(f.asks(app.ClientID, app.RedirectURIs[0], "state", state, "audience", "x", "foo", "bar", "claims_locales", "de"))
		if err != nil || q.Get("state") != state || q.Get("code") == "" {
			t.Errorf("%.40q: %v came back as %.40q", state, err, q.Get("state"))
		}
	}
	if a, err := f.dana.Get("/oauth/authorize?" + f.asks(app.ClientID, app.RedirectURIs[0], "state", strings.Repeat("x", 4097)).Encode()); err != nil || a.Status != 400 {
		t.Errorf("%d %v", a.Status, err)
	}
	for _, twice := range []string{"state=x", "client_id=" + app.ClientID, "redirect_uri=" + url.QueryEscape(app.RedirectURIs[0]), "scope=openid", "foo=1&foo=2"} {
		if a, err := f.dana.Get("/oauth/authorize?" + f.asks(app.ClientID, app.RedirectURIs[0]).Encode() + "&" + twice); err != nil || a.Status != 400 || a.Location != "" {
			t.Errorf("%s: %d %s %v", twice, a.Status, a.Location, err)
		}
	}
	code := f.code(f.asks(app.ClientID, app.RedirectURIs[0]))
	if g := f.do("POST", "/oauth/token", "application/x-www-form-urlencoded", redeems(code, "client_id", app.ClientID).Encode()+"&code=x"); g.status != 400 || g.body["error"] != "invalid_request" {
		t.Errorf("%d %s", g.status, g.text)
	}
	f.granted(f.form("/oauth/token", redeems(code, "client_id", app.ClientID, "audience", "x", "device_id", "y")))
}
