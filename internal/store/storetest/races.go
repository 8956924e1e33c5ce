package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/factor"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/group"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/problem"
)

// nodes opens the database as often as it may be: the takers of a race are
// spread over them.
func nodes(t *testing.T, db Database) []*rig {
	out := []*rig{open(t, db)}
	if db.Nodes {
		out = append(out, open(t, db))
	}
	t.Cleanup(func() {
		for _, r := range out {
			r.s.Close()
		}
	})
	return out
}

// race lets n takers commit at once and gives their errors.
func race(n int, take func(i int) error) []error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	gate := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-gate
			errs[i] = take(i)
		})
	}
	close(gate)
	wg.Wait()
	return errs
}

// one counts the winners and checks that every other error is lost.
func oneWinner(t *testing.T, errs []error, lost func(error) bool) {
	t.Helper()
	won := 0
	for _, err := range errs {
		switch {
		case err == nil:
			won++
		case !lost(err):
			t.Errorf("a loser got %v", err)
		}
	}
	if won != 1 {
		t.Errorf("%d winners of %d", won, len(errs))
	}
}

func testRaces(t *testing.T, db Database) {
	rs := nodes(t, db)
	r := rs[0]
	spent := func(err error) bool { _, ok := act.Spent(err); return ok }
	for _, n := range []int{32, 200} {
		for p := once.Code; p <= once.Assertion; p++ {
			mark := p == once.DPoP || p == once.Assertion
			if n == 200 && p != once.Code && p != once.DPoP {
				continue
			}
			key := once.KeyOf(p, fmt.Sprint(n))
			if !mark {
				r.do(once.Put{Value: once.Value{Purpose: p, Key: key, MadeAt: r.at, ExpiresAt: r.at.Add(time.Hour)}})
			}
			writes := make([]act.Write, n)
			for i := range writes {
				writes[i] = rs[i%len(rs)].write(audit.GrantOpened, "", nil)
				writes[i].Spend = []once.Spend{{Purpose: p, Key: key, Ref: fmt.Sprint(i), Mark: mark, Until: r.at.Add(time.Hour)}}
			}
			oneWinner(t, race(n, func(i int) error { return rs[i%len(rs)].s.Commit(context.Background(), writes[i]) }), spent)
		}
	}
	p := r.person("dana")
	conflict := func(err error) bool { return problem.CodeOf(err) == "setup_done" }
	oneWinner(t, race(32, func(i int) error {
		rr := rs[i%len(rs)]
		return rr.s.Commit(context.Background(), rr.write(audit.SetupCompleted, "", nil, account.SetUp{Person: p.ID, At: r.at}))
	}), conflict)

	var keys []factor.Passkey
	for range 8 {
		keys = append(keys, r.passkey(p.ID))
	}
	errs := race(len(keys), func(i int) error {
		rr := rs[i%len(rs)]
		for {
			err := rr.s.Commit(context.Background(), rr.write(audit.FactorRemoved, "", nil, factor.Remove{ID: keys[i].ID, Person: p.ID}))
			if !errors.Is(err, act.ErrStale) {
				return err
			}
		}
	})
	kept := 0
	for _, err := range errs {
		if problem.CodeOf(err) == "last_factor" {
			kept++
		} else if err != nil {
			t.Errorf("removing a factor: %v", err)
		}
	}
	if left := must(r.s.PasskeysOf(r.ctx, p.ID))(t); kept != 1 || len(left) != 1 {
		t.Errorf("%d removals refused, %d factors left", kept, len(left))
	}
}

func testRefreshRace(t *testing.T, db Database) {
	rs := nodes(t, db)
	r := rs[0]
	p, c := r.person("dana"), r.client("app")
	k := r.passkey(p.ID)
	v, _ := r.session(p.ID, k.ID)
	for _, n := range []int{32, 200} {
		_, f := r.grant(p.ID, c.ID, v.ID, k.ID)
		next := hash()
		var rotated, replayed atomic.Int32
		errs := race(n, func(i int) error {
			rr := rs[i%len(rs)]
			var err error
			for range 3 { // as act.Do does
				fam, e := rr.s.Family(context.Background(), f.ID)
				if e != nil {
					return e
				}
				var change act.Change = grant.Rotate{ID: f.ID, Presented: f.CurHash, Next: next, Salt: random(32)}
				count := &rotated
				if fam.Gen == 1 {
					change, count = grant.Replay{ID: f.ID, Gen: 1}, &replayed
				}
				if err = rr.s.Commit(context.Background(), rr.write(audit.TokenRefreshed, f.ID, []string{p.ID}, change)); err == nil {
					count.Add(1)
					return nil
				}
				if !errors.Is(err, act.ErrStale) {
					return err
				}
			}
			return err
		})
		for _, err := range errs {
			if err != nil {
				t.Errorf("%d parallel refreshes: %v", n, err)
			}
		}
		fam := must(r.s.Family(r.ctx, f.ID))(t)
		if rotated.Load() != 1 || fam.Gen != 1 || fam.CurHash != next || fam.Replays != n-1 || int(replayed.Load()) != n-1 {
			t.Errorf("%d parallel refreshes: %d rotations, generation %d, %d replays", n, rotated.Load(), fam.Gen, fam.Replays)
		}
	}
}

func testLastAdministratorRace(t *testing.T, db Database) {
	rs := nodes(t, db)
	r := rs[0]
	admins := r.group(group.Administrators)
	var people []account.Person
	for i := range 6 {
		people = append(people, r.person(fmt.Sprintf("admin%d", i), admins.ID))
	}
	errs := race(len(people), func(i int) error {
		rr := rs[i%len(rs)]
		for {
			err := rr.s.Commit(context.Background(), rr.write(audit.AdminWithdrawn, "", nil, group.Remove{Group: admins.ID, Person: people[i].ID}))
			if !errors.Is(err, act.ErrStale) {
				return err
			}
		}
	})
	refused := 0
	for _, err := range errs {
		if problem.CodeOf(err) == "last_administrator" {
			refused++
		} else if err != nil {
			t.Errorf("removing an administrator: %v", err)
		}
	}
	if left := must(r.s.Members(r.ctx, admins.ID, "", 10))(t); refused != 1 || len(left) != 1 {
		t.Errorf("%d removals refused, %d administrators left", refused, len(left))
	}
}
