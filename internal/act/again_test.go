package act_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/group"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/session"
	"github.com/countersign-dev/countersign/internal/store"
)

// TestStale: an act whose facts move under it is prepared and decided again, at
// most three times in all, and what was sealed for a try that failed is not
// handed out.
func TestStale(t *testing.T) {
	for moves := range 5 {
		t.Run(fmt.Sprint(moves, " moves"), func(t *testing.T) {
			r := newRig(t)
			p := r.person("dana")
			other := r.doer()
			g, mark := newGroup("g"), r.mark("x")
			prepared, decided := 0, 0
			ids := map[string]bool{}
			in := system()
			in.Refs.Target = []string{p.ID}
			in.Spend = []once.Spend{mark}
			in.Prepare = func(context.Context) error { prepared++; return nil }
			in.Changes = func(*act.Facts, policy.Decision) (act.Effect, error) {
				if decided++; decided <= moves { // another replica is quicker
					name := fmt.Sprint("Dana ", decided)
					if _, err := other.Do(context.Background(), system(account.Update{ID: p.ID, Name: &name})); err != nil {
						t.Error(err)
					}
				}
				return act.Effect{Changes: []act.Change{group.Create{Group: g}}}, nil
			}
			in.Seal = func(s act.Sealing) (any, error) { ids[s.RecordID] = true; return s.RecordID, nil }
			before := len(r.records())
			out, err := r.do.Do(t.Context(), in)
			want := min(moves+1, 3)
			if prepared != want || decided != want || len(ids) != want {
				t.Errorf("prepared %d, decided %d, record ids %d, want %d each", prepared, decided, len(ids), want)
			}
			wrote := len(r.records()) - before - min(moves, 3)
			if moves < 3 {
				r.ok(err)
				if !r.has(g) || !r.spent(mark) || wrote != 1 || out.Value != out.RecordID {
					t.Errorf("done %v, spent %v, %d records, handed out %v", r.has(g), r.spent(mark), wrote, out.Value)
				}
				return
			}
			r.code(err, problem.Unavailable, "contended")
			if !errors.Is(err, act.ErrStale) || r.has(g) || r.spent(mark) || wrote != 0 || out.Value != nil {
				t.Errorf("err %v, done %v, spent %v, %d records, handed out %v", err, r.has(g), r.spent(mark), wrote, out.Value)
			}
		})
	}
}

// TestPreparedOnWhatIsGuarded: what Prepare reads is never older than the versions
// that the commit checks: whatever moves after it was read has it read again.
func TestPreparedOnWhatIsGuarded(t *testing.T) {
	r := newRig(t)
	p := r.person("dana")
	other, g := r.doer(), newGroup("g")
	var read string
	in := system()
	in.Refs.Target = []string{p.ID}
	in.Prepare = func(ctx context.Context) error {
		now, err := r.store.Person(ctx, p.ID)
		if read = now.Name; err != nil || read != p.Name {
			return err
		}
		name := "Somebody else" // a moment after it was read, another replica is quicker
		_, err = other.Do(ctx, system(account.Update{ID: p.ID, Name: &name}))
		return err
	}
	in.Changes = func(*act.Facts, policy.Decision) (act.Effect, error) {
		return act.Effect{Changes: []act.Change{group.Create{Group: g}}}, nil
	}
	_, err := r.do.Do(t.Context(), in)
	r.ok(err)
	if read != "Somebody else" {
		t.Errorf("decided on what was read before: %q", read)
	}
}

// TestEndedMeanwhile: what ends between the decision and the commit refuses the
// act at its next try.
func TestEndedMeanwhile(t *testing.T) {
	r := newRig(t)
	p := r.person("dana")
	s := r.session(p.ID, r.proof(p.ID))
	decided := 0
	in := system()
	in.Action, in.Refs = policy.SelfWrite, act.Refs{Kind: policy.KindPerson, Actor: p.ID, Session: s.ID, Owner: p.ID}
	in.Changes = func(*act.Facts, policy.Decision) (act.Effect, error) {
		if decided++; decided == 1 {
			r.seed(lineage.End{ID: s.ID, Why: "signed_out"})
		}
		return act.Effect{}, nil
	}
	_, err := r.do.Do(t.Context(), in)
	r.code(err, problem.Denied, policy.CodeEnded)
	if decided != 1 {
		t.Errorf("changes were made %d times", decided)
	}
}

// TestCrowd: of many that change one thing at once each is done whole or not at
// all.
func TestCrowd(t *testing.T) {
	r := newRig(t)
	p := r.person("dana")
	before := len(r.records())
	var wg sync.WaitGroup
	var mu sync.Mutex
	done := 0
	for i := range 12 {
		do := r.doer()
		wg.Go(func() {
			g, name := newGroup(fmt.Sprint("g", i)), fmt.Sprint("Dana ", i)
			in := system(account.Update{ID: p.ID, Name: &name}, group.Create{Group: g})
			in.Refs.Target = []string{p.ID}
			_, err := do.Do(t.Context(), in)
			if _, there := r.store.Group(t.Context(), g.ID); (there == nil) != (err == nil) {
				t.Errorf("%d: %v, and its group: %v", i, err, there)
			}
			if err != nil && problem.CodeOf(err) != "contended" {
				t.Errorf("%d: %v", i, err)
			}
			if err == nil {
				mu.Lock()
				done++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if got := len(r.records()) - before; got != done || done == 0 {
		t.Errorf("%d records of %d acts", got, done)
	}
}

// TestBusy: an act that runs out of time says that nothing was changed.
func TestBusy(t *testing.T) {
	r := newRig(t)
	ctx, cancel := context.WithCancel(t.Context())
	in := system()
	in.Prepare = func(ctx context.Context) error {
		if _, limited := ctx.Deadline(); !limited {
			t.Error("an act has no limit")
		}
		cancel()
		<-ctx.Done()
		return ctx.Err()
	}
	r.unchanged(func() {
		_, err := r.do.Do(ctx, in)
		r.code(err, problem.Unavailable, "busy")
		if !errors.Is(err, context.Canceled) {
			t.Errorf("the cause is lost: %v", err)
		}
	})
	in.Prepare = func(context.Context) error { return problem.New(problem.Invalid, "code_unknown", "No.") }
	r.unchanged(func() {
		_, err := r.do.Do(t.Context(), in)
		r.code(err, problem.Invalid, "code_unknown")
	})
}

// TestCheckpoint: acts of critical kinds, as the effect says them, are answered
// when their record is signed; others at once.
func TestCheckpoint(t *testing.T) {
	r := newRig(t)
	var waited []string
	down := errors.New("no disk")
	r.do.Checkpoint = func(ctx context.Context, record string) error {
		waited = append(waited, record)
		if _, err := r.store.RecordByID(ctx, record); err != nil {
			t.Errorf("waits for a record that is not there: %v", err)
		}
		if _, limited := ctx.Deadline(); !limited {
			t.Error("waits without end")
		}
		return down
	}
	plain := system()
	_, err := r.do.Do(t.Context(), plain)
	if err != nil || len(waited) != 0 {
		t.Fatalf("an ordinary act: %v, waited for %v", err, waited)
	}
	g := newGroup("g")
	in := system(group.Create{Group: g})
	in.Kind = audit.PolicyPublished
	out, err := r.do.Do(t.Context(), in)
	r.code(err, problem.Unavailable, "not_yet_signed")
	if !errors.Is(err, down) || !r.has(g) || len(waited) != 1 || waited[0] != out.RecordID {
		t.Errorf("err %v, made %v, waited for %v", err, r.has(g), waited)
	}
	in.Kind = audit.GroupCreated
	in.Changes = func(*act.Facts, policy.Decision) (act.Effect, error) {
		return act.Effect{Kind: audit.AdminRecovered}, nil
	}
	if _, err = r.do.Do(t.Context(), in); problem.CodeOf(err) != "not_yet_signed" {
		t.Errorf("a critical kind of the effect: %v", err)
	}
	// A refusal has nothing that waiting could make safer.
	in.Kind = audit.FactorRemoved
	in.Refs = act.Refs{Kind: policy.KindAnonymous}
	_, err = r.do.Do(t.Context(), in)
	r.code(err, problem.Denied, "denied")
	if len(waited) != 2 {
		t.Errorf("a refusal waited: %v", waited)
	}
}

// TestCheckpointReal: with the log's own sequencer the answer comes when the
// record is under a signed checkpoint, even if the caller has gone meanwhile.
func TestCheckpointReal(t *testing.T) {
	r := newRig(t)
	q := r.store.Sequencer(store.SequencerOptions{Origin: "id.example.com/log/1", Sign: func(_ string, size uint64, root [32]byte) ([]byte, error) {
		return fmt.Appendf(nil, "%d %x", size, root), nil
	}})
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { q.Run(ctx) })
	defer wg.Wait()
	defer stop()
	r.do.Checkpoint = q.CheckpointNow
	in := system()
	in.Kind = audit.PolicyPublished
	out, err := r.do.Do(t.Context(), in)
	r.ok(err)
	rec, err := r.store.RecordByID(t.Context(), out.RecordID)
	r.ok(err)
	size, _, err := r.store.LastSigned(t.Context())
	r.ok(err)
	if rec.Seq < 0 || uint64(rec.Seq) >= size {
		t.Errorf("record %d was answered under a checkpoint of size %d", rec.Seq, size)
	}
}

// TestStepUpOfAnotherInteraction: a proof made for one interaction counts for no
// other (mechanisms A21).
func TestStepUpOfAnotherInteraction(t *testing.T) {
	r := newRig(t)
	p := r.person("dana")
	old, made := r.proof(p.ID), r.proof(p.ID)
	old.At, made.For = old.At.Add(-time.Hour), "tx_one"
	s := r.session(p.ID, old, made)
	for tx, want := range map[string]policy.Outcome{"tx_one": policy.Allow, "tx_two": policy.StepUp, "": policy.StepUp} {
		in := system()
		in.Action, in.For, in.Refs = policy.FactorEnrol, tx, act.Refs{Kind: policy.KindPerson, Actor: p.ID, Session: s.ID, Owner: p.ID}
		d, f, err := r.do.Judge(t.Context(), in)
		r.ok(err)
		if d.Outcome != want {
			t.Errorf("for %q: %v, want %v", tx, d.Outcome, want)
		}
		for _, proof := range f.Proofs {
			if proof.For != "" && proof.For != tx {
				t.Errorf("for %q the proof for %q is among the facts", tx, proof.For)
			}
		}
		if _, err := r.do.Do(t.Context(), in); (err == nil) != (want == policy.Allow) {
			t.Errorf("for %q: %v", tx, err)
		}
	}
}

// TestExpiry: a session or grant that is past its end refuses, to the instant.
func TestExpiry(t *testing.T) {
	for name, c := range map[string]struct {
		after time.Duration
		edit  func(r *rig, s session.Session)
		refs  func(s session.Session, g grant.Grant) (session, grant string)
		ended bool
	}{
		"in time":          {after: session.IdleLifetime - time.Microsecond},
		"idle":             {after: session.IdleLifetime, ended: true},
		"used in between":  {after: session.IdleLifetime, edit: (*rig).touch},
		"absolute":         {after: session.Lifetime, edit: (*rig).touch, ended: true},
		"signed out":       {edit: func(r *rig, s session.Session) { r.seed(session.SignOut{ID: s.ID, At: r.time()}) }, ended: true},
		"grant in time":    {after: 24*time.Hour - time.Microsecond, refs: ofGrant},
		"grant":            {after: 24 * time.Hour, refs: ofGrant, ended: true},
		"ended":            {edit: func(r *rig, s session.Session) { r.seed(lineage.End{ID: s.ID, Why: "signed_out"}) }, ended: true},
		"an ancestor ends": {edit: func(r *rig, s session.Session) { r.seed(lineage.Freeze{ID: s.Person, Why: "disabled"}) }, ended: true},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			p := r.person("dana")
			s := r.session(p.ID, r.proof(p.ID))
			g := grant.Grant{
				ID: id.New(id.Grant), Person: p.ID, Session: s.ID, Proofs: []assurance.Proof{r.proof(p.ID)}, ACR: "phr",
				CreatedAt: r.time(), ExpiresAt: r.time().Add(24 * time.Hour),
			}
			r.seed(grant.Open{Grant: g})
			if c.edit != nil {
				c.edit(r, s)
			}
			r.pass(c.after)
			in := system()
			in.Action, in.Refs = policy.SelfWrite, act.Refs{Kind: policy.KindPerson, Actor: p.ID, Session: s.ID, Owner: p.ID}
			if c.refs != nil {
				in.Refs.Session, in.Refs.Grant = c.refs(s, g)
			}
			line := r.one(func() {
				_, err := r.do.Do(t.Context(), in)
				if c.ended {
					r.code(err, problem.Denied, policy.CodeEnded)
				} else {
					r.ok(err)
				}
			})
			if line.Refused != c.ended {
				t.Errorf("record %+v", line)
			}
		})
	}
}

func ofGrant(_ session.Session, g grant.Grant) (string, string) { return "", g.ID }

// touch moves the idle end behind the absolute one.
func (r *rig) touch(s session.Session) {
	r.seed(session.Touch{ID: s.ID, SeenAt: r.time(), IdleUntil: s.ExpiresAt.Add(time.Hour)})
}

// TestOwner: whose thing an act is about is what storage says of its targets;
// the caller's word counts only where there is no target.
func TestOwner(t *testing.T) {
	r := newRig(t)
	dana, eve := r.person("dana"), r.person("eve")
	own, hers := r.session(dana.ID, r.proof(dana.ID)), r.session(eve.ID, r.proof(eve.ID))
	for name, c := range map[string]struct {
		owner  string
		target []string
		want   policy.Outcome
	}{
		"own, by word":                 {dana.ID, nil, policy.Allow},
		"another's, by word":           {eve.ID, nil, policy.Deny},
		"nobody's":                     {"", nil, policy.Deny},
		"own":                          {"", []string{own.ID}, policy.Allow},
		"own, claimed to be another":   {eve.ID, []string{own.ID}, policy.Allow},
		"another's":                    {"", []string{hers.ID}, policy.Deny},
		"another's, claimed one's own": {dana.ID, []string{hers.ID}, policy.Deny},
		"own and another's":            {dana.ID, []string{own.ID, hers.ID}, policy.Deny},
	} {
		t.Run(name, func(t *testing.T) {
			in := system()
			in.Action, in.Proofs = policy.SessionEnd, []assurance.Proof{r.proof(dana.ID)}
			in.Refs = act.Refs{Kind: policy.KindPerson, Actor: dana.ID, Owner: c.owner, Target: c.target}
			d, _, err := r.do.Judge(t.Context(), in)
			r.ok(err)
			if d.Outcome != c.want {
				t.Errorf("%v, want %v", d.Outcome, c.want)
			}
		})
	}
}

// said is what a decision's facts tell beside the decision.
type said struct {
	Scopes []string `json:"scopes"`
}

// keyed says the same, and shares its facts.
type keyed said

func (k keyed) FactsKey() string { return fmt.Sprintf("%q", k.Scopes) }

// TestInterned: facts that are shared are those that would have been written
// anew each time, byte for byte, and different ones are never shared.
func TestInterned(t *testing.T) {
	r := newRig(t)
	admin := r.person("admin", r.admins.ID)
	facts := func(do *act.Doer, action policy.Action, detail any, proofs ...assurance.Proof) string {
		in := system()
		in.Action, in.Refs, in.Proofs = action, act.Refs{Kind: policy.KindPerson, Actor: admin.ID, Owner: admin.ID}, proofs
		in.Changes = func(*act.Facts, policy.Decision) (act.Effect, error) { return act.Effect{Detail: detail}, nil }
		before := r.records()[0].ID
		_, _ = do.Do(t.Context(), in) // some are refused
		all := r.records()
		if all[0].ID == before {
			t.Fatal("no record was written")
		}
		if _, err := audit.Open(t.Context(), all[0].Row, r.keys); err != nil {
			t.Error(err)
		}
		return string(all[0].Facts)
	}
	seen := map[string]string{}
	for _, action := range []policy.Action{policy.GroupWrite, policy.ClientWrite, policy.SelfWrite, policy.TokenIssue} {
		for _, scopes := range [][]string{nil, {"a"}, {"a", "b"}, {"a b"}, {"a\x00b"}, {"", "ab"}} {
			for _, proofs := range [][]assurance.Proof{nil, {r.proof(admin.ID)}, {r.proof(admin.ID), r.proof(admin.ID)}} {
				plain := facts(r.doer(), action, said{scopes}, proofs...)
				name := fmt.Sprintf("%s %q %d", action, scopes, len(proofs))
				for range 2 { // made, then shared
					if shared := facts(r.do, action, keyed{scopes}, proofs...); shared != plain {
						t.Errorf("%s: shared facts are %s, others %s", name, shared, plain)
					}
				}
				if len(proofs) == 1 { // a refusal tells no detail, so only what was allowed differs
					if was, ok := seen[plain]; ok {
						t.Errorf("%s says what %s says: %s", name, was, plain)
					}
					seen[plain] = name
				}
			}
		}
	}
	if none := facts(r.do, policy.SelfWrite, nil, r.proof(admin.ID)); none != facts(r.doer(), policy.SelfWrite, nil, r.proof(admin.ID)) {
		t.Errorf("without a detail: %s", none)
	}
}

// TestMonitored: what policies in mode monitor would have answered is in the record of
// the act, where it differs; they change nothing, and records that differ only in that
// do not share their facts.
func TestMonitored(t *testing.T) {
	r := newRig(t)
	dana := r.person("dana")
	src := policy.Default()
	src.Files = append(src.Files, policy.File{Name: "90-trial.cedar", Text: `@id("trial") @reason("A trial.") @mode("monitor") forbid (principal is Person, action == Action::"self.write", resource) when { resource.owner == principal } unless { context.assurance.rung >= 4 };`})
	set, err := policy.Compile(src)
	r.ok(err)
	do := r.doer()
	do.Policy = set
	record := func(action policy.Action, detail any) (string, audit.Line) {
		t.Helper()
		in := system()
		in.Action, in.Refs, in.Proofs = action, act.Refs{Kind: policy.KindPerson, Actor: dana.ID, Owner: dana.ID}, []assurance.Proof{r.proof(dana.ID)}
		in.Changes = func(*act.Facts, policy.Decision) (act.Effect, error) { return act.Effect{Detail: detail}, nil }
		_, err := do.Do(t.Context(), in)
		r.ok(err)
		row := r.records()[0].Row
		l, err := audit.Read(t.Context(), row, 0, r.keys, func(id string) string { return id })
		r.ok(err)
		return string(row.Facts), l
	}
	for _, detail := range []any{nil, said{[]string{"a"}}, keyed{[]string{"a"}}} {
		for range 2 {
			facts, l := record(policy.SelfWrite, detail)
			if l.Outcome != "allow" || !strings.HasSuffix(l.Monitored, ": trial") || strings.HasPrefix(l.Monitored, "allow") {
				t.Errorf("%v: %q, monitored %q", detail, l.Outcome, l.Monitored)
			}
			if !strings.Contains(facts, `"monitored":{`) {
				t.Error(facts)
			}
		}
	}
	if facts, l := record(policy.SessionProve, nil); l.Monitored != "" || strings.Contains(facts, "monitored") {
		t.Errorf("where it does not differ: %q %s", l.Monitored, facts)
	}
}
