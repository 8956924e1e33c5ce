package recovery

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/canon"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/secret"
)

// Codes is how many recovery codes a set has.
const Codes = 10

// codesLifetime is how long codes work if nobody replaces them: they lie in a
// drawer for years.
const codesLifetime = 50 * 365 * 24 * time.Hour

// NewCodes makes a set of codes for a person and the changes that store them,
// each as a single-use value. Codes of an earlier set stop working. The codes
// are known to the caller only, and only now.
func NewCodes(person string, now time.Time) (codes []secret.Value, changes []act.Change) {
	for i := range Codes {
		c := secret.NewTyped()
		v := once.Value{
			Purpose: once.RecoveryCode, Key: CodeKey(c), Bound: person, Data: []byte("{}"), MadeAt: now, ExpiresAt: now.Add(codesLifetime),
		}
		codes = append(codes, c)
		if i == 0 {
			changes = append(changes, once.Replace{Value: v}) // takes the earlier set away
		} else {
			changes = append(changes, once.Put{Value: v})
		}
	}
	return codes, changes
}

// CodeKey is the name under which a recovery code is stored.
func CodeKey(c secret.Value) once.Key { return once.KeyOf(once.RecoveryCode, c.Reveal()) }

// pass is the data of a once.TemporaryPass value.
type pass struct {
	Recovery string `json:"recovery"`
}

// NewPass makes the secret of a temporary pass and its single-use value. r is
// the recovery of method Pass that it stands for.
func NewPass(r Recovery, now time.Time) (code secret.Value, put once.Put) {
	data, err := json.Marshal(pass{r.ID})
	if err != nil {
		panic("recovery: a pass is text: " + err.Error())
	}
	code = secret.NewTyped()
	put.Value = once.Value{
		Purpose: once.TemporaryPass, Key: PassKey(code), Bound: r.Person, Data: data, MadeAt: now, ExpiresAt: r.ExpiresAt,
	}
	return code, put
}

// PassKey is the name under which a pass is stored.
func PassKey(c secret.Value) once.Key { return once.KeyOf(once.TemporaryPass, c.Reveal()) }

// ReadPass gives the recovery that a stored once.TemporaryPass value stands for.
func ReadPass(v once.Value) (recovery string, err error) {
	if v.Purpose != once.TemporaryPass {
		return "", fmt.Errorf("recovery: a value of purpose %d is no pass", v.Purpose)
	}
	var p pass
	if err := json.Unmarshal(v.Data, &p); err != nil {
		return "", fmt.Errorf("recovery: read a pass: %w", err)
	}
	return p.Recovery, nil
}

// ClaimLen is how many characters the code of a claim has, check included.
const ClaimLen = 16

// ClaimOf is the code by which a browser that asks for a recovery is named: 75
// bits of a hash of its secret. It is said aloud and typed by others; whoever
// knows it has nothing.
func ClaimOf(browser secret.Value) secret.Value {
	h := browser.Hash()
	sum := canon.H(canon.LabelRecoveryClaim, h[:])
	return secret.EncodeTyped(sum[:ClaimLen-1])
}

// ReadClaim reads a claim's code as people write it.
func ReadClaim(text string) (string, error) {
	v, err := secret.ReadTyped(text, ClaimLen)
	return v.Reveal(), err
}
