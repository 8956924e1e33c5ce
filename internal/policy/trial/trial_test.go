package trial

import (
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/policies"
)

func read(t testing.TB, text string) File {
	t.Helper()
	f, err := Parse("test"+Suffix, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// The default set answers as its own tests say, and never what they forbid.
func TestTheDefaultSet(t *testing.T) {
	names, err := fs.Glob(policies.Files, "default/*"+Suffix)
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		text, err := fs.ReadFile(policies.Files, name)
		if err != nil {
			t.Fatal(err)
		}
		f := read(t, string(text))
		results := append(Test(policy.Builtin(), f), Check(policy.Builtin(), f)...)
		if len(results) < 15 {
			t.Errorf("%s: %d results", name, len(results))
		}
		for _, r := range results {
			if r.Bad() || r.Result == Proved && !strings.Contains(r.Detail, "tried") {
				t.Errorf("%+v", r)
			}
		}
	}
}

const own = `
entity Cluster { owner: Person };
action "deploy" appliesTo { principal: [Person, Agent], resource: [Cluster], context: Context };`

func set(t *testing.T, text string) *policy.Set {
	t.Helper()
	s, err := policy.Compile(policy.Source{Schema: own, Files: []policy.File{{Name: "deploy.cedar", Text: text}}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const deploy = `@id("deploy") @reason("A deploy needs a passkey of now.")
permit (principal is Person in Group::"release", action == Action::"deploy", resource)
when { context.assurance.age.phr <= duration("5m") };`

// A planted hole is found, with a state in which it shows, and its repair is
// proved.
func TestCheckFindsAHoleAndProvesItsRepair(t *testing.T) {
	f := read(t, `
never:
  - name: a deploy is never allowed below phr
    actions: [deploy]
    below: phr`)
	hole := `@id("night") @reason("At night nobody should be woken.")
	permit (principal is Person, action == Action::"deploy", resource)
	when { context.network.zone == "office" && context.assurance.age.multi <= duration("12h") };`
	r := Check(set(t, deploy+hole), f)[0]
	if r.Result != False || !r.Bad() || !strings.Contains(r.Detail, "deploy is allowed by night to a person") || !strings.Contains(r.Detail, "at multi since") || !strings.Contains(r.Detail, "office") {
		t.Errorf("%+v", r)
	}
	repaired := strings.Replace(hole, "age.multi", "age.phr", 1)
	if r = Check(set(t, deploy+repaired), f)[0]; r.Result != Proved || r.Bad() {
		t.Errorf("%+v", r)
	}
	// What cannot be tried is not called proved.
	for why, more := range map[string]string{
		"what has no end": `when { context.time.hour >= 9 }`,
		"a pattern":       `when { context.network.zone like "off*" }`,
		"computes":        `when { context.assurance.machine * 2 == 4 }`,
		"a number above":  `when { context.assurance.machine == 40 }`,
	} {
		text := `@id("odd") @reason("r") @climb("never") permit (principal is Person, action == Action::"deploy", resource) when { context.assurance.rung >= 3 } ` + more + ";"
		if r = Check(set(t, deploy+text), f)[0]; r.Result != Unproven || !strings.Contains(r.Detail, why) {
			t.Errorf("%s: %+v", more, r)
		}
	}
	// A hole is found beside what cannot be tried.
	if r = Check(set(t, deploy+`@id("agents") @reason("r") permit (principal is Agent, action == Action::"deploy", resource);
		@id("odd") @reason("r") permit (principal is Person, action == Action::"deploy", resource) when { context.time.hour >= 9 && context.assurance.rung >= 3 };`), f)[0]; r.Result != False {
		t.Errorf("%+v", r)
	}
}

// Every way in which a statement is narrowed narrows it.
func TestStatements(t *testing.T) {
	s := set(t, `@id("a") @reason("r") permit (principal in Group::"release", action == Action::"deploy", resource)
		when { resource.owner == principal || context.approvals.count >= 2 }
		when { context.device.managed || context.assurance.age.phr <= duration("5m") }
		unless { context.risk.known && context.risk.band == "high" };`)
	for statement, want := range map[string]string{
		"outside: [release]":                        Proved,
		"outside: [staff]":                          False,
		"risk: [high]":                              Proved,
		"risk: [high, low]":                         False,
		"not_own: true":                             False,
		"{not_own: true, approvals: 2}":             Proved,
		"{not_own: true, approvals: 3}":             False,
		"{unmanaged: true, below: phr}":             Proved,
		"{unmanaged: true, below: phr, older: 5m}":  Proved,
		"{unmanaged: true, below: phr, older: 4m}":  False,
		"{unmanaged: true, below: phrh}":            False,
		"below: phr":                                False,
		"kinds: [service]":                          Proved,
		"{kinds: [agent], below: phr, older: 365h}": False,
	} {
		statement = strings.Trim(statement, "{}")
		text := "never:\n  - actions: [deploy]\n"
		for _, part := range strings.Split(strings.NewReplacer("[", "«[", "]", "]»").Replace(statement), ", ") {
			text += "    " + part + "\n"
		}
		text = strings.NewReplacer("«", "", "»", "", "[high\n    low]", "[high, low]").Replace(text)
		if r := Check(s, read(t, text))[0]; r.Result != want {
			t.Errorf("%s: %+v", statement, r)
		}
	}
	if r := Check(s, read(t, "never: [{actions: [fly], below: phr}]"))[0]; r.Result != Failed || !r.Bad() || !strings.Contains(r.Detail, "no action fly") {
		t.Errorf("%+v", r)
	}
}

func TestCasesThatAreWrongSayHow(t *testing.T) {
	s := set(t, deploy)
	given := "given: {groups: [release], proofs: [{rung: multi}]}, action: deploy, "
	for text, want := range map[string]string{
		given + "expect: step_up, ask: {rung: phr, max_age: 5m}, reason: deploy, code: insufficient_user_authentication": "",
		given + "expect: allow":                                                           "expected allow, got step_up (needs a phishing-resistant sign-in from the last 5 minutes) by deploy",
		given + "expect: step_up, ask: {rung: phrh}":                                      "expected a hardware-bound sign-in, got a phishing-resistant sign-in from the last 5 minutes",
		given + "expect: step_up, ask: {confirm: true}":                                   "expected your confirmation",
		given + "expect: step_up, ask: {approve: 2, group: g}":                            "expected the approval of 2 others",
		given + "expect: step_up, reason: other":                                          "expected the reason other, got deploy",
		given + "expect: step_up, code: denied":                                           "expected the code denied",
		given + "expect: step_up, review: true":                                           "expected a review",
		"given: {}, action: deploy, expect: allow":                                        "expected allow, got deny (denied) by deploy",
		"action: fly, expect: deny":                                                       "there is no action fly",
		"given: {groups: [release], proofs: [{rung: phr}]}, action: deploy, expect: deny": "expected deny, got allow by deploy",
	} {
		f := read(t, "cases: [{"+text+"}]")
		r := Test(s, f)[0]
		if !strings.HasPrefix(r.Detail, want) || (want == "") != (r.Result == Passed) || r.Name == "" {
			t.Errorf("%s: %+v", text, r)
		}
		if d, err := Explain(s, f.Cases[0]); err != nil || d.PolicyVersion != s.Version() {
			t.Errorf("%+v, %v", d, err)
		}
	}
}

func TestFilesAreReadStrictly(t *testing.T) {
	for _, text := range []string{
		"cases: [{action: a, expect: allow, mood: good}]", "cases: [{action: a, expect: maybe}]", "cases: [{expect: allow}]", "cases: 1",
		"cases: [{action: a, expect: allow, given: {kind: cat}}]", "cases: [{action: a, expect: allow, given: {risk: odd}}]",
		"cases: [{action: a, expect: allow, given: {device: phone}}]", "cases: [{action: a, expect: allow, given: {at: noon}}]",
		"cases: [{action: a, expect: allow, given: {proofs: [{rung: best}]}}]", "cases: [{action: a, expect: allow, given: {proofs: [{age: 1h}]}}]",
		"cases: [{action: a, expect: allow, given: {proofs: [{rung: phr, age: old}]}}]", "cases: [{action: a, expect: step_up, ask: {rung: best}}]",
		"never: [{below: phr}]", "never: [{actions: [a], below: best}]", "never: [{actions: [a], older: 5m}]", "never: [{actions: [a], risk: [odd]}]",
		"never: [{actions: [a], where: {a: {}}}]", "never: [{actions: [a], where: {a: []}}]", "never: [{actions: [a], where: {a: [x, 1]}}]", "never: [{actions: [a], where: {a: 1.5}}]",
		"never: [{actions: [a], where: {a: {at_least: x}}}]", "never: [{actions: [a], where: {a: {at_least: [1, 2]}}}]", "never: [{actions: [a], where: {a: {like: x}}}]",
		"never: [{actions: [a], where: {a: {at_least: 1, lacks: x}}}]", "never: [{actions: [a], where: {a: null}}]", "never: [{actions: [a], where: {a: {contains: [1]}}}]",
		"never: [{actions: [a], kinds: [cat]}]", "never: [{actions: [a], older: -5m, below: phr}]", "cases: []\n---\ncases: []",
	} {
		if f, err := Parse("x", []byte(text)); err == nil {
			t.Errorf("%s: %+v", text, f)
		}
	}
	if f, err := Parse("x", nil); err != nil || len(f.Cases) != 0 {
		t.Errorf("%+v %v", f, err)
	}
	f := read(t, `cases: [{action: a, expect: allow, given: {at: "2026-11-02T09:00:00Z", confirmable: true, device: known, zone: office, kind: service, machine: 1}}]`)
	in, _, _ := f.Cases[0].question()
	if in.Context.Now.Hour() != 9 || !in.Context.Confirmable || !in.Context.DeviceKnown || in.Context.Network.Zone != "office" || in.Context.Assurance.MachineRung != 1 {
		t.Errorf("%+v", in)
	}
}

const said = `
entity Cluster { owner: Person, environment: String, size: Long, frozen: Bool, labels: Set<String> };
entity Note { size: String };
action "deploy" appliesTo { principal: [Person, Agent], resource: [Cluster], context: Context };
action "show" appliesTo { principal: [Person], resource: [Cluster, Note], context: Context };
action "sign" appliesTo { principal: [Person], resource: [Thing], context: Context };`

// TestSaid: policies, cases and statements speak of what is said of things; a statement
// is proved or shown false by the attributes that policies and it tell apart.
func TestSaid(t *testing.T) {
	s, err := policy.Compile(policy.Source{Schema: said, Files: []policy.File{{Text: `
		@id("deploy") @reason("r") permit (principal is Person, action == Action::"deploy", resource);
		@id("production") @reason("r") forbid (principal, action == Action::"deploy", resource)
		when { resource.environment == "production" && !resource.frozen } unless { context.assurance.age.phr <= duration("5m") };
		@id("large") @reason("r") forbid (principal, action == Action::"deploy", resource)
		when { resource.size > 1000 || resource.labels.contains("pci") } unless { context.assurance.rung >= 3 };
		@id("show") @reason("r") permit (principal, action == Action::"show", resource) when { resource is Note || resource.size < 0 };
		@id("sign") @reason("r") permit (principal, action == Action::"sign", resource);`}}})
	if err != nil {
		t.Fatal(err)
	}
	for statement, want := range map[string]string{ // what is said of it begins so
		"actions: [deploy], below: phr, where: {environment: production, frozen: false}":                                Proved,
		"actions: [deploy], below: phr, older: 5m, where: {environment: [production], frozen: [false]}":                 Proved,
		"actions: [deploy], below: phr, older: 4m, where: {environment: production, frozen: false}":                     `false deploy is allowed by deploy to a person, at phr since 5m0s, `,
		"actions: [deploy], below: phr, where: {environment: production}":                                               `with a Cluster of environment "production", frozen true, labels [], size 0`,
		"actions: [deploy], below: phr, where: {environment: [production, staging], frozen: false}":                     `environment "staging"`,
		"actions: [deploy], below: phr, where: {size: {at_least: 1001}}":                                                Proved,
		"actions: [deploy], below: phr, where: {size: {at_least: 1000}}":                                                "size 1000",
		"actions: [deploy], below: phr, where: {size: {at_least: 1001, at_most: 5000}}":                                 Proved,
		"actions: [deploy], below: phr, where: {size: {at_most: -7}}":                                                   "size -",
		"actions: [deploy], below: phr, where: {size: [1001, 1002]}":                                                    Proved,
		"actions: [deploy], below: phr, where: {labels: {contains: pci}}":                                               Proved,
		"actions: [deploy], below: phr, where: {labels: {contains: [pci, eu]}}":                                         Proved,
		"actions: [deploy], below: phr, where: {labels: {contains: eu}}":                                                `labels ["eu"]`,
		"actions: [deploy], below: phr, where: {labels: {contains: pci, lacks: [eu]}}":                                  Proved,
		"actions: [deploy], below: phr, where: {labels: {lacks: pci}}":                                                  "labels []",
		"actions: [show], where: {size: {at_least: 0}}":                                                                 Proved,
		"actions: [show], where: {size: [big]}":                                                                         `with a Note of size "big"`,
		"actions: [deploy], where: {environment: 5}":                                                                    "failed a Cluster has no environment that is a Long",
		"actions: [deploy, show], where: {colour: red}":                                                                 "failed a Cluster has no colour that is a String",
		"actions: [self.read], where: {size: 5}":                                                                        "failed self.read is about nothing of which more is said",
		"actions: [sign], where: {size: 5}":                                                                             "failed a Thing has no size",
		"actions: [deploy], below: phr, where: {environment: production, frozen: false, size: {at_least: 9}}":           Proved,
		"actions: [deploy], below: multi, where: {environment: staging, size: {at_most: 1000}, labels: {lacks: [pci]}}": "size 0",
	} {
		r := Check(s, read(t, "never: [{"+statement+"}]"))[0]
		if got := r.Result + " " + r.Detail; want == Proved && r.Result != Proved || !strings.Contains(got, want) || strings.HasPrefix(want, "failed") && r.Result != Failed {
			t.Errorf("%s: %+v", statement, r)
		}
	}
	on := func(said string) string {
		return "cases: [{action: deploy, expect: step_up, ask: {rung: phr, max_age: 5m}, reason: production, given: {proofs: [{rung: multi}], resource: " + said + "}}]"
	}
	for said, want := range map[string]string{
		"{type: Cluster, properties: {environment: production, size: 5, frozen: false, labels: [a, b]}}":           "",
		"{type: Cluster, properties: {environment: staging, size: 5, frozen: false, labels: []}}":                  "expected step_up, got allow",
		"{type: Cluster, properties: {environment: production, frozen: false, labels: []}}":                        "of the Cluster, size is missing; it is a Long",
		`{type: Cluster, properties: {environment: production, size: "5", frozen: false, labels: []}}`:             "of the Cluster, size is not a Long",
		"{type: Cluster, properties: {environment: production, size: 5, frozen: false, labels: [], colour: blue}}": `a resource of type "Cluster" has no colour`,
		"{}":           "deploy is about Cluster: the resource has one of these types",
		"{type: Note}": "deploy is about Cluster: the resource has one of these types",
	} {
		f := read(t, on(said))
		if r := Test(s, f)[0]; !strings.HasPrefix(r.Detail, want) || (want == "") != (r.Result == Passed) {
			t.Errorf("%s: %+v", said, r)
		}
		if _, err := Explain(s, f.Cases[0]); (err == nil) != (want == "" || strings.HasPrefix(want, "expected")) {
			t.Errorf("%s is explained: %v", said, err)
		}
	}
}

// TestTheDocumentsExample: what docs/policy.md shows of attributes is so.
func TestTheDocumentsExample(t *testing.T) {
	doc, err := os.ReadFile("../../../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(doc), "A thing may have an owner")
	block := func(of string) (text string) {
		_, text, _ = strings.Cut(rest, "```"+of+"\n")
		text, rest, _ = strings.Cut(text, "```")
		return text
	}
	src := policy.Source{Schema: block("cedarschema"), Files: []policy.File{{Text: block("cedar")}}}
	f := read(t, block("yaml"))
	s, err := policy.Compile(src)
	if err != nil || len(f.Cases) == 0 || len(f.Never) == 0 {
		t.Fatal(err, f)
	}
	for _, r := range append(Test(s, f), Check(s, f)...) {
		if r.Bad() {
			t.Errorf("%+v", r)
		}
	}
}

// Whatever a file says, it is an error or can be run.
func FuzzParse(f *testing.F) {
	text, _ := fs.ReadFile(policies.Files, "default/ladder.policy.yaml")
	f.Add(string(text))
	f.Add("never: [{actions: [client.write], below: phr}]")
	f.Add("never: [{actions: [deploy], where: {environment: production, size: {at_least: 3}, labels: {lacks: [a, b]}}}]")
	f.Add("cases: [{action: deploy, expect: deny, given: {resource: {type: Cluster, properties: {size: 3, labels: [a]}}}}]")
	f.Add("cases: [{action: self.read, expect: allow, given: {proofs: [{rung: phr, age: 1h}]}}]")
	f.Fuzz(func(t *testing.T, text string) {
		file, err := Parse("x", []byte(text))
		if err != nil {
			if len(file.Cases)+len(file.Never) != 0 {
				t.Fatal("an error and a value")
			}
			return
		}
		Test(policy.Builtin(), file)
	})
}
