// Package secret makes, reads, hashes and compares the opaque values the
// product hands out: cs_<kind>_ + 43 base62 characters (256 random bits) + six
// base62 characters of CRC-32, only [A-Za-z0-9_], so that a double click
// selects the whole and scanners find a leaked one (contract). Values are kept
// as SHA-256 only.
package secret

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"hash/crc32"
	"log/slog"
	"math/big"
	"strings"

	"github.com/countersign-dev/countersign/internal/problem"
)

// Kind is what a secret is for; a value of one kind is never accepted as
// another.
type Kind string

// The kinds.
const (
	Code         Kind = "code"   // authorization code
	Refresh      Kind = "rt"     // refresh token (its body is longer: mechanisms D1)
	ClientSecret Kind = "secret" // client secret
	Setup        Kind = "setup"  // first administrator
	Invite       Kind = "invite" // invitation link
	Browser      Kind = "brw"    // browser binding of a login transaction
	Session      Kind = "ses"    // browser session cookie
	Device       Kind = "dev"    // browser device cookie
	DeviceCode   Kind = "device" // device code (RFC 8628)
	AuthRequest  Kind = "ciba"   // auth_req_id (CIBA Core)
	Interaction  Kind = "itx"    // login transaction reference
	Nonce        Kind = "nonce"
	Email        Kind = "email"   // link that proves an address
	Recover      Kind = "recover" // claim of the browser that a recovery began in
	Cancel       Kind = "cancel"  // link that cancels a recovery: an id and a MAC
)

// Value is a secret in the clear. It redacts itself in logs and formatting;
// Reveal is the only way out.
type Value struct{ s string }

// New makes a 256-bit secret of the kind.
func New(kind Kind) Value {
	var b [32]byte
	rand.Read(b[:])
	return Encode(kind, b[:])
}

// Encode writes b as a secret of the kind: base62 of fixed length and check.
func Encode(kind Kind, b []byte) Value {
	body := "cs_" + string(kind) + "_" + base62(b)
	return Value{body + check(body)}
}

// Reveal gives the text. Call it only where the secret leaves for its owner.
func (v Value) Reveal() string { return v.s }

// IsZero reports whether there is no value.
func (v Value) IsZero() bool { return v.s == "" }

// Hash is SHA-256 of the text: what the store keeps.
func (v Value) Hash() Hash { return sha256.Sum256([]byte(v.s)) }

// String implements fmt.Stringer without telling.
func (v Value) String() string { return "[secret]" }

// GoString implements fmt.GoStringer without telling.
func (v Value) GoString() string { return "[secret]" }

// Format implements fmt.Formatter without telling, whatever the verb.
func (v Value) Format(f fmt.State, _ rune) { f.Write([]byte("[secret]")) }

// LogValue implements slog.LogValuer without telling.
func (v Value) LogValue() slog.Value { return slog.StringValue("[secret]") }

// MarshalText refuses: a secret is revealed on purpose or not at all.
func (v Value) MarshalText() ([]byte, error) { return []byte("[secret]"), nil }

// Hash is the SHA-256 of a secret.
type Hash [32]byte

// Equal compares in constant time.
func (h Hash) Equal(o Hash) bool { return subtle.ConstantTimeCompare(h[:], o[:]) == 1 }

// Parse reads a secret of the kind and size (bytes of body). Form and check
// must be right; that says nothing about whether the secret is known.
func Parse(kind Kind, size int, s string) (Value, []byte, error) {
	bad := problem.New(problem.Invalid, "secret_malformed", "That value is incomplete or mistyped.")
	prefix := "cs_" + string(kind) + "_"
	n := encodedLen(size)
	if !strings.HasPrefix(s, prefix) || len(s) != len(prefix)+n+6 {
		return Value{}, nil, bad
	}
	body, sum := s[:len(s)-6], s[len(s)-6:]
	if subtle.ConstantTimeCompare([]byte(check(body)), []byte(sum)) != 1 {
		return Value{}, nil, bad
	}
	b, ok := unbase62(body[len(prefix):], size)
	if !ok {
		return Value{}, nil, bad
	}
	return Value{s}, b, nil
}

// Read is Parse for the ordinary 256-bit secrets.
func Read(kind Kind, s string) (Value, error) {
	v, _, err := Parse(kind, 32, s)
	return v, err
}

const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// encodedLen is how many base62 digits hold n bytes: ceil(8n / log2(62)).
func encodedLen(n int) int {
	max := new(big.Int).Lsh(big.NewInt(1), uint(8*n))
	max.Sub(max, big.NewInt(1))
	return len(max.Text(62))
}

// big.Int writes digits 0-9a-zA-Z; ours are 0-9A-Za-z, in ASCII order.
func swap(s []byte) {
	for i, c := range s {
		switch {
		case 'a' <= c && c <= 'z':
			s[i] = c - 32
		case 'A' <= c && c <= 'Z':
			s[i] = c + 32
		}
	}
}

func base62(b []byte) string {
	t := []byte(new(big.Int).SetBytes(b).Text(62))
	swap(t)
	return strings.Repeat("0", encodedLen(len(b))-len(t)) + string(t)
}

func unbase62(s string, size int) ([]byte, bool) {
	for i := range s {
		if strings.IndexByte(digits, s[i]) < 0 {
			return nil, false
		}
	}
	t := []byte(s)
	swap(t)
	n, ok := new(big.Int).SetString(string(t), 62)
	if !ok || n.BitLen() > 8*size {
		return nil, false
	}
	return n.FillBytes(make([]byte, size)), true
}

func check(body string) string {
	c := crc32.ChecksumIEEE([]byte(body))
	var out [6]byte
	for i := 5; i >= 0; i-- {
		out[i] = digits[c%62]
		c /= 62
	}
	return string(out[:])
}

// webhookPrefix is what secrets of webhooks begin with everywhere (Standard
// Webhooks 1.0): receivers' libraries and scanners know it.
const webhookPrefix = "whsec_"

// NewWebhook makes the secret of a webhook, 256 random bits: the bytes, which
// sign, and their text, which is told to the receiver.
func NewWebhook() (raw []byte, told Value) {
	raw = make([]byte, 32)
	rand.Read(raw)
	return raw, Value{webhookPrefix + base64.StdEncoding.EncodeToString(raw)}
}

// Given wraps a secret that others made, such as the password of a mail relay,
// so that it redacts itself.
func Given(text string) Value { return Value{text} }
