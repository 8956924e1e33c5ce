// Package id makes and reads the identifiers of the product: a type prefix and
// 26 Crockford base32 characters of a UUIDv7 (RFC 9562), never reused. The 16
// bytes of the UUID are also the lineage node's id (mechanisms C1), so a thing
// has one identity, not two.
package id

import (
	"crypto/rand"
	"time"

	"github.com/google/uuid"

	"github.com/countersign-dev/countersign/internal/problem"
)

// The prefixes. A prefix is a promise: it never changes its meaning.
const (
	Person     = "usr_"
	Service    = "svc_"
	Agent      = "agt_"
	Device     = "dev_"
	Session    = "ses_"
	Grant      = "gnt_"
	Family     = "fam_"
	Client     = "cli_"
	Credential = "cred_"
	Resource   = "res_"
	Group      = "grp_"
	Record     = "rec_"
	Invitation = "inv_"
	Policy     = "pol_"
	Webhook    = "whk_"
	Delivery   = "dlv_"
	Recovery   = "rcv_"
	Review     = "rvw_" // of what was refused, for an administrator to look at
	Delegation = "dlg_"
	Issuer     = "iss_" // trusted to say who somebody is
	Link       = "lnk_" // of an issuer's subject to a person
	Signal     = "sgl_" // of risk, from outside
	Published  = "pub_" // a set of policies that somebody wants in force
)

const alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

var decode = func() (t [256]byte) {
	for i := range t {
		t[i] = 0xff
	}
	for i := range alphabet {
		t[alphabet[i]] = byte(i)
	}
	return t
}()

// New makes an identifier with the given prefix; ids sort by the time they
// were made.
func New(prefix string) string {
	u, err := uuid.NewV7()
	if err != nil {
		panic("id: the system has no randomness: " + err.Error()) // crypto/rand never fails on a supported system
	}
	return Encode(prefix, u)
}

// Random makes an identifier of 16 random bytes, for subjects and anything else
// that must not tell when it was made (OAuth sub).
func Random(prefix string) string {
	var b [16]byte
	rand.Read(b[:])
	return Encode(prefix, b)
}

// Encode writes 16 bytes as an identifier.
func Encode(prefix string, b [16]byte) string {
	out := make([]byte, len(prefix)+26)
	copy(out, prefix)
	// 26 characters carry 130 bits: the first character holds the top 3 bits.
	var acc uint32
	bits, at := 2, len(prefix) // two leading zero bits
	for _, c := range b {
		acc = acc<<8 | uint32(c)
		bits += 8
		for bits >= 5 {
			bits -= 5
			out[at] = alphabet[acc>>bits&31]
			at++
			acc &= 1<<bits - 1
		}
	}
	return string(out)
}

// Parse reads an identifier of the given prefix; it accepts only what Encode
// writes.
func Parse(prefix, s string) (b [16]byte, err error) {
	bad := problem.New(problem.Invalid, "id_invalid", "That is not a valid "+prefix+"… identifier.")
	if len(s) != len(prefix)+26 || s[:len(prefix)] != prefix {
		return [16]byte{}, bad
	}
	var acc uint32
	bits, at := 0, 0
	for i, c := range []byte(s[len(prefix):]) {
		v := decode[c]
		if v == 0xff || i == 0 && v > 7 {
			return [16]byte{}, bad
		}
		acc = acc<<5 | uint32(v)
		bits += 5
		if i == 0 {
			bits = 3
		}
		if bits >= 8 {
			bits -= 8
			b[at] = byte(acc >> bits)
			at++
			acc &= 1<<bits - 1
		}
	}
	return b, nil
}

// Bytes is Parse for an identifier of any prefix; ok is false if s is none.
func Bytes(s string) (b [16]byte, ok bool) {
	if len(s) < 28 { // a prefix is at least a letter and its underscore
		return b, false
	}
	p := s[:len(s)-26]
	if p[len(p)-1] != '_' {
		return b, false
	}
	b, err := Parse(p, s)
	return b, err == nil
}

// Earliest is no later than any identifier that New makes from t on, and later than
// those of a millisecond before it.
func Earliest(prefix string, t time.Time) string {
	var b [16]byte
	ms := max(t.UnixMilli(), 0)
	for i := range 6 {
		b[i] = byte(ms >> (8 * (5 - i)))
	}
	return Encode(prefix, b)
}

// MadeAt is the time in a UUIDv7 identifier, to the millisecond.
func MadeAt(b [16]byte) time.Time {
	var ms int64
	for _, c := range b[:6] {
		ms = ms<<8 | int64(c)
	}
	return time.UnixMilli(ms).UTC()
}
