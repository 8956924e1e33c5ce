package review_test

import (
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/review"
	"github.com/countersign-dev/countersign/internal/risk"
)

var now = time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC)

func assessed(signals ...risk.Signal) (a risk.Assessment) {
	a.Band = risk.Extreme
	for _, s := range signals {
		a.Terms = append(a.Terms, risk.Term{Signal: s, Points: 30})
	}
	return a
}

// TestWhatAWordCovers: the place, the device and the time of what an administrator
// looked at, and nothing that came later.
func TestWhatAWordCovers(t *testing.T) {
	v := review.Review{
		State: review.Allowed, Client: "cli_1", Until: now.Add(time.Hour),
		Seen: review.Evidence{Network: "203.0.113.0/24", Device: "dev_1", Terms: []review.Term{{Signal: "new_network", Points: 15}, {Signal: "failures", Points: 20}}},
	}
	unplaced := v
	unplaced.Seen.Network, unplaced.Seen.Device = "", ""
	closed, open := v, v
	closed.State, open.State = review.Closed, review.Open
	there := act.Origin{Network: "203.0.113.0/24", Device: "dev_1"}
	same := assessed(risk.NewNetwork, risk.Failures)
	for name, c := range map[string]struct {
		review review.Review
		client string
		from   act.Origin
		seen   risk.Assessment
		at     time.Time
		want   bool
	}{
		"the same again":              {v, "cli_1", there, same, now, true},
		"less than was seen":          {v, "cli_1", there, assessed(risk.NewNetwork), now, true},
		"through another client":      {v, "cli_2", there, same, now, true},
		"at an unusual hour":          {v, "cli_1", there, assessed(risk.NewNetwork, risk.UnusualHour, risk.OldToken), now, true},
		"reported since":              {v, "cli_1", there, assessed(risk.NewNetwork, risk.Reported), now, false},
		"a network that attacks":      {v, "cli_1", there, assessed(risk.NewNetwork, risk.NetworkAttacks), now, false},
		"when it is over":             {v, "cli_1", there, same, now.Add(time.Hour), false},
		"from elsewhere":              {v, "cli_1", act.Origin{Network: "192.0.2.0/24", Device: "dev_1"}, same, now, false},
		"on another device":           {v, "cli_1", act.Origin{Network: "203.0.113.0/24", Device: "dev_2"}, same, now, false},
		"without a device":            {v, "cli_1", act.Origin{Network: "203.0.113.0/24"}, same, now, false},
		"from nowhere":                {v, "cli_1", act.Origin{Device: "dev_1"}, same, now, false},
		"that was closed":             {closed, "cli_1", there, same, now, false},
		"that is open":                {open, "cli_1", there, same, now, false},
		"without a place":             {unplaced, "cli_1", act.Origin{}, same, now, true},
		"without a place, other apps": {unplaced, "cli_2", act.Origin{}, same, now, false},
		"with a place since":          {unplaced, "cli_1", there, same, now, false},
	} {
		if got := c.review.Vouches(c.client, c.from, c.seen, c.at); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestWhatMakesSense: what may be made of which review.
func TestWhatMakesSense(t *testing.T) {
	byRisk := review.Review{Kind: policy.KindPerson, Actor: "usr_1", State: review.Open, Seen: review.Evidence{Code: policy.CodeDenied, Band: policy.RiskExtreme}}
	change := func(f func(*review.Review)) review.Review { v := byRisk; f(&v); return v }
	over := change(func(v *review.Review) { v.State = review.Closed })
	byRule := change(func(v *review.Review) { v.Seen.Band = policy.RiskHigh })
	often := change(func(v *review.Review) { v.Seen.Code = policy.CodeTooMany })
	service := change(func(v *review.Review) { v.Kind, v.Actor = policy.KindService, "svc_1" })
	allow := func(v review.Review, note string, d time.Duration) review.Resolution {
		return review.Resolution{Review: v, Action: policy.ReviewAllow, By: "usr_2", Note: note, For: d}
	}
	for name, c := range map[string]struct {
		x    review.Resolution
		want string
	}{
		"allowed":             {allow(byRisk, "called", time.Hour), ""},
		"a service allowed":   {allow(service, "ours", time.Hour), ""},
		"without a reason":    {allow(byRisk, " ", time.Hour), "reason_missing"},
		"with a strange one":  {allow(byRisk, "a\u202eb", time.Hour), "reason_invalid"},
		"for too long":        {allow(byRisk, "x", review.MaxAllow+1), "duration_invalid"},
		"for no time":         {allow(byRisk, "x", 0), "duration_invalid"},
		"over":                {allow(over, "x", time.Hour), "review_over"},
		"by a rule":           {allow(byRule, "x", time.Hour), "review_not_by_risk"},
		"asked too often":     {allow(often, "x", time.Hour), "review_not_by_risk"},
		"a service disabled":  {review.Resolution{Review: service, Action: policy.PersonDisable, By: "usr_2"}, "review_no_person"},
		"oneself disabled":    {review.Resolution{Review: byRisk, Action: policy.PersonDisable, By: "usr_1"}, "self_disable"},
		"disabled":            {review.Resolution{Review: byRisk, Action: policy.PersonDisable, By: "usr_2"}, ""},
		"ended":               {review.Resolution{Review: often, Action: policy.ReviewEnd, By: "usr_2"}, ""},
		"closed, by whomever": {review.Resolution{Review: byRule, Action: policy.ReviewClose, By: "usr_1"}, ""},
	} {
		if got := problem.CodeOf(c.x.Check()); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	// The note of a service's review is free text, and stands in no open part.
	if said := allow(service, "ours", time.Hour).Said(now); said["reason"] != nil || said["service"] != "svc_1" {
		t.Errorf("of a service the record says %v", said)
	}
	if list, done := (review.Resolution{Review: service, Action: policy.ReviewEnd}).Changes(now); len(list) != 1 || done != "" {
		t.Errorf("of a service %d things end: %s", len(list)-1, done)
	}
}
