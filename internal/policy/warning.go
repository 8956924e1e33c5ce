package policy

import (
	"slices"

	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

// WarnApprovals is the code of the warning that a policy waits for approvals, which
// nobody can give.
const WarnApprovals = "approvals_unavailable"

// Warnings says where the set means what cannot happen: it may be enforced, and whoever
// publishes it should know. They are in the order of the policies; policies in mode
// monitor are among them.
func (s *Set) Warnings() (out []Fault) {
	if s.monitor != nil {
		s = s.monitor
	}
	e, ok := s.eval.(*engine)
	if !ok {
		return nil
	}
	for _, p := range e.policies {
		if p.reads("approvals") {
			out = append(out, Fault{
				File: p.File, Line: p.Line, Policy: p.ID, Code: WarnApprovals,
				Text: "it reads context.approvals, and this release has no way to confirm or approve an act: " + p.without(),
			})
		}
	}
	return out
}

// reads reports whether a policy reads a member of the context, or of it.
func (p *compiled) reads(member string) bool {
	return slices.ContainsFunc(p.tree.Conditions, func(c ast.ConditionType) bool { return shows(c.Body, member) })
}

// without says what a policy that reads approvals comes to where there are none.
func (p *compiled) without() string {
	switch {
	case p.never:
		return "they are never there"
	case p.free():
		return "it is satisfied in its other ways only"
	case p.Effect == "forbid":
		return "nobody satisfies it, and what it speaks of is refused"
	}
	return "nobody satisfies it, and it permits nothing"
}

// free reports whether one of the ways to satisfy a policy needs nobody's approval.
func (p *compiled) free() bool {
	return slices.ContainsFunc(p.ways, func(way []atom) bool {
		return !slices.ContainsFunc(way, func(a atom) bool { return a.is == confirmed || a.is == approved })
	})
}
