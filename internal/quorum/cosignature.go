package quorum

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/note"
)

// Signature types of C2SP signed-note and tlog-cosignature.
const (
	typeEd25519     = 0x01
	typeCosignature = 0x04
	typeMLDSA       = 0x06
)

// Key is a witness's Ed25519 cosignature key.
type Key struct {
	Name   string
	Public ed25519.PublicKey
}

var errKey = errors.New("quorum: not a witness's key")

// ParseKey reads a verifier key of signature type 0x04 (C2SP tlog-cosignature):
// name+hash+base64. Keys of other types are refused: ML-DSA-44 cosignatures are not
// verified yet, and a log's key (0x01) is not a witness's.
func ParseKey(vkey string) (Key, error) {
	name, rest, _ := strings.Cut(vkey, "+")
	id, enc, ok := strings.Cut(rest, "+")
	raw, err := base64.StdEncoding.DecodeString(enc)
	if !ok || err != nil || len(raw) == 0 || !validName(name) || base64.StdEncoding.EncodeToString(raw) != enc {
		return Key{}, errKey
	}
	switch {
	case raw[0] == typeMLDSA:
		return Key{}, fmt.Errorf("%w: it is of the type ML-DSA-44, which is not supported yet", errKey)
	case raw[0] == typeEd25519:
		return Key{}, fmt.Errorf("%w: it is of the type of a log's key (0x01), not of a cosignature's (0x04)", errKey)
	case raw[0] != typeCosignature || len(raw) != 1+ed25519.PublicKeySize:
		return Key{}, errKey
	}
	k := Key{Name: name, Public: ed25519.PublicKey(raw[1:])}
	if k.String() != vkey || len(id) != 8 {
		return Key{}, fmt.Errorf("%w: its key id is another's", errKey)
	}
	return k, nil
}

// NewKey is the key of a name.
func NewKey(name string, public ed25519.PublicKey) (Key, error) {
	if !validName(name) || len(public) != ed25519.PublicKeySize {
		return Key{}, errors.New("quorum: a witness's name has no spaces and no plus sign")
	}
	return Key{name, public}, nil
}

// validName is what a signed note may have as a key's name.
func validName(name string) bool {
	return name != "" && utf8.ValidString(name) && strings.IndexFunc(name, unicode.IsSpace) < 0 && !strings.Contains(name, "+")
}

func (k Key) typed() []byte { return append([]byte{typeCosignature}, k.Public...) }

// KeyHash is the key id: the first four bytes of SHA-256 over name, newline, type and
// key. With Name and Verify it makes a note.Verifier of Verifier.
func (k Key) KeyHash() uint32 {
	h := sha256.Sum256(slices.Concat([]byte(k.Name+"\n"), k.typed()))
	return binary.BigEndian.Uint32(h[:])
}

// String is the key as verifiers pin it.
func (k Key) String() string {
	var id [4]byte
	binary.BigEndian.PutUint32(id[:], k.KeyHash())
	return k.Name + "+" + hex.EncodeToString(id[:]) + "+" + base64.StdEncoding.EncodeToString(k.typed())
}

// message is what a cosignature signs.
func message(at uint64, body []byte) []byte {
	return slices.Concat([]byte("cosignature/v1\ntime "+strconv.FormatUint(at, 10)+"\n"), body)
}

// Cosign makes the signature line, newline included, of a witness over a
// checkpoint's text (its lines before the empty one, each with its newline), as of a
// time.
func Cosign(k Key, private ed25519.PrivateKey, body []byte, at time.Time) string {
	var b []byte
	b = binary.BigEndian.AppendUint32(b, k.KeyHash())
	b = binary.BigEndian.AppendUint64(b, uint64(at.Unix()))
	b = append(b, ed25519.Sign(private, message(uint64(at.Unix()), body))...)
	return "— " + k.Name + " " + base64.StdEncoding.EncodeToString(b) + "\n"
}

// verifier lets note.Open check cosignatures.
type verifier struct{ Key }

// Name is the key's name.
func (v verifier) Name() string { return v.Key.Name }

// Verify checks a timestamped signature over a note's text.
func (v verifier) Verify(msg, sig []byte) bool {
	if len(sig) != 8+ed25519.SignatureSize {
		return false
	}
	at := binary.BigEndian.Uint64(sig)
	return at <= math.MaxInt64 && ed25519.Verify(v.Public, message(at, msg), sig[8:])
}

// Body gives a signed note's text and its signature lines.
func Body(checkpoint []byte) (body, signatures []byte, err error) {
	i := bytes.LastIndex(checkpoint, []byte("\n\n"))
	if i < 0 {
		return nil, nil, errors.New("quorum: not a signed note")
	}
	return checkpoint[:i+1], checkpoint[i+2:], nil
}

// Cosignature is a verified cosignature.
type Cosignature struct {
	Key  Key
	At   time.Time // as of when the witness has seen nothing larger
	Line string    // with its newline
}

// Cosignatures verifies the cosignatures of keys on a checkpoint; one for each key
// that has any. Signatures of others are not looked at. The error is one of the note,
// or of a known key whose signature does not hold.
func Cosignatures(checkpoint []byte, keys []Key) ([]Cosignature, error) {
	list := make([]note.Verifier, len(keys))
	for i, k := range keys {
		list[i] = verifier{k}
	}
	n, err := note.Open(checkpoint, note.VerifierList(list...))
	var none *note.UnverifiedNoteError
	if errors.As(err, &none) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("quorum: %w", err)
	}
	var out []Cosignature
	for _, s := range n.Sigs {
		raw, err := base64.StdEncoding.DecodeString(s.Base64)
		if err != nil || len(raw) != 4+8+ed25519.SignatureSize || base64.StdEncoding.EncodeToString(raw) != s.Base64 {
			return nil, errors.New("quorum: a cosignature is not in its one form")
		}
		for _, k := range keys {
			if k.Name == s.Name && k.KeyHash() == s.Hash {
				out = append(out, Cosignature{
					Key: k, At: time.Unix(int64(binary.BigEndian.Uint64(raw[4:])), 0).UTC(), Line: "— " + s.Name + " " + s.Base64 + "\n",
				})
			}
		}
	}
	return out, nil
}
