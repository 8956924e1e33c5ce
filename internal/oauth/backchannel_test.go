package oauth

import (
	"context"
	"crypto"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/factor"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/resource"
	"github.com/countersign-dev/countersign/internal/secret"
)

// desk is a client that asks people over the backchannel.
func (r *rig) desk(edit func(*client.Client)) client.Client {
	r.Helper()
	r.serial++
	h := secret.Given(deskSecret).Hash()
	c := client.Client{
		ID: id.New(id.Client), ClientID: fmt.Sprintf("desk-%d", r.serial), Name: "Call centre", AuthMethod: client.AuthSecretPost, SecretHash: &h,
		GrantTypes: []client.GrantType{client.CIBA, client.RefreshToken}, Scopes: r.plain.Scopes, Resources: r.plain.Resources,
	}
	if edit != nil {
		edit(&c)
	}
	ok(r, client.Check(c))
	r.do(audit.ClientCreated, client.Create{Client: c})
	return c
}

var deskSecret = secret.New(secret.ClientSecret).Reveal()

// askFor asks the rig's person over the backchannel.
func (r *rig) askFor(c client.Client, pairs ...string) answer {
	return r.post(backchannelPath, change(form("client_id", c.ClientID, "client_secret", deskSecret, "login_hint", r.person.Username,
		"scope", "openid notes:read", "resource", r.notes.URI, "binding_message", "W4SCT"), pairs...))
}

func (r *rig) askedFor(a answer) (b backchannelAnswer) {
	r.Helper()
	if a.status != 200 {
		r.Fatalf("a client asked: %d %s", a.status, a.body)
	}
	ok(r, json.Unmarshal([]byte(a.body), &b))
	return b
}

// fetch is a good token request for an answer.
func (r *rig) fetch(c client.Client, b backchannelAnswer) url.Values {
	return form("grant_type", string(client.CIBA), "auth_req_id", b.AuthReqID, "client_id", c.ClientID, "client_secret", deskSecret)
}

func (r *rig) requests() []grant.Request {
	r.Helper()
	return got(r.nodes[0].server.Requests(context.Background(), r.session().Person))(r)
}

// looks opens the newest request that waits for the person.
func (r *rig) looks() string {
	r.Helper()
	all := r.requests()
	if len(all) == 0 {
		r.Fatal("no request waits")
	}
	w, q := r.visit()
	return got(r.nodes[0].server.OpenRequest(w, q, r.session(), all[0].Name))(r)
}

func (r *rig) says(ref string, what grant.Said, number string) (grant.Pending, error) {
	w, q := r.visit()
	return r.nodes[0].server.AnswerRequest(w, q, r.session(), ref, what, number)
}

// agrees is a person's yes, from the list to the answer, with their proof.
func (r *rig) agrees(number string) {
	r.Helper()
	ref := r.looks()
	r.prove(ref, false)
	if p := got(r.says(ref, grant.Allow, number))(r); p.Next != grant.NextRequest {
		r.Fatalf("next is %s %s", p.Next, p.Code)
	}
}

func (r *rig) visitWithBackchannel() *visit {
	r.anew()
	c, other := r.desk(nil), r.desk(nil)
	cns := r.consents(c)
	ask := func(pairs ...string) backchannelAnswer { return r.askedFor(r.askFor(c, pairs...)) }
	b := ask()
	r.agrees("")
	bound := func(v *visit) {
		p := r.prover()
		b := r.askedFor(p.post(backchannelPath, form("client_id", c.ClientID, "client_secret", deskSecret, "login_hint", r.person.Username, "scope", "openid", "binding_message", "x")))
		r.agrees("")
		v.form = r.fetch(c, b)
	}
	return &visit{
		form: r.fetch(c, b), end: func(*visit) { r.clock.move(grant.BackchannelLifetime + grant.DeviceGrace) },
		gone: merge(r.of(c), map[string]string{"consent": cns}),
		none: merge(every(noService, "service"), every(notAnOwner, "owner"), every("it makes the grant", "grant"),
			every("the token endpoint sees no browser; the question before is bound to one (TestRequestsAreTheirs)", "wrong browser")),
		more: merge(r.spoils(), map[string]func(*visit){
			"wrong client":   func(v *visit) { v.form.Set("client_id", other.ClientID) },
			"wrong issuer":   func(v *visit) { v.form.Set("auth_req_id", secret.New(secret.AuthRequest).Reveal()) }, // somebody else's
			"wrong key":      func(v *visit) { bound(v); v.by = r.prover() },
			"no key":         bound,
			"no code":        func(v *visit) { v.form.Del("auth_req_id") },
			"a code's kind":  func(v *visit) { v.form.Set("auth_req_id", secret.New(secret.DeviceCode).Reveal()) },
			"reused":         func(v *visit) { r.tokens(r.knock(v)) },
			"forbidden":      func(*visit) { r.forbid("ciba.approve") }, // after it was allowed
			"nobody asked":   func(v *visit) { v.form = r.fetch(c, ask("login_hint", "nobody")) },
			"nobody in time": func(v *visit) { v.form = r.fetch(c, ask()); r.clock.move(grant.BackchannelLifetime) },
			"said no":        func(v *visit) { v.form = r.fetch(c, ask()); got(r.says(r.looks(), grant.Deny, ""))(r) },
			"polls at once":  func(v *visit) { v.form = r.fetch(c, ask()); r.knock(v) },
		}),
	}
}

// A person is asked, sees it whole before anything is proved, proves that it is them,
// and says yes; what the client gets hangs below the browser's session.
func TestBackchannel(t *testing.T) {
	engines(t, 1, func(r *rig) {
		c := r.desk(nil)
		r.clock.move(time.Minute)
		b := r.askedFor(r.askFor(c))
		if b.ExpiresIn != 300 || b.Interval != 5 || b.Number != "" || !strings.HasPrefix(b.AuthReqID, "cs_ciba_") {
			r.Errorf("a client is told %+v", b)
		}
		r.expect("nobody answered", 400, "authorization_pending", r.post("/oauth/token", r.fetch(c, b)))
		r.clock.move(5 * time.Second)
		all := r.requests()
		if len(all) != 1 || all[0].App.ID != c.ID || all[0].Binding != "W4SCT" || all[0].Ping != "" || all[0].Address != "198.51.100.7" {
			r.Fatalf("what waits is %+v", all)
		}
		ref := r.looks()
		p := got(r.pending(ref))(r)
		if p.Next != grant.NextStepUp || len(p.Scopes) != 2 || p.Backchannel.Binding != "W4SCT" { // shown before anything is proved
			r.Fatalf("next is %+v", p)
		}
		if p := got(r.says(ref, grant.Allow, ""))(r); p.Next != grant.NextStepUp {
			r.Errorf("without a proof next is %s", p.Next)
		}
		r.prove(ref, false)
		if p := got(r.pending(ref))(r); p.Next != grant.NextRequest {
			r.Fatalf("next is %s", p.Next)
		}
		got(r.says(ref, grant.Allow, ""))(r)
		tok := r.tokens(r.post("/oauth/token", r.fetch(c, b)))
		at := r.claims(tok.AccessToken)
		if at.Subject != r.person.Subject || at.Scope != "openid notes:read" || at.ACR != "phr" || tok.RefreshToken == "" || at.SessionID == "" || r.idToken(tok.IDToken, c.ClientID).Subject != r.person.Subject {
			r.Errorf("the token says %+v, the answer %+v", at, tok)
		}
		r.tokens(r.post("/oauth/token", form("grant_type", "refresh_token", "refresh_token", tok.RefreshToken, "client_id", c.ClientID, "client_secret", deskSecret)))
		if len(r.requests()) != 0 {
			r.Error("an answered request still waits")
		}
		// The next time by their ID token: consent is remembered, and they are asked again.
		b = r.askedFor(r.askFor(c, "login_hint", "", "id_token_hint", tok.IDToken))
		r.agrees("")
		r.tokens(r.post("/oauth/token", r.fetch(c, b)))
		r.end(r.ses)
		if r.active(tok.AccessToken) {
			r.Error("active although the browser's session has ended")
		}
	})
}

// What a client may ask for, and the exact answer where it may not.
func TestBackchannelRequestsAreExact(t *testing.T) {
	r := onSQLite(t)
	c := r.desk(func(c *client.Client) { c.BackchannelScope = "notes:read openid" })
	shows := r.desk(func(c *client.Client) { c.NumberMatching = true })
	pings := r.desk(func(c *client.Client) {
		c.DeliveryMode, c.NotificationURI = client.Ping, "https://desk.example.com/ping"
	})
	pairwise := r.desk(func(c *client.Client) { c.SubjectType = client.Pairwise })
	for _, x := range []struct {
		name   string
		by     client.Client
		status int
		code   string
		pairs  []string
	}{
		{"good", c, 200, "", nil},
		{"wrong secret", c, 401, "invalid_client", []string{"client_secret", secret.New(secret.ClientSecret).Reveal()}},
		{"no client", c, 401, "invalid_client", []string{"client_id", ""}},
		{"a client without the grant", c, 400, "unauthorized_client", []string{"client_id", "nightly", "client_secret", r.svcSecret}},
		{"a public client", c, 400, "unauthorized_client", []string{"client_id", "app", "client_secret", ""}},
		{"no hint", c, 400, "invalid_request", []string{"login_hint", ""}},
		{"two hints", c, 400, "invalid_request", []string{"id_token_hint", "x"}},
		{"a hint and a token", c, 400, "invalid_request", []string{"login_hint_token", "x"}},
		{"a hint token", c, 400, "invalid_request", []string{"login_hint", "", "login_hint_token", "x"}},
		{"a forged ID token", c, 400, "invalid_request", []string{"login_hint", "", "id_token_hint", "x.y.z"}},
		{"a long hint", c, 400, "invalid_request", []string{"login_hint", strings.Repeat("x", 255)}},
		{"no openid", c, 400, "invalid_request", []string{"scope", "notes:read"}},
		{"no scope", c, 400, "invalid_request", []string{"scope", ""}},
		{"unknown scope", c, 400, "invalid_scope", []string{"scope", "openid notes:burn"}},
		{"capped scope", c, 400, "invalid_scope", []string{"scope", "openid notes:write"}},
		{"unknown resource", c, 400, "invalid_target", []string{"resource", "https://nowhere.example"}},
		{"prompt", c, 400, "invalid_request", []string{"prompt", "login"}},
		{"user code", c, 400, "invalid_request", []string{"user_code", "1234"}},
		{"essential", c, 400, "unmet_authentication_requirements", []string{"claims", `{"id_token":{"acr":{"essential":true,"value":"gold"}}}`}},
		{"a subject that is not who sees it", c, 400, "invalid_request", []string{"claims", `{"id_token":{"sub":{"value":"somebody else"}}}`}},
		{"unknown details", c, 400, "invalid_authorization_details", []string{"authorization_details", `[{"type":"payment"}]`}},
		{"request_uri", c, 400, "invalid_request", []string{"request_uri", "urn:x"}},
		{"expiry", c, 400, "invalid_request", []string{"requested_expiry", "soon"}},
		{"no expiry", c, 400, "invalid_request", []string{"requested_expiry", "0"}},
		{"negative expiry", c, 400, "invalid_request", []string{"requested_expiry", "-5"}},
		{"nothing to compare", c, 400, "invalid_binding_message", []string{"binding_message", ""}},
		{"a message that turns around", c, 400, "invalid_binding_message", []string{"binding_message", "pay 1\u202e00"}},
		{"a message with what is not seen", c, 400, "invalid_binding_message", []string{"binding_message", "W4\u200bSCT"}},
		{"a message of two lines", c, 400, "invalid_binding_message", []string{"binding_message", "W4\nSCT"}},
		{"a long message", c, 400, "invalid_binding_message", []string{"binding_message", strings.Repeat("x", 61)}},
		{"a number is enough", shows, 200, "", []string{"binding_message", ""}},
		{"no notification token", pings, 400, "invalid_request", nil},
		{"a notification token that is none", pings, 400, "invalid_request", []string{"client_notification_token", "a b"}},
		{"a long notification token", pings, 400, "invalid_request", []string{"client_notification_token", strings.Repeat("x", 1025)}},
		{"a notification token", pings, 200, "", []string{"client_notification_token", "8d67dc78-7faa-4d41-aabd-67707b374255", "login_hint", "another"}},
		{"an ID token that leads nowhere", pairwise, 400, "invalid_request", []string{"login_hint", "", "id_token_hint", "x"}},
		{"an unsigned object", c, 400, "invalid_request", []string{"request", "eyJhbGciOiJub25lIn0.e30."}},
	} {
		r.expect(x.name, x.status, x.code, r.askFor(x.by, x.pairs...))
	}
	for asked, want := range map[string]int64{"1": 30, "45": 45, "600": 600, "2147483647": 600} {
		if b := r.askedFor(r.askFor(c, "requested_expiry", asked, "login_hint", "nobody"+asked)); b.ExpiresIn != want {
			t.Errorf("asked for %s seconds, and told %d", asked, b.ExpiresIn)
		}
	}
	if a := r.send(0, "GET", backchannelPath+"?login_hint=dana", "", nil); a.status != 405 {
		t.Errorf("GET: %d", a.status)
	}
	r.nodes[0].server.Backchannel = false
	r.expect("off", 400, "unsupported_grant_type", r.post("/oauth/token", r.fetch(c, backchannelAnswer{AuthReqID: "x"})))
	if m := r.nodes[0].server.describe(client.Openness{}, nil); m["backchannel_authentication_endpoint"] != nil || strings.Contains(fmt.Sprint(m["grant_types_supported"]), "ciba") {
		t.Errorf("off, and still told: %v", m)
	}
}

// Asking for somebody who is there and for somebody who is not is the same, in every
// answer, for as long as no person answers.
func TestBackchannelSaysNothingOfPeople(t *testing.T) {
	engines(t, 1, func(r *rig) {
		r.seedAgain()
		gone := r.other
		r.do(audit.PersonErased, account.Erase{ID: gone.ID})
		frozen := r.person
		r.freeze(frozen.ID)
		r.seedAgain()
		names := []string{r.person.Username, strings.ToUpper(r.other.Username), "nobody", "nobody@example.com", gone.Username, frozen.Username}
		story := func(name string) (told []string) {
			c, other := r.desk(nil), r.desk(nil)
			hear := func(a answer) answer {
				m := map[string]any{}
				_ = json.Unmarshal([]byte(a.body), &m)
				if code, is := m["auth_req_id"].(string); is {
					m["auth_req_id"] = len(code)
				}
				told = append(told, fmt.Sprint(a.status, m, a.header.Get("Retry-After")))
				return a
			}
			first := hear(r.askFor(c, "login_hint", name))
			hear(r.askFor(c, "login_hint", name))
			hear(r.askFor(other, "login_hint", name))
			hear(r.askFor(other, "login_hint", name)) // a fourth
			poll := r.fetch(c, r.askedFor(first))
			hear(r.post("/oauth/token", poll))
			hear(r.post("/oauth/token", poll))
			r.clock.move(grant.BackchannelLifetime)
			hear(r.post("/oauth/token", poll))
			hear(r.askFor(c, "login_hint", name)) // too soon after what nobody answered
			r.clock.move(factor.GuessWindow)
			hear(r.askFor(c, "login_hint", name))
			r.clock.move(24 * time.Hour)
			return told
		}
		want := story(names[0])
		for _, part := range []string{"503 map[error:temporarily_unavailable", "authorization_pending", "slow_down", "expired_token"} {
			if !strings.Contains(fmt.Sprint(want), part) {
				r.Errorf("the story does not tell %s: %q", part, want)
			}
		}
		for _, name := range names[1:] {
			if have := story(name); !slices.Equal(have, want) {
				r.Errorf("for %s it is told\n%q, not\n%q", name, have, want)
			}
		}
	})
}

// However many ask at once, three wait; what is allowed makes room, what is not does
// not, and its client waits the longer the more of it there was.
func TestBackchannelIsNoSiege(t *testing.T) {
	engines(t, 1, func(r *rig) {
		c, other := r.desk(nil), r.desk(nil)
		asks := func(n int) (taken []backchannelAnswer) {
			var mu sync.Mutex
			var wait sync.WaitGroup
			for i := range n {
				wait.Go(func() {
					a := r.askFor([]client.Client{c, other}[i%2])
					mu.Lock()
					defer mu.Unlock()
					if a.status == 200 {
						taken = append(taken, r.askedFor(a))
					} else if a.status != 503 || a.code() != "temporarily_unavailable" || a.header.Get("Retry-After") == "" {
						r.Errorf("%d %s", a.status, a.body)
					}
				})
			}
			wait.Wait()
			return taken
		}
		if n := len(asks(32)); n != factor.PersonAsks || len(r.requests()) != n {
			r.Errorf("%d of 32 were taken, %d wait", n, len(r.requests()))
		}
		r.agrees("") // one makes room for one
		if n := len(asks(8)); n != 1 {
			r.Errorf("after one yes, %d more were taken", n)
		}
		r.clock.move(factor.GuessWindow + time.Hour)
		// A no makes its client wait, and no other.
		c, other = r.desk(nil), r.desk(nil)
		b := r.askedFor(r.askFor(c))
		got(r.says(r.looks(), grant.Deny, ""))(r)
		r.expect("denied", 400, "access_denied", r.post("/oauth/token", r.fetch(c, b)))
		r.clock.move(7 * time.Minute)
		r.expect("seven minutes after a no", 503, "temporarily_unavailable", r.askFor(c))
		r.askedFor(r.askFor(other))
		r.clock.move(time.Minute)
		r.askedFor(r.askFor(c))
		r.clock.move(factor.GuessWindow + time.Hour)
		// The end of one window and the beginning of the next are no more than one.
		r.askedFor(r.askFor(r.desk(nil)))
		r.clock.move(14 * time.Minute)
		for range 2 {
			r.askedFor(r.askFor(r.desk(nil), "requested_expiry", "30"))
		}
		r.clock.move(time.Minute)
		r.askedFor(r.askFor(r.desk(nil)))
		if a := r.askFor(r.desk(nil)); a.status != 503 || a.header.Get("Retry-After") != "840" {
			r.Errorf("a fourth in two minutes: %d %s, retry after %s", a.status, a.body, a.header.Get("Retry-After"))
		}
	})
}

// Whoever did not start it says so: everything of that client ends, and it may not ask
// them for a day. Others may, and it may ask others.
func TestReportedRequests(t *testing.T) {
	engines(t, 1, func(r *rig) {
		c, other := r.desk(nil), r.desk(nil)
		var polls []url.Values
		for range 2 {
			polls = append(polls, r.fetch(c, r.askedFor(r.askFor(c))))
		}
		theirs := r.fetch(other, r.askedFor(r.askFor(other)))
		var ref string
		for _, x := range r.requests() {
			if x.Client == c.ID {
				w, q := r.visit()
				ref = got(r.nodes[0].server.OpenRequest(w, q, r.session(), x.Name))(r)
			}
		}
		got(r.says(ref, grant.Report, ""))(r)
		for _, f := range polls {
			r.expect("reported", 400, "access_denied", r.post("/oauth/token", f))
		}
		r.expect("another client's", 400, "authorization_pending", r.post("/oauth/token", theirs))
		_, err := r.says(ref, grant.Allow, "")
		r.codeOf(err, "interaction_done")
		var later []act.Change
		for i := range 300 { // as many as three in a quarter of an hour are
			at := r.clock.now().Add(time.Duration(i+1) * time.Second)
			data := got(json.Marshal(grant.Backchannel{Decoupled: grant.Decoupled{Client: other.ID, Started: at}}))(r)
			later = append(later, once.Put{Value: once.Value{
				Purpose: once.BackchannelAsked, Key: once.KeyOf(once.BackchannelAsked, at.String()), Bound: r.person.ID, Data: data, MadeAt: at, ExpiresAt: at.Add(time.Minute),
			}})
		}
		r.do(audit.CIBAAsked, later...)
		r.clock.move(grant.ReportedFor - time.Second)
		r.expect("within a day", 403, "access_denied", r.askFor(c))
		r.askedFor(r.askFor(other))
		r.askedFor(r.askFor(c, "login_hint", r.other.Username))
		r.clock.move(time.Second)
		r.askedFor(r.askFor(c))
	})
}

// Of two windows, of 32 polls: one.
func TestBackchannelRaces(t *testing.T) {
	engines(t, 1, func(r *rig) {
		c := r.desk(nil)
		b := r.askedFor(r.askFor(c))
		one, two := r.looks(), r.looks()
		r.prove(one, false)
		r.prove(two, false)
		var heard, other int
		var mu sync.Mutex
		var wait sync.WaitGroup
		for i := range 16 {
			wait.Go(func() {
				_, err := r.says([]string{one, two}[i%2], []grant.Said{grant.Allow, grant.Deny, grant.Allow, grant.Report}[i%4], "")
				mu.Lock()
				defer mu.Unlock()
				switch problem.CodeOf(err) {
				case "":
					heard++
				case "interaction_done":
					other++
				default:
					r.Error(err)
				}
			})
		}
		wait.Wait()
		if heard != 1 || other != 15 {
			r.Errorf("%d answers were heard, %d not", heard, other)
		}
		if code := r.post("/oauth/token", r.fetch(c, b)).code(); code != "" && code != "access_denied" {
			r.Errorf("the client is told %q", code)
		}
		r.signInAgain()
		c = r.desk(nil)
		b = r.askedFor(r.askFor(c))
		r.agrees("")
		won, tok := 0, ""
		for _, a := range r.all(32, r.fetch(c, b)) {
			if a.status == 200 {
				won++
				tok = r.tokens(a).AccessToken
			} else if a.code() != "invalid_grant" {
				r.Errorf("a poll is answered %d %s", a.status, a.body)
			}
		}
		if won != 1 || !r.active(tok) {
			r.Errorf("%d of 32 polls got a token; active: %t", won, r.active(tok))
		}
		r.clock.move(2 * time.Second)
		r.expect("later", 400, "invalid_grant", r.post("/oauth/token", r.fetch(c, b)))
		if r.active(tok) {
			r.Error("what a request gave is active after it was fetched again")
		}
	})
}

// Whoever polls with another client's auth_req_id gets nothing, and with five tries
// burns it; one that was asked for with a key is for that key.
func TestBackchannelIsBound(t *testing.T) {
	engines(t, 1, func(r *rig) {
		c, other := r.desk(nil), r.desk(nil)
		b := r.askedFor(r.askFor(c))
		r.agrees("")
		for range 4 {
			r.expect("another client", 400, "invalid_grant", r.post("/oauth/token", r.fetch(other, b)))
		}
		r.tokens(r.post("/oauth/token", r.fetch(c, b))) // the control
		b = r.askedFor(r.askFor(c))
		r.agrees("")
		for range 5 {
			r.post("/oauth/token", r.fetch(other, b))
		}
		r.expect("burnt", 400, "invalid_grant", r.post("/oauth/token", r.fetch(c, b)))

		mine := r.prover()
		b = r.askedFor(mine.post(backchannelPath, form("client_id", c.ClientID, "client_secret", deskSecret, "login_hint", r.person.Username, "scope", "openid notes:read", "resource", r.notes.URI, "binding_message", "1")))
		r.agrees("")
		r.expect("another key", 400, "invalid_grant", r.prover().post("/oauth/token", r.fetch(c, b)))
		if tok := r.tokens(mine.post("/oauth/token", r.fetch(c, b))); r.claims(tok.AccessToken).Confirmation.JKT != mine.jkt() {
			r.Error("the token is bound to another key than asked")
		}
	})
}

// A request is for one person, in the browser that looked at it, for as long as it
// waits; looking at it changes nothing.
func TestRequestsAreTheirs(t *testing.T) {
	engines(t, 1, func(r *rig) {
		c := r.desk(nil)
		b := r.askedFor(r.askFor(c))
		ref, ses, name := r.looks(), r.ses, r.requests()[0].Name
		for _, bad := range []string{"", "x", strings.Repeat("0", 64), name + "00", strings.ToUpper(name) + "0"} {
			w, q := r.visit()
			_, err := r.nodes[0].server.OpenRequest(w, q, r.session(), bad)
			r.codeOf(err, "request_unknown")
		}
		r.ses = r.signIn(r.other, r.passkey2(r.other.ID), false)
		if len(r.requests()) != 0 {
			r.Error("another person sees it")
		}
		w, q := r.visit()
		_, err := r.nodes[0].server.OpenRequest(w, q, r.session(), name)
		r.codeOf(err, "request_unknown")
		if p := got(r.pending(ref))(r); p.Next != grant.NextWrongUser { // in the browser of the first
			r.Errorf("for another person next is %s", p.Next)
		}
		for _, what := range []grant.Said{grant.Deny, grant.Report} {
			_, err = r.says(ref, what, "")
			r.codeOf(err, "request_unknown")
		}
		if p, err := r.says(ref, grant.Allow, ""); err == nil && p.Next == grant.NextRequest {
			r.Error("another person's yes was heard")
		}
		r.ses = ses
		w, q = r.visit()
		q.Header.Set(headerBrowser, "other")
		_, err = r.nodes[0].server.AnswerRequest(w, q, r.session(), ref, grant.Deny, "")
		r.codeOf(err, "transaction_unknown")
		// A device's reference, and an authorization request's, are none of a request's.
		d := r.device(r.app)
		dref := got(r.types(d.UserCode))(r)
		_, err = r.says(dref, grant.Deny, "")
		r.codeOf(err, "transaction_unknown")
		_, err = r.answers(ref, false, "")
		r.codeOf(err, "transaction_unknown")
		_, other := r.authorize(r.request(r.plain), in(r.ses)).page(r)
		_, err = r.says(other, grant.Deny, "")
		r.codeOf(err, "transaction_unknown")

		r.expect("it waits on", 400, "authorization_pending", r.post("/oauth/token", r.fetch(c, b)))
		r.prove(ref, false)
		r.clock.move(grant.BackchannelLifetime)
		for _, what := range []grant.Said{grant.Allow, grant.Deny, grant.Report} {
			_, err = r.says(ref, what, "")
			r.codeOf(err, "request_expired")
		}
		if len(r.requests()) != 0 {
			r.Error("an expired request still waits")
		}
	})
}

// The number that the client shows has to be typed; three wrong ones are a no, also
// when they come at once.
func TestNumberMatching(t *testing.T) {
	engines(t, 1, func(r *rig) {
		c := r.desk(func(c *client.Client) { c.NumberMatching = true })
		r.clock.move(time.Minute)
		b := r.askedFor(r.askFor(c, "binding_message", ""))
		if len(b.Number) != 2 {
			r.Fatalf("the client is told %+v", b)
		}
		if nobody := r.askedFor(r.askFor(c, "login_hint", "nobody")); len(nobody.Number) != 2 {
			r.Error("who asks for nobody is told no number")
		}
		ref := r.looks()
		_, err := r.says(ref, grant.Allow, b.Number) // before the proof it is not looked at
		ok(r, err)
		r.prove(ref, false)
		for i, typed := range []string{"", "x" + b.Number} {
			_, err = r.says(ref, grant.Allow, typed)
			r.codeOf(err, "number_wrong")
			if want := fmt.Sprintf("Tries left: %d.", 2-i); problem.From(err).Hint != want {
				r.Errorf("%q, want %q", problem.From(err).Hint, want)
			}
		}
		got(r.says(ref, grant.Allow, " "+b.Number[:1]+" "+b.Number[1:]))(r) // the third try is good
		r.tokens(r.post("/oauth/token", r.fetch(c, b)))

		b = r.askedFor(r.askFor(c))
		ref = r.looks()
		r.prove(ref, false)
		var mu sync.Mutex
		var wait sync.WaitGroup
		said := map[string]int{}
		for i := range 100 {
			wait.Go(func() {
				_, err := r.says(ref, grant.Allow, fmt.Sprintf("x%02d", i))
				mu.Lock()
				defer mu.Unlock()
				said[problem.CodeOf(err)]++
			})
		}
		wait.Wait()
		if said[""] != 0 || said["number_wrong"] > factor.NumberTries || said["number_mistyped"] != 1 {
			r.Errorf("a hundred wrong numbers at once: %v", said)
		}
		_, err = r.says(ref, grant.Allow, b.Number)
		r.codeOf(err, "interaction_done")
		r.expect("guessed", 400, "access_denied", r.post("/oauth/token", r.fetch(c, b)))
	})
}

// What ends while somebody is being asked, or after they said yes, ends that too; what
// was asked of them before a restore is over.
func TestBackchannelWhileSomethingEnds(t *testing.T) {
	engines(t, 1, func(r *rig) {
		for name, stop := range map[string]func(c client.Client){
			"the session": func(client.Client) { r.end(r.ses) }, "the person": func(client.Client) { r.freeze(r.person.ID) }, "the client": func(c client.Client) { r.freeze(c.ID) },
		} {
			r.seedAgain()
			r.signInAgain()
			c := r.desk(nil)
			b := r.askedFor(r.askFor(c))
			ref, ses := r.looks(), r.session()
			r.prove(ref, false)
			stop(c)
			w, q := r.visit()
			p, err := r.nodes[0].server.AnswerRequest(w, q, ses, ref, grant.Allow, "")
			if err == nil && p.Next == grant.NextRequest {
				r.Errorf("%s ended, and an answer was heard", name)
			}
			if a := r.post("/oauth/token", r.fetch(c, b)); a.status == 200 {
				r.Errorf("%s ended, and the client has a token", name)
			}
		}
		r.seedAgain()
		r.signInAgain()
		c := r.desk(nil)
		r.askedFor(r.askFor(c))
		ref := r.looks()
		r.set(c, func(c *client.Client) { c.Scopes = []string{"notes:write"} })
		_, err := r.says(ref, grant.Allow, "")
		r.codeOf(err, "interaction_outdated")
	})
}

// Policy can forbid it; no is always heard. Elevated scopes step up on the approving
// device, and authorization details are shown and given.
func TestBackchannelIsPolicys(t *testing.T) {
	r := onSQLite(t)
	c := r.desk(func(c *client.Client) { c.DetailsTypes = []string{"payment"} })
	b := r.askedFor(r.askFor(c))
	ref := r.looks()
	r.prove(ref, false)
	r.forbid("ciba.approve")
	if p := got(r.pending(ref))(r); p.Next != grant.NextDenied || len(p.Reasons) == 0 || p.Reasons[0] != "not today" {
		t.Errorf("next is %s %q", p.Next, p.Reasons)
	}
	if p := got(r.says(ref, grant.Allow, ""))(r); p.Next != grant.NextDenied {
		t.Errorf("next is %s", p.Next)
	}
	r.expect("forbidden", 400, "authorization_pending", r.post("/oauth/token", r.fetch(c, b)))
	got(r.says(ref, grant.Deny, ""))(r)
	r.allow()
	r.clock.move(time.Hour)

	b = r.askedFor(r.askFor(c, "scope", "openid notes:read keys:rotate", "acr_values", "phrh phr"))
	ref = r.looks()
	if p := got(r.pending(ref))(r); p.Next != grant.NextStepUp || p.Ask.Rung < 3 {
		t.Errorf("next is %s %+v", p.Next, p.Ask)
	}
	r.prove(ref, false)
	got(r.says(ref, grant.Allow, ""))(r)
	tok := r.tokens(r.post("/oauth/token", r.fetch(c, b)))
	if at := r.claims(tok.AccessToken); !strings.Contains(at.Scope, "keys:rotate") || at.ACR != "phr" || time.Duration(tok.ExpiresIn)*time.Second > 5*time.Minute {
		t.Errorf("%+v", at)
	}

	r.notes.DetailsTypes = []resource.DetailsType{{Name: "payment", Schema: json.RawMessage(`{"type":"object","properties":{"type":{"const":"payment"},"amount":{"type":"integer"}},"required":["amount"],"additionalProperties":false}`), Template: "Pay {amount}"}}
	r.do(audit.ResourceUpdated, resource.Update{Resource: r.notes})
	b = r.askedFor(r.askFor(c, "authorization_details", `[{"type":"payment","amount":12}]`))
	ref = r.looks()
	if p := got(r.pending(ref))(r); len(p.Shown) != 1 || p.Shown[0].Resource != "Notes" {
		t.Errorf("what is shown is %+v", p.Shown)
	}
	r.prove(ref, false)
	got(r.says(ref, grant.Allow, ""))(r)
	src := policy.Default() // forbids what was allowed a moment ago, and nothing else
	src.Files = append(src.Files, policy.File{Name: "x.cedar", Text: `@id("x") @reason("r") forbid (principal, action == Action::"ciba.approve", resource) when { resource.kind == "resource" && context.details.types.contains("payment") };`})
	r.nodes[0].server.Do.Policy = got(policy.Compile(src))(r)
	r.expect("forbidden since", 400, "invalid_grant", r.post("/oauth/token", r.fetch(c, b)))
	r.allow()
	if tok = r.tokens(r.post("/oauth/token", r.fetch(c, b))); len(tok.Details) != 1 {
		t.Errorf("%+v", tok)
	}
}

// Signed requests: by the client's key and algorithm, once, complete, and alone.
func TestSignedBackchannelRequests(t *testing.T) {
	engines(t, 1, func(r *rig) {
		key := r.ecKey()
		c := r.desk(func(c *client.Client) {
			c.JWKS = json.RawMessage(`{"keys":[` + string(got(json.Marshal(jose.JWK{Key: key.Public()}))(r)) + `]}`)
			c.RequestAlg = jose.ES256
		})
		sign := func(k crypto.Signer, typ string, edit func(map[string]any)) url.Values {
			now := r.clock.now().Unix()
			m := map[string]any{
				"iss": c.ClientID, "aud": issuer, "iat": now, "nbf": now, "exp": now + 60, "jti": rand.Text(),
				"scope": "openid notes:read", "login_hint": "nobody " + rand.Text(), "binding_message": "W4SCT", "requested_expiry": 60,
			}
			edit(m)
			s := got(jose.NewSigner(k, jose.ES256, "", typ))(r)
			return form("client_id", c.ClientID, "client_secret", deskSecret, "request", got(s.Sign(m))(r))
		}
		as := func(map[string]any) {}
		for _, typ := range []string{"", "JWT", jose.TypRequestObject} {
			if b := r.askedFor(r.post(backchannelPath, sign(key, typ, as))); b.ExpiresIn != 60 {
				r.Errorf("%+v", b)
			}
		}
		r.askedFor(r.post(backchannelPath, sign(key, "", func(m map[string]any) { m["requested_expiry"] = "60" }))) // either way
		once := sign(key, "", as)
		r.askedFor(r.post(backchannelPath, once))
		r.expect("again", 400, "invalid_request", r.post(backchannelPath, once))
		for name, f := range map[string]url.Values{
			"unsigned":          form("client_id", c.ClientID, "client_secret", deskSecret, "login_hint", "dana", "scope", "openid", "binding_message", "x"),
			"something outside": change(sign(key, "", as), "login_hint", "dana"),
			"another key":       sign(r.ecKey(), "", as),
			"another type":      sign(key, "at+jwt", as),
			"another client":    sign(key, "", func(m map[string]any) { m["iss"] = "app" }),
			"another client_id": sign(key, "", func(m map[string]any) { m["client_id"] = "app" }),
			"another audience":  sign(key, "", func(m map[string]any) { m["aud"] = "https://other.example" }),
			"over":              sign(key, "", func(m map[string]any) { m["exp"] = r.clock.now().Unix() - 60 }),
			"for a day":         sign(key, "", func(m map[string]any) { m["exp"] = r.clock.now().Unix() + 86400 }),
			"an assertion":      sign(key, "", func(m map[string]any) { m["sub"] = c.ClientID }),
			"a request in it":   sign(key, "", func(m map[string]any) { m["request"] = "x" }),
		} {
			r.expect(name, 400, "invalid_request", r.post(backchannelPath, f))
		}
		for _, claim := range []string{"iss", "aud", "iat", "nbf", "exp", "jti"} {
			r.expect("without "+claim, 400, "invalid_request", r.post(backchannelPath, sign(key, "", func(m map[string]any) { delete(m, claim) })))
		}
		other := r.set(c, func(c *client.Client) { c.RequestAlg = jose.PS256 })
		r.expect("another algorithm", 400, "invalid_request", r.post(backchannelPath, sign(key, "", as)))
		r.set(other, func(c *client.Client) { c.RequestAlg = "" })
		r.askedFor(r.post(backchannelPath, sign(key, "", as)))
	})
}

// What a client is told with is for that client, while the answer waits, and says
// nothing of anybody. At rest neither its token nor the auth_req_id is to be read.
func TestNotification(t *testing.T) {
	engines(t, 1, func(r *rig) {
		s, ctx := r.nodes[0].server, context.Background()
		c := r.desk(func(c *client.Client) {
			c.DeliveryMode, c.NotificationURI = client.Ping, "https://desk.example.com/ping"
		})
		other := r.desk(func(c *client.Client) {
			c.DeliveryMode, c.NotificationURI = client.Ping, "https://desk.example.com/ping"
		})
		b := r.askedFor(r.askFor(c, "client_notification_token", "tell-me-with-this"))
		name := r.requests()[0].Name
		key, _ := requestKey(name)
		for _, p := range []once.Purpose{once.Backchannel, once.BackchannelAsked} {
			if v := got(s.State.OnceValue(ctx, p, key))(r); strings.Contains(string(v.Data), "tell-me") || strings.Contains(string(v.Data), b.AuthReqID) {
				r.Errorf("stored: %s", v.Data)
			}
		}
		n, is, err := s.Notification(ctx, c, name)
		if err != nil || !is || n.URL != c.NotificationURI || n.Token.Reveal() != "tell-me-with-this" || n.AuthReqID.Reveal() != b.AuthReqID {
			r.Errorf("%+v %t %v", n, is, err)
		}
		for what, ask := range map[string]func() (Notification, bool, error){
			"another client":  func() (Notification, bool, error) { return s.Notification(ctx, other, name) },
			"another request": func() (Notification, bool, error) { return s.Notification(ctx, c, strings.Repeat("0", 64)) },
			"no name":         func() (Notification, bool, error) { return s.Notification(ctx, c, "") },
		} {
			if _, is, err := ask(); is || err != nil {
				r.Errorf("%s: %t %v", what, is, err)
			}
		}
		r.agrees("")
		r.tokens(r.post("/oauth/token", r.fetch(c, b)))
		if _, is, err := s.Notification(ctx, c, name); is || err != nil {
			r.Errorf("fetched: %t %v", is, err)
		}
	})
}

// Whatever is sent, the answer is JSON with an error of the specification, and nobody
// is asked who has not been named by a client that authenticated.
func FuzzBackchannelForm(f *testing.F) {
	r := onSQLite(f)
	c := r.desk(nil)
	good := form("client_id", c.ClientID, "client_secret", deskSecret, "login_hint", "nobody", "scope", "openid", "binding_message", "W4SCT")
	for _, s := range []string{
		"", "scope=openid&login_hint=dana", good.Encode(), change(good, "binding_message", "a\u202eb").Encode(), change(good, "requested_expiry", "-1").Encode(),
		change(good, "request", "a.b.c").Encode(), change(good, "id_token_hint", "x").Encode(), change(good, "login_hint", "\x00").Encode(), change(good, "authorization_details", "[").Encode(),
		"login_hint=a&login_hint=b", "&;=%", change(good, "claims", `{"id_token":{"sub":{"value":"x"}}}`).Encode(),
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		w, fine := r.direct("POST", backchannelPath, formType, body)
		if !fine {
			t.Fatalf("a plain error for %q", body)
		}
		a := answer{body: w.Body.String()}
		if w.Code == 200 {
			q, err := url.ParseQuery(body)
			if err != nil || q.Get("client_secret") != deskSecret && !strings.Contains(body, deskSecret) || !grant.CheckBinding(q.Get("binding_message")) {
				t.Fatalf("%q is taken: %s", body, w.Body)
			}
			return
		}
		if w.Code != 400 && w.Code != 401 && w.Code != 503 || !oauthCodes[a.code()] || w.Code == 401 != (a.code() == "invalid_client") {
			t.Fatalf("%d %s for %q", w.Code, w.Body, body)
		}
	})
}
