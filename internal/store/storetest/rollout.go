package storetest

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/group"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/policy/replay"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/ruleset"
	"github.com/countersign-dev/countersign/internal/store"
)

// candidate is the default set and a rule, with its source.
func candidate(t testing.TB, text string) (policy.Source, *policy.Set) {
	t.Helper()
	src := policy.Default()
	src.Files = append(src.Files, policy.File{Name: "99.cedar", Text: text})
	return src, must(policy.Compile(src))(t)
}

func (r *rig) founded() {
	r.t.Helper()
	r.do(store.Found{Deployment: store.Deployment{ID: "dpl_1", Born: store.BornProduction, Issuer: "https://id.example.com", CreatedAt: start}})
}

// judged has a process judge something, as every one has before it commits: then it knows
// its deployment, on which those who change the policies wait for each other.
func (r *rig) judged(person string) {
	r.t.Helper()
	must(r.s.Load(r.ctx, policy.SelfRead, act.Refs{Kind: policy.KindPerson, Actor: person}))(r.t)
}

// testRollouts: a rollout is kept as it was started; one runs at a time, of many that
// start or change it at once one does; every act that was decided before is decided
// again; and nothing is published beside it.
func testRollouts(t *testing.T, db Database) {
	r := open(t, db)
	defer r.s.Close()
	dana := r.person("dana")
	r.founded()
	refs := act.Refs{Kind: policy.KindPerson, Actor: dana.ID}
	loaded := func() act.Facts { t.Helper(); return must(r.s.Load(r.ctx, policy.SelfRead, refs))(t) }
	before := loaded()
	edition := int64(-1)
	moved := func(by int64) {
		t.Helper()
		now := must(r.s.Policies(r.ctx))(t).Edition
		if edition >= 0 && now != edition+by {
			t.Errorf("the edition went from %d to %d", edition, now)
		}
		edition = now
	}
	moved(0)
	if _, runs, err := r.s.OpenRollout(r.ctx); runs || err != nil || before.Rollout != nil {
		t.Errorf("%v %v %+v", runs, err, before.Rollout)
	}
	_, err := r.s.Rollout(r.ctx, 1)
	refused(t, err, problem.NotFound, "rollout_not_found")

	src, _ := candidate(t, `@id("x") @reason("“ü”") forbid (principal, action == Action::"group.write", resource);`)
	one := ruleset.Rollout{
		N: 1, Hash: src.Hash(), Source: src, By: dana.ID, Note: "first", Revision: 1, State: ruleset.Open, StartedAt: start,
		Waves: []policy.Wave{{Groups: []string{"a", "b"}, From: start, Budget: policy.Budget{Prompts: 5, Denials: 1}}, {Rest: true, From: start.Add(time.Hour)}},
	}
	three := one
	three.N = 3
	refused(t, r.try(ruleset.Start{Rollout: three}), problem.Conflict, "rollout_moved")
	late := one
	late.Base = 7
	refused(t, r.try(ruleset.Start{Rollout: late}), problem.Conflict, "policy_moved")
	one.Record = r.do(ruleset.Start{Rollout: one})
	same(t, must(r.s.Rollout(r.ctx, 1))(t), one)
	moved(1)
	for range 2 { // from the database, then from memory
		if got := loaded().Rollout; got == nil || got.N != 1 || len(got.Waves) != 2 {
			t.Errorf("%+v", got)
		}
	}
	w := r.write(audit.TokenIssued, "", nil)
	w.Guard = before.Guard
	if err := r.s.Commit(r.ctx, w); !errors.Is(err, act.ErrStale) {
		t.Errorf("what was decided before was committed: %v", err)
	}
	two := one
	two.N = 2
	refused(t, r.try(ruleset.Start{Rollout: two}), problem.Conflict, "rollout_running")
	refused(t, r.try(ruleset.Publish{Version: ruleset.Version{N: 1, Hash: src.Hash(), Source: src, Of: ruleset.NoVersion}}), problem.Conflict, "rollout_running")

	other := newRig(t, db.Open())
	defer other.s.Close()
	other.judged(dana.ID)
	held := must(one.Hold(2, policy.Paused))(t)
	wins(t, "rollout_moved", func() error { return r.try(held) }, func() error { return other.try(held) }, func() error { return r.try(held) })
	now := must(r.s.Rollout(r.ctx, 1))(t)
	if now.Revision != 2 || now.Waves[1].Held != policy.Paused || now.Waves[0].Held != "" {
		t.Errorf("%+v", now)
	}
	other.s.Forget()
	if got := must(other.s.Load(r.ctx, policy.SelfRead, refs))(t).Rollout; got == nil || got.Waves[1].Held != policy.Paused {
		t.Errorf("another process has %+v", got)
	}
	paused := must(r.s.Policies(r.ctx))(t)
	r.do(must(now.Resume(2, nil, start))(t))
	resumed := must(r.s.Policies(r.ctx))(t)
	same(t, []store.Policies{paused, resumed}, []store.Policies{{Edition: 1, Rollout: 1, Revision: 2}, {Edition: 1, Rollout: 1, Revision: 3}}) // no other policies

	now = must(r.s.Rollout(r.ctx, 1))(t)
	steer, publish, err := now.Finish(dana.ID, start.Add(2*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	r.do(steer, publish)
	moved(2)
	now = must(r.s.Rollout(r.ctx, 1))(t)
	if v := must(r.s.Ruleset(r.ctx, 1))(t); v.Hash != one.Hash || now.State != ruleset.Finished || now.Version != 1 || now.EndedAt.IsZero() || loaded().Rollout != nil || loaded().Ruleset != 1 {
		t.Errorf("%+v of %+v", v, now)
	}
	refused(t, r.try(held), problem.Conflict, "rollout_moved")
	two.Base = 1
	wins(t, "rollout_running", func() error { return r.try(ruleset.Start{Rollout: two}) }, func() error { return other.try(ruleset.Start{Rollout: two}) })
	now = must(r.s.Rollout(r.ctx, 2))(t)
	r.do(must(now.Undo())(t))
	list := must(r.s.Rollouts(r.ctx, 0, 10))(t)
	if len(list) != 2 || list[0].State != ruleset.TakenOff || list[1].N != 1 || list[1].Source.Files != nil {
		t.Errorf("%+v", list)
	}
	if list = must(r.s.Rollouts(r.ctx, 2, 10))(t); len(list) != 1 {
		t.Errorf("%+v", list)
	}
	same(t, must(r.s.Policies(r.ctx))(t), store.Policies{Head: 1, Edition: 5, Rollout: 2, Revision: 2}) // 1 published, 2 begun, 2 ended
}

// wins has all tried at once, of which one succeeds and the others are refused with
// the code.
func wins(t *testing.T, code string, all ...func() error) {
	t.Helper()
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, f := range all {
		wg.Go(func() { errs[i] = f() })
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		} else if problem.CodeOf(err) != code {
			t.Errorf("%v, want %s", err, code)
		}
	}
	if won != 1 {
		t.Errorf("%d succeeded: %v", won, errs)
	}
}

// testRolloutCost: what a rollout costs is counted by wave, within a day and since the
// wave was let go, and what one person meets within five minutes once; it is of a
// person as long as they are not erased, and gone with the records.
func testRolloutCost(t *testing.T, db Database) {
	r := open(t, db)
	defer r.s.Close()
	sam, kim := r.person("sam"), r.person("kim")
	at := start.Truncate(policy.BudgetSpan)
	meet := func(who account.Person, at time.Time, m policy.Met) {
		t.Helper()
		rec := audit.Record{ID: id.New(id.Record), Kind: audit.TokenRefreshed, At: at, Refused: true, Facts: map[string]any{"action": "token.refresh"}, Parts: []audit.Part{{Person: who.ID}}}
		row := must(r.writer.Seal(r.ctx, rec, r.keys))(t)
		if err := r.s.Commit(r.ctx, act.Write{At: at, Record: rec.ID, Row: row, Met: &m}); err != nil {
			t.Fatal(err)
		}
	}
	asked, denied := policy.Met{Rollout: 1, Wave: 1, Rule: "a"}, policy.Met{Rollout: 1, Wave: 2, Rule: "b", Denied: true}
	for _, m := range []time.Duration{0, time.Minute, 4 * time.Minute, 5 * time.Minute, 20 * time.Hour} {
		meet(sam, at.Add(m), asked)
	}
	meet(kim, at.Add(time.Minute), asked)
	meet(kim, at.Add(time.Minute), denied)
	meet(kim, at.Add(time.Minute), policy.Met{Rollout: 2, Wave: 1, Rule: "c"})
	ample := policy.Budget{Prompts: 100, Denials: 100}
	ro := ruleset.Rollout{N: 1, Waves: []policy.Wave{{Rest: true, From: at, Budget: ample}, {Rest: true, From: at, Budget: ample}}}
	cost := func(after time.Duration) (out []policy.Budget) {
		t.Helper()
		for _, s := range must(r.s.Cost(r.ctx, &ro, at.Add(after)))(t) {
			out = append(out, s.Budget)
		}
		return out
	}
	same(t, cost(time.Hour), []policy.Budget{{Prompts: 4}, {Denials: 1}})
	same(t, cost(24*time.Hour+10*time.Minute), []policy.Budget{{Prompts: 1}, {}})
	ro.Waves[0].Since = at.Add(5 * time.Minute)
	same(t, cost(time.Hour), []policy.Budget{{Prompts: 2}, {Denials: 1}})
	ro.Waves[0].Since = time.Time{}
	// Of one person a share counts. Who is in the wave says how large it is.
	pilots, others := r.group("pilots"), r.group("others")
	for _, g := range []string{pilots.ID, others.ID} {
		r.do(group.Add{Group: g, Person: sam.ID})
	}
	r.do(group.Add{Group: pilots.ID, Person: kim.ID})
	few := policy.Budget{Prompts: 2}
	for name, c := range map[string]struct {
		waves []policy.Wave
		want  int
	}{
		"of two":                  {[]policy.Wave{{Groups: []string{"pilots"}, From: at, Budget: few}}, 3},
		"in two groups of it":     {[]policy.Wave{{Groups: []string{"others", "pilots"}, From: at, Budget: few}}, 3},
		"of one":                  {[]policy.Wave{{Groups: []string{"others"}, From: at, Budget: few}}, 4},
		"of the rest":             {[]policy.Wave{{Rest: true, From: at, Budget: few}}, 3},
		"of a group that is none": {[]policy.Wave{{Groups: []string{"nobody's"}, From: at, Budget: few}}, 4},
	} {
		ro := ruleset.Rollout{N: 1, Waves: c.waves}
		if got := must(r.s.Cost(r.ctx, &ro, at.Add(time.Hour)))(t)[0]; got.Budget != (policy.Budget{Prompts: c.want}) || !got.Over {
			t.Errorf("%s: %+v, want %d", name, got, c.want)
		}
	}
	second := ruleset.Rollout{N: 1, Waves: []policy.Wave{{Groups: []string{"others"}, From: at}, {Groups: []string{"pilots"}, From: at}}}
	same(t, must(r.s.Cost(r.ctx, &second, at.Add(time.Hour)))(t)[1], policy.Spent{Budget: policy.Budget{Denials: 1}, Over: true}) // kim alone is left
	costs := func() []ruleset.Cost { t.Helper(); return must(r.s.Costs(r.ctx, &ro, 1, at.Add(time.Hour), 10))(t) }
	same(t, costs(), []ruleset.Cost{{Person: sam.ID, Rule: "a", Budget: policy.Budget{Prompts: 3}}, {Person: kim.ID, Rule: "a", Budget: policy.Budget{Prompts: 1}}})
	if got := must(r.s.Costs(r.ctx, &ro, 1, at.Add(time.Hour), 1))(t); len(got) != 1 || got[0].Person != sam.ID {
		t.Errorf("%+v", got)
	}
	r.do(account.Erase{ID: sam.ID})
	if got := costs(); len(got) != 2 || got[0].Person != "" || got[0].Prompts != 3 || got[1].Person != kim.ID {
		t.Errorf("%+v", got)
	}
	// Who was erased is nobody by name, and still not somebody else who was.
	counted := cost(time.Hour)
	r.do(account.Erase{ID: kim.ID})
	same(t, costs(), []ruleset.Cost{{Rule: "a", Budget: policy.Budget{Prompts: 3}}, {Rule: "a", Budget: policy.Budget{Prompts: 1}}})
	same(t, cost(time.Hour), counted)
}

// testReadiness: who is in a wave and lacks what the candidate would ask of them is
// found from what they have enrolled, with the rule and what it needs.
func testReadiness(t *testing.T, db Database) {
	r := open(t, db)
	defer r.s.Close()
	g := r.group("pilots")
	_, kim, _ := r.person("sam", g.ID), r.person("kim", g.ID), r.person("eva")
	r.passkey(kim.ID)
	src, set := candidate(t, `@id("hw") @reason("r") forbid (principal is Person, action == Action::"self.write", resource) unless { context.assurance.age.phrh <= duration("15m") };
@id("not") @reason("r") forbid (principal in Group::"pilots", action == Action::"group.write", resource);`)
	base := policy.Builtin()
	ro := ruleset.Rollout{N: 1, Hash: src.Hash(), Waves: []policy.Wave{{Groups: []string{"pilots"}}}}
	page := must(r.s.Readiness(r.ctx, &ro, base, set, "", 100))(t)
	if page.Looked != 2 || len(page.Unready) != 1 || page.Unready[0].Person != kim.ID || page.Next != "" || page.Waves[0] != 2 {
		t.Fatalf("%+v", page) // sam, who has no factor, can do nothing under either
	}
	gaps := page.Unready[0].Gaps
	if len(gaps) != 1 || gaps[0].Rule != "hw" || gaps[0].Needs.Rung != assurance.Hardware || gaps[0].Words == "" || len(gaps[0].Actions) != 1 || gaps[0].Actions[0] != policy.SelfWrite {
		t.Errorf("%+v", gaps)
	}
	ro.Waves = append(ro.Waves, policy.Wave{Rest: true})
	looked := 0
	for after, i := "", 0; i < 5; i++ {
		page := must(r.s.Readiness(r.ctx, &ro, base, set, after, 2))(t)
		looked += page.Looked
		if after = page.Next; after == "" {
			break
		}
	}
	if looked != 3 {
		t.Errorf("%d of sam, kim and eva", looked)
	}
}

// testDecisions: what was decided is read page by page, oldest first, as acts recorded
// it, of a time and of those who are there; and what is read is decided again alike.
func testDecisions(t *testing.T, db Database) {
	r := open(t, db)
	defer r.s.Close()
	people := []account.Person{r.person("sam"), r.person("kim"), r.person("lee")}
	r.founded()
	do := &act.Doer{Store: r.s, Policy: policy.Builtin(), Ladder: assurance.Default(), Writer: r.writer, Keys: r.keys}
	begin := time.Now()
	for i := range 7 {
		who := people[i%3]
		_, err := do.Do(r.ctx, act.Intent{
			Action: policy.TokenRefresh, Kind: audit.TokenRefreshed, Refs: act.Refs{Kind: policy.KindPerson, Actor: who.ID},
			Proofs: []assurance.Proof{{Method: assurance.Passkey, Subject: who.ID, At: begin.Add(-time.Hour), UserVerified: true, PhishingResistant: true, Source: "passkey:1"}},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	_, harsh := candidate(t, `@id("harsh") @reason("r") forbid (principal is Person, action == Action::"token.refresh", resource) unless { context.assurance.age.phr <= duration("30m") };`)
	read := func(from, until time.Time, n int) (replay.Report, []replay.DecisionItem) {
		t.Helper()
		tr := replay.New(harsh)
		var items []replay.DecisionItem
		for after := ""; ; {
			page := must(r.s.Decisions(r.ctx, r.keys, from, until, after, n))(t)
			if !tr.AddPage(&page) {
				t.Fatal("a page that is not well formed")
			}
			items = append(items, page.Items...)
			if after = page.Next; after == "" {
				return tr.Report(10), items
			}
		}
	}
	var times []replay.DecisionItem
	for _, n := range []int{1, 3, 1000} {
		report, items := read(begin, time.Time{}, n)
		if report.Decisions != 7 || report.Prompted != 3 || report.People != 3 || len(report.Untold) != 0 {
			t.Errorf("pages of %d: %+v", n, report) // the first of each: what they give counts on
		}
		for i, it := range items {
			if it.Who != people[i%3].ID || i > 0 && it.At.Before(items[i-1].At) {
				t.Errorf("pages of %d: item %d is %+v", n, i, it)
			}
		}
		times = items
	}
	if report, _ := read(times[2].At, times[5].At, 2); report.Decisions != 3 {
		t.Errorf("%+v", report)
	}
	all := must(r.s.RecordsAfter(r.ctx, "", 1000))(t)
	if rest := must(r.s.RecordsAfter(r.ctx, all[len(all)-3].ID, 1000))(t); len(rest) != 2 || rest[1].ID != all[len(all)-1].ID {
		t.Errorf("%d behind the last but two", len(rest))
	}
	r.do(account.Erase{ID: people[0].ID})
	if report, _ := read(begin, time.Time{}, 1000); report.Decisions != 4 || report.Untold[replay.Erased] != 3 {
		t.Errorf("%+v", report)
	}
}

// testMonitored: what rules in mode monitor would have done is read newest first, page by
// page, of a bounded time, by whom it was; pages of any size add up to the same, and of
// whom was erased it is not told who.
func testMonitored(t *testing.T, db Database) {
	r := open(t, db)
	defer r.s.Close()
	people := []account.Person{r.person("sam"), r.person("kim")}
	r.founded()
	_, set := candidate(t, `@id("harsh") @reason("r") @mode("monitor") forbid (principal is Person, action == Action::"token.refresh", resource) unless { context.assurance.age.phr <= duration("30m") };
@id("stop") @reason("r") @mode("monitor") forbid (principal is Person, action == Action::"self.write", resource);
@id("open") @reason("r") @mode("monitor") permit (principal is Person, action == Action::"person.read", resource);`)
	var ahead time.Duration
	now := time.Now().UTC().Truncate(time.Microsecond)
	do := &act.Doer{Store: r.s, Policy: set, Ladder: assurance.Default(), Writer: r.writer, Keys: r.keys, Now: func() time.Time { return now.Add(ahead) }}
	acts := func(who account.Person, actions ...policy.Action) {
		t.Helper()
		for _, action := range actions {
			ahead += time.Second
			_, err := do.Do(r.ctx, act.Intent{
				Action: action, Kind: audit.TokenRefreshed, Refs: act.Refs{Kind: policy.KindPerson, Actor: who.ID, Owner: who.ID},
				Proofs: []assurance.Proof{{Method: assurance.Passkey, Subject: who.ID, At: now.Add(-time.Hour), UserVerified: true, PhishingResistant: true, Source: "passkey:1"}},
			})
			if err != nil && action != policy.PersonRead {
				t.Fatal(err)
			}
		}
	}
	acts(people[0], policy.TokenRefresh, policy.SessionProve, policy.TokenRefresh, policy.SelfWrite)
	acts(people[1], policy.TokenRefresh, policy.SelfWrite, policy.PersonRead)
	read := func(since time.Time, n int) []replay.RuleWould {
		t.Helper()
		var tally replay.Tally
		last := now.Add(time.Hour)
		for before, pages := "", 0; ; pages++ {
			page := must(r.s.Monitored(r.ctx, r.keys, since, before, n))(t)
			if page.Read > n || pages > 100 || page.From != nil && (page.From.After(last) || page.From.Before(since)) {
				t.Fatalf("page %d of %d: %+v", pages, n, page)
			}
			if page.From != nil {
				last = *page.From
			}
			for _, w := range page.Items {
				tally.Add(w)
			}
			if before = page.Next; before == "" {
				return tally.Rules()
			}
		}
	}
	for _, n := range []int{1, 2, 1000} {
		got := read(now, n)
		if len(got) != 3 || got[0].Rule != "harsh" || got[0].Prompted != 3 || got[0].Denied != 0 || got[0].People != 2 || got[0].PerDayMax != 2 ||
			got[1].Rule != "stop" || got[1].Denied != 2 || got[2].Rule != "open" || got[2].Allowed != 1 || got[2].People != 1 {
			t.Errorf("pages of %d: %+v", n, got)
		}
	}
	got := read(now.Add(5*time.Second), 1000) // from the first act of the second
	if len(got) != 3 || got[0].Rule != "harsh" || got[0].Prompted != 1 || got[1].Denied != 1 || got[2].Allowed != 1 {
		t.Errorf("since then: %+v", got)
	}
	if none := must(r.s.Monitored(r.ctx, r.keys, now.Add(time.Hour), "", 10))(t); len(none.Items) != 0 || none.Next != "" || none.From != nil {
		t.Errorf("%+v", none)
	}
	r.do(account.Erase{ID: people[0].ID})
	if got := read(now, 1000); got[0].Prompted != 3 || got[0].People != 1 {
		t.Errorf("of whom was erased: %+v", got)
	}
}
