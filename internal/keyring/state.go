package keyring

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"

	"github.com/countersign-dev/countersign/internal/canon"
	"github.com/countersign-dev/countersign/internal/problem"
)

// SealState seals a value that travels through a browser and comes back, so that
// requests of callers who are not known yet write nothing: a login transaction,
// a WebAuthn challenge. purpose types it; bound is what must bring it back
// (the browser's binding). Whoever accepts one spends it with a once.Spend mark. What
// OpenState would not read for its length is problem.Invalid, request_too_long.
func (r *Ring) SealState(purpose, bound string, v any) (string, error) {
	plain, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	keys := r.Nonces()
	if len(keys) == 0 {
		return "", fmt.Errorf("there is no nonce key")
	}
	a, err := stateAEAD(keys[0], purpose)
	if err != nil {
		return "", err
	}
	nonce := make([]byte, a.NonceSize(), a.NonceSize()+len(plain)+a.Overhead())
	rand.Read(nonce)
	sealed := base64.RawURLEncoding.EncodeToString(a.Seal(nonce, nonce, plain, []byte(bound)))
	if len(sealed) > maxSealed {
		return "", problem.New(problem.Invalid, "request_too_long", "The request is too long to travel through a browser.")
	}
	return sealed, nil
}

// maxSealed is how long a sealed value is at most, in characters.
const maxSealed = 16 << 10

// OpenState opens what SealState made, for the same purpose and bound. What it
// says about time is the caller's to check.
func (r *Ring) OpenState(purpose, bound, sealed string, v any) error {
	bad := problem.New(problem.Invalid, "transaction_unknown", "This page belongs to another browser, or was changed on the way.").
		WithHint("Start again from the app you came from.")
	b, err := base64.RawURLEncoding.DecodeString(sealed)
	if err != nil || len(sealed) > maxSealed {
		return bad
	}
	for _, k := range r.Nonces() {
		a, err := stateAEAD(k, purpose)
		if err != nil {
			return err
		}
		if len(b) < a.NonceSize() {
			return bad
		}
		if plain, err := a.Open(nil, b[:a.NonceSize()], b[a.NonceSize():], []byte(bound)); err == nil {
			return json.Unmarshal(plain, v)
		}
	}
	return bad
}

func stateAEAD(key []byte, purpose string) (cipher.AEAD, error) {
	k, err := hkdf.Key(sha256.New, key, nil, canon.LabelState+"\x00"+purpose, 32)
	if err != nil {
		return nil, err
	}
	b, err := aes.NewCipher(k)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(b)
}
