package assurance

import (
	"strconv"
	"time"
)

// Shown is what a verified access token says of assurance.
type Shown struct {
	ACR      string
	AuthTime time.Time // the pair of ACR (mechanisms A17)
	Person   bool      // it carries a person's authority
	Present  bool      // it comes from that person's own sign-in (mechanisms G3)
	Machine  Rung      // that the outermost actor, or the machine itself, proved
}

// Shows is the assurance that a token shows at now, to whoever verifies tokens: the
// server that made it knows more, and decides by this where it is asked what a token may
// do, so that both answer the same. A pair reaches every rung up to its own; the age of a
// sign-in that is not the sender's own is longer than any (G3). Leeway is allowed (A20).
func (l Ladder) Shows(t Shown, now time.Time) State {
	if !t.Person {
		return State{MachineRung: max(t.Machine, 1), Sources: 1} // its client has authenticated
	}
	s := State{MachineRung: t.Machine}
	r := l.RungOf(t.ACR)
	if r == None {
		return s
	}
	var at time.Time
	if t.Present && !t.AuthTime.After(now.Add(Leeway)) {
		at = t.AuthTime.Add(Leeway)
		if at.After(now) {
			at = now
		}
	}
	s = s.raised(r, at)
	s.HumanPresent = t.Present
	return s
}

// MachineName is the name of a rung of the machines' ladder: m1 to m4 (mechanisms F).
func MachineName(r Rung) string { return "m" + strconv.Itoa(int(r)) }

// MachineRung reads the name of a rung of the machines' ladder, as MachineName gives it;
// anything else is None.
func MachineRung(s string) Rung {
	if len(s) == 2 && s[0] == 'm' && s[1] >= '1' && s[1] <= '4' {
		return Rung(s[1] - '0')
	}
	return None
}
