package policy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cedar-policy/cedar-go"
	publicast "github.com/cedar-policy/cedar-go/ast"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
	"pgregory.net/rapid"

	"github.com/countersign-dev/countersign/internal/assurance"
)

func excepted(t testing.TB, all ...Exception) *Set {
	t.Helper()
	src := Default()
	src.Exceptions = all
	s, err := Compile(src)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func travel() Exception {
	return Exception{ID: "travel", Rule: "risk.high", For: dana, Owner: "security", Reason: "Her key was lost on a journey.", Rung: 2, MaxAge: 3600, Until: t0.Add(24 * time.Hour)}
}

func TestAnException(t *testing.T) {
	s := excepted(t, travel())
	high := func(rung assurance.Rung, old time.Duration, now time.Time) Input {
		in := asking(Authorize, assurance.State{}, "")
		in.Context.Now = now
		in.Context.Assurance = assurance.Ask{Rung: rung, MaxAge: old}.Raise(assurance.State{}, now)
		in.Context.Risk = Risk{Known: true, Band: RiskHigh}
		return in
	}
	used := func(d Decision) bool {
		for _, r := range d.Reasons {
			if r.Policy == "exception:travel" && strings.Contains(r.Text, "journey") {
				return true
			}
		}
		return false
	}
	// Two factors of the last hour are enough, and are what is asked for.
	if d := s.Decide(high(2, 30*time.Minute, t0), nil); d.Outcome != Allow || !used(d) {
		t.Errorf("%+v", d)
	}
	if d := s.Decide(high(2, 2*time.Hour, t0), nil); d.Outcome != StepUp || d.Ask != (assurance.Ask{Rung: 2, MaxAge: time.Hour}) {
		t.Errorf("%+v", d)
	}
	// What the rule itself asks for is enough without it.
	if d := s.Decide(high(3, time.Minute, t0), nil); d.Outcome != Allow || used(d) {
		t.Errorf("%+v", d)
	}
	// It ends, is for nobody else, and waives nothing else.
	if d := s.Decide(high(2, 30*time.Minute, t0.Add(24*time.Hour)), nil); d.Outcome != StepUp || d.Ask.Rung != 3 {
		t.Errorf("%+v", d)
	}
	other := high(2, 30*time.Minute, t0)
	other.Principal.ID = sam
	if d := s.Decide(other, nil); d.Outcome != StepUp || d.Ask.Rung != 3 {
		t.Errorf("%+v", d)
	}
	extreme := high(4, time.Second, t0)
	extreme.Context.Risk.Band = RiskExtreme
	if d := s.Decide(extreme, nil); d.Outcome != Deny || !d.Review {
		t.Errorf("%+v", d)
	}

	// A permit: it asks for something else, of the same people.
	s = excepted(t, Exception{ID: "night", Rule: "admin.write", For: "group:oncall", Owner: "ops", Reason: "r", Rung: 2, MaxAge: 600, Until: t0.Add(time.Hour)})
	in := asking(ClientWrite, assurance.Ask{Rung: 2, MaxAge: 5 * time.Minute}.Raise(assurance.State{}, t0), "", Administrators, "oncall")
	if d := s.Decide(in, nil); d.Outcome != Allow {
		t.Errorf("%+v", d)
	}
	in.Principal.Groups = []string{Administrators}
	if d := s.Decide(in, nil); d.Outcome != StepUp || d.Ask.Rung != 3 {
		t.Errorf("%+v", d)
	}
	in.Principal.Groups = []string{"oncall"}
	if d := s.Decide(in, nil); d.Outcome != Deny {
		t.Errorf("%+v", d)
	}
	if len(s.Exceptions()) != 1 || s.Exceptions()[0].ID != "night" || s.Version() == Builtin().Version() {
		t.Error("the set does not say")
	}
}

func TestExceptionsThatAreRefused(t *testing.T) {
	const mixing = `@id("mixing") @reason("r") permit (principal is Person, action == Action::"client.write", resource)
when { resource.owner == principal || context.assurance.rung >= 3 };`
	for name, c := range map[string]struct {
		change func(*Exception)
		says   string
	}{
		"no id":           {func(e *Exception) { e.ID = "" }, "an id of its own"},
		"no rule":         {func(e *Exception) { e.Rule = "nothing" }, "there is no rule"},
		"the host":        {func(e *Exception) { e.Rule = "system" }, "no exceptions"},
		"a mixed rule":    {func(e *Exception) { e.Rule = "mixing" }, "write two"},
		"for nobody":      {func(e *Exception) { e.For = "group:" }, "it is for"},
		"for a client":    {func(e *Exception) { e.For = "cli_1" }, "it is for"},
		"no owner":        {func(e *Exception) { e.Owner = " " }, "owner and reason"},
		"no reason":       {func(e *Exception) { e.Reason = "" }, "owner and reason"},
		"nothing instead": {func(e *Exception) { e.Rung = 0 }, "in the place of the rule"},
		"seconds":         {func(e *Exception) { e.MaxAge = 5 }, "in the place of the rule"},
		"no end":          {func(e *Exception) { e.Until = time.Time{} }, "it ends"},
		"no such year":    {func(e *Exception) { e.Until = time.Date(9999, 12, 31, 23, 0, 0, 0, time.FixedZone("", -7200)) }, "it ends"},
		"twice":           {nil, "an id of its own"},
		"too many":        {nil, "more than 50"},
		"too many to try": {nil, "different asks"},
	} {
		t.Run(name, func(t *testing.T) {
			src := Default()
			src.Files = append(src.Files, File{Name: "99.cedar", Text: mixing})
			e := travel()
			switch {
			case c.change != nil:
				c.change(&e)
				src.Exceptions = []Exception{e}
			case name == "twice":
				src.Exceptions = []Exception{e, e}
			default:
				for i := range 51 {
					e.ID, e.Rule, e.Rung, e.MaxAge = fmt.Sprint("e", i), "risk.high", 1+i%2, int64(60*(i+1))
					if name == "too many to try" && i == 50 {
						break
					}
					if name == "too many to try" && i%2 == 0 {
						e.Rule = "risk.medium"
					}
					src.Exceptions = append(src.Exceptions, e)
				}
			}
			if _, err := Compile(src); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v", err)
			}
		})
	}
}

// A statement is proved of those whom exceptions concern, too.
func TestExceptionsAreProved(t *testing.T) {
	never := Never{Actions: []Action{ClientWrite}, Holds: belowPhishing}
	if p := Builtin().Prove(never); p.Counter != nil || p.Unproven != "" {
		t.Fatalf("%+v", p)
	}
	for _, who := range []string{dana, "group:oncall"} {
		s := excepted(t, Exception{ID: "e", Rule: "admin.write", For: who, Owner: "o", Reason: "r", Rung: 2, MaxAge: 600, Until: t0})
		if p := s.Prove(never); p.Counter == nil || p.Allowed[len(p.Allowed)-1].Policy != "exception:e" {
			t.Errorf("%s: %+v", who, p)
		}
		s = excepted(t, Exception{ID: "e", Rule: "admin.write", For: who, Owner: "o", Reason: "r", Rung: 3, MaxAge: 86400, Until: t0})
		if p := s.Prove(never); p.Counter != nil || p.Unproven != "" {
			t.Errorf("%s: %+v", who, p)
		}
	}
}

// Over random policies, actors and exceptions the climb keeps its promises, and
// the answer is that of Cedar over the policies as the exceptions leave them.
func TestClimbOverRandomExceptions(t *testing.T) {
	cases(t, "400", "40000")
	outcomes := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		src := Source{Schema: saidSchema, Files: []File{{Text: source().Draw(t, "source")}}}
		plain, err := compile(src, false)
		if err != nil {
			return
		}
		var rules []string
		for _, p := range plain.Policies() {
			if p.File != hostFile {
				rules = append(rules, p.ID)
			}
		}
		for i := range rapid.IntRange(1, 3).Draw(t, "exceptions") {
			src.Exceptions = append(src.Exceptions, Exception{
				ID: fmt.Sprint("e", i), Owner: "o", Reason: "r", Rule: rapid.SampledFrom(rules).Draw(t, "rule"),
				For: rapid.SampledFrom([]string{dana, "group:staff"}).Draw(t, "for"), Rung: rapid.IntRange(1, 4).Draw(t, "rung"),
				MaxAge: rapid.SampledFrom([]int64{0, 60, 300, 3600}).Draw(t, "age"), Until: rapid.SampledFrom([]time.Time{t0, t0.Add(time.Hour)}).Draw(t, "until"),
			})
		}
		s, err := compile(src, false)
		if err != nil {
			outcomes["refused"]++
			return
		}
		e := s.eval.(*engine)
		accepts := func(in Input) bool {
			raw := cedar.NewPolicySet()
			b := e.bucket(&in)
			if b == nil {
				return false
			}
			for _, p := range b.policies {
				raw.Add(cedar.PolicyID(p.ID), p.cedar)
				for i := range src.Exceptions {
					x := &src.Exceptions[i]
					if x.Rule != p.ID || !x.Concerns(in.Principal) || !in.Context.Now.Before(x.Until) || !in.Context.meets(x.Instead()) {
						continue
					}
					raw.Remove(cedar.PolicyID(p.ID))
					if p.Effect == "permit" {
						bare := *p.tree // with its own scope
						bare.Conditions = (*ast.Policy)(p.bare.policy.AST()).Conditions
						raw.Add(cedar.PolicyID(p.ID), cedar.NewPolicyFromAST((*publicast.Policy)(&bare)))
					}
				}
			}
			w := e.worldOf(&in, nil)
			decision, diag := cedar.Authorize(raw, w, w.request)
			return len(diag.Errors) == 0 && decision == cedar.Allow
		}
		for range 4 {
			in := anyone(t)
			if climbs(in.Principal.Kind) {
				checkClimb(t, s, in, attainable(t), lattice, accepts)
			}
			d, before := s.Decide(in, nil), plain.Decide(in, nil)
			if before.Outcome == Allow && d.Outcome != Allow {
				t.Fatalf("an exception takes away: %+v, was %+v", d, before)
			}
			if d.Outcome != before.Outcome || d.Ask != before.Ask {
				outcomes["changed to "+d.Outcome.String()]++
			}
		}
	})
	t.Logf("%v", outcomes)
	enough(t, outcomes["changed to allow"] >= 3 && outcomes["changed to step_up"] >= 3, "hardly anything is excepted: %v", outcomes)
}
