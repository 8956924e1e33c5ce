package policy

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/countersign-dev/countersign/internal/attribute"
)

// readable is what a policy may read of every fact there is, whether a memo holds
// it or not.
var readable = slices.Concat(plain, atoms, []string{
	`principal in Person::"` + sam + `"`, `principal is Person in Person::"` + dana + `"`, `principal in Client::"cli_1"`,
	`principal == Person::"` + sam + `"`, `principal in Group::"staff"`, `principal in [Group::"staff", Group::"administrators"]`,
	`resource in Thing::"thing_1"`, `resource == Thing::"thing_1"`, `resource is Cluster`, `resource is Thing in Thing::"thing_1"`,
	"context.time.hour < 12", "context.time.weekday == 1", `context.network.zone == "office"`, `context.client == Client::"cli_1"`,
	"context.token.known", `context.token.age <= duration("1m")`, "context.token.bound", "context.token.depth < 2",
	`context.details.types.contains("payment")`, `context.details.said.contains("payment amount>=1000")`, `context.details.said.containsAny(["payment to=A", "x"])`,
	`context.agent.purpose == "release"`, `context.agent.run == "run_1"`, "context.agent.budget > 5",
	"context.deployment.manages_devices", "context.no_passkey", `context.risk.band != "low"`, `["thing", "Cluster"].contains(resource.kind)`,
	"context.assurance.sources >= 2", `context.assurance.age.multi <= duration("90s")`,
	`resource is Cluster && resource.environment like "prod*"`, `resource is Cluster && !(resource.environment like "*n*")`, `resource is Cluster && resource.environment != ""`,
	"resource is Cluster && resource.size == 10", "resource is Cluster && resource.size > 10 && resource.size <= 1000", "resource is Cluster && -5 < resource.size",
	"resource is Cluster && [10, 11].contains(resource.size)", "resource is Cluster && resource.size + 1 == 11", "resource is Cluster && resource.size > context.approvals.count",
	"resource is Cluster && resource.frozen == false", "resource is Cluster && (if resource.frozen then context.presented else resource.size > 9)", "resource is Cluster && resource.frozen == context.presented",
	"resource is Cluster && resource.labels.isEmpty()", `resource is Cluster && resource.labels.containsAny(["eu", "x"])`, `resource is Cluster && resource.labels.containsAll(["eu", "pci"])`,
	`resource is Cluster && resource.labels == ["pci"]`, `resource is Cluster && ["pci", "x"].containsAll(resource.labels)`, `resource is Cluster && resource.labels.contains(resource.environment)`,
	`resource is Cluster && resource.environment == context.network.zone`, `resource is Cluster && resource.kind == resource.environment`, "resource has kind", "resource has labels",
	`resource is Cluster && [resource.environment].contains("staging")`, `resource is Cluster && {"a": resource.size}.a == 10`, `resource is Cluster && resource.kind == "note"`,
})

// neighbours are inputs that differ from one in one fact.
func neighbours(in Input) (out []Input) {
	with := func(edit func(*Input)) {
		n := in
		n.Principal.Groups = slices.Clone(in.Principal.Groups)
		n.Context.Assurance.Pairs = slices.Clone(in.Context.Assurance.Pairs)
		edit(&n)
		out = append(out, n)
	}
	for _, id := range []string{dana, sam, "staff", "cli_1"} {
		with(func(n *Input) { n.Principal.ID = id })
		with(func(n *Input) { n.Resource.Owner = id })
		with(func(n *Input) { n.Client.ID = id })
		with(func(n *Input) { n.Resource.ID = id })
	}
	for _, groups := range [][]string{nil, {"staff"}, {Administrators}, {"staff", Administrators}, {dana, sam}} {
		with(func(n *Input) { n.Principal.Groups = groups })
	}
	for _, of := range []string{"thing", "Thing", ""} { // of a Cluster more is said
		with(func(n *Input) { n.Resource.Type = of })
	}
	of := attribute.Values{"kind": "Cluster", "environment": "another", "size": int64(5), "frozen": false, "labels": []string{}}
	if in.Resource.Type == "Cluster" {
		of = in.Resource.Attributes
	}
	with(func(n *Input) { n.Resource.Type, n.Resource.Attributes = "Cluster", of })
	for name, values := range map[string][]any{
		"kind": {"thing", "note"}, "environment": {"production", "prod-eu", "staging", "", "office"}, "size": {int64(-6), int64(-5), int64(0), int64(9), int64(10), int64(11), int64(1000), int64(1001)},
		"frozen": {true, false}, "labels": {[]string{}, []string{"eu", "pci"}, []string{"pci"}, []string{"pci", "x"}, []string{"another"}, []string{"prod-eu"}},
	} {
		for _, v := range values {
			with(func(n *Input) {
				n.Resource.Type, n.Resource.Attributes = "Cluster", maps.Clone(of)
				n.Resource.Attributes[name] = v
			})
		}
	}
	for _, d := range []time.Duration{-time.Minute, -time.Millisecond, -1, 1, time.Millisecond, 9 * time.Hour, 4 * 24 * time.Hour} {
		with(func(n *Input) { n.Context.Now = n.Context.Now.Add(d) })
		for i := range in.Context.Assurance.Pairs {
			with(func(n *Input) { n.Context.Assurance.Pairs[i].AuthTime = n.Context.Assurance.Pairs[i].AuthTime.Add(d) })
		}
	}
	for _, edit := range []func(*Context){
		func(c *Context) { c.Risk = Risk{true, RiskLow} },
		func(c *Context) { c.RiskBefore = Risk{true, RiskHigh} },
		func(c *Context) { c.Network.Known = !c.Network.Known },
		func(c *Context) { c.Network.Zone = "office" },
		func(c *Context) { c.DeviceKnown = !c.DeviceKnown },
		func(c *Context) { c.DeviceManaged = !c.DeviceManaged },
		func(c *Context) { c.DevicesUsed = !c.DevicesUsed },
		func(c *Context) { c.Confirmed = !c.Confirmed },
		func(c *Context) { c.Approvals++ },
		func(c *Context) { c.NoPasskey = !c.NoPasskey },
		func(c *Context) { c.Presented = !c.Presented },
		func(c *Context) { c.Token = Token{Known: true, Age: time.Second, Bound: true, Depth: 1} },
		func(c *Context) { c.Details = Details{Types: []string{"payment"}, Said: []string{"payment to=A"}} },
		func(c *Context) {
			c.Details = Details{Types: []string{"payment"}, Sizes: []Size{{"payment amount", 20}}}
		},
		func(c *Context) { c.Agent = Agent{Known: true, Purpose: "release", Run: "run_1", Budget: 9} },
		func(c *Context) { c.Assurance.MachineRung++ },
		func(c *Context) { c.Assurance.Sources++ },
		func(c *Context) { c.Assurance.PhishingResistant = !c.Assurance.PhishingResistant },
		func(c *Context) { c.Assurance.HardwareBound = !c.Assurance.HardwareBound },
		func(c *Context) { c.Assurance.HumanPresent = !c.Assurance.HumanPresent },
	} {
		with(func(n *Input) { edit(&n.Context) })
	}
	return out
}

// anyPolicies are policies that read anything; what they read of proof is never
// climbed for, so that they may say it in any way.
func anyPolicies() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		var b strings.Builder
		for i := range rapid.IntRange(1, 3).Draw(t, "n") {
			effect := rapid.SampledFrom([]string{"permit", "permit", "forbid"}).Draw(t, "effect")
			who := rapid.SampledFrom([]string{
				"principal", "principal is Person", `principal in Group::"staff"`, `principal == Person::"` + sam + `"`,
				`principal in Person::"` + sam + `"`, `principal is Person in Person::"` + dana + `"`,
			}).Draw(t, "who")
			what := rapid.SampledFrom([]string{"resource", "resource", "resource is Thing", `resource == Thing::"thing_1"`, `resource in Thing::"thing_1"`}).Draw(t, "what")
			fmt.Fprintf(&b, "@id(\"p%d\") @reason(\"r%d\") @climb(\"never\") %s (%s, action == Action::\"x\", %s)", i, i, effect, who, what)
			for range rapid.IntRange(0, 2).Draw(t, "conditions") {
				fmt.Fprintf(&b, " %s { %s }", rapid.SampledFrom([]string{"when", "unless"}).Draw(t, "if"), rapid.SampledFrom(readable).Draw(t, "reads"))
			}
			b.WriteString(";\n")
		}
		return b.String()
	})
}

// What is remembered of one input is never the answer to another whose facts the
// policies tell apart: after each input, those that differ in one fact get what a
// set that remembers nothing gives them.
func TestRememberedIsFresh(t *testing.T) {
	campaign(t)
	remembers := 0
	rapid.Check(t, func(t *rapid.T) {
		src := Source{Schema: saidSchema, Files: []File{{Text: anyPolicies().Draw(t, "source")}}}
		s, err := compile(src, false)
		if err != nil {
			t.Fatal(err)
		}
		bare, err := compile(src, false)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range bare.eval.(*engine).buckets {
			b.memo = nil
		}
		in := anyInput("x").Draw(t, "in")
		in.Principal.Kind = rapid.SampledFrom([]string{KindPerson, KindPerson, KindAgent}).Draw(t, "kind")
		if b := s.eval.(*engine).bucket(&in); b != nil && b.memo != nil {
			remembers++
		}
		for _, n := range append([]Input{in}, neighbours(in)...) {
			n.Context.Assurance.Pairs = slices.Clip(n.Context.Assurance.Pairs)
			s.Decide(in, nil)
			one, _ := json.Marshal(s.Decide(n, nil))
			if two, _ := json.Marshal(bare.Decide(n, nil)); string(one) != string(two) {
				t.Fatalf("%s\nafter %+v\nof %+v\nremembered %s\nafresh     %s", src.Files[0].Text, in, n, one, two)
			}
		}
	})
	enough(t, remembers >= 100, "only %d sets remembered anything", remembers)
}
