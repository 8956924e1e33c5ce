package server

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/portal/view"
	"github.com/countersign-dev/countersign/internal/web"
)

// seedAdmin makes the first administrator, as set-up does.
func seedAdmin(t *testing.T, s *Server) account.Person {
	t.Helper()
	p := account.Person{ID: id.New(id.Person), Subject: id.Random("sub_"), Name: "Dana", Username: "dana", CreatedAt: s.now()}
	check(t, s.Seed(t.Context(), audit.PersonCreated, account.Create{Person: p}, account.SetUp{Person: p.ID, At: s.now()}))
	return p
}

// ask sends a request to a handler. Headers come in pairs.
func ask(h http.Handler, method, target, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// TestMisses: what is not there is told to programs in JSON and to people as a
// page.
func TestMisses(t *testing.T) {
	t.Parallel()
	s, _ := newServer(t)
	h, err := s.Handler()
	check(t, err)
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
		for _, path := range []string{
			"/oauth/", "/oauth/nothing", "/oauth/token/x", "/oauth/authorize/x", "/.well-known/", "/.well-known/nothing", "/v1", "/v1/", "/v1/nothing", "/v1/people/x/y/z",
		} {
			w := ask(h, method, testIssuer+path, "")
			var body map[string]any
			if typ := w.Header().Get("Content-Type"); w.Code != http.StatusNotFound || !strings.HasSuffix(typ, "json") || json.Unmarshal(w.Body.Bytes(), &body) != nil {
				t.Errorf("%s %s: %d %s %s", method, path, w.Code, typ, w.Body)
			}
			if w.Header().Get("Set-Cookie") != "" {
				t.Errorf("%s %s sets a cookie", method, path)
			}
		}
		for _, path := range []string{"/nothing", "/oauth", "/oauthx", "/v1x", "/.well-knownx", "/account/nothing", "/healthz", "/readyz", "/metrics", "/debug/pprof/", "/admin/nothing"} {
			w := ask(h, method, testIssuer+path, "")
			if typ := w.Header().Get("Content-Type"); w.Code != http.StatusNotFound || !strings.HasPrefix(typ, "text/html") || !strings.Contains(w.Body.String(), "<html") {
				t.Errorf("%s %s: %d %s", method, path, w.Code, typ)
			}
		}
	}
}

// TestDocumentOfTheAPI: what resource servers ask is in the document, every route of it,
// and every operation of the document is there.
func TestDocumentOfTheAPI(t *testing.T) {
	t.Parallel()
	s, _ := newServer(t)
	h, err := s.Handler()
	check(t, err)
	var doc struct {
		Paths map[string]map[string]struct{}
	}
	check(t, json.Unmarshal(ask(h, http.MethodGet, testIssuer+"/v1/openapi.json", "").Body.Bytes(), &doc))
	routes := 0
	s.pdp.Mount(func(pattern string, _ http.Handler) {
		method, path, ok := strings.Cut(pattern, " ")
		if !ok { // for methods that there are not
			return
		}
		routes++
		if _, ok := doc.Paths[path][strings.ToLower(method)]; !ok {
			t.Errorf("%s is not in the document", pattern)
		}
	})
	if routes < 5 || len(doc.Paths) < 50 {
		t.Fatalf("%d routes, %d paths", routes, len(doc.Paths))
	}
	for path, methods := range doc.Paths {
		for method := range methods {
			at := strings.NewReplacer("{", "", "}", "").Replace(path)
			if w := ask(h, strings.ToUpper(method), testIssuer+at, ""); w.Code == http.StatusNotFound || w.Code == http.StatusMethodNotAllowed {
				t.Errorf("%s %s: %d", method, path, w.Code)
			}
		}
	}
}

// TestCrossOrigin: no page route takes what another site sends, and nothing is
// written for it.
func TestCrossOrigin(t *testing.T) {
	t.Parallel()
	s, _ := newServer(t)
	h, err := s.Handler()
	check(t, err)
	var paths []string
	s.portal.Routes(func(pattern string, _ web.Handler) {
		method, path, ok := strings.Cut(pattern, " ")
		if !ok {
			t.Fatalf("the route %q takes any method", pattern)
		}
		if method == http.MethodPost {
			path = strings.NewReplacer("{$}", "", "{id}", "x", "{", "", "}", "").Replace(path)
			paths = append(paths, path)
		}
	})
	if len(paths) < 15 {
		t.Fatalf("only %d routes: %v", len(paths), paths)
	}
	before := records(t, s)
	_, fault := view.CrossSite("")
	crossSite := fault.Headline
	for _, path := range paths {
		for name, header := range map[string][]string{
			"another site":       {"Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"},
			"a sibling":          {"Sec-Fetch-Site", "same-site", "Origin", "https://app.example.com"},
			"by its origin only": {"Origin", "https://evil.example"},
			"the null origin":    {"Origin", "null"},
			"another port":       {"Origin", testIssuer + ":444"},
		} {
			for _, typ := range []string{"application/x-www-form-urlencoded", "application/json", "text/plain"} {
				w := ask(h, http.MethodPost, testIssuer+path, "{}", append(header, "Content-Type", typ)...)
				if w.Code != http.StatusForbidden || typ != "application/json" && !strings.Contains(w.Body.String(), crossSite) {
					t.Errorf("POST %s from %s as %s: %d", path, name, typ, w.Code)
				}
			}
		}
		w := ask(h, http.MethodPost, testIssuer+path, "", "Sec-Fetch-Site", "same-origin", "Origin", testIssuer, "Content-Type", "application/x-www-form-urlencoded")
		if strings.Contains(w.Body.String(), crossSite) {
			t.Errorf("POST %s from our own page was refused", path)
		}
	}
	if got := records(t, s); got != before {
		t.Errorf("%d records were written", got-before)
	}
	// The authorization request is the exception that OpenID Connect demands.
	w := ask(h, http.MethodPost, testIssuer+"/oauth/authorize", "", "Sec-Fetch-Site", "cross-site", "Origin", "https://app.example", "Content-Type", "application/x-www-form-urlencoded")
	if strings.Contains(w.Body.String(), crossSite) {
		t.Error("an authorization request from another site was refused for that")
	}
}

// records counts what is in the log.
func records(t *testing.T, s *Server) int64 {
	t.Helper()
	c, err := s.Store.Counts(t.Context())
	check(t, err)
	return c.Records + c.Pending
}

// TestDevelopment: in development mode the server answers this machine's browser
// under its own name, and nothing else.
func TestDevelopment(t *testing.T) {
	t.Parallel()
	s, _ := newServer(t, inDevelopment)
	h, err := s.Handler()
	check(t, err)
	const here = "http://localhost:8787"
	for _, path := range []string{"/signin", "/oauth/jwks", "/v1/people", "/static/app.css"} {
		for _, host := range []string{"evil.example", "evil.example:8787", "localhost.evil.example:8787", "localhost:8788", "localhost", "127.0.0.1.nip.io:8787", "0.0.0.0:8787"} {
			if w := ask(h, http.MethodGet, "http://"+host+path, ""); w.Code != http.StatusForbidden {
				t.Errorf("%s for %s: %d", path, host, w.Code)
			}
		}
		for _, name := range []string{"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded"} {
			if w := ask(h, http.MethodGet, here+path, "", name, "for=192.0.2.1"); w.Code != http.StatusForbidden {
				t.Errorf("%s with %s: %d", path, name, w.Code)
			}
		}
		if w := ask(h, http.MethodPost, here+path, "", "Origin", "http://localhost:3000"); w.Code != http.StatusForbidden {
			t.Errorf("%s from another port: %d", path, w.Code)
		}
	}
	for _, host := range []string{"127.0.0.1:8787", "[::1]:8787"} {
		w := ask(h, http.MethodGet, "http://"+host+"/signin?next=/account", "")
		if w.Code != http.StatusTemporaryRedirect || w.Header().Get("Location") != here+"/signin?next=/account" {
			t.Errorf("a page at %s: %d to %q", host, w.Code, w.Header().Get("Location"))
		}
		if w := ask(h, http.MethodGet, "http://"+host+"/oauth/jwks", ""); w.Code != http.StatusOK {
			t.Errorf("the keys at %s: %d", host, w.Code)
		}
		if w := ask(h, http.MethodPost, "http://"+host+"/signin/options", "{}", "Content-Type", "application/json"); w.Code == http.StatusTemporaryRedirect {
			t.Errorf("a post at %s was sent elsewhere, with its body", host)
		}
	}
	if w := ask(h, http.MethodGet, here+"/signin", ""); w.Code != http.StatusOK {
		t.Errorf("the page itself: %d", w.Code)
	}
}

// TestSaturated: beyond the places and the queue the answer comes at once and says
// when to come back; documents that are ready are served all the same, and those
// who waited are served in the end.
func TestSaturated(t *testing.T) {
	s := &Server{lanes: newLanes()}
	release, working := make(chan struct{}), make(chan struct{}, apiPlaces)
	h := s.shed(s.limit(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/oauth/token" && r.Method != http.MethodOptions {
			working <- struct{}{}
			<-release
			<-working
		}
	})))
	const all = apiPlaces + maxQueue
	done := make(chan int, all)
	for range all {
		go func() { done <- ask(h, http.MethodGet, "/oauth/token", "").Code }()
	}
	waitFor(t, func() bool { return s.lanes.api.waiting.Load() == maxQueue })
	start := time.Now()
	for range 100 {
		w := ask(h, http.MethodPost, "/oauth/token", "body")
		if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") != "1" || !strings.Contains(w.Body.String(), `"temporarily_unavailable"`) {
			t.Fatalf("%d, Retry-After %q: %s", w.Code, w.Header().Get("Retry-After"), w.Body)
		}
	}
	// A client in a browser sees why, and was let ask.
	if w := ask(h, http.MethodPost, "/oauth/token", "body", "Origin", "https://spa.example"); w.Header().Get("Access-Control-Allow-Origin") != "*" || w.Header().Get("Access-Control-Expose-Headers") != "Retry-After" {
		t.Errorf("a script may not read that it was refused: %v", w.Header())
	}
	if w := ask(h, http.MethodOptions, "/oauth/token", "", "Origin", "https://spa.example"); w.Code != http.StatusOK {
		t.Errorf("a script may not ask: %d", w.Code)
	}
	if w := ask(h, http.MethodPost, "/oauth/introspect", "body"); w.Code != http.StatusServiceUnavailable || w.Header().Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("introspection lets scripts read: %d %v", w.Code, w.Header())
	}
	w := httptest.NewRecorder()
	if saturated(w, httptest.NewRequest(http.MethodPost, "/access/v1/evaluation", nil)); w.Code != http.StatusServiceUnavailable || !strings.HasPrefix(w.Body.String(), "temporarily_unavailable: ") || w.Header().Get("Content-Type") != typeText[0] {
		t.Errorf("AuthZEN is answered %d %s", w.Code, w.Body)
	}
	if took := time.Since(start); took > 50*maxWait { // each that waits, waits for all of it
		t.Errorf("100 refusals took %v", took)
	}
	for _, path := range []string{"/signin", "/.well-known/openid-configuration", "/oauth/jwks", streamPath} {
		if w := ask(h, http.MethodGet, path, ""); w.Code != http.StatusOK {
			t.Errorf("%s beside a full lane: %d", path, w.Code)
		}
	}
	close(release)
	for range all {
		if code := <-done; code != http.StatusOK {
			t.Fatalf("one who waited is told %d", code)
		}
	}
	if w := ask(h, http.MethodGet, "/oauth/token", ""); w.Code != http.StatusOK {
		t.Errorf("afterwards: %d", w.Code)
	}
	if n := s.lanes.api.refused.Load(); n != 102 {
		t.Errorf("%d refusals counted", n)
	}
}

// TestOperations: the operations listener has health, readiness, metrics and
// profiles, and nothing of the server's surfaces.
func TestOperations(t *testing.T) {
	t.Parallel()
	s, _ := newServer(t)
	s.ready.Store(true)
	h := s.Operations()
	for path, want := range map[string]string{
		"/healthz": "ok", "/readyz": "ready", "/metrics": "countersign_audit_records", "/debug/pprof/": "goroutine", "/debug/pprof/goroutine?debug=1": "goroutine profile",
		"/debug/pprof/heap?debug=1": "heap profile", "/debug/pprof/symbol": "num_symbols",
	} {
		if w := ask(h, http.MethodGet, path, ""); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %d without %q", path, w.Code, want)
		}
		if w := ask(h, http.MethodPost, path, ""); w.Code != http.StatusMethodNotAllowed {
			t.Errorf("POST %s: %d", path, w.Code)
		}
	}
	for _, path := range []string{
		"/", "/v1/people", "/v1/openapi.json", "/oauth/token", "/oauth/jwks", "/.well-known/openid-configuration", "/signin", "/account", "/static/app.css", "/setup",
		"/debug/", "/debug/vars", "/debug/pprof/cmdline", "/debug/pprof", "/healthz/x", "/metrics/x",
	} {
		if w := ask(h, http.MethodGet, path, ""); w.Code == http.StatusOK {
			t.Errorf("%s is served: %.80s", path, w.Body)
		}
	}
}

// TestMetrics: requests are counted by pattern, never by what callers write.
func TestMetrics(t *testing.T) {
	t.Parallel()
	s, _ := newServer(t)
	h, err := s.Handler()
	check(t, err)
	ask(h, http.MethodGet, testIssuer+"/oauth/jwks?who=dana-in-a-query", "")
	ask(h, http.MethodGet, testIssuer+"/v1/people/dana-in-a-path", "")
	ask(h, http.MethodGet, testIssuer+"/dana-in-a-path", "")
	text := ask(s.Operations(), http.MethodGet, "/metrics", "").Body.String()
	if !strings.Contains(text, `route="GET /oauth/jwks",status="2xx"`) || strings.Contains(text, "dana-in") {
		t.Errorf("metrics: %s", text)
	}
}

// TestLogKeepsSecrets: what callers send by mistake or in good faith is not in
// the log of a run, at its most talkative.
func TestLogKeepsSecrets(t *testing.T) {
	t.Parallel()
	s, log := newServer(t)
	link, err := s.SetupLink(t.Context(), "system")
	check(t, err)
	secrets := []string{link[strings.IndexByte(link, '#')+1:]}
	plant := func(name string) string {
		v := "canary-" + name + "-8b1f0c"
		secrets = append(secrets, v)
		return v
	}
	stop := serve(t, s)
	h, err := s.Handler()
	check(t, err)
	form := url.Values{}
	for _, name := range []string{"code", "refresh_token", "client_secret", "client_assertion", "code_verifier", "password", "token", "secret", "tx"} {
		form.Set(name, plant(name))
	}
	for _, grant := range []string{"authorization_code", "refresh_token", "client_credentials"} {
		form.Set("grant_type", grant)
		for _, path := range []string{"/oauth/token", "/oauth/introspect", "/oauth/revoke", "/setup/open", "/signin/finish", "/oauth/nothing", "/nothing"} {
			ask(h, http.MethodPost, testIssuer+path+"?state="+plant("query"), form.Encode(),
				"Content-Type", "application/x-www-form-urlencoded", "Authorization", "DPoP "+plant("token-of-a-header"), "DPoP", plant("proof"),
				"Cookie", "__Host-cs_session="+plant("cookie")+"; cs_session="+plant("cookie-too"), "Sec-Fetch-Site", "same-origin", "Origin", testIssuer,
				"Referer", "https://app.example/?"+plant("referer"), "User-Agent", plant("agent"))
		}
	}
	ask(h, http.MethodPost, testIssuer+"/setup/open", `{"secret":"`+secrets[0]+`"}`, "Content-Type", "application/json", "Sec-Fetch-Site", "same-origin", "Origin", testIssuer)
	ask(h, http.MethodGet, testIssuer+"/v1/people/"+plant("path"), "", "Authorization", "Bearer "+plant("bearer"))
	stop()
	text := log.String()
	if strings.Count(text, `"msg":"request"`) < 23 {
		t.Fatalf("the log says little: %s", text)
	}
	for _, v := range secrets {
		if strings.Contains(text, v) {
			t.Errorf("%q is in the log", v)
		}
	}
}

// serve runs a server on a port of its own until stop is called.
func serve(t *testing.T, s *Server) (stop func()) {
	t.Helper()
	s.Config.Listen.Address = "127.0.0.1:0"
	l, err := Listen(s.Config)
	check(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, l) }()
	waitFor(t, func() bool { return s.Ready(t.Context()) == nil })
	return func() {
		t.Helper()
		cancel()
		check(t, <-done)
	}
}

// waitFor waits until something is so, with time enough for a machine that has other
// things to do.
func waitFor(t *testing.T, so func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !so(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it did not become so")
		}
	}
}

// readAll reads a response and closes it.
func readAll(t *testing.T, res *http.Response) string {
	t.Helper()
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	check(t, err)
	return string(b)
}
