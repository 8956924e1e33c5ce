package view

import (
	"strconv"
	"time"
)

// Rollout is the administrators' page of policies that come into force in waves.
type Rollout struct {
	broad
	None      bool // there never was one
	Number    int64
	Ended     string // "" while it runs; else how it ended, in a sentence
	Note      string
	StartedAt time.Time
	Waves     []Wave
	UndoURL   string // of the whole; "" if it has ended
	FinishURL string // "" if it cannot be finished
	Broken    bool   // the new policies cannot be read
	Looked    int    // people in waves, of those that were looked at
	Part      bool   // not everybody was looked at
	NotReady  int    // of them
	Unready   []Unready
	MoreURL   string        // looks at more people
	Past      []PastRollout // the history, this one in it; empty if this is the only one
	Older     string        // more of it
	Newer     string
}

// PastRollout is a row of the history.
type PastRollout struct {
	Number    int64
	By        string // "" if nobody in particular
	Note      string
	StartedAt time.Time
	EndedAt   time.Time // zero while it runs
	How       string    // it ended, in a few words; "" while it runs
	Shown     bool      // it is the one that the page shows
	URL       string
}

// readiness says who is ready, in a sentence.
func (m Rollout) readiness() string {
	const lack = " could not do any more what they can, by what they have enrolled."
	among := ""
	if m.Part {
		among = ", of those looked at,"
	}
	switch {
	case m.Looked == 0 && m.Part:
		return "Nobody of those looked at is in a wave."
	case m.Looked == 0:
		return "Nobody is in a wave."
	case m.Looked == 1 && m.NotReady == 0:
		return "The one person in a wave" + among + " has enrolled what the new policies ask."
	case m.Looked == 1:
		return "The one person in a wave" + among + lack
	case m.NotReady == 0:
		return "All " + strconv.Itoa(m.Looked) + " people in waves" + among + " have enrolled what the new policies ask."
	}
	return strconv.Itoa(m.NotReady) + " of " + strconv.Itoa(m.Looked) + " people in waves" + among + lack
}

// Wave is a row of Rollout.
type Wave struct {
	Number    int
	Who       string // groups by name, or everybody else
	From      time.Time
	State     WaveState
	Prompts   Spent
	Denials   Spent
	Costs     []Cost
	PauseURL  string // each "" where there is nothing of it to do
	ResumeURL string
	UndoURL   string
}

// Spent is how much of a budget was met in the last 24 hours.
type Spent struct {
	Met, Most int
	Over      bool // it has ended: nothing is counted
}

func (s Spent) words() string {
	if s.Over {
		return "at most " + strconv.Itoa(s.Most)
	}
	return strconv.Itoa(s.Met) + " of " + strconv.Itoa(s.Most)
}

// Cost is whom a rule asked, or refused.
type Cost struct {
	Rule, Person     string
	Prompts, Denials int
}

// Unready is somebody who could not do any more what they can.
type Unready struct {
	Name  string
	Wave  int
	Rule  string
	Needs string // "": it refuses whatever they show
}

// WaveState says where a wave stands.
type WaveState int

// The states.
const (
	WaveWaiting WaveState = iota
	WaveEnforced
	WavePaused
	WaveUndone
	WaveReverted
	WaveBehind
)

// badge is the state in words, and its colour.
func (s WaveState) badge() (text, class string) {
	switch s {
	case WaveEnforced:
		return "In force", "good"
	case WavePaused:
		return "Paused", "warn"
	case WaveUndone:
		return "Taken back", "warn"
	case WaveReverted:
		return "Took itself back", "bad"
	case WaveBehind:
		return "Waits for the wave before", ""
	}
	return "Not yet", ""
}

// Title implements View.
func (m Rollout) Title() string { return "Rollout" }

// RolloutChange asks before something is done with a rollout.
type RolloutChange struct {
	broad
	Verb  string // pause, resume, undo, finish
	Wave  int    // 0: all of it
	Who   string // is in the wave
	Form  Form
	Back  string
	Wrong bool // it took itself back before: its count begins anew
}

var rolloutVerbs = map[string]string{"pause": "Pause", "resume": "Resume", "undo": "Take back", "finish": "Finish"}

func (m RolloutChange) what() string {
	if m.Wave == 0 {
		return "the rollout"
	}
	return "wave " + strconv.Itoa(m.Wave)
}

func (m RolloutChange) verb() string { return rolloutVerbs[m.Verb] + " " + m.what() }

// Title implements View.
func (m RolloutChange) Title() string { return m.verb() + "?" }
