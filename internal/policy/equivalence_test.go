package policy

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/countersign-dev/countersign/internal/assurance"
)

// The Cedar set answers as the table did, reasons and all, over every action,
// kind, group, owner, link, device and state that either can tell apart.
func TestCedarAnswersAsTheTableDid(t *testing.T) {
	old, now := newSet(builtin), Builtin()
	var actions []Action
	for _, r := range builtin {
		actions = append(actions, r.Actions...)
	}
	actions = append(actions, "", "no.such.action", "by risk")
	states := []assurance.State{{}, {Sources: 1, MachineRung: 1}}
	for r := assurance.Single; r <= assurance.Hardware; r++ {
		for _, age := range []time.Duration{0, 5 * time.Minute, 5*time.Minute + 1, 15 * time.Minute, 15*time.Minute + 1, 12 * time.Hour, 12*time.Hour + 1, 9000 * time.Hour} {
			states = append(states, showing(r, age))
			if r > assurance.Single { // strong and old, with something weaker and newer
				s := showing(r, age)
				s.Pairs[0].AuthTime = t0
				states = append(states, s)
			}
		}
	}
	n := 0
	for _, a := range actions {
		for _, kind := range []string{KindPerson, KindService, KindAgent, KindOperator, KindSystem, KindAnonymous, KindWorkload, "client", ""} {
			for _, s := range states {
				for _, owner := range []string{dana, sam, ""} {
					for _, groups := range [][]string{nil, {Administrators}, {"staff"}, {"staff", Administrators}} {
						for bits := range 4 {
							in := asking(a, s, owner, groups...)
							in.Principal.Kind = kind
							in.Context.Presented = bits&1 != 0
							in.Context.DeviceManaged = bits&2 != 0
							if bits == 3 {
								in.Context.Risk = Risk{Known: true, Band: RiskLow}
							}
							want, got := old.Decide(in, nil), now.Decide(in, nil)
							n++
							if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Decision{}, "PolicyVersion")); diff != "" {
								t.Fatalf("%s by %s of %q, %v, %+v: %s", a, kind, owner, groups, s, diff)
							}
						}
					}
				}
			}
		}
	}
	t.Logf("%d questions", n)
}
