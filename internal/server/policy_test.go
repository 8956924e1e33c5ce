package server

import (
	"strings"
	"testing"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/ruleset"
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
	s, log := newServer(t)
	s.Do.Checkpoint = nil
	if _, err := s.RecoverPolicy(t.Context(), 0); problem.CodeOf(err) != "policy_in_force" {
		t.Errorf("%v", err)
	}
	src := policy.Source{Files: []policy.File{{Name: "a.cedar", Text: `@id("nobody") @reason("r") forbid (principal, action, resource);`}}}
	put(t, s.State, ruleset.Version{N: 1, Hash: src.Hash(), Source: src, Of: ruleset.NoVersion})
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
}
