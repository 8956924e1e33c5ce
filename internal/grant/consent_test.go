package grant

import "testing"

// TestConsentCovers: a consent is to a scope of a resource. A plain name counts
// where only one can be meant.
func TestConsentCovers(t *testing.T) {
	both := &Consent{Resources: []string{"res_a", "res_b"}, Scopes: []string{"openid", Agreed("res_a", "read"), Agreed("res_b", "write"), "admin"}}
	one := &Consent{Resources: []string{"res_a"}, Scopes: []string{"openid", "read"}}
	for _, tt := range []struct {
		c               *Consent
		resource, scope string
		want            bool
	}{
		{both, "res_a", "read", true},
		{both, "res_b", "write", true},
		{both, "res_a", "write", false},
		{both, "res_b", "read", false},
		{both, "res_a", "admin", false},
		{both, "", "openid", true},
		{both, "", "profile", false},
		{one, "res_a", "read", true},
		{one, "res_b", "read", false},
		{nil, "res_a", "read", false},
		{nil, "", "openid", false},
	} {
		if got := tt.c.Covers(tt.resource, tt.scope); got != tt.want {
			t.Errorf("%v covers %s at %q: %v", tt.c, tt.scope, tt.resource, got)
		}
	}
}
