package act_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/policy/replay"
	"github.com/countersign-dev/countersign/internal/problem"
)

// tried decides again what the database records.
func (r *rig) tried(set *policy.Set, from, until time.Time, n int) (replay.Report, []replay.Decision) {
	r.t.Helper()
	tr := replay.New(set)
	var all []replay.Decision
	for after := ""; ; {
		page, err := r.store.Decisions(r.t.Context(), r.keys, from, until, after, n)
		r.ok(err)
		text, err := json.Marshal(page) // as it is sent
		r.ok(err)
		var sent replay.Decisions
		r.ok(json.Unmarshal(text, &sent))
		if !tr.AddPage(&sent) {
			r.t.Fatal("a page that is not well formed")
		}
		for _, i := range sent.Items {
			all = append(all, i.Decision)
		}
		if after = page.Next; after == "" {
			return tr.Report(100), all
		}
	}
}

// What acts record is enough to decide them again, and says of a person nothing in
// the clear: the policies that decided give the same answers, and others theirs.
func TestRecordedActsAreDecidedAgain(t *testing.T) {
	r := newRig(t)
	admin, other := r.person("admin", r.admins.ID), r.person("other")
	old := r.proof(admin.ID)
	old.At = r.time().Add(-20 * time.Minute)
	stale, fresh := r.session(admin.ID, old), r.session(admin.ID, r.proof(admin.ID))
	do := func(who string, session string) {
		in := r.byPerson(admin, newGroup("g"+session))
		in.Refs.Actor, in.Refs.Session, in.Seal = who, session, nil
		_, _ = r.do.Do(t.Context(), in) // refused or not, it is recorded
	}
	do(admin.ID, stale.ID)                                  // asked
	do(admin.ID, fresh.ID)                                  // allowed
	do(other.ID, r.session(other.ID, r.proof(other.ID)).ID) // refused
	in := r.byPerson(admin, newGroup("own"))
	in.Action, in.Refs.Owner, in.Refs.Session, in.Seal = policy.SelfWrite, admin.ID, fresh.ID, nil
	in.Changes = func(*act.Facts, policy.Decision) (act.Effect, error) { // says of its actor itself
		return act.Effect{Parts: []audit.Part{{Person: admin.ID, Body: map[string]any{"name": "New"}}}}, nil
	}
	_, err := r.do.Do(t.Context(), in)
	r.ok(err)

	report, all := r.tried(policy.Builtin(), time.Time{}, time.Time{}, 2)
	if len(all) != 4 || report.Decisions != 4 || report.Prompted+report.Blocked+report.Allowed+report.Asks != 0 || report.Before != 1 || len(report.Untold) != 0 {
		t.Errorf("%d: %+v", len(all), report)
	}
	if d := all[0]; d.Who != admin.ID || d.Session != stale.ID || d.Facts.Outcome != "step_up" || d.Saw.Ages[2] != (20*time.Minute).Milliseconds() || strings.Join(d.Saw.Groups, "") != "administrators" {
		t.Errorf("%+v of %+v", d, d.Saw)
	}
	for _, row := range r.records() {
		if strings.Contains(string(row.Facts), "administrators") || strings.Contains(string(row.Facts), "usr_") {
			t.Errorf("in the clear: %s", row.Facts)
		}
	}

	src := policy.Default()
	src.Files = append(src.Files, policy.File{Name: "x.cedar", Text: `@id("no") @reason("r") forbid (principal, action == Action::"group.write", resource);`})
	set, err := policy.Compile(src)
	r.ok(err)
	if got, _ := r.tried(set, time.Time{}, time.Time{}, 1000); got.Blocked != 2 {
		t.Errorf("%+v", got)
	}
	// Within a time, and of nobody who was erased.
	if _, all := r.tried(set, r.time().Add(time.Hour), time.Time{}, 3); len(all) != 0 {
		t.Errorf("%d of later", len(all))
	}
	if _, all := r.tried(set, time.Time{}, r.time(), 3); len(all) != 0 {
		t.Errorf("%d of before", len(all))
	}
	d, ok := act.Decided(audit.Row{Facts: []byte(`{"action":"self.write","kind":"person"}`)}, []audit.OpenPart{{}, {Erased: true}}, nil)
	if !ok || d.Who != "" || d.Saw != nil {
		t.Errorf("%+v %v", d, ok)
	}
	for _, facts := range []string{``, `{`, `{"kind":"system","action":"expiry"}`, `{"kind":"person"}`} {
		if _, ok := act.Decided(audit.Row{Facts: []byte(facts)}, nil, nil); ok {
			t.Errorf("%q was decided", facts)
		}
	}
}

// What is only watched is recorded with what it would have changed.
func TestMonitoredIsRecorded(t *testing.T) {
	r := newRig(t)
	src := policy.Default()
	src.Files = append(src.Files, policy.File{Name: "x.cedar", Text: `@id("watched") @reason("r") @mode("monitor") forbid (principal, action == Action::"group.write", resource);`})
	set, err := policy.Compile(src)
	r.ok(err)
	r.do.Policy = set
	admin := r.person("admin", r.admins.ID)
	in := r.byPerson(admin, newGroup("g"))
	in.Refs.Session, in.Seal = r.session(admin.ID, r.proof(admin.ID)).ID, nil
	_, err = r.do.Do(t.Context(), in)
	r.ok(err)
	if facts := string(r.records()[0].Facts); !strings.Contains(facts, `"monitored":{"code":"denied","outcome":"deny","reasons":["watched"]}`) {
		t.Errorf("%s", facts)
	}
}

// A hundred thousand recorded decisions are read, opened, sent as the API sends
// them and decided again within half a minute: in full in make trust, a hundredth
// of it here at the same rate (docs/performance.md).
func TestAHundredThousandRecordsInHalfAMinute(t *testing.T) {
	n := 1000
	if os.Getenv("COUNTERSIGN_TRUST") != "" {
		n = 100_000
	}
	r := newRig(t)
	type actor struct{ person, session string }
	var actors []actor
	for i := range 50 {
		p := r.person(fmt.Sprint("p", i), r.admins.ID)
		actors = append(actors, actor{p.ID, r.session(p.ID, r.proof(p.ID)).ID})
	}
	var all sync.WaitGroup
	for w := range 16 { // who commit together
		all.Add(1)
		go func() {
			defer all.Done()
			for i := w; i < n; i += 16 {
				a := actors[i%len(actors)]
				err := error(problem.Unavailable)
				for errors.Is(err, problem.Unavailable) { // a machine that is busy for two seconds
					_, err = r.do.Do(t.Context(), act.Intent{
						Action: policy.SelfWrite, Kind: audit.PersonUpdated,
						Refs: act.Refs{Kind: policy.KindPerson, Actor: a.person, Session: a.session, Owner: a.person},
					})
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		}()
	}
	all.Wait()

	src := policy.Default()
	src.Files = append(src.Files, policy.File{Name: "x.cedar", Text: `@id("harsh") @reason("r") forbid (principal is Person, action == Action::"self.write", resource) unless { context.assurance.rung >= 4 };`})
	set, err := policy.Compile(src)
	r.ok(err)
	began := time.Now()
	report, decisions := r.tried(set, time.Time{}, time.Time{}, 2000)
	took := time.Since(began)
	rate := float64(len(decisions)) / took.Seconds()
	t.Logf("%d records in %v: %.0f a second", len(decisions), took, rate)
	if report.Decisions != n || report.Prompts != len(actors) || rate < 100_000/30 {
		t.Errorf("%d decisions, %d prompts, %.0f a second", report.Decisions, report.Prompts, rate)
	}
}
