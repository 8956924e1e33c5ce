// Package session owns browser sessions and the browsers (devices) they live
// in. A session exists only once every factor the sign-in needed was proved
// (security, invariant 8); it remembers its proofs. Cookies and pages are the
// portal's.
package session

import (
	"context"
	"time"

	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/secret"
)

// Lifetime is how long a session may be used in the browser, whatever happens
// (SP 800-63B-4: at most 12 h at AAL3).
const Lifetime = 12 * time.Hour

// IdleLifetime is how long a session may rest between uses.
const IdleLifetime = time.Hour

// TouchInterval is how coarsely use is remembered.
const TouchInterval = 5 * time.Minute

// Session is a person's signed-in browser.
type Session struct {
	ID          string
	Person      string
	Device      string
	Proofs      []assurance.Proof
	Network     string // prefix of the client's address, "" if unknown
	UserAgent   string // as sent, capped
	CreatedAt   time.Time
	SeenAt      time.Time
	ExpiresAt   time.Time // absolute
	IdleUntil   time.Time
	SignedOutAt time.Time // the cookie no longer works; what hangs below lives on
	Node        lineage.Node
}

// Usable reports whether the session's cookie may still act at now. Liveness of
// ancestors is judged by the act.
func (s Session) Usable(now time.Time) bool {
	return s.SignedOutAt.IsZero() && s.Node.Live() && now.Before(s.ExpiresAt) && now.Before(s.IdleUntil)
}

// Device is a browser that people sign in from.
type Device struct {
	ID        string
	Label     string // "Chrome on Linux"
	CreatedAt time.Time
	Node      lineage.Node
}

// Open opens a session. A device that does not exist yet is created with it.
type Open struct {
	Session
	SecretHash  secret.Hash
	NewDevice   *Device // nil: the device exists
	DeviceHash  secret.Hash
	Credentials []string // the factors it descends from
}

// Within ends the session after a life, 0 for none that policy set.
func (o Open) Within(life time.Duration) Open {
	if end := o.CreatedAt.Add(life); life > 0 && end.Before(o.ExpiresAt) {
		o.ExpiresAt = end
		if end.Before(o.IdleUntil) {
			o.IdleUntil = end
		}
	}
	return o
}

// Prove adds the proofs of a step-up to a session. The store keeps the list as
// given: the caller merges.
type Prove struct {
	ID          string
	Proofs      []assurance.Proof
	Credentials []string // further factors it now descends from
}

// Touch remembers use and moves the idle end.
type Touch struct {
	ID        string
	SeenAt    time.Time
	IdleUntil time.Time
}

// SignOut ends the cookie, not the lineage below it.
type SignOut struct {
	ID string
	At time.Time
}

// Change marks Open as a change.
func (Open) Change() {}

// Change marks Prove as a change.
func (Prove) Change() {}

// Change marks Touch as a change.
func (Touch) Change() {}

// Change marks SignOut as a change.
func (SignOut) Change() {}

// Store reads sessions.
type Store interface {
	// SessionBySecret gives the session of a cookie; problem.NotFound if there
	// is none.
	SessionBySecret(context.Context, secret.Hash) (Session, error)
	Session(ctx context.Context, id string) (Session, error)
	// SessionsOf lists a person's sessions that have not ended, newest first.
	SessionsOf(ctx context.Context, person string) ([]Session, error)
	// DeviceBySecret gives the device of a browser's cookie.
	DeviceBySecret(context.Context, secret.Hash) (Device, error)
	Device(ctx context.Context, id string) (Device, error)
	// DevicesOf lists the devices that a person has signed in from and that have not
	// ended, newest first, at most 500: of more, first those that are the operator's.
	DevicesOf(ctx context.Context, person string) ([]Known, error)
	// Marked lists devices that are the operator's at a time and have not ended, of
	// everybody, in the order of MarkKey behind after ("" begins), at most n: those only
	// that by called so; of "" all.
	Marked(ctx context.Context, by string, at time.Time, after string, n int) ([]Known, error)
}
