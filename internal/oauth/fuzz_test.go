package oauth

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// direct calls a handler without a socket.
func (r *rig) direct(method, path, typ, body string, opts ...option) (w *httptest.ResponseRecorder, fine bool) {
	q := &http.Request{Method: method, Header: http.Header{}, URL: &url.URL{Path: path}, Body: http.NoBody, Proto: "HTTP/1.1"}
	if method == "POST" {
		q = httptest.NewRequest(method, path, strings.NewReader(body))
		q.Header.Set("Content-Type", typ)
	} else {
		q.URL.RawQuery = body
	}
	for _, o := range opts {
		o(q)
	}
	w = httptest.NewRecorder()
	s := r.nodes[0].server
	h := map[string]func(http.ResponseWriter, *http.Request) error{"/oauth/authorize": s.authorize, "/oauth/token": s.token, "/oauth/continue": s.resume, devicePath: s.deviceAuthorization, backchannelPath: s.backchannel}[path]
	return w, h(w, q) == nil
}

// Whatever the query, the answer is a page, or a redirect to a registered
// address with iss and exactly one of code and error.
func FuzzAuthorizeQuery(f *testing.F) {
	r := onSQLite(f)
	good := r.request(r.app)
	f.Add(good.Encode())
	for _, s := range []string{
		"", "client_id=app", "client_id=app&redirect_uri=http://127.0.0.1:1/cb", "%00", "a=%ff", ";", "client_id=app&client_id=app",
		change(good, "prompt", "none").Encode(), change(good, "max_age", "99999999999").Encode(), change(good, "scope", "keys:rotate").Encode(), change(good, "acr_values", "phrh x").Encode(),
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, query string) {
		w, fine := r.direct("GET", "/oauth/authorize", "", query, in(r.ses))
		if !fine {
			t.Fatalf("a plain error for %q", query)
		}
		switch {
		case w.Code == http.StatusSeeOther:
			to := w.Header().Get("Location")
			if strings.HasPrefix(to, "/page/") {
				return
			}
			u, err := url.Parse(to)
			if err != nil {
				t.Fatal(err)
			}
			q := u.Query()
			base, _, _ := strings.Cut(to, "?")
			reg := slices.Concat(r.app.RedirectURIs, r.web.RedirectURIs, r.plain.RedirectURIs, r.first.RedirectURIs, r.jwt.RedirectURIs)
			if !slices.ContainsFunc(reg, func(s string) bool { b, _, _ := strings.Cut(s, "?"); return b == base || samePortless(b, base) }) {
				t.Fatalf("redirects to %s", to)
			}
			if q.Get("iss") != issuer || q.Has("code") == q.Has("error") || len(q["state"]) > 1 {
				t.Fatalf("answers %s", to)
			}
		case w.Code >= 500 || w.Header().Get("Location") != "":
			t.Fatalf("%d for %q", w.Code, query)
		}
	})
}

// Whatever the form, the answer is JSON with an error of RFC 6749, and no token
// for somebody who has not authenticated.
func FuzzTokenForm(f *testing.F) {
	r := onSQLite(f)
	for _, s := range []string{
		"", "grant_type=client_credentials", "grant_type=authorization_code&client_id=app&code=cs_code_x", "grant_type=refresh_token&client_id=app&refresh_token=cs_rt_x",
		"client_id=nightly&client_secret=x&grant_type=client_credentials", "client_assertion=a.b.c&client_assertion_type=" + url.QueryEscape(assertionType), "a=%zz", "a=1;b=2", "&&&=",
	} {
		f.Add(s, "")
	}
	f.Add("grant_type=refresh_token", "Basic YXBwOg==")
	f.Fuzz(func(t *testing.T, body, authorization string) {
		if strings.ContainsAny(authorization, "\r\n\x00") {
			return
		}
		w, fine := r.direct("POST", "/oauth/token", formType, body, func(q *http.Request) {
			if authorization != "" {
				q.Header.Set("Authorization", authorization)
			}
		})
		if !fine {
			t.Fatalf("a plain error for %q", body)
		}
		code := answer{body: w.Body.String()}.code()
		if w.Code != 400 && w.Code != 401 || !oauthCodes[code] || w.Code == 401 != (code == "invalid_client") {
			t.Fatalf("%d %s for %q", w.Code, w.Body, body)
		}
	})
}

func FuzzDPoPHeader(f *testing.F) {
	r := onSQLite(f)
	p := r.prover()
	f.Add(p.make("POST", "/oauth/token", ""))
	for _, s := range []string{"", "x", "a.b.c", "..", strings.Repeat(".", 1000), "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6Im5vbmUifQ.e30."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, header string) {
		w, fine := r.direct("POST", "/oauth/token", formType, "grant_type=refresh_token&client_id=app&refresh_token=x", func(q *http.Request) { q.Header["Dpop"] = []string{header} })
		code := answer{body: w.Body.String()}.code()
		if !fine || w.Code != 400 || code != "invalid_dpop_proof" && code != "use_dpop_nonce" {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
	})
}

// Two addresses are the same but for the port only if they are byte for byte so.
func FuzzLoopback(f *testing.F) {
	for _, s := range []string{"http://127.0.0.1/cb", "http://[::1]:1/cb?x", "http://localhost:*", "http://localhost:65536", "http://127.0.0.1:1@x", "http://localhost.evil", "http://localhost:/"} {
		f.Add(s, s)
		f.Add("http://127.0.0.1/cb", s)
	}
	f.Fuzz(func(t *testing.T, registered, asked string) {
		if host, rest, is := splitLoopback(asked); is {
			if !slices.Contains([]string{"localhost", "127.0.0.1", "[::1]"}, host) || rest != "" && rest[0] != '/' && rest[0] != '?' {
				t.Fatalf("%q is split into %q and %q", asked, host, rest)
			}
			if u, err := url.Parse(asked); err == nil && u.User != nil {
				t.Fatalf("%q has a user", asked)
			} else if err == nil && u.Hostname() != strings.Trim(host, "[]") {
				t.Fatalf("%q is on the host %q", asked, u.Hostname())
			}
		}
		if !samePortless(registered, asked) {
			return
		}
		a, errA := url.Parse(strings.Replace(registered, ":*", "", 1))
		b, errB := url.Parse(strings.Replace(asked, ":*", "", 1))
		if errA != nil || errB != nil {
			return
		}
		if a.Hostname() != b.Hostname() || a.Path != b.Path || a.RawQuery != b.RawQuery || a.Scheme != "http" || b.Scheme != "http" || b.Fragment != "" {
			t.Fatalf("%q is taken for %q", asked, registered)
		}
	})
}

func FuzzScopeList(f *testing.F) {
	for _, s := range []string{"", " ", "a b a", "a  b", "\x00", "é", `a"b`, `a\b`, strings.Repeat("x ", 100)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		list, err := scopeList(s)
		if err != nil && list != nil {
			t.Fatal("an error and a list")
		}
		seen := map[string]bool{}
		for _, v := range list {
			if v == "" || seen[v] || strings.ContainsAny(v, " \"\\\x7f") || !slices.Contains(strings.Split(s, " "), v) {
				t.Fatalf("%q of %q", v, s)
			}
			seen[v] = true
		}
		if again, err := scopeList(strings.Join(list, " ")); err != nil || !slices.Equal(again, list) {
			t.Fatalf("%q is read as %q", list, again)
		}
	})
}
