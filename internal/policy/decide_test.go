package policy

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/problem"
)

var t0 = time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC)

const (
	dana = "usr_dana"
	sam  = "usr_sam"
)

// showing is the state of somebody who reached rung r that long ago and nothing else.
func showing(r assurance.Rung, age time.Duration) assurance.State {
	if r == assurance.None {
		return assurance.State{}
	}
	return assurance.Ask{Rung: r, MaxAge: max(age, 1)}.Raise(assurance.State{}, t0)
}

func asking(a Action, s assurance.State, owner string, groups ...string) Input {
	return Input{
		Principal: Entity{Kind: KindPerson, ID: dana, Groups: groups},
		Client:    Entity{Kind: "client", ID: "cli_1"},
		Action:    a,
		Resource:  Resource{Type: "thing", ID: "thing_1", Owner: owner},
		Context:   Context{Assurance: s, Now: t0, Risk: UnknownRisk},
	}
}

// fake is an evaluator made of functions.
type fake struct {
	judge func(Input) verdict
	asks  []assurance.Ask
}

func (f fake) evaluate(in Input, _ bool) verdict { return f.judge(in) }
func (f fake) candidates(Input) []assurance.Ask  { return f.asks }
func (f fake) top(Input) (int, bool) {
	n := 0
	for _, a := range f.asks {
		n = max(n, a.Approval.Need())
	}
	return n, true
}

func setOf(f func(Input) verdict, a ...assurance.Ask) *Set {
	return &Set{eval: fake{f, a}, version: "v"}
}

// needing is a policy that permits whoever meets any of the asks.
func needing(asks ...assurance.Ask) *Set {
	return setOf(func(in Input) verdict {
		for _, a := range asks {
			if in.Context.meets(a) {
				return verdict{allow: true}
			}
		}
		return verdict{reasons: []Reason{{Policy: "p", Text: "more"}}}
	}, asks...)
}

func TestTheZeroValuesRefuse(t *testing.T) {
	var none *Set
	for _, s := range []*Set{none, {}} {
		if d := s.Decide(asking(SelfRead, showing(4, 0), dana), nil); d.Outcome != Deny || d.Code != CodeError {
			t.Errorf("%+v", d)
		}
	}
	if none.Version() != "" {
		t.Error("no set has a version")
	}
	if (Decision{}).Outcome != Deny {
		t.Error("the zero decision is not Deny")
	}
	if d := Builtin().Decide(Input{}, nil); d.Outcome != Deny {
		t.Errorf("the zero input: %+v", d)
	}
	for o, want := range map[Outcome]string{Deny: "deny", StepUp: "step_up", Allow: "allow", 7: "deny"} {
		if o.String() != want {
			t.Errorf("%d is %q", o, o)
		}
	}
}

func TestFactsBeforePolicy(t *testing.T) {
	yes := setOf(func(Input) verdict { return verdict{allow: true} })
	for _, c := range []struct {
		name  string
		kind  string
		spoil func(*Context)
		code  string
	}{
		{"nothing", KindPerson, func(*Context) {}, ""},
		{"ended", KindPerson, func(c *Context) { c.Ended = "ses_1" }, CodeEnded},
		{"owner ended", KindService, func(c *Context) { c.OwnerEnded = dana }, CodeEnded},
		{"operator ended", KindOperator, func(c *Context) { c.Ended = "x" }, CodeEnded},
		{"no time", KindPerson, func(c *Context) { c.Now = time.Time{} }, CodeError},
		{"quarantine, a person", KindPerson, func(c *Context) { c.Quarantine = true }, CodeQuarantine},
		{"quarantine, a link", KindAnonymous, func(c *Context) { c.Quarantine = true }, CodeQuarantine},
		{"quarantine, the operator", KindOperator, func(c *Context) { c.Quarantine = true }, ""},
		{"quarantine, the server", KindSystem, func(c *Context) { c.Quarantine = true }, ""},
	} {
		in := asking("x", showing(4, 0), dana)
		in.Principal.Kind = c.kind
		c.spoil(&in.Context)
		d := yes.Decide(in, nil)
		if d.Code != c.code || (d.Outcome == Allow) != (c.code == "") || d.PolicyVersion != "v" || c.code != "" && len(d.Reasons) != 1 {
			t.Errorf("%s: %+v", c.name, d)
		}
	}
}

func TestAnErrorRefusesWhereverItHappens(t *testing.T) {
	boom := errors.New("no attribute risk")
	for n := 1; n <= 3; n++ { // real facts, top, candidate
		calls := 0
		s := setOf(func(in Input) verdict {
			if calls++; calls == n {
				return verdict{allow: true, err: boom, reasons: []Reason{{Policy: "p7"}}}
			}
			return verdict{allow: calls == 2}
		}, assurance.Ask{Rung: 3})
		d := s.Decide(asking("x", showing(1, 0), dana), nil)
		if d.Outcome != Deny || d.Code != CodeError || calls != n || len(d.Reasons) != 2 || d.Reasons[0].Policy != "p7" ||
			!strings.Contains(d.Reasons[1].Text, boom.Error()) {
			t.Errorf("error in call %d: %+v after %d", n, d, calls)
		}
	}
}

func TestTheClimbInOrder(t *testing.T) {
	phr5 := assurance.Ask{Rung: 3, MaxAge: 5 * time.Minute}
	multi := assurance.Ask{Rung: 2}
	hw := assurance.Ask{Rung: 4}

	d := needing(hw, phr5, multi).Decide(asking("x", showing(1, 0), dana), nil)
	if d.Outcome != StepUp || d.Ask != multi || d.Code != CodeStepUp || len(d.Reasons) != 1 {
		t.Errorf("the cheapest is not asked for: %+v", d)
	}
	// Allow evaluates once.
	calls := 0
	setOf(func(Input) verdict { calls++; return verdict{allow: true} }, multi).Decide(asking("x", showing(1, 0), dana), nil)
	if calls != 1 {
		t.Errorf("allow took %d evaluations", calls)
	}
	// The top refused ends it: two evaluations.
	calls = 0
	d = setOf(func(Input) verdict { calls++; return verdict{reasons: []Reason{{Policy: "never"}}} }, multi, hw).
		Decide(asking("x", showing(1, 0), dana), nil)
	if d.Outcome != Deny || d.Code != CodeDenied || calls != 2 || d.Ask.Demands() || d.Reasons[0].Policy != "never" {
		t.Errorf("%+v after %d", d, calls)
	}
	// The top is allowed but no ask that is named leads there.
	d = setOf(func(in Input) verdict { return verdict{allow: in.Context.meets(hw)} }, multi).Decide(asking("x", showing(1, 0), dana), nil)
	if d.Outcome != Deny || d.Code != CodeUnattainable || d.Ask.Demands() {
		t.Errorf("%+v", d)
	}
}

// A forbid that takes away as assurance rises: the ask is met already and policy
// refuses all the same (A6.4).
func TestAContradictionIsRefusedNotLooped(t *testing.T) {
	s := setOf(func(in Input) verdict {
		return verdict{allow: in.Context.Assurance.Pairs[0].AuthTime.Before(t0.Add(-time.Minute)) || in.Context.Confirmed}
	}, assurance.Ask{Rung: 1}, assurance.Ask{Approval: assurance.Approval{Kind: assurance.Confirm}, Rung: 1})
	in := asking("x", showing(1, 0), dana)
	in.Context.Confirmable = true
	d := s.Decide(in, nil)
	if d.Outcome != StepUp { // control: confirming would do
		t.Fatalf("%+v", d)
	}
	odd := setOf(func(in Input) verdict {
		best := in.Context.Assurance.Best()
		return verdict{allow: best.Rung != 3}
	}, assurance.Ask{Rung: 2})
	// Real: rung 3 refused; top is rung 4, allowed; hypothesis rung 2 keeps rung 3.
	if d = odd.Decide(asking("x", showing(3, 0), dana), nil); d.Code != CodeUnattainable {
		t.Errorf("%+v", d)
	}
	calls := 0
	moody := setOf(func(Input) verdict { calls++; return verdict{allow: calls > 1} }, assurance.Ask{Rung: 2})
	if d = moody.Decide(asking("x", showing(3, 0), dana), nil); d.Outcome != Deny || d.Code != CodeInconsistent || d.PolicyVersion != "v" {
		t.Errorf("%+v", d)
	}
}

func TestOnlyPeopleAndTheirAgentsClimb(t *testing.T) {
	s := needing(assurance.Ask{Rung: 3})
	for kind, want := range map[string]Outcome{
		KindPerson: StepUp, KindAgent: StepUp,
		KindService: Deny, KindOperator: Deny, KindSystem: Deny, KindAnonymous: Deny, "": Deny, "client": Deny,
	} {
		in := asking("x", showing(2, 0), dana)
		in.Principal.Kind = kind
		if d := s.Decide(in, nil); d.Outcome != want {
			t.Errorf("%q: %+v", kind, d)
		}
	}
}

func TestAttainability(t *testing.T) {
	hw, phr := assurance.Ask{Rung: 4}, assurance.Ask{Rung: 3, MaxAge: time.Minute}
	s := needing(hw, phr)
	in := asking("x", showing(2, 0), dana)
	if d := s.Decide(in, func(a assurance.Ask) bool { return a == hw }); d.Outcome != StepUp || d.Ask != hw {
		t.Errorf("the attainable one is not asked for: %+v", d)
	}
	d := s.Decide(in, func(assurance.Ask) bool { return false })
	if d.Outcome != Deny || d.Code != CodeUnattainable || d.Ask != phr {
		t.Errorf("the page is not told what would do: %+v", d)
	}
}

func TestApprovalsAreAskedForOnlyWhereSomebodyCanGiveThem(t *testing.T) {
	two := assurance.Ask{Rung: 2, Approval: assurance.Approval{Kind: assurance.Approve, M: 2, Group: "release"}}
	lacking := assurance.Ask{Approval: two.Approval} // the sign-in is there
	for _, c := range []struct {
		approvals, approvers int
		want                 Outcome
		code                 string
	}{{0, 0, Deny, CodeUnattainable}, {0, 1, Deny, CodeUnattainable}, {0, 2, StepUp, CodeStepUp}, {1, 2, StepUp, CodeStepUp}, {2, 0, Allow, ""}} {
		in := asking("x", showing(2, 0), dana)
		in.Context.Approvals, in.Context.Approvers = c.approvals, c.approvers
		if d := needing(two).Decide(in, nil); d.Outcome != c.want || d.Code != c.code || c.want == StepUp && d.Ask != lacking {
			t.Errorf("%+v: %+v", c, d)
		}
	}
	confirm := assurance.Ask{Approval: assurance.Approval{Kind: assurance.Confirm}}
	in := asking("x", showing(2, 0), dana)
	want := []Reason{{Policy: "p", Text: "more"}, {Policy: "needs:approvals", Text: "This needs your confirmation, and there is nobody who can give that here."}}
	for name, can := range map[string]Attainable{"outside": nil, "inside": func(assurance.Ask) bool { return true }} {
		d := needing(confirm).Decide(in, can)
		if d.Outcome != Deny || d.Code != CodeUnattainable || d.Ask != confirm || !slices.Equal(d.Reasons, want) {
			t.Errorf("%s: %+v", name, d)
		}
		if p := d.Problem(assurance.Default()); p.Challenge != nil || p.Kind != problem.Denied || strings.Contains(p.Detail, "confirm") {
			t.Errorf("%s: %+v", name, p)
		}
	}
	in.Context.Confirmable = true
	if d := needing(confirm).Decide(in, nil); d.Outcome != StepUp || d.Ask != confirm {
		t.Errorf("%+v", d)
	}
	in.Context.Confirmed = true
	if d := needing(confirm).Decide(in, nil); d.Outcome != Allow {
		t.Errorf("%+v", d)
	}
	odd := assurance.Ask{Approval: assurance.Approval{Kind: "odd"}}
	in.Context.Approvals = 100
	if d := needing(odd).Decide(in, nil); d.Outcome != Deny {
		t.Errorf("an unknown demand was met: %+v", d)
	}
}

// No ceremony changes the device, so it is never a challenge.
func TestADeviceIsNeverAChallenge(t *testing.T) {
	for _, c := range []struct {
		ask            assurance.Device
		known, managed bool
		want           Outcome
	}{
		{assurance.AnyDevice, false, false, Allow},
		{assurance.KnownDevice, false, false, Deny},
		{assurance.KnownDevice, true, false, Allow},
		{assurance.KnownDevice, false, true, Allow},
		{assurance.ManagedDevice, true, false, Deny},
		{assurance.ManagedDevice, true, true, Allow},
	} {
		set := made(t, `@id("r") @reason("r") permit (principal is Person, action == Action::"x", resource) when { context.assurance.rung >= 2 }`+
			map[assurance.Device]string{1: "when { context.device.known }", 2: "when { context.device.managed == true }"}[c.ask]+";")
		in := asking("x", showing(2, 0), dana)
		in.Context.DeviceKnown, in.Context.DeviceManaged = c.known, c.managed
		d := set.Decide(in, nil)
		if d.Outcome != c.want {
			t.Errorf("%+v: %+v", c, d)
		}
		if c.ask == assurance.ManagedDevice && c.want == Deny && d.Reasons[1].Text != "This needs a managed device." {
			t.Errorf("the reason: %+v", d.Reasons)
		}
		if c.want == Allow { // the rung is still asked for, and the device is not
			in.Context.Assurance = showing(1, 0)
			if d := set.Decide(in, nil); d.Outcome != StepUp || d.Ask != (assurance.Ask{Rung: 2}) {
				t.Errorf("%+v: %+v", c, d)
			}
		}
	}
}

func TestTheThirdChallengeEndsIt(t *testing.T) {
	for n, want := range map[int]Outcome{0: StepUp, 1: StepUp, 2: Deny, 3: Deny} {
		in := asking(FactorEnrol, showing(2, 0), dana)
		in.Context.Challenges = n
		d := Builtin().Decide(in, nil)
		if d.Outcome != want || d.Review != (want == Deny) || want == Deny && (d.Code != CodeTooMany || d.Ask.Demands() || len(d.Reasons) == 0 || d.PolicyVersion == "") {
			t.Errorf("after %d: %+v", n, d)
		}
	}
	in := asking(FactorEnrol, showing(3, 0), dana)
	in.Context.Challenges = 9
	if d := Builtin().Decide(in, nil); d.Outcome != Allow {
		t.Errorf("challenges refuse what is allowed: %+v", d)
	}
}

// Two actors who differ only in what they have enrolled, and so in how they
// proved the same thing, get equal answers.
func TestOutsideNobodyLearnsWhatIsEnrolled(t *testing.T) {
	proof := func(m assurance.Method, cred string, syn bool) assurance.Proof {
		return assurance.Proof{Method: m, Subject: dana, Credential: cred, At: t0.Add(-time.Hour), UserVerified: true, Synced: syn}
	}
	for _, p := range Builtin().Policies() {
		for _, a := range p.Actions {
			one := asking(a, assurance.Evaluate(dana, []assurance.Proof{proof(assurance.Passkey, "cred_1", true)}, t0), dana, Administrators)
			two := asking(a, assurance.Evaluate(dana, []assurance.Proof{
				proof(assurance.SecurityKey, "cred_2", false), proof(assurance.Passkey, "cred_3", true),
			}, t0), dana, Administrators)
			if diff := cmp.Diff(Builtin().Decide(one, nil), Builtin().Decide(two, nil)); diff != "" {
				t.Errorf("%s: %s", a, diff)
			}
		}
	}
}

// Password again after a passkey does not satisfy (phr, 5 min): here a key
// without user verification plays the weaker event.
func TestAWeakerEventDoesNotFreshen(t *testing.T) {
	old := assurance.Proof{Method: assurance.Passkey, Subject: dana, At: t0.Add(-time.Hour), UserVerified: true}
	weak := assurance.Proof{Method: assurance.SecurityKey, Subject: dana, At: t0}
	d := Builtin().Decide(asking(FactorEnrol, assurance.Evaluate(dana, []assurance.Proof{old, weak}, t0), dana), nil)
	if d.Outcome != StepUp || d.Ask != (assurance.Ask{Rung: 3, MaxAge: 5 * time.Minute}) {
		t.Errorf("%+v", d)
	}
	fresh := old
	fresh.At = t0.Add(-5 * time.Minute)
	if d := Builtin().Decide(asking(FactorEnrol, assurance.Evaluate(dana, []assurance.Proof{old, weak, fresh}, t0), dana), nil); d.Outcome != Allow {
		t.Errorf("%+v", d)
	}
}
