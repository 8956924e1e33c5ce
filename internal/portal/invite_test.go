package portal_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/group"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/once"
)

func TestInvitation(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	dana := r.browser()
	dana.setUp()
	dana.get("/admin/people").shows(t, 200, "People")
	dana.get("/admin/invite").shows(t, 200, "Invite somebody")
	link := dana.invite("Sam Sample", "sam@example.com", "")
	if people := dana.get("/admin/people"); !strings.Contains(people.body, "Sam Sample") || !strings.Contains(people.body, "Invited") {
		t.Error("the pending invitation is not listed")
	}

	sam := r.browser()
	sam.get("/invite").shows(t, 200, "Opening – Invitation")
	page := sam.script("/invite/open", map[string]any{"secret": link}).to(t)
	for range 2 {
		p := sam.get(page)
		p.shows(t, 200, "You're invited")
		for _, want := range []string{"Dana Example", "dana@example.com", `value="Sam Sample"`, `value="sam@example.com"`, "Firefox on Linux"} {
			if !strings.Contains(p.body, want) {
				t.Errorf("the page lacks %s", want)
			}
		}
	}
	if strings.Contains(page, link) || strings.Contains(r.log.String(), link) {
		t.Error("the secret is in a URL or in the log")
	}
	tx := sam.get(page).field(t, "tx")
	f := map[string]any{"tx": tx, "display_name": "Sam S.", "username": "DANA@example.com", "passkey_name": "Phone"}
	if got := sam.script("/invite/options", f).failed(t); !strings.Contains(got, "taken") {
		t.Error(got)
	}
	f["username"] = "sam"
	if to := sam.create("/invite/options", "/invite/finish", f).to(t); to != "/invite/second" {
		t.Fatalf("on to %s", to)
	}
	sam.get("/invite/second").shows(t, 200, "Add a second passkey")
	sam.post("/invite/later").sent(t, "/invite/codes")
	sam.get("/invite/codes").shows(t, 200, "Recovery codes")
	sam.post("/invite/codes/later").sent(t, "/account")
	p := r.person("sam")
	if p.Name != "Sam S." || p.Factors != 1 {
		t.Errorf("%+v", p)
	}
	if groups, _ := r.store.GroupsOf(context.Background(), p.ID); len(groups) != 0 {
		t.Errorf("groups: %v", groups)
	}
	sam.get("/account").shows(t, 200, "2 things to do")
	sam.get("/admin/people").shows(t, 403, "Not allowed")
	sam.get("/admin/audit").shows(t, 403, "Not allowed")
	if a := sam.post("/admin/invite", "display_name", "Eve"); a.status != 403 {
		t.Errorf("somebody who is no administrator invites: %d", a.status)
	}
	if a := sam.post("/admin/people/change", "id", r.person("dana@example.com").ID, "reason", "x"); a.status != 403 {
		t.Errorf("somebody who is no administrator disables: %d", a.status)
	}
	// Whether a person exists is not theirs to learn either.
	if known, unknown := sam.get("/admin/people/change?id="+p.ID), sam.get("/admin/people/change?id=usr_x"); known.status != unknown.status {
		t.Errorf("%d for a person, %d for none", known.status, unknown.status)
	}
	// It works once.
	again := r.browser()
	used := again.get(again.script("/invite/open", map[string]any{"secret": link}).to(t))
	used.shows(t, 200, "Already used")
	if people := dana.get("/admin/people"); !strings.Contains(people.body, "Sam S.") || strings.Contains(people.body, "Sam Sample") {
		t.Error("the list does not follow")
	}
	if k := r.kinds(); !slices.Contains(k, audit.PersonInvited) || !slices.Contains(k, audit.InvitationAccepted) {
		t.Errorf("records: %v", k)
	}
	if log := dana.get("/admin/audit"); !strings.Contains(log.body, "Dana Example invited Sam S.") || !strings.Contains(log.body, "Sam S. accepted an invitation") {
		t.Error("the log does not tell of it")
	}
}

func TestInvitationRace(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	dana := r.browser()
	dana.setUp()
	link := dana.invite("Sam", "", "")
	first, second := r.browser(), r.browser()
	open := func(b *browser, name string) map[string]any {
		tx := b.get(b.script("/invite/open", map[string]any{"secret": link}).to(t)).field(t, "tx")
		f := map[string]any{"tx": tx, "display_name": name, "username": name, "passkey_name": "x"}
		_, made := b.attest(b.script("/invite/options", f))
		f["credential"] = made
		return f
	}
	a, b := open(first, "sam"), open(second, "eve")
	if to := first.script("/invite/finish", a).to(t); to != "/invite/second" {
		t.Fatal(to)
	}
	second.get(second.script("/invite/finish", b).to(t)).shows(t, 200, "Already used")
	r.nobody("eve")
	// Nor does the winner's own answer work twice.
	first.get(first.script("/invite/finish", a).to(t)).shows(t, 200, "Already used")
}

// TestInvitationStanding: an invitation is worth no more than its maker's
// standing when it is used.
func TestInvitationStanding(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	dana := r.browser()
	dana.setUp()
	pat := r.browser()
	if to := pat.accept(dana.invite("Pat", "", "administrator"), "Pat", "pat").to(t); to != "/invite/second" {
		t.Fatal(to)
	}
	patID := r.person("pat").ID
	if admins, _ := r.store.Members(context.Background(), r.admins, "", 10); !slices.Contains(admins, patID) {
		t.Fatal("the invited administrator is none")
	}
	for what, off := range map[string][2]act.Change{
		"disabled": {lineage.Freeze{ID: patID, Why: "disabled"}, lineage.Thaw{ID: patID}},
		"demoted":  {group.Remove{Group: r.admins, Person: patID}, group.Add{Group: r.admins, Person: patID}},
	} {
		link := pat.invite("Eve", "", "administrator")
		eve := r.browser()
		page := eve.script("/invite/open", map[string]any{"secret": link}).to(t)
		tx := eve.get(page).field(t, "tx")
		f := map[string]any{"tx": tx, "display_name": "Eve", "username": "eve", "passkey_name": "x"}
		_, made := eve.attest(eve.script("/invite/options", f))
		f["credential"] = made
		r.seed(audit.GroupUpdated, off[0])
		eve.get(page).shows(t, 200, "Withdrawn")
		eve.get(eve.script("/invite/finish", f).to(t)).shows(t, 200, "Withdrawn")
		r.nobody("eve")
		if t.Failed() {
			t.Fatalf("while the inviter is %s", what)
		}
		r.seed(audit.GroupUpdated, off[1])
	}
}

func TestInvitationLinks(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	dana := r.browser()
	dana.setUp()
	link := dana.invite("Sam", "", "")
	b := r.browser()
	for _, s := range []string{"", "x", strings.Replace(link, "cs_invite", "cs_setup", 1)} {
		b.get(b.script("/invite/open", map[string]any{"secret": s}).to(t)).shows(t, 200, "Not valid")
	}
	page := b.script("/invite/open", map[string]any{"secret": link}).to(t)
	r.browser().get(page).shows(t, 200, "Not valid")
	b.get("/setup/name"+page[strings.IndexByte(page, '?'):]).shows(t, 200, "Not valid")

	// Somebody who is signed in signs out first, and comes back.
	p := dana.get(dana.script("/invite/open", map[string]any{"secret": link}).to(t))
	p.shows(t, 200, "You're invited")
	if !strings.Contains(p.body, "Sign out and use the invitation") || strings.Contains(p.body, "data-passkey") {
		t.Error("the page does not ask who is signed in to sign out")
	}
	back := dana.post("/signout/here", "next", p.field(t, "next")).sent(t, "/invite/accept?tx=")
	if p = dana.get(back); !strings.Contains(p.body, "data-passkey") {
		t.Errorf("back at %s", p.title())
	}
	dana.signIn(0).to(t)

	// Withdrawn.
	people := dana.get("/admin/people")
	at := strings.Index(people.body, "/admin/people/change?id=inv_")
	if at < 0 {
		t.Fatal("the invitation cannot be withdrawn")
	}
	change := people.body[at : at+strings.IndexByte(people.body[at:], '"')]
	dana.get(change).shows(t, 200, "Withdraw the invitation for Sam?")
	dana.post("/admin/people/change", "id", change[strings.IndexByte(change, '=')+1:]).sent(t, "/admin/people?done=withdrawn")
	if people = dana.get("/admin/people?done=withdrawn"); !strings.Contains(people.body, "Invitation withdrawn.") || strings.Contains(people.body, "inv_") {
		t.Error("the invitation is still there")
	}
	b.get(page).shows(t, 200, "Withdrawn")
	dana.get(change).shows(t, 404, "Not found")

	// Expired.
	link = dana.invite("Sam", "", "")
	page = b.script("/invite/open", map[string]any{"secret": link}).to(t)
	r.clock.move(72*time.Hour + time.Second)
	expired := b.get(page)
	expired.shows(t, 200, "Expired")
	if !strings.Contains(expired.body, "Dana Example") {
		t.Error("the page does not say whom to ask")
	}
	if v, err := r.store.OnceValue(context.Background(), once.Invite, once.KeyOf(once.Invite, link)); err != nil || !v.UsedAt.IsZero() {
		t.Errorf("%+v, %v", v, err)
	}
}

func TestInviteForm(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	dana := r.browser()
	dana.setUp()
	for _, c := range []struct{ name, email, want string }{
		{"", "", "1 to 80 characters"},
		{"Sam", "sam", "not an e-mail address"},
		{"Sam", "Dana@Example.com", "taken"},
	} {
		a := dana.post("/admin/invite", "display_name", c.name, "email", c.email)
		a.shows(t, 200, "Check your answers")
		if !strings.Contains(a.body, c.want) {
			t.Errorf("%+v: the page does not say so", c)
		}
	}
	r.clock.move(15*time.Minute + time.Second)
	to := dana.get("/admin/invite").sent(t, "/step-up?")
	dana.get(to).shows(t, 200, "Confirm it's you to manage people")
	dana.post("/admin/invite", "display_name", "Sam").sent(t, "/step-up?")
	if pending, err := r.store.OncePending(context.Background(), once.Invite); err != nil || len(pending) != 0 {
		t.Errorf("%d invitations, %v", len(pending), err)
	}
	dana.stepUp(0, "/admin/invite")
	dana.invite("Sam", "", "")
}
