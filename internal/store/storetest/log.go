package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/group"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/store"
)

// settle numbers and signs everything that is committed.
func settle(t testing.TB, r *rig) *store.Sequencer {
	t.Helper()
	q := sequencer(t, r.s, nil)
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	for {
		more, err := q.Step(ctx)
		if err != nil {
			t.Fatalf("the sequencer: %v", err)
		}
		if !more {
			break
		}
	}
	done, end := context.WithCancel(r.ctx)
	end()
	q.Run(done) // gives the lease back
	return q
}

// whole verifies the log and fails the test if it does not hold.
func whole(t testing.TB, r *rig) audit.Report {
	t.Helper()
	rep := must(audit.Verify(r.ctx, r.s, audit.Options{VKey: vkey(t), Keys: r.keys}))(t)
	if !rep.OK() {
		t.Errorf("the log does not hold: %v", rep.Lines())
	}
	return rep
}

func testErasure(t *testing.T, db Database) {
	r := open(t, db)
	defer r.s.Close()
	admins := r.group(group.Administrators)
	p := r.person("dana", admins.ID)
	w := r.write(audit.SessionOpened, "", []string{p.ID})
	if err := r.s.Commit(r.ctx, w); err != nil {
		t.Fatal(err)
	}
	settle(t, r)
	if rep := whole(t, r); rep.Erased != 0 {
		t.Errorf("%d parts erased before anybody was", rep.Erased)
	}
	refused(t, r.try(account.Erase{ID: p.ID}), problem.Conflict, "last_administrator")
	r.person("sam", admins.ID)
	k := r.passkey(p.ID)
	v, h := r.session(p.ID, k.ID)
	r.do(account.Erase{ID: p.ID})
	_, err := r.s.Person(r.ctx, p.ID)
	refused(t, err, problem.NotFound, "person_not_found")
	_, err = r.s.SessionBySecret(r.ctx, h)
	refused(t, err, problem.NotFound, "session_not_found")
	if n := node(t, r, p.ID); n.Live() || n.Why != "erased" {
		t.Errorf("node of an erased person: %+v", n)
	}
	if n := node(t, r, v.ID); !n.Live() {
		t.Errorf("the session's own node: %+v", n)
	}
	if _, ok, err := r.s.PseudonymOf(r.ctx, p.ID); ok || err != nil {
		t.Errorf("the pseudonym of an erased person: %v, %v", ok, err)
	}
	if _, _, err := r.keys.Pseudonym(r.ctx, p.ID); !errors.Is(err, audit.ErrErased) {
		t.Errorf("a new record key for an erased person: %v", err)
	}
	settle(t, r)
	if rep := whole(t, r); rep.Erased != 1 {
		t.Errorf("%d parts erased, want 1", rep.Erased)
	}
	refused(t, r.try(account.Erase{ID: p.ID}), problem.NotFound, "person_not_found")
}

func testRestart(t *testing.T, db Database) {
	r := open(t, db)
	p := r.person("dana")
	v := once.Value{Purpose: once.Code, Key: once.KeyOf(once.Code, "a"), MadeAt: r.at, ExpiresAt: r.at.Add(time.Hour)}
	r.do(once.Put{Value: v})
	w := r.write(audit.GrantOpened, "", []string{p.ID}, lineage.Freeze{ID: p.ID, Why: "x"})
	w.Spend = []once.Spend{{Purpose: v.Purpose, Key: v.Key, Ref: "gnt_1"}}
	if err := r.s.Commit(r.ctx, w); err != nil {
		t.Fatal(err)
	}
	settle(t, r)
	size, root, err := r.s.Head(r.ctx)
	if err != nil || size == 0 {
		t.Fatal(size, err)
	}
	if err := r.s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := r.try(); !errors.Is(err, problem.Unavailable) {
		t.Errorf("a write to a closed store: %v", err)
	}
	r = open(t, db)
	defer r.s.Close()
	again := r.write(audit.GrantOpened, "", nil)
	again.Spend = w.Spend
	if u, ok := act.Spent(r.s.Commit(r.ctx, again)); !ok || u.By != w.Record {
		t.Error("a restart revived a spent value")
	}
	if n := node(t, r, p.ID); n.Live() {
		t.Error("a restart thawed a person")
	}
	if s2, r2, err := r.s.Head(r.ctx); err != nil || s2 != size || r2 != root {
		t.Errorf("head after the restart: %d %x %v", s2, r2, err)
	}
	r.do()
	settle(t, r)
	if rep := whole(t, r); rep.Size != size+1 || rep.Covered != size+1 {
		t.Errorf("after the restart: %+v", rep)
	}
}

func testPages(t *testing.T, db Database) {
	r := open(t, db)
	defer r.s.Close()
	p, q := r.person("dana"), r.person("sam")
	var mine []string
	for i := range 30 {
		who, kind := p, audit.SessionOpened
		if i%3 == 0 {
			who, kind = q, audit.SessionEnded
		}
		w := r.write(kind, "", []string{who.ID})
		if err := r.s.Commit(r.ctx, w); err != nil {
			t.Fatal(err)
		}
		if who.ID == p.ID {
			mine = append(mine, w.Record)
		}
	}
	pseudonym, ok, err := r.s.PseudonymOf(r.ctx, p.ID)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	collect := func(f store.Filter, n int) (ids []string) {
		t.Helper()
		for {
			page, more, err := r.s.AuditPage(r.ctx, f, n)
			if err != nil {
				t.Fatal(err)
			}
			for _, rec := range page {
				ids = append(ids, rec.ID)
			}
			if more == "" {
				return ids
			}
			f.Before = more
		}
	}
	for _, n := range []int{1, 7, 20, 100} {
		got := collect(store.Filter{Person: pseudonym}, n)
		if len(got) != len(mine) || got[0] != mine[len(mine)-1] || got[len(got)-1] != mine[0] {
			t.Errorf("pages of %d by person: %d records", n, len(got))
		}
		if got := collect(store.Filter{Kinds: []audit.Kind{audit.SessionEnded}}, n); len(got) != 10 {
			t.Errorf("pages of %d by kind: %d records", n, len(got))
		}
		if got := collect(store.Filter{}, n); len(got) != 32 {
			t.Errorf("pages of %d: %d records", n, len(got))
		}
	}
	settle(t, r)
	rec := must(r.s.RecordByID(r.ctx, mine[0]))(t)
	parts, err := audit.Open(r.ctx, rec.Row, r.keys)
	if err != nil || len(parts) < 2 {
		t.Errorf("open a record: %+v, %v", parts, err)
	}
}

func testSequencer(t *testing.T, db Database) {
	r := open(t, db)
	defer r.s.Close()
	var grown, kept uint64
	var mu sync.Mutex
	q := sequencer(t, r.s, func(o *store.SequencerOptions) {
		o.Every = time.Hour // only on demand
		o.Grown = func(size uint64) { mu.Lock(); grown = size; mu.Unlock() }
		o.Kept = func(size uint64, note []byte) { mu.Lock(); kept = size; mu.Unlock() }
	})
	ctx, cancel := context.WithCancel(r.ctx)
	ended := make(chan struct{})
	go func() { defer close(ended); q.Run(ctx) }()
	const writers, each = 8, 40
	race(writers, func(i int) error {
		for range each {
			if err := r.s.Commit(context.Background(), r.write(audit.TokenIssued, "", nil)); err != nil {
				t.Error(err)
			}
		}
		return nil
	})
	last := r.do()
	began := time.Now()
	if err := q.CheckpointNow(r.ctx, last); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("a checkpoint on demand took %v", took)
	}
	rep := whole(t, r)
	if rep.Size != writers*each+1 || rep.Covered != rep.Size {
		t.Errorf("the log after %d acts: %+v", writers*each+1, rep)
	}
	mu.Lock()
	if grown != rep.Size || kept != rep.Size {
		t.Errorf("told of size %d, checkpoint %d; it is %d", grown, kept, rep.Size)
	}
	mu.Unlock()
	r.do() // what is committed last is signed before the sequencer ends
	cancel()
	<-ended
	if c := must(r.s.Counts(r.ctx))(t); c.Pending != 0 || c.Signed != c.Records || c.Records != int64(rep.Size)+1 || c.Bytes == 0 {
		t.Errorf("counts after the sequencer ended: %+v", c)
	}
	if q.Fault() != nil {
		t.Error(q.Fault())
	}
}

func testTwoSequencers(t *testing.T, db Database) {
	rs := nodes(t, db)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	start := func(r *rig, ctx context.Context) {
		q := sequencer(t, r.s, func(o *store.SequencerOptions) {
			o.Every, o.Lease, o.Poll = 30*time.Millisecond, 200*time.Millisecond, 20*time.Millisecond
		})
		running.Go(func() { q.Run(ctx) })
	}
	first, stopFirst := context.WithCancel(ctx)
	start(rs[0], first)
	start(rs[len(rs)-1], ctx)
	const writers, each = 6, 60
	race(writers, func(i int) error {
		r := rs[i%len(rs)]
		for j := range each {
			if i == 0 && j == each/2 {
				stopFirst()
			}
			if err := r.s.Commit(context.Background(), r.write(audit.TokenIssued, "", nil)); err != nil {
				t.Error(err)
			}
		}
		return nil
	})
	deadline := time.Now().Add(time.Minute)
	for {
		c := must(rs[0].s.Counts(rs[0].ctx))(t)
		if c.Records == writers*each && c.Signed == c.Records {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the log stands at %+v", c)
		}
		time.Sleep(10 * time.Millisecond)
	}
	cancel()
	stopFirst()
	running.Wait()
	next := uint64(0)
	if err := rs[0].s.Rows(t.Context(), 0, func(seq uint64, _ audit.Row) error {
		if seq != next {
			return fmt.Errorf("record %d follows %d", seq, next-1)
		}
		next++
		return nil
	}); err != nil || next != writers*each {
		t.Errorf("%d records in order: %v", next, err)
	}
	whole(t, rs[0])
}

// testFence pauses a holder past its lease: what it does when it comes back
// must change nothing.
func testFence(t *testing.T, db Database) {
	rs := nodes(t, db)
	a, b := rs[0], rs[len(rs)-1]
	fast := func(o *store.SequencerOptions) { o.Lease = 50 * time.Millisecond }
	long := func(o *store.SequencerOptions) { o.Lease = time.Hour }
	paused, other := sequencer(t, a.s, fast), sequencer(t, b.s, long)
	a.do()
	if _, err := paused.Step(t.Context()); err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond) // the pause
	a.do()
	if _, err := other.Step(t.Context()); err != nil {
		t.Fatal(err)
	}
	before, root, _ := a.s.Head(t.Context())
	if before != 2 {
		t.Fatalf("the successor left the log at %d", before)
	}
	a.do()
	for range 3 {
		if _, err := paused.Step(t.Context()); err != nil && problem.From(err) != nil {
			t.Errorf("a fenced step: %v", err)
		}
	}
	if size, now, err := a.s.Head(t.Context()); err != nil || size != before || now != root {
		t.Errorf("a fenced holder moved the head to %d", size)
	}
	if _, err := other.Step(t.Context()); err != nil {
		t.Fatal(err)
	}
	if size, _, _ := a.s.Head(t.Context()); size != 3 {
		t.Errorf("the successor stands at %d", size)
	}
}

// testEdits changes stored rows as an attacker with the database would, one at
// a time, and verifies through the real store.
func testEdits(t *testing.T, db Database) {
	r := open(t, db)
	defer r.s.Close()
	p := r.person("dana")
	for i := range 40 {
		w := r.write(audit.SessionOpened, p.ID, []string{p.ID})
		if i%4 == 0 {
			w = r.write(audit.TokenIssued, p.ID, nil)
		}
		if err := r.s.Commit(r.ctx, w); err != nil {
			t.Fatal(err)
		}
	}
	settle(t, r)
	whole(t, r)
	_, against, err := r.s.LastCheckpoint(r.ctx)
	if err != nil {
		t.Fatal(err)
	}
	n := 1000
	if testing.Short() {
		n = 100
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range n {
		src := &edited{Source: r.s, edit: edits[i%len(edits)], rng: rng, at: rng.Uint64N(41)}
		rep, err := audit.Verify(r.ctx, src, audit.Options{VKey: vkey(t), Against: against})
		if err != nil {
			t.Fatalf("edit %d (%s at %d): %v", i, src.edit.name, src.at, err)
		}
		if rep.OK() {
			t.Fatalf("edit %d (%s at %d) was not noticed", i, src.edit.name, src.at)
		}
	}
}

// edited is a log with one change in it.
type edited struct {
	audit.Source
	edit edit
	rng  *rand.Rand
	at   uint64
}

type edit struct {
	name string
	do   func(e *edited, seq uint64, row *audit.Row) (keep bool)
}

func flip(rng *rand.Rand, b []byte) []byte {
	b = bytes.Clone(b)
	b[rng.IntN(len(b))] ^= 1 << rng.IntN(8)
	return b
}

var edits = []edit{
	{"entry", func(e *edited, _ uint64, row *audit.Row) bool { row.Entry = flip(e.rng, row.Entry); return true }},
	{"body", func(e *edited, _ uint64, row *audit.Row) bool { row.Body = flip(e.rng, row.Body); return true }},
	{"leaf", func(_ *edited, _ uint64, row *audit.Row) bool { row.Leaf += "X"; return true }},
	{"kind", func(_ *edited, _ uint64, row *audit.Row) bool { row.Kind++; return true }},
	{"time", func(_ *edited, _ uint64, row *audit.Row) bool { row.At++; return true }},
	{"id", func(_ *edited, _ uint64, row *audit.Row) bool { row.ID = row.ID[:len(row.ID)-1] + "?"; return true }},
	{"facts", func(e *edited, _ uint64, row *audit.Row) bool { row.Facts = flip(e.rng, row.Facts); return true }},
	{"facts hash", func(e *edited, _ uint64, row *audit.Row) bool {
		row.FactsHash = flip(e.rng, row.FactsHash)
		return true
	}},
	{"deletion", func(*edited, uint64, *audit.Row) bool { return false }},
}

func (e *edited) Rows(ctx context.Context, from uint64, fn func(uint64, audit.Row) error) error {
	return e.Source.Rows(ctx, from, func(seq uint64, row audit.Row) error {
		if seq == e.at && !e.edit.do(e, seq, &row) {
			return nil
		}
		return fn(seq, row)
	})
}

func testHousekeeping(t *testing.T, db Database) {
	r := open(t, db)
	defer r.s.Close()
	value := func(name string, p once.Purpose, expires time.Time) once.Value {
		return once.Value{Purpose: p, Key: once.KeyOf(p, name), Bound: name, MadeAt: start, ExpiresAt: expires}
	}
	day := value("a day past", once.Code, r.at.Add(-25*time.Hour))
	hour := value("an hour past", once.Code, r.at.Add(-time.Hour))
	r.do(once.Put{Value: day}, once.Put{Value: hour})
	for i := range 700 {
		w := r.write(audit.TokenIssued, "", nil)
		w.Spend = []once.Spend{{Purpose: once.DPoP, Key: once.KeyOf(once.DPoP, fmt.Sprint(i)), Mark: true, Until: r.at.Add(-2 * time.Minute)}}
		if i == 0 {
			w.Spend[0].Until = r.at.Add(time.Hour)
		}
		if err := r.s.Commit(r.ctx, w); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.s.DeleteExpired(r.ctx, time.Now()); err != nil {
		t.Fatal(err)
	}
	there := func(p once.Purpose, k once.Key) bool { _, err := r.s.OnceValue(r.ctx, p, k); return err == nil }
	if there(once.Code, day.Key) || !there(once.Code, hour.Key) || !there(once.DPoP, once.KeyOf(once.DPoP, "0")) || there(once.DPoP, once.KeyOf(once.DPoP, "699")) {
		t.Error("housekeeping took what it should keep, or kept what it should take")
	}
}

// testSize measures what a routine machine token adds to the database, its place
// in the log included: at most 600 bytes.
func testSize(t *testing.T, db Database) {
	r := open(t, db)
	owner := r.person("owner")
	c, sv := r.service(owner.ID, "robot")
	token := func() act.Write {
		at := time.Now().UTC().Truncate(time.Microsecond)
		w := r.write(audit.TokenIssued, c.ID, nil)
		rec := audit.Record{ID: w.Record, Kind: audit.TokenIssued, At: at, Leaf: c.ID, Facts: map[string]any{
			"action": "token.issue", "kind": "service", "client": c.ID, "service": sv.ID, "outcome": "allow", "policy": "sha256:abc", "detail": []string{"notes:read"},
		}}
		row, err := r.writer.Seal(r.ctx, rec, r.keys)
		if err != nil {
			t.Fatal(err)
		}
		w.Row, w.At = row, at
		return w
	}
	issue := func(n int) {
		race(16, func(int) error {
			for range n / 16 {
				if err := r.s.Commit(context.Background(), token()); err != nil {
					t.Error(err)
				}
			}
			return nil
		})
		settle(t, r)
	}
	measure := func() int64 { // reopened, so that the write-ahead log is in the file
		r.s.Close()
		r = open(t, db)
		return must(r.s.Counts(r.ctx))(t).Bytes
	}
	issue(2000)
	before := measure()
	n := 8000
	issue(n)
	per := float64(measure()-before) / float64(n)
	t.Logf("%s: %.0f bytes a machine token", r.s.Engine(), per)
	if r.s.Engine() == "sqlite" && per > 600 {
		t.Errorf("a machine token takes %.0f bytes", per)
	}
	r.s.Close()
}
