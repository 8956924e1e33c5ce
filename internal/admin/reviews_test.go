package admin_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/review"
)

// refused opens a review of what was refused for its risk to an actor.
func (r *rig) refused(kind, actor string, change func(*review.Review)) review.Review {
	r.t.Helper()
	v := review.Review{
		ID: id.New(id.Review), Kind: kind, Actor: actor, Client: r.cli.ID, Action: policy.TokenRefresh, State: review.Open, Count: 1,
		Ref: "7F3A9C", Record: "rec_x", OpenedAt: r.time(), LastAt: r.time(),
		Seen: review.Evidence{
			Code: policy.CodeDenied, Score: 105, Band: policy.RiskExtreme, Reasons: []review.Reason{{Policy: "risk.extreme", Text: "Refused."}},
			Terms: []review.Term{{Signal: "new_network", Points: 15, Words: "New."}}, Network: "203.0.113.0/24",
		},
	}
	if change != nil {
		change(&v)
	}
	r.seed("", review.Opens{Review: v})
	return v
}

// TestReviews: an administrator reads what was refused, and resolves each in one of
// four ways, with the proof that each needs; nobody else, and not their own.
func TestReviews(t *testing.T) {
	r, l := boss(t)
	mira, lee := r.person("mira"), r.person("lee")
	theirs := r.login(mira, everything)
	first := r.refused(policy.KindPerson, mira.ID, nil)
	path := "/v1/reviews/" + first.ID
	got := r.want(l.do("GET", path, nil), 200, "")
	seen := got.body["seen"].(map[string]any)
	if got.body["name"] != "mira" || got.body["client"] != "countersign-cli" || got.body["can_allow"] != true || seen["band"] != "extreme" || seen["score"] != 105.0 || seen["terms"] == nil {
		t.Errorf("the review: %s", got.text)
	}
	nobody := r.login(lee, everything)
	for _, p := range []string{"/v1/reviews", path, "/v1/reviews/rvw_none"} {
		r.want(nobody.do("GET", p, nil), 403, "denied")
	}
	r.want(l.do("GET", "/v1/reviews/rvw_none", nil), 404, "review_not_found")
	r.want(l.do("POST", path+"/allow", map[string]any{"minutes": 30}), 400, "request_invalid")
	r.want(l.do("POST", path+"/allow", map[string]any{"reason": "x", "minutes": 1441}), 400, "request_invalid")
	r.pass(6 * time.Minute)
	l.token = l.mint(everything)
	r.want(l.do("POST", path+"/allow", map[string]any{"reason": "called her"}), 401, "insufficient_user_authentication")
	l = r.login(l.person, everything)
	done := r.want(l.do("POST", path+"/allow", map[string]any{"reason": "called her", "minutes": 30}), 200, "")
	if done.body["state"] != "allowed" || done.body["reason"] != "called her" || done.body["resolved_by"] != l.person.ID || done.body["can_allow"] != false ||
		done.body["until"] != r.time().Add(30*time.Minute).Format(time.RFC3339) {
		t.Errorf("allowed: %s", done.text)
	}
	l.logged("review.allowed", "Name of dana vouched for what was refused to Name of mira, until "+r.time().Add(30*time.Minute).Format("15:04 UTC on 2 January 2006")+": called her")
	r.want(l.do("POST", path+"/close", nil), 409, "review_over")

	second := r.refused(policy.KindPerson, mira.ID, nil)
	if list := r.want(l.do("GET", "/v1/reviews?state=open", nil), 200, "").items(); len(list) != 1 || list[0]["id"] != second.ID {
		t.Errorf("open: %v", list)
	}
	r.want(l.do("POST", "/v1/reviews/"+second.ID+"/refuse", map[string]any{"reason": "not hers"}), 200, "")
	l.logged("review.refused", "Name of dana said that what was refused to Name of mira was not them, so everything that was signed in ended: not hers")
	r.want(theirs.do("GET", "/v1/me", nil), 401, "invalid_token")
	if _, err := r.store.Person(t.Context(), mira.ID); err != nil {
		t.Fatal(err)
	}
	theirs = r.login(mira, everything) // she herself comes back
	r.want(theirs.do("GET", "/v1/me", nil), 200, "")

	third := r.refused(policy.KindPerson, mira.ID, nil)
	r.want(l.do("POST", "/v1/reviews/"+third.ID+"/suspend", map[string]any{"reason": "until we know"}), 200, "")
	l.logged("person.disabled", "Name of dana disabled the account of Name of mira: until we know")
	r.want(theirs.do("GET", "/v1/me", nil), 401, "invalid_token")

	// What was not refused for its risk cannot be vouched for.
	often := r.refused(policy.KindPerson, lee.ID, func(v *review.Review) { v.Seen = review.Evidence{Code: policy.CodeTooMany} })
	r.want(l.do("POST", "/v1/reviews/"+often.ID+"/allow", map[string]any{"reason": "x"}), 409, "review_not_by_risk")
	r.want(l.do("POST", "/v1/reviews/"+often.ID+"/close", nil), 200, "")
	l.logged("review.closed", "Name of dana closed the review of what was refused to Name of lee")

	// Of a service nothing ends by itself, and no person is disabled.
	robot := r.machine(lee)
	c, err := r.store.Client(t.Context(), robot.grant.ID)
	r.ok(err)
	svc := r.refused(policy.KindService, c.Service, nil)
	r.want(l.do("POST", "/v1/reviews/"+svc.ID+"/suspend", nil), 409, "review_no_person")
	if got := r.want(l.do("POST", "/v1/reviews/"+svc.ID+"/refuse", nil), 200, ""); got.body["name"] != "Robot" || got.body["state"] != "refused" {
		t.Errorf("of a service: %s", got.text)
	}
	if all := r.want(l.do("GET", "/v1/reviews?limit=2", nil), 200, ""); len(all.items()) != 2 || all.body["next"] == nil {
		t.Errorf("a page of them: %s", all.text)
	}
}

// TestOnesOwnReview: what is about an administrator is for another one, as long as
// there is one who can.
func TestOnesOwnReview(t *testing.T) {
	r, l := boss(t)
	other := r.person("sam", r.admins.ID)
	mine := r.refused(policy.KindPerson, l.person.ID, nil)
	for _, how := range []string{"close", "refuse", "suspend"} {
		if a := l.do("POST", "/v1/reviews/"+mine.ID+"/"+how, nil); a.StatusCode != http.StatusForbidden && a.code() != "self_disable" {
			t.Errorf("%s of one's own: %d %s", how, a.StatusCode, a.text)
		}
	}
	a := r.want(l.do("POST", "/v1/reviews/"+mine.ID+"/allow", map[string]any{"reason": "it was me"}), 403, "review_own")
	if !strings.Contains(string(a.text), "another administrator") {
		t.Errorf("%s", a.text)
	}
	c, err := r.store.Client(t.Context(), r.machine(l.person).grant.ID)
	r.ok(err)
	robot := r.refused(policy.KindService, c.Service, nil) // TestReviews has another's
	r.want(l.do("POST", "/v1/reviews/"+robot.ID+"/allow", map[string]any{"reason": "it was mine"}), 403, "review_own")
	r.seed("", lineage.Freeze{ID: other.ID, Why: "disabled"})
	for _, v := range []review.Review{mine, robot} {
		r.want(l.do("POST", "/v1/reviews/"+v.ID+"/allow", map[string]any{"reason": "it was me"}), 200, "")
	}
}

// TestExplain: a reference leads whoever it concerns, and administrators, to the
// reasons; nobody else.
func TestExplain(t *testing.T) {
	r, l := boss(t)
	mira, lee := r.login(r.person("mira"), everything), r.login(r.person("lee"), everything)
	a := r.want(mira.do("GET", "/v1/people", nil), 403, "denied")
	ref := a.Header.Get("Countersign-Ref")
	if ref == "" || a.body["ref"] != ref || strings.Contains(string(a.text), "admin.read") || strings.Contains(string(a.text), "two factors") {
		t.Errorf("the caller is told %s", a.text)
	}
	for _, who := range []*login{mira, l} {
		got := r.want(who.do("GET", "/v1/explanations/"+strings.ToLower(ref), nil), 200, "")
		item := got.items()[0]
		if len(got.items()) != 1 || item["reason"] != "deny" || item["code"] != "denied" || item["request_ref"] != ref || item["token_age"] == nil || item["device"] != "known" ||
			item["policies"].([]any)[0] != "admin.read" || !strings.Contains(item["why"].([]any)[0].(string), "administrator") {
			t.Errorf("explained to %s: %s", who.person.Username, got.text)
		}
	}
	r.want(lee.do("GET", "/v1/explanations/"+ref, nil), 404, "ref_unknown")
	r.want(l.do("GET", "/v1/explanations/000000", nil), 404, "ref_unknown")
	r.want(l.do("GET", "/v1/explanations/nonsense", nil), 400, "request_invalid")

	// What was asked for says what would have done.
	r.pass(20 * time.Minute)
	l.token = l.mint(everything)
	a = r.want(l.do("POST", "/v1/people/"+lee.person.ID+"/disable", nil), 401, "insufficient_user_authentication")
	got := r.want(l.do("GET", "/v1/explanations/"+a.Header.Get("Countersign-Ref"), nil), 200, "")
	if item := got.items()[0]; item["reason"] != "step_up" || item["needs"] != "a phishing-resistant sign-in from the last 15 minutes" || item["proved_ago"] != 1200.0 {
		t.Errorf("what was asked for: %s", got.text)
	}

	// What an older release wrote has no reference beside it, and is looked through; so it
	// is where what came later has one.
	r.exec(`DELETE FROM audit_ref`)
	r.want(l.do("GET", "/v1/explanations/"+ref, nil), 200, "")
	mira.token, lee.token = mira.mint(everything), lee.mint(everything)
	later := r.want(mira.do("GET", "/v1/people", nil), 403, "denied").Header.Get("Countersign-Ref")
	for _, who := range []*login{mira, l} {
		for _, x := range []string{ref, later} {
			if got := r.want(who.do("GET", "/v1/explanations/"+x, nil), 200, ""); len(got.items()) != 1 || got.items()[0]["request_ref"] != x {
				t.Errorf("%s explained to %s: %s", x, who.person.Username, got.text)
			}
		}
	}
	// A row beside the log leads to no record that does not name the reference itself.
	r.exec(`UPDATE audit_ref SET ref = '000000'`)
	r.want(l.do("GET", "/v1/explanations/000000", nil), 404, "ref_unknown")
	r.want(lee.do("GET", "/v1/explanations/"+ref, nil), 404, "ref_unknown")
}
