package trust

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/test/pgtest"
)

// TestFailover kills the database under load and promotes its standby: with
// synchronous replication nothing that was acknowledged is lost, and nothing
// that was spent can be spent again, and the server goes on. With a standby that
// commits do not wait for, and that does not keep up, losses must be found, and the
// server notices by itself.
func TestFailover(t *testing.T) {
	beside(t)
	pgtest.Require(t)
	total, control := &tally{}, &tally{}
	n := max(1, rounds(10))
	var slowest time.Duration
	for range n {
		slowest = max(slowest, failover(t, total, true))
		if t.Failed() {
			break
		}
	}
	failover(t, control, false)
	if control.lost.Load() == 0 {
		t.Error("a standby that followed no more and was promoted lost nothing: this would not find a loss")
	}
	report(t, "database failover, PostgreSQL", "%d times the primary was killed under load and its synchronous standby promoted: %d acknowledged writes, %d lost; %d values tried again, %d spent twice; the log whole; it gives tokens again within %s of the promotion; an asynchronous standby that does not keep up is found to lose, and the server goes into quarantine",
		n, total.acknowledged.Load(), total.lost.Load(), total.refused.Load(), total.twice.Load(), slowest.Round(time.Millisecond))
}

// failover loads a deployment, kills its database and promotes the standby. It
// gives how long the server needed after that.
func failover(t *testing.T, total *tally, synchronous bool) time.Duration {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	primary, err := pgtest.StartServer("")
	check(t, err)
	defer primary.Stop()
	name, err := primary.CreateDatabase(ctx)
	check(t, err)
	standby, err := primary.Standby()
	check(t, err)
	defer standby.Stop()
	check(t, primary.Synchronous(ctx, synchronous))
	dsn, err := primary.Either(standby, name)
	check(t, err)
	var settings []string
	if !synchronous { // it would refuse to start
		settings = []string{"accept_data_loss_on_failover: true"}
	}
	k := newKiller(t, dsn, total, settings...)
	k.lossy = !synchronous
	k.start()
	load, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for load.Err() == nil {
				k.work(i)
			}
		})
	}
	waitUntil(t, time.Minute, k.heard)
	if !synchronous {
		check(t, standby.Detach(ctx))
		k.mu.Lock()
		before := len(k.acked)
		k.mu.Unlock()
		waitUntil(t, time.Minute, func() bool { k.mu.Lock(); defer k.mu.Unlock(); return len(k.acked) > before })
	}
	time.Sleep(time.Duration(300+rand.IntN(700)) * time.Millisecond)
	check(t, primary.Kill())
	stop()
	wg.Wait()
	kept := k.checkpoint()
	if !synchronous {
		kept = nil // it is of what was lost
	}
	check(t, standby.Promote(ctx))
	promoted := time.Now()
	if !synchronous { // nothing is served; what is missing is counted
		waitUntil(t, time.Minute, func() bool { return strings.Contains(k.readiness(), "in quarantine") })
		k.checkRound(kept)
		k.kill()
		return 0
	}
	for {
		tokens, err := k.machine.Credentials("")
		if err == nil {
			k.acked = append(k.acked, tokens.JTI())
			break
		}
		if time.Since(promoted) > time.Minute {
			t.Fatalf("it does not find the other database: %v\n%s", err, tail(k.run.Said()))
		}
		time.Sleep(5 * time.Millisecond)
	}
	took := time.Since(promoted)
	k.checkRound(kept)
	k.kill()
	return took
}

// complain is an error, unless this is a campaign that must lose.
func (k *killer) complain(format string, args ...any) {
	k.t.Helper()
	if !k.lossy {
		k.t.Errorf(format, args...)
	}
}
