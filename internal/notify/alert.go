package notify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/notice"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/policy"
)

// Condition is a state that an alert is about.
type Condition struct {
	Rule string // notice.LogBehind, …
	// Check says whether the state holds now, and in words how; the words hold
	// nothing of a person. It MUST be quick.
	Check func(ctx context.Context) (holds bool, detail string, err error)
}

// A state is an alert once it was found so often in a row, and over once it was
// not found so often: what flickers is not told each time.
const (
	checkEvery  = 10 * time.Second
	raiseAfter  = 3
	clearAfter  = 6
	failingLong = 10 * time.Minute // a channel that cannot be used for so long is an alert
)

// alertChannel is the cursor that finds what is an alert in the log and writes
// the alert into the log, where the other channels find it.
func (n *Notifier) alertChannel() channel {
	return channel{
		name: notice.Alerts, stat: 2, kinds: notice.AlertKinds(), age: mailAge,
		messages: func(_ context.Context, e notice.Event) ([]message, error) {
			rule, ok := notice.AlertOf(e.Kind)
			if !ok || e.Refused {
				return nil, nil
			}
			return []message{{send: func(ctx context.Context) error { return n.raise(ctx, rule, e.Subject(), e.ID, "") }}}, nil
		},
		passed: func(ctx context.Context, from, to int64) error {
			broad, err := n.Log.Broad(ctx, from, to)
			if err != nil {
				return err
			}
			rule, _ := notice.AlertNamed(notice.BroadToken)
			for _, b := range broad {
				if err := n.raise(ctx, rule, b.Client, b.Record, b.Why); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// raise writes an alert about an event, unless the like was raised a short time
// ago for the same subject, or the rule has had its turns in this hour.
func (n *Notifier) raise(ctx context.Context, rule notice.Alert, subject, of, detail string) error {
	own, turns := rule.Marks(subject, n.Now())
	spent, err := n.spent(ctx, own)
	if err != nil {
		return err
	}
	free := once.Spend{}
	for i := 0; !spent && i < len(turns) && free.Purpose == 0; i++ {
		used, err := n.spent(ctx, turns[i])
		if err != nil {
			return err
		}
		if !used {
			free = turns[i]
		}
	}
	if free.Purpose == 0 {
		n.stats.quieted.Add(1)
		return nil
	}
	_, err = n.record(ctx, audit.AlertRaised, rule, of, detail, []once.Spend{own, free})
	if _, used := act.Spent(err); used {
		n.stats.quieted.Add(1)
		return nil
	}
	return err
}

func (n *Notifier) spent(ctx context.Context, s once.Spend) (bool, error) {
	_, err := n.Directory.OnceValue(ctx, s.Purpose, s.Key)
	var gone *once.Gone
	if errors.As(err, &gone) {
		return false, nil
	}
	return err == nil, err
}

// record writes an alert into the log, and says so in the process's own.
func (n *Notifier) record(ctx context.Context, kind audit.Kind, rule notice.Alert, of, detail string, spend []once.Spend, changes ...act.Change) (string, error) {
	said := map[string]any{"alert": rule.Name, "severity": string(rule.Severity), "title": rule.Title}
	if of != "" {
		said["of"] = of
	}
	if detail != "" {
		said["detail"] = detail
	}
	out, err := n.Do.Do(ctx, act.Intent{
		Action: policy.NotificationRun, Kind: kind, Refs: act.Refs{Kind: policy.KindSystem}, Spend: spend,
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
			return act.Effect{Changes: changes, Parts: []audit.Part{{Body: said}}}, nil
		},
	})
	if err != nil {
		return "", err
	}
	if kind == audit.AlertRaised {
		n.stats.raised.Add(1)
		n.Logger.Warn("alert", "alert", rule.Name, "severity", string(rule.Severity), "title", rule.Title, "detail", detail, "record", out.RecordID)
	} else {
		n.Logger.Info("alert is over", "alert", rule.Name)
	}
	return out.RecordID, nil
}

// watched is how often a state was found or not found in a row.
type watched struct {
	Condition
	stands    bool
	bad, good int
}

// see takes one finding and says whether the state is to be raised or cleared.
func (w *watched) see(holds bool) (raise, clear bool) {
	if holds {
		w.bad, w.good = w.bad+1, 0
	} else {
		w.bad, w.good = 0, w.good+1
	}
	return !w.stands && w.bad >= raiseAfter, w.stands && w.good >= clearAfter
}

// watch looks at the states until ctx ends.
func (n *Notifier) watch(ctx context.Context) {
	var list []*watched
	for _, c := range append(slices.Clip(n.Conditions), Condition{notice.DeliveriesDead, n.undelivered}) {
		list = append(list, &watched{Condition: c})
	}
	for known := false; ctx.Err() == nil; pause(ctx, n.Every) {
		if !known {
			if known = n.standing(ctx, list); !known {
				continue
			}
		}
		for _, w := range list {
			if err := n.look(ctx, w); err != nil && ctx.Err() == nil {
				n.Logger.Warn("look for an alert", "alert", w.Rule, "err", err)
			}
		}
	}
}

// standing reads which alerts stand from before.
func (n *Notifier) standing(ctx context.Context, list []*watched) bool {
	all, err := n.Directory.Standing(ctx)
	if err != nil {
		return false
	}
	for _, w := range list {
		w.stands = slices.ContainsFunc(all, func(s notice.Standing) bool { return s.Rule == w.Rule })
	}
	return true
}

func (n *Notifier) look(ctx context.Context, w *watched) error {
	rule, ok := notice.AlertNamed(w.Rule)
	if !ok {
		return fmt.Errorf("notify: there is no alert %q", w.Rule)
	}
	short, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	holds, detail, err := w.Check(short)
	if err != nil {
		return err
	}
	raise, clear := w.see(holds)
	switch {
	case raise:
		w.stands = true
		record := func() (string, error) {
			return n.record(ctx, audit.AlertRaised, rule, "", detail, nil, notice.Raise{Rule: rule.Name, Detail: detail})
		}
		if rule.Direct {
			return n.direct.tell(record, func(id string) bool { return n.tellDirectly(ctx, rule, detail, id) })
		}
		_, err := record()
		return err
	case clear:
		w.stands = false
		_, err := n.record(ctx, audit.AlertCleared, rule, "", "", nil, notice.Clear{Rule: rule.Name})
		return err
	}
	return nil
}

// tellDirectly mails administrators about the state of the log without waiting
// for the log. What could not be sent is left to the channel, which finds the
// record when the log grows again. told is whether all of it was.
func (n *Notifier) tellDirectly(ctx context.Context, rule notice.Alert, detail, record string) (told bool) {
	n.Logger.Error("alert", "alert", rule.Name, "severity", string(rule.Severity), "title", rule.Title, "detail", detail)
	if n.Mail == nil {
		return false
	}
	ref := record
	if ref == "" {
		ref = rule.Name
	}
	list, err := n.toAdministrators(ctx, rule, detail, ref, n.Now())
	for _, m := range list {
		if f := n.attempt(ctx, channel{name: notice.Mail}, m); f != nil && err == nil {
			err = f
		}
	}
	if err != nil {
		n.Logger.Warn("mail an alert", "alert", rule.Name, "err", err)
		return false
	}
	return len(list) > 0
}

// undelivered is the state of there being dead letters, or a channel that cannot
// be used for long.
func (n *Notifier) undelivered(ctx context.Context) (bool, string, error) {
	var said []string
	letters, err := n.dead(ctx)
	if err != nil {
		return false, "", err
	}
	if letters {
		said = append(said, "there are dead letters")
	}
	n.failing.Range(func(name, since any) bool {
		if n.Now().Sub(since.(time.Time)) > failingLong {
			said = append(said, "the channel "+name.(string)+" cannot be used")
		}
		return true
	})
	slices.Sort(said)
	return len(said) > 0, strings.Join(said, "; "), nil
}

func (n *Notifier) dead(ctx context.Context) (bool, error) {
	list, err := n.Directory.DeadLetters(ctx, "", 1)
	return len(list) > 0, err
}
