package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/countersign-dev/countersign"
	"github.com/countersign-dev/countersign/clilogin"
)

// terminal is the clilogin.Prompter of a person at a terminal.
type terminal struct {
	app       *app
	noBrowser bool
}

// Join implements clilogin.Prompter.
func (t *terminal) Join() {
	t.app.say("Another countersign is waiting for you in the browser already; joining it.")
}

// Ask implements clilogin.Prompter: the address at once, then the browser.
func (t *terminal) Ask(p clilogin.Prompt) error {
	if p.Code != "" {
		t.code(p)
		return nil
	}
	opens := !t.noBrowser && clilogin.CanOpenBrowser()
	if p.StepUp != nil {
		t.box(p)
	} else if opens {
		t.app.say("Opening your browser to sign in at %s. If nothing opens, visit:", clean(p.Issuer))
		t.app.say("  %s", t.link(p.URL))
	} else {
		t.app.say("To sign in at %s, visit:", clean(p.Issuer))
		t.app.say("  %s", t.link(p.URL))
	}
	if clilogin.OverSSH() {
		host, err := os.Hostname()
		if err != nil {
			host = "this-host"
		}
		t.app.say("You are on SSH. On the computer with the browser, first run:")
		t.app.say("  ssh -N -L %d:127.0.0.1:%d %s", p.Port, p.Port, host)
		if p.ByCode && p.StepUp == nil {
			t.app.say("Or stop here with Ctrl-C and sign in without a tunnel: countersign login --device")
		}
	}
	if !opens {
		return nil
	}
	if err := clilogin.OpenBrowser(p.URL); err != nil {
		t.app.say("The browser did not open (%v): visit the address above.", err)
	}
	return nil
}

// code says what to type where. The address with the code in it is a link for who
// can click; who types it needs only the short one.
func (t *terminal) code(p clilogin.Prompt) {
	t.app.say("To sign in at %s, open this page on any machine:", clean(p.Issuer))
	t.app.say("  %s", t.link(clean(p.CodeURL)))
	t.app.say("and type this code, which is good until %s, for %s:", clock(p.Until), span(time.Until(p.Until)))
	t.app.say("  %s", t.app.bold(clean(p.Code)))
	t.app.say("Type it yourself: nobody who helps you needs it.")
}

// Confirm implements clilogin.DevicePrompter.
func (t *terminal) Confirm(code string) {
	if len(code) == 6 {
		code = code[:3] + " " + code[3:]
	}
	t.app.say("If the page asks for a confirmation code, it is %s", t.app.bold(clean(code)))
}

// link is an address that can be clicked where the terminal can.
func (t *terminal) link(url string) string {
	if !t.app.colour {
		return url
	}
	return "\x1b]8;;" + url + "\x1b\\" + url + "\x1b]8;;\x1b\\"
}

// box says what asks for proof, why, how and how long there is.
func (t *terminal) box(p clilogin.Prompt) {
	top, side, end := "┌", "│", "└"
	if t.app.ascii {
		top, side, end = "+", "|", "+"
	}
	why := p.StepUp.Description
	if why == "" {
		why = "This needs a newer or stronger sign-in"
	}
	t.app.say("%s %s", top, t.app.bold("More proof is needed"))
	row := func(name, text string) { t.app.say("%s %-5s %s", side, name, text) }
	row("What", clean(strings.TrimSpace(p.StepUp.Method+" "+p.StepUp.URL)))
	row("Why", clean(why))
	row("How", clean(demand(*p.StepUp)))
	row("Until", fmt.Sprintf("%s, in %s; Ctrl-C stops", clock(p.Until), span(time.Until(p.Until))))
	row("Where", t.link(p.URL))
	t.app.say("%s", end)
}

// demand says in words what a challenge asks for.
func demand(c countersign.Challenge) string {
	how := "sign in"
	if len(c.ACRValues) > 0 {
		switch c.ACRValues[0] {
		case "phr":
			how = "a passkey or security key (phr)"
		case "phrh":
			how = "a hardware security key (phrh)"
		default:
			how = "a sign-in of " + c.ACRValues[0]
		}
	}
	if c.HasMaxAge {
		how += ", not older than " + span(c.MaxAge)
	}
	if len(c.Scope) > 0 {
		how += ", for " + strings.Join(c.Scope, " ")
	}
	return how
}

// tracer tells what goes over the wire. Bodies and the values of headers that
// can carry a secret are never written.
type tracer struct {
	out  io.Writer
	next http.RoundTripper
}

// shown are the headers whose values are told.
var shown = []string{"Content-Type", "WWW-Authenticate", "Retry-After", "Countersign-Ref", "Idempotency-Key", "Etag", "If-Match"}

// RoundTrip implements http.RoundTripper.
func (t *tracer) RoundTrip(r *http.Request) (*http.Response, error) {
	start := time.Now()
	u := *r.URL
	u.User = nil
	if u.RawQuery != "" {
		u.RawQuery = "[redacted]"
	}
	fmt.Fprintf(t.out, "debug: > %s %s%s\n", r.Method, u.String(), headers(r.Header))
	resp, err := t.next.RoundTrip(r)
	if err != nil {
		fmt.Fprintf(t.out, "debug: < %v after %s\n", clean(err.Error()), time.Since(start).Round(time.Millisecond))
		return nil, err
	}
	fmt.Fprintf(t.out, "debug: < %s after %s%s\n", clean(resp.Status), time.Since(start).Round(time.Millisecond), headers(resp.Header))
	return resp, nil
}

// CloseIdleConnections lets the client close them.
func (t *tracer) CloseIdleConnections() {
	if c, ok := t.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

func headers(h http.Header) string {
	var b strings.Builder
	for _, name := range shown {
		if v := h.Values(name); len(v) > 0 {
			fmt.Fprintf(&b, " %s=%q", strings.ToLower(name), clean(strings.Join(v, ", ")))
		}
	}
	for _, name := range []string{"Authorization", "DPoP", "DPoP-Nonce"} {
		if h.Get(name) != "" {
			fmt.Fprintf(&b, " %s=[redacted]", strings.ToLower(name))
		}
	}
	return b.String()
}
