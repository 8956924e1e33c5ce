package notify

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/notice"
	"github.com/countersign-dev/countersign/internal/problem"
)

// channel is what is delivered where.
type channel struct {
	name  string
	stat  int // index into the statistics
	kinds []audit.Kind
	age   time.Duration // what is older is not told any more; 0: everything is
	// messages makes what an event has to say here. It is asked again for each
	// attempt, so it MUST give the same keys for the same event as long as nothing
	// has changed.
	messages func(ctx context.Context, e notice.Event) ([]message, error)
	// passed is called with each span of the log before its events are told, again
	// if it is begun again; may be nil.
	passed func(ctx context.Context, from, to int64) error
}

// message is one thing to deliver.
type message struct {
	to    string // key of the recipient within the event; "" for a webhook
	often string // a person who is told only so much of the like in an hour; "": no limit
	send  func(ctx context.Context) error
}

// failure is why an attempt failed, and what that means.
type failure struct {
	why    string        // without anything of a person
	final  bool          // it will never succeed
	down   bool          // nobody can be reached through this channel: wait, and put nothing aside
	after  time.Duration // the receiver asked to wait so long
	status int           // that the receiver answered; 0: it did not
	barred bool          // that may not be called, or sent us elsewhere
}

// Error implements error.
func (f *failure) Error() string { return "notify: " + f.why }

// schedule are the pauses after the first, second … attempt; after the last comes
// the dead letter. It takes about a day.
var schedule = []time.Duration{
	5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour, 4 * time.Hour, 8 * time.Hour, 8 * time.Hour,
}

// again says when a delivery is tried again after so many attempts; zero: never.
func again(now time.Time, attempts int, f *failure) time.Time {
	if f.final || attempts > len(schedule) {
		return time.Time{}
	}
	return now.Add(jittered(max(schedule[attempts-1], min(f.after, time.Hour))))
}

// jittered is d and up to a quarter of it, so that what failed together is not
// tried together.
func jittered(d time.Duration) time.Duration {
	var b [8]byte
	rand.Read(b[:])
	return d + time.Duration(binary.BigEndian.Uint64(b[:])%uint64(d/4+1))
}

// run delivers what there is for a channel until ctx ends.
func (n *Notifier) run(ctx context.Context, h notice.Hold, c channel) {
	wake := make(chan struct{}, 1)
	n.mu.Lock()
	n.wakes[c.name] = wake
	n.mu.Unlock()
	failed := 0
	defer n.failing.Delete(c.name)
	for ctx.Err() == nil {
		more, err := n.step(ctx, h, c)
		wait := lookEvery
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			failed++
			n.failing.LoadOrStore(c.name, n.Now())
			if failed == 1 || failed%20 == 0 {
				n.Logger.Warn("deliver notices", "channel", c.name, "err", err)
			}
			pause(ctx, jittered(min(time.Second<<min(failed, 8), 5*time.Minute)))
			continue
		case more:
			wait = 0
		}
		failed = 0
		n.failing.Delete(c.name)
		pause(ctx, restBetween)
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-wake:
		case <-t.C:
		}
		t.Stop()
	}
}

// step tries again what is due and then delivers what is new, up to a page. more
// reports whether there is more at once.
func (n *Notifier) step(ctx context.Context, h notice.Hold, c channel) (more bool, err error) {
	next, err := n.Book.OpenChannel(ctx, h, c.name)
	if err != nil {
		return false, err
	}
	waiting, err := n.Book.Waiting(ctx, c.name, window)
	if err != nil {
		return false, err
	}
	room := window - len(waiting)
	for _, d := range waiting {
		if d.NextAt.After(n.Now()) {
			break
		}
		if err := n.retry(ctx, h, c, d); err != nil {
			return false, err
		}
	}
	if room <= 0 {
		return false, nil // the log waits for us; it loses nothing
	}
	return n.deliver(ctx, h, c, next, room)
}

// deliver takes the next events of the log.
func (n *Notifier) deliver(ctx context.Context, h notice.Hold, c channel, from int64, room int) (more bool, err error) {
	events, next, err := n.Log.Events(ctx, from, c.kinds, page)
	if err != nil || next == from {
		return false, err
	}
	if c.passed != nil {
		if err := c.passed(ctx, from, next); err != nil {
			return false, err
		}
	}
	at := from
	for _, e := range events {
		aside, sent, err := n.tell(ctx, c, e)
		if err != nil {
			return false, err
		}
		if !sent && len(aside) == 0 {
			continue
		}
		if err := n.Book.Advance(ctx, h, c.name, at, e.Seq+1, aside); err != nil {
			return false, err
		}
		at = e.Seq + 1
		if room -= len(aside); room <= 0 {
			return false, nil
		}
	}
	if at < next {
		if err := n.Book.Advance(ctx, h, c.name, at, next, nil); err != nil {
			return false, err
		}
	}
	return len(events) == page, nil
}

// tell delivers what one event has to say. An error means that the channel is
// tried again from this event on; then what of it was sent is sent again, under
// the same ids.
func (n *Notifier) tell(ctx context.Context, c channel, e notice.Event) (aside []notice.Delivery, sent bool, err error) {
	if c.age != 0 && n.Now().Sub(e.At) > c.age {
		n.stats.skipped.Add(1)
		return nil, false, nil
	}
	list, err := c.messages(ctx, e)
	if err != nil {
		return nil, false, err
	}
	for _, m := range list {
		if m.often != "" && !n.quota.take(m.often, n.Now()) {
			n.stats.skipped.Add(1)
			continue
		}
		f := n.attempt(ctx, c, m)
		if ctx.Err() != nil {
			return nil, false, ctx.Err()
		}
		if f == nil {
			sent = true
			continue
		}
		if f.down {
			return nil, false, fmt.Errorf("%w: %w", errLater, f)
		}
		now := n.Now().UTC().Truncate(time.Microsecond)
		aside = append(aside, notice.Delivery{
			ID: id.New(id.Delivery), Channel: c.name, Record: e.ID, Person: m.to, Attempts: 1, NextAt: again(now, 1, f), MadeAt: now, Why: f.why,
		})
	}
	return aside, sent, nil
}

// attempt sends once.
func (n *Notifier) attempt(ctx context.Context, c channel, m message) *failure {
	ctx, cancel := context.WithTimeout(ctx, sendTime)
	defer cancel()
	err := m.send(ctx)
	if err == nil {
		n.stats.delivered[c.stat].Add(1)
		return nil
	}
	n.stats.failed[c.stat].Add(1)
	var f *failure
	if !errors.As(err, &f) {
		f = &failure{why: "the message could not be made", down: true}
		n.Logger.Error("make a notice", "channel", c.name, "err", err)
	}
	return f
}

// retry tries a delivery again. What has nobody to go to any more is forgotten.
func (n *Notifier) retry(ctx context.Context, h notice.Hold, c channel, d notice.Delivery) error {
	e, err := n.Log.Event(ctx, d.Record)
	if errors.Is(err, problem.NotFound) {
		return n.Book.Attempted(ctx, h, d.ID, nil)
	}
	if err != nil {
		return err
	}
	list, err := c.messages(ctx, e)
	if err != nil {
		return err
	}
	for _, m := range list {
		if m.to != d.Person {
			continue
		}
		f := n.attempt(ctx, c, m)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case f == nil:
			return n.Book.Attempted(ctx, h, d.ID, nil)
		case f.down:
			return fmt.Errorf("%w: %w", errLater, f)
		}
		d.Attempts++
		d.NextAt, d.Why = again(n.Now().UTC().Truncate(time.Microsecond), d.Attempts, f), f.why
		return n.Book.Attempted(ctx, h, d.ID, &d)
	}
	return n.Book.Attempted(ctx, h, d.ID, nil)
}
