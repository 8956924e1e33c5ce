//go:build linux

package trust

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/test/trust/actor"
)

// at is the application at an address of this machine.
func (w *world) at(address string) *actor.Client {
	c := *w.app
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	c.HTTP = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: d.DialContext}}
	return &c
}

// Addresses of two networks.
const (
	home  = "127.0.0.7"
	other = "127.0.9.9"
)

// TestAnswerLostInCrash kills the server just after rotations. A client that never
// got its answer and comes back an hour later, from its network, gets the same
// successor; from another network it is reuse. After an orderly end, and for a
// rotation long before the kill, nothing is kept open.
func TestAnswerLostInCrash(t *testing.T) {
	beside(t)
	databases(t, 1, 1, func(t *testing.T, dsn string, _ int) {
		w := newWorld(t, t.TempDir(), dsn, nil)
		w.start()
		b := w.person()
		family := func() (first string) {
			r := w.app.NewRequest(theAPI, theScope, "openid")
			back, err := b.Authorize(r.Query)
			check(t, err)
			tokens, err := w.at(home).Redeem(r, back.Get("code"))
			check(t, err)
			return tokens.Refresh
		}
		rotated := func(first string) (successor string) {
			next, err := w.at(home).Refresh(first)
			check(t, err)
			return next.Refresh
		}
		early, same, elsewhere := family(), family(), family()
		rotated(early)
		db := w.db()
		long := time.Now().Add(7 * time.Second) // over five seconds before what is seen of the process
		waitUntil(t, time.Minute, func() bool {
			var until int64
			check(t, db.QueryRow("SELECT until FROM lease WHERE name = 'sequencer'").Scan(&until))
			return time.UnixMicro(until).Add(-2 * time.Second).After(long)
		})
		successor := rotated(same) // and at once, so that they are within the five seconds
		rotated(elsewhere)
		w.kill()
		if _, err := os.Stat(filepath.Join(w.dir, "clean-stop")); err == nil {
			t.Error("who was killed says that it ended in good order")
		}

		c := &clock{}
		stop := w.here(c, false)
		lost := func() (n int) {
			check(t, db.QueryRow("SELECT count(*) FROM audit WHERE kind = 268").Scan(&n))
			return n
		}
		// On PostgreSQL a killed holder is told from a live one when its lease ends.
		waitUntil(t, time.Minute, func() bool { return lost() > 0 })
		c.set(time.Hour)
		again, err := w.at("127.0.0.200").Refresh(same)
		check(t, err)
		if again.Refresh != successor {
			t.Error("the client that lost its answer got another successor")
		}
		if _, err := w.at(other).Refresh(elsewhere); !actor.Refused(err, "invalid_grant") {
			t.Errorf("from another network: %v", err)
		}
		if _, err := w.at(home).Refresh(early); !actor.Refused(err, "invalid_grant") {
			t.Errorf("of a rotation long before: %v", err)
		}
		next, err := w.at(home).Refresh(successor)
		check(t, err)
		if _, err := w.at(home).Refresh(same); !actor.Refused(err, "invalid_grant") {
			t.Errorf("after the successor was presented: %v", err)
		}
		if _, err := w.at(home).Refresh(next.Refresh); !actor.Refused(err, "invalid_grant") {
			t.Errorf("a family that was reused lives: %v", err)
		}
		c.set(0)
		stop()
		if n := lost(); n != 1 {
			t.Errorf("%d records of lost answers", n)
		}
		w.here(c, true)() // the floor under the clock has seen the hour: the operator says that it was wrong

		w.start()
		clean := family()
		rotated(clean)
		ended := w.run
		w.stop()
		stop = w.here(c, false)
		c.set(time.Hour)
		if _, err := w.at(home).Refresh(clean); !actor.Refused(err, "invalid_grant") {
			t.Errorf("after an orderly end: %v\n%s", err, tail(ended.Said()))
		}
		stop()
		if strings.Contains(t.Name(), "sqlite") {
			if _, err := os.Stat(filepath.Join(w.dir, "clean-stop")); err != nil {
				t.Error(err)
			}
		}
	})
}
