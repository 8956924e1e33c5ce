package policy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/assurance"
)

func BenchmarkDecide(b *testing.B) {
	machine := asking(TokenIssue, assurance.State{Sources: 1, MachineRung: 1}, "")
	machine.Principal.Kind = KindService
	scoped := asking(TokenRefresh, showing(3, 0), "")
	scoped.Context.Scopes = []ScopeAsk{{Name: "notes:read"}, {Name: "keys:rotate", Ask: phr5, Conditional: true}}
	for name, in := range map[string]Input{
		"machine": machine,
		"allow":   asking(FactorEnrol, showing(3, 0), dana),
		"scopes":  scoped,
		"step_up": asking(FactorEnrol, showing(2, 0), dana),
		"deny":    asking(PersonErase, showing(4, 0), dana),
		"default": asking("no.such.action", showing(4, 0), dana),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Builtin().Decide(in, nil)
			}
		})
	}
}

// crowd is a set in which n policies speak of x, and others of something else:
// permits with demands of their own, and forbids by risk. Where apart, no two ask alike.
func crowd(t testing.TB, n, others int, apart bool) *Set {
	var b strings.Builder
	ages := []string{"5m", "15m", "1h", "12h"}
	for i := range n + others {
		action, only := "x", ""
		if i >= n {
			action = "y"
		}
		if apart {
			only = fmt.Sprintf(` && resource.kind != "not%d"`, i)
		}
		if i%10 == 9 {
			fmt.Fprintf(&b, `@id("f%d") @reason("r") forbid (principal, action == Action::"%s", resource)
				when { context.risk.known && context.risk.band == "high" && context.network.zone == "z%d"%s } unless { context.assurance.rung >= 3 };`, i, action, i%3, only)
			continue
		}
		fmt.Fprintf(&b, `@id("p%d") @reason("r") permit (principal is Person in Group::"g%d", action == Action::"%s", resource)
			when { resource.owner == principal%s } when { context.assurance.rung >= %d && context.assurance.age.multi <= duration("%s") };`, i, i%7, action, only, 3+i%2, ages[i%4])
	}
	s, err := compile(Source{Schema: strings.ReplaceAll(ownSchema, ", Thingy]", "]"), Files: []File{{Text: b.String()}}}, false)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A decision that climbs, over 50 policies of its action, and with 1,000 others beside
// them: remembered; on facts that were never seen; where no two policies ask alike; and
// where no facts were ever seen before, of this action or another.
func BenchmarkClimb(b *testing.B) {
	for _, c := range []struct {
		name          string
		others        int
		apart         bool
		seen, nothing bool
	}{
		{name: "remembered/0", seen: true},
		{name: "remembered/1000", others: 1000, seen: true},
		{name: "fresh/0"},
		{name: "fresh/1000", others: 1000},
		{name: "apart/0", apart: true},
		{name: "apart/1000", others: 1000, apart: true},
		{name: "first/0", apart: true, nothing: true},
	} {
		b.Run(c.name, func(b *testing.B) {
			s := crowd(b, 50, c.others, c.apart)
			in := asking("x", showing(2, 0), dana, "g1", "g2", "g3")
			if d := s.Decide(in, nil); d.Outcome != StepUp || d.Ask.Rung != 3 {
				b.Fatalf("%+v", d)
			}
			e := s.eval.(*engine)
			memo, age := e.bucket(&in).memo, time.Duration(0)
			b.ReportAllocs()
			for b.Loop() {
				if c.seen {
					s.Decide(in, nil)
					continue
				}
				clear(memo.verdicts)
				if c.nothing {
					clear(e.contexts.made)
				}
				age += time.Millisecond
				in := asking("x", showing(2, age), dana, "g1", "g2", "g3")
				s.Decide(in, nil)
			}
		})
	}
}

// The decision on the hot path costs no memory.
func TestDecideAllocatesNothingForAMachine(t *testing.T) {
	in := asking(TokenIssue, assurance.State{Sources: 1, MachineRung: 1}, "")
	in.Principal.Kind = KindService
	if n := testing.AllocsPerRun(100, func() { Builtin().Decide(in, nil) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
