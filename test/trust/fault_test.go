//go:build linux && amd64

package trust

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/test/trust/actor"
	"github.com/countersign-dev/countersign/test/trust/disk"
)

// faults are what a disk that fails may do. A sync that failed has lost what it
// was for.
var faults = []disk.Fault{
	{Sync: true, File: "-wal", Errno: syscall.EIO},
	{Write: true, File: "-wal", Errno: syscall.EIO},
	{Write: true, File: "-wal", Errno: syscall.ENOSPC},
	{Sync: true, Write: true, File: ".db", Errno: syscall.EIO},
	{Sync: true, Errno: syscall.EIO},
	{Sync: true, Write: true, Errno: syscall.EIO},
}

// TestDiskFaults lets writes and syncs of the server's files fail, for a while,
// again and again: it answers 503 at once, never a success that is not kept, and
// goes on by itself. Then the power is cut, at moments all over what was
// recorded.
func TestDiskFaults(t *testing.T) {
	traceable(t)
	l := newLedger(t)
	l.start()
	l.work(20)
	o := &outage{ledger: l}
	n := max(len(faults), rounds(60))
	for i := range n {
		o.round(&faults[i%len(faults)])
		if t.Failed() {
			t.Log(tail(l.run.Said()))
			return
		}
	}
	l.work(8)
	l.kill()
	first, events := l.complete()
	points := l.points(events)
	if full() {
		some := points[:0]
		for i, p := range points {
			if i%(1+len(points)/400) == 0 {
				some = append(some, p)
			}
		}
		points = append(some, len(events)-1)
	}
	found := l.examine(first, events, points, ceiling(10*time.Minute))
	report(t, "failed fsync and I/O errors, SQLite", "%d faults of %d kinds: %d refusals with 503, the slowest after %s; %d acknowledged writes, on %d disks that a power cut then leaves %d lost, %d spent twice, %d with a log that is not whole; it recovers unaided within %s",
		n, min(n, len(faults)), o.refused.Load(), time.Duration(o.slowest.Load()).Round(time.Millisecond), l.writes(), found.disks, found.lost, found.twice, found.broken, o.recovery.Round(time.Millisecond))
	if o.refused.Load() == 0 || time.Duration(o.slowest.Load()) > soon(time.Second) {
		t.Errorf("%d refusals, the slowest after %s", o.refused.Load(), time.Duration(o.slowest.Load()))
	}
}

// outage is a disk that fails at times.
type outage struct {
	*ledger
	refused, slowest atomic.Int64
	recovery         time.Duration
}

// round lets one fault last for a while, under load, and waits until the server
// has recovered.
func (o *outage) round(f *disk.Fault) {
	o.t.Helper()
	check(o.t, o.rec.Fail(f))
	end := time.Now().Add(time.Duration(100+rand.IntN(200)) * time.Millisecond)
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			for time.Now().Before(end) {
				if err := o.try(i); err != nil {
					o.t.Errorf("%+v: %v", *f, err)
					return
				}
			}
		})
	}
	wg.Wait()
	check(o.t, o.rec.Fail(nil))
	healed := time.Now()
	for i := range 3 {
		for {
			err := o.one(i)
			if err == nil {
				break
			}
			if time.Since(healed) > soon(10*time.Second) {
				o.t.Fatalf("after %+v it does not recover: %v\n%s", *f, err, tail(o.run.Said()))
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	ready(o.t, o.world)
	o.recovery = max(o.recovery, time.Since(healed))
}

// try does one thing of those that write; a refusal must be an honest one.
func (o *outage) try(kind int) error {
	began := time.Now()
	err := o.one(kind)
	took := time.Since(began)
	var r *actor.Refusal
	switch {
	case err == nil: // the fault was not about what this one needed
	case errors.As(err, &r) && r.Status == http.StatusServiceUnavailable:
		o.refused.Add(1)
		for was := o.slowest.Load(); int64(took) > was && !o.slowest.CompareAndSwap(was, int64(took)); was = o.slowest.Load() {
		}
	default:
		return fmt.Errorf("a disk that fails is answered %w", err)
	}
	return nil
}
