package portal_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/totp"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/factor"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/lineage"
)

const phrase = "grumpy otter sells umbrellas"

var secretShown = regexp.MustCompile(`<div class="command" data-copy="the secret"><code>([A-Z2-7 ]+)</code>`)

// app is somebody's authenticator app.
type app struct {
	secret string
	clock  *clock
}

func (b *browser) scan(page answer) app {
	b.t.Helper()
	m := secretShown.FindStringSubmatch(page.body)
	if m == nil {
		b.t.Fatalf("no secret on %q", page.title())
	}
	return app{strings.ReplaceAll(m[1], " ", ""), b.clock}
}

// code is what the app shows some steps from now.
func (a app) code(steps int) string {
	c, err := totp.GenerateCodeCustom(a.secret, a.clock.now().Add(time.Duration(steps)*30*time.Second), totp.ValidateOpts{Period: 30, Digits: otp.DigitsSix})
	if err != nil {
		panic(err)
	}
	return c
}

// setUpTyped goes through the setup as Dana with plain forms only.
func (b *browser) setUpTyped() app {
	b.t.Helper()
	page := b.post("/setup/open", "secret", issuer+"/setup#"+b.setupLink()).sent(b.t, "/setup/name?tx=")
	tx := b.get(page).field(b.t, "tx")
	page = b.post("/setup/name", "tx", tx, "display_name", "Dana Example", "username", "dana@example.com").sent(b.t, "/setup/passkey?tx=")
	if !strings.Contains(b.get(page).body, "/setup/password?tx=") {
		b.t.Error("the page for a passkey does not say how else")
	}
	page = strings.Replace(page, "/setup/passkey", "/setup/password", 1)
	tx = b.get(page).field(b.t, "tx")
	b.post("/setup/password", "tx", tx, "password", "short").shows(b.t, 200, "Check your answers")
	b.post("/setup/password", "tx", tx, "password", "Dana-Example-1").shows(b.t, 200, "Check your answers")
	page = b.post("/setup/password", "tx", tx, "password", phrase).sent(b.t, "/setup/app?tx=")
	shown := b.get(page)
	a := b.scan(shown)
	if strings.Contains(shown.body, phrase) || strings.Contains(shown.body, "style=") {
		b.t.Error("the page holds what it must not")
	}
	tx = shown.field(b.t, "tx")
	b.post("/setup/app", "tx", tx, "code", a.code(9)).shows(b.t, 200, "Wrong code")
	b.post("/setup/app", "tx", tx, "code", a.code(0)).sent(b.t, "/setup/codes")
	return a
}

// typePassword is the first step of signing in; the answer is where it leads.
func (b *browser) typePassword(username, password string) answer {
	b.t.Helper()
	return b.post("/signin/password", "username", username, "password", password, "next", "/account")
}

// signInTyped signs in with both.
func (b *browser) signInTyped(a app, username, password string) {
	b.t.Helper()
	st := b.get(b.typePassword(username, password).sent(b.t, "/signin/code?st=")).field(b.t, "st")
	b.post("/signin/code", "st", st, "code", a.code(0)).sent(b.t, "/account")
}

func TestSetUpAndSignInWithoutScript(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.browser()
	a := b.setUpTyped()
	b.get("/setup/done").shows(t, 200, "Done")
	if !strings.Contains(b.get("/setup/done").body, "You have no passkey yet") {
		t.Error("the end of the setup does not say what is missing")
	}
	b.get("/account").shows(t, 200, "3 things to do")

	other := r.browser()
	st := other.get(other.typePassword("DANA@example.com", phrase).sent(t, "/signin/code?st=")).field(t, "st")
	if site, err := url.Parse(r.http.URL); err != nil || len(other.client.Jar.Cookies(site)) != 1 {
		t.Error("half a sign-in has more than the browser's own cookie")
	}
	for _, page := range []string{"/account", "/account/passkeys", "/account/password"} {
		other.get(page).sent(t, "/signin?next=")
	}
	r.clock.move(30 * time.Second)
	other.post("/signin/code", "st", st, "code", a.code(7)).shows(t, 200, "Wrong code")
	r.browser().post("/signin/code", "st", st, "code", a.code(0)).shows(t, 409, "") // of another browser
	other.post("/signin/code", "st", st, "code", a.code(0)).sent(t, "/account")
	other.get("/account").shows(t, 200, "3 things to do")
	r.clock.move(30 * time.Second)
	third := r.browser()
	third.client.Jar = other.client.Jar
	third.post("/signin/code", "st", st, "code", a.code(0)).shows(t, 409, "") // the sign-in is spent

	ses, err := r.store.SessionsOf(context.Background(), r.person("dana@example.com").ID)
	check(t, err)
	if s := assurance.Evaluate(ses[0].Person, ses[0].Proofs, r.clock.now()); s.Best().Rung != assurance.Multi || s.PhishingResistant {
		t.Errorf("the session is worth %+v", s)
	}
	late := r.browser()
	st = late.get(late.typePassword("dana@example.com", phrase).sent(t, "/signin/code?st=")).field(t, "st")
	r.clock.move(11 * time.Minute)
	late.post("/signin/code", "st", st, "code", a.code(0)).shows(t, 409, "")
}

func TestInvitationWithoutScript(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	dana := r.browser()
	dana.setUp()
	link := dana.invite("Sam", "sam@example.com", "member")
	sam := r.browser()
	page := sam.post("/invite/open", "secret", "  "+issuer+"/invite#"+link+"\n").sent(t, "/invite/accept?tx=")
	if !strings.Contains(sam.get(page).body, "/invite/password?tx=") {
		t.Error("the invitation does not say how else")
	}
	tx := sam.get(strings.Replace(page, "/accept", "/password", 1)).field(t, "tx")
	sam.post("/invite/password", "tx", tx, "display_name", "Sam", "username", "dana@example.com", "password", phrase).shows(t, 200, "Check your answers")
	page = sam.post("/invite/password", "tx", tx, "display_name", "Sam", "username", "sam", "password", phrase).sent(t, "/invite/app?tx=")
	shown := sam.get(page)
	a := sam.scan(shown)
	r.nobody("sam")
	sam.post("/invite/app", "tx", tx, "code", a.code(0)).sent(t, "/invite/password") // a tx without a password
	sam.post("/invite/app", "tx", shown.field(t, "tx"), "code", a.code(0)).sent(t, "/invite/codes")
	sam.get("/account").shows(t, 200, "2 things to do")
	sam.post("/invite/app", "tx", shown.field(t, "tx"), "code", a.code(1)).shows(t, 200, "Already used")
	if k := r.kinds(); k[len(k)-1] != audit.InvitationAccepted {
		t.Errorf("recorded: %v", k)
	}
	sam.get("/admin/people").shows(t, 403, "")
}

// Whether there is such an account, whether it has a password and whether it is
// wrong: one answer, in words and in time, until and beyond the limit.
func TestSignInTellsNobodyWhoIsThere(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	dana := r.browser()
	dana.setUpTyped()
	sam := r.browser()
	r.seed(audit.PersonCreated, account.Create{Person: account.Person{ID: id.New(id.Person), Subject: id.Random("sub_"), Name: "Sam", Username: "keyonly"}})
	username := regexp.MustCompile(`value="[^"]*"`)
	var first []string
	var took []time.Duration
	for _, name := range []string{"dana@example.com", "keyonly", "nobody", "no such name", strings.Repeat("x", 300), "dana@example.com'--"} {
		b := r.browser()
		var bodies []string
		for range factor.Guesses + 2 {
			began := time.Now()
			a := b.typePassword(name, "wrong "+phrase)
			took = append(took, time.Since(began))
			bodies = append(bodies, username.ReplaceAllString(a.body, ""))
			a.shows(t, 200, "Sign in")
		}
		if first == nil {
			first = bodies
			if !strings.Contains(bodies[0], "belong together. 4 tries left.") || !strings.Contains(bodies[factor.Guesses], "Too many attempts") {
				t.Errorf("control: %s", bodies[0])
			}
			continue
		}
		for i := range bodies {
			if clean(bodies[i]) != clean(first[i]) {
				t.Errorf("%.40q, try %d: another page than for dana:\n%s", name, i, bodies[i])
			}
		}
	}
	// A machine that is busy keeps some waiting, but not most of them.
	slices.Sort(took)
	if low, half := took[0], took[len(took)/2]; low < 240*time.Millisecond || half > 2*time.Second {
		t.Errorf("answers took %v at least, half of them more than %v", low, half)
	}
	_ = sam
}

// clean drops what differs from moment to moment.
func clean(body string) string {
	return regexp.MustCompile(`<time .*?</time>`).ReplaceAllString(body, "")
}

// Whoever guesses from elsewhere locks nobody out: not the passkey, and not the
// owner's own browser.
func TestALockIsNoWeapon(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	dana := r.browser()
	a := dana.setUpTyped()
	thief := r.browser()
	for range factor.Guesses + 1 {
		thief.typePassword("dana@example.com", "wrong")
	}
	if body := thief.typePassword("dana@example.com", phrase).body; !strings.Contains(body, "Too many attempts") {
		t.Error("control: the right password is looked at after too many")
	}
	r.clock.move(30 * time.Second)
	dana.post("/signout/here").sent(t, "/signed-out")
	dana.signInTyped(a, "dana@example.com", phrase)
	if to := dana.create("/account/passkeys/options", "/account/passkeys/finish", map[string]any{"passkey_name": "Laptop"}).to(t); to != "/account/passkeys?done=passkey-added" {
		t.Error(to)
	}
	fresh := r.browser()
	fresh.auth, fresh.handle = dana.auth, dana.handle
	if to := fresh.signIn(0).to(t); to != "/account" {
		t.Errorf("the passkey: %s", to)
	}
	k := r.kinds()
	for _, want := range []audit.Kind{audit.FactorTried, audit.FactorMissed, audit.FactorLocked} {
		if !slices.Contains(k, want) {
			t.Errorf("no record %s", want)
		}
	}
}

func TestGuessingCodes(t *testing.T) {
	t.Parallel()
	engines(t, guessingCodes)
}

func guessingCodes(t *testing.T, r *rig) {
	dana := r.browser()
	a := dana.setUpTyped()
	r.clock.move(30 * time.Second)
	thief := r.browser() // has the password
	st := thief.get(thief.typePassword("dana@example.com", phrase).sent(t, "/signin/code?st=")).field(t, "st")
	bad := []string{" " + a.code(0), a.code(0)[:3] + " " + a.code(0)[3:], strings.Map(func(c rune) rune { return c - '0' + '\uff10' }, a.code(0)), a.code(-2), a.code(5)}
	for i, code := range bad {
		if body := thief.post("/signin/code", "st", st, "code", code).body; !strings.Contains(body, "Wrong code.") || i < 4 && !strings.Contains(body, fmt.Sprintf("%d tr", 4-i)) {
			t.Errorf("%q: %s", code, body)
		}
	}
	thief.post("/signin/code", "st", st, "code", a.code(0)).shows(t, 200, "Too many attempts")

	// A thousand at once, from another browser and another quarter of an hour: five
	// are looked at, however they are sent, and the right one among the others is not.
	r.clock.move(factor.GuessWindow)
	st = thief.get(thief.typePassword("dana@example.com", phrase).sent(t, "/signin/code?st=")).field(t, "st")
	before := count(r.kinds(), audit.FactorTried)
	var wg sync.WaitGroup
	var mu sync.Mutex
	looked := 0
	gate := make(chan struct{}, 40)
	for i := range 1000 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			gate <- struct{}{}
			defer func() { <-gate }()
			body := thief.post("/signin/code", "st", st, "code", fmt.Sprintf("%06d", i)).body
			mu.Lock()
			defer mu.Unlock()
			if strings.Contains(body, "Wrong code.") {
				looked++
			}
		}()
	}
	wg.Wait()
	if looked != factor.Guesses || count(r.kinds(), audit.FactorTried)-before != factor.Guesses {
		t.Errorf("%d of 1000 were looked at, %d recorded", looked, count(r.kinds(), audit.FactorTried)-before)
	}
}

func count(all []audit.Kind, k audit.Kind) (n int) {
	for _, x := range all {
		if x == k {
			n++
		}
	}
	return n
}

// One code, many at once: one sign-in.
func TestACodeIsUsedOnceByRace(t *testing.T) {
	t.Parallel()
	engines(t, aCodeIsUsedOnce)
}

func aCodeIsUsedOnce(t *testing.T, r *rig) {
	dana := r.browser()
	a := dana.setUpTyped()
	r.clock.move(30 * time.Second)
	code := a.code(0)
	var browsers []*browser
	var states []string
	for range factor.Guesses {
		b := r.browser()
		browsers = append(browsers, b)
		states = append(states, b.get(b.typePassword("dana@example.com", phrase).sent(t, "/signin/code?st=")).field(t, "st"))
	}
	in := make([]answer, len(browsers))
	var wg sync.WaitGroup
	for i, b := range browsers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			in[i] = b.post("/signin/code", "st", states[i], "code", code)
		}()
	}
	wg.Wait()
	opened := 0
	for _, x := range in {
		if x.status == http.StatusSeeOther {
			opened++
		} else if !strings.Contains(x.body, "used before") {
			t.Errorf("%d %s", x.status, x.title())
		}
	}
	if opened != 1 {
		t.Errorf("one code opened %d sessions", opened)
	}
}

func TestStepUpWithWhatIsTyped(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.browser()
	a := b.setUpTyped()
	r.clock.move(6 * time.Minute)
	page := b.get("/account/password").sent(t, "/step-up?")
	m := b.get(page)
	m.shows(t, 200, "Confirm it's you to change how you sign in")
	fields := []string{"next", m.field(t, "next"), "why", m.field(t, "why")}
	b.post("/step-up/typed", append(fields, "password", "wrong", "code", a.code(0))...).shows(t, 200, "Confirm it's you")
	b.post("/step-up/typed", append(fields, "password", phrase, "code", a.code(9))...).shows(t, 200, "Confirm it's you")
	b.post("/step-up/typed", append(fields, "password", phrase, "code", a.code(0))...).sent(t, "/account/password")
	b.get("/account/password").shows(t, 200, "Change your password")
	if body := b.post("/step-up/typed", append(fields, "password", phrase, "code", a.code(0))...).body; !strings.Contains(body, "used before") {
		t.Error("a code does for two confirmations")
	}
	// What asks for a passkey says so, and how to get one.
	body := b.get(b.get("/admin/invite").sent(t, "/step-up?")).body
	for _, want := range []string{"You can't confirm this yet", "phishing-resistant", "Add a passkey", "/account/passkeys/add"} {
		if !strings.Contains(body, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if strings.Contains(body, `name="password"`) {
		t.Error("it asks for a password that would not do")
	}
}

// A passkey that was added with a password and a code opens no more than these
// for a day; in the session that began with the account's link it counts at once.
func TestAPasskeyIsOnProbation(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.browser()
	a := b.setUpTyped()
	add := func(b *browser, name string) {
		t.Helper()
		b.create("/account/passkeys/options", "/account/passkeys/finish", map[string]any{"passkey_name": name}).to(t)
	}
	add(b, "At once")
	keys, err := r.store.PasskeysOf(context.Background(), r.person("dana@example.com").ID)
	check(t, err)
	if !keys[0].ProbationUntil.IsZero() {
		t.Error("in the session of the setup it is on probation")
	}
	b.stepUp(0, "/admin/invite")
	b.get("/admin/invite").shows(t, 200, "Invite")
	b.post("/account/passkeys/remove", "id", keys[0].ID).sent(t, "/account/passkeys/remove") // only as it is meant
	b.get("/account/passkeys/remove?id="+keys[0].ID).shows(t, 200, "Remove")
	b.post("/account/passkeys/remove", "id", keys[0].ID, "weaken", "yes").sent(t, "/account/passkeys?done=passkey-removed")

	r.clock.move(5 * time.Minute)
	c := r.browser()
	c.signInTyped(a, "dana@example.com", phrase)
	add(c, "Later")
	c.stepUp(0, "/account")
	c.get(c.get("/admin/invite").sent(t, "/step-up?")).shows(t, 200, "Not possible yet")
	if body := c.get("/step-up?why=people&next=/admin/invite").body; !strings.Contains(body, "counts for this from") {
		t.Error("the page does not say from when on")
	}
	// Who has the password and a code can still take it away: it protects nothing yet.
	keys, err = r.store.PasskeysOf(context.Background(), r.person("dana@example.com").ID)
	check(t, err)
	r.clock.move(31 * time.Second)
	d := r.browser()
	d.signInTyped(a, "dana@example.com", phrase)
	d.get("/account/passkeys/remove?id="+keys[0].ID).shows(t, 200, "Remove")
	r.clock.move(24 * time.Hour)
	e := r.browser()
	e.auth, e.handle = c.auth, c.handle
	e.signIn(0).to(t)
	e.get("/admin/invite").shows(t, 200, "Invite")
	f := r.browser()
	f.signInTyped(a, "dana@example.com", phrase)
	f.get("/account/passkeys/remove?id="+keys[0].ID).sent(t, "/step-up?")
}

func TestChangingAPasswordEndsWhatItBegan(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.browser()
	a := b.setUpTyped()
	r.clock.move(30 * time.Second)
	other := r.browser()
	other.signInTyped(a, "dana@example.com", phrase)
	b.get("/account/password").shows(t, 200, "Change your password")
	b.post("/account/password", "password", "tiny").shows(t, 200, "Check your answers")
	b.post("/account/password", "password", "velvet cactus 88").sent(t, "/")
	for _, x := range []*browser{b, other} {
		x.get("/account").sent(t, "/signin")
	}
	r.clock.move(30 * time.Second)
	if body := r.browser().typePassword("dana@example.com", phrase).body; !strings.Contains(body, "belong together") {
		t.Error("the old password still does")
	}
	b.signInTyped(a, "dana@example.com", "velvet cactus 88")
	if !slices.Contains(r.kinds(), audit.FactorReplaced) {
		t.Error("no record of it")
	}
}

func TestAppsAreAddedAndRemoved(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.browser()
	first := b.setUpTyped()
	shown := b.get("/account/app")
	second := b.scan(shown)
	b.post("/account/app", "st", shown.field(t, "st"), "app_name", "", "code", second.code(0)).shows(t, 200, "Add an")
	b.post("/account/app", "st", shown.field(t, "st"), "app_name", "Tablet", "code", first.code(0)).shows(t, 200, "Wrong code")
	b.post("/account/app", "st", shown.field(t, "st"), "app_name", "Tablet", "code", second.code(0)).sent(t, "/account/passkeys?done=app-added")
	all, err := r.store.FactorsOf(context.Background(), r.person("dana@example.com").ID)
	check(t, err)
	if len(all) != 3 || all[2].Name != "Tablet" {
		t.Fatalf("%+v", all)
	}
	list := b.get("/account/passkeys").body
	for _, want := range []string{"Tablet", "Authenticator app", "Password"} {
		if !strings.Contains(list, want) {
			t.Errorf("the list has no %q", want)
		}
	}
	b.post("/account/passkeys/rename", "id", all[2].ID, "passkey_name", "Old tablet").sent(t, "/account/passkeys?done=renamed")
	b.post("/account/passkeys/remove", "id", all[2].ID).sent(t, "/account/passkeys?done=removed")
	for _, f := range all[:2] { // the two that are left are both needed
		b.get("/account/passkeys/remove?id="+f.ID).shows(t, 200, "Not possible")
		b.post("/account/passkeys/remove", "id", f.ID).sent(t, "/account/passkeys/remove?id=")
	}
	thief := r.browser()
	r.clock.move(30 * time.Second)
	st := thief.get(thief.typePassword("dana@example.com", phrase).sent(t, "/signin/code?st=")).field(t, "st")
	thief.post("/signin/code", "st", st, "code", second.code(0)).shows(t, 200, "Wrong code") // of a removed app
	thief.post("/signin/code", "st", st, "code", first.code(0)).sent(t, "/account")
}

func TestTypedSwitchedOff(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.browser()
	a := b.setUpTyped()
	r.seed(audit.FactorForbidden, factor.Allow{Kind: factor.KindPassword, On: false})
	b.get("/account").sent(t, "/signin") // off is judged at use
	page := b.get("/signin")
	if strings.Contains(page.body, `name="password"`) {
		t.Error("a password is asked for")
	}
	b.typePassword("dana@example.com", phrase).shows(t, 403, "")
	r.seed(audit.FactorAllowed, factor.Allow{Kind: factor.KindPassword, On: true})
	r.clock.move(30 * time.Second)
	b.signInTyped(a, "dana@example.com", phrase)
}

// Somebody who comes from another system with a hash and nothing else adds the
// second factor on the first way in, once.
func TestAnImportedPassword(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	h, err := factor.ParseHash("$2b$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2")
	check(t, err)
	p := account.Person{ID: id.New(id.Person), Subject: id.Random(id.Person), Name: "Mira", Username: "mira", CreatedAt: r.clock.now()}
	pw, err := r.server.Passwords.Of(p.ID, h, r.clock.now())
	check(t, err)
	r.seed(audit.FactorImported, account.Create{Person: p}, factor.Add{Secret: pw})
	b := r.browser()
	b.typePassword("mira", "correct horsf").shows(t, 200, "Sign in")
	shown := b.get(b.typePassword("mira", "correct horse").sent(t, "/signin/app?st="))
	a := b.scan(shown)
	late := r.browser()
	second := late.get(late.typePassword("mira", "correct horse").sent(t, "/signin/app?st="))
	b.post("/signin/app", "st", shown.field(t, "st"), "code", a.code(4)).shows(t, 200, "Wrong code")
	b.post("/signin/app", "st", shown.field(t, "st"), "code", a.code(0)).sent(t, "/account")
	b.get("/account").shows(t, 200, "2 things to do")
	late.post("/signin/app", "st", second.field(t, "st"), "code", late.scan(second).code(0)).shows(t, 409, "")
	k := r.kinds()
	if count(k, audit.FactorRefreshed) != 1 || count(k, audit.FactorEnrolled) != 2 { // and the refusal of the second
		t.Errorf("recorded: %v", k)
	}
	r.seed(audit.PersonDisabled, lineage.Freeze{ID: p.ID, Why: "disabled"})
	r.clock.move(30 * time.Second)
	st := late.get(late.typePassword("mira", "correct horse").sent(t, "/signin/code?st=")).field(t, "st")
	late.post("/signin/code", "st", st, "code", a.code(0)).shows(t, 403, "")
}
