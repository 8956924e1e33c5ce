// Package internal_test holds the rules that no single package can keep: which
// way imports run, and the house's habits (docs/architecture.md).
package internal_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/countersign-dev/countersign"

// A layer may import those with a smaller number. The SDK (the public
// packages) stands between the rules, which it compiles, and the domain, which
// it must never see.
const (
	base = iota + 1
	rules
	sdk
	domain
	edge
	wiring
	program
	outside // examples, benchmarks, releases, tests
)

var layerNames = map[int]string{
	base: "base", rules: "rules", sdk: "SDK", domain: "domain", edge: "edge",
	wiring: "wiring", program: "program", outside: "outside",
}

// layers is the table of docs/architecture.md; change both together. A name
// stands for the package and all below it. Packages that do not exist yet are
// in it already.
var layers = map[int][]string{
	base:    {"internal/problem", "internal/id", "internal/secret", "internal/canon", "internal/attribute", "internal/file", "internal/jose", "internal/jwks", "internal/web", "policies"}, // file: the SDK, the server and the commands replace files in one way; policies is text, compiled in
	rules:   {"internal/assurance", "internal/policy", "internal/risk", "internal/attest", "internal/quorum"},
	sdk:     {".", "pep", "receipt", "clilogin"},
	domain:  domainPackages,
	edge:    {"internal/oauth", "internal/feed", "internal/portal", "internal/admin", "internal/pdp", "internal/gateway", "internal/ssf", "internal/scim", "internal/store", "internal/notify", "internal/witness", "internal/hsm", "internal/backup", "internal/places"},
	wiring:  {"internal/config", "internal/server"},
	program: {"cmd/countersign", "cmd/countersignd"},
	outside: {"examples", "bench", "release", "test", "internal"},
}

var domainPackages = []string{
	"internal/lineage", "internal/once", "internal/audit", "internal/act",
	"internal/account", "internal/group", "internal/client", "internal/resource", "internal/factor", "internal/session", "internal/grant", "internal/ruleset", "internal/issuer",
	"internal/recovery", "internal/workload", "internal/agent", "internal/approval", "internal/keyring", "internal/ca", "internal/notice", "internal/profile", "internal/review",
}

// sideways are the imports inside a layer. Base packages may all use problem,
// secret and id; domain nouns may all use act and what it stands on. Anything
// else is named here, with its reason.
var sideways = map[string][]string{
	"internal/jose":     {"internal/attribute"},                  // a bundle says how things are declared
	"internal/jwks":     {"internal/jose", "internal/web"},       // what is fetched is a key set, and its answer says how long it is good
	"internal/policy":   {"internal/assurance", "internal/risk"}, // a decision speaks of rungs and bands
	"internal/act":      {"internal/lineage", "internal/once", "internal/audit"},
	"internal/recovery": {"internal/account", "internal/group"},   // who may help whom is judged by their groups
	"internal/grant":    {"internal/client", "internal/resource"}, // a grant is to a client, for resources
	"internal/notice":   {"internal/account"},                     // who is told is a person
	"internal/review":   {"internal/recovery"},                    // of whom it was not, what is signed in ends as when they recover
	"internal/issuer":   {"internal/client"},                      // keys and scopes are checked as a client's are
	"pep":               {"."},                                    // local policy is an addition to the SDK
	"clilogin":          {"."},                                    // and so is a login
	"internal/server":   {"internal/config"},
}

var (
	baseForAll   = []string{"internal/problem", "internal/secret", "internal/id"}
	domainForAll = []string{"internal/lineage", "internal/once", "internal/audit", "internal/act"}
)

// compiles are the modules, the standard library apart, that importing a
// public package costs its user.
var compiles = map[string][]string{
	".": {"github.com/go-jose/go-jose/v4"},
	// Who decides by policies compiles their engine, cedar-go with what that needs, and
	// what names a set by its hash (jcs); who only verifies tokens does not.
	"pep": {
		"github.com/go-jose/go-jose/v4", "github.com/cedar-policy/cedar-go", "github.com/go-json-experiment/json", "golang.org/x/exp",
		"github.com/gowebpki/jcs",
	},
}

// reaches are the packages of ours that a public package compiles, beyond
// base.
var reaches = map[string][]string{
	".":   {"internal/assurance"},
	"pep": {".", "internal/assurance", "internal/policy", "internal/risk"},
}

type listed struct {
	ImportPath  string
	Standard    bool
	ForTest     string
	Imports     []string
	Deps        []string
	Module      *struct{ Path string }
	TestImports []string
	Error       *struct{ Err string }
}

// list returns the module's packages by their path below its root, and every
// package they reach by its import path.
func list(t *testing.T) (ours, all map[string]listed) {
	t.Helper()
	cmd := exec.Command("go", "list", "-e", "-deps", "-json=ImportPath,Standard,ForTest,Imports,Deps,Module,TestImports,Error", "./...")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %v\n%s", err, exit.Stderr)
		}
		t.Fatalf("go list: %v", err)
	}
	ours, all = map[string]listed{}, map[string]listed{}
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := dec.Decode(&p); err == io.EOF {
			return ours, all
		} else if err != nil {
			t.Fatal(err)
		}
		all[p.ImportPath] = p
		if name, ok := below(p.ImportPath); ok {
			ours[name] = p
		}
	}
}

// below returns the path of a package of ours below the module's root, "." for
// the root itself.
func below(path string) (name string, ok bool) {
	if path == module {
		return ".", true
	}
	return strings.CutPrefix(path, module+"/")
}

// place finds the table's entry for a package: its layer and the name that the
// entry has. The longest name counts, so that internal is not all of it.
func place(name string) (layer int, entry string) {
	for l, entries := range layers {
		for _, e := range entries {
			if (name == e || e != "." && e != "internal" && strings.HasPrefix(name, e+"/")) && len(e) >= len(entry) {
				layer, entry = l, e
			}
		}
	}
	return layer, entry
}

// forbidden says why from may not import to, "" if it may. Both are paths
// below the module's root.
func forbidden(from, to string) string {
	fromLayer, fromEntry := place(from)
	toLayer, toEntry := place(to)
	switch {
	case fromLayer == 0:
		return from + " is not in the table"
	case toLayer == 0:
		return to + " is not in the table"
	case fromEntry == toEntry || fromLayer == outside:
		return ""
	case toEntry == "internal/store" && from != "internal/server" && from != "cmd/countersignd":
		return "only internal/server and cmd/countersignd see the store; everyone else writes through act"
	case fromLayer == sdk && toLayer <= rules:
		return "" // what exactly is in reaches
	case toLayer == outside:
		if fromLayer == program && strings.HasPrefix(to, "examples/") {
			return "" // the sandbox runs the sample API
		}
		return "only tests and examples import tests and examples"
	case toLayer == sdk && fromLayer == domain:
		return "the domain does not know the SDK"
	case toLayer < fromLayer:
		return ""
	case toLayer > fromLayer:
		return fmt.Sprintf("imports run down only: %s is %s, %s is %s", fromEntry, layerNames[fromLayer], toEntry, layerNames[toLayer])
	case slices.Contains(sideways[fromEntry], toEntry),
		fromLayer == base && slices.Contains(baseForAll, toEntry),
		fromLayer == domain && slices.Contains(domainForAll, toEntry) && !slices.Contains(domainForAll, fromEntry):
		return ""
	case fromLayer == edge:
		return "edges never import each other: only internal/server sees both"
	default:
		return fmt.Sprintf("both are %s; a sideways import needs a line and a reason in sideways", layerNames[fromLayer])
	}
}

func TestImportsRunDownOnly(t *testing.T) {
	ours, _ := list(t)
	for name, p := range ours {
		if layer, _ := place(name); layer == 0 {
			t.Errorf("%s is not in the table: give it a place in docs/architecture.md and in layers", name)
		}
		for _, path := range p.Imports {
			to, ok := below(path)
			if !ok {
				continue
			}
			if why := forbidden(name, to); why != "" {
				t.Errorf("%s imports %s: %s", name, to, why)
			}
		}
	}
}

func TestCommandLineKnowsNoServer(t *testing.T) {
	ours, _ := list(t)
	p, ok := ours["cmd/countersign"]
	if !ok {
		t.Skip("cmd/countersign does not exist yet")
	}
	for _, path := range p.Deps {
		name, ok := below(path)
		if _, entry := place(name); ok && slices.Contains([]string{"internal/store", "internal/server", "internal/portal"}, entry) {
			t.Errorf("cmd/countersign reaches %s", name)
		}
	}
}

func TestPublicPackagesStayLight(t *testing.T) {
	ours, all := list(t)
	for name, allowed := range reaches {
		for _, path := range ours[name].Deps {
			reached, ok := below(path)
			if layer, entry := place(reached); ok && layer != base && !slices.Contains(allowed, entry) {
				t.Errorf("%s reaches %s; it may reach base and %v", name, reached, allowed)
			}
		}
	}
	for name, allowed := range compiles {
		for _, path := range ours[name].Deps {
			p := all[path]
			if _, own := below(path); own || p.Standard || path == "C" {
				continue
			}
			if p.Module == nil || !slices.Contains(allowed, p.Module.Path) {
				t.Errorf("%s compiles %s; it may compile %v", name, path, allowed)
			}
		}
	}
}

// TestProductNeedsOnlyGo keeps cgo and test helpers out of the programs.
func TestProductNeedsOnlyGo(t *testing.T) {
	ours, _ := list(t)
	for _, name := range []string{".", "cmd/countersign", "cmd/countersignd"} {
		for _, path := range ours[name].Deps {
			switch {
			case path == "testing", strings.HasPrefix(path, module+"/test/"), strings.HasPrefix(path, module+"/bench"):
				t.Errorf("%s reaches %s, which is for tests", name, path)
			case path == "runtime/cgo":
				t.Logf("%s uses cgo where there is a C compiler; make build turns it off", name)
			}
		}
	}
}

// TestTable shows that the rules can fail: each kind of import is judged once.
func TestTable(t *testing.T) {
	for _, c := range []struct {
		from, to string
		allowed  bool
	}{
		{"internal/jose", "internal/problem", true},
		{"internal/problem", "internal/jose", false},
		{"internal/canon", "internal/web", false},
		{"internal/policy", "internal/assurance", true},
		{"internal/assurance", "internal/policy", false},
		{"internal/assurance", "internal/act", false},
		{"internal/grant", "internal/act", true},
		{"internal/grant", "internal/client", true},
		{"internal/client", "internal/grant", false},
		{"internal/lineage", "internal/act", false},
		{"internal/act", "internal/lineage", true},
		{"internal/act", "internal/policy", true},
		{"internal/act", "internal/store", false},
		{"internal/act", ".", false},
		{"internal/oauth", "internal/grant", true},
		{"internal/oauth", "internal/portal", false},
		{"internal/oauth", "internal/store", false},
		{"internal/store/sqlite", "internal/store", true},
		{"internal/store", "internal/grant", true},
		{"internal/gateway", ".", true},
		{"internal/server", "internal/store/sqlite", true},
		{"internal/server", "internal/config", true},
		{"internal/config", "internal/server", false},
		{"internal/oauth", "internal/config", false},
		{"cmd/countersign", "internal/store", false},
		{"cmd/countersign", ".", true},
		{"cmd/countersignd", "internal/store", true},
		{"cmd/countersignd", "examples/notes", true},
		{"internal/server", "examples/notes", false},
		{"cmd/countersignd", "cmd/countersign", false},
		{".", "internal/assurance", true},
		{".", "internal/act", false},
		{"pep", ".", true},
		{"test/trust", "internal/store", true},
		{"internal/util", "internal/problem", false},
	} {
		why := forbidden(c.from, c.to)
		if (why == "") != c.allowed {
			t.Errorf("%s imports %s: allowed %v, want %v (%s)", c.from, c.to, why == "", c.allowed, why)
		}
	}
}
