package view

import (
	"fmt"
	"strconv"
	"time"
)

// Policies is the administrators' page of the rules of a version of the policies.
type Policies struct {
	broad
	Version     int64 // 0: the default set
	InForce     bool
	Hash        string
	By          string // "" is the operator of the host, or nobody
	PublishedAt time.Time
	Note        string
	Restores    string       // "version 3"; "" if it puts none back
	Broken      bool         // this server cannot read it
	Due         []PolicyRule // overdue first, then those that are due soon
	Files       []PolicyFile
	Watched     *Watched       // nil: of this version it is not told
	Past        []PastPolicies // the history, this one in it
	DefaultURL  string         // of the default set; "" where it is shown
	Older       string         // more of it
	Newer       string
}

// PolicyFile is a file of rules.
type PolicyFile struct {
	Name  string
	Host  bool // it is part of every version
	Rules []PolicyRule
}

// PolicyRule is a rule in a list.
type PolicyRule struct {
	ID      string
	Text    string
	Owner   string
	Review  time.Time // the day, in UTC for everybody; zero if it has no date
	Due     RuleDue
	Monitor bool
}

// RuleDue says how the review of a rule stands.
type RuleDue int

// How it stands.
const (
	RuleInTime RuleDue = iota
	RuleSoon
	RuleOverdue
)

// badge is it in words, and its colour; "" where there is nothing to say.
func (d RuleDue) badge() (text, class string) {
	switch d {
	case RuleSoon:
		return "Due soon", "warn"
	case RuleOverdue:
		return "Overdue", "bad"
	}
	return "", ""
}

// mode is it in a word, and its colour.
func (x PolicyRule) mode() (text, class string) {
	if x.Monitor {
		return "Monitor", ""
	}
	return "Enforced", "good"
}

// Watched is what the rules in mode monitor would have done.
type Watched struct {
	Rules  []WatchedRule // that are in monitor, and others that would have done something
	Looked int           // records
	Since  time.Time
	Part   bool // there are more since the time that is told of usually
}

// WatchedRule is what one of them would have done.
type WatchedRule struct {
	ID, Text                  string
	Gone                      bool // it is in monitor no more
	Denied, Prompted, Allowed int
	People                    int
	PerDay                    float64
	PerDayMax                 int
	LastAt                    time.Time // zero: it would have done nothing
	LastURL                   string
	Whom                      []WatchedWho // the most first
}

// WatchedWho is whom it would have met on a day.
type WatchedWho struct {
	Name  string
	Day   time.Time // in UTC for everybody
	Times int
}

// often says how often one person would have met the rule.
func (x WatchedRule) often() string {
	switch {
	case x.PerDayMax == 0:
		return "–"
	case x.PerDay == float64(x.PerDayMax):
		return strconv.Itoa(x.PerDayMax)
	}
	return fmt.Sprintf("%.1f, at most %d", x.PerDay, x.PerDayMax)
}

// looked says out of what it is told.
func (m *Watched) looked() string {
	if m.Part {
		return "Out of the newest " + plural(m.Looked, "record") + ", since %."
	}
	return "Out of " + plural(m.Looked, "record") + ", since %."
}

// PastPolicies is a row of the history.
type PastPolicies struct {
	Version     int64
	By          string // "" is the operator of the host
	Note        string
	PublishedAt time.Time
	Restores    string
	InForce     bool
	Shown       bool // it is the one that the page shows
	URL         string
}

// Title implements View.
func (m Policies) Title() string { return "Policies" }
