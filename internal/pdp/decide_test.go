package pdp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
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

// TestTopOnce: what stands at the top of a request of many questions is read once, however
// many there are and however much it is; and a question that says a part says all of it.
func TestTopOnce(t *testing.T) {
	var members []string
	for i := range 5000 {
		members = append(members, fmt.Sprintf(`"m%d":%d`, i, i))
	}
	o, err := parse([]byte(`{"subject":{"type":"person","id":"s","properties":{` + strings.Join(members, ",") + `}},"action":{"name":"look"},"resource":{"type":"Cluster","id":"c","properties":{"owner":"s",` + strings.Join(members, ",") + `}}}`))
	if err != nil {
		t.Fatal(err)
	}
	read := func(questions int) float64 {
		return testing.AllocsPerRun(1, func() {
			top := once(o)
			for range questions {
				if q, err := one(top, json.RawMessage(`{}`)); err != nil || q.owner != "s" || len(q.said) != 5001 {
					t.Fatalf("%v, %d members", err, len(q.said))
				}
			}
		})
	}
	if of1, of100 := read(1), read(100); of100 > 2*of1 {
		t.Errorf("%v allocations for a question, %v for a hundred", of1, of100)
	}
	q, err := one(once(o), json.RawMessage(`{"resource":{"type":"Payment","id":"p"}}`))
	if err != nil || q.owner != "" || q.said != nil || q.kind != "Payment" || q.action != "look" {
		t.Errorf("%+v, %v", q, err)
	}
	for _, bad := range []string{`[]`, `null`, `{"subject":null}`, `{"action":{"name":"x","properties":[]}}`, `{"resource":{"type":"` + strings.Repeat("x", 4000) + `","id":"p"}}`} {
		if q, err := one(once(o), json.RawMessage(bad)); problem.CodeOf(err) != "invalid_request" {
			t.Errorf("%.60s: %+v, %v", bad, q, err)
		}
	}
}
