package storetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/notice"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/store"
)

func hook(name string) notice.Webhook {
	return notice.Webhook{ID: id.New(id.Webhook), Name: name, URL: "https://" + name + ".example.com/in", Sealed: []byte("one"), ManagedBy: "api", CreatedAt: start}
}

// ok fails the test on an error.
func (r *rig) ok(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// testWebhooks: what each change of a webhook writes, and how many there may be.
func testWebhooks(t *testing.T, db Database) {
	r := open(t, db)
	w := hook("siem")
	w.Events = []string{"factor.*", "alert.raised"}
	r.do(notice.CreateWebhook{Webhook: w})
	got, err := r.s.Webhook(r.ctx, w.ID)
	r.ok(err)
	if d := cmp.Diff(w, got, cmpopts.IgnoreFields(notice.Webhook{}, "Node")); d != "" || !got.Node.Live() {
		t.Errorf("%s %+v", d, got.Node)
	}
	w.Name, w.URL, w.Events = "other", "https://other.example.com", nil
	r.do(notice.UpdateWebhook{Webhook: w})
	until := start.Add(time.Hour)
	r.do(notice.RotateSecret{ID: w.ID, Sealed: []byte("two"), BeforeEnd: until})
	got, err = r.s.Webhook(r.ctx, w.ID)
	r.ok(err)
	if got.Name != "other" || got.Events != nil || string(got.Sealed) != "two" || string(got.Before) != "one" || !got.BeforeEnd.Equal(until) || got.Node.Version != 3 {
		t.Errorf("%+v", got)
	}
	for i := 1; i < notice.MaxWebhooks; i++ {
		r.do(notice.CreateWebhook{Webhook: hook(fmt.Sprint("h", i))})
	}
	full := r.try(notice.CreateWebhook{Webhook: hook("more")})
	if problem.CodeOf(full) != "webhooks_full" {
		t.Errorf("one too many: %v", full)
	}
	r.do(notice.EndWebhook{ID: w.ID})
	if _, err := r.s.Webhook(r.ctx, w.ID); !errors.Is(err, problem.NotFound) {
		t.Errorf("one that was removed: %v", err)
	}
	r.do(notice.CreateWebhook{Webhook: hook("more")})
	all, err := r.s.Webhooks(r.ctx, "", 100)
	r.ok(err)
	if len(all) != notice.MaxWebhooks {
		t.Errorf("%d webhooks", len(all))
	}
}

// testDeliveries: a channel moves only from where it is and only for the holder
// of the lease; what is put aside is kept once, tried again, given up, and taken
// up again.
func testDeliveries(t *testing.T, db Database) {
	r := open(t, db)
	h, ok, err := r.s.HoldNotices(r.ctx, "a", r.at.Add(time.Minute))
	r.ok(err)
	if _, second, err := r.s.HoldNotices(r.ctx, "b", r.at.Add(time.Minute)); err != nil || second || !ok {
		t.Fatalf("first %v, second %v, %v", ok, second, err)
	}
	from, err := r.s.OpenChannel(r.ctx, h, notice.Mail)
	r.ok(err)
	d := notice.Delivery{ID: id.New(id.Delivery), Channel: notice.Mail, Record: id.New(id.Record), Person: "usr_x", Attempts: 1, NextAt: start, MadeAt: start, Why: "421"}
	twin := d
	twin.ID = id.New(id.Delivery)
	r.ok(r.s.Advance(r.ctx, h, notice.Mail, from, from+3, []notice.Delivery{d, twin}))
	if err := r.s.Advance(r.ctx, h, notice.Mail, from, from+9, nil); !errors.Is(err, store.ErrNotHeld) {
		t.Errorf("it moved from where it was not: %v", err)
	}
	if next, err := r.s.OpenChannel(r.ctx, h, notice.Mail); err != nil || next != from+3 {
		t.Errorf("next %d, %v", next, err)
	}
	waiting, err := r.s.Waiting(r.ctx, notice.Mail, 10)
	r.ok(err)
	if diff := cmp.Diff([]notice.Delivery{d}, waiting); diff != "" {
		t.Error(diff)
	}
	d.Attempts, d.NextAt, d.Why = 9, time.Time{}, "550"
	r.ok(r.s.Attempted(r.ctx, h, d.ID, &d))
	if n, dead, err := r.s.Undelivered(r.ctx); n != 0 || dead != 1 || err != nil {
		t.Errorf("%d waiting, %d dead, %v", n, dead, err)
	}
	letters, err := r.s.DeadLetters(r.ctx, "", 10)
	r.ok(err)
	if diff := cmp.Diff([]notice.Delivery{d}, letters); diff != "" || !letters[0].Dead() {
		t.Error(diff)
	}
	r.do(notice.Resend{ID: d.ID})
	if again, err := r.s.Delivery(r.ctx, d.ID); err != nil || again.Dead() || again.Attempts != 0 {
		t.Errorf("%+v, %v", again, err)
	}
	if err := r.s.Commit(r.ctx, r.write(audit.DeliveryResent, "", nil, notice.Resend{ID: d.ID})); !errors.Is(err, problem.NotFound) {
		t.Errorf("one that is no dead letter: %v", err)
	}
	r.ok(r.s.Attempted(r.ctx, h, d.ID, nil))
	if n, dead, err := r.s.Undelivered(r.ctx); n != 0 || dead != 0 || err != nil {
		t.Errorf("%d waiting, %d dead, %v", n, dead, err)
	}
	r.ok(r.s.ReleaseNotices(r.ctx, h))
	if _, ok, err := r.s.HoldNotices(r.ctx, "b", r.at.Add(time.Minute)); err != nil || !ok {
		t.Fatalf("given back, and not taken: %v", err)
	}
	if err := r.s.Advance(r.ctx, h, notice.Mail, from+3, from+4, nil); !errors.Is(err, store.ErrNotHeld) {
		t.Errorf("a holder whose lease was taken wrote: %v", err)
	}
	if err := r.s.Attempted(r.ctx, h, d.ID, nil); !errors.Is(err, store.ErrNotHeld) {
		t.Errorf("a holder whose lease was taken wrote: %v", err)
	}
}

// testStanding: of many who raise an alert about a state, one does; one that stands for
// each of many subjects begins and ends for each by itself.
func testStanding(t *testing.T, db Database) {
	r := open(t, db)
	first := r.do(notice.Raise{Rule: notice.DiskHeadroom, Detail: "3 % free"})
	r.do(notice.Raise{Rule: notice.DiskHeadroom, Detail: "2 % free"})
	got, err := r.s.Standing(r.ctx)
	r.ok(err)
	if len(got) != 1 || got[0].Record != first || got[0].Detail != "3 % free" || got[0].Rule != notice.DiskHeadroom {
		t.Errorf("%+v", got)
	}
	r.do(notice.Clear{Rule: notice.DiskHeadroom})
	if got, err = r.s.Standing(r.ctx); err != nil || len(got) != 0 {
		t.Errorf("%+v, %v", got, err)
	}
	both := r.do(notice.Raise{Rule: notice.ReviewOverdue, Subject: "a 2026-11-01", Detail: "a"}, notice.Raise{Rule: notice.ReviewOverdue, Subject: "b 2026-11-01", Detail: "b"})
	r.do(notice.Raise{Rule: notice.ReviewOverdue, Subject: "a 2026-11-01", Detail: "again"})
	r.do(notice.Clear{Rule: notice.ReviewOverdue})
	got, err = r.s.Standing(r.ctx)
	r.ok(err)
	if len(got) != 2 || got[0].Rule != notice.ReviewOverdue || got[0].Subject != "a 2026-11-01" || got[0].Detail != "a" || got[0].Record != both || got[1].Subject != "b 2026-11-01" {
		t.Errorf("%+v", got)
	}
	r.do(notice.Clear{Rule: notice.ReviewOverdue, Subject: "a 2026-11-01"})
	if got, err = r.s.Standing(r.ctx); err != nil || len(got) != 1 || got[0].Subject != "b 2026-11-01" {
		t.Errorf("%+v, %v", got, err)
	}
	now := time.Now()
	rule, _ := notice.AlertNamed(notice.BroadToken)
	own, _ := rule.Marks("cli_x", now)
	var won atomic.Int32
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			w := r.write(audit.AlertRaised, "", nil)
			w.Spend = append(w.Spend, own)
			if r.s.Commit(r.ctx, w) == nil {
				won.Add(1)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d raised one alert", won.Load())
	}
}

// testLook: only what is integrated is seen, in order, with the index to go on
// from; shared facts come once.
func testLook(t *testing.T, db Database) {
	r := open(t, db)
	seq := sequencer(t, r.s, nil)
	for i := range 7 {
		kind := audit.TokenIssued
		if i%3 == 0 {
			kind = audit.FactorEnrolled
		}
		r.ok(r.s.Commit(r.ctx, r.write(kind, "", nil)))
	}
	kinds := []audit.Kind{audit.FactorEnrolled}
	if got, next, err := r.s.Look(r.ctx, 0, kinds, 10); err != nil || len(got) != 0 || next != 0 {
		t.Fatalf("seen before it was integrated: %d, %d, %v", len(got), next, err)
	}
	for {
		more, err := seq.Step(r.ctx)
		r.ok(err)
		if size, _, _ := r.s.Head(r.ctx); !more && size >= 7 {
			break
		}
	}
	size, _, err := r.s.Head(r.ctx)
	r.ok(err)
	var found []int64
	for next := int64(0); next < int64(size); {
		var got []store.Record
		got, to, err := r.s.Look(r.ctx, next, kinds, 2)
		r.ok(err)
		for _, g := range got {
			if g.Kind != audit.FactorEnrolled || g.Seq < next || g.Seq >= to {
				t.Errorf("%s at %d of [%d, %d)", g.Kind, g.Seq, next, to)
			}
			found = append(found, g.Seq)
		}
		if to <= next {
			t.Fatal("it does not go on")
		}
		next = to
	}
	if len(found) != 3 {
		t.Errorf("found %v", found)
	}
	facts, err := r.s.FactsOf(r.ctx, 0, int64(size), []audit.Kind{audit.TokenIssued})
	r.ok(err)
	if len(facts) != 1 || !json.Valid(facts[0].Facts) || facts[0].Record == "" {
		t.Errorf("%d facts", len(facts))
	}
}
