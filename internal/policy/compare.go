package policy

import (
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

// The types that < <= > >= compare, each with itself only.
const (
	typeLong     = "Long"
	typeDuration = "duration"
	typeDatetime = "datetime"
	typeUnknown  = "something else"
)

// longs are the members of the context that are numbers.
var longs = []string{
	"assurance.rung", "assurance.machine", "assurance.sources", "approvals.count", "time.hour", "time.weekday", "token.depth", "agent.budget",
}

// extensions are the types of what Cedar's functions and methods give.
var extensions = map[types.Path]string{
	"duration": typeDuration, "toTime": typeDuration, "durationSince": typeDuration,
	"datetime": typeDatetime, "toDate": typeDatetime, "offset": typeDatetime,
	"toDays": typeLong, "toHours": typeLong, "toMinutes": typeLong, "toSeconds": typeLong, "toMilliseconds": typeLong,
}

// mismatch finds a comparison of two types in a condition: "" if there is none.
// The validator of cedar-go 1.9.0 lets a duration be compared with a number,
// which cannot be evaluated; Cedar's own refuses it, and so does this.
//
// numbers are the attributes that are numbers of some thing: of another, which says
// something else by that name, the validator does see it.
func mismatch(n ast.IsNode, numbers map[string]bool) (what string) {
	ast.Inspect(ast.NewNode(n), func(n ast.IsNode) bool {
		var b ast.BinaryNode
		switch v := n.(type) {
		case ast.NodeTypeLessThan:
			b = v.BinaryNode
		case ast.NodeTypeLessThanOrEqual:
			b = v.BinaryNode
		case ast.NodeTypeGreaterThan:
			b = v.BinaryNode
		case ast.NodeTypeGreaterThanOrEqual:
			b = v.BinaryNode
		default:
			return true
		}
		if l, r := compared(b.Left, numbers), compared(b.Right, numbers); what == "" && (l != r || l == typeUnknown) {
			what = "a comparison of a " + l + " with a " + r
		}
		return true
	})
	return what
}

// compared is the type of one side of a comparison.
func compared(n ast.IsNode, numbers map[string]bool) string {
	switch v := n.(type) {
	case ast.NodeValue:
		if _, ok := v.Value.(types.Long); ok {
			return typeLong
		}
	case ast.NodeTypeAdd, ast.NodeTypeSub, ast.NodeTypeMult, ast.NodeTypeNegate:
		return typeLong
	case ast.NodeTypeExtensionCall:
		if t, ok := extensions[v.Name]; ok {
			return t
		}
	case ast.NodeTypeIfThenElse:
		if t := compared(v.Then, numbers); t == compared(v.Else, numbers) {
			return t
		}
	case ast.NodeTypeAccess:
		if name, ok := attributeOf(v); ok && numbers[name] {
			return typeLong
		}
		switch name := dotted(v); {
		case slices.Contains(longs, name):
			return typeLong
		case name == "token.age", strings.HasPrefix(name, "assurance.age."):
			return typeDuration
		case name == "time.now":
			return typeDatetime
		}
	}
	return typeUnknown
}
