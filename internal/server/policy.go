package server

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/notify"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/ruleset"
	"github.com/countersign-dev/countersign/internal/store"
)

// knownPolicies is how this process knows the policies to stand.
func (s *State) knownPolicies() store.Policies {
	if p := s.policies.Load(); p != nil {
		return *p
	}
	return store.Policies{}
}

// readPolicy looks whether another process has published policies. Acts that
// commit find that out by themselves; what only reads does by this.
func (s *State) readPolicy(ctx context.Context) error {
	now, err := s.Store.Policies(ctx)
	if err != nil {
		return err
	}
	was := s.knownPolicies()
	if s.policies.Store(&now); was == now {
		return nil
	}
	s.Store.Forget()
	if _, err := s.Do.Rulesets(ctx, now.Head); err != nil { // every act is refused: root has to act
		s.log.Error("the policies in force cannot be enforced: everything is refused", "err", err, "next", "countersignd recover policy")
	}
	return nil
}

// policyFault is the newest decision that failed for the policies' sake.
type policyFault struct {
	at   time.Time
	what string
}

// faultStands is for how long a decision that failed keeps its alert up.
const faultStands = 10 * time.Minute

// policyFailed remembers a decision that a policy kept from being made: it refused,
// and somebody has to mend the policy (mechanisms A4).
func (s *Server) policyFailed(action policy.Action, d policy.Decision) {
	var ids []string
	for _, r := range d.Reasons {
		if r.Policy != "evaluation" && !slices.Contains(ids, r.Policy) {
			ids = append(ids, r.Policy)
		}
	}
	now := &policyFault{s.now(), d.Code + " of " + strings.Join(ids, ", ") + " for " + string(action)}
	if was := s.policyFault.Swap(now); was == nil || was.what != now.what || now.at.Sub(was.at) > faultStands {
		s.log.Error("a policy failed, and what it speaks of is refused", "code", d.Code, "policies", ids, "action", string(action), "version", d.PolicyVersion)
	}
}

// policyBroken finds that policies failed lately, or that those in force cannot be
// enforced at all.
func (s *Server) policyBroken(ctx context.Context) (bool, string, error) {
	n, err := s.Store.PolicyHead(ctx)
	if err != nil {
		return false, "", err
	}
	if _, err := s.Do.Rulesets(ctx, n); err != nil {
		return true, "the policies in force cannot be enforced, and everything is refused", nil
	}
	f := s.policyFault.Load()
	if f == nil || s.now().Sub(f.at) > faultStands {
		return false, "", nil
	}
	return true, f.what, nil
}

// inForce is the set in force. One that cannot be enforced is an alert of its own.
func (s *State) inForce(ctx context.Context) (*policy.Set, error) {
	n, err := s.Store.PolicyHead(ctx)
	if err != nil {
		return nil, err
	}
	return s.Do.Rulesets(ctx, n)
}

// reviewOverdue finds the rules in force whose review is overdue: each is told once with
// its date. Who answers for them is not said: records last, and owners may be people.
func (s *State) reviewOverdue(ctx context.Context) ([]notify.Finding, error) {
	set, err := s.inForce(ctx)
	if err != nil {
		return nil, err
	}
	var out []notify.Finding
	now := s.now()
	for _, p := range set.Reviews(now) {
		if p.Due(now) == policy.Overdue {
			out = append(out, notify.Finding{Subject: p.ID + " " + p.Review, Detail: p.ID + " was to be looked at by " + p.Review})
		}
	}
	return out, nil
}

// exceptionEnds finds the exceptions in force that end soon, each with its end.
func (s *State) exceptionEnds(ctx context.Context) ([]notify.Finding, error) {
	set, err := s.inForce(ctx)
	if err != nil {
		return nil, err
	}
	var out []notify.Finding
	for _, e := range set.Ending(s.now()) {
		out = append(out, notify.Finding{
			Subject: e.ID + " " + e.Until.UTC().Format(time.RFC3339),
			Detail:  e.ID + ", from the rule " + e.Rule + ", ends on " + e.Until.UTC().Format("2006-01-02 15:04 UTC"),
		})
	}
	return out, nil
}

// RecoverPolicy puts an earlier version of the policies back, 0 being the default
// set, as the operator of the host: for when those in force keep their publishers
// out. A rollout that runs ends; to may then be the version in force, which stays. It
// gives the number of the version that is in force.
func (s *State) RecoverPolicy(ctx context.Context, to int64) (n int64, err error) {
	v := ruleset.Version{Source: policy.Default(), Of: to, Note: "put back by the operator of the host"}
	if to != 0 {
		old, err := s.Store.Ruleset(ctx, to)
		if err != nil {
			return 0, err
		}
		v.Source = old.Source // and nothing of who signed it: this is the operator's word
	}
	if _, err := ruleset.Compile(v.Source); err != nil {
		return 0, err
	}
	head, err := s.Store.PolicyHead(ctx)
	if err != nil {
		return 0, err
	}
	r, runs, err := s.Store.OpenRollout(ctx)
	if err != nil {
		return 0, err
	}
	if to < 0 || to > head || to == head && !runs {
		return 0, problem.Newf(problem.Conflict, "policy_in_force", "Version %d is the newest: there is nothing to put back to.", head)
	}
	v.N, v.Hash = head+1, v.Source.Hash()
	said := map[string]any{"policy": v.Hash, "version": v.N, "of": to}
	changes := make([]act.Change, 0, 2)
	if runs { // it ends, whatever it is: nobody may be locked out by a part of it
		steer, err := r.Undo()
		if err != nil {
			return 0, err
		}
		changes, said["rollout"] = append(changes, steer), r.N
	}
	if to == head {
		v.N, said["version"] = head, head // it is in force: the rollout was in the way
	} else {
		changes = append(changes, ruleset.Publish{Version: v})
	}
	// Decided by the default set: that in force may not be readable.
	do := &act.Doer{Store: s.Do.Store, Policy: policy.Builtin(), Ladder: s.Do.Ladder, Writer: s.Do.Writer, Keys: s.Do.Keys, Now: s.Do.Now}
	do.Rulesets = func(context.Context, int64) (*policy.Set, error) { return policy.Builtin(), nil }
	_, err = do.Do(ctx, act.Intent{
		Action: policy.PolicyRecover, Kind: audit.PolicyRecovered, Refs: act.Refs{Kind: policy.KindOperator},
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
			return act.Effect{
				Changes: changes,
				Parts:   []audit.Part{{Body: said}},
			}, nil
		},
	})
	return v.N, err
}
