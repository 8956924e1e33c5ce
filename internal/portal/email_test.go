package portal_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/store"
)

// proving makes the link to an address, as the deliverer of notices does, and
// gives its path and its secret.
func (r *rig) proving(p account.Person, address string) (path, text string) {
	r.t.Helper()
	put, link := account.NewEmailProof(issuer, account.EmailProof{Person: p.ID, Email: address}, r.clock.now())
	r.seed(audit.EmailLinked, put)
	path = strings.TrimPrefix(link, issuer)
	return path, path[strings.IndexByte(path, '=')+1:]
}

// An address is saved, asked about, and proved by the link that is sent there;
// opening the link spends nothing and signs nobody in; without JavaScript.
func TestEmail(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.server.Mails = true
	b := r.browser()
	b.setUp()
	b.get("/account/email").shows(t, 200, "E-mail")
	if a := b.get("/account"); !strings.Contains(a.body, "Prove your e-mail address") {
		t.Error("the overview does not ask for an address")
	}
	a := b.post("/account/email", "email", "no address")
	if a.shows(t, 200, "Check your answer"); r.person("dana@example.com").Email != "" {
		t.Error("something was saved")
	}
	b.post("/account/email", "email", "dana@mail.example").sent(t, "/account/email?done=email")
	dana := r.person("dana@example.com")
	if dana.Email != "dana@mail.example" || dana.Verified {
		t.Fatalf("%+v", dana)
	}
	if k := r.kinds(); k[len(k)-2] != audit.EmailChanged || k[len(k)-1] != audit.EmailAsked {
		t.Errorf("recorded %v", k[len(k)-2:])
	}
	b.get("/account/email").shows(t, 200, "Not proved")
	if a := b.post("/account/email/send"); a.status != 429 {
		t.Errorf("asked twice in two minutes: %d", a.status)
	}
	r.clock.move(2 * time.Minute)
	b.post("/account/email/send").sent(t, "/account/email?done=email-sent")

	path, text := r.proving(dana, dana.Email)
	other := r.browser() // who opens the link need not be who is signed in
	for range 3 {
		other.get(path).shows(t, 200, "Is this your address?")
	}
	if r.person("dana@example.com").Verified {
		t.Fatal("a GET proved the address")
	}
	a = other.post("/email", "link", text)
	if a.shows(t, 200, "Done"); len(a.cookies) > 0 {
		for _, c := range a.cookies {
			if strings.Contains(c.Name, "session") {
				t.Error("the link signed somebody in")
			}
		}
	}
	other.get("/account").sent(t, "/signin")
	if !r.person("dana@example.com").Verified {
		t.Error("the address is not proved")
	}
	other.post("/email", "link", text).shows(t, 200, "Already used")
	other.get(path).shows(t, 200, "Already used")
	b.get("/account/email").shows(t, 200, "E-mail")
}

// What a link does not do: prove another address, an older one, after a day, cut
// off, of another purpose, or of somebody who is off.
func TestEmailLinksThatDoNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.server.Mails = true
	b := r.browser()
	b.setUp()
	b.post("/account/email", "email", "dana@mail.example")
	dana := r.person("dana@example.com")
	unproved := func(what string) {
		t.Helper()
		if r.person("dana@example.com").Verified {
			t.Fatalf("%s proved the address", what)
		}
	}
	_, stranger := r.proving(dana, "other@mail.example")
	b.post("/email", "link", stranger).shows(t, 200, "Withdrawn")
	unproved("a link to another address")
	_, first := r.proving(dana, dana.Email)
	_, second := r.proving(dana, dana.Email)
	b.post("/email", "link", first).shows(t, 200, "Not valid")
	unproved("an older link")
	b.post("/email", "link", second[:len(second)-1]).shows(t, 200, "Not valid")
	b.post("/email", "link", r.setupLink()).shows(t, 200, "Not valid")
	b.post("/email").shows(t, 200, "Not valid")
	unproved("half a link")
	r.clock.move(25 * time.Hour)
	b.post("/email", "link", second).shows(t, 200, "Expired")
	unproved("an expired link")
	_, third := r.proving(dana, dana.Email)
	if a := b.send("POST", "/email", "application/x-www-form-urlencoded", "link="+third, "Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"); a.status < 400 {
		t.Errorf("from another site: %d", a.status)
	}
	unproved("another site")
	b.post("/email", "link", third).shows(t, 200, "Done") // the control
	if !r.person("dana@example.com").Verified {
		t.Error("the control did nothing")
	}
}

// Changing an address needs a sign-in of just now, unproves it, and tells the one
// that was proved, which nobody reads in the clear in the log.
func TestEmailChange(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.server.Mails = true
	b := r.browser()
	b.setUp()
	b.post("/account/email", "email", "dana@mail.example")
	_, text := r.proving(r.person("dana@example.com"), "dana@mail.example")
	b.post("/email", "link", text)
	r.clock.move(10 * time.Minute)
	b.post("/account/email", "email", "thief@mail.example").sent(t, "/step-up?next=%2Faccount%2Femail&why=email")
	if p := r.person("dana@example.com"); p.Email != "dana@mail.example" || !p.Verified {
		t.Fatalf("an old sign-in changed it: %+v", p)
	}
	b.stepUp(0, "/account/email")
	b.post("/account/email", "email", "new@mail.example").sent(t, "/account/email?done=email")
	p := r.person("dana@example.com")
	if p.Email != "new@mail.example" || p.Verified {
		t.Errorf("%+v", p)
	}
	page, _, err := r.store.AuditPage(context.Background(), store.Filter{}, 10)
	check(t, err)
	for _, rec := range page {
		if strings.Contains(string(rec.Body), "@mail.example") || strings.Contains(string(rec.Facts), "@mail.example") {
			t.Errorf("%s has an address in the clear", rec.Kind)
		}
	}
	b.post("/account/email", "email", "").sent(t, "/account/email?done=email-none")
	if r.person("dana@example.com").Email != "" {
		t.Error("the address is still there")
	}
}

// The address, where its owner hears of a recovery and can stop it, is changed with
// what it protects: with a password and a code as long as those are all there is, and
// with a passkey once there is one that counts, however one signed in.
func TestEmailChangeNeedsWhatItProtects(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.browser()
	a := b.setUpTyped()
	b.post("/account/email", "email", "dana@mail.example").sent(t, "/account/email")
	b.create("/account/passkeys/options", "/account/passkeys/finish", map[string]any{"passkey_name": "Laptop"}).to(t)
	r.clock.move(25 * time.Hour) // it counts
	b.signInTyped(a, "dana@example.com", phrase)
	page := b.post("/account/email", "email", "thief@mail.example").sent(t, "/step-up?next=%2Faccount%2Femail&why=email")
	m := b.get(page)
	if !strings.Contains(m.body, "phishing-resistant") || strings.Contains(m.body, "/step-up/typed") {
		t.Error("the page offers what does not do, or does not say what does")
	}
	r.clock.move(30 * time.Second)
	b.post("/step-up/typed", "next", "/account/email", "why", "email", "password", phrase, "code", a.code(0))
	if a := b.post("/account/email", "email", "thief@mail.example"); a.status < 300 {
		t.Errorf("after a password and a code: %d", a.status)
	}
	if p := r.person("dana@example.com"); p.Email != "dana@mail.example" {
		t.Fatalf("it was changed: %+v", p)
	}
	b.stepUp(0, "/account/email")
	b.post("/account/email", "email", "new@mail.example").sent(t, "/account/email")
	if p := r.person("dana@example.com"); p.Email != "new@mail.example" {
		t.Errorf("with a passkey: %+v", p)
	}
}

// Without mail nothing can be proved, and the page says so.
func TestEmailWithoutMail(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.browser()
	b.setUp()
	if a := b.get("/account/email"); !strings.Contains(a.body, "This server sends no mail") {
		t.Error("the page does not say that no mail is sent")
	}
	b.post("/account/email", "email", "dana@mail.example").sent(t, "/account/email")
	if k := r.kinds(); k[len(k)-1] != audit.EmailChanged {
		t.Errorf("recorded %v", k[len(k)-1])
	}
	if a := b.get("/account/email"); strings.Contains(a.body, "Send the link") {
		t.Error("a link is offered that nobody sends")
	}
}

// A recovery begins with the user name or the address that was proved, in any case of
// letters; an address that was not, an earlier one and somebody else's are no name, and
// all of that is one answer.
func TestRecoveryByAddress(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.server.Mails = true
	b := r.browser()
	b.setUp()
	codes := b.makeCodes()
	prove := func(address string) {
		b.post("/account/email", "email", address).sent(t, "/account/email?done=email")
		_, text := r.proving(r.person("dana@example.com"), address)
		b.post("/email", "link", text).shows(t, 200, "Done")
	}
	prove("first@mail.example")
	prove("d.ana@mail.example")
	sam := b.second("sam")
	sam.post("/account/email", "email", "sam@mail.example").sent(t, "/account/email?done=email")
	sams := sam.makeCodes()
	bodies := map[string]string{}
	for name, code := range map[string]string{
		"first@mail.example": codes[0], "": codes[1], "nobody@mail.example": codes[2], "sam": codes[3], "d.ana@mail.exampl": codes[4],
		"sam@mail.example": sams[0], "d.ana@mail.example": sams[1], "Dana Example": codes[5],
	} {
		a := r.browser().recoverWith(name, code)
		a.shows(t, 200, "Check your answers")
		bodies[strings.ReplaceAll(a.body, name, "")] = name
	}
	if len(bodies) > 2 { // an empty name and the others differ only where the name stood
		t.Errorf("%d different answers", len(bodies))
	}
	r.browser().recoverWith("D.Ana@Mail.Example ", codes[0]).sent(t, "/recover/status") // the control: none was used
}
