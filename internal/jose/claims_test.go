package jose

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func fullAccess() AccessTokenClaims {
	return AccessTokenClaims{
		Issuer: "https://id.example.com", Subject: "usr_1", Audience: Audience{"https://api.example.com"},
		ExpiresAt: Date(now) + 300, IssuedAt: Date(now), JTI: "rec_0123456789", ClientID: "cli_1", Scope: "a b",
		ACR: "phr", AMR: []string{"hwk", "user"}, AuthTime: Date(now) - 10,
		Confirmation: &Confirmation{JKT: "k", X5TS256: "x"}, Lineage: []string{"tt2XKqiTyk9K", "tt2XKqiTyk9L"}, SessionID: "ses_1",
		Actor:      &Actor{Subject: "agt_1", SubProfile: "ai_agent", Actor: &Actor{Subject: "svc_1", Issuer: "https://else.example"}},
		Assurance:  &Assurance{Human: &HumanAssurance{Rung: 3, At: Date(now), Present: true}, Actors: []ActorAssurance{{"agt_1", "m2", Date(now)}}},
		Delegation: "d", Run: "r", Depth: 2, AuthorizationDetails: json.RawMessage(`[{"type":"x"}]`), Organization: "o",
	}
}

// plainAccess is what a person's client usually holds.
func plainAccess() AccessTokenClaims {
	full := fullAccess()
	return AccessTokenClaims{
		Issuer: full.Issuer, Subject: full.Subject, Audience: full.Audience, ExpiresAt: full.ExpiresAt, IssuedAt: full.IssuedAt,
		JTI: full.JTI, ClientID: full.ClientID, Scope: "notes:read notes:write", ACR: "phr", AMR: full.AMR, AuthTime: full.AuthTime,
		Confirmation: &Confirmation{JKT: strings.Repeat("k", 43)}, Lineage: []string{"tt2XKqiTyk9K", "tt2XKqiTyk9L", "tt2XKqiTyk9M", "tt2XKqiTyk9N", "tt2XKqiTyk9O", "tt2XKqiTyk9P"},
	}
}

func TestAccessTokenRoundTrip(t *testing.T) {
	s, _ := NewSigner(p256, ES256, "a", TypAccessToken)
	full := fullAccess()
	token, err := s.Sign(full)
	if err != nil {
		t.Fatal(err)
	}
	got, err := VerifyAccessToken(token, keys, accessWant)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(&full, got); d != "" {
		t.Error(d)
	}
	o, _ := rowAccessToken.open(token, onlyES256, MaxToken)
	if !strings.Contains(o.payload, `"aud":"https://api.example.com"`) {
		t.Errorf("aud is not written as a string: %s", o.payload)
	}
	if token, _ := s.Sign(plainAccess()); len(token) > 1024 {
		t.Errorf("a plain token has %d bytes", len(token))
	}
}

func TestAccessTokenJudged(t *testing.T) {
	claimed := func(p string) string { return signed(t, p256, `{"alg":"ES256","typ":"at+jwt","kid":"a"}`, p) }
	base := accessClaims()
	at := now.Unix()
	for _, c := range []struct {
		name string
		v    any
		code string
	}{
		{"iss", "https://id.example.com/", "token_issuer"},
		{"iss", "", "token_malformed"},
		{"sub", nil, "token_malformed"},
		{"aud", "https://other.example", "token_audience"},
		{"aud", []string{"x", "https://api.example.com"}, ""},
		{"aud", []string{}, "token_malformed"},
		{"aud", []any{"https://api.example.com", 1}, "token_malformed"},
		{"aud", "https://api.example.com/", "token_audience"},
		{"exp", at + 1, ""},
		{"exp", at - 4, ""},
		{"exp", at - 5, "token_expired"},
		{"exp", 0, "token_expired"},
		{"exp", "9999999999", "token_malformed"},
		{"exp", float64(at) + 0.5, ""},
		{"exp", 1e300, "token_malformed"},
		{"exp", -1, "token_expired"},
		{"exp", 1e15, ""},
		{"iat", at + 5, ""},
		{"iat", at + 6, "token_not_yet_valid"},
		{"nbf", at + 6, "token_not_yet_valid"},
		{"nbf", at, ""},
		{"nbf", "x", "token_malformed"},
		{"cnf", nil, ""},
		{"cnf", "x", "token_malformed"},
		{"cnf", map[string]any{}, "token_malformed"},
		{"cnf", map[string]any{"jkt": 1}, "token_malformed"},
		{"cnf", map[string]any{"kid": "x"}, "token_malformed"},
		{"lin", "x", "token_malformed"},
		{"lin", []any{1}, "token_malformed"},
		{"act", map[string]any{}, "token_malformed"},
		{"act", []any{}, "token_malformed"},
		{"act", map[string]any{"sub": "a", "act": map[string]any{"sub": 1}}, "token_malformed"},
		{"asr", 1, "token_malformed"},
		{"asr", map[string]any{"h": map[string]any{"rung": "x"}}, "token_malformed"},
		{"asr", map[string]any{"h": map[string]any{"present": 1}}, "token_malformed"},
		{"asr", map[string]any{"a": []any{1}}, "token_malformed"},
		{"asr", map[string]any{"a": 1}, "token_malformed"},
		{"asr", map[string]any{}, ""},
		{"depth", "1", "token_malformed"},
		{"depth", 1.5, "token_malformed"},
		{"depth", 1e17, "token_malformed"},
		{"authorization_details", map[string]any{}, "token_malformed"},
		{"amr", "pwd", "token_malformed"},
		{"auth_time", "x", "token_malformed"},
		{"unknown", map[string]any{"a": []any{nil, true, false, -1.5e-3, "\u00e9\"\\/\b\f\n\r\t😀"}}, ""},
	} {
		got, err := VerifyAccessToken(claimed(with(base, c.name, c.v)), keys, accessWant)
		wants(t, c.name, got == nil == (err != nil), err, c.code)
	}
	want := accessWant
	want.Issuer, want.Audiences = "", nil
	_, err := VerifyAccessToken(claimed(with(base, "x", 1)), keys, want)
	wants(t, "no issuer wanted", true, err, "token_issuer")
	want.Issuer = accessWant.Issuer
	_, err = VerifyAccessToken(claimed(with(base, "x", 1)), keys, want)
	wants(t, "no audience wanted", true, err, "token_audience")
	_, err = VerifyAccessToken(signed(t, ed, `{"alg":"EdDSA","typ":"at+jwt","kid":"e"}`, with(base, "x", 1)), keys, accessWant)
	wants(t, "EdDSA where ES256 is pinned", true, err, "token_algorithm")
	want = accessWant
	want.Algorithms = every
	for alg, kid := range map[string]string{EdDSA: "e", Ed25519: "e", RS256: "r", PS256: "r", ES384: "p384", ES512: "p521"} {
		_, err = VerifyAccessToken(signed(t, signers()[alg], `{"alg":"`+alg+`","typ":"at+jwt","kid":"`+kid+`"}`, with(base, "x", 1)), keys, want)
		wants(t, alg, true, err, "")
	}
	_, err = VerifyAccessToken(signed(t, p256, `{"alg":"ES256","kid":"a"}`, with(base, "x", 1)), keys, accessWant)
	wants(t, "no typ", true, err, "token_type")
}

func TestClientAssertionJudged(t *testing.T) {
	claimed := func(p string) string {
		return signed(t, p256, `{"alg":"ES256","typ":"`+TypClientAssertion+`","kid":"a"}`, p)
	}
	at := now.Unix()
	base := map[string]any{"iss": "cli_1", "sub": "cli_1", "aud": "https://id.example.com", "jti": "j", "exp": at + 60}
	for _, c := range []struct {
		name string
		v    any
		code string
	}{
		{"aud", []string{"https://id.example.com"}, ""},
		{"aud", []string{"https://id.example.com", "x"}, "assertion_audience"},
		{"aud", "https://id.example.com/", "assertion_audience"},
		{"aud", "https://id.example.com/oauth/token", "assertion_audience"},
		{"iss", "cli_2", "assertion_issuer"},
		{"sub", "cli_2", "assertion_issuer"},
		{"exp", at + 310, ""},
		{"exp", at + 311, "assertion_lifetime"},
		{"exp", at - 10, "assertion_expired"},
		{"exp", at - 9, ""},
		{"iat", at + 10, ""},
		{"iat", at + 60, "assertion_not_yet_valid"},
		{"nbf", at + 60, "assertion_not_yet_valid"},
		{"jti", strings.Repeat("j", 256), ""},
		{"jti", strings.Repeat("j", 257), "assertion_malformed"},
		{"jti", "", "assertion_malformed"},
	} {
		got, err := VerifyClientAssertion(claimed(with(base, c.name, c.v)), keys, assertionWant)
		wants(t, c.name, (got == ClientAssertion{}) == (err != nil), err, c.code)
	}
	for typ, code := range map[string]string{`"JWT"`: "", `"jwt"`: "", `"at+jwt"`: "assertion_type", `"oauth-id-jag+jwt"`: "assertion_type", `"JOSE"`: "assertion_type", `""`: "assertion_type"} {
		got, err := VerifyClientAssertion(signed(t, p256, `{"alg":"ES256","typ":`+typ+`,"kid":"a"}`, with(base, "x", 1)), keys, assertionWant)
		wants(t, "typ "+typ, (got == ClientAssertion{}) == (err != nil), err, code)
	}
	got, err := VerifyClientAssertion(signed(t, p256, `{"alg":"ES256"}`, with(base, "x", 1)), keys, assertionWant)
	if want := (ClientAssertion{ClientID: "cli_1", JTI: "j", ExpiresAt: time.Unix(at+60, 0).UTC()}); err != nil || got != want {
		t.Errorf("without typ and kid: %+v, %v", got, err)
	}
	rs := signed(t, rsa2048, `{"alg":"RS256","kid":"r"}`, with(base, "x", 1))
	_, err = VerifyClientAssertion(rs, keys, assertionWant)
	wants(t, "RS256", true, err, "assertion_algorithm")
	want := assertionWant
	want.Algorithms = []string{RS256}
	_, err = VerifyClientAssertion(rs, keys, want)
	wants(t, "RS256 registered", true, err, "")
	want = assertionWant
	want.ClientID = ""
	_, err = VerifyClientAssertion(claimed(with(base, "x", 1)), keys, want)
	wants(t, "no client", true, err, "assertion_issuer")

	s, _ := NewSigner(p256, ES256, "a", TypClientAssertion)
	ours, _ := s.Sign(ClientAssertionClaims{"cli_1", "cli_1", Audience{"https://id.example.com"}, "j", Date(now), Date(now.Add(time.Minute))})
	if _, err := VerifyClientAssertion(ours, keys, assertionWant); err != nil {
		t.Error(err)
	}
	if id, err := AssertionClientUnverified(ours); err != nil || id != "cli_1" {
		t.Errorf("%q, %v", id, err)
	}
	for _, bad := range []string{"", "a.b.c", claimed(`[]`), claimed(`{}`), claimed(`{"sub":1}`)} {
		if id, err := AssertionClientUnverified(bad); err == nil || id != "" {
			t.Errorf("%.30s names %q", bad, id)
		}
	}
}

func TestDPoP(t *testing.T) {
	for _, key := range []struct {
		name  string
		proof func() (string, error)
	}{
		{"ES256", func() (string, error) {
			return MakeDPoP(p256, "POST", "https://api.example.com/a?b#c", "n", "tok", now)
		}},
		{"ES384", func() (string, error) { return MakeDPoP(p384, "POST", "https://api.example.com/a", "n", "tok", now) }},
		{"EdDSA", func() (string, error) { return MakeDPoP(ed, "POST", "https://api.example.com/a#c", "n", "tok", now) }},
		{"PS256", func() (string, error) { return MakeDPoP(rsa2048, "POST", "https://api.example.com/a", "n", "tok", now) }},
	} {
		proof, err := key.proof()
		if err != nil {
			t.Fatal(key.name, err)
		}
		p, err := VerifyDPoP(proof, DPoPWant{Method: "POST", URL: "https://api.example.com/a", AccessToken: "tok", Now: now})
		if err != nil || p.Nonce != "n" || len(p.JTI) < 20 || len(p.JKT) != 43 || !p.IssuedAt.Equal(now) {
			t.Errorf("%s: %+v, %v", key.name, p, err)
		}
	}
	head := `{"alg":"ES256","typ":"dpop+jwt","jwk":` + jwkOf(t, p256.Public()) + `}`
	base := map[string]any{"jti": "j", "htm": "GET", "htu": "https://api.example.com/a", "iat": now.Unix(), "ath": tokenHash("tok")}
	want := DPoPWant{Method: "GET", URL: "https://api.example.com/a?q=1", AccessToken: "tok", Now: now}
	try := func(what, token, code string) {
		t.Helper()
		got, err := VerifyDPoP(token, want)
		wants(t, what, (got == DPoPProof{}) == (err != nil), err, code)
	}
	for _, c := range []struct {
		name string
		v    any
		code string
	}{
		{"x", 1, ""},
		{"htm", "get", "dpop_method"},
		{"htm", "POST", "dpop_method"},
		{"htm", nil, "dpop_malformed"},
		{"htm", 1, "dpop_malformed"},
		{"htu", "https://api.example.com/b", "dpop_url"},
		{"htu", "HTTPS://API.example.com:443/x/../%61?y#z", ""},
		{"htu", nil, "dpop_malformed"},
		{"htu", "https://api.example.com/a/", "dpop_url"},
		{"htu", "http://api.example.com/a", "dpop_url"},
		{"htu", "/a", "dpop_url"},
		{"htu", "?", "dpop_url"},
		{"iat", now.Unix() - 60, ""},
		{"iat", now.Unix() - 61, "dpop_time"},
		{"iat", now.Unix() + 60, ""},
		{"iat", now.Unix() + 61, "dpop_time"},
		{"iat", nil, "dpop_malformed"},
		{"iat", "x", "dpop_malformed"},
		{"iat", 0, "dpop_time"},
		{"jti", nil, "dpop_malformed"},
		{"jti", "", "dpop_malformed"},
		{"jti", strings.Repeat("j", 257), "dpop_malformed"},
		{"nonce", strings.Repeat("j", 513), "dpop_malformed"},
		{"ath", nil, "dpop_ath"},
		{"ath", tokenHash("other"), "dpop_ath"},
		{"nonce", 1, "dpop_malformed"},
	} {
		try(c.name, signed(t, p256, head, with(base, c.name, c.v)), c.code)
	}
	payload := with(base, "x", 1)
	for what, c := range map[string]struct{ head, code string }{
		"typ":            {strings.Replace(head, "dpop+jwt", "at+jwt", 1), "dpop_type"},
		"no typ":         {strings.Replace(head, `"typ":"dpop+jwt",`, "", 1), "dpop_type"},
		"no key":         {`{"alg":"ES256","typ":"dpop+jwt"}`, "dpop_key"},
		"key no object":  {`{"alg":"ES256","typ":"dpop+jwt","jwk":1}`, "dpop_key"},
		"private key":    {strings.Replace(head, `"crv"`, `"d":"AA","crv"`, 1), "dpop_key"},
		"symmetric":      {`{"alg":"ES256","typ":"dpop+jwt","jwk":{"kty":"oct","k":"AAAA"}}`, "dpop_key"},
		"another key":    {`{"alg":"ES256","typ":"dpop+jwt","jwk":` + jwkOf(t, other.Public()) + `}`, "dpop_signature"},
		"key of another": {`{"alg":"ES256","typ":"dpop+jwt","jwk":` + jwkOf(t, ed.Public()) + `}`, "dpop_signature"},
		"RS256":          {strings.Replace(head, "ES256", "RS256", 1), "dpop_algorithm"},
		"none":           {strings.Replace(head, "ES256", "none", 1), "dpop_algorithm"},
		"HS256":          {strings.Replace(head, "ES256", "HS256", 1), "dpop_algorithm"},
		"ES512":          {strings.Replace(head, "ES256", "ES512", 1), "dpop_algorithm"},
		"twice jwk":      {strings.Replace(head, `"jwk"`, `"jwk":{},"jwk"`, 1), "dpop_malformed"},
		"crit":           {strings.Replace(head, `"typ"`, `"crit":[],"typ"`, 1), "dpop_malformed"},
	} {
		try(what, signed(t, p256, c.head, payload), c.code)
	}
	try("claims no JSON", signed(t, p256, head, `x`), "dpop_malformed")
	try("duplicate", signed(t, p256, head, strings.Replace(payload, `"x":1`, `"x":1,"x":1`, 1)), "dpop_malformed")
	want.AccessToken = ""
	try("ath without a token", signed(t, p256, head, payload), "")
	want.Window = time.Hour
	try("a longer window", signed(t, p256, head, with(base, "iat", now.Unix()-3600)), "")
}

func TestSameURL(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"https://a.example", "https://A.EXAMPLE/", true},
		{"http://a.example:80/x", "http://a.example/x", true},
		{"http://a.example:443/x", "http://a.example/x", false},
		{"https://a.example:8443/", "https://a.example/", false},
		{"https://a.example/%7Ex/%2f", "https://a.example/~x/%2F", true},
		{"https://a.example/%2f", "https://a.example//", false},
		{"https://a.example/a/./b/../c", "https://a.example/a/c", true},
		{"https://a.example/a/..", "https://a.example/", true},
		{"https://a.example/../../a", "https://a.example/a", true},
		{"https://a.example/a/.", "https://a.example/a/", true},
		{"https://a.example/a//b", "https://a.example/a/b", false},
		{"https://a.example/a%2e%2e/b", "https://a.example/a../b", true},
		{"https://a.example/%2e%2e/b", "https://a.example/b", true},
		{"https://[::1]:443/", "https://[::1]", true},
		{"https://u@a.example/", "https://a.example/", false},
		{"ftp://a.example/", "ftp://A.example/", false},
		{"https://a.example/%zz", "https://a.example/", false},
		{"https:a", "https:A", false},
		{"", "", false},
		{"https:///a", "https:///%61", false},
		{"https://a.example/", "https://b.example/%", false},
		{"https://a.example/\u00e9", "https://a.example/%C3%A9", true},
		{"https://a.example/%aF%Fa", "https://a.example/%AF%FA", true},
	} {
		if sameURL(c.a, c.b) != c.same || sameURL(c.b, c.a) != c.same {
			t.Errorf("%q and %q: want %t", c.a, c.b, c.same)
		}
	}
}

func TestIDToken(t *testing.T) {
	s, _ := NewSigner(p256, ES256, "a", TypIDToken)
	full := IDTokenClaims{
		Issuer: "https://id.example.com", Subject: "s", Audience: Audience{"cli_1"}, ExpiresAt: Date(now) + 60, IssuedAt: Date(now), AuthTime: Date(now),
		Nonce: "n", ACR: "phr", AMR: []string{"hwk"}, AZP: "cli_1", SessionID: "sid", Name: "N", PreferredUsername: "u", Email: "e@example.com", EmailVerified: true,
	}
	token, _ := s.Sign(full)
	want := idWant
	want.Nonce = "n"
	got, err := VerifyIDToken(token, keys, want)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(&full, got); d != "" {
		t.Error(d)
	}
	later := want
	later.Now = now.Add(time.Hour)
	_, err = VerifyIDToken(token, keys, later)
	wants(t, "late", true, err, "id_token_expired")
	if hint, err := VerifyIDTokenHint(token, keys, IDTokenWant{Issuer: want.Issuer}); err != nil || hint.SessionID != "sid" {
		t.Errorf("an old hint: %v", err)
	}
	for _, c := range []struct {
		change func(*IDTokenClaims, *IDTokenWant)
		code   string
		hint   string
	}{
		{func(c *IDTokenClaims, w *IDTokenWant) { w.Nonce = "m" }, "id_token_nonce", ""},
		{func(c *IDTokenClaims, w *IDTokenWant) { c.Nonce = "" }, "id_token_nonce", ""},
		{func(c *IDTokenClaims, w *IDTokenWant) { w.ClientID = "cli_2" }, "id_token_audience", "id_token_audience"},
		{func(c *IDTokenClaims, w *IDTokenWant) { w.ClientID = "" }, "id_token_audience", ""},
		{func(c *IDTokenClaims, w *IDTokenWant) { c.AZP = "cli_2" }, "id_token_audience", ""},
		{func(c *IDTokenClaims, w *IDTokenWant) { c.Audience, c.AZP = Audience{"cli_1", "b"}, "" }, "id_token_audience", ""},
		{func(c *IDTokenClaims, w *IDTokenWant) { c.Audience = Audience{"cli_1", "b"} }, "", ""},
		{func(c *IDTokenClaims, w *IDTokenWant) { c.Issuer = "https://evil.example" }, "id_token_issuer", "id_token_issuer"},
		{func(c *IDTokenClaims, w *IDTokenWant) { c.IssuedAt += 100 }, "id_token_not_yet_valid", ""},
	} {
		claims, w := full, want
		c.change(&claims, &w)
		token, _ := s.Sign(claims)
		got, err := VerifyIDToken(token, keys, w)
		wants(t, "token", got == nil == (err != nil), err, c.code)
		got, err = VerifyIDTokenHint(token, keys, w)
		wants(t, "hint", got == nil == (err != nil), err, c.hint)
	}
	_, err = VerifyIDTokenHint("x", keys, want)
	wants(t, "a hint that is no token", true, err, "id_token_malformed")
}

func TestFeedFrame(t *testing.T) {
	s, _ := NewSigner(p256, ES256, "a", TypFeed)
	cutoff := int64(1790000000)
	full := FeedFrame{
		Issuer: "https://id.example.com", Audience: Audience{"https://api.example.com"}, Epoch: 1, Seq: 7, Prev: 5, IssuedAt: Date(now),
		Entries: []Entry{Ended("tt2XKqiTyk9K"), Thawed("tt2XKqiTyk9L"), {"tt2XKqiTyk9M", &cutoff}}, All: 5, KeyIDs: []string{"k"}, Policy: 3, Tools: []string{"t"},
	}
	token, err := s.Sign(full)
	if err != nil {
		t.Fatal(err)
	}
	got, err := VerifyFeedFrame(token, keys, feedWant)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(&full, got); d != "" {
		t.Error(d)
	}
	beat, _ := s.Sign(FeedFrame{Issuer: full.Issuer, Audience: full.Audience, Seq: 7, Prev: 7, IssuedAt: full.IssuedAt, Entries: []Entry{}})
	if f, err := VerifyFeedFrame(beat, keys, feedWant); err != nil || len(f.Entries) != 0 {
		t.Errorf("heartbeat: %+v, %v", f, err)
	}
	small := feedWant
	small.MaxBytes = len(token) - 1
	_, err = VerifyFeedFrame(token, keys, small)
	wants(t, "too large", true, err, "feed_malformed")
	for _, name := range []string{"issuer", "audience"} {
		w := feedWant
		if name == "issuer" {
			w.Issuer = "x"
		} else {
			w.Audience = "x"
		}
		_, err = VerifyFeedFrame(token, keys, w)
		wants(t, name, true, err, "feed_"+name)
	}
	base := map[string]any{"iss": full.Issuer, "aud": "https://api.example.com", "epoch": 1, "seq": 2, "prev": 1, "iat": now.Unix(), "ents": []any{}}
	for _, c := range []struct {
		name string
		v    any
	}{
		{"seq", 0},
		{"prev", -1},
		{"kids", 1},
		{"ents", "x"},
		{"ents", []any{1}},
		{"ents", []any{[]any{}}},
		{"ents", []any{[]any{"short", 0}}},
		{"ents", []any{[]any{"tt2XKqiTyk9K"}}},
		{"ents", []any{[]any{"tt2XKqiTyk9K", 0, 0}}},
		{"ents", []any{[]any{"tt2XKqiTyk9K", -1}}},
		{"ents", []any{[]any{"tt2XKqiTyk9K", "0"}}},
		{"ents", []any{[]any{"tt2XKqiTyk9K", 1.5}}},
		{"ents", []any{[]any{1, 0}}},
	} {
		_, err := VerifyFeedFrame(signed(t, p256, `{"alg":"ES256","typ":"`+TypFeed+`","kid":"a"}`, with(base, c.name, c.v)), keys, feedWant)
		wants(t, c.name, true, err, "feed_malformed")
	}
}

func TestBundleHead(t *testing.T) {
	s, _ := NewSigner(p256, ES256, "a", TypBundle)
	want := BundleHead{Issuer: "https://id.example.com", Audience: Audience{"https://api.example.com"}, Epoch: 2, Policy: 7, IssuedAt: Date(now), Hash: "h"}
	token, err := s.Sign(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := VerifyBundleHead(token, keys, feedWant)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(&want, got); d != "" {
		t.Error(d)
	}
	for _, name := range []string{"issuer", "audience"} {
		w := feedWant
		if name == "issuer" {
			w.Issuer = "x"
		} else {
			w.Audience = "x"
		}
		_, err = VerifyBundleHead(token, keys, w)
		wants(t, name, true, err, "bundle_"+name)
	}
	base := map[string]any{"iss": want.Issuer, "aud": "https://api.example.com", "epoch": 1, "pol": 0, "iat": now.Unix(), "hash": "h"}
	for name := range base {
		for _, v := range []any{nil, []any{}, map[string]any{}} {
			_, err := VerifyBundleHead(signed(t, p256, `{"alg":"ES256","typ":"`+TypBundle+`","kid":"a"}`, with(base, name, v)), keys, feedWant)
			wants(t, name, true, err, "bundle_malformed")
		}
	}
}

func TestDates(t *testing.T) {
	if Date(time.Time{}) != 0 || !NumericDate(0).Time().IsZero() || !Date(now).Time().Equal(now) {
		t.Error("dates do not survive")
	}
	if b, _ := json.Marshal(Audience{"a", "b"}); string(b) != `["a","b"]` {
		t.Errorf("%s", b)
	}
}

func TestReadObjectRefuses(t *testing.T) {
	many := "{"
	for i := range 257 {
		many += `"` + string(rune('A'+i)) + `":1,`
	}
	many = many[:len(many)-1] + "}"
	for _, s := range []string{
		`{"x":` + many + `}`, `{"x":{1}}`, `{"x":{"a" 1}}`, `{"x":{"a":}}`, `{"x":{"a":1 "b":2}}`, `{"x":{"a":1,}}`, `{"x":{"a":{"b":1},"c":2,"a":3}}`, `{"x":[` + strings.Repeat("[", 17) + `]}`,
		"", " ", "{", `{"`, `{"a`, `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`, `{"a":1,}`, `{a:1}`, `{"a":1}x`, `{"a":tru}`, `{"a":[1`, `{"a":[1,]}`, `{"a":[1 2]}`,
		`{"a":01}`, `{"a":-}`, `{"a":1.}`, `{"a":1e}`, `{"a":1e+}`, "{\"a\":\"\n\"}", "{\"a\":\"\\n\n\"}", `{"a":"\`, `{"a":"\n`, `{"a":"\x"}`, `{"a":"\u00"}`, `{"a":"\u0000"}`, `{"a":"\udc00"}`,
		`{"a":"\ud83dx"}`, `{"a":"\ud83d\u0041"}`, `{"a":"\u12g4"}`, many, strings.Repeat(`{"a":`, 17) + "1" + strings.Repeat("}", 17),
	} {
		if o, ok := readObject(s); ok || o != nil {
			t.Errorf("%.50q reads as %v", s, o)
		}
	}
	for _, raw := range []string{"1", "[1", "[1 2]", "["} {
		if each(raw, func(string) bool { return true }) {
			t.Errorf("%q is an array", raw)
		}
	}
	if _, ok := readObject(`{"a":{"a":{"a":1,"b":{}},"b":[{"a":1},{"a":2}]},"b":1}`); !ok {
		t.Error("names of different objects are taken for one object's")
	}
	if o, ok := readObject(" { \"a\\u00e9\\ud83d\\ude00\\n\" : [ 1 , [ ] , { } ] , \"b\" : -0.5E+3 } "); !ok || o[0].name != "aé😀\n" || o[1].raw != "-0.5E+3" {
		t.Errorf("%v, %v", o, ok)
	}
}
