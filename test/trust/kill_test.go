package trust

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/test/trust/actor"
)

// TestKill kills the server under load, again and again, and starts it on the
// same database: what was acknowledged is there, what was spent stays spent, the
// log is whole against a checkpoint kept elsewhere, and it is ready within two
// seconds.
func TestKill(t *testing.T) {
	databases(t, 1000, 200, killCampaign)
}

// perWorld is how many kills one database lives through: then a new one, so that
// verifying the whole log each time stays possible.
const perWorld = 100

func killCampaign(t *testing.T, dsn string, n int) {
	end := ceiling(2 * time.Hour)
	total := &tally{}
	var slowest time.Duration
	kills := 0
	for kills < n && time.Now().Before(end) {
		k := newKiller(t, dsn, total)
		for range min(perWorld, n-kills) {
			slowest = max(slowest, k.round())
			kills++
			if t.Failed() || time.Now().After(end) {
				break
			}
		}
		k.finish()
		if dsn != "" || t.Failed() { // one database of PostgreSQL for all rounds
			for kills < n && !t.Failed() && time.Now().Before(end) {
				slowest = max(slowest, k.round())
				kills++
			}
			break
		}
	}
	if kills < n && !t.Failed() {
		t.Errorf("only %d of %d kills in the time there is", kills, n)
	}
	if total.acknowledged.Load() == 0 || total.refused.Load() == 0 {
		t.Errorf("nothing was acknowledged (%d) or nothing tried twice (%d)", total.acknowledged.Load(), total.refused.Load())
	}
	report(t, "kill -9 under load, "+engine(dsn), "%d kills: %d acknowledged writes, %d lost; %d values tried again, %d spent twice; the log whole each time; ready again within %s",
		kills, total.acknowledged.Load(), total.lost.Load(), total.refused.Load(), total.twice.Load(), slowest.Round(time.Millisecond))
	if slowest > soon(2*time.Second) {
		t.Errorf("ready again only after %s", slowest)
	}
}

// tally counts over all rounds.
type tally struct{ acknowledged, lost, refused, twice atomic.Int64 }

// killer is a deployment that is killed.
type killer struct {
	*world
	total   *tally
	browser *actor.Browser
	mu      sync.Mutex
	acked   []string         // ids of records that were acknowledged in this round
	spent   []func() error   // presents again what was accepted; must be refused
	unknown []func() []error // presents twice what nobody knows the fate of; once at most is right
	chains  [4]chain
	lossy   bool // what is lost is what is looked for
}

// chain is a client's refresh token, which it may have presented without hearing
// the answer.
type chain struct {
	mu      sync.Mutex
	current string
}

func newKiller(t *testing.T, dsn string, total *tally, settings ...string) *killer {
	k := &killer{world: newWorld(t, t.TempDir(), dsn, nil, settings...), total: total}
	k.start()
	k.browser = k.person()
	for i := range k.chains {
		tokens, err := k.code()
		check(t, err)
		k.chains[i].current = tokens.Refresh
	}
	k.kill()
	return k
}

// code signs in to the application and redeems the code.
func (k *killer) code() (actor.Tokens, error) {
	r := k.app.NewRequest(theAPI, theScope, "openid")
	back, err := k.browser.Authorize(r.Query)
	if err != nil {
		return actor.Tokens{}, err
	}
	code := back.Get("code")
	redeem := func() error { _, err := k.app.Redeem(r, code); return err }
	tokens, err := k.app.Redeem(r, code)
	k.presented(tokens, err, redeem)
	return tokens, err
}

// presented notes what became of a single-use value.
func (k *killer) presented(tokens actor.Tokens, err error, again func() error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case err == nil:
		k.acked = append(k.acked, tokens.JTI())
		k.spent = append(k.spent, again)
	case !actor.Refused(err):
		k.unknown = append(k.unknown, func() []error { return []error{again(), again()} })
	}
}

// round starts, loads, kills, starts again and checks. It gives how long the
// second start took.
func (k *killer) round() time.Duration {
	k.t.Helper()
	k.start()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for ctx.Err() == nil {
				k.work(i)
			}
		})
	}
	waitUntil(k.t, time.Minute, k.heard) // else nothing is under way on a slow machine
	time.Sleep(time.Duration(rand.IntN(170)) * time.Millisecond)
	k.kill()
	cancel()
	wg.Wait()
	k.machine.HTTP.CloseIdleConnections()
	kept := k.checkpoint()
	ready := k.start()
	k.checkRound(kept)
	k.kill()
	return ready
}

// heard reports whether something that is good for one use was acknowledged in this
// round.
func (k *killer) heard() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.spent) > 0
}

// work does one thing of those that write.
func (k *killer) work(worker int) {
	switch worker % 4 {
	case 0:
		if tokens, err := k.machine.Credentials(""); err == nil {
			k.mu.Lock()
			k.acked = append(k.acked, tokens.JTI())
			k.mu.Unlock()
		}
	case 1:
		a, err := k.keyed.Assertion()
		if err != nil {
			return
		}
		tokens, err := k.keyed.Credentials(a)
		k.presented(tokens, err, func() error { _, err := k.keyed.Credentials(a); return err })
	case 2:
		k.refresh(&k.chains[rand.IntN(len(k.chains))])
	case 3:
		_, _ = k.code() // presented notes it
	}
}

// refresh presents the chain's token; a client that hears nothing keeps it.
func (k *killer) refresh(c *chain) {
	c.mu.Lock()
	defer c.mu.Unlock()
	tokens, err := k.app.Refresh(c.current)
	if err != nil {
		if actor.Refused(err, "invalid_grant") {
			k.complain("an honest client's refresh token was refused: %v", err)
		}
		return
	}
	c.current = tokens.Refresh
	k.mu.Lock()
	k.acked = append(k.acked, tokens.JTI())
	k.mu.Unlock()
}

// checkRound holds the restarted server against what clients were told.
func (k *killer) checkRound(kept []byte) {
	k.t.Helper()
	k.mu.Lock()
	acked, spent, unknown := k.acked, k.spent, k.unknown
	k.acked, k.spent, k.unknown = nil, nil, nil
	k.mu.Unlock()
	k.total.acknowledged.Add(int64(len(acked)))
	db := k.db()
	defer db.Close()
	for _, jti := range acked {
		var n int
		if err := db.QueryRow(fmt.Sprintf(`SELECT count(*) FROM audit WHERE id = '%s'`, jti)).Scan(&n); err != nil || n != 1 {
			k.total.lost.Add(1)
			k.complain("token %s was acknowledged and has %d records: %v", jti, n, err)
		}
	}
	for _, again := range spent {
		k.total.refused.Add(1)
		if err := again(); !actor.Refused(err) {
			k.total.twice.Add(1)
			k.complain("what was spent before the kill: %v", err)
		}
	}
	for _, twice := range unknown {
		k.total.refused.Add(1)
		if errs := twice(); errs[0] == nil && errs[1] == nil || !actor.Refused(errs[1]) {
			k.total.twice.Add(1)
			k.complain("what was under way at the kill: %v", errs)
		}
	}
	for i := range k.chains {
		k.refresh(&k.chains[i])
	}
	st := k.state(nil)
	defer st.Close()
	if rep := k.verify(st, kept); !rep.OK() {
		k.complain("the log after the kill: %v", rep.Lines())
	}
}

// finish lets the log take in all that the kills left, verifies it, and counts
// the rotations of each generation: one, whatever was killed.
func (k *killer) finish() {
	k.t.Helper()
	k.start()
	defer k.kill()
	st := k.state(nil)
	defer st.Close()
	ctx := context.Background()
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		c, err := st.Store.Counts(ctx)
		check(k.t, err)
		if c.Pending == 0 && c.Signed == c.Records {
			break
		}
		if time.Now().After(end) {
			k.t.Fatalf("the log does not take in what the kills left: %+v", c)
		}
	}
	if rep := k.verify(st, k.checkpoint()); !rep.OK() {
		k.t.Errorf("the log after all kills: %v", rep.Lines())
	}
	rotations := map[string]int{}
	check(k.t, st.Store.Rows(ctx, 0, func(_ uint64, row audit.Row) error {
		if row.Kind != audit.TokenRefreshed {
			return nil
		}
		parts, err := audit.Open(ctx, row, st.Names)
		if err != nil {
			return err
		}
		for _, p := range parts {
			if f := p.Fields(); f["family"] != nil && f["r"] != true {
				rotations[fmt.Sprint(f["family"], " generation ", f["generation"])]++
			}
		}
		return nil
	}))
	if len(rotations) == 0 {
		k.t.Error("nothing was refreshed")
	}
	for what, n := range rotations {
		if n != 1 {
			k.total.twice.Add(1)
			k.t.Errorf("family %s was rotated %d times", what, n)
		}
	}
}
