package client

import (
	"testing"

	"github.com/countersign-dev/countersign/internal/problem"
)

// What a registration says of devices goes with the grant, and is what it says it
// is.
func TestCheckDevice(t *testing.T) {
	with := func(edit func(*Client)) error {
		c := Client{ClientID: "wallboard", Name: "Wallboard", AuthMethod: AuthNone, GrantTypes: []GrantType{DeviceCode, RefreshToken}}
		edit(&c)
		return Check(c)
	}
	for name, c := range map[string]struct {
		edit func(*Client)
		want string
	}{
		"good":     {func(*Client) {}, ""},
		"capped":   {func(c *Client) { c.DeviceScope, c.DeviceConfirm = "notes:read  openid", true }, ""},
		"no scope": {func(c *Client) { c.DeviceScope = "notes\\read" }, "scope_invalid"},
		"another": {func(c *Client) {
			c.GrantTypes, c.RedirectURIs, c.DeviceConfirm = []GrantType{AuthorizationCode}, []string{"https://a.example.com/cb"}, true
		}, "grant_types_invalid"},
		"refresh alone": {func(c *Client) { c.GrantTypes = []GrantType{RefreshToken} }, "grant_types_invalid"},
		"a redirect":    {func(c *Client) { c.RedirectURIs = []string{"https://a.example.com/cb"} }, "redirect_unused"},
	} {
		if got := problem.CodeOf(with(c.edit)); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
