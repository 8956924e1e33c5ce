package client

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/problem"
)

const docURL = "https://app.example.com/oauth/client.json"

// document is a good document with members put in, or taken out by "".
func document(pairs ...string) []byte {
	m := map[string]json.RawMessage{
		"client_id":     json.RawMessage(`"` + docURL + `"`),
		"client_name":   json.RawMessage(`"Example"`),
		"redirect_uris": json.RawMessage(`["http://127.0.0.1/callback", "https://app.example.com/callback"]`),
		"grant_types":   json.RawMessage(`["authorization_code", "refresh_token"]`),
	}
	for i := 0; i < len(pairs); i += 2 {
		if m[pairs[i]] = json.RawMessage(pairs[i+1]); pairs[i+1] == "" {
			delete(m, pairs[i])
		}
	}
	b, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return b
}

const aKey = `{"keys":[{"kty":"EC","crv":"P-256","kid":"1","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}`

func TestCheckDocumentURL(t *testing.T) {
	for _, good := range []string{docURL, "https://app.example.com/", "https://app.example.com:8443/c?v=1", "https://xn--bcher-kva.example/c"} {
		if err := CheckDocumentURL(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{
		"", "app", "http://app.example.com/c", "https://app.example.com", "https://app.example.com?c", "https://user@app.example.com/c",
		"https://app.example.com/c#x", "https://app.example.com/a/../c", "https://app.example.com/a/%2e%2e/c", "https://app.example.com/a/./c",
		"https://App.example.com/c", "HTTPS://app.example.com/c", "https://bücher.example/c", "https://app.example.com\\@evil.example/c",
		"https://app.example.com:443x/c", "https://app.example.com./c", "https://[::1]/c", "https://app.example.com/" + strings.Repeat("a", 512),
	} {
		if err := CheckDocumentURL(bad); problem.CodeOf(err) != "client_id_invalid" {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestParseDocument(t *testing.T) {
	c, err := ParseDocument(docURL, document())
	if err != nil {
		t.Fatal(err)
	}
	if c.ID != "" || c.Name != "Example" || c.AuthMethod != AuthNone || !c.Native || c.Group != "app.example.com" || c.Known() || !c.Asks() || c.FirstParty || len(c.Scopes)+len(c.Resources) > 0 {
		t.Errorf("%+v", c)
	}
	keyed, err := ParseDocument(docURL, document("jwks", aKey))
	if err != nil || keyed.AuthMethod != AuthPrivateKeyJWT {
		t.Errorf("keys: %v %+v", err, keyed)
	}
	if away, err := ParseDocument(docURL, document("jwks_uri", `"https://app.example.com/keys"`)); err != nil || away.AuthMethod != AuthPrivateKeyJWT || away.JWKSURI != "https://app.example.com/keys" {
		t.Errorf("keys by address: %v %+v", err, away)
	}
	named, err := ParseDocument(docURL, document("client_name", "", "grant_types", "", "unknown_member", `{"a":[1]}`))
	if err != nil || named.Name != "app.example.com" || !reflect.DeepEqual(named.GrantTypes, []GrantType{AuthorizationCode}) {
		t.Errorf("%v %+v", err, named)
	}
	hidden, err := ParseDocument(docURL, document("client_name", `"Bank\u202egpj.exe\u200b"`))
	if err != nil || hidden.Name != "Bankgpj.exe" {
		t.Errorf("%v %q", err, hidden.Name)
	}
	mixed, err := ParseDocument(docURL, document("redirect_uris", `["javascript:alert(1)", "https://ok.example/cb", "https://a@b/cb"]`))
	if err != nil || !reflect.DeepEqual(mixed.RedirectURIs, []string{"https://ok.example/cb"}) {
		t.Errorf("%v %v", err, mixed.RedirectURIs)
	}
	strict, err := ParseDocument(docURL, document("jwks", aKey, "dpop_bound_access_tokens", "true", "require_pushed_authorization_requests", "true", "require_signed_request_object", "true"))
	if err != nil || !strict.RequireDPoP || !strict.RequirePushed || !strict.RequireSigned || c.RequireDPoP || c.RequirePushed || c.RequireSigned {
		t.Errorf("what it demands of itself: %v %+v", err, strict)
	}
	for name, doc := range map[string][]byte{
		"not JSON": []byte(`<html>`), "a list": []byte(`[]`), "twice": []byte(`{"client_id":"` + docURL + `","client_id":"` + docURL + `"}`),
		"twice but for case": []byte(`{"client_id":"` + docURL + `","Client_ID":"https://evil.example/c"}`),
		"another client_id":  document("client_id", `"https://app.example.com/oauth/client.json/"`), "no client_id": document("client_id", ""),
		"a secret": document("client_secret", `"x"`), "a secret's end": document("client_secret_expires_at", `0`),
		"a secret method": document("token_endpoint_auth_method", `"client_secret_post"`), "keys without their method": document("jwks", aKey, "token_endpoint_auth_method", `"none"`),
		"the method without keys": document("token_endpoint_auth_method", `"private_key_jwt"`), "private keys": document("jwks", strings.Replace(aKey, `"x"`, `"d":"AAAA","x"`, 1)),
		"keys by address without TLS": document("jwks_uri", `"http://app.example.com/keys"`), "keys twice": document("jwks", aKey, "jwks_uri", `"https://app.example.com/keys"`),
		"no redirect": document("redirect_uris", `[]`), "bad redirects only": document("redirect_uris", `["javascript:alert(1)"]`),
		"a redirect of another type": document("redirect_uris", `[1]`), "implicit": document("response_types", `["token"]`), "machine": document("grant_types", `["client_credentials"]`),
		"a demand that is none": document("dpop_bound_access_tokens", `"yes"`), "signed requests without keys": document("require_signed_request_object", "true"),
		"too long": document("x", `"`+strings.Repeat("a", MaxAnnounced)+`"`), "a number that is not exact": document("x", `1e400`),
	} {
		if c, err := ParseDocument(docURL, doc); problem.From(err) == nil || !reflect.DeepEqual(c, Client{}) {
			t.Errorf("%s: %v %+v", name, err, c)
		}
	}
}

// TestDigest: what a person relied on has the same digest only while it is the
// same.
func TestDigest(t *testing.T) {
	of := func(pairs ...string) string {
		c, err := ParseDocument(docURL, document(pairs...))
		if err != nil {
			t.Fatal(err)
		}
		return c.Digest
	}
	was := of()
	if was == "" || was != of("redirect_uris", `["https://app.example.com/callback", "http://127.0.0.1:8080/callback"]`) || was != of("client_uri", `"https://app.example.com"`) {
		t.Error("order, a loopback port or a member that is not shown changed it")
	}
	for _, pairs := range [][]string{
		{"client_name", `"Example2"`},
		{"redirect_uris", `["https://app.example.com/callback"]`},
		{"jwks", aKey},
		{"dpop_bound_access_tokens", "true"},
		{"require_pushed_authorization_requests", "true"},
		{"redirect_uris", `["http://127.0.0.1/other", "https://app.example.com/callback"]`},
		{"redirect_uris", `["http://localhost/callback", "https://app.example.com/callback"]`},
	} {
		if of(pairs...) == was {
			t.Errorf("%v is the same", pairs)
		}
	}
}

func TestParseRegistration(t *testing.T) {
	now := time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC)
	r, err := ParseRegistration([]byte(`{"client_name":"Cursor","redirect_uris":["cursor://anysphere.cursor-retrieval/oauth","https://www.cursor.com/cb","http://127.0.0.1:3000/cb","http://evil.example/cb","javascript:alert(1)","https://www.cursor.com/cb"],
"grant_types":["authorization_code","refresh_token","urn:ietf:params:oauth:grant-type:device_code"],"token_endpoint_auth_method":"none","first_party":true,"scopes":["*"],"resources":["*"],"id":"cli_x"}`), now)
	if err != nil {
		t.Fatal(err)
	}
	c := r.Client("dyn_x")
	if !reflect.DeepEqual(c.RedirectURIs, []string{"cursor://anysphere.cursor-retrieval/oauth", "https://www.cursor.com/cb", "http://127.0.0.1:3000/cb"}) ||
		!reflect.DeepEqual(c.GrantTypes, []GrantType{AuthorizationCode, RefreshToken}) || c.FirstParty || c.ID != "" || len(c.Resources)+len(c.Scopes) > 0 || c.ClientID != "dyn_x" || !c.Native || !c.Asks() {
		t.Errorf("%+v", c)
	}
	strict, err := ParseRegistration([]byte(`{"redirect_uris":["https://a.example/cb"],"token_endpoint_auth_method":"private_key_jwt","jwks":`+aKey+`,"dpop_bound_access_tokens":true,"require_pushed_authorization_requests":true,"require_signed_request_object":true}`), now)
	if s := strict.Client("dyn_z"); err != nil || !s.RequireDPoP || !s.RequirePushed || !s.RequireSigned || c.RequireDPoP || c.RequirePushed || c.RequireSigned {
		t.Errorf("what it demands of itself: %v %+v", err, s)
	}
	secretful, err := ParseRegistration([]byte(`{"redirect_uris":["https://a.example/cb"]}`), now)
	if err != nil || secretful.AuthMethod != AuthSecretBasic {
		t.Fatalf("%v %+v", err, secretful)
	}
	v, has := secretful.WithSecret()
	if c := secretful.Client("dyn_y"); !has || c.SecretHash == nil || *c.SecretHash != v.Hash() || c.Name != "https://a.example" {
		t.Errorf("%+v", c)
	}
	for body, code := range map[string]string{
		`{"redirect_uris":["http://evil.example/cb","data:text/html,x","https://a.example/#f"]}`: "invalid_redirect_uri",
		`{}`: "invalid_redirect_uri", `{"redirect_uris":"https://a.example/cb"}`: "invalid_client_metadata",
		`{"redirect_uris":["https://a.example/cb"],"redirect_uris":["https://b.example/cb"]}`:                                       "invalid_client_metadata",
		`{"redirect_uris":["https://a.example/cb"],"token_endpoint_auth_method":"tls_client_auth"}`:                                 "invalid_client_metadata",
		`{"redirect_uris":["https://a.example/cb"],"token_endpoint_auth_method":"private_key_jwt"}`:                                 "invalid_client_metadata",
		`{"redirect_uris":["https://a.example/cb"],"grant_types":["client_credentials"]}`:                                           "invalid_client_metadata",
		`{"redirect_uris":["https://a.example/cb"],"response_types":["token"]}`:                                                     "invalid_client_metadata",
		`{"redirect_uris":["https://a.example/cb"],"software_statement":"x"}`:                                                       "invalid_software_statement",
		`{"redirect_uris":["https://a.example/cb"],"token_endpoint_auth_method":"private_key_jwt","jwks_uri":"http://a.example/k"}`: "invalid_client_metadata",
		`{"redirect_uris":["https://a.example/cb"],"client_name":"` + strings.Repeat("x", MaxAnnounced) + `"}`:                      "invalid_client_metadata",
		`{"redirect_uris":["https://a.example/cb"],"require_signed_request_object":true}`:                                           "invalid_client_metadata",
		`null`: "invalid_client_metadata", ``: "invalid_client_metadata", `{} {}`: "invalid_client_metadata",
	} {
		if r, err := ParseRegistration([]byte(body), now); problem.CodeOf(err) != code || !reflect.DeepEqual(r, Registration{}) {
			t.Errorf("%.80s: %v", body, err)
		}
	}
}

// TestFingerprint: registrations of one app belong together whatever port it got,
// and nothing else does.
func TestFingerprint(t *testing.T) {
	of := func(name, software string, uris ...string) string {
		return Registration{Name: name, SoftwareID: software, RedirectURIs: uris}.Fingerprint()
	}
	was := of("opencode", "", "http://127.0.0.1:1/mcp/cb")
	if len(was) != 43 || was != of("OpenCode", "", "http://127.0.0.1:2/mcp/cb") || was != of("opencode", "", "http://127.0.0.1/other", "http://127.0.0.1:9/x") {
		t.Error("one app is told apart from itself")
	}
	for _, other := range []string{
		of("opencode", "x", "http://127.0.0.1:1/mcp/cb"), of("opencode2", "", "http://127.0.0.1:1/mcp/cb"), of("opencode", "", "http://localhost:1/mcp/cb"),
		of("opencode", "", "https://127.0.0.1:1/mcp/cb"), of("opencode", "", "http://127.0.0.1:1/mcp/cb", "https://evil.example/cb"), of("opencode", "", "com.example.app:/cb"),
	} {
		if other == was {
			t.Error("another app has the same fingerprint")
		}
	}
}

func TestTrustOf(t *testing.T) {
	at := func(group string) Client { return Client{Origin: Origin{Source: FromDocument, Group: group}} }
	rule := func(group string, trust Trust) Rule { return Rule{Source: FromDocument, Group: group, Trust: trust} }
	rules := []Rule{rule("a.example", Allowed), rule("*.b.example", Trusted), rule("evil.b.example", Blocked), {Source: FromItself, Group: "fp", Trust: Blocked}, rule("bad.example", Blocked)}
	for _, c := range []struct {
		c    Client
		want Trust
	}{
		{at("a.example"), Allowed},
		{at("x.a.example"), Unsaid},
		{at("b.example"), Unsaid},
		{at("x.b.example"), Trusted},
		{at("notb.example"), Unsaid},
		{at("evil.b.example"), Blocked},
		{at("fp"), Unsaid},
		{Client{Origin: Origin{Source: FromItself, Group: "fp"}}, Blocked},
		{Client{Origin: Origin{Source: FromItself, Group: "a.example"}}, Unsaid},
		{Client{RedirectURIs: []string{"https://bad.example/cb"}, Origin: Origin{Source: FromItself, Group: "x"}}, Blocked},
		{Client{RedirectURIs: []string{"https://bad.example.org/cb"}, Origin: Origin{Source: FromItself, Group: "x"}}, Unsaid},
	} {
		if got := TrustOf(c.c, rules); got != c.want {
			t.Errorf("%+v: %q, want %q", c.c.Origin, got, c.want)
		}
	}
	for _, bad := range []Rule{
		rule("", Allowed), rule("*", Allowed), rule("com", Blocked), rule("https://a.example", Allowed), rule("A.example", Allowed), rule("a.example", "x"),
		{Source: FromItself, Group: "short", Trust: Blocked},
		{Source: FromItself, Group: strings.Repeat("x", 43), Trust: Trusted},
		{Group: "a.example", Trust: Allowed},
	} {
		if CheckRule(bad) == nil {
			t.Errorf("%+v is accepted", bad)
		}
	}
	if err := CheckRule(rule("*.example.com", Trusted)); err != nil {
		t.Error(err)
	}
}

func FuzzParseDocument(f *testing.F) {
	f.Add(docURL, document())
	f.Add(docURL, document("jwks", aKey))
	f.Add(docURL, document("redirect_uris", `["http://127.0.0.1:*/cb","com.example.app:/cb"]`))
	f.Add("https://a.example/", []byte(`{"client_id":"https://a.example/","redirect_uris":["https://b.example/"]}`))
	f.Fuzz(func(t *testing.T, clientID string, data []byte) {
		c, err := ParseDocument(clientID, data)
		if err != nil {
			if problem.From(err) == nil || !reflect.DeepEqual(c, Client{}) {
				t.Fatalf("an error comes with no value: %v %+v", err, c)
			}
			return
		}
		sound(t, c)
		if c.ClientID != clientID || c.SecretHash != nil || c.Keyed() != (c.AuthMethod == AuthPrivateKeyJWT) {
			t.Fatalf("%+v", c)
		}
	})
}

// sound is what holds of every client that says itself what it is.
func sound(t *testing.T, c Client) {
	t.Helper()
	if c.Name == "" || cleanName(c.Name) != c.Name || c.FirstParty || c.ID != "" || c.Known() || c.Digest == "" || len(c.RedirectURIs) == 0 || !c.Allows(AuthorizationCode) ||
		c.Allows(ClientCredentials) || c.Service != "" || len(c.Resources) > 0 {
		t.Fatalf("%+v", c)
	}
	for _, u := range c.RedirectURIs {
		if err := CheckRedirect(u, true); err != nil {
			t.Fatal(err)
		}
	}
}

func FuzzParseRegistration(f *testing.F) {
	for _, s := range []string{
		`{"client_name":"Cursor","redirect_uris":["cursor://x/cb","http://127.0.0.1:1/cb"],"token_endpoint_auth_method":"none","grant_types":["authorization_code","refresh_token"]}`,
		`{"redirect_uris":["https://a.example/cb"],"scope":"a b","software_id":"x"}`, `{"redirect_uris":["https://a.example/cb"],"token_endpoint_auth_method":"private_key_jwt","jwks":` + aKey + `}`, `{}`,
	} {
		f.Add([]byte(s))
	}
	now := time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := ParseRegistration(data, now)
		if err != nil {
			if problem.From(err) == nil || !reflect.DeepEqual(r, Registration{}) {
				t.Fatalf("an error comes with no value: %v %+v", err, r)
			}
			return
		}
		r.WithSecret()
		c := r.Client("dyn_x")
		sound(t, c)
		if len(c.Group) != 43 || fmt.Sprint(r.Fingerprint()) != c.Group {
			t.Fatalf("%+v", c)
		}
	})
}
