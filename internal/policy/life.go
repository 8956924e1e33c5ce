package policy

import (
	"fmt"
	"time"

	"github.com/cedar-policy/cedar-go"
	publicast "github.com/cedar-policy/cedar-go/ast"
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
func (p *compiled) limit() *cedar.Policy {
	speaks := &ast.Policy{Effect: ast.EffectPermit, Principal: p.tree.Principal, Action: p.tree.Action, Resource: p.tree.Resource}
	for _, c := range p.tree.Conditions {
		if !shows(c.Body, climbing...) {
			speaks.Conditions = append(speaks.Conditions, c)
		}
	}
	return cedar.NewPolicyFromAST((*publicast.Policy)(speaks))
}

// lives finds how long what is allowed may live: as long as the permit that gives
// most, and no longer than any forbid that speaks of it, which was satisfied.
func (b *bucket) lives(permits []cedar.DiagnosticReason, w *world, req cedar.Request) (lives, error) {
	if !b.limited {
		return lives{}, nil
	}
	var out lives
	for i, r := range permits {
		if l := b.find(r.PolicyID).lives; i == 0 {
			out = l
		} else {
			out = out.longer(l)
		}
	}
	if len(b.limits) == 0 {
		return out, nil
	}
	_, speak := cedar.Authorize(b.limits, w, req)
	if len(speak.Errors) > 0 {
		return out, fmt.Errorf("%s", speak.Errors[0].Message)
	}
	for _, r := range speak.Reasons {
		out = out.shorter(b.limitOf[r.PolicyID])
	}
	return out, nil
}

// limitBy takes the life that a policy sets into the bucket, for a forbid also where
// it fell away by an exception.
func (b *bucket) limitBy(p *compiled) {
	if p.lives == (lives{}) {
		return
	}
	b.limited = true
	if p.Effect == "permit" {
		return
	}
	if b.limitOf == nil {
		b.limitOf = map[cedar.PolicyID]lives{}
	}
	b.limitOf[cedar.PolicyID(p.ID)] = p.lives
	b.limits = append(b.limits, named{id: cedar.PolicyID(p.ID), policy: p.speaks})
}
