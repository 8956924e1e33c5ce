package policy

import (
	"cmp"
	"slices"
	"time"
)

// DueSoon is how long before the date of its review a rule is said to be due soon, and
// EndsSoon how long before its end an exception is said to end soon.
const (
	DueSoon  = 30 * 24 * time.Hour
	EndsSoon = 7 * 24 * time.Hour
)

// Due says how a date stands to a moment.
type Due int

// How it stands. The zero value is for what has no date, too.
const (
	NotDue  Due = iota
	Soon        // it comes within DueSoon, or EndsSoon
	Overdue     // it has passed
)

// String gives "", soon or overdue.
func (d Due) String() string { return [...]string{"", "soon", "overdue"}[d] }

// Due is how the review of a rule stands at a moment. Until the end of its day, in UTC,
// it is in time.
func (p *Policy) Due(now time.Time) Due {
	day, err := time.Parse(time.DateOnly, p.Review)
	if err != nil {
		return NotDue
	}
	return due(day, day.AddDate(0, 0, 1), DueSoon, now)
}

// Due is how the end of an exception stands at a moment.
func (e *Exception) Due(now time.Time) Due { return due(e.Until, e.Until, EndsSoon, now) }

// due is how now stands to a time that begins and ends.
func due(begin, end time.Time, soon time.Duration, now time.Time) Due {
	switch {
	case !now.Before(end):
		return Overdue
	case begin.Sub(now) <= soon:
		return Soon
	}
	return NotDue
}

// Reviews are the rules of the set that are due at a moment, or soon: the longest
// overdue first.
func (s *Set) Reviews(now time.Time) (out []Policy) {
	for i := range s.policies {
		if s.policies[i].Due(now) != NotDue {
			out = append(out, s.policies[i])
		}
	}
	slices.SortStableFunc(out, func(a, b Policy) int { return cmp.Compare(a.Review, b.Review) })
	return out
}

// Ending are the exceptions of the set that end soon, and have not ended: the next to
// end first.
func (s *Set) Ending(now time.Time) (out []Exception) {
	for i := range s.exceptions {
		if s.exceptions[i].Due(now) == Soon {
			out = append(out, s.exceptions[i])
		}
	}
	slices.SortStableFunc(out, func(a, b Exception) int { return a.Until.Compare(b.Until) })
	return out
}

// OwnerOf gives who answers for a rule of the set, or for an exception as reasons name
// it; "" where nobody is said to.
func (s *Set) OwnerOf(id string) string {
	if i := slices.IndexFunc(s.policies, func(p Policy) bool { return p.ID == id }); i >= 0 {
		return s.policies[i].Owner
	}
	if i := slices.IndexFunc(s.exceptions, func(e Exception) bool { return ExceptionPrefix+e.ID == id }); i >= 0 {
		return s.exceptions[i].Owner
	}
	return ""
}

// OfHostFile reports whether a file of a set is the one of the host and the server
// itself, which is part of every set.
func OfHostFile(name string) bool { return name == hostFile }
