package policy

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/countersign-dev/countersign/internal/assurance"
)

func belowPhishing(in *Input) bool { return in.Context.Assurance.Best().Rung < assurance.Phishing }

// Over random policies: what is proved has no counterexample among random
// actors, and a counterexample is one.
func TestProofsOverRandomPolicies(t *testing.T) {
	results := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		s, err := compile(Source{Schema: saidSchema, Files: []File{{Text: source().Draw(t, "source")}}}, false)
		if err != nil {
			return
		}
		never := Never{Actions: []Action{"x"}, Holds: belowPhishing}
		if rapid.Bool().Draw(t, "of some clusters") {
			never.Said = map[string][]any{"size": {int64(10), int64(999)}, "environment": {"staging"}, "labels": {"eu"}}
			never.Holds = func(in *Input) bool {
				v := in.Resource.Attributes
				size, ok := v["size"].(int64)
				return ok && in.Resource.Type == "Cluster" && size >= 10 && size != 999 && v["environment"] != "staging" && !slices.Contains(v["labels"].([]string), "eu") && belowPhishing(in)
			}
		}
		p := s.Prove(never)
		switch {
		case p.Counter != nil:
			results["false"]++
			if !never.Holds(p.Counter) || s.Decide(*p.Counter, nil).Outcome != Allow || len(p.Allowed) == 0 {
				t.Fatalf("no counterexample: %+v", p.Counter)
			}
		case p.Unproven != "":
			results["unproven"]++
		default:
			results["proved"]++
			for range 5 {
				in := anyone(t)
				if never.Holds(&in) && s.Decide(in, nil).Outcome == Allow {
					t.Fatalf("proved, and allowed to %+v", in)
				}
			}
		}
	})
	t.Logf("%v", results)
	enough(t, results["false"] >= 5 && results["proved"] >= 5 && results["unproven"] <= results["proved"], "%v", results)
}

func TestProve(t *testing.T) {
	never := Never{Actions: []Action{"x", "y"}, Kinds: []string{KindPerson, KindService}, Holds: belowPhishing}
	for text, want := range map[string]string{
		`when { context.assurance.rung >= 3 }`:                                                  "",
		`when { context.assurance.rung >= 2 }`:                                                  "counter",
		`when { context.assurance.phishing_resistant }`:                                         "counter", // a key without user verification
		`when { context.assurance.hardware_bound && context.assurance.rung >= 3 }`:              "",
		`when { resource is Cluster && context.assurance.rung >= 1 }`:                           "counter",
		`when { context.assurance.sources >= 2 && context.approvals.count >= 2 }`:               "counter",
		`when { context.deployment.manages_devices && context.device.known }`:                   "counter",
		`when { context.network.known && context.no_passkey && context.presented }`:             "counter",
		`when { resource.owner == principal && context.approvals.confirmed }`:                   "counter",
		`when { ["a", "b"].contains(context.network.zone) && context.device.managed }`:          "counter",
		`when { context.assurance.rung >= 3 && context.time.hour > 8 }`:                         "what has no end",
		`when { context.assurance.rung >= 3 && principal == Person::"p" }`:                      "what has no end",
		`when { context.assurance.rung >= 3 && context.network.zone like "a*" }`:                "a pattern",
		`when { context.assurance.rung >= 3 && (` + groups(11) + `) }`:                          "more than 10",
		`when { context.assurance.rung >= 3 && (` + groups(65) + `) }`:                          "what has no end",
		`when { context.assurance.rung >= 3 && (` + groups(9) + `) && ` + everything + ` }`:     "more than 500000",
		`when { context.assurance.rung >= 3 && principal in [Group::"a", Group::"b"] }`:         "what has no end",
		`when { context.assurance.rung >= 3 && context.network.zone == context.network.zone }`:  "",
		`when { context.assurance.age.phr <= duration("5m") && context.risk.band == "medium" }`: "",
	} {
		text = strings.Replace(whenever(text), "principal, ", "principal is Person, ", 1)
		text = strings.Replace(text, "resource)", "resource is Cluster)", 1)
		p := made(t, text).Prove(never)
		got := p.Unproven
		if p.Counter != nil {
			got = "counter"
		}
		if !strings.Contains(got, want) || (want == "") != (got == "") || want == "" && p.Tried == 0 {
			t.Errorf("%s: %+v", text, p)
		}
	}
	// A policy with @climb("never") may compare in any way.
	for text, want := range map[string]string{
		"context.assurance.rung == 3":                                         "",
		"context.assurance.rung != 3":                                         "counter",
		"context.assurance.rung >= 3 && context.assurance.machine + 1 == 2":   "computes",
		"context.assurance.rung >= 3 && context.assurance.machine < 100":      "a number above",
		`context.assurance.age.phr > duration("5m")`:                          "what has no end",
		`context.assurance.age.phr <= context.assurance.age.multi`:            "what has no end",
		`context.assurance.age.phr <= duration("5m") && principal is Person`:  "",
		`context.assurance.rung >= 3 && -context.assurance.machine == 1`:      "computes",
		`context.assurance.rung >= 3 && context.approvals.count - 1 == 0`:     "computes",
		`context.assurance.rung >= 3 && context.approvals.count * 2 == 4`:     "computes",
		`!(context.assurance.rung < 3) && !(principal in Group::"strangers")`: "",
	} {
		p := made(t, `@id("p") @reason("r") @climb("never") permit (principal is Person, action == Action::"x", resource) when { `+text+" };").Prove(never)
		got := p.Unproven
		if p.Counter != nil {
			got = "counter"
		}
		if !strings.Contains(got, want) || (want == "") != (got == "") {
			t.Errorf("%s: %+v", text, p)
		}
	}
	if _, err := Compile(Source{Schema: ownSchema, Files: []File{{Text: whenever("when { context has risk }")}}}); err == nil {
		t.Error("the whole context may be read")
	}
	// An action that nobody is permitted has nothing to try; one scoped to an
	// instance cannot be.
	p := made(t, whenever("")).Prove(Never{Actions: []Action{"deploy"}, Holds: belowPhishing})
	if p.Tried != 0 || p.Unproven != "" || p.Counter != nil {
		t.Errorf("%+v", p)
	}
	p = made(t, `@id("p") @reason("r") permit (principal, action == Action::"x", resource == Cluster::"c") when { context.assurance.rung >= 3 };`).Prove(never)
	if p.Unproven == "" {
		t.Errorf("%+v", p)
	}
	p = made(t, `@id("p") @reason("r") permit (principal in Person::"p", action in [Action::"deploys", Action::"x"], resource) when { context.assurance.rung >= 3 };`).Prove(never)
	if p.Unproven == "" {
		t.Errorf("%+v", p)
	}
	p = made(t, `@id("p") @reason("r") permit (principal is Person in Group::"g", action == Action::"x", resource is Thing) when { resource.kind == "note" && context.assurance.machine >= 1 };
		@id("q") @reason("r") permit (principal in Group::"h", action == Action::"x", resource is Thing) when { context.assurance.rung >= 3 };`).Prove(never)
	if p.Counter == nil || p.Counter.Resource.Type != "note" || !p.Counter.Principal.In("g") {
		t.Errorf("%+v", p)
	}
	if !slices.Contains(Kinds(), KindAgent) || len(Kinds()) != 8 {
		t.Errorf("%v", Kinds())
	}
}

const everything = `context.risk.known && context.network.known && context.no_passkey && context.presented && context.approvals.count >= 1 &&
	context.approvals.confirmed && context.deployment.manages_devices && context.device.known && context.assurance.machine >= 1`

func groups(n int) string {
	var parts []string
	for i := range n {
		parts = append(parts, fmt.Sprintf(`principal in Group::"g%d"`, i))
	}
	return strings.Join(parts, " || ")
}

func TestWhatOnlyTheServerKnows(t *testing.T) {
	s := made(t, whenever("when { context.assurance.rung >= 3 && context.token.known }")+
		`@id("y") @reason("r") permit (principal, action == Action::"y", resource) when { context.risk.band == "low" };`)
	for a, want := range map[Action]bool{"x": false, "y": true, "deploy": false} {
		if got := s.AtServer(a); got != want {
			t.Errorf("%s: %v", a, got)
		}
	}
	for a, want := range map[Action]bool{"x": true, "deploys": true, "z": false} {
		if s.Has(a) != want {
			t.Errorf("%s", a)
		}
	}
	other := setOf(func(Input) verdict { return verdict{} })
	if other.Has("x") || !other.AtServer("x") {
		t.Error("what is not known is taken for granted")
	}
}

// What is said of things is tried by a value of each class, within a bound; what is
// compared in any other way is not called proved.
func TestProveSaid(t *testing.T) {
	words := func(n int) string {
		out := make([]string, n)
		for i := range out {
			out[i] = fmt.Sprintf("%q", fmt.Sprint("w", i))
		}
		return "[" + strings.Join(out, ", ") + "]"
	}
	for condition, want := range map[string]string{
		`resource.size >= 10 && resource.size < 10`:                                                                                        "",
		`resource.size > 10 && resource.size < 12`:                                                                                         "counter",
		`resource.size > 10 && resource.size < 11`:                                                                                         "",
		`resource.size < -9000000000000000`:                                                                                                "counter",
		`resource.size > 9007199254740991`:                                                                                                 "", // nobody can say it
		`resource.size > 9223372036854775806 || resource.size < -9223372036854775807`:                                                      "",
		`resource.environment == "a" && resource.environment != "a"`:                                                                       "",
		`!["a", "another", "another_"].contains(resource.environment)`:                                                                     "counter",
		`resource.labels.isEmpty() && resource.labels.contains("a")`:                                                                       "",
		`resource.labels.containsAll(["a", "b"]) && !resource.labels.contains("c")`:                                                        "counter",
		`["a", "b"].containsAll(resource.labels) && !resource.labels.containsAny(["a", "b"]) && !resource.labels.isEmpty()`:                "",
		`resource.labels != ["a"] && resource.labels.contains("a") && ["a", "b"].containsAll(resource.labels)`:                             "counter",
		`resource.frozen && resource.frozen == false`:                                                                                      "",
		`if resource.frozen then resource.size == 3 else false`:                                                                            "counter",
		`resource has size && resource.size == 5`:                                                                                          "counter",
		`context.assurance.rung >= 3 && resource.environment like "a*"`:                                                                    "a pattern",
		`context.assurance.rung >= 3 && resource.size + 1 > 3`:                                                                             "compared with each other",
		`context.assurance.rung >= 3 && resource.size > context.time.hour`:                                                                 "compared with each other",
		`context.assurance.rung >= 3 && resource.environment == resource.kind`:                                                             "compared with each other",
		`context.assurance.rung >= 3 && resource.labels.contains(resource.environment)`:                                                    "compared with each other",
		`context.assurance.rung >= 3 && resource.labels.containsAny(` + words(15) + `)`:                                                    "more than 20000 different things of the type Cluster",
		`context.assurance.rung >= 3 && ` + words(200) + `.contains(resource.environment) && ` + words(200) + `.contains(resource.kind)`:   "more than 20000 different things of the type Cluster",
		`context.assurance.rung >= 3 && resource.labels.containsAny(` + words(41) + `)`:                                                    "what has no end",
		`context.assurance.rung >= 3 && resource.labels.containsAny(` + words(9) + `) && resource.size > 3 && (` + groups(6) + `)`:         "more than 500000",
		`context.assurance.rung >= 3 && resource.labels.containsAny(` + words(5) + `) && resource.size > 3 && resource.environment != "a"`: "",
	} {
		s, err := Compile(Source{Schema: saidSchema, Files: []File{{Text: `@id("p") @reason("r") permit (principal is Person, action == Action::"deploy", resource) when { ` + condition + ` };`}}})
		if err != nil {
			t.Fatal(condition, err)
		}
		p := s.Prove(Never{Actions: []Action{"deploy"}, Kinds: []string{KindPerson}, Holds: belowPhishing})
		got := p.Unproven
		if p.Counter != nil {
			got = "counter"
			if d := s.Decide(*p.Counter, nil); d.Outcome != Allow {
				t.Errorf("%s: no counterexample: %+v", condition, p.Counter)
			}
		}
		if !strings.Contains(got, want) || (want == "") != (got == "") || want == "" && p.Tried == 0 {
			t.Errorf("%.90s: %q, %d tried", condition, got, p.Tried)
		}
	}
}

// A memo is bounded, and full it still answers.
func TestTheMemoIsBounded(t *testing.T) {
	s := made(t, whenever("when { context.assurance.sources >= 3 }"))
	m := s.eval.(*engine).buckets[bucketKey{"x", KindService}].memo
	for n := range 2 * maxMemo {
		in := asking("x", assurance.State{Sources: n}, "")
		in.Principal.Kind = KindService
		if d := s.Decide(in, nil); (d.Outcome == Allow) != (n >= 3) {
			t.Fatalf("%d: %+v", n, d)
		}
		if len(m.verdicts) > maxMemo {
			t.Fatalf("%d remembered", len(m.verdicts))
		}
	}
}

// What lies in the future beyond the skew of clocks was not reached.
func TestTheFutureDoesNotCount(t *testing.T) {
	for ahead, want := range map[time.Duration]Outcome{0: Allow, assurance.Skew: Allow, assurance.Skew + 1: Deny} {
		s := showing(3, 0)
		for i := range s.Pairs {
			s.Pairs[i].AuthTime = t0.Add(ahead)
		}
		if d := Builtin().Decide(asking(FactorEnrol, s, dana), nil); d.Outcome != want {
			t.Errorf("%s ahead: %+v", ahead, d)
		}
	}
}
