package oauth

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"maps"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/secret"
)

// causes are the misfortunes that every grant is walked through. A grant that one
// of them cannot befall says why; leaving one out is a failure.
var causes = []string{
	"person", "client", "service", "owner", "session", "grant", "consent", "device",
	"changed policy", "wrong client", "wrong key", "wrong resource", "wrong issuer", "wrong browser",
}

// visit is one way through the token endpoint, ready to succeed.
type visit struct {
	form url.Values
	opts []option
	by   *prover                 // who proves possession of a key; nil: nobody
	gone map[string]string       // what can be switched off: its node
	more map[string]func(*visit) // what else can be wrong, among causes or not
	none map[string]string       // causes that cannot befall it, with the reason
	end  func(*visit)            // makes it expired
}

// knock visits.
func (r *rig) knock(v *visit) answer {
	r.Helper()
	if v.by != nil {
		return v.by.post("/oauth/token", v.form, v.opts...)
	}
	return r.post("/oauth/token", v.form, v.opts...)
}

// Reasons why a cause cannot befall a grant.
const (
	noBrowser  = "the token endpoint sees no browser; the interaction before is bound to one (TestInteractions)"
	noPerson   = "no person is in it"
	noService  = "no service is in it"
	notAnOwner = "the owner of an application answers for it, and is no ancestor: a colleague's leaving ends nobody's application"
)

func every(reason string, names ...string) map[string]string {
	out := map[string]string{}
	for _, n := range names {
		out[n] = reason
	}
	return out
}

func merge[V any](list ...map[string]V) map[string]V {
	out := map[string]V{}
	for _, m := range list {
		maps.Copy(out, m)
	}
	return out
}

// visits makes a fresh visit for each grant type and client kind; the walk fails
// if the server offers a grant that is not here, or a visit says nothing of a
// cause.
func (r *rig) visits() map[string]func() *visit {
	out := map[string]func() *visit{
		"authorization_code": r.visitWithCode, "refresh_token": r.visitWithRefresh, "client_credentials": r.visitOfMachine,
		string(client.DeviceCode): r.visitWithDevice, string(client.CIBA): r.visitWithBackchannel,
	}
	maps.Copy(out, r.visitsOfExchange())
	maps.Copy(out, r.visitsOfAssertion())
	return out
}

// consents remembers that the person allowed a client everything at its resources.
func (r *rig) consents(c client.Client) string {
	r.Helper()
	cns := grant.Consent{ID: id.New("cns_"), Person: r.person.ID, Client: c.ID, Resources: c.Resources, At: r.clock.now(), Scopes: []string{"openid", "profile"}}
	for _, res := range c.Resources {
		for _, sc := range c.Scopes {
			cns.Scopes = append(cns.Scopes, grant.Agreed(res, sc))
		}
	}
	r.do(audit.ConsentGiven, grant.Remember{Consent: cns})
	return cns.ID
}

// anew makes somebody who is not suspended, with everything new.
func (r *rig) anew() {
	r.Helper()
	r.seedAgain()
	r.ses = r.signIn(r.person, r.passkey, false)
}

// another is a copy of a client under a name of its own.
func (r *rig) another(c client.Client, edit func(*client.Client)) client.Client {
	r.Helper()
	r.serial++
	name, _, _ := strings.Cut(c.ClientID, "-")
	c.ID, c.ClientID = id.New(id.Client), fmt.Sprintf("%s-%d", name, r.serial)
	edit(&c)
	r.do(audit.ClientCreated, client.Create{Client: c})
	return c
}

// of is what a person's grant to a client hangs on.
func (r *rig) of(c client.Client) map[string]string {
	r.Helper()
	return map[string]string{
		"person": r.person.ID, "client": c.ID, "session": r.ses, "credential": r.passkey,
		"device": got(r.nodes[0].store.Session(context.Background(), r.ses))(r).Device,
	}
}

// spoils are what can be wrong with any visit of a public client.
func (r *rig) spoils() map[string]func(*visit) {
	return map[string]func(*visit){
		"changed policy": func(*visit) { r.forbid("token.issue", "token.refresh", "token.exchange") },
		"wrong client":   func(v *visit) { v.form.Set("client_id", "app") }, // the first of its name, still there
		"wrong resource": func(v *visit) { v.form.Set("resource", r.foreign.URI) },
		"unknown target": func(v *visit) { v.form.Set("resource", "https://nowhere.example") },
		"wider scope":    func(v *visit) { v.form.Set("scope", "notes:read vault:open") },
	}
}

// forbid puts policies in force that forbid actions; allow takes them back.
func (r *rig) forbid(actions ...string) {
	r.Helper()
	src := policy.Default()
	for _, a := range actions {
		src.Files = append(src.Files, policy.File{Name: a + ".cedar", Text: fmt.Sprintf("@id(%q) @reason(\"not today\")\nforbid (principal, action == Action::%q, resource);\n", "no."+a, a)})
	}
	for _, n := range r.nodes {
		n.server.Do.Policy = got(policy.Compile(src))(r)
	}
}

func (r *rig) allow() {
	for _, n := range r.nodes {
		n.server.Do.Policy = policy.Builtin()
	}
}

func (r *rig) visitWithCode() *visit {
	r.anew()
	cns := r.consents(r.plain)
	return &visit{
		form: r.redemption(r.plain, r.code(r.plain)), end: func(*visit) { r.clock.move(grant.CodeLifetime) },
		gone: merge(r.of(r.plain), map[string]string{"consent": cns}),
		none: merge(every(noService, "service"), every(notAnOwner, "owner"), every("it makes the grant", "grant"), every(noBrowser, "wrong browser")),
		more: merge(r.spoils(), map[string]func(*visit){
			"wrong verifier": func(v *visit) { v.form.Set("code_verifier", strings.Repeat("x", 43)) },
			"no verifier":    func(v *visit) { v.form.Del("code_verifier") },
			"wrong redirect": func(v *visit) { v.form.Set("redirect_uri", "https://third.example.com/cb2") },
			"wrong issuer":   func(v *visit) { v.form.Set("code", secret.New(secret.Code).Reveal()) }, // somebody else's code
			"wrong key": func(v *visit) {
				v.form.Set("code", r.code(r.plain, "dpop_jkt", r.prover().jkt()))
				v.by = r.prover()
			},
			"no key": func(v *visit) { v.form.Set("code", r.code(r.plain, "dpop_jkt", r.prover().jkt())) },
			"reused": func(v *visit) { r.tokens(r.knock(v)) },
		}),
	}
}

func (r *rig) visitWithRefresh() *visit {
	r.anew()
	app := r.another(r.plain, func(c *client.Client) { c.GrantTypes = append(c.GrantTypes[:1:1], client.RefreshToken) })
	cns := r.consents(app)
	tok := r.granted(app)
	fam, gr := r.familyOf(tok.RefreshToken)
	bound := func(*visit) (string, *prover) {
		p := r.prover()
		return r.tokens(p.post("/oauth/token", r.redemption(app, r.code(app)))).RefreshToken, p
	}
	return &visit{
		form: form("grant_type", "refresh_token", "client_id", app.ClientID, "refresh_token", tok.RefreshToken), end: func(*visit) { r.clock.move(grant.FamilyIdle) },
		gone: merge(r.of(app), map[string]string{"family": fam, "grant": gr, "consent": cns}),
		none: merge(every(noService, "service"), every(notAnOwner, "owner"), every(noBrowser, "wrong browser")),
		more: merge(r.spoils(), map[string]func(*visit){
			"reused": func(v *visit) {
				r.tokens(r.knock(v))
				r.clock.move(grant.WindowSameNetwork + time.Second)
			},
			"too old": func(v *visit) { r.clock.move(grant.FamilyLifetime) },
			"wrong key": func(v *visit) {
				text, _ := bound(v)
				v.form.Set("refresh_token", text)
				v.by = r.prover()
			},
			"no key": func(v *visit) {
				text, _ := bound(v)
				v.form.Set("refresh_token", text)
			},
			"wrong issuer": func(v *visit) { // genuine in every way but that another deployment made it
				v.form.Set("refresh_token", grant.FirstToken([16]byte{1}).Text(onSQLite(r.TB).nodes[0].server.Keys).Reveal())
			},
		}),
	}
}

func (r *rig) visitOfMachine() *visit {
	r.anew()
	signed := func(v *visit, edit func(*jose.ClientAssertionClaims), key crypto.Signer) {
		c := jose.ClientAssertionClaims{
			Issuer: "jwt", Subject: "jwt", Audience: jose.Audience{issuer}, JTI: rand.Text(), IssuedAt: jose.Date(r.clock.now()), ExpiresAt: jose.Date(r.clock.now().Add(time.Minute)),
		}
		edit(&c)
		s := got(jose.NewSigner(key, "ES256", "k1", jose.TypClientAssertion))(r)
		v.form = form("grant_type", "client_credentials", "client_assertion_type", assertionType, "client_assertion", got(s.Sign(c))(r))
	}
	more := r.spoils()
	more["wrong client"] = func(v *visit) { v.form.Set("client_id", "notes-api") }
	more["wrong key"] = func(v *visit) {
		signed(v, func(*jose.ClientAssertionClaims) {}, got(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(r))
	}
	more["wrong issuer"] = func(v *visit) {
		signed(v, func(c *jose.ClientAssertionClaims) { c.Audience = jose.Audience{"https://other.example.com"} }, r.jwtKey)
	}
	return &visit{
		form: form("grant_type", "client_credentials", "client_id", r.svc.ClientID, "client_secret", r.svcSecret),
		gone: map[string]string{"client": r.svc.ID, "service": r.service.ID, "owner": r.other.ID},
		none: merge(every(noPerson, "person", "session", "grant", "consent", "device"), every(noBrowser, "wrong browser")),
		more: more,
	}
}

// exact says what each misfortune is answered with: by grant where it differs.
func exact(name, why string) (status int, code string) {
	machine := name == "client_credentials"
	switch why {
	case "client": // the client itself is refused before anything else
		return 401, "invalid_client"
	case "wrong resource", "unknown target":
		return 400, "invalid_target"
	case "wider scope":
		return 400, "invalid_scope"
	case "no code":
		return 400, "invalid_request"
	case "no key":
		if name == string(client.DeviceCode) || name == string(client.CIBA) {
			return 400, "invalid_grant"
		}
	case "nobody asked":
		return 400, "authorization_pending"
	case "nobody in time":
		return 400, "expired_token"
	case "said no":
		return 400, "access_denied"
	case "polls at once":
		return 400, "slow_down"
	case "wrong client", "wrong key", "wrong issuer":
		if machine { // it presents nothing but itself
			return 401, "invalid_client"
		}
	case "service", "owner", "changed policy":
		if machine {
			return 400, "unauthorized_client"
		}
	}
	if strings.HasPrefix(name, "exchange") { // RFC 8693 §2.2.2
		return 400, "invalid_request"
	}
	return 400, "invalid_grant"
}

// Every grant on offer × everything that can be switched off or be wrong: the
// exact error, and before that the same visit succeeds (the control). Grants are
// the server's own list, causes the walk's, and each cell is filled or has its
// reason.
func TestEveryGrantAndEverySwitch(t *testing.T) {
	t.Parallel()
	engines(t, 1, func(r *rig) {
		walked := map[string]bool{}
		for name, make := range r.visits() {
			v := make()
			walked[v.form.Get("grant_type")] = true
			for _, cause := range causes {
				_, off := v.gone[cause]
				_, spoilt := v.more[cause]
				if _, no := v.none[cause]; off == spoilt && spoilt == no || off && spoilt || (off || spoilt) && no {
					r.Errorf("%s: the cause %q has to be in gone, in more or, with a reason, in none", name, cause)
				}
			}
			r.expect(name, 200, "", r.knock(v))
			r.walkOff(name, v.gone, make)
			r.walkSpoilt(name, v.more, make)
			if v := make(); v.end != nil {
				v.end(v)
				_, code := exact(name, "expired")
				r.expect(name+", expired", 400, code, r.knock(v))
			}
		}
		for _, g := range grants {
			if !walked[string(g.name)] {
				r.Errorf("the walk does not know the grant %s", g.name)
			}
		}
	})
}

func (r *rig) walkOff(name string, gone map[string]string, make func() *visit) {
	r.Helper()
	for what := range gone {
		for how, stop := range map[string]func(string){"ended": r.end, "frozen": r.freeze} {
			v := make()
			stop(v.gone[what])
			status, code := exact(name, what)
			r.expect(name+", "+what+" "+how, status, code, r.knock(v))
			if how == "frozen" { // thawed, the same request works: nothing was consumed
				r.do(audit.GrantEnded, lineage.Thaw{ID: v.gone[what]})
				r.expect(name+", "+what+" thawed", 200, "", r.knock(v))
			}
		}
	}
}

func (r *rig) walkSpoilt(name string, more map[string]func(*visit), make func() *visit) {
	r.Helper()
	for why := range more {
		v := make()
		v.more[why](v)
		status, code := exact(name, why)
		r.expect(name+", "+why, status, code, r.knock(v))
		if r.allow(); why == "changed policy" { // put back, the same request works
			r.expect(name+", the policy put back", 200, "", r.knock(v))
		}
	}
}

// The same switches turn what was issued off, at introspection and userinfo.
func TestEverySwitchEndsWhatWasIssued(t *testing.T) {
	t.Parallel()
	engines(t, 1, func(r *rig) {
		for name, make := range r.visits() {
			for what := range make().gone {
				v := make()
				tok := r.tokens(r.knock(v))
				if !r.active(tok.AccessToken) {
					r.Fatalf("%s: not active at first", name)
				}
				r.freeze(v.gone[what])
				if r.active(tok.AccessToken) {
					r.Errorf("%s: active although its %s is frozen", name, what)
				}
				if strings.Contains(tok.Scope, "openid") {
					if a := r.get("/oauth/userinfo", with("Authorization", "Bearer "+tok.AccessToken)); a.status != 401 {
						r.Errorf("%s: userinfo answers %d although the %s is frozen", name, a.status, what)
					}
				}
				r.do(audit.GrantEnded, lineage.Thaw{ID: v.gone[what]})
				if !r.active(tok.AccessToken) {
					r.Errorf("%s: inactive after the %s was thawed", name, what)
				}
			}
		}
	})
}
