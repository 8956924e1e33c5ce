package view

import (
	"net/http"
	"time"

	"github.com/countersign-dev/countersign/internal/problem"
)

// Fault is a page that says what went wrong, what to do now, and the reference
// to give when asking for help. It never redirects.
type Fault struct {
	narrow
	State    string // start of the title: "Not found"
	Headline string
	Detail   string    // the cause
	Why      []Why     // what says so, for the person who is signed in
	Next     string    // what to do now, in words
	RetryAt  time.Time // when it is worth trying again; zero: not said
	Actions  []Link
	Commands []Command
	Supplied string // text from the request that helps to see the cause; shown as such
	Ref      string
	Soft     bool // nothing is broken: no error colour
}

// Title implements View.
func (m Fault) Title() string { return m.State + " – " + m.Headline }

// UnknownClient is for an authorization request of an app that is not known.
// The request must not be redirected (RFC 6749 §4.1.2.1).
func UnknownClient(clientID, ref string) (int, Fault) {
	return http.StatusBadRequest, Fault{
		State:    "Unknown app",
		Headline: "We don't know this app",
		Detail:   "It asked to sign you in, but no app of that name is registered here. You were not sent back to it.",
		Next:     "If it worked before, remove the connection in the app and add it again. Otherwise ask whoever gave you the link.",
		Supplied: clientID,
		Ref:      ref,
	}
}

// BadRedirect is for a redirect URI that is not registered for the client. The
// request must not be redirected.
func BadRedirect(app, redirect, ref string) (int, Fault) {
	return http.StatusBadRequest, Fault{
		State:    "Not sent back",
		Headline: "The app gave an address that isn't registered",
		Detail:   "“" + name(app) + "” asked for the answer to go to an address that nobody registered for it, so nothing was sent there.",
		Next:     "If you maintain the app, register exactly this address. If you don't, tell whoever does.",
		Supplied: redirect,
		Ref:      ref,
	}
}

// BadRequest is for a request that is malformed before any app is known.
func BadRequest(detail, ref string) (int, Fault) {
	return http.StatusBadRequest, Fault{
		State:    "Not understood",
		Headline: "This request can't be understood",
		Detail:   detail,
		Next:     "Go back to where you came from and start again there.",
		Ref:      ref,
	}
}

// RequestExpired is for a sign-in or consent whose time has run out; back goes
// to the app, if there is a safe way.
func RequestExpired(app string, back *Link, ref string) (int, Fault) {
	f := Fault{
		State:    "Expired",
		Headline: "This request has expired",
		Detail:   "It was open for too long, so nothing happened.",
		Next:     "Start again in “" + name(app) + "”. On the command line, run the command again.",
		Ref:      ref,
		Soft:     true,
	}
	if back != nil {
		f.Actions = []Link{*back}
	}
	return http.StatusGone, f
}

// OtherWindow is for a request that another window has already finished.
func OtherWindow(ref string) (int, Fault) {
	return http.StatusConflict, Fault{
		State:    "Already done",
		Headline: "This was already finished in another window",
		Detail:   "There is nothing left to do here.",
		Next:     "Go on in the other window. You can close this one.",
		Actions:  []Link{{"Open my account", PathHome}},
		Ref:      ref,
		Soft:     true,
	}
}

// OtherBrowser is for a transaction that was begun in another browser.
func OtherBrowser(ref string) (int, Fault) {
	return http.StatusBadRequest, Fault{
		State:    "Wrong browser",
		Headline: "This request was started in another browser",
		Detail:   "For your safety a sign-in can only be finished in the browser it was started in, with its cookies on.",
		Next:     "Start again in the app, in this browser. If you opened the link from a message, don't: somebody may have sent you their own sign-in.",
		Ref:      ref,
	}
}

// SignedOut is for somebody whose session ended midway; next is where to go on
// after signing in again.
func SignedOut(next string) (int, Fault) {
	f := Fault{
		State:    "Signed out",
		Headline: "You've been signed out",
		Detail:   "Your session ended before this was done, so nothing was changed.",
		Next:     "Sign in again and you'll come back to this page.",
		Actions:  []Link{{"Sign in again", next}},
		Soft:     true,
	}
	return http.StatusUnauthorized, f
}

// Forbidden is for somebody who may not see or do this; what completes "You
// can't …".
func Forbidden(what, help, ref string) (int, Fault) {
	if help == "" {
		help = "Ask an administrator if you need it."
	}
	return http.StatusForbidden, Fault{
		State:    "Not allowed",
		Headline: "You can't " + what,
		Detail:   "Your account doesn't have the right for it. Nothing was changed.",
		Next:     help,
		Actions:  []Link{{"Open my account", PathHome}},
		Ref:      ref,
	}
}

// NotFound is for an address that leads nowhere, or to something that is
// another's: the two look the same.
func NotFound(ref string) (int, Fault) {
	return http.StatusNotFound, Fault{
		State:    "Not found",
		Headline: "There's nothing at this address",
		Detail:   "It may have been removed, or the address may be incomplete.",
		Next:     "Check the address, or start from your account.",
		Actions:  []Link{{"Open my account", PathHome}},
		Ref:      ref,
		Soft:     true,
	}
}

// CrossSite is for a form that another site sent.
func CrossSite(ref string) (int, Fault) {
	return http.StatusForbidden, Fault{
		State:    "Refused",
		Headline: "This came from another site",
		Detail:   "A page elsewhere tried to do something here in your name. It was refused and nothing was changed.",
		Next:     "If you pressed a button on this site yourself, reload its page and press it again.",
		Actions:  []Link{{"Open my account", PathHome}},
		Ref:      ref,
	}
}

// Throttled is for too many attempts; until says when the next one counts.
func Throttled(until time.Time, ref string) (int, Fault) {
	return http.StatusTooManyRequests, Fault{
		State:    "Too many attempts",
		Headline: "Too many attempts",
		Detail:   "To keep accounts safe, attempts from here wait for a while.",
		RetryAt:  until,
		Ref:      ref,
	}
}

// Unavailable is for a server that is busy or restarting.
func Unavailable(until time.Time, ref string) (int, Fault) {
	return http.StatusServiceUnavailable, Fault{
		State:    "Busy",
		Headline: "The server is busy or restarting",
		Detail:   "Your last step was either done completely or not at all.",
		Next:     "Reload this page then. It will show what was done.",
		RetryAt:  until,
		Ref:      ref,
	}
}

// Internal is for a fault of ours.
func Internal(ref string) (int, Fault) {
	return http.StatusInternalServerError, Fault{
		State:    "Our fault",
		Headline: "That failed, and it's our fault",
		Detail:   "Something unexpected went wrong in the server. Your last step was either done completely or not at all.",
		Next:     "Go back and take the step again. If it fails again, give your administrator the reference below: it finds the cause in the server's log.",
		Actions:  []Link{{"Open my account", PathHome}},
		Ref:      ref,
	}
}

// OfError turns any error into a status and a page. A problem.Error is shown in
// its own words, anything else is Internal. now dates a RetryAfter.
func OfError(err error, now time.Time, ref string) (int, Fault) {
	p := problem.From(err)
	if p == nil {
		return Internal(ref)
	}
	wait := p.RetryAfter
	if wait <= 0 {
		wait = 10 * time.Second
	}
	var status int
	var f Fault
	switch p.Kind {
	case problem.NotFound:
		status, f = NotFound(ref)
	case problem.Throttled:
		status, f = Throttled(now.Add(wait), ref)
	case problem.Unavailable:
		status, f = Unavailable(now.Add(wait), ref)
	case problem.Denied, problem.StepUp:
		status, f = Forbidden("do this", "", ref)
	case problem.Unauthenticated:
		status, f = SignedOut(PathSignIn)
		f.Ref = ref
	case problem.Conflict:
		status, f = http.StatusConflict, Fault{
			State: "Not done", Headline: "Something changed in the meantime",
			Next: "Go back, reload the page and look at it again.", Ref: ref,
		}
	case problem.Invalid:
		status, f = BadRequest("", ref)
	default:
		return Internal(ref)
	}
	if p.Detail != "" {
		f.Detail = p.Detail
	}
	for _, w := range p.Why {
		f.Why = append(f.Why, Why{w.Text, w.Policy, w.Owner})
	}
	if p.Hint != "" {
		f.Next = p.Hint
	}
	return status, f
}
