package account

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/secret"
)

// NewInvitation makes an invitation's single-use value and the one link that
// opens it, <issuer>/invite#<secret>: the secret is in the fragment, so that no
// server log, proxy or link preview gets it (mechanisms I1). The link is known to
// the caller only, and only now: what is stored is its hash. A missing ID is
// made; ExpiresAt is now and InvitationLifetime.
func NewInvitation(issuer string, inv Invitation, now time.Time) (put once.Put, link string) {
	if inv.ID == "" {
		inv.ID = id.New(id.Invitation)
	}
	inv.ExpiresAt = now.Add(InvitationLifetime)
	data, err := json.Marshal(inv)
	if err != nil {
		panic("account: an invitation is text and a time: " + err.Error()) // only a year beyond 9999 gets here
	}
	text := secret.New(secret.Invite).Reveal()
	put.Value = once.Value{
		Purpose: once.Invite, Key: once.KeyOf(once.Invite, text), Data: data, MadeAt: now, ExpiresAt: inv.ExpiresAt,
	}
	return put, issuer + "/invite#" + text
}

// ReadInvitation reads what a stored once.Invite value stands for.
func ReadInvitation(v once.Value) (Invitation, error) {
	var inv Invitation
	if v.Purpose != once.Invite {
		return inv, fmt.Errorf("account: a value of purpose %d is no invitation", v.Purpose)
	}
	if err := json.Unmarshal(v.Data, &inv); err != nil {
		return inv, fmt.Errorf("account: read an invitation: %w", err)
	}
	return inv, nil
}

// PersonID is the id that the invited person gets. It is known before they
// accept, so that what is recorded of the invitation is recorded of them, and
// goes when they are erased (mechanisms E14). It is "" without a valid ID.
func (i Invitation) PersonID() string {
	b, err := id.Parse(id.Invitation, i.ID)
	if err != nil {
		return ""
	}
	return id.Encode(id.Person, b)
}

// NewSetupLink makes the setup link's single-use value and the link,
// <issuer>/setup#<secret>. It works for SetupLifetime, and a newer one takes its
// place (mechanisms I1).
func NewSetupLink(issuer string, now time.Time) (put once.Replace, link string) {
	text := secret.New(secret.Setup).Reveal()
	put.Value = once.Value{
		Purpose: once.Setup, Key: once.KeyOf(once.Setup, text), Bound: "setup", Data: []byte("{}"),
		MadeAt: now, ExpiresAt: now.Add(SetupLifetime),
	}
	return put, issuer + "/setup#" + text
}
