package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"testing"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/ruleset"
)

// TestSandboxPolicies: the sample API's policies are in force from the first start on,
// follow the API when it moves, and are left alone once somebody published others.
func TestSandboxPolicies(t *testing.T) {
	t.Parallel()
	s, err := OpenState(t.Context(), testConfig(t.TempDir(), inDevelopment), Options{Migrate: true})
	check(t, err)
	defer s.Close()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	starts := func(at string) (head int64) {
		t.Helper()
		check(t, s.SeedSandbox(t.Context(), Sample{
			URI: at, Key: key.Public(), Policies: `@id("x") @reason("r") permit (principal is Person, action == Action::"x", resource);`,
			Schema: `@audience("` + at + `") action "x" appliesTo { principal: [Person], resource: [Thing], context: Context };`,
		}))
		head, err := s.Store.PolicyHead(t.Context())
		check(t, err)
		return head
	}
	for i, at := range []string{"http://localhost:1", "http://localhost:1", "http://localhost:2", "http://localhost:2"} {
		if head := starts(at); head != int64(i/2+1) {
			t.Errorf("start %d: version %d", i, head)
		}
		set, err := s.Do.Rulesets(t.Context(), int64(i/2+1))
		check(t, err)
		if p, ok := set.Place("x"); !ok || p.Audiences[0] != at {
			t.Errorf("start %d: %+v", i, p)
		}
	}
	other := policy.Default()
	check(t, s.Seed(t.Context(), audit.PolicyPublished, ruleset.Publish{Version: ruleset.Version{N: 3, Hash: other.Hash(), Source: other, Note: "mine", Of: ruleset.NoVersion}}))
	if head := starts("http://localhost:1"); head != 3 {
		t.Errorf("somebody's own policies were replaced by version %d", head)
	}
}
