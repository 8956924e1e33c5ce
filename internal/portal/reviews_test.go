package portal_test

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/review"
)

// took gives another browser the cookie of a session alone.
func (b *browser) took() *browser {
	b.t.Helper()
	site, err := url.Parse(b.rig.http.URL)
	check(b.t, err)
	thief := b.rig.browser()
	thief.auth, thief.handle = b.auth, b.handle
	for _, c := range b.client.Jar.Cookies(site) {
		if strings.HasSuffix(c.Name, "cs_session") {
			thief.client.Jar.SetCookies(site, []*http.Cookie{c})
		}
	}
	return thief
}

// TestReviewPages walks the top of the ladder on the pages: what looks like an attack
// is refused, with its reasons for the person who is signed in; another administrator
// reads what was seen and says what it was; and that is what happens.
func TestReviewPages(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	from := r.scoring()
	r.do.Reviews = review.Book{Store: r.store}
	b := r.browser()
	b.setUp()
	sam := b.second("sam")
	for range 40 {
		r.clock.move(6 * time.Hour)
		b.signIn(0).to(t)
	}
	attacks := func(network string) {
		for i := range 10 {
			r.do.Risk.Miss("somebody"+strconv.Itoa(i), network, r.clock.now())
		}
	}
	r.clock.move(20 * time.Minute)
	sam.signIn(0).to(t)
	away := b.took()
	from.Store("203.0.113.9")
	attacks("203.0.113.0/24")
	page := away.get("/admin/people")
	page.shows(t, 403, "Not allowed – You can't do this")
	for _, words := range []string{"risk.extreme", "This looks like an attack and is refused.", "The network 203.0.113.0/24 is new for this account.", "accounts were tried from this network"} {
		if !strings.Contains(page.body, words) {
			t.Errorf("the page does not say: %s", words)
		}
	}
	r.browser().get("/admin/people").sent(t, "/signin") // nobody signed in is told nothing of it
	if kinds := r.kinds(); !slices.Contains(kinds, audit.ReviewOpened) || !slices.Contains(kinds, audit.PageRefused) {
		t.Errorf("the log has %v", kinds)
	}

	// The other administrator, at home.
	from.Store("198.51.100.7")
	list := sam.get("/admin/reviews")
	list.shows(t, 200, "Reviews")
	open, err := r.store.Reviews(t.Context(), review.Open, "", 10)
	check(t, err)
	if len(open) != 1 || open[0].Action != policy.PersonRead || !strings.Contains(list.body, "Looking at people") {
		t.Fatalf("open: %+v", open)
	}
	at := func(v review.Review) string { return "/admin/reviews/show?id=" + v.ID }
	shown := sam.get(at(open[0]))
	shown.shows(t, 200, "Review of Dana Example")
	for _, words := range []string{"risk.extreme", "new_network", "203.0.113.0/24", "It was them", "sign them out everywhere", "disable the account", "Dana Example signed in with passkey"} {
		if !strings.Contains(shown.body, words) {
			t.Errorf("the review does not say: %s", words)
		}
	}
	// Dana may read it, and make nothing of it.
	if own := b.get(at(open[0])); !strings.Contains(own.body, "This is about you, or a service of yours: another administrator has to look at it.") || strings.Contains(own.body, "/admin/reviews/close") {
		t.Error("it offers Dana to judge herself")
	}
	b.stepUp(0, "/account")
	b.post("/admin/reviews/close", "id", open[0].ID).shows(t, 403, "Not allowed – You can't do this")
	r.clock.move(6 * time.Minute)
	sam.post("/admin/reviews/allow", "id", open[0].ID, "reason", "x").sent(t, "/step-up?next=") // vouching needs five
	sam.stepUp(0, "/account")
	again := sam.post("/admin/reviews/allow", "id", open[0].ID, "hours", "4")
	again.shows(t, 200, "Check your answer – Review of Dana Example")
	sam.post("/admin/reviews/allow", "id", open[0].ID, "hours", "4", "reason", "called her").sent(t, "/admin/reviews?done=review-allowed")
	sam.post("/admin/reviews/close", "id", open[0].ID).shows(t, 409, "Not done – Something changed in the meantime")

	// It is asked for a passkey there now, and works with one.
	r.clock.move(16 * time.Minute) // what Dana proved at home is too old
	from.Store("203.0.113.9")
	away.get("/admin/people").sent(t, "/step-up?next=%2Fadmin%2Fpeople")
	away.stepUp(0, "/admin/people")
	away.get("/admin/people").shows(t, 200, "People")

	// Elsewhere it was somebody else: what was signed in ends.
	from.Store("192.0.2.9")
	attacks("192.0.2.0/24")
	thief := b.took()
	thief.get("/admin/audit").shows(t, 403, "Not allowed – You can't do this")
	from.Store("198.51.100.7")
	open, err = r.store.Reviews(t.Context(), review.Open, "", 10)
	check(t, err)
	sam.stepUp(0, "/account")
	sam.post("/admin/reviews/end", "id", open[0].ID, "reason", "not hers").sent(t, "/admin/reviews?done=review-refused")
	from.Store("192.0.2.9")
	thief.get("/admin/audit").sent(t, "/signin")
	from.Store("198.51.100.7")
	b.get("/admin/audit").sent(t, "/signin")
	b.signIn(0).to(t)
	b.get("/admin/audit").shows(t, 200, "Audit log")
	sam.get("/admin/reviews").shows(t, 200, "Nothing to look at – Reviews")
	sam.get("/admin/reviews?state=all").shows(t, 200, "Reviews")
}
