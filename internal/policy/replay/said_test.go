package replay

import (
	"encoding/json"
	"testing"

	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/attribute"
	"github.com/countersign-dev/countersign/internal/policy"
)

// clusters is a set over a type of thing of which something is said.
func clusters(t *testing.T, declared, rule string) *policy.Set {
	t.Helper()
	s, err := policy.Compile(policy.Source{
		Schema: `entity Cluster { ` + declared + ` }; action "deploy" appliesTo { principal: [Person, Service], resource: [Cluster], context: Context };`,
		Files: []policy.File{{Text: `@id("deploy") @reason("r") permit (principal, action == Action::"deploy", resource);
			@id("rule") @reason("r") forbid (principal, action == Action::"deploy", resource) ` + rule + `;`}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestSaid: a record keeps what was said of a thing, in the part of the person, as it is
// written and read again; another set decides by it, and one whose schema declares more, or
// otherwise, tells nothing of that decision.
func TestSaid(t *testing.T) {
	const declared = "environment: String, size: Long, frozen: Bool, labels: Set<String>"
	was := clusters(t, declared, `when { resource.frozen }`)
	in := policy.Input{Principal: policy.Entity{Kind: policy.KindPerson, ID: "usr_1"}, Action: "deploy", Resource: policy.Resource{
		Type: "Cluster", ID: "prod", Attributes: attribute.Values{"environment": "production", "size": int64(12), "frozen": false, "labels": []string{"eu", "pci"}},
	}}
	in.Context.Now, in.Context.Risk = monday, policy.UnknownRisk
	d := was.Decide(in, nil)
	shared, world := See(&in, d.Ask)
	if d.Outcome != policy.Allow || world == nil {
		t.Fatalf("%+v, %+v", d, world)
	}
	text, err := json.Marshal(world)
	if err != nil {
		t.Fatal(err)
	}
	again := func(set *policy.Set) Report {
		var saw World
		if err := json.Unmarshal(text, &saw); err != nil {
			t.Fatal(err)
		}
		tr := New(set)
		tr.Add(&Decision{At: monday, Who: "usr_1", Saw: &saw, Facts: &Facts{Action: "deploy", Kind: policy.KindPerson, Outcome: d.Outcome.String(), Seen: &shared}})
		return tr.Report(10)
	}
	for rule, want := range map[string]int{
		`when { resource.environment == "production" }`: 1, `when { resource.environment == "staging" }`: 0,
		`when { resource.size > 11 }`: 1, `when { resource.size > 12 }`: 0, `when { resource.frozen }`: 0,
		`when { resource.labels.contains("pci") && !resource.labels.contains("us") }`: 1,
	} {
		if r := again(clusters(t, declared, rule)); r.Blocked != want || r.Decisions != 1 {
			t.Errorf("%s: %+v", rule, r)
		}
	}
	for _, declared := range []string{declared + ", region: String", "size: String", "environment: Set<String>"} {
		if r := again(clusters(t, declared, `when { context.risk.known }`)); r.Untold[Unsaid] != 1 || r.Decisions != 0 {
			t.Errorf("%s: %+v", declared, r)
		}
	}
	// Of a service it is of a moment, and not kept for all to share.
	in.Principal = policy.Entity{Kind: policy.KindService, ID: "svc_1"}
	if shared, world := See(&in, assurance.Ask{}); shared.World != nil || world != nil {
		t.Errorf("%+v", shared)
	}
	in.Resource.Attributes = nil
	if shared, _ := See(&in, assurance.Ask{}); shared.World == nil {
		t.Error("the control: nothing of a moment, and it is not kept")
	}
}
