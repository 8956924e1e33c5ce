package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/totp"

	"github.com/countersign-dev/countersign/test/browser/chrome"
	"github.com/countersign-dev/countersign/test/pgtest"
)

// TestMainJobWithoutScript is the main job of somebody without a passkey and
// without JavaScript, on both databases: setting up, the terminal, the API, up to
// the step-up, which asks for a passkey and says why; then the passkey, with
// JavaScript, and on.
func TestMainJobWithoutScript(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) {
		chrome.Require(t)
		typedJob(t, "", true)
	})
	t.Run("postgres", func(t *testing.T) {
		chrome.Require(t)
		pgtest.Require(t)
		typedJob(t, pgtest.Start(t), false)
	})
}

const phrase = "grumpy otter sells umbrellas"

// typist is a newcomer with a password and an authenticator app.
type typist struct {
	*newcomer
	secret string
	last   int64 // step of the newest code
}

func typedJob(t *testing.T, postgres string, look bool) {
	s := newSandbox(t, postgres)
	link := s.setupLink()
	n := &typist{newcomer: &newcomer{sandbox: s, browser: chrome.New(t), look: look}}
	n.browser.SetScript(false)
	n.setsUp(link)
	n.logsIn()
	n.calls()
	n.isAskedForAPasskey()
	n.comesBack()
	n.isRecorded()
}

// see checks how a page looks. What looks at it is a script; the page's own do
// not run any more.
func (n *typist) see(name string) {
	n.browser.SetScript(true)
	n.inspect(name)
	n.browser.SetScript(false)
}

// code is a code that was not used yet, and is good for fifteen seconds at least.
func (n *typist) code() string {
	n.t.Helper()
	step := max(n.last+1, (time.Now().Unix()+15)/30-1)
	for step > time.Now().Unix()/30+1 {
		time.Sleep(200 * time.Millisecond)
	}
	n.last = step
	c, err := totp.GenerateCodeCustom(n.secret, time.Unix(step*30, 0), totp.ValidateOpts{Period: 30, Digits: otp.DigitsSix})
	if err != nil {
		n.t.Fatal(err)
	}
	return c
}

func (n *typist) setsUp(link string) {
	n.t.Helper()
	b := n.browser
	b.Navigate(link)
	b.WaitText("Paste the whole link here")
	n.see("no script setup link")
	b.Fill("#secret", link)
	b.ClickText("Open it")
	b.WaitText("Who are you?")
	b.Fill("#display_name", "Dana Example")
	b.Fill("#username", "dana")
	b.ClickText("Continue to your passkey")
	b.WaitText("Create your passkey")
	n.see("no script setup 2 passkey")
	b.ClickText("Use a password and an authenticator app")
	b.WaitText("Choose a password")
	n.see("no script setup 2 password")
	b.Fill("#password", phrase)
	b.ClickText("Continue")
	b.WaitText("Add an authenticator app")
	n.see("no script setup 2 app")
	n.secret = strings.ReplaceAll(b.Text("[data-copy='the secret'] code"), " ", "")
	b.Fill("#code", "000000")
	b.ClickText("Check the code and continue")
	b.WaitText("Wrong code")
	n.see("no script setup 2 wrong code")
	b.Fill("#code", n.code())
	b.ClickText("Check the code and continue")
	b.WaitText("Make recovery codes")
	b.ClickText("Make ten codes")
	b.WaitText("Save your recovery codes")
	n.see("no script setup 4 codes")
	b.ClickText("I saved them")
	b.WaitText("You're set up, Dana Example")
	b.WaitText("You have no passkey yet")
	n.see("no script setup 5 done")
}

// logsIn signs the terminal in. Any program could have sent this browser here, so
// it confirms that somebody is there.
func (n *typist) logsIn() {
	n.t.Helper()
	b := n.browser
	a := n.ask("login")
	b.Navigate(a.address())
	b.WaitText("Confirm it's you to sign in to")
	n.see("no script step-up")
	b.Fill("#password", phrase)
	b.Fill("#code", n.code())
	settle(b.Page)
	b.ClickText("Confirm")
	n.allows()
	a.result()
}

// allows consents where that is asked, and waits for the terminal's last page.
func (n *typist) allows() {
	n.t.Helper()
	b := n.browser
	b.Wait("consent or the end", `document.readyState === 'complete' && (location.hostname === '127.0.0.1' && location.pathname === '/done' || document.querySelector('button[value=allow]'))`)
	if b.Has("button[value=allow]") {
		settle(b.Page)
		b.Click("button[value=allow]")
	}
	b.Wait("the terminal's page", `location.hostname === '127.0.0.1' && location.pathname === '/done'`)
}

// comesBack signs in again from nothing: password, then code, then the terminal.
func (n *typist) comesBack() {
	n.t.Helper()
	b := n.browser
	b.Navigate(n.issuer + "/signout")
	b.ClickText("Sign out of this browser")
	b.WaitText("You're signed out")
	a := n.ask("login")
	b.Navigate(a.address())
	b.WaitText("Or with your password and a code")
	n.see("no script sign-in")
	b.Fill("#username", "dana")
	b.Fill("#password", "not "+phrase)
	b.ClickText("Continue with a password")
	b.WaitText("don't belong together. 4 tries left.")
	n.see("no script sign-in wrong")
	b.Fill("#username", "dana")
	b.Fill("#password", phrase)
	b.ClickText("Continue with a password")
	b.WaitText("Enter your code")
	n.see("no script code")
	b.Fill("#code", n.code())
	b.ClickText("Sign in")
	n.allows()
	a.result()
	n.calls()
	if r := n.must("auth", "status"); !strings.Contains(r.Stdout, "urn:countersign:acr:multi") {
		n.t.Errorf("status does not say how strong the sign-in was: %s", r.Stdout)
	}
}

// isAskedForAPasskey by what needs one, with the reason and the way to it; with
// JavaScript and a passkey the same request goes on. This is the session that the
// account began with, so the passkey counts at once.
func (n *typist) isAskedForAPasskey() {
	n.t.Helper()
	b := n.browser
	a := n.ask("call", "POST", n.api+"/keys/rotate")
	b.Navigate(a.address())
	b.WaitText("You can't confirm this yet")
	b.WaitText("phishing-resistant")
	b.WaitText("None is registered for your account")
	b.WaitText("Add a passkey")
	n.see("no script step-up needs a passkey")
	b.SetScript(true)
	n.key = b.AddAuthenticator(chrome.AuthenticatorOptions{})
	b.Reload()
	b.ClickText("Add a passkey")
	b.WaitVisible("#passkey_name")
	press(b.Page, "Add passkey")
	b.WaitText("Confirm it's you to")
	n.inspect("step-up with the new passkey")
	press(b.Page, "Confirm with a passkey")
	n.allows()
	if r := a.result(); !strings.Contains(r.Stdout, "rotated_at") {
		n.t.Errorf("rotate says %q", r.Stdout)
	}
	b.Navigate(n.issuer + "/account/passkeys")
	b.WaitText("Password and authenticator app")
	n.inspect("account ways to sign in")
	n.key.Remove()
	b.SetScript(false)
}

// isRecorded: every step is in the log.
func (n *typist) isRecorded() {
	n.t.Helper()
	kinds := map[string]bool{}
	for _, r := range n.audit() {
		if !r.Refused {
			kinds[r.Kind] = true
		}
	}
	for _, k := range []string{"setup.completed", "factor.tried", "factor.missed", "session.opened", "stepup.done", "token.issued", "factor.enrolled"} {
		if !kinds[k] {
			n.t.Errorf("the log has no %s", k)
		}
	}
}
