package policy

import (
	"bytes"
	"slices"
)

// Change is what becomes of a policy from one set to another.
type Change struct {
	Was, Is *Policy // as it was, and is; nil: it was not, or is no more
}

// ID is the policy's.
func (c *Change) ID() string {
	if c.Is != nil {
		return c.Is.ID
	}
	return c.Was.ID
}

// Changes are the policies that differ from one set to another, by id. One that is
// written in another place, or laid out in another way, is the same.
func Changes(from, to *Set) []Change {
	was, is := byID(from), byID(to)
	var out []Change
	for id, p := range was {
		if q := is[id]; q == nil || !bytes.Equal(p.cedar.MarshalCedar(), q.cedar.MarshalCedar()) {
			out = append(out, Change{p, q})
		}
	}
	for id, p := range is {
		if was[id] == nil {
			out = append(out, Change{nil, p})
		}
	}
	slices.SortFunc(out, func(a, b Change) int { return compareText(a.ID(), b.ID()) })
	return out
}

func byID(s *Set) map[string]*Policy {
	m := map[string]*Policy{}
	for i := range s.policies {
		m[s.policies[i].ID] = &s.policies[i]
	}
	return m
}
