package admin_test

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/profile"
	"github.com/countersign-dev/countersign/internal/review"
	"github.com/countersign-dev/countersign/internal/risk"
	"github.com/countersign-dev/countersign/internal/store"
)

// Where requests come from.
const (
	atHome = "198.51.100.7"
	abroad = "203.0.113.9"
)

// scored has the API's decisions scored; networks of 198 are in one country, others in
// another.
func (r *rig) scored() *profile.Profiles {
	p := &profile.Profiles{Store: r.store, Settings: risk.Default(), Place: func(n netip.Prefix) risk.Place {
		if strings.HasPrefix(n.String(), "198.") {
			return risk.Place{Country: "NO"}
		}
		return risk.Place{Country: "BR"}
	}}
	r.do.Risk, r.do.Reviews = p, review.Book{Store: r.store}
	r.move(atHome)
	return p
}

func (r *rig) move(to string) { r.from.Store(netip.MustParseAddr(to)) }

// accustomed gives an actor ten days of the same habits at home, with the device that
// people have.
func (r *rig) accustomed(actor, device string, things ...policy.Action) {
	r.t.Helper()
	var h risk.History
	e := risk.Event{Network: grant.NetworkOf(netip.MustParseAddr(atHome)), Place: risk.Place{Country: "NO"}, Device: device}
	for _, x := range things {
		e.Things = append(e.Things, string(x))
	}
	for i := range 240 {
		e.At = r.time().Add(time.Duration(i-240) * time.Hour)
		h.Learn(e, true)
	}
	b, err := h.MarshalBinary()
	r.ok(err)
	r.seed("", profile.Keep{Actor: actor, State: b})
}

// reported says of a person what an EDR agent would.
func (r *rig) reported(p account.Person, points int) {
	r.seed("", profile.Told{Report: profile.Report{
		ID: fmt.Sprint("sig_", points), Kind: "unusual_behaviour", About: risk.AboutPerson, Thing: p.ID, Person: p.ID,
		Points: points, Source: fmt.Sprint("edr", points), Name: "EDR", At: r.time(), Until: r.time().Add(time.Hour),
	}})
	r.pass(5 * time.Second) // as long as it takes to be heard
}

// again is a token of the same grant, which time has not ended.
func (l *login) again() *login {
	l.token = l.mint(everything)
	return l
}

// TestLadder: a call is scored by where its token is used and by all that it hangs on.
// At low risk it is answered; at medium and high with the challenge that the band asks
// for, and answered with a proof of that kind; at extreme it is refused with the review
// that an administrator sees, once one is open and each time after.
func TestLadder(t *testing.T) {
	r := newRig(t)
	r.scored()
	dana, sam := r.person("dana", r.admins.ID), r.person("sam", r.admins.ID)
	r.accustomed(dana.ID, "laptop", policy.PersonRead)
	l := r.login(dana, everything)
	r.pass(20 * time.Minute)
	read := func(l *login) answer { t.Helper(); return l.again().do("GET", "/v1/people", nil) }
	asks := func(acr, age string) {
		t.Helper()
		a := r.want(read(l), 401, policy.CodeStepUp)
		if h := a.Header.Get("WWW-Authenticate"); !strings.Contains(h, `acr_values="`+acr) || !strings.Contains(h, `max_age="`+age+`"`) || strings.Contains(h, "risk") {
			t.Errorf("it asks %s", h)
		}
	}
	r.want(read(l), 200, "")
	r.move(abroad)
	asks("urn:countersign:acr:multi phr phrh", "900")
	r.reported(dana, 25)
	asks("phr phrh", "900")
	fresh := r.login(dana, everything) // it began abroad, and nothing was proved at /v1 there
	r.want(read(fresh), 200, "")
	r.reported(dana, 35)
	for range 2 {
		a := r.want(read(fresh), 403, policy.CodeDenied)
		list, err := r.store.ReviewsOf(t.Context(), dana.ID, r.time())
		r.ok(err)
		if len(list) != 1 || a.body["review"] != list[0].ID || strings.Contains(string(a.text), "network") {
			t.Fatalf("%s with the reviews %+v", a.text, list)
		}
	}
	r.move(atHome)
	boss := r.login(sam, everything)
	list, err := r.store.ReviewsOf(t.Context(), dana.ID, r.time())
	r.ok(err)
	seen := r.want(boss.do("GET", "/v1/reviews/"+list[0].ID, nil), 200, "")
	for _, words := range []string{`"band":"extreme"`, `"score":100`, `"signal":"new_country"`, `"network":"203.0.113.0/24"`, `"count":2`, "says EDR."} {
		if !strings.Contains(string(seen.text), words) {
			t.Errorf("the review lacks %s: %s", words, seen.text)
		}
	}
	r.want(boss.do("POST", "/v1/reviews/"+list[0].ID+"/allow", map[string]any{"minutes": 60, "reason": "called her"}), 200, "")
	r.move(abroad)
	r.want(read(fresh), 200, "")
	asks("phr phrh", "900")
}

// TestChangesAreScored: what a change is decided on is scored as what its caller was
// judged on first; and the record has what made it unusual.
func TestChangesAreScored(t *testing.T) {
	r := newRig(t)
	r.scored()
	dana := r.person("dana", r.admins.ID)
	r.accustomed(dana.ID, "laptop", policy.GroupWrite)
	l := r.login(dana, everything)
	r.move(abroad)
	r.want(l.do("POST", "/v1/groups", map[string]any{"name": "release"}), 201, "")
	rows, _, err := r.store.AuditPage(t.Context(), store.Filter{}, 1)
	r.ok(err)
	if facts := string(rows[0].Facts); !strings.Contains(facts, `"risk":"medium"`) || !strings.Contains(facts, `"new_country"`) {
		t.Errorf("the record has %s", facts)
	}
}

// TestOnlyPeoplesNetworksCount: of an app that is a server, the network is its own, and
// tells nothing of the person; what is said of the person does.
func TestOnlyPeoplesNetworksCount(t *testing.T) {
	r := newRig(t)
	r.scored()
	dana := r.person("dana", r.admins.ID)
	r.accustomed(dana.ID, "laptop", policy.PersonRead)
	web := r.cli
	web.ID, web.ClientID, web.Native, web.AuthMethod, web.ManagedBy = "cli_00000000000000000000000001", "web", false, client.AuthSecretBasic, "api"
	r.seed("", client.Create{Client: web})
	r.cli = web
	l := r.login(dana, everything)
	r.pass(20 * time.Minute)
	r.move(abroad)
	r.want(l.again().do("GET", "/v1/people", nil), 200, "")
	r.reported(dana, 60)
	r.want(l.again().do("GET", "/v1/people", nil), 401, policy.CodeStepUp)
}

// TestUsesTeach: what is read is learned, once for a token however many requests it
// takes; so a dump of many pages is one use, and a network that nobody proved anything
// at stays new.
func TestUsesTeach(t *testing.T) {
	r := newRig(t)
	p := r.scored()
	dana := r.person("dana", r.admins.ID)
	r.accustomed(dana.ID, "laptop", policy.PersonRead)
	l := r.login(dana, everything)
	signals := func(path, action string) (out []risk.Signal) {
		t.Helper()
		r.want(l.do("GET", path, nil), 200, "")
		_, f, err := r.do.Judge(t.Context(), judged(l, action))
		r.ok(err)
		for _, x := range f.Risk.Terms {
			out = append(out, x.Signal)
		}
		return out
	}
	for range 60 {
		if got := signals("/v1/people", string(policy.PersonRead)); got != nil {
			t.Fatalf("what is usual is %v", got)
		}
	}
	_, f, err := r.do.Judge(t.Context(), judged(l, string(policy.GroupRead)))
	r.ok(err)
	if len(f.Risk.Terms) != 1 || f.Risk.Terms[0].Signal != risk.FirstUse {
		t.Fatalf("what was never read is %v: this shows nothing", f.Risk.Terms)
	}
	if got := signals("/v1/groups", string(policy.PersonRead)); got != nil {
		t.Errorf("%v", got)
	}
	r.pass(2 * time.Hour) // of what is new in an hour there is nothing left
	l.again()
	if got := signals("/v1/groups", string(policy.GroupRead)); got != nil {
		t.Errorf("what was read before is %v", got)
	}
	r.move(abroad)
	l = r.login(dana, everything)
	r.want(l.do("GET", "/v1/people", nil), 200, "") // the proof of the login outweighs it
	in := judged(l, string(policy.PersonRead))
	in.From.Network = grant.NetworkOf(netip.MustParseAddr(abroad))
	a, err := p.Score(t.Context(), dana.ID, in.From, r.time())
	r.ok(err)
	if a.Score != 40 {
		t.Errorf("a network that was used and not proved at: %+v", a)
	}
}

// TestServicesKeepTheirOwnHistory: what a service is scored by is what it did itself.
// Jobs that run elsewhere each day, at every hour and in bursts, are not refused; a token
// of its that is used where it never was, of whose secret it is said that it leaked, is,
// and is looked at.
func TestServicesKeepTheirOwnHistory(t *testing.T) {
	r := newRig(t)
	r.scored()
	robot := r.reporter(r.person("dana", r.admins.ID))
	sv, err := r.store.Service(t.Context(), r.serviceOf(robot))
	r.ok(err)
	r.accustomed(sv.ID, "", policy.SignalReport)
	report := func() answer {
		t.Helper()
		robot.token = robot.mint("signals", func(c *jose.AccessTokenClaims) { c.Subject, c.ClientID, c.ACR = sv.Subject, "robot", "" })
		var last answer
		for i := range 4 {
			last = robot.do("POST", "/v1/signals", map[string]any{"kind": "network_hostile", "about": about("network", fmt.Sprintf("192.0.%d.1", i))})
		}
		return last
	}
	for day := range 12 {
		if r.move(fmt.Sprintf("198.%d.100.7", 18+day)); day%4 == 3 {
			r.move(fmt.Sprintf("203.0.%d.9", day))
		}
		r.pass(25 * time.Hour)
		if a := report(); a.StatusCode != 201 {
			t.Fatalf("on day %d: %d %s", day, a.StatusCode, a.text)
		}
	}
	r.seed("", profile.Told{Report: profile.Report{
		ID: "sig_leak", Kind: "credential_leaked", About: risk.AboutService, Thing: sv.ID,
		Points: 60, Source: "scanner", Name: "Scanner", At: r.time(), Until: r.time().Add(time.Hour),
	}})
	r.pass(5 * time.Second)
	r.move("198.18.100.7")
	if a := report(); a.StatusCode != 200 {
		t.Errorf("where it was before: %d %s", a.StatusCode, a.text)
	}
	r.move("198.99.100.7")
	a := r.want(report(), 403, policy.CodeDenied)
	list, err := r.store.ReviewsOf(t.Context(), sv.ID, r.time())
	r.ok(err)
	if len(list) != 1 || list[0].Kind != policy.KindService || a.body["review"] != list[0].ID {
		t.Errorf("%s with the reviews %+v", a.text, list)
	}
}

// judged is what somebody is judged by at home.
func judged(l *login, action string) act.Intent {
	return act.Intent{
		Action: policy.Action(action), Refs: act.Refs{Kind: policy.KindPerson, Actor: l.person.ID, Grant: l.grant.ID, Client: l.r.cli.ID, Under: []string{l.grant.ID}},
		From: act.Origin{Asked: true, Network: grant.NetworkOf(netip.MustParseAddr(atHome))},
	}
}

// TestAnothersToken: who shows a live token with a proof of another key is remembered, of
// whose token it is; where there is no proof that is right nobody is.
func TestAnothersToken(t *testing.T) {
	r := newRig(t)
	r.scored()
	dana := r.person("dana", r.admins.ID)
	l := r.login(dana, everything)
	var ways []act.Way
	r.do.Wrong = func(w act.Way) { ways = append(ways, w) }
	r.move(abroad)
	says := func() (out []risk.Term) {
		t.Helper()
		a, err := r.do.Risk.Score(t.Context(), dana.ID, act.Origin{Asked: true, Network: grant.NetworkOf(netip.MustParseAddr(abroad))}, r.time())
		r.ok(err)
		return a.Terms
	}
	r.want(l.do("GET", "/v1/people", nil), 200, "")
	r.want(l.do("GET", "/v1/people", nil, func(q *http.Request) { q.Header.Del("DPoP") }), 401, "invalid_dpop_proof")
	if ways != nil || says() != nil {
		t.Errorf("%v %v", ways, says())
	}
	l.token = l.mint(everything, func(c *jose.AccessTokenClaims) { c.Confirmation.JKT = strings.Repeat("A", 43) })
	for i := range 4 {
		r.want(l.do("GET", "/v1/people", nil), 401, "invalid_token")
		if len(ways) != i+1 || ways[i] != act.WayToken {
			t.Errorf("%v", ways)
		}
	}
	if a := says(); len(a) != 1 || a[0].Signal != risk.Failures {
		t.Errorf("%+v", a)
	}
}
