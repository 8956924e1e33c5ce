package server

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/secret"
	"github.com/countersign-dev/countersign/internal/session"
)

// visit is a browser with the cookies of a session.
type visit struct {
	t       *testing.T
	h       http.Handler
	cookies map[string]string
}

func (v *visit) do(method, path string, f url.Values, headers ...string) *httptest.ResponseRecorder {
	v.t.Helper()
	body := ""
	if f != nil {
		body = f.Encode()
		headers = append(headers, "Content-Type", "application/x-www-form-urlencoded")
	}
	var jar []string
	for name, value := range v.cookies {
		jar = append(jar, name+"="+value)
	}
	w := ask(v.h, method, testIssuer+path, body, append(headers, "Cookie", strings.Join(jar, "; "))...)
	for _, c := range w.Result().Cookies() {
		if v.cookies[c.Name] = c.Value; c.MaxAge < 0 {
			delete(v.cookies, c.Name)
		}
	}
	return w
}

var hiddenTx = regexp.MustCompile(`name="tx" value="([^"]+)"`)

// TestSigningOutThroughThePage: another site can only have the person asked; the
// answer is a form of our own, ends this session and what its apps hold but nothing
// that was to last, and leads to the registered address.
func TestSigningOutThroughThePage(t *testing.T) {
	t.Parallel()
	n := newNewsroom(t, false)
	h, err := n.Handler()
	check(t, err)
	dana := n.person("dana")
	key := n.passkey(dana)
	const back = "https://board.example.com/bye"
	board := n.app("board", "https://board.example.com/logout")
	board.PostLogoutURIs = []string{back}
	n.record(audit.ClientUpdated, nil, client.Update{Client: board})
	other, cli := n.app("other", ""), n.app("cli", "https://cli.example.com/logout")
	enter := func() (*visit, string, map[string]string) {
		word := secret.New(secret.Session)
		ses, dev := id.New(id.Session), session.Device{ID: id.New(id.Device), Label: "Firefox"}
		grants := map[string]string{"board": id.New(id.Grant), "other": id.New(id.Grant), "lasting": id.New(id.Grant)}
		let := func(name string, c client.Client, scopes ...string) act.Change {
			return grant.Open{Grant: grant.Grant{ID: grants[name], Person: dana.ID, Client: c.ID, Session: ses, Scopes: scopes, ExpiresAt: n.now().Add(time.Hour)}}
		}
		n.record(audit.SessionOpened, nil, session.Open{
			Session: session.Session{ID: ses, Person: dana.ID, SeenAt: n.now(), ExpiresAt: n.now().Add(time.Hour), IdleUntil: n.now().Add(time.Hour), Proofs: []assurance.Proof{{
				Method: assurance.Passkey, Subject: dana.ID, Credential: key, At: n.now(), UserVerified: true, PhishingResistant: true, Source: "store:" + key,
			}}},
			SecretHash: word.Hash(), NewDevice: &dev, DeviceHash: secret.New(secret.Device).Hash(), Credentials: []string{key},
		}, let("board", board, "openid"), let("other", other, "openid"), let("lasting", cli, "openid", "offline_access"))
		return &visit{t, h, map[string]string{"__Host-cs_session": word.Reveal()}}, ses, grants
	}
	live := func(node string) bool {
		nodes, err := n.Store.Ancestors(t.Context(), node)
		check(t, err)
		_, ended := lineage.FirstEnded(nodes)
		return !ended
	}
	usable := func(ses string) bool {
		s, err := n.Store.Session(t.Context(), ses)
		check(t, err)
		return s.Usable(n.now())
	}

	v, ses, grants := enter()
	request := "/oauth/logout?" + url.Values{"client_id": {"board"}, "post_logout_redirect_uri": {back}, "state": {"a&b"}}.Encode()
	page := v.do("GET", request, nil, "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate")
	tx := hiddenTx.FindStringSubmatch(page.Body.String())
	if page.Code != 200 || tx == nil || !strings.Contains(page.Body.String(), "board</strong> asks that you sign out") || !usable(ses) {
		t.Fatalf("%d %s", page.Code, page.Body)
	}
	if csp := page.Header().Get("Content-Security-Policy"); !strings.Contains(csp, "form-action 'self' https://board.example.com") {
		t.Errorf("the form may not lead to the app: %s", csp)
	}
	f := url.Values{"tx": {tx[1]}}
	if w := v.do("POST", "/signout/app", f, "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"); w.Code != http.StatusForbidden || !usable(ses) {
		t.Errorf("another site signs out: %d", w.Code)
	}
	stranger, theirs, _ := enter()
	if w := stranger.do("POST", "/signout/app", f, "Origin", testIssuer); w.Code == http.StatusSeeOther || !usable(theirs) {
		t.Errorf("another browser's request signs out: %d", w.Code)
	}
	w := v.do("POST", "/signout/app", f, "Origin", testIssuer)
	if w.Code != http.StatusSeeOther || w.Header().Get("Location") != back+"?state=a%26b" || usable(ses) || v.cookies["__Host-cs_session"] != "" {
		t.Errorf("%d %s", w.Code, w.Header().Get("Location"))
	}
	if live(grants["board"]) || !live(grants["other"]) || !live(grants["lasting"]) || !live(ses) {
		t.Error("what ends with a sign-out is another")
	}
	if w := v.do("POST", "/signout/app", f, "Origin", testIssuer); w.Header().Get("Location") == "" || w.Code != http.StatusSeeOther {
		t.Errorf("twice: %d", w.Code)
	}
	// Somebody else signed in meanwhile: they stay.
	v, ses, _ = enter()
	tx = hiddenTx.FindStringSubmatch(v.do("GET", request, nil).Body.String())
	next, later, _ := enter()
	v.cookies["__Host-cs_session"] = next.cookies["__Host-cs_session"]
	if w := v.do("POST", "/signout/app", url.Values{"tx": {tx[1]}}, "Origin", testIssuer); w.Code != http.StatusConflict || !usable(later) || !usable(ses) {
		t.Errorf("another session is signed out: %d", w.Code)
	}
	// Faults are pages, never redirects.
	for _, q := range []string{"client_id=board&post_logout_redirect_uri=https://evil.example/", "post_logout_redirect_uri=" + url.QueryEscape(back), "client_id=nobody"} {
		if w := v.do("GET", "/oauth/logout?"+q, nil); w.Code != 400 || w.Header().Get("Location") != "" || strings.Contains(w.Body.String(), `href="https://evil`) {
			t.Errorf("%s: %d %s", q, w.Code, w.Header().Get("Location"))
		}
	}
}
