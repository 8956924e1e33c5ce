package assurance

import (
	"testing"
	"time"
)

// Another issuer's word is worth what its registration says, and no more: a rung,
// at a time, and the facts of that rung only.
func TestFederatedProof(t *testing.T) {
	for worth, facts := range map[Rung][2]bool{None: {}, Single: {}, Multi: {}, Phishing: {true, false}, Hardware: {true, true}} {
		s := Evaluate(dana, []Proof{FederatedProof(dana, "iss_1", worth, t0)}, at(time.Minute))
		best := s.Best()
		if best.Rung != max(worth, Single) || !best.AuthTime.Equal(t0) || s.PhishingResistant != facts[0] || s.HardwareBound != facts[1] {
			t.Errorf("worth %d: %+v", worth, s)
		}
	}
	s := Evaluate(dana, []Proof{FederatedProof(dana, "iss_1", Phishing, time.Time{})}, t0)
	if !s.Meets(Ask{Rung: Phishing}, t0) || s.Meets(Ask{Rung: Phishing, MaxAge: 365 * 24 * time.Hour}, t0) {
		t.Errorf("without a time it satisfies an age: %+v", s)
	}
	if s := Evaluate("usr_other", []Proof{FederatedProof(dana, "iss_1", Hardware, t0)}, t0); len(s.Pairs) != 0 {
		t.Errorf("about somebody else: %+v", s)
	}
}
