package e2e

import (
	"database/sql"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"github.com/countersign-dev/countersign/test/browser/chrome"
	"github.com/countersign-dev/countersign/test/internal/program"
	"github.com/countersign-dev/countersign/test/pgtest"
	"github.com/countersign-dev/countersign/test/promtext"
)

// TestMainJob is the main job from an empty machine to an API that asks for
// proof, on both databases.
func TestMainJob(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) {
		chrome.Require(t)
		mainJob(t, "", true)
	})
	t.Run("postgres", func(t *testing.T) {
		chrome.Require(t)
		pgtest.Require(t)
		mainJob(t, pgtest.Start(t), false)
	})
}

// newcomer is a person with a browser and a terminal.
type newcomer struct {
	*sandbox
	browser *chrome.Browser
	key     *chrome.Authenticator
	look    bool // each page is inspected
}

func mainJob(t *testing.T, postgres string, look bool) {
	s := newSandbox(t, postgres)
	n := &newcomer{sandbox: s, browser: chrome.New(t), look: look}
	link := s.setupLink()
	n.setsUp(link)
	n.finds(link)
	n.logsIn()
	n.calls()
	n.rotates()
	n.decides()
	n.knows()
	n.ends()
	n.comesBack()
	n.invites()
	n.reads()
	n.verifies(postgres)
}

// inspect checks how a page looks, once: both databases show the same pages.
func (n *newcomer) inspect(name string) {
	n.t.Helper()
	if n.look {
		n.browser.Inspect(name)
	}
}

// press presses the page's own button as soon as a person could: some wait half
// a second, so that a tap meant for another page does not hit them.
func press(p *chrome.Page, text string) {
	p.WaitVisible("[data-go]:not([disabled])")
	settle(p)
	p.ClickText(text)
}

func settle(p *chrome.Page) {
	p.Wait("buttons that take a tap", `document.getAnimations().every(a => a.playState !== 'running')`)
}

// setsUp opens the setup link, names themselves, makes a passkey and a second
// one on another authenticator.
func (n *newcomer) setsUp(link string) {
	n.t.Helper()
	b := n.browser
	n.key = b.AddAuthenticator(chrome.AuthenticatorOptions{})
	b.Navigate(link)
	b.WaitText("Who are you?")
	if strings.Contains(b.URL(), "#") {
		n.t.Errorf("the secret stays in the address bar: %s", b.URL())
	}
	n.inspect("setup 1 name")
	b.Fill("#display_name", "Dana Example")
	b.Fill("#username", "dana")
	b.ClickText("Continue to your passkey")
	b.WaitText("Create your passkey")
	n.inspect("setup 2 passkey")
	b.Fill("#passkey_name", "Laptop")
	press(b.Page, "Create passkey")
	b.WaitText("Add a second passkey")
	n.inspect("setup 3 second passkey")
	laptop := n.key.Credentials()
	if len(laptop) != 1 || !laptop[0].Resident || laptop[0].RPID != "localhost" {
		n.t.Fatalf("the first passkey: %+v", laptop)
	}
	n.key.Remove() // the other device is another authenticator
	phone := b.AddAuthenticator(chrome.AuthenticatorOptions{Roaming: true, BackupEligible: true, BackedUp: true})
	b.Fill("#passkey_name", "Security key")
	press(b.Page, "Add second passkey")
	b.WaitText("Make recovery codes")
	n.inspect("setup 4 recovery codes")
	b.ClickText("Make ten codes")
	b.WaitText("Save your recovery codes")
	n.inspect("setup 4 codes")
	b.ClickText("I saved them")
	b.WaitText("You're set up, Dana Example")
	n.inspect("setup 5 done")
	if held := phone.Credentials(); len(held) != 1 {
		n.t.Fatalf("the second passkey: %+v", held)
	}
	phone.Remove()
	n.key = b.AddAuthenticator(chrome.AuthenticatorOptions{})
	n.key.AddCredential(laptop[0])
	b.ClickText("Open my account")
	b.WaitText("Hello, Dana Example")
	b.WaitText("2 passkeys")
	n.inspect("account")
	b.Navigate(n.issuer + "/account/passkeys")
	b.WaitText("Laptop")
	b.WaitText("Security key")
	n.inspect("account passkeys")
}

// finds the setup link dead, in a browser that has nothing to do with setting
// up.
func (n *newcomer) finds(link string) {
	n.t.Helper()
	other := chrome.New(n.t)
	other.Navigate(link)
	other.WaitText("Setup is already complete")
	if n.look {
		other.Inspect("setup closed")
	}
	other.ClickText("Sign in")
	other.WaitText("Sign in with a passkey")
	if n.look {
		other.Inspect("sign-in")
	}
	other.Close()
}

// logsIn runs `countersign login` without naming the server, in a browser that
// is signed in.
func (n *newcomer) logsIn() {
	n.t.Helper()
	a := n.ask("login")
	n.browser.Navigate(a.address())
	if taps := n.passes("login"); taps != 1 {
		n.t.Errorf("it took %d taps", taps)
	}
	r := a.result()
	if want := "You're signed in to " + n.issuer + " as Dana Example (dana)."; !strings.Contains(r.Stderr, want) {
		n.t.Errorf("login says %q, not %q", r.Stderr, want)
	}
}

// passes does what the page asks until the command line's own last page.
func (n *newcomer) passes(name string) (taps int) {
	n.t.Helper()
	b := n.browser
	for range 4 {
		b.Wait("a button or the end", `document.readyState === 'complete' && (location.hostname === '127.0.0.1' && location.pathname === '/done' || document.querySelector('[data-go]:not([disabled])') || document.querySelector('button[value=allow]'))`)
		if strings.HasPrefix(b.URL(), "http://127.0.0.1:") {
			n.inspect(name + " done")
			return taps
		}
		before := b.URL()
		switch {
		case strings.Contains(before, "/signin?"): // the field offers the passkey, and this authenticator's owner is quick
			taps++
		case b.Has("button[value=allow]"):
			n.inspect(name)
			settle(b.Page)
			b.Click("button[value=allow]")
		default:
			n.inspect(name)
			settle(b.Page)
			b.Click("[data-go]")
			taps++
		}
		b.Wait("another page", `location.href !== %q`, before)
	}
	n.t.Fatalf("%s: the pages do not end: %s", name, b.URL())
	return taps
}

// calls the sample API, which just works.
func (n *newcomer) calls() {
	n.t.Helper()
	r := n.must("call", "GET", n.api+"/notes")
	var got struct{ Notes []struct{ Text string } }
	n.parse(r.Stdout, &got)
	if len(got.Notes) == 0 || got.Notes[0].Text == "" || r.Stderr != "" {
		n.t.Errorf("call says %q, and %q to the person", r.Stdout, r.Stderr)
	}
	n.watches()
}

// watches the sample API, which says that it decides by policies of now.
func (n *newcomer) watches() {
	n.t.Helper()
	n.wait("the metrics to say so", func() bool {
		resp, err := http.Get(n.api + "/metrics")
		if err != nil {
			n.t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			n.t.Fatal(err)
		}
		got := promtext.Read(n.t, string(text), "audience")
		return got["countersign_feed_synced"] == 1 && got[`countersign_policy_state{state="fresh"}`] == 1
	})
}

// rotates the key, which needs proof: a browser, one tap, and the same command
// finishes.
func (n *newcomer) rotates() {
	n.t.Helper()
	if r := n.countersign("call", "--no-wait", "--json", "POST", n.api+"/keys/rotate"); r.Exit != 5 || !strings.Contains(r.Stderr, "step_up") {
		n.t.Errorf("without a person: exit %d, %s", r.Exit, r.Stderr)
	}
	a := n.ask("call", "POST", n.api+"/keys/rotate")
	n.browser.Navigate(a.address())
	if taps := n.passes("step-up"); taps != 1 {
		n.t.Errorf("it took %d taps", taps)
	}
	r := a.result()
	var got struct {
		Key       string
		RotatedAt time.Time `json:"rotated_at"`
	}
	n.parse(r.Stdout, &got)
	if got.Key == "" || time.Since(got.RotatedAt) > time.Minute {
		n.t.Errorf("rotate says %q", r.Stdout)
	}
	for _, want := range []string{"More proof is needed", "phr", "5 minutes", "Confirmed; the request was sent again."} {
		if !strings.Contains(r.Stderr, want) {
			n.t.Errorf("the person is not told %q: %s", want, r.Stderr)
		}
	}
	// Proved a moment ago: it does not ask again.
	if r := n.countersign("call", "--no-wait", "POST", n.api+"/keys/rotate"); r.Exit != 0 {
		n.t.Errorf("right after a step-up: exit %d\n%s", r.Exit, r.Stderr)
	}
}

// confirmed runs a command to its end, with a tap if it asks for one: whether it does
// depends on how long ago the last was.
func (n *newcomer) confirmed(args ...string) program.Result {
	n.t.Helper()
	if r := n.countersign(append([]string{args[0], "--no-wait"}, args[1:]...)...); r.Exit != 5 {
		return r
	}
	a := n.ask(args...)
	n.browser.Navigate(a.address())
	n.passes("confirm")
	return a.result()
}

// decides by policies who deletes a note and who adds a long one, and puts others in force: the README's, of a note
// that there is not, so that asking before the API has heard of it changes nothing.
func (n *newcomer) decides() {
	n.t.Helper()
	if r := n.confirmed("call", "DELETE", n.api+"/notes/1"); r.Exit != 0 || !strings.Contains(r.Stdout, `"deleted":"1"`) {
		n.t.Errorf("deleting a note: exit %d\n%s%s", r.Exit, r.Stdout, r.Stderr)
	}
	if r := n.countersign("call", "--no-wait", "POST", n.api+"/notes", "--data", `{"text":"Short."}`); r.Exit != 0 {
		n.t.Errorf("adding a short note: exit %d\n%s", r.Exit, r.Stderr)
	}
	if r := n.confirmed("call", "POST", n.api+"/notes", "--data", `{"text":"`+strings.Repeat("long ", 300)+`"}`); r.Exit != 0 {
		n.t.Errorf("adding a long note: exit %d\n%s", r.Exit, r.Stderr)
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		n.t.Fatal(err)
	}
	_, step, _ := strings.Cut(string(readme), "`my-policies/notes.cedar`,\n\n```cedar\n")
	rule, _, ok := strings.Cut(step, "```")
	dir := filepath.Join(n.home, "policies")
	n.must("policy", "export", dir)
	file := filepath.Join(dir, "notes.cedar")
	have, err := os.ReadFile(file)
	if err != nil || !ok {
		n.t.Fatal(err, ok)
	}
	if err := os.WriteFile(file, append(have, "\n"+strings.ReplaceAll(rule, `Note::"2"`, `Note::"9"`)...), 0o600); err != nil {
		n.t.Fatal(err)
	}
	if r := n.countersign("policy", "publish", dir, "--yes", "--no-wait"); r.Exit != 5 || !strings.Contains(r.Stderr, "waits until somebody has signed it") {
		n.t.Errorf("unsigned: exit %d, %s", r.Exit, r.Stderr)
	}
	a := n.ask("policy", "publish", dir, "--note", "keep the second note", "--yes")
	n.browser.Navigate(a.address())
	n.signs()
	if r := a.result(); !strings.Contains(r.Stderr, "Version 2 is in force") {
		n.t.Fatalf("publishing: %s%s", r.Stdout, r.Stderr)
	}
	n.wait("the API to forbid it", func() bool { return n.countersign("call", "--no-wait", "DELETE", n.api+"/notes/9").Exit == 6 })
}

// signs what the page shows, with one tap.
func (n *newcomer) signs() {
	n.t.Helper()
	b := n.browser
	b.Wait("the page to be ready", `document.readyState === 'complete' && location.pathname.startsWith('/admin/publications/') && document.querySelector('[data-go]:not([disabled])')`)
	n.inspect("policies to sign")
	settle(b.Page)
	b.Click("[data-go]")
}

// knows who they are, with what proof, until when, and where it is kept.
func (n *newcomer) knows() {
	n.t.Helper()
	type token struct {
		Audience  string
		ExpiresAt time.Time `json:"expires_at"`
	}
	var st struct {
		Schema   string
		SignedIn bool `json:"signed_in"`
		Checked  bool
		Issuer   string
		Name     string
		Username string
		ACR      string
		AMR      []string
		AuthTime time.Time `json:"auth_time"`
		Storage  struct{ Path, Protection string }
		StepUp   *struct {
			For   string
			Until time.Time
		} `json:"step_up"`
		Tokens []token
	}
	n.parse(n.must("auth", "status", "--json", "--check").Stdout, &st)
	if !st.SignedIn || !st.Checked || st.Issuer != n.issuer || st.Name != "Dana Example" || st.Username != "dana" || st.ACR != "phr" {
		n.t.Errorf("status: %+v", st)
	}
	if time.Since(st.AuthTime) > time.Minute || len(st.AMR) == 0 || !strings.HasPrefix(st.Storage.Path, n.home) {
		n.t.Errorf("status: %+v", st)
	}
	if st.StepUp == nil || !strings.Contains(st.StepUp.For, "/keys/rotate") || !st.StepUp.Until.After(time.Now()) {
		n.t.Errorf("status of the step-up: %+v", st.StepUp)
	}
	if !slices.ContainsFunc(st.Tokens, func(t token) bool { return t.Audience == n.api && t.ExpiresAt.After(time.Now()) }) {
		n.t.Errorf("no token for the API: %+v", st.Tokens)
	}
	for _, want := range []string{"Dana Example (dana)", n.issuer, "phr", "keys/rotate"} {
		if r := n.must("auth", "status"); !strings.Contains(r.Stdout, want) {
			n.t.Errorf("status does not say %q: %s", want, r.Stdout)
		}
	}
}

// ends the session in the portal; the very next call is refused by the API,
// which was told and asked nobody.
func (n *newcomer) ends() {
	n.t.Helper()
	b := n.browser
	b.Navigate(n.issuer + "/account/sessions")
	b.WaitText("This session")
	depth := chrome.Eval[int](b.Page, `Math.max(...[...document.querySelectorAll('.tree li')].map(e => { let d = 0; for (let x = e; x; x = x.parentElement) d += x.matches('li'); return d }))`)
	if depth != 4 {
		n.t.Errorf("the tree is %d deep, not person, device, session, app: %s", depth, b.Text("main"))
	}
	for _, want := range []string{"Dana Example", "Countersign command line", "Sample notes", "keys:rotate", "passkey, verified"} {
		b.WaitText(want)
	}
	n.inspect("account sessions")
	c := n.caller()
	if status, challenge, err := c.notes(); status != 200 || err != nil {
		n.t.Fatalf("before the end: %d %s %v", status, challenge, err)
	}
	b.Click(".node.here a.end")
	b.WaitText("End the session")
	n.inspect("account end session")
	asked := n.introspections()
	refused := make(chan string, 1)
	begun := make(chan time.Time, 1)
	go func() {
		for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
			if status, challenge, err := c.notes(); err != nil || status != 200 {
				begun <- time.Now()
				refused <- challenge
				return
			}
		}
		begun <- time.Now()
		refused <- "never"
	}()
	clicked := time.Now()
	b.Click("form button.danger")
	latency := (<-begun).Sub(clicked)
	if challenge := <-refused; !strings.Contains(challenge, `error="invalid_token"`) || !strings.Contains(challenge, "revoked") {
		n.t.Errorf("the API's refusal: %s", challenge)
	}
	n.t.Logf("from the click to the sample API's refusal: %s", latency.Round(time.Millisecond))
	// Within a second is what test/trust measures. Here a browser runs beside it; what
	// counts is that the API was told, and did not find out when the token ended.
	if latency > 15*time.Second {
		n.t.Errorf("the API took %s to hear of it", latency)
	}
	if now := n.introspections(); now != asked {
		n.t.Errorf("the server was asked %d times about tokens", now-asked)
	}
	if r := n.countersign("call", "GET", n.api+"/notes"); r.Exit != 4 || r.Stdout != "" {
		n.t.Errorf("the next call: exit %d\n%s%s", r.Exit, r.Stdout, r.Stderr)
	}
	b.Wait("the page after", `!location.pathname.startsWith('/account/end')`)
	n.inspect("signed out")
}

// comesBack signs in with the passkey, and logs in at the terminal again.
func (n *newcomer) comesBack() {
	n.t.Helper()
	used := n.signIns()
	a := n.ask("login")
	n.browser.Navigate(a.address())
	// The field offers the passkey and this authenticator's owner is quick: the page
	// may be gone before the test looks, so what was used is read from the server.
	taps := n.passes("sign-in")
	if used = n.signIns() - used; taps > 1 || used != 1 {
		n.t.Errorf("it took %d taps and %d passkeys", taps, used)
	}
	a.result()
	n.calls()
}

// invites somebody, who joins in a browser of their own.
func (n *newcomer) invites() {
	n.t.Helper()
	r := n.must("person", "invite", "Sam Doe", "--username", "sam")
	link := strings.TrimSpace(r.Stdout)
	if !strings.HasPrefix(link, n.issuer+"/invite#") {
		n.t.Fatalf("invite prints %q\n%s", r.Stdout, r.Stderr)
	}
	sam := chrome.New(n.t)
	sam.AddAuthenticator(chrome.AuthenticatorOptions{})
	sam.Navigate(link)
	sam.WaitText("invites you to create an account")
	if n.look {
		sam.Inspect("invitation")
	}
	if got := sam.Value("#display_name"); got != "Sam Doe" {
		n.t.Errorf("the invitation's name is %q", got)
	}
	press(sam.Page, "Create account with a passkey")
	sam.WaitText("Add a second passkey")
	sam.ClickText("Continue with one passkey")
	sam.WaitText("Make recovery codes")
	sam.ClickText("Continue without codes")
	sam.WaitText("Hello, Sam Doe")
	if sam.Has("a[href='/admin/people']") {
		n.t.Error("the second person is an administrator")
	}
	sam.AllowConsole("status of 403")
	if status, _ := sam.Status(n.issuer + "/admin/people"); status == 200 {
		n.t.Error("the second person reads the administrators' pages")
	}
	if n.look {
		sam.Inspect("not for you")
	}
	again := chrome.New(n.t)
	again.Navigate(link)
	again.WaitText("Sign in instead")
	if n.look {
		again.Inspect("invitation used")
	}
	if r := n.must("person", "list"); !strings.Contains(r.Stdout, "Sam Doe") || !strings.Contains(r.Stdout, "dana") {
		n.t.Errorf("person list says %s", r.Stdout)
	}
}

// reads the log: each act with who, which proofs, assurance and reason.
func (n *newcomer) reads() {
	n.t.Helper()
	b := n.browser
	for page, want := range map[string]string{
		"/account/activity": "signed in", "/admin/people": "Sam Doe", "/admin/audit": "signed checkpoint", "/signout": "Sign out of this browser",
	} {
		b.Navigate(n.issuer + page)
		b.WaitText(want)
		n.inspect(strings.ReplaceAll(strings.Trim(page, "/"), "/", " "))
	}
	list := n.audit()
	seen := map[string]record{}
	for _, r := range list {
		if !r.Refused {
			seen[r.Kind] = r
		}
	}
	for _, kind := range []string{
		"log.opened", "key.published", "setup.offered", "setup.completed", "factor.enrolled", "session.opened", "code.issued", "token.issued",
		"stepup.done", "session.ended", "person.invited", "invitation.accepted",
	} {
		if seen[kind].ID == "" {
			n.t.Errorf("the log has no %s", kind)
		}
	}
	for _, kind := range []string{"factor.enrolled", "session.opened", "code.issued", "token.issued", "stepup.done", "session.ended", "person.invited"} {
		r := seen[kind]
		if r.Actor != "Dana Example" || len(r.Persons) == 0 || r.ACR != "phr" || r.Proofs != "passkey" || len(r.Reasons) == 0 || r.Sentence == "" || r.Policy == "" {
			n.t.Errorf("the record says too little: %s", r)
		}
	}
	for _, kind := range []string{"setup.completed", "invitation.accepted"} { // by somebody who was nobody yet
		if r := seen[kind]; len(r.Persons) == 0 || r.ACR != "phr" || r.Proofs != "passkey" || len(r.Reasons) == 0 {
			n.t.Errorf("the record says too little: %s", r)
		}
	}
	r := n.countersignd("audit", "list")
	for _, want := range []string{"Dana Example", "proofs: passkey", "assurance: phr", "because: "} {
		if !strings.Contains(r.Stdout, want) {
			n.t.Errorf("audit list does not say %q:\n%s", want, r.Stdout)
		}
	}
	if !strings.Contains(r.Stderr, filepath.Join(n.dir, "countersignd.yaml")) {
		n.t.Errorf("audit list does not say whose log it reads: %s", r.Stderr)
	}
}

// verifies the log: whole as it is; not any more with one byte of one row
// changed.
func (n *newcomer) verifies(postgres string) {
	n.t.Helper()
	config := filepath.Join(n.dir, "countersignd.yaml")
	verify := func() program.Result { return n.countersignd("--config", config, "audit", "verify") }
	if r := verify(); r.Exit != 0 {
		n.t.Fatalf("audit verify while it runs: exit %d\n%s%s", r.Exit, r.Stdout, r.Stderr)
	}
	if err := n.run.Stop(limit); err != nil {
		n.t.Fatalf("the sandbox's end: %v\n%s", err, n.run.Said())
	}
	if r := verify(); r.Exit != 0 {
		n.t.Fatalf("audit verify: exit %d\n%s%s", r.Exit, r.Stdout, r.Stderr)
	}
	driver, dsn, get, set := "sqlite", filepath.Join(n.dir, "countersign.db"), `SELECT entry FROM audit WHERE seq = ?`, `UPDATE audit SET entry = ? WHERE seq = ?`
	if postgres != "" {
		driver, dsn, get, set = "pgx", postgres, `SELECT entry FROM audit WHERE seq = $1`, `UPDATE audit SET entry = $1 WHERE seq = $2`
	}
	db, err := sql.Open(driver, dsn)
	if err != nil {
		n.t.Fatal(err)
	}
	defer db.Close()
	var entry []byte
	if err := db.QueryRow(get, 3).Scan(&entry); err != nil {
		n.t.Fatal(err)
	}
	entry[len(entry)/2] ^= 1
	if _, err := db.Exec(set, entry, 3); err != nil {
		n.t.Fatal(err)
	}
	if r := verify(); r.Exit != 3 || !strings.Contains(r.Stdout, "row 3") {
		n.t.Errorf("one byte changed: exit %d\n%s%s", r.Exit, r.Stdout, r.Stderr)
	}
	entry[len(entry)/2] ^= 1
	if _, err := db.Exec(set, entry, 3); err != nil {
		n.t.Fatal(err)
	}
	if r := verify(); r.Exit != 0 {
		n.t.Errorf("changed back: exit %d\n%s%s", r.Exit, r.Stdout, r.Stderr)
	}
}
