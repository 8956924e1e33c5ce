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
	databases(t, 1, 1, func(t *testing.T, dsn string, _ int) {
		w := newWorld(t, t.TempDir(), dsn, nil)
		w.start()
		b := w.person()
		family := func() (first, second string) {
			r := w.app.NewRequest(theAPI, theScope, "openid")
			back, err := b.Authorize(r.Query)
			check(t, err)
			tokens, err := w.at(home).Redeem(r, back.Get("code"))
			check(t, err)
			next, err := w.at(home).Refresh(tokens.Refresh)
			check(t, err)
			return tokens.Refresh, next.Refresh
		}
		early, _ := family()
		time.Sleep(7500 * time.Millisecond) // over five seconds before what is seen of the process
		same, successor := family()
		elsewhere, _ := family()
		w.kill()
		if _, err := os.Stat(filepath.Join(w.dir, "clean-stop")); err == nil {
			t.Error("who was killed says that it ended in good order")
		}

		c := &clock{}
		stop := w.here(c, false)
		db := w.db()
		lost := func() (n int) {
			check(t, db.QueryRow("SELECT count(*) FROM audit WHERE kind = 268").Scan(&n))
			return n
		}
		// On PostgreSQL a killed holder is told from a live one when its lease ends.
		for end := time.Now().Add(5 * time.Second); lost() == 0 && time.Now().Before(end); {
			time.Sleep(20 * time.Millisecond)
		}
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
		clean, _ := family()
		w.stop()
		stop = w.here(c, false)
		c.set(time.Hour)
		if _, err := w.at(home).Refresh(clean); !actor.Refused(err, "invalid_grant") {
			t.Errorf("after an orderly end: %v", err)
		}
		stop()
		if strings.Contains(t.Name(), "sqlite") {
			if _, err := os.Stat(filepath.Join(w.dir, "clean-stop")); err != nil {
				t.Error(err)
			}
		}
	})
}
