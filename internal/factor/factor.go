// Package factor owns what people prove themselves with: passkeys and security
// keys in this release; passwords, codes and recovery join them here. The
// WebAuthn ceremony is in ceremony.go; pages are the portal's.
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
	Node           lineage.Node
}

// Enrol adds a passkey to a person.
type Enrol struct{ Passkey }

// Use remembers a use: counter and backup state.
type Use struct {
	ID          string
	SignCount   uint32
	BackupState bool
	At          time.Time
}

// Rename names a passkey.
type Rename struct{ ID, Name string }

// Remove ends a passkey; the last one of a person is refused by the store's
// conditional write (ErrLast). Sessions that descend from it end with it.
type Remove struct{ ID, Person string }

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
	Passkey(ctx context.Context, id string) (Passkey, error)
	// PasskeyByCredentialID finds by the authenticator's own name.
	PasskeyByCredentialID(ctx context.Context, credentialID []byte) (Passkey, error)
	// PasskeysOf lists a person's live passkeys, oldest first.
	PasskeysOf(ctx context.Context, person string) ([]Passkey, error)
}
