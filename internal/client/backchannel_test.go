package client

import (
	"encoding/json"
	"testing"

	"github.com/countersign-dev/countersign/internal/problem"
)

// What a registration says of backchannel authentication goes with the grant, and is
// what it says it is.
func TestCheckBackchannel(t *testing.T) {
	const jwks = `{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`
	with := func(edit func(*Client)) error {
		c := Client{ClientID: "desk", Name: "Desk", AuthMethod: AuthPrivateKeyJWT, GrantTypes: []GrantType{CIBA, RefreshToken}}
		c.JWKS = json.RawMessage(jwks)
		edit(&c)
		return Check(c)
	}
	for name, c := range map[string]struct {
		edit func(*Client)
		want string
	}{
		"poll":  {func(*Client) {}, ""},
		"named": {func(c *Client) { c.DeliveryMode = Poll }, ""},
		"ping":  {func(c *Client) { c.DeliveryMode, c.NotificationURI = Ping, "https://desk.example.com/ping?x=1" }, ""},
		"whole": {func(c *Client) {
			c.RequestAlg, c.BackchannelScope, c.NumberMatching = "EdDSA", "openid  notes:read", true
		}, ""},
		"push":             {func(c *Client) { c.DeliveryMode, c.NotificationURI = "push", "https://desk.example.com/ping" }, "delivery_mode_invalid"},
		"ping to nowhere":  {func(c *Client) { c.DeliveryMode = Ping }, "delivery_mode_invalid"},
		"poll, and told":   {func(c *Client) { c.NotificationURI = "https://desk.example.com/ping" }, "delivery_mode_invalid"},
		"ping to a script": {func(c *Client) { c.DeliveryMode, c.NotificationURI = Ping, "javascript:alert(1)" }, "notification_uri_invalid"},
		"ping to a user":   {func(c *Client) { c.DeliveryMode, c.NotificationURI = Ping, "https://a@desk.example.com/" }, "notification_uri_invalid"},
		"another alg":      {func(c *Client) { c.RequestAlg = "HS256" }, "signed_alg_invalid"},
		"no keys": {func(c *Client) {
			c.AuthMethod, c.JWKS, c.SubjectDN, c.RequestAlg = AuthTLS, nil, "CN=desk", "ES256"
		}, "jwks_invalid"},
		"no scope": {func(c *Client) { c.BackchannelScope = "notes\\read" }, "scope_invalid"},
		"public":   {func(c *Client) { c.AuthMethod, c.JWKS = AuthNone, nil }, "auth_method_invalid"},
		"another grant": {func(c *Client) {
			c.GrantTypes, c.RedirectURIs, c.NumberMatching = []GrantType{AuthorizationCode}, []string{"https://a.example.com/cb"}, true
		}, "grant_types_invalid"},
		"fapi": {func(c *Client) { c.Profile, c.RequireDPoP = FAPI2, true }, "profile_unmet"},
	} {
		if got := problem.CodeOf(with(c.edit)); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
