// Package account owns people: who they are, how they are named, how they came
// in. Factors are factor's, groups are group's; disabling a person is
// lineage.Freeze of the person's node.
package account

import (
	"context"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/problem"
)

// Person is somebody who acts.
type Person struct {
	ID        string
	Subject   string // OAuth sub: random, separate from ID (contract)
	Name      string // shown to people
	Username  string // unique without regard to case; what is typed
	Email     string // "" if none; unverified unless EmailVerified
	Verified  bool   // the e-mail address was proved
	Factors   int    // live factors; the last one is not removed by accident
	CreatedAt time.Time
	Node      lineage.Node
}

// Called reports whether name is p's user name or proved e-mail address, without regard
// to case.
func (p Person) Called(name string) bool {
	return name != "" && (strings.EqualFold(name, p.Username) || p.Verified && strings.EqualFold(name, p.Email))
}

// Create makes a person.
type Create struct {
	Person
	Groups []string // ids
}

// Update changes a person's names. A nil member stays.
type Update struct {
	ID       string
	Name     *string
	Username *string
	Email    *string
}

// SetUp is the single row that closes set-up for ever (mechanisms I3).
type SetUp struct {
	Person string
	At     time.Time
}

// Erase deletes what names a person: the account's data and the record key
// (mechanisms E14). The node stays, ended.
type Erase struct{ ID string }

// Change marks Create as a change.
func (Create) Change() {}

// Change marks Update as a change.
func (Update) Change() {}

// Change marks SetUp as a change.
func (SetUp) Change() {}

// Change marks Erase as a change.
func (Erase) Change() {}

// SetUpState is who completed set-up, and when.
type SetUpState struct {
	Done   bool
	Person string
	At     time.Time
}

// Invitation is what an invitation link stands for: the data of a once.Invite
// value.
type Invitation struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	Username  string    `json:"username,omitempty"`
	Email     string    `json:"email,omitempty"`
	Groups    []string  `json:"groups,omitempty"` // ids
	InvitedBy string    `json:"invited_by"`       // person id
	ExpiresAt time.Time `json:"expires_at"`
}

// InvitationLifetime is how long an invitation link works.
const InvitationLifetime = 72 * time.Hour

// SetupLifetime is how long a setup link works (mechanisms I1).
const SetupLifetime = 15 * time.Minute

// Store reads people.
type Store interface {
	Person(ctx context.Context, id string) (Person, error)
	PersonBySubject(ctx context.Context, sub string) (Person, error)
	// PersonByUsername finds without regard to case.
	PersonByUsername(ctx context.Context, username string) (Person, error)
	// People pages by key: those after the given id, at most n.
	People(ctx context.Context, after string, n int) ([]Person, error)
	SetUp(context.Context) (SetUpState, error)
}

// CheckName reads a display name: 1 to 80 characters, no control characters.
func CheckName(s string) (string, error) {
	s = strings.TrimSpace(s)
	if s == "" || utf8.RuneCountInString(s) > 80 || strings.ContainsFunc(s, unicode.IsControl) || !utf8.ValidString(s) {
		return "", problem.New(problem.Invalid, "name_invalid", "A name has 1 to 80 characters, and no control characters.")
	}
	return s, nil
}

// CheckUsername reads a user name: 1 to 64 characters of letters, digits and
// . _ - @ +, so that it can be typed, quoted and logged anywhere.
func CheckUsername(s string) (string, error) {
	s = strings.TrimSpace(s)
	ok := s != "" && len(s) <= 64
	for _, r := range s {
		if r > 127 || !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("._-@+", r) {
			ok = false
		}
	}
	if !ok {
		return "", problem.New(problem.Invalid, "username_invalid", "A user name has 1 to 64 characters: letters, digits and . _ - @ +")
	}
	return s, nil
}

// CheckEmail reads an e-mail address: one @ with something on both sides, at
// most 254 bytes, no white space or control characters. Whether it works is
// proved by mail, not by its form.
func CheckEmail(s string) (string, error) {
	s = strings.TrimSpace(s)
	local, domain, ok := strings.Cut(s, "@")
	if s == "" {
		return "", nil
	}
	if !ok || local == "" || domain == "" || strings.Contains(domain, "@") || len(s) > 254 || !utf8.ValidString(s) ||
		strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) || unicode.IsSpace(r) || r == '<' || r == '>' }) {
		return "", problem.New(problem.Invalid, "email_invalid", "That is not an e-mail address.")
	}
	return s, nil
}
