package act_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/group"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
)

// TestAllow: an allowed act writes its changes, what it spends and its record,
// and what it hands out names that record.
func TestAllow(t *testing.T) {
	r := newRig(t)
	g, first, second := newGroup("operators"), r.mark("first"), r.mark("second")
	in := system()
	in.Spend = append(make([]once.Spend, 0, 8), first) // room behind it: what the facts add must not land there
	in.Changes = func(f *act.Facts, d policy.Decision) (act.Effect, error) {
		if d.Outcome != policy.Allow || f.Input.Context.Now != r.time() {
			t.Errorf("decided %v at %v", d.Outcome, f.Input.Context.Now)
		}
		return act.Effect{Changes: []act.Change{group.Create{Group: g}}, Spend: []once.Spend{second}, Leaf: g.ID}, nil
	}
	in.Seal = func(s act.Sealing) (any, error) {
		if r.has(g) {
			t.Error("the change was there before the commit")
		}
		return s.RecordID + " at " + s.At.Format(time.RFC3339), nil
	}
	var out act.Outcome
	line := r.one(func() {
		var err error
		out, err = r.do.Do(t.Context(), in)
		r.ok(err)
	})
	if !r.has(g) || !r.spent(first) || !r.spent(second) {
		t.Errorf("change %v, spent %v and %v", r.has(g), r.spent(first), r.spent(second))
	}
	if want := out.RecordID + " at " + r.time().Format(time.RFC3339); out.Value != want || line.ID != out.RecordID || !out.At.Equal(r.time()) {
		t.Errorf("handed out %v, record %s", out.Value, line.ID)
	}
	if line.Kind != audit.GroupCreated || line.Refused || line.Outcome != "allow" || line.Policy != policy.Builtin().Version() || line.Actor != "the server" {
		t.Errorf("record %+v", line)
	}
	if got := in.Spend[:2][1]; got != (once.Spend{}) {
		t.Errorf("the caller's slice was written to: %v", got)
	}
	issued, err := r.store.RecordLeaf(t.Context(), out.RecordID)
	if err != nil || len(issued.Nodes) == 0 || issued.Nodes[0].ID != g.ID {
		t.Errorf("what the record issued: %+v, %v", issued, err)
	}
}

// TestKindOfEffect: an effect may say another kind than the intent.
func TestKindOfEffect(t *testing.T) {
	r := newRig(t)
	in := system()
	in.Changes = func(*act.Facts, policy.Decision) (act.Effect, error) {
		return act.Effect{Kind: audit.RefreshReused}, nil
	}
	line := r.one(func() {
		_, err := r.do.Do(t.Context(), in)
		r.ok(err)
	})
	if line.Kind != audit.RefreshReused {
		t.Errorf("the record is a %s", line.Kind)
	}
}

// TestCommitFails: nothing is handed out, and none of several changes is made,
// when one of them cannot be.
func TestCommitFails(t *testing.T) {
	r := newRig(t)
	r.person("dana")
	g, mark := newGroup("operators"), r.mark("x")
	in := system(group.Create{Group: g}, account.Create{Person: account.Person{ID: id.New(id.Person), Subject: id.Random("sub_"), Name: "Other", Username: "DANA", CreatedAt: r.time()}})
	in.Spend = []once.Spend{mark}
	sealed := false
	in.Seal = func(act.Sealing) (any, error) { sealed = true; return "a token", nil }
	r.unchanged(func() {
		out, err := r.do.Do(t.Context(), in)
		r.code(err, problem.Conflict, "username_taken")
		if diff := cmp.Diff("", out.RecordID); diff != "" || out.Value != nil {
			t.Errorf("handed out %v", out)
		}
	})
	if !sealed || r.has(g) || r.spent(mark) {
		t.Errorf("sealed %v, change made %v, spent %v", sealed, r.has(g), r.spent(mark))
	}
}

// TestSealFails: what cannot be handed out is not done either.
func TestSealFails(t *testing.T) {
	r := newRig(t)
	g, mark := newGroup("operators"), r.mark("x")
	broken := errors.New("no key")
	in := system(group.Create{Group: g})
	in.Spend = []once.Spend{mark}
	in.Seal = func(act.Sealing) (any, error) { return "half a token", broken }
	r.unchanged(func() {
		out, err := r.do.Do(t.Context(), in)
		if !errors.Is(err, broken) || out.Value != nil {
			t.Errorf("out %v, err %v", out, err)
		}
	})
	if r.has(g) || r.spent(mark) {
		t.Error("something was written")
	}
}

// TestSpentTwice: of two acts with one value the second writes nothing and says
// which record was first.
func TestSpentTwice(t *testing.T) {
	r := newRig(t)
	first, again := newGroup("first"), newGroup("again")
	do := func(g group.Group) (act.Outcome, error) {
		in := system(group.Create{Group: g})
		in.Spend = []once.Spend{r.mark("x")}
		return r.do.Do(t.Context(), in)
	}
	out, err := do(first)
	r.ok(err)
	r.unchanged(func() {
		_, err = do(again)
		used, ok := act.Spent(err)
		if !ok || used.By != out.RecordID || used.Purpose != once.DPoP {
			t.Errorf("the second: %v", err)
		}
	})
	if r.has(again) {
		t.Error("the second act was done")
	}
	if _, ok := act.Spent(errors.New("else")); ok {
		t.Error("any error counts as spent")
	}
	in := system()
	in.Spend = []once.Spend{{Purpose: once.Setup, Key: once.KeyOf(once.Setup, "never made")}}
	r.unchanged(func() {
		var gone *once.Gone
		if _, err := r.do.Do(t.Context(), in); !errors.As(err, &gone) {
			t.Errorf("a value that never was: %v", err)
		}
	})
}

// byPerson is an act of a person that would make a group.
func (r *rig) byPerson(p account.Person, g group.Group, proofs ...assurance.Proof) act.Intent {
	in := system(group.Create{Group: g})
	in.Action, in.Refs, in.Proofs = policy.GroupWrite, act.Refs{Kind: policy.KindPerson, Actor: p.ID}, proofs
	in.Seal = func(act.Sealing) (any, error) { r.t.Error("a refusal was sealed"); return nil, nil }
	return in
}

// TestRefusals: a refusal writes its record and nothing else.
func TestRefusals(t *testing.T) {
	r := newRig(t)
	admin, member := r.person("admin", r.admins.ID), r.person("member")
	old := r.proof(admin.ID)
	old.At = old.At.Add(-time.Hour)
	other := problem.New(problem.Conflict, "group_odd", "That is odd.")
	for name, c := range map[string]struct {
		who    account.Person
		proofs []assurance.Proof
		why    error // what Changes gives
		kind   problem.Kind
		code   string
		out    string // outcome of the decision
	}{
		"not a member":        {member, []assurance.Proof{r.proof(member.ID)}, nil, problem.Denied, "denied", "deny"},
		"proof of another":    {admin, []assurance.Proof{r.proof(member.ID)}, nil, problem.StepUp, "insufficient_user_authentication", "step_up"},
		"too old":             {admin, []assurance.Proof{old}, nil, problem.StepUp, "insufficient_user_authentication", "step_up"},
		"the change refuses":  {admin, []assurance.Proof{r.proof(admin.ID)}, other, problem.Conflict, "group_odd", "allow"},
		"refuses, wrapped up": {admin, []assurance.Proof{r.proof(admin.ID)}, errors.Join(errors.New("while looking"), other), problem.Conflict, "group_odd", "allow"},
	} {
		t.Run(name, func(t *testing.T) {
			g, mark := newGroup("g "+name), r.mark(name)
			in := r.byPerson(c.who, g, c.proofs...)
			in.Spend = []once.Spend{mark}
			if c.why != nil {
				in.Changes = func(*act.Facts, policy.Decision) (act.Effect, error) {
					return act.Effect{Changes: []act.Change{group.Create{Group: g}}}, c.why
				}
			}
			line := r.one(func() {
				out, err := r.do.Do(t.Context(), in)
				r.code(err, c.kind, c.code)
				if out.RecordID != "" || out.Value != nil {
					t.Errorf("handed out %v", out)
				}
				if ch := problem.From(err).Challenge; (c.kind == problem.StepUp) != (ch != nil) {
					t.Errorf("challenge %v", ch)
				}
			})
			if !line.Refused || line.Code != c.code || line.Outcome != c.out || !slices.Equal(line.Persons, []string{c.who.ID}) {
				t.Errorf("record %+v", line)
			}
			if r.has(g) || r.spent(mark) {
				t.Error("more than the record was written")
			}
		})
	}
}

// TestFaultsAreNoRefusals: faults of ours are not recorded as if somebody had
// been refused.
func TestFaultsAreNoRefusals(t *testing.T) {
	r := newRig(t)
	for _, why := range []error{errors.New("disk"), problem.New(problem.Unavailable, "busy", "Busy.")} {
		in := system()
		in.Changes = func(*act.Facts, policy.Decision) (act.Effect, error) { return act.Effect{}, why }
		r.unchanged(func() {
			if _, err := r.do.Do(t.Context(), in); !errors.Is(err, why) {
				t.Errorf("err = %v, want %v", err, why)
			}
		})
	}
	in := system()
	in.Refs = act.Refs{Kind: policy.KindPerson, Actor: id.New(id.Person)}
	r.unchanged(func() {
		if _, err := r.do.Do(t.Context(), in); !errors.Is(err, problem.NotFound) {
			t.Errorf("an actor who is not there: %v", err)
		}
	})
}

// TestQuiet: quiet refusals are counted and write nothing.
func TestQuiet(t *testing.T) {
	r := newRig(t)
	member := r.person("member")
	var counted []string
	in := r.byPerson(member, newGroup("g"), r.proof(member.ID))
	in.Quiet = true
	r.unchanged(func() {
		_, err := r.do.Do(t.Context(), in) // nobody counts
		r.code(err, problem.Denied, "denied")
		r.do.Refused = func(a policy.Action, code string) { counted = append(counted, string(a)+" "+code) }
		_, err = r.do.Do(t.Context(), in)
		r.code(err, problem.Denied, "denied")
	})
	if diff := cmp.Diff([]string{"group.write denied"}, counted); diff != "" {
		t.Error(diff)
	}
	in.Quiet = false
	r.one(func() { _, _ = r.do.Do(t.Context(), in) })
	if len(counted) != 1 {
		t.Errorf("a recorded refusal was counted too: %v", counted)
	}
}

// TestRecordOfAPerson: the record says who, through what, with which proofs, at
// which assurance and by which rule.
func TestRecordOfAPerson(t *testing.T) {
	r := newRig(t)
	admin := r.person("admin", r.admins.ID)
	s := r.session(admin.ID, r.proof(admin.ID))
	g := newGroup("operators")
	in := r.byPerson(admin, g)
	in.Refs.Session, in.Seal = s.ID, nil
	line := r.one(func() {
		_, err := r.do.Do(t.Context(), in)
		r.ok(err)
	})
	if !r.has(g) || line.Assurance != "phr" || line.Proofs != "passkey" || !slices.Equal(line.Reasons, []string{"admin.write"}) || !slices.Equal(line.Persons, []string{admin.ID}) {
		t.Errorf("made %v, record %+v", r.has(g), line)
	}
	parts, err := audit.Open(t.Context(), r.records()[0].Row, r.keys)
	r.ok(err)
	if len(parts) != 2 || parts[1].Fields()["session"] != s.ID {
		t.Errorf("the person's part is %s", parts[len(parts)-1].JSON)
	}

	// An act that says of its actor what it has to say says it once.
	in.Action, in.Refs.Owner = policy.SelfWrite, admin.ID
	in.Changes = func(*act.Facts, policy.Decision) (act.Effect, error) {
		return act.Effect{Parts: []audit.Part{{Person: admin.ID, Body: map[string]any{"name": "New"}}}}, nil
	}
	line = r.one(func() {
		_, err := r.do.Do(t.Context(), in)
		r.ok(err)
	})
	if !slices.Equal(line.Persons, []string{admin.ID}) {
		t.Errorf("persons %v", line.Persons)
	}
}

// TestJudge: judging answers as doing would, and writes nothing.
func TestJudge(t *testing.T) {
	r := newRig(t)
	admin, member := r.person("admin", r.admins.ID), r.person("member")
	in := r.byPerson(admin, newGroup("g"), r.proof(admin.ID))
	in.Prepare = func(context.Context) error { t.Error("judging prepares nothing"); return nil }
	in.Changes = func(*act.Facts, policy.Decision) (act.Effect, error) {
		t.Error("judging changes nothing")
		return act.Effect{}, nil
	}
	r.unchanged(func() {
		for _, c := range []struct {
			who    account.Person
			proofs []assurance.Proof
			want   policy.Outcome
		}{
			{admin, []assurance.Proof{r.proof(admin.ID)}, policy.Allow},
			{admin, nil, policy.StepUp},
			{member, []assurance.Proof{r.proof(member.ID)}, policy.Deny},
		} {
			in.Refs.Actor, in.Proofs = c.who.ID, c.proofs
			d, f, err := r.do.Judge(t.Context(), in)
			r.ok(err)
			if d.Outcome != c.want || len(f.Proofs) != len(c.proofs) || len(f.Nodes) == 0 {
				t.Errorf("%s with %d proofs: %v, facts %+v", c.who.Username, len(c.proofs), d.Outcome, f)
			}
		}
		in.Refs.Actor = id.New(id.Person)
		if _, _, err := r.do.Judge(t.Context(), in); !errors.Is(err, problem.NotFound) {
			t.Errorf("nobody: %v", err)
		}
	})
}
