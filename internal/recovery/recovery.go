// Package recovery owns how people get back in when what they sign in with is
// lost: recovery codes, recoveries that wait or that others confirm, and
// temporary passes. A recovery is never easier than signing in (security,
// invariant 9); rules.go says what each path demands, and is what the surfaces
// and the documents read. What comes of a recovery, a passkey and a session,
// belongs to factor and session; pages are the portal's.
//
// Whoever tells people what happened to their account (notify) asks [NoticeLink]
// which link a notice must carry: its secret is a MAC, so that nothing secret is
// in the log.
package recovery

import (
	"context"
	"time"

	"github.com/countersign-dev/countersign/internal/id"
)

// State is how a recovery stands.
type State string

// The states. An open one whose ExpiresAt has passed is over.
const (
	Open      State = "open"
	Completed State = "completed"
	Cancelled State = "cancelled"
	Expired   State = "expired"
)

// Recovery is somebody's way back into an account, from its beginning to its end.
type Recovery struct {
	ID        string // rcv_…
	Person    string // whose account it is
	Method    Method
	Claim     string // code of the browser that began it (ClaimOf); "" for a pass, which is typed anywhere
	State     State
	Reason    string // why others opened it; "" for one's own
	OpenedBy  string // person who opened it for them; "" if a code did
	Confirmed int    // others who confirmed it, each with a passkey
	StartedAt time.Time
	ReadyAt   time.Time // from when it can be completed; zero while confirmations are missing
	ExpiresAt time.Time // until when
	EndedAt   time.Time
	Made      string        // completed: the passkey, or of a pass the session, that came of it
	Lasts     time.Duration // of a pass: how long its session lives
}

// Live reports whether it can still be completed or cancelled at now.
func (r Recovery) Live(now time.Time) bool { return r.State == Open && now.Before(r.ExpiresAt) }

// Ready reports whether it can be completed at now.
func (r Recovery) Ready(now time.Time) bool {
	return r.Live(now) && !r.ReadyAt.IsZero() && !now.Before(r.ReadyAt)
}

// Confirmation is that of one administrator.
type Confirmation struct {
	By string // person
	At time.Time
}

// Start opens a recovery. An open one of the same person and method must not
// exist, unless its time is over: problem.Conflict (recovery_open).
type Start struct{ Recovery }

// Confirm adds a confirmation. With the one that makes Quorum the recovery can
// be completed from ReadyAt on, until ExpiresAt. problem.Conflict
// (recovery_over) if it is not open or its time is over, recovery_confirmed if
// the same person confirmed before.
type Confirm struct {
	ID, By             string
	Quorum             int
	ReadyAt, ExpiresAt time.Time
}

// Cancel ends a recovery for good; problem.Conflict (recovery_over) if it is not
// open.
type Cancel struct{ ID string }

// Complete ends a recovery by what it was for: Made says what came of it. One that
// is no pass also cancels the person's others, unused passes among them. problem.Conflict:
// recovery_over, recovery_waiting, or recovery_superseded if it began with a
// code and somebody has signed in to the account with a passkey since.
type Complete struct{ ID, Person, Made string }

// EndAll ends every session, grant and refresh family of a person.
type EndAll struct{ Person, Why string }

// BurnCodes makes the unused recovery codes of a person useless.
type BurnCodes struct{ Person string }

// Change marks Start as a change.
func (Start) Change() {}

// Change marks Confirm as a change.
func (Confirm) Change() {}

// Change marks Cancel as a change.
func (Cancel) Change() {}

// Change marks Complete as a change.
func (Complete) Change() {}

// Change marks EndAll as a change.
func (EndAll) Change() {}

// Change marks BurnCodes as a change.
func (BurnCodes) Change() {}

// Store reads recoveries.
type Store interface {
	Recovery(ctx context.Context, id string) (Recovery, error)
	// RecoveryByClaim gives the newest that a browser began; problem.NotFound if
	// there is none.
	RecoveryByClaim(ctx context.Context, claim string) (Recovery, error)
	// RecoveriesOf lists a person's, newest first, at most 50.
	RecoveriesOf(ctx context.Context, person string) ([]Recovery, error)
	// OpenRecoveries lists those that are open and not over at now, oldest first,
	// after the given id, at most n.
	OpenRecoveries(ctx context.Context, now time.Time, after string, n int) ([]Recovery, error)
	// Superseded reports whether Complete would find that somebody has signed in with
	// a passkey since.
	Superseded(ctx context.Context, id string) (bool, error)
	// Confirmations of a recovery, oldest first.
	Confirmations(ctx context.Context, id string) ([]Confirmation, error)
	// CodesLeft counts the person's unused codes; made is when the set was made,
	// zero if there is none.
	CodesLeft(ctx context.Context, person string) (left int, made time.Time, err error)
}

// New begins the description of a recovery that is opened now.
func New(m Method, person string, now time.Time) Recovery {
	return Recovery{ID: id.New(id.Recovery), Person: person, Method: m, State: Open, StartedAt: now}
}

// Said is what a record says of a recovery in the part of the person concerned,
// and the further pairs of name and value that are not empty. NoticeLink reads
// it.
func (r Recovery) Said(pairs ...string) map[string]any {
	said := map[string]any{"recovery": r.ID, "expires_at": r.ExpiresAt.UTC().Format(time.RFC3339)}
	if !r.ReadyAt.IsZero() {
		said["ready_at"] = r.ReadyAt.UTC().Format(time.RFC3339)
	}
	if r.Reason != "" {
		said["reason"] = r.Reason
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			said[pairs[i]] = pairs[i+1]
		}
	}
	return said
}
