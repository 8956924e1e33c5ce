package view

import (
	"strconv"
	"time"
)

// Alert is a row of Notices.
type Alert struct {
	Title    string
	Severity string // critical, warning or info
	Detail   string
	Next     string // what to do
	At       time.Time
	Over     bool
	Ref      string // id of the record
}

func (a Alert) tone() string {
	return map[string]string{"critical": "bad", "warning": "warn"}[a.Severity]
}

// Hook is a row of Notices: a webhook.
type Hook struct {
	Name   string
	URL    string
	Events []string
	Off    bool
	Behind int64 // records that it has not been told of
	ActURL string
}

// Letter is a row of Notices: a notice that could not be delivered.
type Letter struct {
	To      string // in words
	About   string // the record's sentence
	Why     string
	At      time.Time
	Tries   int
	Resend  Form
	Discard Form
}

// Notices is the administrators' page of alerts, webhooks and what could not be
// delivered.
type Notices struct {
	broad
	Mails   bool
	Reached int // administrators to whom alerts are mailed
	Stands  []Alert
	Recent  []Alert // newest first
	Hooks   []Hook
	Letters []Letter
	More    bool // there are more letters than are shown
	AddURL  string
}

// Title implements View.
func (m Notices) Title() string {
	if n := len(m.Stands); n > 0 {
		return plural(n, "alert") + " – Notices"
	}
	return "Notices"
}

// HookEdit is the form of a webhook. It posts name, url and events.
type HookEdit struct {
	narrow
	New    bool
	Form   Form
	Name   Input
	URL    Input
	Events Input // separated by spaces
	Off    bool
	Rotate Form
	Switch Form // on or off, as Off says
	Remove Form
	Back   string
}

// Title implements View.
func (m HookEdit) Title() string {
	s := "Webhook " + name(m.Name.Value)
	if m.New {
		s = "Add a webhook"
	}
	if m.Name.Error != "" || m.URL.Error != "" || m.Events.Error != "" {
		return "Check your answers – " + s
	}
	return s
}

// HookSecret shows a webhook's secret, this once.
type HookSecret struct {
	narrow
	Name   string
	Secret string
	Both   time.Duration // how long the one before it signs, too; 0: there was none
	Back   string
}

// Title implements View.
func (m HookSecret) Title() string { return "Secret of " + name(m.Name) }

func records(n int64) string {
	if n == 1 {
		return "1 record"
	}
	return strconv.FormatInt(n, 10) + " records"
}
