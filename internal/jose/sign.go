package jose

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha512" // ES384 and ES512 digests
	"encoding/json"
	"errors"
	"fmt"
)

// Signer signs JWTs of one type with one key. It is safe for use by many
// goroutines if its key is.
type Signer struct {
	key  crypto.Signer
	alg  string
	kid  string
	head []byte // header, encoded, and the dot
}

type header struct {
	Alg string          `json:"alg"`
	Typ string          `json:"typ,omitempty"`
	Kid string          `json:"kid,omitempty"`
	JWK json.RawMessage `json:"jwk,omitempty"`
}

// NewSigner makes a signer for tokens with the header alg, typ and kid (left
// out if empty). It fails if the key does not fit the algorithm.
func NewSigner(key crypto.Signer, alg, kid, typ string) (*Signer, error) {
	return newSigner(key, header{Alg: alg, Typ: typ, Kid: kid})
}

func newSigner(key crypto.Signer, h header) (*Signer, error) {
	if key == nil || !fits(key.Public(), h.Alg) {
		return nil, fmt.Errorf("jose: the key cannot sign %s", h.Alg)
	}
	text, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("jose: header: %w", err)
	}
	return &Signer{key: key, alg: h.Alg, kid: h.Kid, head: append(b64.AppendEncode(nil, text), '.')}, nil
}

// KeyID is the kid the signer writes, "" if none.
func (s *Signer) KeyID() string { return s.kid }

// Algorithm is the alg the signer writes.
func (s *Signer) Algorithm() string { return s.alg }

// Public is the key that verifies what the signer signs.
func (s *Signer) Public() crypto.PublicKey { return s.key.Public() }

// Sign encodes the claims as JSON and gives the compact JWS.
func (s *Signer) Sign(claims any) (string, error) {
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("jose: claims: %w", err)
	}
	out := make([]byte, 0, len(s.head)+b64.EncodedLen(len(payload))+1+b64.EncodedLen(64))
	out = append(out, s.head...)
	out = b64.AppendEncode(out, payload)
	signature, err := s.sign(out)
	if err != nil {
		return "", fmt.Errorf("jose: signing with %s: %w", s.alg, err)
	}
	out = append(out, '.')
	return string(b64.AppendEncode(out, signature)), nil
}

var hashOf = map[string]crypto.Hash{
	ES256: crypto.SHA256, ES384: crypto.SHA384, ES512: crypto.SHA512,
	RS256: crypto.SHA256, PS256: crypto.SHA256,
}

func (s *Signer) sign(input []byte) ([]byte, error) {
	hash, ok := hashOf[s.alg]
	if !ok { // Ed25519 signs the text itself
		return s.key.Sign(rand.Reader, input, crypto.Hash(0))
	}
	h := hash.New()
	h.Write(input)
	digest := h.Sum(nil)
	if s.alg == PS256 {
		return s.key.Sign(rand.Reader, digest, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hash})
	}
	signature, err := s.key.Sign(rand.Reader, digest, hash)
	if err != nil || s.alg == RS256 {
		return signature, err
	}
	return rawECDSA(signature, (s.key.Public().(*ecdsa.PublicKey).Params().BitSize+7)/8)
}

var errDER = errors.New("the key gave something that is no ECDSA signature")

// rawECDSA turns SEQUENCE{r, s} into r ‖ s of the given size each (RFC 7518
// §3.4). It reads what our own key made, in the lengths of the curves we use.
func rawECDSA(der []byte, size int) ([]byte, error) {
	if len(der) < 2 || der[0] != 0x30 {
		return nil, errDER
	}
	rest := der[2:]
	if der[1] == 0x81 && len(der) > 2 { // P-521: more than 127 bytes
		rest = der[3:]
		der = der[1:]
	}
	if int(der[1]) != len(rest) {
		return nil, errDER
	}
	out := make([]byte, 2*size)
	for i := range 2 {
		if len(rest) < 2 || rest[0] != 2 || len(rest) < 2+int(rest[1]) {
			return nil, errDER
		}
		n := rest[2 : 2+int(rest[1])]
		rest = rest[2+len(n):]
		for len(n) > 0 && n[0] == 0 {
			n = n[1:]
		}
		if len(n) > size {
			return nil, errDER
		}
		copy(out[(i+1)*size-len(n):], n)
	}
	if len(rest) != 0 {
		return nil, errDER
	}
	return out, nil
}
