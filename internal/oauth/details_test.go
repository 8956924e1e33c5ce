package oauth

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/resource"
)

const schema = `{"type":"object","required":["type","amount","to"],"additionalProperties":false,"properties":{"type":{"const":"payment"},
"amount":{"type":"number"},"to":{"type":"string"},"locations":{"type":"array"}}}`

// paying gives the notes API a type of authorization details.
func (r *rig) paying() {
	r.Helper()
	r.notes.DetailsTypes = []resource.DetailsType{{Name: "payment", Schema: json.RawMessage(schema), Narrower: map[string]string{"amount": resource.AtMost}, Template: "Pay {amount} to {to}"}}
	ok(r, resource.Check(r.notes))
	r.do(audit.ResourceUpdated, resource.Update{Resource: r.notes})
	for _, n := range r.nodes {
		n.server.recent, n.server.types = recentRows{}, knownTypes{}
	}
}

// agreeTo is a person's yes to an interaction.
func (r *rig) agreeTo(ref string) {
	r.Helper()
	ses := got(r.nodes[0].store.Session(context.Background(), r.ses))(r)
	q := httptest.NewRequest("GET", "/", nil)
	p := got(r.nodes[0].server.Pending(httptest.NewRecorder(), q, ref, &ses))(r)
	if p.Next != grant.NextConsent || len(p.Shown) == 0 {
		r.Fatalf("nothing to agree to: %s %v", p.Next, p.Shown)
	}
	c := grant.Consent{ID: id.New("cns_"), Person: r.person.ID, Client: p.App.ID, Resources: p.Resources, At: r.clock.now(), Details: p.Details, For: For(ref)}
	if p.Remembered != nil {
		c.ID = p.Remembered.ID
	}
	r.do(audit.ConsentGiven, grant.Remember{Consent: c})
}

const pay50 = `[{"type":"payment","amount":50,"to":"A"}]`

// What was agreed to is in every answer about it, never more, and only narrower than
// it; each authorization is agreed to by itself.
func TestAuthorizationDetails(t *testing.T) {
	t.Parallel()
	engines(t, 1, func(r *rig) {
		r.paying()
		c := r.hosted("shop")
		c.DetailsTypes = []string{"payment"}
		c = r.registered(c)
		if got := got(json.Marshal(r.get("/.well-known/openid-configuration").json(t)["authorization_details_types_supported"]))(t); string(got) != `["payment"]` {
			t.Errorf("metadata says %s", got)
		}
		ask := func(pairs ...string) answer {
			return r.asks(c, append([]string{"scope", "", "resource", "", "authorization_details", pay50}, pairs...)...)
		}
		page, ref := ask().page(t)
		if page != "consent" {
			t.Fatalf("a first-party client is not asked about: %s", page)
		}
		r.agreeTo(ref)
		other, later := ask().page(t) // another interaction of the same client
		code := r.resume(ref).param("code")
		if code == "" {
			t.Fatal("no code after agreeing")
		}
		if other != "consent" || r.resume(later).param("code") != "" {
			t.Error("one agreement holds for another interaction")
		}
		if got := ask("prompt", "none").param("error"); got != "consent_required" {
			t.Errorf("prompt=none: %q", got)
		}
		f := r.redemption(c, code)
		if a := r.post("/oauth/token", change(f, "authorization_details", `[{"type":"payment","amount":51,"to":"A"}]`)); a.code() != "invalid_authorization_details" {
			t.Errorf("a code gives more: %d %s", a.status, a.body)
		}
		tok := r.tokens(r.post("/oauth/token", f))
		same := func(what string, v any, want string) {
			t.Helper()
			if text := got(json.Marshal(v))(t); string(text) != want {
				t.Errorf("%s: %s, want %s", what, text, want)
			}
		}
		const whole = `[{"amount":50,"to":"A","type":"payment"}]`
		same("the answer", tok.Details, whole)
		same("the token", r.claims(tok.AccessToken).AuthorizationDetails, whole)
		same("introspection", r.post("/oauth/introspect", form("token", tok.AccessToken), r.auth(r.rs)).json(t)["authorization_details"], whole)
		if len(r.claims(tok.AccessToken).Audience) != 1 || r.claims(tok.AccessToken).Audience[0] != r.notes.URI || tok.Scope != "" {
			t.Errorf("%+v", tok)
		}
		less := r.tokens(r.refresh(c, tok.RefreshToken, "authorization_details", `[{"type":"payment","amount":10,"to":"A"}]`))
		same("a narrower refresh", less.Details, `[{"amount":10,"to":"A","type":"payment"}]`)
		full := r.tokens(r.refresh(c, less.RefreshToken))
		same("the next refresh", full.Details, whole)
		for name, d := range map[string]string{
			"more": `[{"type":"payment","amount":50.01,"to":"A"}]`, "another": `[{"type":"payment","amount":1,"to":"B"}]`, "twice": `[{"type":"payment","amount":50,"to":"A"},{"type":"payment","amount":50,"to":"A"}]`,
			"unknown": `[{"type":"x"}]`, "malformed": `{}`, "another form": `[{"type":"payment","amount":1,"to":"A","x":1}]`,
		} {
			if a := r.refresh(c, full.RefreshToken, "authorization_details", d); a.status != 400 || a.code() != "invalid_authorization_details" {
				t.Errorf("a refresh with %s: %d %s", name, a.status, a.body)
			}
		}
		c.DetailsTypes = nil // taken back
		r.registered(c)
		if tok := r.tokens(r.refresh(c, full.RefreshToken)); tok.Details != nil || r.claims(tok.AccessToken).AuthorizationDetails != nil {
			t.Errorf("what was taken back is still given: %s", tok.Details)
		}
	})
}

func TestAuthorizationDetailsAreExact(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	r.paying()
	c := r.hosted("shop")
	c.DetailsTypes = []string{"payment", "other"}
	c = r.registered(c)
	for name, v := range map[string]struct{ details, want string }{
		"good":               {pay50, ""},
		"at its location":    {`[{"type":"payment","amount":1,"to":"A","locations":["https://notes.example.com/"]}]`, ""},
		"elsewhere":          {`[{"type":"payment","amount":1,"to":"A","locations":["https://bound.example.com/api"]}]`, "invalid_authorization_details"},
		"also elsewhere":     {`[{"type":"payment","amount":1,"to":"A","locations":["https://notes.example.com","https://evil.example"]}]`, "invalid_authorization_details"},
		"no list":            {`[{"type":"payment","amount":1,"to":"A","locations":"https://notes.example.com"}]`, "invalid_authorization_details"},
		"a type of nobody":   {`[{"type":"other"}]`, "invalid_authorization_details"},
		"one not registered": {`[{"type":"third"}]`, "invalid_authorization_details"},
		"a good and a bad":   {`[{"type":"payment","amount":1,"to":"A"},{"type":"other"}]`, "invalid_authorization_details"},
		"an unknown member":  {`[{"type":"payment","amount":1,"to":"A","admin":true}]`, "invalid_authorization_details"},
		"a missing member":   {`[{"type":"payment","amount":1}]`, "invalid_authorization_details"},
		"another kind":       {`[{"type":"payment","amount":"1","to":"A"}]`, "invalid_authorization_details"},
		"no JSON":            {`payment`, "invalid_authorization_details"},
		"a duplicate member": {`[{"type":"payment","amount":1,"amount":2,"to":"A"}]`, "invalid_authorization_details"},
		"too long":           {`[{"type":"payment","amount":1,"to":"` + strings.Repeat("A", resource.MaxDetailsBytes) + `"}]`, "invalid_authorization_details"},
	} {
		if got := r.asks(c, "authorization_details", v.details).param("error"); got != v.want {
			t.Errorf("%s: %q, want %q", name, got, v.want)
		}
	}
	// Pushed, and within a pushed request the same errors.
	f := change(r.request(c, "authorization_details", pay50), "client_id", c.ClientID)
	a := r.post("/oauth/par", f)
	where := r.authorize(form("client_id", c.ClientID, "request_uri", a.json(t)["request_uri"].(string)), in(r.ses)).to(t)
	if !strings.HasPrefix(where.Path, "/page/consent") {
		t.Errorf("pushed: %s", where)
	}
	if a := r.post("/oauth/par", change(f, "authorization_details", `[{"type":"third"}]`)); a.code() != "invalid_authorization_details" {
		t.Errorf("pushed and bad: %d %s", a.status, a.body)
	}
	// A service asks for itself.
	r.svc.DetailsTypes = []string{"payment"}
	r.do(audit.ClientUpdated, client.Update{Client: r.svc})
	r.nodes[0].server.recent = recentRows{}
	own := r.tokens(r.post("/oauth/token", form("grant_type", "client_credentials", "authorization_details", pay50), r.auth(r.svc)))
	if text := r.claims(own.AccessToken).AuthorizationDetails; string(text) != `[{"amount":50,"to":"A","type":"payment"}]` || len(own.Details) != 1 {
		t.Errorf("a service's: %s", text)
	}
	if a := r.post("/oauth/token", form("grant_type", "client_credentials", "authorization_details", `[{"type":"other"}]`), r.auth(r.svc)); a.code() != "invalid_authorization_details" {
		t.Errorf("a service's, unknown: %d %s", a.status, a.body)
	}
}

// What consent shows keeps the app's words apart from the operator's.
func TestDetailsAreShown(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	r.paying()
	c := r.hosted("shop")
	c.DetailsTypes, c.FirstParty = []string{"*"}, false
	c = r.registered(c)
	hostile := "</p><script>{amount}\u202e"
	text := got(json.Marshal([]map[string]any{{"type": "payment", "amount": 3, "to": hostile}}))(t)
	ref := got(url.Parse(r.asks(c, "authorization_details", string(text)).header.Get("Location")))(t).Query().Get("tx")
	ses := got(r.nodes[0].store.Session(t.Context(), r.ses))(t)
	p := got(r.nodes[0].server.Pending(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil), ref, &ses))(t)
	if len(p.Shown) != 1 || p.Shown[0].Resource != "Notes" || len(p.Shown[0].Said) != 4 || p.Shown[0].Said[3] != (resource.Part{Text: hostile, Supplied: true}) || len(p.Shown[0].Fields) != 2 {
		t.Errorf("%+v", p.Shown)
	}
}
