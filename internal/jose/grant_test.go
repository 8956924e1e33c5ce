package jose

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// What is told of a good assertion, and each thing that makes one bad.
func TestGrantAssertion(t *testing.T) {
	head := func(typ string) string { return `{"alg":"ES256","kid":"a","typ":"` + typ + `"}` }
	base := grantClaims()
	base["acr"], base["amr"], base["auth_time"], base["scope"] = "x", []string{"pwd"}, now.Unix()-60, "a b"
	base["cnf"], base["resource"], base["tenant"] = map[string]any{"jkt": "k"}, "https://api.example.com", "t"
	a, err := VerifyGrantAssertion(signed(t, p256, head("JWT"), with(base, "x", 1)), keys, grantWant)
	if err != nil || a.Subject != "ext-1" || a.Tenant != "t" || a.ClientID != "cli_1" || a.JTI != "j" || a.Scope != "a b" || !a.Scoped || a.Acting ||
		a.ACR != "x" || len(a.AMR) != 1 || !a.AuthTime.Equal(now.Add(-time.Minute)) || a.Key == nil || a.Key.JKT != "k" || !slices.Equal(a.Resources, []string{"https://api.example.com"}) ||
		!a.IssuedAt.Equal(now) || !a.ExpiresAt.Equal(now.Add(time.Minute)) {
		t.Errorf("%+v, %v", a, err)
	}
	for _, c := range []struct {
		name  string
		claim string
		value any
		code  string
	}{
		{"another issuer", "iss", "https://idp.example.com/", "issuer"},
		{"another audience", "aud", "https://id.example.com/", "audience"},
		{"two audiences", "aud", []string{"https://id.example.com", "x"}, "audience"},
		{"the same twice", "aud", []string{"https://id.example.com", "https://id.example.com"}, "audience"},
		{"no jti", "jti", nil, "malformed"},
		{"no iat", "iat", nil, "malformed"},
		{"no sub", "sub", nil, "malformed"},
		{"an empty sub", "sub", "", "malformed"},
		{"a number for sub", "sub", 7, "malformed"},
		{"a long sub", "sub", strings.Repeat("x", 256), "malformed"},
		{"a long tenant", "tenant", strings.Repeat("x", 256), "malformed"},
		{"a long jti", "jti", strings.Repeat("x", 300), "malformed"},
		{"a resource that is none", "resource", []any{"a", 1}, "malformed"},
		{"no resource", "resource", []string{}, "malformed"},
		{"an empty resource", "resource", "", "malformed"},
		{"an empty cnf", "cnf", map[string]any{}, "malformed"},
		{"a cnf that is none", "cnf", "x", "malformed"},
		{"expired", "exp", now.Unix() - 11, "expired"},
		{"of the future", "iat", now.Unix() + 11, "not_yet_valid"},
		{"not yet", "nbf", now.Unix() + 11, "not_yet_valid"},
		{"good for too long", "exp", now.Unix() + 301, "lifetime"},
		{"made long ago", "iat", now.Unix() - 241, "lifetime"},
	} {
		for _, jag := range []bool{false, true} {
			typ, want, code := "JWT", grantWant, "grant_assertion_"
			if jag {
				typ, want.IDJAG, code = TypIDJAG, true, "id_jag_"
			}
			got, err := VerifyGrantAssertion(signed(t, p256, head(typ), with(grantClaims(), c.claim, c.value)), keys, want)
			wants(t, c.name, got.JTI == "", err, code+c.code)
		}
	}
	jag := grantWant
	jag.IDJAG = true
	got, err := VerifyGrantAssertion(signed(t, p256, head(TypIDJAG), with(grantClaims(), "client_id", nil)), keys, jag)
	wants(t, "an ID-JAG for nobody", got.JTI == "", err, "id_jag_malformed")
	_, err = VerifyGrantAssertion(signed(t, p256, head("JWT"), with(grantClaims(), "x", 1)), keys, jag)
	wants(t, "a plain one as ID-JAG", true, err, "id_jag_type")
	_, err = VerifyGrantAssertion(signed(t, p256, head(TypIDJAG), with(grantClaims(), "x", 1)), keys, grantWant)
	wants(t, "an ID-JAG as a plain one", true, err, "grant_assertion_type")
}

func TestGrantIssuerUnverified(t *testing.T) {
	for typ, want := range map[string]bool{"JWT": false, TypGrantAssertion: false, TypIDJAG: true, "application/" + TypIDJAG: true} {
		iss, jag, err := GrantIssuerUnverified(signed(t, p256, `{"alg":"ES256","typ":"`+typ+`"}`, with(grantClaims(), "x", 1)))
		if iss != "https://idp.example.com" || jag != want || err != nil {
			t.Errorf("%s: %q %t %v", typ, iss, jag, err)
		}
	}
	_, _, err := GrantIssuerUnverified(signed(t, p256, `{"alg":"ES256","typ":"at+jwt"}`, `{}`))
	wants(t, "an access token", true, err, "grant_assertion_type")
	_, _, err = GrantIssuerUnverified(signed(t, p256, `{"alg":"ES256"}`, with(grantClaims(), "iss", nil)))
	wants(t, "nobody's", true, err, "grant_assertion_malformed")
}
