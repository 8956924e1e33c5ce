package assurance

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var t0 = time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC)

func at(d time.Duration) time.Time { return t0.Add(d) }

func TestLadderNamesAndFindsEveryRung(t *testing.T) {
	l := Default()
	want := []string{"urn:countersign:acr:single", "urn:countersign:acr:multi", "phr", "phrh"}
	if diff := cmp.Diff(want, l.Values()); diff != "" {
		t.Error(diff)
	}
	for i, acr := range want {
		r := Rung(i + 1)
		if l.ACR(r) != acr || l.RungOf(acr) != r {
			t.Errorf("rung %d: ACR %q, RungOf %d", r, l.ACR(r), l.RungOf(acr))
		}
		if diff := cmp.Diff(want[i:], l.AtLeast(r)); diff != "" {
			t.Errorf("AtLeast(%d): %s", r, diff)
		}
	}
	for _, r := range []Rung{None, -1, 5} {
		if l.ACR(r) != "" || l.AtLeast(r) != nil {
			t.Errorf("rung %d has a name", r)
		}
	}
	for _, acr := range []string{"", "PHR", "phr ", "mfa", "0", "m1", "urn:countersign:acr:"} {
		if r := l.RungOf(acr); r != None {
			t.Errorf("RungOf(%q) = %d", acr, r)
		}
	}
	if (Ladder{}).RungOf("") != None {
		t.Error("an empty ladder knows the empty acr")
	}
}

func TestLadderAcceptsWithLeeway(t *testing.T) {
	l, five := Default(), Ask{Rung: Phishing, MaxAge: 5 * time.Minute}
	for _, c := range []struct {
		name string
		acr  string
		auth time.Time
		ask  Ask
		want bool
	}{
		{"nothing asked", "", time.Time{}, Ask{}, true},
		{"exact", "phr", at(0), five, true},
		{"higher rung", "phrh", at(0), five, true},
		{"lower rung", "urn:countersign:acr:multi", at(0), five, false},
		{"unknown acr is rung 0", "aal3", at(0), five, false},
		{"no acr", "", at(0), five, false},
		{"at the age", "phr", at(-5 * time.Minute), five, true},
		{"at the leeway", "phr", at(-5*time.Minute - 30*time.Second), five, true},
		{"past the leeway", "phr", at(-5*time.Minute - 31*time.Second), five, false},
		{"clock ahead", "phr", at(30 * time.Second), five, true},
		{"too far ahead", "phr", at(31 * time.Second), five, false},
		{"no auth_time", "phr", time.Time{}, five, false},
		{"any age", "phr", time.Time{}, Ask{Rung: Phishing}, true},
		{"age alone needs a sign-in", "", at(0), Ask{MaxAge: time.Minute}, false},
		{"age alone, any rung", "urn:countersign:acr:single", at(0), Ask{MaxAge: time.Minute}, true},
		{"rung above the ladder", "phrh", at(0), Ask{Rung: 5}, false},
	} {
		if got := l.Accepts(c.acr, c.auth, c.ask, t0); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
