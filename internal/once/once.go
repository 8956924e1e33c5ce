// Package once owns single-use values: authorization codes, login transactions,
// WebAuthn challenges, setup and invitation links, and the replay marks of DPoP
// proofs and client assertions. Each is typed by purpose, kept as a hash, bound
// to what it was made for, and spent by one conditional write whose row count
// is the answer (security, invariant 2). Nothing about them lives in memory
// only.
package once

import (
	"crypto/sha256"
	"time"

	"github.com/countersign-dev/countersign/internal/canon"
)

// Purpose types a value: one made for one purpose is never accepted for
// another. The numbers are stored and never change.
type Purpose int

// The purposes.
const (
	Code        Purpose = iota + 1 // authorization code
	Interaction                    // browser-bound login transaction
	SignIn                         // WebAuthn challenge for signing in
	Enrol                          // WebAuthn challenge for enrolling a passkey
	StepUp                         // WebAuthn challenge for a step-up
	Setup                          // setup link
	Invite                         // invitation link
	DPoP                           // replay mark: (jkt, jti) of a DPoP proof
	Assertion                      // replay mark: (client, jti) of a client assertion
	Idempotency                    // what a request with an Idempotency-Key made; read again, never spent
	Challenge                      // mark: a step-up that somebody was asked for (mechanisms A15)
	Reenrol                        // link with which somebody whose passkeys stopped working enrols another (mechanisms I5)

	EmailVerify Purpose = 24 // link that proves an e-mail address
	AlertMark   Purpose = 25 // mark: an alert that was raised, so that it is not raised again at once
	Pushed      Purpose = 26 // mark: a pushed authorization request that was answered (RFC 9126)

	Grant Purpose = 50 // mark: (issuer, jti) of an assertion that was taken as a grant (RFC 7523)

	Signing Purpose = 53 // WebAuthn challenge for signing what is pending; Bound is that and the person, Data what is signed
)

// Purposes of recovery.
const (
	RecoveryCode  Purpose = iota + 32 // one of a person's codes; Bound is the person
	TemporaryPass                     // lets somebody sign in once; Bound is the person, Data names the recovery
)

// Purposes of device authorization (RFC 8628). The last two have the key of the
// first's value, under their own purpose.
const (
	DeviceCode   Purpose = iota + 44 // what the device polls with; Bound is the client
	UserCode                         // what a person types; Data is the key of the device's
	DeviceOpened                     // somebody entered the code; Bound is the person, who alone can answer
	DeviceAnswer                     // what they answered
)

// Purposes of backchannel authentication (CIBA Core). The last two have the key of
// the first's value, under their own purpose.
const (
	Backchannel       Purpose = 48 // what the client polls with; Bound is the client
	BackchannelAsked  Purpose = 49 // the same, for the person: Bound is who alone can answer, Ref what became of it
	BackchannelAnswer Purpose = 52 // what they answered
)

// Key is the hash under which a value is kept.
type Key [32]byte

// KeyOf hashes the parts of a value's name under its purpose; parts are
// separated so that no two lists collide.
func KeyOf(p Purpose, parts ...string) Key {
	h := sha256.New()
	h.Write([]byte(canon.LabelConsume + "\x00"))
	h.Write([]byte{byte(p)})
	for _, s := range parts {
		n := len(s)
		h.Write([]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
		h.Write([]byte(s))
	}
	return Key(h.Sum(nil))
}

// Value is a stored single-use value. Data is the owner's JSON: what it was
// made for.
type Value struct {
	Purpose   Purpose
	Key       Key
	Bound     string // what must present it again: browser, client, … (compared by the owner before spending)
	Data      []byte // JSON
	MadeAt    time.Time
	ExpiresAt time.Time
	UsedAt    time.Time // zero while unspent
	UsedBy    string    // the record that spent it
	Ref       string    // what the spending act issued (e.g. the grant)
	Misses    int       // failed bindings (mechanisms D16)
}

// MaxMisses is how many failures of the binding step burn a genuine value
// (mechanisms D16).
const MaxMisses = 5

// Put stores a new value. A value of the same purpose and key must not exist.
type Put struct{ Value }

// Replace is Put that first removes unspent values of the same purpose and
// bound: only the newest is live.
type Replace struct{ Value }

// Miss counts a failed binding of a genuine value.
type Miss struct {
	Purpose Purpose
	Key     Key
}

// Burn makes an unspent value useless, e.g. a withdrawn invitation.
type Burn struct {
	Purpose Purpose
	Key     Key
}

// Change marks Put as a change.
func (Put) Change() {}

// Change marks Replace as a change.
func (Replace) Change() {}

// Change marks Miss as a change.
func (Miss) Change() {}

// Change marks Burn as a change.
func (Burn) Change() {}

// Spend says which value an act consumes. A stored value (Mark false) is spent
// if it is unspent, unexpired and has fewer than MaxMisses; a replay mark (Mark
// true) is spent by being inserted, and is kept until Until.
type Spend struct {
	Purpose Purpose
	Key     Key
	Ref     string    // remembered with the spent value: what the act issued
	Mark    bool      // the value was made elsewhere: its first sight spends it
	Until   time.Time // of a mark: how long it is remembered
}

// Used is the error of an act whose value was already spent.
type Used struct {
	Purpose Purpose
	By      string    // the record that spent it
	Ref     string    // what that act issued
	At      time.Time // when
}

// Error implements error.
func (*Used) Error() string { return "once: the value was already used" }

// Gone is the error of an act whose value does not exist, has expired or was
// burnt.
type Gone struct{ Purpose Purpose }

// Error implements error.
func (*Gone) Error() string { return "once: the value does not exist or has expired" }
