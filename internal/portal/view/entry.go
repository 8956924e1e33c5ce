package view

import (
	"fmt"
	"time"
)

// LinkKind is which single-use link a page is about.
type LinkKind int

// The kinds of link.
const (
	SetupLink LinkKind = iota
	InviteLink
	ReenrolLink // the issuer was renamed: a new passkey for an account that exists
	EmailLink   // proves an e-mail address
	RecoverLink // a recovery that was begun in another browser
	CancelLink  // stops a recovery
)

func (k LinkKind) name() string {
	switch k {
	case InviteLink:
		return "invitation"
	case ReenrolLink:
		return "passkey link"
	case EmailLink:
		return "link"
	case RecoverLink:
		return "private link"
	case CancelLink:
		return "cancel link"
	}
	return "setup link"
}

func (k LinkKind) place() string {
	switch k {
	case InviteLink:
		return "Invitation"
	case ReenrolLink:
		return "New passkey"
	case EmailLink:
		return "E-mail address"
	case RecoverLink, CancelLink:
		return "Recovery"
	}
	return "Set up " + Product
}

// OpenLink is what a GET of a single-use link shows: the script takes the
// secret from the fragment and posts it. GET never spends a link (mechanisms I1).
type OpenLink struct {
	narrow
	Kind     LinkKind
	PostURL  string // takes the secret from the script as JSON and, without PasteURL, from the form as secret
	PasteURL string // another page where the link can be pasted; "": on this one
}

// Title implements View.
func (m OpenLink) Title() string { return "Opening – " + m.Kind.place() }

// LinkState is why a link does not work.
type LinkState int

// The states. Somebody who holds no genuine link is only ever told LinkUnknown.
const (
	LinkUnknown LinkState = iota // never issued, or mistyped
	LinkExpired
	LinkUsed
	LinkWithdrawn // replaced by a newer one, or taken back
)

// LinkProblem is a link that does not work.
type LinkProblem struct {
	narrow
	Kind  LinkKind
	State LinkState
	At    time.Time // when it expired, was used or withdrawn; zero: not said
	By    string    // who invited: whom to ask for another; "" if not known
	Ref   string
}

// Title implements View.
func (m LinkProblem) Title() string {
	s := map[LinkState]string{LinkUnknown: "Not valid", LinkExpired: "Expired", LinkUsed: "Already used", LinkWithdrawn: "Withdrawn"}[m.State]
	return s + " – " + m.Kind.place()
}

func (m LinkProblem) headline() string {
	switch m.State {
	case LinkExpired:
		return "This " + m.Kind.name() + " has expired"
	case LinkUsed:
		return "This " + m.Kind.name() + " was already used"
	case LinkWithdrawn:
		return "This " + m.Kind.name() + " was withdrawn"
	}
	return "This " + m.Kind.name() + " isn't valid"
}

// SetupClosed is shown once the first administrator exists (mechanisms I3).
type SetupClosed struct {
	narrow
	By string // display name of who completed it
	At time.Time
}

// Title implements View.
func (SetupClosed) Title() string { return "Already done – Set up " + Product }

// SetupName is step 1 of 5: who is the first administrator. It posts
// display_name and username.
type SetupName struct {
	narrow
	Form     Form
	Name     Input // display_name
	Username Input // username, may be an e-mail address
	Deadline Deadline
}

// Title implements View.
func (m SetupName) Title() string {
	if m.Name.Error != "" || m.Username.Error != "" {
		return "Check your answers – Set up " + Product
	}
	return "Step 1 of 5: Your name – Set up " + Product
}

// EnrolReason is why a passkey is being made.
type EnrolReason int

// The reasons.
const (
	EnrolFirst   EnrolReason = iota // setup, step 2 of 5
	EnrolSecond                     // setup, step 3 of 5, or right after an invitation
	EnrolAnother                    // from Passkeys
)

// EnrolPasskey makes a passkey. The form has one field of its own, passkey_name.
type EnrolPasskey struct {
	narrow
	Reason   EnrolReason
	Account  string // username the passkey will be for
	Name     Input  // suggested name of the passkey
	Ceremony Ceremony
	Typed    string   // EnrolFirst: URL of the page for a password and an app instead; "": no other way
	Setup    bool     // show "Step n of 5"
	Made     *Passkey // EnrolSecond: the one just made
	Later    *Form    // EnrolSecond: go on with one passkey
	Back     string   // EnrolAnother: URL to leave by
	Deadline Deadline
}

func (m EnrolPasskey) step() int {
	if !m.Setup {
		return 0
	}
	return 2 + int(m.Reason)
}

// Title implements View.
func (m EnrolPasskey) Title() string {
	s := [...]string{"Create your passkey", "Add a second passkey", "Add a passkey"}[m.Reason]
	if n := m.step(); n > 0 {
		return fmt.Sprintf("Step %d of 5: %s – Set up %s", n, s, Product)
	}
	return s
}

// SetupDone is step 5 of 5.
type SetupDone struct {
	narrow
	Name     string
	Passkeys int // how many the person has now
	Commands []Command
	Next     Link
}

// Title implements View.
func (SetupDone) Title() string { return "Done – Set up " + Product }

// Invitation is accepted with a name and a passkey, in one step. The form's
// fields are display_name, username and passkey_name.
type Invitation struct {
	narrow
	By        string // display name of who invites
	ByAccount string // their username
	Into      string // organisation or, without one, the issuer's host
	Role      string // in words, "administrator"; "" for nothing special
	Name      Input
	Username  Input
	Passkey   Input  // suggested passkey_name
	Typed     string // URL of the page for a password and an app instead; "": no other way
	ExpiresAt time.Time
	Ceremony  Ceremony
	SignedIn  *Form // somebody is signed in in this browser: sign them out first
}

// Title implements View.
func (Invitation) Title() string { return "You're invited – Create your account" }

// SignIn asks for a passkey, on behalf of an app or for the person's account.
type SignIn struct {
	narrow
	App      *App   // nil: their own account
	Typed    *Typed // a password is another way in; nil: it is none here
	Username string // carried forward, so that nothing is typed twice (WCAG 3.3.7)
	Ceremony Ceremony
	LastUsed bool      // a passkey was used last in this browser
	Until    time.Time // too many attempts: typed attempts wait until then; passkeys work now
	Off      bool      // too many in a row: typed attempts are off from here
	Cancel   *Form     // gives up and goes back to the app
	Help     string    // how to reach the administrators, in words; "" if not set
	Why      string    // why they are asked although they were signed in: "Your session ended at 14:02."
	Deadline Deadline
}

// Title implements View.
func (m SignIn) Title() string {
	if m.App != nil {
		return "Sign in to " + name(m.App.Name)
	}
	return "Sign in"
}

// StepUpState is what a step-up page can say.
type StepUpState int

// The states.
const (
	StepUpReady      StepUpState = iota
	StepUpCompleted              // another window finished it
	StepUpWrongUser              // asked for somebody else
	StepUpImpossible             // nothing this person has enrolled would do
	StepUpExpired
)

// StepUp asks somebody who is signed in for proof now.
type StepUp struct {
	narrow
	State    StepUpState
	Action   string // completes "Confirm it's you to …": "rotate the production key"; supplied by the policy, not by the app
	App      App
	From     string        // where the app runs, as far as known: "the command line on dana-laptop"
	Reasons  []string      // sentences: why now
	Lasts    time.Duration // for how long no further proof is asked for this kind of action; 0: this once
	Ceremony Ceremony      // StepUpReady; the zero value: this person has no passkey
	Until    time.Time     // StepUpReady: too many attempts to type it; the next is looked at then
	Off      bool          // StepUpReady: too many in a row, so typing is off from here
	Typed    *Typed        // StepUpReady: a password and a code would do; nil: they would not
	Counts   time.Time     // StepUpImpossible: a passkey that was added lately counts from then on
	Cancel   *Form         // goes back to the app, saying no
	Switch   *Form         // "Not you?" and StepUpWrongUser: sign in as somebody else
	For      string        // StepUpWrongUser: username it was asked for
	Missing  string        // StepUpImpossible: completes "This needs …": "a hardware-backed passkey"
	Add      *Link         // StepUpImpossible: how to add one; nil: only an administrator can help
	Help     string        // StepUpImpossible: how to reach the administrators
	Ref      string
	Deadline Deadline
}

// Title implements View.
func (m StepUp) Title() string {
	switch m.State {
	case StepUpCompleted:
		return "Already completed – Confirm it's you"
	case StepUpWrongUser:
		return "Another account – Confirm it's you"
	case StepUpImpossible:
		return "Not possible yet – Confirm it's you"
	case StepUpExpired:
		return "Expired – Confirm it's you"
	}
	return "Confirm it's you to " + Visible(m.Action, nameLimit)
}

// Group is the kind of a permission, weakest first.
type Group int

// The groups. Spend comes with machines that pay.
const (
	Read Group = iota
	Change
	Spend
	Admin
)

func (g Group) text() string {
	return [...]string{"It may read", "It may change", "It may spend", "It may administer"}[g]
}

// Permission is a scope in words.
type Permission struct {
	Group Group
	Text  string // "See your notes"
	Scope string // the scope's own name, shown small
	New   bool   // not part of what was approved before
	Again string // elevated: how it is asked each time, "a passkey used in the last 5 minutes"; "" if not elevated
}

// Consent asks whether an app may have permissions. Its form posts decision =
// "allow" or "deny".
type Consent struct {
	narrow
	App         App
	Resource    string // name of the API
	ResourceURL string // its identifier
	Permissions []Permission
	Details     []Detail  // shown each time, one by one
	Lasts       string    // in words, "until you sign out of this app, at most 30 days"
	ApprovedAt  time.Time // nothing changed since they approved it then; zero: first time, or something is New
	Changed     bool      // they approved it before, and it says now that it is something else
	Form        Form
	Switch      *Form // "Not you?"
	Deadline    Deadline
}

// Detail is one thing that an app asks for in particular. What it supplied is told
// apart from the words around it.
type Detail struct {
	Resource string
	Said     []Said
	Fields   []Field // all that it supplied
}

// Said is a piece of a sentence.
type Said struct {
	Text     string
	Supplied bool
}

// Title implements View.
func (m Consent) Title() string {
	if !m.ApprovedAt.IsZero() {
		return "Continue to " + name(m.App.Name)
	}
	if len(m.Permissions) == 0 && len(m.Details) == 0 {
		return "Tell " + name(m.App.Name) + " who you are?"
	}
	return "Allow " + name(m.App.Name) + "?"
}

type permissionGroup struct {
	Group
	items []Permission
}

func (m Consent) groups() (out []permissionGroup) {
	for g := Read; g <= Admin; g++ {
		pg := permissionGroup{Group: g}
		for _, x := range m.Permissions {
			if x.Group == g {
				pg.items = append(pg.items, x)
			}
		}
		if len(pg.items) > 0 {
			out = append(out, pg)
		}
	}
	return out
}

// Done says that something is finished and what comes next.
type Done struct {
	narrow
	Headline string // "You're signed out"
	Text     string
	Next     *Link
	Commands []Command
}

// Title implements View.
func (m Done) Title() string { return "Done – " + m.Headline }

// FormPost posts the answer of an authorization request to the app (OAuth 2.0
// Form Post Response Mode): at once with scripts, else at a press of its button.
type FormPost struct {
	narrow
	Form Form   // its Action is the app's own, registered address
	To   string // host of that address
}

// Title implements View.
func (m FormPost) Title() string { return "Going back to the app" }

// SignOut offers two ways of leaving. Each form is a POST of its own.
type SignOut struct {
	narrow
	Here       Form     // ends this browser's session
	HereEnds   string   // what else ends with it, "2 apps"; "" for nothing
	Everything Form     // ends everything this person started, everywhere
	Counts     []string // of Everything: "3 sessions", "5 apps"
	Back       string   // URL to stay
}

// Title implements View.
func (SignOut) Title() string { return "Sign out" }

// LeaveApp asks whether to sign out, because an app wants it. Signing out is a POST;
// staying is a link.
type LeaveApp struct {
	narrow
	App  string // name of the app; "" if it did not say which
	Back string // host that the browser goes back to; "" to stay here
	Ends string // what else ends, "2 apps"; "" for nothing
	Form Form
	Stay string // URL
}

// Title implements View.
func (LeaveApp) Title() string { return "Sign out?" }

func (m LeaveApp) endsText() string {
	s := "Ends the session in this browser"
	if m.Ends != "" {
		s += " and what it gave access to: " + m.Ends
	}
	s += ". Apps that ask to be told are told. Everything else goes on."
	if m.Back != "" {
		s += " Then you go back to " + Host(m.Back) + "."
	}
	return s
}

func (m SignOut) hereText() string {
	if m.HereEnds == "" {
		return "Ends the session in this browser. Everything else goes on."
	}
	return "Ends the session in this browser and what it gave access to: " + m.HereEnds + ". Everything else goes on."
}

func (m SignOut) everythingText() string {
	s := "Ends everything you started, on every device"
	if len(m.Counts) > 0 {
		s += ": " + list(m.Counts)
	}
	return s + ". Commands that are running stop within seconds. Your passkeys stay."
}
