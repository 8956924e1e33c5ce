package grant

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/countersign-dev/countersign/internal/canon"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/secret"
)

// Lifetimes and windows of refresh families (mechanisms D8–D10).
const (
	FamilyLifetime     = 30 * 24 * time.Hour
	FamilyIdle         = 72 * time.Hour
	WindowNative       = 2 * time.Second  // any network, native clients
	WindowHosted       = 10 * time.Second // any network, hosted clients
	WindowSameNetwork  = 60 * time.Second
	WindowLost         = 24 * time.Hour // same network, when the answer was lost (D9)
	refreshVersion     = 0x01
	refreshPlain       = 53 // version, family, generation, secret
	refreshSize        = 69 // and tag
	refreshTagSize     = 16
	refreshSecretBytes = 32
)

// RefreshKeys are the keys of refresh tokens: K_rt by version, and K_tag.
type RefreshKeys interface {
	// RT gives K_rt of a version; ok is false if there is none.
	RT(version int) (key []byte, ok bool)
	// CurrentRT is the version new families are made with.
	CurrentRT() int
	// Tags gives K_tag, newest first; the first one makes tags.
	Tags() [][]byte
}

// Token is a refresh token whose tag is right: one that this deployment made
// (mechanisms D1). Only ReadToken makes one; it says nothing about being
// current.
type Token struct {
	Family [16]byte
	Gen    uint32
	Secret [refreshSecretBytes]byte
}

// FamilyID is the family's identifier.
func (t Token) FamilyID() string { return id.Encode(id.Family, t.Family) }

// Hash is what the store compares: SHA-256 of the secret.
func (t Token) Hash() secret.Hash { return sha256.Sum256(t.Secret[:]) }

// Text is the token as it is handed out.
func (t Token) Text(keys RefreshKeys) secret.Value {
	b := make([]byte, 0, refreshSize)
	b = append(b, refreshVersion)
	b = append(b, t.Family[:]...)
	b = binary.BigEndian.AppendUint32(b, t.Gen)
	b = append(b, t.Secret[:]...)
	return secret.Encode(secret.Refresh, append(b, tag(keys.Tags()[0], b)...))
}

func tag(key, plain []byte) []byte {
	m := canon.M(key, canon.LabelRTTag, plain)
	return m[:refreshTagSize]
}

// ReadToken reads a refresh token and checks its tag in constant time. A made-up
// token is told from a real one here, before any state is read or changed.
func ReadToken(text string, keys RefreshKeys) (Token, error) {
	_, b, err := secret.Parse(secret.Refresh, refreshSize, text)
	if err != nil || b[0] != refreshVersion {
		return Token{}, problem.New(problem.Invalid, "invalid_grant", "The refresh token is not one of ours.")
	}
	for _, k := range keys.Tags() {
		if hmac.Equal(tag(k, b[:refreshPlain]), b[refreshPlain:]) {
			t := Token{Family: [16]byte(b[1:17]), Gen: binary.BigEndian.Uint32(b[17:21])}
			copy(t.Secret[:], b[21:refreshPlain])
			return t, nil
		}
	}
	return Token{}, problem.New(problem.Invalid, "invalid_grant", "The refresh token is not one of ours.")
}

// FirstToken is generation 0 of a new family: a random secret.
func FirstToken(family [16]byte) Token {
	t := Token{Family: family}
	rand.Read(t.Secret[:])
	return t
}

// Next is the successor of a token under a salt: any replica can recompute it,
// but only from a token that somebody presents (mechanisms D2).
func (t Token) Next(key, salt []byte) Token {
	n := Token{Family: t.Family, Gen: t.Gen + 1}
	var gen [4]byte
	binary.BigEndian.PutUint32(gen[:], n.Gen)
	n.Secret = canon.M(key, canon.LabelRTNext, t.Family[:], gen[:], salt, t.Secret[:])
	return n
}

// Verdict is what presenting a refresh token means (mechanisms D5).
type Verdict int

// The verdicts.
const (
	Refused     Verdict = iota // invalid_grant; nothing else
	Current                    // rotate, or the same token again for a static family
	Replayed                   // within its window: the newest token again
	Reused                     // end the family and all below, tell
	ReusedBound                // tell; the family lives: its key cannot be copied
	Future                     // the database has gone back in time
)

// Judge compares a presented token with its family at now, presented from
// network (a prefix, "" if unknown). The family's liveness is policy's.
func (f Family) Judge(t Token, network string, now time.Time) Verdict {
	hash := t.Hash()
	switch {
	case t.Gen == f.Gen && hash.Equal(f.CurHash):
		return Current
	case t.Gen >= f.Gen:
		return Future
	case f.open(t, network, now):
		if f.Replays >= MaxReplays {
			return Refused
		}
		return Replayed
	}
	return Reused
}

func (f Family) within(network string, now time.Time) bool {
	return !now.After(f.WindowUntil) || sameNetwork(f.Network, network) && !now.After(f.NetUntil)
}

// NetworkOf is the prefix under which two addresses count as the same network:
// IPv4 /24, IPv6 /48 (mechanisms D8); "" if the address is unknown.
func NetworkOf(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	a = a.Unmap()
	bits := 48
	if a.Is4() {
		bits = 24
	}
	return netip.PrefixFrom(a.WithZone(""), bits).Masked().String()
}

// sameNetwork compares prefixes; one of each IP version counts as the same, an
// unknown one as another.
func sameNetwork(a, b string) bool {
	if a == "" || b == "" {
		return false
	}
	pa, errA := netip.ParsePrefix(a)
	pb, errB := netip.ParsePrefix(b)
	if errA != nil || errB != nil {
		return false
	}
	return pa == pb || pa.Addr().Is4() != pb.Addr().Is4()
}

// Salt draws the salt of a rotation.
func Salt() []byte {
	b := make([]byte, 32)
	rand.Read(b)
	return b
}

// Rotation is the conditional write that makes next current. Native clients get
// the short window on other networks, hosted ones the long one; a window is
// never longer than half an access token's life.
func (f Family) Rotation(presented, next Token, salt []byte, network string, native bool, now time.Time) Rotate {
	w := WindowHosted
	if native {
		w = WindowNative
	}
	idle := now.Add(FamilyIdle)
	if idle.After(f.ExpiresAt) {
		idle = f.ExpiresAt
	}
	return Rotate{
		ID: f.ID, Presented: presented.Hash(), Next: next.Hash(), Salt: f.salts(salt, now), RotatedAt: now,
		WindowUntil: now.Add(w), NetUntil: now.Add(WindowSameNetwork), Network: network, IdleUntil: idle,
	}
}
