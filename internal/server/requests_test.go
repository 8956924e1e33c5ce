package server

import (
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/oauth"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/secret"
	"github.com/countersign-dev/countersign/internal/session"
)

// pinged is what reached a client's notification endpoint.
type pinged struct{ authorization, contentType, body string }

// desk is a deployment in which a client asks people who are elsewhere.
type desk struct {
	*newsroom
	h      http.Handler
	client client.Client
	secret string
	heard  chan pinged
	answer atomic.Int32 // what the endpoint says
}

func newDesk(t *testing.T, host string) *desk {
	d := &desk{newsroom: newNewsroom(t, false), heard: make(chan pinged, 10)}
	d.answer.Store(http.StatusNoContent)
	d.oauth.Backchannel, d.portal.Requests = true, d.oauth
	at := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		d.heard <- pinged{r.Header.Get("Authorization"), r.Header.Get("Content-Type"), string(body)}
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(int(d.answer.Load()))
	}))
	t.Cleanup(at.Close)
	word := secret.New(secret.ClientSecret)
	hash := word.Hash()
	d.secret = word.Reveal()
	d.client = client.Client{
		ID: id.New(id.Client), ClientID: "desk", Name: "Call centre", AuthMethod: client.AuthSecretPost, SecretHash: &hash, GrantTypes: []client.GrantType{client.CIBA},
	}
	d.client.DeliveryMode, d.client.NotificationURI = client.Ping, strings.Replace(at.URL, "127.0.0.1", host, 1)+"/ping"
	check(t, client.Check(d.client))
	d.record(audit.ClientCreated, nil, client.Create{Client: d.client})
	d.run(d.notices.Run)
	d.listening(d.client)
	var err error
	d.h, err = d.Handler()
	check(t, err)
	return d
}

func (d *desk) post(path string, pairs ...string) map[string]any {
	d.t.Helper()
	f := url.Values{"client_id": {"desk"}, "client_secret": {d.secret}}
	for i := 0; i < len(pairs); i += 2 {
		f.Set(pairs[i], pairs[i+1])
	}
	w := ask(d.h, "POST", testIssuer+path, f.Encode(), "Content-Type", "application/x-www-form-urlencoded")
	var m map[string]any
	check(d.t, json.Unmarshal(w.Body.Bytes(), &m))
	return m
}

func (d *desk) asks(hint string) string {
	d.t.Helper()
	code, _ := d.post("/oauth/backchannel_authentication", "login_hint", hint, "scope", "openid", "binding_message", "W4SCT", "client_notification_token", "notify-me-0123")["auth_req_id"].(string)
	if code == "" {
		d.t.Fatal("nobody was asked")
	}
	return code
}

func (d *desk) polls(code string) string {
	d.t.Helper()
	m := d.post("/oauth/token", "grant_type", string(client.CIBA), "auth_req_id", code)
	if m["access_token"] != nil {
		return "tokens"
	}
	return m["error"].(string)
}

// ping waits for one.
func (d *desk) ping() (p pinged) {
	d.t.Helper()
	waitFor(d.t, func() bool {
		select {
		case p = <-d.heard:
			return true
		default:
			return false
		}
	})
	return p
}

// hears waits for a ping, which says nothing but which request was answered.
func (d *desk) hears(code string) {
	d.t.Helper()
	if p := d.ping(); p != (pinged{"Bearer notify-me-0123", "application/json", `{"auth_req_id":"` + code + `"}`}) {
		d.t.Errorf("the client was told %+v", p)
	}
}

var hiddenID = regexp.MustCompile(`name="id" value="([0-9a-f]{64})"`)

// opens is what a browser does from the list to the page of the request.
func (v *visit) opens() (tx string) {
	v.t.Helper()
	list := v.do("GET", "/account/requests", nil)
	name := hiddenID.FindStringSubmatch(list.Body.String())
	if list.Code != 200 || name == nil || !strings.Contains(list.Body.String(), "W4SCT") {
		v.t.Fatalf("%d %s", list.Code, list.Body)
	}
	to := v.do("GET", "/account/requests/open?id="+name[1], nil).Header().Get("Location")
	page := v.do("GET", to, nil)
	found := hiddenTx.FindStringSubmatch(page.Body.String())
	if page.Code != 200 || found == nil || !strings.Contains(page.Body.String(), "Call centre") || !strings.Contains(page.Body.String(), "W4SCT") {
		v.t.Fatalf("%s: %d %s", to, page.Code, page.Body)
	}
	return found[1]
}

func (v *visit) says(tx, decision string) *httptest.ResponseRecorder {
	v.t.Helper()
	return v.do("POST", "/account/requests/ask", url.Values{"tx": {tx}, "decision": {decision}}, "Origin", testIssuer)
}

// TestRequestsThroughThePages: a person finds what an app asks them in their list, and
// only their own form, in their own browser, answers it. The app is told that they did,
// and nothing else; a refusal is not told again, an outage is.
func TestRequestsThroughThePages(t *testing.T) {
	d := newDesk(t, "127.0.0.1")
	dana := d.person("dana")
	key := d.passkey(dana)
	proof := func() assurance.Proof {
		return assurance.Proof{Method: assurance.Passkey, Subject: dana.ID, Credential: key, At: d.now(), UserVerified: true, PhishingResistant: true, Source: "store:" + key}
	}
	var first assurance.Proof
	enter := func() (v *visit, ses string) {
		first = proof()
		word := secret.New(secret.Session)
		ses, dev := id.New(id.Session), session.Device{ID: id.New(id.Device), Label: "Firefox"}
		d.record(audit.SessionOpened, nil, session.Open{
			Session:    session.Session{ID: ses, Person: dana.ID, SeenAt: d.now(), ExpiresAt: d.now().Add(time.Hour), IdleUntil: d.now().Add(time.Hour), Proofs: []assurance.Proof{first}},
			SecretHash: word.Hash(), NewDevice: &dev, DeviceHash: secret.New(secret.Device).Hash(), Credentials: []string{key},
		})
		return &visit{t, d.h, map[string]string{"__Host-cs_session": word.Reveal()}}, ses
	}
	v, ses := enter()
	stranger := &visit{t, d.h, map[string]string{}}
	if w := v.do("GET", "/account/requests", nil); w.Code != 200 || !strings.Contains(w.Body.String(), "Nothing waits for you") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	d.ahead.Add(int64(time.Minute))
	code := d.asks("dana")
	if !strings.Contains(v.do("GET", "/account", nil).Body.String(), "Answer what an app asks you") {
		t.Error("the overview does not say that something waits")
	}
	tx := v.opens()
	for what, w := range map[string]*httptest.ResponseRecorder{
		"a link":           v.do("GET", "/account/requests/ask?decision=allow&tx="+tx, nil),
		"another site":     v.do("POST", "/account/requests/ask", url.Values{"tx": {tx}, "decision": {"allow"}}, "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"),
		"another browser":  stranger.says(tx, "allow"),
		"no decision":      v.says(tx, ""),
		"another decision": v.says(tx, "yes"),
	} {
		if got := d.polls(code); got != "authorization_pending" && got != "slow_down" || w.Code == 200 && strings.Contains(w.Body.String(), "You allowed it") {
			t.Errorf("%s answers: %d, %s", what, w.Code, got)
		}
	}
	if w := v.says(tx, "allow"); w.Code != http.StatusSeeOther || !strings.HasPrefix(w.Header().Get("Location"), "/oauth/continue?") {
		t.Errorf("without a proof: %d %s", w.Code, w.Header().Get("Location"))
	} else if w = v.do("GET", w.Header().Get("Location"), nil); !strings.HasPrefix(w.Header().Get("Location"), "/step-up?") {
		t.Errorf("then: %d %s", w.Code, w.Header().Get("Location"))
	} else if w = v.do("GET", w.Header().Get("Location"), nil); !strings.Contains(w.Body.String(), "let Call centre act for you") {
		t.Errorf("the step-up says %s", w.Body)
	}
	proves := func(tx string) {
		p := proof()
		p.For = oauth.For(tx)
		d.record(audit.StepUpDone, nil, session.Prove{ID: ses, Proofs: []assurance.Proof{first, p}})
	}
	proves(tx)
	d.answer.Store(int32(http.StatusNoContent))
	if w := v.says(tx, "allow"); w.Code != 200 || !strings.Contains(w.Body.String(), "You allowed it") {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	d.hears(code)
	if w := v.says(tx, "deny"); !strings.Contains(w.Body.String(), "another window") {
		t.Errorf("twice: %d %s", w.Code, w.Body)
	}
	d.ahead.Add(int64(time.Minute))
	if got := d.polls(code); got != "tokens" {
		t.Errorf("allowed, and the app is told %s", got)
	}

	// A no is told in the same words. An endpoint that is down is told again; one that
	// refuses, or sends elsewhere, is not.
	code = d.asks("dana")
	d.answer.Store(int32(http.StatusServiceUnavailable))
	if w := v.says(v.opens(), "deny"); w.Header().Get("Location") != "/account/requests/denied" {
		t.Errorf("%d %s", w.Code, w.Header().Get("Location"))
	}
	d.hears(code)
	waitFor(t, func() bool { w, _, err := d.Store.Undelivered(t.Context()); return err == nil && w == 1 })
	d.answer.Store(int32(http.StatusOK))
	d.ahead.Add(int64(10 * time.Second))
	d.hears(code)
	waitFor(t, func() bool { w, dead, err := d.Store.Undelivered(t.Context()); return err == nil && w+dead == 0 })
	for i, status := range []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusFound} {
		d.ahead.Add(int64(2 * time.Hour))
		v, _ = enter()
		code = d.asks("dana")
		d.answer.Store(int32(status))
		v.says(v.opens(), "deny")
		d.hears(code)
		waitFor(t, func() bool {
			w, dead, err := d.Store.Undelivered(t.Context())
			return err == nil && w == 0 && dead == int64(i+1)
		})
	}
	d.ahead.Add(int64(2 * time.Hour))
	v, _ = enter()
	d.asks("dana")
	d.answer.Store(int32(http.StatusNoContent))
	if w := v.says(v.opens(), "report"); w.Header().Get("Location") != "/account/requests/denied?reported=1" {
		t.Errorf("%d %s", w.Code, w.Header().Get("Location"))
	}
	d.ping()
	if m := d.post("/oauth/backchannel_authentication", "login_hint", "dana", "scope", "openid", "binding_message", "x", "client_notification_token", "y"); m["error"] != "access_denied" {
		t.Errorf("after a report: %v", m)
	}
	if len(d.heard) != 0 {
		t.Errorf("%d pings too many", len(d.heard))
	}
	for _, canary := range []string{"notify-me", code} {
		if strings.Contains(d.log.String(), canary) {
			t.Errorf("%s is in the log", canary)
		}
	}
	kinds := map[string]bool{}
	lines, _, err := auditLog{d.State}.Page(t.Context(), dana.ID, "", 200)
	check(t, err)
	for _, l := range lines {
		kinds[l.Kind.Name()] = true
	}
	for _, k := range []audit.Kind{audit.CIBAAsked, audit.CIBAApproved, audit.CIBADenied, audit.CIBAReported} {
		if !kinds[k.Name()] {
			t.Errorf("the person's activity does not say %s", k)
		}
	}
}

// TestPingsOutsideOnly: a notification endpoint within the own network is called only
// where the configuration allows it, and never by another of its names.
func TestPingsOutsideOnly(t *testing.T) {
	d := newDesk(t, "localhost") // not on the list by that name
	dana := d.person("dana")
	d.asks("dana")
	values, err := d.Store.OnceBound(t.Context(), once.BackchannelAsked, dana.ID)
	check(t, err)
	if len(values) != 1 {
		t.Fatalf("%d requests wait", len(values))
	}
	d.record(audit.CIBADenied, []audit.Part{{Person: dana.ID}, {Body: map[string]any{"requests": []string{hex.EncodeToString(values[0].Key[:])}}}})
	waitFor(t, func() bool { _, dead, err := d.Store.Undelivered(t.Context()); return err == nil && dead == 1 })
	if len(d.heard) != 0 {
		t.Error("it was called")
	}
}
