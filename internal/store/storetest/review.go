package storetest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/group"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/recovery"
	"github.com/countersign-dev/countersign/internal/review"
	"github.com/countersign-dev/countersign/internal/store"
)

// reviewed is a review of what was refused to an actor.
func (r *rig) reviewed(actor, client string, a policy.Action) review.Review {
	return review.Review{
		ID: id.New(id.Review), Kind: policy.KindPerson, Actor: actor, Client: client, Action: a, State: review.Open, Count: 1,
		Ref: "7F3A9C", Record: "rec_x", OpenedAt: r.at, LastAt: r.at,
		Seen: review.Evidence{
			Code: policy.CodeDenied, Score: 105, Band: policy.RiskExtreme, Reasons: []review.Reason{{Policy: "risk.extreme", Text: "Refused."}},
			Terms: []review.Term{{Signal: "new_network", Points: 15, Words: "Näw."}}, Network: "203.0.113.0/24", Methods: []string{"passkey"},
		},
	}
}

// testReviews: one of the like is open at a time, and so many of one actor; each is
// resolved once; they go with the person, and when they are over for long.
func testReviews(t *testing.T, db Database) {
	r := open(t, db)
	defer r.s.Close()
	dana, sam := r.person("dana"), r.person("sam")
	first := r.reviewed(dana.ID, "", policy.TokenRefresh)
	r.do(review.Opens{Review: first})
	same(t, must(r.s.Review(r.ctx, first.ID))(t), first)
	refused(t, r.try(review.Opens{Review: r.reviewed(dana.ID, "", policy.TokenRefresh)}), problem.Conflict, "review_open")
	r.do(review.Again{Actor: dana.ID, Action: policy.TokenRefresh})
	r.do(review.Again{Actor: dana.ID, Action: policy.Authorize}) // of none: nothing happens
	if got := must(r.s.Review(r.ctx, first.ID))(t); got.Count != 2 || got.LastAt.Before(first.LastAt) {
		t.Errorf("refused again: %+v", got)
	}
	for i := 1; i < review.MaxOpen; i++ {
		r.do(review.Opens{Review: r.reviewed(dana.ID, "cli_"+strconv.Itoa(i), policy.TokenRefresh)})
	}
	refused(t, r.try(review.Opens{Review: r.reviewed(dana.ID, "cli_more", policy.TokenRefresh)}), problem.Conflict, "review_full")
	theirs := r.reviewed(sam.ID, "", policy.TokenRefresh)
	r.do(review.Opens{Review: theirs})

	page := must(r.s.Reviews(r.ctx, review.Open, "", 2))(t)
	if len(page) != 2 || page[0].ID != theirs.ID {
		t.Errorf("the newest: %+v", page)
	}
	if rest := must(r.s.Reviews(r.ctx, "", page[1].ID, 100))(t); len(rest) != review.MaxOpen-1 {
		t.Errorf("%d before the second", len(rest))
	}
	until := r.at.Add(time.Hour)
	r.do(review.Resolve{ID: first.ID, State: review.Allowed, By: sam.ID, Note: "called them", Until: until})
	got := must(r.s.Review(r.ctx, first.ID))(t)
	if got.State != review.Allowed || got.By != sam.ID || got.Note != "called them" || got.Until != until || got.OverAt.IsZero() {
		t.Errorf("resolved: %+v", got)
	}
	refused(t, r.try(review.Resolve{ID: first.ID, State: review.Closed, By: sam.ID}), problem.Conflict, "review_over")
	r.do(review.Resolve{ID: theirs.ID, State: review.Refused, By: dana.ID})
	if list := must(r.s.ReviewsOf(r.ctx, dana.ID, r.at))(t); len(list) != review.MaxOpen {
		t.Errorf("%d of dana, open or vouched for", len(list))
	}
	if list := must(r.s.ReviewsOf(r.ctx, dana.ID, until))(t); len(list) != review.MaxOpen-1 {
		t.Errorf("%d of dana once the word is over", len(list))
	}
	if list := must(r.s.ReviewsOf(r.ctx, sam.ID, r.at))(t); len(list) != 0 {
		t.Errorf("refused, and listed: %+v", list)
	}
	r.do(review.Opens{Review: r.reviewed(dana.ID, "", policy.TokenRefresh)}) // the earlier is over
	_, err := r.s.Review(r.ctx, "rvw_none")
	refused(t, err, problem.NotFound, "review_not_found")

	// Another issuer, or a restore: nobody's word counts any more.
	r.do(store.EndIssued{Why: "restored"})
	if got := must(r.s.Review(r.ctx, first.ID))(t); got.State != review.Allowed || got.Until.After(time.Now()) {
		t.Errorf("after everything issued ended: %+v", got)
	}
	r.do(account.Erase{ID: dana.ID})
	if list := must(r.s.Reviews(r.ctx, "", "", 100))(t); len(list) != 1 || list[0].ID != theirs.ID {
		t.Errorf("after dana was erased: %+v", list)
	}
	if err := r.s.DeleteExpired(r.ctx, time.Now().Add(review.Life+time.Hour)); err != nil {
		t.Fatal(err)
	}
	if list := must(r.s.Reviews(r.ctx, "", "", 100))(t); len(list) != 0 {
		t.Errorf("over for long: %+v", list)
	}

	svc := client.Service{ID: id.New(id.Service), Subject: id.Random(id.Service), Name: "Robot", Owner: sam.ID, Purpose: "tests", ReviewBy: time.Now().Add(time.Hour)}
	r.do(client.Create{Client: client.Client{ID: id.New(id.Client), ClientID: "robot", Name: "Robot", Service: svc.ID}, NewService: &svc})
	for of, want := range map[string]string{svc.ID: sam.ID, "svc_none": ""} {
		if got := must(r.s.ServiceOwner(r.ctx, of))(t); got != want {
			t.Errorf("%s is %q's", of, got)
		}
	}

	admins := r.group(group.Administrators)
	kim, lee := r.person("kim"), r.person("lee")
	r.do(group.Add{Group: admins.ID, Person: kim.ID})
	others := func(want bool) {
		t.Helper()
		if got := must(r.s.OtherAdministrators(r.ctx, kim.ID))(t); got != want {
			t.Errorf("others administer: %v, want %v", got, want)
		}
	}
	others(false)
	r.do(group.Add{Group: admins.ID, Person: lee.ID})
	others(true)
	r.do(lineage.Freeze{ID: lee.ID, Why: "disabled"})
	others(false)
}

// testWordsEnd: what an administrator said counts no longer once it was not they in
// another thing, they are disabled or recovered, or whoever said it is disabled.
func testWordsEnd(t *testing.T, db Database) {
	r := open(t, db)
	defer r.s.Close()
	n := 0
	for name, end := range map[string]func(actor, by string) act.Change{
		"not them elsewhere": func(actor, _ string) act.Change {
			other := r.reviewed(actor, "", policy.TokenExchange)
			r.do(review.Opens{Review: other})
			return review.Resolve{ID: other.ID, State: review.Refused, By: "usr_x"}
		},
		"disabled":            func(actor, _ string) act.Change { return lineage.Freeze{ID: actor, Why: "disabled"} },
		"recovered":           func(actor, _ string) act.Change { return recovery.EndAll{Person: actor, Why: "recovered"} },
		"who said it is gone": func(_, by string) act.Change { return lineage.Freeze{ID: by, Why: "disabled"} },
	} {
		n++
		dana, kim, lee := r.person(fmt.Sprint("dana", n)), r.person(fmt.Sprint("kim", n)), r.person(fmt.Sprint("lee", n))
		for _, actor := range []string{dana.ID, lee.ID} {
			v := r.reviewed(actor, "", policy.TokenRefresh)
			by := kim.ID
			if actor == lee.ID {
				by = "usr_y"
			}
			r.do(review.Opens{Review: v})
			r.do(review.Resolve{ID: v.ID, State: review.Allowed, By: by, Until: r.at.Add(time.Hour)})
		}
		if n := len(must(r.s.ReviewsOf(r.ctx, dana.ID, r.at))(t)); n != 1 {
			t.Fatalf("%s: %d words", name, n)
		}
		r.do(end(dana.ID, kim.ID))
		if list := must(r.s.ReviewsOf(r.ctx, dana.ID, time.Now().Add(time.Second)))(t); len(list) != 0 {
			t.Errorf("%s: %+v", name, list)
		}
		if n := len(must(r.s.ReviewsOf(r.ctx, lee.ID, time.Now().Add(time.Second)))(t)); n != 1 {
			t.Errorf("%s: of another %d words", name, n)
		}
	}
}

// testReviewRaces: of many who open or resolve at once, one does, and no actor gets
// more than there may be.
func testReviewRaces(t *testing.T, db Database) {
	rs := nodes(t, db)
	r := rs[0]
	dana := r.person("dana")
	commit := func(i int, kind audit.Kind, c act.Change) error {
		for {
			w := rs[i%len(rs)].write(kind, "", nil, c)
			if err := rs[i%len(rs)].s.Commit(context.Background(), w); !errors.Is(err, act.ErrStale) {
				return err
			}
		}
	}
	code := func(want string) func(error) bool { return func(err error) bool { return problem.CodeOf(err) == want } }
	oneWinner(t, race(16, func(i int) error {
		return commit(i, audit.ReviewOpened, review.Opens{Review: r.reviewed(dana.ID, "", policy.TokenRefresh)})
	}), code("review_open"))
	opened := must(r.s.Reviews(r.ctx, review.Open, "", 10))(t)[0]
	oneWinner(t, race(16, func(i int) error {
		return commit(i, audit.ReviewClosed, review.Resolve{ID: opened.ID, State: []review.State{review.Closed, review.Refused}[i%2]})
	}), code("review_over"))
	sam := r.person("sam")
	won := 0
	for _, err := range race(2*review.MaxOpen, func(i int) error {
		return commit(i, audit.ReviewOpened, review.Opens{Review: r.reviewed(sam.ID, "cli_"+strconv.Itoa(i), policy.TokenRefresh)})
	}) {
		switch {
		case err == nil:
			won++
		case problem.CodeOf(err) != "review_full":
			t.Errorf("%v", err)
		}
	}
	if won != review.MaxOpen {
		t.Errorf("%d of one actor are open", won)
	}
}
