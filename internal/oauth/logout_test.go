package oauth

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/problem"
)

// out asks to sign out in a browser.
func (r *rig) out(ses string, pairs ...string) answer {
	r.Helper()
	return r.get("/oauth/logout?"+form(pairs...).Encode(), in(ses))
}

// usable reports whether a session's cookie still works.
func (r *rig) usable(ses string) bool {
	r.Helper()
	return got(r.nodes[0].store.Session(r.Context(), ses))(r).Usable(r.clock.now())
}

const bye = "https://web.example.com/bye?from=a"

// A browser is signed out at once only with a genuine ID token of its own session;
// everybody else's request is put to the person, and nobody is sent to an address
// that is not registered.
func TestSigningOutAtAnAppsWord(t *testing.T) {
	t.Parallel()
	engines(t, 1, func(r *rig) {
		c := r.hosted("rpa")
		c.PostLogoutURIs = []string{bye}
		c = r.registered(c)
		pair := r.hosted("pair")
		pair.SubjectType, pair.PostLogoutURIs = client.Pairwise, []string{bye}
		pair = r.registered(pair)
		old := r.ses
		r.ses = r.signIn(r.person, r.passkey, false) // another browser of the same person
		elsewhere := r.granted(c, "scope", "openid").IDToken
		foreign := r.granted(r.app, "scope", "openid").IDToken
		access := r.granted(c, "scope", "openid").AccessToken
		r.ses = old
		logoutToken := got(r.nodes[0].server.LogoutToken(t.Context(), c, got(r.nodes[0].store.Session(t.Context(), old))(t)))(t)
		hint, own := "", ""
		again := func() {
			old = r.signIn(r.person, r.passkey, false)
			r.ses = old
			hint, own = r.granted(c, "scope", "openid").IDToken, r.granted(pair, "scope", "openid").IDToken
		}
		again()
		parts := strings.Split(hint, ".")
		forged := parts[0] + "." + parts[1] + "." + base64.RawURLEncoding.EncodeToString(make([]byte, 64))
		none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"JWT"}`)) + "." + parts[1] + "."
		const asked, away, shown = "/page/leave", "away", "shown"
		for name, v := range map[string]struct {
			pairs []string
			want  string // the page, "away" to the address, "shown" that it is done, or a fault
			ends  bool
		}{
			"nothing":                      {nil, asked, false},
			"only the client":              {[]string{"client_id", "rpa"}, asked, false},
			"the client and its address":   {[]string{"client_id", "rpa", "post_logout_redirect_uri", bye}, asked, false},
			"its own token":                {[]string{"id_token_hint", "HINT"}, shown, true},
			"token and address":            {[]string{"id_token_hint", "HINT", "post_logout_redirect_uri", bye, "state", "s t&x=%"}, away, true},
			"token, client, address":       {[]string{"id_token_hint", "HINT", "client_id", "rpa", "post_logout_redirect_uri", bye}, away, true},
			"a pairwise client's token":    {[]string{"id_token_hint", "OWN", "post_logout_redirect_uri", bye}, away, true},
			"the token of another browser": {[]string{"id_token_hint", elsewhere, "post_logout_redirect_uri", bye}, asked, false},
			"another client's token":       {[]string{"id_token_hint", foreign, "client_id", "rpa"}, "invalid_request", false},
			"an access token":              {[]string{"id_token_hint", access}, asked, false},
			"a logout token":               {[]string{"id_token_hint", logoutToken}, asked, false},
			"a forged token":               {[]string{"id_token_hint", forged, "client_id", "rpa", "post_logout_redirect_uri", bye}, asked, false},
			"alg none":                     {[]string{"id_token_hint", none}, asked, false},
			"an address without a client":  {[]string{"post_logout_redirect_uri", bye}, "redirect_invalid", false},
			"another address":              {[]string{"id_token_hint", "HINT", "post_logout_redirect_uri", "https://evil.example/"}, "redirect_invalid", false},
			"nearly the address":           {[]string{"id_token_hint", "HINT", "post_logout_redirect_uri", bye + "&x=1"}, "redirect_invalid", false},
			"the redirect URI":             {[]string{"id_token_hint", "HINT", "post_logout_redirect_uri", c.RedirectURIs[0]}, "redirect_invalid", false},
			"an unknown client":            {[]string{"client_id", "nobody"}, "client_unknown", false},
			"a long state":                 {[]string{"client_id", "rpa", "post_logout_redirect_uri", bye, "state", strings.Repeat("x", maxState+1)}, "invalid_request", false},
		} {
			pairs := slices.Clone(v.pairs)
			for i := range pairs {
				switch pairs[i] {
				case "HINT":
					pairs[i] = hint
				case "OWN":
					pairs[i] = own
				}
			}
			a := r.out(old, pairs...)
			where := got(url.Parse(a.header.Get("Location")))(t)
			switch v.want {
			case asked:
				if where.Path != asked {
					t.Errorf("%s: %d %s %s", name, a.status, where, a.body)
				}
			case away:
				want := bye
				if strings.Contains(strings.Join(v.pairs, " "), "s t&x=%") {
					want += "&state=s%20t%26x%3D%25"
				}
				if where.String() != want || a.status != http.StatusSeeOther {
					t.Errorf("%s: %d to %s, want %s", name, a.status, where, want)
				}
			case shown:
				if a.status != http.StatusOK || a.body != "signed out: " {
					t.Errorf("%s: %d %s", name, a.status, a.body)
				}
			default:
				if a.body != "page: "+v.want || where.String() != "" {
					t.Errorf("%s: %d %s %s", name, a.status, where, a.body)
				}
			}
			if ended := !r.usable(old); ended != v.ends {
				t.Errorf("%s: ended %v", name, ended)
			}
			if v.ends {
				again()
			}
		}
		// Nobody is signed in: nothing is asked, and only a genuine token sends the
		// browser on by itself.
		r.out(old, "id_token_hint", hint)
		if a := r.out(old, "client_id", "rpa", "post_logout_redirect_uri", bye); a.body != "signed out: "+bye {
			t.Errorf("without a session: %d %s %s", a.status, a.header.Get("Location"), a.body)
		}
		if a := r.out(old, "id_token_hint", hint, "post_logout_redirect_uri", bye); a.header.Get("Location") != bye {
			t.Errorf("without a session, with a token: %d %s", a.status, a.body)
		}
		// A form of another site comes without the cookie, and is asked to come again.
		a := r.post("/oauth/logout", form("client_id", "rpa", "state", "x", "else", "y"))
		if loc := a.header.Get("Location"); loc != "/oauth/logout?client_id=rpa&state=x" {
			t.Errorf("a posted request goes to %q", loc)
		}
	})
}

// A hint may have expired; its session must not.
func TestExpiredHint(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	c := r.hosted("rpa")
	c.PostLogoutURIs, c.IDTokenAlg = []string{bye}, "EdDSA"
	c = r.registered(c)
	hint := r.granted(c, "scope", "openid").IDToken
	r.clock.move(2 * time.Hour)
	if a := r.out(r.ses, "id_token_hint", hint, "post_logout_redirect_uri", bye); a.header.Get("Location") != bye || r.usable(r.ses) {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// The page that asks is of one browser, for ten minutes.
func TestLeavingIsBound(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	c := r.hosted("rpa")
	c.PostLogoutURIs = []string{bye}
	c = r.registered(c)
	const state = "\"<>&\x01"
	long := strings.Repeat(state, maxState/len(state)) // JSON would make it more than five times as long
	a := r.out(r.ses, "client_id", "rpa", "post_logout_redirect_uri", bye, "state", long)
	ref := got(url.Parse(a.header.Get("Location")))(t).Query().Get("tx")
	if len(ref) == 0 || len(ref) > 9<<10 {
		t.Errorf("%d %s: a reference of %d bytes", a.status, a.body, len(ref))
	}
	open := func(browser string) (grant.Leaving, error) {
		q := httptest.NewRequest("POST", "/", nil)
		q.Header.Set(headerBrowser, browser)
		return r.nodes[0].server.Leaving(httptest.NewRecorder(), q, ref)
	}
	l, err := open("")
	if err != nil || l.App.ID != c.ID || l.Back != bye || l.State != long || l.Session != r.ses {
		t.Fatalf("%+v %v", l, err)
	}
	if _, err := open("another"); problem.CodeOf(err) != "transaction_unknown" {
		t.Errorf("another browser: %v", err)
	}
	c.PostLogoutURIs = nil
	r.registered(c)
	if l, err := open(""); err != nil || l.Back != "" {
		t.Errorf("an address that was taken back: %+v %v", l, err)
	}
	r.clock.move(grant.LeavingLifetime + time.Second)
	if _, err := open(""); problem.CodeOf(err) != "interaction_expired" {
		t.Errorf("after ten minutes: %v", err)
	}
}

// A logout token says what its client needs to find the session, and is nothing else.
func TestLogoutToken(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	for _, alg := range client.SignedAlgs() {
		c := r.hosted("rp-" + strings.ToLower(alg))
		c.IDTokenAlg, c.SubjectType = alg, client.Pairwise
		c = r.registered(c)
		tok := r.granted(c, "scope", "openid")
		var id struct{ Sub, Sid string }
		ok(t, json.Unmarshal(got(base64.RawURLEncoding.DecodeString(strings.Split(tok.IDToken, ".")[1]))(t), &id))
		ses := got(r.nodes[0].store.Session(t.Context(), r.ses))(t)
		text := got(r.nodes[0].server.LogoutToken(t.Context(), c, ses))(t)
		if h := headerOf(t, text); h.Alg != alg || h.Typ != "logout+jwt" || h.Kid != headerOf(t, tok.IDToken).Kid {
			t.Errorf("%s: header %+v", alg, h)
		}
		var m map[string]any
		ok(t, json.Unmarshal(got(base64.RawURLEncoding.DecodeString(strings.Split(text, ".")[1]))(t), &m))
		events, _ := json.Marshal(m["events"])
		if m["sub"] != id.Sub || m["sid"] != id.Sid || m["aud"] != c.ClientID || m["iss"] != issuer || m["jti"] == "" || m["nonce"] != nil ||
			string(events) != `{"http://schemas.openid.net/event/backchannel-logout":{}}` || m["exp"].(float64)-m["iat"].(float64) != 120 {
			t.Errorf("%s: %v", alg, m)
		}
		keys := r.nodes[0].server.Keys
		if _, err := jose.VerifyIDToken(text, keys, jose.IDTokenWant{Issuer: issuer, ClientID: c.ClientID, Algorithms: client.SignedAlgs(), Now: r.clock.now()}); problem.CodeOf(err) != "id_token_type" {
			t.Errorf("%s: it passes for an ID token: %v", alg, err)
		}
		if _, err := jose.VerifyAccessToken(text, keys, jose.AccessTokenWant{Issuer: issuer, AnyAudience: true, Algorithms: client.SignedAlgs(), Now: r.clock.now()}); problem.CodeOf(err) != "token_type" {
			t.Errorf("%s: it passes for an access token: %v", alg, err)
		}
		other := got(r.nodes[0].server.LogoutToken(t.Context(), c, ses))(t)
		if other == text {
			t.Errorf("%s: two have the same jti", alg)
		}
	}
}
