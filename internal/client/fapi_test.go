package client

import (
	"testing"

	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/secret"
)

func TestCheckProfile(t *testing.T) {
	h := secret.New(secret.ClientSecret).Hash()
	for name, c := range map[string]struct {
		edit func(*Client)
		code string
	}{
		"by key, bound to a key":         {func(*Client) {}, ""},
		"by key, bound to a certificate": {func(c *Client) { c.RequireDPoP, c.CertificateBound = false, true }, ""},
		"by certificate":                 {func(c *Client) { c.AuthMethod, c.JWKSURI, c.SanDNS = AuthTLS, "", "a.example" }, ""},
		"by its own certificate":         {func(c *Client) { c.AuthMethod = AuthSelfSignedTLS }, ""},
		"answers with PS256 and EdDSA":   {func(c *Client) { c.IDTokenAlg, c.UserInfoAlg = "PS256", "EdDSA" }, ""},
		"another profile":                {func(c *Client) { c.Profile = "fapi1" }, "profile_unknown"},
		"another letter":                 {func(c *Client) { c.Profile = "FAPI2" }, "profile_unknown"},
		"public":                         {func(c *Client) { c.AuthMethod = AuthNone }, "profile_unmet"},
		"by secret":                      {func(c *Client) { c.AuthMethod, c.SecretHash = AuthSecretBasic, &h }, "profile_unmet"},
		"bound to nothing":               {func(c *Client) { c.RequireDPoP = false }, "profile_unmet"},
		"a loopback address":             {func(c *Client) { c.Native, c.RedirectURIs = true, []string{"http://127.0.0.1/cb"} }, "profile_unmet"},
		"a scheme of its own":            {func(c *Client) { c.Native, c.RedirectURIs = true, []string{"com.example.app:/cb"} }, "profile_unmet"},
		"on a computer":                  {func(c *Client) { c.Native = true }, "profile_unmet"},
		"a device's code":                {func(c *Client) { c.GrantTypes = append(c.GrantTypes, DeviceCode) }, "profile_unmet"},
		"an exchange": {func(c *Client) {
			c.GrantTypes, c.Service = append(c.GrantTypes, ClientCredentials, TokenExchange), "svc_1"
		}, "profile_unmet"},
		"assertions of others":                   {func(c *Client) { c.GrantTypes = append(c.GrantTypes, JWTBearer) }, "profile_unmet"},
		"ID tokens with RS256":                   {func(c *Client) { c.IDTokenAlg = "RS256" }, "profile_unmet"},
		"userinfo with RS256":                    {func(c *Client) { c.UserInfoAlg = "RS256" }, "profile_unmet"},
		"none of it without the profile, public": {func(c *Client) { c.Profile, c.AuthMethod, c.JWKSURI, c.RequireDPoP = "", AuthNone, "", false }, ""},
	} {
		cl := good()
		cl.AuthMethod, cl.JWKSURI, cl.RequireDPoP, cl.Profile = AuthPrivateKeyJWT, "https://a.example/jwks", true, FAPI2
		c.edit(&cl)
		if got := problem.CodeOf(Check(cl)); got != c.code {
			t.Errorf("%s: %q, want %q (%v)", name, got, c.code, Check(cl))
		}
	}
}
