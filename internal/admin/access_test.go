package admin_test

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign"
	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/keyring"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/secret"
)

var discard = slog.New(slog.DiscardHandler)

const everything = "self admin:read admin:write"

// route is an operation as the document lists it.
type route struct {
	method, path, scope, action string
	service                     string // the scope by which services may
}

// routes reads the operations out of the OpenAPI document, so that a new one is
// in the table below without being added there.
func (r *rig) routes() []route {
	r.t.Helper()
	req, err := http.NewRequest(http.MethodGet, r.http.URL+"/v1/openapi.json", nil)
	r.ok(err)
	a := r.send(req)
	var doc struct {
		Paths map[string]map[string]struct {
			Action   string                `json:"x-action"`
			Service  string                `json:"x-service-scope"`
			Security []map[string][]string `json:"security"`
		} `json:"paths"`
	}
	r.ok(json.Unmarshal(a.text, &doc))
	var out []route
	for path, methods := range doc.Paths {
		for method, op := range methods {
			if len(op.Security) != 1 || len(op.Security[0]["dpop"]) != 1 || op.Action == "" {
				r.t.Fatalf("%s %s does not say what it demands: %+v", method, path, op)
			}
			p := strings.NewReplacer("{id}", "usr_0", "{person}", "usr_0", "{client_id}", "none").Replace(path)
			out = append(out, route{strings.ToUpper(method), p, op.Security[0]["dpop"][0], op.Action, op.Service})
		}
	}
	slices.SortFunc(out, func(a, b route) int { return strings.Compare(a.path+a.method, b.path+b.method) })
	if len(out) < 28 {
		r.t.Fatalf("there are %d routes", len(out))
	}
	return out
}

func (r *rig) challenge(a answer) countersign.Challenge {
	r.t.Helper()
	list, err := countersign.ParseChallenge(a.Header.Values("WWW-Authenticate"))
	if err != nil || len(list) != 1 || list[0].Scheme != "DPoP" {
		r.t.Fatalf("%s %s: challenge %q: %v", a.Request.Method, a.Request.URL.Path, a.Header.Values("WWW-Authenticate"), err)
	}
	return list[0]
}

// TestEveryRoute asks each operation as everybody who must be refused. Bodies are
// malformed on purpose: who is refused is refused before anything is read.
func TestEveryRoute(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	dana := r.person("dana", r.admins.ID)
	sam := r.person("sam")
	gone := r.person("gone", r.admins.ID)
	boss := r.login(dana, everything)
	plain := r.login(sam, everything)
	ended := r.login(dana, everything)
	r.seed("", lineage.End{ID: ended.session.ID, Why: "test"})
	frozen := r.login(gone, everything)
	r.seed("", lineage.Freeze{ID: gone.ID, Why: "test"})
	stale := r.login(dana, everything)
	stalePlain := r.login(sam, everything)
	r.pass(13 * time.Hour)
	// fresh tokens of old grants; the others sign in again
	boss, plain = r.login(dana, everything), r.login(sam, everything)
	for _, l := range []*login{ended, frozen, stale, stalePlain} {
		l.token = l.mint(everything)
	}
	machine := r.machine(dana)

	for _, rt := range r.routes() {
		t.Run(rt.method+" "+rt.path, func(t *testing.T) {
			r := &rig{t: t, store: r.store, ring: r.ring, keys: r.keys, do: r.do, http: r.http, cli: r.cli, self: r.self, now: r.now}
			as := func(l *login) *login { c := *l; c.r = r; return &c }
			call := func(l *login, edit ...func(*http.Request)) answer {
				t.Helper()
				return as(l).do(rt.method, rt.path, "{", edit...)
			}
			c := r.challenge(r.want(call(boss, func(q *http.Request) { q.Header.Del("Authorization"); q.Header.Del("DPoP") }), 401, "token_missing"))
			if c.Error != "" || c.Params["algs"] == "" || c.ResourceMetadata != issuer+"/.well-known/oauth-protected-resource/v1" {
				t.Errorf("challenge without a token: %+v", c)
			}
			bad := func(want string, edit func(*http.Request)) {
				t.Helper()
				if c := r.challenge(r.want(call(boss, edit), 401, want)); c.Error != want {
					t.Errorf("challenge error %q, want %q", c.Error, want)
				}
			}
			bad("invalid_token", header("Authorization", "Bearer "+boss.token))
			bad("invalid_dpop_proof", func(q *http.Request) { q.Header.Del("DPoP") })
			other := as(boss).request(rt.method, "/v1/elsewhere", nil).Header.Get("DPoP")
			bad("invalid_dpop_proof", header("DPoP", other))
			for name, token := range r.wrong(as(boss)) {
				l := *boss
				l.token = token
				if a := r.want(call(&l), 401, "invalid_token"); a.Header.Get("WWW-Authenticate") == "" {
					t.Errorf("%s: no challenge", name)
				}
			}
			r.want(call(ended), 401, "invalid_token")
			r.want(call(frozen), 401, "invalid_token")
			if rt.service == "" {
				r.want(call(machine), 403, "person_required")
			} else {
				r.want(call(machine), 403, "insufficient_scope")
			}

			bare := *boss
			bare.token = as(boss).mint("openid")
			c = r.challenge(r.want(call(&bare), 403, "insufficient_scope"))
			if !slices.Equal(c.Scope, []string{rt.scope}) || c.Error != "insufficient_scope" {
				t.Errorf("challenge without the scope: %+v", c)
			}
			if rt.scope != "self" {
				r.want(call(plain), 403, "denied")
				r.want(call(stalePlain), 403, "denied")
				l := *plain
				l.token = as(plain).mint("openid")
				r.want(call(&l), 403, "denied")

				c = r.challenge(r.want(call(stale), 401, "insufficient_user_authentication"))
				if !c.HasMaxAge || c.MaxAge < time.Minute || len(c.ACRValues) == 0 || len(c.Scope) != 0 || c.Error != "insufficient_user_authentication" {
					t.Errorf("challenge to a stale sign-in: %+v", c)
				}
				if rt.scope == "admin:write" && rt.action != string(policy.PolicySubmit) && (!slices.Equal(c.ACRValues, []string{"phr", "phrh"}) || c.MaxAge > 15*time.Minute) {
					t.Errorf("challenge to a stale sign-in: %+v", c)
				}
				l = *stale
				l.token = as(stale).mint("self")
				c = r.challenge(r.want(call(&l), 401, "insufficient_user_authentication"))
				if !slices.Equal(c.Scope, []string{rt.scope}) {
					t.Errorf("a stale sign-in without the scope is asked for %v", c.Scope)
				}
			}
			// The positive control: the same request gets past all of it.
			if a := call(boss); a.StatusCode == 401 || a.StatusCode == 403 {
				t.Errorf("an administrator is refused: %d %s", a.StatusCode, a.text)
			}
		})
	}
}

// machine is a service with a token for the API.
func (r *rig) machine(owner account.Person) *login {
	r.t.Helper()
	h := secret.New(secret.ClientSecret).Hash()
	sv := client.Service{ID: id.New(id.Service), Subject: id.Random("sub_"), Name: "Robot", Owner: owner.ID, Purpose: "tests", ReviewBy: r.time().AddDate(0, 1, 0), CreatedAt: r.time()}
	c := client.Client{
		ID: id.New(id.Client), ClientID: "robot", Name: "Robot", AuthMethod: client.AuthSecretBasic, SecretHash: &h,
		GrantTypes: []client.GrantType{client.ClientCredentials}, Resources: []string{r.self}, Scopes: []string{"feed"}, Service: sv.ID, ManagedBy: "api", CreatedAt: r.time(),
	}
	r.seed("", client.Create{Client: c, NewService: &sv})
	l := &login{r: r, key: newKey()}
	l.grant.ID = c.ID
	l.token = l.mint("feed self admin:read admin:write", func(t *jose.AccessTokenClaims) {
		t.Subject, t.ClientID, t.ACR = sv.Subject, c.ClientID, ""
	})
	return l
}

// wrong are tokens that are almost right.
func (r *rig) wrong(l *login) map[string]string {
	r.t.Helper()
	out := map[string]string{
		"other audience": l.mint(everything, func(c *jose.AccessTokenClaims) { c.Audience = jose.Audience{"https://api.example.com"} }),
		"two audiences":  l.mint(everything, func(c *jose.AccessTokenClaims) { c.Audience = jose.Audience{issuer + "/v1", "https://api.example.com"} }),
		"other issuer":   l.mint(everything, func(c *jose.AccessTokenClaims) { c.Issuer = "https://evil.example.com" }),
		"expired":        l.mint(everything, func(c *jose.AccessTokenClaims) { c.ExpiresAt = jose.Date(r.time().Add(-time.Minute)) }),
		"no key":         l.mint(everything, func(c *jose.AccessTokenClaims) { c.Confirmation = nil }),
		"another key":    l.mint(everything, func(c *jose.AccessTokenClaims) { c.Confirmation.JKT = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" }),
		"unknown record": l.mint(everything, func(c *jose.AccessTokenClaims) { c.JTI = id.New(id.Record) }),
		"someone else":   l.mint(everything, func(c *jose.AccessTokenClaims) { c.Subject = "sub_x" }),
		"other client":   l.mint(everything, func(c *jose.AccessTokenClaims) { c.ClientID = "robot" }),
		"truncated":      l.token[:len(l.token)-20],
		"nothing":        "x",
	}
	s, err := r.ring.Signer(keyring.IDToken, "ES256", "JWT")
	r.ok(err)
	jkt, err := jose.Thumbprint(l.key.Public())
	r.ok(err)
	out["other type"], err = s.Sign(jose.AccessTokenClaims{
		Issuer: issuer, Subject: l.person.Subject, Audience: jose.Audience{issuer + "/v1"}, ClientID: r.cli.ClientID, JTI: r.seed(l.grant.ID).RecordID,
		IssuedAt: jose.Date(r.time()), ExpiresAt: jose.Date(r.time().Add(time.Minute)), Scope: everything, Confirmation: &jose.Confirmation{JKT: jkt},
	})
	r.ok(err)
	return out
}

func TestReplay(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	l := r.login(r.person("dana"), "self")
	req := l.request("GET", "/v1/me", nil)
	r.want(r.send(req.Clone(t.Context())), 200, "")
	r.want(r.send(req.Clone(t.Context())), 401, "invalid_dpop_proof")
	r.want(l.do("GET", "/v1/me", nil), 200, "")
	two := l.request("GET", "/v1/me", nil)
	two.Header.Add("DPoP", two.Header.Get("DPoP"))
	r.want(r.send(two), 401, "invalid_dpop_proof")
	// The proof of a host that the request names is worth nothing.
	forged := l.request("GET", "/v1/me", nil)
	forged.Host = "evil.example.com"
	r.want(r.send(forged), 200, "")
}

// TestStateIsReadEachTime ends what a token hangs on between two uses of it.
func TestStateIsReadEachTime(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	dana := r.person("dana", r.admins.ID)
	for name, end := range map[string]func(l *login) string{
		"grant":   func(l *login) string { return l.grant.ID },
		"session": func(l *login) string { return l.session.ID },
		"device":  func(l *login) string { return l.session.Device },
	} {
		l := r.login(dana, everything)
		r.want(l.do("GET", "/v1/people", nil), 200, "")
		r.seed("", lineage.End{ID: end(l), Why: "test"})
		if a := l.do("GET", "/v1/people", nil); a.StatusCode != 401 {
			t.Errorf("%s ended: %d", name, a.StatusCode)
		}
	}
	l := r.login(dana, everything)
	r.want(l.do("GET", "/v1/people", nil), 200, "")
	r.pass(5*time.Minute + 10*time.Second)
	r.want(l.do("GET", "/v1/people", nil), 401, "invalid_token")
	l.token = l.mint(everything)
	r.want(l.do("GET", "/v1/people", nil), 200, "")
	// A withdrawn key verifies nothing, whatever was verified before.
	for _, k := range r.ring.List() {
		if k.Purpose == keyring.Token {
			r.seed("", keyring.Withdraw{ID: k.ID, At: r.time()})
		}
	}
	r.ok(r.ring.Reload(t.Context()))
	r.want(l.do("GET", "/v1/people", nil), 401, "invalid_token")
}

func TestAuthenticateMachine(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	m := r.machine(r.person("dana"))
	req := m.request("GET", "/v1/revocations/stream", nil)
	c, err := r.api.Authenticate(req)
	r.ok(err)
	jkt, _ := jose.Thumbprint(m.key.Public())
	if c.ClientID != "robot" || !c.Has("feed") || c.Has("fee") || c.JKT != jkt || c.Human() {
		t.Errorf("caller: %+v", c)
	}
	if _, err := r.api.Authenticate(req); err == nil {
		t.Error("the proof was taken twice")
	}
}

func TestUnknownRoutes(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	l := r.login(r.person("dana"), "self")
	r.want(l.do("GET", "/v1/nothing", nil), 404, "not_found")
	a := r.want(l.do("POST", "/v1/me", nil), 405, "method_not_allowed")
	if a.Header.Get("Allow") != "GET" {
		t.Errorf("Allow: %s", a.Header.Get("Allow"))
	}
	a = l.do("HEAD", "/v1/me", nil)
	if a.StatusCode != 200 || len(a.text) != 0 {
		t.Errorf("HEAD: %d %s", a.StatusCode, a.text)
	}
	for _, q := range []string{"?x=1", "?limit=1&limit=2", "?limit=0", "?limit=201", "?limit=x", "?after=%00", "?after=%ff", "?after=%zz"} {
		path := "/v1/sessions"
		req := l.request("GET", path, nil)
		req.URL.RawQuery = strings.TrimPrefix(q, "?")
		r.want(r.send(req), 400, "request_invalid")
	}
}

func TestDocument(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	req, err := http.NewRequest(http.MethodGet, r.http.URL+"/v1/openapi.json", nil)
	r.ok(err)
	a := r.send(req)
	if a.StatusCode != 200 || a.Header.Get("Content-Type") != "application/openapi+json" || a.body["openapi"] != "3.1.0" {
		t.Fatalf("document: %d %s", a.StatusCode, a.Header.Get("Content-Type"))
	}
	var ops []string
	for path, v := range a.body["paths"].(map[string]any) {
		if !strings.HasPrefix(path, "/v1/") {
			t.Errorf("path %s", path)
		}
		for method, o := range v.(map[string]any) {
			op := o.(map[string]any)
			ops = append(ops, op["operationId"].(string))
			fail, ok := op["responses"].(map[string]any)["default"].(map[string]any)
			if !ok || fail["content"].(map[string]any)["application/problem+json"] == nil {
				t.Errorf("%s %s does not say how it fails", method, path)
			}
			if op["summary"] == nil {
				t.Errorf("%s %s has no summary", method, path)
			}
		}
	}
	slices.Sort(ops)
	if len(slices.Compact(slices.Clone(ops))) != len(ops) {
		t.Errorf("an operation's id stands twice: %v", ops)
	}
	// Every reference leads somewhere, and what is sent refuses what it does not know.
	schemas := a.body["components"].(map[string]any)["schemas"].(map[string]any)
	for _, ref := range strings.Split(string(a.text), `"$ref":"`)[1:] {
		name := strings.TrimPrefix(ref[:strings.IndexByte(ref, '"')], "#/components/schemas/")
		if schemas[name] == nil {
			t.Errorf("nothing is at %s", name)
		}
	}
	for _, name := range []string{"ClientSpec", "ResourceSpec", "InviteBody", "GroupBody"} {
		s, _ := schemas[name].(map[string]any)
		if s == nil || s["additionalProperties"] != false {
			t.Errorf("%s: %v", name, s)
		}
	}
	if spec := schemas["ClientSpec"].(map[string]any)["properties"].(map[string]any); spec["first_party"] != nil || spec["managed_by"] != nil {
		t.Error("what only the server says can be sent")
	}
	req, err = http.NewRequest(http.MethodGet, r.http.URL+"/.well-known/oauth-protected-resource/v1", nil)
	r.ok(err)
	a = r.send(req)
	if a.body["resource"] != issuer+"/v1" || a.body["dpop_bound_access_tokens_required"] != true {
		t.Errorf("metadata: %s", a.text)
	}
}

// TestRefusalsAreRecorded finds refused reads and writes in the log.
func TestRefusalsAreRecorded(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	sam := r.person("sam")
	l := r.login(sam, everything)
	r.want(l.do("GET", "/v1/people", nil), 403, "denied")
	r.want(l.do("POST", "/v1/people/usr_x/disable", nil), 403, "denied")
	boss := r.login(r.person("dana", r.admins.ID), everything)
	a := r.want(boss.do("GET", "/v1/audit", nil, query("person="+sam.ID)), 200, "")
	var refused []string
	for _, i := range a.items() {
		if i["refused"] == true {
			refused = append(refused, i["kind"].(string))
		}
	}
	slices.Sort(refused)
	if !slices.Equal(refused, []string{"person.disabled", "token.refused"}) {
		t.Errorf("refused: %v\n%s", refused, a.text)
	}
}

func query(q string) func(*http.Request) { return func(r *http.Request) { r.URL.RawQuery = q } }
