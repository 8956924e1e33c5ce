package oauth

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/profile"
	"github.com/countersign-dev/countersign/internal/risk"
)

// all sends the same form n times at once, spread over the nodes. Whoever is told that
// the server is busy, because the queue was longer than an act may take, asks again
// when the crowd is gone.
func (r *rig) all(n int, f url.Values, opts ...option) []answer {
	r.Helper()
	out := make([]answer, n)
	var wait sync.WaitGroup
	begin := make(chan struct{})
	ask := func(i int) answer {
		return r.send(i%len(r.nodes), "POST", "/oauth/token", formType, strings.NewReader(f.Encode()), opts...)
	}
	for i := range n {
		wait.Go(func() {
			<-begin
			out[i] = ask(i)
		})
	}
	close(begin)
	wait.Wait()
	for i := range n {
		for tries := 0; out[i].status == http.StatusServiceUnavailable && tries < 5; tries++ {
			out[i] = ask(i)
		}
	}
	return out
}

func TestParallelRedemptions(t *testing.T) {
	t.Parallel()
	engines(t, 2, func(r *rig) {
		f := r.redemption(r.app, r.code(r.app))
		var won []tokenResponse
		for _, a := range r.all(32, f) {
			if a.status == 200 {
				won = append(won, r.tokens(a))
				continue
			}
			r.expect("a loser", 400, "invalid_grant", a)
		}
		if len(won) != 1 {
			r.Fatalf("%d of 32 redemptions succeeded", len(won))
		}
		if !r.active(won[0].AccessToken) {
			r.Error("what the winner was given did not survive")
		}
		r.tokens(r.refresh(r.app, won[0].RefreshToken))
	})
}

func TestParallelRefreshes(t *testing.T) {
	t.Parallel()
	engines(t, 2, func(r *rig) {
		tok := r.granted(r.app)
		for _, n := range []int{32, 200} {
			f := form("grant_type", "refresh_token", "client_id", "app", "refresh_token", tok.RefreshToken)
			next, ids := map[string]bool{}, map[string]bool{}
			for _, a := range r.all(n, f) {
				if a.status != 200 {
					r.Fatalf("%d wide: %d %s", n, a.status, a.body)
				}
				t := r.tokens(a)
				next[t.RefreshToken], ids[r.claims(t.AccessToken).JTI] = true, true
				tok = t
			}
			if len(next) != 1 || len(ids) != n {
				r.Errorf("%d wide: %d successors, %d access tokens", n, len(next), len(ids))
			}
			r.clock.move(time.Minute)
		}
		if !r.active(tok.AccessToken) {
			r.Error("inactive")
		}
	})
}

// Of several requests that renew at once one may have read what another one was
// given: the token that a third one still presents is then two generations old.
func TestRefreshesThatOvertakeEachOther(t *testing.T) {
	t.Parallel()
	engines(t, 2, func(r *rig) {
		first := r.granted(r.app)
		second := r.tokens(r.refresh(r.app, first.RefreshToken))
		r.clock.move(time.Second)
		third := r.tokens(r.refresh(r.app, second.RefreshToken))
		for _, late := range []string{first.RefreshToken, second.RefreshToken} {
			if got := r.tokens(r.refresh(r.app, late)); got.RefreshToken != third.RefreshToken || !r.active(got.AccessToken) {
				r.Error("a late request did not get the newest token")
			}
		}
		r.clock.move(time.Minute) // the second one's window is open, the first one's is not
		if got := r.tokens(r.refresh(r.app, second.RefreshToken)); got.RefreshToken != third.RefreshToken {
			r.Error("the second one's window closed with the first one's")
		}
		r.expect("the first, too late", 400, "invalid_grant", r.refresh(r.app, first.RefreshToken))
		r.expect("the newest, after that", 400, "invalid_grant", r.refresh(r.app, third.RefreshToken))
	})
}

func TestRefreshWindows(t *testing.T) {
	t.Parallel()
	engines(t, 1, func(r *rig) {
		native := client.Client{
			ID: id.New(id.Client), ClientID: "native", Name: "Native", AuthMethod: client.AuthNone, Native: true, FirstParty: true,
			GrantTypes: r.app.GrantTypes, Scopes: r.app.Scopes, Resources: r.app.Resources, RedirectURIs: []string{"http://127.0.0.1/cb"},
		}
		r.do(audit.ClientCreated, client.Create{Client: native})
		home, near, away, six := netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("198.51.100.200"), netip.MustParseAddr("203.0.113.9"), netip.MustParseAddr("2001:db8::1")
		for _, c := range []struct {
			client client.Client
			from   netip.Addr
			after  time.Duration
			ok     bool
		}{
			{native, away, 2 * time.Second, true},
			{native, away, 2*time.Second + time.Microsecond, false},
			{r.app, away, 10 * time.Second, true},
			{r.app, away, 10*time.Second + time.Microsecond, false},
			{r.app, away, 11 * time.Second, false},
			{r.app, home, 60 * time.Second, true},
			{r.app, near, 60 * time.Second, true},
			{r.app, six, 60 * time.Second, true},
			{r.app, home, 60*time.Second + time.Microsecond, false},
			{r.app, netip.Addr{}, 10 * time.Second, true},
			{r.app, netip.Addr{}, 11 * time.Second, false},
			{native, home, 60 * time.Second, true},
		} {
			name := fmt.Sprintf("%s from %s after %v", c.client.ClientID, c.from, c.after)
			r.addr = home
			tok := r.granted(c.client)
			next := r.tokens(r.refresh(c.client, tok.RefreshToken))
			r.addr = c.from
			r.clock.move(c.after)
			a := r.refresh(c.client, tok.RefreshToken)
			if !c.ok {
				r.expect(name, 400, "invalid_grant", a)
				if r.active(next.AccessToken) {
					r.Errorf("%s: a reuse ended nothing", name)
				}
				r.expect(name+", its successor", 400, "invalid_grant", r.refresh(c.client, next.RefreshToken))
				continue
			}
			if again := r.tokens(a); again.RefreshToken != next.RefreshToken {
				r.Errorf("%s: another successor", name)
			}
			r.addr = home
			r.tokens(r.refresh(c.client, next.RefreshToken))
		}
	})
}

func TestOldGenerations(t *testing.T) {
	t.Parallel()
	engines(t, 1, func(r *rig) {
		tok := r.granted(r.app)
		first := tok.RefreshToken
		for range 3 {
			tok = r.tokens(r.refresh(r.app, tok.RefreshToken))
		}
		// Made up: the family's name and an old generation, without the key.
		keys := r.nodes[0].server.Keys
		real := got(grant.ReadToken(first, keys))(r)
		for name, forge := range map[string]func(*grant.Token){
			"old": func(t *grant.Token) { t.Gen = 1 }, "current": func(t *grant.Token) { t.Gen = 3 }, "future": func(t *grant.Token) { t.Gen = 9 },
			"another family": func(t *grant.Token) { t.Family[3]++ },
		} {
			made := real
			forge(&made)
			r.expect("made up, "+name, 400, "invalid_grant", r.refresh(r.app, made.Text(otherKeys{keys}).Reveal()))
		}
		end := map[bool]string{true: "x", false: "y"}[!strings.HasSuffix(first, "x")]
		r.expect("broken", 400, "invalid_grant", r.refresh(r.app, first[:len(first)-1]+end))
		r.expect("by another client", 400, "invalid_grant", r.post("/oauth/token", form("grant_type", "refresh_token", "refresh_token", first), r.auth(r.web)))
		if !r.active(tok.AccessToken) {
			r.Fatal("a made-up token ended the family")
		}
		tok = r.tokens(r.refresh(r.app, tok.RefreshToken))
		// Genuine, and from the future: our data is older than the token.
		made := real
		made.Gen = 9
		a := r.refresh(r.app, made.Text(keys).Reveal())
		r.expect("from the future", 503, "temporarily_unavailable", a)
		if a.header.Get("Retry-After") == "" {
			r.Error("no Retry-After")
		}
		// A real one ends it, once its window is over.
		r.clock.move(time.Minute + time.Second)
		if !r.active(tok.AccessToken) {
			r.Fatal("inactive")
		}
		r.expect("a real old one", 400, "invalid_grant", r.refresh(r.app, first))
		if r.active(tok.AccessToken) {
			r.Error("the family survives")
		}
		r.expect("the current one", 400, "invalid_grant", r.refresh(r.app, tok.RefreshToken))
	})
}

// otherKeys are the keys of somebody who has ours all but the tag's.
type otherKeys struct{ grant.RefreshKeys }

func (otherKeys) Tags() [][]byte { return [][]byte{make([]byte, 32)} }

// TestReuseTeachesNothing: whoever presents a token that was used before is refused,
// and their network is none that the person was seen at.
func TestReuseTeachesNothing(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	p := &profile.Profiles{Store: r.nodes[0].store, Settings: risk.Default()}
	usual := act.Origin{Asked: true, Shown: true, Device: "laptop", Network: grant.NetworkOf(r.addr), Things: []string{"notes:read"}}
	at := r.clock.now().Add(-20 * 24 * time.Hour)
	for range 80 {
		at = at.Add(3 * time.Hour)
		p.Learn(r.person.ID, usual, at, true)
	}
	r.nodes[0].server.Do.Risk = p
	strange := func(addr string) bool {
		t.Helper()
		o := usual
		o.Network = grant.NetworkOf(netip.MustParseAddr(addr))
		a := got(p.Score(context.Background(), r.person.ID, o, r.clock.now().Add(25*time.Hour)))(r)
		return slices.ContainsFunc(a.Terms, func(x risk.Term) bool { return x.Signal == risk.NewNetwork })
	}
	first := r.tokens(r.send(0, "POST", "/oauth/token", formType, strings.NewReader(r.redemption(r.app, r.code(r.app)).Encode())))
	home := r.addr
	r.addr = netip.MustParseAddr("203.0.113.9")
	second := r.tokens(r.refresh(r.app, first.RefreshToken))
	if strange("203.0.113.9") {
		t.Fatal("a network that a token was refreshed at is strange: this shows nothing")
	}
	r.addr = home
	r.tokens(r.refresh(r.app, second.RefreshToken))
	r.clock.move(time.Hour)
	r.addr = netip.MustParseAddr("192.0.2.66")
	r.expect("a token that was used before", 400, "invalid_grant", r.refresh(r.app, first.RefreshToken))
	if !r.recorded(audit.RefreshReused) {
		t.Fatal("the reuse was not noticed: this shows nothing")
	}
	if !strange("192.0.2.66") {
		t.Error("the network that the old token came from is known")
	}
}

// TestServersAreNotWherePeopleAre: an app that is a server calls from its own network,
// which others in the same data centre have, too. No person was seen there; on a
// computer of their own the person is where the app is.
func TestServersAreNotWherePeopleAre(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	p := &profile.Profiles{Store: r.nodes[0].store, Settings: risk.Default()}
	usual := act.Origin{Asked: true, Shown: true, Device: "laptop", Network: grant.NetworkOf(r.addr), Things: []string{"notes:read"}}
	at := r.clock.now().Add(-20 * 24 * time.Hour)
	for range 80 {
		at = at.Add(3 * time.Hour)
		p.Learn(r.person.ID, usual, at, true)
	}
	r.nodes[0].server.Do.Risk = p
	home := r.addr
	for i, c := range []struct {
		client client.Client
		known  bool
	}{{r.web, false}, {r.app, true}} {
		r.addr = home
		code := r.code(c.client)
		r.addr = netip.AddrFrom4([4]byte{192, 0, byte(2 + i), 66})
		r.tokens(r.send(0, "POST", "/oauth/token", formType, strings.NewReader(r.redemption(c.client, code).Encode()), r.auth(c.client)))
		o := usual
		o.Network = grant.NetworkOf(r.addr)
		a := got(p.Score(context.Background(), r.person.ID, o, r.clock.now().Add(25*time.Hour)))(r)
		if known := !slices.ContainsFunc(a.Terms, func(x risk.Term) bool { return x.Signal == risk.NewNetwork }); known != c.known {
			t.Errorf("%s: the network is the person's: %v", c.client.ClientID, known)
		}
	}
}

func TestRefreshLifetimes(t *testing.T) {
	t.Parallel()
	engines(t, 1, func(r *rig) {
		tok := r.granted(r.app)
		for range 9 { // in use, it lives to its absolute end
			r.clock.move(grant.FamilyIdle - time.Second)
			tok = r.tokens(r.refresh(r.app, tok.RefreshToken))
		}
		r.clock.move(grant.FamilyIdle - time.Second)
		tok = r.tokens(r.refresh(r.app, tok.RefreshToken))
		r.clock.move(10 * time.Second)
		r.expect("after thirty days", 400, "invalid_grant", r.refresh(r.app, tok.RefreshToken))
		r.ses = r.signIn(r.person, r.passkey, false)
		tok = r.granted(r.app)
		r.clock.move(grant.FamilyIdle)
		r.expect("idle", 400, "invalid_grant", r.refresh(r.app, tok.RefreshToken))

		// A confidential client with its own key holds one that is not rotated.
		r.ses = r.signIn(r.person, r.passkey, false)
		static := r.tokens(r.post("/oauth/token", r.asserted(form("grant_type", "authorization_code", "code", r.code(r.jwt), "code_verifier", r.verifier))))
		for range 3 {
			r.clock.move(grant.FamilyIdle + time.Hour)
			again := r.tokens(r.post("/oauth/token", r.asserted(form("grant_type", "refresh_token", "refresh_token", static.RefreshToken))))
			if again.RefreshToken != static.RefreshToken {
				r.Error("a static one was rotated")
			}
		}
		r.clock.move(grant.FamilyLifetime)
		r.expect("static, after thirty days", 400, "invalid_grant", r.post("/oauth/token", r.asserted(form("grant_type", "refresh_token", "refresh_token", static.RefreshToken))))
	})
}

// TestLastUse: a refresh says when the grant was used last, to the hour, whether its
// token is rotated or not.
func TestLastUse(t *testing.T) {
	t.Parallel()
	engines(t, 1, func(r *rig) {
		began := r.clock.now()
		rotated := r.granted(r.app)
		static := r.tokens(r.post("/oauth/token", r.asserted(form("grant_type", "authorization_code", "code", r.code(r.jwt), "code_verifier", r.verifier))))
		used := func(when string, want time.Duration) {
			r.Helper()
			rotated = r.tokens(r.refresh(r.app, rotated.RefreshToken))
			r.tokens(r.post("/oauth/token", r.asserted(form("grant_type", "refresh_token", "refresh_token", static.RefreshToken))))
			grants := got(r.nodes[0].store.GrantsOf(t.Context(), r.person.ID))(r)
			if len(grants) != 2 {
				r.Fatalf("%d grants", len(grants))
			}
			for _, g := range grants {
				if at := g.UsedAt.Sub(began).Round(time.Minute); at != want {
					r.Errorf("%s: used %v after it began, want %v", when, at, want)
				}
			}
		}
		used("at once", 0)
		r.clock.move(59 * time.Minute)
		used("within the hour", 0)
		r.clock.move(2 * time.Minute)
		used("after it", 61*time.Minute)
		r.clock.move(30 * time.Minute)
		used("and again", 61*time.Minute)
	})
}

func TestRefreshNarrowsOnly(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	tok := r.granted(r.app, "scope", "openid notes:read notes:write")
	a := r.tokens(r.refresh(r.app, tok.RefreshToken, "scope", "notes:read"))
	if a.Scope != "notes:read" || a.IDToken != "" {
		t.Errorf("%+v", a)
	}
	if a = r.tokens(r.refresh(r.app, a.RefreshToken)); a.Scope != "openid notes:read notes:write" || a.IDToken == "" {
		t.Errorf("narrowing once narrowed for good: %+v", a)
	}
	r.expect("wider", 400, "invalid_scope", r.refresh(r.app, a.RefreshToken, "scope", "notes:read team:lead"))
	r.expect("another resource", 400, "invalid_target", r.refresh(r.app, a.RefreshToken, "resource", r.bound.URI))
	r.tokens(r.refresh(r.app, a.RefreshToken))
}

// A client that was gone before its answer was written finds its successor an
// hour later, from the same network, until the successor is used (D9).
func TestLostAnswer(t *testing.T) {
	t.Parallel()
	engines(t, 1, func(r *rig) {
		tok := r.granted(r.app)
		f := form("grant_type", "refresh_token", "client_id", "app", "refresh_token", tok.RefreshToken)
		q := httptest.NewRequest("POST", "/oauth/token", strings.NewReader(f.Encode()))
		q.Header.Set("Content-Type", formType)
		ctx, cancel := context.WithCancel(context.Background())
		w := &lostWriter{header: http.Header{}, cancel: cancel}
		ok(r, r.nodes[0].server.token(w, q.WithContext(ctx)))
		r.clock.move(time.Hour)
		next := r.tokens(r.refresh(r.app, tok.RefreshToken))
		if !strings.Contains(string(w.body), next.RefreshToken) {
			r.Error("another successor than the lost one")
		}
		r.tokens(r.refresh(r.app, next.RefreshToken))
		r.expect("once the successor was used", 400, "invalid_grant", r.refresh(r.app, tok.RefreshToken))

		// From elsewhere it is reuse, lost or not.
		tok = r.granted(r.app)
		f.Set("refresh_token", tok.RefreshToken)
		q = httptest.NewRequest("POST", "/oauth/token", strings.NewReader(f.Encode()))
		q.Header.Set("Content-Type", formType)
		ctx, cancel = context.WithCancel(context.Background())
		ok(r, r.nodes[0].server.token(&lostWriter{header: http.Header{}, cancel: cancel}, q.WithContext(ctx)))
		r.clock.move(time.Hour)
		r.addr = netip.MustParseAddr("203.0.113.9")
		r.expect("from elsewhere", 400, "invalid_grant", r.refresh(r.app, tok.RefreshToken))
	})
}

// lostWriter is a connection whose client is gone when the answer is written.
type lostWriter struct {
	header http.Header
	cancel func()
	body   []byte
}

func (w *lostWriter) Header() http.Header { return w.header }
func (w *lostWriter) WriteHeader(int)     {}
func (w *lostWriter) Write(b []byte) (int, error) {
	w.body = append(w.body, b...)
	w.cancel()
	return len(b), nil
}

// Ending a session while its grant refreshes: nothing that comes out is alive
// after the acknowledgement. The end comes after none, one, two, … of the answers,
// so that what was issued before, during and after it is tried.
func TestEndingWhileRefreshing(t *testing.T) {
	t.Parallel()
	engines(t, 2, func(r *rig) {
		const wide = 8
		given := 0
		for round := range 20 {
			r.ses = r.signIn(r.person, r.passkey, false)
			tok := r.granted(r.app)
			f := form("grant_type", "refresh_token", "client_id", "app", "refresh_token", tok.RefreshToken)
			coming := make(chan answer, wide)
			for i := range wide {
				go func() {
					coming <- r.send(i%len(r.nodes), "POST", "/oauth/token", formType, strings.NewReader(f.Encode()))
				}()
			}
			var answers []answer
			for range round % wide {
				answers = append(answers, <-coming)
			}
			r.end(r.ses)
			after := r.all(2, f)
			for len(answers) < wide {
				answers = append(answers, <-coming)
			}
			for _, a := range after {
				r.expect("after the acknowledgement", 400, "invalid_grant", a)
			}
			for _, a := range answers {
				if a.status == 200 {
					given++
					if r.active(r.tokens(a).AccessToken) {
						r.Error("a token issued beside the end is alive")
					}
				}
				if a.status >= 500 {
					r.Errorf("%d %s", a.status, a.body)
				}
			}
		}
		if given < 20 {
			r.Errorf("only %d tokens were issued beside the ends", given)
		}
	})
}
