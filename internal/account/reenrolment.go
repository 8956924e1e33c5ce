package account

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/secret"
)

// reenrolment is the data of a once.Reenrol value.
type reenrolment struct {
	Person string `json:"person"`
}

// NewReenrolment makes the single-use value and the link, <issuer>/reenrol#<secret>,
// with which a person who exists enrols a passkey without showing another one:
// their passkeys belong to a relying party that is no more (mechanisms I5). It
// works for InvitationLifetime, and a newer one of the same person takes its
// place. Only the operator of the machine makes one.
func NewReenrolment(issuer, person string, now time.Time) (put once.Replace, link string) {
	data, err := json.Marshal(reenrolment{person})
	if err != nil {
		panic("account: a re-enrolment is text: " + err.Error())
	}
	text := secret.New(secret.Invite).Reveal()
	put.Value = once.Value{
		Purpose: once.Reenrol, Key: once.KeyOf(once.Reenrol, text), Bound: person, Data: data, MadeAt: now, ExpiresAt: now.Add(InvitationLifetime),
	}
	return put, issuer + "/reenrol#" + text
}

// ReadReenrolment gives the id of the person whom a stored once.Reenrol value is
// for.
func ReadReenrolment(v once.Value) (person string, err error) {
	if v.Purpose != once.Reenrol {
		return "", fmt.Errorf("account: a value of purpose %d is no re-enrolment", v.Purpose)
	}
	var d reenrolment
	if err := json.Unmarshal(v.Data, &d); err != nil {
		return "", fmt.Errorf("account: read a re-enrolment: %w", err)
	}
	if d.Person == "" || d.Person != v.Bound {
		return "", fmt.Errorf("account: a re-enrolment is not bound to its person")
	}
	return d.Person, nil
}
