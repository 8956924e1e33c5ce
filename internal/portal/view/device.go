package view

import "time"

// DeviceCode asks for the code that a device shows. It posts user_code.
type DeviceCode struct {
	narrow
	Form   Form
	Code   Input     // filled in by a link that the device gave; it is shown to be compared
	Linked bool      // it was
	Until  time.Time // too many codes: until then none is looked at
}

// Title implements View.
func (m DeviceCode) Title() string {
	switch {
	case !m.Until.IsZero():
		return "Too many codes – Sign in a device"
	case m.Code.Error != "":
		return "Check the code – Sign in a device"
	}
	return "Sign in a device"
}

// DeviceAsk is a device's request: who asks, from where, for what. It posts
// decision (allow or deny) and, where Elsewhere, typed.
type DeviceAsk struct {
	narrow
	App       App
	Code      string // as the device shows it
	Host      string // what the device calls itself; "" if it doesn't
	From      string // the device's address; "" if unknown
	Here      string // the browser's; "" if unknown
	At        time.Time
	Elsewhere bool // they are on different networks, or nobody knows
	Unplaced  bool // nobody knows
	Shows     bool // the device shows a confirmation code, which typed is; else its own code once more
	Typed     Input

	Resource, ResourceURL string
	Permissions           []Permission

	Form     Form
	Switch   *Form
	Deadline Deadline
}

// Title implements View.
func (m DeviceAsk) Title() string {
	if m.Typed.Error != "" {
		return "Check the code – Allow a device?"
	}
	return "Allow a device?"
}

// question names the device.
func (m DeviceAsk) question() string {
	if m.Host != "" {
		return "Did you start this just now, on “" + Visible(m.Host, 64) + "”?"
	}
	return "Did you start this just now?"
}

// invalidly is aria-invalid of a field whose fault stands above it.
func invalidly(in Input) string {
	if in.Error != "" {
		return "true"
	}
	return "false"
}

func orUnknown(s string) string {
	if s == "" {
		return "not known"
	}
	return Visible(s, 64)
}

func (m DeviceAsk) typedLabel() string {
	if m.Shows {
		return "Confirmation code from the device"
	}
	return "The device's code, once more"
}

func (m DeviceAsk) typedHint() string {
	if m.Shows {
		return "Six digits. The device shows them now, since you opened this page."
	}
	return "Read it from the device itself, not from a message."
}
