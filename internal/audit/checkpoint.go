package audit

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/url"
	"strconv"
	"strings"

	"github.com/transparency-dev/formats/log"
	"github.com/transparency-dev/formats/proof"
	"golang.org/x/mod/sumdb/note"
)

// Origin names the log of an issuer in an epoch: `<host[:port] and path, no
// scheme>/log/<epoch>` (mechanisms E8). It is also the name of the log's key.
// Epochs count from 1.
func Origin(issuer string, epoch uint64) (string, error) {
	u, err := url.Parse(issuer)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || epoch == 0 {
		return "", errors.New("audit: a log's origin needs an issuer and an epoch")
	}
	origin := u.Host + strings.TrimSuffix(u.EscapedPath(), "/") + "/log/" + strconv.FormatUint(epoch, 10)
	if strings.ContainsAny(origin, "+ \n") {
		return "", errors.New("audit: an issuer with a plus sign or a space cannot name a log")
	}
	return origin, nil
}

// VKey is the text by which verifiers pin the log's key: name, key id and
// Ed25519 public key (C2SP signed-note).
func VKey(origin string, key ed25519.PublicKey) (string, error) {
	return note.NewEd25519VerifierKey(origin, key)
}

// CheckpointSigner signs checkpoints of one origin with its Ed25519 key.
type CheckpointSigner struct {
	origin string
	hash   uint32
	key    crypto.Signer
}

// NewCheckpointSigner makes the signer of an origin; the key's public part must
// be Ed25519. A key may live in hardware.
func NewCheckpointSigner(origin string, key crypto.Signer) (*CheckpointSigner, error) {
	pub, ok := key.Public().(ed25519.PublicKey)
	if !ok || len(pub) != ed25519.PublicKeySize {
		return nil, errors.New("audit: a log key is Ed25519")
	}
	vkey, err := VKey(origin, pub)
	if err != nil {
		return nil, err
	}
	v, err := note.NewVerifier(vkey)
	if err != nil {
		return nil, fmt.Errorf("audit: %q cannot name a log: %w", origin, err)
	}
	return &CheckpointSigner{origin: origin, hash: v.KeyHash(), key: key}, nil
}

// Name is the origin.
func (s *CheckpointSigner) Name() string { return s.origin }

// KeyHash is the key id of the note signature.
func (s *CheckpointSigner) KeyHash() uint32 { return s.hash }

// Sign signs a note's text.
func (s *CheckpointSigner) Sign(msg []byte) ([]byte, error) {
	return s.key.Sign(rand.Reader, msg, crypto.Hash(0))
}

// SignCheckpoint writes the checkpoint of a tree (C2SP tlog-checkpoint, without
// extension lines). The caller has made sure that the tree extends every one
// signed before (Extends), and that it is durable.
func SignCheckpoint(s *CheckpointSigner, origin string, size uint64, root [32]byte) ([]byte, error) {
	if origin != s.origin {
		return nil, fmt.Errorf("audit: the key of %s does not sign for %s", s.origin, origin)
	}
	body := log.Checkpoint{Origin: origin, Size: size, Hash: root[:]}.Marshal()
	return note.Sign(&note.Note{Text: string(body)}, s)
}

var errCheckpoint = errors.New("audit: not a checkpoint in its one form")

// VerifyCheckpoint checks a checkpoint's signature by the key, whose name is
// the origin, and reads it. Signatures of others (witnesses) may follow and are
// not looked at. On error all values are zero.
func VerifyCheckpoint(text []byte, vkey string) (origin string, size uint64, root [32]byte, err error) {
	fail := func(err error) (string, uint64, [32]byte, error) { return "", 0, [32]byte{}, err }
	v, err := note.NewVerifier(vkey)
	if err != nil {
		return fail(fmt.Errorf("audit: the log's key: %w", err))
	}
	cp, rest, n, err := log.ParseCheckpoint(text, v.Name(), v)
	if err != nil {
		return fail(fmt.Errorf("audit: checkpoint: %w", err))
	}
	if len(rest) != 0 || len(cp.Hash) != sha256.Size || cp.Size > math.MaxInt64 {
		return fail(errCheckpoint)
	}
	// One form only: base64 has bits that decoders ignore, decimals have zeros.
	sig, err := base64.StdEncoding.DecodeString(n.Sigs[0].Base64)
	if err != nil || len(sig) != 4+ed25519.SignatureSize || binary.BigEndian.Uint32(sig) != v.KeyHash() ||
		base64.StdEncoding.EncodeToString(sig) != n.Sigs[0].Base64 ||
		!bytes.HasPrefix(text, append(cp.Marshal(), '\n')) {
		return fail(errCheckpoint)
	}
	return cp.Origin, cp.Size, [32]byte(cp.Hash), nil
}

// Proof writes the proof that the entry at index is in the log
// (c2sp.org/tlog-proof@v1), good for anyone who has the log's key.
func Proof(index uint64, inclusion [][32]byte, checkpoint []byte) []byte {
	return proof.TLogProof{Index: index, Hashes: inclusion, Checkpoint: checkpoint}.Marshal()
}

// VerifyProof checks a proof of an entry against the log's key. It gives the
// entry's index and the size of the log it was proved in.
func VerifyProof(text []byte, vkey string, entry []byte) (index, size uint64, err error) {
	var p proof.TLogProof
	if err := p.Unmarshal(text); err != nil {
		return 0, 0, fmt.Errorf("audit: %w", err)
	}
	_, size, root, err := VerifyCheckpoint(p.Checkpoint, vkey)
	if err != nil {
		return 0, 0, err
	}
	if err := CheckInclusion(p.Hashes, size, root, p.Index, LeafHash(entry)); err != nil {
		return 0, 0, fmt.Errorf("audit: proof: %w", err)
	}
	return p.Index, size, nil
}
