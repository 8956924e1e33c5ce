package notify

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/notice"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/policy"
)

// Condition is a state that an alert is about: one of the whole, with Check, or one for
// each of many subjects, with Each.
type Condition struct {
	Rule string // notice.LogBehind, …
	// Check says whether the state holds now, and in words how; the words hold
	// nothing of a person. It MUST be quick.
	Check func(ctx context.Context) (holds bool, detail string, err error)
	// Each gives the subjects of which the state holds now, each once. It MUST be quick.
	Each func(ctx context.Context) ([]Finding, error)
}

// Finding is one subject of which a state holds. The same subject is told once; its words
// hold nothing of a person.
type Finding struct{ Subject, Detail string }

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

// watched is a condition and how it was found of each subject.
type watched struct {
	Condition
	of map[string]*state
}

// state is how often a state was found or not found in a row.
type state struct {
	stands    bool
	bad, good int
}

// see takes one finding and says whether the state is to be raised or cleared.
func (s *state) see(holds bool) (raise, clear bool) {
	if holds {
		s.bad, s.good = s.bad+1, 0
	} else {
		s.bad, s.good = 0, s.good+1
	}
	return !s.stands && s.bad >= raiseAfter, s.stands && s.good >= clearAfter
}

// watch looks at the states until ctx ends.
func (n *Notifier) watch(ctx context.Context) {
	var list []*watched
	for _, c := range append(slices.Clip(n.Conditions), Condition{Rule: notice.DeliveriesDead, Check: n.undelivered}) {
		list = append(list, &watched{Condition: c, of: map[string]*state{}})
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
		for _, s := range all {
			if s.Rule == w.Rule {
				w.of[s.Subject] = &state{stands: true}
			}
		}
	}
	return true
}

// find gives what holds now, in the order of the subjects.
func (w *watched) find(ctx context.Context) ([]Finding, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if w.Each != nil {
		found, err := w.Each(ctx)
		slices.SortFunc(found, func(a, b Finding) int { return strings.Compare(a.Subject, b.Subject) })
		return found, err
	}
	holds, detail, err := w.Check(ctx)
	if err != nil || !holds {
		return nil, err
	}
	return []Finding{{Detail: detail}}, nil
}

// see takes what was found, and gives what is to be raised and of which subjects the
// state is over. They count as told.
func (w *watched) see(found []Finding) (raise []Finding, clear []string) {
	here := map[string]bool{}
	for _, f := range found {
		here[f.Subject] = true
		s := w.of[f.Subject]
		if s == nil {
			s = &state{}
			w.of[f.Subject] = s
		}
		if begins, _ := s.see(true); begins {
			raise, s.stands = append(raise, f), true
		}
	}
	for _, subject := range slices.Sorted(maps.Keys(w.of)) {
		if here[subject] {
			continue
		}
		s := w.of[subject]
		_, ends := s.see(false)
		if ends {
			clear, s.stands = append(clear, subject), false
		}
		if !s.stands {
			delete(w.of, subject)
		}
	}
	return raise, clear
}

// look looks once. What begins together is told together.
func (n *Notifier) look(ctx context.Context, w *watched) error {
	rule, ok := notice.AlertNamed(w.Rule)
	if !ok {
		return fmt.Errorf("notify: there is no alert %q", w.Rule)
	}
	found, err := w.find(ctx)
	if err != nil {
		return err
	}
	raise, clear := w.see(found)
	if len(clear) > 0 {
		err = n.clear(ctx, w, rule, clear)
	}
	if len(raise) > 0 {
		err = errors.Join(err, n.begin(ctx, w, rule, raise))
	}
	return err
}

// begin tells that states began.
func (n *Notifier) begin(ctx context.Context, w *watched, rule notice.Alert, raise []Finding) error {
	var details []string
	var changes []act.Change
	for _, f := range raise {
		details = append(details, f.Detail)
		changes = append(changes, notice.Raise{Rule: rule.Name, Subject: f.Subject, Detail: f.Detail})
	}
	detail := listed(details)
	record := func() (string, error) { return n.record(ctx, audit.AlertRaised, rule, "", detail, nil, changes...) }
	if rule.Direct {
		return n.direct.tell(record, func(id string) bool { return n.tellDirectly(ctx, rule, detail, id) })
	}
	_, err := record()
	if err != nil { // it is told at the next look
		for _, f := range raise {
			w.of[f.Subject].stands = false
		}
	}
	return err
}

// clear tells that states are over: of which subjects, unless the rule has none.
func (n *Notifier) clear(ctx context.Context, w *watched, rule notice.Alert, subjects []string) error {
	var changes []act.Change
	for _, s := range subjects {
		changes = append(changes, notice.Clear{Rule: rule.Name, Subject: s})
	}
	_, err := n.record(ctx, audit.AlertCleared, rule, "", listed(subjects), nil, changes...)
	if err != nil { // it is told at the next look
		for _, s := range subjects {
			w.of[s] = &state{stands: true, good: clearAfter}
		}
	}
	return err
}

// maxListed is how many details one message has.
const maxListed = 20

// listed puts details into one line.
func listed(details []string) string {
	if more := len(details) - maxListed; more > 0 {
		return strings.Join(details[:maxListed], "; ") + fmt.Sprintf("; and %d more", more)
	}
	return strings.Join(details, "; ")
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
