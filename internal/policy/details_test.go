package policy

import (
	"math/big"
	"slices"
	"testing"
)

func TestSizes(t *testing.T) {
	for text, want := range map[string][]string{
		"0": nil, "-5": nil, "0.99": nil, "1": {"x>=1"}, "2.4": {"x>=1", "x>=2"}, "2.5": {"x>=1", "x>=2", "x>=2.5"},
		"19.99": {"x>=1", "x>=2", "x>=2.5", "x>=5", "x>=10"},
	} {
		n, _ := new(big.Rat).SetString(text)
		d := Details{Sizes: []Size{SizeOf("x", n)}}
		if got := d.texts(); !slices.Equal(got, want) {
			t.Errorf("%s says %q, want %q", text, got, want)
		}
	}
	// What is no number, or larger than all steps, reaches them all: who forbids what is
	// large forbids it.
	for _, n := range []*big.Rat{nil, big.NewRat(1e13, 1)} {
		d := Details{Sizes: []Size{SizeOf("x", n)}}
		if got := d.texts(); len(got) != len(steps) || got[len(got)-1] != "x>=500000000000" || !slices.Contains(got, "x>=1000") {
			t.Errorf("%v says %q", n, got)
		}
	}
	for _, wrong := range []int{-1, 1000} { // as a record could hold it
		d := Details{Sizes: []Size{{"x", wrong}}}
		d.texts()
	}
}
