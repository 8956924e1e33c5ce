// Package interop runs clients and servers that nobody here wrote against the
// whole server: with its own TLS, in production mode, and a person who has a
// passkey in a real Chromium. Each case has a name; skipped.json says which cannot
// pass yet and why, and one of those that passes is a failure. What the clients
// are told is what docs/connect says: its blocks are read by these tests.
package interop

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/countersign-dev/countersign/test/browser/chrome"
	"github.com/countersign-dev/countersign/test/internal/program"
)

type tests func() int

func (f tests) Run() int { return f() }

func TestMain(m *testing.M) {
	os.Exit(program.Run(tests(func() int { return chrome.Run(m) })))
}

// kase is one thing that a program does with ours.
type kase struct {
	name string
	run  func(t testing.TB, l *lab)
}

// groups are the cases by program, in the order in which they run: those that
// move the clock are last.
var groups = []struct {
	program string
	cases   []kase
}{
	{"openid-client", nodeCases("openid-client.mjs", libraryCases)},
	{"oauth4webapi", nodeCases("oauth4webapi.mjs", libraryCases)},
	{"oidc-agent", agentCases},
	{"git-credential-oauth", gitCases},
	{"mod_auth_openidc", apacheCases},
	{"mcp-typescript-sdk-v2-bound", scriptCases("v2", "DPoP")},
	{"mcp-go-sdk", goCases},
	{"mcp-typescript-sdk-v1", scriptCases("v1", mcpCases...)},
	{"mcp-typescript-sdk-v2", scriptCases("v2", append(mcpCases, "more scope on 403")...)},
	{"mcp-remote", scriptCases("remote", append(mcpCases, "device flow")...)},
}

// TestInterop runs every case of every program, on one server.
func TestInterop(t *testing.T) {
	chrome.Require(t)
	requireNode(t)
	skipped := readSkipped(t)
	l := open(t)
	for _, g := range groups {
		t.Run(g.program, func(t *testing.T) {
			for _, c := range g.cases {
				name := g.program + "/" + c.name
				why, skip := skipped[name]
				t.Run(c.name, func(t *testing.T) {
					if skip {
						try(t, l, c, why)
						return
					}
					c.run(t, l)
				})
			}
		})
	}
}

// reason is why a case cannot pass yet, and what it says when it fails of that. A
// case that fails of something else is no longer skipped for its reason.
type reason struct{ Why, Says string }

// readSkipped gives the reasons of the cases that cannot pass yet.
func readSkipped(t *testing.T) map[string]reason {
	t.Helper()
	b, err := os.ReadFile("skipped.json")
	if err != nil {
		t.Fatal(err)
	}
	var list map[string]reason
	if err := json.Unmarshal(b, &list); err != nil {
		t.Fatalf("skipped.json: %v", err)
	}
	known := map[string]bool{}
	for _, g := range groups {
		for _, c := range g.cases {
			known[g.program+"/"+c.name] = true
		}
	}
	for name, why := range list {
		if why.Why == "" || why.Says == "" || !known[name] {
			t.Errorf("skipped.json gives no reason for %q, or it is no case", name)
		}
	}
	return list
}

// try runs a case that should not pass yet.
func try(t *testing.T, l *lab, c kase, why reason) {
	tr := &trial{TB: t}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer tr.cleanUp()
		c.run(tr, l)
	}()
	<-ended
	if !tr.Failed() {
		t.Fatal("it passes: take it out of skipped.json")
	}
	if !strings.Contains(tr.said, why.Says) {
		t.Fatalf("it is skipped because %s, and fails of something else: %s", why.Why, tr.said)
	}
	t.Skip(why.Why)
}

// trial is a test that may fail without failing the one it is part of.
type trial struct {
	testing.TB
	mu       sync.Mutex
	failed   bool
	said     string
	cleanups []func()
}

func (r *trial) fail(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.failed {
		r.failed, r.said = true, text[:min(len(text), 300)]
	}
}

func (r *trial) Failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed
}

func (r *trial) FailNow()                  { r.fail("failed"); runtime.Goexit() }
func (r *trial) Fail()                     { r.fail("failed") }
func (r *trial) Error(args ...any)         { r.fail(fmt.Sprint(args...)) }
func (r *trial) Errorf(f string, a ...any) { r.fail(fmt.Sprintf(f, a...)) }
func (r *trial) Fatal(args ...any)         { r.fail(fmt.Sprint(args...)); runtime.Goexit() }
func (r *trial) Fatalf(f string, a ...any) { r.fail(fmt.Sprintf(f, a...)); runtime.Goexit() }
func (r *trial) Cleanup(f func())          { r.cleanups = append(r.cleanups, f) }

func (r *trial) cleanUp() {
	for i := len(r.cleanups) - 1; i >= 0; i-- {
		r.cleanups[i]()
	}
}
