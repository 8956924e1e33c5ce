package policy

import (
	"time"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

// The limits that policies may set: of a life, and of one that begins others.
const (
	shortestLife  = MinLife
	longestLife   = 24 * time.Hour
	shortestGrant = 5 * time.Minute
	longestGrant  = 90 * 24 * time.Hour
)

// lives is how long what is allowed may live; 0 is no limit.
type lives struct{ life, grant time.Duration }

// Shorter is the shorter of two lives, of which 0 is no limit.
func Shorter(a, b time.Duration) time.Duration {
	switch {
	case a == 0:
		return b
	case b == 0:
		return a
	}
	return min(a, b)
}

func (l lives) shorter(o lives) lives {
	return lives{Shorter(l.life, o.life), Shorter(l.grant, o.grant)}
}

// longer is the longer of what two permits give: either is enough.
func (l lives) longer(o lives) lives {
	longer := func(a, b time.Duration) time.Duration {
		if a == 0 || b == 0 {
			return 0
		}
		return max(a, b)
	}
	return lives{longer(l.life, o.life), longer(l.grant, o.grant)}
}

// lifetime reads an annotation that is a duration; 0 if there is none.
func lifetime(notes types.Annotations, key types.AnnotationKey, least, most time.Duration, wrong func(format string, args ...any)) time.Duration {
	text, ok := notes[key]
	if !ok {
		return 0
	}
	d, err := time.ParseDuration(string(text))
	if err != nil || d < least || d > most || d%time.Second != 0 {
		wrong(`@%s is how long what is allowed lives, as "2m": from %v to %v`, key, least, most)
	}
	return d
}

// limit makes, of a forbid that sets a life, the policy that says whether it speaks of
// an input at all, satisfied or not: the same without what may be shown.
func (p *compiled) limit() *form {
	var speaks []ast.ConditionType
	for _, c := range p.tree.Conditions {
		if !shows(c.Body, climbing...) {
			speaks = append(speaks, c)
		}
	}
	return p.form(ast.EffectPermit, speaks)
}

// lives finds how long what is allowed may live: as long as the permit that gives
// most, and no longer than any forbid that speaks of it, which was satisfied.
func (b *bucket) lives(permits []*compiled, w *world) (lives, error) {
	if !b.limited {
		return lives{}, nil
	}
	out := permits[0].lives
	for _, p := range permits[1:] {
		out = out.longer(p.lives)
	}
	speak := w.answer(inquiry{&b.limits, &w.who})
	for _, p := range speak.yes {
		out = out.shorter(p.lives)
	}
	return out, speak.err
}

// limitBy takes the life that a policy sets into the bucket, for a forbid also where
// it fell away by an exception.
func (b *bucket) limitBy(p *compiled) {
	if p.lives == (lives{}) {
		return
	}
	b.limited = true
	if p.Effect == "forbid" {
		b.limits.add(p, p.speaks)
	}
}
