// Package cedar holds our reading of policies against Cedar's own implementation,
// in Rust, as WebAssembly.
package cedar

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/policies"
)

// own is what a deployment declares beside the product's schema.
const own = `
entity Cluster { owner: Person, environment: String, size: Long, frozen: Bool, labels: Set<String> };
entity Bare;
action "deploy" appliesTo { principal: [Person, Agent], resource: [Cluster, Bare], context: Context };
`

// script validates each text strictly and prints, for each, how many errors.
const script = `
const cedar = require(process.argv[1]);
const { schema, texts } = JSON.parse(require('fs').readFileSync(0, 'utf8'));
console.log(JSON.stringify(texts.map(text => {
  const a = cedar.validate({ validationSettings: { mode: 'strict' }, schema, policies: { staticPolicies: text } });
  return a.type === 'failure' ? a.errors.map(e => e.message) : a.validationErrors.map(e => e.error.message);
})));`

// theirs are the errors that Cedar's own validator finds in each text.
func theirs(t *testing.T, schema string, texts []string) [][]string {
	t.Helper()
	module, err := filepath.Abs("../../browser/node_modules/@cedar-policy/cedar-wasm/nodejs")
	if err != nil {
		t.Fatal(err)
	}
	node, lookErr := exec.LookPath("node")
	if _, err := os.Stat(module); err != nil || lookErr != nil {
		if os.Getenv("COUNTERSIGN_REQUIRE_BROWSER") != "" {
			t.Fatalf("node or @cedar-policy/cedar-wasm is missing (make tools): %v %v", err, lookErr)
		}
		t.Skip("node or @cedar-policy/cedar-wasm is missing: make tools")
	}
	in, err := json.Marshal(map[string]any{"schema": schema, "texts": texts})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(node, "-e", script, module)
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	var found [][]string
	if err := json.Unmarshal(out, &found); err != nil || len(found) != len(texts) {
		t.Fatalf("%v: %s", err, out)
	}
	return found
}

func schema(t *testing.T) string {
	t.Helper()
	text, err := fs.ReadFile(policies.Files, "schema.cedarschema")
	if err != nil {
		t.Fatal(err)
	}
	return string(text) + own
}

// The default set and the host's are valid to Cedar's own validator as well.
func TestTheDefaultSetIsValid(t *testing.T) {
	var texts []string
	for _, f := range policy.Default().Files {
		texts = append(texts, f.Text)
	}
	host, err := fs.ReadFile(policies.Files, "host.cedar")
	if err != nil {
		t.Fatal(err)
	}
	texts = append(texts, string(host))
	for i, errs := range theirs(t, schema(t), texts) {
		if len(errs) > 0 {
			t.Errorf("%.60q: %q", texts[i], errs)
		}
	}
}

// What one validator refuses the other does: a policy that could read what is
// absent, or compare what cannot be, never comes into force (mechanisms A4).
func TestTheValidatorsAgree(t *testing.T) {
	conditions := map[string]bool{
		`context.assurance.rung >= 3`:                                              true,
		`context.assurance.rung >= "3"`:                                            false,
		`context.assurance.age.phr <= duration("5m")`:                              true,
		`context.assurance.age.phr <= 300`:                                         false,
		`context.assurance.age.phr <= duration("5 minutes")`:                       false,
		`context.mood == "good"`:                                                   false,
		`context.risk.band == "high"`:                                              true,
		`context.risk.band == 3`:                                                   false,
		`context.risk.score >= 3`:                                                  false,
		`resource.owner == principal`:                                              false, // Bare has none
		`resource is Cluster && resource.owner == principal`:                       true,
		`resource has owner && resource.owner == principal`:                        true,
		`resource is Cluster && resource.environment == "production"`:              true,
		`resource has size && resource.size > 1000 && resource.size != -5`:         true,
		`resource.size > 1000`:                                                     false, // of a Bare nothing is said
		`resource is Cluster && resource.environment > "a"`:                        false,
		`resource is Cluster && resource.size >= duration("5m")`:                   false,
		`resource is Cluster && context.token.age <= resource.size`:                false,
		`resource is Cluster && resource.size`:                                     false,
		`resource is Cluster && resource.frozen && !resource.labels.isEmpty()`:     true,
		`resource is Cluster && resource.labels.contains("pci")`:                   true,
		`resource is Cluster && resource.labels.containsAny(["pci", "eu"])`:        true,
		`resource is Cluster && resource.labels.contains(resource.environment)`:    true,
		`resource is Cluster && resource.environment.contains("pci")`:              false,
		`resource is Cluster && resource.size + 1 < context.approvals.count`:       true,
		`resource is Cluster && resource.environment like "prod-*"`:                true,
		`resource is Cluster && resource.colour == "red"`:                          false,
		`resource.kind == "thing"`:                                                 false,
		`principal.name == "dana"`:                                                 false,
		`principal is Person && principal in Group::"staff"`:                       true,
		`principal in Team::"staff"`:                                               false,
		`principal == Person::"usr_1"`:                                             true,
		`principal == Group::"staff"`:                                              true, // impossible, and typed
		`context.client == Client::"cli_1"`:                                        true,
		`context.client == "cli_1"`:                                                false,
		`context.network.zone like "office-*"`:                                     true,
		`context.network.zone like 3`:                                              false,
		`["low", "medium"].contains(context.risk.band)`:                            true,
		`["low", 3].contains(context.risk.band)`:                                   false,
		`[].contains(context.risk.band)`:                                           false,
		`context.time.hour >= 9 && context.time.hour < 18`:                         true,
		`context.time.now >= datetime("2026-11-02")`:                               true,
		`context.time.now >= datetime("soon")`:                                     false,
		`context.time.now.toTime() >= duration("9h")`:                              true,
		`context.agent.budget - 1 >= 0`:                                            true,
		`context.agent.purpose - 1 >= 0`:                                           false,
		`if context.presented then context.no_passkey else false`:                  true,
		`if context.presented then 1 else false`:                                   false,
		`context.presented`:                                                        true,
		`context.agent.run`:                                                        false,
		`!context.presented || context.approvals.confirmed`:                        true,
		`!context.agent.run`:                                                       false,
		`ip("10.0.0.1").isLoopback()`:                                              true,
		`ip(context.network.zone).isLoopback()`:                                    false,
		`principal.hasTag("x")`:                                                    true,
		`context.device == context.device`:                                         true,
		`{a: 1}.a == context.approvals.count`:                                      true,
		`action == Action::"deploy"`:                                               true,
		`action == Action::"fly"`:                                                  false,
		`action in Action::"by risk"`:                                              true,
		`context.token.age <= duration("1h") && context.token.bound`:               true,
		`decimal("0.5").lessThan(decimal("1.0"))`:                                  true,
		`context.assurance.age.phr.toMinutes() <= 5 && principal is Agent`:         true,
		`resource in Group::"staff"`:                                               true, // impossible, and typed
		`context.deployment.manages_devices == context.deployment.manages_devices`: true,
	}
	var texts, names []string
	for c := range conditions {
		names = append(names, c)
		texts = append(texts, `@id("p") @reason("r") @climb("never") permit (principal, action == Action::"deploy", resource) when { `+c+" };")
	}
	found := theirs(t, schema(t), texts)
	for i, c := range names {
		_, err := policy.Compile(policy.Source{Schema: own, Files: []policy.File{{Name: "p.cedar", Text: texts[i]}}})
		if ours := err == nil; ours != (len(found[i]) == 0) {
			t.Errorf("%s: we say %v, they say %q", c, err, strings.Join(found[i], "; "))
		} else if ours != conditions[c] {
			t.Errorf("%s: both say %v", c, ours)
		}
	}
}
