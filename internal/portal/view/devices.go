package view

import (
	"strconv"
	"time"
)

// Device is a browser that a person has signed in from.
type Device struct {
	ID         string
	Name       string // "Firefox on Linux"
	Network    string // of the newest session there
	StartedAt  time.Time
	LastUsedAt time.Time
	Until      time.Time // it is the operator's before; zero: it is not
	Asset      string    // what an inventory calls it
	By         string    // who said that it is
	URL        string    // of the page that changes that
}

// Devices lists the devices of a person.
type Devices struct {
	broad
	Whose string
	Items []Device
	Asked bool // the most sensitive needs a managed device here
	Back  string
}

// Title implements View.
func (m Devices) Title() string { return "Devices of " + name(m.Whose) }

// ManagedDays are for how long a device may be called managed, in days; the form of
// DeviceMark posts one of them.
var ManagedDays = []int{30, 90, 180, 365}

// DeviceMark asks for how long a device is a managed one. Manage posts days and asset.
type DeviceMark struct {
	broad
	Whose    string
	Device   Device
	Manage   Form
	Days     int // chosen at first
	Asset    Input
	Unmanage *Form // nil: it is not managed
	Back     string
}

// Title implements View.
func (m DeviceMark) Title() string {
	if m.Asset.Error != "" {
		return "Check your answers – Managed device"
	}
	return "Managed device"
}

func days(n int) string { return strconv.Itoa(n) + " days" }
