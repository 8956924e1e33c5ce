// Package layout gives Cedar files their one layout: the order of annotations,
// where lines break, how far they are indented. What a file says is not changed,
// which is checked, and every comment stays with what it stands beside. It knows
// Cedar's tokens and nothing of what policies mean here.
package layout

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/cedar-policy/cedar-go"
)

// width is how many letters a line has at most, where it can be broken.
const width = 100

// maxDepth is how deep brackets and signs may stand in each other.
const maxDepth = 200

// maxUnfolds is how many steps a policy's has may go beyond its first: each may
// double what it is asked of.
const maxUnfolds = 8

// order is that of annotations: who a policy is, what it says, how it is treated.
// Others follow by name.
var order = []string{"id", "reason", "public_reason", "owner", "mode", "review", "climb", "opens", "approvers", "life", "grant_life"}

// Format gives the text of a Cedar file its canonical layout: formatted again, it
// stays as it is. The error names the place where the text is not Cedar; nothing
// else is wrong with a file here, whatever its policies say.
func Format(name, text string) (string, error) {
	tokens, err := scan(text)
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	if _, err := cedar.NewPolicyListFromBytes(name, []byte(text)); err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	settle(tokens)
	f := former{tokens: tokens}
	out := f.file()
	if f.err != nil {
		return "", fmt.Errorf("%s: %w", name, f.err)
	}
	again, err := scan(out)
	if err != nil || !slices.Equal(plain(tokens), plain(again)) {
		return "", fmt.Errorf("%s: %w", name, errors.Join(errChanged, err))
	}
	return out, nil
}

// errChanged is a fault of this package, found before anybody relies on it.
var errChanged = errors.New("laid out anew, it would say something else; it is left as it is")

// plain is what is said: the words, annotations in their order, without a comma
// after the last of a list.
func plain(tokens []token) []string {
	var out []string
	for i := 0; i < len(tokens); i++ {
		var notes [][]string
		for ; tokens[i].text == "@" && i+2 < len(tokens); i++ {
			note := []string{tokens[i+1].text}
			for i++; tokens[i+1].text != "@" && tokens[i+1].text != "permit" && tokens[i+1].text != "forbid" && i+2 < len(tokens); i++ {
				note = append(note, tokens[i+1].text)
			}
			notes = append(notes, note)
		}
		slices.SortFunc(notes, func(a, b []string) int { return byKey(a[0], b[0]) })
		for _, n := range notes {
			out = append(append(out, "@"), n...)
		}
		last := i+1 < len(tokens) && slices.Contains([]string{")", "]", "}"}, tokens[i+1].text)
		if tokens[i].text != "," || !last {
			out = append(out, tokens[i].text)
		}
	}
	return out
}

// byKey compares the names of annotations.
func byKey(a, b string) int {
	rank := func(key string) int {
		if i := slices.Index(order, key); i >= 0 {
			return i
		}
		return len(order)
	}
	return cmp.Or(rank(a)-rank(b), cmp.Compare(a, b))
}
