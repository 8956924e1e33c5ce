package view

import "time"

// Reviews lists what was refused, for administrators.
type Reviews struct {
	broad
	Items  []ReviewRow
	States []Choice // which of them are shown
	Older  string
	Newer  string
}

// Choice is one of several lists of a page.
type Choice struct {
	Text, URL string
	On        bool
}

// ReviewState says how a review stands.
type ReviewState int

// The states.
const (
	ReviewOpen ReviewState = iota
	ReviewAllowed
	ReviewRefused
	ReviewClosed
)

// ReviewRow is a review in a list.
type ReviewRow struct {
	Who    string // the name of the person or service
	What   string // what was refused, in words
	App    string // "" for this server's own pages
	Risk   string // the band, "" if none was scored
	Count  int64
	LastAt time.Time
	State  ReviewState
	Until  time.Time // ReviewAllowed
	URL    string
}

// ReviewDetail is one review, with what may be made of it.
type ReviewDetail struct {
	broad
	ReviewRow
	OpenedAt time.Time
	Ref      string // of the first request
	Proved   string // "phr, with a passkey"; "" for nothing
	Network  string
	Device   string
	Links    []Link // to the person, the log
	Why      []Why
	Score    int
	Terms    []Term
	Around   []Record // what the actor did around it, newest first
	By, Note string   // who resolved it
	Person   bool     // it is about somebody, who can be signed out and disabled

	// What may be made of it: each posts id and reason, and Allow hours too. nil: not.
	Allow, End, Suspend, Close *Form
	Reason                     Input
	Hours                      int    // that are chosen
	Not                        string // why nothing may be made of it by the visitor, in a sentence
	NoAllow                    string // why nobody can vouch for it, in a sentence
	Back                       string
}

// Why is a reason in words, and the policy that it is of; "" if it is no policy's.
type Why struct{ Text, Policy, Owner string }

// Term is what one signal adds to a score.
type Term struct {
	Points int
	Words  string
	Signal string
}

// Title implements View.
func (m Reviews) Title() string {
	if len(m.Items) == 0 {
		return "Nothing to look at – Reviews"
	}
	return "Reviews"
}

// Title implements View.
func (m ReviewDetail) Title() string {
	if m.Reason.Error != "" {
		return "Check your answer – Review of " + name(m.Who)
	}
	return "Review of " + name(m.Who)
}
