package storetest

import (
	"errors"
	"sync"
	"testing"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/ruleset"
	"github.com/countersign-dev/countersign/internal/store"
)

// testRulesets: versions are kept as they were, follow each other, and move every
// act that was decided by the one before.
func testRulesets(t *testing.T, db Database) {
	r := open(t, db)
	defer r.s.Close()
	dana, cl := r.person("dana"), r.client("app")
	r.do(store.Found{Deployment: store.Deployment{ID: "dpl_1", Born: store.BornProduction, Issuer: "https://id.example.com", CreatedAt: start}})
	refs := act.Refs{Kind: policy.KindPerson, Actor: dana.ID, Client: cl.ID}
	loaded := func() act.Facts { t.Helper(); return must(r.s.Load(r.ctx, policy.TokenIssue, refs))(t) }
	before := loaded()
	if before.Ruleset != 0 || must(r.s.PolicyHead(r.ctx))(t) != 0 {
		t.Errorf("%+v", before)
	}
	_, err := r.s.Ruleset(r.ctx, 1)
	refused(t, err, problem.NotFound, "policy_version_not_found")

	src := policy.Source{Schema: "entity Cluster;", Files: []policy.File{{Name: "a.cedar", Text: "permit (principal, action, resource);\n// “ü”"}}}
	one := ruleset.Version{N: 1, Hash: src.Hash(), Source: src, By: dana.ID, Note: "first", Of: ruleset.NoVersion, PublishedAt: start}
	one.Record = r.do(ruleset.Publish{Version: one})
	same(t, must(r.s.Ruleset(r.ctx, 1))(t), one)
	for range 2 { // from the database, then from memory
		if got := loaded(); got.Ruleset != 1 {
			t.Errorf("in force is %d", got.Ruleset)
		}
	}
	w := r.write(audit.TokenIssued, "", nil)
	w.Guard = before.Guard
	if err := r.s.Commit(r.ctx, w); !errors.Is(err, act.ErrStale) {
		t.Errorf("what was decided by the policies before was committed: %v", err)
	}
	refused(t, r.try(ruleset.Publish{Version: one}), problem.Conflict, "policy_moved")
	three := one
	three.N = 3
	refused(t, r.try(ruleset.Publish{Version: three}), problem.Conflict, "policy_moved")

	// Many publish at once: one of them does.
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		two := one
		two.N, two.Of = 2, 0
		w := r.write(audit.TokenIssued, "", nil, ruleset.Publish{Version: two})
		wg.Go(func() { errs[i] = r.s.Commit(r.ctx, w) })
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		} else if problem.CodeOf(err) != "policy_moved" {
			t.Errorf("%v", err)
		}
	}
	if won != 1 || must(r.s.PolicyHead(r.ctx))(t) != 2 {
		t.Errorf("%d published", won)
	}
	list := must(r.s.Rulesets(r.ctx, 0, 10))(t)
	if len(list) != 2 || list[0].N != 2 || list[0].Of != 0 || list[1].N != 1 || list[1].Source.Files != nil || list[1].Note != "first" {
		t.Errorf("%+v", list)
	}
	if list = must(r.s.Rulesets(r.ctx, 2, 10))(t); len(list) != 1 || list[0].N != 1 {
		t.Errorf("%+v", list)
	}

	// Another process on the same database learns of it when it forgets what it
	// remembers, and at the latest when it commits.
	other := newRig(t, db.Open())
	defer other.s.Close()
	if got := must(other.s.Load(r.ctx, policy.TokenIssue, refs))(t); got.Ruleset != 2 {
		t.Errorf("in force is %d", got.Ruleset)
	}
	three.Of = 1
	r.do(ruleset.Publish{Version: three})
	if got := must(other.s.Load(r.ctx, policy.TokenIssue, refs))(t); got.Ruleset != 2 {
		t.Errorf("the control: it remembers nothing, %d", got.Ruleset)
	}
	other.s.Forget()
	if got := must(other.s.Load(r.ctx, policy.TokenIssue, refs))(t); got.Ruleset != 3 {
		t.Errorf("in force is %d", got.Ruleset)
	}
}
