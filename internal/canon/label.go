package canon

import (
	"crypto/hmac"
	"crypto/sha256"
)

// The labels that keep one use of a hash or key apart from another (mechanisms
// 0.2). A new use gets a new label; a label is never reused.
const (
	LabelAction           = "countersign/v1/action"
	LabelCeremony         = "countersign/v1/ceremony"
	LabelView             = "countersign/v1/view"
	LabelChallengeApprove = "countersign/v1/challenge/approve"
	LabelChallengeMandate = "countersign/v1/challenge/mandate"
	LabelChallengeEnrol   = "countersign/v1/challenge/enrol"
	LabelChallengeStepUp  = "countersign/v1/challenge/stepup"
	LabelCall             = "countersign/v1/call"
	LabelTool             = "countersign/v1/tool"
	LabelLin              = "countersign/v1/lin"
	LabelRTNext           = "countersign/v1/rt-next"
	LabelRTTag            = "countersign/v1/rt-tag"
	LabelAudit            = "countersign/v1/audit"
	LabelConsume          = "countersign/v1/consume"

	// Uses that the mechanisms do not name.
	LabelState             = "countersign/v1/state"               // HKDF: keys that seal our own short-lived state
	LabelDPoPNonce         = "countersign/v1/dpop-nonce"          // M: nonces of RFC 9449
	LabelDPoPNonceResource = "countersign/v1/dpop-nonce-resource" // M: the same, of our own protected resources
	LabelGuess             = "countersign/v1/guess"               // H: names of the budgets of guesses
	LabelWebAuthnChallenge = "countersign/v1/webauthn-challenge"  // M: challenges of sign-in and enrolment
	LabelFeedMark          = "countersign/v1/feed-mark"           // what a mark of the feed is sealed for, under the key-encryption key
	LabelPolicy            = "countersign/v1/policy"              // H: the source of a policy set
	LabelBundle            = "countersign/v1/bundle"              // H: what an enforcement point holds of the policies
	LabelMember            = "countersign/v1/member"              // H: how a bundle names a person in a group
	LabelRecoveryClaim     = "countersign/v1/recovery-claim"      // H: the code by which a browser that asks for recovery is named
	LabelPairwise          = "countersign/v1/pairwise"            // M: subjects that differ from sector to sector
	LabelRecoveryCancel    = "countersign/v1/recovery-cancel"     // M: links that cancel a recovery
	LabelClient            = "countersign/v1/client"              // H: what an unregistered client is, and what belongs together
	LabelPublication       = "countersign/v1/publication"         // H: policies that are to come into force, as they are signed
	LabelPlan              = "countersign/v1/plan"                // H: the waves in which they do
)

// H is SHA-256 over the label, a zero byte and the parts (mechanisms 0.1).
// Every part but the last must have a length fixed by the label's use.
func H(label string, parts ...[]byte) [32]byte {
	h := sha256.New()
	h.Write(append([]byte(label), 0))
	for _, p := range parts {
		h.Write(p)
	}
	var out [32]byte
	h.Sum(out[:0])
	return out
}

// M is HMAC-SHA-256 with the key over the label, a zero byte and the parts
// (mechanisms 0.1). Every part but the last must have a length fixed by the
// label's use.
func M(key []byte, label string, parts ...[]byte) [32]byte {
	h := hmac.New(sha256.New, key)
	h.Write(append([]byte(label), 0))
	for _, p := range parts {
		h.Write(p)
	}
	var out [32]byte
	h.Sum(out[:0])
	return out
}

// Challenge is what an authenticator signs in a ceremony (mechanisms B6, B7): label is
// the purpose's, action the hash of what is pending, and ceremony the canonical form of
// who signs it where and when.
func Challenge(label string, action [32]byte, ceremony []byte) [32]byte {
	ch := H(LabelCeremony, ceremony)
	return H(label, action[:], ch[:])
}
