package oauth

import (
	"context"
	"crypto"
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

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/id"
	trusted "github.com/countersign-dev/countersign/internal/issuer"
	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/jwks"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/resource"
	"github.com/countersign-dev/countersign/internal/store"
)

// idp is a trusted issuer that this server knows, with its key.
type idp struct {
	trusted.Issuer
	key  crypto.Signer
	link trusted.Link
}

// idp makes one that is trusted for assertions of both kinds about the person.
func (r *rig) idp(edit ...func(*trusted.Spec)) idp {
	r.Helper()
	key := got(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(r)
	set := got(json.Marshal(&jose.JWKSet{Keys: []jose.JWK{{KeyID: "i1", Algorithm: "ES256", Key: key.Public()}}}))(r)
	i := idp{key: key, Issuer: trusted.Issuer{ID: id.New(id.Issuer), Spec: trusted.Spec{
		Issuer: "https://idp.example.com/" + strings.ToLower(rand.Text()), JWKS: set, Profiles: []string{trusted.JWTBearer, trusted.IDJAG},
		Resources: []string{r.notes.ID}, Scopes: []string{"notes:read", "notes:write", "keys:rotate"}, ACR: map[string]string{"strong": "phr", "two": "urn:countersign:acr:multi"},
	}}}
	for _, f := range edit {
		f(&i.Spec)
	}
	i.link = trusted.Link{ID: id.New(id.Link), Issuer: i.ID, Subject: "ext-1", Person: r.person.ID}
	r.do(audit.IssuerTrusted, trusted.Create{Issuer: i.Issuer})
	r.do(audit.IssuerLinked, trusted.Join{Link: i.link})
	return i
}

// says is an assertion of the issuer: good, but for what edit does to its claims.
func (i idp) says(r *rig, typ string, edit ...func(map[string]any)) string {
	r.Helper()
	now := r.clock.now()
	c := map[string]any{
		"iss": i.Spec.Issuer, "sub": "ext-1", "aud": issuer, "jti": rand.Text(), "iat": now.Unix(), "exp": now.Add(4 * time.Minute).Unix(),
		"acr": "strong", "amr": []string{"hwk", "user"}, "auth_time": now.Add(-time.Hour).Unix(),
	}
	for _, f := range edit {
		f(c)
	}
	for k, v := range c {
		if v == nil {
			delete(c, k)
		}
	}
	return got(got(jose.NewSigner(i.key, "ES256", "i1", typ))(r).Sign(c))(r)
}

func set(name string, v any) func(map[string]any) { return func(m map[string]any) { m[name] = v } }

// presenter is a client that may present assertions.
func (r *rig) presenter(edit ...func(*client.Client)) actor {
	r.Helper()
	a := actor{}
	c := client.Client{
		ID: id.New(id.Client), ClientID: id.New("pre-"), Name: "Presenter", AuthMethod: client.AuthSecretBasic, GrantTypes: []client.GrantType{client.JWTBearer},
		Scopes: []string{"notes:read", "notes:write", "keys:rotate"}, Resources: []string{r.notes.ID},
	}
	a.secret = r.secretOf(&c)
	for _, f := range edit {
		f(&c)
	}
	a.Client = c
	r.do(audit.ClientCreated, client.Create{Client: c})
	return a
}

func presenting(assertion string, pairs ...string) url.Values {
	return change(form("grant_type", string(client.JWTBearer), "assertion", assertion), pairs...)
}

func (r *rig) visitsOfAssertion() map[string]func() *visit {
	return map[string]func() *visit{
		"assertion, jwt-bearer": func() *visit { return r.visitWithAssertion(jose.TypGrantAssertion) },
		"assertion, id-jag":     func() *visit { return r.visitWithAssertion(jose.TypIDJAG) },
	}
}

func (r *rig) visitWithAssertion(typ string) *visit {
	r.anew()
	i, c := r.idp(), r.presenter()
	for_ := func(edit ...func(map[string]any)) string {
		return i.says(r, typ, append([]func(map[string]any){set("client_id", c.ClientID), set("resource", r.notes.URI)}, edit...)...)
	}
	spoilt := func(edit ...func(map[string]any)) func(*visit) {
		return func(v *visit) { v.form.Set("assertion", for_(edit...)) }
	}
	return &visit{
		form: presenting(for_()), opts: []option{c.auth()}, end: func(*visit) { r.clock.move(5 * time.Minute) },
		gone: map[string]string{"person": r.person.ID, "client": c.ID, "issuer": i.ID, "link": i.link.ID},
		none: merge(every(noService, "service"), every(notAnOwner, "owner"), every(noBrowser, "wrong browser"), every("it makes the grant", "grant"),
			every("nobody is signed in here", "session", "device"), every("the administrator's trust in the issuer stands in its place", "consent")),
		more: merge(r.spoils(), map[string]func(*visit){
			"wider scope":    func(v *visit) { v.form.Set("scope", "vault:open") }, // with others, it is cut to them
			"changed policy": func(*visit) { r.forbid("token.assert") },
			"wrong client":   func(v *visit) { v.opts = []option{r.presenter().auth()} },
			"wrong key":      spoilt(set("cnf", map[string]any{"jkt": r.prover().jkt()})),
			"wrong issuer":   spoilt(set("iss", "https://unknown.example.com")),
			"forged": func(v *visit) {
				i := i
				i.key = got(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(r)
				v.form.Set("assertion", i.says(r, typ, set("client_id", c.ClientID)))
			},
			"our own":          spoilt(set("iss", issuer)),
			"another issuer's": spoilt(set("iss", r.idp().Spec.Issuer)),
			"two audiences":    spoilt(set("aud", []string{issuer, "https://other.example.com"})),
			"other audience":   spoilt(set("aud", "https://other.example.com")),
			"token endpoint":   spoilt(set("aud", issuer+"/oauth/token")),
			"nobody here":      spoilt(set("sub", "ext-2")),
			"another tenant":   spoilt(set("tenant", "t2")),
			"no jti":           spoilt(set("jti", nil)),
			"no iat":           spoilt(set("iat", nil)),
			"no exp":           spoilt(set("exp", nil)),
			"too long a life":  spoilt(set("exp", r.clock.now().Add(time.Hour).Unix())),
			"of the future":    spoilt(set("iat", r.clock.now().Add(time.Minute).Unix())),
			"with an actor":    spoilt(set("act", map[string]any{"sub": "x"})),
			"of another type":  func(v *visit) { v.form.Set("assertion", i.says(r, jose.TypAccessToken, set("client_id", c.ClientID))) },
			"reused":           func(v *visit) { r.tokens(r.knock(v)) },
			"a link parted":    func(*visit) { r.do(audit.IssuerParted, trusted.Part{ID: i.link.ID}) },
			"issuer removed":   func(*visit) { r.do(audit.IssuerRemoved, trusted.Remove{ID: i.ID}) },
		}),
	}
}

// What an assertion gives, claim by claim.
func TestAssertion(t *testing.T) {
	t.Parallel()
	engines(t, 1, func(r *rig) {
		i, c := r.idp(), r.presenter()
		now := r.clock.now()
		a := r.post("/oauth/token", presenting(i.says(r, "JWT"), "scope", "notes:read"), c.auth())
		if m := a.json(r); m["refresh_token"] != nil || m["id_token"] != nil || m["scope"] != "notes:read" || m["issued_token_type"] != nil {
			r.Errorf("the answer: %s", a.body)
		}
		is := r.claims(r.tokens(a).AccessToken)
		switch {
		case is.Subject != r.person.Subject, is.ClientID != c.ClientID, is.Audience[0] != r.notes.URI, is.SessionID != "", is.Actor != nil:
			r.Errorf("who and where: %+v", is)
		case is.ACR != "phr", is.AuthTime != jose.Date(now.Add(-time.Hour)), !slices.Equal(is.AMR, []string{"hwk", "user"}):
			r.Errorf("the sign-in: %+v", is)
		case len(is.Lineage) != 5: // person, grant, client, issuer, link
			r.Errorf("lin: %v", is.Lineage)
		}
		if !r.active(r.tokens(a).AccessToken) {
			r.Error("not active")
		}
		// What the registration does not know is worth one factor, and not passed on;
		// a sign-in after it was said is as old as the assertion (mechanisms G9).
		for what, is := range map[string]*jose.AccessTokenClaims{
			"an unknown acr": r.claims(r.tokens(r.post("/oauth/token", presenting(i.says(r, "JWT", set("acr", "phrh"))), c.auth())).AccessToken),
			"no acr":         r.claims(r.tokens(r.post("/oauth/token", presenting(i.says(r, "", set("acr", nil))), c.auth())).AccessToken),
		} {
			if is.ACR != "" || is.AMR != nil || is.AuthTime != 0 {
				r.Errorf("%s: %+v", what, is)
			}
		}
		late := i.says(r, "JWT", set("auth_time", now.Add(5*time.Second).Unix()))
		if is := r.claims(r.tokens(r.post("/oauth/token", presenting(late), c.auth())).AccessToken); is.AuthTime != jose.Date(now) {
			r.Errorf("auth_time is %v, and the assertion of %v", is.AuthTime, now)
		}
		none := i.says(r, "JWT", set("auth_time", nil))
		if is := r.claims(r.tokens(r.post("/oauth/token", presenting(none), c.auth())).AccessToken); is.ACR != "phr" || is.AuthTime != jose.Date(time.Unix(0, 0)) {
			r.Errorf("without auth_time: %v %v", is.ACR, is.AuthTime)
		}
	})
}

// Each limit by itself: what is asked for, what the assertion says, what the issuer
// and the client are registered for.
func TestAssertionNarrows(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	i, c := r.idp(), r.presenter()
	for _, w := range []struct {
		name   string
		says   []func(map[string]any)
		asked  string
		scope  string // "" : refused
		client func(*client.Client)
		issuer func(*trusted.Spec)
	}{
		{name: "the resource's default", scope: "notes:read"},
		{name: "asked for", asked: "notes:write notes:read", scope: "notes:read notes:write"},
		{name: "said", says: []func(map[string]any){set("scope", "notes:write")}, scope: "notes:write"},
		{name: "more asked than said", says: []func(map[string]any){set("scope", "notes:read")}, asked: "notes:read notes:write", scope: "notes:read"},
		{name: "another asked than said", says: []func(map[string]any){set("scope", "notes:read")}, asked: "notes:write"},
		{name: "an empty scope said", says: []func(map[string]any){set("scope", "")}},
		{name: "conditional", asked: "keys:rotate"},
		{name: "beyond the client", asked: "notes:write", client: func(c *client.Client) { c.Scopes = []string{"notes:read"} }},
		{name: "beyond the issuer", asked: "notes:write", issuer: func(s *trusted.Spec) { s.Scopes = []string{"notes:read"} }},
		{name: "identity", asked: "openid"},
	} {
		i, c := i, c
		if w.client != nil {
			c = r.presenter(w.client)
		}
		if w.issuer != nil {
			i = r.idp(w.issuer)
		}
		a := r.post("/oauth/token", presenting(i.says(r, "JWT", w.says...), "scope", w.asked), c.auth())
		if w.scope == "" {
			r.expect(w.name, 400, "invalid_scope", a)
		} else if s := r.tokens(a).Scope; s != w.scope {
			t.Errorf("%s: %q", w.name, s)
		}
	}
	for name, w := range map[string]struct {
		claim  any
		asked  string
		status int
		code   string
	}{
		"claimed":              {r.notes.URI, "", 200, ""},
		"one in a list":        {[]string{r.notes.URI}, "", 200, ""},
		"one of a list":        {[]string{"https://nowhere.example", r.notes.URI + "/"}, r.notes.URI, 200, ""},
		"a list, none asked":   {[]string{r.notes.URI, r.bound.URI}, "", 400, "invalid_target"},
		"beside a list":        {[]string{r.foreign.URI, r.bound.URI}, r.notes.URI, 400, "invalid_target"},
		"an empty list":        {[]string{}, "", 400, "invalid_grant"},
		"claimed and asked":    {r.notes.URI, r.notes.URI, 200, ""},
		"asked in another way": {r.notes.URI, r.notes.URI + "/", 200, ""},
		"they differ":          {r.notes.URI, r.bound.URI, 400, "invalid_target"},
		"not the issuer's":     {r.bound.URI, "", 400, "invalid_target"},
		"unknown":              {"https://nowhere.example", "", 400, "invalid_target"},
	} {
		r.expect(name, w.status, w.code, r.post("/oauth/token", presenting(i.says(r, "JWT", set("resource", w.claim)), "resource", w.asked), c.auth()))
	}
}

// An assertion that names its key, or is bound by its presenter, stays so.
func TestAssertionKey(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	i, c := r.idp(), r.presenter()
	p := r.prover()
	a := p.post("/oauth/token", presenting(i.says(r, "JWT", set("cnf", map[string]any{"jkt": p.jkt()}))), c.auth())
	if is := r.claims(r.tokens(a).AccessToken); is.Confirmation == nil || is.Confirmation.JKT != p.jkt() {
		t.Errorf("bound to %+v", is.Confirmation)
	}
	r.expect("an unreadable cnf", 400, "invalid_grant", r.post("/oauth/token", presenting(i.says(r, "JWT", set("cnf", "x"))), c.auth()))
	r.expect("an empty cnf", 400, "invalid_grant", r.post("/oauth/token", presenting(i.says(r, "JWT", set("cnf", map[string]any{}))), c.auth()))
}

// An ID-JAG may come again only if the issuer's registration says so, from the same
// client and key, until it expires; and what it gives hangs on one grant.
func TestIDJAGAgain(t *testing.T) {
	t.Parallel()
	engines(t, 2, func(r *rig) {
		i, c := r.idp(func(s *trusted.Spec) { s.Replay = trusted.SameClient }), r.presenter()
		jag := i.says(r, jose.TypIDJAG, set("client_id", c.ClientID))
		first := r.claims(r.tokens(r.post("/oauth/token", presenting(jag), c.auth())).AccessToken)
		r.clock.move(time.Minute)
		again := r.post("/oauth/token", presenting(jag), c.auth())
		if is := r.claims(r.tokens(again).AccessToken); !slices.Equal(is.Lineage, first.Lineage) || is.AuthTime != first.AuthTime {
			r.Errorf("the second time: %+v", is)
		}
		p := r.prover()
		r.expect("with another key", 400, "invalid_grant", p.post("/oauth/token", presenting(jag), c.auth()))
		if !r.recorded(audit.AssertionReused) {
			r.Error("an assertion with another key raises no alarm")
		}
		plain := i.says(r, "JWT")
		r.tokens(r.post("/oauth/token", presenting(plain), c.auth()))
		r.expect("a plain one again", 400, "invalid_grant", r.post("/oauth/token", presenting(plain), c.auth()))
		r.end(i.link.ID)
		if r.active(r.tokens(again).AccessToken) {
			r.Error("what it gave lives although the link has ended")
		}
		r.clock.move(4 * time.Minute)
		r.expect("expired", 400, "invalid_grant", r.post("/oauth/token", presenting(jag), c.auth()))
	})
}

// recorded reports whether there is a record of a kind.
func (r *rig) recorded(kind audit.Kind) bool {
	r.Helper()
	rows, _ := got2(r.nodes[0].store.AuditPage(context.Background(), store.Filter{Kinds: []audit.Kind{kind}}, 1))(r)
	return len(rows) > 0
}

// One assertion, presented by many at once on two nodes: one succeeds.
func TestAssertionRace(t *testing.T) {
	t.Parallel()
	engines(t, 2, func(r *rig) {
		i, c := r.idp(), r.presenter()
		text := i.says(r, "JWT")
		var mu sync.Mutex
		var wg sync.WaitGroup
		won := 0
		for n := range 16 {
			wg.Go(func() {
				a := r.send(n%2, "POST", "/oauth/token", formType, strings.NewReader(presenting(text).Encode()), c.auth())
				mu.Lock()
				defer mu.Unlock()
				switch {
				case a.status == 200:
					won++
				case a.status != 400 || a.code() != "invalid_grant":
					r.Errorf("%d %s", a.status, a.body)
				}
			})
		}
		wg.Wait()
		if won != 1 {
			r.Errorf("%d tokens from one assertion", won)
		}
	})
}

// Who may present what, with the controls.
func TestAssertionRefused(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	i, c := r.idp(), r.presenter()
	only := r.idp(func(s *trusted.Spec) { s.Clients = []string{c.ID} })
	jag := r.idp(func(s *trusted.Spec) { s.Profiles = []string{trusted.IDJAG} })
	at := r.idp(func(s *trusted.Spec) { s.TokenEndpoint = true })
	rs := r.idp(func(s *trusted.Spec) { s.Algorithms = []string{"RS256"} })
	endpoint := set("aud", issuer+"/oauth/token")
	for _, w := range []struct {
		name   string
		text   string
		by     actor
		status int
		code   string
	}{
		{"the control", i.says(r, "JWT"), c, 200, ""},
		{"untyped", i.says(r, ""), c, 200, ""},
		{"a list of one audience", i.says(r, "JWT", set("aud", []string{issuer})), c, 200, ""},
		{"by the chosen client", only.says(r, "JWT"), c, 200, ""},
		{"by another", only.says(r, "JWT"), r.presenter(), 400, "invalid_grant"},
		{"a plain one of an ID-JAG issuer", jag.says(r, "JWT"), c, 400, "invalid_grant"},
		{"an ID-JAG of it", jag.says(r, jose.TypIDJAG, set("client_id", c.ClientID)), c, 200, ""},
		{"an ID-JAG for nobody", jag.says(r, jose.TypIDJAG), c, 400, "invalid_grant"},
		{"the token endpoint as audience", at.says(r, "JWT", endpoint), c, 200, ""},
		{"that of an ID-JAG", at.says(r, jose.TypIDJAG, endpoint, set("client_id", c.ClientID)), c, 400, "invalid_grant"},
		{"an algorithm not registered", rs.says(r, "JWT"), c, 400, "invalid_grant"},
		{"a client assertion", i.says(r, jose.TypClientAssertion), c, 400, "invalid_grant"},
		{"nothing", "", c, 400, "invalid_request"},
		{"garbage", "a.b.c", c, 400, "invalid_grant"},
		{"a long jti", i.says(r, "JWT", set("jti", strings.Repeat("x", 300))), c, 400, "invalid_grant"},
		{"a scope that is none", i.says(r, "JWT", set("scope", "a\"b")), c, 400, "invalid_grant"},
	} {
		r.expect(w.name, w.status, w.code, r.post("/oauth/token", presenting(w.text), w.by.auth()))
	}
	r.expect("another issuer's client", 400, "unauthorized_client", r.post("/oauth/token", presenting(i.says(r, "JWT")), r.auth(r.web)))
	if !r.recorded(audit.TokenRefused) {
		t.Error("a genuine assertion that was refused is not on record")
	}
}

// A token that came of an assertion is exchanged like another's.
func TestAssertionExchanged(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	i, c, hop := r.idp(), r.presenter(), r.actor()
	r.serves(&r.notes, c.ID)
	tok := r.tokens(r.post("/oauth/token", presenting(i.says(r, "JWT")), c.auth())).AccessToken
	next := hop.swap(r, tok, "resource", r.notes.URI).AccessToken
	if why := wider(r.claims(next), r.claims(tok)); why != "" {
		t.Error(why)
	}
	r.do(audit.IssuerRemoved, trusted.Remove{ID: i.ID})
	if r.active(next) {
		t.Error("the issuer is not trusted any more, and what was exchanged lives")
	}
	if n := got(r.nodes[0].store.Ancestors(context.Background(), i.ID))(r); n[0].Kind != lineage.Connection {
		t.Errorf("its node: %+v", n)
	}
}

// An issuer's keys may be where it publishes them: a new one is found at once, one
// that is gone is not used, and when they cannot be read the server says that, and
// does not blame the assertion.
func TestAssertionKeysByAddress(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	first, second := r.ecKey(), r.ecKey()
	p := r.publisher(map[string]crypto.Signer{"i1": first})
	r.nodes[0].server.Published = &jwks.Source{HTTP: p.Client(), Now: r.clock.now}
	i, c := r.idp(func(s *trusted.Spec) { s.JWKS, s.JWKSURI = nil, p.URL }), r.presenter()
	i.key = first
	r.expect("the key there", 200, "", r.post("/oauth/token", presenting(i.says(r, "JWT")), c.auth()))
	i.key = second
	r.expect("a key that is not", 400, "invalid_grant", r.post("/oauth/token", presenting(i.says(r, "JWT")), c.auth()))
	p.body.Store(nil)
	down := r.idp(func(s *trusted.Spec) { s.JWKS, s.JWKSURI = nil, p.URL+"/other" })
	r.expect("none to be had", 503, "temporarily_unavailable", r.post("/oauth/token", presenting(down.says(r, "JWT")), c.auth()))
}

// This server's own resource is not managed at another issuer's word, whatever is
// registered; and where policy asks for more than the issuer's word is worth, the
// client is told so.
func TestAssertionLimits(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	own := resource.Resource{ID: id.New(id.Resource), URI: issuer + "/v1", Name: "Itself", Scopes: []resource.Scope{{Name: "notes:read", Kind: "read", Default: true}}}
	r.do(audit.ResourceCreated, resource.Create{Resource: own})
	i := r.idp(func(s *trusted.Spec) { s.Resources = append(s.Resources, own.ID) })
	c := r.presenter(func(c *client.Client) { c.Resources = []string{"*"} })
	r.expect("the control", 200, "", r.post("/oauth/token", presenting(i.says(r, "JWT"), "resource", r.notes.URI), c.auth()))
	r.expect("this server", 400, "invalid_target", r.post("/oauth/token", presenting(i.says(r, "JWT"), "resource", own.URI), c.auth()))
	src := policy.Default()
	src.Files = append(src.Files, policy.File{Name: "x.cedar", Text: "@id(\"strong\") @reason(\"strong\") @public_reason(\"strong\")\nforbid (principal is Person, action == Action::\"token.assert\", resource) unless { context.assurance.rung >= 3 };\n"})
	r.nodes[0].server.Do.Policy = got(policy.Compile(src))(r)
	r.expect("strong enough", 200, "", r.post("/oauth/token", presenting(i.says(r, "JWT"), "resource", r.notes.URI), c.auth()))
	r.expect("not strong enough", 400, "insufficient_user_authentication", r.post("/oauth/token", presenting(i.says(r, "JWT", set("acr", "two")), "resource", r.notes.URI), c.auth()))
}

// What was signed before a restored deployment began anew may have been used since the
// backup, so it is not taken: a client's assertion, one that is a grant, a signed
// request. What can only have been signed since is.
func TestSignedBefore(t *testing.T) {
	t.Parallel()
	engines(t, 1, func(r *rig) {
		s := r.nodes[0].server
		i, c := r.idp(), r.presenter()
		key := r.ecKey()
		desk := r.desk(func(c *client.Client) {
			c.JWKS = json.RawMessage(`{"keys":[` + string(got(json.Marshal(jose.JWK{Key: key.Public()}))(r)) + `]}`)
		})
		by := func(iat, exp time.Time) url.Values {
			return change(form("grant_type", "client_credentials"), "client_assertion_type", assertionType, "client_assertion", r.assertion(func(c *jose.ClientAssertionClaims) {
				if c.IssuedAt, c.ExpiresAt = 0, jose.Date(exp); !iat.IsZero() {
					c.IssuedAt = jose.Date(iat)
				}
			}))
		}
		grants := func(typ string, at time.Time) url.Values {
			return presenting(i.says(r, typ, set("client_id", c.ClientID), set("resource", r.notes.URI), set("iat", at.Unix())))
		}
		asks := func(at time.Time) url.Values {
			m := map[string]any{
				"iss": desk.ClientID, "aud": issuer, "iat": at.Unix(), "nbf": at.Unix(), "exp": at.Unix() + 60, "jti": rand.Text(),
				"scope": "openid notes:read", "login_hint": "nobody " + rand.Text(), "binding_message": "W4SCT",
			}
			return form("client_id", desk.ClientID, "client_secret", deskSecret, "request", got(got(jose.NewSigner(key, jose.ES256, "", ""))(r).Sign(m))(r))
		}
		began := r.clock.now()
		old, ahead := began.Add(-20*time.Second), began.Add(assertionLeeway) // the latter by a clock that was ahead
		fresh, most := ahead.Add(time.Second), began.Add(jose.MaxAssertionLifetime)
		r.clock.move(assertionLeeway + 2*time.Second)
		try := func(lost bool) {
			r.Helper()
			for name, x := range map[string]struct {
				path  string
				f     url.Values
				opts  []option
				code  string
				fresh bool
			}{
				"a client's, old":           {path: "/oauth/token", f: by(old, old.Add(time.Minute)), code: "invalid_client"},
				"a client's, ahead":         {path: "/oauth/token", f: by(ahead, ahead.Add(time.Minute)), code: "invalid_client"},
				"a client's without iat":    {path: "/oauth/token", f: by(time.Time{}, most), code: "invalid_client"},
				"a client's, fresh":         {path: "/oauth/token", f: by(fresh, fresh.Add(time.Minute)), fresh: true},
				"a client's, never too old": {path: "/oauth/token", f: by(time.Time{}, most.Add(time.Second)), fresh: true},
				"jwt-bearer, old":           {path: "/oauth/token", f: grants(jose.TypGrantAssertion, old), opts: []option{c.auth()}, code: "invalid_grant"},
				"jwt-bearer, ahead":         {path: "/oauth/token", f: grants(jose.TypGrantAssertion, ahead), opts: []option{c.auth()}, code: "invalid_grant"},
				"jwt-bearer, fresh":         {path: "/oauth/token", f: grants(jose.TypGrantAssertion, fresh), opts: []option{c.auth()}, fresh: true},
				"id-jag, old":               {path: "/oauth/token", f: grants(jose.TypIDJAG, old), opts: []option{c.auth()}, code: "invalid_grant"},
				"id-jag, fresh":             {path: "/oauth/token", f: grants(jose.TypIDJAG, fresh), opts: []option{c.auth()}, fresh: true},
				"a request, old":            {path: backchannelPath, f: asks(old), code: "invalid_request"},
				"a request, fresh":          {path: backchannelPath, f: asks(fresh), fresh: true},
			} {
				a := r.post(x.path, x.f, x.opts...)
				switch {
				case !lost || x.fresh:
					if a.status != 200 {
						r.Errorf("%s, lost %t: %d %s", name, lost, a.status, a.body)
					}
				default:
					status := 400
					if x.code == "invalid_client" {
						status = 401
					}
					r.expect(name, status, x.code, a)
				}
			}
		}
		try(false) // positive control: each is good
		s.Since = began
		try(true)
	})
}
