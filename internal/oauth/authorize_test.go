package oauth

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/factor"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/group"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/jose"
)

// oauthAnswer is the error that a redirect carries, with what every answer has.
func (r *rig) redirected(a answer, where, state string) url.Values {
	r.Helper()
	loc := a.header.Get("Location")
	u := a.to(r)
	q := u.Query()
	if !strings.HasPrefix(loc, where) || q.Get("iss") != issuer || q.Get("state") != state {
		r.Errorf("redirected to %s", loc)
	}
	if a.header.Get("Cache-Control") != "no-store" || a.header.Get("Access-Control-Allow-Origin") != "" {
		r.Errorf("headers %v", a.header)
	}
	return q
}

func TestAuthorizeErrorsAreExact(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	good := r.request(r.app)
	const there = "http://127.0.0.1:49152/cb?"
	for _, c := range []struct {
		name  string
		edit  []string
		error string
	}{
		{"no response_type", []string{"response_type", ""}, "invalid_request"},
		{"token", []string{"response_type", "token"}, "unsupported_response_type"},
		{"code token", []string{"response_type", "code id_token"}, "unsupported_response_type"},
		{"fragment", []string{"response_mode", "fragment"}, "invalid_request"},
		{"no PKCE", []string{"code_challenge", ""}, "invalid_request"},
		{"PKCE without a method is plain", []string{"code_challenge_method", ""}, "invalid_request"},
		{"plain PKCE", []string{"code_challenge_method", "plain"}, "invalid_request"},
		{"short challenge", []string{"code_challenge", strings.Repeat("a", 42)}, "invalid_request"},
		{"padded challenge", []string{"code_challenge", strings.Repeat("a", 42) + "="}, "invalid_request"},
		{"request object", []string{"request", "e30."}, "request_not_supported"},
		{"request_uri", []string{"request_uri", "https://x"}, "request_uri_not_supported"},
		{"registration", []string{"registration", "{}"}, "registration_not_supported"},
		{"bad dpop_jkt", []string{"dpop_jkt", "x"}, "invalid_request"},
		{"long nonce", []string{"nonce", strings.Repeat("n", 513)}, "invalid_request"},
		{"unknown prompt", []string{"prompt", "consent create"}, "invalid_request"},
		{"none and more", []string{"prompt", "none login"}, "invalid_request"},
		{"max_age", []string{"max_age", "-1"}, "invalid_request"},
		{"max_age is no number", []string{"max_age", "5m"}, "invalid_request"},
		{"many acr_values", []string{"acr_values", strings.Repeat("phr ", 17)}, "invalid_request"},
		{"unknown scope", []string{"scope", "openid notes:burn"}, "invalid_scope"},
		{"scope of another resource", []string{"scope", "bound:read"}, "invalid_scope"},
		{"quoted scope", []string{"scope", `notes:"read"`}, "invalid_scope"},
		{"unknown resource", []string{"resource", "https://nowhere.example"}, "invalid_target"},
		{"foreign resource", []string{"resource", r.foreign.URI}, "invalid_target"},
		{"relative resource", []string{"resource", "notes"}, "invalid_target"},
		{"fragment in resource", []string{"resource", r.notes.URI + "#x"}, "invalid_target"},
		{"a hint that is no token", []string{"id_token_hint", "x.y.z"}, "invalid_request"},
	} {
		for _, opts := range [][]option{nil, {in(r.ses)}} { // signed in or not: the same
			q := r.redirected(r.authorize(change(good, c.edit...), opts...), there, "s t&ate=%")
			if q.Get("error") != c.error || q.Has("code") {
				t.Errorf("%s: %v", c.name, q)
			}
		}
	}
	// A client without the grant is told so at its own address.
	mute := client.Client{ID: id.New(id.Client), ClientID: "mute", Name: "Mute", AuthMethod: client.AuthNone, RedirectURIs: []string{"https://mute.example/cb"}}
	r.do(audit.ClientCreated, client.Create{Client: mute})
	if q := r.redirected(r.authorize(r.request(mute)), "https://mute.example/cb?", "s t&ate=%"); q.Get("error") != "unauthorized_client" {
		t.Error(q)
	}
	if !strings.Contains(r.authorize(good, in(r.ses)).header.Get("Location"), "code=") {
		t.Error("the good request is not good")
	}
}

func TestWhatNeverRedirects(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	good := r.request(r.app)
	frozen := client.Client{ID: id.New(id.Client), ClientID: "frozen", Name: "Frozen", AuthMethod: client.AuthNone, GrantTypes: r.app.GrantTypes, RedirectURIs: []string{"https://f.example/cb"}}
	r.do(audit.ClientCreated, client.Create{Client: frozen})
	r.freeze(frozen.ID)
	for name, query := range map[string]string{
		"no client":                 change(good, "client_id", "").Encode(),
		"unknown client":            change(good, "client_id", "nobody").Encode(),
		"frozen client":             r.request(frozen).Encode(),
		"no redirect":               change(good, "redirect_uri", "").Encode(),
		"unknown redirect":          change(good, "redirect_uri", "https://evil.example/cb").Encode(),
		"userinfo":                  change(good, "redirect_uri", "http://127.0.0.1:1@evil.example/cb").Encode(),
		"two userinfos":             change(good, "redirect_uri", "http://a@b@evil.example/cb").Encode(),
		"dots":                      change(good, "redirect_uri", "http://127.0.0.1:1/x/../cb").Encode(),
		"semicolon path":            change(good, "redirect_uri", "http://127.0.0.1:1/..;/cb").Encode(),
		"a dot as a pattern":        change(good, "redirect_uri", "http://127x0x0x1:1/cb").Encode(),
		"extra query":               change(good, "redirect_uri", "http://127.0.0.1:1/cb?next=x").Encode(),
		"fragment":                  change(good, "redirect_uri", "http://127.0.0.1:1/cb#").Encode(),
		"longer host":               change(good, "redirect_uri", "http://127.0.0.1.evil.example/cb").Encode(),
		"another loopback name":     change(good, "redirect_uri", "http://localhost:1/cb").Encode(),
		"https on loopback":         change(good, "redirect_uri", "https://127.0.0.1:1/cb").Encode(),
		"case":                      change(good, "redirect_uri", "HTTP://127.0.0.1:1/cb").Encode(),
		"wildcard port":             change(good, "redirect_uri", "http://127.0.0.1:*/cb").Encode(),
		"port out of range":         change(good, "redirect_uri", "http://127.0.0.1:65536/cb").Encode(),
		"script":                    change(good, "redirect_uri", "JaVaScRiPt:alert(1)").Encode(),
		"slash":                     change(good, "redirect_uri", "com.example.app:/cb/").Encode(),
		"two redirects":             good.Encode() + "&redirect_uri=http%3A%2F%2F127.0.0.1%3A1%2Fcb",
		"two states":                good.Encode() + "&state=x",
		"two scopes":                good.Encode() + "&scope=openid",
		"the same one escaped":      good.Encode() + "&st%61te=x",
		"state over 4 KB":           change(good, "state", strings.Repeat("s", 4<<10+1)).Encode(),
		"NUL":                       good.Encode() + "&x=%00",
		"invalid UTF-8":             good.Encode() + "&x=%ff",
		"broken escape":             good.Encode() + "&x=%zz",
		"semicolon":                 good.Encode() + ";x=y",
		"too many":                  good.Encode() + strings.Repeat("&a", 200),
		"too much":                  good.Encode() + "&x=" + strings.Repeat("x", 64<<10),
		"web client on other port":  r.request(r.web, "redirect_uri", "https://web.example.com:444/cb?tenant=a%20b").Encode(),
		"query in another spelling": r.request(r.web, "redirect_uri", "https://web.example.com/cb?tenant=a+b").Encode(),
	} {
		a := r.get("/oauth/authorize?"+query, in(r.ses))
		if a.status != http.StatusBadRequest || a.header.Get("Location") != "" || !strings.HasPrefix(a.body, "page: ") {
			t.Errorf("%s: %d %s %s", name, a.status, a.header.Get("Location"), a.body)
		}
	}
}

func TestRedirectsThatAreGood(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	for _, to := range []string{"http://127.0.0.1/cb", "http://127.0.0.1:1/cb", "http://127.0.0.1:65535/cb", "http://[::1]:8080/cb", "com.example.app:/cb"} {
		q := r.redirected(r.authorize(r.request(r.app, "redirect_uri", to), in(r.ses)), to+"?", "s t&ate=%")
		if q.Get("code") == "" {
			t.Errorf("%s: %v", to, q)
		}
	}
	// The registered query stays as it is, and the parameters follow it.
	q := r.redirected(r.authorize(r.request(r.web), in(r.ses)), "https://web.example.com/cb?tenant=a%20b&", "s t&ate=%")
	if q.Get("tenant") != "a b" || q.Get("code") == "" {
		t.Error(q)
	}
	// The only registered one may be left out; not if it is a loopback without a port.
	q = r.redirected(r.authorize(r.request(r.web, "redirect_uri", ""), in(r.ses)), "https://web.example.com/cb?tenant=a%20b&", "s t&ate=%")
	if q.Get("code") == "" {
		t.Error(q)
	}
	if a := r.authorize(r.request(r.first, "redirect_uri", ""), in(r.ses)); a.status != http.StatusBadRequest {
		t.Errorf("%d", a.status)
	}
	// A form may be posted; empty parameters are absent, unknown ones ignored.
	a := r.post("/oauth/authorize", change(r.request(r.app), "claims", "{}", "x", "y"), in(r.ses))
	if a.to(t).Query().Get("code") == "" {
		t.Error(a.header.Get("Location"))
	}
	if a := r.get("/oauth/authorize?"+r.request(r.app).Encode()+"&prompt=&max_age=&nonce=", in(r.ses)); a.to(t).Query().Get("code") == "" {
		t.Error(a.header.Get("Location"))
	}
}

func TestStateComesBackByteForByte(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	for _, state := range []string{"", "x", "%2B+ &=#?/", strings.Repeat("\"<>&\x01", 819), strings.Repeat("é", 2048), strings.Repeat("s", 4096), "a\r\nb"} {
		q := r.redirected(r.authorize(r.request(r.app, "state", state), in(r.ses)), "http://127.0.0.1:49152/cb?", state)
		if q.Get("code") == "" || state == "" && q.Has("state") {
			t.Errorf("%.20q: %v", state, q)
		}
		// Through a page and back, it travels in an address of bearable length.
		name, ref := r.authorize(r.request(r.app, "state", state)).page(t)
		if name != "sign_in" || len(ref) > 9<<10 {
			t.Errorf("%.20q: %s, reference of %d bytes", state, name, len(ref))
		}
		r.redirected(r.resume(ref), "http://127.0.0.1:49152/cb?", state)
		// Pushed, it is no longer.
		name, ref = r.bring(r.app, r.pushed(r.app, r.request(r.app, "state", state))).page(t)
		if name != "sign_in" || len(ref) > 9<<10 {
			t.Errorf("%.20q, pushed: %s, reference of %d bytes", state, name, len(ref))
		}
		r.redirected(r.resume(ref), "http://127.0.0.1:49152/cb?", state)
	}
}

// What is too long to be carried is said where the answer goes, before anybody has
// proved anything in vain.
func TestRequestsThatAreTooLong(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	value := `{"value":"` + strings.Repeat("v", 2500) + `"}`
	claims := `{"userinfo":{"name":` + value + `,"email":` + value + `,"preferred_username":` + value + `}}`
	long := []string{"state", strings.Repeat("s", 4096), "claims", claims}
	if q := r.redirected(r.authorize(r.request(r.app, long...), in(r.ses)), "http://127.0.0.1:49152/cb?", long[1]); q.Get("error") != "invalid_request" {
		t.Errorf("%.300v", q)
	}
	r.expect("pushed", 400, "invalid_request", r.push(r.app, r.request(r.app, long...)))
	if q := r.redirected(r.authorize(r.request(r.app, "claims", claims), in(r.ses)), "http://127.0.0.1:49152/cb?", "s t&ate=%"); q.Get("code") == "" {
		t.Errorf("the control: %.300v", q)
	}
}

func TestInteractions(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	name, ref := r.authorize(r.request(r.app)).page(t)
	if name != "sign_in" {
		t.Fatal(name)
	}
	changed := "A" + ref[1:]
	if changed == ref {
		changed = "B" + ref[1:]
	}
	for what, a := range map[string]answer{
		"another browser": r.resume(ref, with(headerBrowser, "2")), "cut": r.resume(ref[:len(ref)-4]), "changed": r.resume(changed),
		"empty": r.resume(""), "with a line break": r.resume(ref + "\n"), "padded": r.resume(ref + "="),
	} {
		if a.status != http.StatusBadRequest || !strings.HasPrefix(a.body, "page: ") {
			t.Errorf("%s: %d %s", what, a.status, a.body)
		}
	}
	if q := r.resume(ref).to(t).Query(); q.Get("code") == "" {
		t.Error(q)
	}
	if a := r.resume(ref); a.body != "page: interaction_done" {
		t.Errorf("an interaction gave two codes: %d %s", a.status, a.body)
	}
	// The same sealed bytes in another spelling are the same interaction.
	_, ref = r.authorize(r.request(r.app)).page(t)
	for _, last := range "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_" {
		if other := ref[:len(ref)-1] + string(last); other != ref {
			if a := r.resume(other); a.status == http.StatusSeeOther {
				t.Errorf("%q is taken for %q", last, ref[len(ref)-1])
			}
		}
	}
	r.clock.move(grant.InteractionLifetime + time.Second)
	if a := r.resume(ref); a.body != "page: interaction_expired" {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestPromptNone(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	want := func(name, code string, a answer) {
		t.Helper()
		if q := r.redirected(a, "http", "s t&ate=%"); q.Get("error") != code {
			t.Errorf("%s: %v", name, q)
		}
	}
	none := func(pairs ...string) url.Values { return r.request(r.app, append(pairs, "prompt", "none")...) }
	want("nobody", "login_required", r.authorize(none()))
	want("signed in", "", r.authorize(none(), in(r.ses)))
	want("consent", "consent_required", r.authorize(r.request(r.plain, "prompt", "none"), in(r.ses)))
	// Whoever has what enrolled: the same bytes.
	var answers []string
	for _, best := range []assurance.Rung{assurance.Single, assurance.Phishing, assurance.Hardware} {
		r.best = best
		a := r.authorize(none("acr_values", "phrh"), in(r.ses))
		want("step-up", "interaction_required", a)
		answers = append(answers, a.header.Get("Location"))
	}
	if answers[0] != answers[1] || answers[1] != answers[2] {
		t.Errorf("prompt=none tells who has what: %q", answers)
	}
	r.clock.move(time.Minute)
	want("too old", "interaction_required", r.authorize(none("max_age", "30"), in(r.ses)))
	want("old enough", "", r.authorize(none("max_age", "60"), in(r.ses)))
	want("fresh", "interaction_required", r.authorize(none("max_age", "0"), in(r.ses)))
	// A hint at somebody else.
	other := r.signIn(r.other, r.passkey2(r.other.ID), false)
	tok := r.granted(r.app)
	want("wrong person", "login_required", r.authorize(none("id_token_hint", tok.IDToken), in(other)))
	want("right person", "", r.authorize(none("id_token_hint", tok.IDToken), in(r.ses)))
	r.clock.move(time.Hour)
	ses := r.signIn(r.person, r.passkey, false)
	want("an expired hint", "", r.authorize(none("id_token_hint", tok.IDToken), in(ses)))
	want("a hint for another app", "invalid_request", r.authorize(r.request(r.web, "prompt", "none", "id_token_hint", tok.IDToken), in(ses)))
	want("an access token as a hint", "invalid_request", r.authorize(none("id_token_hint", tok.AccessToken), in(ses)))
}

// passkey2 enrols a passkey for somebody.
func (r *rig) passkey2(person string) string {
	r.Helper()
	k := id.New(id.Credential)
	r.do(audit.FactorEnrolled, factor.Enrol{Passkey: factor.Passkey{ID: k, Person: person, Name: "Key", CredentialID: []byte(k), PublicKey: []byte{1}, RPID: "id.example.com"}})
	return k
}

func TestFreshness(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	for _, edit := range [][]string{{"prompt", "login"}, {"max_age", "0"}, {"prompt", "select_account"}} {
		r.clock.move(time.Second)
		name, ref := r.authorize(r.request(r.app, edit...), in(r.ses)).page(t)
		if name == "issue" {
			t.Errorf("%v: silent", edit)
		}
		r.clock.move(time.Second)
		if name, _ := r.resume(ref).page(t); name != "step_up" {
			t.Errorf("%v: %s without a ceremony", edit, name)
		}
		r.prove(ref, false)
		code := r.resume(ref).to(t).Query().Get("code")
		tok := r.tokens(r.post("/oauth/token", r.redemption(r.app, code)))
		if at := r.idToken(tok.IDToken, "app").AuthTime.Time(); !at.Equal(r.clock.now()) {
			t.Errorf("%v: auth_time %v", edit, at)
		}
		r.clock.move(10 * time.Minute)
	}
	// A native client's request is never answered silently.
	if name, _ := r.authorize(r.request(r.first), in(r.ses)).page(t); name != "step_up" {
		t.Errorf("a native client: %s", name)
	}
	if q := r.authorize(r.request(r.first, "prompt", "none"), in(r.ses)).to(t).Query(); q.Get("error") != "interaction_required" {
		t.Error(q)
	}
	// A weaker but fresh proof answers a client that named no value, although an
	// old one reaches higher: the pair is one, and it is the fresh one.
	r.ses = r.signIn(r.person, r.passkey, true)
	r.clock.move(time.Hour)
	_, ref := r.authorize(r.request(r.app, "max_age", "0"), in(r.ses)).page(t)
	r.prove(ref, false)
	tok := r.tokens(r.post("/oauth/token", r.redemption(r.app, r.resume(ref).to(t).Query().Get("code"))))
	if c := r.claims(tok.AccessToken); c.ACR != "phr" || !c.AuthTime.Time().Equal(r.clock.now()) {
		t.Errorf("%s at %v", c.ACR, c.AuthTime.Time())
	}
}

func TestACRIsTheOneAskedFor(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	r.ses = r.signIn(r.person, r.passkey, true) // phrh
	const single, multi = "urn:countersign:acr:single", "urn:countersign:acr:multi"
	for asked, want := range map[string]string{
		"": "phrh", "phr": "phr", "phr phrh": "phr", "aal3 phr": "phr", "aal3": "phrh", multi: multi, single + " phrh": single,
	} {
		tok := r.granted(r.app, "acr_values", asked)
		c, i := r.claims(tok.AccessToken), r.idToken(tok.IDToken, "app")
		if c.ACR != want || i.ACR != want || c.AuthTime != i.AuthTime || c.AuthTime == 0 || len(c.AMR) == 0 {
			t.Errorf("asked %q, got %q and %q", asked, c.ACR, i.ACR)
		}
		// What derives keeps it (A22).
		r.clock.move(time.Minute)
		if again := r.claims(r.tokens(r.refresh(r.app, tok.RefreshToken)).AccessToken); again.ACR != want || again.AuthTime != c.AuthTime {
			t.Errorf("refreshed to %q at %v", again.ACR, again.AuthTime)
		}
	}
}

// An essential acr of the claims parameter binds as acr_values do, and instead of
// them (A18): never a silently weaker token.
func TestEssentialACR(t *testing.T) {
	t.Parallel()
	r := onSQLite(t) // signed in with phr
	ask := func(claims string, pairs ...string) answer {
		return r.authorize(r.request(r.app, append(pairs, "claims", claims)...), in(r.ses))
	}
	for _, claims := range []string{
		`{"id_token":{"acr":{"essential":true,"value":"phrh"}}}`, `{"id_token":{"acr":{"essential":true,"values":["phrh"]}}}`,
		`{"userinfo":{"acr":{"essential":true,"values":["phrh","unknown"]}},"id_token":{"auth_time":null}}`,
	} {
		if name, _ := ask(claims, "acr_values", "phr").page(r); name != "impossible" {
			t.Errorf("%s: %s", claims, name)
		}
	}
	const multi = "urn:countersign:acr:multi"
	for claims, want := range map[string]string{
		`{"id_token":{"acr":{"essential":true,"values":["phrh","` + multi + `","phr"]}}}`: multi,
		`{"id_token":{"acr":{"value":"phrh"},"email":{"essential":true}}}`:                "phr", // voluntary
		`{"id_token":{"acr":{"essential":true}},"userinfo":{"acr":null}}`:                 "phr",
		`{}`: "phr",
	} {
		tok := r.granted(r.app, "claims", claims)
		if got := r.idToken(tok.IDToken, "app").ACR; got != want {
			t.Errorf("%s: %s, want %s", claims, got, want)
		}
	}
	for claims, code := range map[string]string{
		`{"id_token":{"acr":{"essential":true,"values":["aal3"]}}}`: "unmet_authentication_requirements",
		`{`:  "invalid_request",
		`[]`: "invalid_request",
		`{"id_token":{"acr":{"essential":true,"essential":false}}}`: "invalid_request",
		`{"id_token":{"acr":{"essential":"yes","value":"phrh"}}}`:   "invalid_request",
	} {
		q := r.redirected(ask(claims), "http://127.0.0.1:49152/cb?", "s t&ate=%")
		if q.Get("error") != code {
			t.Errorf("%s: %v", claims, q)
		}
	}
}

// refused says no to an interaction and gives where the browser is sent.
func (r *rig) refused(q *http.Request, ref string) string {
	r.Helper()
	w := httptest.NewRecorder()
	ok(r, r.nodes[0].server.Refuse(w, q, ref, "access_denied", "No."))
	return w.Header().Get("Location")
}

func TestWhatCannotBeReached(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	name, ref := r.authorize(r.request(r.app, "acr_values", "phrh"), in(r.ses)).page(t)
	if name != "impossible" {
		t.Fatal(name)
	}
	q, _ := http.NewRequest("POST", "/", nil)
	q.Header.Set(headerSession, r.ses)
	to := r.refused(q, ref)
	u := got(url.Parse(to))(t)
	if e := u.Query(); e.Get("error") != "unmet_authentication_requirements" || e.Get("iss") != issuer || e.Get("state") != "s t&ate=%" {
		t.Error(to)
	}
	// Somebody who could, and says no.
	_, ref = r.authorize(r.request(r.web)).page(t)
	to = r.refused(q, ref)
	if !strings.HasPrefix(to, "https://web.example.com/cb?tenant=a%20b&") || !strings.Contains(to, "error=access_denied") {
		t.Error(to)
	}
}

func TestStepUpForScopes(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	r.clock.move(time.Hour)
	name, ref := r.authorize(r.request(r.app, "scope", "openid notes:read keys:rotate"), in(r.ses)).page(t)
	if name != "step_up" {
		t.Fatal(name)
	}
	r.prove(ref, false)
	r.clock.move(4 * time.Minute)
	code := r.resume(ref).to(t).Query().Get("code")
	tok := r.tokens(r.post("/oauth/token", r.redemption(r.app, code)))
	c := r.claims(tok.AccessToken)
	if c.Scope != "openid notes:read keys:rotate" || tok.Scope != c.Scope || c.ACR != "phr" {
		t.Errorf("%+v", c)
	}
	// It ends with the proof behind it, not after its own five minutes (A23).
	if life := c.ExpiresAt.Time().Sub(c.IssuedAt.Time()); life != time.Minute || tok.ExpiresIn != 60 {
		t.Errorf("lives %v", life)
	}
	again := r.tokens(r.refresh(r.app, tok.RefreshToken))
	if again.Scope != "openid notes:read" || again.ExpiresIn != 300 {
		t.Errorf("the elevation outlived its answer: %+v", again)
	}
	if a := r.refresh(r.app, again.RefreshToken, "scope", "keys:rotate"); a.code() != "invalid_scope" {
		t.Errorf("%d %s", a.status, a.body)
	}
	// A second client is not fresh by it (A21), nor is the first one again.
	for _, c := range []client.Client{r.web, r.app} {
		tok := r.granted(c)
		if at := r.claims(tok.AccessToken).AuthTime.Time(); !at.Equal(start) {
			t.Errorf("%s got auth_time %v", c.ClientID, at)
		}
		if name, _ := r.authorize(r.request(c, "max_age", "300"), in(r.ses)).page(t); name != "step_up" {
			t.Errorf("%s: %s", c.ClientID, name)
		}
	}
}

func TestConditionalScopesAreWithheldUnlessNamed(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	r.clock.move(time.Hour)
	tok := r.granted(r.app, "scope", "")
	if tok.Scope != "notes:read" || tok.IDToken != "" {
		t.Errorf("%+v", tok)
	}
	if tok := r.granted(r.app, "scope", "openid offline_access profile email notes:write"); tok.Scope != "openid offline_access profile email notes:write" || tok.RefreshToken == "" {
		t.Errorf("%+v", tok)
	}
	// Members only.
	if tok := r.granted(r.app, "scope", "notes:read team:lead"); tok.Scope != "notes:read" {
		t.Errorf("%+v", tok)
	}
	r.do(audit.GroupJoined, group.Add{Group: r.team, Person: r.person.ID})
	if tok := r.granted(r.app, "scope", "notes:read team:lead"); tok.Scope != "notes:read team:lead" {
		t.Errorf("%+v", tok)
	}
	r.do(audit.GroupLeft, group.Remove{Group: r.team, Person: r.person.ID})
}

func TestConsent(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	name, ref := r.authorize(r.request(r.plain), in(r.ses)).page(t)
	if name != "consent" {
		t.Fatal(name)
	}
	ses := got(r.nodes[0].store.Session(context.Background(), r.ses))(t)
	q, _ := http.NewRequest("GET", "/", nil)
	p := got(r.nodes[0].server.Pending(nil, q, ref, &ses))(t)
	if len(p.Scopes) != 2 || !p.Scopes[0].New || p.App.ClientID != "third" || p.State != "s t&ate=%" {
		t.Errorf("%+v", p)
	}
	c := grant.Consent{ID: id.New("cns_"), Person: r.person.ID, Client: r.plain.ID, Resources: []string{r.notes.ID}, Scopes: []string{"openid", "notes:read"}, At: r.clock.now()}
	r.do(audit.ConsentGiven, grant.Remember{Consent: c})
	code := r.resume(ref).to(t).Query().Get("code")
	tok := r.tokens(r.post("/oauth/token", r.redemption(r.plain, code)))
	if tok.RefreshToken != "" {
		t.Error("a client without the grant type has a refresh token")
	}
	if !r.active(tok.AccessToken) {
		t.Error("inactive")
	}
	r.granted(r.plain) // silent now
	r.clock.move(time.Second)
	for _, edit := range [][]string{{"scope", "openid notes:read notes:write"}, {"prompt", "consent"}, {"resource", r.bound.URI, "scope", "bound:read"}} {
		if name, _ := r.authorize(r.request(r.plain, edit...), in(r.ses)).page(t); name != "consent" {
			t.Errorf("%v: %s", edit, name)
		}
	}
	// Withdrawn, it takes with it what hangs on it.
	r.end(c.ID)
	if r.active(tok.AccessToken) {
		t.Error("the token outlives the consent")
	}
}

// A third step-up of a class within five minutes is refused (A15).
func TestChallengesEnd(t *testing.T) {
	t.Parallel()
	engines(t, 1, func(r *rig) {
		r.clock.move(time.Hour)
		ask := func(pairs ...string) answer {
			return r.authorize(r.request(r.app, append([]string{"scope", "keys:rotate"}, pairs...)...), in(r.ses))
		}
		for range 2 {
			if name, _ := ask().page(r); name != "step_up" {
				r.Fatal(name)
			}
			r.clock.move(time.Minute)
		}
		q := r.redirected(ask(), "http://127.0.0.1:49152/cb?", "s t&ate=%")
		if q.Get("error") != "access_denied" || !strings.Contains(q.Get("error_description"), "Reference ") {
			r.Error(q)
		}
		if name, _ := ask("scope", "openid keys:rotate").page(r); name != "step_up" {
			r.Error("another class of act is refused with it")
		}
		r.clock.move(3*time.Minute + time.Second) // the first is five minutes old now
		if name, _ := ask().page(r); name != "step_up" {
			r.Error("it never ends")
		}
		if q := r.redirected(ask(), "http://127.0.0.1:49152/cb?", "s t&ate=%"); q.Get("error") != "access_denied" {
			r.Error(q)
		}
	})
}

// What the page shows when a consent-free client asks for several resources, and
// what its tokens are for.
func TestResources(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	f := r.request(r.app, "scope", "notes:read bound:read", "resource", "")
	f["resource"] = []string{"HTTPS://Notes.Example.Com/", r.bound.URI}
	code := r.authorize(f, in(r.ses)).to(t).Query().Get("code")
	p := r.prover()
	tok := r.tokens(p.post("/oauth/token", r.redemption(r.app, code)))
	c := r.claims(tok.AccessToken)
	if c.Audience[0] != r.notes.URI || c.Scope != "notes:read" || tok.TokenType != "DPoP" || c.Confirmation.JKT != p.jkt() {
		t.Errorf("the first is the default, in its registered spelling: %+v", c)
	}
	next := r.tokens(p.post("/oauth/token", form("grant_type", "refresh_token", "client_id", "app", "refresh_token", tok.RefreshToken, "resource", r.bound.URI)))
	if c := r.claims(next.AccessToken); c.Audience[0] != r.bound.URI || c.Scope != "bound:read" {
		t.Errorf("%+v", c)
	}
	// Identity alone: a token for the server itself.
	tok = r.granted(r.app, "scope", "openid profile", "resource", "")
	if c := r.claims(tok.AccessToken); c.Audience[0] != issuer {
		t.Errorf("%+v", c)
	}
	// Without resource, those whose scopes are named.
	tok = r.granted(r.app, "scope", "notes:read", "resource", "")
	if c := r.claims(tok.AccessToken); c.Audience[0] != r.notes.URI || len(c.Audience) != 1 {
		t.Errorf("%+v", c)
	}
}

func TestTokensSayWhatTheContractSays(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	tok := r.granted(r.app, "scope", "openid profile notes:read", "nonce", "n-0S6_WzA2Mj")
	c, i := r.claims(tok.AccessToken), r.idToken(tok.IDToken, "app")
	if len(tok.AccessToken) >= 1024 {
		t.Errorf("a plain token has %d bytes", len(tok.AccessToken))
	}
	if c.Subject != r.person.Subject || c.ClientID != "app" || c.JTI == "" || c.SessionID == "" || i.SessionID == "" || i.SessionID == c.SessionID {
		t.Errorf("%+v %+v", c, i)
	}
	// person, session, grant, family, client, passkey, device: in order of kind.
	if len(c.Lineage) != 7 {
		t.Errorf("lin has %d", len(c.Lineage))
	}
	if i.Nonce != "n-0S6_WzA2Mj" || i.Name != "Dana Lind" || i.Subject != c.Subject || i.ACR != "phr" {
		t.Errorf("%+v", i)
	}
	if got := r.tokens(r.refresh(r.app, tok.RefreshToken)); r.idToken(got.IDToken, "app").Nonce != "" {
		t.Error("a refreshed ID token repeats the nonce")
	}
	if _, err := jose.VerifyIDToken(tok.AccessToken, r.nodes[0].server.Keys, jose.IDTokenWant{Issuer: issuer, ClientID: "app", Now: r.clock.now()}); err == nil {
		t.Error("an access token is an ID token")
	}
	machine := r.tokens(r.post("/oauth/token", form("grant_type", "client_credentials"), r.auth(r.svc)))
	m := r.claims(machine.AccessToken)
	if m.ACR != "" || m.AMR != nil || m.AuthTime != 0 || m.SessionID != "" || len(m.Lineage) != 3 || m.Subject != r.service.Subject || machine.RefreshToken != "" || machine.IDToken != "" {
		t.Errorf("%+v", m)
	}
	if machine.Scope != "notes:read notes:write" || machine.TokenType != "Bearer" {
		t.Errorf("%+v", machine)
	}
}
