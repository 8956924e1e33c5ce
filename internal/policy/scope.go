package policy

import (
	"slices"
	"time"

	"github.com/countersign-dev/countersign/internal/assurance"
)

// allowed reports whether e may have the scope at all.
func (s *ScopeAsk) allowed(e Entity) bool {
	return len(s.Groups) == 0 || slices.ContainsFunc(s.Groups, e.In)
}

// binding reports whether the scope's ask is part of the decision's own: an
// unmet ask then leads to a challenge instead of a smaller token.
func (s *ScopeAsk) binding(e Entity) bool {
	return s.allowed(e) && (s.Required || !s.Conditional)
}

// unmet is the reason for a scope whose ask is not met.
func (s *ScopeAsk) unmet() Reason {
	return Reason{
		Policy: "scope:" + s.Name,
		Text:   "The scope " + s.Name + " needs " + Words(s.Ask) + ".",
		Public: "This needs " + Words(s.Ask),
	}
}

// scopes sorts the requested scopes into those given now and those withheld,
// with reasons, and finds how long what carries them may live.
func scopes(in Input) (d Decision) {
	c := &in.Context
	for i := range c.Scopes {
		sc := &c.Scopes[i]
		switch {
		case !sc.allowed(in.Principal):
			d.withhold(sc.Name, Reason{Policy: "scope:" + sc.Name, Text: "The scope " + sc.Name + " is for members of other groups."})
		case c.meets(sc.Ask):
			life := c.remaining(sc.Ask)
			if life > 0 && life < MinLife && !sc.binding(in.Principal) {
				d.withhold(sc.Name, sc.unmet())
				continue
			}
			d.Released = append(d.Released, sc.Name)
			if life > 0 && (d.MaxLife == 0 || life < d.MaxLife) {
				d.MaxLife = life
			}
		case sc.binding(in.Principal): // a reason of the decision itself
			d.withhold(sc.Name)
		default:
			d.withhold(sc.Name, sc.unmet())
		}
	}
	return d
}

func (d *Decision) withhold(name string, why ...Reason) {
	d.Withheld = append(d.Withheld, name)
	d.Reasons = append(d.Reasons, why...)
}

// remaining is how long a met ask stays met: until auth_time + max_age (A23). It
// is 0 for an ask of any age, and otherwise at least a nanosecond, so that
// "nothing left" is never read as "no limit".
func (c *Context) remaining(a assurance.Ask) time.Duration {
	if a.MaxAge == 0 {
		return 0
	}
	p, _ := c.Assurance.Pair(max(a.Rung, assurance.Single))
	return max(p.AuthTime.Add(a.MaxAge).Sub(c.Now), 1)
}
