package server

import (
	"context"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/ruleset"
)

// readPolicy looks whether another process has published policies. Acts that
// commit find that out by themselves; what only reads does by this.
func (s *State) readPolicy(ctx context.Context) error {
	n, err := s.Store.PolicyHead(ctx)
	if err != nil {
		return err
	}
	if was := s.policyHead.Swap(n); was == n {
		return nil
	}
	s.Store.Forget()
	if _, err := s.Do.Rulesets(ctx, n); err != nil { // every act is refused: root has to act
		s.log.Error("the policies in force cannot be enforced: everything is refused", "err", err, "next", "countersignd recover policy")
	}
	return nil
}

// RecoverPolicy puts an earlier version of the policies back, 0 being the default
// set, as the operator of the host: for when those in force keep their publishers
// out. It gives the number of the new version.
func (s *State) RecoverPolicy(ctx context.Context, to int64) (n int64, err error) {
	v := ruleset.Version{Source: policy.Default(), Of: to, Note: "put back by the operator of the host"}
	if to != 0 {
		if v, err = s.Store.Ruleset(ctx, to); err != nil {
			return 0, err
		}
		v.Of, v.By, v.Note = to, "", "put back by the operator of the host"
	}
	if _, err := ruleset.Compile(v.Source); err != nil {
		return 0, err
	}
	head, err := s.Store.PolicyHead(ctx)
	if err != nil {
		return 0, err
	}
	if to < 0 || to >= head {
		return 0, problem.Newf(problem.Conflict, "policy_in_force", "Version %d is the newest: there is nothing to put back to.", head)
	}
	v.N, v.Hash = head+1, v.Source.Hash()
	// Decided by the default set: that in force may not be readable.
	do := &act.Doer{Store: s.Do.Store, Policy: policy.Builtin(), Ladder: s.Do.Ladder, Writer: s.Do.Writer, Keys: s.Do.Keys, Now: s.Do.Now}
	do.Rulesets = func(context.Context, int64) (*policy.Set, error) { return policy.Builtin(), nil }
	_, err = do.Do(ctx, act.Intent{
		Action: policy.PolicyRecover, Kind: audit.PolicyRecovered, Refs: act.Refs{Kind: policy.KindOperator},
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
			return act.Effect{
				Changes: []act.Change{ruleset.Publish{Version: v}},
				Parts:   []audit.Part{{Body: map[string]any{"policy": v.Hash, "version": v.N, "of": to}}},
			}, nil
		},
	})
	return v.N, err
}
