package act

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
)

// answer is what the policies say: the version in force, or the candidate of a
// rollout to whoever is in a wave of it that has begun. The other one is worked out
// beside it, and stands in the answer where it is not the same.
func (d *Doer) answer(ctx context.Context, set *policy.Set, f *Facts, in *Intent, at time.Time) (policy.Decision, error) {
	dec := judged(set, f, in)
	if f.Rollout == nil || policy.OfHost(in.Refs.Kind) {
		return dec, nil
	}
	wave := f.Rollout.Wave(f.Input.Principal)
	enforced := f.Rollout.Enforced(wave, at)
	candidate, err := d.candidate(ctx, f.Rollout.N)
	switch {
	case err != nil && enforced:
		return policy.Decision{}, err
	case err != nil:
		return dec, nil // it decides nothing here
	}
	saw := f.Input.Resource
	other := judged(candidate, f, in)
	if enforced {
		dec, other = other, dec
	} else {
		f.Input.Resource = saw
	}
	if dec.Differs(&other) {
		dec.Tried = &policy.Tried{Rollout: f.Rollout.N, Wave: wave + 1, Enforced: enforced, Other: &other}
	}
	return dec, nil
}

// judged is what a set answers. What was said of a thing elsewhere it takes as its own
// schema declares it.
func judged(set *policy.Set, f *Facts, in *Intent) policy.Decision {
	if e := in.Elsewhere; e != nil {
		f.Input.Resource.Attributes, _ = set.Attributes(e.On.Type).Take(e.Said) // where it cannot, the set refuses
	}
	return unusual(set, f, in, set.Decide(f.Input, in.Attainable), f.Risk)
}

// candidate is the policies that a rollout brings.
func (d *Doer) candidate(ctx context.Context, rollout int64) (*policy.Set, error) {
	if d.Candidates == nil {
		return nil, fmt.Errorf("rollout %d runs, and this process knows of none", rollout)
	}
	set, err := d.Candidates(ctx, rollout)
	if err != nil {
		return nil, problem.New(problem.Unavailable, "policy_unavailable", "The policies that are being rolled out cannot be read. Nothing was changed.").Because(err)
	}
	return set, nil
}

// rolledOut is policy.Tried as a record keeps it.
type rolledOut struct {
	N        int64      `json:"n"`
	Wave     int        `json:"wave,omitempty"`     // from 1; absent: in none
	Enforced bool       `json:"enforced,omitempty"` // the answer is the candidate's; else the other is
	Other    *monitored `json:"other"`
}

func tried(t *policy.Tried) *rolledOut {
	if t == nil {
		return nil
	}
	return &rolledOut{t.Rollout, t.Wave, t.Enforced, other(t.Other)}
}

// key tells apart what is not in Other.
func (r *rolledOut) key() string {
	if r.N == 0 {
		return ""
	}
	return strconv.FormatInt(r.N, 10) + " " + strconv.Itoa(r.Wave) + " " + strconv.FormatBool(r.Enforced)
}

// metCache remembers what was recorded of judgements, so that somebody who looks
// again and again fills no log.
type metCache struct {
	mu   sync.Mutex
	seen map[metKey]bool
}

type metKey struct {
	met  policy.Met
	who  string
	span int64
}

const maxMet = 4096

// first reports whether this is to be recorded: the same within policy.BudgetSpan
// counts once.
func (c *metCache) first(k metKey) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.seen[k]
}

func (c *metCache) remember(k metKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen == nil || len(c.seen) >= maxMet {
		c.seen = map[metKey]bool{}
	}
	c.seen[k] = true
}

// met is what a rollout cost whoever tries; nil if nothing. Whoever asks about somebody
// without a token of theirs could otherwise spend the budget of a wave by asking about
// one after the other.
func (in *Intent) met(dec *policy.Decision) *policy.Met {
	if !in.theirs() {
		return nil
	}
	return dec.Met()
}

// tell records what a rollout cost whoever was only judged, or is refused without a
// record: pages ask before they act, and whoever is refused goes no further.
func (d *Doer) tell(ctx context.Context, in *Intent, dec *policy.Decision, at time.Time) error {
	met := in.met(dec)
	if met == nil {
		return nil
	}
	key := metKey{*met, in.Refs.Actor, at.UnixMicro() / policy.BudgetSpan.Microseconds()}
	if !d.met.first(key) {
		return nil
	}
	said := map[string]any{"for": in.Action, "outcome": dec.Outcome.String(), "rules": policiesOf(dec.Reasons), "rollout": met.Rollout, "wave": met.Wave}
	_, err := d.Do(ctx, Intent{
		Action: policy.RolloutTend, Kind: audit.RolloutMet, Refs: Refs{Kind: policy.KindSystem},
		Changes: func(*Facts, policy.Decision) (Effect, error) {
			return Effect{Parts: []audit.Part{{Person: in.Refs.Actor, Body: said}}, Met: met}, nil
		},
	})
	if err != nil {
		return fmt.Errorf("record what a rollout cost: %w", err)
	}
	d.met.remember(key)
	return nil
}
