package policy

import (
	"slices"

	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

// Identifies reports whether a policy that speaks of an action by a kind of
// principal asks which thing the resource is, or whose: more than what kind of
// thing, its attributes, and whether it is the principal's own.
func (s *Set) Identifies(a Action, kind string) bool {
	e, ok := s.eval.(*engine)
	if !ok {
		return false
	}
	b := e.buckets[bucketKey{a, kind}]
	return b != nil && slices.ContainsFunc(b.policies, func(p *compiled) bool {
		switch p.tree.Resource.(type) {
		case ast.ScopeTypeAll, ast.ScopeTypeIs:
			return slices.ContainsFunc(p.tree.Conditions, func(c ast.ConditionType) bool { return identifies(c.Body) })
		}
		return true
	})
}

func identifies(n ast.IsNode) (found bool) {
	resource := ast.IsNode(ast.NewResourceNode())
	ast.Inspect(ast.NewNode(n), func(n ast.IsNode) bool {
		if ownership(n) {
			return false
		}
		switch v := n.(type) {
		case ast.NodeTypeIs:
			return v.Left != resource
		case ast.NodeTypeHas:
			return v.Arg != resource
		case ast.NodeTypeAccess:
			return v.Arg != resource || v.Value == "owner"
		}
		found = found || n == resource
		return !found
	})
	return found
}

// ownership reports whether a node asks if the resource's owner is the principal.
func ownership(n ast.IsNode) bool {
	var a, b ast.IsNode
	switch v := n.(type) {
	case ast.NodeTypeEquals:
		a, b = v.Left, v.Right
	case ast.NodeTypeNotEquals:
		a, b = v.Left, v.Right
	default:
		return false
	}
	owner := ast.Resource().Access("owner").AsIsNode()
	principal := ast.IsNode(ast.NewPrincipalNode())
	return a == owner && b == principal || a == principal && b == owner
}
