package resource

import (
	"encoding/json"
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strings"
)

// plainName is a member that can be said without doubt where it ends.
var plainName = regexp.MustCompile(`^[A-Za-z0-9_]+$`)

// Said is what policies read of an element: "payment to=A" of every text, number and
// boolean, by the member's dotted path, and of lists each of theirs. A type has no
// space, and a member that is said has none but letters, digits and underscores, so
// that two elements never say the same by different members; others are not said.
// Ascending, each once.
//
// reached is called with every member that the type compares as a number, as
// "payment amount"; n is nil if it is none, which counts as more than any.
func (t DetailsType) Said(e Element, reached func(of string, n *big.Rat)) []string {
	var out []string
	var walk func(path string, v any)
	walk = func(path string, v any) {
		if how := t.Narrower[path]; how == AtMost || how == AtLeast {
			n, _ := decimal(v)
			reached(e.Type+" "+path, n)
		}
		switch v := v.(type) {
		case map[string]any:
			for name, x := range v {
				if plainName.MatchString(name) && (path != "" || name != "type") {
					walk(strings.TrimPrefix(path+"."+name, "."), x)
				}
			}
		case []any:
			for _, x := range v {
				walk(path, x)
			}
		case string, json.Number, bool:
			out = append(out, fmt.Sprintf("%s %s=%v", e.Type, path, v))
		}
	}
	walk("", e.tree)
	slices.Sort(out)
	return slices.Compact(out)
}
