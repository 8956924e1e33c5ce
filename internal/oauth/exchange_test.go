package oauth

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/resource"
)

// actor is a client whose service exchanges tokens.
type actor struct {
	client.Client
	service client.Service
	secret  string
}

func (a actor) auth() option { return basic(a.ClientID, a.secret) }

// actor makes one that may do anything at the notes and the ledger, and serves the
// notes: it is shown their tokens.
func (r *rig) actor(edit ...func(*client.Client)) actor {
	r.Helper()
	r.ledgers()
	a := actor{service: client.Service{ID: id.New(id.Service), Subject: id.Random("svc_"), Name: "Hop", Owner: r.other.ID, Purpose: "tests", ReviewBy: start.AddDate(1, 0, 0)}}
	c := client.Client{
		Name: "Hop", ClientID: "hop", AuthMethod: client.AuthSecretBasic, GrantTypes: []client.GrantType{client.ClientCredentials, client.TokenExchange},
		Scopes: []string{"notes:read", "notes:write"}, Resources: []string{r.notes.ID, r.ledger.ID}, Service: a.service.ID,
	}
	r.serial++
	c.ID, c.ClientID = id.New(id.Client), id.New("hop-")
	a.secret = r.secretOf(&c)
	for _, f := range edit {
		f(&c)
	}
	a.Client = c
	r.do(audit.ClientCreated, client.Create{Client: c, NewService: &a.service})
	r.serves(&r.notes, c.ID)
	r.serves(&r.ledger, c.ID)
	return a
}

// ledgers makes the resource behind the notes, once.
func (r *rig) ledgers() {
	if r.ledger.ID != "" {
		return
	}
	r.ledger = resource.Resource{
		ID: id.New(id.Resource), URI: "https://ledger.example.com", Name: "Ledger", DelegationAware: true, Servers: []string{r.rs.ID},
		Scopes: []resource.Scope{{Name: "notes:read", Kind: "read"}, {Name: "notes:write", Kind: "change"}, {Name: "vault:open", Kind: "admin"}},
	}
	r.do(audit.ResourceCreated, resource.Create{Resource: r.ledger})
}

func (r *rig) serves(res *resource.Resource, clientID string) {
	res.Servers = append(slices.Clone(res.Servers), clientID)
	r.do(audit.ResourceUpdated, resource.Update{Resource: *res})
}

// swap is a good exchange of a token for one for the ledger.
func (r *rig) swap(token string, pairs ...string) url.Values {
	return change(form("grant_type", string(client.TokenExchange), "subject_token", token, "subject_token_type", typeAccessToken, "resource", r.ledger.URI), pairs...)
}

func (a actor) swap(r *rig, token string, pairs ...string) tokenResponse {
	r.Helper()
	return r.tokens(r.post("/oauth/token", r.swap(token, pairs...), a.auth()))
}

// reaching is a copy of a client that may use the ledger too.
func (r *rig) reaching(c client.Client, edit ...func(*client.Client)) client.Client {
	r.Helper()
	r.ledgers()
	return r.another(c, func(c *client.Client) {
		c.Resources = []string{r.notes.ID, r.ledger.ID}
		for _, f := range edit {
			f(c)
		}
	})
}

// grantedBoth gives tokens of a grant for the notes and the ledger; they are for
// the notes.
func (r *rig) grantedBoth(c client.Client, by *prover, scope string) tokenResponse {
	r.Helper()
	f := r.request(c, "scope", scope)
	f.Add("resource", r.ledger.URI)
	code := r.authorize(f, in(r.ses)).to(r).Query().Get("code")
	if code == "" {
		r.Fatal("no code")
	}
	if by != nil {
		return r.tokens(by.post("/oauth/token", r.redemption(c, code), r.auth(c)))
	}
	return r.tokens(r.post("/oauth/token", r.redemption(c, code), r.auth(c)))
}

func (r *rig) visitsOfExchange() map[string]func() *visit {
	return map[string]func() *visit{
		"exchange, of a person's token": r.visitOfDelegation, "exchange, of a service's token": r.visitOfChain,
	}
}

// exchangeSpoils are what can be wrong with any exchange.
func (r *rig) exchangeSpoils() map[string]func(*visit) {
	more := r.spoils()
	more["wrong client"] = func(v *visit) { // it is shown no tokens of the notes
		stranger := r.actor()
		r.notes.Servers = without(r.notes.Servers, []string{stranger.ID})
		r.do(audit.ResourceUpdated, resource.Update{Resource: r.notes})
		v.opts = []option{stranger.auth()}
	}
	more["wrong issuer"] = func(v *visit) {
		v.form.Set("subject_token", r.forged(v.form.Get("subject_token"), "https://other.example.com"))
	}
	more["forged"] = func(v *visit) { v.form.Set("subject_token", r.forged(v.form.Get("subject_token"), issuer)) }
	more["an ID token"] = func(v *visit) { v.form.Set("subject_token", r.granted(r.app).IDToken) }
	more["a foreign actor token"] = func(v *visit) {
		v.form.Set("actor_token_type", typeAccessToken)
		v.form.Set("actor_token", r.tokens(r.post("/oauth/token", form("grant_type", "client_credentials", "client_id", r.svc.ClientID, "client_secret", r.svcSecret))).AccessToken)
	}
	return more
}

// forged is a token like another one, of an issuer, signed by a key of its own.
func (r *rig) forged(token, iss string) string {
	r.Helper()
	c := r.claims(token)
	c.Issuer = iss
	s := got(jose.NewSigner(got(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(r), "ES256", keyID(token), jose.TypAccessToken))(r)
	return got(s.Sign(c))(r)
}

func (r *rig) visitOfDelegation() *visit {
	r.anew()
	app, hop := r.reaching(r.plain), r.actor()
	cns := r.consents(app)
	tok := r.grantedBoth(app, nil, "openid notes:read")
	leaf, _ := got2(stateOf{r.nodes[0].store}.Leaf(context.Background(), r.claims(tok.AccessToken).JTI))(r)
	return &visit{
		form: r.swap(tok.AccessToken), opts: []option{hop.auth()}, end: func(*visit) { r.clock.move(TokenLifetime) },
		gone: merge(r.of(app), map[string]string{"origin": app.ID, "client": hop.ID, "service": hop.service.ID, "owner": r.other.ID, "grant": leaf, "consent": cns}),
		none: every(noBrowser, "wrong browser"),
		more: merge(r.exchangeSpoils(), map[string]func(*visit){
			"wrong key": func(v *visit) { // the app exchanges its own bound token with another key
				by := r.prover()
				own := r.actor(func(c *client.Client) {
					c.GrantTypes = append(c.GrantTypes, client.AuthorizationCode)
					c.FirstParty, c.RedirectURIs = true, []string{"https://hop.example.com/cb"}
				})
				f := r.request(own.Client, "scope", "openid notes:read")
				f.Add("resource", r.ledger.URI)
				code := r.authorize(f, in(r.ses)).to(r).Query().Get("code")
				bound := r.tokens(by.post("/oauth/token", r.redemption(own.Client, code), own.auth())).AccessToken
				v.form.Set("subject_token", bound)
				v.opts, v.by = []option{own.auth()}, r.prover()
			},
		}),
	}
}

func (r *rig) visitOfChain() *visit {
	r.anew()
	first, hop := r.actor(), r.actor()
	tok := r.tokens(r.post("/oauth/token", form("grant_type", "client_credentials", "resource", r.notes.URI, "scope", "notes:read"), first.auth()))
	return &visit{
		form: r.swap(tok.AccessToken), opts: []option{hop.auth()}, end: func(*visit) { r.clock.move(TokenLifetime) },
		gone: map[string]string{"origin": first.ID, "first service": first.service.ID, "client": hop.ID, "service": hop.service.ID, "owner": r.other.ID},
		none: merge(every(noPerson, "person", "session", "grant", "consent", "device"), every(noBrowser, "wrong browser")),
		more: merge(r.exchangeSpoils(), map[string]func(*visit){
			"wrong key": func(v *visit) { // the actor token is bound to a key that is not shown
				p := r.prover()
				v.form.Set("actor_token_type", typeAccessToken)
				v.form.Set("actor_token", r.tokens(p.post("/oauth/token", form("grant_type", "client_credentials", "resource", r.notes.URI), hop.auth())).AccessToken)
			},
		}),
	}
}

func got2[T, U any](v T, u U, err error) func(testing.TB) (T, U) {
	return func(t testing.TB) (T, U) { t.Helper(); ok(t, err); return v, u }
}

// What an exchange gives, claim by claim, and what it writes.
func TestExchange(t *testing.T) {
	t.Parallel()
	engines(t, 1, func(r *rig) {
		app, hop, next := r.reaching(r.plain), r.actor(), r.actor()
		r.consents(app)
		tok := r.grantedBoth(app, nil, "openid notes:read notes:write")
		was := r.claims(tok.AccessToken)
		r.clock.move(time.Minute)
		a := r.post("/oauth/token", r.swap(tok.AccessToken), hop.auth())
		if m := a.json(r); m["issued_token_type"] != typeAccessToken || m["token_type"] != "Bearer" || m["scope"] != "notes:read notes:write" || m["refresh_token"] != nil || m["id_token"] != nil {
			r.Errorf("the answer: %s", a.body)
		}
		if a.header.Get("Cache-Control") != "no-store" {
			r.Error("the answer may be stored")
		}
		is := r.claims(r.tokens(a).AccessToken)
		switch {
		case is.Subject != was.Subject, is.ClientID != hop.ClientID, is.Audience[0] != r.ledger.URI, is.SessionID != "", is.JTI == was.JTI:
			r.Errorf("who and where: %+v", is)
		case is.ACR != was.ACR, is.AuthTime != was.AuthTime, !slices.Equal(is.AMR, was.AMR):
			r.Errorf("the sign-in is not as it was: %+v", is)
		case is.ExpiresAt > was.ExpiresAt:
			r.Errorf("it outlives what it was made from: %d, %d", is.ExpiresAt, was.ExpiresAt)
		case is.Depth != 1, is.Actor == nil, is.Actor.Subject != hop.service.Subject, is.Actor.Actor != nil, is.Delegation == "", !slices.Contains(is.Lineage, is.Delegation):
			r.Errorf("who acts: %+v %+v", is, is.Actor)
		case is.Assurance == nil, is.Assurance.Human.Present, is.Assurance.Human.Rung != 3, len(is.Assurance.Actors) != 1, is.Assurance.Actors[0].Rung != "m1":
			r.Errorf("asr: %+v", is.Assurance)
		}
		// Again: the same delegation, another token.
		again := r.claims(hop.swap(r, tok.AccessToken, "scope", "notes:read").AccessToken)
		if again.Delegation != is.Delegation || again.Scope != "notes:read" {
			r.Errorf("the second time: %+v", again)
		}
		// The next actor stands outside, and the chain stays within.
		two := r.claims(next.swap(r, r.tokens(a).AccessToken).AccessToken)
		if two.Depth != 2 || two.Actor.Subject != next.service.Subject || two.Actor.Actor.Subject != hop.service.Subject || two.Actor.Actor.Actor != nil || len(two.Assurance.Actors) != 2 {
			r.Errorf("the chain: %+v", two.Actor)
		}
		if two.ACR != was.ACR || two.AuthTime != was.AuthTime || two.ExpiresAt > is.ExpiresAt {
			r.Errorf("the second hop raises something: %+v", two)
		}
		r.introspected(hop, r.tokens(a).AccessToken)
	})
}

// introspected holds introspection to the claims of a token (mechanisms G11).
func (r *rig) introspected(by actor, token string) {
	r.Helper()
	m := r.post("/oauth/introspect", form("token", token), by.auth()).json(r)
	c := r.claims(token)
	act, _ := m["act"].(map[string]any)
	if m["active"] != true || act["sub"] != c.Actor.Subject || m["dlg"] != c.Delegation || m["depth"] != float64(c.Depth) || m["acr"] != c.ACR || m["asr"] == nil {
		r.Errorf("introspection: %v", m)
	}
	if a := r.get("/oauth/userinfo", with("Authorization", "Bearer "+token)); a.status != 403 {
		r.Errorf("userinfo tells an actor: %d %s", a.status, a.body)
	}
}

// Towards a resource that does not know act, a token says nothing of a sign-in;
// and what was left out once does not come back (mechanisms G4, G7).
func TestExchangeForTheUnaware(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	app, hop, next := r.reaching(r.plain), r.actor(), r.actor()
	r.consents(app)
	tok := r.grantedBoth(app, nil, "openid notes:read")
	is := hop.swap(r, tok.AccessToken, "resource", r.notes.URI) // the notes are not aware
	if c := r.claims(is.AccessToken); c.ACR != "" || c.AuthTime != 0 || c.AMR != nil || c.Assurance.Human != nil || c.Actor == nil {
		t.Errorf("an unaware resource is told of a sign-in: %+v %+v", c, c.Assurance)
	}
	if c := r.claims(next.swap(r, is.AccessToken).AccessToken); c.ACR != "" || c.AuthTime != 0 || c.Depth != 2 {
		t.Errorf("the sign-in came back: %+v", c)
	}
}

// Every part that can be ended, ended, ends what was exchanged, however deep; what
// hangs beside lives on (mechanisms C).
func TestExchangeDescends(t *testing.T) {
	t.Parallel()
	engines(t, 1, func(r *rig) {
		for _, what := range []string{"grant", "session", "person", "app", "first actor", "second actor", "its owner", "first delegation"} {
			r.anew()
			app, hop, next := r.reaching(r.plain), r.actor(), r.actor()
			r.consents(app)
			tok := r.grantedBoth(app, nil, "openid notes:read")
			one := hop.swap(r, tok.AccessToken).AccessToken
			two := next.swap(r, one).AccessToken
			leaf, nodes := got2(stateOf{r.nodes[0].store}.Leaf(context.Background(), r.claims(tok.AccessToken).JTI))(r)
			d := got(r.nodes[0].store.Delegation(context.Background(), leaf, hop.ID))(r)
			if !r.active(one) || !r.active(two) || len(nodes) == 0 {
				r.Fatal("not active at first")
			}
			r.end(map[string]string{
				"grant": leaf, "session": r.ses, "person": r.person.ID, "app": app.ID, "first actor": hop.ID, "second actor": next.ID,
				"its owner": r.other.ID, "first delegation": d.ID,
			}[what])
			if r.active(two) {
				r.Errorf("%s ended, and the second hop lives", what)
			}
			if lives := what == "second actor"; r.active(one) != lives {
				r.Errorf("%s ended, and the first hop is active: %v", what, !lives)
			}
			if beside := what != "grant" && what != "session" && what != "person" && what != "app"; r.active(tok.AccessToken) != beside {
				r.Errorf("%s ended, and the person's own token is active: %v", what, !beside)
			}
		}
	})
}

// An actor ends what it was given, and nobody else's; then it may be given it
// again.
func TestExchangeRevoked(t *testing.T) {
	t.Parallel()
	engines(t, 1, func(r *rig) {
		app, hop, next := r.reaching(r.plain), r.actor(), r.actor()
		r.consents(app)
		tok := r.grantedBoth(app, nil, "openid notes:read")
		one := hop.swap(r, tok.AccessToken).AccessToken
		two := next.swap(r, one).AccessToken
		r.expect("somebody else's", 200, "", r.post("/oauth/revoke", form("token", one), next.auth()))
		if !r.active(one) {
			r.Error("another actor ended it")
		}
		r.expect("its own", 200, "", r.post("/oauth/revoke", form("token", one), hop.auth()))
		if r.active(one) || r.active(two) || !r.active(tok.AccessToken) {
			r.Error("revoking did not end what hangs on it, or more")
		}
		if again := hop.swap(r, tok.AccessToken).AccessToken; !r.active(again) || r.active(one) {
			r.Error("after revoking, it cannot be given again")
		}
	})
}

// A bound token gives a bound one, to the key of who presents it.
func TestExchangeKeepsTheConstraint(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	app, hop := r.reaching(r.plain), r.actor()
	r.consents(app)
	user, machine := r.prover(), r.prover()
	tok := r.grantedBoth(app, user, "openid notes:read")
	r.expect("without a key", 400, "invalid_dpop_proof", r.post("/oauth/token", r.swap(tok.AccessToken), hop.auth()))
	a := machine.post("/oauth/token", r.swap(tok.AccessToken), hop.auth())
	if c := r.claims(r.tokens(a).AccessToken); c.Confirmation == nil || c.Confirmation.JKT != machine.jkt() || r.tokens(a).TokenType != "DPoP" {
		t.Errorf("bound to %+v", c.Confirmation)
	}
}

// Who may not exchange what: each with the control of one who may.
func TestExchangeRefused(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	app, hop, next := r.reaching(r.plain), r.actor(), r.actor()
	r.consents(app)
	tok := r.grantedBoth(app, nil, "openid notes:read").AccessToken
	one := hop.swap(r, tok).AccessToken
	mine := r.tokens(r.post("/oauth/token", form("grant_type", "client_credentials", "resource", r.notes.URI), hop.auth())).AccessToken
	only := r.granted(app).AccessToken // for the notes alone
	for _, c := range []struct {
		name   string
		form   url.Values
		by     actor
		status int
		code   string
	}{
		{"the control", r.swap(tok), hop, 200, ""},
		{"with its own actor token", r.swap(tok, "actor_token", mine, "actor_token_type", typeAccessToken), hop, 200, ""},
		{"by audience", r.swap(tok, "resource", "", "audience", r.ledger.URI), hop, 200, ""},
		{"in another spelling", r.swap(tok, "resource", "https://LEDGER.example.com/"), hop, 200, ""},
		{"a loop", r.swap(one), hop, 400, "invalid_request"},
		{"its own token", r.swap(mine), hop, 400, "invalid_request"},
		{"impersonation: the person's token as actor", r.swap(tok, "actor_token", tok, "actor_token_type", typeAccessToken), hop, 400, "invalid_request"},
		{"another's actor token", r.swap(tok, "actor_token", mine, "actor_token_type", typeAccessToken), next, 400, "invalid_request"},
		{"an exchanged token as actor", r.swap(tok, "actor_token", one, "actor_token_type", typeAccessToken), hop, 400, "invalid_request"},
		{"a resource beyond the grant", r.swap(only), hop, 400, "invalid_target"},
		{"resource and audience differ", r.swap(tok, "audience", r.notes.URI), hop, 400, "invalid_target"},
		{"a path below", r.swap(tok, "resource", r.ledger.URI+"/x"), hop, 400, "invalid_target"},
		{"a scope beyond the token", r.swap(tok, "scope", "notes:write"), hop, 400, "invalid_scope"},
		{"an identity scope", r.swap(tok, "scope", "openid"), hop, 400, "invalid_scope"},
		{"a scope of the target only", r.swap(tok, "scope", "vault:open"), hop, 400, "invalid_scope"},
		{"no subject token", r.swap(""), hop, 400, "invalid_request"},
		{"no type", r.swap(tok, "subject_token_type", ""), hop, 400, "invalid_request"},
		{"as an ID token", r.swap(tok, "subject_token_type", "urn:ietf:params:oauth:token-type:id_token"), hop, 400, "invalid_request"},
		{"for a refresh token", r.swap(tok, "requested_token_type", "urn:ietf:params:oauth:token-type:refresh_token"), hop, 400, "invalid_request"},
		{"an actor token without a type", r.swap(tok, "actor_token", mine), hop, 400, "invalid_request"},
		{"a type without an actor token", r.swap(tok, "actor_token_type", typeAccessToken), hop, 400, "invalid_request"},
		{"truncated", r.swap(tok[:len(tok)-4]), hop, 400, "invalid_request"},
		{"two audiences", url.Values{"grant_type": {string(client.TokenExchange)}, "subject_token": {tok}, "subject_token_type": {typeAccessToken}, "audience": {r.ledger.URI, r.notes.URI}}, hop, 400, "invalid_request"},
	} {
		r.expect(c.name, c.status, c.code, r.post("/oauth/token", c.form, c.by.auth()))
	}
	r.expect("without the grant type", 400, "unauthorized_client", r.post("/oauth/token", r.swap(tok), r.auth(r.web)))
	if !strings.Contains(r.log.String(), "is in the chain already") {
		t.Error("the log does not say why")
	}
}

// may_act says who alone may act, and it is enough (RFC 8693 §4.4).
func TestMayAct(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	chosen, other := r.actor(), r.actor()
	r.notes.Servers = without(r.notes.Servers, []string{chosen.ID}) // may_act alone entitles it
	r.do(audit.ResourceUpdated, resource.Update{Resource: r.notes})
	app := r.reaching(r.plain, func(c *client.Client) { c.MayAct = chosen.ClientID })
	r.consents(app)
	tok := r.grantedBoth(app, nil, "openid notes:read").AccessToken
	if c := r.claims(tok); c.MayAct == nil || c.MayAct.Subject != chosen.service.Subject {
		t.Fatalf("may_act is not said: %+v", c.MayAct)
	}
	r.expect("the one", 200, "", r.post("/oauth/token", r.swap(tok), chosen.auth()))
	r.expect("another, which serves the resource", 400, "invalid_request", r.post("/oauth/token", r.swap(tok), other.auth()))
	r.end(chosen.ID)
	r.expect("nobody, once the one has ended", 400, "invalid_request", r.post("/oauth/token", r.swap(tok), other.auth()))
}

// A chain ends at the limit of actors, or of ancestors, whichever is nearer.
func TestExchangeDepth(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	tok, depth := "", 0
	first := r.actor()
	tok = r.tokens(r.post("/oauth/token", form("grant_type", "client_credentials", "resource", r.notes.URI, "scope", "notes:read"), first.auth())).AccessToken
	for ; depth < 10; depth++ {
		a := r.post("/oauth/token", r.swap(tok), r.actor().auth())
		if a.status != 200 {
			r.expect("beyond the limit", 400, "invalid_request", a)
			break
		}
		tok = r.tokens(a).AccessToken
		if c := r.claims(tok); c.Depth != depth+1 || c.Depth != c.Actor.Depth() || len(c.Lineage) > lineage.MaxHandles {
			t.Errorf("depth %d: %+v", depth, c)
		}
	}
	if depth != grant.MaxActors {
		t.Errorf("a chain of %d actors", depth)
	}
}

// Exchanges at once, of one token, on two nodes: all succeed, and there is one
// delegation.
func TestExchangeTogether(t *testing.T) {
	t.Parallel()
	engines(t, 2, func(r *rig) {
		app, hop := r.reaching(r.plain), r.actor()
		r.consents(app)
		tok := r.grantedBoth(app, nil, "openid notes:read").AccessToken
		var mu sync.Mutex
		var wg sync.WaitGroup
		seen := map[string]bool{}
		for i := range 16 {
			wg.Go(func() {
				a := r.send(i%2, "POST", "/oauth/token", formType, strings.NewReader(r.swap(tok).Encode()), hop.auth())
				if a.status != 200 {
					r.Errorf("%d %s", a.status, a.body)
					return
				}
				c := r.claims(r.tokens(a).AccessToken)
				mu.Lock()
				defer mu.Unlock()
				seen[c.Delegation] = true
			})
		}
		wg.Wait()
		if len(seen) != 1 {
			r.Errorf("%d delegations of one token to one actor", len(seen))
		}
	})
}

// What ends while an exchange is between its reading and its writing is not
// exchanged: it is decided again on what is there then.
func TestExchangeRacesRevocation(t *testing.T) {
	t.Parallel()
	engines(t, 1, func(r *rig) {
		app, hop := r.reaching(r.plain), r.actor()
		r.consents(app)
		tok := r.grantedBoth(app, nil, "openid notes:read").AccessToken
		st := &pausing{Store: r.nodes[0].server.Do.Store}
		st.before = func() { r.nodes[0].server.Do.Store = st.Store; r.end(r.person.ID) }
		r.nodes[0].server.Do.Store = st
		r.expect("the person ended meanwhile", 400, "invalid_request", r.post("/oauth/token", r.swap(tok), hop.auth()))
	})
}

// pausing is a store that lets something happen before its first commit.
type pausing struct {
	act.Store
	before func()
	once   sync.Once
}

func (p *pausing) Commit(ctx context.Context, w act.Write) error {
	p.once.Do(p.before)
	return p.Store.Commit(ctx, w)
}

// Whatever is asked, by whomever, in whatever order: a token that an exchange gives
// says no more than the one it was made from, on any axis (mechanisms G7).
func TestExchangeNeverWidens(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	r.payingBoth()
	actors := []actor{r.actor(mayPay), r.actor(mayPay, func(c *client.Client) { c.Scopes = []string{"*"} }), r.actor(), r.actor(mayPay, func(c *client.Client) { c.Resources = []string{"*"} })}
	app, first := r.reaching(r.plain), r.actor(mayPay)
	r.consents(app)
	given, detailed := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		scope := rapid.SampledFrom([]string{"openid notes:read", "notes:read notes:write", "openid profile notes:write"}).Draw(rt, "scope")
		token := r.grantedBoth(app, nil, scope).AccessToken
		if rapid.Bool().Draw(rt, "a service's") {
			own := form("grant_type", "client_credentials", "resource", r.notes.URI, "scope", "notes:read", "authorization_details", `[{"type":"payment","amount":9,"to":"A"},{"type":"payment","amount":5,"to":"B"}]`)
			token = r.tokens(r.post("/oauth/token", own, first.auth())).AccessToken
		}
		for range rapid.IntRange(2, 9).Draw(rt, "hops") {
			by := rapid.SampledFrom(actors).Draw(rt, "by")
			f := r.swap(token, "resource", rapid.SampledFrom([]string{r.ledger.URI, r.notes.URI, r.foreign.URI, ""}).Draw(rt, "resource"),
				"scope", rapid.SampledFrom([]string{"", "", "notes:read", "notes:write", "notes:read notes:write", "openid", "vault:open"}).Draw(rt, "asked"))
			if rapid.IntRange(0, 4).Draw(rt, "details") == 0 {
				f.Set("authorization_details", rapid.SampledFrom([]string{
					`[{"type":"payment","amount":5,"to":"A"}]`, `[{"type":"payment","amount":5,"to":"B"}]`, `[{"type":"payment","amount":7,"to":"A"},{"type":"payment","amount":2,"to":"A"}]`, payOf("10"),
				}).Draw(rt, "fewer"))
			}
			r.clock.move(time.Duration(rapid.IntRange(0, 20).Draw(rt, "seconds")) * time.Second)
			a := r.post("/oauth/token", f, by.auth())
			if a.status != 200 {
				continue
			}
			next := r.tokens(a).AccessToken
			if why := wider(r.claims(next), r.claims(token)); why != "" {
				rt.Fatalf("%s: %+v from %+v", why, r.claims(next), r.claims(token))
			}
			if token, given = next, given+1; r.claims(next).AuthorizationDetails != nil {
				detailed++
			}
		}
	})
	if given < 50 || detailed < 10 { // the control
		t.Errorf("only %d exchanges were given, %d with details", given, detailed)
	}
}

// wider says in what a token says more than the one it was made from.
func wider(is, was *jose.AccessTokenClaims) string {
	scopes := strings.Fields(was.Scope)
	switch {
	case len(without(strings.Fields(is.Scope), scopes)) > 0:
		return "a scope more"
	case is.ExpiresAt > was.ExpiresAt:
		return "a longer life"
	case !narrowerDetails(is.AuthorizationDetails, was.AuthorizationDetails):
		return "details that are not narrower"
	case is.Subject != was.Subject:
		return "another subject"
	case is.ACR != "" && (is.ACR != was.ACR || is.AuthTime != was.AuthTime || !slices.Equal(is.AMR, was.AMR)):
		return "another sign-in"
	case is.ACR == "" && (is.AuthTime != 0 || is.AMR != nil):
		return "half a sign-in"
	case is.Depth != was.Depth+1 || is.Actor.Depth() != is.Depth:
		return "an actor is missing"
	case is.Actor.Actor.Depth() != was.Actor.Depth() || was.Actor != nil && is.Actor.Actor.Subject != was.Actor.Subject:
		return "another chain"
	case is.Assurance.Human != nil && is.Assurance.Human.Present:
		return "somebody is said to be there"
	case is.SessionID != "" || len(is.Audience) != 1:
		return "a session, or no one audience"
	case was.Confirmation != nil && is.Confirmation == nil:
		return "bearer from bound"
	case len(is.Lineage) <= 1:
		return "no lineage"
	}
	return ""
}

// narrowerDetails says whether no payment is made that the other does not cover, each
// by one of its own: by trying every way.
func narrowerDetails(is, was json.RawMessage) bool {
	type payment struct {
		To     string
		Amount float64
	}
	var a, b []payment
	if is != nil && json.Unmarshal(is, &a) != nil || was != nil && json.Unmarshal(was, &b) != nil {
		return false
	}
	var fit func(a, b []payment) bool
	fit = func(a, b []payment) bool {
		if len(a) == 0 {
			return true
		}
		for i, by := range b {
			if by.To == a[0].To && a[0].Amount <= by.Amount && fit(a[1:], slices.Delete(slices.Clone(b), i, i+1)) {
				return true
			}
		}
		return false
	}
	return fit(a, b)
}
