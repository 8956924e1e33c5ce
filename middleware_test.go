package countersign

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign-dev/countersign/internal/jose"
)

var update = flag.Bool("update", false, "write the golden files")

// TestAnswers holds every answer of the middleware, status, headers and body,
// against testdata/answers.golden.
func TestAnswers(t *testing.T) {
	i := newIssuer(t)
	key := newKey(t)
	rotate := []Requirement{RequireScope("keys:rotate"), RequireAssurance("phr"), RequireFresh(5 * time.Minute), Sensitive()}
	type claims = jose.AccessTokenClaims
	old := func(c *claims) { c.AuthTime = jose.Date(time.Now().Add(-time.Hour)) }
	machine := func(c *claims) { c.Subject, c.ACR, c.AuthTime, c.AMR, c.Assurance = "svc_ci", "", 0, nil, nil }
	agent := func(c *claims) { c.Actor = &jose.Actor{Subject: "agt_7"} }
	base := time.Now().Truncate(time.Second)
	tests := []struct {
		name   string
		reqs   []Requirement
		scope  string
		claims func(*claims)
		change func(*http.Request)
		cfg    func(*Config)
	}{
		{name: "nothing sent", reqs: rotate, change: func(r *http.Request) { r.Header.Del("Authorization") }},
		{name: "nothing sent, bearer accepted too", reqs: rotate, change: func(r *http.Request) { r.Header.Del("Authorization") }, cfg: func(c *Config) { c.AllowBearer = true }},
		{name: "expired, and too little besides", reqs: rotate, claims: func(c *claims) { c.ExpiresAt = 1 }},
		{name: "bound token as bearer", change: func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), "DPoP", "Bearer", 1))
		}, cfg: func(c *Config) { c.AllowBearer = true }},
		{name: "two Authorization headers", change: func(r *http.Request) { r.Header.Add("Authorization", "Bearer x") }},
		{name: "no proof", change: func(r *http.Request) { r.Header.Del("DPoP") }},
		{name: "scope missing", reqs: rotate, scope: "notes:read"},
		{name: "scope missing where nothing else is asked", reqs: []Requirement{RequireScope("keys:rotate")}, scope: "notes:read"},
		{name: "old sign-in", reqs: rotate, scope: "keys:rotate", claims: old},
		{name: "old sign-in and scope missing", reqs: rotate, scope: "notes:read", claims: old},
		{name: "weaker rung", reqs: []Requirement{RequireAssurance("phrh")}},
		{name: "unknown acr", reqs: []Requirement{RequireAssurance("urn:countersign:acr:single")}, claims: func(c *claims) { c.ACR = "gold" }},
		{name: "fresh only, old", reqs: []Requirement{RequireFresh(time.Hour)}, claims: func(c *claims) { c.AuthTime = 1 }},
		{name: "fresh enough, refreshed since", reqs: []Requirement{RequireFresh(time.Hour)}, claims: func(c *claims) {
			c.AuthTime = jose.Date(base.Add(-10 * time.Minute))
			c.Assurance.Human.Present = false
		}},
		{name: "just signed in, but elsewhere", reqs: []Requirement{RequireFresh(time.Hour)}, claims: func(c *claims) { c.Assurance.Human.Present = false }},
		{name: "issuer that says no asr", reqs: rotate, scope: "keys:rotate", claims: func(c *claims) { c.Assurance = nil }},
		{name: "agent, issuer that says no asr", reqs: rotate, scope: "keys:rotate", claims: func(c *claims) { agent(c); c.Assurance = nil }},
		{name: "agent where a person must be", reqs: rotate, scope: "keys:rotate", claims: agent},
		{name: "agent with too little", reqs: []Requirement{RequireAssurance("phrh")}, claims: agent},
		{name: "machine where a rung is asked", reqs: rotate, scope: "notes:read", claims: machine},
		{name: "machine with the rung, where a person must be", reqs: rotate, scope: "keys:rotate", claims: func(c *claims) {
			machine(c)
			c.Assurance = &jose.Assurance{Actors: []jose.ActorAssurance{{Subject: "svc_ci", Rung: "m3"}}}
		}},
		{name: "machine without scope", reqs: []Requirement{RequireScope("a", "b")}, scope: "a", claims: machine},
		{name: "bearer token, scope missing", reqs: []Requirement{RequireScope("a")}, claims: func(c *claims) { c.Confirmation = nil }, change: func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), "DPoP", "Bearer", 1))
		}, cfg: func(c *Config) { c.AllowBearer = true }},
		{name: "cannot be found out", reqs: []Requirement{Sensitive()}, cfg: nil},
		{
			name: "resource with a path", reqs: []Requirement{RequireScope("a")}, claims: func(c *claims) { c.Audience = jose.Audience{testAudience + "/notes"} },
			cfg: func(c *Config) { c.Audience = testAudience + "/notes" },
		},
		{name: "good", reqs: []Requirement{RequireScope("notes:read"), RequireAssurance("urn:countersign:acr:multi"), RequireFresh(time.Minute)}, scope: "keys:rotate notes:read"},
		{name: "machine, good", reqs: []Requirement{RequireScope("a"), RequireAssurance("phr")}, scope: "a", claims: func(c *claims) {
			machine(c)
			c.Assurance = &jose.Assurance{Actors: []jose.ActorAssurance{{Subject: "svc_ci", Rung: "m3"}}}
		}},
	}
	defer func(f func() string) { reference = f }(reference)
	reference = func() string { return "7F3A9C" }
	var out bytes.Buffer
	for _, tt := range tests {
		v := newVerifier(t, i, func(c *Config) {
			c.Now = func() time.Time { return base }
			if tt.cfg != nil {
				tt.cfg(c)
			}
			if len(tt.reqs) == 4 { // so that Sensitive can be met
				c.Client = ClientAuth{ID: i.clientID, Secret: i.secret}
			}
		})
		c := i.Claims(testAudience, key, tt.scope)
		if tt.claims != nil {
			tt.claims(&c)
		}
		r := request(t, "POST", "/keys/rotate", i.Token(c), key)
		if tt.change != nil {
			tt.change(r)
		}
		w := httptest.NewRecorder()
		v.Protect(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "hello %s", TokenFrom(r.Context()).Subject)
		}), tt.reqs...).ServeHTTP(w, r)
		fmt.Fprintf(&out, "## %s\n%d\n", tt.name, w.Code)
		names := make([]string, 0, len(w.Header()))
		for n := range w.Header() {
			names = append(names, n)
		}
		slices.Sort(names)
		for _, n := range names {
			for _, val := range w.Header()[n] {
				fmt.Fprintf(&out, "%s: %s\n", n, val)
			}
		}
		fmt.Fprintf(&out, "\n%s\n\n", strings.TrimSpace(w.Body.String()))
		if list, err := ParseChallenge(w.Header().Values("WWW-Authenticate")); err != nil {
			t.Errorf("%s: our own parser: %v", tt.name, err)
		} else if w.Code == 401 && len(list) == 0 {
			t.Errorf("%s: 401 without a challenge (RFC 9110 section 15.5.2)", tt.name)
		}
	}
	const file = "testdata/answers.golden"
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), out.String()); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

func TestMaxAgeHasLeeway(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	r := &route{}
	RequireFresh(5 * time.Minute)(r)
	for age, want := range map[time.Duration]int{0: 0, 5 * time.Minute: 0, 5*time.Minute + 30*time.Second: 0, 5*time.Minute + 31*time.Second: 401, -31 * time.Second: 401} {
		tok := &Token{Subject: "usr_dana", ACR: "phr", AuthTime: now.Add(-age), present: true}
		if got := r.judge(tok, now); got.status != want {
			t.Errorf("age %s: %+v, want %d", age, got, want)
		}
	}
	if got := r.judge(&Token{Subject: "usr_dana", present: true}, now); got.status != 401 {
		t.Errorf("no auth_time: %+v", got)
	}
}

func TestRequirementsRefuseNonsense(t *testing.T) {
	for name, f := range map[string]func(){
		"unknown rung":       func() { RequireAssurance("gold") },
		"under a minute":     func() { RequireFresh(time.Second) },
		"scope with a quote": func() { RequireScope(`a"b`) },
		"empty scope":        func() { RequireScope("") },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: accepted", name)
				}
			}()
			f()
		}()
	}
}

func TestMetadata(t *testing.T) {
	i := newIssuer(t)
	v := newVerifier(t, i, func(c *Config) { c.Audience = testAudience + "/notes" })
	mux := http.NewServeMux()
	v.MountMetadata(mux, ResourceMetadata{Name: "Notes", Scopes: []string{"notes:read"}})
	get := func(method, path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(method, path, nil))
		return w
	}
	if v.MetadataURL() != testAudience+"/.well-known/oauth-protected-resource/notes" {
		t.Errorf("URL %s", v.MetadataURL())
	}
	for _, path := range []string{"/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/notes"} {
		w := get("GET", path)
		var got map[string]any
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != 200 {
			t.Fatalf("%s: %d %v", path, w.Code, err)
		}
		want := map[string]any{
			"resource": testAudience + "/notes", "authorization_servers": []any{i.URL}, "scopes_supported": []any{"notes:read"},
			"bearer_methods_supported": []any{"header"}, "dpop_bound_access_tokens_required": true, "resource_name": "Notes",
			"dpop_signing_alg_values_supported": []any{"ES256", "EdDSA", "Ed25519", "PS256", "ES384"},
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got)\n%s", path, d)
		}
		if w.Header().Get("Access-Control-Allow-Origin") != "*" {
			t.Error("no CORS")
		}
	}
	if w := get("POST", "/.well-known/oauth-protected-resource"); w.Code != 405 {
		t.Errorf("POST: %d", w.Code)
	}
	if w := get("OPTIONS", "/.well-known/oauth-protected-resource"); w.Code != 204 {
		t.Errorf("OPTIONS: %d", w.Code)
	}
}

// Actors that differ only in what they have enrolled get the same bytes: the
// answer is made of the token and the route alone, and so is the same for a
// path whatever there is behind it.
func TestAnswersDependOnTokenAndRouteOnly(t *testing.T) {
	r := &route{}
	RequireAssurance("phrh")(r)
	a, b := &Token{Subject: "usr_a", ACR: "phr"}, &Token{Subject: "usr_b", ACR: "phr", AMR: []string{"swk"}, ClientID: "other"}
	if d := cmp.Diff(r.judge(a, time.Now()), r.judge(b, time.Now()), cmp.AllowUnexported(verdict{})); d != "" {
		t.Error(d)
	}
}
