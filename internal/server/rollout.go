package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/ruleset"
)

// rolloutEvery is how often a process looks at what a rollout costs where others
// decide; where it decides itself it looks at once.
const rolloutEvery = 5 * time.Second

// maxNamed is how many people a wave names that takes itself back.
const maxNamed = 20

// noteCost has what a rollout costs looked at.
func (s *State) noteCost() {
	select {
	case s.cost <- struct{}{}:
	default:
	}
}

// tendRollout takes back the waves of a rollout that cost more than they may. Any
// process does: what was met is in the database, and one of them wins.
func (s *Server) tendRollout(ctx context.Context) {
	everyOr(ctx, rolloutEvery, s.cost, func(ctx context.Context) {
		if err := s.checkRollout(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("look at what a rollout costs", "err", err)
		}
	})
}

// checkRollout looks once.
func (s *State) checkRollout(ctx context.Context) error {
	r, runs, err := s.Store.OpenRollout(ctx)
	if err != nil || !runs || s.Quarantined() != "" {
		return err
	}
	now := s.now()
	_, broken := s.book.Candidate(ctx, r.N)
	cost, err := s.Store.Cost(ctx, &r, now)
	if err != nil {
		return err
	}
	for i := range r.Waves {
		if r.Plan().Enforced(i, now) && (cost[i].Over || broken != nil) {
			return s.revert(ctx, &r, i, cost[i].Budget, broken) // those behind it are held with it
		}
	}
	return nil
}

// revert puts a wave into monitor and says why: by which rules, and who met them.
func (s *State) revert(ctx context.Context, r *ruleset.Rollout, wave int, met policy.Budget, broken error) error {
	steer, err := r.Hold(wave+1, policy.Reverted)
	if err != nil {
		return err
	}
	costs, err := s.Store.Costs(ctx, r, wave+1, s.now(), maxNamed*4)
	if err != nil {
		return err
	}
	rules, parts := reverted(costs)
	budget := r.Waves[wave].Budget
	why := fmt.Sprintf("%d prompts of %d, %d refusals of %d in a day, by %s", met.Prompts, budget.Prompts, met.Denials, budget.Denials, strings.Join(rules, ", "))
	if broken != nil {
		why = "its policies cannot be read: " + broken.Error()
	}
	parts = append(parts, audit.Part{Body: map[string]any{
		"rollout": r.N, "wave": wave + 1, "rules": rules, "prompts": met.Prompts, "denials": met.Denials, "budget": budget, "why": why,
	}})
	_, err = s.Do.Do(ctx, act.Intent{
		Action: policy.RolloutTend, Kind: audit.RolloutReverted, Refs: system(),
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
			return act.Effect{Changes: []act.Change{steer}, Parts: parts}, nil
		},
	})
	if errors.Is(err, problem.Conflict) { // another process, or somebody, was quicker
		return nil
	}
	if err == nil {
		s.log.Error("a wave of a rollout took itself back", "rollout", r.N, "wave", wave+1, "why", why, "next", "countersign policy rollout status")
	}
	return err
}

// reverted are the rules that cost something, the most first, and a part of the
// record for each of the people whom they cost it.
func reverted(costs []ruleset.Cost) (rules []string, parts []audit.Part) {
	by := map[string]int{}
	whom := map[string]map[string]any{}
	for _, c := range costs {
		by[c.Rule] += c.Prompts + c.Denials
		if c.Person == "" || whom[c.Person] == nil && len(parts) == maxNamed {
			continue
		}
		body := whom[c.Person]
		if body == nil {
			body = map[string]any{"prompts": 0, "denials": 0}
			whom[c.Person] = body
			parts = append(parts, audit.Part{Person: c.Person, Body: body})
		}
		body["prompts"], body["denials"] = body["prompts"].(int)+c.Prompts, body["denials"].(int)+c.Denials
	}
	for rule := range by {
		rules = append(rules, rule)
	}
	slices.SortFunc(rules, func(a, b string) int {
		if by[a] != by[b] {
			return by[b] - by[a]
		}
		return strings.Compare(a, b)
	})
	return rules, parts
}
