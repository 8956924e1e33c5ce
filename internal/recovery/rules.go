package recovery

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/problem"
)

// Method is a path back in.
type Method string

// The methods. The numbers of other people and the waits are in Paths.
const (
	ByCode   Method = "code"   // one of one's recovery codes, and time
	ByPeople Method = "people" // two administrators
	ByPass   Method = "pass"   // a temporary pass from a helper
	ByHost   Method = "host"   // countersignd recover admin
)

// Need is one thing that a path demands and an attacker would have to have, or
// to defeat.
type Need int

// The needs.
const (
	Code         Need = iota // an unused recovery code
	Browser                  // the browser that began it, or its private link
	Silence                  // that nobody who is told says no while it waits
	OtherPasskey             // the passkey of another person, used within the last five minutes
	PassCode                 // an unused temporary pass
	Host                     // root on the server's machine
	Link                     // a link that was sent or handed over
)

var needs = map[Need]struct {
	factors int
	words   string
}{
	Code:         {1, "an unused recovery code"},
	Browser:      {0, "the browser that began it"},
	Silence:      {1, "nobody who was told cancels it"},
	OtherPasskey: {2, "another person's passkey, used in the last 5 minutes"},
	PassCode:     {1, "the unused pass"},
	Host:         {2, "root on the server's machine"},
	Link:         {0, "a single-use link"},
}

// Factors is how many factors a need counts for: a passkey two, the key and the
// finger; what binds without proving, and a link, which travels, none.
func (n Need) Factors() int { return needs[n].factors }

// Words says the need.
func (n Need) Words() string { return needs[n].words }

// The times. Waiting and probation can be configured within limits.
const (
	DefaultWait      = 24 * time.Hour
	MinWait          = time.Hour
	MaxWait          = 30 * 24 * time.Hour
	AdminWait        = 24 * time.Hour // of an administrator's account, on every path that is not on the host: at least
	DefaultProbation = 72 * time.Hour
	MinProbation     = 24 * time.Hour
	MaxProbation     = 90 * 24 * time.Hour

	Window         = 7 * 24 * time.Hour // how long a recovery can be completed, or confirmed
	Standing       = 24 * time.Hour     // how long a confirming person has to have been an administrator, and not recovered
	PassLifetime   = time.Hour          // until a pass is used, unless said otherwise
	MaxPass        = 24 * time.Hour
	PassSession    = 8 * time.Hour // that a pass opens, unless said otherwise
	MaxPassSession = 12 * time.Hour
)

// Quorum is how many administrators confirm a recovery.
const Quorum = 2

// Cap is the highest rung that a passkey on probation and a temporary pass
// reach: enough to sign in, not to change factors, to manage or to approve.
const Cap = assurance.Multi

// Settings are what a deployment may choose.
type Settings struct {
	Wait      time.Duration // before a recovery by code can be completed
	Probation time.Duration // of a passkey that was made by a recovery
}

// OrDefaults fills what is not set.
func (s Settings) OrDefaults() Settings {
	if s.Wait == 0 {
		s.Wait = DefaultWait
	}
	if s.Probation == 0 {
		s.Probation = DefaultProbation
	}
	return s
}

// Check says what is wrong with the settings, by the name of the member.
func (s Settings) Check() (key, fault string) {
	s = s.OrDefaults()
	switch {
	case s.Wait < MinWait || s.Wait > MaxWait:
		return "wait", "is between 1h and 720h: a recovery that nobody has time to stop is easier than signing in"
	case s.Probation < MinProbation || s.Probation > MaxProbation:
		return "probation", "is between 24h and 2160h"
	}
	return "", ""
}

// Path is what a way back in demands and gives.
type Path struct {
	Method        Method
	Name          string
	Who           string // whose accounts it is for
	Administrator bool   // the row is about administrators' accounts
	Needs         []Need
	Confirmations int           // OtherPasskeys that confirm it
	Wait          time.Duration // before it can be completed; zero: none
	Told          string
	Cap           assurance.Rung // highest rung of what it gives, while it is new
	Gives         string
}

// Path is the path of a method for a kind of account; ok is false if there is
// none.
func (s Settings) Path(m Method, administrator bool) (p Path, ok bool) {
	for _, p := range s.Paths() {
		if p.Method == m && p.Administrator == administrator {
			return p, true
		}
	}
	return Path{}, false
}

// Paths are all ways back in. The surfaces act by them, and the documents are
// made of them.
func (s Settings) Paths() []Path {
	s = s.OrDefaults()
	told := "every channel of the person, with a cancel link; the account's pages; administrators"
	passkey := fmt.Sprintf("a new passkey on probation for %s: rung 2 at most; every session and grant ends", hours(s.Probation))
	return []Path{
		{
			Method: ByCode, Name: "Recovery code", Who: "people", Needs: []Need{Code, Browser, Silence},
			Wait: s.Wait, Told: told, Cap: Cap, Gives: passkey,
		},
		{
			Method: ByCode, Name: "Recovery code", Who: "administrators", Administrator: true, Needs: []Need{Code, Browser, Silence},
			Wait: max(s.Wait, AdminWait), Told: told, Cap: Cap, Gives: passkey,
		},
		{
			Method: ByPeople, Name: "Two administrators", Who: "people", Needs: []Need{Browser, OtherPasskey, OtherPasskey},
			Confirmations: Quorum, Told: told, Cap: Cap, Gives: passkey,
		},
		{
			Method: ByPeople, Name: "Two administrators", Who: "administrators", Administrator: true,
			Needs: []Need{Browser, OtherPasskey, OtherPasskey, Silence}, Confirmations: Quorum,
			Wait: max(s.Wait, AdminWait), Told: told, Cap: Cap, Gives: passkey,
		},
		{
			Method: ByPass, Name: "Temporary pass", Who: "people; helpers only from administrators; administrators never", Needs: []Need{OtherPasskey, PassCode},
			Told: told, Cap: Cap, Gives: fmt.Sprintf("one session of at most %s: rung 2 at most, no change of factors", hours(MaxPassSession)),
		},
		{
			Method: ByHost, Name: "`countersignd recover admin`", Who: "nobody's: it makes a new administrator", Administrator: true, Needs: []Need{Host, Link},
			Told: "the log; administrators", Cap: assurance.Phishing, Gives: "a new account that administers",
		},
	}
}

// Times are when a recovery that is confirmed, or was begun with a code, at a
// moment can be completed, and until when.
func (p Path) Times(at time.Time) (ready, expires time.Time) {
	ready = at.Add(p.Wait)
	return ready, ready.Add(Window)
}

// Factors is what the path's needs count for together.
func (p Path) Factors() (n int) {
	for _, x := range p.Needs {
		n += x.Factors()
	}
	return n
}

// SignIn is a way of signing in, to compare with.
type SignIn struct {
	Name    string
	Factors int
	Rung    assurance.Rung
}

// SignIns are the ways of signing in that open a session.
func SignIns() []SignIn {
	return []SignIn{
		{"Passkey or security key, with user verification", 2, assurance.Phishing},
		{"Password and one-time code", 2, assurance.Multi},
	}
}

// Easier says why the path would be easier than a way of signing in, "" if it is
// not: it has to need as many factors, and either another person or time in
// which the owner is told, and it must not give more while it is new.
func (p Path) Easier(s SignIn) string {
	switch {
	case p.Factors() < s.Factors:
		return fmt.Sprintf("it needs %d factors, signing in %d", p.Factors(), s.Factors)
	case p.Wait == 0 && slices.Contains(p.Needs, Silence):
		return "it leaves no time to say no"
	case p.Wait == 0 && !slices.Contains(p.Needs, OtherPasskey) && !slices.Contains(p.Needs, Host):
		return "nobody else takes part and it does not wait"
	case p.Told == "":
		return "nobody is told"
	case p.Method != ByHost && p.Cap >= assurance.Phishing:
		return "what it gives is worth as much as what was lost, at once"
	}
	return ""
}

// Table is the table of paths as the documents have it (Markdown).
func (s Settings) Table() string {
	var b strings.Builder
	b.WriteString("| path | whose account | what it needs, all of it | factors | waits | who is told | what it gives |\n|---|---|---|--:|---|---|---|\n")
	for _, w := range SignIns() {
		fmt.Fprintf(&b, "| *to compare: %s* | everybody's | | %d | – | the log | a session, rung %d |\n", w.Name, w.Factors, w.Rung)
	}
	for _, p := range s.Paths() {
		var list []string
		for i := 0; i < len(p.Needs); i++ {
			words := p.Needs[i].Words()
			if n := count(p.Needs, p.Needs[i]); n > 1 {
				words = fmt.Sprintf("%d × %s", n, words)
				i += n - 1
			}
			list = append(list, words)
		}
		wait := "–"
		if p.Wait > 0 {
			wait = hours(p.Wait)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %d | %s | %s | %s |\n", p.Name, p.Who, strings.Join(list, "; "), p.Factors(), wait, p.Told, p.Gives)
	}
	return b.String()
}

func count(list []Need, n Need) (c int) {
	for _, x := range list {
		if x == n {
			c++
		}
	}
	return c
}

func hours(d time.Duration) string {
	if d == time.Hour {
		return "1 hour"
	}
	return fmt.Sprintf("%d hours", d/time.Hour)
}

// Confirmer is what has to be known of somebody who would confirm a recovery.
type Confirmer struct {
	ID          string
	AdminSince  time.Time // zero: since before such times were kept
	RecoveredAt time.Time // of their own account, by whatever path; zero: never
}

// Eligible says why somebody may not confirm a recovery of a person, nil if they
// may: it is not their own, and in the last 24 hours nobody made them an
// administrator or gave them their account back (mechanisms B28 in spirit: who
// was put there just now is not independent of who put them there).
func (c Confirmer) Eligible(person string, now time.Time) error {
	switch {
	case c.ID == person:
		return problem.New(problem.Denied, "recovery_own", "That is your own account: two other administrators have to confirm this.")
	case !c.AdminSince.IsZero() && now.Before(c.AdminSince.Add(Standing)):
		return problem.New(problem.Denied, "confirmer_new", "You have been an administrator for less than a day. Somebody who has been one for longer has to confirm this.")
	case !c.RecoveredAt.IsZero() && now.Before(c.RecoveredAt.Add(Standing)):
		return problem.New(problem.Denied, "confirmer_recovered", "Your own account was recovered less than a day ago. Somebody else has to confirm this.")
	}
	return nil
}

// MayHelp says why somebody may not give a person a temporary pass, nil if they
// may: it is not for oneself, never for an administrator, and for a helper only
// from an administrator (security: admin takeover).
func MayHelp(helper, person string, helperAdministers, personAdministers, personHelps bool) error {
	switch {
	case helper == person:
		return problem.New(problem.Denied, "pass_own", "A pass is for somebody else: nobody vouches for themselves.")
	case personAdministers:
		return problem.New(problem.Denied, "pass_above", "An administrator gets no temporary pass.").
			WithHint("Two other administrators can recover the account.")
	case personHelps && !helperAdministers:
		return problem.New(problem.Denied, "pass_above", "Only an administrator gives a helper a temporary pass.")
	}
	return nil
}
