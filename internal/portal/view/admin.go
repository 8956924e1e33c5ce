package view

import (
	"strconv"
	"time"
)

// PersonState is how a person stands.
type PersonState int

// The states.
const (
	Active PersonState = iota
	Invited
	Disabled
)

// Person is a row of People.
type Person struct {
	Name       string
	Username   string
	Role       string // "administrator"; "" for none
	State      PersonState
	Passkeys   int
	LastSeenAt time.Time // zero: never
	ExpiresAt  time.Time // Invited: of the invitation
	ActURL     string    // of the confirming page: disable, enable or withdraw, as State says; "" for none
	You        bool
	DevicesURL string // of the page of their devices; "" for who is only invited
}

// People lists people and invitations.
type People struct {
	broad
	Items     []Person
	InviteURL string
	Newer     string
	Older     string
}

// Title implements View.
func (People) Title() string { return "People" }

// Invite is the form that makes an invitation. It posts display_name, email
// and role ("" or "administrator").
type Invite struct {
	broad
	Form  Form
	Name  Input
	Email Input
	Admin bool
	Lasts time.Duration // how long the link will work
	Back  string
}

// Title implements View.
func (m Invite) Title() string {
	if m.Name.Error != "" || m.Email.Error != "" {
		return "Check your answers – Invite somebody"
	}
	return "Invite somebody"
}

// InviteMade is the result of Invite: the link, shown this once.
type InviteMade struct {
	broad
	For       string // whom it is for
	Link      string // with its secret in the fragment
	ExpiresAt time.Time
	Back      string
}

// Title implements View.
func (m InviteMade) Title() string { return "Invitation made – " + name(m.For) }

// PersonChange asks before a person is disabled, enabled or an invitation is
// withdrawn: which, follows from the person's State.
type PersonChange struct {
	broad
	Person Person
	Ends   string // disabling: "2 sessions and 3 apps"; "" for nothing
	Marks  string // disabling: the command that lists what they said of others' devices; "" if nothing
	Form   Form   // posts reason
	Reason Input
	Back   string
	Last   bool // the only administrator left: refused, with the way out
}

func (m PersonChange) verb() string {
	return [...]string{"Disable", "Withdraw the invitation for", "Enable"}[m.Person.State]
}

// Title implements View.
func (m PersonChange) Title() string {
	if m.Last {
		return "Not possible – Disable " + name(m.Person.Name)
	}
	return m.verb() + " " + name(m.Person.Name) + "?"
}

// Record is a row of the audit log.
type Record struct {
	Index     int64 // position in the log
	At        time.Time
	Actor     string // who
	For       string // on whose behalf; "" for their own
	Text      string // what, in words
	Outcome   string // "allowed", "denied", "asked for proof"
	Refused   bool   // Outcome is not what the actor wanted
	Assurance string // "phr, 2 minutes old"
	Proofs    string // "passkey “Dana's laptop”"
	Reason    string
	Ref       string // id of the record
}

// AuditLog is a page of the audit log, newest first.
type AuditLog struct {
	broad
	Records  []Record
	Query    string // of the search box, which is a GET with q
	Size     int64  // entries of the last signed checkpoint
	SignedAt time.Time
	Broken   string // what the last check of the hash chain found; "" if it holds
	Newer    string
	Older    string
}

// Title implements View.
func (m AuditLog) Title() string {
	switch {
	case m.Broken != "":
		return "Broken – Audit log"
	case len(m.Records) == 0:
		return "Nothing found – Audit log"
	}
	return "Audit log"
}

func (s PersonState) act() string { return [...]string{"Disable", "Withdraw", "Enable"}[s] }

func entries(n int64) string {
	if n == 1 {
		return "1 entry"
	}
	return strconv.FormatInt(n, 10) + " entries"
}
