package ladder

import (
	"context"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/store"
	"github.com/countersign-dev/countersign/test/browser/chrome"
)

func filter(kinds ...audit.Kind) store.Filter { return store.Filter{Kinds: kinds} }

// somebody is a person with a browser of their own and a passkey in it.
type somebody struct {
	*chrome.Browser
	d *deployment
}

func (d *deployment) browser() *somebody {
	s := &somebody{chrome.New(d.t), d}
	s.AddAuthenticator(chrome.AuthenticatorOptions{})
	return s
}

func (s *somebody) open(path string) { s.Navigate(s.d.issuer + path) }

// press presses the page's own button once it takes a tap.
func (s *somebody) press() {
	s.WaitVisible("[data-go]:not([disabled])")
	s.Wait("buttons that take a tap", `document.getAnimations().every(a => a.playState !== 'running')`)
	s.Click("[data-go]")
}

// founder sets the deployment up.
func (d *deployment) founder() *somebody {
	d.t.Helper()
	link, err := d.state.SetupLink(d.t.Context(), policy.KindSystem)
	check(d.t, err)
	s := d.browser()
	s.Navigate(link)
	s.WaitText("Who are you?")
	s.Fill("#display_name", "Dana")
	s.Fill("#username", "dana")
	s.ClickText("Continue to your passkey")
	s.WaitText("Create your passkey")
	s.press()
	s.WaitText("Add a second passkey")
	s.ClickText("Continue with one passkey")
	s.WaitText("Make recovery codes")
	s.ClickText("Continue without codes")
	s.WaitText("You're set up, Dana")
	return s
}

// invites lets another administrator in.
func (s *somebody) invites(name string) *somebody {
	s.d.t.Helper()
	s.open("/admin/invite")
	s.WaitVisible("#role")
	s.Fill("#display_name", name)
	chrome.Eval[string](s.Page, `document.querySelector('#role').value = 'administrator'`)
	s.ClickText("Make invitation link")
	s.WaitText("Invitation for")
	other := s.d.browser()
	other.Navigate(strings.TrimSpace(s.Text(".command code")))
	other.WaitText("invites you to create an account")
	other.Fill("#username", strings.ToLower(name))
	other.press()
	other.WaitText("Add a second passkey")
	other.ClickText("Continue with one passkey")
	other.WaitText("Make recovery codes")
	other.ClickText("Continue without codes")
	other.WaitText("Hello, " + name)
	return other
}

// climbs opens the page of people, which asks for proof, and gives it.
func (s *somebody) climbs(needs, rule string) {
	s.d.t.Helper()
	s.open("/admin/people")
	s.WaitText("Confirm it's you")
	s.WaitText("It shows no device that this account has.")
	if got, by := s.d.asked(); got != needs || !strings.Contains(by, rule) {
		s.d.t.Errorf("it needs %q by %s, not %q by %s", got, by, needs, rule)
	}
	s.press()
	s.WaitVisible("a[href='/admin/invite']")
}

// goesOn does what pages ask until the command line's own last page.
func (s *somebody) goesOn(address string) {
	s.d.t.Helper()
	s.Navigate(address)
	for range 4 {
		s.Wait("a button or the end", `document.readyState === 'complete' && (location.hostname === '127.0.0.1' && location.pathname === '/done' || document.querySelector('[data-go]:not([disabled])'))`)
		if strings.HasPrefix(s.URL(), "http://127.0.0.1:") {
			return
		}
		before := s.URL()
		s.press()
		s.Wait("another page", `location.href !== %q`, before)
	}
	s.d.t.Fatalf("the pages do not end: %s", s.URL())
}

var reviewID = regexp.MustCompile(`rvw_[0-9A-Z]{26}`)

// TestWalk: at low risk nothing is asked for; medium asks for a sign-in of now, high
// for a passkey; extreme is refused, whatever is proved, and reviewed. Another
// administrator says at the command line that it was them: it works, with a passkey;
// and, of the next, that it was not: whatever was signed in ends.
func TestWalk(t *testing.T) {
	const walk = 53 * time.Minute
	d := deploy(t, walk)
	dana := d.founder()
	sam := dana.invites("Sam")
	d.accustomed("dana")

	d.pass(20 * time.Minute)
	dana.open("/admin/people")
	dana.WaitVisible("a[href='/admin/invite']") // low: silent

	d.bare.Store(true)
	dana.climbs("a two-factor sign-in from the last 15 minutes", "risk.medium")
	d.pass(16 * time.Minute)
	d.from.Store(next)
	dana.climbs("a phishing-resistant sign-in from the last 15 minutes", "risk.high")
	d.pass(16 * time.Minute)
	if late := -d.ahead.Load(); late != 0 {
		t.Fatalf("the clock is %s behind", time.Duration(late))
	}
	d.from.Store(abroad)
	dana.AllowConsole("403")
	dana.open("/admin/people")
	dana.WaitText("You can't do this")
	for _, words := range []string{"This looks like an attack and is refused.", "risk.extreme", "The country BR is new for this account."} {
		dana.WaitText(words)
	}
	ref := regexp.MustCompile(`[0-9A-F]{6}`).FindString(dana.Text(".ref"))

	// Sam sees it, in the browser and at the command line.
	d.from.Store(home)
	d.bare.Store(false)
	sam.open("/admin/reviews")
	sam.WaitText("Looking at people")
	sam.Click("table a.btn")
	sam.WaitText("new_country")
	shell := d.terminal()
	address, done := shell.asks(t.Context(), "login", d.issuer)
	sam.goesOn(address)
	if r := <-done; r.Exit != 0 {
		t.Fatalf("login: %+v", r)
	}
	says := func(want string, args ...string) string {
		t.Helper()
		r := shell.run(args...)
		if out := r.Stdout + r.Stderr; r.Exit != 0 || !strings.Contains(out, want) {
			t.Fatalf("countersign %s: %d %s, which lacks %q", strings.Join(args, " "), r.Exit, out, want)
		}
		return r.Stdout
	}
	says("Policies: risk.extreme", "explain", ref)
	id := reviewID.FindString(says("person.read", "review", "list"))
	says("(new_country)", "review", "show", id)
	says("a passkey is enough", "review", "resolve", id, "--allow", "1h", "--reason", "called her, she is in Rio")

	// It works now, with a passkey, and at the command line without anything more.
	d.from.Store(abroad)
	d.bare.Store(true)
	dana.climbs("a phishing-resistant sign-in from the last 15 minutes", "risk.high")
	d.bare.Store(false)
	hers := d.terminal()
	address, done = hers.asks(t.Context(), "login", d.issuer)
	dana.goesOn(address)
	if r := <-done; r.Exit != 0 {
		t.Fatalf("login from abroad: %+v", r)
	}
	if r := hers.run("auth", "token"); r.Exit != 0 {
		t.Errorf("a token from abroad: %+v", r)
	}

	// From further away, nothing that anybody said counts, and a login is refused.
	d.from.Store(further)
	d.bare.Store(true)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	address, done = d.terminal().asks(ctx, "login", d.issuer)
	dana.Navigate(address)
	dana.WaitText("risk.extreme")
	stop()
	<-done
	d.from.Store(home)
	d.bare.Store(false)
	id = reviewID.FindString(says("authorize", "review", "list"))
	says("has ended", "review", "resolve", id, "--not-them", "--reason", "she is in Rio")
	dana.open("/admin/people")
	dana.WaitText("Sign in")
	if r := hers.run("auth", "token", "--min-ttl", "1h"); r.Exit != 4 {
		t.Errorf("a token after everything ended: %+v", r)
	}
}

// TestSample: at the sample API a policy decides who deletes a note. Somebody who signed
// in a while ago is told which proof would do, the command line goes for it, and the same
// call ends well; right afterwards nobody is asked.
func TestSample(t *testing.T) {
	// A minute and a half passes between the clocks of server and API, each of which is
	// near enough to the command line's.
	const behind, ahead = 57 * time.Second, 38 * time.Second
	d := deploy(t, behind)
	dana := d.founder()
	var apiAhead atomic.Int64
	apiAhead.Store(-int64(behind))
	api := d.sample(&apiAhead)
	shell := d.terminal()
	address, done := shell.asks(t.Context(), "login", d.issuer)
	dana.goesOn(address)
	if r := <-done; r.Exit != 0 {
		t.Fatalf("login: %+v", r)
	}
	apiAhead.Store(int64(ahead))
	address, done = shell.asks(t.Context(), "call", "DELETE", api+"/notes/1")
	apiAhead.Store(0)
	d.pass(behind)
	dana.goesOn(address)
	r := <-done
	if r.Exit != 0 || !strings.Contains(r.Stdout, `"deleted":"1"`) {
		t.Fatalf("deleting: %+v", r)
	}
	for _, want := range []string{"More proof is needed", "Deleting a note needs a phishing-resistant sign-in from the last minute", "phr", "60 seconds"} {
		if !strings.Contains(r.Stderr, want) {
			t.Errorf("the person is not told %q: %s", want, r.Stderr)
		}
	}
	if r := shell.run("call", "--no-wait", "DELETE", api+"/notes/2"); r.Exit != 0 {
		t.Errorf("right after a step-up: %+v", r)
	}
}
