package oauth

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/session"
	"github.com/countersign-dev/countersign/internal/web"
)

// At most maxChallenges step-ups of one class (the same ask for the same scopes)
// are asked of a person for one client in challengeSpan: whoever comes back a
// third time is in a loop (mechanisms A15).
const (
	maxChallenges = 2
	challengeSpan = 5 * time.Minute
)

// count remembers that a person is asked for a step-up, and refuses the one too
// many. A challenge takes one of maxChallenges places of its span by a replay
// mark, so that every replica counts the same; those of the last span that are
// recent enough count too.
func (s *Server) count(r *http.Request, a *authRequest, ses session.Session, ask assurance.Ask) error {
	ctx, now := r.Context(), s.now()
	span := now.Unix() / int64(challengeSpan/time.Second)
	scopes := slices.Sorted(slices.Values(a.in.Scopes))
	class := strconv.Itoa(int(ask.Rung)) + " " + ask.MaxAge.String() + " " + strings.Join(scopes, " ")
	recent := 0
	var places []once.Spend
	for _, k := range []int64{span - 1, span} {
		for place := range maxChallenges {
			key := once.KeyOf(once.Challenge, ses.Person, a.client.ID, class, strconv.FormatInt(k, 10), strconv.Itoa(place))
			v, err := s.State.OnceValue(ctx, once.Challenge, key)
			var gone *once.Gone
			switch {
			case err == nil:
				if now.Sub(v.MadeAt) < challengeSpan {
					recent++
				}
			case !errors.As(err, &gone):
				return err
			case k == span:
				places = append(places, once.Spend{Purpose: once.Challenge, Key: key, Mark: true, Until: now.Add(2 * challengeSpan)})
			}
		}
	}
	in := act.Intent{Action: policy.ChallengeGive, Kind: audit.StepUpAsked, Refs: act.Refs{Kind: policy.KindSystem, Client: a.client.ID}}
	in.Changes = func(*act.Facts, policy.Decision) (act.Effect, error) {
		if recent >= maxChallenges {
			return act.Effect{}, problem.New(problem.Denied, policy.CodeTooMany,
				"This was asked for too often without success. Reference "+web.RecordOf(r).Ref())
		}
		return act.Effect{Parts: []audit.Part{{Person: ses.Person, Body: map[string]any{"session": ses.ID, "client": a.client.ID, "ref": web.RecordOf(r).Ref()}}}}, nil
	}
	for _, p := range places[:min(len(places), max(0, maxChallenges-recent))] {
		in.Spend = []once.Spend{p}
		_, err := s.Do.Do(ctx, in)
		if _, taken := act.Spent(err); !taken {
			return err
		}
	}
	recent = maxChallenges
	_, err := s.Do.Do(ctx, in) // records the refusal
	return err
}
