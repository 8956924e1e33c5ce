package act

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
)

// At most maxChallenges step-ups of one class are asked of a person for one
// client in challengeSpan: whoever comes back a third time is in a loop
// (mechanisms A15).
const (
	maxChallenges = 2
	challengeSpan = 5 * time.Minute
	// promptLife is how long a step-up waits for its person.
	promptLife = 10 * time.Minute
)

// Challenge is a step-up that is about to be asked for.
type Challenge struct {
	Person, Session string
	Client          string // by id; "" for the account's own pages
	Class           string // what counts as the same: the ask and what it is for
	Ref             string // of the request, for the person and the record
	For             string // the interaction, as in Intent.For
	Device          string // that the browser shows, "" if none
	Band            string // of risk now, "" if none was scored
	Action          policy.Action
	From            Origin
	Ask             assurance.Ask // what is asked for, and why
	Why             []problem.Reason
}

// said is what the record of a challenge says of the person.
func (c *Challenge) said(l assurance.Ladder) map[string]any {
	said := map[string]any{"session": c.Session, "ref": c.Ref, "action": string(c.Action)}
	if c.Client != "" {
		said["client"] = c.Client
	}
	if c.Ask.Rung > assurance.None {
		said["ask"] = l.ACR(c.Ask.Rung)
	}
	if c.Ask.MaxAge > 0 {
		said["max_age"] = int64(c.Ask.MaxAge / time.Second)
	}
	if c.Ask.Demands() {
		said["needs"] = policy.Words(c.Ask)
	}
	if len(c.Why) > 0 {
		var ids []string
		for _, w := range c.Why {
			if w.Policy != "" {
				ids = append(ids, w.Policy)
			}
		}
		said["why"], said["policies"] = words(c.Why), ids
	}
	return said
}

// words are the texts of reasons.
func words(why []problem.Reason) (out []string) {
	for _, w := range why {
		out = append(out, w.Text)
	}
	return out
}

// refusal is the challenge too many as what somebody has to look at.
func (c *Challenge) refusal() *Refusal {
	r := &Refusal{Kind: policy.KindPerson, Actor: c.Person, Client: c.Client, Action: c.Action, Session: c.Session, Code: policy.CodeTooMany, From: c.From}
	for _, w := range c.Why {
		r.Reasons = append(r.Reasons, policy.Reason{Policy: w.Policy, Text: w.Text})
	}
	return r
}

// Marks reads single-use values. The error for one that is not there is
// *once.Gone.
type Marks interface {
	OnceValue(ctx context.Context, p once.Purpose, k once.Key) (once.Value, error)
}

// Challenge remembers that a person is asked for a step-up, and refuses the one
// too many: Denied with policy.CodeTooMany and the time until the next may be
// asked for. A challenge takes one of maxChallenges places of its span by a replay
// mark, so that every replica counts the same; those of the last span that are
// recent enough count too.
func (d *Doer) Challenge(ctx context.Context, marks Marks, c Challenge) error {
	now := d.now().UTC()
	span := now.Unix() / int64(challengeSpan/time.Second)
	recent, wait := 0, challengeSpan
	var places []once.Spend
	for _, k := range []int64{span - 1, span} {
		for place := range maxChallenges {
			key := once.KeyOf(once.Challenge, c.Person, c.Client, c.Class, strconv.FormatInt(k, 10), strconv.Itoa(place))
			v, err := marks.OnceValue(ctx, once.Challenge, key)
			var gone *once.Gone
			switch {
			case err == nil:
				if age := now.Sub(v.MadeAt); age < challengeSpan {
					recent++
					wait = min(wait, challengeSpan-age)
				}
			case !errors.As(err, &gone):
				return err
			case k == span:
				places = append(places, once.Spend{Purpose: once.Challenge, Key: key, Mark: true, Until: now.Add(2 * challengeSpan)})
			}
		}
	}
	in := Intent{Action: policy.ChallengeGive, Kind: audit.StepUpAsked, Refs: Refs{Kind: policy.KindSystem, Client: c.Client}}
	about := c.said(d.Ladder)
	in.Changes = func(*Facts, policy.Decision) (Effect, error) {
		eff := Effect{Parts: []audit.Part{{Person: c.Person, Body: about}}}
		if recent < maxChallenges {
			eff.Asks = []Prompt{{Person: c.Person, Ref: Transaction(c.For, c.Session, c.Device), Until: now.Add(promptLife), Band: c.Band}}
			return eff, nil
		}
		eff.Review = c.refusal()
		p := problem.New(problem.Denied, policy.CodeTooMany, "This was asked for too often without success. Reference "+c.Ref)
		p.RetryAfter = wait
		return eff, p
	}
	for _, p := range places[:min(len(places), max(0, maxChallenges-recent))] {
		in.Spend = []once.Spend{p}
		_, err := d.Do(ctx, in)
		if _, taken := Spent(err); !taken {
			return err
		}
	}
	recent, in.Spend = maxChallenges, nil
	_, err := d.Do(ctx, in) // records the refusal
	return err
}
