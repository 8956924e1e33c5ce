package trust

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/server"
	"github.com/countersign-dev/countersign/test/trust/actor"
)

// clock is a deployment's time: the real one and a step.
type clock struct {
	mu   sync.Mutex
	step time.Duration
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.step)
}

func (c *clock) set(step time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.step = step
}

func (c *clock) get() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.step
}

// here serves the world in this process, by a clock of the test's, which the operator
// accepts or not, and returns what ends it.
func (w *world) here(c *clock, accept bool) (stop func()) {
	w.t.Helper()
	st, err := server.OpenState(context.Background(), w.config, server.Options{Migrate: true, Now: c.now, AcceptTime: accept})
	check(w.t, err)
	w.serving = st
	srv, err := server.New(st)
	check(w.t, err)
	l, err := net.Listen("tcp", strings.TrimPrefix(w.issuer, "http://"))
	check(w.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(ctx, server.Listeners{Public: l}) }()
	for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		resp, err := probe.Get(w.issuer + "/.well-known/openid-configuration")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				break
			}
		}
		if time.Now().After(end) {
			w.t.Fatal("the server does not answer")
		}
	}
	return func() {
		w.t.Helper()
		w.machine.HTTP.CloseIdleConnections()
		cancel()
		check(w.t, <-ended)
		check(w.t, st.Close())
	}
}

// dead is something that was used up or ended, and how to try it again.
type dead struct {
	what  string
	again func() (alive bool, detail error)
}

// TestClockAndRestarts steps the clock a day on and a day back, with a restart
// each time: nothing that was used or ended lives again. In between, the time floor
// keeps a server whose clock went back from answering; in the end the operator accepts
// the clock, so that everything is tried against a server that answers.
func TestClockAndRestarts(t *testing.T) {
	beside(t)
	databases(t, 1, 1, func(t *testing.T, dsn string, _ int) {
		day := 24 * time.Hour
		c := &clock{step: -3 * day} // keys are older than any clock here
		w := newWorld(t, t.TempDir(), dsn, c.now)
		c.set(-2 * time.Minute)
		st := w.state(c.now)
		link, err := st.SetupLink(context.Background(), policy.KindSystem)
		check(t, errors.Join(err, st.Close()))
		w.setup = link
		w.keyed.Now, w.api.Now = c.now, c.now
		stop := w.here(c, false)
		list := w.graveyard(c)
		tried, revived := 0, 0
		try := func(when string) {
			t.Helper()
			for _, d := range list {
				tried++
				if alive, err := d.again(); alive {
					revived++
					t.Errorf("%s: %s lives again: %v", when, d.what, err)
				}
			}
		}
		try("at once")
		for _, step := range []struct {
			name   string
			to     time.Duration
			accept bool
		}{
			{"as it was", 0, false},
			{"a minute on", time.Minute + time.Second, false},
			{"a day on", day, false},
			{"back again", 0, false},
			{"a day back", -day, false},
			{"and now", 0, true},
		} {
			c.set(step.to)
			try(step.name)
			stop()
			stop = w.here(c, step.accept)
			try(step.name + ", restarted")
		}
		if _, err := w.machine.Credentials(""); err != nil {
			t.Errorf("in the end, it does not serve: %v", err)
		}
		stop()
		report(t, "clock ±1 day and restarts, "+engine(dsn), "%d used or ended things tried %d times, %d revived", len(list), tried, revived)
	})
}

// graveyard makes one of each kind of thing that can be used up or ended.
// It begins two minutes ago and ends now.
func (w *world) graveyard(c *clock) (list []dead) {
	w.t.Helper()
	bury := func(what string, again func() error) {
		list = append(list, dead{what, func() (bool, error) { err := again(); return err == nil, err }})
	}
	link := w.setup
	b := w.person()
	bury("the setup link", func() error {
		other := actor.New(w.issuer, nil)
		defer other.Close()
		return other.SetUp(link, "Eve", "eve")
	})
	token := func(by *actor.Browser) (actor.Tokens, actor.Request, string) {
		w.t.Helper()
		r := w.app.NewRequest(theAPI, theScope)
		back, err := by.Authorize(r.Query)
		check(w.t, err)
		tokens, err := w.app.Redeem(r, back.Get("code"))
		check(w.t, err)
		return tokens, r, back.Get("code")
	}
	// A refresh token of two generations ago whose window is over; trying it ends its
	// family.
	first, _, _ := token(b)
	next, err := w.app.Refresh(first.Refresh)
	check(w.t, err)
	last, err := w.app.Refresh(next.Refresh)
	check(w.t, err)
	bury("an old generation", func() error { _, err := w.app.Refresh(first.Refresh); return err })
	bury("the family of which an old generation was used", func() error { _, err := w.app.Refresh(last.Refresh); return err })
	c.set(0)

	_, r, code := token(b)
	bury("a code", func() error { _, err := w.app.Redeem(r, code); return err })

	a, err := w.keyed.Assertion()
	check(w.t, err)
	_, err = w.keyed.Credentials(a)
	check(w.t, err)
	bury("a client assertion", func() error { _, err := w.keyed.Credentials(a); return err })

	revoked, _, _ := token(b)
	_, err = w.app.Form("/oauth/revoke", url.Values{"token": {revoked.Refresh}})
	check(w.t, err)
	w.buryTokens("a revoked grant", revoked, &list)

	other := actor.New(w.issuer, b.Key)
	w.t.Cleanup(other.Close)
	check(w.t, other.SignIn())
	below, _, _ := token(other)
	session, err := other.Session()
	check(w.t, err)
	check(w.t, other.End(session))
	w.buryTokens("an ended session", below, &list)
	bury("the cookie of an ended session", func() error { _, err := other.Session(); return err })
	return list
}

func (w *world) buryTokens(what string, tokens actor.Tokens, list *[]dead) {
	*list = append(*list,
		dead{"the refresh token of " + what, func() (bool, error) {
			_, err := w.app.Refresh(tokens.Refresh)
			return err == nil, err
		}},
		dead{"the access token of " + what, func() (bool, error) { return w.api.Introspect(tokens.Access) }})
}
