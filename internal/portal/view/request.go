package view

import "time"

// Requests lists what apps ask somebody who is elsewhere (CIBA Core). Each is opened
// by a form that changes nothing.
type Requests struct {
	broad
	Items []RequestItem
}

// RequestItem is a request in the list.
type RequestItem struct {
	App     App
	Message string // what the app shows; its own words
	At      time.Time
	Until   time.Time
	Open    Form // sent with GET
}

// Title implements View.
func (m Requests) Title() string {
	if len(m.Items) == 0 {
		return "Nothing waits – Requests"
	}
	return "Requests"
}

// RequestAsk is a request of an app: who asks, for what, from where. It posts decision
// (allow, deny or report) and, where Number, number.
type RequestAsk struct {
	narrow
	App     App
	Message string // what the app shows; "" if it sent none
	From    string // where it asked from; "" if unknown
	At      time.Time
	Proved  bool // a yes is heard at once; else they first confirm that it's them
	Number  bool // the app shows a number, which has to be typed
	Typed   Input
	Barred  string // why they cannot allow it, whatever they prove; "" if they can

	Resource, ResourceURL string
	Permissions           []Permission
	Details               []Detail

	Form     Form
	Switch   *Form
	Deadline Deadline
}

// Title implements View.
func (m RequestAsk) Title() string {
	switch {
	case m.Typed.Error != "":
		return "Check the number – Allow a request?"
	case m.Barred != "":
		return "Not possible – Allow a request?"
	}
	return "Allow a request?"
}

// asks is whether the number is asked for.
func (m RequestAsk) asks() bool { return m.Number && m.Proved && m.Barred == "" }

// consent shows what is asked for as consent does.
func (m RequestAsk) consent() Consent {
	return Consent{Resource: m.Resource, ResourceURL: m.ResourceURL, Permissions: m.Permissions, Details: m.Details}
}
