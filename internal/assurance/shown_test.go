package assurance

import (
	"testing"
	"time"
)

// TestShows: what a token shows is accepted exactly where a verifier of tokens accepts
// its pair, for every rung, every acr, ages on both sides of the bounds.
func TestShows(t *testing.T) {
	l, now := Default(), time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, acr := range append([]string{"", "unknown"}, l.Values()...) {
		for _, age := range []time.Duration{-31 * time.Second, -30 * time.Second, 0, time.Minute, 5*time.Minute + 30*time.Second, 5*time.Minute + 31*time.Second, 1000 * time.Hour} {
			s := l.Shows(Shown{ACR: acr, AuthTime: now.Add(-age), Person: true, Present: true}, now)
			for r := None; r <= Hardware; r++ {
				for _, most := range []time.Duration{0, time.Minute, 5 * time.Minute} {
					a := Ask{Rung: r, MaxAge: most}
					if got, want := s.Meets(a, now), l.Accepts(acr, now.Add(-age), a, now); got != want {
						t.Errorf("%q of %v, asked %+v: %v, a verifier says %v", acr, age, a, got, want)
					}
				}
			}
			if best := s.Best(); best.Rung != l.RungOf(acr) || s.PhishingResistant != (best.Rung >= Phishing) || s.HardwareBound != (best.Rung == Hardware) {
				t.Errorf("%q shows %+v", acr, s)
			}
		}
	}
}

// TestShowsOfOthers: what acts for somebody never has the age of their sign-in, and a
// machine has no sign-in at all.
func TestShowsOfOthers(t *testing.T) {
	l, now := Default(), time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	s := l.Shows(Shown{ACR: "phr", AuthTime: now, Person: true, Machine: 2}, now)
	if s.Best().Rung != Phishing || s.Meets(Ask{Rung: Single, MaxAge: 1000 * time.Hour}, now) || s.HumanPresent || s.MachineRung != 2 {
		t.Errorf("for somebody: %+v", s)
	}
	s = l.Shows(Shown{ACR: "phr", AuthTime: now, Present: true}, now)
	if len(s.Pairs) != 0 || s.MachineRung != 1 || s.HumanPresent {
		t.Errorf("a machine: %+v", s)
	}
}
