package oauth

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/problem"
)

// speechless is a store whose next commit is done and not answered.
type speechless struct {
	act.Store
	next    atomic.Bool
	commits atomic.Int32
}

func (s *speechless) Commit(ctx context.Context, w act.Write) error {
	s.commits.Add(1)
	err := s.Store.Commit(ctx, w)
	if err == nil && s.next.CompareAndSwap(true, false) {
		return problem.New(problem.Unavailable, "storage", "The database did not answer.")
	}
	return err
}

// A request of which nobody knows whether it was done is not tried again: what it spent
// would be taken for spent by somebody else, and said to be bad.
func TestDoubtIsNotJudgedAgain(t *testing.T) {
	t.Parallel()
	r := onSQLite(t)
	r.granted(r.web) // its rows are remembered, which is why requests are judged again at all
	st := &speechless{Store: r.nodes[0].server.Do.Store}
	r.nodes[0].server.Do.Store = st
	for name, f := range map[string]func() answer{
		"a code": func() answer {
			code := r.redemption(r.web, r.code(r.web))
			st.commits.Store(0)
			st.next.Store(true)
			return r.post("/oauth/token", code, r.auth(r.web))
		},
		"a proof": func() answer {
			code, key := r.redemption(r.web, r.code(r.web)), r.prover()
			key.post("/oauth/token", form("grant_type", "authorization_code"), r.auth(r.web)) // for a nonce
			st.commits.Store(0)
			st.next.Store(true)
			return key.post("/oauth/token", code, r.auth(r.web))
		},
	} {
		a := f()
		if a.status != 503 || a.code() != "temporarily_unavailable" {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
		if n := st.commits.Load(); n != 1 {
			t.Errorf("%s: %d commits", name, n)
		}
	}
	if r.recorded(audit.TokenRefused) {
		t.Error("something is said to be bad")
	}
}
