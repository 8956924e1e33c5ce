package trust

import (
	"context"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	countersign "github.com/countersign-dev/countersign"
	"github.com/countersign-dev/countersign/test/trust/actor"
)

// TestEndingWhileInUse ends a session in the portal while its grant refreshes
// and its tokens are in use, at random moments: from the acknowledgement on,
// nothing is refreshed or introspected as active; a connected enforcement point
// refuses within a second.
func TestEndingWhileInUse(t *testing.T) {
	databases(t, 1000, 1000, endCampaign)
}

func endCampaign(t *testing.T, dsn string, n int) {
	end := ceiling(time.Hour)
	e := &ending{world: newWorld(t, t.TempDir(), dsn, nil)}
	e.start()
	first := e.person()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var err error
	e.verifier, err = countersign.New(ctx, countersign.Config{
		Issuer: e.issuer, Audience: theAPI, AllowBearer: true, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Client: countersign.ClientAuth{ID: e.api.ID, Key: e.apiKey, KeyID: "k"},
	})
	check(t, err)
	defer e.verifier.Close()
	check(t, e.verifier.Ready(ctx))
	done := 0
	for ; done < n && time.Now().Before(end) && !t.Failed(); done++ {
		e.once(first.Key)
	}
	if done < n && !t.Failed() {
		t.Errorf("only %d of %d in the time there is", done, n)
	}
	slices.Sort(e.fromClick)
	slices.Sort(e.fromAnswer)
	report(t, "ending a session while it is in use, "+engine(dsn), "%d interleavings, %d tokens of which %d were issued during the end: %d answers after the acknowledgement were stale; from the click to the refusal at an enforcement point p50 %s, p99 %s, most %s; from the acknowledgement p99 %s",
		done, e.tokens, e.during, e.stale, percentile(e.fromClick, 50).Round(100*time.Microsecond), percentile(e.fromClick, 99).Round(100*time.Microsecond),
		percentile(e.fromClick, 100).Round(100*time.Microsecond), percentile(e.fromAnswer, 99).Round(100*time.Microsecond))
	if p := percentile(e.fromClick, 99); p > soon(time.Second) {
		t.Errorf("p99 from the click to the refusal is %s", p)
	}
}

// ending is a server with an enforcement point.
type ending struct {
	*world
	verifier              *countersign.Verifier
	fromClick, fromAnswer []time.Duration
	tokens, during, stale int
}

// accepts asks the enforcement point.
func (e *ending) accepts(access string) bool {
	req, err := http.NewRequest(http.MethodGet, theAPI+"/notes", nil)
	if err != nil {
		e.t.Error(err)
		return false
	}
	req.Header.Set("Authorization", "Bearer "+access)
	_, err = e.verifier.Verify(req)
	return err == nil
}

// using is what a grant's holders got so far.
type using struct {
	mu       sync.Mutex
	access   []string
	refresh  []string
	answered []time.Time // when each came
}

func (u *using) add(t actor.Tokens) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.access, u.refresh, u.answered = append(u.access, t.Access), append(u.refresh, t.Refresh), append(u.answered, time.Now())
}

func (u *using) last() (access, refresh string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.access[len(u.access)-1], u.refresh[len(u.refresh)-1]
}

// once is one interleaving.
func (e *ending) once(key *actor.Passkey) {
	e.t.Helper()
	b := actor.New(e.issuer, key)
	defer b.Close()
	check(e.t, b.SignIn())
	r := e.app.NewRequest(theAPI, theScope)
	back, err := b.Authorize(r.Query)
	check(e.t, err)
	tokens, err := e.app.Redeem(r, back.Get("code"))
	check(e.t, err)
	session, err := b.Session()
	check(e.t, err)
	u := &using{}
	u.add(tokens)
	if !e.accepts(tokens.Access) {
		e.t.Fatal("a token that stands is refused")
	}

	stop := make(chan struct{})
	var wg sync.WaitGroup
	run := func(f func()) {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					f()
				}
			}
		})
	}
	for range 2 { // two that refresh, so that replays happen too
		run(func() {
			_, refresh := u.last()
			if t, err := e.app.Refresh(refresh); err == nil {
				u.add(t)
			}
		})
	}
	run(func() { access, _ := u.last(); e.accepts(access); time.Sleep(200 * time.Microsecond) })
	run(func() { access, _ := u.last(); _, _ = e.api.Introspect(access) })

	time.Sleep(rand.N(12 * time.Millisecond))
	clicked := time.Now()
	check(e.t, b.End(session))
	answered := time.Now()
	e.refuses(u, answered)
	refused := e.heard(u, clicked)
	close(stop)
	wg.Wait()
	e.fromClick, e.fromAnswer = append(e.fromClick, refused.Sub(clicked)), append(e.fromAnswer, max(0, refused.Sub(answered)))
	e.nothingLeft(u, answered)
}

// refuses asks for what must be refused from the acknowledgement on, while the
// others go on.
func (e *ending) refuses(u *using, answered time.Time) {
	e.t.Helper()
	access, refresh := u.last()
	if t, err := e.app.Refresh(refresh); err == nil {
		e.stale++
		e.t.Errorf("refreshed %s after the acknowledgement: %s", time.Since(answered), t.JTI())
	} else if !actor.Refused(err, "invalid_grant") {
		e.t.Errorf("a refresh after the acknowledgement: %v", err)
	}
	if active, err := e.api.Introspect(access); active || err != nil {
		e.stale++
		e.t.Errorf("introspected after the acknowledgement: active %v, %v", active, err)
	}
}

// heard waits until the enforcement point refuses the newest token.
func (e *ending) heard(u *using, clicked time.Time) time.Time {
	e.t.Helper()
	for time.Since(clicked) < soon(10*time.Second) {
		if access, _ := u.last(); !e.accepts(access) {
			return time.Now()
		}
		time.Sleep(100 * time.Microsecond)
	}
	e.t.Error("the enforcement point did not hear of it in ten seconds")
	return time.Now()
}

// nothingLeft presents everything that was ever given, also what was under way
// when the session ended.
func (e *ending) nothingLeft(u *using, answered time.Time) {
	e.t.Helper()
	for i, access := range u.access {
		e.tokens++
		if u.answered[i].After(answered) {
			e.during++
		}
		if e.accepts(access) {
			e.stale++
			e.t.Errorf("token %d of %d is accepted by the enforcement point, which has heard of the end", i, len(u.access))
		}
		if active, err := e.api.Introspect(access); active || err != nil {
			e.stale++
			e.t.Errorf("token %d of %d: active %v, %v", i, len(u.access), active, err)
		}
		if _, err := e.app.Refresh(u.refresh[i]); !actor.Refused(err, "invalid_grant") {
			e.stale++
			e.t.Errorf("refresh token %d of %d: %v", i, len(u.access), err)
		}
	}
}
