package act

import (
	"context"
	"fmt"
	"time"

	"github.com/countersign-dev/countersign/internal/policy"
)

// Sight judges the questions of one request: what storage knows of whoever asks is read
// once for all that refer to the same, and every answer is of one state. It is for one
// goroutine, and no longer than the request.
type Sight struct {
	do    *Doer
	facts map[string]Facts // by action and references
}

// Sight begins a request with several questions.
func (d *Doer) Sight() *Sight { return &Sight{do: d, facts: map[string]Facts{}} }

// Judge is Doer.Judge.
func (s *Sight) Judge(ctx context.Context, in Intent) (policy.Decision, *Facts, error) {
	at := s.do.now().UTC().Truncate(time.Microsecond)
	key := fmt.Sprintf("%s %#v", in.Action, in.Refs)
	facts, seen := s.facts[key]
	if !seen {
		var err error
		if facts, err = s.do.Store.Load(ctx, in.Action, in.Refs); err != nil {
			return policy.Decision{}, nil, err
		}
		s.facts[key] = facts
	}
	return s.do.judge(ctx, in, facts, at) // of a copy, which the decision completes
}
