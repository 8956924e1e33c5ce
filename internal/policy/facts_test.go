package policy

import (
	"reflect"
	"testing"
	"time"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/schema/resolved"

	"github.com/countersign-dev/countersign/internal/assurance"
)

// leaves are the attributes of a record type, by their paths.
func leaves(r resolved.RecordType, under string, out map[string]bool) {
	for name, a := range r {
		path := under + string(name)
		if a.Optional {
			out[path+"?"] = true
		}
		switch t := a.Type.(type) {
		case resolved.RecordType:
			leaves(t, path+".", out)
		default:
			out[path] = true
		}
	}
}

// values are what a record holds at its paths.
func values(r types.Record, under string, out map[string]types.Value) {
	for name, v := range r.All() {
		if inner, ok := v.(types.Record); ok {
			values(inner, under+string(name)+".", out)
			continue
		}
		out[under+string(name)] = v
	}
}

// TestFactsAreTotal is A3: every attribute of the schema is always there, and each
// comes from the input: with nothing known it has the value that grants least, with
// all known another one.
func TestFactsAreTotal(t *testing.T) {
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	want := map[string]bool{}
	leaves(productTypes().Actions[actionUID(string(SelfRead))].AppliesTo.Context, "", want)
	if len(want) < 30 {
		t.Fatalf("the schema has %d attributes: this shows nothing", len(want))
	}
	var proofs []assurance.Pair
	for r := assurance.Single; r <= assurance.Hardware; r++ {
		proofs = append(proofs, assurance.Pair{Rung: r, AuthTime: now})
	}
	nothing := Context{Now: time.Unix(0, 0), Risk: UnknownRisk}
	all := Context{
		Now: now, NoPasskey: true, Presented: true, Approvals: 1, Confirmed: true, DeviceKnown: true, DeviceManaged: true, DevicesUsed: true,
		Assurance: assurance.State{Pairs: proofs, MachineRung: 1, Sources: 1, PhishingResistant: true, HardwareBound: true, HumanPresent: true},
		Risk:      Risk{true, RiskLow}, Network: Network{true, "trusted"}, Token: Token{true, time.Minute, true, 2}, Agent: Agent{true, "p", "r", 3},
		Details: Details{Types: []string{"t"}, Said: []string{"s"}},
	}
	least, most := map[string]types.Value{}, map[string]types.Value{}
	values(nothing.record(Entity{}), "", least)
	values(all.record(Entity{ID: "cli_1"}), "", most)
	for path := range want {
		if _, ok := least[path]; !ok {
			t.Errorf("%s is absent where nothing is known", path)
			continue
		}
		if reflect.DeepEqual(least[path], most[path]) {
			t.Errorf("%s is %v, whatever is known", path, least[path])
		}
	}
	for path := range most {
		if !want[path] {
			t.Errorf("%s is not in the schema", path)
		}
	}
}
