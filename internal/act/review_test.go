package act_test

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/profile"
	"github.com/countersign-dev/countersign/internal/review"
	"github.com/countersign-dev/countersign/internal/risk"
)

// home is where somebody always acts; away is where an attacker does.
var (
	home = act.Origin{Asked: true, Shown: true, Network: "198.51.100.0/24", Device: "dev_home"}
	away = act.Origin{Asked: true, Shown: true, Network: "203.0.113.0/24"}
)

// reads is an act of somebody on their own account, with a passkey shown so long ago.
func (r *rig) reads(p account.Person, from act.Origin, ago time.Duration) act.Intent {
	proof := r.proof(p.ID)
	proof.At = r.time().Add(-ago)
	return act.Intent{
		Action: policy.SelfRead, Kind: audit.TokenRefused, From: from, Proofs: []assurance.Proof{proof},
		Refs: act.Refs{Kind: policy.KindPerson, Actor: p.ID, Owner: p.ID},
	}
}

// watched makes a rig score risk and open reviews, of somebody of nine days' habits,
// whose network away from home tries others.
func (r *rig) watched() account.Person {
	r.t.Helper()
	p := r.person("dana")
	r.do.Risk, r.do.Reviews = &profile.Profiles{Store: r.store, Settings: risk.Default()}, review.Book{Store: r.store}
	for range 40 {
		r.pass(6 * time.Hour)
		_, err := r.do.Do(r.t.Context(), r.reads(p, home, 0))
		r.ok(err)
	}
	for i := range 10 {
		r.do.Risk.Miss("somebody"+strconv.Itoa(i), away.Network, r.time())
	}
	return p
}

func (r *rig) reviews(s review.State) []review.Review {
	r.t.Helper()
	list, err := r.store.Reviews(r.t.Context(), s, "", 100)
	r.ok(err)
	return list
}

// TestReviewOfARefusal: what looks like an attack is refused, and a review opened of
// it, once, with all that was seen; refused again, it counts. What an administrator
// says of it holds there, for a while, and never lowers it below a passkey.
func TestReviewOfARefusal(t *testing.T) {
	r := newRig(t)
	p := r.watched()
	ctx := t.Context()
	before := len(r.records())
	_, err := r.do.Do(ctx, r.reads(p, away, 0))
	r.code(err, problem.Denied, policy.CodeDenied)
	told := problem.From(err).Review
	all := r.records()
	if len(all) != before+2 || all[0].Kind != audit.ReviewOpened || !r.line(all[1]).Refused {
		t.Fatalf("%d records more, the last a %s", len(all)-before, all[0].Kind)
	}
	list := r.reviews(review.Open)
	if len(list) != 1 {
		t.Fatalf("%d are open", len(list))
	}
	v := list[0]
	said, err := json.Marshal(v.Seen)
	r.ok(err)
	for _, want := range []string{`"band":"extreme"`, `"policy":"risk.extreme"`, `"signal":"new_device","points":45`, `"network":"203.0.113.0/24"`, `"acr":"phr"`, `"methods":["passkey"]`} {
		if !strings.Contains(string(said), want) {
			t.Errorf("the review lacks %s: %s", want, said)
		}
	}
	if v.Actor != p.ID || v.Action != policy.SelfRead || v.Count != 1 || v.Record != all[1].ID || !v.ByRisk() {
		t.Errorf("%+v", v)
	}
	r.one(func() { _, err = r.do.Do(ctx, r.reads(p, away, 0)) })
	r.code(err, problem.Denied, policy.CodeDenied)
	if again := problem.From(err).Review; told != v.ID || again != v.ID {
		t.Errorf("who is refused is told %q and then %q, not %s", told, again, v.ID)
	}
	if list := r.reviews(""); len(list) != 1 || list[0].Count != 2 {
		t.Errorf("refused again: %+v", list)
	}

	// An administrator's word: from there, until then, with a passkey of now.
	r.seed(review.Resolve{ID: v.ID, State: review.Allowed, By: "usr_x", Note: "called", Until: r.time().Add(time.Hour)})
	_, err = r.do.Do(ctx, r.reads(p, away, 9*time.Hour))
	r.code(err, problem.StepUp, policy.CodeStepUp)
	if why := problem.From(err).Why; why[0].Policy != "risk.high" || !strings.Contains(why[len(why)-1].Text, v.ID) {
		t.Errorf("asks because of %+v", why)
	}
	elsewhere := away
	elsewhere.Network = "192.0.2.0/24"
	for i := range 10 {
		r.do.Risk.Miss("somebody"+strconv.Itoa(i), elsewhere.Network, r.time())
	}
	_, err = r.do.Do(ctx, r.reads(p, elsewhere, 0))
	r.code(err, problem.Denied, policy.CodeDenied)
	r.pass(time.Hour)
	for i := range 10 {
		r.do.Risk.Miss("somebody"+strconv.Itoa(i), away.Network, r.time())
	}
	_, err = r.do.Do(ctx, r.reads(p, away, 0))
	r.code(err, problem.Denied, policy.CodeDenied)

	// Of what nobody is to look at, and of whom nobody knows, none is opened.
	before = len(r.reviews(""))
	unknown := act.Intent{Action: policy.SessionOpen, Kind: audit.SigninRefused, Quiet: true, Refs: act.Refs{Kind: policy.KindAnonymous}}
	_, err = r.do.Do(ctx, unknown)
	r.code(err, problem.Denied, policy.CodeDenied)
	quiet := r.reads(p, away, 0)
	quiet.Quiet, quiet.Action = true, policy.SelfWrite
	_, err = r.do.Do(ctx, quiet)
	r.code(err, problem.Denied, policy.CodeDenied)
	if got := len(r.reviews("")); got != before {
		t.Errorf("%d reviews of strangers", got-before)
	}
}

// TestReviewsOfOneActorAreBounded: whoever tries everything fills the log of refusals,
// not the list of reviews.
func TestReviewsOfOneActorAreBounded(t *testing.T) {
	r := newRig(t)
	p := r.watched()
	for i := range review.MaxOpen + 4 {
		c := client.Client{ID: id.New(id.Client), ClientID: "app" + strconv.Itoa(i), Name: "App", CreatedAt: r.time()}
		r.seed(client.Create{Client: c})
		in := r.reads(p, away, 0)
		in.Refs.Client = c.ID
		_, err := r.do.Do(t.Context(), in)
		r.code(err, problem.Denied, policy.CodeDenied)
	}
	if got := len(r.reviews(review.Open)); got != review.MaxOpen {
		t.Errorf("%d are open", got)
	}
}

// TestReviewOfChallenges: the third challenge of a kind in five minutes is refused, and
// somebody looks at it; the record of each says what was asked for and why.
func TestReviewOfChallenges(t *testing.T) {
	r := newRig(t)
	p := r.person("dana")
	r.do.Reviews = review.Book{Store: r.store}
	c := act.Challenge{
		Person: p.ID, Session: id.New(id.Session), Class: "person.erase", Ref: "7F3A9C", Action: policy.PersonErase, From: away,
		Ask: assurance.Ask{Rung: assurance.Phishing, MaxAge: 5 * time.Minute}, Why: []problem.Reason{{Policy: "admin.erase", Text: "Erasing needs it."}},
	}
	for range 2 {
		r.ok(r.do.Challenge(t.Context(), r.store, c))
	}
	parts, err := audit.Open(t.Context(), r.records()[0].Row, r.keys)
	r.ok(err)
	for _, want := range []string{`"ask":"phr"`, `"max_age":300`, `"policies":["admin.erase"]`, `"why":["Erasing needs it."]`, `"action":"person.erase"`} {
		if said := string(parts[1].JSON); !strings.Contains(said, want) {
			t.Errorf("the record lacks %s: %s", want, said)
		}
	}
	r.code(r.do.Challenge(t.Context(), r.store, c), problem.Denied, policy.CodeTooMany)
	list := r.reviews(review.Open)
	if len(list) != 1 || list[0].Seen.Code != policy.CodeTooMany || list[0].Action != policy.PersonErase || list[0].ByRisk() {
		t.Errorf("reviews: %+v", list)
	}
}

// TestAssuranceIsRecorded: whatever critical act somebody does, its record has what
// they proved and when, their device, the token they came with, and which policy let
// them; and if it is refused, the same.
func TestAssuranceIsRecorded(t *testing.T) {
	r := newRig(t)
	p := r.person("dana", r.admins.ID)
	critical := 0
	for _, k := range audit.Kinds() {
		if !k.Critical() && k.Class() != audit.Authority {
			continue
		}
		critical++
		for _, fails := range []bool{false, true} {
			in := act.Intent{
				Action: policy.PolicyPublish, Kind: k, From: home, Proofs: []assurance.Proof{r.proof(p.ID)},
				Token: policy.Token{Known: true, Age: 7 * time.Minute, Bound: true},
				Refs:  act.Refs{Kind: policy.KindPerson, Actor: p.ID},
			}
			in.Changes = func(*act.Facts, policy.Decision) (act.Effect, error) {
				if fails {
					return act.Effect{}, problem.New(problem.Conflict, "no", "No.")
				}
				return act.Effect{Parts: []audit.Part{{Person: p.ID, Body: map[string]any{"x": 1}}}}, nil
			}
			in.Proofs[0].At = r.time().Add(-2 * time.Minute)
			l := r.one(func() {
				if _, err := r.do.Do(t.Context(), in); (err != nil) != fails {
					t.Fatalf("%s: %v", k, err)
				}
			})
			want := audit.Shown{Device: "known", TokenAge: 7 * time.Minute, HasToken: true, ProvedAgo: 2 * time.Minute}
			if l.Assurance != "phr" || l.Proofs != "passkey" || l.Shown != want || len(l.Reasons) == 0 || l.Reasons[0] != "policy.publish" || l.Refused != fails {
				t.Errorf("%s: %+v", k, l)
			}
		}
	}
	if critical < 40 {
		t.Errorf("only %d kinds are privileged", critical)
	}
}
