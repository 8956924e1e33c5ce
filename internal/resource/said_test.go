package resource

import (
	"fmt"
	"math/big"
	"slices"
	"testing"
)

func TestSaid(t *testing.T) {
	for name, c := range map[string]struct {
		element string
		said    []string
		sizes   []string
	}{
		"texts, numbers, lists": {
			`{"type":"payment","payee":"A B","actions":["status","initiate"],"flag":true,"n":1.5,"amount":{"currency":"EUR","value":"10.00"}}`,
			[]string{"payment actions=initiate", "payment actions=status", "payment amount.currency=EUR", "payment amount.value=10.00", "payment flag=true", "payment n=1.5", "payment payee=A B"},
			[]string{"payment amount.value 10"},
		},
		"nothing to say":    {`{"type":"payment","x":null,"y":{},"z":[]}`, nil, nil},
		"ambiguous members": {`{"type":"payment","a.b":"c","d=e":"f","g h":"i","":"j","a":{"type":"k"}}`, []string{"payment a.type=k"}, nil},
		"each once":         {`{"type":"payment","a":["b","b"],"since":3}`, []string{"payment a=b", "payment since=3"}, []string{"payment since 3"}},
		"no number":         {`{"type":"payment","amount":{"value":"9e9"}}`, []string{"payment amount.value=9e9"}, []string{"payment amount.value <nil>"}},
		"numbers in a list": {`{"type":"payment","amount":{"value":["5"]}}`, []string{"payment amount.value=5"}, []string{"payment amount.value <nil>", "payment amount.value 5"}},
	} {
		var sizes []string
		said := payment().Said(details(t, "["+c.element+"]")[0], func(of string, n *big.Rat) {
			text := "<nil>"
			if n != nil {
				text = n.RatString()
			}
			sizes = append(sizes, fmt.Sprint(of, " ", text))
		})
		if !slices.Equal(said, c.said) || !slices.Equal(sizes, c.sizes) {
			t.Errorf("%s: %q %q, want %q %q", name, said, sizes, c.said, c.sizes)
		}
	}
}
