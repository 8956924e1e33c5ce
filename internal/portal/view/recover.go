package view

import "time"

// Recover is "Trouble signing in?": the ways back in, the quickest first, each
// with how long it takes.
type Recover struct {
	narrow
	Wait    time.Duration // of a recovery by code
	Under   bool          // this browser has begun one: lead to it
	SignIn  string        // URL
	Code    string        // URLs of the ways
	People  string
	Pass    string
	Status  string
	Nothing string // how to reach the administrators, in words; "" if not set
}

// Title implements View.
func (Recover) Title() string { return "Trouble signing in?" }

// RecoverForm asks for a user name and a code: a recovery code, or a temporary
// pass. It posts username and code.
type RecoverForm struct {
	narrow
	Pass     bool // a temporary pass, else a recovery code
	Form     Form
	Username Input
	Code     Input
	Until    time.Time     // too many attempts: until then none is looked at
	Wait     time.Duration // of a recovery by code
	Back     string
}

func (m RecoverForm) label() string {
	if m.Pass {
		return "Temporary pass"
	}
	return "Recovery code"
}

// Title implements View.
func (m RecoverForm) Title() string {
	switch {
	case !m.Until.IsZero():
		return "Too many attempts – " + m.label()
	case m.Username.Error != "" || m.Code.Error != "":
		return "Check your answers – " + m.label()
	}
	return m.label()
}

// RecoverAsk shows the code that somebody who has nothing left tells to two
// administrators.
type RecoverAsk struct {
	narrow
	Code   string // grouped
	Status string // URL to come back to
	Back   string
}

// Title implements View.
func (RecoverAsk) Title() string { return "Ask two administrators" }

// RecoverState is how a recovery stands.
type RecoverState int

// The states.
const (
	RecoverNone      RecoverState = iota // this browser has begun none, or nobody has confirmed it yet
	RecoverWaiting                       // until ReadyAt
	RecoverAsking                        // for confirmations
	RecoverReady                         // a passkey can be made now
	RecoverDone                          // it was completed
	RecoverStopped                       // cancelled
	RecoverOver                          // its time has passed
	RecoverNotNeeded                     // somebody has signed in with a passkey since
)

// RecoverStatus is a recovery as the browser that began it sees it.
type RecoverStatus struct {
	narrow
	State     RecoverState
	Account   string // user name
	StartedAt time.Time
	ReadyAt   time.Time
	ExpiresAt time.Time
	Confirmed int // of Quorum
	Quorum    int
	Told      []string // who was told and how: "by e-mail to d…@example.com"
	Link      string   // opens it in another browser; told to this browser only
	Continue  string   // URL: RecoverReady
	Stop      Form
	Paste     Form   // RecoverNone: posts link
	Pasted    Input  // what was wrong with it
	Back      string // URL of the ways back in
}

// Title implements View.
func (m RecoverStatus) Title() string {
	s := map[RecoverState]string{
		RecoverNone: "Nothing to see – ", RecoverWaiting: "Waiting – ", RecoverAsking: "Waiting for administrators – ", RecoverReady: "Ready – ",
		RecoverDone: "Done – ", RecoverStopped: "Stopped – ", RecoverOver: "Expired – ", RecoverNotNeeded: "Not needed – ",
	}[m.State]
	return s + "Your recovery"
}

// RecoverCancel is where a cancel link leads.
type RecoverCancel struct {
	narrow
	Account   string
	Pass      bool // a temporary pass, else a recovery
	Used      bool // the pass was used: its session ends
	Over      bool // nothing is left to stop
	Completed bool // because it was completed
	StartedAt time.Time
	Form      Form
	SignIn    string
}

func (m RecoverCancel) what() string {
	if m.Pass {
		return "the temporary pass"
	}
	return "the recovery"
}

// Title implements View.
func (m RecoverCancel) Title() string {
	if m.Over {
		return "Nothing to stop – " + m.what()
	}
	return "Stop " + m.what() + "?"
}

// PasteLink is for a link with its secret in the fragment where there is no
// script: it is pasted. It posts link.
type PasteLink struct {
	narrow
	Headline string
	Form     Form
	Link     Input
	Back     string
}

// Title implements View.
func (m PasteLink) Title() string { return m.Headline }

// RecoveryCodes shows a set of recovery codes, this once.
type RecoveryCodes struct {
	narrow
	Codes   []string // grouped
	Account string
	Next    Link
	Setup   bool // show "Step 4 of 5"
}

// Title implements View.
func (RecoveryCodes) Title() string { return "Save your recovery codes" }

// OfferCodes offers recovery codes to somebody who has just come in.
type OfferCodes struct {
	narrow
	Form  Form
	Later Form
	Setup bool
	Wait  time.Duration
}

// Title implements View.
func (m OfferCodes) Title() string {
	if m.Setup {
		return "Step 4 of 5: Recovery codes – Set up " + Product
	}
	return "Recovery codes"
}

// OwnRecovery is the section Recovery of somebody's account.
type OwnRecovery struct {
	broad
	Left    int // codes not used
	Of      int // codes of a set
	MadeAt  time.Time
	Make    Form
	Wait    time.Duration
	Open    []OpenRecovery
	Past    []PastRecovery
	Trial   time.Time // a passkey of theirs is on probation until then; zero: none
	Limited bool      // this session is, so factors cannot be changed now
}

// OpenRecovery is a recovery or a pass that somebody may stop.
type OpenRecovery struct {
	ID        string
	What      string // "Recovery with a recovery code"
	Account   string // admin's pages: whose
	StartedAt time.Time
	ReadyAt   time.Time // zero: not known yet
	ExpiresAt time.Time
	Reason    string
	By        string // who opened it; "" for the person with a code
	Confirmed int
	Quorum    int // 0: none needed
	URL       string
	Stop      *Form
}

// PastRecovery is one that is over.
type PastRecovery struct {
	What string
	How  string // "completed", "cancelled"
	At   time.Time
}

// Title implements View.
func (m OwnRecovery) Title() string {
	if len(m.Open) > 0 {
		return "Under way – Recovery"
	}
	return "Recovery"
}

// Recoveries lists what is open, for administrators.
type Recoveries struct {
	broad
	Items   []OpenRecovery
	OpenURL string
	PassURL string // "" if they may not
	Older   string
	Newer   string
	Told    string // how people are told here, in a sentence
}

// Title implements View.
func (m Recoveries) Title() string {
	if len(m.Items) == 0 {
		return "Nothing open – Recoveries"
	}
	return "Recoveries"
}

// OpenForm opens a recovery for somebody. It posts username, code and reason.
type OpenForm struct {
	broad
	Form     Form
	Username Input
	Code     Input
	Reason   Input
	Back     string
}

// Title implements View.
func (m OpenForm) Title() string {
	if countWrong([]Input{m.Username, m.Code, m.Reason}) > 0 {
		return "Check your answers – Open a recovery"
	}
	return "Open a recovery"
}

// RecoveryDetail is one recovery, for administrators.
type RecoveryDetail struct {
	broad
	OpenRecovery
	State      RecoverState
	Admin      bool // an administrator's account
	Confirmers []string
	Told       []string
	CancelLink string // to print and hand over; "" when it is over
	Confirm    *Form  // posts code; nil: the visitor cannot
	Code       Input
	Why        string // why not, in a sentence; "" if they can, or it is over
	Cancel     *Form
	Back       string
}

// Title implements View.
func (m RecoveryDetail) Title() string {
	if m.Code.Error != "" {
		return "Check the code – Recovery of " + name(m.Account)
	}
	return "Recovery of " + name(m.Account)
}

// PassForm gives somebody a temporary pass. It posts username, reason, valid and
// lasts (hours).
type PassForm struct {
	broad
	Form     Form
	Username Input
	Reason   Input
	Valid    int // chosen hours
	Lasts    int
	Back     string
}

// Title implements View.
func (m PassForm) Title() string {
	if countWrong([]Input{m.Username, m.Reason}) > 0 {
		return "Check your answers – Temporary pass"
	}
	return "Temporary pass"
}

// PassMade is a pass, shown this once.
type PassMade struct {
	broad
	For        string
	Code       string // grouped
	Enter      string // URL where it is entered
	ExpiresAt  time.Time
	Lasts      time.Duration
	Told       []string
	CancelLink string
	Back       string
}

// Title implements View.
func (m PassMade) Title() string { return "Pass made – " + name(m.For) }
