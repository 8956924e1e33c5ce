package oauth

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/problem"
)

// posted calls a handler with a form, without a socket.
func posted(h func(http.ResponseWriter, *http.Request) error, body, authorization string) (w *httptest.ResponseRecorder, fine bool) {
	q := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
	q.Header.Set("Content-Type", formType)
	if authorization != "" {
		q.Header["Authorization"] = []string{authorization}
	}
	w = httptest.NewRecorder()
	return w, h(w, q) == nil
}

// Whatever is pushed, the answer is JSON: a request_uri for a request that could be
// answered at an address of the client's, or an error of RFC 6749 and no address.
func FuzzPushedForm(f *testing.F) {
	r := onSQLite(f)
	good := r.request(r.app)
	for _, q := range []url.Values{
		good, change(good, "request_uri", "urn:ietf:params:oauth:request_uri:x"), change(good, "request", "a.b.c"), change(good, "redirect_uri", "https://evil.example/"),
		change(good, "scope", "openid openid"), change(good, "claims", `{"id_token":{"acr":{"essential":true}}}`), change(good, "response_mode", "fragment"), change(good, "client_id", "web"),
	} {
		f.Add(q.Encode(), "")
	}
	f.Add("client_id=app&client_id=app", "")
	f.Add("&;=%", "Basic YXBwOg==")
	f.Fuzz(func(t *testing.T, body, authorization string) {
		w, fine := posted(r.nodes[0].server.par, body, authorization)
		var said struct {
			URI   string `json:"request_uri"`
			Error string `json:"error"`
		}
		if err := json.Unmarshal(w.Body.Bytes(), &said); err != nil || !fine {
			t.Fatalf("%v, %q for %q", err, w.Body, body)
		}
		if w.Code == http.StatusCreated {
			q, err := url.ParseQuery(body)
			to := q.Get("redirect_uri")
			if err != nil || !strings.HasPrefix(said.URI, pushedPrefix) || said.Error != "" || to != "" && !slices.Contains(r.app.RedirectURIs, to) && !isLoopback(to) {
				t.Fatalf("%q is taken: %s", body, w.Body)
			}
			return
		}
		if w.Code != 400 && w.Code != 401 || said.Error == "" || said.URI != "" || w.Code == 401 != (said.Error == "invalid_client") {
			t.Fatalf("%d %s for %q", w.Code, w.Body, body)
		}
	})
}

// Whoever has not authenticated learns nothing of a token, whatever they send.
func FuzzIntrospectionForm(f *testing.F) {
	r := onSQLite(f)
	tok := r.granted(r.app)
	f.Add("token="+tok.AccessToken, "")
	f.Add("token="+tok.AccessToken+"&client_id=api&client_secret=x", "")
	f.Add("token=&token=", "Basic Og==")
	f.Add("token="+url.QueryEscape("a\x00b"), "Bearer "+tok.AccessToken)
	f.Fuzz(func(t *testing.T, body, authorization string) {
		w, fine := posted(r.nodes[0].server.introspect, body, authorization)
		if !fine || w.Code != 400 && w.Code != 401 || strings.Contains(w.Body.String(), `"active":true`) {
			t.Fatalf("%d %s for %q", w.Code, w.Body, body)
		}
	})
}

// An address that is answered at is one that is registered, byte for byte, or
// differs from a registered one on a loopback address by the port only.
func FuzzRedirectOf(f *testing.F) {
	for _, s := range []string{
		"", "https://app.example/cb", "https://app.example/cb?x=1", "https://app.example/cb/../cb", "https://app.example:443/cb", "HTTPS://app.example/cb", "com.example.app:/cb",
		"http://127.0.0.1/cb", "http://127.0.0.1:8080/cb", "http://localhost:*/cb", "http://[::1]:1/cb", "http://127.0.0.1:8080/cb#x", "http://127.0.0.1.evil/cb", "http://127.0.0.1:1@evil/cb",
	} {
		f.Add("https://app.example/cb", "http://127.0.0.1/cb", s)
		f.Add("com.example.app:/cb", "http://localhost:*/cb", s)
	}
	f.Fuzz(func(t *testing.T, one, other, asked string) {
		c := client.Client{RedirectURIs: []string{one, other}, Native: true}
		if client.CheckRedirect(one, true) != nil || client.CheckRedirect(other, true) != nil {
			return // could not be registered
		}
		got, err := redirectOf(c, asked)
		if err != nil {
			if got != "" || asked == one && !strings.Contains(one, ":*") {
				t.Fatalf("%q of %q: %q, %v", asked, one, got, err)
			}
			return
		}
		if got != asked {
			t.Fatalf("%q becomes %q", asked, got)
		}
		if asked != one && asked != other && !(isLoopback(one) && samePortless(one, asked)) && !(isLoopback(other) && samePortless(other, asked)) {
			t.Fatalf("%q is taken for %q or %q", asked, one, other)
		}
		if u, err := url.Parse(asked); err == nil && (u.User != nil || u.Fragment != "" || u.Scheme == "javascript" || u.Scheme == "data") {
			t.Fatalf("%q is answered at", asked)
		}
	})
}

// Whatever asks to sign out, without a genuine ID token of the session nobody is, and
// no browser is sent to an address that is not registered.
func FuzzLogoutQuery(f *testing.F) {
	r := onSQLite(f)
	c := r.hosted("leaving")
	c.PostLogoutURIs = []string{bye}
	c = r.registered(c)
	old := r.ses
	r.ses = r.signIn(r.person, r.passkey, false)
	elsewhere := r.granted(c, "scope", "openid").IDToken // of another browser
	r.ses = old
	for _, q := range []url.Values{
		form("id_token_hint", elsewhere, "post_logout_redirect_uri", bye, "state", "s"), form("client_id", c.ClientID, "post_logout_redirect_uri", bye),
		form("client_id", c.ClientID, "post_logout_redirect_uri", bye+"&x"), form("client_id", "app", "id_token_hint", elsewhere), form("id_token_hint", "a.b.c"), form("state", strings.Repeat("s", 4<<10+1)),
	} {
		f.Add(q.Encode())
	}
	f.Add("client_id=app&client_id=app")
	f.Add("&;=%")
	f.Fuzz(func(t *testing.T, query string) {
		for _, ses := range []string{r.ses, ""} {
			q := &http.Request{Method: http.MethodGet, Header: http.Header{}, URL: &url.URL{Path: "/oauth/logout", RawQuery: query}, Body: http.NoBody, Proto: "HTTP/1.1"}
			in(ses)(q)
			w := httptest.NewRecorder()
			if err := r.nodes[0].server.logout(w, q); err != nil && problem.From(err) == nil {
				t.Fatalf("%v for %q", err, query)
			}
			if have, err := r.nodes[0].store.Session(context.Background(), r.ses); err != nil || !have.Usable(r.clock.now()) {
				t.Fatalf("signed out, %v, by %q", err, query)
			}
			to := w.Header().Get("Location")
			if base, _, _ := strings.Cut(to, "&"); to != "" && !strings.HasPrefix(to, "/page/leave?") && (base != bye || ses != "" || !strings.Contains(query, "id_token_hint")) {
				t.Fatalf("%q sends the browser to %s", query, to)
			}
		}
	})
}
