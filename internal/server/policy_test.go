package server

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/ruleset"
	"github.com/countersign-dev/countersign/internal/store"
	"github.com/countersign-dev/countersign/test/mailtest"
)

// put publishes without anybody's leave.
func put(t *testing.T, s *State, v ruleset.Version) {
	t.Helper()
	_, err := s.Do.Do(t.Context(), act.Intent{
		Action: policy.SandboxSeed, Kind: audit.PolicyPublished, Refs: act.Refs{Kind: policy.KindSystem},
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
			return act.Effect{Changes: []act.Change{ruleset.Publish{Version: v}}}, nil
		},
	})
	check(t, err)
}

// A version that keeps everybody out is put back by root on the host; one that
// cannot be read refuses everything, says so, and is put back as well.
func TestRecoverPolicy(t *testing.T) {
	t.Parallel()
	s, log := newServer(t)
	s.Do.Checkpoint = nil
	if _, err := s.RecoverPolicy(t.Context(), 0); problem.CodeOf(err) != "policy_in_force" {
		t.Errorf("%v", err)
	}
	src := policy.Source{Files: []policy.File{{Name: "a.cedar", Text: `@id("nobody") @reason("r") forbid (principal, action, resource);`}}}
	put(t, s.State, ruleset.Version{N: 1, Hash: src.Hash(), Source: src, Of: ruleset.NoVersion, By: "usr_1", Carrier: "svc_1", Publication: "pub_1", Signature: &ruleset.Signature{By: "usr_1"}})
	check(t, s.look(t.Context()))
	dec, facts, err := s.Do.Judge(t.Context(), act.Intent{Action: policy.SelfRead, Refs: act.Refs{Kind: policy.KindAnonymous}})
	if err != nil || facts.Ruleset != 1 || dec.PolicyVersion != src.Hash() {
		t.Errorf("%+v %v", dec, err)
	}
	n, err := s.RecoverPolicy(t.Context(), 0)
	if err != nil || n != 2 {
		t.Fatalf("%d %v", n, err)
	}
	check(t, s.look(t.Context()))
	v, err := s.Store.Ruleset(t.Context(), 2)
	if err != nil || v.Hash != policy.Builtin().Version() || v.Of != 0 || v.By != "" {
		t.Errorf("%+v %v", v, err)
	}
	if _, err := s.RecoverPolicy(t.Context(), 2); problem.CodeOf(err) != "policy_in_force" {
		t.Errorf("%v", err)
	}

	// Damaged in the database.
	put(t, s.State, ruleset.Version{N: 3, Hash: "sha256:other", Source: src, Of: ruleset.NoVersion})
	check(t, s.look(t.Context()))
	if !strings.Contains(log.String(), "everything is refused") {
		t.Errorf("the log says nothing: %s", log)
	}
	if _, _, err := s.Do.Judge(t.Context(), act.Intent{Action: policy.SelfRead, Refs: act.Refs{Kind: policy.KindAnonymous}}); problem.CodeOf(err) != "policy_unavailable" {
		t.Errorf("decided by other policies: %v", err)
	}
	if n, err = s.RecoverPolicy(t.Context(), 1); err != nil || n != 4 {
		t.Errorf("%d %v", n, err)
	}
	// It is the operator's word: nobody signed that it comes into force again.
	if v, err = s.Store.Ruleset(t.Context(), 4); err != nil || v.By != "" || v.Carrier != "" || v.Publication != "" || v.Signature != nil {
		t.Errorf("%+v %v", v, err)
	}
}

// TestLockedOut: a set under which nobody may publish stands until the operator of the host puts
// the one before back, beside the server that runs. Then an administrator publishes again, and
// all of them are told by mail.
func TestLockedOut(t *testing.T) {
	t.Parallel()
	n := newNewsroom(t, false)
	boss := n.person("boss", n.admins())
	n.run(n.notices.Run)
	n.begun()
	publish := func(at int64) error {
		src := policy.Default()
		_, err := n.Do.Do(t.Context(), act.Intent{
			Action: policy.PolicyPublish, Kind: audit.PolicyPublished, Refs: act.Refs{Kind: policy.KindPerson, Actor: boss.ID},
			Proofs: []assurance.Proof{{Method: assurance.Passkey, Subject: boss.ID, At: n.now(), UserVerified: true, PhishingResistant: true}},
			Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
				return act.Effect{Changes: []act.Change{ruleset.Publish{Version: ruleset.Version{N: at, Hash: src.Hash(), Source: src, By: boss.ID, Of: ruleset.NoVersion}}}}, nil
			},
		})
		return err
	}
	check(t, publish(1)) // the positive control
	src := policy.Source{Files: []policy.File{{Name: "a.cedar", Text: `@id("nobody") @reason("r") forbid (principal, action, resource);`}}}
	put(t, n.State, ruleset.Version{N: 2, Hash: src.Hash(), Source: src, Of: ruleset.NoVersion})
	if err := publish(3); !errors.Is(err, problem.Denied) {
		t.Fatalf("an administrator who is locked out: %v", err)
	}
	if v, err := n.open().RecoverPolicy(t.Context(), 1); err != nil || v != 3 {
		t.Fatalf("%d %v", v, err)
	}
	check(t, publish(4))
	lines, _, err := n.Lines(t.Context(), store.Filter{Kinds: []audit.Kind{audit.PolicyRecovered}}, 10)
	if check(t, err); len(lines) != 1 {
		t.Fatalf("%d records", len(lines))
	}
	var mail []mailtest.Message
	waitFor(t, func() bool {
		mail = slices.DeleteFunc(n.relay.Messages(), func(m mailtest.Message) bool {
			return m.To != boss.Email || !strings.HasPrefix(m.Subject, "[id.example.com] Alert: ")
		})
		return len(mail) > 0
	})
	if m := mail[0]; !strings.Contains(m.Subject, "The operator of the machine put policies back") || !strings.Contains(m.Plain, "(critical)") || !strings.Contains(m.Plain, "countersign policy history") {
		t.Errorf("%s\n%s", m.Subject, m.Plain)
	}
}

// While the policies in force cannot be read, the server and root on the host do
// what they must, which no published set changes: a quarantine begins, and a
// deployment that lacks a key opens.
func TestHostWithoutPolicies(t *testing.T) {
	t.Parallel()
	s, _ := newServer(t)
	s.Do.Checkpoint = nil
	src := policy.Source{Files: []policy.File{{Name: "a.cedar", Text: "permit ("}}}
	put(t, s.State, ruleset.Version{N: 1, Hash: src.Hash(), Source: src, Of: ruleset.NoVersion})
	check(t, s.look(t.Context()))
	if _, _, err := s.Do.Judge(t.Context(), act.Intent{Action: policy.SelfRead, Refs: act.Refs{Kind: policy.KindAnonymous}}); problem.CodeOf(err) != "policy_unavailable" {
		t.Errorf("decided by other policies: %v", err) // positive control
	}
	if d, _, err := s.Do.Judge(t.Context(), act.Intent{Action: policy.TokenIssue, Refs: system()}); err != nil || d.Outcome != policy.Deny {
		t.Errorf("what the host's policies do not permit: %+v %v", d, err)
	}
	check(t, s.Seed(t.Context(), audit.RefusalsCounted))
	if ahead, err := s.Remembered(t.Context(), store.Anchor{By: store.ByFeed, Epoch: 1, HW: 1 << 40}); err != nil || !ahead || s.Quarantined() == "" {
		t.Errorf("no quarantine: %v %v", ahead, err)
	}
}

// A policy that fails refuses, is named in the server's log, and is an alert.
func TestPolicyFails(t *testing.T) {
	t.Parallel()
	s, log := newServer(t)
	s.Do.Checkpoint = nil
	broken := func() (bool, string) {
		t.Helper()
		holds, what, err := s.policyBroken(t.Context())
		check(t, err)
		return holds, what
	}
	if holds, what := broken(); holds {
		t.Errorf("broken from the start: %s", what)
	}
	src := policy.Source{Files: append(policy.Default().Files, policy.File{Name: "a.cedar", Text: `
@id("overflows") @reason("r") forbid (principal, action == Action::"self.read", resource) when { context.token.depth + 9223372036854775807 + 1 > 0 };`})}
	put(t, s.State, ruleset.Version{N: 1, Hash: src.Hash(), Source: src, Of: ruleset.NoVersion})
	check(t, s.look(t.Context()))
	dana := seedAdmin(t, s)
	for range 3 {
		d, _, err := s.Do.Judge(t.Context(), act.Intent{Action: policy.SelfRead, Refs: act.Refs{Kind: policy.KindPerson, Actor: dana.ID}})
		if err != nil || d.Outcome != policy.Deny || d.Code != policy.CodeError {
			t.Fatalf("%+v %v", d, err)
		}
	}
	if holds, what := broken(); !holds || !strings.Contains(what, "overflows") || !strings.Contains(what, "self.read") {
		t.Errorf("%v %q", holds, what)
	}
	if n := strings.Count(log.String(), "a policy failed"); n != 1 {
		t.Errorf("said %d times", n)
	}
	s.policyFault.Store(&policyFault{at: s.now().Add(-faultStands - time.Second)})
	if holds, what := broken(); holds {
		t.Errorf("broken for ever: %s", what)
	}
	bad := policy.Source{Files: []policy.File{{Name: "a.cedar", Text: "permit ("}}}
	put(t, s.State, ruleset.Version{N: 2, Hash: bad.Hash(), Source: bad, Of: ruleset.NoVersion})
	if holds, what := broken(); !holds || !strings.Contains(what, "cannot be enforced") {
		t.Errorf("%v %q", holds, what)
	}
}
