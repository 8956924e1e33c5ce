package client

import (
	"net/url"
	"strings"
	"testing"

	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/secret"
)

func TestCheckRedirect(t *testing.T) {
	for _, c := range []struct {
		uri         string
		web, native bool
	}{
		{"https://app.example.com/cb", true, true},
		{"https://app.example.com", true, true},
		{"https://app.example.com:8443/cb", true, true},
		{"https://localhost/cb", true, true},
		{"https://192.0.2.1/cb", true, true},
		{"https://app.example.com/cb?tenant=1", true, true},
		{"https://app.example.com/a%20b", false, false}, // an escaped space
		{"https://app.example.com/a%C3%A9", true, true},
		{"http://127.0.0.1/cb", false, true},
		{"http://127.0.0.1:8080/cb", false, true},
		{"http://localhost:*/cb", false, true},
		{"http://[::1]/cb", false, true},
		{"http://[::1]:5000/cb", false, true},
		{"com.example.app:/cb", false, true},
		{"com.example.app://cb", false, true},
		{"cursor://anysphere.cursor-retrieval/oauth", false, true},
		{"vscode://vscode.github-authentication/did-authenticate", false, true},

		// Schemes that run something, and any that could belong to anybody.
		{"javascript:alert(1)", false, false},
		{"JaVaScRiPt:alert(1)", false, false},
		{"data:text/html,x", false, false},
		{"file:///etc/passwd", false, false},
		{"blob:https://a.example/x", false, false},
		{"vbscript:x", false, false},
		{"about:blank", false, false},
		{"myapp://cb", false, false},
		{"HTTPS://app.example.com/cb", false, false},
		{"Com.Example.App:/cb", false, false},

		// What one parser reads as another host than the next.
		{"https://a@b@evil.example/", false, false},
		{"https://user:pw@app.example.com/", false, false},
		{"https://app.example.com\\@evil.example/", false, false},
		{"https://app.example.com%2eevil.example/", false, false},
		{"https://app.example.com:80:90/", false, false},
		{"https://app.example.com:0/", false, false},
		{"https://app.example.com:/", false, false},
		{"https://app.example.com:080/", false, false},
		{"https://app.example.com:99999/", false, false},
		{"https://App.example.com/", false, false},
		{"https://app..example.com/", false, false},
		{"https://app.example.com./", false, false},
		{"https://*.example.com/cb", false, false},
		{"https:///cb", false, false},
		{"https:/cb", false, false},
		{"https:cb", false, false},
		{"//app.example.com/cb", false, false},
		{"app.example.com/cb", false, false},
		{"https://exämple.com/cb", false, false},
		{"https://[::1]/cb", false, false},
		{"http://127.0.0.1.evil.example/cb", false, false},
		{"http://127.0.0.1@evil.example/cb", false, false},
		{"http://localhost.evil.example/cb", false, false},
		{"http://app.example.com/cb", false, false},
		{"http://127.0.0.2/cb", false, false},
		{"https://localhost:*/cb", false, false},

		// Paths that are read in more than one way.
		{"https://app.example.com/a/../b", false, false},
		{"https://app.example.com/a/./b", false, false},
		{"https://app.example.com/a/..;/b", false, false},
		{"https://app.example.com/a/%2e%2e/b", false, false},
		{"https://app.example.com/a%2fb", false, false},
		{"https://app.example.com/a%5cb", false, false},
		{"https://app.example.com/a%00b", false, false},
		{"https://app.example.com/a%252e", false, false},
		{"https://app.example.com/a%zz", false, false},
		{"https://app.example.com/a%2", false, false},
		{"https://app.example.com/*", false, false},
		{"https://app.example.com/a b", false, false},
		{"https://app.example.com/a\tb", false, false},
		{"https://app.example.com/\"><script>", false, false},
		{"https://app.example.com/cb#x", false, false},
		{"https://app.example.com/cb#", false, false},

		// Queries that the answer would collide with.
		{"https://app.example.com/cb?code=1", false, false},
		{"https://app.example.com/cb?CODE=1", false, false},
		{"https://app.example.com/cb?%63ode=1", false, false},
		{"https://app.example.com/cb?a=1&state=2", false, false},
		{"https://app.example.com/cb?a=1&a=2", false, false},
		{"https://app.example.com/cb?a=1;b=2", false, false},
		{"https://app.example.com/cb?a=%0d%0aX", false, false},
		{"https://app.example.com/cb?a=%ff", false, false},
		{"https://app.example.com/cb?a=%zz", false, false},
		{"", false, false},
		{"https://app.example.com/" + strings.Repeat("a", MaxRedirect), false, false},
	} {
		for native, want := range map[bool]bool{false: c.web, true: c.native} {
			err := CheckRedirect(c.uri, native)
			if (err == nil) != want {
				t.Errorf("%.80q native=%v: %v, want accepted %v", c.uri, native, err, want)
			}
			if err != nil && (problem.From(err) == nil || problem.From(err).Kind != problem.Invalid) {
				t.Errorf("%.80q: %v is no problem.Invalid", c.uri, err)
			}
		}
	}
}

// FuzzCheckRedirect holds what is accepted to what net/url reads of it.
func FuzzCheckRedirect(f *testing.F) {
	for _, s := range []string{"https://app.example.com/cb?x=1", "http://127.0.0.1:80/cb", "http://[::1]:*/", "com.example.app:/cb", "https://a@b@c/", "javascript:x", "https://a.example/..;/"} {
		f.Add(s, true)
		f.Add(s, false)
	}
	f.Fuzz(func(t *testing.T, uri string, native bool) {
		if CheckRedirect(uri, native) != nil {
			return
		}
		if !native && NativeRedirect(uri) {
			t.Fatalf("%q is a native one", uri)
		}
		u, err := url.Parse(strings.Replace(uri, ":*", ":1", 1))
		if err != nil {
			t.Fatalf("%q: %v", uri, err)
		}
		if u.User != nil || u.Fragment != "" || u.RawFragment != "" || strings.Contains(uri, "#") || u.Scheme != uri[:len(u.Scheme)] {
			t.Fatalf("%q: %+v", uri, u)
		}
		switch u.Scheme {
		case "https":
			if u.Hostname() == "" || strings.ContainsAny(u.Hostname(), "@:*%") {
				t.Fatalf("%q: host %q", uri, u.Hostname())
			}
		case "http":
			if h := u.Hostname(); h != "localhost" && h != "127.0.0.1" && h != "::1" {
				t.Fatalf("%q: host %q", uri, h)
			}
		case "javascript", "data", "file", "blob", "vbscript", "about":
			t.Fatalf("%q", uri)
		}
		if u.Query().Has("code") || u.Query().Has("state") || strings.Contains(u.Path, "/../") || strings.Contains(u.Path, "\\") {
			t.Fatalf("%q: %+v", uri, u)
		}
		if !strings.Contains(uri, ":*") && u.String() != uri && !strings.HasSuffix(uri, "?") && u.Opaque == "" && u.Host != "" {
			t.Fatalf("%q is written %q by another parser", uri, u.String())
		}
	})
}

func good() Client {
	return Client{
		ClientID: "app", Name: "App", AuthMethod: AuthNone, RedirectURIs: []string{"https://app.example.com/cb"},
		GrantTypes: []GrantType{AuthorizationCode, RefreshToken}, Scopes: []string{"a", "*"}, Resources: []string{"*"},
	}
}

func TestCheck(t *testing.T) {
	if err := Check(good()); err != nil {
		t.Fatal(err)
	}
	h := secret.New(secret.ClientSecret).Hash()
	service := func(c *Client) {
		c.GrantTypes, c.RedirectURIs, c.Service, c.AuthMethod, c.SecretHash = []GrantType{ClientCredentials}, nil, "svc_x", AuthSecretBasic, &h
	}
	for name, c := range map[string]struct {
		edit func(*Client)
		code string
	}{
		"service":            {service, ""},
		"both":               {func(c *Client) { service(c); *c = both(*c) }, ""},
		"short client_id":    {func(c *Client) { c.ClientID = "ab" }, "client_id_invalid"},
		"dotted client_id":   {func(c *Client) { c.ClientID = ".app" }, "client_id_invalid"},
		"colon in client_id": {func(c *Client) { c.ClientID = "a:b" }, "client_id_invalid"},
		"url as client_id":   {func(c *Client) { c.ClientID = "https://a.example" }, "client_id_invalid"},
		"no name":            {func(c *Client) { c.Name = "" }, "name_invalid"},
		"space at the end":   {func(c *Client) { c.Name = "App " }, "name_invalid"},
		"zero width":         {func(c *Client) { c.Name = "A\u200bpp" }, "name_invalid"},
		"right to left":      {func(c *Client) { c.Name = "A\u202epp" }, "name_invalid"},
		"invalid UTF-8":      {func(c *Client) { c.Name = "A\xff" }, "name_invalid"},
		"long name":          {func(c *Client) { c.Name = strings.Repeat("ä", 81) }, "name_invalid"},
		"no grant":           {func(c *Client) { c.GrantTypes = nil }, "grant_types_invalid"},
		"unknown grant":      {func(c *Client) { c.GrantTypes = append(c.GrantTypes, "implicit") }, "grant_types_invalid"},
		"grant twice":        {func(c *Client) { c.GrantTypes = append(c.GrantTypes, RefreshToken) }, "grant_types_invalid"},
		"public service":     {func(c *Client) { service(c); c.AuthMethod, c.SecretHash = AuthNone, nil }, "auth_method_invalid"},
		"service without":    {func(c *Client) { c.Service = "svc_x" }, "grant_types_invalid"},
		"secret for none":    {func(c *Client) { c.SecretHash = &h }, "auth_method_invalid"},
		"no secret":          {func(c *Client) { c.AuthMethod = AuthSecretPost }, "auth_method_invalid"},
		"unknown method":     {func(c *Client) { c.AuthMethod = "x" }, "auth_method_invalid"},
		"unused redirects":   {func(c *Client) { service(c); c.RedirectURIs = []string{"https://a.example/"} }, "redirect_unused"},
		"redirect twice":     {func(c *Client) { c.RedirectURIs = append(c.RedirectURIs, c.RedirectURIs[0]) }, "redirect_invalid"},
		"too many redirects": {func(c *Client) { c.RedirectURIs = make([]string, MaxRedirects+1) }, "client_too_large"},
		"scope twice":        {func(c *Client) { c.Scopes = []string{"a", "a"} }, "scope_invalid"},
		"quote in scope":     {func(c *Client) { c.Scopes = []string{`a"`} }, "scope_invalid"},
		"resource twice":     {func(c *Client) { c.Resources = []string{"res_a", "res_a"} }, "resources_invalid"},
		"jwks is not JSON":   {func(c *Client) { c.AuthMethod, c.JWKS = AuthPrivateKeyJWT, []byte(`x`) }, "jwks_invalid"},
		"keys by address":    {func(c *Client) { c.AuthMethod, c.JWKSURI = AuthPrivateKeyJWT, "https://keys.example.com:8443/jwks?v=1" }, ""},
		"keys twice": {func(c *Client) {
			c.AuthMethod, c.JWKSURI, c.JWKS = AuthPrivateKeyJWT, "https://keys.example.com/jwks", []byte(`{"keys":[]}`)
		}, "jwks_invalid"},
		"keys by plain http":   {func(c *Client) { c.JWKSURI = "http://keys.example.com/jwks" }, "jwks_uri_invalid"},
		"keys in a file":       {func(c *Client) { c.JWKSURI = "file:///etc/passwd" }, "jwks_uri_invalid"},
		"keys with a user":     {func(c *Client) { c.JWKSURI = "https://a@keys.example.com/jwks" }, "jwks_uri_invalid"},
		"keys with a fragment": {func(c *Client) { c.JWKSURI = "https://keys.example.com/jwks#" }, "jwks_uri_invalid"},
		"keys elsewhere":       {func(c *Client) { c.JWKSURI = "https://keys.example.com\\@evil.example/jwks" }, "jwks_uri_invalid"},
		"keys at no host":      {func(c *Client) { c.JWKSURI = "https:///jwks" }, "jwks_uri_invalid"},
		"no keys to sign with": {func(c *Client) { c.RequireSigned = true }, "jwks_invalid"},
		"no keys at all":       {func(c *Client) { c.AuthMethod = AuthPrivateKeyJWT }, "jwks_invalid"},
		"jwks has no key":      {func(c *Client) { c.AuthMethod, c.JWKS = AuthPrivateKeyJWT, []byte(`{"keys":[]}`) }, "jwks_invalid"},
		"jwks has a weak key": {func(c *Client) {
			c.AuthMethod, c.JWKS = AuthPrivateKeyJWT, []byte(`{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}`)
		}, "jwks_invalid"},
	} {
		cl := good()
		c.edit(&cl)
		if got := problem.CodeOf(Check(cl)); got != c.code {
			t.Errorf("%s: %q, want %q (%v)", name, got, c.code, Check(cl))
		}
	}
}

func both(c Client) Client {
	c.GrantTypes = append(c.GrantTypes, AuthorizationCode)
	c.RedirectURIs = []string{"https://app.example.com/cb"}
	return c
}

func TestCheckOpenID(t *testing.T) {
	web := func() Client {
		return Client{
			ClientID: "web", Name: "Web", AuthMethod: AuthNone, GrantTypes: []GrantType{AuthorizationCode},
			RedirectURIs: []string{"https://a.example.com/cb", "https://a.example.com:8443/cb"},
		}
	}
	for name, c := range map[string]struct {
		edit func(*Client)
		code string
	}{
		"nothing":               {func(*Client) {}, ""},
		"algorithms":            {func(c *Client) { c.IDTokenAlg, c.UserInfoAlg = "PS256", "EdDSA" }, ""},
		"none":                  {func(c *Client) { c.IDTokenAlg = "none" }, "signed_alg_invalid"},
		"a shared key":          {func(c *Client) { c.IDTokenAlg = "HS256" }, "signed_alg_invalid"},
		"letter case":           {func(c *Client) { c.UserInfoAlg = "es256" }, "signed_alg_invalid"},
		"pairwise of one host":  {func(c *Client) { c.SubjectType = Pairwise }, ""},
		"public":                {func(c *Client) { c.SubjectType = "public" }, ""},
		"another type":          {func(c *Client) { c.SubjectType = "ephemeral" }, "subject_type_invalid"},
		"pairwise of two hosts": {func(c *Client) { c.SubjectType = Pairwise; c.RedirectURIs[1] = "https://b.example.com/cb" }, "sector_missing"},
		"two hosts with a sector": {func(c *Client) {
			c.SubjectType, c.SectorURI = Pairwise, "https://s.example.com/list"
			c.RedirectURIs[1] = "https://b.example.com/cb"
		}, ""},
		"pairwise on a computer": {func(c *Client) {
			c.SubjectType, c.Native = Pairwise, true
			c.RedirectURIs = []string{"http://127.0.0.1/cb"}
		}, "sector_missing"},
		"sector with a fragment": {func(c *Client) { c.SectorURI = "https://s.example.com/list#x" }, "sector_invalid"},
		"sector with a user":     {func(c *Client) { c.SectorURI = "https://u@s.example.com/list" }, "sector_invalid"},
		"sector elsewhere":       {func(c *Client) { c.SectorURI = "file:///etc/passwd" }, "sector_invalid"},
		"back channel":           {func(c *Client) { c.BackchannelURI = "https://a.example.com/logout?tenant=1" }, ""},
		"back channel, fragment": {func(c *Client) { c.BackchannelURI = "https://a.example.com/#x" }, "backchannel_uri_invalid"},
		"back channel, script":   {func(c *Client) { c.BackchannelURI = "javascript:alert(1)" }, "backchannel_uri_invalid"},
		"after logout":           {func(c *Client) { c.PostLogoutURIs = []string{"https://a.example.com/bye"} }, ""},
		"after logout, twice":    {func(c *Client) { c.PostLogoutURIs = []string{"https://a.example.com/bye", "https://a.example.com/bye"} }, "redirect_invalid"},
		"after logout, plain":    {func(c *Client) { c.PostLogoutURIs = []string{"http://a.example.com/bye"} }, "redirect_invalid"},
		"after logout, script":   {func(c *Client) { c.PostLogoutURIs = []string{"JaVaScRiPt:alert(1)"} }, "redirect_invalid"},
		"after logout, any port": {func(c *Client) { c.Native = true; c.PostLogoutURIs = []string{"http://127.0.0.1:*/bye"} }, "redirect_invalid"},
		"after logout, too many": {func(c *Client) { c.PostLogoutURIs = make([]string, maxPostLogout+1) }, "client_too_large"},
	} {
		cl := web()
		c.edit(&cl)
		if got := problem.CodeOf(Check(cl)); got != c.code {
			t.Errorf("%s: %q, want %q", name, got, c.code)
		}
	}
}

func TestSector(t *testing.T) {
	c := Client{ID: "cli_1", RedirectURIs: []string{"https://A.example.com:8443/cb"}}
	if s, ok := c.Sector(); ok {
		t.Errorf("a public client has the sector %q", s)
	}
	c.SubjectType = Pairwise
	if s, ok := c.Sector(); !ok || s != "a.example.com" {
		t.Errorf("by its redirect URI: %q", s)
	}
	c.SectorURI = "https://sector.example.com/list"
	if s, _ := c.Sector(); s != "sector.example.com" {
		t.Errorf("by its document: %q", s)
	}
	if s, ok := (Client{ID: "cli_1", Metadata: Metadata{OpenID: OpenID{SubjectType: Pairwise}}}).Sector(); !ok || s != "cli_1" {
		t.Errorf("without any address: %q", s)
	}
}
