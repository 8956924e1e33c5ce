package view

import "time"

// Exceptions is the administrators' page of rules that are waived for somebody.
type Exceptions struct {
	broad
	Version     int64 // of the policies in force; 0: the default set, which has none
	By          string
	PublishedAt time.Time
	InForce     []WaivedRule // soonest over first
	Ended       []WaivedRule // latest first
	Rollout     *RolloutExceptions
}

// RolloutExceptions are those of policies that are being rolled out.
type RolloutExceptions struct {
	Number  int64
	For     string // groups for which they count by now; "": for nobody
	Items   []WaivedRule
	Broken  bool // the new policies cannot be read
	PageURL string
}

// WaivedRule is an exception in a list.
type WaivedRule struct {
	ID      string
	Whom    string // a person, a service, or a group
	Kind    string // person, service, group
	Gone    bool   // whom it is for is not there any more
	Rule    string // in words
	RuleID  string
	Instead string // what is asked instead
	Why     string
	Owner   string
	Until   time.Time
	State   WaivedState
}

// WaivedState says how an exception stands.
type WaivedState int

// The states.
const (
	Waived     WaivedState = iota
	WaivedSoon             // it ends within days
	WaivedOver
	WaivedLater // it will count
)

// badge is the state in words, and its colour.
func (s WaivedState) badge() (text, class string) {
	switch s {
	case WaivedSoon:
		return "Ends soon", "warn"
	case WaivedOver:
		return "Ended", ""
	case WaivedLater:
		return "Not yet", ""
	}
	return "In force", "good"
}

// kind is whom it is for, in a word.
func (x WaivedRule) kind() string {
	switch {
	case x.Gone:
		return "no longer here"
	case x.Kind == "group":
		return "everybody in this group"
	case x.Kind == "service":
		return "a service"
	}
	return ""
}

// end is the command that takes an exception out.
func (x WaivedRule) end() string { return "countersign policy exceptions end ./policies " + x.ID }

// Title implements View.
func (m Exceptions) Title() string { return "Exceptions" }
