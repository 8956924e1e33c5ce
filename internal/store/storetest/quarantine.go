package storetest

import (
	"errors"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/recovery"
	"github.com/countersign-dev/countersign/internal/store"
)

// testQuarantine: a quarantine is seen by every load, cached or not, stops what was
// decided before it began, and keeps the farthest that was seen.
func testQuarantine(t *testing.T, db Database) {
	r := open(t, db)
	defer r.s.Close()
	dana := r.person("dana")
	cl := r.client("app")
	refs := act.Refs{Kind: policy.KindPerson, Actor: dana.ID, Client: cl.ID}
	loaded := func() act.Facts { t.Helper(); return must(r.s.Load(r.ctx, policy.TokenIssue, refs))(t) }
	if loaded().Input.Context.Quarantine {
		t.Error("in quarantine before there is a deployment")
	}
	r.do(store.Found{Deployment: store.Deployment{ID: "dpl_1", Born: store.BornProduction, Issuer: "https://id.example.com", CreatedAt: start}})
	refs.Kind = policy.KindAgent // not what was cached
	before := loaded()
	if before.Input.Context.Quarantine || loaded().Input.Context.Quarantine {
		t.Error("in quarantine for nothing")
	}
	for _, n := range before.Nodes {
		if n.ID == "dpl_1" {
			t.Error("the deployment is an ancestor of a token")
		}
	}

	seen := store.Anchor{By: store.ByFeed, Epoch: 1, HW: 500, Kids: []string{"k1"}}
	r.do(store.Quarantine{Why: "a test", Seen: seen})
	for range 2 {
		if !loaded().Input.Context.Quarantine {
			t.Error("a load does not see the quarantine")
		}
	}
	d := must(r.s.Deployment(r.ctx))(t)
	if d.Why != "a test" || d.Quarantined.IsZero() || d.Epoch != 1 {
		t.Errorf("%+v", d)
	}
	w := r.write(audit.TokenIssued, "", nil)
	w.Guard = before.Guard
	if err := r.s.Commit(r.ctx, w); !errors.Is(err, act.ErrStale) {
		t.Errorf("what was decided before the quarantine was committed in it: %v", err)
	}
	same(t, must(r.s.Seen(r.ctx))(t), seen)

	seen.HW = 700
	r.do(store.Quarantine{Why: "another", Seen: seen})
	again := must(r.s.Deployment(r.ctx))(t)
	if again.Why != "a test" || !again.Quarantined.Equal(d.Quarantined) {
		t.Errorf("the first reason is gone: %+v", again)
	}
	same(t, must(r.s.Seen(r.ctx))(t), seen)
}

// testQuarantinedLog: in quarantine records are numbered, and the log's name signs
// nothing more.
func testQuarantinedLog(t *testing.T, db Database) {
	r := open(t, db)
	defer r.s.Close()
	r.do(store.Found{Deployment: store.Deployment{ID: "dpl_1", Born: store.BornProduction, Issuer: "https://id.example.com", CreatedAt: start}})
	q := sequencer(t, r.s, func(o *store.SequencerOptions) { o.Every = time.Nanosecond })
	step := func() {
		t.Helper()
		if _, err := q.Step(r.ctx); err != nil {
			t.Fatal(err)
		}
	}
	step()
	if size, _, err := r.s.LastCheckpoint(r.ctx); err != nil || size != 1 {
		t.Fatalf("signed %d: %v", size, err)
	}
	r.do(store.Quarantine{Why: "a test", Seen: store.Anchor{By: store.ByWitness, Epoch: 1, HW: 9}})
	step()
	if size, _ := must2(r.s.Head(r.ctx))(t); size != 2 {
		t.Errorf("numbered %d", size)
	}
	if size, _, err := r.s.LastCheckpoint(r.ctx); err != nil || size != 1 {
		t.Errorf("signed %d in quarantine: %v", size, err)
	}
}

// testLeaving: what was open when the backup was made, and may have been stopped
// since, does not go on after a quarantine.
func testLeaving(t *testing.T, db Database) {
	r := open(t, db)
	defer r.s.Close()
	dana := r.person("dana")
	r.do(store.Found{Deployment: store.Deployment{ID: "dpl_1", Born: store.BornProduction, Issuer: "https://id.example.com", CreatedAt: start}})
	for _, m := range []recovery.Method{recovery.ByCode, recovery.ByPeople, recovery.ByPass} {
		r.recovery(m, dana.ID, nil)
	}
	done := r.recovery(recovery.ByCode, r.person("sam").ID, nil)
	r.do(recovery.Cancel{ID: done.ID})
	r.do(store.Quarantine{Why: "a test", Seen: store.Anchor{By: store.ByFile, Epoch: 1, HW: 500}})
	r.do(store.Leave{})
	list := must(r.s.RecoveriesOf(r.ctx, dana.ID))(t)
	if len(list) != 3 {
		t.Fatalf("%+v", list)
	}
	for _, v := range list {
		if v.State != recovery.Cancelled || v.EndedAt.IsZero() {
			t.Errorf("after a restore a recovery %s is %s", v.Method, v.State)
		}
		refused(t, r.try(recovery.Complete{ID: v.ID, Person: dana.ID}), problem.Conflict, "recovery_over")
	}
	if got := must(r.s.Recovery(r.ctx, done.ID))(t); got.State != recovery.Cancelled {
		t.Errorf("one that was stopped is %s", got.State)
	}
}

// must2 is must for two values.
func must2[T, U any](v T, u U, err error) func(t testing.TB) (T, U) {
	return func(t testing.TB) (T, U) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v, u
	}
}
