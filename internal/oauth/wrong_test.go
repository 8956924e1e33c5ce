package oauth

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/grant"
	trusted "github.com/countersign-dev/countersign/internal/issuer"
	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/profile"
	"github.com/countersign-dev/countersign/internal/risk"
)

// failing is a way to fail, with what does not: both against the same account.
type failing struct {
	whose string
	wrong func()
	right func()
}

// failings are every way to fail here. Each is made ready when it is asked for.
func (r *rig) failings() map[act.Way]func() failing {
	person := func(wrong, right func()) failing { return failing{r.person.ID, wrong, right} }
	return map[act.Way]func() failing{
		act.WaySecret: func() failing {
			f := form("grant_type", "client_credentials", "client_id", r.svc.ClientID, "scope", "notes:read")
			return failing{
				r.svc.Service,
				func() {
					r.expect("a secret", 401, "invalid_client", r.post("/oauth/token", change(f, "client_secret", "x")))
				},
				func() { r.expect("a secret", 200, "", r.post("/oauth/token", change(f, "client_secret", r.svcSecret))) },
			}
		},
		act.WayAssertion: func() failing {
			says := func(edit func(*jose.ClientAssertionClaims)) answer {
				return r.post("/oauth/token", form("grant_type", "client_credentials", "scope", "notes:read", "client_assertion_type", assertionType, "client_assertion", r.assertion(edit)))
			}
			return failing{
				r.jwt.Service,
				func() {
					r.expect("an assertion", 401, "invalid_client", says(func(c *jose.ClientAssertionClaims) { c.Audience = jose.Audience{"https://x.example.com"} }))
				},
				func() { r.expect("an assertion", 200, "", says(func(*jose.ClientAssertionClaims) {})) },
			}
		},
		act.WayCertificate: func() failing {
			a := r.authority("ours")
			s := r.mutual(a.pool())[0]
			own, other := a.issue(func(*x509.Certificate) {}), a.issue(func(c *x509.Certificate) { c.Subject.CommonName = "other" })
			c := r.certified("robot", named("CN=billing,O=Example\\, Inc."))
			f := form("grant_type", "client_credentials", "client_id", c.ClientID)
			return failing{
				c.Service,
				func() { r.expect("a certificate", 401, "invalid_client", r.shown(s, &other, "/oauth/token", f)) },
				func() { r.expect("a certificate", 200, "", r.shown(s, &own, "/oauth/token", f)) },
			}
		},
		act.WayAuthorization: func() failing {
			f := r.redemption(r.web, r.code(r.web))
			return person(
				func() {
					r.expect("a code", 400, "invalid_grant", r.post("/oauth/token", change(f, "code_verifier", strings.Repeat("w", 43)), r.auth(r.web)))
				},
				func() { r.tokens(r.post("/oauth/token", f, r.auth(r.web))) },
			)
		},
		act.WayRefresh: func() failing {
			by := r.prover()
			tok := r.tokens(by.post("/oauth/token", r.redemption(r.first, r.code(r.first))))
			f := form("grant_type", "refresh_token", "refresh_token", tok.RefreshToken, "client_id", r.first.ClientID)
			return person(
				func() { r.expect("a refresh token", 400, "invalid_grant", r.prover().post("/oauth/token", f)) },
				func() { r.tokens(by.post("/oauth/token", f)) },
			)
		},
		act.WayToken: func() failing {
			by := r.prover()
			text := r.tokens(by.post("/oauth/token", r.redemption(r.first, r.code(r.first)))).AccessToken
			ask := func(p *prover) answer {
				return p.send("GET", "/oauth/userinfo", form(), text, with("Authorization", "DPoP "+text))
			}
			return person(
				func() { r.expect("a token", 401, "", ask(r.prover())) },
				func() { r.expect("a token", 200, "", ask(by)) },
			)
		},
		act.WaySubject: func() failing {
			r.ledgers()
			by := r.prover()
			own := r.actor(func(c *client.Client) {
				c.GrantTypes = append(c.GrantTypes, client.AuthorizationCode)
				c.FirstParty, c.RedirectURIs = true, []string{"https://hop.example.com/cb"}
			})
			f := r.request(own.Client, "scope", "openid notes:read")
			f.Add("resource", r.ledger.URI)
			code := r.authorize(f, in(r.ses)).to(r).Query().Get("code")
			swap := r.swap(r.tokens(by.post("/oauth/token", r.redemption(own.Client, code), own.auth())).AccessToken)
			return person(
				func() {
					r.expect("a subject token", 400, "invalid_request", r.prover().post("/oauth/token", swap, own.auth()))
				},
				func() { r.tokens(by.post("/oauth/token", swap, own.auth())) },
			)
		},
		act.WayVouched: func() failing {
			i, c := r.idp(func(s *trusted.Spec) { s.Replay = trusted.SameClient }), r.presenter()
			by := r.prover()
			jag := presenting(i.says(r, jose.TypIDJAG, set("client_id", c.ClientID), set("cnf", map[string]any{"jkt": by.jkt()})))
			return person(
				func() { r.expect("an assertion", 400, "invalid_grant", r.prover().post("/oauth/token", jag, c.auth())) },
				func() { r.tokens(by.post("/oauth/token", jag, c.auth())) },
			)
		},
		act.WayNumber: func() failing {
			b := r.askedFor(r.askFor(r.desk(func(c *client.Client) { c.NumberMatching = true })))
			ref := r.looks()
			r.prove(ref, false)
			return person(
				func() { _, err := r.says(ref, grant.Allow, "x"+b.Number); r.codeOf(err, "number_wrong") },
				func() { got(r.says(ref, grant.Allow, b.Number))(r) },
			)
		},
		act.WayUserCode: func() failing {
			d := r.device(r.plain)
			return person(
				func() { _, err := r.types("BCDF-GHJK"); r.codeOf(err, "user_code_unknown") },
				func() { got(r.types(d.UserCode))(r) },
			)
		},
	}
}

// TestWrongProofs walks every way to fail there is: each is remembered once, of whom it
// claimed to be, in what comes from the same network and nowhere else, by every process
// once the actor did something; what is right is not.
func TestWrongProofs(t *testing.T) {
	t.Parallel()
	engines(t, 1, func(r *rig) {
		n := r.nodes[0]
		p := &profile.Profiles{Store: n.store, Settings: risk.Default()}
		n.server.Do.Risk = p
		var ways []act.Way
		n.server.Do.Wrong = func(w act.Way) { ways = append(ways, w) }
		says := func(by *profile.Profiles, whose, network string) (words string) {
			a := got(by.Score(context.Background(), whose, act.Origin{Asked: true, Network: network}, r.clock.now()))(r)
			for _, x := range a.Terms {
				if x.Signal == risk.Failures {
					words = x.Words
				}
			}
			return words
		}
		make, i := r.failings(), 0
		for w, where := range act.Ways {
			if where != "oauth" {
				continue
			}
			i++
			if make[w] == nil {
				r.Errorf("%s: nobody fails so here", w)
				continue
			}
			f := make[w]()
			r.addr = netip.MustParseAddr(fmt.Sprintf("203.0.%d.7", i))
			here := grant.NetworkOf(r.addr)
			for range 3 { // with the fourth it is told
				p.Miss(f.whose, here, r.clock.now())
			}
			ways = nil
			if f.wrong(); !slices.Equal(ways, []act.Way{w}) {
				r.Errorf("%s: it is remembered as %v", w, ways)
			}
			want := "4 proofs of this account were wrong in the last hour, from the same network."
			if words := says(p, f.whose, here); words != want {
				r.Errorf("%s: %q", w, words)
			}
			if words := says(p, f.whose, "198.51.100.0/24"); words != "" {
				r.Errorf("%s, at home: %q", w, words)
			}
			if p.Keep(f.whose, r.clock.now().Add(time.Duration(i)*time.Hour)) == nil {
				r.Errorf("%s: it is not kept", w)
			}
			ways = nil
			if f.right(); ways != nil {
				r.Errorf("%s: what is right is remembered as %v", w, ways)
			}
		}
		if i != len(make) {
			r.Errorf("%d ways are walked, and there are %d", len(make), i)
		}
	})
}

// TestWrongSecretsAnywhere: wherever clients authenticate, a wrong secret is remembered
// once; what presents nothing, or is nobody's, moves nobody's score.
func TestWrongSecretsAnywhere(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	s := r.nodes[0].server
	p := &profile.Profiles{Store: r.nodes[0].store, Settings: risk.Default()}
	s.Do.Risk = p
	n := 0
	s.Do.Wrong = func(w act.Way) {
		if n++; w != act.WaySecret {
			r.Errorf("remembered as %s", w)
		}
	}
	doc := r.get("/.well-known/oauth-authorization-server").json(t)
	for _, name := range aliased {
		path, _ := strings.CutPrefix(asString(doc[name]), issuer)
		if name == "userinfo_endpoint" { // it asks for a token, not for a client
			continue
		}
		for _, tc := range []struct {
			what string
			f    []string
			want int
		}{
			{"wrong", []string{"client_id", r.svc.ClientID, "client_secret", "x"}, 1},
			{"nobody's", []string{"client_id", "nobody", "client_secret", "x"}, 1},
			{"none", []string{"client_id", r.svc.ClientID}, 0},
			{"nobody, with nothing", []string{"client_id", "nobody"}, 0},
			{"of one that has none", []string{"client_id", r.app.ClientID, "client_secret", "x"}, 1},
		} {
			n = 0
			r.expect(name+" "+tc.what, 401, "invalid_client", r.post(path, form(tc.f...)))
			if n != tc.want {
				r.Errorf("%s, %s: remembered %d times", name, tc.what, n)
			}
		}
	}
	// Who asks for decisions authenticates in the same way.
	n = 0
	_, q := r.visit()
	q.SetBasicAuth(r.rs.ClientID, "x")
	if _, err := s.ServerClient(q); err == nil || n != 1 {
		r.Errorf("a resource server: %v, remembered %d times", err, n)
	}
	// Three accounts failed from here: their apps, and one of nobody's. The rest of the
	// deployment sees it, from here alone.
	for net, want := range map[string]int{grant.NetworkOf(r.addr): 1, "192.0.2.0/24": 0} {
		a := got(p.Score(t.Context(), r.person.ID, act.Origin{Asked: true, Network: net}, r.clock.now()))(r)
		if got := len(a.Terms); got != want || want == 1 && a.Terms[0].Signal != risk.NetworkAttacks {
			r.Errorf("from %s: %+v", net, a.Terms)
		}
	}
}

// TestClocksAreNoWrongProofs: a client whose clock is wrong signs with its own key. It is
// refused, and nobody's score moves: three of them would else be an attack from their network.
func TestClocksAreNoWrongProofs(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	s := r.nodes[0].server
	n := 0
	s.Do.Wrong = func(act.Way) { n++ }
	says := func(what string, want int, edit func(*jose.ClientAssertionClaims)) {
		t.Helper()
		n = 0
		text := r.assertion(edit)
		r.expect(what, 401, "invalid_client", r.post("/oauth/token", form("grant_type", "client_credentials", "scope", "notes:read", "client_assertion_type", assertionType, "client_assertion", text)))
		if n != want {
			t.Errorf("%s: remembered %d times", what, n)
		}
	}
	at := func(d time.Duration) func(*jose.ClientAssertionClaims) {
		return func(c *jose.ClientAssertionClaims) {
			c.IssuedAt, c.ExpiresAt = jose.Date(r.clock.now().Add(d)), jose.Date(r.clock.now().Add(d+time.Minute))
		}
	}
	says("a clock that is slow", 0, at(-5*time.Minute))
	says("a clock that is fast", 0, at(3*time.Minute))
	says("… by more than an assertion may last", 0, at(time.Hour))
	says("for another server", 1, func(c *jose.ClientAssertionClaims) { c.Audience = jose.Audience{"https://x.example.com"} })
	r.jwtKey = r.ecKey()
	says("of another key, and slow", 1, at(-5*time.Minute))
}

// TestStrangersLockNoServiceOut: whoever sends wrong secrets in a service's name, and in
// all others', from where they are, has no effect on it where it is.
func TestStrangersLockNoServiceOut(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	n := r.nodes[0]
	p := &profile.Profiles{Store: n.store, Settings: risk.Default()}
	n.server.Do.Risk = p
	home, away := r.addr, netip.MustParseAddr("203.0.113.9")
	f := form("grant_type", "client_credentials", "client_id", r.svc.ClientID, "scope", "notes:read")
	for range 40 { // ten days
		r.clock.move(6 * time.Hour)
		r.tokens(r.post("/oauth/token", change(f, "client_secret", r.svcSecret)))
	}
	before := got(p.Store.Profile(t.Context(), r.svc.Service))(r)
	r.addr = away
	for i := range 200 {
		id := []string{r.svc.ClientID, r.web.ClientID, r.jwt.ClientID, r.rs.ClientID, fmt.Sprint("x", i)}[i%5]
		r.expect("a guess", 401, "invalid_client", r.post("/oauth/token", change(f, "client_id", id, "client_secret", "x")))
	}
	if after := got(p.Store.Profile(t.Context(), r.svc.Service))(r); !slices.Equal(before, after) {
		r.Error("strangers' failures were written")
	}
	scored := func(net netip.Addr) risk.Assessment {
		return got(p.Score(t.Context(), r.svc.Service, act.Origin{Asked: true, SignIn: true, Network: grant.NetworkOf(net), Things: []string{r.notes.ID + " notes:read"}}, r.clock.now()))(r)
	}
	if a := scored(home); a.Score != 0 {
		r.Errorf("at home: %+v", a)
	}
	if a := scored(netip.MustParseAddr("192.0.2.9")); a.Score != 40 { // a network that is new, no more
		r.Errorf("elsewhere: %+v", a)
	}
	if a := scored(away); a.Band != risk.High || a.Score <= 60 { // the control
		r.Errorf("where they are: %+v", a)
	}
	r.addr = home
	r.tokens(r.post("/oauth/token", change(f, "client_secret", r.svcSecret)))
}
