package policy

import (
	"testing"

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

// The decision on the hot path costs no memory.
func TestDecideAllocatesNothingForAMachine(t *testing.T) {
	in := asking(TokenIssue, assurance.State{Sources: 1, MachineRung: 1}, "")
	in.Principal.Kind = KindService
	if n := testing.AllocsPerRun(100, func() { Builtin().Decide(in, nil) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
