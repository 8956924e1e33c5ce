package factor

import (
	"crypto/hmac"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"time"

	"github.com/countersign-dev/countersign/internal/canon"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/problem"
)

// ChallengeLifetime is how long a WebAuthn challenge works.
const ChallengeLifetime = 5 * time.Minute

const (
	challengeRandom = 32
	challengeSize   = challengeRandom + 8 + 20
)

// NewChallenge makes a WebAuthn challenge: 32 random bytes, its expiry, and a MAC
// over both, the purpose and what it is bound to (browser, person, interaction).
// So an unknown caller who asks for one writes nothing; whoever accepts it
// spends it as a mark, once, on any replica (security, invariant 2).
func NewChallenge(key []byte, p once.Purpose, bound string, now time.Time) []byte {
	b := make([]byte, challengeSize)
	rand.Read(b[:challengeRandom])
	binary.BigEndian.PutUint64(b[challengeRandom:], uint64(now.Add(ChallengeLifetime).Unix()))
	copy(b[challengeRandom+8:], challengeMAC(key, p, bound, b[:challengeRandom+8]))
	return b
}

func challengeMAC(key []byte, p once.Purpose, bound string, body []byte) []byte {
	m := canon.M(key, canon.LabelWebAuthnChallenge, []byte{byte(p)}, body, []byte(bound))
	return m[:20]
}

// CheckChallenge reads a challenge that a browser brought back, in base64url, and
// gives the spend that the act must carry. It is accepted for the purpose and
// bound it was made for only, and not after its expiry.
func CheckChallenge(keys [][]byte, p once.Purpose, bound, text string, now time.Time) (once.Spend, error) {
	bad := problem.New(problem.Invalid, "challenge_invalid", "This passkey prompt belongs to another page or browser, or has expired.").
		WithHint("Load the page again and use your passkey once more.")
	b, err := base64.RawURLEncoding.DecodeString(text)
	// One challenge has one name, by which it is spent: decoding alone would take several.
	if err != nil || len(b) != challengeSize || base64.RawURLEncoding.EncodeToString(b) != text {
		return once.Spend{}, bad
	}
	genuine := false
	for _, k := range keys {
		genuine = hmac.Equal(challengeMAC(k, p, bound, b[:challengeRandom+8]), b[challengeRandom+8:]) || genuine
	}
	until := time.Unix(int64(binary.BigEndian.Uint64(b[challengeRandom:])), 0).UTC()
	if !genuine || now.After(until) {
		return once.Spend{}, bad
	}
	return once.Spend{Purpose: p, Key: once.KeyOf(p, text), Mark: true, Until: until.Add(time.Minute)}, nil
}

// challengeOf finds the challenge in a ceremony's response: the clientDataJSON
// says it, and the ceremony's verification compares it.
func challengeOf(response []byte) (string, error) {
	var r struct {
		Response struct {
			ClientDataJSON string `json:"clientDataJSON"`
		} `json:"response"`
	}
	bad := problem.New(problem.Invalid, "webauthn_malformed", "The browser's answer to the passkey prompt could not be read.")
	if err := json.Unmarshal(response, &r); err != nil {
		return "", bad.Because(err)
	}
	b, err := base64.RawURLEncoding.DecodeString(r.Response.ClientDataJSON)
	if err != nil {
		return "", bad.Because(err)
	}
	var c struct {
		Challenge string `json:"challenge"`
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return "", bad.Because(err)
	}
	return c.Challenge, nil
}
