package policy

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cedar-policy/cedar-go"
	"pgregory.net/rapid"

	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/attribute"
)

// campaign sets how many random cases the test tries: 100,000 of a campaign, a
// hundredth otherwise.
func campaign(t *testing.T) {
	t.Helper()
	cases(t, "1000", "100000")
}

// cases sets how many cases a test tries: so many, or in a campaign so many.
func cases(t *testing.T, n, full string) {
	t.Helper()
	if os.Getenv("COUNTERSIGN_TRUST") != "" {
		n = full
	}
	checks := flag.Lookup("rapid.checks")
	before := checks.Value.String()
	if err := checks.Value.Set(n); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = checks.Value.Set(before) })
}

// enough fails a campaign in which what it is about came up too rarely to say anything. With
// -short a fifth of the cases is tried, in which that says nothing.
func enough(t *testing.T, ok bool, format string, args ...any) {
	t.Helper()
	if !ok && !testing.Short() {
		t.Errorf(format, args...)
	}
}

var atoms = []string{
	"context.assurance.rung >= 1", "context.assurance.rung >= 2", "context.assurance.rung >= 3", "context.assurance.rung >= 4",
	`context.assurance.age.single <= duration("5m")`, `context.assurance.age.multi <= duration("12h")`,
	`context.assurance.age.phr <= duration("5m")`, `context.assurance.age.phrh <= duration("1h")`,
	"context.assurance.phishing_resistant", "context.assurance.hardware_bound == true", "context.assurance.human_present",
	"context.approvals.confirmed", "context.approvals.count >= 1", "context.approvals.count >= 2",
	"context.device.known", "context.device.managed == true", "context.assurance.machine >= 1",
}

var plain = []string{
	"context.risk.known", `context.risk.band == "high"`, "principal is Person", `principal in Group::"administrators"`,
	"resource.owner == principal", "resource.owner != principal", "context.network.known", `resource.kind == "thing"`, "context.presented",
	`resource is Cluster && resource.environment == "production"`, `!(resource is Cluster && ["staging", "production"].contains(resource.environment))`,
	"resource is Cluster && resource.size >= 10", "(!(resource is Cluster) || resource.size < 10)", "resource is Cluster && resource.frozen",
	`resource is Cluster && resource.labels.contains("pci")`, `resource has size && resource.size != 10`,
}

// saidSchema is ownSchema, and something is said of clusters.
var saidSchema = strings.Replace(ownSchema, "entity Cluster { owner: Person };", clusters, 1)

const clusters = `entity Cluster { owner: Person, kind: String, environment: String, size: Long, frozen: Bool, labels: Set<String> };`

// said is what may be said of a cluster.
func said() *rapid.Generator[attribute.Values] {
	return rapid.Custom(func(t *rapid.T) attribute.Values {
		return attribute.Values{
			"kind":        rapid.SampledFrom([]string{"thing", "Cluster", "note"}).Draw(t, "kind"),
			"environment": rapid.SampledFrom([]string{"production", "staging", "prod-eu", "another", ""}).Draw(t, "environment"),
			"size":        rapid.SampledFrom([]int64{-1, 0, 9, 10, 11, 1000, attribute.MaxLong}).Draw(t, "size"),
			"frozen":      rapid.Bool().Draw(t, "frozen"),
			"labels":      rapid.SampledFrom([][]string{{}, {"pci"}, {"eu", "pci"}, {"another"}, {"another", "pci"}}).Draw(t, "labels"),
		}
	})
}

// proof is a random condition of the monotone fragment.
func proof(depth int) *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		switch n := rapid.IntRange(0, 5).Draw(t, "form"); {
		case n == 0 && depth > 0:
			return "(" + proof(depth-1).Draw(t, "l") + " || " + proof(depth-1).Draw(t, "r") + ")"
		case n <= 2 && depth > 0:
			return "(" + proof(depth-1).Draw(t, "l") + " && " + proof(depth-1).Draw(t, "r") + ")"
		case n == 3:
			return rapid.SampledFrom(plain).Draw(t, "plain")
		default:
			return rapid.SampledFrom(atoms).Draw(t, "atom")
		}
	})
}

// source is a random set of policies for x, of which some may say the same again, for
// another group and elsewhere in the order.
func source() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		var b strings.Builder
		who := []string{"principal", "principal is Person", "principal is Agent", `principal in Group::"staff"`, `principal is Person in Group::"administrators"`}
		for i := range rapid.IntRange(1, 3).Draw(t, "permits") {
			fmt.Fprintf(&b, "@id(\"p%d\") @reason(\"r\") permit (%s, action == Action::\"x\", resource)", i, rapid.SampledFrom(who).Draw(t, "who"))
			for range rapid.IntRange(0, 2).Draw(t, "whens") {
				fmt.Fprintf(&b, " when { %s }", proof(2).Draw(t, "when"))
			}
			if rapid.Bool().Draw(t, "but") {
				fmt.Fprintf(&b, " unless { %s }", rapid.SampledFrom(plain).Draw(t, "not"))
			}
			b.WriteString(";\n")
		}
		for i := range rapid.IntRange(0, 2).Draw(t, "forbids") {
			fmt.Fprintf(&b, "@id(\"f%d\") @reason(\"r\") forbid (%s, action in [Action::\"x\", Action::\"y\"], resource)", i, rapid.SampledFrom(who).Draw(t, "who"))
			if rapid.Bool().Draw(t, "sometimes") {
				fmt.Fprintf(&b, " when { %s }", rapid.SampledFrom(plain).Draw(t, "when"))
			}
			for range rapid.IntRange(0, 2).Draw(t, "unlesses") {
				fmt.Fprintf(&b, " unless { %s }", proof(2).Draw(t, "unless"))
			}
			b.WriteString(";\n")
		}
		again := strings.NewReplacer(`@id("`, `@id("again.`, `Group::"staff"`, `Group::"administrators"`).Replace(b.String())
		return rapid.SampledFrom([]string{"", "", "", again}).Draw(t, "before") + b.String() + rapid.SampledFrom([]string{"", "", "", strings.ReplaceAll(again, `"again.`, `"more.`)}).Draw(t, "after")
	})
}

// anyone is a random input about x.
func anyone(t *rapid.T) Input {
	in := anyInput("x").Draw(t, "in")
	in.Principal.Kind = rapid.SampledFrom([]string{KindPerson, KindPerson, KindAgent, KindService}).Draw(t, "kind")
	in.Context.Presented = rapid.Bool().Draw(t, "presented")
	in.Context.Network.Known = rapid.Bool().Draw(t, "network")
	in.Context.Risk = rapid.SampledFrom([]Risk{UnknownRisk, {true, RiskLow}, {true, RiskHigh}}).Draw(t, "risk")
	in.Context.Assurance.MachineRung = assurance.Rung(rapid.IntRange(0, 1).Draw(t, "machine"))
	if in.Resource.Type = rapid.SampledFrom([]string{"thing", "Cluster", ""}).Draw(t, "type"); in.Resource.Type == "Cluster" {
		in.Resource.Attributes = said().Draw(t, "said")
	}
	return in
}

// Over random policies and actors, on the real engine: it answers as Cedar does
// over all the policies without any index, whether it remembers or not; the ask
// it returns is accepted once met, and no cheaper one of the whole lattice is; it
// denies exactly when the top is refused; and two actors who differ only in what
// they enrolled get equal bytes.
func TestClimbOverRandomPolicies(t *testing.T) {
	campaign(t)
	outcomes := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		text := source().Draw(t, "source")
		s, err := compile(Source{Schema: saidSchema, Files: []File{{Text: text}}}, false)
		if err != nil {
			for _, f := range err.(Faults) {
				if f.Code != FaultLimit && !strings.Contains(f.Text, "alternatives") {
					t.Fatalf("%s\n%v", text, err)
				}
			}
			outcomes["too much"]++
			return
		}
		bare, _ := compile(Source{Schema: saidSchema, Files: []File{{Text: text}}}, false)
		for _, b := range bare.eval.(*engine).buckets {
			b.memo = nil
		}
		e := s.eval.(*engine)
		all, err := cedar.NewPolicyListFromBytes("", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		raw := cedar.NewPolicySet()
		for i, p := range all {
			raw.Add(cedar.PolicyID(fmt.Sprint(i)), p)
		}
		accepts := func(in Input) bool {
			w := e.worldOf(&in, nil)
			decision, diag := cedar.Authorize(raw, w, w.request)
			if len(diag.Errors) > 0 {
				t.Fatalf("%v", diag.Errors)
			}
			return decision == cedar.Allow
		}
		for range 4 {
			in := anyone(t)
			if climbs(in.Principal.Kind) {
				checkClimb(t, s, in, attainable(t), lattice, accepts)
			}
			d := s.Decide(in, nil)
			if (d.Outcome == Allow) != accepts(in) || len(d.Reasons) == 0 {
				t.Fatalf("Cedar allows %v, here %+v", accepts(in), d)
			}
			outcomes[d.Outcome.String()+" "+d.Code]++
			twin := in
			twin.Context.Assurance.Pairs = slices.Clone(in.Context.Assurance.Pairs)
			for i := range twin.Context.Assurance.Pairs {
				twin.Context.Assurance.Pairs[i].AMR, twin.Context.Assurance.Pairs[i].Credentials = []string{"other"}, []string{"cred_other"}
			}
			one, _ := json.Marshal(d)
			if two, _ := json.Marshal(bare.Decide(twin, nil)); string(one) != string(two) {
				t.Fatalf("remembered %s, afresh and with other factors %s", one, two)
			}
		}
	})
	t.Logf("%v", outcomes)
	for _, o := range []string{"allow ", "step_up " + CodeStepUp, "deny " + CodeDenied} {
		enough(t, outcomes[o] >= 20, "hardly any %q: %v", o, outcomes)
	}
}
