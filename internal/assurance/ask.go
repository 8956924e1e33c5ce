package assurance

import (
	"cmp"
	"math"
	"time"
)

// The kinds of Approval. They are different things and neither implies the
// other: confirm is a yes of the person on whose behalf a chain acts, approve
// is a yes of M others who are not in the chain (product, Approval).
const (
	NoApproval = ""
	Confirm    = "confirm"
	Approve    = "approve"
)

// rung is the rung that the ask comes to: whoever must have signed in lately
// must have signed in.
func (a Ask) rung() Rung {
	if a.Rung < Single && a.MaxAge != 0 {
		return Single
	}
	return a.Rung
}

// Demands reports whether the ask demands anything.
func (a Ask) Demands() bool { return a != Ask{} }

// Satisfies reports whether whatever meets a meets b too: the point-wise
// partial order of asks (mechanisms A1).
func (a Ask) Satisfies(b Ask) bool {
	return a.rung() >= b.rung() &&
		(b.MaxAge == 0 || a.MaxAge != 0 && a.MaxAge <= b.MaxAge) &&
		a.Approval.satisfies(b.Approval) &&
		a.Device >= b.Device
}

func (a Approval) satisfies(b Approval) bool {
	switch b.Kind {
	case NoApproval:
		return true
	case Confirm:
		return a.Kind == Confirm
	case Approve:
		return a.Kind == Approve && a.Need() >= b.Need() && (b.Group == "" || a.Group == b.Group)
	default:
		return false // not a demand that anything is known to meet
	}
}

// Need is how many approvals by others it demands; at least one if any.
func (a Approval) Need() int {
	if a.Kind != Approve {
		return 0
	}
	return max(a.M, 1)
}

// Join is the least ask that satisfies both. ok is false when no ask can say
// it: confirm with approve, or approvals of two groups.
func (a Ask) Join(b Ask) (j Ask, ok bool) {
	j = Ask{Rung: max(a.rung(), b.rung()), MaxAge: a.MaxAge, Device: max(a.Device, b.Device)}
	if j.MaxAge == 0 || b.MaxAge != 0 && b.MaxAge < j.MaxAge {
		j.MaxAge = b.MaxAge
	}
	switch x, y := a.Approval, b.Approval; {
	case x.satisfies(y):
		j.Approval = x
	case y.satisfies(x):
		j.Approval = y
	case x.Kind == Approve && y.Kind == Approve && (x.Group == "" || y.Group == ""):
		j.Approval = Approval{Kind: Approve, M: max(x.Need(), y.Need()), Group: x.Group + y.Group}
	default:
		return Ask{}, false
	}
	return j, true
}

// Compare orders asks by cost, cheapest first: other people, then the rung,
// then the age, then the device. It extends Satisfies to a total order of cost:
// an ask that satisfies another never costs less.
func (a Ask) Compare(b Ask) int {
	return cmp.Or(
		cmp.Compare(a.Approval.cost(), b.Approval.cost()),
		cmp.Compare(a.Approval.Group, b.Approval.Group),
		cmp.Compare(a.rung(), b.rung()),
		cmp.Compare(-a.age(), -b.age()),
		cmp.Compare(a.Device, b.Device),
	)
}

// age is MaxAge with "any" as the longest.
func (a Ask) age() time.Duration {
	if a.MaxAge == 0 {
		return math.MaxInt64
	}
	return a.MaxAge
}

func (a Approval) cost() int {
	switch a.Kind {
	case NoApproval:
		return 0
	case Confirm:
		return 1
	case Approve:
		return 1 + a.Need()
	default:
		return math.MaxInt
	}
}

// Raise is the weakest state, starting from s, that meets the ask's rung and
// age: the hypothesis of the climb (mechanisms A2). Rungs up to the ask's are
// reached exactly MaxAge ago unless they were reached later already; no method
// is named; everything else stays as it is. What a rung means is raised with
// it: phr is phishing-resistant.
func (a Ask) Raise(s State, now time.Time) State {
	r := a.rung()
	if r <= None || r > Hardware {
		return s
	}
	var at time.Time // any age: as long ago as can be
	if a.MaxAge != 0 {
		at = now.Add(-a.MaxAge)
	}
	return s.raised(r, at)
}

// ChallengeAge is the max_age that a challenge names for this ask, in whole
// seconds and never under MinChallengeAge (A20); 0 is any age, not sent.
func (a Ask) ChallengeAge() time.Duration {
	if a.MaxAge == 0 {
		return 0
	}
	return max(a.MaxAge.Truncate(time.Second), MinChallengeAge)
}
