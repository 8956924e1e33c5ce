// Package factor owns what people prove themselves with. Every factor is a
// lineage node of kind credential below its person, and so ends sessions that
// began with it when it ends. It is of one Kind, and whatever the kind has a
// name, a time of creation and last use, and perhaps a probation: Factor, which
// FactorsOf lists together.
//
// A passkey is a public key (Passkey, Enrol, Use; the ceremony is in
// ceremony.go). Every other kind is verified by a secret that this deployment
// keeps sealed (Secret, Add, Used, Replace): a new one adds its Kind and its
// entry in kinds, its row in assurance, and how it is verified; listing, naming,
// removing, replacing, the maximum and the last way in are here already.
//
// Which kinds people may use is state (Allow); what somebody guesses is paid for
// before it is looked at (Take). Pages are the portal's.
package factor

import (
	"context"
	"time"

	"github.com/countersign-dev/countersign/internal/lineage"
)

// Passkey is a WebAuthn credential of a person. Everything standards 9.3 says
// to keep is kept.
type Passkey struct {
	ID             string // cred_…, the lineage node
	Person         string
	Name           string
	CredentialID   []byte // as the authenticator names it; unique
	PublicKey      []byte // COSE
	AAGUID         string
	SignCount      uint32
	Transports     []string
	UserVerified   bool   // at registration
	BackupEligible bool   // BE: never changes
	BackupState    bool   // BS
	Attestation    string // none, self, verified
	AttestationObj []byte
	ClientData     []byte
	RPID           string
	CreatedAt      time.Time
	UsedAt         time.Time
	ProbationUntil time.Time // until then it counts for two factors and no more; zero: no probation
	Node           lineage.Node
}

// Enrol adds a passkey to a person, who must have fewer than their kind's Max.
type Enrol struct{ Passkey }

// Use remembers a use: counter and backup state.
type Use struct {
	ID          string
	SignCount   uint32
	BackupState bool
	At          time.Time
}

// Rename names a factor of any kind.
type Rename struct{ ID, Name string }

// Remove ends a factor of any kind. The store's conditional write refuses what
// would leave the person no way to sign in (last_factor), and, unless Weaken is
// set, what would leave them none that is phishing-resistant where this one is
// (last_passkey). Sessions that descend from it end with it.
type Remove struct {
	ID, Person string
	Weaken     bool
}

// Change marks Enrol as a change.
func (Enrol) Change() {}

// Change marks Use as a change.
func (Use) Change() {}

// Change marks Rename as a change.
func (Rename) Change() {}

// Change marks Remove as a change.
func (Remove) Change() {}

// Store reads factors.
type Store interface {
	Passkeys
	Attempts
	// FactorsOf lists a person's live factors of every kind, oldest first.
	FactorsOf(ctx context.Context, person string) ([]Factor, error)
	// SecretsOf gives a person's live secrets of a kind, oldest first.
	SecretsOf(ctx context.Context, person string, k Kind) ([]Secret, error)
	// Allowed says which kinds people may use here.
	Allowed(context.Context) (Kinds, error)
}

// Attempts reads what was guessed, and from where.
type Attempts interface {
	// Guessed is how many guesses a budget has paid for in its window, and how
	// many since the last right one.
	Guessed(context.Context, Bucket) (window, row int, err error)
	// KnownDevice reports whether a person has signed in from a device that is
	// live.
	KnownDevice(ctx context.Context, person, device string) (bool, error)
}

// Passkeys reads passkeys.
type Passkeys interface {
	Passkey(ctx context.Context, id string) (Passkey, error)
	// PasskeyByCredentialID finds by the authenticator's own name.
	PasskeyByCredentialID(ctx context.Context, credentialID []byte) (Passkey, error)
	// PasskeysOf lists a person's live passkeys, oldest first.
	PasskeysOf(ctx context.Context, person string) ([]Passkey, error)
}
