//go:build linux && amd64

package trust

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/config"
	"github.com/countersign-dev/countersign/internal/server"
	"github.com/countersign-dev/countersign/test/trust/actor"
	"github.com/countersign-dev/countersign/test/trust/disk"
)

func init() { recorder = disk.Main }

// traceable skips a campaign where no process may watch another.
func traceable(t *testing.T) {
	t.Helper()
	if err := disk.Traceable(); err != nil {
		t.Skipf("processes cannot be traced here: %v", err)
	}
}

// TestPowerCut records every call by which the server changes files while it
// works, stops, starts and works on. Then, for each moment, it rebuilds what a
// power cut may have left: nothing of what was not synced, all of it, some of the
// writes, some of their sectors. On each of these disks everything that was
// acknowledged until then is there, nothing can be spent again, and the log is
// whole against a checkpoint that somebody else had seen. A disk that lies about
// its syncs must be found out.
func TestPowerCut(t *testing.T) {
	traceable(t)
	l := newLedger(t)
	for range 2 {
		l.start()
		l.work(rounds(30) + 7)
		l.stop()
	}
	l.start()
	l.work(rounds(30) + 7)
	l.kill()
	first, events := l.complete()
	points := l.points(events)
	end := ceiling(15 * time.Minute)
	honest := l.examine(first, events, points, end)
	if honest.lost+honest.twice+honest.broken > 0 || honest.tried == 0 {
		t.Errorf("%d disks of %d moments: %d acknowledged lost, %d spent twice, %d that do not open or whose log is not whole", honest.disks, len(points), honest.lost, honest.twice, honest.broken)
	}
	first.Lying = true
	lying := l.examine(first, events, points[len(points)*3/4:][:max(3, len(points)/50)], end)
	if lying.lost+lying.broken == 0 {
		t.Error("a disk that lies about its syncs was not found out")
	}
	report(t, "power cut, SQLite", "%d calls recorded, a cut after each of %d: %d disks (un-synced writes dropped, kept, reordered, torn), %d checks of %d acknowledged writes, %d lost; %d values tried again, %d spent twice; %d disks with a log that is not whole; a disk that lies about syncs is found out",
		len(events), len(points), honest.disks, honest.checks, l.writes(), honest.lost, honest.tried, honest.twice, honest.broken)
}

// told is something that somebody was told by the server.
type told struct {
	at    time.Time
	pos   int64 // of the recording, when they had been told
	jti   string
	again func(app, keyed *actor.Client) error // presents once more what was spent for it; nil: nothing was
	chain int                                  // refresh: whose; -1: none
	next  string                               // the refresh token that is theirs now
	note  []byte                               // a checkpoint
}

// ledger is a deployment that is recorded, and what it told whom.
type ledger struct {
	*world
	rec     *disk.Recorder
	browser *actor.Browser
	mu      sync.Mutex
	told    []told
	chains  [4]chain
	failed  atomic.Bool
	late    sync.Once
}

func newLedger(t *testing.T) *ledger {
	l := &ledger{world: newWorld(t, t.TempDir(), "", nil)}
	l.start()
	l.browser = l.person()
	for i := range l.chains {
		r := l.app.NewRequest(theAPI, theScope)
		back, err := l.browser.Authorize(r.Query)
		check(t, err)
		tokens, err := l.app.Redeem(r, back.Get("code"))
		check(t, err)
		l.chains[i].current = tokens.Refresh
	}
	l.stop()
	l.rec = disk.New(t, l.dir)
	l.wrap = l.rec.Command
	return l
}

// kill ends the server as a power cut would, and the recording with it.
func (l *ledger) kill() {
	l.t.Helper()
	check(l.t, l.rec.Kill(l.run.PID()))
	select {
	case <-l.run.Exited():
		l.run = nil
	case <-time.After(time.Minute):
		l.t.Fatalf("the server is not gone: %s", tail(l.run.Said()))
	}
}

// note keeps what somebody was told.
func (l *ledger) note(e told) {
	pos, err := l.rec.Position()
	if err != nil {
		l.t.Error(err)
	}
	e.at, e.pos = time.Now(), pos
	l.mu.Lock()
	defer l.mu.Unlock()
	l.told = append(l.told, e)
}

// work does n things that write, by four clients at once.
func (l *ledger) work(n int) {
	l.t.Helper()
	l.see()
	var left atomic.Int64
	left.Store(int64(n))
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if err := l.one(i); err != nil {
					l.t.Errorf("without a fault: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	l.see()
}

// writes counts what was acknowledged.
func (l *ledger) writes() (n int) {
	for _, e := range l.told {
		if e.jti != "" {
			n++
		}
	}
	return n
}

// see keeps the log's newest checkpoint, as a witness would.
func (l *ledger) see() {
	note, err := get(l.issuer + "/log/1/checkpoint")
	if err != nil {
		l.t.Error(err)
	}
	l.note(told{chain: -1, note: note})
}

// one does one thing of those that write, and notes what it was told.
func (l *ledger) one(kind int) error {
	switch kind {
	case 0:
		tokens, err := l.machine.Credentials("")
		if err == nil {
			l.note(told{jti: tokens.JTI(), chain: -1})
		}
		return err
	case 1:
		a, err := l.keyed.Assertion()
		if err != nil {
			return err
		}
		tokens, err := l.keyed.Credentials(a)
		if err == nil {
			l.note(told{jti: tokens.JTI(), chain: -1, again: func(_, keyed *actor.Client) error { _, err := keyed.Credentials(a); return err }})
		}
		return err
	case 2:
		i := rand.IntN(len(l.chains))
		c := &l.chains[i]
		c.mu.Lock()
		defer c.mu.Unlock()
		tokens, err := l.app.Refresh(c.current)
		if err == nil {
			c.current = tokens.Refresh
			l.note(told{jti: tokens.JTI(), chain: i, next: tokens.Refresh})
		}
		return err
	}
	r := l.app.NewRequest(theAPI, theScope)
	back, err := l.browser.Authorize(r.Query)
	if err != nil {
		return err
	}
	tokens, err := l.app.Redeem(r, back.Get("code"))
	if err == nil {
		l.note(told{jti: tokens.JTI(), chain: -1, again: func(app, _ *actor.Client) error { _, err := app.Redeem(r, back.Get("code")); return err }})
	}
	return err
}

func get(url string) ([]byte, error) {
	resp, err := probe.Get(url)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %d", url, resp.StatusCode)
	}
	return b, err
}

// complete gives the recording, after it has held it against the folder: what
// was recorded is all that happened.
func (l *ledger) complete() (*disk.State, []disk.Event) {
	l.t.Helper()
	first, events, err := l.rec.Events()
	check(l.t, err)
	state, dir := first.Clone(), l.t.TempDir()
	for _, e := range events {
		state.Apply(e)
	}
	check(l.t, state.Image(dir, disk.Kept, rand.New(rand.NewPCG(0, 0))))
	entries, err := os.ReadDir(l.dir)
	check(l.t, err)
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), "-shm") {
			continue
		}
		want, err := os.ReadFile(filepath.Join(l.dir, e.Name()))
		check(l.t, err)
		if got, err := os.ReadFile(filepath.Join(dir, e.Name())); err != nil || string(got) != string(want) {
			l.t.Errorf("the recording of %s is not what is there: %d bytes for %d, %v", e.Name(), len(got), len(want), err)
		}
	}
	return first, events
}

// points are the events after which the power is cut: in full all of them.
func (l *ledger) points(events []disk.Event) (points []int) {
	step := 1
	if !full() {
		step = max(1, len(events)/20)
	}
	for i := step - 1; i < len(events); i += step {
		points = append(points, i)
	}
	return points
}

// findings are what was found on the disks that power cuts left.
type findings struct{ disks, checks, lost, tried, twice, broken int }

func (f *findings) add(g findings) {
	f.disks, f.checks, f.lost = f.disks+g.disks, f.checks+g.checks, f.lost+g.lost
	f.tried, f.twice, f.broken = f.tried+g.tried, f.twice+g.twice, f.broken+g.broken
}

// examine rebuilds the disks of the points, each in every way of losing, and
// looks at them.
func (l *ledger) examine(state *disk.State, events []disk.Event, points []int, end time.Time) (sum findings) {
	l.t.Helper()
	type task struct {
		state  *disk.State
		last   disk.Event
		point  int
		losses []disk.Loss
	}
	tasks := make(chan task)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for k := range tasks {
				for _, loss := range k.losses {
					if time.Now().After(end) {
						l.late.Do(func() { l.t.Error("there is no time to look at all disks") })
						continue
					}
					found := l.look(k.state, k.last, k.point, loss)
					mu.Lock()
					sum.add(found)
					mu.Unlock()
				}
			}
		})
	}
	at := 0
	state = state.Clone()
	for i, e := range events {
		state.Apply(e)
		if at < len(points) && points[at] == i {
			at++
			losses := []disk.Loss{disk.Kept, disk.Reordered, disk.Torn}
			if !full() || i+1 == len(events) || events[i+1].Op == disk.Sync { // else what is left without all this is the same as then
				losses = append(losses, disk.Dropped)
			}
			tasks <- task{state.Clone(), e, i, losses}
		}
		if !state.Lying && l.failed.Load() {
			break
		}
	}
	close(tasks)
	wg.Wait()
	return sum
}

// look rebuilds one disk and holds it against what was told before the cut.
func (l *ledger) look(state *disk.State, last disk.Event, point int, loss disk.Loss) (f findings) {
	f.disks = 1
	dir, err := os.MkdirTemp(l.t.TempDir(), "disk-")
	if err == nil {
		defer os.RemoveAll(dir)
		err = state.Image(dir, loss, rand.New(rand.NewPCG(uint64(point), uint64(len(loss)))))
	}
	if err != nil {
		l.t.Error(err)
		return f
	}
	complain := func(format string, args ...any) {
		if !state.Lying {
			l.failed.Store(true)
			l.t.Errorf("power cut after event %d (%s %s), un-synced %s: %s", point, last.Op, last.Name, loss, fmt.Sprintf(format, args...))
		}
	}
	known := slices.DeleteFunc(slices.Clone(l.told), func(e told) bool { return e.pos > last.End })
	if err := l.hold(dir, known, l.moment(last.End), &f, complain); err != nil {
		f.broken++
		complain("%v", err)
	}
	return f
}

// moment is a time after all that is written at a position of the recording: when
// somebody was next told something. What was written and not told yet is no later, as
// it would seem to be by the time of who was told last.
func (l *ledger) moment(pos int64) (at time.Time) {
	for _, e := range l.told {
		if at = e.at; e.pos > pos {
			break
		}
	}
	return at
}

// hold opens the deployment of a disk, at a time, and holds it against what was told.
func (l *ledger) hold(dir string, known []told, now time.Time, f *findings, complain func(string, ...any)) (err error) {
	ctx := context.Background()
	cfg, err := config.Parse([]byte(strings.ReplaceAll(l.text, l.dir, dir)), nil)
	if err != nil {
		return err
	}
	st, err := server.OpenState(ctx, cfg, server.Options{Now: func() time.Time { return now }})
	if err != nil {
		return fmt.Errorf("it does not open: %w", err)
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	ids, err := records(filepath.Join(dir, "countersign.db"))
	if err != nil {
		return fmt.Errorf("the records cannot be read: %w", err)
	}
	chains := map[int]string{}
	var note []byte
	for _, e := range known {
		if e.jti != "" {
			f.checks++
			if !ids[e.jti] {
				f.lost++
				complain("%s was acknowledged and has no record", e.jti)
			}
		}
		if e.chain >= 0 {
			chains[e.chain] = e.next
		}
		if e.note != nil {
			note = e.note
		}
	}
	if err := l.whole(st, note, filepath.Join(dir, "checkpoint")); err != nil {
		return err
	}
	srv, err := server.New(st)
	if err != nil {
		return err
	}
	h, err := srv.Handler()
	if err != nil {
		return err
	}
	return l.again(h, known, chains, now, f, complain)
}

// records are the ids of all records of a database.
func records(path string) (ids map[string]bool, err error) {
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(10000)")
	if err != nil {
		return nil, err
	}
	defer db.Close()
	rows, err := db.Query(`SELECT id FROM audit`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	ids = map[string]bool{}
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids[id] = true
	}
	return ids, rows.Err()
}

// whole verifies the log, against the checkpoint that somebody saw and against
// the one beside the database.
func (l *ledger) whole(st *server.State, seen []byte, beside string) error {
	kept, err := os.ReadFile(beside)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	key, err := st.VerificationKey()
	if err != nil {
		return err
	}
	for _, against := range [][]byte{seen, kept} {
		rep, err := audit.Verify(context.Background(), st.Store, audit.Options{VKey: key, Against: against, Keys: st.Names})
		if err != nil {
			return err
		}
		if !rep.OK() {
			return fmt.Errorf("the log: %v", rep.Lines())
		}
	}
	return nil
}

// again presents what was spent last, which must be refused, and what clients
// may still use, which must not.
func (l *ledger) again(h http.Handler, known []told, chains map[int]string, now time.Time, f *findings, complain func(string, ...any)) error {
	app, keyed := *l.app, *l.keyed
	hc := &http.Client{Transport: direct{h}}
	app.HTTP, keyed.HTTP = hc, hc
	left := 6
	for _, e := range slices.Backward(known) {
		if e.again == nil || left == 0 || now.Sub(e.at) > 30*time.Second {
			continue
		}
		left--
		f.tried++
		if err := e.again(&app, &keyed); !actor.Refused(err, "invalid_grant", "invalid_client") {
			f.twice++
			complain("what was spent for %s: %v", e.jti, err)
		}
	}
	for i, token := range chains {
		if _, err := app.Refresh(token); err != nil {
			f.lost++
			complain("the refresh token that client %d was given: %v", i, err)
		}
	}
	return nil
}

// direct sends requests to a handler.
type direct struct{ h http.Handler }

// RoundTrip implements http.RoundTripper.
func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	in := r.Clone(r.Context())
	in.RemoteAddr, in.Host, in.RequestURI = "127.0.0.1:1", r.URL.Host, r.URL.RequestURI()
	if in.Body == nil {
		in.Body = http.NoBody
	}
	w := httptest.NewRecorder()
	d.h.ServeHTTP(w, in)
	return w.Result(), nil
}
