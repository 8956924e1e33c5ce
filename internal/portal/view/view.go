// Package view owns what the pages look like and say. A page is a plain struct;
// Render writes it. Nothing here reads a request, a session, a clock or a
// store: the same struct gives the same bytes. Handlers, routes and decisions
// belong to package portal; the stylesheet and the script to package static.
//
// # What handlers and the script say to each other
//
// Every passkey form carries two URLs ([Ceremony]). Both are answered with
// JSON to a same-origin POST of JSON:
//
//	POST Options   {<every field of the form>: "<string>"}
//	  200 {"publicKey": PublicKeyCredentialRequestOptionsJSON or …CreationOptionsJSON}
//	POST Finish    {<every field of the form>: "<string>", "credential": <credential.toJSON()>}
//	  200 {"location": "<path or absolute URL to go to>"}
//
// A page whose link has its secret in the fragment ([OpenLink]) posts it:
//
//	POST PostURL   {"secret": "<text after #>"}
//	  200 {"location": "…"}
//
// A [Deadline] that can be extended:
//
//	POST Extend    {}
//	  200 {"expires_in": <seconds, integer>}
//
// Any of them may answer, with whatever status fits,
//
//	{"error": {"title": "…", "detail": "…", "ref": "7F3A9C",
//	           "unknown_credential": true, "rp_id": "…"}}
//
// title is a sentence and required; the last two are sent only when the passkey
// is unknown here, so that the password manager can be told (WebAuthn L3
// signalUnknownCredential). Sign-in offers passkeys in the field's own list
// (conditional mediation), so its options are fetched on load and again at 80 %
// of publicKey.timeout, and again when the button is pressed: a challenge is
// cheap, single-use and must not be spent by fetching another.
package view

import (
	"time"

	"github.com/a-h/templ"
)

// Product is the name that pages carry.
const Product = "Countersign"

// Page is what every page needs, whatever it shows.
type Page struct {
	Lang   string         // BCP 47 of the words on the page; "" is "en"
	Issuer string         // host (and port) of the issuer, as verified by the server's own configuration
	Now    time.Time      // the moment the page is rendered for; relative times count from it
	Zone   *time.Location // of absolute times; nil is UTC. The script replaces them by local ones
	User   *User          // who is signed in; nil: nobody
	Here   string         // Path… of the current section, for the navigation
	Notice *Notice        // outcome of what was just done ("Passkey renamed."), shown first
}

// User is the signed-in person.
type User struct {
	Name     string // display name
	Username string
	Admin    bool // sees People, Recoveries and Audit log
	Helper   bool // may give temporary passes
	Asked    bool // apps may ask them: they see Requests
}

// View is one page. The structs of this package are the only ones.
type View interface {
	// Title is the page's title without the site's name; it starts with the
	// state ("Expired – Set up").
	Title() string
	// Body is what stands inside main.
	Body(Page) templ.Component
	wide() bool
}

// narrow is a page for one decision, wide a page of somebody's account. A
// narrow page shows no navigation even when somebody is signed in.
type (
	narrow struct{}
	broad  struct{}
)

func (narrow) wide() bool { return false }
func (broad) wide() bool  { return true }

// Tone is how a Notice looks. The zero value is good news.
type Tone string

// The tones. Colour is never the only signal: each has its icon.
const (
	Good    Tone = ""
	Plain   Tone = "plain" // nothing happened, and nothing is wrong
	Warning Tone = "warn"
	Failed  Tone = "danger" // is announced at once and takes the focus
)

// Notice is a message on top of a page.
type Notice struct {
	Tone   Tone
	Title  string // a sentence
	Detail string // what to do next; may be ""
	Ref    string // reference id; "" if there is nothing to look up
}

// Form is where a POST goes. Hidden are sent along.
type Form struct {
	Action string
	Hidden []Field
}

// Field is a name and a value of a form.
type Field struct{ Name, Value string }

// Input is what somebody typed and what is wrong with it.
type Input struct {
	Value string
	Error string // a sentence that says what would be right; "" if nothing is wrong
}

// Link is a way on.
type Link struct {
	Text string // a verb first
	URL  string
}

// Ceremony is where a passkey form gets its options and sends its result; see
// the package comment.
type Ceremony struct {
	Options string
	Finish  string
	Hidden  []Field // sent with both
}

// Deadline is when a page stops being of use. The zero value: never.
type Deadline struct {
	At     time.Time
	Extend string // URL that gives more time; "" if it cannot be extended
}

// Command is a line to type in a terminal.
type Command struct {
	What string // what it does, for the eye and as the copy button's name
	Line string
}

// Trust says how the server knows an app.
type Trust int

// The zero value claims nothing.
const (
	Unverified     Trust = iota // the app supplied its own name
	Registered                  // an administrator registered it here
	VerifiedDomain              // its identity was fetched from its own domain
)

// App is the software that asks.
type App struct {
	Name   string // as registered or as supplied by the app: see Trust
	Trust  Trust
	Domain string // of VerifiedDomain, in ASCII
	Pinned bool   // of VerifiedDomain: administrators keep its description here
	Return string // host that the browser is sent back to; "" with Local
	Local  bool   // the answer goes to a program on this computer (loopback, or a scheme of its own)
	// Loopback: to one that listens there, so that its address can be carried to
	// another computer.
	Loopback bool
}
