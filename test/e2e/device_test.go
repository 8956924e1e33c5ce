package e2e

import (
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/countersign-dev/countersign/test/browser/chrome"
	"github.com/countersign-dev/countersign/test/internal/program"
)

// TestDeviceJob is signing in a machine that has no browser: the command line says
// a code, and a browser elsewhere, in which JavaScript is off, says yes or no.
func TestDeviceJob(t *testing.T) {
	chrome.Require(t)
	s := newSandbox(t, "", "--devices")
	link := s.setupLink()
	n := &typist{newcomer: &newcomer{sandbox: s, browser: chrome.New(t), look: true}}
	n.browser.SetScript(false)
	n.setsUp(link)
	n.allowsADevice()
	n.calls()
	n.deniesADevice()
	n.guesses()
}

var shownCode = regexp.MustCompile(`[2346789BCDFGHJKMPQRTVWXY]{4}-[2346789BCDFGHJKMPQRTVWXY]{4}`)

var shownConfirm = regexp.MustCompile(`confirmation code, it is ([0-9]{3} [0-9]{3})`)

// device starts a login by code and gives the code that the terminal shows.
func (n *typist) device(args ...string) (*program.Process, string) {
	n.t.Helper()
	cmd := exec.Command(n.client, append([]string{"login", "--device"}, args...)...)
	cmd.Env = n.env("COUNTERSIGN_BROWSER=nothing")
	p, err := program.Start(cmd)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { p.Stop(limit) })
	code := ""
	n.wait("a code", func() bool { code = shownCode.FindString(p.Said()); return code != "" || p.Gone() })
	if code == "" {
		n.t.Fatalf("login --device says %s", p.Said())
	}
	return p, code
}

func (n *typist) allowsADevice() {
	n.t.Helper()
	b := n.browser
	p, code := n.device()
	b.Navigate(n.issuer + "/device")
	b.WaitText("Type the code that your device")
	n.see("no script device code")
	b.Fill("#user_code", "2222-2222")
	b.ClickText("Continue")
	b.WaitText("That code isn't right")
	b.Fill("#user_code", strings.ToLower(strings.ReplaceAll(code, "-", " ")))
	b.ClickText("Continue")
	b.WaitText("Confirm it's you to sign in")
	n.see("no script device step-up")
	b.Fill("#password", phrase)
	b.Fill("#code", n.code())
	settle(b.Page)
	b.ClickText("Confirm")
	b.WaitText("Allow a device to act for you?")
	b.WaitText(code)
	b.WaitText("127.0.0.1")
	confirm := ""
	n.wait("a confirmation code", func() bool { // a loopback address says nothing of where somebody is
		m := shownConfirm.FindStringSubmatch(p.Said())
		if m != nil {
			confirm = m[1]
		}
		return m != nil || p.Gone()
	})
	b.Fill("#typed", confirm)
	n.see("no script device")
	settle(b.Page)
	b.Click("button[value=allow]")
	b.WaitText("Your device is signed in")
	n.see("no script device done")
	n.wait("the command line", p.Gone)
	if said := p.Said(); !strings.Contains(said, "You're signed in to "+n.issuer+" as Dana Example (dana).") {
		n.t.Errorf("login --device says %s", said)
	}
	b.Navigate(n.issuer + "/account/activity")
	b.WaitText("let a device")
}

func (n *typist) deniesADevice() {
	n.t.Helper()
	b := n.browser
	p, code := n.device("--profile", "other")
	b.Navigate(n.issuer + "/device?user_code=" + code)
	b.WaitText("both must show the same")
	b.ClickText("Continue")
	b.WaitText("Confirm it's you to sign in")
	b.ClickText("Deny")
	b.WaitText("Nothing was allowed")
	n.see("no script device denied")
	n.wait("the command line", p.Gone)
	if said := p.Said(); !strings.Contains(said, "The sign-in was refused in the browser.") {
		n.t.Errorf("login --device says %s", said)
	}
}

// guesses codes until none is looked at any more.
func (n *typist) guesses() {
	n.t.Helper()
	b := n.browser
	b.Navigate(n.issuer + "/device")
	for i := range 12 {
		code := "3333-333" + string("2346789BCDFG"[i])
		b.Fill("#user_code", code)
		b.ClickText("Continue")
		b.Wait("an answer", `document.readyState === 'complete' && document.querySelector('#user_code')?.defaultValue === %q`, code)
		if strings.Contains(b.Text("main"), "Too many codes") {
			n.see("no script device throttled")
			return
		}
	}
	n.t.Error("codes are looked at without end")
}
