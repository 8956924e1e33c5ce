package session

import (
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/countersign-dev/countersign/internal/problem"
)

// Managed says that the operator called a device that a person signs in from its own.
// It is of that person there: others who use the browser have no part in it.
type Managed struct {
	Device string
	Person string
	Until  time.Time // it counts before then
	Asset  string    // what the operator's inventory calls it, "" if it has no name
	By     string    // id of the person or service that said so
	At     time.Time
}

// Counts reports whether it counts at now. The zero Managed never does.
func (m Managed) Counts(now time.Time) bool { return now.Before(m.Until) }

// LongestManaged is how far off the end of a mark may be: as long as a browser is
// remembered as the same device.
const LongestManaged = 400 * 24 * time.Hour

// maxAsset bounds the name in an inventory, in bytes.
const maxAsset = 64

// Check gives problem.Invalid with device_until_invalid or device_asset_invalid if what
// is said cannot be so at now.
func (m Managed) Check(now time.Time) error {
	if !now.Before(m.Until) || m.Until.Sub(now) > LongestManaged {
		return problem.Newf(problem.Invalid, "device_until_invalid", "A device is managed until a time that is to come, %d days from now at most.", LongestManaged/(24*time.Hour))
	}
	if len(m.Asset) > maxAsset || !utf8.ValidString(m.Asset) || m.Asset != strings.TrimSpace(m.Asset) || strings.ContainsFunc(m.Asset, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return problem.Newf(problem.Invalid, "device_asset_invalid", "What the inventory calls a device has at most %d bytes, all of them printable.", maxAsset)
	}
	return nil
}

// Said is what a record of the person says of it; label is what the browser calls itself.
func (m Managed) Said(label string) map[string]any {
	said := map[string]any{"device": m.Device, "name": label, "until": m.Until.Format(time.RFC3339)}
	if m.Asset != "" {
		said["asset"] = m.Asset
	}
	return said
}

// Known is a device that a person has signed in from.
type Known struct {
	Device
	Network string    // of the newest session there, "" if it is not known
	SeenAt  time.Time // last use of any
	Managed Managed   // zero if the operator never called it its own; see Counts
}

// MarkKey is what marks are ordered and paged by: a device, and for whom it is one.
func (m Managed) MarkKey() string { return m.Device + " " + m.Person }

// Manage says that a device is the operator's; said again it takes the place of the
// earlier. The store refuses it (problem.NotFound, device_not_found) unless the person
// is live and has signed in from the device, which is live.
type Manage struct{ Managed }

// Unmanage takes that back; nothing where nothing was said.
type Unmanage struct{ Device, Person string }

// Change marks Manage as a change.
func (Manage) Change() {}

// Change marks Unmanage as a change.
func (Unmanage) Change() {}
