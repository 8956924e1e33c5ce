// Package recovery walks every way back into an account in a real Chromium: the
// whole server in this process, with a clock that is moved by hand instead of
// waiting for days, and a real relay that takes its mail.
package recovery

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/config"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/server"
	"github.com/countersign-dev/countersign/test/browser/chrome"
	"github.com/countersign-dev/countersign/test/mailtest"
)

func TestMain(m *testing.M) { os.Exit(chrome.Run(m)) }

// deployment is a running server.
type deployment struct {
	t      *testing.T
	issuer string
	ahead  atomic.Int64
	state  *server.State
	mail   *mailtest.Server
}

func (d *deployment) now() time.Time { return time.Now().Add(time.Duration(d.ahead.Load())) }

func (d *deployment) pass(by time.Duration) { d.ahead.Add(int64(by)) }

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func deploy(t *testing.T) *deployment {
	t.Helper()
	chrome.Require(t)
	d := &deployment{t: t, mail: mailtest.Start(t, mailtest.WithoutTLS())}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	d.issuer = fmt.Sprintf("http://localhost:%d", l.Addr().(*net.TCPAddr).Port)
	dir := t.TempDir()
	cfg, err := config.Parse(fmt.Appendf(nil, `issuer: %s
listen: {address: "%s"}
database: {sqlite: %s}
data_dir: %s
development: true
mail: {host: %s, port: %d, tls: none, from: countersign@example.com}
`, d.issuer, l.Addr(), filepath.Join(dir, "db"), dir, d.mail.Host, d.mail.Port), nil)
	check(t, err)
	d.state, err = server.OpenState(t.Context(), cfg, server.Options{Migrate: true, Now: d.now})
	check(t, err)
	s, err := server.New(d.state)
	check(t, err)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, server.Listeners{Public: l}) }()
	t.Cleanup(func() {
		stop()
		check(t, <-ended)
		check(t, d.state.Close())
	})
	return d
}

// somebody is a person with a browser of their own and a passkey in it.
type somebody struct {
	*chrome.Browser
	d   *deployment
	key *chrome.Authenticator
}

func (d *deployment) browser() *somebody {
	b := chrome.New(d.t)
	return &somebody{Browser: b, d: d}
}

func (s *somebody) open(path string) { s.Navigate(s.d.issuer + path) }

// press presses the page's own button once it takes a tap.
func (s *somebody) press(text string) {
	s.WaitVisible("[data-go]:not([disabled])")
	s.settle()
	s.ClickText(text)
}

// settle waits until buttons that wait half a second take a tap.
func (s *somebody) settle() {
	s.Wait("buttons that take a tap", `document.getAnimations().every(a => a.playState !== 'running')`)
}

var typed = regexp.MustCompile(`(?:[0-9A-Z]{4}-){5}[0-9A-Z]{4}`)

// saves makes recovery codes where they are offered.
func (s *somebody) saves() []string {
	s.d.t.Helper()
	s.ClickText("Make ten codes")
	s.WaitText("Save your recovery codes")
	codes := typed.FindAllString(s.Text(".codes"), -1)
	if len(codes) != 10 {
		s.d.t.Fatalf("%d codes", len(codes))
	}
	s.ClickText("I saved them")
	return codes
}

// founder sets the deployment up.
func (d *deployment) founder() *somebody {
	d.t.Helper()
	link, err := d.state.SetupLink(d.t.Context(), policy.KindSystem)
	check(d.t, err)
	s := d.browser()
	s.key = s.AddAuthenticator(chrome.AuthenticatorOptions{})
	s.Navigate(link)
	s.WaitText("Who are you?")
	s.Fill("#display_name", "Dana")
	s.Fill("#username", "dana")
	s.ClickText("Continue to your passkey")
	s.WaitText("Create your passkey")
	s.press("Create passkey")
	s.WaitText("Add a second passkey")
	s.ClickText("Continue with one passkey")
	s.WaitText("Make recovery codes")
	s.ClickText("Continue without codes")
	s.WaitText("You're set up, Dana")
	return s
}

// invites lets somebody in; they are offered codes.
func (s *somebody) invites(name string, administrator bool) *somebody {
	s.d.t.Helper()
	s.open("/admin/invite")
	s.Wait("the form or a step-up", `document.readyState === 'complete' && (document.querySelector('#role') || document.querySelector('[data-go]:not([disabled])'))`)
	if !s.Has("#role") {
		s.Click("[data-go]")
		s.WaitVisible("#role")
	}
	s.Fill("#display_name", name)
	if administrator {
		chrome.Eval[string](s.Page, `document.querySelector('#role').value = 'administrator'`)
	}
	s.ClickText("Make invitation link")
	s.WaitText("Invitation for")
	link := strings.TrimSpace(s.Text(".command code"))
	other := s.d.browser()
	other.key = other.AddAuthenticator(chrome.AuthenticatorOptions{})
	other.Navigate(link)
	other.WaitText("invites you to create an account")
	other.Fill("#username", strings.ToLower(name))
	other.press("Create account with a passkey")
	other.WaitText("Add a second passkey")
	other.ClickText("Continue with one passkey")
	other.WaitText("Make recovery codes")
	return other
}

// signsIn signs in anew with the passkey of this browser.
func (s *somebody) signsIn() {
	s.d.t.Helper()
	s.open("/account")
	s.WaitText("Hello, ")
}

// confirms does the step-up that a page may ask for first.
func (s *somebody) reaches(path, selector string) {
	s.d.t.Helper()
	s.open(path)
	s.Wait("the page or a step-up", `document.readyState === 'complete' && (document.querySelector(%q) || document.querySelector('[data-go]:not([disabled])'))`, selector)
	if !s.Has(selector) {
		s.settle()
		s.Click("[data-go]")
		s.WaitVisible(selector)
	}
}

// proves sets and proves an e-mail address.
func (s *somebody) proves(address string) {
	s.d.t.Helper()
	s.reaches("/account/email", "#email")
	s.Fill("#email", address)
	s.Click("form button.primary")
	s.Navigate(linkIn(s.d.t, s.d.notice(address, "your e-mail address").Plain, s.d.issuer))
	s.ClickText("Yes, it's mine")
	s.WaitText("The address is proved")
}

func linkIn(t *testing.T, text, issuer string) string {
	t.Helper()
	for _, line := range strings.Fields(text) {
		if strings.HasPrefix(line, issuer+"/") {
			return line
		}
	}
	t.Fatalf("no link of %s in the mail: %s", issuer, text)
	return ""
}

// notice waits for a mail to an address whose subject holds words.
func (d *deployment) notice(to, words string) mailtest.Message {
	d.t.Helper()
	return d.nthNotice(1, to, words)
}

// nthNotice waits for the nth of them, counted from 1 and in the order of their
// arrival.
func (d *deployment) nthNotice(n int, to, words string) mailtest.Message {
	d.t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		found := 0
		for _, m := range d.mail.Messages() {
			if m.To == to && strings.Contains(m.Subject, words) {
				if found++; found == n {
					return m
				}
			}
		}
	}
	d.t.Fatalf("nobody wrote %q to %s %d times: %+v", words, to, n, d.mail.Messages())
	return mailtest.Message{}
}

// TestWaysBackIn walks each of them once, and what stops them.
func TestWaysBackIn(t *testing.T) {
	d := deploy(t)
	dana := d.founder()
	sam := dana.invites("Sam", true)
	sam.ClickText("Continue without codes")
	sam.WaitText("Hello, Sam")
	ola := dana.invites("Ola", false)
	codes := ola.saves()
	ola.WaitText("Hello, Ola")
	ola.proves("ola@example.com")
	d.pass(25 * time.Hour) // Sam is no longer new

	lost := d.browser()
	byCode(t, d, ola, lost, codes)
	stopped(t, d, ola, codes)
	twoAdministrators(t, d, dana, sam, ola)
	temporaryPass(t, d, dana, ola)
	fromTheHost(t, d)
}

// begins a recovery with a code, without JavaScript.
func (s *somebody) begins(code string) {
	s.Scripts(false)
	s.open("/signin")
	s.Click("details.trouble summary")
	s.ClickText("see the ways back in")
	s.WaitText("Trouble signing in?")
	s.ClickText("Use a recovery code")
	s.Fill("#username", "ola")
	s.Fill("#code", strings.ToLower(code))
	s.ClickText("Start the recovery")
	s.WaitText("Your recovery is waiting")
	s.Scripts(true)
}

// byCode waits, is told by mail, and ends with a passkey on probation.
func byCode(t *testing.T, d *deployment, ola, lost *somebody, codes []string) {
	t.Helper()
	lost.begins(codes[0])
	lost.Inspect("recovery waiting")
	if text := lost.Text("main"); !strings.Contains(text, "By e-mail to o…@example.com.") {
		t.Errorf("the page does not say who was told: %s", text)
	}
	m := d.notice("ola@example.com", "recovering your account")
	if link := linkIn(t, m.Plain, d.issuer); !strings.HasPrefix(link, d.issuer+"/recover/cancel#cs_cancel_") || strings.Count(m.Plain, "http") != 1 {
		t.Errorf("the mail's links: %s", m.Plain)
	}
	// Its link alone gives nothing: it asks whether to stop.
	mail := d.browser()
	mail.Navigate(linkIn(t, m.Plain, d.issuer))
	mail.WaitText("Stop the recovery?")
	mail.Inspect("recovery stop")
	lost.Reload()
	lost.WaitText("Your recovery is waiting")

	d.pass(24 * time.Hour)
	lost.Reload()
	lost.WaitText("You can make a new passkey now")
	lost.ClickText("Make a new passkey")
	lost.WaitText("Create your passkey")
	lost.key = lost.AddAuthenticator(chrome.AuthenticatorOptions{})
	lost.press("Create passkey")
	lost.WaitText("You're back in.")
	lost.WaitText("Your account was recovered.")
	lost.Inspect("recovered")
	d.notice("ola@example.com", "was recovered")
	// On probation it changes nothing about factors.
	lost.open("/account/passkeys/add")
	lost.WaitText("on probation")
	lost.Inspect("on probation")
	// The passkey that Ola had undoes it.
	ola.signsIn()
	ola.open("/account/passkeys")
	ola.WaitText("Chrome on Linux")
	n := chrome.Eval[int](ola.Page, `document.querySelectorAll('a[href^="/account/passkeys/remove"]').length`)
	if n != 2 {
		t.Fatalf("%d passkeys", n)
	}
	newest := chrome.Eval[string](ola.Page, `[...document.querySelectorAll('a[href^="/account/passkeys/remove"]')].map(a => a.getAttribute('href')).sort().at(-1)`)
	ola.reaches(newest, "form button.danger")
	ola.Click("form button.danger")
	ola.WaitText("Passkey removed.")
	lost.AllowConsole("status of 401") // its passkey is offered, and refused
	lost.open("/account")
	lost.WaitText("Sign in with a passkey")
}

// stopped is a recovery that a thief of a code begins and its owner stops: by
// mail without JavaScript, and on the account's pages.
func stopped(t *testing.T, d *deployment, ola *somebody, old []string) {
	t.Helper()
	thief := d.browser()
	thief.open("/recover/code")
	thief.Fill("#username", "ola")
	thief.Fill("#code", old[1])
	thief.ClickText("Start the recovery")
	thief.WaitText("don't go together") // the rest of the set went with the recovery
	thief.Inspect("recovery code wrong")
	ola.reaches("/account/recovery", "main h1")
	ola.ClickText("Make ten codes")
	ola.Wait("codes or a step-up", `document.readyState === 'complete' && (document.querySelector('.codes') || document.querySelector('[data-go]:not([disabled])'))`)
	if !ola.Has(".codes") {
		ola.press("")
		ola.WaitText("Recovery codes")
		ola.ClickText("Make ten codes")
	}
	ola.WaitText("Save your recovery codes")
	codes := typed.FindAllString(ola.Text(".codes"), -1)

	thief.begins(codes[0])
	ola.open("/account")
	ola.WaitText("A recovery with a recovery code is under way")
	ola.ClickText("Look at it")
	ola.WaitText("is under way.")
	ola.Inspect("recovery under way")
	ola.ClickText("Stop it")
	ola.WaitText("Stopped.")
	thief.Reload()
	thief.WaitText("This recovery was stopped")

	thief.begins(codes[1])
	link := linkIn(t, d.nthNotice(3, "ola@example.com", "recovering your account").Plain, d.issuer)
	mail := d.browser()
	mail.Scripts(false)
	mail.open("/recover/cancel/paste")
	mail.Fill("#link", link)
	mail.ClickText("Open the link")
	mail.WaitText("Stop the recovery?")
	mail.settle()
	mail.ClickText("Stop the recovery")
	mail.WaitText("The recovery is stopped")
	thief.Reload()
	thief.WaitText("This recovery was stopped")
}

// twoAdministrators confirm for the browser that asked.
func twoAdministrators(t *testing.T, d *deployment, dana, sam, ola *somebody) {
	t.Helper()
	lost := d.browser()
	lost.open("/recover")
	lost.ClickText("Ask two administrators")
	lost.WaitText("Call them or go to them")
	lost.Inspect("recovery ask")
	code := strings.TrimSpace(lost.Text(".bigcode code"))
	dana.signsIn()
	dana.reaches("/admin/recoveries/open", "#reason")
	dana.Fill("#username", "ola")
	dana.Fill("#code", code)
	dana.Fill("#reason", "phone and laptop were stolen")
	dana.ClickText("Open and confirm the recovery")
	dana.WaitText("You have confirmed this.")
	dana.Inspect("recovery opened")
	lost.ClickText("See how it stands")
	lost.WaitText("1 of 2 administrators have confirmed")
	lost.open("/recover/passkey")
	lost.WaitText("1 of 2 administrators have confirmed")
	sam.signsIn()
	sam.open("/admin/recoveries")
	sam.WaitText("1 of 2 confirmed")
	sam.Click("td a.btn")
	sam.WaitText("Confirm it")
	if strings.Contains(sam.Text("main"), code) {
		t.Error("the second administrator need not talk to the person")
	}
	sam.Fill("#code", code)
	sam.ClickText("Confirm the recovery of ola")
	sam.WaitText("Confirmed.")
	sam.Inspect("recovery confirmed")
	d.notice("ola@example.com", "was confirmed")
	lost.open("/recover/status")
	lost.WaitText("You can make a new passkey now")
	lost.ClickText("Make a new passkey")
	lost.WaitText("Create your passkey")
	lost.AddAuthenticator(chrome.AuthenticatorOptions{})
	lost.press("Create passkey")
	lost.WaitText("You're back in.")
	ola.open("/account")
	ola.WaitText("Sign in with a passkey")
}

// temporaryPass lets somebody in for the day, without JavaScript.
func temporaryPass(t *testing.T, d *deployment, dana, ola *somebody) {
	t.Helper()
	dana.reaches("/admin/pass", "#reason")
	dana.Fill("#username", "ola")
	dana.Fill("#reason", "left the key at home")
	dana.ClickText("Make the pass")
	dana.WaitText("Pass for Ola")
	dana.Inspect("pass made")
	pass := strings.TrimSpace(dana.Text(".bigcode code"))
	d.notice("ola@example.com", "temporary pass")
	day := d.browser()
	day.Scripts(false)
	day.open("/recover/pass")
	day.Fill("#username", "ola")
	day.Fill("#code", pass)
	day.ClickText("Sign in with the pass")
	day.WaitText("Hello, Ola")
	again := d.browser()
	again.open("/recover/pass")
	again.Fill("#username", "ola")
	again.Fill("#code", pass)
	again.ClickText("Sign in with the pass")
	again.WaitText("don't go together")
	d.pass(8*time.Hour + time.Second)
	day.open("/account")
	day.WaitText("Sign in")
	if resp, err := http.Get(d.issuer + "/recover/pass"); err != nil || resp.StatusCode != 200 {
		t.Errorf("the page: %v", err)
	} else {
		resp.Body.Close()
	}
}

// fromTheHost makes another administrator with a link that only whoever is root on the
// server's machine gets, and that works once.
func fromTheHost(t *testing.T, d *deployment) {
	t.Helper()
	link, err := d.state.RecoverAdmin(t.Context(), "kim")
	check(t, err)
	kim := d.browser()
	kim.key = kim.AddAuthenticator(chrome.AuthenticatorOptions{})
	kim.Navigate(link)
	kim.WaitText("Create account with a passkey")
	kim.Inspect("administrator recovered from the host")
	kim.press("Create account with a passkey")
	kim.WaitText("Add a second passkey")
	kim.ClickText("Continue with one passkey")
	kim.WaitText("Make recovery codes")
	kim.ClickText("Continue without codes")
	kim.WaitText("Hello, kim")
	kim.open("/admin/recoveries")
	kim.WaitText("Recoveries")
	kim.Inspect("recoveries of a recovered administrator")
	again := d.browser()
	again.Navigate(link)
	again.WaitText("This invitation was already used")
}
