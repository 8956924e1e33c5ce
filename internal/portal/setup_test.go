package portal_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/factor"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/store"
)

func TestSetup(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.browser()
	link := r.setupLink()

	b.get("/setup").shows(t, 200, "Opening – Set up")
	page := b.script("/setup/open", map[string]any{"secret": link}).to(t)
	if strings.Contains(page, link) {
		t.Error("the secret is in a URL that servers see")
	}
	step1 := b.get(page)
	step1.shows(t, 200, "Step 1 of 5")
	tx := step1.field(t, "tx")

	bad := b.post("/setup/name", "tx", tx, "display_name", "", "username", "not a name")
	bad.shows(t, 200, "Check your answers")
	if !strings.Contains(bad.body, "1 to 64 characters") || !strings.Contains(bad.body, `value="not a name"`) {
		t.Error("the page does not say what is wrong, or forgets what was typed")
	}
	page = b.post("/setup/name", "tx", tx, "display_name", "Dana Example", "username", "dana@example.com").sent(t, "/setup/passkey?tx=")
	b.get(page).shows(t, 200, "Step 2 of 5")
	tx = b.get(page).field(t, "tx")
	r.nobody("dana@example.com")

	if got := b.script("/setup/passkey/options", map[string]any{"tx": tx, "passkey_name": ""}).failed(t); !strings.Contains(got, "60 characters") {
		t.Error(got)
	}
	to := b.create("/setup/passkey/options", "/setup/passkey/finish", map[string]any{"tx": tx, "passkey_name": "Laptop"}).to(t)
	if to != "/setup/second" {
		t.Fatalf("on to %s", to)
	}
	dana := r.person("dana@example.com")
	if b64(b.handle) != b64(factor.HandleOf(dana.Subject)) {
		t.Error("the passkey's user handle is not the person's")
	}
	admins, err := r.store.Members(context.Background(), r.admins, "", 10)
	if err != nil || !slices.Equal(admins, []string{dana.ID}) {
		t.Errorf("administrators: %v, %v", admins, err)
	}
	second := b.get(to)
	second.shows(t, 200, "Step 3 of 5")
	if !strings.Contains(second.body, "“<bdi>Laptop</bdi>” is ready") {
		t.Error("the page does not name the passkey that was made")
	}
	if to := b.create("/account/passkeys/options", "/account/passkeys/finish", map[string]any{"then": second.field(t, "then"), "passkey_name": "Phone"}).to(t); to != "/setup/codes" {
		t.Errorf("on to %s", to)
	}
	done := b.get("/setup/done")
	done.shows(t, 200, "Done – Set up")
	if !strings.Contains(done.body, "countersign login "+issuer) || strings.Contains(done.body, "You have one passkey") {
		t.Error("the last page lacks the next command, or counts wrongly")
	}
	b.get("/account").shows(t, 200, "2 things to do")

	kinds := r.kinds()
	for _, k := range []audit.Kind{audit.SetupCompleted, audit.FactorEnrolled} {
		if !slices.Contains(kinds, k) {
			t.Errorf("no record of %s in %v", k, kinds)
		}
	}
	lines, _, err := r.server.Log.Page(t.Context(), dana.ID, "", 10)
	check(t, err)
	first := lines[len(lines)-1]
	if first.Kind != audit.SetupCompleted || first.Assurance != "phr" || first.Proofs != "passkey" {
		t.Errorf("the record does not say with what: %+v", first)
	}
	// It is closed for good: nobody learns who from the bare page.
	closed := r.browser().get("/setup")
	closed.shows(t, 200, "Already done")
	if strings.Contains(closed.body, "Dana") {
		t.Error("the page tells strangers who the administrator is")
	}
}

// TestSetupIsOneAct: account, passkey, session and the row that closes setting up
// are there together, or none of them is.
func TestSetupIsOneAct(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.browser()
	link := r.setupLink()
	key := once.KeyOf(once.Setup, link)
	page := b.script("/setup/open", map[string]any{"secret": link}).to(t)
	tx := b.get(page).field(t, "tx")
	tx = b.get(b.post("/setup/name", "tx", tx, "display_name", "Dana", "username", "dana").sent(t, "/setup/passkey")).field(t, "tx")
	_, made := b.attest(b.script("/setup/passkey/options", map[string]any{"tx": tx, "passkey_name": "x"}))
	// A passkey made for another page's challenge.
	_, other := b.attest(b.script("/signin/options", map[string]any{}))
	if got := b.script("/setup/passkey/finish", map[string]any{"tx": tx, "passkey_name": "x", "credential": other}).failed(t); !strings.Contains(got, "another page") {
		t.Error(got)
	}
	r.nobody("dana")
	if v, err := r.store.OnceValue(context.Background(), once.Setup, key); err != nil || !v.UsedAt.IsZero() {
		t.Errorf("a failed attempt spent the link: %+v, %v", v, err)
	}
	if st, _ := r.store.SetUp(context.Background()); st.Done {
		t.Error("a failed attempt closed the setup")
	}
	b.script("/setup/passkey/finish", map[string]any{"tx": tx, "passkey_name": "x", "credential": made}).to(t)
	dana := r.person("dana")
	st, err := r.store.SetUp(context.Background())
	if err != nil || st.Person != dana.ID || dana.Factors != 1 {
		t.Errorf("%+v, %+v, %v", st, dana, err)
	}
	if v, _ := r.store.OnceValue(context.Background(), once.Setup, key); v.UsedAt.IsZero() || v.Ref != dana.ID {
		t.Errorf("the link was not spent: %+v", v)
	}
	if ses, _ := r.store.SessionsOf(context.Background(), dana.ID); len(ses) != 1 || ses[0].Proofs[0].Credential == "" {
		t.Errorf("sessions: %+v", ses)
	}
}

func TestSetupRace(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	link := r.setupLink()
	const n = 4
	type attempt struct {
		b      *browser
		fields map[string]any
		to     string
	}
	var all [n]attempt
	for i := range all {
		b := r.browser()
		tx := b.get(b.script("/setup/open", map[string]any{"secret": link}).to(t)).field(t, "tx")
		name := string(rune('a'+i)) + "na"
		tx = b.get(b.post("/setup/name", "tx", tx, "display_name", name, "username", name).sent(t, "/setup/passkey")).field(t, "tx")
		f := map[string]any{"tx": tx, "passkey_name": "x"}
		_, made := b.attest(b.script("/setup/passkey/options", f))
		f["credential"] = made
		all[i] = attempt{b: b, fields: f}
	}
	var wg sync.WaitGroup
	for i := range all {
		wg.Go(func() { all[i].to = all[i].b.script("/setup/passkey/finish", all[i].fields).to(t) })
	}
	wg.Wait()
	winners, winner := 0, ""
	for i, a := range all {
		if a.to == "/setup/second" {
			winners, winner = winners+1, string(rune('a'+i))+"na"
		}
	}
	if winners != 1 {
		t.Fatalf("%d of %d browsers won", winners, n)
	}
	for _, a := range all {
		if a.to == "/setup/second" {
			continue
		}
		closed := a.b.get(a.to)
		closed.shows(t, 200, "Already done")
		if !strings.Contains(closed.body, winner) {
			t.Error("a loser is not told who completed it")
		}
		a.b.get("/account").sent(t, "/signin")
	}
	if people, err := r.store.People(context.Background(), "", 10); err != nil || len(people) != 1 {
		t.Errorf("%d people, %v", len(people), err)
	}
}

func TestSetupLinks(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	link := r.setupLink()
	b := r.browser()
	// GET and HEAD never spend, whoever follows the link and however often.
	for range 3 {
		b.get("/setup")
		b.send("HEAD", "/setup", "", "")
		r.browser().get("/setup?secret=" + link)
	}
	page := b.script("/setup/open", map[string]any{"secret": link}).to(t)
	for range 3 {
		b.get(page).shows(t, 200, "Step 1 of 5")
	}
	if strings.Contains(r.log.String(), link) {
		t.Error("the secret is in the log")
	}
	// Another browser gains nothing from a sealed page, nor does a changed one.
	r.browser().get(page).shows(t, 200, "Not valid")
	b.get(page+"x").shows(t, 200, "Not valid")
	b.get("/setup/name").shows(t, 200, "Not valid")
	b.get("/invite/accept"+page[strings.IndexByte(page, '?'):]).shows(t, 200, "Not valid")
	// What was never issued looks like what was mistyped.
	for _, s := range []string{"", "x", strings.Replace(link, "cs_setup", "cs_invite", 1), link[:len(link)-1]} {
		b.get(b.script("/setup/open", map[string]any{"secret": s}).to(t)).shows(t, 200, "Not valid")
	}
	// A newer link takes the place of an older one.
	newer := r.setupLink()
	b.get(page).shows(t, 200, "Not valid")
	page = b.script("/setup/open", map[string]any{"secret": newer}).to(t)
	tx := b.get(page).field(t, "tx")
	tx = b.get(b.post("/setup/name", "tx", tx, "display_name", "D", "username", "d").sent(t, "/setup/passkey")).field(t, "tx")
	f := map[string]any{"tx": tx, "passkey_name": "x"}
	_, made := b.attest(b.script("/setup/passkey/options", f))
	f["credential"] = made
	// It expires under the person's hands.
	r.clock.move(15*time.Minute + time.Second)
	b.get(page).shows(t, 200, "Expired")
	b.post("/setup/name", "tx", tx, "display_name", "D", "username", "d").shows(t, 200, "Expired")
	if got := b.script("/setup/passkey/options", f).failed(t); !strings.Contains(got, "doesn't work any more") {
		t.Error(got)
	}
	b.get(b.script("/setup/passkey/finish", f).to(t)).shows(t, 200, "Expired")
	r.nobody("d")
	if page, _, err := r.store.AuditPage(context.Background(), store.Filter{Kinds: []audit.Kind{audit.SetupCompleted}}, 5); err != nil || len(page) != 0 {
		t.Errorf("%d records of a setup that was not, %v", len(page), err)
	}
}

func TestSetupSkipsTheSecondPasskey(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.browser()
	b.setUp()
	b.post("/setup/later").sent(t, "/setup/codes")
	b.get("/setup/codes").shows(t, 200, "Step 4 of 5: Recovery codes")
	b.post("/setup/codes/later").sent(t, "/setup/done")
	done := b.get("/setup/done")
	done.shows(t, 200, "Done")
	if !strings.Contains(done.body, "You have one passkey") {
		t.Error("the page does not say that one passkey is few")
	}
	b.get("/account").shows(t, 200, "3 things to do")
	// After five minutes the passkey has to be shown again first.
	r.clock.move(5*time.Minute + time.Second)
	to := b.get("/setup/second").sent(t, "/step-up?")
	b.get(to).shows(t, 200, "Confirm it's you to change how you sign in")
	b.stepUp(0, "/setup/second")
	b.get("/setup/second").shows(t, 200, "Step 3 of 5")
}

// TestForgedHost: links come from the configuration, never from the request.
func TestForgedHost(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.browser()
	b.setUp()
	for _, path := range []string{"/setup", "/account", "/setup/done", "/admin/people", "/invite", "/signin"} {
		a := b.get(path, "Host", "evil.example", "X-Forwarded-Host", "evil.example")
		if strings.Contains(a.body, "evil.example") || strings.Contains(a.location, "evil.example") {
			t.Errorf("%s repeats the Host of the request", path)
		}
	}
	a := b.send("POST", "/admin/invite", "application/x-www-form-urlencoded", "display_name=Sam", "Host", "evil.example")
	if a.status != 200 || strings.Contains(a.body, "evil.example") || !strings.Contains(a.body, issuer+"/invite#cs_invite_") {
		t.Errorf("%d %s: the invitation's link is not the issuer's", a.status, a.title())
	}
}
