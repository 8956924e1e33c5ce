package policy

import (
	"encoding/json"
	"sync"
	"testing"

	"github.com/countersign-dev/countersign/internal/assurance"
)

// Many who ask one set at once are each answered as if they had asked alone: what it
// remembers is nobody's in particular. The race detector looks on.
func TestManyAskAtOnce(t *testing.T) {
	t.Parallel()
	const text = `@id("a") @reason("r") permit (principal, action == Action::"x", resource) when { context.assurance.age.phr <= duration("5m") };
@id("b") @reason("r") @life("5m") permit (principal in Group::"staff", action == Action::"x", resource) when { context.assurance.rung >= 2 && context.network.zone != "lab" };
@id("c") @reason("r") @life("1m") forbid (principal, action == Action::"x", resource) unless { context.device.known || context.risk.band != "high" };`
	src := Source{Schema: ownSchema, Files: []File{{Text: text}}}
	s, err := compile(src, false)
	if err != nil {
		t.Fatal(err)
	}
	in := asking("x", assurance.Evaluate(dana, []assurance.Proof{{Method: assurance.Passkey, Subject: dana, At: t0, UserVerified: true, PhishingResistant: true, Source: "passkey:1"}}, t0), dana, "staff")
	ins := append([]Input{in}, neighbours(in)...)
	want := make([]string, len(ins))
	for i := range ins {
		alone, err := compile(src, false)
		if err != nil {
			t.Fatal(err)
		}
		d, _ := json.Marshal(alone.Decide(ins[i], nil))
		want[i] = string(d)
	}
	var all sync.WaitGroup
	for from := range 4 {
		all.Go(func() {
			for i := range ins {
				at := (i + from*len(ins)/4) % len(ins)
				if got, _ := json.Marshal(s.Decide(ins[at], nil)); string(got) != want[at] {
					t.Errorf("%+v: %s, alone %s", ins[at], got, want[at])
				}
			}
		})
	}
	all.Wait()
}
