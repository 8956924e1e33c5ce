package oauth

import (
	"encoding/json"
	"testing"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/client"
	trusted "github.com/countersign-dev/countersign/internal/issuer"
	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/resource"
)

// payingBoth gives the ledger the type of the notes, too.
func (r *rig) payingBoth() {
	r.Helper()
	r.ledgers()
	r.paying()
	r.ledger.DetailsTypes = r.notes.DetailsTypes
	r.do(audit.ResourceUpdated, resource.Update{Resource: r.ledger})
	r.nodes[0].server.recent = recentRows{}
}

func mayPay(c *client.Client) { c.DetailsTypes = []string{"payment"} }

// paid is a code for an app that may pay, for details that the person agreed to.
func (r *rig) paid(c client.Client, details string, pairs ...string) string {
	r.Helper()
	f := r.request(c, append([]string{"scope", "", "authorization_details", details}, pairs...)...)
	f.Add("resource", r.ledger.URI)
	page, ref := r.authorize(f, in(r.ses)).page(r)
	if page != "consent" {
		r.Fatalf("not asked: %s", page)
	}
	r.agreeTo(ref)
	return r.resume(ref).param("code")
}

// said is what a token carries.
func (r *rig) said(tok tokenResponse) string {
	r.Helper()
	answer := string(got(json.Marshal(tok.Details))(r))
	carried := string(r.claims(tok.AccessToken).AuthorizationDetails)
	if carried == "" {
		carried = "null"
	}
	if answer != carried {
		r.Errorf("the answer says %s, the token %s", answer, carried)
	}
	return carried
}

func payOf(amount string) string { return `[{"amount":` + amount + `,"to":"A","type":"payment"}]` }

// An exchanged token carries what the one before it did, or less, as far as the
// actor's client, the target and, of a service's, the first client have the type.
func TestExchangeCarriesDetails(t *testing.T) {
	t.Parallel()
	engines(t, 1, func(r *rig) {
		r.payingBoth()
		app := r.reaching(r.plain, mayPay)
		hop, next, other := r.actor(mayPay), r.actor(mayPay), r.actor()
		tok := r.tokens(r.post("/oauth/token", r.redemption(app, r.paid(app, pay50))))
		whole := hop.swap(r, tok.AccessToken)
		if got := r.said(whole); got != payOf("50") || whole.Scope != "" {
			t.Errorf("exchanged: %s, scope %q", got, whole.Scope)
		}
		less := hop.swap(r, tok.AccessToken, "authorization_details", payOf("10"))
		if got := r.said(less); got != payOf("10") {
			t.Errorf("asked for less: %s", got)
		}
		if got := r.said(next.swap(r, less.AccessToken)); got != payOf("10") {
			t.Errorf("what was narrowed came back: %s", got)
		}
		for what, f := range map[string][]string{
			"more":             {"authorization_details", payOf("50.01")},
			"twice":            {"authorization_details", `[{"amount":1,"to":"A","type":"payment"},{"amount":1,"to":"A","type":"payment"}]`},
			"another type":     {"authorization_details", `[{"type":"x"}]`},
			"another form":     {"authorization_details", `[{"amount":1,"to":"A","type":"payment","x":1}]`},
			"malformed":        {"authorization_details", `{}`},
			"after narrowing":  {"authorization_details", payOf("11"), "subject_token", less.AccessToken},
			"of nothing there": {"authorization_details", payOf("1"), "subject_token", r.grantedBoth(r.reaching(r.app, mayPay), nil, "openid notes:read").AccessToken},
		} {
			r.expect(what, 400, "invalid_authorization_details", r.post("/oauth/token", r.swap(tok.AccessToken, f...), hop.auth()))
		}
		r.expect("a client without the type", 400, "invalid_scope", r.post("/oauth/token", r.swap(tok.AccessToken), other.auth()))
		r.expect("… that names it", 400, "invalid_authorization_details", r.post("/oauth/token", r.swap(tok.AccessToken, "authorization_details", pay50), other.auth()))

		// A service's own, of which the first client's registration is the limit.
		f := form("grant_type", "client_credentials", "resource", r.notes.URI, "scope", "notes:read", "authorization_details", pay50)
		own := r.tokens(r.post("/oauth/token", f, next.auth()))
		if got := r.said(hop.swap(r, own.AccessToken)); got != payOf("50") {
			t.Errorf("a service's: %s", got)
		}
		first := next.Client
		first.DetailsTypes = nil
		r.do(audit.ClientUpdated, client.Update{Client: first})
		if got := r.said(hop.swap(r, own.AccessToken)); got != "null" {
			t.Errorf("the first client's type was taken back: %s", got)
		}
		// A target whose type has another form is given nothing that has it not.
		r.ledger.DetailsTypes = []resource.DetailsType{{Name: "payment", Schema: json.RawMessage(`{"required":["iban"]}`), Template: "Pay"}}
		r.do(audit.ResourceUpdated, resource.Update{Resource: r.ledger})
		r.nodes[0].server.recent = recentRows{}
		r.expect("another form at the target", 400, "invalid_scope", r.post("/oauth/token", r.swap(tok.AccessToken), hop.auth()))
	})
}

// An assertion's details are given if its issuer is trusted for the type, or fewer.
func TestAssertionCarriesDetails(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	r.paying()
	may := func(s *trusted.Spec) { s.DetailsTypes = []string{"payment"}; s.Replay = trusted.SameClient }
	i, c, plain := r.idp(may), r.presenter(mayPay), r.presenter()
	says := func(i idp, c actor, details any, more ...func(map[string]any)) string {
		return i.says(r, jose.TypIDJAG, append([]func(map[string]any){set("client_id", c.ClientID), set("resource", r.notes.URI), set("authorization_details", details)}, more...)...)
	}
	list := json.RawMessage(pay50)
	again := says(i, c, list, set("scope", ""))
	for range 2 { // it may be presented again
		if tok := r.tokens(r.post("/oauth/token", presenting(again), c.auth())); r.said(tok) != payOf("50") || tok.Scope != "" {
			t.Errorf("%s, scope %q", r.said(tok), tok.Scope)
		}
	}
	if got := r.said(r.tokens(r.post("/oauth/token", presenting(again, "authorization_details", payOf("7")), c.auth()))); got != payOf("7") {
		t.Errorf("asked for less: %s", got)
	}
	if got := r.said(r.tokens(r.post("/oauth/token", presenting(i.says(r, "JWT", set("authorization_details", list))), c.auth()))); got != payOf("50") {
		t.Errorf("of a plain assertion: %s", got)
	}
	for what, a := range map[string]answer{
		"more":                         r.post("/oauth/token", presenting(says(i, c, list), "authorization_details", payOf("51")), c.auth()),
		"what it does not say":         r.post("/oauth/token", presenting(says(i, c, nil), "authorization_details", pay50), c.auth()),
		"an issuer without the type":   r.post("/oauth/token", presenting(says(r.idp(), c, list)), c.auth()),
		"a client without the type":    r.post("/oauth/token", presenting(says(i, plain, list)), plain.auth()),
		"a type of nobody":             r.post("/oauth/token", presenting(says(i, c, []any{map[string]any{"type": "x"}})), c.auth()),
		"another form":                 r.post("/oauth/token", presenting(says(i, c, []any{map[string]any{"type": "payment"}})), c.auth()),
		"a text":                       r.post("/oauth/token", presenting(says(i, c, pay50)), c.auth()),
		"null":                         r.post("/oauth/token", presenting(says(i, c, json.RawMessage("null"))), c.auth()),
		"for another resource, by uri": r.post("/oauth/token", presenting(says(i, c, json.RawMessage(`[{"type":"payment","amount":1,"to":"A","locations":["https://ledger.example.com"]}]`))), c.auth()),
	} {
		r.expect(what, 400, "invalid_authorization_details", a)
	}
}

// Details within a request object are JSON, pushed or not, and those beside it count
// for nothing (RFC 9101 §6.3, RFC 9396 §3).
func TestDetailsInARequestObject(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	r.paying()
	c := r.set(r.jwt, mayPay)
	object := r.signedRequest("scope", nil, "authorization_details", json.RawMessage(pay50))
	for how, a := range map[string]answer{
		"by the browser": r.authorize(form("client_id", "jwt", "request", object, "authorization_details", payOf("5000")), in(r.ses)),
		"pushed":         r.bring(c, r.pushed(c, form("request", object)), in(r.ses)),
	} {
		page, ref := a.page(t)
		if page != "consent" {
			t.Fatalf("%s: %s", how, page)
		}
		r.agreeTo(ref)
		code := r.resume(ref).param("code")
		if tok := r.tokens(r.post("/oauth/token", r.asserted(r.redemption(c, code)))); r.said(tok) != payOf("50") {
			t.Errorf("%s: %s", how, r.said(tok))
		}
	}
	bad := r.signedRequest("scope", nil, "authorization_details", json.RawMessage(`[{"type":"x"}]`))
	if q := r.redirected(r.authorize(form("client_id", "jwt", "request", bad), in(r.ses)), "https://jwt.example.com/cb?", "s t&ate=%"); q.Get("error") != "invalid_authorization_details" {
		t.Error(q)
	}
	r.expect("pushed and bad", 400, "invalid_authorization_details", r.push(c, form("request", bad)))
}

// Policy reads what every act about details is about: who pays too much is refused
// wherever a token with it would be given, and whoever pays less is not.
func TestPolicyReadsDetails(t *testing.T) {
	t.Parallel()
	engines(t, 1, func(r *rig) {
		r.payingBoth()
		app, hop, svc := r.reaching(r.plain, mayPay, func(c *client.Client) { c.GrantTypes = append(c.GrantTypes, client.RefreshToken) }), r.actor(mayPay), r.actor(mayPay)
		i, pre := r.idp(func(s *trusted.Spec) { s.DetailsTypes = []string{"payment"} }), r.presenter(mayPay)
		for _, amount := range []string{"999.99", "1000"} {
			r.nodes[0].server.Do.Policy = policy.Builtin()
			tok := r.tokens(r.post("/oauth/token", r.redemption(app, r.paid(app, payOf(amount)))))
			code := r.paid(app, payOf(amount))
			own := form("grant_type", "client_credentials", "resource", r.notes.URI, "scope", "notes:read", "authorization_details", payOf(amount))
			r.limited()
			page, _ := r.asks(app, "scope", "", "authorization_details", payOf(amount)).page(r)
			for what, a := range map[string]answer{
				"code":      r.post("/oauth/token", r.redemption(app, code)),
				"refresh":   r.refresh(app, tok.RefreshToken),
				"exchange":  r.post("/oauth/token", r.swap(tok.AccessToken), hop.auth()),
				"service":   r.post("/oauth/token", own, svc.auth()),
				"assertion": r.post("/oauth/token", presenting(i.says(r, "JWT", set("authorization_details", json.RawMessage(payOf(amount))))), pre.auth()),
			} {
				if fine := amount != "1000"; (a.status == 200) != fine {
					t.Errorf("%s of %s: %d %s", what, amount, a.status, a.body)
				}
			}
			if want := map[string]string{"999.99": "consent", "1000": "denied"}[amount]; page != want {
				t.Errorf("a request for %s goes to %s", amount, page)
			}
			if amount != "1000" {
				continue
			}
			narrowed := r.refresh(app, tok.RefreshToken, "authorization_details", payOf("20"))
			if narrowed.status != 200 {
				t.Errorf("a refresh that asks for little: %d %s", narrowed.status, narrowed.body)
			}
		}
	})
}

// limited puts a policy in force under which nobody pays a thousand or more.
func (r *rig) limited() {
	r.Helper()
	src := policy.Default()
	src.Files = append(src.Files, policy.File{Name: "pay.cedar", Text: `@id("pay.much") @reason("A payment of 1000 or more is made elsewhere.")
forbid (principal, action in [Action::"authorize", Action::"token.issue", Action::"token.refresh", Action::"token.exchange", Action::"token.assert"], resource)
when { context.details.types.contains("payment") && context.details.said.contains("payment amount>=1000") };
`})
	for _, n := range r.nodes {
		n.server.Do.Policy = got(policy.Compile(src))(r)
	}
}
