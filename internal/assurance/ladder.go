package assurance

import "time"

// Ladder names the rungs of a person on the wire: one acr value each (OpenID
// Connect Core 2, RFC 9470). The zero Ladder names nothing and so accepts
// nothing. A machine's rung is never said as acr (mechanisms F6).
type Ladder struct{ acr [Hardware + 1]string }

// Leeway is how much later than max_age a verifier still accepts an auth_time,
// and how far ahead of its own clock one may be (mechanisms A20). It is for
// those who verify tokens; the server itself, whose clock made the times,
// allows none.
const Leeway = 30 * time.Second

// MinChallengeAge is the least max_age that a challenge may name (A20).
const MinChallengeAge = time.Minute

// Default is the ladder of the product page; phr and phrh are the OpenID EAP
// ACR values.
func Default() Ladder {
	return Ladder{acr: [...]string{
		Single:   "urn:countersign:acr:single",
		Multi:    "urn:countersign:acr:multi",
		Phishing: "phr",
		Hardware: "phrh",
	}}
}

// ACR is the value of a rung, "" for None and for anything not on the ladder.
func (l Ladder) ACR(r Rung) string {
	if r < None || r > Hardware {
		return ""
	}
	return l.acr[r]
}

// RungOf is the rung that an acr value names; an unknown one is None (A19).
func (l Ladder) RungOf(acr string) Rung {
	if acr == "" {
		return None
	}
	for r := Single; r <= Hardware; r++ {
		if l.acr[r] == acr {
			return r
		}
	}
	return None
}

// AtLeast gives every acr value that satisfies a demand for r, ascending: what
// a challenge lists, so that a verifier that compares strings is told them all
// (A19, A25). It is empty for a rung above the ladder and for None, which
// demands nothing.
func (l Ladder) AtLeast(r Rung) []string {
	if r <= None || r > Hardware {
		return nil
	}
	out := make([]string, 0, Hardware-r+1)
	for ; r <= Hardware; r++ {
		out = append(out, l.acr[r])
	}
	return out
}

// Values gives every acr value, ascending: acr_values_supported.
func (l Ladder) Values() []string { return l.AtLeast(Single) }

// Accepts is a verifier's check of a token's acr and auth_time against the rung
// and age of an ask (A19, A20): rungs are compared, not strings, and Leeway is
// allowed. A token without a value that the ask needs is refused. Approvals and
// device are not in the pair and are not looked at.
func (l Ladder) Accepts(acr string, authTime time.Time, ask Ask, now time.Time) bool {
	if ask.rung() == None {
		return true
	}
	if l.RungOf(acr) < ask.rung() {
		return false
	}
	if ask.MaxAge == 0 {
		return true
	}
	age := now.Sub(authTime)
	return age >= -Leeway && age <= ask.MaxAge+Leeway
}
