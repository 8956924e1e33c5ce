package oauth

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/keyring"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/web"
)

// registered changes what a client is, with the keys that it needs.
func (r *rig) registered(c client.Client) client.Client {
	r.Helper()
	for _, alg := range c.Signs() {
		for _, n := range r.nodes {
			k, need, err := n.server.Keys.(*keyring.Ring).Demanded(keyring.IDToken, alg)
			ok(r, err)
			if need {
				r.do(audit.KeyPublished, keyring.Add{Key: k})
			}
			ok(r, n.server.Keys.(*keyring.Ring).Reload(r.Context()))
		}
	}
	ok(r, client.Check(c))
	if have, err := r.nodes[0].store.Client(r.Context(), c.ID); err == nil && have.ID == c.ID {
		r.do(audit.ClientUpdated, client.Update{Client: c})
	} else {
		r.do(audit.ClientCreated, client.Create{Client: c})
	}
	for _, n := range r.nodes { // what a second ago was true is not to be remembered here
		n.server.recent = recentRows{}
	}
	return c
}

// asks authorizes in the person's browser.
func (r *rig) asks(c client.Client, pairs ...string) answer {
	r.Helper()
	return r.authorize(r.request(c, pairs...), in(r.ses))
}

// param is a parameter of the answer to a client.
func (a answer) param(name string) string {
	u, err := url.Parse(a.header.Get("Location"))
	if err != nil {
		return ""
	}
	return u.Query().Get(name)
}

// hosted is a further client at a host of its own.
func (r *rig) hosted(name string) client.Client {
	return client.Client{
		ID: id.New(id.Client), ClientID: name, Name: name, AuthMethod: client.AuthNone, FirstParty: true, Scopes: r.app.Scopes, Resources: r.app.Resources,
		GrantTypes: r.app.GrantTypes, RedirectURIs: []string{"https://" + name + ".example.com/cb"},
	}
}

func headerOf(t testing.TB, token string) (h struct{ Alg, Typ, Kid string }) {
	t.Helper()
	head, _, _ := strings.Cut(token, ".")
	text, err := base64.RawURLEncoding.DecodeString(head)
	ok(t, err)
	ok(t, json.Unmarshal(text, &h))
	return h
}

// An ID token is signed as its client is registered, with the key that the JWKS has
// for it, and verifies with no other algorithm.
func TestIDTokenAlgorithms(t *testing.T) {
	t.Parallel()
	engines(t, 1, func(r *rig) {
		for _, alg := range client.SignedAlgs() {
			c := r.hosted(strings.ToLower(alg))
			c.IDTokenAlg, c.UserInfoAlg = alg, alg
			c = r.registered(c)
			tok := r.granted(c, "scope", "openid email", "nonce", "n-1")
			if h := headerOf(t, tok.IDToken); h.Alg != alg || h.Typ != "JWT" {
				t.Errorf("%s: signed as %+v", alg, h)
			}
			set := got(jose.ParseJWKSet([]byte(r.get("/oauth/jwks").body)))(t)
			want := jose.IDTokenWant{Issuer: issuer, ClientID: c.ClientID, Nonce: "n-1", Now: r.clock.now()}
			for _, other := range client.SignedAlgs() {
				want.Algorithms = []string{other}
				if _, err := jose.VerifyIDToken(tok.IDToken, set, want); (err == nil) != (other == alg) {
					t.Errorf("%s, verified as %s: %v", alg, other, err)
				}
			}
			again := r.tokens(r.refresh(c, tok.RefreshToken))
			if h := headerOf(t, again.IDToken); h.Alg != alg {
				t.Errorf("%s: refreshed as %s", alg, h.Alg)
			}
			a := r.get("/oauth/userinfo", with("Authorization", "Bearer "+tok.AccessToken))
			if a.header.Get("Content-Type") != "application/jwt" || headerOf(t, a.body).Alg != alg {
				t.Fatalf("%s: userinfo as %s", alg, a.header.Get("Content-Type"))
			}
			want.Algorithms, want.Nonce = []string{alg}, ""
			if _, err := jose.VerifyIDToken(a.body, set, want); problem.CodeOf(err) != "id_token_malformed" {
				t.Errorf("%s: userinfo passes for an ID token: %v", alg, err)
			}
			var said map[string]any
			text := got(base64.RawURLEncoding.DecodeString(strings.Split(a.body, ".")[1]))(t)
			ok(t, json.Unmarshal(text, &said))
			if said["iss"] != issuer || said["aud"] != c.ClientID || said["sub"] != r.person.Subject || said["email"] != r.person.Email {
				t.Errorf("%s: userinfo says %s", alg, text)
			}
			// A hint of whatever algorithm of ours is read; an access token is none.
			if a := r.asks(c, "id_token_hint", tok.IDToken); a.param("code") == "" {
				t.Errorf("%s as a hint: %d %s", alg, a.status, a.header.Get("Location"))
			}
			if a := r.asks(c, "id_token_hint", tok.AccessToken); a.param("error") != "invalid_request" {
				t.Errorf("%s: an access token as a hint: %s", alg, a.header.Get("Location"))
			}
		}
		// A client of one algorithm is never given another.
		if h := headerOf(t, r.granted(r.app, "scope", "openid").IDToken); h.Alg != "ES256" {
			t.Errorf("without a choice: %s", h.Alg)
		}
	})
}

// A person has one subject per sector, the same in everything that a client of it
// hears, and no other client can tell who it is.
func TestPairwiseSubjects(t *testing.T) {
	t.Parallel()
	engines(t, 1, func(r *rig) {
		pair := func(name, host string) client.Client {
			c := r.hosted(name)
			c.SubjectType, c.RedirectURIs = client.Pairwise, []string{"https://" + host + "/cb"}
			return r.registered(c)
		}
		one, two, other := pair("one", "a.example.com"), pair("two", "a.example.com"), pair("other", "b.example.com")
		subs := map[string]string{}
		tokens := map[string]tokenResponse{}
		for _, c := range []client.Client{one, two, other} {
			tok := r.granted(c, "scope", "openid notes:read", "resource", r.notes.URI)
			tokens[c.ClientID] = tok
			sub := r.idToken(tok.IDToken, c.ClientID).Subject
			subs[c.ClientID] = sub
			if len(sub) != 43 || sub == r.person.Subject {
				t.Errorf("%s: %q", c.ClientID, sub)
			}
			if got := r.claims(tok.AccessToken).Subject; got != sub {
				t.Errorf("%s: the access token says %q", c.ClientID, got)
			}
			if got := r.post("/oauth/introspect", form("token", tok.AccessToken), r.auth(r.rs)).json(t)["sub"]; got != sub {
				t.Errorf("%s: introspection says %v", c.ClientID, got)
			}
			if got := r.get("/oauth/userinfo", with("Authorization", "Bearer "+tok.AccessToken)).json(t)["sub"]; got != sub {
				t.Errorf("%s: userinfo says %v", c.ClientID, got)
			}
			again := r.tokens(r.refresh(c, tok.RefreshToken))
			if got := r.idToken(again.IDToken, c.ClientID).Subject; got != sub || r.claims(again.AccessToken).Subject != sub {
				t.Errorf("%s: refreshed %q", c.ClientID, got)
			}
			for name, text := range map[string]string{"access": tok.AccessToken, "id": tok.IDToken} {
				body := got(base64.RawURLEncoding.DecodeString(strings.Split(text, ".")[1]))(t)
				for _, secret := range []string{r.person.Subject, r.person.ID, r.ses} {
					if strings.Contains(string(body), secret) {
						t.Errorf("%s: the %s token gives %s away", c.ClientID, name, secret)
					}
				}
			}
		}
		if subs["one"] != subs["two"] || subs["one"] == subs["other"] {
			t.Errorf("%v", subs)
		}
		if a, b := r.idToken(tokens["one"].IDToken, "one").SessionID, r.idToken(tokens["two"].IDToken, "two").SessionID; a == b || a == "" {
			t.Errorf("two clients see the same sid %q", a)
		}
		// Tokens for the server itself are read by their clients only: nothing in two
		// of them is the same.
		a := r.claims(r.granted(one, "scope", "openid", "resource", "").AccessToken)
		b := r.claims(r.granted(other, "scope", "openid", "resource", "").AccessToken)
		for _, h := range append(a.Lineage, a.SessionID) {
			for _, o := range append(b.Lineage, b.SessionID) {
				if h == o {
					t.Errorf("both have the handle %s", h)
				}
			}
		}
		// As a hint, and asked for by value, it is the sector's own that counts.
		for name, c := range map[string]struct{ pair, value, want string }{
			"own hint":         {"id_token_hint", tokens["one"].IDToken, ""},
			"another's hint":   {"id_token_hint", tokens["other"].IDToken, "invalid_request"},
			"own sub":          {"claims", `{"id_token":{"sub":{"value":"` + subs["one"] + `"}}}`, ""},
			"another sector's": {"claims", `{"id_token":{"sub":{"value":"` + subs["other"] + `"}}}`, "login_required"},
			"the public one":   {"claims", `{"id_token":{"sub":{"value":"` + r.person.Subject + `"}}}`, "login_required"},
		} {
			if got := r.asks(one, "prompt", "none", c.pair, c.value).param("error"); got != c.want {
				t.Errorf("%s: %q, want %q", name, got, c.want)
			}
		}
	})
}

// The document of a sector has to name a client's redirect URIs, and is fetched
// through the guard.
func TestSectorDocument(t *testing.T) {
	t.Parallel()
	answer := ""
	status := http.StatusOK
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/away" {
			http.Redirect(w, r, "/", http.StatusFound)
			return
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(answer))
	}))
	defer srv.Close()
	host := strings.TrimPrefix(srv.URL, "http://")
	c := client.Client{ClientID: "x", RedirectURIs: []string{"https://a.example.com/cb", "https://b.example.com/cb"}}
	c.SubjectType, c.SectorURI = client.Pairwise, srv.URL
	open := Sectors{Client: web.Egress{Allow: []string{host}, MaxBytes: 1 << 10}.Client()}
	for name, v := range map[string]struct {
		answer, path string
		status       int
		ok           bool
	}{
		"all are named":  {`["https://b.example.com/cb","https://a.example.com/cb","https://c.example.com/cb"]`, "", 200, true},
		"one is missing": {`["https://a.example.com/cb"]`, "", 200, false},
		"another path":   {`["https://a.example.com/cb","https://b.example.com/cb2"]`, "", 200, false},
		"not a list":     {`{"redirect_uris":["https://a.example.com/cb","https://b.example.com/cb"]}`, "", 200, false},
		"not found":      {`["https://a.example.com/cb","https://b.example.com/cb"]`, "", 404, false},
		"a redirect":     {`["https://a.example.com/cb","https://b.example.com/cb"]`, "/away", 200, false},
		"too long":       {`["https://a.example.com/cb","https://b.example.com/cb"` + strings.Repeat(" ", 1<<10) + `]`, "", 200, false},
		"empty":          {``, "", 200, false},
	} {
		answer, status, c.SectorURI = v.answer, v.status, srv.URL+v.path
		err := open.Check(t.Context(), c)
		if (err == nil) != v.ok || err != nil && problem.CodeOf(err) != "sector_invalid" {
			t.Errorf("%s: %v", name, err)
		}
	}
	answer, status, c.SectorURI = `["https://a.example.com/cb","https://b.example.com/cb"]`, 200, srv.URL
	if err := (Sectors{Client: web.Egress{}.Client()}).Check(t.Context(), c); problem.CodeOf(err) != "sector_invalid" {
		t.Errorf("an address that is not public is fetched: %v", err)
	}
	c.SectorURI = ""
	ok(t, (Sectors{}).Check(t.Context(), c))
}

// Claims that are asked for one by one are told where they were asked for, to
// clients that have no scope for them, and with a value only if it is theirs.
func TestClaimsParameter(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	for name, c := range map[string]struct {
		scope, claims string
		id, info      string // claims about the person, in order
	}{
		"nothing":      {"openid", ``, "", ""},
		"in userinfo":  {"openid", `{"userinfo":{"email":null,"name":{"essential":true}}}`, "", "email name"},
		"in the token": {"openid", `{"id_token":{"email":null,"email_verified":null,"preferred_username":null,"name":null}}`, "email name preferred_username", ""},
		"unknown":      {"openid", `{"userinfo":{"birthdate":{"essential":true},"https://example.com/x":null}}`, "", ""},
		"its value":    {"openid", `{"userinfo":{"preferred_username":{"value":"dana"},"name":{"values":["x","Dana Lind"]}}}`, "", "name preferred_username"},
		"not its":      {"openid", `{"userinfo":{"preferred_username":{"value":"sam"},"name":{"values":[1,true]}}}`, "", ""},
		"of its scope": {"openid profile", `{"userinfo":{"preferred_username":{"value":"sam"}}}`, "name", "name preferred_username"},
		"no openid":    {"notes:read", `{"userinfo":{"email":null}}`, "", ""},
	} {
		tok := r.granted(r.app, "scope", c.scope, "claims", c.claims)
		if tok.IDToken != "" {
			if got := claimsIn(t, tok.IDToken); got != c.id {
				t.Errorf("%s: the ID token has %q, want %q", name, got, c.id)
			}
		}
		a := r.get("/oauth/userinfo", with("Authorization", "Bearer "+tok.AccessToken))
		if c.scope == "notes:read" {
			if a.status != http.StatusForbidden {
				t.Errorf("%s: %d", name, a.status)
			}
			continue
		}
		if got := about(a.json(t)); got != c.info {
			t.Errorf("%s: userinfo has %q, want %q", name, got, c.info)
		}
		again := r.tokens(r.refresh(r.app, tok.RefreshToken))
		if got := about(r.get("/oauth/userinfo", with("Authorization", "Bearer "+again.AccessToken)).json(t)); got != c.info {
			t.Errorf("%s: after a refresh userinfo has %q, want %q", name, got, c.info)
		}
	}
	for name, c := range map[string]string{
		"twice":        `{"id_token":{"email":null,"email":null}}`,
		"a list":       `[]`,
		"a string":     `{"id_token":{"email":"x"}}`,
		"two subjects": `{"id_token":{"sub":{"values":["a","b"]}}}`,
		"they differ":  `{"id_token":{"sub":{"value":"a"}},"userinfo":{"sub":{"value":"b"}}}`,
		"too many":     `{"id_token":{"email":{"values":[` + strings.Repeat("1,", 16) + `1]}}}`,
		"too long":     `{"id_token":{"x":{"value":"` + strings.Repeat("y", 8<<10) + `"}}}`,
	} {
		if got := r.asks(r.app, "claims", c).param("error"); got != "invalid_request" {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// Consent names what a claim tells, as its scope would.
func TestClaimsAreConsentedTo(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	a := r.asks(r.plain, "scope", "openid", "claims", `{"userinfo":{"email":null}}`)
	where := got(url.Parse(a.header.Get("Location")))(t)
	if where.Path != "/page/consent" {
		t.Fatalf("%d %s", a.status, where)
	}
	req := httptest.NewRequest("GET", "/", nil)
	req.Header.Set(headerSession, r.ses)
	ses := got(r.nodes[0].store.Session(t.Context(), r.ses))(t)
	p := got(r.nodes[0].server.Pending(httptest.NewRecorder(), req, where.Query().Get("tx"), &ses))(t)
	var names []string
	for _, sc := range p.Scopes {
		names = append(names, sc.Name)
	}
	if strings.Join(names, " ") != "openid email" {
		t.Errorf("consent shows %v", names)
	}
}

// about names the claims about the person among some, in order.
func about(m map[string]any) string {
	var out []string
	for _, name := range []string{"email", "name", "preferred_username"} {
		if m[name] != nil {
			out = append(out, name)
		}
	}
	return strings.Join(out, " ")
}

func claimsIn(t testing.TB, token string) string {
	t.Helper()
	var m map[string]any
	ok(t, json.Unmarshal(got(base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1]))(t), &m))
	return about(m)
}

// What a client may say about the pages is taken and changes nothing that they are
// not able to do.
func TestPresentationParameters(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	for _, pair := range [][2]string{
		{"display", "popup"}, {"display", "unknown"}, {"ui_locales", "fr-CA fr en"}, {"claims_locales", "de"}, {"login_hint", "dana"},
	} {
		if a := r.asks(r.app, pair[0], pair[1]); a.param("code") == "" {
			t.Errorf("%s=%s: %d %s", pair[0], pair[1], a.status, a.header.Get("Location"))
		}
	}
	m := r.get("/.well-known/openid-configuration").json(t)
	for name, want := range map[string]string{
		"subject_types_supported": `["public","pairwise"]`, "id_token_signing_alg_values_supported": `["RS256","ES256","PS256","EdDSA"]`,
		"userinfo_signing_alg_values_supported": `["RS256","ES256","PS256","EdDSA"]`, "claims_parameter_supported": `true`,
		"display_values_supported": `["page"]`, "ui_locales_supported": `["en"]`, "claim_types_supported": `["normal"]`,
	} {
		if text := got(json.Marshal(m[name]))(t); string(text) != want {
			t.Errorf("%s is %s, want %s", name, text, want)
		}
	}
}
