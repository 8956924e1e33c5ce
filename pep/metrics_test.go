package pep_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign"
	"github.com/countersign-dev/countersign/test/promtext"
)

// metrics are a verifier's, without the audience.
func metrics(t *testing.T, v *countersign.Verifier) map[string]float64 {
	t.Helper()
	var text strings.Builder
	ok(t, countersign.WriteMetrics(&text, v))
	return promtext.Read(t, text.String(), "audience")
}

// stands is the one state that holds; "" if it is not exactly one.
func stands(got map[string]float64) (state string) {
	for _, s := range []string{countersign.PoliciesNone, countersign.PoliciesKept, countersign.PoliciesFresh, countersign.PoliciesStale, countersign.PoliciesOutdated} {
		switch value, there := got[fmt.Sprintf("countersign_policy_state{state=%q}", s)]; {
		case !there || value == 1 && state != "":
			return ""
		case value == 1:
			state = s
		}
	}
	return state
}

func equal(t *testing.T, got, want map[string]float64) {
	t.Helper()
	for name, n := range want {
		if have, there := got[name]; !there || have != n {
			t.Errorf("%s is %v (there: %v), want %v", name, have, there, n)
		}
	}
}

// TestMetricsOfPolicies: an operator sees which policies are held, how old the issuer's word is
// and how old it may be, and what was decided by whom.
func TestMetricsOfPolicies(t *testing.T) {
	i := newIssuer(t)
	v := i.ready(i.point())
	who := holder{sub: dana, acr: "phr"}
	i.tries(v, who, "look", prod)                                             // allowed here
	i.tries(v, holder{sub: dana, acr: "phr", ago: time.Hour}, "deploy", prod) // a challenge
	i.tries(v, who, "fly", prod)                                              // an action that there is not
	i.say(`{"decision":true}`)
	i.tries(v, who, "destroy", prod) // allowed by the issuer
	i.say(`{"decision":false,"context":{"ref":"X"}}`)
	i.tries(v, who, "destroy", prod)
	i.say("")
	i.tries(v, who, "destroy", prod) // not found out
	i.tries(v, who, "restart", prod) // by the last policies
	got := metrics(t, v)
	equal(t, got, map[string]float64{
		"countersign_policy_version": 1, "countersign_policy_bound_seconds": 300, "countersign_policy_outage_bound_seconds": 86400,
		`countersign_policy_actions{by="policies"}`: 2, `countersign_policy_actions{by="issuer"}`: 2,
		`countersign_policy_fetches_total{outcome="rejected"}`: 0, `countersign_policy_fault{kind="rejected"}`: 0,
		`countersign_decisions_total{by="policies",outcome="allow"}`:                                 2,
		`countersign_decisions_total{by="policies",outcome="step_up"}`:                               1,
		`countersign_decisions_total{by="policies",outcome="deny"}`:                                  1,
		`countersign_decisions_total{by="policies",outcome="unavailable"}`:                           0,
		`countersign_decisions_total{by="issuer",outcome="allow"}`:                                   1,
		`countersign_decisions_total{by="issuer",outcome="deny"}`:                                    1,
		`countersign_decisions_total{by="issuer",outcome="unavailable"}`:                             1,
		"countersign_decisions_outage_total":                                                         2,
		fmt.Sprintf(`countersign_policy_info{epoch="1",hash=%q,version="1"}`, v.PolicyStatus().Hash): 1,
	})
	if s := v.PolicyStatus(); s.Hash == "" || s.Decided != 7 {
		t.Errorf("%+v", s)
	}
	if got := stands(got); got != countersign.PoliciesFresh {
		t.Errorf("state %q", got)
	}
	if n := got[`countersign_policy_fetches_total{outcome="taken"}`]; n == 0 {
		t.Error("no answer was taken")
	}
	// An answer that would take it back is the issuer's fault of one class.
	i.publish(0, 1, dana)
	ok(t, until(func() bool { v.RefreshPolicies(); return v.PolicyStatus().Rejected > 0 }))
	got = metrics(t, v)
	equal(t, got, map[string]float64{`countersign_policy_fault{kind="rejected"}`: 1, `countersign_policy_fault{kind="unreachable"}`: 0, "countersign_policy_version": 1})
	i.down.Store(true)
	ok(t, until(func() bool { v.RefreshPolicies(); return v.PolicyStatus().Failed > 0 }))
	equal(t, metrics(t, v), map[string]float64{`countersign_policy_fault{kind="unavailable"}`: 1, `countersign_policy_fault{kind="rejected"}`: 0})
}

// TestMetricsOfStaleness: policies that nobody has confirmed say how long, in each state.
func TestMetricsOfStaleness(t *testing.T) {
	i := newIssuer(t)
	dir, keep := keeping(t)
	first := i.ready(i.point(keep))
	file(t, dir)
	first.Close()
	i.down.Store(true)
	v := i.point(keep, i.later(time.Hour))
	got := metrics(t, v)
	if s := stands(got); s != countersign.PoliciesKept {
		t.Errorf("after an outage of an hour: %q", s)
	}
	if age := got["countersign_policy_age_seconds"]; age < 3600 || age > 3600+120 || age <= got["countersign_policy_bound_seconds"] {
		t.Errorf("age %v", age)
	}
	i.down.Store(false)
	i.mu.Lock()
	i.answer = []byte{} // no policies, but everything else
	i.mu.Unlock()
	none := i.point()
	got = metrics(t, none)
	if s := stands(got); s != countersign.PoliciesNone {
		t.Errorf("with nothing: %q", s)
	}
	if _, there := got["countersign_policy_age_seconds"]; there {
		t.Error("nothing has an age")
	}
}
