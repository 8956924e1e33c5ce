package oauth

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/secret"
	"github.com/countersign-dev/countersign/internal/session"
)

// device has a device of a client ask, from a network of its own.
func (r *rig) device(c client.Client, pairs ...string) deviceAnswer {
	r.Helper()
	r.serial++
	r.addr = netip.AddrFrom4([4]byte{198, 51, byte(r.serial), 7})
	return r.asked(r.askDevice(c, pairs...))
}

func (r *rig) askDevice(c client.Client, pairs ...string) answer {
	f := change(form("client_id", c.ClientID, "scope", "openid notes:read", "resource", r.notes.URI, "host", "build-7"), pairs...)
	if c.Confidential() {
		f.Del("client_id")
	}
	return r.post(devicePath, f, r.auth(c))
}

func (r *rig) asked(a answer) (d deviceAnswer) {
	r.Helper()
	if a.status != 200 {
		r.Fatalf("a device asked: %d %s", a.status, a.body)
	}
	m := a.json(r)
	d = deviceAnswer{m["device_code"].(string), m["user_code"].(string), m["verification_uri"].(string), m["verification_uri_complete"].(string), int64(m["expires_in"].(float64)), int64(m["interval"].(float64))}
	return d
}

// poll is a good token request of a device.
func (r *rig) poll(c client.Client, d deviceAnswer) url.Values {
	f := form("grant_type", string(client.DeviceCode), "device_code", d.DeviceCode, "client_id", c.ClientID)
	if c.Confidential() {
		f.Del("client_id")
	}
	return f
}

// visit is a request of the person's browser.
func (r *rig) visit() (http.ResponseWriter, *http.Request) {
	return httptest.NewRecorder(), httptest.NewRequest("GET", "/device", nil)
}

func (r *rig) session() session.Session {
	r.Helper()
	return got(r.nodes[0].store.Session(context.Background(), r.ses))(r)
}

// open types a code into the person's browser.
func (r *rig) types(typed string) (ref string, err error) {
	w, q := r.visit()
	return r.nodes[0].server.OpenDevice(w, q, r.session(), typed)
}

func (r *rig) pending(ref string) (grant.Pending, error) {
	w, q := r.visit()
	ses := r.session()
	return r.nodes[0].server.Pending(w, q, ref, &ses)
}

func (r *rig) answers(ref string, yes bool, typed string) (grant.Pending, error) {
	w, q := r.visit()
	return r.nodes[0].server.AnswerDevice(w, q, r.session(), ref, yes, typed)
}

// allow is a person's yes, from the code to the answer.
func (r *rig) approves(d deviceAnswer) {
	r.Helper()
	p := got(r.answers(got(r.types(d.UserCode))(r), true, ""))(r)
	if p.Next != grant.NextDevice {
		r.Fatalf("next is %s %s", p.Next, p.Code)
	}
}

func (r *rig) denies(d deviceAnswer) {
	r.Helper()
	got(r.answers(got(r.types(d.UserCode))(r), false, ""))(r)
}

func (r *rig) visitWithDevice() *visit {
	r.anew()
	cns := r.consents(r.plain)
	d := r.device(r.plain)
	r.approves(d)
	bound := func(v *visit) {
		r.signInAgain()
		d := r.asked(r.prover().post(devicePath, form("client_id", r.plain.ClientID, "resource", r.notes.URI)))
		r.approves(d)
		v.form = r.poll(r.plain, d)
	}
	return &visit{
		form: r.poll(r.plain, d), end: func(*visit) { r.clock.move(grant.DeviceLifetime + grant.DeviceGrace) },
		gone: merge(r.of(r.plain), map[string]string{"consent": cns}),
		none: merge(every(noService, "service"), every(notAnOwner, "owner"), every("it makes the grant", "grant"),
			every("the token endpoint sees no browser; the question before is bound to one (TestUserCodes)", "wrong browser")),
		more: merge(r.spoils(), map[string]func(*visit){
			"wrong issuer":   func(v *visit) { v.form.Set("device_code", secret.New(secret.DeviceCode).Reveal()) }, // somebody else's code
			"wrong key":      func(v *visit) { bound(v); v.by = r.prover() },
			"no key":         bound,
			"no code":        func(v *visit) { v.form.Del("device_code") },
			"a code's kind":  func(v *visit) { v.form.Set("device_code", secret.New(secret.Code).Reveal()) },
			"reused":         func(v *visit) { r.tokens(r.knock(v)) },
			"forbidden":      func(*visit) { r.forbid("device.approve") }, // after it was allowed
			"nobody asked":   func(v *visit) { v.form = r.poll(r.plain, r.device(r.plain)) },
			"nobody in time": func(v *visit) { v.form = r.poll(r.plain, r.device(r.plain)); r.clock.move(grant.DeviceLifetime) },
			"said no":        func(v *visit) { d := r.device(r.plain); r.denies(d); v.form = r.poll(r.plain, d) },
			"polls at once":  func(v *visit) { v.form = r.poll(r.plain, r.device(r.plain)); r.knock(v) },
		}),
	}
}

func (r *rig) codeOf(err error, want string) {
	r.Helper()
	if got := problem.CodeOf(err); got != want {
		r.Errorf("answered %q (%v), want %q", got, err, want)
	}
}

// A device is signed in, and everything that it got hangs below the browser's
// session.
func TestDevice(t *testing.T) {
	t.Parallel()
	engines(t, 1, func(r *rig) {
		r.clock.move(time.Minute)
		d := r.device(r.app)
		if d.ExpiresIn != 300 || d.Interval != 5 || d.URI != issuer+"/device" || d.Complete != d.URI+"?user_code="+d.UserCode ||
			!regexp.MustCompile(`^cs_device_[0-9A-Za-z]{49}$`).MatchString(d.DeviceCode) || !regexp.MustCompile(`^[2346789BCDFGHJKMPQRTVWXY]{4}-[2346789BCDFGHJKMPQRTVWXY]{4}$`).MatchString(d.UserCode) {
			r.Errorf("a device is told %+v", d)
		}
		r.expect("nobody asked", 400, "authorization_pending", r.post("/oauth/token", r.poll(r.app, d)))
		r.clock.move(5 * time.Second)
		ref := got(r.types(" " + strings.ToLower(strings.ReplaceAll(d.UserCode, "-", "")) + " "))(r)
		p := got(r.pending(ref))(r)
		if p.Next != grant.NextStepUp { // the sign-in is older than the device's request
			r.Fatalf("next is %s, want a step-up", p.Next)
		}
		r.prove(ref, false)
		p = got(r.pending(ref))(r)
		if p.Next != grant.NextDevice || p.Elsewhere || p.Device.Host != "build-7" || len(p.Scopes) != 2 {
			r.Fatalf("next is %+v", p)
		}
		r.clock.move(5 * time.Second)
		r.expect("not answered", 400, "authorization_pending", r.post("/oauth/token", r.poll(r.app, d)))
		p = got(r.answers(ref, true, ""))(r)
		tok := r.tokens(r.post("/oauth/token", r.poll(r.app, d)))
		c := r.claims(tok.AccessToken)
		if c.Subject != r.person.Subject || c.Scope != "openid notes:read" || c.ACR != "phr" || tok.RefreshToken == "" || tok.IDToken == "" || c.SessionID == "" {
			r.Errorf("the token says %+v, the answer %+v", c, tok)
		}
		r.tokens(r.refresh(r.app, tok.RefreshToken))
		r.end(r.ses)
		if r.active(tok.AccessToken) {
			r.Error("active although the browser's session has ended")
		}
	})
}

// Of two windows, of two browsers, of 32 polls: one.
func TestDeviceRaces(t *testing.T) {
	t.Parallel()
	engines(t, 1, func(r *rig) {
		d := r.device(r.app)
		one, two := got(r.types(d.UserCode))(r), got(r.types(d.UserCode))(r)
		var yes, other int
		var mu sync.Mutex
		var wait sync.WaitGroup
		for i := range 16 {
			wait.Go(func() {
				_, err := r.answers([]string{one, two}[i%2], i%4 != 3, "")
				mu.Lock()
				defer mu.Unlock()
				switch problem.CodeOf(err) {
				case "":
					yes++
				case "interaction_done", "user_code_used":
					other++
				default:
					r.Error(err)
				}
			})
		}
		wait.Wait()
		if yes != 1 || other != 15 {
			r.Errorf("%d answers were heard, %d not", yes, other)
		}
		r.signInAgain()
		d = r.device(r.app)
		r.approves(d)
		all, won := r.all(32, r.poll(r.app, d)), 0
		tok := ""
		for _, a := range all {
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
		r.expect("later", 400, "invalid_grant", r.post("/oauth/token", r.poll(r.app, d)))
		if r.active(tok) {
			r.Error("what a device code gave is active after it was presented again")
		}
	})
}

func (r *rig) signInAgain() { r.Helper(); r.ses = r.signIn(r.person, r.passkey, false) }

// Who polls with somebody else's code gets nothing, and with five tries burns it.
func TestDeviceCodesAreBound(t *testing.T) {
	t.Parallel()
	engines(t, 1, func(r *rig) {
		d := r.device(r.app)
		r.approves(d)
		for range 4 {
			r.expect("another client", 400, "invalid_grant", r.post("/oauth/token", r.poll(r.plain, d)))
		}
		r.tokens(r.post("/oauth/token", r.poll(r.app, d))) // the control
		r.signInAgain()
		d = r.device(r.app)
		r.approves(d)
		for range 5 {
			r.post("/oauth/token", r.poll(r.plain, d))
		}
		r.expect("burnt", 400, "invalid_grant", r.post("/oauth/token", r.poll(r.app, d)))

		r.signInAgain()
		mine, other := r.prover(), r.prover()
		d = r.asked(mine.post(devicePath, form("client_id", r.first.ClientID, "resource", r.notes.URI)))
		r.approves(d)
		r.expect("another key", 400, "invalid_grant", other.post("/oauth/token", r.poll(r.first, d)))
		r.expect("no key", 400, "invalid_dpop_proof", r.post("/oauth/token", r.poll(r.first, d)))
		if tok := r.tokens(mine.post("/oauth/token", r.poll(r.first, d))); r.claims(tok.AccessToken).Confirmation.JKT != mine.jkt() {
			r.Error("the token is bound to another key than asked")
		}
	})
}

// The pace of polls: one that comes too early makes all later ones slower.
func TestDevicePace(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	d := r.device(r.app)
	for i, step := range []struct {
		after time.Duration
		code  string
	}{
		{0, "authorization_pending"},
		{4200 * time.Millisecond, "authorization_pending"}, // networks deliver unevenly
		{3 * time.Second, "slow_down"},
		{5 * time.Second, "slow_down"},
		{15 * time.Second, "authorization_pending"},
		{13 * time.Second, "slow_down"},
		{20 * time.Second, "authorization_pending"},
	} {
		r.clock.move(step.after)
		r.expect(fmt.Sprint("poll ", i), 400, step.code, r.post("/oauth/token", r.poll(r.app, d)))
	}
	p := paces{}
	for i := range maxPaces + 10 {
		p.early(once.KeyOf(once.DeviceCode, fmt.Sprint(i)), start.Add(time.Duration(i)), start.Add(time.Hour))
	}
	if len(p.last) > maxPaces {
		t.Errorf("%d paces are remembered", len(p.last))
	}
}

// What a device may ask for, and the exact answer where it may not.
func TestDeviceRequestsAreExact(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	capped := r.set(r.app, func(c *client.Client) { c.DeviceScope = "notes:read openid" })
	for _, c := range []struct {
		name   string
		status int
		code   string
		pairs  []string
	}{
		{"good", 200, "", nil},
		{"unknown client", 401, "invalid_client", []string{"client_id", "nobody"}},
		{"no client", 401, "invalid_client", []string{"client_id", ""}},
		{"a client without the grant", 400, "unauthorized_client", []string{"client_id", "nightly", "client_secret", r.svcSecret}},
		{"unknown scope", 400, "invalid_scope", []string{"scope", "notes:burn"}},
		{"capped scope", 400, "invalid_scope", []string{"scope", "notes:write"}},
		{"unknown resource", 400, "invalid_target", []string{"resource", "https://nowhere.example"}},
		{"prompt", 400, "invalid_request", []string{"prompt", "login"}},
		{"hint", 400, "invalid_request", []string{"id_token_hint", "x"}},
		{"max_age", 400, "invalid_request", []string{"max_age", "soon"}},
		{"essential", 400, "unmet_authentication_requirements", []string{"claims", `{"id_token":{"acr":{"essential":true,"value":"gold"}}}`}},
		{"a long host", 400, "invalid_request", []string{"host", strings.Repeat("h", 65)}},
		{"a host that moves the cursor", 400, "invalid_request", []string{"host", "a\u202eb"}},
	} {
		r.expect(c.name, c.status, c.code, r.askDevice(capped, c.pairs...))
	}
	all := r.asked(r.askDevice(capped, "scope", "")) // the cap goes for defaults, too
	ref := got(r.types(all.UserCode))(r)
	if p := got(r.pending(ref))(r); len(p.Interaction.Scopes) != 1 || p.Interaction.Scopes[0] != "notes:read" {
		t.Errorf("scopes of a capped request: %q", p.Interaction.Scopes)
	}
	r.nodes[0].server.Device = false
	r.expect("off", 400, "unsupported_grant_type", r.post("/oauth/token", r.poll(r.app, all)))
	if m := r.nodes[0].server.describe(client.Openness{}, nil); m["device_authorization_endpoint"] != nil || strings.Contains(fmt.Sprint(m["grant_types_supported"]), "device_code") {
		t.Errorf("off, and still told: %v", m)
	}
}

// What is stored for strangers has an end.
func TestDeviceRequestsAreBounded(t *testing.T) {
	t.Parallel()
	engines(t, 1, func(r *rig) {
		refused := 0
		for range 70 {
			if a := r.askDevice(r.app); a.status == 503 && a.code() == "temporarily_unavailable" && a.header.Get("Retry-After") != "" {
				refused++
			} else if a.status != 200 {
				r.Fatalf("%d %s", a.status, a.body)
			}
		}
		if refused != 10 {
			r.Errorf("%d of 70 requests from one network were refused, want 10", refused)
		}
		r.asked(r.askDevice(r.web)) // a client that proves who it is has no network
		r.addr = netip.MustParseAddr("203.0.113.9")
		r.asked(r.askDevice(r.app)) // the control: another network is not touched
	})
}

// Whom no administrator registered, and whom FAPI is asked of, gets no device signed
// in, whatever its registration says; nor does a code that was given before.
func TestDevicesOfOthers(t *testing.T) {
	t.Parallel()
	engines(t, 1, func(r *rig) {
		r.open(everything)
		asked := asString(r.registers(`{"client_name":"TV","redirect_uris":["http://127.0.0.1/cb"],"grant_types":["authorization_code","urn:ietf:params:oauth:grant-type:device_code"],"token_endpoint_auth_method":"none"}`)["client_id"])
		r.expect("it registered itself", 401, "invalid_client", r.post(devicePath, form("client_id", asked, "scope", "openid")))
		r.walk(r.asksAs(asked, "http://127.0.0.1:49152/cb")) // it is stored now
		r.expect("it registered itself, and somebody agreed", 400, "unauthorized_client", r.post(devicePath, form("client_id", asked, "scope", "openid")))

		// As if another release, or a hand in the database, had let it have the grant.
		self := client.Client{
			ID: id.New(id.Client), ClientID: id.New(client.DynamicPrefix), Name: "TV", AuthMethod: client.AuthNone, RedirectURIs: []string{"http://127.0.0.1/cb"},
			GrantTypes: []client.GrantType{client.DeviceCode}, Scopes: r.app.Scopes, Resources: r.app.Resources, Origin: client.Origin{Source: client.FromDocument, Group: "tv.example"},
		}
		r.do(audit.ClientCreated, client.Create{Client: self})
		r.expect("it is stored with the grant", 400, "unauthorized_client", r.askDevice(self))

		c := r.another(r.jwt, func(c *client.Client) { c.GrantTypes = append(c.GrantTypes, client.DeviceCode) })
		assert := func(f url.Values) url.Values {
			return change(f, "client_assertion_type", assertionType, "client_assertion", r.assertion(func(a *jose.ClientAssertionClaims) { a.Issuer, a.Subject = c.ClientID, c.ClientID }))
		}
		ask := func() answer {
			return r.post(devicePath, assert(form("scope", "openid notes:read", "resource", r.notes.URI)))
		}
		before := r.asked(ask()) // the control: it is none of FAPI yet
		c.Profile = client.FAPI2
		r.do(audit.ClientUpdated, client.Update{Client: c})
		r.nodes[0].server.recent = recentRows{}
		r.expect("FAPI", 400, "unauthorized_client", ask())
		c.GrantTypes = []client.GrantType{client.AuthorizationCode} // which is what the profile demands
		r.do(audit.ClientUpdated, client.Update{Client: c})
		r.nodes[0].server.recent = recentRows{}
		r.expect("FAPI, with an earlier code", 400, "unauthorized_client", r.post("/oauth/token", assert(form("grant_type", string(client.DeviceCode), "device_code", before.DeviceCode))))
		_, err := r.types(before.UserCode)
		if err == nil {
			r.Error("a person may enter the code of a client that has not the grant any more")
		}
	})
}

// Somebody sends their own code to others. What they can have it approved from is
// another network: then the browser must be told what the device shows only while
// it is being answered.
func TestDeviceElsewhere(t *testing.T) {
	t.Parallel()
	engines(t, 1, func(r *rig) {
		shows := r.set(r.app, func(c *client.Client) { c.DeviceConfirm = true })
		d := r.device(shows)
		if a := r.post("/oauth/token", r.poll(shows, d)); a.json(r)["confirmation_code"] != nil {
			r.Error("a device is told a confirmation code before anybody has come: it could be sent along")
		}
		r.clock.move(5 * time.Second)
		ref := got(r.types(d.UserCode))(r)
		r.prove(ref, false)
		r.addr = netip.MustParseAddr("203.0.113.9")
		if p := got(r.pending(ref))(r); !p.Elsewhere || p.Address != "203.0.113.9" || !strings.HasPrefix(p.Device.Address, "198.51.") {
			r.Errorf("the page is told %+v", p)
		}
		code, _ := r.post("/oauth/token", r.poll(shows, d)).json(r)["confirmation_code"].(string)
		if len(code) != 6 {
			r.Fatalf("the device shows %q", code)
		}
		_, err := r.answers(ref, true, "")
		r.codeOf(err, "confirmation_wrong")
		_, err = r.answers(ref, true, d.UserCode)
		r.codeOf(err, "confirmation_wrong")
		got(r.answers(ref, true, code[:3]+" "+code[3:]))(r)
		r.tokens(r.post("/oauth/token", r.poll(shows, d)))

		// Guessing it ends the request.
		r.signInAgain()
		d = r.device(shows)
		ref = got(r.types(d.UserCode))(r)
		r.addr = netip.MustParseAddr("203.0.113.9")
		for range once.MaxMisses {
			_, err = r.answers(ref, true, "000 000x")
			r.codeOf(err, "confirmation_wrong")
		}
		_, err = r.answers(ref, true, "000000")
		r.codeOf(err, "user_code_used")
		r.expect("guessed", 400, "access_denied", r.post("/oauth/token", r.poll(shows, d)))

		// A device that cannot show one: its own code is typed once more.
		plain := r.set(shows, func(c *client.Client) { c.DeviceConfirm = false })
		r.signInAgain()
		d = r.device(plain)
		ref = got(r.types(d.UserCode))(r)
		r.addr = netip.MustParseAddr("203.0.113.9")
		_, err = r.answers(ref, true, "")
		r.codeOf(err, "confirmation_wrong")
		got(r.answers(ref, true, strings.ToLower(d.UserCode)))(r)
		r.tokens(r.post("/oauth/token", r.poll(plain, d)))

		// Where the organisation wants both on one network, nothing helps.
		r.nodes[0].server.DeviceNear = true
		r.signInAgain()
		d = r.device(plain)
		ref = got(r.types(d.UserCode))(r)
		r.addr = netip.MustParseAddr("203.0.113.9")
		_, err = r.answers(ref, true, d.UserCode)
		r.codeOf(err, "device_elsewhere")
		_, err = r.types(d.UserCode)
		r.codeOf(err, "device_elsewhere")
	})
}

// Codes are for who enters them first, for as long as they live, and for who can
// type.
func TestUserCodes(t *testing.T) {
	t.Parallel()
	engines(t, 1, func(r *rig) {
		for _, typed := range []string{"", "x", "AAAA-AAAA", "2346-789", "2346-789BC", strings.Repeat("2", 65), "2346\x00789B"} {
			_, err := r.types(typed)
			r.codeOf(err, "user_code_unknown")
		}
		_, err := r.types("2346-789B")
		r.codeOf(err, "user_code_unknown")

		d := r.device(r.app)
		got(r.types(d.UserCode))(r)
		ses := r.ses
		r.ses = r.signIn(r.other, r.passkey2(r.other.ID), false)
		_, err = r.types(d.UserCode)
		r.codeOf(err, "user_code_used") // another person
		r.ses = ses
		ref := got(r.types(d.UserCode))(r) // the same, again
		// Another person in the browser of the first.
		r.ses = r.signIn(r.other, r.passkey2(r.other.ID), false)
		if p := got(r.pending(ref))(r); p.Next != grant.NextWrongUser {
			r.Errorf("for another person next is %s", p.Next)
		}
		if _, err := r.answers(ref, true, ""); err != nil || r.post("/oauth/token", r.poll(r.app, d)).code() != "authorization_pending" {
			r.Errorf("another person's answer: %v", err)
		}
		_, err = r.answers(ref, false, "")
		r.codeOf(err, "user_code_used")
		r.ses = ses
		// Another browser.
		w, q := r.visit()
		q.Header.Set(headerBrowser, "other")
		_, err = r.nodes[0].server.AnswerDevice(w, q, r.session(), ref, true, "")
		r.codeOf(err, "transaction_unknown")
		// An authorization request's reference is none of a device's.
		_, other := r.authorize(r.request(r.plain), in(r.ses)).page(r)
		_, err = r.answers(other, true, "")
		r.codeOf(err, "transaction_unknown")

		r.clock.move(grant.DeviceLifetime)
		_, err = r.types(d.UserCode)
		r.codeOf(err, "device_expired")
		_, err = r.answers(ref, true, "")
		r.codeOf(err, "device_expired")
	})
}

// What ends while somebody is being asked, or after they said yes, ends that too.
func TestDeviceWhileSomethingEnds(t *testing.T) {
	t.Parallel()
	engines(t, 1, func(r *rig) {
		for name, stop := range map[string]func(){
			"the session": func() { r.end(r.ses) }, "the person": func() { r.freeze(r.person.ID) }, "the client": func() { r.freeze(r.app.ID) },
		} {
			r.seedAgain()
			r.signInAgain()
			d := r.device(r.app)
			ref, ses := got(r.types(d.UserCode))(r), r.session()
			stop()
			w, q := r.visit()
			p, err := r.nodes[0].server.AnswerDevice(w, q, ses, ref, true, "")
			if err == nil && p.Next == grant.NextDevice {
				r.Errorf("%s ended, and an answer was heard", name)
			}
			if a := r.post("/oauth/token", r.poll(r.app, d)); a.status == 200 {
				r.Errorf("%s ended, and the device has a token", name)
			}
		}
		// What the client may ask for was taken back.
		r.seedAgain()
		r.signInAgain()
		d := r.device(r.app)
		ref := got(r.types(d.UserCode))(r)
		r.set(r.app, func(c *client.Client) { c.GrantTypes = []client.GrantType{client.AuthorizationCode} })
		_, err := r.answers(ref, true, "")
		r.codeOf(err, "interaction_outdated")
	})
}

// Policy can forbid it, and is asked again in the act.
func TestDeviceIsPolicys(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	d := r.device(r.app)
	ref := got(r.types(d.UserCode))(r)
	no, err := policy.Compile(policy.Source{Files: append(policy.Default().Files, policy.File{Name: "90-no.cedar", Text: `@id("no-devices")
@reason("Nobody signs in by code here.")
forbid (principal, action == Action::"device.approve", resource);`})})
	ok(t, err)
	r.nodes[0].server.Do.Policy = no
	p := got(r.pending(ref))(t)
	if p.Next != grant.NextDenied || len(p.Reasons) == 0 || p.Reasons[0] != "Nobody signs in by code here." {
		t.Errorf("next is %s %q", p.Next, p.Reasons)
	}
	got(r.answers(ref, true, ""))(t)
	r.expect("forbidden", 400, "authorization_pending", r.post("/oauth/token", r.poll(r.app, d)))
	r.denies(d) // no is always heard
	r.clock.move(5 * time.Second)
	r.expect("denied", 400, "access_denied", r.post("/oauth/token", r.poll(r.app, d)))
}

// Elevated scopes step up in the browser, and are in the token for as long as the
// proof is fresh.
func TestDeviceStepUp(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	r.clock.move(10 * time.Minute)
	d := r.device(r.app, "scope", "notes:read keys:rotate")
	ref := got(r.types(d.UserCode))(r)
	if p := got(r.answers(ref, true, ""))(r); p.Next != grant.NextStepUp || p.Ask.Rung != assurance.Phishing {
		t.Fatalf("next is %s for %v", p.Next, p.Ask)
	}
	r.prove(ref, false)
	r.clock.move(time.Minute)
	got(r.answers(ref, true, ""))(r)
	tok := r.tokens(r.post("/oauth/token", r.poll(r.app, d)))
	if tok.Scope != "notes:read keys:rotate" || tok.ExpiresIn != 240 {
		t.Errorf("the answer is %+v", tok)
	}
	r.best = assurance.Phishing
	d = r.device(r.app, "scope", "vault:open")
	r.signInAgain()
	if p := got(r.pending(got(r.types(d.UserCode))(r)))(r); p.Next != grant.NextImpossible {
		t.Errorf("what cannot be reached is %s", p.Next)
	}
}

// A third party's device: saying yes is the consent, which can be withdrawn.
func TestDeviceConsent(t *testing.T) {
	t.Parallel()
	engines(t, 1, func(r *rig) {
		d := r.device(r.plain)
		r.approves(d)
		tok := r.tokens(r.post("/oauth/token", r.poll(r.plain, d)))
		c := got(r.nodes[0].store.Consent(context.Background(), r.person.ID, r.plain.ID))(r)
		if strings.Join(c.Scopes, ",") != r.notes.ID+" notes:read,openid" {
			r.Errorf("agreed to %q", c.Scopes)
		}
		// Known by now, and asked all the same.
		d = r.device(r.plain)
		if p := got(r.pending(got(r.types(d.UserCode))(r)))(r); p.Next != grant.NextDevice || p.Remembered == nil {
			r.Errorf("next is %s", p.Next)
		}
		r.do(audit.ConsentWithdrawn, lineage.End{ID: c.ID, Why: "test"})
		if r.active(tok.AccessToken) {
			r.Error("active after the consent was withdrawn")
		}
	})
}

// An answer spends the claim of who gave it.
func TestDeviceAnswersAreSpentByTheAct(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	d := r.device(r.app)
	ref := got(r.types(d.UserCode))(r)
	key := got(r.nodes[0].server.deviceKey(context.Background(), *got(r.pending(ref))(r).Device))(r)
	got(r.answers(ref, true, ""))(r)
	if v := got(r.nodes[0].store.OnceValue(context.Background(), once.DeviceOpened, key))(r); v.UsedAt.IsZero() || v.UsedBy == "" {
		t.Errorf("the claim is %+v", v)
	}
	_, err := r.nodes[0].server.Do.Do(context.Background(), act.Intent{Action: policy.SandboxSeed, Kind: audit.Released, Refs: act.Refs{Kind: policy.KindSystem}, Spend: []once.Spend{{Purpose: once.DeviceOpened, Key: key}}})
	if _, used := act.Spent(err); !used {
		t.Errorf("spent twice: %v", err)
	}
}

// Whatever a device sends, the answer is codes or an error of RFC 6749 and RFC 8628.
func FuzzDeviceForm(f *testing.F) {
	r := onSQLite(f)
	for _, s := range []string{"", "client_id=app", "client_id=app&scope=openid+notes:read", "client_id=third&host=x", "a=%zz"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		r.clock.move(time.Minute) // so that none is one too many
		w, fine := r.direct("POST", devicePath, formType, body)
		if !fine {
			t.Fatalf("a plain error for %q", body)
		}
		code := answer{body: w.Body.String()}.code()
		switch {
		case w.Code == 200 && code == "" && strings.Contains(w.Body.String(), `"device_code":"cs_device_`):
		case w.Code >= 400 && w.Code < 500 && oauthCodes[code]:
		default:
			t.Fatalf("%d %s for %q", w.Code, w.Body, body)
		}
	})
}
