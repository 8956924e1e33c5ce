package policy

import (
	"fmt"
	"math/big"
	"slices"
	"strings"
)

// Details are the authorization details (RFC 9396) that an act is about, as policies
// read them: what there is to say of them, in words that a set can hold.
type Details struct {
	Types []string // of the elements, ascending, each once
	Said  []string // "type member=value"
	Sizes []Size
}

// Size is how large a number in the details is: how many of the steps 1, 2, 2.5, 5,
// 10 … it reaches. Policies read each as "type member>=step".
type Size struct {
	Of    string `json:"of"`    // "type member"
	Steps int    `json:"steps"` // 0 to len(steps)
}

// steps are 1, 2, 2.5 and 5 times each power of ten below 10¹².
var steps = func() (out []*big.Rat) {
	for zeros := range 12 {
		for _, lead := range []string{"1", "2", "2.5", "5"} {
			n, _ := new(big.Rat).SetString(fmt.Sprintf("%se%d", lead, zeros))
			out = append(out, n)
		}
	}
	return out
}()

// SizeOf is the size of a number; nil is what could not be read as one, and reaches
// every step.
func SizeOf(of string, n *big.Rat) Size {
	s := Size{of, len(steps)}
	if n != nil {
		if i := slices.IndexFunc(steps, func(step *big.Rat) bool { return n.Cmp(step) < 0 }); i >= 0 {
			s.Steps = i
		}
	}
	return s
}

// texts are all that policies read of the details' members.
func (d *Details) texts() []string {
	out := slices.Clone(d.Said)
	for _, s := range d.Sizes {
		for _, step := range steps[:min(max(s.Steps, 0), len(steps))] {
			out = append(out, s.Of+">="+strings.TrimSuffix(step.FloatString(1), ".0"))
		}
	}
	return out
}
