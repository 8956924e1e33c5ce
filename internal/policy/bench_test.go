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
// permits with demands of their own, and forbids by risk.
func crowd(t testing.TB, n, others int) *Set {
	var b strings.Builder
	ages := []string{"5m", "15m", "1h", "12h"}
	for i := range n + others {
		action := "x"
		if i >= n {
			action = "y"
		}
		if i%10 == 9 {
			fmt.Fprintf(&b, `@id("f%d") @reason("r") forbid (principal, action == Action::"%s", resource)
				when { context.risk.known && context.risk.band == "high" && context.network.zone == "z%d" } unless { context.assurance.rung >= 3 };`, i, action, i%3)
			continue
		}
		fmt.Fprintf(&b, `@id("p%d") @reason("r") permit (principal is Person in Group::"g%d", action == Action::"%s", resource)
			when { resource.owner == principal } when { context.assurance.rung >= %d && context.assurance.age.multi <= duration("%s") };`, i, i%7, action, 3+i%2, ages[i%4])
	}
	s, err := compile(Source{Schema: strings.ReplaceAll(ownSchema, ", Thingy]", "]"), Files: []File{{Text: b.String()}}}, false)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A decision that climbs, over 50 policies of its action, and with 1,000 others
// beside them; remembered, and on facts that were never seen.
func BenchmarkClimb(b *testing.B) {
	for _, others := range []int{0, 1000} {
		s := crowd(b, 50, others)
		in := asking("x", showing(2, 0), dana, "g1", "g2", "g3")
		if d := s.Decide(in, nil); d.Outcome != StepUp || d.Ask.Rung != 3 {
			b.Fatalf("%+v", d)
		}
		b.Run(fmt.Sprintf("remembered/%d", others), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s.Decide(in, nil)
			}
		})
		b.Run(fmt.Sprintf("fresh/%d", others), func(b *testing.B) {
			b.ReportAllocs()
			memo, age := s.eval.(*engine).bucket(&in).memo, time.Duration(0)
			for b.Loop() {
				clear(memo.verdicts)
				age += time.Millisecond
				in := asking("x", showing(2, age), dana, "g1", "g2", "g3") // was never seen
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
