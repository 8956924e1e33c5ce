package portal_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/factor"
	"github.com/countersign-dev/countersign/internal/portal"
	"github.com/countersign-dev/countersign/internal/session"
)

func TestDisable(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	dana, sam := r.browser(), r.browser()
	dana.setUp()
	sam.accept(dana.invite("Sam", "", ""), "Sam", "sam").to(t)
	g := r.grant("sam")
	change := "/admin/people/change?id=" + g.Person
	asks := dana.get(change)
	asks.shows(t, 200, "Disable Sam?")
	if !strings.Contains(asks.body, "1 session and 1 app") {
		t.Error("the page does not say what ends")
	}
	// What they said of others' devices stays, and how it is found is said; of their own
	// nothing is left.
	mark := func(of, by string) {
		t.Helper()
		list, err := r.store.DevicesOf(t.Context(), of)
		check(t, err)
		r.seed(audit.DeviceManaged, session.Manage{Managed: session.Managed{Device: list[0].ID, Person: of, Until: r.clock.now().Add(time.Hour), By: by, At: r.clock.now()}})
	}
	const found = "countersign person device marked --by "
	mark(g.Person, g.Person)
	if strings.Contains(dana.get(change).body, found) {
		t.Error("what ends with them is said to stay")
	}
	mark(r.person("dana@example.com").ID, g.Person)
	if !strings.Contains(dana.get(change).body, found+g.Person) {
		t.Error("the page does not say that what they called managed stays so")
	}
	dana.post("/admin/people/change", "id", g.Person).shows(t, 200, "Disable Sam?")
	if !r.live(g.Person) {
		t.Fatal("disabled without a reason")
	}
	dana.post("/admin/people/change", "id", g.Person, "reason", "left the company").sent(t, "/admin/people?done=disabled")
	if r.live(g.Person) || r.live(g.ID) {
		t.Error("the person, or what they started, lives")
	}
	sam.get("/account").sent(t, "/signin")
	if got := sam.signIn(0).failed(t); !strings.Contains(got, "can't be used") {
		t.Error(got)
	}
	if page := dana.get("/admin/people?done=disabled"); !strings.Contains(page.body, "Disabled") {
		t.Error("the list does not say so")
	}
	if log := dana.get("/admin/audit?q=LEFT+the"); !strings.Contains(log.body, "Dana Example disabled the account of Sam: left the company") {
		t.Error("the log does not tell who, whom and why")
	}
	dana.get(change).shows(t, 200, "Enable Sam?")
	dana.post("/admin/people/change", "id", g.Person).sent(t, "/admin/people?done=enabled")
	sam.signIn(0).to(t)
	sam.get("/account").shows(t, 200, "2 things to do")
}

func TestLastAdministrator(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	dana, pat := r.browser(), r.browser()
	dana.setUp()
	self := r.person("dana@example.com").ID
	dana.get("/admin/people/change?id="+self).shows(t, 200, "Not possible")
	dana.post("/admin/people/change", "id", self, "reason", "x").shows(t, 200, "Not possible")
	pat.accept(dana.invite("Pat", "", "administrator"), "Pat", "pat").to(t)
	dana.post("/admin/people/change", "id", self, "reason", "x").shows(t, 409, "Not done")
	if !r.live(self) {
		t.Fatal("somebody disabled themselves")
	}
	// Of two who disable each other one remains.
	patID := r.person("pat").ID
	done := make(chan answer, 2)
	go func() { done <- dana.post("/admin/people/change", "id", patID, "reason", "x") }()
	go func() { done <- pat.post("/admin/people/change", "id", self, "reason", "x") }()
	<-done
	<-done
	if r.live(self) == r.live(patID) {
		t.Errorf("dana lives: %v, pat lives: %v", r.live(self), r.live(patID))
	}
}

func TestAuditLog(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.browser()
	b.setUp()
	log := b.get("/admin/audit")
	log.shows(t, 200, "Audit log")
	for _, want := range []string{"Dana Example", "completed the setup", "allowed", "the server"} {
		if !strings.Contains(log.body, want) {
			t.Errorf("the log lacks %q", want)
		}
	}
	if strings.Contains(log.body, "signed checkpoint") {
		t.Error("the page claims a checkpoint that it does not know")
	}
	b.get("/admin/audit?q=nothing+mentions+this").shows(t, 200, "Nothing found")
	if found := b.get("/admin/audit?q=setup.completed"); !strings.Contains(found.body, "completed the setup") || strings.Contains(found.body, "Nothing found") {
		t.Error("a kind is not found by its name")
	}
	r.server.LogState = func(context.Context) (portal.LogState, error) {
		return portal.LogState{Size: 42, SignedAt: r.clock.now(), Broken: "Entry 7 is missing."}, nil
	}
	if log = b.get("/admin/audit"); !strings.Contains(log.body, "42 entries") || !strings.Contains(log.body, "Entry 7 is missing.") {
		t.Error("the page does not say that the log is broken")
	}
	log.shows(t, 200, "Broken")
	// Reading needs a sign-in of today; a session lives no longer.
	r.clock.move(12*time.Hour + time.Second)
	b.get("/admin/audit").sent(t, "/signin?next=%2Fadmin%2Faudit")
}

// TestCrossOrigin walks every route that changes something: a form or fetch of
// another site does nothing, and neither does anybody who is not signed in.
func TestCrossOrigin(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.browser()
	b.setUp()
	before := len(r.kinds())
	posts := 0
	for _, pattern := range r.patterns {
		method, path, _ := strings.Cut(pattern, " ")
		if method != http.MethodPost {
			continue
		}
		posts++
		for _, header := range [][]string{
			{"Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"},
			{"Sec-Fetch-Site", "same-site", "Origin", "http://localhost:9090"},
			{"Sec-Fetch-Site", "", "Origin", "null"},
		} {
			for _, typ := range []string{"application/x-www-form-urlencoded", "application/json", "text/plain"} {
				if a := b.send(method, path, typ, "{}", header...); a.status != http.StatusForbidden {
					t.Errorf("%s from %v as %s: %d", pattern, header, typ, a.status)
				}
			}
		}
	}
	if posts < 20 {
		t.Errorf("only %d routes were walked", posts)
	}
	if after := len(r.kinds()); after != before {
		t.Errorf("%d records were written", after-before)
	}
	b.get("/account").shows(t, 200, "3 things to do")

	stranger := r.browser()
	for _, pattern := range r.patterns {
		method, path, _ := strings.Cut(pattern, " ")
		if !strings.HasPrefix(path, "/account") && !strings.HasPrefix(path, "/admin") {
			continue
		}
		switch a := stranger.send(method, path, "application/x-www-form-urlencoded", "id=x"); {
		case method == http.MethodGet && (a.status != http.StatusSeeOther || !strings.HasPrefix(a.location, "/signin?next=")):
			t.Errorf("%s: %d to %s", pattern, a.status, a.location)
		case method == http.MethodPost && a.status != http.StatusUnauthorized:
			t.Errorf("%s: %d", pattern, a.status)
		}
	}
	if after := len(r.kinds()); after != before {
		t.Errorf("%d records were written", after-before)
	}
}

// TestMalformed: bad input gets a plain answer, never a fault of ours.
func TestMalformed(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.browser()
	b.setUp()
	for _, pattern := range r.patterns {
		method, path, _ := strings.Cut(pattern, " ")
		path = strings.TrimSuffix(path, "{$}")
		if strings.HasPrefix(path, "/consent") || strings.HasPrefix(path, "/cancel") {
			continue // they ask the authorization endpoint, which is not here
		}
		bodies := [][2]string{
			{"application/x-www-form-urlencoded", "id=%00&secret=%ff"},
			{"application/x-www-form-urlencoded", "id=a&id=b"},
			{"application/json", "{"},
			{"application/json", `{"secret":7}`},
			{"application/json", `{"tx":"\u0000"}`},
			{"application/json", `{"tx":"x","display_name":"` + strings.Repeat("x", 70000) + `"}`},
			{"text/plain", "x"},
			{"", ""},
		}
		if method == http.MethodGet {
			bodies = bodies[:1]
			query := "?id=%00&next=%5C%5Cevil&before=%27%3B--&after=%27&done=x"
			if path != "/signin" && path != "/step-up" {
				query += "&tx=%ff"
			}
			path += query
		}
		if strings.HasPrefix(path, "/signout") || strings.HasSuffix(path, "/later") {
			continue
		}
		for _, body := range bodies {
			if a := b.send(method, path, body[0], body[1]); a.status >= 500 || a.status == 0 {
				t.Errorf("%s with %s %.20q: %d %s", pattern, body[0], body[1], a.status, a.title())
			}
		}
	}
}

// An administrator switches passwords off and on again, without JavaScript: with a
// phishing-resistant sign-in of just now, after being told what comes of it, on record;
// and nobody else does.
func TestSwitchingKinds(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.browser()
	b.setUp()
	sam := r.browser()
	sam.accept(b.invite("Sam", "", ""), "Sam", "sam").to(t)
	sam.get("/admin/factors").shows(t, 403, "")
	sam.post("/admin/factors/change", "kind", "password", "to", "off")
	b.get("/admin/factors").shows(t, 200, "Ways to sign in")
	allowed := func() factor.Kinds {
		t.Helper()
		on, err := r.store.Allowed(t.Context())
		check(t, err)
		return on
	}
	if !allowed()[factor.KindPassword] {
		t.Fatal("who is no administrator switched it off")
	}
	b.get("/admin/factors/change?kind=passkey").shows(t, 400, "")
	page := b.get("/admin/factors/change?kind=password")
	page.shows(t, 200, "Switch off passwords?")
	if !strings.Contains(page.body, "shut out until") {
		t.Error("the page does not say what comes of it")
	}
	off := []string{"kind", page.field(t, "kind"), "to", page.field(t, "to")}
	b.post("/admin/factors/change", off...).sent(t, "/admin/factors?done=factor.forbidden")
	b.post("/admin/factors/change", off...).sent(t, "/admin/factors?done=factor.forbidden") // of two at once, neither undoes the other
	if on := allowed(); on[factor.KindPassword] || !on[factor.KindTOTP] {
		t.Errorf("allowed are %v", on)
	}
	if k := r.kinds(); k[len(k)-1] != audit.FactorForbidden {
		t.Errorf("recorded is %s", k[len(k)-1])
	}
	b.get("/admin/factors?done=factor.forbidden").shows(t, 200, "Ways to sign in")
	r.clock.move(20 * time.Minute)
	b.post("/admin/factors/change", "kind", "password", "to", "on").sent(t, "/step-up?")
	if allowed()[factor.KindPassword] {
		t.Error("an old sign-in switched it on")
	}
	b.stepUp(0, "/admin/factors/change?kind=password")
	page = b.get("/admin/factors/change?kind=password")
	page.shows(t, 200, "Switch on passwords?")
	b.post("/admin/factors/change", "kind", page.field(t, "kind"), "to", page.field(t, "to")).sent(t, "/admin/factors?done=factor.allowed")
	if !allowed()[factor.KindPassword] {
		t.Error("it was not switched on")
	}
}
