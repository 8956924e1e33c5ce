package portal_test

import (
	"context"
	"encoding/json"
	"html"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/factor"
	"github.com/countersign-dev/countersign/internal/group"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/recovery"
	"github.com/countersign-dev/countersign/internal/secret"
)

var (
	typedCode  = regexp.MustCompile(`\b(?:[0-9A-Z]{4}-){5}[0-9A-Z]{4}\b`)
	claimCode  = regexp.MustCompile(`\b(?:[0-9A-Z]{4}-){3}[0-9A-Z]{4}\b`)
	cancelLink = regexp.MustCompile(regexp.QuoteMeta(issuer) + `/recover/cancel#(cs_cancel_\w+)`)
	ownLink    = regexp.MustCompile(regexp.QuoteMeta(issuer) + `/recover/open#(cs_recover_\w+)`)
)

// makeCodes makes recovery codes on the account's page.
func (b *browser) makeCodes() []string {
	b.t.Helper()
	a := b.post("/account/recovery/codes")
	codes := typedCode.FindAllString(a.body, -1)
	if a.status != 200 || len(codes) != recovery.Codes {
		b.t.Fatalf("%d %s to %s, %d codes", a.status, a.title(), a.location, len(codes))
	}
	return codes
}

// recoverWith begins a recovery with a code.
func (b *browser) recoverWith(username, code string) answer {
	b.t.Helper()
	return b.post("/recover/code", "username", username, "code", code)
}

// remake makes the passkey that a recovery ends with.
func (b *browser) remake() answer {
	b.t.Helper()
	return b.create("/recover/options", "/recover/finish", map[string]any{"passkey_name": "New laptop"})
}

// open is the one open recovery of somebody.
func (r *rig) open(username string) recovery.Recovery {
	r.t.Helper()
	list, err := r.store.RecoveriesOf(context.Background(), r.person(username).ID)
	check(r.t, err)
	i := slices.IndexFunc(list, func(x recovery.Recovery) bool { return x.Live(r.clock.now()) })
	if i < 0 {
		r.t.Fatalf("%s has no open recovery: %+v", username, list)
	}
	return list[i]
}

func (r *rig) link(rec recovery.Recovery) string {
	r.t.Helper()
	link, err := recovery.CancelLink(issuer, r.server.Recovery.CancelKeys()[0], rec.ID)
	check(r.t, err)
	return link[strings.IndexByte(link, '#')+1:]
}

// second makes another administrator, with a browser that is signed in.
func (b *browser) second(username string) *browser {
	b.t.Helper()
	other := b.rig.browser()
	if to := other.accept(b.invite("Admin "+username, "", "administrator"), "Admin "+username, username).to(b.t); to != "/invite/second" {
		b.t.Fatalf("on to %s", to)
	}
	return other
}

const dana = "dana@example.com"

func TestRecoverWithACode(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.browser()
	b.setUp()
	codes := b.makeCodes()
	b.get("/account/recovery").shows(t, 200, "Recovery")

	lost := r.browser()
	page := lost.get("/recover")
	page.shows(t, 200, "Trouble signing in?")
	if !strings.Contains(page.body, "24 hours") {
		t.Error("the page does not say how long it takes")
	}
	lost.recoverWith(dana, strings.ToLower(codes[0])).sent(t, "/recover/status")
	status := lost.get("/recover/status")
	status.shows(t, 200, "Waiting – Your recovery")
	if !strings.Contains(status.body, "Nobody by message: no mail reaches this account") {
		t.Error("it is not said plainly that nobody is told")
	}
	// Steps that are jumped lead nowhere, now and one second too early.
	for _, wait := range []time.Duration{0, 24*time.Hour - time.Second*5} {
		r.clock.move(wait)
		lost.get("/recover/passkey").sent(t, "/recover/status")
		if got := lost.script("/recover/options", map[string]any{"passkey_name": "x"}).failed(t); !strings.Contains(got, "doesn't work") {
			t.Error(got)
		}
		if to := lost.script("/recover/finish", map[string]any{"passkey_name": "x", "credential": map[string]any{}}).to(t); to != "/recover/status" {
			t.Errorf("on to %s", to)
		}
	}
	other := r.browser() // nobody else's browser has it
	other.get("/recover/status").shows(t, 200, "Nothing to see")
	other.get("/recover/passkey").sent(t, "/recover/status")

	r.clock.move(6 * time.Second)
	lost.get("/recover/status").shows(t, 200, "Ready – Your recovery")
	lost.get("/recover/passkey").shows(t, 200, "Create your passkey")
	if to := lost.remake().to(t); to != "/account/recovery?done=recovered" {
		t.Fatalf("on to %s", to)
	}
	own := lost.get("/account/recovery?done=recovered")
	own.shows(t, 200, "Recovery")
	if !strings.Contains(own.body, "Your account was recovered") || !strings.Contains(own.body, "You have none") {
		t.Error("the page does not speak of the probation, or codes are left")
	}
	lost.get("/recover/status").shows(t, 200, "Nothing to see")
	for what, secret := range map[string]string{
		"a code": codes[0], "the same, as it is stored": strings.ReplaceAll(codes[0], "-", ""), "a claim": "cs_recover_", "a cancel link": "cs_cancel_",
	} {
		if strings.Contains(strings.ToUpper(r.log.String()), strings.ToUpper(secret)) {
			t.Errorf("%s is in the server's log", what)
		}
	}
	if n := slices.Index(r.kinds(), audit.RecoveryCompleted); n < 0 {
		t.Error("nothing is recorded")
	}
	// A used code, and one that was burnt with the rest, are one answer.
	for _, code := range codes[:2] {
		lost.recoverWith(dana, code).shows(t, 200, "Check your answers")
	}
}

// TestProbation: what a recovery gives is worth less at first, and nothing of
// what was there before goes on.
func TestProbation(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.browser()
	b.setUp()
	codes := b.makeCodes()
	lost := r.browser()
	lost.recoverWith(dana, codes[0]).sent(t, "/recover/status")
	r.clock.move(24*time.Hour - 30*time.Minute)
	b.signIn(0).to(t)
	r.clock.move(30 * time.Minute)
	lost.get("/recover/status").shows(t, 200, "Not needed")

	// Two administrators help instead; for one of their own they wait as well.
	b.stepUp(0, "/admin/invite")
	second, third := b.second("sam"), b.second("mira")
	r.clock.move(24*time.Hour + time.Minute)
	for _, x := range []*browser{second, third} {
		x.signIn(0).to(t)
	}
	lost.post("/recover/stop").sent(t, "/recover/status")
	code := claimCode.FindString(lost.get("/recover/ask").body)
	shown := second.post("/admin/recoveries/open", "username", dana, "code", code, "reason", "lost her phone").sent(t, "/admin/recoveries/show?id=")
	shown = strings.TrimSuffix(shown, "&done=recovery-opened")
	third.post("/admin/recoveries/confirm", "id", strings.TrimPrefix(shown, "/admin/recoveries/show?id="), "code", code).sent(t, shown)
	lost.get("/recover/status").shows(t, 200, "Waiting – Your recovery") // an administrator's account
	r.clock.move(24 * time.Hour)
	b.signIn(0).to(t) // her old laptop turns up: two people decided, so it goes on
	lost.get("/recover/status").shows(t, 200, "Ready")
	lost.remake().to(t)

	b.get("/account").sent(t, "/signin?next=") // what was signed in has ended
	for _, c := range []struct{ path, to string }{
		{"/account/passkeys/add", "/step-up?"}, {"/admin/invite", "/step-up?"}, {"/admin/recoveries/open", "/step-up?"}, {"/admin/pass", "/step-up?"},
	} {
		lost.get(c.path).sent(t, c.to)
	}
	lost.post("/account/recovery/codes").sent(t, "/step-up?")
	lost.post("/account/email", "email", "thief@mail.example").sent(t, "/step-up?")
	lost.get("/account").shows(t, 200, "")
	// Proving the same passkey again changes nothing: it is on probation.
	lost.stepUp(0, "/admin/invite")
	lost.get("/admin/invite").sent(t, "/step-up?")
	keys, err := r.store.PasskeysOf(context.Background(), r.person(dana).ID)
	check(t, err)
	if len(keys) != 2 || !keys[0].ProbationUntil.IsZero() || keys[1].ProbationUntil.Sub(r.clock.now()) < 71*time.Hour {
		t.Fatalf("passkeys: %d, %+v", len(keys), keys)
	}
	lost.post("/account/passkeys/remove", "id", keys[0].ID).sent(t, "/step-up?")
	// The owner's old passkey is not on probation: it can undo what was done.
	b.signIn(0).to(t)
	b.post("/account/passkeys/remove", "id", keys[1].ID).sent(t, "/account/passkeys?done=")
	lost.get("/account").sent(t, "/signin?next=")
}

func TestProbationEnds(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.browser()
	b.setUp()
	codes := b.makeCodes()
	lost := r.browser()
	lost.recoverWith(dana, codes[0]).sent(t, "/recover/status")
	r.clock.move(24*time.Hour + time.Second)
	lost.remake().to(t)
	to := lost.get("/account/passkeys/add").sent(t, "/step-up?")
	if a := lost.get(to); !strings.HasPrefix(a.title(), "Confirm it") || !strings.Contains(a.body, "on probation") {
		t.Errorf("%s: it does not say which passkey does not do", a.title())
	}
	r.seed(audit.FactorRemoved, factor.Remove{ID: b.passkeysOf(dana)[0], Person: r.person(dana).ID, Weaken: true})
	if a := lost.get(to); !strings.HasPrefix(a.title(), "Not possible yet") || !strings.Contains(a.body, "on probation") {
		t.Errorf("%s: a passkey is asked for that does not help", a.title())
	}
	r.clock.move(72*time.Hour + time.Second)
	lost.signIn(0).to(t)
	lost.get("/account/passkeys/add").shows(t, 200, "Add a passkey")
	lost.get("/admin/invite").shows(t, 200, "Invite somebody")
}

// TestRecoveryIsSuperseded: whoever can sign in with a passkey needs none.
func TestRecoveryIsSuperseded(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.browser()
	b.setUp()
	codes := b.makeCodes()
	thief := r.browser()
	thief.recoverWith(dana, codes[3]).sent(t, "/recover/status")
	r.clock.move(23 * time.Hour)
	b.signIn(0).to(t)
	r.clock.move(2 * time.Hour)
	thief.get("/recover/status").shows(t, 200, "Not needed")
	thief.get("/recover/passkey").sent(t, "/recover/status")
	if got := thief.script("/recover/options", map[string]any{"passkey_name": "x"}).failed(t); !strings.Contains(got, "doesn't work") {
		t.Error(got)
	}
	b.post("/signout/everything").sent(t, "") // that she was there stays true
	thief.get("/recover/status").shows(t, 200, "Not needed")
}

// TestConfirmationsStand: a recovery lies ready for days. It is worth no more than
// the standing of who confirmed it, whatever takes that away, and than the account's
// when it is finished.
func TestConfirmationsStand(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.browser()
	b.setUp()
	second := b.second("sam")
	b.second("third")
	r.clock.move(25 * time.Hour)
	b.signIn(0).to(t)
	second.signIn(0).to(t)
	mira := r.browser()
	mira.accept(b.invite("Mira", "", ""), "Mira", "mira").to(t)
	lost := r.browser()
	code := claimCode.FindString(lost.get("/recover/ask").body)
	b.post("/admin/recoveries/open", "username", "mira", "code", code, "reason", "lost everything").sent(t, "/admin/recoveries/show?id=")
	second.post("/admin/recoveries/confirm", "id", r.open("mira").ID, "code", code).sent(t, "/admin/recoveries/show?id=")
	lost.get("/recover/passkey").shows(t, 200, "Create your passkey")
	_, cred := lost.attest(lost.script("/recover/options", map[string]any{"passkey_name": "x"}))
	finish := func() answer {
		return lost.script("/recover/finish", map[string]any{"passkey_name": "x", "credential": cred})
	}
	miras := r.person("mira").ID
	for _, who := range []string{dana, "sam"} {
		id := r.person(who).ID
		for how, c := range map[string][2]act.Change{
			"suspended":                 {lineage.Freeze{ID: id, Why: "disabled"}, lineage.Thaw{ID: id}},
			"no administrator any more": {group.Remove{Group: r.admins, Person: id}, group.Add{Group: r.admins, Person: id}},
			"of a group that is off":    {lineage.Freeze{ID: r.admins, Why: "disabled"}, lineage.Thaw{ID: r.admins}},
		} {
			r.seed(audit.PersonDisabled, c[0])
			lost.get("/recover/passkey").shows(t, 403, "Not allowed")
			if got := finish().failed(t); !strings.Contains(got, "no administrator any more") {
				t.Errorf("%s is %s, and the recovery goes on: %s", who, how, got)
			}
			r.seed(audit.PersonEnabled, c[1])
			lost.get("/recover/passkey").shows(t, 200, "Create your passkey")
		}
	}
	r.seed(audit.AdminGranted, group.Add{Group: r.admins, Person: miras})
	if got := finish().failed(t); !strings.Contains(got, "waits longer") {
		t.Errorf("an administrator's account is recovered at once: %s", got)
	}
	r.seed(audit.AdminWithdrawn, group.Remove{Group: r.admins, Person: miras})
	finish().to(t)
}

// TestRecoveryEndsPasses: a pass that somebody has not used yet is over with a
// recovery, like everything else.
func TestRecoveryEndsPasses(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.browser()
	b.setUp()
	sam := r.browser()
	sam.accept(b.invite("Sam", "", ""), "Sam", "sam").to(t)
	codes := sam.makeCodes()
	lost := r.browser()
	lost.recoverWith("sam", codes[0]).sent(t, "/recover/status")
	r.clock.move(24*time.Hour - time.Minute)
	b.signIn(0).to(t)
	pass := typedCode.FindString(b.post("/admin/pass", "username", "sam", "reason", "left the key at home", "valid", "24").body)
	r.clock.move(2 * time.Minute)
	lost.remake().to(t)
	r.browser().post("/recover/pass", "username", "sam", "code", pass).shows(t, 200, "Check your answers")
}

// TestCancel: with the link, with a session, and in the browser that began it.
// Looking at a link stops nothing.
func TestCancel(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.browser()
	b.setUp()
	codes := b.makeCodes()
	thief, mail := r.browser(), r.browser()
	begin := func(i int) recovery.Recovery {
		t.Helper()
		thief.recoverWith(dana, codes[i]).sent(t, "/recover/status")
		return r.open(dana)
	}
	rec := begin(0)
	link := r.link(rec)
	for _, method := range []string{"GET", "HEAD"} { // a preview
		if a := mail.send(method, "/recover/cancel", "", ""); a.status != 200 {
			t.Errorf("%s: %d", method, a.status)
		}
	}
	page := mail.script("/recover/cancel/open", map[string]any{"secret": link}).to(t)
	if strings.Contains(page, link) {
		t.Error("the secret is in a URL that servers see")
	}
	mail.get(page).shows(t, 200, "Stop the recovery?")
	mail.send("HEAD", page, "", "")
	if !r.open(dana).Live(r.clock.now()) {
		t.Error("looking at the link stopped it")
	}
	r.browser().get(page).shows(t, 400, "Wrong browser") // another browser's page
	done := mail.post("/recover/cancel/confirm", "tx", mail.get(page).field(t, "tx"))
	done.shows(t, 200, "Done – The recovery is stopped")
	mail.get(page).shows(t, 200, "Nothing to stop")
	mail.post("/recover/cancel/confirm", "tx", strings.TrimPrefix(page, "/recover/cancel/confirm?tx=")).shows(t, 200, "Nothing to stop")
	thief.get("/recover/status").shows(t, 200, "Stopped")
	r.clock.move(25 * time.Hour)
	thief.get("/recover/passkey").sent(t, "/recover/status")

	// Without a script, the link is pasted.
	rec = begin(1)
	mail.post("/recover/cancel/paste", "link", "https://evil.example/#x").shows(t, 200, "Stop a recovery")
	page = mail.post("/recover/cancel/paste", "link", issuer+"/recover/cancel#"+r.link(rec)).sent(t, "/recover/cancel/confirm?tx=")
	mail.post("/recover/cancel/confirm", "tx", mail.get(page).field(t, "tx")).shows(t, 200, "Done")

	// Somebody who is signed in sees it everywhere and stops it.
	b.signIn(0).to(t)
	r.clock.move(time.Second)
	rec = begin(2)
	if a := b.get("/account"); !strings.Contains(a.body, "A recovery with a recovery code is under way") {
		t.Error("the account's pages do not say so")
	}
	b.get("/account/recovery").shows(t, 200, "Under way")
	b.post("/account/recovery/stop", "id", rec.ID).sent(t, "/account/recovery?done=recovery-stopped")
	thief.get("/recover/status").shows(t, 200, "Stopped")
	b.post("/account/recovery/stop", "id", rec.ID).sent(t, "/account/recovery")
	b.post("/account/recovery/stop", "id", id.New(id.Recovery)).shows(t, 404, "Not found")

	rec = begin(3)
	thief.post("/recover/stop").sent(t, "/recover/status")
	thief.post("/recover/stop").sent(t, "/recover/status")
	if got, err := r.store.Recovery(context.Background(), rec.ID); err != nil || got.State != recovery.Cancelled {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestPrivateLink: a recovery goes on in another browser, and nobody can push one
// of theirs into a browser that has its own.
func TestPrivateLink(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.browser()
	b.setUp()
	codes := b.makeCodes()
	first, second := r.browser(), r.browser()
	first.recoverWith(dana, codes[0]).sent(t, "/recover/status")
	link := ownLink.FindStringSubmatch(html.UnescapeString(first.get("/recover/status").body))
	if link == nil {
		t.Fatal("no private link")
	}
	second.get("/recover/open").shows(t, 200, "Opening")
	if to := second.script("/recover/open", map[string]any{"secret": link[1]}).to(t); to != "/recover/status" {
		t.Errorf("on to %s", to)
	}
	second.get("/recover/status").shows(t, 200, "Waiting")
	third := r.browser()
	third.post("/recover/paste", "link", "no link").shows(t, 200, "Nothing to see")
	third.post("/recover/paste", "link", link[0]).sent(t, "/recover/status")
	third.get("/recover/status").shows(t, 200, "Waiting")

	sam := r.browser()
	sam.accept(b.invite("Sam", "", ""), "Sam", "sam").to(t)
	sams := sam.makeCodes()
	fourth := r.browser()
	fourth.recoverWith("sam", sams[0]).sent(t, "/recover/status")
	if got := fourth.script("/recover/open", map[string]any{"secret": link[1]}).failed(t); !strings.Contains(got, "of its own") {
		t.Error(got)
	}
	if got := fourth.get("/recover/status"); !strings.Contains(got.body, "<bdi>sam</bdi>") {
		t.Error("the browser's own recovery was replaced")
	}
}

// TestUniform: a name that nobody has, a code of somebody else, one that was
// used, and a disabled account are one answer.
func TestUniform(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.browser()
	b.setUp()
	codes := b.makeCodes()
	sam := r.browser()
	sam.accept(b.invite("Sam", "", ""), "Sam", "sam").to(t)
	sams := sam.makeCodes()
	lost := r.browser()
	lost.recoverWith(dana, codes[9]).sent(t, "/recover/status")
	lost.post("/recover/stop").sent(t, "/recover/status")
	before := len(r.kinds())
	var bodies []string
	ask := func(username, code string) {
		t.Helper()
		a := r.browser().recoverWith(username, code)
		a.shows(t, 200, "Check your answers")
		bodies = append(bodies, strings.ReplaceAll(a.body, html.EscapeString(username), "NAME"))
	}
	ask("nobody", codes[0])
	ask(dana, sams[0])
	ask(dana, codes[9])
	r.seed(audit.PersonDisabled, lineage.Freeze{ID: r.person("sam").ID, Why: "disabled"})
	ask("sam", sams[0])
	for i, body := range bodies {
		if body != bodies[0] {
			t.Errorf("answer %d differs", i)
		}
	}
	for _, k := range r.kinds()[before:] {
		if k != audit.FactorTried && k != audit.PersonDisabled {
			t.Errorf("a guess is recorded as %s", k)
		}
	}
	// Enabled again, the code that was refused is still good.
	r.seed(audit.PersonEnabled, lineage.Thaw{ID: r.person("sam").ID})
	lost.recoverWith("sam", sams[0]).sent(t, "/recover/status")
	r.seed(audit.PersonDisabled, lineage.Freeze{ID: r.person("sam").ID, Why: "disabled"})
	r.clock.move(25 * time.Hour)
	if to := lost.script("/recover/finish", map[string]any{"passkey_name": "x", "credential": map[string]any{}}).to(t); to != "/recover/status" {
		t.Errorf("a disabled person goes on to %s", to)
	}
	lost.get("/recover/passkey").sent(t, "/recover/status")
	r.seed(audit.PersonErased, account.Erase{ID: r.person("sam").ID})
	lost.get("/recover/status").shows(t, 200, "Nothing to see")
}

// TestRecoveryBudget: guesses are paid for before they are looked at, by the
// network that they come from and by nobody else: whoever guesses at an account from
// elsewhere does not shut its owner out.
func TestRecoveryBudget(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.browser()
	b.setUp()
	codes := b.makeCodes()
	var from atomic.Value
	r.server.ClientAddr = func(*http.Request) netip.Addr { return netip.MustParseAddr(from.Load().(string)) }
	from.Store("203.0.113.9")
	stranger := r.browser()
	for range 6 { // what can be no code is no guess
		stranger.recoverWith(dana, "0123-4567").shows(t, 200, "Check your answers")
	}
	for i := range factor.NetworkGuesses {
		path := []string{"/recover/code", "/recover/pass"}[i%2]
		stranger.post(path, "username", dana, "code", secret.NewTyped().Grouped()).shows(t, 200, "Check your answers")
	}
	for _, name := range []string{dana, "DANA@EXAMPLE.COM ", "nobody"} {
		stranger.recoverWith(name, codes[0]).shows(t, 200, "Too many attempts")
	}
	from.Store("198.51.100.7") // she has nothing left, and has never been here
	r.browser().recoverWith(dana, codes[1]).sent(t, "/recover/status")
	from.Store("203.0.113.9")
	r.clock.move(15*time.Minute + time.Second)
	stranger.recoverWith("nobody", codes[0]).shows(t, 200, "Check your answers")
}

// TestTwoAdministrators: each with an own passkey and the code from the person;
// not oneself, not twice, not somebody who was put there just now.
func TestTwoAdministrators(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.browser()
	b.setUp()
	second := b.second("sam")
	r.clock.move(25 * time.Hour)
	b.signIn(0).to(t)
	fresh := b.second("puppet")
	second.signIn(0).to(t)
	mira := r.browser()
	mira.accept(b.invite("Mira", "", ""), "Mira", "mira").to(t)
	old := mira.get("/account").status

	lost := r.browser()
	code := claimCode.FindString(lost.get("/recover/ask").body)
	if again := claimCode.FindString(lost.get("/recover/ask").body); code == "" || again != code {
		t.Fatalf("the code is %q and then %q", code, again)
	}
	lost.get("/recover/status").shows(t, 200, "Nothing to see")
	open := func(x *browser, username, code string) answer {
		return x.post("/admin/recoveries/open", "username", username, "code", code, "reason", "lost everything")
	}
	mira.get("/admin/recoveries").shows(t, 403, "Not allowed")
	open(mira, dana, code).shows(t, 403, "Not allowed")
	open(mira, "nobody", code).shows(t, 403, "Not allowed") // who has an account is not told
	open(b, "nobody", code).shows(t, 200, "Check your answers")
	open(b, "mira", "7Q4K").shows(t, 200, "Check your answers")
	b.post("/admin/recoveries/open", "username", "mira", "code", code, "reason", "").shows(t, 200, "Check your answers")
	open(b, dana, code).shows(t, 403, "Not allowed")       // her own
	open(fresh, "mira", code).shows(t, 403, "Not allowed") // an administrator for a minute
	open(b, "mira", strings.ToLower(code)).sent(t, "/admin/recoveries/show?id=")
	open(second, "mira", code).shows(t, 200, "Check your answers")
	rec := r.open("mira")
	if rec.Confirmed != 1 || !rec.ReadyAt.IsZero() {
		t.Fatalf("%+v", rec)
	}
	status := lost.get("/recover/status")
	status.shows(t, 200, "Waiting for administrators")
	confirm := func(x *browser, code string) answer {
		return x.post("/admin/recoveries/confirm", "id", rec.ID, "code", code)
	}
	page := second.get("/admin/recoveries/show?id=" + rec.ID)
	page.shows(t, 200, "Recovery of mira")
	if strings.Contains(page.body, code) {
		t.Error("the page shows the code that has to come from the person")
	}
	if m := cancelLink.FindStringSubmatch(page.body); m == nil || m[1] != r.link(rec) {
		t.Error("the page has no cancel link to print")
	}
	if a := b.get("/admin/recoveries/show?id=" + rec.ID); !strings.Contains(a.body, "You have confirmed this") {
		t.Error("the first administrator is offered to confirm again")
	}
	lost.get("/recover/passkey").sent(t, "/recover/status")
	confirm(second, claimCode.FindString(r.browser().get("/recover/ask").body)).shows(t, 200, "Check the code")
	confirm(mira, code).shows(t, 403, "Not allowed")
	confirm(fresh, code).shows(t, 403, "Not allowed")
	confirm(b, code).shows(t, 409, "Not done")
	if got := r.open("mira"); got.Confirmed != 1 {
		t.Fatalf("%+v", got)
	}
	r.clock.move(5*time.Minute + time.Second)
	confirm(second, code).sent(t, "/step-up?") // nobody's passkey was used just now
	second.stepUp(0, "/admin/recoveries/show?id="+rec.ID)
	confirm(second, code).sent(t, "/admin/recoveries/show?id=")
	lost.get("/recover/status").shows(t, 200, "Ready") // not an administrator: no waiting
	r.browser().get("/recover/passkey").sent(t, "/recover/status")
	lost.remake().to(t)
	if a := mira.get("/account"); old != 200 || a.status != http.StatusSeeOther {
		t.Errorf("mira's old session: %d", a.status)
	}
	for _, want := range []audit.Kind{audit.RecoveryOpened, audit.RecoveryConfirmed, audit.RecoveryCompleted} {
		if !slices.Contains(r.kinds(), want) {
			t.Errorf("no record of %s", want)
		}
	}
}

// TestRecoveryRace: two tabs that finish, and the owner who stops it at the same
// moment: one of them happens.
func TestRecoveryRace(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.browser()
	b.setUp()
	codes := b.makeCodes()
	lost, owner := r.browser(), r.browser()
	for i := range 4 {
		before := len(b.passkeysOf(dana))
		lost.recoverWith(dana, codes[i]).sent(t, "/recover/status")
		page := owner.script("/recover/cancel/open", map[string]any{"secret": r.link(r.open(dana))}).to(t)
		tx := owner.get(page).field(t, "tx")
		r.clock.move(24*time.Hour + time.Second)
		var made []map[string]any
		for range 2 {
			_, cred := lost.attest(lost.script("/recover/options", map[string]any{"passkey_name": "x"}))
			made = append(made, map[string]any{"passkey_name": "x", "credential": cred})
		}
		var wg sync.WaitGroup
		answers := make([]answer, 3)
		for n, f := range []func() answer{
			func() answer { return lost.script("/recover/finish", made[0]) },
			func() answer { return lost.script("/recover/finish", made[1]) },
			func() answer { return owner.post("/recover/cancel/confirm", "tx", tx) },
		} {
			wg.Go(func() { answers[n] = f() })
		}
		wg.Wait()
		won := 0
		for _, a := range answers[:2] {
			var to struct{ Location string }
			if json.Unmarshal([]byte(a.body), &to) == nil && to.Location == "/account/recovery?done=recovered" {
				won++
			}
		}
		if strings.HasPrefix(answers[2].title(), "Done") {
			won++
		}
		if more := len(b.passkeysOf(dana)) - before; won != 1 || more > 1 {
			t.Errorf("%d of three happened, %d passkeys were made: %+v", won, more, answers)
		}
		lost = r.browser()
		if n, _, err := r.store.CodesLeft(context.Background(), r.person(dana).ID); err == nil && n == 0 {
			break // completed: the codes are gone
		}
	}
}

func (b *browser) passkeysOf(username string) []string {
	b.t.Helper()
	keys, err := b.store.PasskeysOf(context.Background(), b.person(username).ID)
	check(b.t, err)
	var ids []string
	for _, k := range keys {
		ids = append(ids, k.ID)
	}
	return ids
}

// TestTemporaryPass: from a helper, for somebody below, once, for a while, and
// worth less than a passkey.
func TestTemporaryPass(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.browser()
	b.setUp()
	helpers := id.New(id.Group)
	r.seed(audit.GroupCreated, group.Create{Group: group.Group{ID: helpers, Name: group.Helpers}})
	helper, mira, fellow := r.browser(), r.browser(), r.browser()
	helper.accept(b.invite("Hal", "", ""), "Hal", "hal").to(t)
	mira.accept(b.invite("Mira", "", ""), "Mira", "mira").to(t)
	fellow.accept(b.invite("Fay", "", ""), "Fay", "fay").to(t)
	give := func(x *browser, username string) answer {
		return x.post("/admin/pass", "username", username, "reason", "left the key at home", "valid", "1", "lasts", "4")
	}
	give(helper, "mira").shows(t, 403, "Not allowed") // not a helper yet
	r.seed(audit.GroupJoined, group.Add{Group: helpers, Person: r.person("hal").ID}, group.Add{Group: helpers, Person: r.person("fay").ID})
	helper.get("/admin/pass").shows(t, 200, "Temporary pass")
	helper.get("/admin/recoveries").shows(t, 403, "Not allowed")
	for _, above := range []string{dana, "fay", "hal", "nobody"} {
		give(helper, above).shows(t, 200, "Check your answers")
	}
	give(b, dana).shows(t, 200, "Check your answers") // nobody vouches for themselves, not even her
	helper.post("/admin/pass", "username", "mira", "reason", "").shows(t, 200, "Check your answers")
	made := give(helper, "mira")
	made.shows(t, 200, "Pass made – Mira")
	code := typedCode.FindString(made.body)
	link := cancelLink.FindStringSubmatch(made.body)
	if code == "" || link == nil {
		t.Fatal("no pass, or no cancel link")
	}
	give(helper, "mira").shows(t, 200, "Check your answers") // one at a time

	day := r.browser()
	enter := func(x *browser, username, code string) answer {
		return x.post("/recover/pass", "username", username, "code", code)
	}
	enter(day, "fay", code).shows(t, 200, "Check your answers")
	day.recoverWith("mira", code).shows(t, 200, "Check your answers") // it is no recovery code
	enter(day, "mira", code).sent(t, "/account")
	enter(r.browser(), "mira", code).shows(t, 200, "Check your answers") // once
	day.get("/account").shows(t, 200, "")
	for _, path := range []string{"/account/passkeys/add"} {
		day.get(path).sent(t, "/step-up?")
	}
	day.post("/account/recovery/codes").sent(t, "/step-up?")
	day.post("/account/email", "email", "thief@mail.example").sent(t, "/step-up?") // where she hears of it
	mira.get("/account").shows(t, 200, "")                                         // nothing of hers ended
	r.clock.move(30 * time.Minute)
	for range 8 { // in use all the time
		day.get("/account").shows(t, 200, "")
		r.clock.move(27 * time.Minute)
	}
	day.get("/account").sent(t, "/signin?next=") // after four hours it is over

	// Taking a pass back also ends what it opened.
	helper.signIn(0).to(t)
	made = give(helper, "mira")
	enter(day, "mira", typedCode.FindString(made.body)).sent(t, "/account")
	mail := r.browser()
	page := mail.script("/recover/cancel/open", map[string]any{"secret": cancelLink.FindStringSubmatch(made.body)[1]}).to(t)
	mail.post("/recover/cancel/confirm", "tx", mail.get(page).field(t, "tx")).shows(t, 200, "Done – The pass is taken back")
	day.get("/account").sent(t, "/signin?next=")

	// A pass is worth no more than its maker's standing, and never an hour more.
	made = give(helper, "mira")
	late := typedCode.FindString(made.body)
	r.seed(audit.GroupLeft, group.Remove{Group: helpers, Person: r.person("hal").ID})
	enter(day, "mira", late).shows(t, 403, "Not allowed")
	r.seed(audit.GroupJoined, group.Add{Group: helpers, Person: r.person("hal").ID})
	r.seed(audit.AdminGranted, group.Add{Group: r.admins, Person: r.person("mira").ID})
	enter(day, "mira", late).shows(t, 403, "Not allowed") // she is above now
	r.clock.move(time.Hour + time.Second)
	enter(day, "mira", late).shows(t, 200, "Check your answers")
}

// TestForgedHostOfRecovery: links come from the configuration.
func TestForgedHostOfRecovery(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.browser()
	b.setUp()
	codes := b.makeCodes()
	sam := r.browser()
	sam.accept(b.invite("Sam", "", ""), "Sam", "sam").to(t)
	lost := r.browser()
	a := lost.send("POST", "/recover/code", "application/x-www-form-urlencoded", "username=dana%40example.com&code="+codes[0], "Host", "evil.example", "X-Forwarded-Host", "evil.example", "Forwarded", "host=evil.example")
	a.sent(t, "/recover/status")
	status := lost.get("/recover/status", "Host", "evil.example", "X-Forwarded-Host", "evil.example")
	if strings.Contains(status.body, "evil.example") || len(ownLink.FindAllString(html.UnescapeString(status.body), -1)) != 1 {
		t.Error("the private link is not the configured issuer's")
	}
	made := b.send("POST", "/admin/pass", "application/x-www-form-urlencoded", "username=sam&reason=x", "Host", "evil.example", "X-Forwarded-Host", "evil.example")
	if made.status != 200 || strings.Contains(made.body, "evil.example") || len(cancelLink.FindAllString(made.body, -1)) != 1 || !strings.Contains(made.body, issuer+"/recover/pass") {
		t.Errorf("%d %s: a link is not the configured issuer's", made.status, made.title())
	}
}

// TestALinkAloneGivesNothing: every link of recovery, in every page that takes
// one, by somebody who has nothing else.
func TestALinkAloneGivesNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.browser()
	b.setUp()
	codes := b.makeCodes()
	lost := r.browser()
	lost.recoverWith(dana, codes[0]).sent(t, "/recover/status")
	mail := r.browser()
	cancel := r.link(r.open(dana))
	for _, path := range []string{"/recover/open", "/setup/open", "/invite/open", "/reenrol/open", "/recover/cancel/open"} {
		mail.script(path, map[string]any{"secret": cancel})
	}
	for _, path := range []string{"/account", "/recover/passkey", "/account/recovery"} {
		if a := mail.get(path); a.status != http.StatusSeeOther {
			t.Errorf("%s: %d %s", path, a.status, a.title())
		}
	}
	r.clock.move(48 * time.Hour)
	mail.get("/recover/passkey").sent(t, "/recover/status")
	mail.get("/recover/status").shows(t, 200, "Nothing to see")
	if a := mail.recoverWith(dana, cancel); a.status != 200 || !strings.HasPrefix(a.title(), "Check") {
		t.Errorf("the link as a code: %d %s", a.status, a.title())
	}
}
