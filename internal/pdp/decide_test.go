package pdp

import (
	"context"
	"errors"
	"testing"

	"github.com/countersign-dev/countersign/internal/problem"
)

// TestTokenOfARequest: a token is verified once in a request, whether or not it counts,
// and in the next again.
func TestTokenOfARequest(t *testing.T) {
	asked := map[string]int{}
	s := New(Config{Holder: func(_ context.Context, token string) (Holder, error) {
		asked[token]++
		if token == "bad" {
			return Holder{}, problem.New(problem.Unauthenticated, "token_ended", "It was ended.")
		}
		return Holder{Actor: "actor of " + token}, nil
	}})
	for n := range 2 {
		r := &round{Server: s, holders: map[string]shownBy{}}
		for range 3 {
			for _, token := range []string{"a", "b"} {
				if h, err := r.holder(t.Context(), token); err != nil || h.Actor != "actor of "+token {
					t.Errorf("%s: %+v, %v", token, h, err)
				}
			}
			if _, err := r.holder(t.Context(), "bad"); !errors.Is(err, errHolder) {
				t.Error(err)
			}
		}
		for token, times := range asked {
			if times != n+1 {
				t.Errorf("request %d: %s was verified %d times", n, token, times)
			}
		}
	}
}
