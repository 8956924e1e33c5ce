package server

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/config"
	"github.com/countersign-dev/countersign/internal/group"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/secret"
	"github.com/countersign-dev/countersign/internal/session"
	"github.com/countersign-dev/countersign/internal/web"
	"github.com/countersign-dev/countersign/test/pgtest"
)

// TestHostileBytes: NUL, invalid UTF-8, broken escapes, parameters that occur
// twice and oversized ones are refused on every route, to strangers and to an
// administrator, on both databases. SQLite would take what PostgreSQL does not.
func TestHostileBytes(t *testing.T) {
	t.Parallel()
	t.Run("sqlite", func(t *testing.T) { hostileBytes(t) })
	t.Run("postgres", func(t *testing.T) {
		pgtest.Require(t)
		dsn := pgtest.Start(t)
		hostileBytes(t, func(c *config.Config) { c.Database.SQLite, c.Database.Postgres = "", dsn })
	})
}

func hostileBytes(t *testing.T, edit ...func(*config.Config)) {
	s, log := newServer(t, edit...)
	h, err := s.Handler()
	check(t, err)
	cookie := adminCookie(t, s)
	control := func() {
		if w := ask(h, http.MethodGet, testIssuer+"/admin/people", "", "Cookie", cookie); w.Code != http.StatusOK {
			t.Fatalf("positive control: an administrator's page answers %d %s", w.Code, w.Body)
		}
	}
	control()
	routes := allRoutes(t, s)
	for _, route := range routes {
		method, path, _ := strings.Cut(route, " ")
		for _, bad := range []string{"a%00b", "%ff", "%C0%80", "%ED%A0%80", "%zz", strings.Repeat("x", 70_000)} {
			hostileAnswer(t, h, cookie, method, path, everyName(bad), bad)
		}
		hostileAnswer(t, h, cookie, method, path, everyName("usr_x")+"&"+everyName("usr_x"), "twice")
	}
	control()
	if text := log.String(); strings.Contains(text, `"level":"ERROR"`) {
		t.Errorf("the log speaks of faults of ours: %.2000s", text[strings.Index(text, `"level":"ERROR"`):])
	}
}

// everyName gives every parameter that some route reads the same value.
func everyName(value string) string {
	var b strings.Builder
	for _, name := range []string{
		"id", "tx", "next", "why", "before", "after", "q", "done", "secret", "reason", "display_name", "username", "passkey_name",
		"client_id", "client_secret", "client_assertion", "redirect_uri", "state", "scope", "resource", "nonce", "login_hint", "code", "code_verifier",
		"refresh_token", "token", "id_token_hint", "acr_values", "max_age", "prompt", "grant_type", "aud", "limit", "kind", "person",
	} {
		b.WriteString("&" + name + "=" + value)
	}
	return b.String()[1:]
}

func hostileAnswer(t *testing.T, h http.Handler, cookie, method, path, query, bad string) {
	t.Helper()
	send := func(what, target, body string, headers ...string) {
		t.Helper()
		for _, who := range []string{"", cookie} {
			if strings.HasPrefix(path, "/signout/") || path == "/switch" {
				who = "" // or the administrator would be gone
			}
			w := ask(h, method, testIssuer+target, body, append(headers, "Cookie", who)...)
			if w.Code >= http.StatusInternalServerError {
				t.Errorf("%s %s, %.40q %s: %d %.300s", method, path, bad, what, w.Code, w.Body)
			}
		}
	}
	if method == http.MethodGet {
		send("in the query", path+"?"+query, "")
	} else {
		send("in the form", path, query, "Content-Type", "application/x-www-form-urlencoded")
		send("in the query of a form", path+"?"+query, "id=x", "Content-Type", "application/x-www-form-urlencoded")
		send("in JSON", path, `{"id":"`+bad+`","tx":"\u0000","secret":"\ud800"}`, "Content-Type", "application/json")
	}
	if !isAPI(path) {
		return // pages look at no token
	}
	raw, err := url.QueryUnescape(bad)
	if err != nil {
		raw = bad
	}
	for _, id := range []string{raw, bad} {
		basic := "Basic " + base64.StdEncoding.EncodeToString([]byte(id+":x"))
		send("in Basic", path, "grant_type=client_credentials&token=x", "Content-Type", "application/x-www-form-urlencoded", "Authorization", basic)
	}
	send("as a token", path, "", "Authorization", "DPoP "+raw, "DPoP", raw, "User-Agent", raw)
}

// allRoutes are the routes of people and of programs, but the management API's,
// which has a walk of its own.
func allRoutes(t *testing.T, s *Server) (routes []string) {
	t.Helper()
	add := func(pattern string, _ web.Handler) {
		method, path, ok := strings.Cut(pattern, " ")
		if ok && method != http.MethodOptions {
			routes = append(routes, method+" "+strings.NewReplacer("{$}", "", "{id}", "x").Replace(path))
		}
	}
	s.oauth.API(add)
	s.oauth.Pages(add)
	s.portal.Routes(add)
	if len(routes) < 50 {
		t.Fatalf("only %d routes: %v", len(routes), routes)
	}
	return routes
}

// adminCookie signs the first administrator in, with a passkey used just now.
func adminCookie(t *testing.T, s *Server) string {
	t.Helper()
	admins, err := s.Store.GroupByName(t.Context(), group.Administrators)
	check(t, err)
	now, key := s.now(), secret.New(secret.Session)
	p := account.Person{ID: id.New(id.Person), Subject: id.Random("sub_"), Name: "Dana", Username: "dana", CreatedAt: now}
	device := session.Device{ID: id.New(id.Device), Label: "Firefox on Linux", CreatedAt: now}
	proof := assurance.Proof{Method: assurance.Passkey, Subject: p.ID, At: now, UserVerified: true, PhishingResistant: true, HardwareBound: true}
	check(t, s.Seed(t.Context(), audit.PersonCreated, account.Create{Person: p, Groups: []string{admins.ID}}, account.SetUp{Person: p.ID, At: now}, session.Open{
		Session: session.Session{
			ID: id.New(id.Session), Person: p.ID, Device: device.ID, Proofs: []assurance.Proof{proof}, CreatedAt: now, SeenAt: now,
			ExpiresAt: now.Add(time.Hour), IdleUntil: now.Add(time.Hour),
		},
		SecretHash: key.Hash(), NewDevice: &device, DeviceHash: secret.New(secret.Device).Hash(),
	}))
	return "__Host-cs_session=" + key.Reveal()
}
