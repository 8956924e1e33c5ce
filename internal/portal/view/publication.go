package view

import (
	"strconv"
	"time"
)

// PublicationState says how policies stand that are to come into force.
type PublicationState int

// The states.
const (
	PublicationUnsigned  PublicationState = iota
	PublicationSigned                     // and waits for whoever carries it out
	PublicationInForce                    // at once, or begun as a rollout
	PublicationWithdrawn                  // by somebody
	PublicationExpired                    // nobody signed it, or carried it out, in time
	PublicationOvertaken                  // another version is in force by now
)

// badge is the state in words, and its colour.
func (s PublicationState) badge() (text, class string) {
	switch s {
	case PublicationSigned:
		return "Signed, not in force yet", "good"
	case PublicationInForce:
		return "Carried out", "good"
	case PublicationWithdrawn:
		return "Withdrawn", ""
	case PublicationExpired:
		return "Over", ""
	case PublicationOvertaken:
		return "Overtaken", "warn"
	}
	return "Waits to be signed", "warn"
}

// PublicationRow is a line of the list.
type PublicationRow struct {
	Note  string
	Who   string // submitted it
	At    time.Time
	Until time.Time // it is over then
	State PublicationState
	Waves int // 0: at once, for all
	URL   string
}

// Publications lists the policies that are to come into force.
type Publications struct {
	broad
	Items  []PublicationRow
	States []Choice // which of them are shown
	Older  string
	Newer  string
}

// Title implements View.
func (m Publications) Title() string {
	if len(m.Items) == 0 {
		return "Nothing to sign – Publications"
	}
	return "Publications"
}

// Publication is the page on which somebody signs policies that are to come into
// force: what they sign is the statement, and nothing else here is about the policies.
type Publication struct {
	broad
	State     PublicationState
	Statement Statement
	TextURL   string // the whole statement, as plain text
	Until     time.Time
	Service   string // the name of the service that submitted it; "" if it was a person

	// Who signed it, in states in which somebody has.
	SignedBy    string
	SignedByYou bool
	SignedAt    time.Time
	SignedUntil time.Time // the signature counts so long

	// What the visitor may do; nil: not. Signed and left, it is put in force by the
	// service that submitted it, or by whoever else may.
	SignAndPut, SignAndLeave *Ceremony
	PutInForce, Withdraw     *Form
	Not                      string // why the visitor may not sign, in a sentence
	Would                    []Why  // what would do
	AddURL                   string // leads to another passkey, where only that is missing

	Became    Link // the version or the rollout that it was carried out as
	InForce   int64
	LatestURL string // of PublicationOvertaken: what can be done
	Ref       string
}

// Title implements View.
func (m Publication) Title() string {
	switch {
	case m.State == PublicationUnsigned && m.Not != "":
		return "You can't sign this – Publication"
	case m.State == PublicationUnsigned:
		return "Sign policies"
	}
	text, _ := m.State.badge()
	return text + " – Publication"
}

// comes says in a few words how a row comes into force.
func (x PublicationRow) comes() string {
	if x.Waves == 0 {
		return "At once, for all"
	}
	return "In " + plural(x.Waves, "wave")
}

// rest says how many lines of a statement are not on the page.
func rest(n int) string {
	if n == 1 {
		return "One more line is"
	}
	return strconv.Itoa(n) + " more lines are"
}
