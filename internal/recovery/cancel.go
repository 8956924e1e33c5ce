package recovery

import (
	"crypto/hmac"
	"errors"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/canon"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/secret"
)

// CancelPath is the page of a cancel link.
const CancelPath = "/recover/cancel"

// cancelMAC is how many bytes of the MAC are in the link; with the 16 of the
// recovery's id it is a secret of the usual size.
const cancelMAC = 16

// CancelLink is the link that cancels a recovery or withdraws a temporary pass,
// without signing in: <issuer>/recover/cancel#<secret>. The secret is the id of
// the recovery and a MAC, so that it can be made whenever somebody has to be
// told, and nothing of it is stored. It can end what it is for, and nothing else.
func CancelLink(issuer string, key []byte, recovery string) (string, error) {
	v, err := cancelSecret(key, recovery)
	if err != nil {
		return "", err
	}
	return issuer + CancelPath + "#" + v.Reveal(), nil
}

func cancelSecret(key []byte, recovery string) (secret.Value, error) {
	b, err := id.Parse(id.Recovery, recovery)
	if err != nil {
		return secret.Value{}, err
	}
	m := canon.M(key, canon.LabelRecoveryCancel, b[:])
	return secret.Encode(secret.Cancel, append(b[:], m[:cancelMAC]...)), nil
}

var errCancel = problem.New(problem.Invalid, "cancel_link_invalid", "This link cancels nothing: it is incomplete, or not one of ours.").
	WithHint("Copy it again as a whole, with what is behind the #.")

// ReadCancel gives the id of the recovery that the secret of a cancel link is
// for. keys are those that links may have been made with.
func ReadCancel(keys [][]byte, text string) (recovery string, err error) {
	_, b, err := secret.Parse(secret.Cancel, 16+cancelMAC, text)
	if err != nil {
		return "", errCancel.Because(err)
	}
	genuine := false
	for _, k := range keys {
		m := canon.M(k, canon.LabelRecoveryCancel, b[:16])
		genuine = hmac.Equal(m[:cancelMAC], b[16:]) || genuine
	}
	if !genuine {
		return "", errCancel.Because(errors.New("the MAC is wrong"))
	}
	return id.Encode(id.Recovery, [16]byte(b)), nil
}

// Notice is what a notice about a record has to carry beside its words.
type Notice struct {
	Text string // what the link is for: "If this wasn't you, stop it:"
	Link string
}

// NoticeLink gives what a notice to a person about a record has to carry; ok is
// false if the record needs no link. kind is the record's, body the part of the
// record that concerns the person who is told: its member "recovery" names the
// recovery. issuer is the configured one; key is the first of the keyring's
// Nonces. Kinds with a link are audit.RecoveryStarted, RecoveryOpened,
// RecoveryConfirmed and PassIssued.
func NoticeLink(issuer string, key []byte, kind audit.Kind, body map[string]any) (n Notice, ok bool, err error) {
	switch kind {
	case audit.RecoveryStarted, audit.RecoveryOpened, audit.RecoveryConfirmed:
		n.Text = "If you didn't ask for this, stop it here:"
	case audit.PassIssued:
		n.Text = "If you didn't ask for this pass, take it back here:"
	default:
		return Notice{}, false, nil
	}
	recovery, _ := body["recovery"].(string)
	if recovery == "" {
		return Notice{}, false, nil
	}
	n.Link, err = CancelLink(issuer, key, recovery)
	return n, err == nil, err
}
