// Package keyring owns the keys of the deployment: the signing keys by purpose,
// the symmetric keys that mechanisms derive from, their rotation, and their
// sealing under the key-encryption key. The key-encryption key itself comes
// from an adapter (hsm) behind one small interface.
package keyring

import (
	"context"
	"time"
)

// Purpose is what a key is for; a key of one purpose is never used for another.
type Purpose string

// The purposes.
const (
	Token   Purpose = "token"    // access tokens: ES256
	IDToken Purpose = "id_token" // ID, logout and userinfo tokens: ES256, and what else clients ask for
	Feed    Purpose = "feed"     // revocation frames: ES256
	Log     Purpose = "log"      // checkpoints: Ed25519, never in the JWKS
	Lineage Purpose = "lineage"  // symmetric: handles (mechanisms C3)
	Refresh Purpose = "rt"       // symmetric: K_rt (D2)
	Tag     Purpose = "rt_tag"   // symmetric: K_tag (D1)
	Nonce   Purpose = "nonce"    // symmetric: DPoP nonces
	// Pairwise is symmetric: subjects that differ from sector to sector are made with
	// it. It is never replaced: everybody would become somebody else.
	Pairwise Purpose = "pairwise"
)

// Key is a key as it is stored.
type Key struct {
	ID          string // kid
	Purpose     Purpose
	Alg         string // ES256, RS256, PS256, EdDSA; "" for symmetric keys
	Version     int    // ascending within a purpose
	Public      []byte // JWK; nil for symmetric keys
	Sealed      []byte // private key (PKCS #8) or symmetric key, sealed
	CreatedAt   time.Time
	ActivateAt  time.Time // signs from then on; published since CreatedAt
	RetireAt    time.Time // zero: in use. Verifies until then
	WithdrawnAt time.Time // compromised: verifies nothing from then on
}

// Add stores a new key, which is published at once and signs from ActivateAt.
type Add struct{ Key }

// Retire says until when a key still verifies.
type Retire struct {
	ID string
	At time.Time
}

// Withdraw takes a compromised key out at once.
type Withdraw struct {
	ID string
	At time.Time
}

// Change marks Add as a change.
func (Add) Change() {}

// Change marks Retire as a change.
func (Retire) Change() {}

// Change marks Withdraw as a change.
func (Withdraw) Change() {}

// Store reads keys.
type Store interface {
	// Keys lists all keys that are not past retirement, and all of purpose Log.
	Keys(context.Context) ([]Key, error)
}

// Sealer seals secrets at rest (security, invariant 10). Associated data names
// table, row, column and version.
type Sealer interface {
	Seal(plain, associated []byte) ([]byte, error)
	Open(sealed, associated []byte) ([]byte, error)
}
